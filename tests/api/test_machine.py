"""How hot it is, and the task that steps up and down the ladder."""

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from facesvc.api import machine
from facesvc.api.machine import Regulator, temperature
from facesvc.api.workers import Workers
from facesvc.stream.ladder import Ladder

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def sensor(folder: Path, number: int, content: str | bytes) -> Path:
    """A zone as Linux shows it."""
    file = folder / f"thermal_zone{number}" / "temp"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_the_hottest_sensor_counts(tmp_path: Path) -> None:
    for number, content in enumerate(("41000\n", "73500\n", "-12000\n")):
        sensor(tmp_path, number, content)
    sensor(tmp_path / "thermal_zone0", 9, "99000\n")  # not where sensors are
    (tmp_path / "cooling_device0").mkdir()
    (tmp_path / "cooling_device0" / "temp").write_text("99000")
    assert temperature(tmp_path) == 73.5


@pytest.mark.parametrize("content", ["", "warm", "150000", "-40000", "-273150", "1" * 5000, b"\xff", "4.5e4", "\x00"])
def test_nonsense_is_not_believed(tmp_path: Path, content: str | bytes) -> None:
    sensor(tmp_path, 0, content)
    assert temperature(tmp_path) is None
    sensor(tmp_path, 1, "20000")
    assert temperature(tmp_path) == 20


def test_where_there_is_no_sensor_it_is_not_known(tmp_path: Path) -> None:
    assert temperature(tmp_path / "nowhere") is None
    (tmp_path / "thermal_zone0" / "temp").mkdir(parents=True)  # cannot be read
    (tmp_path / "thermal_zone1").symlink_to(tmp_path / "gone")
    assert temperature(tmp_path) is None


class Clock:
    def __init__(self) -> None:
        self.seconds = 50.0

    def __call__(self) -> float:
        return self.seconds


async def test_heat_is_regulated_and_every_change_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A logger that an earlier test has used keeps that test's standard error.
    monkeypatch.setattr(machine, "_log", structlog.get_logger())
    clock = Clock()
    workers = Workers(1, 1, clock)
    regulator = Regulator(Ladder(85.0), workers, lambda: T0, clock, tmp_path)
    file = sensor(tmp_path, 0, "91000")

    async def seconds(count: int) -> None:
        for _ in range(count):
            await regulator.look()
            clock.seconds += 1

    with capture_logs() as logs:
        await seconds(10)
        assert regulator.temperature_celsius == 91
        assert regulator.rung.step == 1
        file.write_text("60000")
        await seconds(10)
    workers.close()
    assert regulator.rung.step == 0
    common = {"log_level": "info", "busy": 0.0, "waited_seconds": 0.0}
    assert logs == [
        {
            **common,
            "event": "doing less",
            "step": 1,
            "measures": "looks 1.5 times less often",
            "reason": "at 91 degrees it is over the 85 allowed",
            "temperature_celsius": 91.0,
        },
        {
            **common,
            "event": "doing more",
            "step": 0,
            "measures": "full service",
            "reason": "busy only 0% of the time",
            "temperature_celsius": 60.0,
        },
    ]


async def test_workers_that_are_busy_and_waited_for_are_relieved(tmp_path: Path) -> None:
    """Real workers; only the time is the test's."""
    clock = Clock()
    workers = Workers(1, 8, clock)
    regulator = Regulator(Ladder(85.0), workers, lambda: T0, clock, tmp_path)
    for _ in range(6):
        gate = threading.Event()
        busy = asyncio.create_task(workers.run(gate.wait, 30))
        waits = asyncio.create_task(workers.run(int))
        await asyncio.sleep(0)
        for _ in range(4):
            clock.seconds += 1
            await regulator.look()
        gate.set()
        await asyncio.gather(busy, waits)
    assert regulator.rung.step > 0
    assert regulator.temperature_celsius is None
    assert "frames waited" in regulator.ladder.reason
    workers.close()


async def test_it_looks_at_once_and_until_it_is_cancelled(tmp_path: Path) -> None:
    sensor(tmp_path, 0, "50000")
    looked = asyncio.Event()

    def clock() -> float:
        looked.set()
        return 0.0

    workers = Workers(1, 1)
    regulator = Regulator(Ladder(85.0), workers, lambda: T0, clock, tmp_path)
    task = asyncio.create_task(regulator.run())
    await looked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert regulator.temperature_celsius == 50
    workers.close()
