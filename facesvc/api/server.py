"""The gRPC server: services, health, reflection, limits; opened before the models are there, and closed gently."""

import asyncio
import socket
import time

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, ProcessCollector

from facesvc.api import transport, upkeep
from facesvc.api.access import Gatekeeper
from facesvc.api.admin import AdminServicer
from facesvc.api.calls import Calls
from facesvc.api.enrollment import EnrollmentServicer
from facesvc.api.exposition import Exposition
from facesvc.api.metrics import Box
from facesvc.api.plugins import PluginServicer
from facesvc.api.presence import PresenceServicer
from facesvc.api.recognition import RecognitionServicer
from facesvc.api.service import Lobby, Service
from facesvc.api.status import StatusInterceptor
from facesvc.config import Settings
from facesvc.errors import DependencyError
from facesvc.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    plugins_pb2,
    plugins_pb2_grpc,
    presence_pb2,
    presence_pb2_grpc,
    recognition_pb2,
    recognition_pb2_grpc,
)

_log = structlog.get_logger(__name__)

SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (recognition_pb2, "RecognitionService"),
        (enrollment_pb2, "EnrollmentService"),
        (presence_pb2, "PresenceService"),
        (admin_pb2, "AdminService"),
        (plugins_pb2, "PluginService"),
    )
)


class Server:
    """Listens from ``start`` on, answers from ``open`` on; before, and after ``stop``, health says NOT_SERVING."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.server
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._exposition = Exposition(self._registry, settings.metrics.listen) if settings.metrics.listen else None
        self.metrics_port = 0
        self._lobby = Lobby()
        open_to_all = settings.server.plaintext
        self._gatekeeper = Gatekeeper(self._lobby, settings.limits, time.monotonic, open_to_all=open_to_all)
        self._service: Service | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._health = health.aio.HealthServicer()
        interceptors = [StatusInterceptor(Calls(self._registry)), self._gatekeeper]
        self._grpc = grpc.aio.server(interceptors=interceptors, options=_options(settings))
        recognition_pb2_grpc.add_RecognitionServiceServicer_to_server(RecognitionServicer(self._lobby), self._grpc)
        enrollment = EnrollmentServicer(self._lobby)
        presence = PresenceServicer(self._lobby)
        admin = AdminServicer(self._lobby, self._gatekeeper.put_out)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(enrollment, self._grpc)
        presence_pb2_grpc.add_PresenceServiceServicer_to_server(presence, self._grpc)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, self._grpc)
        plugins_pb2_grpc.add_PluginServiceServicer_to_server(PluginServicer(self._lobby), self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc)

    async def start(self, address: str) -> int:
        """Listen on ``address`` (``host:port``, port 0 for a free one, or ``unix:PATH``) and return the port."""
        message = f"cannot listen on {address}: it is taken, or not an address of this machine; choose another"
        if _is_served_socket(address):
            raise DependencyError(message, reason="ADDRESS_UNAVAILABLE")
        own = []
        try:
            for where, credentials in transport.ports(self._settings, address):
                if credentials is None:
                    own.append(self._grpc.add_insecure_port(where))
                else:
                    own.append(self._grpc.add_secure_port(where, credentials))
        except RuntimeError as error:
            raise DependencyError(message, reason="ADDRESS_UNAVAILABLE") from error
        if self._exposition is not None:
            self.metrics_port = self._exposition.start()
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._grpc.start()
        return own[0]

    async def open(self, service: Service) -> None:
        """Answer calls with ``service``, whose models are loaded and warm."""
        self._service = service
        await service.observer.start()
        self._lobby.open(service)
        certificates = [path for path in (self._settings.certificate_file, self._settings.client_ca_file) if path]
        self._registry.register(Box(service, asyncio.get_running_loop(), certificates))
        work = [service.regulator.run(), upkeep.run(service), self._gatekeeper.run(), service.probes.run()]
        if service.oidc is not None:
            work.append(service.oidc.published.run())
        self._tasks = [asyncio.create_task(one) for one in work]
        for task in self._tasks:
            task.add_done_callback(_report)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Turn new calls away, finish what runs, and close within the grace time."""
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._lobby.close()
        for task in self._tasks:
            task.cancel()
        await self._grpc.stop(self._settings.shutdown_grace_seconds)
        if self._exposition is not None:
            self._exposition.stop()
        if self._service is not None:
            await self._service.observer.stop()
            await self._service.probes.stop()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)


def _report(task: asyncio.Task[None]) -> None:
    """A task that ended by a bug of ours is heard of."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("the server no longer does all its work: restart it", exc_info=error)


def _is_served_socket(address: str) -> bool:
    """Whether somebody answers on this unix socket; gRPC would take it away from them."""
    if not address.startswith("unix:"):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix:")) == 0


def _options(settings: Settings) -> list[tuple[str, int]]:
    limits = settings.limits
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        # An answer holds at most 1,000 faces, each with its vector or candidates.
        ("grpc.max_send_message_length", 64 << 20),
        # Two servers on one port would share the calls at random; the second must fail instead.
        ("grpc.so_reuseport", 0),
        # Clients may ping as often as the SDK does.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A camera that lost its power says no goodbye: its place is free again after forty seconds.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.max_concurrent_streams", 1000),
        # Who connects and then says nothing, or not enough for TLS and HTTP/2, is cut off.
        ("grpc.server_handshake_timeout_ms", round(1000 * limits.handshake_timeout_seconds)),
        ("grpc.max_allowed_incoming_connections", limits.max_connections),
        ("grpc.max_connection_idle_ms", round(1000 * limits.connection_idle_timeout_seconds)),
    ]
