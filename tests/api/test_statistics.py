"""``GetStatistics`` of a real server with real streams."""

import asyncio
from dataclasses import fields
from datetime import UTC, datetime

from api.conftest import Running, Start, Vision, with_server
from api.test_stream import Talk, reached, settle

from facesvc.api import statistics
from facesvc.config import Settings
from facesvc.stream.statistics import StreamCounters, Totals
from facesvc.v1 import admin_pb2


async def found(running: Running) -> admin_pb2.GetStatisticsResponse:
    return await running.client.get_statistics()


async def test_a_server_that_has_done_nothing_gives_full_service(start: Start, vision: Vision) -> None:
    statistics = await found(await start(vision=vision))
    assert statistics.frames_received == 0
    assert not statistics.streams
    assert (statistics.load.step, statistics.load.measures) == (0, "full service")
    assert (statistics.load.reason, statistics.load.changes) == ("", 0)
    assert not statistics.load.HasField("step_time")


async def test_a_stream_is_there_while_it_is_open_and_in_the_sums_for_ever(
    start: Start, vision: Vision, settings: Settings
) -> None:
    running = await start(with_server(settings, workers=1), vision)
    async with running.channel() as channel:
        talk = Talk(running, channel)
        opened = await talk.open("door", zone="lobby", every_frame=True)
        await talk.send(1)
        await talk.result()
        await talk.send(2, b"no picture")
        await talk.result()
        vision.gate.clear()
        await talk.send(3)
        await reached(vision)
        await reached(vision)
        await talk.send(4)
        await talk.send(5)
        await settle(running)
        vision.gate.set()
        await talk.result()
        await talk.result()
        statistics = await found(running)
        (stream,) = statistics.streams
        assert (stream.stream_id, stream.camera_id, stream.zone) == (opened.stream_id, "door", "lobby")
        assert stream.start_time.ToDatetime(UTC) >= running.service.start_time
        assert (stream.frames_received, stream.frames_processed) == (5, 3)
        assert (stream.frames_dropped, stream.frames_failed, stream.frames_predicted) == (1, 1, 0)
        assert stream.tracks == 1
        assert stream.faces_embedded >= 1
        ages = (stream.median_age.ToTimedelta(), stream.p99_age.ToTimedelta())
        assert 0 < ages[0].total_seconds() <= ages[1].total_seconds()
        await talk.call.done_writing()
        await talk.end()
    await settle(running)
    closed = await found(running)
    assert not closed.streams
    sums = (closed.frames_received, closed.frames_processed, closed.frames_dropped, closed.faces_embedded)
    assert sums == (5, 3, 1, stream.faces_embedded)


async def test_the_rung_in_force_and_why_are_told(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    for task in running.server._tasks:
        task.cancel()
    regulator, now = running.service.regulator, running.service.now()
    for clock in range(10):
        rung = regulator.ladder.update(1.0, 0.2, 93.0, 1e9 + clock, now)
    regulator.temperature_celsius = 93.0
    load = (await found(running)).load
    assert (load.step, load.measures, load.changes) == (1, rung.measures, 1)
    assert load.reason == "at 93 degrees it is over the 85 allowed and busy 100% of the time, frames waited 200 ms"
    assert load.step_time.ToDatetime(UTC) == now
    assert load.temperature_celsius == 93
    assert 0 <= load.busy < 1


async def test_the_regulator_works_while_the_server_does(start: Start, vision: Vision) -> None:
    running = await start(vision=vision)
    [task] = [one for one in running.server._tasks if "Regulator.run" in repr(one)]
    assert not task.done()
    await running.server.stop()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()


def test_every_counter_is_told_by_its_name() -> None:
    counters = StreamCounters("s", "door", "lobby", datetime(2026, 1, 1, tzinfo=UTC))
    counters.totals = Totals(*range(1, len(fields(Totals)) + 1))
    counters.follows(15, 0.15)
    counters.ages_s.extend((0.1, 0.2, 0.9))
    told = statistics.stream(counters)
    for field in fields(Totals):
        assert getattr(told, field.name) == getattr(counters.totals, field.name)
    assert told.start_time.ToDatetime(UTC) == counters.start_time
    times = (told.look_interval, told.median_age, told.p99_age)
    assert [time.ToMilliseconds() for time in times] == [150, 200, 900]
    assert told.tracks == 15
