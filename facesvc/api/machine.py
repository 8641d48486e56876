"""The box itself: how hot it is, and the task that does less where it is too hot or has too much to do."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import structlog

from facesvc.api.workers import Workers
from facesvc.stream.ladder import Ladder, Rung

SENSORS = Path("/sys/class/thermal")
"""Where Linux shows its sensors (https://docs.kernel.org/driver-api/thermal/sysfs-api.html)."""
# Between these a sensor is believed; one that is not connected tells the ends of its range.
_COLDEST, _HOTTEST = -40.0, 150.0
_INTERVAL_S = 1.0

_log = structlog.get_logger(__name__)


def temperature(sensors: Path = SENSORS) -> float | None:
    """Degrees Celsius of the hottest sensor; None where there is none that can be read and believed. May block."""
    return max(
        (celsius for file in sensors.glob("thermal_zone*/temp") if (celsius := _celsius(file)) is not None),
        default=None,
    )


def _celsius(file: Path) -> float | None:
    """A file of millidegrees."""
    with suppress(OSError, ValueError):
        celsius = int(file.read_text("ascii")) / 1000
        return celsius if _COLDEST < celsius < _HOTTEST else None
    return None


@dataclass(slots=True)
class Regulator:
    """Watches load and heat, and keeps the rung that streams go by. Belongs on the event loop of the workers."""

    ladder: Ladder
    workers: Workers
    now: Callable[[], datetime]
    clock: Callable[[], float]
    """Seconds of a clock that never goes back."""
    sensors: Path = SENSORS
    temperature_celsius: float | None = field(default=None, init=False)
    """As it was at the last look."""

    @property
    def rung(self) -> Rung:
        """The one in force."""
        return self.ladder.rung

    async def run(self) -> None:
        """Look once a second, until it is cancelled."""
        while True:
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the rung stays as it is, and the next second is another try
                _log.exception("the load could not be looked at")
            await asyncio.sleep(_INTERVAL_S)

    async def look(self) -> None:
        """Measure, and change the rung where that is due."""
        # In a thread: some sensors answer after a conversation with the firmware.
        self.temperature_celsius = await asyncio.to_thread(temperature, self.sensors)
        load, before = self.workers.load(), self.rung
        rung = self.ladder.update(load.busy, load.waited_s, self.temperature_celsius, self.clock(), self.now())
        if rung is not before:
            _log.info(
                "doing less" if rung.step > before.step else "doing more",
                step=rung.step,
                measures=rung.measures,
                reason=self.ladder.reason,
                busy=round(load.busy, 3),
                waited_seconds=round(load.waited_s, 3),
                temperature_celsius=self.temperature_celsius,
            )
