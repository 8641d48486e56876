"""``facesvc bench security``: what TLS and tokens cost, against a server that speaks plain text, in one run.

Both servers are processes of their own with the same settings. Rounds of frames go to the one and the other in turn, so
that whatever else the machine does meets both alike.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import numpy as np
import typer

from facesvc.cli import bench_stages
from facesvc.cli.bench_streams_report import Row, as_object, as_rich, at_most, plain
from facesvc.cli.console import Json, err, out, print_json, settings_of
from facesvc.cli.demo_camera import Scene, film
from facesvc.cli.init import keep, tokens_in
from facesvc.cli.local_server import LocalServer
from facesvc.cli.samples import GROUP, sample_picture
from facesvc.client import Client, Credentials, frame, opening
from facesvc.config import Settings
from facesvc.database.opening import open_database
from facesvc.security.authority import Authority
from facesvc.security.roles import Role
from facesvc.v1 import recognition_pb2
from facesvc.vision.decode import ImageLimits, decode, read_header

CAMERAS = 4
_BAR_PERCENT = 5.0
_SIZE = (1280, 720)
_VIEWS = 10
_CALLS = 50


def security(
    context: typer.Context,
    *,
    rounds: Annotated[int, typer.Option(min=4, help="Rounds of frames to each of both servers.")] = 20,
    frames: Annotated[int, typer.Option(min=2, help="Frames of each camera in a round.")] = 10,
    json: Json = False,
) -> None:
    """Measure what TLS and tokens cost in frames a second, of four cameras at once, and in the time of small calls.

    Exit 1 if they cost more than 5 % of the frames.
    """
    err.print(f"{rounds} rounds of {CAMERAS * frames} frames to each of two servers", style="dim")
    rows = measure(settings_of(context), rounds, frames)
    report = as_object(rows)
    if json:
        print_json({"machine": bench_stages.machine(), **report})
    else:
        out.print(as_rich(rows, "TLS and tokens, against plain text"))
    raise typer.Exit(0 if report["met"] else 1)


def measure(settings: Settings, rounds: int, frames: int) -> list[Row]:
    """All of it."""
    pictures = _pictures()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="facesvc-bench-")))
        guarded_settings, credentials = _guarded(settings, folder)
        bare = settings.model_copy(update={"server": settings.server.model_copy(update=_BARE)})
        plain_server = stack.enter_context(LocalServer(bare, folder / "plain.db"))
        guarded_server = stack.enter_context(LocalServer(guarded_settings, folder / "guarded.db"))
        both = [
            stack.enter_context(Client(plain_server.address)),
            stack.enter_context(Client(guarded_server.address, credentials=credentials)),
        ]
        for client in both:
            client.wait_until_serving()
            _stream(client, pictures, 2)  # warm
        servers = (plain_server, guarded_server)
        before = [server.cpu_s() for server in servers]
        rates = [[_stream(client, pictures, frames) for client in both] for _ in range(rounds)]
        spent = [server.cpu_s() - then for server, then in zip(servers, before, strict=True)]
        cpu_ms = [1000 * seconds / (rounds * CAMERAS * frames) for seconds in spent]
        calls = [[_call_ms(client) for client in both] for _ in range(_CALLS)]
        connections = [
            [_connection_ms(lambda: Client(plain_server.address)) for _ in range(_CALLS)],
            [_connection_ms(lambda: Client(guarded_server.address, credentials=credentials)) for _ in range(_CALLS)],
        ]
    return _rows(rates, cpu_ms, calls, connections, statistics.mean(map(len, pictures)))


_BARE = {"certificate_file": None, "key_file": None, "client_ca_file": None, "listen_mtls": ""}


def _guarded(settings: Settings, folder: Path) -> tuple[Settings, Credentials]:
    """Settings of a server with TLS and a gallery that knows one token, and what a camera needs to call it."""
    now = datetime.now(UTC)
    authority = Authority.make("bench", now)
    files = {"certificate_file": folder / "server.pem", "key_file": folder / "server.key"}
    keep(files["certificate_file"], files["key_file"], authority.issue_server(["127.0.0.1"], now))
    database = open_database(folder / "guarded.db")
    try:
        gallery = settings.gallery.model_copy(update={"path": folder / "guarded.db", "key_file": None, "key": ""})
        token = tokens_in(database, gallery, now).create("bench", Role.ADMIN)[1]
    finally:
        database.close()
    server = settings.server.model_copy(update={**_BARE, **files, "plaintext": False})
    limits = settings.limits.model_copy(update={"calls_per_second": 1e6})  # small calls come in a row here
    return settings.model_copy(update={"server": server, "limits": limits}), Credentials(ca=authority.pem, token=token)


def _pictures() -> list[bytes]:
    """What a camera shows while it goes over the group."""
    data = sample_picture(GROUP)
    pixels = decode(data, read_header(data, ImageLimits())).pixels
    return [shot.jpeg for shot in film([Scene(pixels, (), _VIEWS, (0.5, 0.7))], *_SIZE, seed=1)]


def _stream(client: Client, pictures: Sequence[bytes], frames: int) -> float:
    """Frames a second of all cameras together, each of which waits for a result before it sends the next frame."""
    begun = time.perf_counter()
    with ThreadPoolExecutor(CAMERAS) as pool:
        for done in [pool.submit(_camera, client, pictures, frames, number) for number in range(CAMERAS)]:
            done.result()
    return CAMERAS * frames / (time.perf_counter() - begun)


def _camera(client: Client, pictures: Sequence[bytes], frames: int, number: int) -> None:
    turn: SimpleQueue[None] = SimpleQueue()

    def feed() -> Iterator[recognition_pb2.Frame]:
        for index in range(frames):
            turn.get()
            yield frame(index, pictures[(index + number) % len(pictures)])

    turn.put(None)
    for _ in client.recognize(opening(f"bench-{number}", every_frame=True), feed()):
        turn.put(None)


def _call_ms(client: Client) -> float:
    begun = time.perf_counter()
    client.get_statistics()
    return 1000 * (time.perf_counter() - begun)


def _connection_ms(connect: Callable[[], Client]) -> float:
    begun = time.perf_counter()
    with connect() as client:
        client.get_statistics()
    return 1000 * (time.perf_counter() - begun)


def _rows(
    rates: Sequence[Sequence[float]],
    cpu_ms: Sequence[float],
    calls: Sequence[Sequence[float]],
    connections: Sequence[Sequence[float]],
    picture_bytes: float,
) -> list[Row]:
    ratios = np.array([guarded / bare for bare, guarded in rates])
    low, high = _interval(ratios)
    cost = 100 * (1 - float(np.median(ratios)))
    what = f"{CAMERAS} cameras, frames of {picture_bytes / 1000:.0f} kB"
    return [
        plain(what, "plain text, frames/s", statistics.median(bare for bare, _ in rates)),
        plain(what, "TLS and token, frames/s", statistics.median(guarded for _, guarded in rates)),
        at_most(what, "cost, % of the frames/s, median of rounds", cost, _BAR_PERCENT),
        plain(what, "which is 95 % sure to be from", 100 * (1 - high)),
        plain(what, "to", 100 * (1 - low)),
        plain(what, "plain text, ms of processor time a frame", cpu_ms[0]),
        plain(what, "TLS and token, the same", cpu_ms[1]),
        plain("a small call", "plain text p50, ms", statistics.median(bare for bare, _ in calls)),
        plain("a small call", "TLS and token p50, ms", statistics.median(guarded for _, guarded in calls)),
        plain("with its connection", "plain text p50, ms", statistics.median(connections[0])),
        plain("with its connection", "TLS and token p50, ms", statistics.median(connections[1])),
    ]


def _interval(ratios: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[float, float]:
    """95 % of the medians of rounds drawn anew (the percentile bootstrap)."""
    drawn = np.random.default_rng(0).choice(ratios, (2000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return float(low), float(high)
