"""``facesvc watch``: live events, also across a broken connection and a restart of the server."""

import itertools
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cli.proxy import Proxy
from cli.running import Facesvc, serving, settings_for

from facesvc.cli import watch
from facesvc.client import Client, frame, opening, sample
from facesvc.config import Settings
from facesvc.v1 import enrollment_pb2


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_PAUSES_S", (0.01,) * 200)


CAMERAS = (f"door-{number}" for number in itertools.count())


def see_ana(client: Client, faces: dict[str, Path], collection: str, zone: str = "lobby") -> str:
    """Ana comes into view of a camera that has not seen her yet: one event. Returns the camera's id."""
    camera_id = next(CAMERAS)
    opened = opening(camera_id, zone=zone, collection_id=collection)
    (result,) = client.recognize(opened, [frame(0, faces["Ana"].read_bytes())])
    assert result.faces[0].decision.HasField("subject")
    return camera_id


def place(client: Client) -> str:
    """The token of now."""
    return next(client.watch_events()).resume_token


@pytest.fixture
def proxy(server: str) -> Iterator[Proxy]:
    proxy = Proxy(server)
    yield proxy
    proxy.close()


@contextmanager
def after_first(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> Iterator[None]:
    """Call ``act`` once ``watch`` has printed its first event with the function ``name``."""
    whole = getattr(watch, name)
    acted = False

    def printing(*arguments: object, **options: object) -> None:
        nonlocal acted
        whole(*arguments, **options)
        if not options and not acted:
            acted = True
            act()

    monkeypatch.setattr(watch, name, printing)
    yield
    assert acted


def test_an_event_is_a_line(facesvc: Facesvc, client: Client, known: str, faces: dict[str, Path]) -> None:
    token = place(client)
    camera_id = see_ana(client, faces, known)

    result = facesvc("watch", "--resume-token", token, "--limit", "1", "--collection", known)

    (line,) = result.out.splitlines()
    date, time, *rest, similarity = line.split()
    assert (len(date), len(time), rest) == (10, 8, ["seen", "Ana", camera_id, "lobby"])
    assert 0.9 < float(similarity) <= 1.0
    assert result.status == 0


def test_an_event_as_json_says_how_to_go_on(
    facesvc: Facesvc, client: Client, known: str, faces: dict[str, Path]
) -> None:
    token = place(client)
    camera_id = see_ana(client, faces, known, "north")
    see_ana(client, faces, known, "south")
    watch_one = ("watch", "--limit", "1", "--collection", known, "--json", "--resume-token")

    first = facesvc(*watch_one, token).json
    second = facesvc(*watch_one, first["resume_token"]).json

    assert (first["zone"], second["zone"]) == ("north", "south")
    assert first["kind"] == "seen"
    assert (first["subject_id"], first["display_name"], first["camera_id"]) == ("ana", "Ana", camera_id)
    assert first["external_ids"] == {"card_number": "card-Ana"}
    assert first["event_time"] < first["expire_time"]
    assert first["decision_id"] != second["decision_id"]


def test_only_one_zone(facesvc: Facesvc, client: Client, known: str, faces: dict[str, Path]) -> None:
    token = place(client)
    see_ana(client, faces, known, "north")
    see_ana(client, faces, known, "south")

    options = ("--limit", "1", "--collection", known, "--resume-token", token)

    assert "south" in facesvc("watch", "--zone", "south", *options).out


def test_a_broken_connection_loses_and_repeats_nothing(
    facesvc: Facesvc,
    client: Client,
    proxy: Proxy,
    known: str,
    faces: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cut() -> None:
        proxy.cut()
        see_ana(client, faces, known, "second")

    token = place(client)
    see_ana(client, faces, known, "first")
    with after_first(monkeypatch, "print_json", cut):
        result = facesvc(
            "watch", "--json", "--limit", "2", "--collection", known, "--server", proxy.address, "--resume-token", token
        )

    assert result.status == 0
    assert [line["zone"] for line in result.json_lines] == ["first", "second"]
    assert proxy.connections == 2
    assert f"no server answers at {proxy.address}" in result.err
    assert "trying again in 0.01 s" in result.err


@contextmanager
def ana_walking_by(settings: Settings, faces: dict[str, Path], zone: str) -> Iterator[None]:
    """A server that knows Ana and sees her come again and again."""
    done = threading.Event()

    def walk(client: Client) -> None:
        while not done.wait(0.02):
            see_ana(client, faces, "default", zone)

    with serving(settings) as address, Client(address) as client:
        if not list(client.list_subjects()):
            client.create_subject(enrollment_pb2.Subject(subject_id="ana", display_name="Ana"))
            list(client.enroll([sample("ana", faces["Ana"].read_bytes())]))
        walker = threading.Thread(target=walk, args=(client,))
        walker.start()
        try:
            yield
        finally:
            done.set()
            walker.join(30)


def test_a_restart_of_the_server_loses_and_repeats_nothing(
    facesvc: Facesvc, pack_cache: Path, faces: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def printing(event: dict[str, str]) -> None:
        told.append(event)
        if [one["zone"] for one in told] == ["before"]:
            server.close()
            server.enter_context(ana_walking_by(settings, faces, "after"))
        elif event["zone"] == "after":
            signal.raise_signal(signal.SIGINT)

    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = settings_for(tmp_path, pack_cache, address)
    told: list[dict[str, str]] = []
    monkeypatch.setattr(watch, "print_json", printing)
    with ExitStack() as server:
        server.enter_context(ana_walking_by(settings, faces, "before"))
        result = facesvc("watch", "--json", "--server", address)
        with Client(address) as client:
            kept = [event.event_id for event in client.list_events()]

    assert result.status == 0
    assert told[-1]["zone"] == "after"
    assert [event["event_id"] for event in told] == kept[kept.index(told[0]["event_id"]) :][: len(told)]
    assert "watching on from now" not in result.err


def test_ctrl_c_is_the_way_to_end_it(
    facesvc: Facesvc, client: Client, known: str, faces: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = place(client)
    see_ana(client, faces, known)

    with after_first(monkeypatch, "say", lambda: signal.raise_signal(signal.SIGINT)):
        result = facesvc("watch", "--resume-token", token, "--collection", known)

    assert (result.status, result.err) == (0, "watching\n")


def test_a_server_that_was_never_there_is_exit_2(facesvc: Facesvc) -> None:
    result = facesvc("watch", "--server", "127.0.0.1:1")

    assert result.status == 2
    assert result.err == "facesvc: no server answers at 127.0.0.1:1: start one with `facesvc serve`\n"


def test_a_server_that_does_not_come_back_is_exit_2(
    facesvc: Facesvc,
    client: Client,
    proxy: Proxy,
    known: str,
    faces: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_PAUSES_S", (0.01, 0.02))
    token = place(client)
    see_ana(client, faces, known)

    with after_first(monkeypatch, "print_json", proxy.refuse):
        result = facesvc("watch", "--json", "--collection", known, "--server", proxy.address, "--resume-token", token)

    assert result.status == 2
    assert result.err.count("trying again") == 2
    assert result.err.splitlines()[-1].startswith(f"facesvc: no server answers at {proxy.address}")


@pytest.mark.parametrize("token", ["nonsense", "x.y"])
def test_a_token_that_is_none_is_exit_2(facesvc: Facesvc, token: str) -> None:
    result = facesvc("watch", "--resume-token", token)

    assert result.status == 2
    assert "this is not a token of WatchEvents" in result.err
