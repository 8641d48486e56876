"""Relays that speak Modbus TCP, against pymodbus' own server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from door_making import ANA, Hourglass, door, settings, until
from facesvc_door import DoorPlugin
from facesvc_door.drivers import RelayError
from facesvc_door.drivers.modbus import ModbusDriver, ModbusRelay
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from facesvc.delivery.kit import MemoryBox, delivery, seen
from facesvc.events.plugin import UndeliverableError

COIL, INPUT = 5, 3


@dataclass
class Board:
    """A relay board with eight coils and inputs; ``coils`` and ``inputs`` are its own memory."""

    port: int
    server: Any
    written: list[bool]
    contact: bool = False
    refusing: bool = False


def device(action: Any = None) -> SimDevice:
    """Eight coils, inputs and, as pymodbus wants them, registers."""
    coils, inputs, holding, reading = (
        [SimData(0, count=8, values=0, datatype=kind)]
        for kind in (DataType.BITS, DataType.BITS, DataType.REGISTERS, DataType.REGISTERS)
    )
    return SimDevice(id=1, simdata=(coils, inputs, holding, reading), action=action)


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    holder: list[Board] = []

    async def action(function: int, _start: int, address: int, _count: int, current: Any, values: Any) -> Any:
        one = holder[0]
        if one.refusing:
            return ExcCodes.DEVICE_FAILURE
        if function == 5 and address == COIL and values is not None:  # none: it is read back
            one.written.append(bool(values[0]))
        if function == 2 and address == INPUT:
            current[0] = 1 << INPUT if one.contact else 0  # sixteen a register
        return None

    server: Any = ModbusTcpServer(device(action), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    holder.append(Board(server.transport.sockets[0].getsockname()[1], server, []))
    yield holder[0]
    await server.shutdown()


def relay(board: Board, **changes: Any) -> dict[str, Any]:
    return {"driver": "modbus", "host": "127.0.0.1", "port": board.port, "coil": COIL, **changes}


def driver(board: Board, **changes: Any) -> ModbusDriver:
    return ModbusDriver(ModbusRelay.model_validate(relay(board, **changes)))


async def test_the_coil_goes_on_and_off(board: Board) -> None:
    one = driver(board)
    assert not one.has_input
    await one.on(3, "event")
    assert board.written == [True]
    assert await one.check() == "answers; coil 5 is on"
    await one.off()
    assert board.written == [True, False]
    await one.close()


@pytest.mark.parametrize("value", [True, False])
async def test_the_contact_is_read(board: Board, *, value: bool) -> None:
    one = driver(board, input=INPUT, input_open=value)
    assert one.has_input
    assert await one.is_open() == (not value)
    board.contact = True
    assert await one.is_open() == value
    await one.close()


async def test_a_board_that_refuses_is_said(board: Board) -> None:
    one = driver(board, input=INPUT)
    board.refusing = True
    for call in (one.on(3, "event"), one.off(), one.is_open(), one.check()):
        with pytest.raises(RelayError, match="refused"):
            await call
    await one.close()


async def test_a_coil_that_is_not_there_is_said(board: Board) -> None:
    one = driver(board, coil=999)
    with pytest.raises(RelayError, match="refused to write coil 999"):
        await one.on(3, "event")
    await one.close()


async def test_a_board_that_was_away_is_reached_again(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facesvc_door.drivers.modbus.TIMEOUT_S", 0.1)
    one = driver(board)
    await one.off()
    await board.server.shutdown()
    with pytest.raises(RelayError):
        await one.on(3, "event")
    again: Any = ModbusTcpServer(device(), address=("127.0.0.1", board.port))
    await again.serve_forever(background=True)
    await one.off()
    await one.close()
    await again.shutdown()


async def test_a_silent_board_is_given_up_by_who_waits() -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(100):
            pass
        writer.close()
        gone.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    one = ModbusDriver(ModbusRelay.model_validate({"driver": "modbus", "host": "127.0.0.1", "port": port, "coil": 0}))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await one.on(3, "event")
    assert one._client is None, "what comes late is not taken for the answer to the next request"
    await gone.wait()
    await one.close()
    server.close()


async def test_a_door_behind_it(board: Board, box: MemoryBox, sleep: Hourglass) -> None:
    plugin = DoorPlugin(settings(doors={"front": door(relay=relay(board, input=INPUT))}), box, sleep)
    await plugin.start()
    assert board.written == [False], "off before anything else"
    await plugin.handle(delivery(seen(ANA, box.clock())))
    assert board.written == [False, True]
    await sleep.run_out(3)
    await until(lambda: board.written == [False, True, False])
    await plugin.handle(delivery(seen(ANA, box.clock())))
    await plugin.stop()
    assert board.written == [False, True, False, True, False]


async def test_a_door_behind_a_board_that_refuses_stays_closed(board: Board, box: MemoryBox, sleep: Hourglass) -> None:
    plugin = DoorPlugin(settings(doors={"front": door(relay=relay(board))}), box, sleep)
    await plugin.start()
    board.refusing = True
    with pytest.raises(UndeliverableError, match="refused to write coil"):
        await plugin.handle(delivery(seen(ANA, box.clock())))
    await plugin.stop()
    assert board.written == [False]
