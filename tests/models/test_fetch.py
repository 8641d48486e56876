"""Packs are fetched by name from a real server: what breaks goes on, what is wrong leaves nothing behind."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from models import tiny_packs
from models.faulty_server import Answer, FaultyServer

from facesvc.errors import DependencyError, InputError, NotFoundError, PreconditionError, WeightsError
from facesvc.models import catalog, fetch
from facesvc.models.catalog import Entry, Remote
from facesvc.models.chunks import CHUNK_BYTES
from facesvc.models.description import INSIGHTFACE_TERMS, read_toml
from facesvc.models.download import Downloader
from facesvc.models.fetch import Fetched, Tools
from facesvc.models.intake import draft_asking
from facesvc.models.library import Library
from facesvc.models.packs import MANIFEST, Pack

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
LARGE = 3 * CHUNK_BYTES

Pull = Callable[..., Fetched | None]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with FaultyServer() as running:
        yield running


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture
def asked() -> list[str]:
    """The terms that somebody was asked to agree to; they agree to those that do not say no."""
    return []


@pytest.fixture
def tools(server: FaultyServer, library: Library, asked: list[str]) -> Iterator[Tools]:
    def agree(terms: str) -> bool:
        asked.append(terms)
        return "say no" not in terms

    with Downloader(connect_timeout_s=5, read_timeout_s=5, attempts=1, pause=lambda _: None) as downloader:
        yield Tools(library, downloader, server.url, lambda _: lambda there, total: None, agree, NOW)


@pytest.fixture
def catalogued(server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The catalogue knows ``tiny``, of two files with known hashes; their content."""
    folder = tiny_packs.write(tmp_path / "published", padding_bytes=300_000)
    files = {name: (folder / name).read_bytes() for name in ("detector.onnx", "embedder.onnx")}
    server.files |= {f"/opencv_zoo/{name}": content for name, content in files.items()}
    remotes = tuple(
        Remote("opencv_zoo", f"some/{name}", "2026", "MIT", hashlib.sha256(content).hexdigest(), len(content))
        for name, content in files.items()
    )
    monkeypatch.setattr(catalog, "ENTRIES", {"tiny": Entry("tiny", remotes, read_toml(folder))})
    return files


@pytest.fixture
def archived(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Puts an archive ``zoo.zip`` of InsightFace's kind on the server; more files may be in it."""
    remote = Remote("insightface", "zoo.zip", "model-zoo", "non-commercial research")
    monkeypatch.setattr(catalog, "ENTRIES", {"zoo": Entry("zoo", (remote,), terms=INSIGHTFACE_TERMS)})

    def publish(seed: int = 0, **more: str) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("zoo/det.onnx", tiny_packs.detector())
            archive.writestr("zoo/rec.onnx", tiny_packs.embedder(seed))
            for name, text in more.items():
                archive.writestr(name, text)
        server.files["/insightface/zoo.zip"] = content.getvalue()
        return content.getvalue()

    return publish


def installed(fetched: Fetched | None, library: Library) -> Pack:
    assert fetched is not None
    return fetched.install(library)


def serve(server: FaultyServer, other: Library) -> None:
    """Makes the server a mirror of the library of another box."""
    for path in other.folder.rglob("*"):
        if path.is_file():
            server.files[f"/{path.relative_to(other.folder).as_posix()}"] = path.read_bytes()


@pytest.fixture
def other(tmp_path: Path, server: FaultyServer) -> Library:
    """The library of another box, with a pack ``tiny``; the server is its mirror."""
    other = Library(tmp_path / "other")
    release(other, server, tmp_path, seed=0)
    return other


def release(other: Library, server: FaultyServer, tmp_path: Path, seed: int) -> None:
    """Puts another version of ``tiny`` on the mirror, whose embedder differs in its first chunk alone."""
    folder = tiny_packs.write(tmp_path / f"version {seed}", seed=seed, padding_bytes=LARGE)
    draft_asking(folder, "", other, lambda _: False, NOW).install(other)
    serve(server, other)


def leftovers(library: Library) -> list[str]:
    return [path.name for path in (library.folder / ".downloads").rglob("*") if path.name != ".lock"]


def test_a_pack_of_the_catalogue(catalogued: dict[str, bytes], tools: Tools, library: Library) -> None:
    fetched = fetch.pull("tiny", tools)
    pack = installed(fetched, library)
    assert fetched is not None
    assert fetched.received_bytes == fetched.size_bytes == sum(map(len, catalogued.values()))
    assert not fetched.pins
    assert {name: pack.path(name).read_bytes() for name in catalogued} == catalogued
    assert pack.dimension == 8
    assert pack.licences == ("opencv_zoo 2026: MIT",)
    assert leftovers(library) == []


def test_what_is_there_is_not_fetched_again(
    catalogued: dict[str, bytes], tools: Tools, library: Library, server: FaultyServer
) -> None:
    pack = installed(fetch.pull("tiny", tools), library)
    server.asked.clear()
    assert fetch.pull("tiny", tools) is None
    assert server.asked == []
    pack.path("embedder.onnx").write_bytes(b"damaged")
    assert installed(fetch.pull("tiny", tools), library).path("embedder.onnx").stat().st_size > 7
    assert not library.has_previous("tiny")  # a damaged one is nothing to go back to


def test_a_pull_that_breaks_off_goes_on_in_the_next_one(
    catalogued: dict[str, bytes], tools: Tools, library: Library, server: FaultyServer
) -> None:
    server.script += [Answer(), Answer(cut_after=100_000)]
    with pytest.raises(DependencyError, match="try again later"):
        fetch.pull("tiny", tools)
    server.asked.clear()
    fetched = fetch.pull("tiny", tools)
    # The first file was whole already.
    assert [(one.path, one.range) for one in server.asked] == [("/opencv_zoo/embedder.onnx", "bytes=100000-")]
    assert fetched is not None
    assert fetched.received_bytes == len(catalogued["embedder.onnx"]) - 100_000
    assert installed(fetched, library).dimension == 8


def test_a_wrong_hash_keeps_nothing(
    catalogued: dict[str, bytes], tools: Tools, library: Library, server: FaultyServer
) -> None:
    server.script += [Answer(), Answer(corrupt_at=200_000)]
    with pytest.raises(WeightsError, match=r"embedder\.onnx has the SHA-256 .* nothing was kept"):
        fetch.pull("tiny", tools)
    assert leftovers(library) == []
    assert library.names() == ["default"]


def test_an_archive_is_pinned_when_it_first_comes(
    archived: Callable[..., bytes], tools: Tools, library: Library
) -> None:
    content = archived()
    fetched = fetch.pull("zoo", tools)
    assert fetched is not None
    assert library.pins() == {}
    pack = installed(fetched, library)
    sha256 = hashlib.sha256(content).hexdigest()
    assert library.pins() == fetched.pins == {"insightface/zoo.zip": sha256}
    assert pack.licences == ("insightface model-zoo: non-commercial research",)
    assert [(source.file, source.sha256) for source in pack.sources] == [("zoo.zip", sha256)]
    assert fetch.pull("zoo", tools) is None


@pytest.mark.slow
def test_another_archive_is_refused_unless_it_is_wanted(
    archived: Callable[..., bytes], tools: Tools, library: Library
) -> None:
    archived()
    before = installed(fetch.pull("zoo", tools), library)
    content = archived(seed=1)
    assert fetch.pull("zoo", tools) is None  # what is here is what was pinned
    library.remove("zoo")
    with pytest.raises(WeightsError, match=r"expected was .*--new-pin takes what is there now"):
        fetch.pull("zoo", tools)
    assert leftovers(library) == []
    after = installed(fetch.pull("zoo", tools, new_pin=True), library)
    assert after.contract_id != before.contract_id
    assert library.pins() == {"insightface/zoo.zip": hashlib.sha256(content).hexdigest()}


def test_nothing_is_fetched_before_the_licence_is_accepted(
    archived: Callable[..., bytes], tools: Tools, library: Library, server: FaultyServer, asked: list[str]
) -> None:
    archived()
    with pytest.raises(PreconditionError, match="has to be accepted") as caught:
        fetch.pull("zoo", replace(tools, agree=lambda _: False))
    assert caught.value.reason == "LICENCE_NOT_ACCEPTED"
    assert server.asked == []
    pack = installed(fetch.pull("zoo", tools), library)
    assert {INSIGHTFACE_TERMS in terms for terms in asked} == {True}
    (acceptance,) = pack.acceptances
    assert (acceptance.licence, acceptance.time) == ("non-commercial research", "2026-11-21T12:00:00+00:00")
    assert acceptance.text_sha256 == hashlib.sha256(INSIGHTFACE_TERMS.encode()).hexdigest()


def test_the_licence_in_the_archive_is_asked_about_too(
    archived: Callable[..., bytes], tools: Tools, library: Library, asked: list[str]
) -> None:
    archived(**{"zoo/MODEL.LICENSE": "Whoever can read should say no."})
    with pytest.raises(PreconditionError, match="should say no"):
        fetch.pull("zoo", tools)
    assert len(asked) == 2
    assert library.names() == ["default"]


def test_an_archive_that_leads_elsewhere(archived: Callable[..., bytes], tools: Tools, library: Library) -> None:
    archived(**{"../../escaped": "!"})
    with pytest.raises(WeightsError, match=r"zoo\.zip is refused at '\.\./\.\./escaped'"):
        fetch.pull("zoo", tools)
    assert library.names() == ["default"]
    assert leftovers(library) == []
    assert not list(library.folder.parent.rglob("escaped"))


def test_a_full_disk(catalogued: dict[str, bytes], tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    needed = 2 * sum(map(len, catalogued.values()))
    with pytest.raises(DependencyError, match=f"{needed} bytes are needed in .*, where 100000 are free"):
        fetch.pull("tiny", tools)


def test_a_pack_of_another_box(other: Library, tools: Tools, library: Library, server: FaultyServer) -> None:
    pack = installed(fetch.pull("tiny", tools), library)
    assert replace(pack, folder=Path()) == replace(other.open("tiny"), folder=Path())
    assert [one.path for one in server.asked] == [f"/tiny/{MANIFEST}", "/tiny/detector.onnx", "/tiny/embedder.onnx"]
    server.asked.clear()
    assert fetch.pull("tiny", tools) is None
    assert [one.path for one in server.asked] == [f"/tiny/{MANIFEST}"]


def test_of_a_changed_file_only_changed_chunks_come(
    other: Library, tools: Tools, library: Library, server: FaultyServer, tmp_path: Path
) -> None:
    before = installed(fetch.pull("tiny", tools), library)
    release(other, server, tmp_path, seed=1)
    server.asked.clear()
    fetched = fetch.pull("tiny", tools)
    assert [(one.path, one.range) for one in server.asked] == [
        (f"/tiny/{MANIFEST}", None),
        ("/tiny/embedder.onnx", f"bytes=0-{CHUNK_BYTES - 1}"),
    ]
    assert fetched is not None
    assert fetched.received_bytes == CHUNK_BYTES
    assert fetched.size_bytes > LARGE
    after = installed(fetched, library)
    assert after.contract_id == other.open("tiny").contract_id != before.contract_id
    assert library.rollback("tiny").contract_id == before.contract_id
    assert library.rollback("tiny").contract_id == after.contract_id


def test_a_server_without_ranges(
    other: Library, tools: Tools, library: Library, server: FaultyServer, tmp_path: Path
) -> None:
    installed(fetch.pull("tiny", tools), library)
    release(other, server, tmp_path, seed=1)
    server.script += [Answer(), Answer(ignore_ranges=True)]
    fetched = fetch.pull("tiny", tools)
    assert fetched is not None
    assert fetched.received_bytes > LARGE
    assert installed(fetched, library).contract_id == other.open("tiny").contract_id


def test_of_a_damaged_pack_the_damage_is_fetched(
    other: Library, tools: Tools, library: Library, server: FaultyServer
) -> None:
    path = installed(fetch.pull("tiny", tools), library).path("embedder.onnx")
    content = bytearray(path.read_bytes())
    content[CHUNK_BYTES + 5] ^= 1
    path.write_bytes(content)
    fetched = fetch.pull("tiny", tools)
    assert server.ranges[-1] == f"bytes={CHUNK_BYTES}-{2 * CHUNK_BYTES - 1}"
    assert installed(fetched, library) == library.open("tiny")
    assert not library.has_previous("tiny")


def test_a_chunk_that_is_wrong_changes_nothing(
    other: Library, tools: Tools, library: Library, server: FaultyServer, tmp_path: Path
) -> None:
    before = installed(fetch.pull("tiny", tools), library)
    release(other, server, tmp_path, seed=1)
    server.script += [Answer(), Answer(corrupt_at=77)]
    with pytest.raises(WeightsError, match="nothing was kept"):
        fetch.pull("tiny", tools)
    assert library.open("tiny") == before
    assert leftovers(library) == []


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"<html>", "cannot be used as a manifest"),
        (b"[]", "cannot be used as a manifest"),
        (None, "is the manifest of a pack tiny, not of odd"),
    ],
)
def test_manifests_that_are_none(
    content: bytes | None, complaint: str, other: Library, tools: Tools, server: FaultyServer
) -> None:
    server.files[f"/odd/{MANIFEST}"] = server.files[f"/tiny/{MANIFEST}"] if content is None else content
    with pytest.raises(WeightsError, match=complaint):
        fetch.pull("odd", tools)


def test_a_manifest_that_names_files_elsewhere(other: Library, tools: Tools, server: FaultyServer) -> None:
    manifest = json.loads(server.files[f"/tiny/{MANIFEST}"])
    manifest["files"][0]["name"] = "../../escaped"
    server.files[f"/tiny/{MANIFEST}"] = json.dumps(manifest).encode()
    with pytest.raises(WeightsError, match="is not a plain file name"):
        fetch.pull("tiny", tools)


def test_names_that_nothing_is_known_under(tools: Tools, server: FaultyServer) -> None:
    with pytest.raises(NotFoundError, match=r"no pack other to fetch, only yunet_sface, .* models\.mirror"):
        fetch.pull("other", replace(tools, mirror=""))
    with pytest.raises(DependencyError, match="404"):
        fetch.pull("other", tools)
    server.asked.clear()
    with pytest.raises(InputError, match="facesvc models build"):
        fetch.pull("default", tools)
    with pytest.raises(InputError, match="cannot be the name of a pack"):
        fetch.pull("../other", tools)
    with pytest.raises(InputError, match="nothing to pin"):
        fetch.pull("yunet_sface", tools, new_pin=True)
    assert server.asked == []


def test_what_can_be_opened(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    folder = tiny_packs.write(tmp_path / "outer" / "inner")
    (tmp_path / "outer" / "README").write_text("about it")
    for path in (folder, folder.parent):
        with fetch.opened(path, tmp_path / "work") as found:
            assert found == folder
    for kind, ending in (("zip", ".zip"), ("gztar", ".tar.gz"), ("tar", ".tar")):
        shutil.make_archive(str(tmp_path / f"my pack {kind}"), kind, folder)
        with fetch.opened(tmp_path / f"my pack {kind}{ending}", tmp_path / "work") as found:
            assert found.name == f"my_pack_{kind}"
            assert sorted(path.name for path in found.iterdir()) == ["detector.onnx", "embedder.onnx", "pack.toml"]
        assert not list((tmp_path / "work").iterdir())
    with (
        pytest.raises(InputError, match=r"there is no .*nothing"),
        fetch.opened(tmp_path / "nothing", tmp_path / "work"),
    ):
        pass
