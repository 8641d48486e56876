"""What was done, and how hard the box works: for ``GetStatistics`` and for the metrics."""

import asyncio

from facesvc.api import convert, plugins
from facesvc.api.service import Service
from facesvc.stream.statistics import StreamCounters
from facesvc.v1 import admin_pb2


async def gathered(service: Service) -> admin_pb2.GetStatisticsResponse:
    """All of it, at this moment."""
    found = _counted(service)
    found.plugins.extend(await asyncio.to_thread(plugins.statuses, service))
    return found


def _counted(service: Service) -> admin_pb2.GetStatisticsResponse:
    totals = service.statistics.totals()
    return admin_pb2.GetStatisticsResponse(
        frames_received=totals.frames_received,
        frames_processed=totals.frames_processed,
        frames_dropped=totals.frames_dropped,
        frames_predicted=totals.frames_predicted,
        faces_embedded=totals.faces_embedded,
        results_dropped=totals.results_dropped,
        streams=[stream(counters) for counters in service.statistics.streams()],
        load=_load(service),
    )


def stream(counters: StreamCounters) -> admin_pb2.StreamStatistics:
    """One stream's."""
    totals = counters.totals
    return admin_pb2.StreamStatistics(
        stream_id=counters.stream_id,
        camera_id=counters.camera_id,
        zone=counters.zone,
        start_time=convert.timestamp(counters.start_time),
        frames_received=totals.frames_received,
        frames_processed=totals.frames_processed,
        frames_dropped=totals.frames_dropped,
        frames_skipped=totals.frames_skipped,
        frames_predicted=totals.frames_predicted,
        frames_failed=totals.frames_failed,
        faces_embedded=totals.faces_embedded,
        results_dropped=totals.results_dropped,
        tracks=counters.tracks,
        look_interval=convert.duration(counters.look_interval_s),
        median_age=convert.duration(counters.age_s(0.5)),
        p99_age=convert.duration(counters.age_s(0.99)),
    )


def _load(service: Service) -> admin_pb2.LoadStatistics:
    ladder = service.regulator.ladder
    return admin_pb2.LoadStatistics(
        step=ladder.rung.step,
        measures=ladder.rung.measures,
        reason=ladder.reason,
        step_time=convert.timestamp(ladder.step_time) if ladder.step_time is not None else None,
        changes=ladder.changes,
        busy=service.workers.load().busy,
        temperature_celsius=service.regulator.temperature_celsius,
    )
