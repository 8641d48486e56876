"""gRPC: parse, call, map the reply, map the error. Nothing here decides anything about faces.

``server`` listens, ``service`` is what the servicers share, one file a service (``recognition``, ``enrollment``,
``presence``, ``admin``). ``camera`` is the stream of one camera: ``arrivals`` its frames, ``telling`` what its client
is told, ``challenge`` what somebody before it may be asked to do. ``question`` parses what is asked of a picture,
``convert`` turns records into messages (``convert_events`` those of events), ``paging`` cuts lists into pages,
``status`` errors into status codes, ``policies`` settings into thresholds, ``workers`` is the one pool of threads, and
``machine`` watches its load and the heat of the box.

``observer`` makes presence and events of what the cameras saw: ``happened`` are the records that are kept of it, and
``backlog`` is what waits for the disk.

What is done with people's data goes through ``audit``, the log of who did it. ``erasure`` forgets somebody everywhere,
``export`` gives everything about one person, ``consent`` erases those whose consent has run out, and ``upkeep`` is when
the server does that by itself.
"""
