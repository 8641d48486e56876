"""Where the metrics are read: HTTP on this machine alone, one reader at a time."""

import io
import socket
import threading
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from facesvc.errors import DependencyError

_DEADLINE_S = 5.0


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Log nothing: nobody looks for readings."""

    def get_stderr(self) -> io.StringIO:
        """Where nobody looks: a reading that fails is told to its reader, with status 500."""
        return io.StringIO()


class _Server(WSGIServer):
    """Cuts a reader off who is not done in time, however many bytes come and go meanwhile."""

    _reader: socket.socket | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Answer one reader, in time or not at all."""
        self._reader = request
        watch = threading.Timer(_DEADLINE_S, self.cut)
        watch.daemon = True
        watch.start()
        try:
            super().finish_request(request, client_address)
        finally:
            watch.cancel()
            watch.join()  # or it would cut off the next one
            self._reader = None

    def cut(self) -> None:
        """Whoever is being answered reads and is read no further."""
        reader = self._reader
        if reader is not None:
            with suppress(OSError):  # gone already
                reader.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: readers come and go as they like."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class Exposition:
    """Serves a registry on ``address`` (``127.0.0.1:PORT``) until it is stopped."""

    def __init__(self, registry: CollectorRegistry, address: str) -> None:
        self._registry = registry
        self._address = address
        self._server: _Server | None = None

    def start(self) -> int:
        """Listen, and return the port. Raises ``DependencyError`` where it is taken."""
        host, _, port = self._address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        kind = _Server6 if ":" in host else _Server
        try:
            self._server = make_server(host, int(port), make_wsgi_app(self._registry), kind, _Handler)
        except OSError as error:
            message = f"metrics.listen: cannot listen on {self._address}: {error.strerror}; choose another"
            raise DependencyError(message, reason="ADDRESS_UNAVAILABLE") from error
        threading.Thread(target=_serve, args=(self._server,), name="metrics", daemon=True).start()
        return self._server.server_port

    def stop(self) -> None:
        """No longer, and at once: whoever is being answered is cut off. Stopping twice is allowed."""
        server, self._server = self._server, None
        if server is None:
            return
        # Closing it would not do: a thread that waits for connections keeps the port open.
        with suppress(OSError):
            server.socket.shutdown(socket.SHUT_RDWR)
        # Not waited for: a reading that hangs in the box ends later.
        threading.Thread(target=server.shutdown, name="metrics-end", daemon=True).start()
        server.cut()


def _serve(server: _Server) -> None:
    with server:
        server.serve_forever()
