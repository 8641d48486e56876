"""A real server on a unix socket, with the default pack or with a vision that a test scripts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import grpc
import numpy as np
import pytest
import pytest_asyncio

from facesvc import app, config
from facesvc.api.engines import Engines
from facesvc.api.server import Server
from facesvc.api.service import Service
from facesvc.client import AsyncClient
from facesvc.config import Settings
from facesvc.vision.detection import Detection
from facesvc.vision.embed import Embedder
from facesvc.vision.geometry import Box

LANDMARKS = np.array([(46.5, 45.3), (101.8, 45.4), (73.9, 77.4), (50.8, 104.4), (97.0, 104.4)], np.float32)


@dataclass
class Vision:
    """Scripted networks: ``faces`` faces in every picture, all of them the person ``vector``.

    While ``gate`` is closed the detector waits in its worker thread; ``entered`` counts the pictures that reached it.
    """

    faces: int = 1
    vector: np.ndarray[Any, Any] = field(default_factory=lambda: np.eye(128, dtype=np.float32)[0])
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.gate.set()

    detail: ClassVar[float] = 48
    scanned_face: ClassVar[float] = 12

    def smallest_face(self, width: int, height: int, minimum_face: float) -> float:
        """All that is asked for."""
        return minimum_face

    def detect(self, pixels: np.ndarray[Any, Any], minimum_face: float, *, rough: bool = False) -> list[Detection]:
        """The scripted faces, each smaller than the one before."""
        self.entered.release()
        assert self.gate.wait(30)
        return [Detection(Box(5 + n, 5, 150 - n, 150), LANDMARKS + np.float32(n), 0.99) for n in range(self.faces)]

    def refine(self, pixels: np.ndarray[Any, Any], detection: Detection, minimum_face: float) -> Detection:
        """As it is."""
        return detection

    def network(self, blob: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """The scripted vector."""
        return (self.vector[None].astype(np.float32),)


def with_vision(service: Service, vision: Vision) -> Service:
    """``service`` with the networks of ``vision``."""
    engine = service.engine
    real = engine.pipeline.embedder
    embedder = Embedder(vision.network, real.side, real.mean, real.std, real.template, real.dimension)
    pipeline = replace(engine.pipeline, detector=vision, embedder=embedder)
    recognizer = replace(engine.recognizer, pipeline=pipeline)
    return replace(service, engines=Engines(replace(engine, pipeline=pipeline, recognizer=recognizer)))


@dataclass
class Running:
    """A server that answers, and a client of it."""

    server: Server
    service: Service
    address: str
    client: AsyncClient

    def channel(self) -> grpc.aio.Channel:
        """A bare channel to it."""
        return grpc.aio.insecure_channel(self.address, options=[("grpc.max_send_message_length", 256 << 20)])


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
def settings(pack_cache: Path, tmp_path: Path) -> Settings:
    """Settings whose files are the test's own."""
    loaded = config.load()
    return loaded.model_copy(
        update={
            "models": loaded.models.model_copy(update={"cache_dir": pack_cache}),
            "gallery": loaded.gallery.model_copy(update={"path": tmp_path / "gallery.db"}),
        }
    )


def with_limits(settings: Settings, **limits: Any) -> Settings:
    """``settings`` with other limits."""
    return settings.model_copy(update={"limits": settings.limits.model_copy(update=limits)})


def with_server(settings: Settings, **values: Any) -> Settings:
    """``settings`` with another ``[server]``."""
    return settings.model_copy(update={"server": settings.server.model_copy(update=values)})


def with_retention(settings: Settings, days: float) -> Settings:
    """``settings`` that keep events for so long."""
    return settings.model_copy(update={"events": settings.events.model_copy(update={"retention_days": days})})


@pytest_asyncio.fixture
async def start(settings: Settings, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts servers; all are closed at the end of the test."""
    async with AsyncExitStack() as stack:

        async def start(settings: Settings = settings, vision: Vision | None = None) -> Running:
            address = f"unix:{tmp_path}/socket"
            server = Server(settings)
            await server.start(address)
            stack.push_async_callback(server.stop)
            service = await asyncio.to_thread(app.load_service, settings)
            stack.callback(service.gallery.close)
            stack.callback(service.workers.close)
            stack.push_async_callback(server.stop)
            if vision is not None:
                stack.callback(vision.gate.set)
                service = with_vision(service, vision)
            await server.open(service)
            client = AsyncClient(address)
            stack.push_async_callback(client.close)
            return Running(server, service, address, client)

        yield start


@pytest.fixture
def vision() -> Vision:
    """One face a picture, gate open."""
    return Vision()
