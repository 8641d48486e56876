"""The command line: one file a command or group of commands.

Commands talk to the server through the SDK (``facesvc.client``), except for ``serve``, ``demo``, ``models``,
``evaluate``, ``bench`` and ``doctor``. Tables and progress are for people, ``--json`` is for programs. The exit status
is 0 when all went well, 1 when something asked for did not succeed, 2 when the command could not be carried out.
"""

import sys


def main() -> None:
    """The command ``facesvc``."""
    try:
        import cv2  # noqa: F401, PLC0415 - here, so that the one thing that fails on a bare system is told in one line
    except ImportError as error:
        sys.exit(
            f"facesvc: opencv cannot be loaded ({error}). Without a window system, use its headless build:"
            " pip uninstall --yes opencv-python && pip install opencv-python-headless"
        )
    from facesvc.cli.commands import run  # noqa: PLC0415 - needs cv2, see above

    run()
