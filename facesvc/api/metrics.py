"""What a monitoring system reads of the box. It names cameras, never people.

The text format of Prometheus and OpenMetrics: https://prometheus.io/docs/specs/om/open_metrics_spec/.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from facesvc import __version__
from facesvc.api import statistics
from facesvc.api.service import Service
from facesvc.errors import ConfigError
from facesvc.security.authority import expiry_of
from facesvc.v1 import admin_pb2, plugins_pb2

_READING_TIMEOUT_S = 4.0  # less than a reader is given in all: it is told
_FRAMES = ("received", "processed", "dropped", "skipped", "predicted", "failed")
_EVENTS = ("delivered", "failures", "missed")
_SET_ASIDE = ("waiting", "dead", "expired", "uncertain")


class Box(Collector):
    """How the box is, asked at each reading from a thread of its own.

    The statistics are asked on the event loop, which owns them. All else may wait for a lock or the disk, and the loop
    must not: it is asked in the thread that reads.
    """

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop, certificates: Sequence[Path]) -> None:
        self._service = service
        self._loop = loop
        self._certificates = certificates

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: what there is depends on cameras and plugins."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All of it; nothing once the box has stopped."""
        found = self._gathered()
        if found is not None:
            yield from self._of_service()
            yield from (*_of_load(found), *_of_streams(found.streams), *_of_plugins(found.plugins))

    def _gathered(self) -> admin_pb2.GetStatisticsResponse | None:
        work = statistics.gathered(self._service)
        try:
            reading = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed
            work.close()
            return None
        try:
            return reading.result(_READING_TIMEOUT_S)
        except TimeoutError:
            reading.cancel()
            raise

    def _of_service(self) -> Iterator[Metric]:
        service, gallery = self._service, self._service.gallery
        pack = service.engine.pack
        info = {"version": __version__, "pack": pack.name, "embedding_contract": pack.contract_id}
        yield InfoMetricFamily("facesvc", "What runs here.", value=info)
        lost = service.observer.dropped
        yield CounterMetricFamily("facesvc_events_lost", "Events that the disk did not take in time.", value=lost)
        subjects = GaugeMetricFamily("facesvc_subjects", "People who are enrolled.", labels=("collection_id",))
        for collection_id in gallery.collections():
            subjects.add_metric([collection_id], gallery.subject_count(collection_id))
        yield subjects
        expiry = GaugeMetricFamily(
            "facesvc_certificate_expiry_time_seconds", "Until when a certificate is good, Unix time.", labels=("file",)
        )
        for path in self._certificates:
            try:
                expiry.add_metric([path.name], expiry_of(path).timestamp())
            except ConfigError:
                expiry.add_metric([path.name], 0)  # good for nothing: whoever watches the date is told
        yield expiry


def _of_load(found: admin_pb2.GetStatisticsResponse) -> Iterator[Metric]:
    load = found.load
    yield GaugeMetricFamily("facesvc_degradation_step", "0 is full service; above it less is done.", value=load.step)
    yield GaugeMetricFamily("facesvc_busy_ratio", "Share of time that the workers were busy lately.", value=load.busy)
    if load.HasField("temperature_celsius"):
        celsius = load.temperature_celsius
        yield GaugeMetricFamily("facesvc_temperature_celsius", "Of the hottest sensor.", value=celsius)
    frames = CounterMetricFamily("facesvc_frames", "Frames of all streams since the start.", labels=("outcome",))
    for outcome in ("received", "processed", "dropped", "predicted"):
        frames.add_metric([outcome], getattr(found, f"frames_{outcome}"))
    yield frames
    yield CounterMetricFamily("facesvc_faces_embedded", "Faces that were embedded.", value=found.faces_embedded)
    lost = found.results_dropped
    yield CounterMetricFamily("facesvc_results_dropped", "Results that slow readers lost.", value=lost)


def _of_streams(streams: Sequence[admin_pb2.StreamStatistics]) -> Iterator[Metric]:
    yield GaugeMetricFamily("facesvc_streams", "Streams that are open.", value=len(streams))
    by_camera: defaultdict[str, list[admin_pb2.StreamStatistics]] = defaultdict(list)
    for one in streams:
        by_camera[one.camera_id].append(one)
    frames = CounterMetricFamily(
        "facesvc_camera_frames", "Frames of open streams; begins anew with a stream.", labels=("camera_id", "outcome")
    )
    tracks = GaugeMetricFamily("facesvc_camera_tracks", "Faces that are followed.", labels=("camera_id",))
    age = GaugeMetricFamily(
        "facesvc_camera_result_age_seconds", "From capture to result.", labels=("camera_id", "quantile")
    )
    for camera_id, own in by_camera.items():
        for outcome in _FRAMES:
            frames.add_metric([camera_id, outcome], sum(getattr(one, f"frames_{outcome}") for one in own))
        tracks.add_metric([camera_id], sum(one.tracks for one in own))
        age.add_metric([camera_id, "0.5"], max(one.median_age.ToTimedelta().total_seconds() for one in own))
        age.add_metric([camera_id, "0.99"], max(one.p99_age.ToTimedelta().total_seconds() for one in own))
    yield from (frames, tracks, age)


def _of_plugins(plugins: Sequence[plugins_pb2.PluginStatus]) -> Iterator[Metric]:
    up = GaugeMetricFamily("facesvc_plugin_up", "Whether a plugin is at work.", labels=("plugin",))
    events = CounterMetricFamily("facesvc_plugin_events", "What became of events.", labels=("plugin", "outcome"))
    aside = GaugeMetricFamily("facesvc_plugin_events_kept", "Events that are kept.", labels=("plugin", "state"))
    latency = GaugeMetricFamily(
        "facesvc_plugin_latency_seconds", "From an event to its first try.", labels=("plugin", "quantile")
    )
    for one in plugins:
        up.add_metric([one.name], one.condition == plugins_pb2.PLUGIN_CONDITION_RUNNING)
        for outcome in _EVENTS:
            events.add_metric([one.name, outcome], getattr(one, outcome))
        for state in _SET_ASIDE:
            aside.add_metric([one.name, state], getattr(one, state))
        latency.add_metric([one.name, "0.5"], one.median_latency.ToTimedelta().total_seconds())
        latency.add_metric([one.name, "0.99"], one.p99_latency.ToTimedelta().total_seconds())
    yield from (up, events, aside, latency)
