"""The requests of a call, read once its caller is known: none is parsed that was not paid for, or waited for long.

To gRPC every call looks like one whose requests are a stream; on the wire there is no difference. Otherwise it would
read the request of a call before anybody has asked who calls, and wait for it without an end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from facesvc.errors import DeadlineError, InputError


class Requests:
    """An iterator of messages. ``weigh`` is told the size of each before it is parsed, ``check`` is shown it then.

    Both may refuse it by raising. Raises ``DeadlineError`` with ``reason`` after ``silence_s`` without a message.
    """

    def __init__(
        self,
        raw: AsyncIterator[bytes],
        parse: Callable[[bytes], Any],
        *,
        weigh: Callable[[int], None],
        check: Callable[[Any], None],
        silence_s: float,
        reason: str,
    ) -> None:
        self._raw = raw
        self._parse = parse
        self._weigh = weigh
        self._check = check
        self._silence_s = silence_s
        self._reason = reason

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        try:
            async with asyncio.timeout(self._silence_s):
                data = await anext(self._raw)
        except TimeoutError:
            message = f"no message came within {self._silence_s:g} s: the call is ended"
            raise DeadlineError(message, reason=self._reason) from None
        self._weigh(len(data))
        try:
            message = self._parse(data)
        except DecodeError:
            raise InputError("this is no request of this call: use the proto files of the server's version") from None
        self._check(message)
        return message

    async def only(self) -> Any:
        """The one request of a call that has one. Raises ``InputError`` where there is none."""
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise InputError("the call came without its request") from None
