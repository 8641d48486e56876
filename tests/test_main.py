"""The command itself: its two names, its version, and what it says on a system where opencv cannot start."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facesvc import __version__

SCRIPT = str(Path(sys.executable).parent / "facesvc")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("command", [(SCRIPT,), (sys.executable, "-m", "facesvc")])
def test_both_names_are_the_same_command(command: tuple[str, ...]) -> None:
    done = run(*command, "--version")
    assert (done.returncode, done.stdout) == (0, f"facesvc {__version__}\n")


def test_an_opencv_that_cannot_start_is_one_line_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')\n")
    done = run(sys.executable, "-m", "facesvc", "demo", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "libGL.so.1" in line
    assert "pip install opencv-python-headless" in line


@pytest.mark.slow
def test_a_setting_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "facesvc.toml"
    path.write_text("[limits]\nmax_faces = 0\n")
    done = run(SCRIPT, "--config", str(path), "serve")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "limits.max_faces" in line


def test_an_address_that_is_taken_is_one_line() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run(SCRIPT, "serve", "--listen", address)
    assert done.returncode == 2
    assert f"cannot listen on {address}" in done.stderr
    assert "Traceback" not in done.stderr
