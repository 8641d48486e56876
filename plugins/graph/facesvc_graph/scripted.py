"""A Graph for tests and demonstrations: people, calls that are counted, and failures on demand, on real sockets.

It is as strict as the real one about what this plugin may get wrong: at most 650 ids and 20 parts, four requests to
Outlook at once, the documented throttles by the clock it is given, tokens, permissions, and presence only by object id.
"""

import asyncio
import base64
import json
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from pydantic import JsonValue

from facesvc_graph.scripted_http import Request, Response, Server, request_of
from facesvc_graph.scripted_people import OPERATIONS, ScriptedUser, operation_of

TENANT = "scripted.example"
CLIENT_ID = "11111111-2222-3333-4444-555555555555"
SECRET = "scripted"  # noqa: S105 - of a server that knows nobody
ROLES = frozenset({"User.Read.All", "Presence.Read.All", "Presence.ReadWrite.All", "Calendars.Read"})
# Requests in a time: https://learn.microsoft.com/graph/throttling-limits
PRESENCE_LIMIT = (1500, timedelta(seconds=30))
OUTLOOK_LIMIT = (10_000, timedelta(minutes=10))
OUTLOOK_AT_ONCE = 4


@dataclass(slots=True)
class Failure:
    """An answer in place of the right one, so many times (None: until ``mend``)."""

    status: int
    times: int | None = 1
    retry_after: str | None = None
    code: str = "Scripted"
    user: str = ""
    """Only for this user; empty: any."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class ScriptedGraph:
    """Graph and Entra in one. ``certificate``: PEM with its key, of 127.0.0.1."""

    certificate: Path
    now: Callable[[], datetime] = _now
    people: dict[str, ScriptedUser] = field(default_factory=dict)
    """By object id."""
    roles: frozenset[str] = ROLES
    """Of the tokens that are given from now on."""
    calls: Counter[str] = field(default_factory=Counter)
    """Operations, those in batches too; ``batch`` counts the batches, ``token`` the tokens."""
    sessions: dict[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    """Own presence sessions, by object id."""
    outage: bool = False
    """Connections are closed without an answer."""
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    outlook_peak: int = 0
    throttled: int = 0
    turns: int = 1
    """Of the event loop, that an operation takes."""
    shuffle: bool = True
    """Parts of a batch come back in another order."""
    _tokens: dict[str, frozenset[str]] = field(default_factory=dict)
    _recent: dict[str, deque[datetime]] = field(default_factory=lambda: {"presence": deque(), "outlook": deque()})
    _outlook: int = 0
    _server: Server | None = None

    async def start(self) -> None:
        """Listen; where it listened before, on the same port."""
        self._server = self._server or Server(self._answer, self.certificate)
        await self._server.start()

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            await self._server.stop()

    @property
    def url(self) -> str:
        """``https://127.0.0.1:PORT``."""
        assert self._server is not None
        return f"https://127.0.0.1:{self._server.port}"

    def settings(self, ca_file: Path, **changes: Any) -> dict[str, Any]:
        """What stands in ``[plugins.graph]`` to ask this Graph, but for the secret, which is ``SECRET``."""
        return {
            "tenant_id": TENANT,
            "client_id": CLIENT_ID,
            "authority": f"{self.url}/{TENANT}",
            "base_url": self.url,
            "ca_file": str(ca_file),
            **changes,
        }

    def add(self, user: ScriptedUser) -> ScriptedUser:
        """Somebody new."""
        self.people[user.id.lower()] = user
        return user

    def fail(self, operation: str, failure: Failure) -> None:
        """From now on an operation of ``scripted_people.OPERATIONS``, "batch" or "token" fails."""
        if operation not in OPERATIONS | {"batch", "token"}:
            raise ValueError(f"no such operation: {operation}")
        self.failures.setdefault(operation, []).append(failure)

    def mend(self) -> None:
        """Nothing fails any more."""
        self.failures.clear()
        self.outage = False

    def revoke(self) -> None:
        """Tokens that were given are not good any more."""
        self._tokens.clear()

    async def _answer(self, request: Request) -> Response | None:
        if self.outage:
            return None
        if request.path == f"/{TENANT}/v2.0/.well-known/openid-configuration":
            return self._configuration()
        if request.path == f"/{TENANT}/oauth2/v2.0/token":
            return self._token(request)
        return await self._graph(request)

    async def _graph(self, request: Request) -> Response:
        roles = self._tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if roles is None:
            return error(401, "InvalidAuthenticationToken")
        if not request.path.startswith("/v1.0/"):
            return error(404, "UnknownVersion")
        if request.path == "/v1.0/$batch":
            return await self._batch(request, roles)
        return await self._operation(request, request.path.removeprefix("/v1.0"), roles)

    def _configuration(self) -> Response:
        base = f"{self.url}/{TENANT}"
        return Response(
            200,
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            },
        )

    def _token(self, request: Request) -> Response:
        self.calls["token"] += 1
        if (failed := self._failed("token", "")) is not None:
            return failed
        given = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if given.get("client_id") != CLIENT_ID or not str(given.get("scope", "")).endswith("/.default"):
            return Response(400, {"error": "invalid_client", "error_description": "AADSTS700016: no such application"})
        if not given.get("client_assertion", "ey").startswith("ey"):
            return Response(401, {"error": "invalid_client", "error_description": "AADSTS50027: Invalid JWT token"})
        if given.get("client_secret", SECRET) != SECRET or not ({"client_secret", "client_assertion"} & given.keys()):
            return Response(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid secret"})
        roles: list[JsonValue] = [*sorted(self.roles)]
        claims: dict[str, JsonValue] = {
            "roles": roles,
            "jti": str(self.calls["token"]),
            "aud": "https://graph.microsoft.com",
        }
        token = ".".join((_base64url({"alg": "none"}), _base64url(claims), "scripted"))
        self._tokens[token] = self.roles
        return Response(200, {"token_type": "Bearer", "expires_in": 3600, "access_token": token})

    async def _batch(self, request: Request, roles: frozenset[str]) -> Response:
        self.calls["batch"] += 1
        if (failed := self._failed("batch", "")) is not None:
            return failed
        requests = request.json().get("requests")
        if not isinstance(requests, list) or not 0 < len(requests) <= 20:
            return error(400, "BadRequest")
        parts = [one for one in requests if isinstance(one, dict)]
        answers = await asyncio.gather(*(self._part(one, roles) for one in parts))
        responses: list[JsonValue] = [
            {
                "id": one["id"],
                "status": answer.status,
                "headers": {**answer.headers},
                "body": base64.b64encode(answer.body).decode() if isinstance(answer.body, bytes) else answer.body,
            }
            for one, answer in zip(parts, answers, strict=True)
        ]
        return Response(200, {"responses": responses[::-1] if self.shuffle else responses})

    async def _part(self, one: Mapping[str, JsonValue], roles: frozenset[str]) -> Response:
        given = one.get("headers")
        headers = {str(name): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
        body = json.dumps(one["body"]).encode() if "body" in one else b""
        part = request_of(str(one["method"]), str(one["url"]), headers, body)
        return await self._operation(part, part.path, roles)

    async def _operation(self, request: Request, path: str, roles: frozenset[str]) -> Response:
        operation = operation_of(request.method, path)
        if operation is None:
            return error(400, "BadRequest")
        self.calls[operation.name] += 1
        if (failed := self._failed(operation.name, operation.user)) is not None:
            return failed
        if not roles.intersection(operation.permissions):
            return error(403, "Authorization_RequestDenied")
        if operation.kind == "outlook":
            self._outlook += 1
            self.outlook_peak = max(self.outlook_peak, self._outlook)
        try:
            for _ in range(self.turns):  # whatever else was sent at the same time begins as well
                await asyncio.sleep(0)
            if self._throttles(operation.kind):
                self.throttled += 1
                return error(429, "ApplicationThrottled")
            return operation.answer(self.people, self.sessions, request)
        finally:
            self._outlook -= operation.kind == "outlook"

    def _throttles(self, kind: str) -> bool:
        if kind not in self._recent:
            return False
        most, time = PRESENCE_LIMIT if kind == "presence" else OUTLOOK_LIMIT
        recent, now = self._recent[kind], self.now()
        while recent and recent[0] <= now - time:
            recent.popleft()
        recent.append(now)
        return len(recent) > most or (kind == "outlook" and self._outlook > OUTLOOK_AT_ONCE)

    def _failed(self, operation: str, user: str) -> Response | None:
        for failure in self.failures.get(operation, []):
            if failure.times != 0 and failure.user in {"", user}:
                failure.times = None if failure.times is None else failure.times - 1
                headers = {} if failure.retry_after is None else {"Retry-After": failure.retry_after}
                return error(failure.status, failure.code, headers)
        return None


def error(status: int, code: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as Graph tells it."""
    inner: JsonValue = {"request-id": "00000000-0000-0000-0000-000000000000", "date": "2026-01-01T00:00:00"}
    return Response(status, {"error": {"code": code, "message": "scripted", "innerError": inner}}, headers or {})


def _base64url(value: JsonValue) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
