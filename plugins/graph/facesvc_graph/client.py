"""Requests to Microsoft Graph: direct or in batches, and leaving it alone when it asks.

- At most 20 parts go in a batch, of them at most 4 to Outlook, and one batch with Outlook parts at a time: Outlook runs
  four requests of an app at once. Parts come back in any order, each with a status of its own.
- Who is told to wait does: until the time that ``Retry-After`` names, or for a backoff of our own that doubles. Until
  then parts of that workload are answered here. Nothing sleeps in this file.
- A token that is refused is renewed once. After a permission was missing the next token is a new one, now and then:
  what an administrator grants meanwhile stands in no token from before.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import httpx
from pydantic import JsonValue

from facesvc.errors import FacesvcError
from facesvc.events.plugin import TryLaterError
from facesvc_graph.auth import Tokens, trust
from facesvc_graph.replies import Part, Reply, Workload, parsed, reply_of
from facesvc_graph.settings import GraphSettings

MAX_PARTS = 20
MAX_OUTLOOK_PARTS = 4
MAX_BYTES = 8 << 20
FIRST_BACKOFF = timedelta(seconds=5)
MAX_BACKOFF = timedelta(minutes=5)
GRANT_INTERVAL = timedelta(minutes=10)

_BATCH = Part("POST", "/$batch", Workload.DIRECTORY, "")


@dataclass(slots=True)
class _Hold:
    """Until when a workload is left alone, and how often in a row it asked for that."""

    until: datetime | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    content: JsonValue | bytes


class Client:
    """Microsoft Graph, for any number of callers on one event loop. ``calls`` counts requests, by workload."""

    def __init__(
        self,
        settings: GraphSettings,
        now: Callable[[], datetime],
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._root = settings.root()
        self._now = now
        self._chance = chance
        self.tokens = Tokens(settings)
        self._http = httpx.AsyncClient(verify=trust(settings), timeout=settings.timeout)
        self._outlook = asyncio.Lock()
        self._holds = {workload: _Hold() for workload in Workload}
        self._granted = now()  # since when it is known what the app may do
        self._lacks = False
        self.calls: Counter[str] = Counter()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()
        await self.tokens.close()

    async def send(self, parts: Sequence[Part]) -> list[Reply]:
        """An answer for each part, in their order. Raises nothing: what went wrong stands in the replies."""
        replies: list[Reply | None] = [self._held(part) for part in parts]
        for chunk in _chunks(parts, [i for i, reply in enumerate(replies) if reply is None]):
            if any(parts[i].workload is Workload.OUTLOOK for i in chunk):
                async with self._outlook:
                    await self._fill(replies, parts, chunk)
            else:
                await self._fill(replies, parts, chunk)
        return [reply or Reply(error=TryLaterError("Microsoft Graph was not asked")) for reply in replies]

    async def _fill(self, replies: list[Reply | None], parts: Sequence[Part], places: Sequence[int]) -> None:
        """Send the parts at some places, but those whose workload meanwhile asked to be left alone."""
        for i in places:
            replies[i] = self._held(parts[i])
        free = [i for i in places if replies[i] is None]
        for i, reply in zip(free, await self._some([parts[i] for i in free]), strict=True):
            replies[i] = reply

    async def _some(self, parts: Sequence[Part]) -> list[Reply]:
        """One request for a few parts, or none."""
        if not parts:
            return []
        try:
            if len(parts) == 1 and not parts[0].named:
                return [await self._direct(parts[0])]
            return await self._batch(parts)
        except FacesvcError as error:
            return [Reply(error=error)] * len(parts)

    async def _direct(self, part: Part) -> Reply:
        answer = await self._exchange(part)
        return self._judged(part, answer)

    async def _batch(self, parts: Sequence[Part], *, renewed: bool = False) -> list[Reply]:
        requests: list[JsonValue] = [_request(i, part) for i, part in enumerate(parts)]
        answer = await self._exchange(replace(_BATCH, body={"requests": requests}))
        if answer.status != 200:
            return [self._judged(part, answer) for part in parts]
        answers = _answers(answer.content, len(parts))
        refused = [i for i, one in enumerate(answers) if one is not None and one.status == 401]
        replies = [
            self._judged(part, one) if one is not None else Reply(error=TryLaterError("a batch left a part out"))
            for part, one in zip(parts, answers, strict=True)
        ]
        if refused and not renewed:
            await self.tokens.renew(await self.tokens.token())
            for i, reply in zip(refused, await self._batch([parts[i] for i in refused], renewed=True), strict=True):
                replies[i] = reply
        return replies

    def _judged(self, part: Part, answer: _Answer) -> Reply:
        """The reply for a part; and its workload is left alone from now on where that was asked for."""
        reply = reply_of(part, answer.status, answer.headers, answer.content, self._now())
        self._lacks |= answer.status == 403
        hold = self._holds[part.workload]
        if answer.status not in {429, 503}:
            if answer.status < 400:
                hold.failures = 0
            return reply
        assert isinstance(reply.error, TryLaterError)
        wait = reply.error.after
        if self._held(part) is None:  # of all who are refused at the same time the first counts
            hold.failures += 1
        if wait is None:
            wait = min(FIRST_BACKOFF * 2 ** min(hold.failures - 1, 10), MAX_BACKOFF) * (0.75 + 0.5 * self._chance())
        until = self._now() + wait
        hold.until = until if hold.until is None else max(hold.until, until)
        return Reply(error=TryLaterError(reply.error.message, after=wait))

    def _held(self, part: Part) -> Reply | None:
        """The answer for a part whose workload is to be left alone."""
        until = self._holds[part.workload].until
        rest = until - self._now() if until is not None else timedelta()
        if rest <= timedelta():
            return None
        return Reply(
            error=TryLaterError(
                f"Microsoft Graph asked to be left alone about {part.workload.value} for another"
                f" {rest.total_seconds():.0f} s",
                after=rest,
            )
        )

    async def _exchange(self, part: Part) -> _Answer:
        """A request of its own; with a new token where the first is refused. Raises ``TryLaterError``."""
        self.calls[part.workload.value if part.path != _BATCH.path else "batch"] += 1
        token = await self.tokens.token()
        if self._lacks and self._now() - self._granted >= GRANT_INTERVAL:
            self._lacks, self._granted = False, self._now()
            token = await self.tokens.renew(token)
        answer = await self._once(part, token)
        if answer.status == 401:
            answer = await self._once(part, await self.tokens.renew(token))
        return answer

    async def _once(self, part: Part, token: str) -> _Answer:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, image/*"}
        if part.prefer:
            headers["Prefer"] = part.prefer
        try:
            async with self._http.stream(
                part.method, self._root + part.path, headers=headers, json=part.body
            ) as answer:
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_BYTES:
                        raise TryLaterError(f"Microsoft Graph answered with more than {MAX_BYTES} bytes")
                body_of = parsed(bytes(content), answer.headers.get("content-type", ""))
                return _Answer(answer.status_code, answer.headers, body_of)
        except httpx.HTTPError as error:
            raise TryLaterError(f"Microsoft Graph cannot be reached ({type(error).__name__}: {error})") from error


def _chunks(parts: Sequence[Part], places: Sequence[int]) -> Iterator[list[int]]:
    """Places of parts that go together: at most 20, of them at most 4 to Outlook."""
    chunk: list[int] = []
    outlook = 0
    for place in places:
        is_outlook = parts[place].workload is Workload.OUTLOOK
        if len(chunk) == MAX_PARTS or (is_outlook and outlook == MAX_OUTLOOK_PARTS):
            yield chunk
            chunk, outlook = [], 0
        chunk.append(place)
        outlook += is_outlook
    if chunk:
        yield chunk


def _request(number: int, part: Part) -> dict[str, JsonValue]:
    headers: dict[str, JsonValue] = {}
    if part.prefer:
        headers["Prefer"] = part.prefer
    if part.body is not None:
        headers["Content-Type"] = "application/json"
    request: dict[str, JsonValue] = {"id": str(number), "method": part.method, "url": part.path}
    return request | ({"headers": headers} if headers else {}) | ({"body": part.body} if part.body is not None else {})


def _answers(content: JsonValue | bytes, count: int) -> list[_Answer | None]:
    """The answers of a batch by the places of their parts; None where one is missing."""
    found: list[_Answer | None] = [None] * count
    responses = content.get("responses") if isinstance(content, dict) else None
    for one in responses if isinstance(responses, list) else []:
        if not isinstance(one, dict):
            continue
        number, status, headers = one.get("id"), one.get("status"), one.get("headers")
        if not (
            isinstance(number, str)
            and number.isascii()
            and number.isdigit()
            and len(number) <= 2
            and int(number) < count
        ):
            continue
        if isinstance(status, int):
            named = {str(name): str(value) for name, value in headers.items()} if isinstance(headers, dict) else {}
            found[int(number)] = _Answer(status, named, one.get("body"))
    return found
