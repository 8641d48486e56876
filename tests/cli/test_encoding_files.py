"""Files of encodings in all the forms that people have them in, and files that are none."""

import io
import json
import os
import pickle
import stat
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from facesvc.cli import encoding_entries, encoding_files, encoding_output, pickles
from facesvc.cli.encoding_entries import MAX_ENCODINGS, Encoding, Encodings, encodings_in
from facesvc.cli.encoding_files import decode, read
from facesvc.cli.encoding_output import DLIB_LENGTH, check_writable, write
from facesvc.cli.pickled_arrays import Array
from facesvc.errors import DependencyError, InputError

A, B = [1.0, 0.0, -0.5], [0.25, 2.0, 0.0]


def decoded(data: bytes) -> Encodings:
    return decode(io.BytesIO(data))


def rows(encodings: Encodings) -> list[tuple[str, str, list[float]]]:
    """Id, name and numbers of each encoding."""
    return [(entry.subject_id, entry.name, entry.vector.tolist()) for entry in encodings.entries]


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def arrayed(value: Any) -> Any:
    """The same with arrays in place of lists of numbers, as ``face_recognition`` makes them."""
    if isinstance(value, list) and value and isinstance(value[0], float):
        return np.array(value)
    if isinstance(value, list):
        return [arrayed(one) for one in value]
    return {key: arrayed(one) for key, one in value.items()} if isinstance(value, dict) else value


FORMS: list[tuple[Any, list[tuple[str, str]]]] = [
    ({"encodings": [A, B], "names": ["Jane Doe", "Joe"]}, [("", "Jane Doe"), ("", "Joe")]),
    ({"embeddings": [A, B], "subject_ids": ["jane", "joe"]}, [("jane", ""), ("joe", "")]),
    ({"embeddings": [A, B], "subject_ids": ["j", "k"], "names": ["J", None]}, [("j", "J"), ("k", "")]),
    ({"encodings": [A, B], "names": [7, 8], "other": {"x": [1]}}, [("", "7"), ("", "8")]),
    ({"Jane": A, "Joe": B}, [("", "Jane"), ("", "Joe")]),
    ({"Jane": [A, B]}, [("", "Jane"), ("", "Jane")]),
    ({"Jane": [A], "Nobody": [], "Joe": B}, [("", "Jane"), ("", "Joe")]),
    ({"encodings": A, "embeddings": B}, [("", "encodings"), ("", "embeddings")]),
    ([["Jane", A], ["Joe", B]], [("", "Jane"), ("", "Joe")]),
    ([[A, "Jane"], [[B], "Joe"]], [("", "Jane"), ("", "Joe")]),
    ([["Jane", A], ["Joe", [B]], ["Joe", []]], [("", "Jane"), ("", "Joe")]),
    ([["Jane", "Joe"], [A, B]], [("", "Jane"), ("", "Joe")]),
    ([[A, B], ["Jane", "Joe"]], [("", "Jane"), ("", "Joe")]),
    ([{"name": "Jane", "encoding": A}, {"subject_id": "joe", "embedding": B}], [("", "Jane"), ("joe", "")]),
    ([{"name": "Jane", "subject_id": "j", "encodings": [A, B], "age": 3}], [("j", "Jane"), ("j", "Jane")]),
]


@pytest.mark.parametrize(("value", "owners"), FORMS)
def test_every_form_is_read(value: Any, owners: list[tuple[str, str]]) -> None:
    expected = [(*owner, vector) for owner, vector in zip(owners, (A, B), strict=True)]

    for data in (
        json.dumps(value).encode(),
        b"\xef\xbb\xbf\n " + json.dumps(value, indent=1).encode(),
        *(pickle.dumps(value, protocol) for protocol in range(6)),
        *(pickle.dumps(arrayed(value), protocol) for protocol in range(6)),
    ):
        assert rows(decoded(data)) == expected


def test_what_only_pickles_have() -> None:
    expected = [("", "Jane", A), ("", "Joe", B)]
    vectors, names = np.array([A, B], ">f8", order="F"), np.array(["Jane", "Joe"])

    assert rows(decoded(pickle.dumps({"encodings": vectors, "names": names}))) == expected
    assert rows(decoded(pickle.dumps((names, vectors)))) == expected
    assert rows(decoded(pickle.dumps(list(zip(names, vectors, strict=True))))) == expected
    assert rows(decoded(pickle.dumps({"Jane": vectors[:1], "Joe": [vectors[1].astype("f4")]}))) == expected
    assert rows(decoded(pickle.dumps([A, B]) + pickle.dumps(["Jane", "Joe"]))) == expected
    assert rows(decoded(pickle.dumps({"Jane": list(vectors[0]), "Joe": tuple(B)}))) == expected


@pytest.mark.parametrize("kind", ["f2", "<f4", ">f8"])
def test_an_npz_is_read(kind: str) -> None:
    vectors = np.array([A, B], kind)

    assert rows(decoded(npz(embeddings=vectors, subject_ids=["j", "k"]))) == [("j", "", A), ("k", "", B)]
    whole = npz(embeddings=vectors.copy("F"), subject_ids=[7, 8], names=["J", "K"], contract="arc/1", more=[{}])
    assert rows(decoded(whole)) == [("7", "J", A), ("8", "K", B)]
    assert decoded(whole).contract == "arc/1"
    file = io.BytesIO()
    np.savez_compressed(file, embeddings=vectors, names=["J", "K"])
    assert rows(decoded(file.getvalue())) == [("", "J", A), ("", "K", B)]


def test_the_contract_of_a_json_is_read() -> None:
    assert encodings_in({"contract": "arc/1", "encodings": [A], "names": ["J"]}).contract == "arc/1"
    assert encodings_in({"encodings": [A], "names": ["J"]}).contract == ""
    assert encodings_in({"contract": A}).contract == ""


def test_places_are_those_of_the_file() -> None:
    def places(value: Any) -> list[str]:
        return [entry.where for entry in encodings_in(value).entries]

    assert places({"encodings": [A, B], "names": ["a", "b"]}) == ["encodings[0]", "encodings[1]"]
    assert places({"Jane": [A, B], "Joe": A}) == ["Jane[0]", "Jane[1]", "Joe"]
    assert places([["Jane", A], ["Joe", [A, B]]]) == ["[0]", "[1][0]", "[1][1]"]


NO_ENCODING = "this is no encoding, which is a list of 1 to 4096 numbers"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({}, "there are no encodings"),
        ([], "there are no encodings"),
        ({"Jane": []}, "there are no encodings"),
        ({"encodings": [], "names": []}, "there are no encodings"),
        (17, "this holds no encodings: write"),
        (None, "this holds no encodings: write"),
        (A, "[0]: this is no pair of a name and an encoding"),
        ([A, B], "[0]: this is no pair of a name and an encoding"),
        ([["Jane", A, B]], "[0]: this is no pair"),
        ([{"name": "Jane"}], "[0]: this is no pair"),
        ({"encodings": [A, B], "names": ["Jane"]}, "there are 2 encodings, but 1 names"),
        ({"encodings": [A], "names": "J"}, "names: this is no list"),
        ({"encodings": {"Jane": A}, "names": ["J"]}, f"encodings: {NO_ENCODING}"),
        ({"encodings": [A, [1.0, "x"]], "names": ["J", "K"]}, f"encodings[1]: {NO_ENCODING}"),
        ({"encodings": [A, [B]], "names": ["J", "K"]}, f"encodings[1]: {NO_ENCODING}"),
        ({"encodings": [A], "names": [[1]]}, "encodings[0]: a text is needed here"),
        ({"encodings": [A], "names": [True]}, "encodings[0]: a text is needed here"),
        ({"encodings": [A], "names": [10**400]}, "encodings[0]: a text is needed here"),
        ({"encodings": [A], "names": ["J"], "contract": 1.5}, "contract: a text is needed here"),
        ({"Jane": "Doe"}, f"Jane: {NO_ENCODING}"),
        ({"Jane": [A, None]}, f"Jane[1]: {NO_ENCODING}"),
        ({"Jane": [1.0, True]}, f"Jane: {NO_ENCODING}"),
        ({"Jane": [0.5] * 4097}, f"Jane: {NO_ENCODING}"),
        ({"Jane": [A, []]}, f"Jane[1]: {NO_ENCODING}"),
        ({"Jane": [1.0, 10**400]}, "Jane: one of the numbers is too large"),
        ({"x" * 999: None}, f"{'x' * 80}: {NO_ENCODING}"),
    ],
)
def test_what_is_no_encoding_is_refused_with_its_place(value: Any, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        encodings_in(value)
    assert caught.value.message.startswith(complaint)


def test_numbers_that_float32_cannot_hold_are_infinite() -> None:
    (entry,) = decoded(b'{"Jane": [1e300, -1e300, 1e999, NaN, 1]}').entries
    assert entry.vector.tolist()[:3] == [float("inf"), float("-inf"), float("inf")]
    assert np.isnan(entry.vector[3])


def test_what_is_shared_a_thousand_times_is_kept_once() -> None:
    entries = decoded(pickle.dumps({"Jane": [np.array(A)] * 1000, "Joe": [A] * 1000})).entries
    assert len({id(entry.vector) for entry in entries}) == 2


def test_rows_of_two_arrays_are_not_mixed_up() -> None:
    people = {str(place): np.full((2, 3), float(place)) for place in range(50)}
    for entry in decoded(pickle.dumps(people)).entries:
        assert set(entry.vector.tolist()) == {float(entry.name)}


def damaged(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def npy(shape: str, raw: bytes = b"", descr: str = "'<f4'") -> bytes:
    """A ``.npy`` file whose header says so."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + raw


def zipped(compression: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return file.getvalue()


IDS = npy("(1,)", b"a\0\0\0", "'<U1'")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "this pickle is damaged"),
        (b"{", "this is no JSON"),
        (b'{"a": 1e5}x', "this is no JSON"),
        (b"[" * 100_000, "this is no JSON"),
        (b'["\xff"]', "this is no JSON"),
        (b"[" + b"9" * 5000 + b"]", "this is no JSON"),
        (npz(embeddings=[A]), "has no embeddings"),
        (npz(names=["a"]), "has no embeddings"),
        (npz(embeddings=A, names=["a"]), "no (N, D) floats"),
        (npz(embeddings=[[1, 2]], names=["a"]), "no (N, D) floats"),
        (npz(embeddings=[A], names=[["a"]]), "names: this is no list"),
        (npz(embeddings=[A], names=["a", "b"]), "1 encodings, but 2 names"),
        (npz(embeddings=[A], names=["a"], contract=3), "the contract of this .npz is no text"),
        (npz(embeddings=[A], names=["a"], contract=["a", "b"]), "the contract of this .npz is no text"),
        (npz(embeddings=np.zeros((0, 3)), names=np.zeros(0, "U1")), "there are no encodings"),
        (npz(embeddings=np.zeros((9, 0)), names=["a"] * 9), "is no encoding"),
        (npz(embeddings=[[1j]], names=["a"]), "embeddings of this .npz is no array of numbers"),
        (npz(embeddings=[A], names=np.array(["a"], object)), "names of this .npz is no array of numbers"),
        (npz(embeddings=np.zeros(1, [("x", "f4")]), names=["a"]), "is no array of numbers"),
        (zipped(embeddings=npy("(1000000, 1000000)"), names=IDS), "unpacks to 3,814,697 MiB"),
        (zipped(embeddings=npy("(-1, -5)"), names=IDS), "is no array of numbers"),
        (zipped(embeddings=npy("(1, 5)", bytes(8)), names=IDS), "this .npz is damaged"),
        (zipped(embeddings=npy("(1, 5"), names=IDS), "this .npz is damaged"),
        (zipped(embeddings=npy("(" * 5000), names=IDS), "this .npz is damaged"),
        (zipped(embeddings=b"\x93NUMPY\x07\x00", names=IDS), "this .npz is damaged"),
        (zipped(embeddings=npy("(1, 1)", bytes(4)), names=npy("(1,)", b"\xff" * 4, "'<U1'")), "this .npz is damaged"),
        (zipped(zipfile.ZIP_BZIP2, embeddings=npy("(1, 1)", bytes(4)), names=IDS), "packed in a way that numpy does"),
        (zipped(zipfile.ZIP_LZMA, embeddings=npy("(1, 1)", bytes(4)), names=IDS), "packed in a way that numpy does"),
        (zipped(**{f"x{place}": b"" for place in range(101)}), "more than 100 arrays"),
        (damaged(npz(embeddings=[A], names=["a"]), 150, b"\xff\xff"), "this .npz is damaged"),
        (npz(embeddings=[A], names=["a"])[:-30], "this .npz is damaged"),
    ],
)
def test_a_file_that_is_none_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(InputError) as caught:
        decoded(data)
    assert complaint in caught.value.message


def test_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_files, "_MAX_UNPACKED_BYTES", 1 << 20)
    raw = bytes(4 << 20)
    bomb = zipped(zipfile.ZIP_DEFLATED, embeddings=npy("(1, 1048576)", raw), names=IDS)
    assert len(bomb) < 20_000

    with pytest.raises(InputError, match="unpacks to 4 MiB"):
        decoded(bomb)
    stored = zipped(embeddings=npy("(1024, 1024)", raw), names=npy("(1024,)", b"a\0\0\0" * 1024, "'<U1'"))
    assert len(decoded(stored).entries) == 1024


def test_a_member_that_lies_about_its_size_is_damaged() -> None:
    whole = zipped(zipfile.ZIP_DEFLATED, embeddings=npy("(64, 1024)", bytes(64 * 4096)), names=IDS)
    place = whole.index(b"PK\x01\x02") + 24
    size = struct.unpack_from("<I", whole, place)[0]

    with pytest.raises(InputError, match=r"this \.npz is damaged"):
        decoded(damaged(whole, place, struct.pack("<I", size - 4096)))
    assert zlib.crc32(whole)  # the rest of it is sound: what was changed is what is refused


@pytest.mark.parametrize(
    ("limits", "limit", "data"),
    [
        (encoding_files, "MAX_BYTES", json.dumps({"Jane": [A] * 100}).encode()),
        (encoding_files, "MAX_LISTS", json.dumps({"Jane": [A] * 100}).encode()),
        (encoding_files, "MAX_LISTS", json.dumps([{"name": "Jane", "encoding": A}] * 60).encode()),
        (pickles, "MAX_NUMBERS", json.dumps({"Jane": [A] * 100}).encode()),
        (encoding_entries, "MAX_ENCODINGS", json.dumps({"Jane": [A] * 101}).encode()),
        (encoding_entries, "MAX_ENCODINGS", pickle.dumps({"Jane": [np.array(A)] * 101})),
        (encoding_entries, "MAX_ENCODINGS", npz(embeddings=[A] * 101, names=["a"] * 101)),
    ],
)
def test_what_is_read_is_bounded(limits: Any, limit: str, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded(data)
    monkeypatch.setattr(limits, limit, 100)
    with pytest.raises(InputError, match=r"over|more than"):
        decoded(data)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_read_or_refused(data: bytes) -> None:
    for start in (b"", b"{", b"[", b"PK\x03\x04", b"\x80\x04"):
        with suppress(InputError):
            decoded(start + data)


@given(st.data())
def test_so_are_damaged_files(data: st.DataObject) -> None:
    whole = bytearray(
        data.draw(
            st.sampled_from(
                [
                    npz(embeddings=[A], names=["a"], contract="x"),
                    zipped(zipfile.ZIP_DEFLATED, embeddings=npy("(1, 1)", bytes(4)), names=IDS),
                    json.dumps({"contract": "x", "encodings": [A], "names": ["J"]}).encode(),
                    pickle.dumps({"encodings": [np.array(A)], "names": [np.str_("J")]}),
                ]
            )
        )
    )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(InputError):
        decoded(bytes(whole))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["encodings", "names", "encoding", "name", "subject_ids", "contract", "x"]), inner
        )
    ),
)


@given(JSON)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with suppress(InputError):
        decoded(json.dumps([value, value] if isinstance(value, str | float | None) else value).encode())


EXPORTED = Encodings(
    "arc/1",
    (
        Encoding("jane", "Jané Doe", np.array([0.6, -0.8, 1e-7], np.float32), ""),
        Encoding("joe", "Joe", np.array([0.1, 0.2, 1 / 3], np.float32), ""),
    ),
)


@pytest.mark.parametrize("suffix", [".npz", ".json", ".NPZ"])
def test_what_is_written_is_read_exactly(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"all{suffix}"
    write(path, EXPORTED)

    assert read(path).contract == "arc/1"
    assert rows(read(path)) == rows(EXPORTED)


@pytest.mark.parametrize(("contract", "length"), [("arc/1", 1.0), ("dlib-resnet29-128-abc", DLIB_LENGTH)])
def test_a_pickle_is_read_by_pickle_without_numpy(contract: str, length: float, tmp_path: Path) -> None:
    path = tmp_path / "all.pickle"
    write(path, Encodings(contract, EXPORTED.entries))
    data = path.read_bytes()

    assert b"numpy" not in data
    known = pickle.loads(data)
    assert known["names"] == ["Jané Doe", "Joe"]
    np.testing.assert_allclose(
        known["encodings"], [entry.vector * length for entry in EXPORTED.entries], rtol=1e-7, atol=1e-12
    )
    assert [name for _, name, _ in rows(read(path))] == known["names"]


def test_two_people_of_one_name_are_told_apart_in_a_pickle(tmp_path: Path) -> None:
    vector = np.array([1], np.float32)
    people = [("a", "Jane"), ("b", "Jane"), ("c", ""), ("d", "Joe"), ("d", "Joe")]
    entries = tuple(Encoding(subject_id, name, vector, "") for subject_id, name in people)
    write(tmp_path / "all.pkl", Encodings("arc/1", entries))

    assert pickle.loads((tmp_path / "all.pkl").read_bytes())["names"] == ["Jane (a)", "Jane (b)", "c", "Joe", "Joe"]


def test_only_the_owner_may_read_what_is_written(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        write(tmp_path / "all.npz", EXPORTED)
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "all.npz").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["all.npz"]


def test_nothing_is_written_over_and_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "there.npz"
    there.write_bytes(b"mine")
    for path, complaint in (
        (there, "is there already"),
        (tmp_path / "all.txt", r"ends in \.npz, \.json, \.pickle, \.pkl"),
        (tmp_path / "no/all.npz", "there is no folder"),
    ):
        with pytest.raises(InputError, match=complaint):
            check_writable(path)
        with pytest.raises(InputError, match=complaint):
            write(path, EXPORTED)
    monkeypatch.setattr(encoding_output, "MAX_NUMBERS", 5)
    with pytest.raises(InputError, match=r"over 5: export them as \.npz"):
        write(tmp_path / "all.json", EXPORTED)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(DependencyError, match="No space left on device"):
        write(tmp_path / "all.npz", EXPORTED)

    assert [path.name for path in tmp_path.iterdir()] == ["there.npz"]
    assert there.read_bytes() == b"mine"


def test_a_file_is_named_in_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "known.pickle"
    with pytest.raises(InputError, match=rf"{path} cannot be read: No such file"):
        read(path)
    path.write_bytes(pickle.dumps(os.system))
    with pytest.raises(InputError, match=rf"{path}: this pickle wants to run posix\.system; it was not run"):
        read(path)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_rows_are_counted_before_each_gets_a_place() -> None:
    many = Array(np.zeros((MAX_ENCODINGS + 1, 1), np.uint8))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more than 2,000,000 encodings"):
            encodings_in({"Ana": many})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
