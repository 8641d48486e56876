"""Nobody who has the files can read of people, and nothing is left of the erased: in files, in logs, in memory."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from gallery import storing, traces
from gallery.traces import CONTRACT, EVERYTHING, NOW, Conspicuous

from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import FacesvcError
from facesvc.gallery import Gallery, gallery, loading
from facesvc.gallery.crypto import Cipher, associated
from facesvc.gallery.masterkey import KeyFile
from facesvc.gallery.wiping import ENVIRONMENT

PEOPLE = [Conspicuous(number) for number in range(100, 112)]
ERASED = PEOPLE[3]
_WRAPPED = 1 + 12 + 32 + 16  # bytes: version, nonce, key, tag


@pytest.fixture
def filled(path: Path, vault: KeyFile, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gallery]:
    """A gallery of conspicuous people, with a saved view beside it."""
    for module in (gallery, loading):
        monkeypatch.setattr(module, "WORTH_SAVING", 1)
    view = path.with_name("gallery.view")
    with closing(Gallery.open(SqliteDatabase(path), CONTRACT, NOW, [vault], view)) as opened:
        for person in PEOPLE:
            opened.create_subject(person.subject)
            for sample in person.samples:
                opened.add_sample(sample, 0.9, NOW, contract_id=CONTRACT.contract_id, crop=person.crop)
        assert opened.save_view()
        yield opened


@pytest.fixture
def content(path: Path) -> Callable[[], bytes]:
    """All bytes of all files."""
    return lambda: b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def test_what_is_looked_for_would_be_found() -> None:
    for person in PEOPLE[:2]:
        [sample, *_] = person.samples
        assert sample.vector is not None
        plain = b"?".join([*(text.encode() for text in person.texts.values()), sample.vector.tobytes(), person.crop])
        piece = sample.vector.tobytes()[4 : 4 + traces.PIECE]
        for content, found in (
            (plain, EVERYTHING),
            (b"odd" + piece + b"odd", {"vector f4"}),
            (b"odd" + piece[1:], set()),
            (sample.vector.astype("<f2").tobytes()[:16], {"vector f2"}),
            (sample.vector.astype("<f8").tobytes()[8:24], {"vector f8"}),
            (person.texts["note"].encode("utf-16-le"), {"note"}),
            (person.crop[101:117] + bytes(9), {"picture"}),
        ):
            assert traces.left_in([content], PEOPLE) == ({person.number: found} if found else {})
            assert traces.left_in(traces.written(bytes(10_000) + content), PEOPLE[4:]) == {}


def test_no_file_tells_anything(filled: Gallery, path: Path, content: Callable[[], bytes]) -> None:
    names = {file.name for file in path.parent.iterdir()}
    assert names >= {"gallery.sqlite", "gallery.sqlite-wal", "gallery.sqlite-keys", "gallery.view"}
    assert traces.left_in([content()], PEOPLE) == {}
    filled.erase_subject("office", ERASED.subject_id, NOW)
    assert traces.left_in([content()], PEOPLE) == {}
    filled.close()
    assert traces.left_in([content()], PEOPLE) == {}


def test_no_log_tells_anything(
    filled: Gallery, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    filled.update_subject(ERASED.subject, {"display_name"}, NOW)
    for refused in (
        lambda: filled.create_subject(ERASED.subject),
        lambda: filled.add_sample(ERASED.samples[0], 0.9, NOW, contract_id=CONTRACT.contract_id),
        lambda: filled.add_sample(PEOPLE[4].samples[0], 0.9, NOW, contract_id="another"),
    ):
        with pytest.raises(FacesvcError) as error:
            refused()
        assert traces.left_in([str(error.value).encode()], PEOPLE) == {}
    filled.erase_subject("office", ERASED.subject_id, NOW)
    said = capfd.readouterr()
    assert traces.left_in([caplog.text.encode(), said.out.encode(), said.err.encode()], PEOPLE) == {}


def test_with_the_master_key_nothing_of_the_erased_can_be_opened(
    filled: Gallery, path: Path, vault: KeyFile, tmp_path: Path, content: Callable[[], bytes]
) -> None:
    select = filled._store._database.select
    where = "WHERE subject_id = ?"
    sealed = [value for (value,) in select(f"SELECT sealed FROM subjects {where}", (ERASED.subject_id,))]
    for table in ("vectors", "crops"):
        sql = f"SELECT {table}.sealed FROM {table} JOIN samples USING (row_id) {where}"
        sealed += [value for (value,) in select(sql, (ERASED.subject_id,))]
    shutil.copytree(path.parent, tmp_path / "thief")  # what somebody took before the erasure
    key = vault.read()
    assert key is not None
    master = Cipher(key)

    def keys_in(data: bytes) -> dict[str, Cipher]:
        """Every key that is anywhere in ``data``, wrapped, by whose it is."""
        found = {}
        at = data.find(b"\x01")
        while at >= 0:
            for person in PEOPLE:
                name = associated("subject key", "office", person.subject_id)
                wrapped = data[at : at + _WRAPPED]
                if len(wrapped) == _WRAPPED and master.fits(wrapped, name):
                    found[person.subject_id] = Cipher(master.unseal(wrapped, name))
            at = data.find(b"\x01", at + 1)
        return found

    def opened_by(keys: dict[str, Cipher]) -> int:
        """How many of the sealed values one of the keys opens; the first is the subject's."""
        names = [associated("subject", "office", ERASED.subject_id)]
        for sample in ERASED.samples:
            rest = ("office", ERASED.subject_id, sample.sample_id)
            names += [associated("vector", *rest, CONTRACT.contract_id), associated("crop", *rest)]
        return sum(any(one.fits(value, name) for one in [*keys.values(), master] for name in names) for value in sealed)

    keyring_files = [b"".join(file.read_bytes() for file in path.parent.glob("*-keys*"))]
    before = keys_in(keyring_files[0])
    assert before.keys() == {person.subject_id for person in PEOPLE}
    assert opened_by(before) == len(sealed) == 7
    filled.erase_subject("office", ERASED.subject_id, NOW)
    after = keys_in(content())
    assert after.keys() == before.keys() - {ERASED.subject_id}
    assert opened_by(after) == 0
    filled.close()
    assert keys_in(content()).keys() == after.keys()
    # What was copied before opens with its own keys, of course: which is why backups are told of erasures.
    assert opened_by(keys_in((tmp_path / "thief" / "gallery.sqlite-keys-wal").read_bytes())) == 7


def _dump(folder: Path) -> Path:
    """Where the kernel has put the dump of a process that ended in ``folder``."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"this kernel does not write dumps beside the program: its pattern is {pattern}")
    dumps = list(folder.glob("core*"))
    if not dumps:
        pytest.skip("this kernel wrote no dump, though it was asked to")
    return dumps[0]


@dataclass(frozen=True)
class Lived:
    """A process in which people were enrolled, searched and, but for the first, erased.

    Its memory, the folder that it ended in, and the keys of those who were erased.
    """

    memory: list[bytes]
    folder: Path
    keys: list[bytes]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Lived:
    """One that overwrites what it frees, see ``wiping``."""
    folder = tmp_path_factory.mktemp("lived")
    path, key = folder / "gallery" / "gallery.sqlite", KeyFile(folder / "key" / "master.key")
    with closing(Gallery.open(SqliteDatabase(path), CONTRACT, NOW, [key])) as opened:
        for person in PEOPLE[1:]:
            opened.create_subject(person.subject)
            for sample in person.samples:
                opened.add_sample(sample, 0.9, NOW, contract_id=CONTRACT.contract_id, crop=person.crop)
        keys = [opened.keyring.get("office", person.subject_id)._key for person in PEOPLE[1:]]
    tests = str(Path(__file__).parents[1])
    pythonpath = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": pythonpath}
    command = [sys.executable, storing.__file__, str(path), str(key.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(str(PEOPLE[0].number).encode())
        child.stdin.flush()
        assert child.stdout.readline() == b"done\n"
        memory = list(traces.memory_of(child.pid))
    return Lived(memory, path.parent, keys)


@pytest.mark.slow
def test_nothing_in_memory_holds_on_to_the_erased(lived: Lived) -> None:
    assert traces.left_in(lived.memory, PEOPLE[:1])[PEOPLE[0].number] >= {"person", "vector f2"}
    assert traces.left_in(lived.memory, PEOPLE[1:]) == {}
    assert not [key for key in lived.keys if any(key in part for part in lived.memory)]


def test_a_dump_tells_nothing_of_the_erased(lived: Lived) -> None:
    dump = list(traces.written(_dump(lived.folder).read_bytes()))
    assert "person" in traces.left_in(dump, PEOPLE[:1])[PEOPLE[0].number]
    assert traces.left_in(dump, PEOPLE[1:]) == {}
