"""Whatever an archive holds: plain files come out under plain names, or a reason does and nothing stays."""

import bz2
import gzip
import io
import lzma
import os
import resource
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facesvc.errors import DependencyError, WeightsError
from facesvc.models.archives import MAX_DEPTH, unpack

FILES = {"det.onnx": os.urandom(100_000), "sub/rec.onnx": os.urandom(70_000), "sub/deep/labels.txt": b"one\ntwo\n"}
LIMITS = {"max_bytes": 1 << 20, "max_files": 20}

Unpack = Callable[..., list[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.fixture
def unpacked(tmp_path: Path, folder: Path) -> Unpack:
    """Unpacks the bytes of an archive; limits may be others."""

    def call(content: bytes, **limits: int) -> list[str]:
        (tmp_path / "pack.bin").write_bytes(content)
        return unpack(tmp_path / "pack.bin", folder, **{**LIMITS, **limits})

    return call


@pytest.fixture
def refused(unpacked: Unpack, tmp_path: Path, folder: Path) -> Callable[..., None]:
    """The archive is refused with these words, and nothing stays of it, here or elsewhere."""

    def call(content: bytes, match: str, **limits: int) -> None:
        with pytest.raises(WeightsError, match=rf"^pack\.bin is refused.*{match}"):
            unpacked(content, **limits)
        assert list(folder.iterdir()) == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "pack.bin"]

    return call


Refused = Callable[..., None]


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=form) as archive:  # type: ignore[call-overload] - one of its modes
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o4777
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def tar_of(*members: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, linkname, size
    return info


def zip_entry(name: str, content: bytes = b"x", **changed: int) -> bytes:
    info = zipfile.ZipInfo(name)
    for field, value in changed.items():
        setattr(info, field, value)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, content)
    return out.getvalue()


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def central(archive: bytes, offset: int, new: bytes) -> bytes:
    """The same bytes in the local header and in the directory of a zip of one entry, told by their place in each."""
    at = archive.index(b"PK\x01\x02")
    return patched(patched(archive, offset, new), at + offset + 2, new)


ARCHIVES = {
    "zip": zipped(FILES),
    "stored": zipped(FILES, zipfile.ZIP_STORED),
    "tar": tarred(FILES),
    "gnu": tarred(FILES, form=tarfile.GNU_FORMAT),
    "ustar": tarred(FILES, form=tarfile.USTAR_FORMAT),
    "gz": tarred(FILES, "w:gz"),
    "bz2": tarred(FILES, "w:bz2"),
    "xz": tarred(FILES, "w:xz"),
}


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_unpacks(content: bytes, unpacked: Unpack, folder: Path) -> None:
    assert unpacked(content) == list(FILES)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == FILES
    modes = {path.is_dir(): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert modes == {False: 0o600, True: 0o700}


def test_unpacks_what_tar_and_zip_of_a_folder_write(unpacked: Unpack, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "from" / "sub").mkdir(parents=True)
    (tmp_path / "from" / "sub" / "a b (1).onnx").write_bytes(b"weights")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(tmp_path / "from", ".")
    assert unpacked(out.getvalue()) == ["sub/a b (1).onnx"]


def test_an_archive_of_nothing(unpacked: Unpack) -> None:
    assert unpacked(zipped({})) == []
    with pytest.raises(WeightsError, match="neither a zip nor a tar"):
        unpacked(tarred({}))  # nothing but zeros


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names(form: int, unpacked: Unpack, folder: Path) -> None:
    name = "/".join(["a" * 90, "b" * 60, "c" * 90])
    assert unpacked(tarred({name: b"x", "short": b"y"}, form=form)) == [name, "short"]
    assert (folder / name).read_bytes() == b"x"


def test_attributes_of_all_entries_are_left_alone(unpacked: Unpack) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "from git"}) as archive:
        archive.addfile(member("a"))
    assert unpacked(out.getvalue()) == ["a"]


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
def test_what_macos_adds_is_left_out(pack: Callable[..., bytes], unpacked: Unpack, folder: Path) -> None:
    added = {"__MACOSX/sub/._a\r": b"x" * 3000, "sub/.DS_Store": b"x", "sub/._a": b"x", ".DS_Store": b"x"}
    assert unpacked(pack({**added, "sub/a": b"y"})) == ["sub/a"]
    assert sorted(path.name for path in folder.rglob("*")) == ["a", "sub"]


# Names.


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../up", "a/../../up", "a/..", "..", "a//b", "a/./b", "C:/x", "a\\b", "..\\up", "a\nb",
        "a\x1b[2J", "~x/y", "-rf", "a" * 101, "$HOME/x", "ünï", "a\u202eb", "a|b", "*", "\ufffd",
    ],
)  # fmt: skip
def test_a_name_that_is_not_plain(pack: Callable[..., bytes], name: str, refused: Refused) -> None:
    refused(pack({"fine": b"x", name: b"x"}), "is not a plain name")


def test_a_name_that_ends_with_a_zero_byte_in_a_zip(refused: Refused) -> None:
    refused(zip_entry("ab_c").replace(b"ab_c", b"ab\0c"), "at 'ab.x00c': .*is not a plain name")


@pytest.mark.parametrize("pack", [zipped, tarred], ids=["zip", "tar"])
def test_depth(pack: Callable[..., bytes], refused: Refused, unpacked: Unpack) -> None:
    refused(pack({"a/" * MAX_DEPTH + "b": b"x"}), "more than 8 folders deep")
    assert unpacked(pack({"a/" * (MAX_DEPTH - 1) + "b": b"x"})) == ["a/" * (MAX_DEPTH - 1) + "b"]


@pytest.mark.parametrize(
    "names",
    [("a", "a"), ("a", "A"), ("a", "./a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "A/c"), ("a/", "a"), ("a", "a/")],
)
def test_a_path_that_is_taken(names: tuple[str, str], refused: Refused) -> None:
    first, second = (member(name, tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE) for name in names)
    refused(tar_of(first, second), "is taken by")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_path_that_is_taken_in_a_zip(refused: Refused) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/b", b"x")
        archive.writestr("a/b", b"y")
    refused(out.getvalue(), "at 'a/b': 'a/b' is taken by 'a/b'")


# Kinds.


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (tarfile.CONTTYPE, "neither a file nor a folder"),
        (b"V", "neither a file nor a folder"),
    ],
)
def test_what_is_no_file_in_a_tar(kind: bytes, words: str, refused: Refused) -> None:
    refused(tar_of(member("fine"), member("bad", kind, "/etc/passwd")), f"at 'bad': it is {words}")


def test_a_file_behind_a_link(refused: Refused) -> None:
    refused(tar_of(member("a", tarfile.SYMTYPE, "/tmp"), member("a/evil", size=3)), "at 'a': it is a link")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_in_a_zip(kind: int, refused: Refused) -> None:
    refused(zip_entry("bad", b"/etc/passwd", external_attr=(kind | 0o777) << 16), "at 'bad': it is a link, a device")


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
def test_an_encrypted_entry(flag: int, refused: Refused) -> None:
    refused(central(zip_entry("bad"), 6, struct.pack("<H", flag)), "at 'bad': it is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_a_method_that_is_not_read(method: int, refused: Refused) -> None:
    refused(central(zip_entry("bad"), 8, struct.pack("<H", method)), "at 'bad': it is neither stored nor deflated")


@pytest.mark.parametrize("header", [{"size": "5"}, {"GNU.sparse.major": "1"}])
def test_attributes_that_change_what_a_file_is(header: dict[str, str], refused: Refused) -> None:
    bad = member("bad", size=5)
    bad.pax_headers = header
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(bad, io.BytesIO(bytes(5)))
    refused(out.getvalue(), "which is not read here")


@pytest.mark.parametrize(
    "record",
    [
        b"0 a=b\n",
        b"5 a=b6 a=b\n",
        b"99 a=b\n",
        b"5 a=b\n",
        b"6 a=bb\n",
        b"x",
        b"-6 a=b\n",
        b"6 a:b\n",
        b"9" * 5000,
        b"\0" * 9,
    ],
)
def test_attributes_that_cannot_be_read(record: bytes, refused: Refused) -> None:
    header = member("pax", tarfile.XHDTYPE, size=len(record)).tobuf(tarfile.USTAR_FORMAT)
    refused(header + record.ljust(-(-len(record) // 512) * 512, b"\0") + tar_of(member("a")), "cannot be read")


def test_headers_without_end(refused: Refused) -> None:
    long = member("long", tarfile.GNUTYPE_LONGNAME, size=512).tobuf(tarfile.GNU_FORMAT) + b"a".ljust(512, b"\0")
    refused(long * 5 + tar_of(member("a")), "a header is too long")
    large = member("long", tarfile.GNUTYPE_LONGNAME, size=1 << 30).tobuf(tarfile.GNU_FORMAT)
    refused(large + bytes(1 << 20), "a header is too long")


# Sizes.


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_too_many_bytes_or_files(content: bytes, refused: Refused, unpacked: Unpack) -> None:
    size_bytes = sum(map(len, FILES.values()))
    refused(content, f"there are more than {size_bytes - 1} bytes", max_bytes=size_bytes - 1)
    refused(content, "at 'sub/deep/labels.txt': there are more than 2 entries", max_files=2)
    assert len(unpacked(content, max_bytes=size_bytes, max_files=3)) == 3


def bombs() -> dict[str, bytes]:
    """Each is 64 MB of zeros."""
    zeros = bytes(64_000_000)
    tar = member("bomb", size=len(zeros)).tobuf() + zeros + bytes(1024)
    small = lzma.LZMACompressor(lzma.FORMAT_XZ, preset=0)
    return {
        "zip": zipped({"bomb": zeros}),
        "gz": gzip.compress(tar, 1),
        "bz2": bz2.compress(tar, 1),
        "xz": small.compress(tar) + small.flush(),
        "skipped": gzip.compress(member("__MACOSX/a", size=len(zeros)).tobuf() + zeros + bytes(1024), 1),
        "padding": gzip.compress(tar_of(member("a")) + zeros, 1),
        "pax": gzip.compress(member("a", tarfile.XHDTYPE, size=len(zeros)).tobuf() + zeros, 1),
    }


@pytest.fixture(scope="module")
def all_bombs() -> dict[str, bytes]:
    return bombs()


@pytest.mark.parametrize("kind", ["zip", "gz", "bz2", "xz", "skipped", "padding", "pax"])
def test_a_bomb(kind: str, all_bombs: dict[str, bytes], refused: Refused) -> None:
    tracemalloc.start()
    try:
        words = "a header is too long" if kind == "pax" else "it grows to more than 100 times its size"
        refused(all_bombs[kind], words, max_bytes=1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_text_may_shrink_a_lot(unpacked: Unpack) -> None:
    assert unpacked(zipped({"labels.txt": b"a" * 900_000})) == ["labels.txt"]


def test_an_xz_that_wants_a_lot_of_memory(refused: Refused) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20}]
    modest = lzma.compress(ARCHIVES["tar"], lzma.FORMAT_XZ, filters=filters)
    # The dictionary's size is one byte of the block's header, which ends with its CRC-32.
    at = modest.index(b"\x21\x01", 12) + 2
    end = 12 + (modest[12] + 1) * 4 - 4
    greedy = patched(modest, at, bytes([37]))  # 1.5 GiB
    greedy = patched(greedy, end, struct.pack("<I", zlib.crc32(greedy[12:end])))
    refused(greedy, "[Mm]emory")


def test_a_directory_of_a_zip_that_is_too_long(refused: Refused) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for at in range(5000):
            archive.writestr(zipfile.ZipInfo(f"{at:060}"), b"")
    refused(out.getvalue(), "it has too long a directory")
    refused(zip_entry("a") + b"PK\x05\x06" + bytes(200_000), "it|File|not")


def test_a_zip_whose_sizes_lie(refused: Refused) -> None:
    good = zipped({"a": b"abcdefgh" * 100})
    for size in (1, 799, 801, 5_000_000):
        refused(central(good, 22, struct.pack("<I", size)), "at 'a': ")


# Damage.


@pytest.mark.parametrize("content", ARCHIVES.values(), ids=ARCHIVES)
def test_a_damaged_or_cut_archive(content: bytes, refused: Refused) -> None:
    checked = content is not ARCHIVES["tar"] and content[257:262] != b"ustar"  # a plain tar has no checksum of content
    if checked:
        refused(patched(content, 50_000, bytes([content[50_000] ^ 1])), ".")
    for end in (10, 300, 512, 50_000, len(content) // 2, len(content) - 11_000 if not checked else len(content) - 5):
        refused(content[:end], ".")


@pytest.mark.parametrize("at", [0, 100, 130, 150])
def test_a_damaged_header_of_a_tar_is_not_its_end(at: int, refused: Refused) -> None:
    content = tar_of(member("a"), member("b"), member("c"))
    refused(patched(content, 512 + at, b"\xff"), "checksum of a header is wrong|is no number")


def test_something_after_the_end(refused: Refused) -> None:
    refused(ARCHIVES["tar"] + tar_of(member("b")), "something comes after the end")
    refused(ARCHIVES["xz"] + ARCHIVES["xz"], "something comes after the end")
    refused(ARCHIVES["gz"] + b"garbage", "gzip")


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"PK\x03\x04", b"\x1f\x8b", b"BZh9", b"\xfd7zXZ\0", b"7z\xbc\xaf'\x1c", bytes(2000), b"#!/bin/sh\n",
     gzip.compress(b"not a tar", mtime=0), gzip.compress(ARCHIVES["gz"]), b"x" * 257 + b"ustar" + b"x" * 400],
)  # fmt: skip
def test_what_is_no_archive(content: bytes, refused: Refused) -> None:
    refused(content, ".")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["zip", "gnu", "tar", "ustar"]), data=st.data())
def test_any_damage_is_refused_or_harmless(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    small = {name: content[:600] for name, content in FILES.items()}
    content = bytearray(zipped(small) if kind == "zip" else tarred(small, form=FORMS[kind]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "archive").write_bytes(content)
    folder = tmp_path / "out" / "folder"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        paths = unpack(tmp_path / "archive", folder, **LIMITS)
    except WeightsError:
        paths = []
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == set(paths)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["folder"]
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


FORMS = {"gnu": tarfile.GNU_FORMAT, "tar": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


# Folders.


def test_a_folder_that_is_not_empty_is_left_alone(unpacked: Unpack, folder: Path) -> None:
    (folder / "mine").touch()
    with pytest.raises(DependencyError, match="is not empty"):
        unpacked(ARCHIVES["zip"])
    assert [path.name for path in folder.iterdir()] == ["mine"]


def test_a_folder_or_an_archive_that_is_not_there(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DependencyError, match="none cannot be used: No such file"):
        unpack(tmp_path / "a", tmp_path / "none", **LIMITS)
    with pytest.raises(WeightsError, match="a is refused: there is no such file"):
        unpack(tmp_path / "a", folder, **LIMITS)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WeightsError, match="pipe is refused: there is no such file"):
        unpack(tmp_path / "pipe", folder, **LIMITS)


def test_a_full_disk(unpacked: Unpack, tmp_path: Path, folder: Path) -> None:
    content = ARCHIVES["zip"]
    (tmp_path / "pack.bin").write_bytes(content)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(DependencyError, match="folder cannot be written to: File too large; free space"):
            unpack(tmp_path / "pack.bin", folder, **LIMITS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
