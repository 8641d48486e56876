"""Where the networks come from: from weight files of others to a pack that this service loads.

A *pack* is a folder with ONNX graphs and a ``manifest.json`` that says where each file came from, under which licence,
how its input is prepared, and which similarity belongs to which false-match rate. Reading order:

* ``mtcnn`` and ``dlib_resnet`` read the weight files of two Python packages, trusting no byte of them, and write each
  network as a graph with ``graph``; ``convert`` runs them as a program of its own, because a process that once used
  onnx keeps the memory.
* ``calibration`` and ``packs`` are the records; ``manifest`` reads JSON without believing it.
* ``folders`` puts a folder in place so that a kill at any moment leaves the whole of it or nothing.
* ``default_pack`` joins these: ``ensure`` gives the pack ``default``, built on the first call, checked on every other.
* ``runtime`` runs a graph, and is the only importer of onnxruntime.

Nothing here is downloaded and nothing here phones home. What makes two vectors comparable has an id, the embedding
contract: it is taken from the weights and the preprocessing, not from the bytes of the graphs, so that another version
of onnx does not cut a gallery off from its people.
"""
