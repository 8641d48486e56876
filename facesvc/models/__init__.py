"""Where the networks come from: from weight files of others to a pack that this service loads.

A *pack* is a folder with ONNX graphs and a ``manifest.json`` that says where each file came from, under which licence,
how its input is prepared, and which similarity belongs to which false-match rate. The *library* is the cache folder
with the packs in it. Reading order:

* ``calibration``, ``quantization`` and ``packs`` are the records of a pack; ``manifest`` reads JSON without believing
  it. ``figures`` and ``tuning`` are what was measured on this box: accuracy, and the faster way to run.
* ``folders`` puts a folder in place so that a kill at any moment leaves the new content or the old one.
* ``mtcnn`` and ``dlib_resnet`` read the weight files of two Python packages, trusting no byte of them, and write each
  network as a graph with ``graph``; ``convert`` runs them as a program of its own, because a process that once used
  onnx keeps the memory. ``quantize`` makes a graph int8, by a program too (``quantizer_program``).
* ``default_pack`` joins these: ``ensure`` gives the pack ``default``, built on the first call, checked on every other;
  its embedder is made int8 with the faces of ``default_chips``.
* ``library`` knows the packs that are here, which one was chosen, and the version before each.
* ``runtime`` runs a graph; it and ``quantizer_program`` are the only importers of onnxruntime.
* ``intake`` makes a pack of a folder that somebody brings: what is in it says ``description``, for InsightFace's by a
  program (``insightface_program``); ``trial`` runs every graph once and believes only that.
* ``chunks`` and ``download`` bring files over the network; ``archives`` unpacks a zip or a tar that may hold anything.
* ``catalog`` is what is known by name, and ``fetch`` brings it, or the pack of another box from a mirror.

Nothing is downloaded unless somebody asks for it (``facesvc models pull`` or ``update``), and nothing phones home. A
file with a published SHA-256 is taken only with that; an archive without one is pinned when it first comes; and a
licence that forbids commercial use has to be accepted, which is written down.

What makes two vectors comparable has an id, the embedding contract, taken from the weights and from how pictures are
prepared for them. Of the default pack it does not depend on the bytes of the graphs, so that another version of onnx
does not cut a gallery off from its people; of every other pack it does, for its graphs are used as they came.
"""
