"""Unpacks a zip or a tar that may hold anything: only plain files under plain names come out, and only so much of them.

No byte is believed: sizes are counted as they come, every checksum is looked at, and what is not known to be harmless
ends it. tarfile is not used, because it takes a header that is damaged for the end.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from facesvc.errors import DependencyError, WeightsError

MAX_DEPTH = 8
MAX_RATIO = 100
"""Weights shrink to a half at most and text to a tenth; what grows more than this was made to."""

_COMPONENT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+=@,() -]{0,99}")
_OCTAL = re.compile(rb" *([0-7]{1,12})[\0 ]*")
_BLOCK_BYTES = 512  # of a tar
_READ_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 16  # of a long name in a tar
_MAX_HEADERS = 4  # before an entry of a tar: a long name, attributes, attributes of all entries, and one to spare
_ZIP_TAIL_BYTES = 1 << 17  # the end of a zip with its comment
_ZIP_ENTRY_BYTES = 1 << 10  # of an entry in the directory of a zip; most have about 100
_SMALL_BYTES = 1 << 20  # no ratio is asked of this little
_XZ_MEMORY_BYTES = 128 << 20  # `xz -9` needs 65 MiB; the format allows 4 GiB
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # PKWARE's APPNOTE, 4.4.4: in one of three ways
_TAR_KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, NotImplementedError, RuntimeError,
    ValueError, OverflowError,
)  # fmt: skip
"""What is raised here, and by the readers of the standard library, on an archive that is refused."""

_Entry = tuple[str, bool, Iterator[bytes]]
"""Name as it stands there, whether it is a folder, and the content."""


class _Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def unpack(archive: Path, folder: Path, *, max_bytes: int, max_files: int) -> list[str]:
    """Unpacks ``archive`` into ``folder``, which is there and empty; the paths of the files within it, in their order.

    A zip (stored or deflated) or a tar (plain, gz, xz or bz2), told by its content. It may have ``max_files`` entries,
    folders too, of ``max_bytes`` together. Files get mode 0600 and folders 0700; what macOS adds is left out. Raises
    ``WeightsError`` for an archive that is refused, naming the entry, and ``DependencyError`` for a ``folder`` that
    cannot be used; ``folder`` is empty then.
    """
    try:
        if any(folder.iterdir()):
            raise DependencyError(f"{folder} is not empty")
    except OSError as error:
        raise DependencyError(f"{folder} cannot be used: {error.strerror}") from error
    unpacking = _Unpacking(folder, max_bytes, max_files)
    try:
        return unpacking.run(archive)
    except _DAMAGE as error:
        _empty(folder)
        where = f" at {unpacking.at[:200]!r}" if unpacking.at else ""
        raise WeightsError(f"{archive.name} is refused{where}: {str(error) or type(error).__name__}") from error
    except BaseException:
        _empty(folder)
        raise


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


class _Unpacking:
    """One archive on its way into ``folder``; ``at`` is the entry that it has come to."""

    def __init__(self, folder: Path, max_bytes: int, max_files: int) -> None:
        self.at = ""
        self._folder, self._max_bytes, self._max_files = folder, max_bytes, max_files
        self._entries = self._content_bytes = self._all_bytes = self._ratio_bytes = 0
        self._taken: dict[str, tuple[str, bool]] = {}

    def run(self, archive: Path) -> list[str]:
        """Writes every file of ``archive``; raises one of ``_DAMAGE`` for what is wrong with it."""
        if not archive.is_file():  # a pipe would keep us waiting
            raise FileNotFoundError("there is no such file")
        self._ratio_bytes = max(_SMALL_BYTES, MAX_RATIO * archive.stat().st_size)
        with _Capped(archive, _ZIP_TAIL_BYTES + self._max_files * _ZIP_ENTRY_BYTES) as file:
            paths = [self._put(*entry) for entry in self._read(file)]
        return [path for path in paths if path is not None]

    def _read(self, file: "_Capped") -> Iterator[_Entry]:
        magic = file.read(_BLOCK_BYTES)
        file.seek(0)
        if magic.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            return self._zip(file)
        if magic.startswith(b"\x1f\x8b"):
            return self._tar(gzip.GzipFile(fileobj=file))
        if magic.startswith(b"BZh"):
            return self._tar(bz2.BZ2File(file))
        if magic.startswith(b"\xfd7zXZ\0"):
            return self._tar(_Xz(file))
        if magic[257:262] == b"ustar":
            return self._tar(file)
        raise ValueError("it is neither a zip nor a tar (plain, gz, xz or bz2)")

    def _enter(self, name: str) -> None:
        self.at = name
        self._entries += 1
        if self._entries > self._max_files:
            raise ValueError(f"there are more than {self._max_files} entries")

    def _count(self, size_bytes: int, *, content: bool) -> None:
        self._all_bytes += size_bytes
        self._content_bytes += size_bytes if content else 0
        if self._content_bytes > self._max_bytes:
            raise ValueError(f"there are more than {self._max_bytes} bytes")
        if self._all_bytes > self._ratio_bytes:
            raise ValueError(f"it grows to more than {MAX_RATIO} times its size")

    def _put(self, name: str, is_folder: bool, content: Iterator[bytes]) -> str | None:  # noqa: FBT001 - as in _Entry
        """Writes one entry, if it is a file that is wanted; its path then."""
        parts = name.removesuffix("/").split("/")
        while parts and parts[0] == ".":  # `tar -c .` writes ./name
            del parts[0]
        if not parts or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store" or parts[-1].startswith("._"):
            return None
        _check(parts)
        paths = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
        for path in paths if is_folder else paths[:-1]:
            if self._take(path, is_folder=True):
                with self._writing():
                    (self._folder / path).mkdir(mode=0o700)
        if is_folder:
            return None
        self._take(paths[-1], is_folder=False)
        with self._writing():
            descriptor = os.open(self._folder / paths[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for data in content:
                with self._writing():
                    file.write(data)
                    file.flush()
        return paths[-1]

    def _take(self, path: str, *, is_folder: bool) -> bool:
        """Whether ``path`` is new; only a folder may come again. Two that differ in capitals only are refused."""
        taken = self._taken.get(path.casefold())
        if taken is None:
            self._taken[path.casefold()] = (path, is_folder)
        elif not is_folder or taken != (path, True):
            raise ValueError(f"{path!r} is taken by {taken[0]!r}")
        return taken is None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DependencyError(
                f"{self._folder} cannot be written to: {error.strerror}; free space there or make it writable"
            ) from error

    def _zip(self, file: "_Capped") -> Iterator[_Entry]:
        with zipfile.ZipFile(file) as archive:
            for info in archive.infolist():
                name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
                self._enter(name)
                if info.flag_bits & _ENCRYPTED:
                    raise ValueError("it is encrypted")
                if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise ValueError("it is neither stored nor deflated")
                if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                    raise ValueError("it is a link, a device or a pipe")
                yield name, name.endswith("/"), self._zip_content(archive, info)

    def _zip_content(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
        size_bytes = 0
        with archive.open(info) as file:
            while data := file.read(_READ_BYTES):
                size_bytes += len(data)
                self._count(len(data), content=True)
                yield data
        if size_bytes != info.file_size:
            raise ValueError(f"it has {size_bytes} bytes instead of {info.file_size}")

    def _tar(self, stream: _Stream) -> Iterator[_Entry]:
        long_name, headers = "", 0
        while any(header := self._exactly(stream, _BLOCK_BYTES)):
            name, kind, size_bytes = _tar_header(header)
            if kind in b"xgLK":
                headers += 1
                if headers > _MAX_HEADERS or size_bytes > _MAX_HEADER_BYTES:
                    raise ValueError("a header is too long")
                text = self._exactly(stream, size_bytes + -size_bytes % _BLOCK_BYTES)[:size_bytes]
                if kind == b"L":
                    long_name = text.rstrip(b"\0").decode(errors="replace")
                elif kind == b"x":
                    long_name = _pax_path(text) or long_name
                continue
            name, long_name, headers = long_name or name, "", 0
            self._enter(name)
            if kind not in b"05\0":
                raise ValueError(f"it is {_TAR_KINDS.get(kind, 'neither a file nor a folder')}")
            content = self._tar_content(stream, size_bytes)
            yield name, kind == b"5" or name.endswith("/"), content
            for _ in content:  # what was not wanted
                pass
        # After the end comes padding, and then the checksum.
        while data := stream.read(_READ_BYTES):
            self._count(len(data), content=False)
            if any(data):
                raise ValueError("something comes after the end")

    def _tar_content(self, stream: _Stream, size_bytes: int) -> Iterator[bytes]:
        for left in range(size_bytes, 0, -_READ_BYTES):
            yield self._exactly(stream, min(left, _READ_BYTES), content=True)
        self._exactly(stream, -size_bytes % _BLOCK_BYTES)

    def _exactly(self, stream: _Stream, size_bytes: int, *, content: bool = False) -> bytes:
        data = b""
        while len(data) < size_bytes:
            more = stream.read(size_bytes - len(data))
            if not more:
                raise EOFError("it ends too early")
            data += more
        self._count(size_bytes, content=content)
        return data


class _Capped(io.FileIO):
    """A file that gives at most ``max_bytes`` at once: zipfile reads the directory of a zip as a whole."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        whole = size is None or size < 0
        data = super().read(self._max_bytes + 1 if whole else min(size or 0, self._max_bytes + 1))
        if data is not None and len(data) > self._max_bytes:
            raise ValueError("it has too long a directory")
        return data


class _Xz:
    """An xz file to be read; unlike lzma.LZMAFile it has a bound on memory, and one stream only."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    def read(self, size: int, /) -> bytes:
        while not self._decompressor.eof:
            packed = self._file.read(_READ_BYTES) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not packed:
                raise EOFError("it ends too early")
            if data := self._decompressor.decompress(packed, size):
                return data
        if self._decompressor.unused_data or self._file.read(1):
            raise ValueError("something comes after the end")
        return b""


def _check(parts: list[str]) -> None:
    """Refuses a path that leads elsewhere or has a name that is not plain."""
    if len(parts) > MAX_DEPTH:
        raise ValueError(f"it lies more than {MAX_DEPTH} folders deep")
    for part in parts:
        if part in {"", ".", ".."} or not _COMPONENT.fullmatch(part):
            raise ValueError(f"{part[:100]!r} is not a plain name")


def _tar_header(header: bytes) -> tuple[str, bytes, int]:
    """Name, kind and size of an entry (POSIX.1-1988 ustar; GNU tar keeps no prefix there)."""
    blank = header[:148] + b" " * 8 + header[156:]
    if _octal(header[148:156]) != sum(blank):
        raise ValueError("the checksum of a header is wrong")
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    path = prefix + b"/" + name if prefix else name
    return path.decode(errors="replace"), header[156:157], _octal(header[124:136])


def _octal(field: bytes) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise ValueError("a header holds something that is no number")
    return int(match[1], 8)


def _pax_path(text: bytes) -> str | None:
    """The path among the attributes of an entry (POSIX.1-2001 pax: ``LENGTH KEY=VALUE`` and a line feed, repeated)."""
    path, at = None, 0
    while at < len(text):
        digits = text[at : at + 8].split(b" ")[0]
        end = at + int(digits) if digits.isdigit() else at
        record = text[at:end]
        if end > len(text) or not record.endswith(b"\n") or b"=" not in record:
            raise ValueError("a header has attributes that cannot be read")
        key, _, value = record[len(digits) + 1 : -1].partition(b"=")
        if key == b"path":
            path = value.decode(errors="replace")
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise ValueError(f"a header has {key.decode()!r}, which is not read here")
        at = end
    return path
