"""A program: what the ONNX files of the folder named by its argument are, said by the insightface package, as JSON.

The package tells files apart by their shapes or, where there is one, by its manifest of version 2, whose hashes it
checks. It brings a second way to run networks and 150 MB of memory, so it has a process of its own and only its verdict
is used: ``[{"task", "file", "mean", "std"}]``.

With a second argument, a file of pictures (N, H, W, 3) uint8 BGR as numpy saves them, it is compared with instead: for
each line on standard input, the side of the detector's input or ``default``, all pictures go through ``FaceAnalysis``,
and a line says what that took and found: ``{"cpu_s", "boxes"}``, a list of left, top, right, bottom for each picture.
"""

import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

TASKS = ("detection", "recognition")


def main(folder: Path) -> int:
    """Prints the verdict; the status is 1, and the reason on standard error, for a folder that holds no models."""
    warnings.simplefilter("ignore")
    logging.disable()
    # What it prints while it loads must not mix with the verdict.
    verdict, sys.stdout = sys.stdout, sys.stderr
    try:
        found = _models(folder)
    # Its exceptions have no base of their own; whatever it is, this folder is none that it opens.
    except Exception as error:  # noqa: BLE001
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    json.dump(found, verdict)
    return 0


def _models(folder: Path) -> list[dict[str, Any]]:
    from insightface.model_zoo import get_model  # noqa: PLC0415 - takes a second, and standard output must be out of its way
    from insightface.model_zoo.package_manifest import (  # noqa: PLC0415 - likewise
        has_model_package_manifest,
        load_model_package,
    )

    cpu = {"providers": ["CPUExecutionProvider"]}
    if has_model_package_manifest(folder):
        package = load_model_package(folder)
        named = [(package.task(task).path, get_model(str(folder), model_task=task, **cpu)) for task in package.tasks]
    else:
        named = [(path, get_model(str(path), **cpu)) for path in sorted(folder.glob("*.onnx"))]
    return [
        {
            "task": model.taskname,
            "file": path.relative_to(folder).as_posix(),
            "mean": float(model.input_mean),
            "std": float(model.input_std),
        }
        for path, model in named
        if model is not None and model.taskname in TASKS
    ]


def compare(folder: Path, pictures: Path) -> int:
    """Runs ``FaceAnalysis`` as it comes, over and over; see above. Ends with its standard input."""
    warnings.simplefilter("ignore")
    logging.disable()
    answers, sys.stdout = sys.stdout, sys.stderr
    import numpy as np  # noqa: PLC0415 - with insightface, which is slow to import
    from insightface.app import FaceAnalysis  # noqa: PLC0415 - as in _models

    frames = np.load(pictures)
    # The whole path of an existing folder: a mere name would be downloaded.
    analysis = FaceAnalysis(name=str(folder))
    for line in sys.stdin:
        size = line.strip()
        analysis.prepare(ctx_id=0, det_size=None if size == "default" else (int(size), int(size)))
        analysis.get(frames[0])  # the first run of a network is slower than all others
        started = time.process_time()
        found = [analysis.get(frame) for frame in frames]
        spent = time.process_time() - started
        boxes = [[face.bbox.tolist() for face in faces] for faces in found]
        answers.write(json.dumps({"cpu_s": spent, "boxes": boxes}) + "\n")
        answers.flush()
    return 0


if __name__ == "__main__":
    models, *compared = (Path(argument).resolve() for argument in sys.argv[1:])
    sys.exit(compare(models, *compared) if compared else main(models))
