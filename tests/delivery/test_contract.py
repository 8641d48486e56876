"""The contract kit over plugins that do as little as can be: what it asks for can be met, and is asked for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from delivery.recorder import Recorder, RecorderHarness

from facesvc.delivery import contract
from facesvc.delivery.contract import PluginContract
from facesvc.delivery.kit import Harness
from facesvc.delivery.rig import Rig
from facesvc.events.plugin import Delivery, Facts, Role


class TestAtLeastOnce(PluginContract):
    def make_harness(self) -> Harness:
        return RecorderHarness()


class TestAtMostOnce(PluginContract):
    def make_harness(self) -> Harness:
        return RecorderHarness(at_most_once=True, heeds_expiry=True)


class TestEnriching(PluginContract):
    def make_harness(self) -> Harness:
        return RecorderHarness(role=Role.ENRICHES)


Handle = Callable[[Recorder, Delivery], Any]
honest = Recorder.handle


async def loses_every_third(self: Recorder, delivery: Delivery) -> Facts | None:
    return None if delivery.number % 3 == 0 else await honest(self, delivery)


async def does_everything_twice(self: Recorder, delivery: Delivery) -> Facts | None:
    await honest(self, delivery)
    return await honest(self, delivery)


async def gives_up_when_the_world_is_broken(self: Recorder, delivery: Delivery) -> Facts | None:
    try:
        return await honest(self, delivery)
    except Exception:  # noqa: BLE001 - that is what is wrong with it
        return None


held: list[Delivery] = []


async def changes_the_order(self: Recorder, delivery: Delivery) -> Facts | None:
    held.append(delivery)
    if len(held) % 6 == 0:
        for one in reversed(held[-6:]):
            await honest(self, one)
    return None


async def fails_at_what_it_did_before(self: Recorder, delivery: Delivery) -> Facts | None:
    await honest(self, delivery)
    if delivery.attempt == 1:
        raise RuntimeError("although it was done")
    return None


@pytest.mark.parametrize(
    ("handle", "test"),
    [
        (loses_every_third, "test_success"),
        (loses_every_third, "test_restart"),
        (does_everything_twice, "test_success"),
        (does_everything_twice, "test_restart"),
        (changes_the_order, "test_success"),
        (gives_up_when_the_world_is_broken, "test_the_world_breaks_down"),
        (fails_at_what_it_did_before, "test_success"),
    ],
)
async def test_a_plugin_that_does_not_keep_the_contract_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_rig: object, handle: Handle, test: str
) -> None:
    del make_rig  # only that nobody waits long
    monkeypatch.setattr("facesvc.delivery.rig._PATIENCE_S", 0.3)
    monkeypatch.setattr(Recorder, "handle", handle)
    held.clear()
    harness, tests, between = RecorderHarness(), PluginContract(), contract.Between()
    tests.between = between
    rig = Rig(tmp_path, between.around(harness.manifest), {"delivery": {"timeout_seconds": 0.2}})
    try:
        with pytest.raises((AssertionError, TimeoutError)):
            await getattr(tests, test)(harness, rig)
    finally:
        await rig.close()
