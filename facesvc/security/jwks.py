"""The keys that an identity provider publishes: fetched in the background, and kept while it is away.

Where they are is said by its discovery document (OpenID Connect Discovery 1.0); what they are, by RFC 7517. A key is
found by its id and the algorithm together, and only under the algorithms that its kind is for: what a JWT says of its
algorithm cannot make another one of it (RFC 8725, 3.1). What comes is bounded, and comes from the one address asked.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import structlog

from facesvc.errors import ConfigError, DependencyError, UnavailableError

MAX_BYTES = 256 << 10
MAX_KEYS = 64
_MAX_KEY_ID = 256
_RSA_BITS = range(2048, 8192 + 1)  # at least what NIST SP 800-131A asks for; a larger one would take its time
_TIMEOUT_S = 10.0
_REFRESH_S = 900.0
_SHORTEST_WAIT_S = 30.0
"""Between two tries: of a provider that is away, and for all those together who show keys that nobody knows."""
_LONGEST_USE_S = 86_400.0
_DISCOVERY = "/.well-known/openid-configuration"

# By kty and crv: what a key may be used with, and the members that make the public one (RFC 7518, 6; RFC 8037, 2).
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_FITTING: Mapping[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("RSA", ""): (_RSA, ("kty", "n", "e")),
    ("EC", "P-256"): (("ES256",), ("kty", "crv", "x", "y")),
    ("EC", "P-384"): (("ES384",), ("kty", "crv", "x", "y")),
    ("EC", "P-521"): (("ES512",), ("kty", "crv", "x", "y")),
    ("OKP", "Ed25519"): (("EdDSA",), ("kty", "crv", "x")),
}

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""By the id of a key and an algorithm that it may be used with."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the keys come from. ``jwks_url`` empty: the provider says; ``ca_file`` None: authorities of the system."""

    issuer: str
    jwks_url: str = ""
    ca_file: Path | None = None
    algorithms: frozenset[str]


class Published:
    """The keys of a provider as they were last seen. ``find`` is for the event loop that ``run`` is on, and waits not.

    Raises ``ConfigError`` where the file of authorities cannot be used.
    """

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._trust = trust(source)
        self._keys: Keys = {}
        self._seen: float | None = None
        self._tried = clock()
        self._problem = "it has not been asked yet"
        self._wanted = asyncio.Event()

    def find(self, key_id: str, algorithm: str) -> jwt.PyJWK | None:
        """A key; None where it is not known, and then soon looked for. Raises ``UnavailableError`` without any."""
        if self._seen is None or self._clock() - self._seen > _LONGEST_USE_S:
            message = "the identity provider's keys could not be fetched: come again, or use a token of this server"
            raise UnavailableError(message, reason="IDENTITY_PROVIDER_AWAY")
        found = self._keys.get((key_id, algorithm))
        # Once for all who ask in that time: whoever invents ids does not make us hammer the provider.
        if found is None and self._clock() - self._tried >= _SHORTEST_WAIT_S:
            self._wanted.set()
        return found

    async def run(self) -> None:
        """Fetch them, from time to time and when one is wanted, until it is cancelled."""
        while True:
            await self.refresh()
            with suppress(TimeoutError):
                async with asyncio.timeout(_SHORTEST_WAIT_S if self._problem else _REFRESH_S):
                    await self._wanted.wait()

    async def refresh(self) -> None:
        """Fetch them once; where that fails, those of before stay."""
        self._tried = self._clock()
        self._wanted.clear()
        try:
            keys = await fetch(self._source, self._trust)
        except DependencyError as error:
            self._failed(error.message)
        except Exception as error:  # noqa: BLE001 - a bug of ours must not keep new keys away for ever
            self._failed(f"this should not happen: {error!r}")
        else:
            if self._problem or keys.keys() != self._keys.keys():
                _log.info("keys of the identity provider", keys=sorted(" ".join(key) for key in keys))
            self._keys, self._seen, self._problem = keys, self._clock(), ""

    def _failed(self, problem: str) -> None:
        if problem != self._problem:  # said once, and not each time
            _log.warning("the identity provider's keys could not be fetched", problem=problem)
        self._problem = problem


def trust(source: Source) -> ssl.SSLContext:
    """Whom to trust. Raises ``ConfigError``."""
    try:
        if source.ca_file is not None:
            return ssl.create_default_context(cafile=source.ca_file)
        return httpx.create_ssl_context()
    except (OSError, ssl.SSLError) as error:
        where = f"oidc.ca_file {source.ca_file}" if source.ca_file else "the file in SSL_CERT_FILE"
        raise ConfigError(f"{where} cannot be used: {error}") from error


async def fetch(source: Source, context: ssl.SSLContext) -> Keys:
    """The keys, now. Raises ``DependencyError`` in words."""
    # Plain text is for a provider on this machine; that is not to go by way of a proxy.
    is_plain = urlsplit(source.jwks_url or source.issuer).scheme == "http"
    client = httpx.AsyncClient(
        verify=context,
        timeout=_TIMEOUT_S,
        follow_redirects=False,
        trust_env=not is_plain,
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S), client:
            url = source.jwks_url or await _discover(client, source.issuer)
            document = await _get(client, url)
    except TimeoutError as error:
        raise DependencyError(f"the provider {source.issuer} did not answer within {_TIMEOUT_S:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        told = str(error) or type(error).__name__
        raise DependencyError(f"the provider {source.issuer} cannot be reached: {told[:300]}") from error
    return read(document, url, source.algorithms)


async def _discover(client: httpx.AsyncClient, issuer: str) -> str:
    """Where the provider says that its keys are. Raises ``DependencyError``."""
    where = issuer.rstrip("/") + _DISCOVERY
    document = await _get(client, where)
    named = document.get("issuer")
    if named != issuer:
        raise DependencyError(f"{where} is of the issuer {_shown(named)}, and not of {issuer!a}: compare oidc.issuer")
    url = document.get("jwks_uri")
    if not (isinstance(url, str) and _is_safe(url, plain=issuer.startswith("http:"))):
        raise DependencyError(f"{where} says that its keys are at {_shown(url)}, which is no safe address")
    return url


def _is_safe(url: str, *, plain: bool) -> bool:
    """Whether it is https, or, where that is so already, this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and "@" not in parts.netloc and (parts.scheme == "https" or (plain and _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    """What is at an address: an object of JSON. Raises ``DependencyError``."""
    async with client.stream("GET", url) as response:
        if response.is_redirect:
            raise DependencyError(
                f"{url} redirects, which is not followed: set oidc.issuer or oidc.jwks_url to the end"
            )
        if response.status_code != httpx.codes.OK:
            raise DependencyError(f"{url} answers with the status {response.status_code}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise DependencyError(f"{url} answers in an encoding that nobody asked for")
        content = bytearray()
        async for chunk in response.aiter_raw():
            content += chunk
            if len(content) > MAX_BYTES:
                raise DependencyError(f"{url} answers with more than {MAX_BYTES} bytes")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DependencyError(f"{url} answers with something that is no JSON") from error
    if not isinstance(document, dict):
        raise DependencyError(f"{url} answers with JSON that is no object")
    return document


def read(document: Mapping[str, Any], where: str, algorithms: frozenset[str]) -> Keys:
    """The keys of a set that verify signatures by ``algorithms``; others are passed over. ``DependencyError``."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise DependencyError(f"{where} is no set of keys")
    if len(listed) > MAX_KEYS:
        raise DependencyError(f"{where} has {len(listed)} keys, more than {MAX_KEYS}")
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    for one in listed:
        if isinstance(one, dict):
            for key_id, algorithm, key in _uses(one, algorithms):
                found.setdefault((key_id, algorithm), key)
    if not found:
        raise DependencyError(f"{where} has no key, with an id, for {', '.join(sorted(algorithms))}")
    return MappingProxyType(found)


def _uses(data: dict[str, Any], algorithms: frozenset[str]) -> list[tuple[str, str, jwt.PyJWK]]:
    """What a key is good for: nothing where it is symmetric, for encryption, weak, or a mistake."""
    key_id, operations = data.get("kid"), data.get("key_ops", ["verify"])
    if not (isinstance(key_id, str) and 1 <= len(key_id) <= _MAX_KEY_ID):
        return []
    if data.get("use", "sig") != "sig" or not (isinstance(operations, list) and "verify" in operations):
        return []
    kind = (str(data.get("kty")), str(data.get("crv", "")))
    fitting, members = _FITTING.get(kind, ((), ()))
    # Of the members that make the public key alone: one that was published with its private half is not to be trusted.
    public = {name: data.get(name) for name in members}
    if "d" in data or not all(isinstance(value, str) for value in public.values()):
        return []
    wanted = [name for name in fitting if name in algorithms and data.get("alg", name) == name]
    try:
        keys = [(key_id, name, jwt.PyJWK(public, name)) for name in wanted]
    except (jwt.PyJWTError, ValueError):
        return []
    return [use for use in keys if kind[0] != "RSA" or use[2].key.key_size in _RSA_BITS]


def _shown(value: object) -> str:
    return f"{value!a:.200}" if isinstance(value, str) else "none"
