"""Outputs of OSDP readers and controllers (IEC 60839-11-5) on a serial line, through libosdp (the package ``libosdp``).

This box is the control panel, the device at the door the peripheral. Only its secure channel is used: without a key
anybody with access to the two wires could open the door. A pulse is the device's own timed output, so it ends even when
this box is dead. What the device says of its inputs it says by itself; it is not asked, as libosdp leaves a device that
does not know the question alone for five minutes.
"""

import asyncio
import contextlib
import importlib
import math
import os
import re
import termios
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Literal

from pydantic import Field

from facesvc.errors import ConfigError
from facesvc.events import secrets
from facesvc_door.drivers.driver import RelayError, Table

# Control codes of osdp_OUT: off for good, and on for a while, then back.
_OFF, _ON_FOR_A_WHILE = 1, 5
_TENTH_S = 0.1  # the unit of its timer, which has 16 bits
_POLL_S = 0.02
_CALL_AGAIN_S = 5.0
"""libosdp leaves a device that went away alone for minutes; so often it is called all the same."""
_SPEEDS = {9600: termios.B9600, 19200: termios.B19200, 38400: termios.B38400, 57600: termios.B57600}
_SPEEDS |= {115200: termios.B115200, 230400: termios.B230400}


class OsdpRelay(Table):
    """``[plugins.door.doors.NAME.relay]`` of a relay at an OSDP device."""

    driver: Literal["osdp"]
    serial_port: str = Field(pattern=r"^/dev/[A-Za-z0-9_./:-]+$", max_length=200)
    """The line; one device a line."""
    baud_rate: Literal[9600, 19200, 38400, 57600, 115200, 230400] = 9600
    address: int = Field(ge=0, le=126)
    """The device's."""
    output: int = Field(0, ge=0, le=63)
    """Which of its outputs is the relay."""
    key: secrets.Secret = Field(min_length=1)
    """Where the key of the secure channel (SCBK) is: 32 hexadecimal digits."""
    input: int | None = Field(None, ge=0, le=63)
    """Which of its inputs is the door's contact; none: there is none."""
    input_open: bool = True
    """Whether an active input means open."""


def load_osdp() -> ModuleType:
    """The package ``osdp``. Raises ``ConfigError`` where it is not installed."""
    try:
        found = importlib.import_module("osdp")
    except ImportError as error:
        raise ConfigError('OSDP is not available: it needs libosdp, pip install "facesvc-door[osdp]"') from error
    if not hasattr(found, "LibFlag"):  # another package, called osdp, has a module of this name too
        raise ConfigError("OSDP is not available: pip uninstall osdp, which is in the way, and install libosdp again")
    return found


class OsdpDriver:
    """A control panel of one device. libosdp works in a thread of its own, begun with the first call."""

    def __init__(self, settings: OsdpRelay, load: Callable[[], Any] = load_osdp) -> None:
        self._settings = settings
        self._osdp = load()
        self._key = _key(settings.key)
        self._panel: Any = None
        self._port = -1
        self._open: bool | None = None
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._called_at = 0.0

    @property
    def has_input(self) -> bool:
        """Whether one of its inputs is the door's contact."""
        return self._settings.input is not None

    async def on(self, seconds: float, reference: str) -> None:  # noqa: ARG002 - as Driver has it
        """Tell the device to switch on for a while."""
        await self._tell(_ON_FOR_A_WHILE, min(math.ceil(seconds / _TENTH_S), 0xFFFF))

    async def off(self) -> None:
        """Tell the device to switch off."""
        await self._tell(_OFF, 0)

    async def is_open(self) -> bool | None:
        """What the device said last."""
        if not self._started().is_sc_active(self._settings.address):
            self._open = None  # what changes meanwhile it will not tell
            raise RelayError("the OSDP device does not answer")
        return self._open

    async def check(self) -> str:
        """See whether the line is there; a second control panel on it would disturb the first."""
        try:
            os.close(os.open(self._settings.serial_port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
        except OSError as error:
            raise RelayError(f"{self._settings.serial_port} cannot be opened: {error.strerror}") from error
        return f"{self._settings.serial_port} is there; whether the device answers shows when the server runs"

    async def close(self) -> None:
        """End the thread and let go of the line."""
        panel, self._panel = self._panel, None
        if panel is not None:
            await asyncio.to_thread(panel.teardown)
        if self._port >= 0:
            os.close(self._port)
            self._port = -1

    async def _tell(self, code: int, tenths: int) -> None:
        """Returns when the device has confirmed it; one at a time, as ``gate`` does it."""
        await self._secured()
        command = {
            "command": self._osdp.Command.Output,
            "output_no": self._settings.output,
            "control_code": code,
            "timer_count": tenths,
        }
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[code] = done
        try:
            if not self._panel.submit_command(self._settings.address, command):
                raise RelayError("the OSDP device takes no command now")
            if await done != self._osdp.CompletionStatus.Ok:
                raise RelayError("the OSDP device refused the command, or went away")
        finally:
            # Whoever gave up leaves nothing behind that would reach the device later.
            if not done.done() or done.cancelled():
                with contextlib.suppress(Exception):
                    self._panel.flush_commands(self._settings.address)
            self._waiting.pop(code, None)

    async def _secured(self) -> None:
        """Wait for the secure channel; the caller bounds the time. A device that was given up is called anew."""
        panel, address = self._started(), self._settings.address
        time = asyncio.get_running_loop().time
        if not panel.is_sc_active(address) and time() - self._called_at > _CALL_AGAIN_S:
            self._called_at = time()
            panel.disable_pd(address)
            while panel.is_pd_enabled(address):  # noqa: ASYNC110 - libosdp tells nobody
                await asyncio.sleep(_POLL_S)
            panel.enable_pd(address)
        while not panel.is_sc_active(address):  # noqa: ASYNC110 - likewise
            await asyncio.sleep(_POLL_S)

    def _started(self) -> Any:
        if self._panel is None:
            self._port = _opened(self._settings)
            loop = asyncio.get_running_loop()
            library = self._osdp
            device = library.PDInfo(
                self._settings.address,
                _channel(library, self._port),
                scbk=self._key,
                flags=[library.LibFlag.EnforceSecure],
            )
            self._panel = library.ControlPanel(
                [device],
                log_level=library.LogLevel.Critical,
                event_handler=lambda _, event: _soon(loop, partial(self._heard, event)),
                command_completion_handler=lambda _, command, status: _soon(
                    loop, partial(self._confirmed, command, status)
                ),
            )
            self._panel.start()
            self._called_at = loop.time()
        return self._panel

    def _heard(self, event: dict[str, Any]) -> None:
        osdp, place = self._osdp, self._settings.input
        is_input = event.get("event") == osdp.Event.Status and event.get("type") == osdp.StatusReportType.Input
        report = event.get("report", b"")
        if is_input and place is not None and place < len(report):
            self._open = bool(report[place]) == self._settings.input_open

    def _confirmed(self, command: dict[str, Any], status: int) -> None:
        done = self._waiting.get(command.get("control_code", 0))
        if done is not None and not done.done():
            done.set_result(status)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> int:
    """From libosdp's thread to the loop's; 0 tells libosdp that all is well."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(call)
    return 0


def _channel(library: Any, port: int) -> Any:
    class Line(library.Channel):  # type: ignore[misc]  # the base is known at run time only
        def __init__(self) -> None:
            self.id = port

        def read(self, max_bytes: int) -> bytes:
            try:
                return os.read(port, max_bytes)
            except OSError:
                return b""

        def write(self, buf: bytes) -> int:
            try:
                return os.write(port, buf)
            except OSError:
                return 0

        def flush(self) -> None:
            with contextlib.suppress(termios.error):
                termios.tcflush(port, termios.TCIFLUSH)

    return Line()


def _opened(settings: OsdpRelay) -> int:
    """The serial line: 8 bits, no parity, nothing translated."""
    try:
        port = os.open(settings.serial_port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError as error:
        raise RelayError(f"{settings.serial_port} cannot be opened: {error.strerror}") from error
    try:
        speed = _SPEEDS[settings.baud_rate]
        special = termios.tcgetattr(port)[6]
        special[termios.VMIN], special[termios.VTIME] = 0, 0
        flags = termios.CS8 | termios.CREAD | termios.CLOCAL
        termios.tcsetattr(port, termios.TCSANOW, [0, 0, flags, 0, speed, speed, special])
    except termios.error as error:
        os.close(port)
        raise RelayError(f"{settings.serial_port} is no serial line") from error
    return port


def _key(place: str) -> bytes:
    text = secrets.read(place)
    if not re.fullmatch(r"[0-9a-fA-F]{32}", text):
        raise ConfigError(f"the key {place} of the OSDP device is not 32 hexadecimal digits")
    return bytes.fromhex(text)
