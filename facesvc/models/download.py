"""Fetches files over HTTP and believes nothing that comes: sizes are bounded, hashes checked, files there whole or not.

A try that breaks off goes on where it stopped, in this process or in a later one. httpx takes proxies from HTTP_PROXY,
HTTPS_PROXY, ALL_PROXY and NO_PROXY, and the certificates of an office's own authority from SSL_CERT_FILE.
"""

import random
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Self, TypeVar

import httpx

from facesvc import __version__
from facesvc.errors import DependencyError, WeightsError
from facesvc.models.chunks import CHUNK_BYTES, Part, Plan, copy, extent, hashes, plan, take

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there and how many there will be, if that is known."""

_Result = TypeVar("_Result")

_MAX_REDIRECTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)")
# RFC 9110, section 13.1.5: a weak entity tag does not identify bytes.
_VALIDATOR = re.compile(r'"[!-~]{1,200}"|[A-Za-z0-9,: +-]{10,40}')
_RANDOM = random.SystemRandom()
_ADVICE: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "it asks who we are; check the mirror setting",
    HTTPStatus.FORBIDDEN: "it is not for us; check the mirror setting and what the proxy lets through",
    HTTPStatus.NOT_FOUND: "there is no such file; check the name and the mirror setting",
    HTTPStatus.GONE: "the file is gone; check the name and the mirror setting",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "the proxy asks who we are; check HTTP_PROXY and HTTPS_PROXY",
}


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is in its place; ``received_bytes`` came over the network for it, those of failed tries included."""

    sha256: str
    size_bytes: int
    received_bytes: int


class _PassingError(Exception):
    """What may go by itself; the server wants to be left alone for ``wait_s``."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class _NoRangesError(Exception):
    """The server gives this file as a whole or not at all."""


class Downloader:
    """Fetches files, one at a time; a context manager.

    A file has at most ``max_bytes``. A request that fails in a way that may pass is made ``attempts`` times, and
    ``pause`` is called with the seconds between them; the timeouts are for a connection to come about and for the next
    bytes to arrive. What fails for good raises ``DependencyError``, and ``WeightsError`` where the bytes are not the
    ones that were expected. An address with http is as good as one with https only where a hash is given.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 10.0,
        read_timeout_s: float = 30.0,
        attempts: int = 5,
        pause: Callable[[float], None] = time.sleep,
        max_bytes: int = 2 << 30,
    ) -> None:
        self._attempts, self._pause, self._max_bytes = attempts, pause, max_bytes
        self._received_bytes = 0
        timeout = httpx.Timeout(read_timeout_s, connect=connect_timeout_s)
        headers = {"User-Agent": f"facesvc/{__version__}", "Accept-Encoding": "identity"}
        try:
            self._client = httpx.Client(timeout=timeout, headers=headers, trust_env=True)
        except (httpx.InvalidURL, ImportError, OSError, ValueError) as error:
            raise DependencyError(
                f"the proxy (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) or the certificates (SSL_CERT_FILE) that are set "
                f"cannot be used: {error}"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def fetch(
        self, url: str, target: Path, *, sha256: str | None, size_bytes: int | None, progress: Progress
    ) -> Fetched:
        """Puts the file at ``url`` in the place of ``target``, whose folder is there and is nobody else's meanwhile.

        Goes on with what an earlier try left. Without ``sha256`` any content is right, without ``size_bytes`` any
        length. Whatever is raised, ``target`` is as it was.
        """
        address = _address(url)
        self._check_size(target.name, size_bytes)
        before = self._received_bytes
        with Part(target, f"{url} {sha256}") as part:
            inherited = part.size_bytes
            if size_bytes is not None:
                if inherited > size_bytes:
                    part.restart(None)
                part.require_space(size_bytes - part.size_bytes)
            found = self._complete(address, part, size_bytes, progress)
            if inherited and sha256 not in (None, found):
                # What a crash of the machine left need not be what was written: it gets a second chance, from nought.
                part.restart(None)
                found = self._complete(address, part, size_bytes, progress)
            part.publish(found, sha256)
            return Fetched(found, part.size_bytes, self._received_bytes - before)

    def fetch_changed(
        self,
        url: str,
        target: Path,
        *,
        old: Path,
        chunks: Sequence[str],
        sha256: str,
        size_bytes: int,
        progress: Progress,
    ) -> Fetched:
        """As ``fetch``, but asks only for those ``chunks`` (the SHA-256 of each) that do not lie in ``old``.

        Where ``old`` has none of them, or the server gives no ranges, all is fetched. ``old`` may be ``target``.
        """
        address = _address(url)
        self._check_size(target.name, size_bytes)
        if len(chunks) != -(-size_bytes // CHUNK_BYTES):
            raise WeightsError(f"{target.name} of {size_bytes} bytes cannot have {len(chunks)} chunks")
        before = self._received_bytes
        try:
            made = plan(hashes(old), chunks)
        except OSError:
            made = Plan((), ())
        if made.copies:
            try:
                with Part(target, "") as part:
                    self._assemble(address, part, old, made, chunks, size_bytes, progress)
                    part.publish(part.sha256(), sha256)
                    return Fetched(sha256, size_bytes, self._received_bytes - before)
            except _NoRangesError:
                pass  # then as a whole
        whole = self.fetch(url, target, sha256=sha256, size_bytes=size_bytes, progress=progress)
        return replace(whole, received_bytes=self._received_bytes - before)

    def read_small(self, url: str, max_bytes: int) -> bytes:
        """What is at ``url``, at most ``max_bytes``."""
        address = _address(url)

        def attempt() -> bytes:
            content = bytearray()
            with self._answer(address, {}) as response:
                for data in self._body(response):
                    content += data
                    if len(content) > max_bytes:
                        raise DependencyError(f"{_plain(address)} has more than {max_bytes} bytes; check the address")
            return bytes(content)

        return self._persist(address, attempt)

    def _check_size(self, name: str, size_bytes: int | None) -> None:
        if size_bytes is not None and size_bytes > self._max_bytes:
            raise WeightsError(f"{name} has {size_bytes} bytes, more than the {self._max_bytes} that are allowed")

    def _complete(self, address: httpx.URL, part: Part, size_bytes: int | None, progress: Progress) -> str:
        """Fetches what ``part`` lacks; its SHA-256 then."""
        if not part.size_bytes or part.size_bytes != size_bytes:
            self._persist(address, lambda: self._go_on(address, part, size_bytes, progress))
        return part.sha256()

    def _go_on(self, address: httpx.URL, part: Part, size_bytes: int | None, progress: Progress) -> None:
        """One try to fetch what ``part`` lacks."""
        asked = {}
        if part.size_bytes and part.validator is not None:
            asked = {"Range": f"bytes={part.size_bytes}-", "If-Range": part.validator}
        with self._answer(address, asked) as response:
            total = self._place(address, part, response)
            if size_bytes is not None and total not in (None, size_bytes):
                raise WeightsError(f"{_plain(address)} has {total} bytes; expected were {size_bytes}; nothing was kept")
            total = total if size_bytes is None else size_bytes
            if total is not None:
                self._check_size(part.name, total)
                part.require_space(total - part.size_bytes)
            progress(part.size_bytes, total)
            for data in self._body(response):
                if part.size_bytes + len(data) > (self._max_bytes if total is None else total):
                    raise WeightsError(f"{_plain(address)} has more bytes than the {total or self._max_bytes} allowed")
                part.write(data)
                progress(part.size_bytes, total)
            if total is not None and part.size_bytes < total:
                raise _PassingError(f"it ended after {part.size_bytes} of {total} bytes")

    def _place(self, address: httpx.URL, part: Part, response: httpx.Response) -> int | None:
        """Makes ``part`` end where the body of ``response`` starts; the size of the whole file, if it is known."""
        validator = _validator(response)
        if response.status_code == HTTPStatus.OK:
            part.restart(validator)
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
        if response.status_code == HTTPStatus.PARTIAL_CONTENT and validator in (None, part.validator):
            start, _, total = _content_range(address, response)
            if start != part.size_bytes:
                raise _wrong_range(address, response)
            return total
        part.restart(None)
        raise _PassingError("the file changed while it was fetched")

    def _assemble(
        self,
        address: httpx.URL,
        part: Part,
        old: Path,
        made: Plan,
        chunks: Sequence[str],
        size_bytes: int,
        progress: Progress,
    ) -> None:
        """Fills ``part`` with what ``old`` has and with what is fetched."""
        part.require_space(size_bytes)
        there = copy(old, part, made)
        for run in made.runs:
            progress(there, size_bytes)
            missing = deque(run)

            def attempt(missing: deque[int] = missing) -> None:
                start, end = extent(range(missing[0], missing[-1] + 1), size_bytes)
                with self._answer(address, {"Range": f"bytes={start}-{end - 1}"}) as response:
                    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
                        raise _NoRangesError
                    first, last, total = _content_range(address, response)
                    if first != start or last >= end or total not in (None, size_bytes):
                        raise _wrong_range(address, response)
                    take(part, missing, chunks, size_bytes, self._body(response))
                if missing:
                    raise _PassingError("it ended early")

            self._persist(address, attempt)
            there += extent(run, size_bytes)[1] - extent(run, size_bytes)[0]
        progress(there, size_bytes)

    def _persist(self, address: httpx.URL, attempt: Callable[[], _Result]) -> _Result:
        """The result of ``attempt``, made again as long as what fails may pass."""
        number = 0
        while True:
            number += 1
            try:
                return attempt()
            except _PassingError as error:
                # Doubled each time, and by chance up to half of it less: not all boxes of an office come at once.
                backoff_s = _FIRST_WAIT_S * 2 ** (number - 1) * _RANDOM.uniform(0.5, 1.0)
                wait_s = max(min(backoff_s, _LONGEST_WAIT_S), error.wait_s)
                if number >= self._attempts or wait_s > _LONGEST_WAIT_S:
                    again = f"in {error.wait_s:.0f} s" if error.wait_s else "later"
                    raise DependencyError(
                        f"{_plain(address)} could not be fetched (tries: {number}): {error}; check the network, the "
                        f"mirror setting and the proxy (HTTPS_PROXY), and try again {again}"
                    ) from error
            self._pause(wait_s)

    @contextmanager
    def _answer(self, address: httpx.URL, asked: dict[str, str]) -> Iterator[httpx.Response]:
        """An answer of 200, or of 206 or 416 where a range is ``asked`` for, for the time of the block."""
        try:
            response = self._follow(address, asked)
            try:
                _judge(address, response, ranges="Range" in asked)
                yield response
            finally:
                response.close()
        except httpx.TransportError as error:
            if _is_about_a_certificate(error):
                raise DependencyError(
                    f"{_plain(address)} has a certificate that is not trusted here: {error}; name the file with your "
                    f"office's authority in SSL_CERT_FILE"
                ) from error
            raise _PassingError(str(error) or type(error).__name__) from error

    def _follow(self, address: httpx.URL, asked: dict[str, str]) -> httpx.Response:
        """The answer that redirects lead to: to https anywhere, to http only where that was asked for at first."""
        # Not left to httpx: it would read the body of each redirect, however long it is.
        request = self._client.build_request("GET", address, headers=asked)
        for _ in range(_MAX_REDIRECTS + 1):
            response = self._client.send(request, stream=True)
            if response.next_request is None:
                return response
            response.close()
            request = response.next_request
            if _address(str(request.url)).scheme not in {"https", address.scheme}:
                raise DependencyError(
                    f"{_plain(address)} redirects to {_plain(request.url)}, which is not safe; check the mirror setting"
                )
        raise DependencyError(f"{_plain(address)} redirects more than {_MAX_REDIRECTS} times; check the mirror setting")

    def _body(self, response: httpx.Response) -> Iterator[bytes]:
        # As it comes, 64 KiB at most: in pieces of a size of ours the last one would be lost when the line breaks.
        for data in response.iter_raw():
            self._received_bytes += len(data)
            yield data


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
        # As the resolver will do it: a label of a name has at most 63 bytes.
        address.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        raise DependencyError(f"{url[:200]!r} is no address: {error}; check the mirror setting") from error
    if address.scheme not in {"http", "https"} or not address.host:
        raise DependencyError(f"{url[:200]!r} is no address with http or https; check the mirror setting")
    return address


def _plain(address: httpx.URL) -> str:
    """For messages: without the password and the query, which may be as good as one."""
    return str(address.copy_with(userinfo=b"", query=None, fragment=None))


def _judge(address: httpx.URL, response: httpx.Response, *, ranges: bool) -> None:
    """Raises what an answer without the wanted bytes means."""
    status = response.status_code
    answer = f"the server answers {status} ({httpx.codes.get_reason_phrase(status) or 'unknown'})"
    if status >= 500 or status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}:
        raise _PassingError(answer, _retry_after(response))
    usable = {HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE} if ranges else set()
    if status not in {HTTPStatus.OK, *usable}:
        advice = _ADVICE.get(status, "check the mirror setting and the proxy")
        raise DependencyError(f"{_plain(address)} cannot be fetched: {answer}: {advice}")
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise DependencyError(
            f"{_plain(address)} comes encoded as {encoding[:40]!r}, which nobody asked for; check the mirror setting "
            f"and the proxy"
        )


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server wants to be left alone for; 0 where it does not say."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value[:9])
    try:
        # By the server's own clock: ours may be wrong.
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(response.headers.get("Date", ""))
        return max(wait.total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 0.0


def _validator(response: httpx.Response) -> str | None:
    """What identifies the bytes of an answer, if anything does."""
    for name in ("ETag", "Last-Modified"):
        if _VALIDATOR.fullmatch(response.headers.get(name, "")):
            return response.headers[name]
    return None


def _content_range(address: httpx.URL, response: httpx.Response) -> tuple[int, int, int | None]:
    """First and last byte of the range, and the size of the file if it is known."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        raise _wrong_range(address, response)
    first, last, total = match.groups()
    return int(first), int(last), None if total is None else int(total)


def _wrong_range(address: httpx.URL, response: httpx.Response) -> DependencyError:
    came, wanted = response.headers.get("Content-Range", "nothing")[:80], response.request.headers.get("Range")
    return DependencyError(f"{_plain(address)} gives {came!r} where {wanted!r} was asked for; check the mirror setting")


def _is_about_a_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
