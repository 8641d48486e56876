"""One connection to a server: ``nats.aio.client.Client``, and what it lacks here.

It takes a server that does not offer TLS for one that needs none, and tells it the password: whoever sits in between
may make the offer disappear. It connects again by itself and sends what it kept meanwhile, however old: here each
connection is used once, and ``link`` makes the next. What is overridden is not part of its documented interface: hence
the bound on its version, and the tests against a real server.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from nats import errors
from nats.aio.client import Client as NatsClient
from nats.js import JetStreamContext
from nats.js import errors as js_errors

from facesvc.errors import DependencyError
from facesvc.events import secrets
from facesvc.events.plugin import TryLaterError, UndeliverableError
from facesvc_nats.messages import Message
from facesvc_nats.nkeys import UserKey
from facesvc_nats.settings import NatsSettings

T = TypeVar("T")
_TOO_LARGE = 10054
WRONG_STREAM = 10060
"""The subject belongs to another stream than the one that was expected."""


class RefusedError(DependencyError):
    """A server answered, and refused the connection."""

    reason = "SERVER_REFUSED"


class Client(NatsClient):
    """A connection; ``connected`` makes one."""

    def __init__(self, settings: NatsSettings) -> None:
        """Raises ``ConfigError``."""
        super().__init__()
        self._settings = settings
        self._context = settings.tls_context()
        self._key = _key(settings)
        self._secrets = {
            name: secrets.read(place) for name in ("token", "password") if (place := getattr(settings, name))
        }
        self._told = ""
        self._lost = asyncio.Event()
        self.stream: JetStreamContext = self.jetstream(timeout=settings.timeout_s)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """For as long as it is entered. Raises ``RefusedError`` where a server answers no, else ``TryLaterError``."""
        try:
            await self._enter()
            yield
        finally:
            await self._leave()

    async def lost(self) -> None:
        """Until the connection is lost. Raises ``TryLaterError``."""
        await self._lost.wait()
        raise self._gone()

    async def send(self, one: Message) -> None:
        """Until the stream has it. Raises ``TryLaterError`` and ``UndeliverableError``."""
        place, name = self._settings.place, self._settings.stream
        try:
            await self.ask(self.stream.publish(one.subject, one.body, headers=dict(one.headers)))
        except errors.MaxPayloadError as error:
            raise UndeliverableError(f"{place} takes no message of {len(one.body)} bytes") from error
        except js_errors.NoStreamResponseError as error:
            raise TryLaterError(
                f"no stream at {place} takes {one.subject}: create the stream {name}, or set create_stream = true"
            ) from error
        except js_errors.APIError as error:
            raise self._refusal(error, one) from error

    async def ask(self, asking: Coroutine[Any, Any, T]) -> T:
        """What is asked of the server. Raises ``TryLaterError``, ``nats.js.errors.Error`` and ``MaxPayloadError``."""
        if not self.is_connected:
            asking.close()
            raise self._gone()
        self._told = ""
        asked, lost = asyncio.ensure_future(asking), asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({asked, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise self._gone()
            return await asked
        except (errors.TimeoutError, TimeoutError) as error:
            told = f": {self._told}" if self._told else " in time"
            raise TryLaterError(f"{self._settings.place} did not answer{told}") from error
        except (js_errors.Error, errors.MaxPayloadError):
            raise
        except (errors.Error, OSError) as error:
            raise self._gone() from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # what nats-py makes of other JSON
            raise TryLaterError(f"{self._settings.place} gave an answer that cannot be read") from error
        finally:
            asked.cancel()
            lost.cancel()
            await asyncio.gather(asked, lost, return_exceptions=True)

    async def _enter(self) -> None:
        settings = self._settings
        try:
            await self.connect(
                [f"nats://{one}" for one in settings.servers],
                name=f"facesvc {settings.site}",
                error_cb=self._heard,
                closed_cb=self._closed,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # of each server; 0 would be for ever
                reconnect_time_wait=0,
                connect_timeout=settings.timeout_s,  # type: ignore[arg-type]  # it is only waited for
                ping_interval=settings.ping_s,  # type: ignore[arg-type]  # likewise
                max_outstanding_pings=1,
                tls=self._context,
                user=settings.user or None,
                password=self._secrets.get("password"),
                token=self._secrets.get("token"),
                signature_cb=self._key.sign if self._key else None,
                user_jwt_cb=self._key.jwt.encode if self._key and self._key.jwt else None,
            )
        except Exception as error:  # whatever it makes of what a server sent
            raise self._words(error) from error

    async def _leave(self) -> None:
        self._lost.set()
        # Without farewell: what was sent is acknowledged, and a server that is away, or one with whom TLS came to
        # nothing, would be waited for.
        writer = getattr(self._transport, "_io_writer", None)
        self._transport = None
        if writer is not None:
            writer.transport.abort()
        await self.close()
        tasks = (self._reading_task, self._ping_interval_task, self._flusher_task)
        await asyncio.gather(*(one for one in tasks if one is not None), return_exceptions=True)

    def _connect_command(self) -> bytes:
        if self._context is not None and not self._server_info.get("tls_required"):
            raise errors.Error("the server offers no TLS")
        if self._key is not None:
            self._auth_configured = True
            self._public_nkey = self._key.public
        return super()._connect_command()

    async def _heard(self, error: Exception) -> None:
        self._told = said(error)

    async def _closed(self) -> None:
        self._lost.set()

    def _words(self, error: Exception) -> DependencyError | TryLaterError:
        place, text = self._settings.place, self._told or said(error)
        if "authorization" in text.lower() or "authentication" in text.lower():
            return RefusedError(f"{place} refuses the connection: {text}")
        if "no TLS" in text:
            return RefusedError(f"{place} offers no TLS: set tls = false only where nobody can listen")
        if isinstance(error, TimeoutError):
            return TryLaterError(f"{place} did not answer in time")
        return TryLaterError(f"{place} cannot be reached: {text}")

    def _gone(self) -> TryLaterError:
        return TryLaterError(f"the connection to {self._settings.place} was lost")

    def _refusal(self, error: js_errors.APIError, one: Message) -> TryLaterError | UndeliverableError:
        place, why = self._settings.place, said(error)
        if error.err_code == _TOO_LARGE:
            return UndeliverableError(f"the stream {self._settings.stream} takes no message of {len(one.body)} bytes")
        if error.err_code == WRONG_STREAM:
            return TryLaterError(f"{one.subject} belongs to another stream than {self._settings.stream}: name that one")
        return TryLaterError(f"{place} did not keep a message: {why} (error {error.err_code})")


def _key(settings: NatsSettings) -> UserKey | None:
    if settings.credentials:
        return UserKey.of_credentials(secrets.read(settings.credentials))
    return UserKey.of_seed(secrets.read(settings.nkey_seed)) if settings.nkey_seed else None


def said(error: Exception) -> str:
    """What a server said, to be shown."""
    text = getattr(error, "description", None) or str(error).removeprefix("nats: ").strip(" '") or type(error).__name__
    return "".join(one for one in text[:200] if one.isprintable())
