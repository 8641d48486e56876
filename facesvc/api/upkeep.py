"""What the server does by itself from time to time, whoever calls it or not."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog

from facesvc.api import audit, consent, keys, plugins
from facesvc.api.service import Service
from facesvc.errors import DependencyError

# Time for those who wait to be served first.
FIRST_S = 5.0
_INTERVAL_S = 3600.0

_WORK: tuple[Callable[[Service, datetime], Awaitable[None]], ...] = (
    keys.resume,
    consent.erase_expired,
    audit.forget_old,
    plugins.forget_old,
)

_log = structlog.get_logger(__name__)


async def run(service: Service) -> None:
    """Do it soon, and then once an hour, until it is cancelled."""
    await asyncio.sleep(FIRST_S)
    while True:
        await once(service, service.now())
        await asyncio.sleep(_INTERVAL_S)


async def once(service: Service, now: datetime) -> None:
    """All of it; what fails is tried again the next time."""
    for work in _WORK:
        try:
            await work(service, now)
        except DependencyError as error:
            _log.warning("upkeep has to wait", error=error.message, reason=error.reason)
        except Exception:  # noqa: BLE001 - a bug of ours must not keep the rest from being done
            _log.exception("upkeep failed")
