"""A relay is on for a while, and off again whatever happens."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from door_making import FakeDriver, Hourglass, settled, until
from facesvc_door.drivers import RelayError
from facesvc_door.gate import FIRST_RETRY_S, Gate
from hypothesis import given, settings
from hypothesis import strategies as st

from facesvc.delivery.kit import Clock

ACTIONS = ("open", "cancelled", "time", "cut", "on fails", "on hangs", "off fails", "off hangs", "mend")


class Troubles(list[str]):
    async def __call__(self, door: str) -> None:
        self.append(door)


def fine() -> None:
    pass


@pytest.fixture
def driver() -> FakeDriver:
    return FakeDriver()


@pytest.fixture
def troubles() -> Troubles:
    return Troubles()


@pytest.fixture
def clock() -> Clock:
    return Clock()


Make = Callable[[], Gate]


@pytest.fixture
async def gate(driver: FakeDriver, sleep: Hourglass, troubles: Troubles, clock: Clock) -> AsyncIterator[Gate]:
    one = Gate("front", driver, timeout_s=0.05, now=clock, sleep=sleep, trouble=troubles)
    yield one
    driver.hangs.clear()
    driver.fails.clear()
    await one.stop()


async def test_at_the_start_it_is_switched_off_first(gate: Gate, driver: FakeDriver) -> None:
    driver.lit = True  # left on by a crash
    await gate.start()
    assert driver.told == ["off"]
    assert gate.ready
    assert not driver.lit


async def test_a_pulse_ends(gate: Gate, driver: FakeDriver, sleep: Hourglass) -> None:
    await gate.start()
    await gate.open(3, "event", fine)
    assert driver.lit
    await sleep.run_out(3)
    await settled(gate)
    assert driver.told == ["off", "on", "off"]
    assert gate.ready


async def test_who_comes_during_a_pulse_prolongs_it(gate: Gate, driver: FakeDriver, sleep: Hourglass) -> None:
    await gate.start()
    await gate.open(3, "first", fine)
    await until(lambda: sleep.lasts() == [3])
    await gate.open(4, "second", fine)
    await until(lambda: sleep.lasts() == [4])
    assert driver.lit
    await sleep.run_out(4)
    await settled(gate)
    assert driver.told == ["off", "on", "on", "off"]


async def test_what_is_not_allowed_leaves_the_relay_alone(gate: Gate, driver: FakeDriver) -> None:
    def no() -> None:
        raise RelayError("no")

    await gate.start()
    with pytest.raises(RelayError):
        await gate.open(3, "event", no)
    assert driver.told == ["off"]


@pytest.mark.parametrize("how", ["fails", "hangs"])
async def test_a_relay_that_did_not_confirm_is_switched_off(gate: Gate, driver: FakeDriver, how: str) -> None:
    await gate.start()
    getattr(driver, how).add("on")
    with pytest.raises((RuntimeError, TimeoutError)):
        await gate.open(3, "event", fine)
    assert not gate.ready
    await settled(gate)
    assert driver.told == ["off", "on", "off"]
    assert not driver.lit
    assert gate.ready


async def test_cancelled_while_it_is_switched_on_it_is_switched_off(gate: Gate, driver: FakeDriver) -> None:
    gate._timeout_s = 60
    await gate.start()
    driver.hangs.add("on")
    driver.began.clear()
    call = asyncio.create_task(gate.open(3, "event", fine))
    await driver.began.wait()
    assert driver.lit
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await settled(gate)
    assert not driver.lit


async def test_the_pulse_does_not_depend_on_who_asked_for_it(gate: Gate, driver: FakeDriver, sleep: Hourglass) -> None:
    await gate.start()
    call = asyncio.create_task(gate.open(3, "event", fine))
    await call
    call.cancel()
    await sleep.run_out(3)
    await settled(gate)
    assert not driver.lit


async def test_stopped_in_the_middle_of_a_pulse_it_is_off(gate: Gate, driver: FakeDriver) -> None:
    await gate.start()
    await gate.open(3, "event", fine)
    await gate.stop()
    assert not driver.lit
    assert driver.closed
    with pytest.raises(RelayError) as refused:
        await gate.open(3, "event", fine)
    assert refused.value.reason == "STOPPING"
    assert driver.told.count("on") == 1


async def test_stopped_while_it_is_switched_on_it_is_off(gate: Gate, driver: FakeDriver) -> None:
    await gate.start()
    driver.hangs.add("on")
    driver.began.clear()
    call = asyncio.create_task(gate.open(3, "event", fine))
    await driver.began.wait()
    await gate.stop()
    with pytest.raises(TimeoutError):
        await call
    assert not driver.lit
    assert gate._settling is None, "nothing goes on after the stop"


async def test_a_pulse_that_begins_during_the_stop_ends_with_it(
    gate: Gate, driver: FakeDriver, sleep: Hourglass
) -> None:
    gate._timeout_s = 60
    await gate.start()
    driver.waits["on"] = asyncio.Event()
    driver.began.clear()
    call = asyncio.create_task(gate.open(3, "event", fine))
    await driver.began.wait()
    stop = asyncio.create_task(gate.stop())
    await asyncio.sleep(0)
    driver.waits["on"].set()
    await asyncio.gather(call, stop)
    assert not driver.lit
    await until(lambda: not sleep.lasts())


async def test_cut_in_the_middle_of_a_pulse_it_is_off(gate: Gate, driver: FakeDriver, sleep: Hourglass) -> None:
    await gate.start()
    await gate.open(3, "event", fine)
    await until(lambda: bool(sleep.lasts()))
    assert await gate.cut()
    assert not driver.lit
    await until(lambda: not sleep.lasts())


async def test_a_relay_that_cannot_be_switched_off_is_told_once_and_tried_until_it_is(
    gate: Gate, driver: FakeDriver, sleep: Hourglass, troubles: Troubles
) -> None:
    await gate.start()
    await gate.open(3, "event", fine)
    driver.fails.add("off")
    await sleep.run_out(3)
    await sleep.run_out(FIRST_RETRY_S)
    await until(lambda: sleep.lasts() == [2 * FIRST_RETRY_S])
    assert troubles == ["front"]
    assert driver.lit
    assert not gate.ready
    with pytest.raises(RuntimeError):
        await gate.open(3, "another", fine)
    assert driver.told.count("on") == 1
    driver.fails.clear()
    await sleep.run_out(2 * FIRST_RETRY_S)
    await settled(gate)
    assert gate.ready
    assert not driver.lit


async def test_a_relay_that_is_away_at_the_start_is_ready_later(gate: Gate, driver: FakeDriver) -> None:
    driver.hangs.add("off")
    await gate.start()
    assert not gate.ready
    driver.hangs.clear()
    await gate.open(3, "event", fine)  # it is switched off first, then on
    assert driver.told[-2:] == ["off", "on"]
    assert gate._settling is not None
    await gate._settling
    assert driver.lit, "what was tried in the background does not end a pulse that has begun since"


async def test_a_relay_that_is_dead_does_not_keep_the_server_from_stopping(gate: Gate, driver: FakeDriver) -> None:
    await gate.start()
    driver.hangs.add("off")
    await gate.stop()
    assert driver.closed


async def test_a_door_may_be_open_during_a_pulse_and_a_little_after(
    gate: Gate, driver: FakeDriver, sleep: Hourglass, clock: Clock
) -> None:
    assert not gate.may_be_open(5)
    await gate.start()
    await gate.open(3, "event", fine)
    clock.advance(100)
    assert gate.may_be_open(0)
    await sleep.run_out(3)
    await settled(gate)
    clock.advance(5)
    assert gate.may_be_open(5)
    clock.advance(0.001)
    assert not gate.may_be_open(5)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(ACTIONS), max_size=12))
def test_whatever_happens_it_knows_when_it_may_be_on_and_ends_off(actions: list[str]) -> None:
    asyncio.run(_live(actions))


async def _live(actions: list[str]) -> None:
    driver, sleep = FakeDriver(), Hourglass()
    gate = Gate("front", driver, timeout_s=0.001, now=Clock(), sleep=sleep, trouble=Troubles())
    await gate.start()
    for action in actions:
        what, _, how = action.partition(" ")
        if how:
            getattr(driver, how).add(what)
        elif action == "mend":
            driver.fails.clear()
            driver.hangs.clear()
        elif action == "time":
            for seconds in sleep.lasts():
                await sleep.run_out(seconds)
        elif action == "cut":
            await gate.cut()
        else:
            call = asyncio.create_task(gate.open(3, "event", fine))
            await asyncio.sleep(0)
            if action == "cancelled":
                call.cancel()
            await asyncio.wait([call])
            if not call.cancelled() and call.exception() is None:
                assert driver.lit
                assert gate.ready
        assert gate.lit or not driver.lit
        assert not gate.ready or not gate.lit or gate._pulse is not None, "it is on, and nobody will end it"
    driver.fails.clear()
    driver.hangs.clear()
    await gate.stop()
    assert not driver.lit
    assert driver.closed
