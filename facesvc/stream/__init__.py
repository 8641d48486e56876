"""Frames and decisions: values in, values out, time passed in.

``mailbox`` keeps the newest frame of a stream, ``policy`` turns similarities into outcomes, ``sightings`` tells an
arrival from somebody who is still there.

``scheduler`` says whose frame is next, ``meter`` how busy the workers are, ``ladder`` what is done less of when that is
too much, and ``statistics`` counts.
"""
