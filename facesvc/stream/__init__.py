"""Frames and decisions: values in, values out, time passed in.

``mailbox`` keeps the newest frame of a stream, ``policy`` turns similarities into outcomes, ``presence`` says who is
where, and ``news`` what else is worth telling of what cameras see.

``scheduler`` says whose frame is next, ``meter`` how busy the workers are, ``ladder`` what is done less of when that is
too much, and ``statistics`` counts.
"""
