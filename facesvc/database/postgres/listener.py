"""Hears what other boxes announce, on a connection of its own."""

import selectors
import socket
from contextlib import suppress
from threading import Lock
from time import monotonic

from facesvc.database.postgres.connection import Connection, Server

CHANNEL = "facesvc_change"


class Listener:
    """See ``Database.wait_for_change``."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = Lock()  # one thread waits at a time
        self._connection: Connection | None = None
        self._closed = False
        self._alarm, self._bell = socket.socketpair()

    def wait(self, timeout_s: float) -> bool:
        """Whether something was announced since the last call, or may have been while nobody listened."""
        with self._lock:
            if self._closed:
                return False
            if self._connection is None:
                self._listen()
                return True
            try:
                with self._server.translated():
                    return self._hear(self._connection, monotonic() + timeout_s)
            except BaseException:
                self._let_go()
                raise

    def close(self) -> None:
        """Whoever waits is told that nothing changed; closing twice is allowed."""
        self._closed = True
        with suppress(OSError):  # closed before
            self._alarm.send(b"!")
        with self._lock:
            self._let_go()
            self._alarm.close()
            self._bell.close()

    def _listen(self) -> None:
        connection = self._server.connect()
        try:
            with self._server.translated():
                connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _hear(self, connection: Connection, deadline: float) -> bool:
        """Wait for an announcement, the deadline or the end."""
        with selectors.DefaultSelector() as selector:
            selector.register(connection.pgconn.socket, selectors.EVENT_READ)
            selector.register(self._bell, selectors.EVENT_READ)
            while not self._closed:
                connection.pgconn.consume_input()
                heard = False
                while connection.pgconn.notifies():
                    heard = True
                if heard:
                    return True
                if not selector.select(max(0.0, deadline - monotonic())):
                    return False
        return False

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
