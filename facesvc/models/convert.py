"""A program: the weights of one network on standard input, its ONNX graph on standard output.

A process that converts the default pack is 53 MB larger ever after, so a server runs this beside itself. A filter
touches no disk: whoever kills the server while it runs leaves nothing behind.
"""

import sys
from collections.abc import Callable

import onnx

from facesvc.errors import WeightsError
from facesvc.models import dlib_resnet, mtcnn

BUILDERS: dict[str, Callable[[bytes], onnx.ModelProto]] = {
    "pnet": mtcnn.build_pnet,
    "rnet": mtcnn.build_rnet,
    "onet": mtcnn.build_onet,
    "embedder": dlib_resnet.build,
}


def main(role: str) -> int:
    """Converts what comes in; the status is 1, and the reason on standard error, for weights that do not fit."""
    try:
        model = BUILDERS[role](sys.stdin.buffer.read())
    except WeightsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    sys.stdout.buffer.write(model.SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
