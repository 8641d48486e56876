"""What tests of commands share: settings that touch nothing outside of temporary folders, and a running server."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from cli.running import Facesvc, Result, serving, settings_for

from facesvc.cli import commands, console
from facesvc.cli.pictures import pixels_of, write
from facesvc.client import Client, sample
from facesvc.config import GallerySettings, ModelSettings, Settings
from facesvc.v1 import enrollment_pb2

# Room around a face that is cut out, as a share of its box on each side.
MARGIN = 0.35


@pytest.fixture
def settings(pack_cache: Path, tmp_path: Path) -> Settings:
    """The default pack, an own gallery, any free port."""
    return Settings(
        models=ModelSettings(cache_dir=pack_cache),
        gallery=GallerySettings(path=tmp_path / "data" / "gallery.db"),
        server={"listen": "127.0.0.1:0"},
    )


@pytest.fixture(scope="session")
def server(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that all tests share; each uses a collection of its own."""
    with serving(settings_for(tmp_path_factory.mktemp("server"), pack_cache)) as address:
        yield address


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[Client]:
    with Client(server) as client:
        yield client


@pytest.fixture
def collection(request: pytest.FixtureRequest) -> str:
    """A gallery of this test's own."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in request.node.name)[:100]


@pytest.fixture
def facesvc(server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Facesvc:
    """The command line in this process: ``facesvc("subjects", "list")``; asks the shared server."""
    # Loggers keep the standard error they first see, which here is that of one test.
    monkeypatch.setattr(commands, "_set_up_logs", lambda level: None)
    monkeypatch.setattr(console.out, "width", 200)
    monkeypatch.setenv("FACESVC_SERVER__LISTEN", server)

    def run(*arguments: object) -> Result:
        with pytest.raises(SystemExit) as end:
            console.run(commands.app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        code = end.value.code
        return Result(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def faces(client: Client, group_jpeg: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A portrait of each person of the group, from left to right; Eli looks away too far to be enrolled."""
    folder = tmp_path_factory.mktemp("faces")
    pixels = pixels_of(group_jpeg)
    found = sorted((face.box for face in client.detect(group_jpeg).faces), key=lambda box: box.left)
    portraits = {}
    for name, box in zip(("Ana", "Bea", "Cem", "Dan", "Eli", "Fay"), found, strict=True):
        rows = slice(max(0, int(box.top - MARGIN * box.height)), int(box.top + (1 + MARGIN) * box.height))
        columns = slice(max(0, int(box.left - MARGIN * box.width)), int(box.left + (1 + MARGIN) * box.width))
        portraits[name] = folder / f"{name}.jpg"
        write(portraits[name], pixels[rows, columns])
    return portraits


@pytest.fixture(scope="session")
def known(client: Client, faces: dict[str, Path]) -> str:
    """A gallery that knows Ana and Bea, and is not changed."""
    for name in ("Ana", "Bea"):
        subject_id, external_ids = name.lower(), {"card_number": f"card-{name}"}
        client.create_subject(
            enrollment_pb2.Subject(
                collection_id="known", subject_id=subject_id, display_name=name, external_ids=external_ids
            )
        )
        (answer,) = client.enroll([sample(subject_id, faces[name].read_bytes(), collection_id="known")])
        assert answer.verdict == enrollment_pb2.ENROLLMENT_VERDICT_ENROLLED
    return "known"


@pytest.fixture(scope="session")
def film(group_jpeg: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six frames at 5 frames a second: three of the group, then three of nothing."""
    path = tmp_path_factory.mktemp("film") / "film.avi"
    group = cv2.resize(pixels_of(group_jpeg), (640, 444))[:, :, ::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (640, 444))
    for frame in [group] * 3 + [group * 0 + 90] * 3:
        writer.write(frame)
    writer.release()
    return path
