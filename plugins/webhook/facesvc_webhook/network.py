"""Connects to addresses that were checked, and to no others.

A name is resolved, each address looked at, and the connection made to one of those: never again by the name, which
could by then lead elsewhere (DNS rebinding). ``Host`` and TLS still say the name, and the certificate has to be for it.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

import httpx

from facesvc.errors import ConfigError, FacesvcError
from facesvc_webhook.addresses import Address, objection
from facesvc_webhook.settings import WebhookSettings

MAX_ADDRESSES = 4
"""How many of a name's addresses are tried."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""All addresses of a name. Raises ``OSError``."""


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """By the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]) for *_, place in found]


class UnreachableError(httpx.ConnectError):
    """There is no address that may be connected to."""


@dataclass(frozen=True, slots=True)
class Gate:
    """Finds the addresses of the receiver that may be connected to."""

    settings: WebhookSettings
    resolve: Resolve = system_resolve

    async def addresses(self) -> list[Address]:
        """At most ``MAX_ADDRESSES``, in the resolver's order. Raises ``UnreachableError`` where there is none."""
        host = self.settings.host
        try:
            found = [ip_address(text) for text in dict.fromkeys(await self.resolve(host, self.settings.port))]
        except OSError as error:
            raise UnreachableError(f"{host} cannot be resolved: {error.strerror or error}") from error
        objections = {one: self._objection(one) for one in found}
        allowed = [one for one, problem in objections.items() if not problem]
        if not allowed:
            why = "; ".join(list(objections.values())[:MAX_ADDRESSES]) or "it has no address"
            raise UnreachableError(f"{host} is not connected to: {why}")
        return allowed[:MAX_ADDRESSES]

    def _objection(self, address: Address) -> str:
        return objection(address, encrypted=self.settings.encrypted, allow_private=self.settings.allow_private)


class CheckedTransport(httpx.AsyncBaseTransport):
    """Sends requests for the receiver to its checked addresses, the next one where none answers at the first."""

    def __init__(self, gate: Gate, context: ssl.SSLContext) -> None:
        self._gate = gate
        # The number of requests at a time is the server's affair.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=8, keepalive_expiry=30.0)
        self._inner = httpx.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """As ``httpx.AsyncBaseTransport``."""
        failure: httpx.TransportError | None = None
        for address in await self._gate.addresses():
            try:
                return await self._inner.handle_async_request(self._aimed(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:  # nothing was sent yet
                failure = error
        assert failure is not None  # there is at least one address
        raise failure

    def _aimed(self, request: httpx.Request, address: Address) -> httpx.Request:
        return httpx.Request(
            request.method,
            request.url.copy_with(host=str(address)),
            headers=request.headers,  # Host among them
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": self._gate.settings.host},
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()


def tls_context(settings: WebhookSettings) -> ssl.SSLContext:
    """Who vouches for the receiver: ``ca_file``, or the system's certificates. Raises ``ConfigError``."""
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:  # SSLError, for what is no certificate, is one too
        raise ConfigError(
            f"ca_file {settings.ca_file} cannot be used: {error.strerror or error}; it has to hold certificates in PEM"
        ) from error


def words(error: Exception) -> str:
    """Why there was no answer: what lies at the bottom of an error. Of what the other side sent nothing is repeated."""
    one: BaseException | None = error
    while one is not None:
        match one:
            case FacesvcError() | UnreachableError():
                return str(one)
            case ssl.SSLCertVerificationError():
                return f"its certificate is refused, {one.verify_message.rstrip('.')}; see ca_file"
            case ssl.SSLError():
                return f"TLS failed, {one.reason or 'no reason is given'}"
            case httpx.RemoteProtocolError():
                return "it does not answer in HTTP"
            case OSError() if one.errno:
                return os.strerror(one.errno)
        one = one.__cause__ or one.__context__
    return type(error).__name__
