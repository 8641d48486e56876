"""One connection to a broker: ``aiomqtt.Client``, and what it lacks for a message that must not be lost.

It takes a message that the broker refused (a PUBACK with a reason code from 0x80 on, MQTT 5, 3.4.2.1) for one that it
took, waits for its whole timeout where the connection is lost meanwhile or never comes about, and leaves a socket open
after that. What is overridden here is not part of its documented interface: hence the bound on its version, and the
tests against a real broker.
"""

import asyncio
import logging
import math
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from facesvc.errors import DependencyError, FacesvcError
from facesvc.events import secrets
from facesvc.events.plugin import TryLaterError, UndeliverableError
from facesvc_mqtt.discovery import OFFLINE
from facesvc_mqtt.settings import MqttSettings

MAX_INCOMING_BYTES = 64 << 10
MAX_INCOMING = 20_000
"""Messages that wait to be looked at: all that was ever retained for this box comes at once."""
MAX_AT_ONCE = 10
_REFUSED = 0x80
_UNSPECIFIED = 0x80
_NOT_AUTHORIZED = 0x87
_TAKEN_OVER = 0x8E
_NEVER = frozenset({0x90, 0x95, 0x99})  # topic name invalid, packet too large, payload format invalid
# paho tells every packet to its logger, topics and all.
_SILENT = logging.getLogger("facesvc_mqtt.paho")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_SILENT.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message. ``expiry`` in seconds, 0 for never; an empty payload that is retained removes what is there."""

    topic: str
    payload: bytes
    retain: bool = False
    expiry: int = 0

    def properties(self) -> Properties:
        """Those of MQTT 5."""
        made = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho leaves this one out
        if self.payload:
            made.PayloadFormatIndicator = 1
        if self.payload.startswith(b"{"):
            made.ContentType = "application/json"
        if self.expiry:
            made.MessageExpiryInterval = self.expiry
        return made


class RefusedError(DependencyError):
    """The broker answered, and refused the connection."""

    reason = "BROKER_REFUSED"


class _Socket(ssl.SSLSocket):
    """One that paho leaves open when the other side is not trusted."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  # as the method that it is
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class Client(aiomqtt.Client):
    """A connection; ``connected`` makes one."""

    def __init__(self, settings: MqttSettings, client_id: str, will: str) -> None:
        """``will``: the topic that it leaves ``offline`` at, empty for none. Raises ``ConfigError``."""
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # as above
        connect.SessionExpiryInterval = 0
        connect.MaximumPacketSize = MAX_INCOMING_BYTES
        self._place = f"the broker {settings.host}:{settings.port}"
        self._tls = settings.tls
        self._refused: dict[int, ReasonCode] = {}
        self._abandoned = False
        context = settings.tls_context()
        if context is not None:
            context.sslsocket_class = _Socket
        super().__init__(
            settings.host,
            settings.port,
            username=settings.user or None,
            password=secrets.read(settings.password) if settings.password else None,
            identifier=client_id,
            protocol=aiomqtt.ProtocolVersion.V5,
            clean_start=MQTT_CLEAN_START_FIRST_ONLY,  # there is no second connect: each client is used once
            properties=connect,
            will=aiomqtt.Will(will, OFFLINE, qos=1, retain=True) if will else None,
            tls_context=context,
            timeout=settings.timeout_s,
            keepalive=settings.keepalive_s,
            max_queued_incoming_messages=MAX_INCOMING,
            max_concurrent_outgoing_calls=MAX_AT_ONCE,
            logger=_SILENT,
        )
        self._client.connect_timeout = settings.timeout_s

    async def send(self, *messages: Outgoing) -> None:
        """Until the broker has acknowledged all. Raises ``TryLaterError`` and ``UndeliverableError``."""
        sending = [asyncio.ensure_future(self._send(one)) for one in messages]
        if not sending:
            return
        everything = asyncio.gather(*sending)
        try:
            ends: set[asyncio.Future[Any]] = {everything, self._disconnected}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done():
                raise TryLaterError(f"the connection to {self._place} was lost")
            await everything
        finally:
            for one in sending:
                one.cancel()
            await asyncio.gather(everything, *sending, return_exceptions=True)

    async def listen(self, topic: str) -> None:
        """Get the messages of a filter, but none of our own. Raises ``TryLaterError``."""
        try:
            codes = await self.subscribe(topic, options=SubscribeOptions(qos=1, noLocal=True))
        except aiomqtt.MqttError as error:
            raise TryLaterError(f"{self._place} did not take a subscription to {topic}: {error}") from error
        if any(getattr(code, "value", code) >= _REFUSED for code in codes):
            raise TryLaterError(f"{self._place} refuses a subscription to {topic}: allow the user to read it")

    async def heard(self) -> AsyncIterator[Sequence[aiomqtt.Message]]:
        """Messages, all together that came meanwhile. Raises ``TryLaterError`` when the connection is lost."""
        messages = self.messages
        try:
            while True:
                yield [await anext(messages), *[await anext(messages) for _ in range(len(messages))]]
        except aiomqtt.MqttError as error:
            raise TryLaterError(f"the connection to {self._place} was lost{why(error.__cause__)}") from error

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """For as long as it is entered. Raises ``RefusedError`` where the broker answers no, else ``TryLaterError``."""
        entering = asyncio.ensure_future(self.__aenter__())
        try:
            # Not to be cancelled in the middle: a thread connects, and nobody would close its socket.
            await asyncio.shield(entering)
            if not self._client.is_connected():
                raise TryLaterError(f"the connection to {self._place} was lost")
            yield
        except MqttConnectError as error:
            raise RefusedError(f"{self._place} refuses the connection: {str(error.rc).lower()}") from error
        except aiomqtt.MqttError as error:
            raise TryLaterError(self._words(error)) from error
        finally:
            try:
                await asyncio.gather(entering, return_exceptions=True)
                if not entering.cancelled() and entering.exception() is None:
                    with suppress(aiomqtt.MqttError):
                        await self.__aexit__(None, None, None)
            finally:
                self._abandon()

    def _words(self, error: aiomqtt.MqttError) -> str:
        text = str(error)
        if self._tls and "timed out" not in text and isinstance(error, aiomqtt.MqttCodeError):
            return f"{self._place} closed the connection: does it want a certificate_file, or is its port without TLS?"
        return f"{self._place} cannot be reached: {text}"

    def _abandon(self) -> None:
        """Close what is still open."""
        self._abandoned = True
        self._client.disconnect()
        if self._disconnected.done() and not self._disconnected.cancelled():
            self._disconnected.exception()  # which somebody has to have asked for

    async def _send(self, one: Outgoing) -> None:
        try:
            await self.publish(one.topic, one.payload, qos=1, retain=one.retain, properties=one.properties())
        except aiomqtt.MqttCodeError as error:
            raise self._refusal(error, one.topic) from error
        except aiomqtt.MqttError as error:
            raise TryLaterError(f"{self._place} did not acknowledge a message: {error}") from error

    def _refusal(self, error: aiomqtt.MqttCodeError, topic: str) -> FacesvcError:
        if not isinstance(error.rc, ReasonCode):
            return TryLaterError(f"the connection to {self._place} was lost")
        why = str(error.rc).lower()
        if error.rc.value in _NEVER:
            return UndeliverableError(f"{self._place} refuses a message: {why}")
        if error.rc.value == _NOT_AUTHORIZED:
            why += f": allow the user to write to {topic.split('/', 1)[0]}/#"
        return TryLaterError(f"{self._place} refuses a message: {why}")

    @contextmanager
    def _pending_call(self, mid: int, value: Any, pending_dict: dict[int, Any]) -> Iterator[None]:
        try:
            with super()._pending_call(mid, value, pending_dict):
                yield
            if mid in self._refused:
                raise aiomqtt.MqttCodeError(self._refused[mid], "refused")
        finally:
            self._refused.pop(mid, None)

    def _on_publish(self, client: Any, userdata: Any, mid: int, reason_code: ReasonCode, properties: Any) -> None:
        if reason_code.value >= _REFUSED and mid in self._pending_publishes:
            self._refused[mid] = reason_code
        super()._on_publish(client, userdata, mid, reason_code, properties)

    def _on_disconnect(
        self, client: Any, userdata: Any, flags: Any, reason_code: ReasonCode, properties: Any = None
    ) -> None:
        if self._abandoned:
            return
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttCodeError(reason_code, "closed before it answered"))
        else:
            super()._on_disconnect(client, userdata, flags, reason_code, properties)


def expiry(seconds: int, left: timedelta | None) -> int:
    """Whole seconds, at least one (a broker takes none for never): so many, or what is left."""
    return max(1, seconds if left is None else min(seconds, math.ceil(left.total_seconds())))


def why(error: BaseException | None) -> str:
    """Why a connection was lost, as far as the broker said: ``: reason``, or nothing."""
    code = error.rc if isinstance(error, aiomqtt.MqttCodeError) else None
    if not isinstance(code, ReasonCode) or code.value == _UNSPECIFIED:
        return ""
    hint = "; does another client use the client_id of this one?" if code.value == _TAKEN_OVER else ""
    return f": {str(code).lower()}{hint}"
