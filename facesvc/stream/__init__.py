"""Frames and decisions: values in, values out, time passed in.

A stream's way: ``mailbox`` keeps the newest frame, ``frame_clock`` says when it was taken, ``session`` follows its
faces: a ``look`` detects (``look_faces``), the ``tracker`` says which face is which by their ``motion``,
``attribution`` whose they are, ``case`` keeps what is known of each, ``policy`` decides, ``shown`` is the answer, and
``outbox`` what a slow reader loses. ``recognizer`` does all that for a single picture, ``challenge`` asks for proof of
life.

``presence`` says who is where, and ``news`` what else is worth telling of what cameras see.

``scheduler`` says whose frame is next, ``meter`` how busy the workers are, ``ladder`` what is done less of when that is
too much, and ``statistics`` counts.
"""
