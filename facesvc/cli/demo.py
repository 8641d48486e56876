"""``facesvc demo``: the main job on real faces, through the real server, with nothing but what was installed."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer
from numpy.typing import NDArray
from rich.live import Live

from facesvc.cli.console import err, out, print_json, settings_of
from facesvc.cli.demo_camera import Person, Scene, Shot, film
from facesvc.cli.demo_plugins import Gossip, Stages, staged
from facesvc.cli.demo_report import Report
from facesvc.cli.local_server import LocalServer
from facesvc.cli.samples import GROUP, GUEST, astronaut, sample_picture
from facesvc.client import Client, frame, opening, sample
from facesvc.config import Settings
from facesvc.errors import DependencyError
from facesvc.v1 import enrollment_pb2, recognition_pb2
from facesvc.vision.decode import ImageLimits, decode, read_header

Pixels = NDArray[np.uint8]

_WIDTH, _HEIGHT, _FRAMES_A_SECOND = 960, 540, 30
_SEED = 7
# The six of t1.jpg from left to right; the names are invented.
_NAMES = ("Ana", "Bea", "Cem", "Dan", "Eli", "Fay")
_GUEST_NAME = ("tom-hanks", "Tom Hanks")
_PEOPLE = {**{name.lower(): name for name in _NAMES}, _GUEST_NAME[0]: _GUEST_NAME[1]}
# Room around a face that is cut out for enrolment, as a share of the box on each side.
_MARGIN = 0.35


def demo(
    context: typer.Context,
    picture: Annotated[Path, typer.Option("--out", help="Where the annotated frame goes.")] = Path("demo.png"),
    *,
    plugins: Annotated[
        bool, typer.Option("--plugins", help="Also show what the installed plugins find out about whoever arrives.")
    ] = False,
) -> None:
    """Enrol seven people, stream a moving camera, and show who is recognised; exit 1 if anyone is not, or wrongly."""
    settings = settings_of(context)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="facesvc-demo-") as folder:
        stages = staged(_PEOPLE, Path(folder)) if plugins else nullcontext(Stages())
        with stages as stage:
            report, found_out = _play(settings.model_copy(update={"plugins": stage.settings}), folder, stage, started)
    report.finish(picture)
    print_json(report.summary(picture) | ({"plugins": found_out} if plugins else {}))
    raise typer.Exit(0 if report.passed and (found_out or not plugins) else 1)


def _play(settings: Settings, folder: str, stage: Stages, started: float) -> tuple[Report, list[str]]:
    """The film on a server of its own; how that went, and what plugins found out meanwhile."""
    err.print("starting the server; the first time it builds its models", style="dim")
    with LocalServer(settings, Path(folder) / "gallery.db") as server, Client(server.address) as client:
        client.wait_until_serving()
        scenes = _enrol_and_direct(client, stage.external_ids)
        report = Report({subject.subject_id: subject.display_name for subject in client.list_subjects()}, started)
        with Gossip(server.address) if stage.settings else nullcontext() as gossip:
            _stream(client, scenes, report)
        return report, gossip.lines if gossip else []


def _enrol_and_direct(client: Client, external_ids: Mapping[str, Mapping[str, str]]) -> list[Scene]:
    """Enrol everybody, and say what the camera will film: the group twice, the guest, and a stranger."""
    group_file, guest_file = sample_picture(GROUP), sample_picture(GUEST)
    group = _pixels(group_file)
    found = sorted(client.detect(group_file).faces, key=lambda face: face.box.left)
    if len(found) != len(_NAMES):
        raise DependencyError(f"insightface's t1.jpg should show {len(_NAMES)} people, {len(found)} were found")
    people = []
    for name, face in zip(_NAMES, found, strict=True):
        box = face.box
        cut_out = _cut_out(group, (box.left, box.top, box.width, box.height))
        _enrol(client, name.lower(), name, cut_out, external_ids)
        people.append(Person(name.lower(), box.left + box.width / 2, box.top + box.height / 2))
    _enrol(client, *_GUEST_NAME, guest_file, external_ids)
    guest = _pixels(guest_file)
    stranger = astronaut()
    return [
        Scene(group, tuple(people), 90, (0.75, 1.05)),
        Scene(guest, (_only_face(client, guest_file, _GUEST_NAME[0]),), 40, (2.0, 3.0)),
        Scene(group, tuple(people), 40, (0.8, 1.0), mirrored=True),
        Scene(stranger, (_only_face(client, _jpeg(stranger), None),), 50, (0.8, 1.2)),
    ]


def _only_face(client: Client, data: bytes, subject_id: str | None) -> Person:
    box = client.detect(data).faces[0].box
    return Person(subject_id, box.left + box.width / 2, box.top + box.height / 2)


def _enrol(
    client: Client, subject_id: str, name: str, data: bytes, external_ids: Mapping[str, Mapping[str, str]]
) -> None:
    client.create_subject(
        enrollment_pb2.Subject(subject_id=subject_id, display_name=name, external_ids=external_ids.get(subject_id, {}))
    )
    (answer,) = client.enroll([sample(subject_id, data, source="demo")])
    if answer.verdict != enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED:
        raise DependencyError(f"{name} could not be enrolled: {answer.message}")


def _stream(client: Client, scenes: list[Scene], report: Report) -> None:
    """Film at the camera's pace and feed the results to the report, live in a terminal, line by line without one."""
    shots = film(scenes, _WIDTH, _HEIGHT, _SEED)
    results = client.recognize(opening("demo-camera", zone="lobby", every_frame=True), _paced(shots, report))
    if not out.is_terminal:
        for result in results:
            for line in report.add(result):
                out.print(line, markup=False, highlight=False)
        return
    with Live(report.table(), console=out, refresh_per_second=10) as live:
        for result in results:
            report.add(result)
            live.update(report.table())


def _paced(shots: Iterator[Shot], report: Report) -> Iterator[recognition_pb2.Frame]:
    """Each shot when its time has come; a camera does not wait for anybody."""
    begun = time.monotonic()
    for shot in shots:
        time.sleep(max(0.0, begun + shot.frame_id / _FRAMES_A_SECOND - time.monotonic()))
        report.sent(shot)
        yield frame(shot.frame_id, shot.jpeg)


def _pixels(data: bytes) -> Pixels:
    return decode(data, read_header(data, ImageLimits())).pixels


def _jpeg(pixels: Pixels) -> bytes:
    _, encoded = cv2.imencode(".jpg", pixels[:, :, ::-1])
    return encoded.tobytes()


def _cut_out(pixels: Pixels, box: tuple[float, float, float, float]) -> bytes:
    left, top, width, height = box
    rows = slice(max(0, round(top - _MARGIN * height)), round(top + (1 + _MARGIN) * height))
    columns = slice(max(0, round(left - _MARGIN * width)), round(left + (1 + _MARGIN) * width))
    _, encoded = cv2.imencode(".png", pixels[rows, columns, ::-1])
    return encoded.tobytes()
