"""Relays at the box's own pins, through libgpiod (the package ``gpiod``, imported only where it is configured).

The kernel keeps a line as it is while its request lives; whether it falls back when the process dies is up to the
chip, so a relay here should be one that is off while its pin floats.
"""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from facesvc.errors import ConfigError
from facesvc_door.drivers.driver import RelayError, Table


class GpioRelay(Table):
    """``[plugins.door.doors.NAME.relay]`` of a relay at a pin of this box."""

    driver: Literal["gpio"]
    chip: str = Field("/dev/gpiochip0", pattern=r"^/dev/[A-Za-z0-9_/-]+$", max_length=200)
    line: int = Field(ge=0, le=1023)
    """Offset of the relay's line on the chip."""
    active_low: bool = False
    """Whether the relay is on while the pin is low."""
    input_line: int | None = Field(None, ge=0, le=1023)
    """Offset of the line of the door's contact; none: there is none."""
    input_active_low: bool = False
    """Whether the contact is open while the pin is low."""
    input_bias: Literal["as-is", "pull-up", "pull-down", "disabled"] = "as-is"


def load_gpiod() -> ModuleType:
    """The package ``gpiod``. Raises ``ConfigError`` where it is not installed."""
    try:
        return importlib.import_module("gpiod")
    except ImportError as error:
        raise ConfigError('a relay at a GPIO line needs the package gpiod: pip install "facesvc-door[gpio]"') from error


class GpioDriver:
    """One line out and maybe one in. A call is a single ioctl of some microseconds, so it may run on the loop."""

    def __init__(self, settings: GpioRelay, load: Callable[[], Any] = load_gpiod) -> None:
        self._settings = settings
        self._gpiod = load()
        self._lines: Any = None

    @property
    def has_input(self) -> bool:
        """Whether there is a line in."""
        return self._settings.input_line is not None

    async def on(self, seconds: float, reference: str) -> None:  # noqa: ARG002 - as Driver has it
        """Set the line; the kernel has no timer for it."""
        self._set(self._gpiod.line.Value.ACTIVE)

    async def off(self) -> None:
        """Set the line."""
        self._set(self._gpiod.line.Value.INACTIVE)

    async def is_open(self) -> bool | None:
        """Read the line in."""
        try:
            value = self._requested().get_value(self._settings.input_line)
        except (OSError, ValueError, self._gpiod.RequestReleasedError) as error:
            raise RelayError(self._failed("read")) from error
        return bool(value == self._gpiod.line.Value.ACTIVE)

    async def check(self) -> str:
        """Ask the chip about the line, without taking it."""
        try:
            with self._gpiod.Chip(self._settings.chip) as chip:
                info = chip.get_line_info(self._settings.line)
        except (OSError, ValueError) as error:
            raise RelayError(self._failed("look at")) from error
        return f"line {self._settings.line} of {self._settings.chip} is {'in use' if info.used else 'free'}"

    async def close(self) -> None:
        """Release the lines."""
        if self._lines is not None:
            self._lines.release()
            self._lines = None

    def _set(self, value: Any) -> None:
        try:
            self._requested().set_value(self._settings.line, value)
        except (OSError, ValueError, self._gpiod.RequestReleasedError) as error:
            raise RelayError(self._failed("set")) from error

    def _requested(self) -> Any:
        """The lines, taken the first time, the relay's as off."""
        if self._lines is None:
            line = self._gpiod.line
            config = {
                self._settings.line: self._gpiod.LineSettings(
                    direction=line.Direction.OUTPUT,
                    active_low=self._settings.active_low,
                    output_value=line.Value.INACTIVE,
                )
            }
            if self._settings.input_line is not None:
                config[self._settings.input_line] = self._gpiod.LineSettings(
                    direction=line.Direction.INPUT,
                    active_low=self._settings.input_active_low,
                    bias=getattr(line.Bias, self._settings.input_bias.replace("-", "_").upper()),
                )
            self._lines = self._gpiod.request_lines(self._settings.chip, consumer="facesvc-door", config=config)
        return self._lines

    def _failed(self, what: str) -> str:
        return f"could not {what} line {self._settings.line} of {self._settings.chip}: is it there, and free?"
