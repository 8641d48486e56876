"""``facesvc plugins test webhook``: from the secret to an event that the receiver takes, step by step."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from uuid import uuid4

import httpx

from facesvc.errors import FacesvcError
from facesvc.events.plugin import Box, Step
from facesvc_webhook.addresses import Address
from facesvc_webhook.answers import judge
from facesvc_webhook.cloudevents import encode_test
from facesvc_webhook.network import Gate, tls_context, words
from facesvc_webhook.sender import Sender


@dataclass(slots=True)
class Trial:
    """One check; each step uses what the one before it found."""

    gate: Gate
    box: Box
    _addresses: list[Address] = field(default_factory=list)
    _address: str = ""

    async def steps(self) -> AsyncIterator[Step]:
        """As ``plugin.Checks``."""
        encrypted = self.gate.settings.encrypted
        for name, attempt in (
            ("secret", self._secret),
            ("name", self._name),
            ("connection", self._connection),
            ("TLS", self._tls if encrypted else self._no_tls),
            ("test event", self._event),
        ):
            try:
                detail = await attempt()
            except TimeoutError:
                yield Step(name=name, ok=False, detail=f"nothing came within {self.gate.settings.timeout_s:g} s")
                return
            except (FacesvcError, httpx.TransportError, OSError) as error:
                yield Step(name=name, ok=False, detail=words(error))
                return
            yield Step(name=name, ok=True if encrypted or name != "TLS" else None, detail=detail)

    async def _secret(self) -> str:
        count = len(self.gate.settings.secrets())
        return (
            "requests carry one signature"
            if count == 1
            else "requests carry two signatures, until previous_secret goes"
        )

    async def _name(self) -> str:
        async with self._in_time():
            self._addresses = await self.gate.addresses()
        return f"{self.gate.settings.host} is {', '.join(map(str, self._addresses))}"

    async def _connection(self) -> str:
        port = self.gate.settings.port
        failure: OSError | None = None
        for address in map(str, self._addresses):
            try:
                async with self._in_time():
                    _, writer = await asyncio.open_connection(address, port)
            except OSError as error:
                failure = error
                continue
            writer.transport.abort()  # nothing was said
            self._address = address
            return f"{address} port {port} answers"
        assert failure is not None  # there is at least one address
        raise failure

    async def _tls(self) -> str:
        settings = self.gate.settings
        context = tls_context(settings)
        async with self._in_time():
            _, writer = await asyncio.open_connection(
                self._address, settings.port, ssl=context, server_hostname=settings.host
            )
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        certificate = tls.getpeercert() or {}
        version = tls.version()
        writer.transport.abort()
        return f"{version}; the certificate is good until {certificate.get('notAfter', 'nobody says when')}"

    async def _no_tls(self) -> str:
        return "none: what is posted can be read on the way"

    async def _event(self) -> str:
        settings, now = self.gate.settings, self.box.now()
        body = encode_test(str(uuid4()), now, source=settings.source, type_prefix=settings.type_prefix)
        sender = Sender(self.gate)
        try:
            answer = await sender.post(body, now)
        finally:
            await sender.close()
        judge(answer, settings.host, now)
        return f"{settings.host} took a {settings.type_prefix}.test and answered {answer.status}"

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(self.gate.settings.timeout_s)
