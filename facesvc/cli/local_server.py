"""A server of a command's own: ``facesvc serve`` as another process, on a free port of loopback."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from facesvc.config import Settings
from facesvc.errors import DependencyError

_STOP_TIMEOUT_S = 10.0
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_READY = "facesvc is serving on "


class LocalServer:
    """Runs while the block lasts; ``address`` is where it listens. In plain text, unless there are certificates."""

    def __init__(self, settings: Settings, gallery: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FACESVC_")}
        if settings.server.certificate_file is None:
            server = settings.server.model_copy(update={"plaintext": True})
            settings = settings.model_copy(update={"server": server})
        environment |= _as_environment(settings)
        environment |= {
            "FACESVC_SERVER__LISTEN": "127.0.0.1:0",
            "FACESVC_GALLERY__PATH": str(gallery),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "facesvc", "serve"], stdout=subprocess.PIPE, env=environment, text=True
        )
        self.address = ""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def cpu_s(self) -> float:
        """Processor time that it has used, in seconds, to the kernel's tick."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND

    def __enter__(self) -> Self:
        """Wait for the line that says where it listens."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith(_READY):
            self._stop()
            raise DependencyError("the server did not start; what it said stands above")
        self.address = line.removeprefix(_READY).strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it and wait until it is gone."""
        self._stop()

    def _stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _as_environment(settings: Settings) -> dict[str, str]:
    """All settings as the variables that ``config.load`` reads: a table each, as JSON."""
    return {f"FACESVC_{name.upper()}": json.dumps(value) for name, value in settings.model_dump(mode="json").items()}
