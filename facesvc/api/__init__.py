"""gRPC: parse, call, map the reply, map the error. Nothing here decides anything about faces.

``server`` listens, ``service`` is what the servicers share, one file a service (``recognition``, ``enrollment``,
``presence``, ``admin``), ``convert`` turns records into messages, ``status`` errors into status codes, ``policies``
settings into thresholds, and ``workers`` is the one pool of threads.
"""
