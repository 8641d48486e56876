"""What it costs: 500 people, over real sockets, with the documented throttles kept by the scripted Graph's clock."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest
from facesvc_graph import GraphPlugin
from facesvc_graph.scripted import OUTLOOK_LIMIT, PRESENCE_LIMIT
from facesvc_graph.scripted_people import ScriptedUser
from graph_making import World, user_id

from facesvc.delivery import kit
from facesvc.events.plugin import Person

MINUTE = 60.0


def staff(world: World, count: int) -> list[Person]:
    people = []
    for number in range(1000, 1000 + count):
        user = world.graph.add(ScriptedUser(user_id(number), f"No {number}", f"{number}@contoso.example"))
        people.append(world.person(f"p{number}", user.id))
    return people


async def test_five_hundred_people_cost_one_presence_call_a_polling_interval(world: World) -> None:
    people = staff(world, 500)
    world.enter(*people)
    async with world.plugin(poll_interval=MINUTE, photos="off") as plugin:
        for number in range(1, 13):
            await plugin.round()
            assert world.graph.calls["presences"] == number
            world.box.clock.advance(MINUTE)
        assert len({about for about, _ in world.box.published}) == 500
        world.box.stays.clear()
        before = dict(world.graph.calls)
        await plugin.round()
        assert dict(world.graph.calls) == before  # nobody is there
    # A calendar each in ten minutes, in three rounds; two of these rounds come again.
    assert world.graph.calls["calendarView"] == 500 + 400
    assert world.graph.outlook_peak <= 4
    assert world.graph.throttled == 0


async def test_more_people_than_a_call_holds_are_two_calls(world: World) -> None:
    world.enter(*staff(world, 651))
    async with world.plugin(calendar="off", photos="off") as plugin:
        await plugin.round()
    assert world.graph.calls["presences"] == 2


async def test_a_rush_shares_its_presence_calls(world: World) -> None:
    people = staff(world, 60)
    async with world.plugin(photos="off") as plugin:
        facts = await asyncio.gather(*(world.arrive(plugin, one) for one in people))
    assert all(one is not None and one.values["availability"] == "Available" for one in facts)
    assert world.graph.calls["presences"] <= 3


async def live(world: World, plugin: GraphPlugin, people: list[Person], hours: int, step: int) -> Counter[str]:
    """Everybody arrives in the first two hours, goes to lunch, and leaves in the last two; most calls in a round.

    There is a round every ``step`` minutes.
    """
    chance = random.Random(7)
    minutes = hours * 60
    comings: dict[int, list[Person]] = {}
    for one in people:
        arrival, lunch = chance.randrange(120), chance.randrange(240, 300)
        for minute in (arrival, lunch, lunch + 45, minutes - 1 - chance.randrange(120)):
            comings.setdefault(minute - minute % step, []).append(one)
    inside: set[str] = set()
    most: Counter[str] = Counter()
    for minute in range(0, minutes, step):
        before = Counter(world.graph.calls)
        for one in comings.get(minute, []):
            if one.subject_id in inside:
                inside.discard(one.subject_id)
                world.leave(one)
                await plugin.handle(kit.delivery(kit.left(one, world.now, since=world.now - timedelta(hours=1))))
            else:
                inside.add(one.subject_id)
                await world.arrive(plugin, one)
        arrived = len(comings.get(minute, []))
        assert (world.graph.calls - before)["presences"] <= arrived
        polls = world.graph.calls["presences"]
        await plugin.round()
        assert world.graph.calls["presences"] - polls <= 1
        for name, count in (world.graph.calls - before).items():
            most[name] = max(most[name], count)
        world.box.clock.advance(step * MINUTE)
    assert not inside
    return most


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_day_of_five_hundred_people_stays_under_the_throttle(world: World) -> None:
    people = staff(world, 500)
    async with world.plugin(poll_interval=MINUTE, set_presence=True) as plugin:
        most = await live(world, plugin, people, 11, 1)
    assert world.graph.throttled == 0
    assert world.graph.outlook_peak <= 4
    # Even all of a minute at once, in whatever thirty seconds of it.
    assert most["presences"] + most["setPresence"] + most["clearPresence"] < PRESENCE_LIMIT[0]
    assert 10 * (most["calendarView"] + most["photo"]) < OUTLOOK_LIMIT[0]
    assert not world.graph.sessions


@pytest.mark.slow
async def test_a_day_of_a_few_people_is_one_presence_call_a_round(world: World) -> None:
    people = staff(world, 10)
    async with world.plugin(poll_interval=4 * MINUTE, cache_ttl=1800, set_presence=True) as plugin:
        await live(world, plugin, people, 11, 4)
    assert world.graph.throttled == 0
    assert not world.graph.sessions
