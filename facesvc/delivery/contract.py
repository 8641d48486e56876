"""What every plugin has to stand, as tests: its own are a subclass that makes its ``Harness``.

class TestContract(PluginContract):
    def make_harness(self) -> Harness:
        return MyHarness()
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from facesvc.delivery.kit import Harness, person
from facesvc.delivery.rig import Rig
from facesvc.events.plugin import Box, Delivery, Facts, Manifest, Plugin, PluginSettings
from facesvc.events.records import Event

_PEOPLE = ("ana", "bea", "cyd")
_TIMEOUT_S = 0.5

Handle = Callable[[Delivery], Awaitable[Facts | None]]


class Between:
    """Comes between the host and a plugin: what is delivered goes through ``way`` first."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.raising: Counter[str] = Counter()

    def around(self, manifest: Manifest[Any]) -> Manifest[Any]:
        """A manifest that makes the plugin with this before it."""
        make = manifest.make

        def made(settings: PluginSettings, box: Box) -> Plugin:
            return _Around(make(settings, box), self)

        return replace(manifest, make=made)

    async def way(self, delivery: Delivery, handle: Handle) -> Facts | None:
        """Wait at the event's gate, raise as often as is wished, then let the plugin have it."""
        event_id = delivery.event.event_id
        self.began.append(event_id)
        if event_id in self.gates:
            await self.gates[event_id].wait()
        if self.raising[event_id]:
            self.raising[event_id] -= 1
            raise RuntimeError("by the kit")
        return await handle(delivery)


@dataclass(frozen=True, slots=True)
class _Around:
    plugin: Plugin
    between: Between

    async def start(self) -> None:
        """As ``Plugin``."""
        await self.plugin.start()

    async def handle(self, delivery: Delivery) -> Facts | None:
        """As ``Plugin``."""
        return await self.between.way(delivery, self.plugin.handle)

    async def stop(self) -> None:
        """As ``Plugin``."""
        await self.plugin.stop()


class PluginContract:
    """The tests; they run over a real host and a real database."""

    between: Between

    def make_harness(self) -> Harness:
        """The plugin and its world, before ``begin``."""
        raise NotImplementedError

    @pytest.fixture
    async def harness(self) -> AsyncIterator[Harness]:
        """The world, set up."""
        harness = self.make_harness()
        await harness.begin()
        yield harness
        await harness.end()

    @pytest.fixture
    async def rig(self, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
        """The host with the plugin, not started; it does not wait for long after a failure."""
        monkeypatch.setattr("facesvc.delivery.breaker.FIRST_WAIT", timedelta(milliseconds=20))
        monkeypatch.setattr("facesvc.delivery.breaker.FIRST_PAUSE_S", 0.02)
        self.between = Between()
        settings = {**harness.settings, "delivery": {"timeout_seconds": _TIMEOUT_S}}
        rig = Rig(tmp_path, self.between.around(harness.manifest), settings)
        yield rig
        await rig.close()

    def events(self, harness: Harness, rig: Rig, each: int) -> dict[str, list[Event]]:
        """So many for each of three people, by person; the time goes on between them."""
        made: dict[str, list[Event]] = {name: [] for name in _PEOPLE}
        for _ in range(each):
            for name in _PEOPLE:
                made[name].append(harness.event(person(name), rig.clock()))
            rig.clock.advance(1)
        rig.clock.advance(-each)  # none is too old
        return made

    async def expect(self, harness: Harness, rig: Rig, *groups: list[Event]) -> None:
        """All of them took effect: each person's in order, none lost, and not twice where that must not be."""
        wanted = [[event.event_id for event in group] for group in groups]
        await rig.until(lambda: _all_there(harness, rig, wanted))
        effects = await harness.effects(rig.box)
        for group in wanted:
            assert list(dict.fromkeys(one for one in effects if one in group)) == group
        if harness.manifest.at_most_once:
            assert not [one for one, count in Counter(effects).items() if count > 1]

    async def test_success(self, harness: Harness, rig: Rig) -> None:
        """Everything takes effect, once and in order."""
        made = self.events(harness, rig, 3)
        await rig.start()
        rig.append(*(event for group in zip(*made.values(), strict=True) for event in group))
        await self.expect(harness, rig, *made.values())
        await rig.settled()
        effects = await harness.effects(rig.box)
        assert len(effects) == len(set(effects))

    async def test_slow(self, harness: Harness, rig: Rig) -> None:
        """What takes too long for one person is not waited for, and delays nobody else."""
        made = self.events(harness, rig, 2)
        late = made["ana"][0].event_id
        self.between.gates[late] = asyncio.Event()
        await rig.start()
        rig.append(*made["ana"], *made["bea"], *made["cyd"])
        await self.expect(harness, rig, made["bea"], made["cyd"])
        await rig.until(lambda: rig.runner.standing().tally.failures > 0)
        del self.between.gates[late]
        await self.expect(harness, rig, made["ana"][1:] if harness.manifest.at_most_once else made["ana"])

    async def test_raising(self, harness: Harness, rig: Rig) -> None:
        """An error costs a repetition and nothing else; where nothing may be repeated, that one event."""
        made = self.events(harness, rig, 2)
        failing = made["ana"][0].event_id
        self.between.raising[failing] = 2
        await rig.start()
        rig.append(*made["ana"], *made["bea"])
        await self.expect(harness, rig, made["ana"][1:] if harness.manifest.at_most_once else made["ana"], made["bea"])
        assert (failing in await harness.effects(rig.box)) != harness.manifest.at_most_once

    async def test_the_world_breaks_down(self, harness: Harness, rig: Rig) -> None:
        """What the other side did not take is taken when it is back, unless the plugin has refused it for good."""
        made = self.events(harness, rig, 2)
        await rig.start()
        await harness.break_down()
        rig.append(*made["ana"][:1], *made["bea"][:1])
        await rig.until(lambda: rig.runner.standing().tally.failures > 0 or rig.is_settled())
        await harness.mend()
        rig.append(*made["ana"][1:], *made["bea"][1:])
        await rig.settled()
        effects = await harness.effects(rig.box)
        for name in ("ana", "bea"):
            ids = [event.event_id for event in made[name]]
            assert ids[1] in effects
            found = list(dict.fromkeys(one for one in effects if one in ids))
            assert found == (ids if harness.manifest.lifetime is None and not harness.manifest.heeds_expiry else found)

    async def test_cancelled(self, harness: Harness, rig: Rig) -> None:
        """The server stops in the middle of a delivery: it is repeated, or never where nothing may be."""
        made = self.events(harness, rig, 1)
        event = made["ana"][0]
        self.between.gates[event.event_id] = asyncio.Event()
        await rig.start()
        rig.append(event)
        await rig.until(lambda: event.event_id in self.between.began)
        await rig.stop()
        assert event.event_id not in await harness.effects(rig.box)
        del self.between.gates[event.event_id]
        await rig.start()
        rig.append(*made["bea"])
        await self.expect(harness, rig, made["bea"], [] if harness.manifest.at_most_once else [event])
        if harness.manifest.at_most_once:
            assert event.event_id not in await harness.effects(rig.box)

    async def test_restart(self, harness: Harness, rig: Rig) -> None:
        """A restart of the server loses nothing, and what had taken effect long before is not repeated."""
        made = self.events(harness, rig, 3)
        await rig.start()
        rig.append(*(group[0] for group in made.values()))
        await rig.settled()
        await rig.stop()
        rig.append(*(group[1] for group in made.values()))
        await rig.start()
        rig.append(*(group[2] for group in made.values()))
        await self.expect(harness, rig, *made.values())
        assert set(Counter(await harness.effects(rig.box)).values()) == {1}


async def _all_there(harness: Harness, rig: Rig, wanted: list[list[str]]) -> bool:
    effects = set(await harness.effects(rig.box))
    return all(effects.issuperset(group) for group in wanted)
