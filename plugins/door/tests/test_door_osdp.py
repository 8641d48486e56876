"""OSDP: libosdp's control panel against its own peripheral device, over a pseudo terminal."""

import asyncio
import os
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from door_making import ANA, Hourglass, door, settings, until
from facesvc_door import DoorPlugin
from facesvc_door.drivers import RelayError
from facesvc_door.drivers.osdp import OsdpDriver, OsdpRelay

from facesvc.delivery.kit import MemoryBox, delivery, seen
from facesvc.errors import ConfigError

KEY = "00112233445566778899aabbccddeeff"
ADDRESS, OUTPUT, INPUT = 5, 1, 2
OFF, ON_FOR_A_WHILE = 1, 5


class Device:
    """A reader with a relay at the other end of the line; ``told``: control code and timer of each command."""

    def __init__(self, osdp: Any, key: str = KEY) -> None:
        self.osdp = osdp
        self.told: list[tuple[int, int, int]] = []
        self.refusing = False
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        master = self._master

        class Line(osdp.Channel):  # type: ignore[misc]  # known at run time only
            def __init__(self) -> None:
                self.id = master

            def read(self, max_bytes: int) -> bytes:
                try:
                    return os.read(master, max_bytes)
                except OSError:
                    return b""

            def write(self, buf: bytes) -> int:
                try:
                    return os.write(master, buf)
                except OSError:
                    return 0

            def flush(self) -> None:
                pass

        able = [(osdp.Capability.OutputControl, 1, 4), (osdp.Capability.ContactStatusMonitoring, 1, 4)]
        able.append((osdp.Capability.CommunicationSecurity, 1, 1))
        self._device = osdp.PeripheralDevice(
            osdp.PDInfo(ADDRESS, Line(), scbk=bytes.fromhex(key), flags=[osdp.LibFlag.EnforceSecure]),
            osdp.PDCapabilities(able),
            log_level=osdp.LogLevel.Emergency,
            command_handler=self._handle,
        )
        self._device.start()

    def _handle(self, command: dict[str, Any]) -> tuple[int, Any]:
        if self.refusing:
            return -1, None
        if command["command"] == self.osdp.Command.Output:
            self.told.append((command["output_no"], command["control_code"], command["timer_count"]))
        return 0, None

    def say(self, *inputs: int) -> None:
        """Report the inputs, as it does when one has changed."""
        event = {"event": self.osdp.Event.Status, "type": self.osdp.StatusReportType.Input, "report": bytes(inputs)}
        assert self._device.submit_event(event)

    def end(self) -> None:
        self._device.teardown()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def device() -> Iterator[Device]:
    osdp = pytest.importorskip("osdp", reason="the Python package libosdp is not installed")
    one = Device(osdp)
    yield one
    one.end()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSDP_KEY", KEY)


def relay(port: str, **changes: Any) -> dict[str, Any]:
    given = {"driver": "osdp", "serial_port": port, "address": ADDRESS, "output": OUTPUT, "key": "env:OSDP_KEY"}
    return given | {"baud_rate": 115200} | changes


def driver(port: str, **changes: Any) -> OsdpDriver:
    return OsdpDriver(OsdpRelay.model_validate(relay(port, **changes)))


async def test_the_output_is_on_for_so_long_by_the_device_itself(device: Device) -> None:
    one = driver(device.port)
    await one.off()
    await one.on(2.55, "event")
    assert device.told == [(OUTPUT, OFF, 0), (OUTPUT, ON_FOR_A_WHILE, 26)]
    await one.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "cp"]


async def test_what_the_device_says_of_its_inputs_is_heard(device: Device) -> None:
    one = driver(device.port, input=INPUT)
    await one.off()
    assert await one.is_open() is None
    device.say(0, 0, 1, 0)
    async with asyncio.timeout(20):
        while await one.is_open() is None:  # noqa: ASYNC110 - of a thread of libosdp
            await asyncio.sleep(0.005)
    assert await one.is_open()
    device.say(1, 1, 0, 1)
    async with asyncio.timeout(20):
        while await one.is_open():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.005)
    await one.close()


async def test_a_device_that_refused_is_called_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """libosdp leaves it alone for five minutes after that."""
    one = driver(device.port)
    await one.off()
    device.refusing = True
    with pytest.raises(RelayError, match="refused"):
        await one.on(3, "event")
    await until(lambda: not one._panel.is_sc_active(ADDRESS))
    device.refusing = False
    monkeypatch.setattr("facesvc_door.drivers.osdp._CALL_AGAIN_S", 0.0)
    await one.off()
    assert device.told == [(OUTPUT, OFF, 0), (OUTPUT, OFF, 0)]
    await one.close()


async def test_without_the_right_key_nothing_is_switched(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSDP_KEY", KEY[::-1])
    one = driver(device.port, input=INPUT)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.6):
            await one.on(3, "event")
    with pytest.raises(RelayError, match="does not answer"):
        await one.is_open()
    assert device.told == []
    await one.close()


async def test_a_door_behind_it(device: Device, box: MemoryBox, sleep: Hourglass) -> None:
    plugin = DoorPlugin(settings(doors={"front": door(relay=relay(device.port))}, relay_timeout_s=10), box, sleep)
    await plugin.start()
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert device.told == [(OUTPUT, OFF, 0), (OUTPUT, ON_FOR_A_WHILE, 30)]
    await sleep.run_out(3)
    await until(lambda: device.told[2:] == [(OUTPUT, OFF, 0)])
    await plugin.stop()


async def test_a_line_that_is_not_there_is_said(tmp_path: Path) -> None:
    pytest.importorskip("osdp", reason="the Python package libosdp is not installed")
    one = driver("/dev/facesvc-none")
    for call in (one.on(3, "event"), one.check()):
        with pytest.raises(RelayError, match="cannot be opened"):
            await call
    await one.close()
    null = driver("/dev/null")
    with pytest.raises(RelayError, match="no serial line"):
        await null.off()
    assert "is there" in await null.check()
    await null.close()


@pytest.mark.parametrize("value", [KEY[:-1], KEY + "0", "zz" * 16, "hunter2"])
def test_a_key_that_is_none_is_refused_and_not_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("osdp", reason="the Python package libosdp is not installed")
    monkeypatch.setenv("OSDP_KEY", value)
    with pytest.raises(ConfigError, match="not 32 hexadecimal digits") as refused:
        driver("/dev/null")
    assert value not in refused.value.message


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "osdp", None)
    with pytest.raises(ConfigError, match="OSDP is not available: it needs libosdp"):
        driver("/dev/null")
    monkeypatch.setitem(sys.modules, "osdp", ModuleType("osdp"))
    with pytest.raises(ConfigError, match="pip uninstall osdp"):
        driver("/dev/null")
