"""What the servicers share: the loaded service, the lobby where calls wait for it, and the register of streams."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from facesvc.api.engines import Engine, Engines
from facesvc.api.machine import Regulator
from facesvc.api.observer import Observer
from facesvc.api.probes import Probes
from facesvc.api.workers import Workers
from facesvc.backup import Backups
from facesvc.config import Settings
from facesvc.delivery.host import Host
from facesvc.errors import DeadlineError, ExhaustedError, UnavailableError
from facesvc.events.audit import AuditLog
from facesvc.events.journal import Journal
from facesvc.gallery import Gallery
from facesvc.gallery.rotation import Rotation
from facesvc.models.library import Library
from facesvc.models.packs import Pack
from facesvc.security.oidc import Oidc
from facesvc.security.tokens import Tokens
from facesvc.stream.mailbox import Mailbox
from facesvc.stream.statistics import Statistics

T = TypeVar("T")


class Register:
    """Those who are there for long (streams, watchers), up to a limit."""

    def __init__(self, what: str, limit: int) -> None:
        self._what = what
        self._limit = limit
        self._members: set[Mailbox[Any]] = set()
        self._count = 0

    @contextmanager
    def admitted(self, mailbox: Mailbox[Any] | None = None) -> Iterator[None]:
        """A place for the time of the block. Raises ``ExhaustedError`` when all are taken."""
        if self._count >= self._limit:
            message = f"all {self._limit} {self._what} that this server allows are open: close one, or come again"
            raise ExhaustedError(message, retry_delay_s=5.0, reason=f"TOO_MANY_{self._what.upper()}")
        self._count += 1
        if mailbox is not None:
            self._members.add(mailbox)
        try:
            yield
        finally:
            self._count -= 1
            if mailbox is not None:
                self._members.discard(mailbox)

    def close(self) -> None:
        """Close every member's mailbox: what runs is finished, nothing new begins."""
        for mailbox in self._members:
            mailbox.close()


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that answers calls, once the models are loaded."""

    settings: Settings
    runtime_version: str
    engines: Engines
    load_engine: Callable[[Pack], Engine]
    """Loads a pack and runs it once; blocks for about a second, and so belongs in a thread."""
    library: Library
    gallery: Gallery
    workers: Workers
    regulator: Regulator
    statistics: Statistics
    journal: Journal
    audit: AuditLog
    probes: Probes
    backups: Backups | None
    """None where the settings name no folder for them."""
    rotation: Rotation
    observer: Observer
    plugins: Host
    tokens: Tokens
    oidc: Oidc | None
    """None where the settings name no identity provider."""
    streams: Register
    enrollments: Register
    watchers: Register
    start_time: datetime
    now: Callable[[], datetime]
    clock: Callable[[], float]
    """Seconds of a clock that never goes back, the pipeline's."""
    open_policies: Counter[str]
    """How many open streams decide by each policy."""

    @property
    def engine(self) -> Engine:
        """What recognises at this moment; whoever asks twice may get two."""
        return self.engines.current


class Lobby:
    """Where calls arrive: turned away while the service starts and while it stops."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._closing = asyncio.Event()

    def open(self, service: Service) -> None:
        """From now on calls are answered."""
        self._service = service

    def close(self) -> None:
        """From now on calls are turned away, and those who are there for long are asked to leave."""
        self._closing.set()
        if self._service is not None:
            self._service.workers.drain()
            self._service.streams.close()
            self._service.observer.close()

    @property
    def service(self) -> Service:
        """The service. Raises ``UnavailableError`` when it is not open."""
        self.refuse_if_stopping()
        if self._service is None:
            raise UnavailableError("the models are being loaded: come again in a moment", reason="SERVER_STARTING")
        return self._service

    def refuse_if_stopping(self) -> None:
        """Raises ``UnavailableError`` on the way out."""
        if self._closing.is_set():
            raise UnavailableError("the server is stopping: come again in a moment", reason="SERVER_STOPPING")

    async def next_message(self, requests: AsyncIterator[T], timeout_s: float, reason: str) -> T | None:
        """The next message of a stream that must not stay silent for long; None at its end.

        Raises ``DeadlineError`` (``reason``) after ``timeout_s``, and ``UnavailableError`` once the server stops.
        """
        reading = asyncio.ensure_future(anext(requests, None))
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait({reading, closing}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                return reading.result()
        finally:
            reading.cancel()
            closing.cancel()
        self.refuse_if_stopping()
        raise DeadlineError(f"no message came within {timeout_s:g} s: the stream is closed", reason=reason)
