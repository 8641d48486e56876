"""The plugin over real MSAL, real httpx and real sockets: arriving, being there, leaving, and Graph being away."""

import asyncio
import base64
from datetime import timedelta

import pytest
from facesvc_graph import GraphPlugin
from facesvc_graph.scripted import Failure
from facesvc_graph.scripted_people import JPEG
from graph_making import ANA, BEN, World, user_id

from facesvc.delivery import kit
from facesvc.delivery.kit import MemoryBox
from facesvc.errors import InputError, NotFoundError
from facesvc.events.plugin import About, Facts, TryLaterError, UndeliverableError


async def test_who_arrives_is_told_of_in_one_presence_call_and_one_batch(world: World) -> None:
    world.meet("Design review", -30, 390)
    async with world.plugin(time_zone="Europe/Berlin") as plugin:
        facts = await world.arrive(plugin, world.person())
    assert facts is not None
    assert facts.summary == "Available · in 'Design review' until 16:00"
    assert facts.values == {
        "availability": "Available",
        "activity": "Available",
        "out_of_office": None,
        "work_location": None,
        "status_message": "",
        "free_busy": "busy",
        "current_event": {
            "subject": "Design review",
            "start": "2026-03-02T08:00:00+00:00",
            "end": "2026-03-02T15:00:00+00:00",
            "status": "busy",
        },
        "next_event": None,
        "name": "Ana Lima",
        "job_title": "Engineer",
        "department": "Research",
        "photo": base64.b64encode(JPEG).decode(),
    }
    assert facts.fetch_time == world.now
    assert facts.expire_time == world.now + timedelta(seconds=600)
    assert world.graph.calls == {"token": 1, "presences": 1, "batch": 1, "user": 1, "photo": 1, "calendarView": 1}


async def test_a_private_event_is_nothing_but_busy(world: World) -> None:
    world.meet("Doctor", -30, 30, sensitivity="private")
    async with world.plugin() as plugin:
        facts = await world.arrive(plugin, world.person())
    assert facts is not None
    assert facts.summary == "Available · busy until 09:00"
    assert "Doctor" not in str(facts)


async def test_free_and_busy_of_twenty_people_is_one_request(world: World) -> None:
    world.meet("Design review", -30, 30)
    people = [world.person()]
    for number in range(2, 22):
        world.graph.people.setdefault(user_id(number), world.graph.people[BEN])
    async with world.plugin(calendar="free_busy", photos="off") as plugin:
        facts = await world.arrive(plugin, people[0])
        assert facts is not None
        assert facts.summary == "Available · busy until 09:00"
        assert facts.values["free_busy"] == "busy"
        assert "Design review" not in str(facts)
        ben = world.person("ben", BEN)
        world.enter(ben)
        await plugin.round()
        world.box.clock.advance(700)
        before = world.graph.calls["getSchedule"]
        await plugin.round()
    assert world.graph.calls["getSchedule"] == before + 1
    assert world.graph.calls["calendarView"] == 0


async def test_whoever_came_by_is_told_of_once(world: World) -> None:
    async with world.plugin() as plugin:
        one = world.person()
        event = kit.delivery(kit.seen(one, world.now))
        assert await plugin.handle(event) is not None
        calls = dict(world.graph.calls)
        assert await plugin.handle(event) is None
        assert dict(world.graph.calls) == calls


async def test_who_is_not_in_graph_is_left_alone_for_a_while(world: World) -> None:
    async with world.plugin() as plugin:
        assert await world.arrive(plugin, world.person("eve", external_ids={})) is None
        assert not world.graph.calls
        gone = world.person("gone", user_id(9))
        assert await world.arrive(plugin, gone) is None
        asked = world.graph.calls["user"]
        assert await world.arrive(plugin, gone) is None
        assert world.graph.calls["user"] == asked == 1
        world.box.clock.advance(6 * 3600 + 1)
        assert await world.arrive(plugin, gone) is None
        assert world.graph.calls["user"] == 2


async def test_a_round_publishes_what_is_new_and_what_would_expire(world: World) -> None:
    async with world.plugin() as plugin:
        one = world.person()
        await world.arrive(plugin, one)
        world.box.clock.advance(60)
        await plugin.round()
        assert world.box.published == []  # nothing is new
        world.graph.people[ANA].availability = world.graph.people[ANA].activity = "InATunnel"
        world.box.clock.advance(60)
        await plugin.round()
        [(about, facts)] = world.box.published
        assert about == ("default", "ana")
        assert facts.values["availability"] == "InATunnel"  # a word that nobody knows yet
        assert facts.summary == "In a tunnel"
        while len(world.box.published) == 1:
            world.box.clock.advance(60)
            await plugin.round()
        assert world.now < facts.expire_time
        assert world.box.published[1][1].fetch_time == world.now


async def test_whoever_is_erased_in_the_middle_of_a_round_spoils_it_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = MemoryBox.publish

    async def only_ben(self: MemoryBox, about: About, facts: Facts) -> None:
        if about[1] == "ana":
            raise NotFoundError("there is no subject 'ana'")
        await publish(self, about, facts)

    monkeypatch.setattr(MemoryBox, "publish", only_ben)
    world.enter(world.person(), world.person("ben", BEN))
    async with world.plugin() as plugin:
        await plugin.round()
    assert {about for about, _ in world.box.published} == {("default", "ben")}


async def test_whoever_cannot_be_looked_up_now_is_in_the_next_round(world: World) -> None:
    world.enter(world.person(external_ids={"upn": "ana@contoso.example"}), world.person("ben", BEN))
    world.graph.fail("user", Failure(500, user="ana@contoso.example"))
    async with world.plugin() as plugin:
        await plugin.round()
        assert {about[1] for about, _ in world.box.published} == {"ben"}
        status = await plugin.call("status", {})
        assert "500" in str(status)
        world.box.clock.advance(60)
        await plugin.round()
    assert {about[1] for about, _ in world.box.published} == {"ana", "ben"}


async def test_an_event_that_begins_is_news_without_a_request_for_it(world: World) -> None:
    world.meet("Standup", 20, 30)
    async with world.plugin() as plugin:
        facts = await world.arrive(plugin, world.person())
        assert facts is not None
        assert facts.summary == "Available · 'Standup' at 08:50"
        views = world.graph.calls["calendarView"]
        world.box.clock.advance(21 * 60 - 600)
        world.graph.fail("calendarView", Failure(500, times=None))
        world.box.clock.advance(600)
        await plugin.round()
    assert world.box.published[-1][1].summary == "Available · in 'Standup' until 09:00"
    assert world.graph.calls["calendarView"] > views


async def test_nobody_is_there_and_nobody_is_asked_for(world: World) -> None:
    async with world.plugin() as plugin:
        await plugin.round()
        assert not world.graph.calls


async def test_while_graph_is_away_the_last_answer_stays_with_its_age_and_the_work_waits(world: World) -> None:
    async with world.plugin() as plugin:
        one = world.person()
        await world.arrive(plugin, one)
        world.graph.outage = True
        for _ in range(11):
            world.box.clock.advance(60)
            await plugin.round()
        about, facts = world.box.published[-1]
        assert facts.summary == "Available · as of 08:30"
        assert facts.fetch_time == kit.NOW
        assert facts.expire_time > world.now
        with pytest.raises(TryLaterError, match="cannot be reached"):
            await world.arrive(plugin, one)
        assert (await plugin.call("status", {}))["problem"] != ""
        world.graph.mend()
        again = await world.arrive(plugin, one)
        assert again is not None
        assert again.summary == "Available"
        assert about == ("default", "ana")


async def test_who_comes_back_while_graph_is_away_is_told_of_with_the_age(world: World) -> None:
    async with world.plugin() as plugin:
        one = world.person()
        await world.arrive(plugin, one)
        world.graph.outage = True
        world.box.clock.advance(1800)
        with pytest.raises(TryLaterError):
            await world.arrive(plugin, one)
        assert [facts.summary for _, facts in world.box.published] == ["Available · as of 08:30"]


async def test_a_user_who_is_deleted_is_asked_for_no_more(world: World) -> None:
    async with world.plugin() as plugin:
        await world.arrive(plugin, world.person())
        del world.graph.people[ANA]
        world.box.clock.advance(24 * 3600)
        await plugin.round()
        asked = world.graph.calls["presences"]
        world.box.clock.advance(60)
        await plugin.round()
        assert world.graph.calls["presences"] == asked


async def test_after_half_a_day_the_last_answer_is_told_no_more(world: World) -> None:
    async with world.plugin() as plugin:
        await world.arrive(plugin, world.person())
        world.graph.outage = True
        world.box.clock.advance(12 * 3600 + 1)
        await plugin.round()
    assert world.box.published == []


async def test_a_plugin_that_starts_while_graph_is_away_keeps_what_is_shown(world: World) -> None:
    one = world.person()
    async with world.plugin() as plugin:
        facts = await world.arrive(plugin, one)
        assert facts is not None
        await world.box.publish(("default", "ana"), facts)  # as the host does with what handle returns
    world.graph.outage = True
    world.box.clock.advance(560)
    async with world.plugin() as plugin:
        await plugin.round()
    _, kept = world.box.published[-1]
    assert kept.summary == "Available · as of 08:30"
    assert kept.fetch_time == facts.fetch_time
    assert kept.expire_time > facts.expire_time


async def test_without_the_permission_for_calendars_the_rest_is_told(world: World) -> None:
    world.graph.roles -= {"Calendars.Read"}
    async with world.plugin() as plugin:
        facts = await world.arrive(plugin, world.person())
        assert facts is not None
        assert "free_busy" not in facts.values
        await plugin.round()
        assert "Calendars.Read" in (await plugin.call("status", {}))["problem"]


async def test_without_any_permission_the_event_cannot_be_delivered(world: World) -> None:
    world.graph.roles = frozenset()
    async with world.plugin() as plugin:
        with pytest.raises(UndeliverableError, match=r"Presence\.Read\.All, with admin consent"):
            await world.arrive(plugin, world.person())


async def test_a_throttled_presence_is_queued_for_as_long_as_graph_says(world: World) -> None:
    async with world.plugin() as plugin:
        world.graph.fail("presences", Failure(429, retry_after="17"))
        with pytest.raises(TryLaterError) as caught:
            await world.arrive(plugin, world.person())
        assert caught.value.after == timedelta(seconds=17)
        await plugin.round()
        assert world.graph.calls["presences"] == 1  # left alone
        world.box.clock.advance(17)
        assert await world.arrive(plugin, world.person()) is not None


async def test_a_cloud_without_presence_tells_the_calendar(world: World) -> None:
    world.meet("Design review", -30, 30)
    async with world.plugin(cloud="china") as plugin:
        one = world.person()
        facts = await world.arrive(plugin, one)
        assert facts is not None
        assert facts.summary == "in 'Design review' until 09:00"
        world.box.clock.advance(31 * 60)
        await plugin.round()
        assert world.box.published[-1][1].summary == "Free"
    assert world.graph.calls["presences"] == 0


async def test_presence_is_set_renewed_and_cleared(world: World) -> None:
    one = world.person()
    async with world.plugin(set_presence=True) as plugin:
        await world.arrive(plugin, one)
        assert world.graph.sessions[ANA]["availability"] == "Available"
        for _ in range(60):  # an hour
            world.box.clock.advance(60)
            await plugin.round()
        assert 60 / 4 <= world.graph.calls["setPresence"] <= 21
        world.enter(one)  # in a second zone
        left = kit.delivery(kit.left(one, world.now, since=kit.NOW))
        assert await plugin.handle(left) is None
        assert ANA in world.graph.sessions
        world.leave(one)
        world.graph.fail("clearPresence", Failure(503))
        with pytest.raises(TryLaterError):
            await plugin.handle(left)
        world.box.clock.advance(60)
        await plugin.handle(left)
        assert not world.graph.sessions
        await plugin.handle(left)  # there is none any more, and that is all right


async def test_an_arrival_that_comes_late_sets_no_presence_of_who_has_left(world: World) -> None:
    one = world.person()
    async with world.plugin(set_presence=True) as plugin:
        assert await plugin.handle(kit.delivery(kit.arrived(one, world.now))) is not None
    assert not world.graph.sessions


async def test_who_waits_for_an_answer_gets_one_when_whoever_asked_gives_up(world: World) -> None:
    people = [world.person(), world.person("ben", BEN), world.person("bo", BEN)]
    world.graph.turns = 1000

    async def asked(times: int) -> None:
        while world.graph.calls["presences"] < times:  # noqa: ASYNC110 - the scripted Graph counts and tells nobody
            await asyncio.sleep(0)

    async with world.plugin(calendar="off", photos="off") as plugin:
        first, second, third = [asyncio.create_task(world.arrive(plugin, one)) for one in people]
        await asked(1)
        assert await first is not None
        await asked(2)  # for the second and the third together
        second.cancel()
        facts = await third
        assert facts is not None
        assert facts.values["availability"] == "Available"
    assert world.graph.calls["presences"] == 3


async def test_a_photo_is_enrolled_with_consent_and_once(world: World) -> None:
    one = world.person(consent_purpose="doors")
    other = world.person("ben", BEN)
    async with world.plugin(enroll_photos=True, photos="off") as plugin:
        await world.arrive(plugin, one)
        await world.arrive(plugin, one)
        await world.arrive(plugin, other)
        assert world.box.enrolled == [(("default", "ana"), JPEG, "microsoft-365-profile-photo")]
        assert world.box.audited[0][0] == "EnrollProfilePhoto"
        world.person(consent_purpose="doors", external_ids=one.external_ids)
        arguments = {"collection_id": "default", "subject_id": "ana"}
        assert await plugin.call("enrol-photo", arguments) == {"verdict": "SAME_PHOTO"}
        arguments["subject_id"] = "ben"
        assert await plugin.call("enrol-photo", arguments) == {"verdict": "NO_CONSENT"}
        world.person("ben", BEN, consent_purpose="doors")
        assert await plugin.call("enrol-photo", arguments) == {"verdict": "NO_PHOTO"}
        with pytest.raises(NotFoundError):
            await plugin.call("enrol-photo", arguments | {"subject_id": "nobody"})


async def test_who_was_erased_is_forgotten(world: World) -> None:
    one = world.person(external_ids={"upn": "ana@contoso.example"})
    async with world.plugin() as plugin:
        await world.arrive(plugin, one)
        assert (await plugin.call("status", {}))["people"] == 1
        world.box.memory.forget(("default", "ana"))
        await plugin.forget(("default", "ana"))
        assert (await plugin.call("status", {}))["people"] == 0
        assert await world.box.notes.list() == []


async def test_what_cannot_be_asked_is_said(world: World) -> None:
    async with world.plugin() as plugin:
        with pytest.raises(InputError, match="lookup user="):
            await plugin.call("lookup", {"id": "x"})
        found = await plugin.call("lookup", {"user": "ana.lima@contoso.example"})
        assert found["id"] == ANA
        assert found["problems"] == {}


async def test_the_rounds_come_as_often_as_the_settings_say(world: World) -> None:
    waits: list[float] = []
    third = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            third.set()
            await asyncio.Event().wait()

    world.enter(world.person())
    world.graph.fail("presences", Failure(500))
    plugin = GraphPlugin(world.settings(poll_interval=7), world.box, sleep=sleep)
    await plugin.start()
    await third.wait()
    await plugin.stop()
    assert waits == [7, 7, 7]
    assert world.graph.calls["presences"] == 2
