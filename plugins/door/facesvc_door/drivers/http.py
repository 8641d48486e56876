"""Relays with an HTTP interface, such as Shelly's: a URL for on, one for off, maybe one that tells an input.

The URL for on carries the length of the pulse, so that the relay goes off by itself even when this box is dead. No
redirects, no proxies of the environment, no cookies: a request goes where the settings say, or nowhere.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Generator
from pathlib import Path
from string import Formatter
from typing import Annotated, Literal
from urllib.parse import quote

import httpx
from pydantic import AfterValidator, Field, model_validator

from facesvc.errors import ConfigError
from facesvc.events import secrets
from facesvc_door.drivers.driver import RelayError, Table

MAX_ANSWER_BYTES = 64 << 10
CONNECT_TIMEOUT_S = 5.0
_PLACES = frozenset({"seconds", "milliseconds", "event_id"})


def _places(url: str) -> set[str]:
    """Names of the places in a template. Raises ``ValueError``."""
    found = {name for _, name, form, turned in Formatter().parse(url) if name is not None or form or turned}
    if any(name is None or name not in _PLACES for name in found) or "{seconds:" in url or "!" in url:
        raise ValueError("a URL has no places but {seconds}, {milliseconds} and {event_id}")
    return {name for name in found if name}


def _url(url: str) -> str:
    _places(url)
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise ValueError("this is no URL") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.fragment or not _port(parsed):
        raise ValueError("a relay's URL begins with http:// or https:// and names a host, and maybe a port")
    if parsed.userinfo:
        raise ValueError("a URL carries no password: set auth, username and password")
    return url


def _port(url: httpx.URL) -> int:
    """Where it leads; 0 for a port that is none."""
    port = url.port or (443 if url.scheme == "https" else 80)
    return port if port < 1 << 16 else 0


Url = Annotated[str, Field(max_length=2000), AfterValidator(_url)]


class HttpRelay(Table):
    """``[plugins.door.doors.NAME.relay]`` of a relay with an HTTP interface."""

    driver: Literal["http"]
    on_url: Url
    """With {seconds} or {milliseconds} for the length of the pulse; {event_id} where the relay wants to know."""
    off_url: Url
    method: Literal["GET", "POST", "PUT"] = "GET"
    """Of the requests that switch."""
    auth: Literal["none", "basic", "digest", "bearer"] = "none"
    username: str = Field("", max_length=200)
    password: secrets.Secret = ""
    """Where the password, or the bearer token, is."""
    ca_file: str = Field("", max_length=4096)
    """Certificates that the relay's is signed by; empty: those of the system."""
    input_url: Url | Literal[""] = ""
    """What tells whether the door stands open, as JSON; empty: nothing does."""
    input_field: str = Field("state", pattern=r"^[A-Za-z0-9_:-]+(\.[A-Za-z0-9_:-]+)*$", max_length=200)
    """Where in it, with dots between the names."""
    input_open: bool = True
    """The value that means open."""

    @model_validator(mode="after")
    def _whole(self) -> "HttpRelay":
        if not _places(self.on_url) & {"seconds", "milliseconds"}:
            raise ValueError("on_url has to carry the length of the pulse: {seconds} or {milliseconds}")
        if _places(self.off_url) or _places(self.input_url):
            raise ValueError("off_url and input_url have no places to fill in")
        if (self.auth != "none") != bool(self.password) or (self.auth in {"basic", "digest"}) != bool(self.username):
            raise ValueError("auth basic and digest need username and password, bearer a password, none neither")
        return self


class _Bearer(httpx.Auth):
    """Not a header of the client: that would be shown with it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the token."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class HttpDriver:
    """One relay, and one client with its connections."""

    def __init__(self, settings: HttpRelay) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(
            auth=_auth(settings), verify=_verify(settings), trust_env=False, follow_redirects=False
        )

    @property
    def has_input(self) -> bool:
        """Whether there is a URL that tells."""
        return bool(self._settings.input_url)

    async def on(self, seconds: float, reference: str) -> None:
        """Ask for the URL for on, with the pulse's length in it."""
        url = self._settings.on_url.format(
            seconds=f"{seconds:g}", milliseconds=str(round(seconds * 1000)), event_id=quote(reference, safe="")
        )
        await self._ask(self._settings.method, url, "on")

    async def off(self) -> None:
        """Ask for the URL for off."""
        await self._ask(self._settings.method, self._settings.off_url, "off")

    async def is_open(self) -> bool | None:
        """Ask for the URL of the input; its answer has to be JSON with true or false in the right place."""
        body = await self._ask("GET", self._settings.input_url, "input")
        try:
            value = json.loads(body)
            for name in self._settings.input_field.split("."):
                value = value[name]
        except (ValueError, KeyError, TypeError, RecursionError):
            value = None
        if not isinstance(value, bool):
            raise RelayError(f"the relay's answer about its input has no true or false at {self._settings.input_field}")
        return value == self._settings.input_open

    async def check(self) -> str:
        """Read the input; without one, only connect."""
        if self.has_input:
            return f"answers; the door is {'open' if await self.is_open() else 'closed'}"
        url = httpx.URL(self._settings.off_url)
        port = _port(url)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(url.host, port)
        except (OSError, TimeoutError) as error:
            raise RelayError(f"the relay at {url.host}:{port} cannot be reached: {type(error).__name__}") from error
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return f"{url.host}:{port} can be reached; without input_url nothing more can be asked without switching it"

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def _ask(self, method: str, url: str, what: str) -> bytes:
        """The body of the answer. Raises ``RelayError`` unless the answer is a 2xx of a bearable size."""
        try:
            async with self._client.stream(method, url) as answer:
                if not answer.is_success:
                    hint = "; redirects are not followed" if answer.is_redirect else ""
                    raise RelayError(f"the relay answered {what} with status {answer.status_code}{hint}")
                body = b""
                async for part in answer.aiter_bytes(8192):
                    body += part
                    if len(body) > MAX_ANSWER_BYTES:
                        raise RelayError(f"the relay answered {what} with more than {MAX_ANSWER_BYTES} bytes")
                return body
        except httpx.HTTPError as error:
            raise RelayError(f"the relay could not be asked for {what}: {type(error).__name__}") from error


def _auth(settings: HttpRelay) -> httpx.Auth | None:
    if settings.auth == "none":
        return None
    password = secrets.read(settings.password)
    if settings.auth == "bearer":
        if not (password.isascii() and password.isprintable()):
            raise ConfigError(f"the token {settings.password} has characters that no header can carry")
        return _Bearer(password)
    if settings.auth == "digest":
        return httpx.DigestAuth(settings.username, password)
    return httpx.BasicAuth(settings.username, password)


def _verify(settings: HttpRelay) -> ssl.SSLContext | bool:
    if not settings.ca_file:
        return settings.on_url.startswith("https:") or settings.off_url.startswith("https:")
    try:
        return ssl.create_default_context(cafile=str(Path(settings.ca_file)))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {settings.ca_file} cannot be used: {error}") from error
