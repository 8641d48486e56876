"""Posts one body, signed, and says what was answered."""

import asyncio
from contextlib import suppress
from datetime import datetime

import httpx

from facesvc.events.plugin import TryLaterError
from facesvc_webhook.answers import Answer
from facesvc_webhook.cloudevents import CONTENT_TYPE
from facesvc_webhook.network import CheckedTransport, Gate, UnreachableError, tls_context, words
from facesvc_webhook.signature import HEADER, sign

MAX_ANSWER_BYTES = 64 << 10
_DRAIN_S = 1.0
_USER_AGENT = "facesvc-webhook/0.1.0"


class Sender:
    """Holds the connections to the receiver. Raises ``ConfigError`` where ``ca_file`` cannot be used."""

    def __init__(self, gate: Gate) -> None:
        self._settings = gate.settings
        self._client = httpx.AsyncClient(
            transport=CheckedTransport(gate, tls_context(gate.settings)),
            # A quarter to connect: so several addresses have their turn within the whole.
            timeout=httpx.Timeout(gate.settings.timeout_s, connect=gate.settings.timeout_s / 4),
            follow_redirects=False,
            trust_env=False,
        )

    async def post(self, body: bytes, now: datetime) -> Answer:
        """Post a CloudEvent, signed at ``now``. Raises ``TryLaterError`` where no answer came, and ``ConfigError``."""
        headers = {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": _USER_AGENT,
            HEADER: sign(body, self._settings.secrets(), int(now.timestamp())),
        }
        request = self._client.build_request("POST", self._settings.url, content=body, headers=headers)
        host, limit_s = self._settings.host, self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                response = await self._client.send(request, stream=True)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise TryLaterError(f"{host} did not answer within {limit_s:g} s") from error
        except UnreachableError as error:
            raise TryLaterError(str(error)) from error
        except httpx.TransportError as error:
            raise TryLaterError(f"{host} could not be reached: {words(error)}") from error
        try:
            await _drain(response)
        finally:
            await response.aclose()
        return Answer(response.status_code, response.headers.get("Retry-After", ""))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _drain(response: httpx.Response) -> None:
    """Read what else was answered, so that the connection can be used again; a long or slow rest is not waited for."""
    received = 0
    with suppress(httpx.TransportError, TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in response.aiter_raw():
                received += len(chunk)
                if received > MAX_ANSWER_BYTES:
                    return
