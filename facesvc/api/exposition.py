"""Where the metrics are read: HTTP on this machine alone, one reader at a time."""

import asyncio
import socket
import threading
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from facesvc.errors import DependencyError

_SILENCE_S = 5.0


class _Handler(WSGIRequestHandler):
    timeout = _SILENCE_S  # the next reader waits no longer for one who says nothing

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log nothing: nobody looks for readings."""


class _Server6(WSGIServer):
    address_family = socket.AF_INET6


class Exposition:
    """Serves a registry on ``address`` (``127.0.0.1:PORT``) until it is stopped."""

    def __init__(self, registry: CollectorRegistry, address: str) -> None:
        self._registry = registry
        self._address = address
        self._server: WSGIServer | None = None

    def start(self) -> int:
        """Listen, and return the port. Raises ``DependencyError`` where it is taken."""
        host, _, port = self._address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        kind = _Server6 if ":" in host else WSGIServer
        try:
            self._server = make_server(host, int(port), make_wsgi_app(self._registry), kind, _Handler)
        except OSError as error:
            message = f"metrics.listen: cannot listen on {self._address}: {error.strerror}; choose another"
            raise DependencyError(message, reason="ADDRESS_UNAVAILABLE") from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        return self._server.server_port

    async def stop(self) -> None:
        """No longer; stopping twice is allowed."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.shutdown)
            server.server_close()
