"""A relay that is none: it says in the log what it would do. For trying out."""

from typing import Literal

import structlog

from facesvc_door.drivers.driver import Table

_log = structlog.get_logger(__name__)


class LogRelay(Table):
    """``[plugins.door.doors.NAME.relay]`` of a door that is not there yet."""

    driver: Literal["log"]


class LogDriver:
    """Does nothing, and says so."""

    has_input = False

    def __init__(self, door: str) -> None:
        self._door = door

    async def on(self, seconds: float, reference: str) -> None:
        """Say it."""
        _log.info("the relay would go on", door=self._door, seconds=seconds, reference=reference)

    async def off(self) -> None:
        """Say it."""
        _log.info("the relay would go off", door=self._door)

    async def is_open(self) -> bool | None:
        """Nobody knows."""
        return None

    async def check(self) -> str:
        """There is nothing to reach."""
        return "only writes to the log; no relay is switched"

    async def close(self) -> None:
        """There is nothing to let go of."""
