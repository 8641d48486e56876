"""A new version of a file is put together from the old one; only what changed is asked for, and nothing is believed."""

import hashlib
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models.faulty_server import FINE, Answer, FaultyServer

from facesvc.errors import DependencyError, WeightsError
from facesvc.models import chunks
from facesvc.models.chunks import CHUNK_BYTES, MAX_RUNS, Plan, extent, hashes, plan
from facesvc.models.download import Downloader, Fetched

# Five whole chunks and a short one, none like another.
OLD = random.Random(1).randbytes(5 * CHUNK_BYTES + 1000)

FetchChanged = Callable[..., Fetched]


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
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old"
    path.write_bytes(OLD)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder" / "model.onnx"


@pytest.fixture
def fetch_changed(server: FaultyServer, old: Path, target: Path) -> Iterator[FetchChanged]:
    """Serves the bytes given and fetches them; arguments may be others."""
    with Downloader(attempts=3, read_timeout_s=5, pause=lambda seconds: None) as downloader:

        def call(new: bytes, **changed: object) -> Fetched:
            server.files["/model.onnx"] = new
            arguments = {
                "old": old,
                "chunks": hashes(io.BytesIO(new)),
                "sha256": hashlib.sha256(new).hexdigest(),
                "size_bytes": len(new),
                "progress": lambda done, total: None,
                **changed,
            }
            return downloader.fetch_changed(f"{server.url}/model.onnx", target, **arguments)  # type: ignore[arg-type] - as given

        yield call


def edited(*places: int) -> bytes:
    new = bytearray(OLD)
    for place in places:
        new[place] ^= 1
    return bytes(new)


def asked(server: FaultyServer) -> list[str | None]:
    return [None if text is None else text.removeprefix("bytes=") for text in server.ranges]


def test_hashes_of_chunks(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OLD)
    found = hashes(tmp_path / "file")
    assert len(found) == 6
    assert found[1] == hashlib.sha256(OLD[CHUNK_BYTES : 2 * CHUNK_BYTES]).hexdigest()
    assert found[5] == hashlib.sha256(OLD[-1000:]).hexdigest()
    assert hashes(io.BytesIO()) == ()
    assert len(hashes(io.BytesIO(bytes(CHUNK_BYTES)))) == 1


def test_only_what_changed_is_asked_for(fetch_changed: FetchChanged, server: FaultyServer, target: Path) -> None:
    new = edited(CHUNK_BYTES, 2 * CHUNK_BYTES + 7, len(OLD) - 1)
    seen: list[tuple[int, int | None]] = []
    fetched = fetch_changed(new, progress=lambda done, total: seen.append((done, total)))

    assert fetched == Fetched(hashlib.sha256(new).hexdigest(), len(new), 2 * CHUNK_BYTES + 1000)
    assert target.read_bytes() == new
    assert asked(server) == [f"{CHUNK_BYTES}-{3 * CHUNK_BYTES - 1}", f"{5 * CHUNK_BYTES}-{len(OLD) - 1}"]
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]
    assert seen[0] == (3 * CHUNK_BYTES, len(new))
    assert seen[-1] == (len(new), len(new))


def test_chunks_that_moved_are_found(fetch_changed: FetchChanged, server: FaultyServer, target: Path) -> None:
    new = OLD[3 * CHUNK_BYTES :] + bytes(CHUNK_BYTES - 1000) + OLD[: 2 * CHUNK_BYTES] + OLD[:CHUNK_BYTES]
    assert fetch_changed(new).received_bytes == CHUNK_BYTES
    assert target.read_bytes() == new


def test_the_old_file_may_be_in_the_place_of_the_new_one(fetch_changed: FetchChanged, target: Path) -> None:
    target.write_bytes(OLD)
    new = edited(0)
    assert fetch_changed(new, old=target).received_bytes == CHUNK_BYTES
    assert target.read_bytes() == new


def test_the_same_file_asks_for_nothing(fetch_changed: FetchChanged, server: FaultyServer, target: Path) -> None:
    assert fetch_changed(OLD).received_bytes == 0
    assert server.asked == []
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("content", [None, b"", b"something else"])
def test_an_old_file_that_is_of_no_use(
    content: bytes | None, fetch_changed: FetchChanged, server: FaultyServer, tmp_path: Path, target: Path
) -> None:
    if content is not None:
        (tmp_path / "other").write_bytes(content)
    assert fetch_changed(OLD, old=tmp_path / "other").received_bytes == len(OLD)
    assert asked(server) == [None]
    assert target.read_bytes() == OLD


@pytest.mark.parametrize("answer", [Answer(ignore_ranges=True), Answer(status=416)])
def test_a_server_without_ranges_gives_the_whole(
    answer: Answer, fetch_changed: FetchChanged, server: FaultyServer, target: Path
) -> None:
    server.script.append(answer)
    new = edited(0)
    assert fetch_changed(new).received_bytes >= len(new)
    assert asked(server) == [f"0-{CHUNK_BYTES - 1}", None]
    assert target.read_bytes() == new


def test_ranges_that_end_midway_count(fetch_changed: FetchChanged, server: FaultyServer) -> None:
    server.script += [FINE, Answer(status=416)]
    new = edited(0, 2 * CHUNK_BYTES)
    assert fetch_changed(new).received_bytes == CHUNK_BYTES + len(new)


def test_a_cut_run_goes_on_after_its_last_whole_chunk(
    fetch_changed: FetchChanged, server: FaultyServer, target: Path
) -> None:
    server.script += [Answer(cut_after=CHUNK_BYTES + 500_000), Answer(status=503)]
    new = edited(0, CHUNK_BYTES, 2 * CHUNK_BYTES)
    fetch_changed(new)
    rest = f"{CHUNK_BYTES}-{3 * CHUNK_BYTES - 1}"
    assert asked(server) == [f"0-{3 * CHUNK_BYTES - 1}", rest, rest]
    assert target.read_bytes() == new


def test_a_run_that_stays_broken_keeps_nothing(fetch_changed: FetchChanged, server: FaultyServer, target: Path) -> None:
    server.script += [Answer(cut_after=10)] * 3
    with pytest.raises(DependencyError, match=r"could not be fetched \(tries: 3\)"):
        fetch_changed(edited(0))
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    "content_range",
    [None, "bytes 1-1048576/5243880", "bytes 0-1048576/5243880", "bytes 0-1048575/5243881", "bytes 0-1048575/1"],
)
def test_a_wrong_range_is_refused(
    content_range: str | None, fetch_changed: FetchChanged, server: FaultyServer, target: Path
) -> None:
    server.script.append(Answer(headers={"Content-Range": content_range}))
    with pytest.raises(DependencyError, match=r"gives '.*' where 'bytes=0-1048575' was asked for"):
        fetch_changed(edited(0))
    assert list(target.parent.iterdir()) == []


def test_a_range_shorter_than_asked_for_is_gone_on_with(
    fetch_changed: FetchChanged, server: FaultyServer, target: Path
) -> None:
    short = {"Content-Range": f"bytes 0-{CHUNK_BYTES - 1}/*", "Content-Length": str(CHUNK_BYTES)}
    server.script.append(Answer(headers=short, cut_after=CHUNK_BYTES))
    new = edited(0, CHUNK_BYTES)
    fetch_changed(new)
    assert asked(server)[1] == f"{CHUNK_BYTES}-{2 * CHUNK_BYTES - 1}"
    assert target.read_bytes() == new


def test_a_damaged_chunk_keeps_nothing(fetch_changed: FetchChanged, server: FaultyServer, target: Path) -> None:
    target.write_bytes(b"an older one")
    server.script.append(Answer(corrupt_at=CHUNK_BYTES + 5))
    with pytest.raises(WeightsError, match=r"model.onnx: bytes 1048576 to 2097151 have the SHA-256 .*; expected was"):
        fetch_changed(edited(0, CHUNK_BYTES, 2 * CHUNK_BYTES))
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]
    assert target.read_bytes() == b"an older one"


def test_chunks_that_do_not_make_up_the_file(fetch_changed: FetchChanged, target: Path) -> None:
    new = edited(0)
    for wrong in ([], hashes(io.BytesIO(new))[1:], hashes(io.BytesIO(new + bytes(CHUNK_BYTES)))):
        with pytest.raises(WeightsError, match=rf"of {len(new)} bytes cannot have {len(wrong)} chunks"):
            fetch_changed(new, chunks=wrong)
    with pytest.raises(WeightsError, match=r"SHA-256 .*; expected was 00"):
        fetch_changed(new, sha256="00" * 32)
    first, *others = hashes(io.BytesIO(OLD))
    with pytest.raises(WeightsError, match=r"SHA-256 .*; expected was"):
        fetch_changed(new, chunks=[others[-1], *others])  # the short chunk in the place of a whole one
    assert list(target.parent.iterdir()) == []
    assert first


def test_too_little_space(
    fetch_changed: FetchChanged, server: FaultyServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks.shutil, "disk_usage", lambda path: SimpleNamespace(free=len(OLD) - 1))
    with pytest.raises(DependencyError, match=f"needs {len(OLD)} bytes more"):
        fetch_changed(edited(0))
    assert server.asked == []
    assert list(target.parent.iterdir()) == []


def test_an_endless_range(fetch_changed: FetchChanged, server: FaultyServer, target: Path) -> None:
    server.script.append(Answer(endless=True))
    new = edited(0)
    assert fetch_changed(new).received_bytes < 2 * CHUNK_BYTES
    assert target.read_bytes() == new


def test_a_leftover_of_a_plain_try_does_no_harm(
    fetch_changed: FetchChanged, server: FaultyServer, target: Path
) -> None:
    target.with_name(".model.onnx.part").write_bytes(bytes(2 * len(OLD)))
    target.with_name(".model.onnx.part.json").write_text("{}")
    new = edited(0)
    fetch_changed(new)
    assert target.read_bytes() == new
    assert [path.name for path in target.parent.iterdir()] == ["model.onnx"]


# Properties, with chunks of eight bytes.


@settings(max_examples=300)
@given(
    old=st.lists(st.integers(0, 30).map(str), max_size=30),
    new=st.lists(st.integers(0, 60).map(str), max_size=200),
)
def test_a_plan_covers_every_chunk_once(old: list[str], new: list[str]) -> None:
    made = plan(old, new)
    fetched = [at for run in made.runs for at in run]
    assert sorted([*fetched, *(to for to, _ in made.copies)]) == list(range(len(new)))
    assert all(new[to] == old[at] for to, at in made.copies)
    assert len(made.runs) <= MAX_RUNS
    missing = [at for at, chunk in enumerate(new) if chunk not in old]
    stretches = sum(1 for at in missing if at - 1 not in missing)
    if stretches <= MAX_RUNS:
        assert fetched == missing


def test_many_stretches_are_parted_at_the_widest_gaps() -> None:
    changed = {3 * at for at in range(40)} | {500, 600}
    new = [f"new {at}" if at in changed else "old" for at in range(601)]
    made = plan(["old"], new)
    copies, runs = made.copies, made.runs
    assert len({to for to, _ in copies}) + sum(map(len, runs)) == len(new)
    assert len(copies) == len({to for to, _ in copies})
    assert len(runs) == MAX_RUNS
    assert runs[-2:] == (range(500, 501), range(600, 601))
    assert plan([], []) == Plan((), ())


def test_extents() -> None:
    assert extent(range(2), 10 * CHUNK_BYTES) == (0, 2 * CHUNK_BYTES)
    assert extent(range(1, 2), CHUNK_BYTES + 1) == (CHUNK_BYTES, CHUNK_BYTES + 1)


EDITS = st.lists(
    st.one_of(
        st.tuples(st.just("replace"), st.integers(0, 200), st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("insert"), st.integers(0, 200), st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("delete"), st.integers(0, 200), st.binary(min_size=1, max_size=20)),
    ),
    max_size=4,
)


def apply(content: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, at, data in edits:
        end = at if kind == "insert" else at + len(data)
        content = content[:at] + (b"" if kind == "delete" else data) + content[end:]
    return content


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), edits=EDITS)
def test_any_edit_gives_the_new_file_and_fetches_only_what_changed(
    content: bytes, edits: list[tuple[str, int, bytes]], server: FaultyServer, old: Path, target: Path
) -> None:
    new = apply(content, edits)
    old.write_bytes(content)
    server.files["/model.onnx"] = new
    with pytest.MonkeyPatch.context() as patch, Downloader() as downloader:
        patch.setattr(chunks, "CHUNK_BYTES", 8)
        patch.setattr("facesvc.models.download.CHUNK_BYTES", 8)
        before = set(hashes(old))
        pieces = [new[at : at + 8] for at in range(0, len(new), 8)]
        fetched = downloader.fetch_changed(
            f"{server.url}/model.onnx",
            target,
            old=old,
            chunks=hashes(io.BytesIO(new)),
            sha256=hashlib.sha256(new).hexdigest(),
            size_bytes=len(new),
            progress=lambda done, total: None,
        )
    assert target.read_bytes() == new
    assert fetched.size_bytes == len(new)
    changed = sum(len(piece) for piece in pieces if hashlib.sha256(piece).hexdigest() not in before)
    assert fetched.received_bytes == changed
