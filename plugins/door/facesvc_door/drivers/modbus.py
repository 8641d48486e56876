"""Relays that speak Modbus TCP: a coil for the relay, a discrete input for the door's contact.

Modbus knows no passwords and no encryption, and a coil no timer: the network to such a relay has to be its own, and
after a crash of this box the coil stays as it was until the next start.
"""

import asyncio
from typing import Literal, TypeVar

from pydantic import Field
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from facesvc_door.drivers.driver import RelayError, Table

T = TypeVar("T")
TIMEOUT_S = 1.0
"""Of one request; the time for all of a switching is ``relay_timeout_s``."""


class ModbusRelay(Table):
    """``[plugins.door.doors.NAME.relay]`` of a relay that speaks Modbus TCP."""

    driver: Literal["modbus"]
    host: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_.:-]+$")
    port: int = Field(502, ge=1, le=65535)
    unit: int = Field(1, ge=0, le=255)
    """The device's id on the line behind a gateway."""
    coil: int = Field(ge=0, le=65535)
    """Address of the relay's coil, counted from 0."""
    input: int | None = Field(None, ge=0, le=65535)
    """Address of the discrete input of the door's contact, counted from 0; none: there is none."""
    input_open: bool = True
    """The value that means open."""


class ModbusDriver:
    """One coil, over a connection of its own that is opened when it is needed and broken."""

    def __init__(self, settings: ModbusRelay) -> None:
        self._settings = settings
        self._client: AsyncModbusTcpClient | None = None
        self._one = asyncio.Lock()

    @property
    def has_input(self) -> bool:
        """Whether there is a discrete input."""
        return self._settings.input is not None

    async def on(self, seconds: float, reference: str) -> None:  # noqa: ARG002 - as Driver has it
        """Write the coil; Modbus has no timer and no place for the event."""
        await self._write(value=True)

    async def off(self) -> None:
        """Write the coil."""
        await self._write(value=False)

    async def is_open(self) -> bool | None:
        """Read the discrete input."""
        assert self._settings.input is not None  # asked where has_input only
        answer = await self._do("read", "input", self._settings.input)
        return answer.bits[0] == self._settings.input_open

    async def check(self) -> str:
        """Read the coil, and the input."""
        coil = await self._do("read", "coil", self._settings.coil)
        words = f"answers; coil {self._settings.coil} is {'on' if coil.bits[0] else 'off'}"
        if self.has_input:
            words += f", the door is {'open' if await self.is_open() else 'closed'}"
        return words

    async def close(self) -> None:
        """Close the connection."""
        self._drop()

    async def _write(self, *, value: bool) -> None:
        answer = await self._do("write", "coil", self._settings.coil, value=value)
        if answer.address != self._settings.coil or answer.bits[:1] != [value]:
            raise RelayError("the relay confirmed another coil or value than it was told")

    async def _do(self, what: str, kind: str, address: int, *, value: bool = False) -> ModbusPDU:
        """One request; after whatever goes wrong the next one begins with a new connection."""
        async with self._one:
            whole = False
            try:
                client = await self._connected()
                unit = self._settings.unit
                if what == "write":
                    answer = await client.write_coil(address, value, device_id=unit)
                elif kind == "coil":
                    answer = await client.read_coils(address, count=1, device_id=unit)
                else:
                    answer = await client.read_discrete_inputs(address, count=1, device_id=unit)
                whole = True
            except (ModbusException, OSError) as error:
                raise RelayError(f"the relay could not {what} {kind} {address}: {type(error).__name__}") from error
            finally:
                if not whole:
                    self._drop()
            if answer.isError() or not answer.bits:
                raise RelayError(f"the relay refused to {what} {kind} {address}")
            return answer

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is None:
            # Reconnecting by itself is off: a request that was given up must not reach the relay later.
            self._client = AsyncModbusTcpClient(
                self._settings.host, port=self._settings.port, timeout=TIMEOUT_S, retries=0, reconnect_delay=0
            )
        if not self._client.connected and not await self._client.connect():
            raise RelayError(f"the relay at {self._settings.host}:{self._settings.port} cannot be reached")
        return self._client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
