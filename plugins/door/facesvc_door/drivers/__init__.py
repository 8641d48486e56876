"""Relays: one file for each kind, which also has its settings.

``driver`` says what all of them are, ``gate`` (above) how long they are on. ``http``, ``modbus``, ``gpio``, ``osdp``,
and ``log``, which only talks. The packages for GPIO and OSDP are imported where a door asks for them, and nowhere else.
"""

from typing import Annotated

from pydantic import Field

from facesvc_door.drivers.driver import Driver, RelayError
from facesvc_door.drivers.gpio import GpioDriver, GpioRelay
from facesvc_door.drivers.http import HttpDriver, HttpRelay
from facesvc_door.drivers.log import LogDriver, LogRelay
from facesvc_door.drivers.modbus import ModbusDriver, ModbusRelay
from facesvc_door.drivers.osdp import OsdpDriver, OsdpRelay

Relay = Annotated[HttpRelay | ModbusRelay | GpioRelay | OsdpRelay | LogRelay, Field(discriminator="driver")]


def build(door: str, relay: Relay) -> Driver:
    """The driver of a door's relay. Raises ``ConfigError`` where a package, a key or a certificate is missing."""
    match relay:
        case HttpRelay():
            return HttpDriver(relay)
        case ModbusRelay():
            return ModbusDriver(relay)
        case GpioRelay():
            return GpioDriver(relay)
        case OsdpRelay():
            return OsdpDriver(relay)
        case LogRelay():
            return LogDriver(door)


__all__ = ["Driver", "Relay", "RelayError", "build"]
