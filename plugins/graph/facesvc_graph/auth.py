"""Tokens of Microsoft Entra for the app itself (client credentials), from MSAL.

MSAL is synchronous, so it works in a thread. It keeps the token and fetches a new one when that runs out. Its requests
go through httpx, like all others here: one rule of trust, one time limit, one bound on what is read. It is not asked to
verify the host of the authority with the public cloud: hosts are those of our table, or the administrator's own.
"""

import asyncio
import base64
import binascii
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import msal  # type: ignore[import-untyped]  # msal publishes no types

from facesvc.errors import ConfigError, FacesvcError
from facesvc.events.plugin import TryLaterError
from facesvc_graph.settings import GraphSettings
from facesvc_graph.text import printable

MAX_ANSWER_BYTES = 1 << 20


def trust(settings: GraphSettings) -> ssl.SSLContext:
    """Whom to trust. Raises ``ConfigError`` where the file cannot be read."""
    if settings.ca_file is None:
        return httpx.create_ssl_context()
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"ca_file {settings.ca_file} cannot be used: {error}") from error


@dataclass(frozen=True, slots=True)
class _Answer:
    """What MSAL reads of an answer."""

    status_code: int
    text: str
    headers: Mapping[str, str]

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise TryLaterError(f"the sign-in of Microsoft answered {self.status_code}")


class _Http:
    """What MSAL asks of an HTTP client."""

    def __init__(self, settings: GraphSettings) -> None:
        self._client = httpx.Client(verify=trust(settings), timeout=settings.timeout)

    def get(self, url: str, params: Any = None, headers: Any = None, **_: Any) -> _Answer:
        return self._send(self._client.build_request("GET", url, params=params or None, headers=headers))

    def post(self, url: str, params: Any = None, data: Any = None, headers: Any = None, **_: Any) -> _Answer:
        given = {name: value for name, value in (data or {}).items() if value is not None}
        # Not httpx's own encoding: MSAL's assertion is bytes, of which httpx would write "b'…'".
        body = urlencode(given).encode()
        form = {**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"}
        return self._send(self._client.build_request("POST", url, params=params or None, content=body, headers=form))

    def close(self) -> None:
        self._client.close()

    def _send(self, request: httpx.Request) -> _Answer:
        answer = self._client.send(request, stream=True)
        try:
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > MAX_ANSWER_BYTES:
                    raise TryLaterError(f"the sign-in of Microsoft answered with more than {MAX_ANSWER_BYTES} bytes")
            return _Answer(answer.status_code, content.decode(errors="replace"), answer.headers)
        finally:
            answer.close()


class Tokens:
    """The token of the app, for any number of callers on one event loop."""

    def __init__(self, settings: GraphSettings) -> None:
        self._settings = settings
        self._lock = asyncio.Lock()
        self._http: _Http | None = None
        self._app: Any = None

    async def token(self) -> str:
        """A token that is good now.

        Raises ``TryLaterError`` where Entra cannot be reached or gives none: whoever mends the secret wants the work
        done that waited for it. ``ConfigError`` where the settings cannot be used.
        """
        async with self._lock:
            return await asyncio.to_thread(self._fetch)

    async def renew(self, refused: str) -> str:
        """Another token than one that Graph refused; of all who were refused the same, one fetches it."""
        async with self._lock:
            return await asyncio.to_thread(self._fetch, refused)

    async def close(self) -> None:
        """Let go of the connection; the next token opens another."""
        async with self._lock:
            if self._http is not None:
                self._http.close()
            self._app = self._http = None

    def _fetch(self, refused: str = "") -> str:
        try:
            if self._app is None:
                self._app = self._make()
            answer = self._app.acquire_token_for_client(scopes=[self._settings.scope()])
            if refused and answer.get("access_token") == refused:
                self._app.remove_tokens_for_client()
                answer = self._app.acquire_token_for_client(scopes=[self._settings.scope()])
        except httpx.HTTPError as error:
            raise TryLaterError(
                f"the sign-in {self._settings.sign_in()} cannot be reached ({type(error).__name__}: {error})"
            ) from error
        except FacesvcError:
            raise
        except Exception as error:  # MSAL lets out whatever an answer makes it stumble over
            raise TryLaterError(f"{self._settings.sign_in()} is no sign-in: {printable(str(error), 300)}") from error
        token = answer.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            if not isinstance(answer.get("error"), str):
                self._app = None  # no answer of Entra's: MSAL keeps what it found there, and stumbles over it
            raise TryLaterError(_refusal(answer))
        return token

    def _make(self) -> Any:
        credential = self._settings.credential()
        self._http = self._http or _Http(self._settings)
        return msal.ConfidentialClientApplication(
            self._settings.client_id,
            client_credential=credential,
            authority=self._settings.sign_in(),
            instance_discovery=False,
            http_client=self._http,
        )


def _refusal(answer: Mapping[str, Any]) -> str:
    """Why there is no token, and what to do; MSAL's codes are those of https://aka.ms/aadsts."""
    told = printable(str(answer.get("error_description") or answer.get("error") or "no reason given"), 300)
    advice = {
        "AADSTS7000215": "the client secret is wrong: write its value, not its id",
        "AADSTS7000222": "the client secret has run out: make a new one in the app registration",
        "AADSTS700016": "the tenant has no such application: compare client_id and tenant_id",
        "AADSTS90002": "there is no such tenant: compare tenant_id and cloud",
        "AADSTS700027": "the certificate is not that of the app registration: upload it there",
    }
    more = next((f"; {text}" for code, text in advice.items() if f"{code}:" in told), "")
    return f"Microsoft Entra gives no token ({told}){more}"


def roles_of(token: str) -> frozenset[str] | None:
    """The application permissions that a token names; None where it does not say. Only to tell, not to trust."""
    try:
        middle = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
        roles = claims.get("roles", [])
    except (IndexError, AttributeError, ValueError, binascii.Error, RecursionError):
        return None
    return frozenset(one for one in roles if isinstance(one, str)) if isinstance(roles, list) else None
