"""Whoever the company's identity provider vouches for: a JWT of its, for this server, with a role.

After RFC 7519 (JWT), RFC 8725 (its best current practice) and RFC 9068 (access tokens). The signature is checked first;
until then only the header is read, whose key and algorithm have to be of those that are known. Issuer and audience are
one each, stated in the settings. Times are the provider's, in seconds since 1970.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt

from facesvc.errors import ForbiddenError, UnauthenticatedError
from facesvc.security.jwks import Published
from facesvc.security.principals import VOUCHED, Principal
from facesvc.security.roles import Role

MAX_BYTES = 8 << 10
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES = ("jwt", "at+jwt")
_MAX_NAME = 100
_UNUSUAL = re.compile(r"[^A-Za-z0-9._@-]")
_LAST_SECOND = 2**37  # in the year 6325: no sum with it is past what a datetime holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a JWT has to be like.

    ``roles``: by the values of the claim; whoever has several of them gets the role of the first in this order.
    """

    issuer: str
    audience: str
    algorithms: frozenset[str]
    roles: Mapping[str, Role]
    roles_claim: str = "roles"
    name_claim: str = "sub"
    leeway: timedelta = timedelta(seconds=30)
    max_age: timedelta = timedelta(days=1)


def is_jwt(text: str) -> bool:
    """Whether what somebody shows has the form of a JWT, which no token of this server has."""
    return text.count(".") == 2


class Oidc:
    """Knows people by JWTs of the identity provider; ``find`` never blocks."""

    def __init__(self, terms: Terms, published: Published, now: Callable[[], datetime]) -> None:
        self._terms = terms
        self._now = now
        self.published = published

    def find(self, text: str) -> Principal:
        """Whoever a JWT is for.

        Raises ``UnauthenticatedError`` where it is not good, ``ForbiddenError`` where it gives no role, and
        ``UnavailableError`` while there are no keys to tell by.
        """
        claims = self._verified(text)
        if claims.get("iss") != self._terms.issuer:
            raise _refused(f"is of another issuer ({_shown(claims.get('iss'))}) than the one that is trusted here")
        audience = claims.get("aud")
        if self._terms.audience not in (audience if isinstance(audience, list) else [audience]):
            raise _refused(f"is for another audience ({_shown(audience)}) than this server")
        expire_time = self._check_times(claims)
        return Principal(name=self._name(claims), role=self._role(claims), expire_time=expire_time)

    def is_live(self, principal: Principal) -> bool:
        """Whether somebody who was found before is still vouched for."""
        return principal.expire_time is None or self._now() < principal.expire_time

    def _verified(self, text: str) -> dict[str, Any]:
        """What is signed. Raises ``UnauthenticatedError``, ``UnavailableError``."""
        if len(text) > MAX_BYTES:
            raise _refused(f"has more than {MAX_BYTES} bytes")
        if not _FORM.fullmatch(text):
            raise _refused("has not the form of one")
        header, content, signature = (_decoded(part) for part in text.split("."))
        algorithm, key_id = self._checked_header(_object(header))
        key = self.published.find(key_id, algorithm)
        if key is None:
            raise _refused("names a key that the identity provider does not publish; if it is new, come again soon")
        # Not by jwt.decode(), which asks the clock itself, and takes six times as long to look at the letters.
        if not jwt.get_algorithm_by_name(algorithm).verify(text.rpartition(".")[0].encode(), key.key, signature):
            raise _refused("has a wrong signature")
        return _object(content)

    def _checked_header(self, header: Mapping[str, Any]) -> tuple[str, str]:
        """The algorithm and the id of the key; whatever else is there (jku, x5u, jwk) is not looked at."""
        algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
        if not (isinstance(algorithm, str) and algorithm in self._terms.algorithms):
            taken = ", ".join(sorted(self._terms.algorithms))
            raise _refused(f"is signed by {_shown(algorithm)}; taken are {taken}")
        if not (isinstance(kind, str) and kind.lower().removeprefix("application/") in _TYPES):
            raise _refused(f"is of the type {_shown(kind)}; taken are JWT and at+jwt")
        if "crit" in header or "b64" in header:
            raise _refused("has critical extensions (crit, b64), of which none is known here")
        if not (isinstance(key_id, str) and key_id):
            raise _refused("names no key (kid)")
        return algorithm, key_id

    def _check_times(self, claims: Mapping[str, Any]) -> datetime:
        """When it is over. Raises ``UnauthenticatedError``."""
        terms, now = self._terms, self._now()
        expiry, issued = _time(claims, "exp"), _time(claims, "iat")
        begin = _time(claims, "nbf") if "nbf" in claims else issued
        if now >= expiry + terms.leeway:
            raise _refused(f"expired at {expiry:%Y-%m-%d %H:%M:%S} UTC: get a new one")
        if max(issued, begin) > now + terms.leeway:
            raise _refused("is of the future: compare the clocks of this server and of the identity provider")
        if expiry - issued > terms.max_age:
            raise _refused(f"holds for {expiry - issued}, and at most {terms.max_age} are taken")
        return expiry + terms.leeway

    def _name(self, claims: Mapping[str, Any]) -> str:
        """As it stands in the audit log: of the letters of a token's name, and never one's or a certificate's."""
        claim = self._terms.name_claim
        name = claims.get(claim)
        if not (isinstance(name, str) and name):
            raise _refused(f"does not say for whom it is: it has no {claim}")
        usual = _UNUSUAL.sub("_", name[:_MAX_NAME])
        # Two who differ only in letters that cannot stand there are still two.
        return f"{VOUCHED}{usual}" if usual == name else f"{VOUCHED}{usual}~{_digest(name)}"

    def _role(self, claims: Mapping[str, Any]) -> Role:
        """The one of the first line of the settings that fits."""
        claim = self._terms.roles_claim
        found = _at(claims, claim)
        given = found if isinstance(found, list) else [found]
        role = next((role for value, role in self._terms.roles.items() if value in given), None)
        if role is None:
            raise ForbiddenError(
                f"the identity provider gives you no role on this server: no {claim} of the JWT is one"
            )
        return role


def _at(claims: Mapping[str, Any], claim: str) -> object:
    """A claim by its name, or, as of Keycloak, by a way to it: ``resource_access.facesvc.roles``."""
    if claim in claims:
        return claims[claim]
    found: object = claims
    for part in claim.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _time(claims: Mapping[str, Any], claim: str) -> datetime:
    value = claims.get(claim)
    # JSON of Python knows NaN and Infinity, which no comparison lets through, and booleans are numbers to it.
    if isinstance(value, bool) or not (isinstance(value, int | float) and 0 <= value <= _LAST_SECOND):
        what = {"exp": "when it is over", "iat": "when it was issued"}.get(claim, "from when on it is good")
        raise _refused(f"does not say {what} ({claim})")
    return datetime.fromtimestamp(value, UTC)


def _decoded(part: str) -> bytes:
    """base64url in its one form: the same signature is not shown in two ways (RFC 4648, 3.5)."""
    try:
        content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError as error:
        raise _refused("cannot be read") from error
    if base64.urlsafe_b64encode(content).rstrip(b"=") != part.encode():
        raise _refused("cannot be read")
    return content


def _object(content: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _refused("cannot be read") from error
    if not isinstance(claims, dict):
        raise _refused("cannot be read")
    return claims


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]


def _refused(why: str) -> UnauthenticatedError:
    return UnauthenticatedError(f"this JWT {why}")


def _shown(value: object) -> str:
    """For messages: text as it is, or several, clipped."""
    texts = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    return f"{', '.join(texts)!a:.100}" if texts else "none"
