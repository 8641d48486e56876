"""Runs a program for what it prints, such as one that asks a key server for the master key."""

import os
import selectors
import shlex
import signal
import subprocess
from contextlib import suppress
from time import monotonic
from typing import IO

from facesvc.errors import DependencyError

TIMEOUT_S = 10.0
_MOST_WORDS = 4096  # bytes of what it complains of
_PIECE = 1024


def arguments(command: str) -> tuple[str, ...]:
    """A command line taken apart as a shell would, and without one. Raises ``ValueError``."""
    found = tuple(shlex.split(command))
    if not os.path.isabs(found[0]):  # noqa: PTH117 - a text of the settings, not yet a file
        raise ValueError(f"{found[0]!r} is not the whole path of a program")
    return found


def printed_by(command: tuple[str, ...], most: int, timeout_s: float = TIMEOUT_S) -> bytes:
    """What a program prints, up to ``most`` bytes.

    Raises ``DependencyError`` where it fails, prints more, or takes longer; with what it wrote to standard error, and
    never with what it printed.
    """
    program = command[0]
    try:
        process = subprocess.Popen(  # noqa: S603 - what the settings say, without a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _failed(f"{program} cannot be run ({error.strerror})", b"") from error
    with process:
        try:
            printed, words = _read(process, most, monotonic() + timeout_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also those whom it has started, and who hold its pipes
    if printed is None:
        raise _failed(f"{program} has not ended within {timeout_s:g} s", words)
    if len(printed) > most:
        raise _failed(f"{program} prints more than a key", words)
    if process.returncode != 0:
        raise _failed(f"{program} failed with status {process.returncode}", words)
    return printed


def _read(process: subprocess.Popen[bytes], most: int, deadline: float) -> tuple[bytes | None, bytes]:
    """What it prints, None where it has not ended by then, and what it complains of; waits for its end."""
    assert process.stdout is not None
    assert process.stderr is not None
    printed, words = bytearray(), bytearray()
    bounds: dict[IO[bytes], tuple[bytearray, int]] = {
        process.stdout: (printed, most),
        process.stderr: (words, _MOST_WORDS),
    }
    with selectors.DefaultSelector() as selector:
        for pipe in bounds:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map() and len(printed) <= most:
            ready = selector.select(max(0.0, deadline - monotonic()))
            if not ready:
                return None, bytes(words)
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                if not piece:
                    selector.unregister(key.fileobj)
                held, bound = bounds[key.fileobj]  # type: ignore[index]  # what was registered
                held += piece[: max(0, bound + 1 - len(held))]
    try:
        process.wait(max(0.0, deadline - monotonic()) if len(printed) <= most else 0.0)
    except subprocess.TimeoutExpired:
        return (None if len(printed) <= most else bytes(printed)), bytes(words)
    return bytes(printed), bytes(words)


def _failed(what: str, words: bytes) -> DependencyError:
    said = " ".join(words.decode(errors="replace").split())
    complaint = f": {said}" if said else ""
    message = f"the master key cannot be had, for {what}{complaint}; check the command of gallery.key"
    return DependencyError(message, reason="KEY_UNREADABLE")
