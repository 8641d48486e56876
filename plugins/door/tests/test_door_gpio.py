"""Relays at the box's own pins: a chip that is made up, behind the real package where that is installed."""

from enum import Enum
from types import SimpleNamespace
from typing import Any, Self

import pytest
from facesvc_door.drivers import RelayError
from facesvc_door.drivers.gpio import GpioDriver, GpioRelay

from facesvc.errors import ConfigError


class Value(Enum):
    INACTIVE = 0
    ACTIVE = 1


class Chip:
    """What ``gpiod`` offers of it, in memory: ``lines`` are logical values, ``settings`` how each was asked for."""

    def __init__(self) -> None:
        self.lines: dict[int, Value] = {}
        self.settings: dict[int, Any] = {}
        self.history: list[tuple[int, Value]] = []
        self.requests = 0
        self.broken = False

    def request_lines(self, path: str, *, consumer: str, config: dict[int, Any]) -> "Chip":
        assert path == "/dev/gpiochip0"
        assert consumer == "facesvc-door"
        self._look()
        self.requests += 1
        for line, how in config.items():
            self.settings[line] = how
            self.lines[line] = how.output_value if how.output_value is not None else Value.INACTIVE
            self.history.append((line, self.lines[line]))
        return self

    def _look(self) -> None:
        if self.broken:
            raise OSError(16, "Device or resource busy")

    def set_value(self, line: int, value: Value) -> None:
        self._look()
        self.lines[line] = value
        self.history.append((line, value))

    def get_value(self, line: int) -> Value:
        self._look()
        return self.lines[line]

    def release(self) -> None:
        self.lines.clear()

    def get_line_info(self, line: int) -> Any:
        self._look()
        return SimpleNamespace(used=line in self.lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def library(chip: Chip) -> Any:
    """The part of the package ``gpiod`` that the driver uses."""

    def line_settings(**how: Any) -> Any:
        return SimpleNamespace(**{"output_value": None, "active_low": False, "bias": None} | how)

    return SimpleNamespace(
        line=SimpleNamespace(
            Value=Value,
            Direction=SimpleNamespace(OUTPUT="output", INPUT="input"),
            Bias=SimpleNamespace(AS_IS="as-is", PULL_UP="up", PULL_DOWN="down", DISABLED="none"),
        ),
        LineSettings=line_settings,
        request_lines=chip.request_lines,
        Chip=lambda path: chip,
        RequestReleasedError=type("RequestReleasedError", (Exception,), {}),
    )


def driver(chip: Chip, **changes: Any) -> GpioDriver:
    given = GpioRelay.model_validate({"driver": "gpio", "line": 17, **changes})
    return GpioDriver(given, lambda: library(chip))


async def test_the_line_is_off_from_the_first_moment() -> None:
    chip = Chip()
    one = driver(chip, active_low=True)
    await one.on(3, "event")
    await one.off()
    assert chip.history == [(17, Value.INACTIVE), (17, Value.ACTIVE), (17, Value.INACTIVE)]
    assert chip.settings[17].active_low
    assert chip.settings[17].direction == "output"
    assert chip.requests == 1
    await one.close()
    assert chip.lines == {}


async def test_the_contact_is_read() -> None:
    chip = Chip()
    one = driver(chip, input_line=4, input_bias="pull-up", input_active_low=True)
    assert one.has_input
    assert not await one.is_open()
    chip.lines[4] = Value.ACTIVE
    assert await one.is_open()
    how = chip.settings[4]
    assert (how.direction, how.bias, how.active_low) == ("input", "up", True)
    await one.close()


async def test_a_line_that_is_taken_is_said() -> None:
    chip = Chip()
    one = driver(chip, input_line=4)
    chip.broken = True
    for call in (one.on(3, "event"), one.off(), one.is_open(), one.check()):
        with pytest.raises(RelayError, match="line 17 of /dev/gpiochip0: is it there, and free"):
            await call
    chip.broken = False
    assert await one.check() == "line 17 of /dev/gpiochip0 is free"
    await one.close()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gpiod", None)
    with pytest.raises(ConfigError, match=r'pip install "facesvc-door\[gpio\]"'):
        GpioDriver(GpioRelay.model_validate({"driver": "gpio", "line": 1}))


async def test_the_real_package_says_that_a_chip_is_not_there() -> None:
    pytest.importorskip("gpiod", reason="the Python package gpiod is not installed")
    one = GpioDriver(GpioRelay(driver="gpio", chip="/dev/gpiochip987", line=1, input_line=2))
    for call in (one.on(3, "event"), one.off(), one.is_open(), one.check()):
        with pytest.raises(RelayError, match="/dev/gpiochip987"):
            await call
    await one.close()


async def test_the_real_package_takes_what_it_is_asked_for() -> None:
    gpiod = pytest.importorskip("gpiod", reason="the Python package gpiod is not installed")
    chip = Chip()
    real = library(chip)
    real.line, real.LineSettings, real.RequestReleasedError = gpiod.line, gpiod.LineSettings, gpiod.RequestReleasedError
    given = GpioRelay.model_validate({"driver": "gpio", "line": 17, "input_line": 4, "input_bias": "pull-down"})
    one = GpioDriver(given, lambda: real)
    await one.on(3, "event")
    assert chip.lines[17] == gpiod.line.Value.ACTIVE
    assert chip.settings[17].output_value == gpiod.line.Value.INACTIVE
    assert chip.settings[17].direction == gpiod.line.Direction.OUTPUT
    assert chip.settings[4].bias == gpiod.line.Bias.PULL_DOWN
    chip.lines[4] = gpiod.line.Value.ACTIVE
    assert await one.is_open()
    await one.close()
