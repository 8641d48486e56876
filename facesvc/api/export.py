"""Everything about one person, for a person who asks what is known of them: a ZIP archive, made while it is sent.

It is made in memory and never lies on the disk.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from facesvc.api import audit, convert, convert_events
from facesvc.api.service import Service
from facesvc.errors import PreconditionError
from facesvc.events.attendance import attendances
from facesvc.events.audit import Asked
from facesvc.events.journal import Wanted
from facesvc.events.records import Stay
from facesvc.gallery import Sample
from facesvc.v1 import enrollment_pb2

MAX_CHUNK_BYTES = 1 << 20
MAX_BYTES = 256 << 20
_PAGE = 1000
_PNG = b"\x89PNG"


async def export(
    service: Service, collection_id: str, subject_id: str, actor: str
) -> AsyncIterator[enrollment_pb2.ExportSubjectResponse]:
    """The archive, piece by piece. Raises ``NotFoundError``, and ``PreconditionError`` (``EXPORT_TOO_LARGE``)."""
    pieces = _pieces(service, collection_id, subject_id, actor)
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield enrollment_pb2.ExportSubjectResponse(chunk=piece)


def _pieces(service: Service, collection_id: str, subject_id: str, actor: str) -> Iterator[bytes]:
    """In a thread: the archive in pieces of ``MAX_CHUNK_BYTES``, the last one smaller; noted before the first."""
    key = (collection_id, subject_id)
    crops = {_crop_file(name, crop): crop for name, crop in service.gallery.crops(*key).items()}
    now = service.now()
    document = json.dumps(_document(service, *key, list(crops), now), ensure_ascii=False, indent=1).encode()
    size = len(document) + sum(map(len, crops.values()))
    if size > MAX_BYTES:
        message = (
            f"what is known of {subject_id} has {size >> 20} MiB, an export at most {MAX_BYTES >> 20}; delete samples,"
            " or keep events for a shorter time"
        )
        raise PreconditionError(message, reason="EXPORT_TOO_LARGE")
    service.audit.note("ExportSubject", *key, f"{len(crops)} pictures, {size} bytes", actor)
    spool = _Spool()
    with ZipFile(spool, "w") as archive:
        archive.writestr(_file("subject.json", now), document, ZIP_DEFLATED)
        for name, crop in crops.items():
            yield from spool.full()
            archive.writestr(_file(name, now), crop, ZIP_STORED)
    yield from spool.full()
    yield spool.rest()


class _Spool(io.RawIOBase):
    """What is written, until it is taken. It cannot seek; an archive can do without."""

    def __init__(self) -> None:
        super().__init__()
        self._content = bytearray()

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Take in anything that is like bytes."""
        self._content += data
        return len(data)

    def full(self) -> Iterator[bytes]:
        """Whole pieces, as long as there are some."""
        while len(self._content) >= MAX_CHUNK_BYTES:
            yield bytes(self._content[:MAX_CHUNK_BYTES])
            del self._content[:MAX_CHUNK_BYTES]

    def rest(self) -> bytes:
        """What is less than a piece."""
        return bytes(self._content)


def _file(name: str, now: datetime) -> ZipInfo:
    return ZipInfo(name, now.timetuple()[:6])


def _crop_file(sample_id: str, crop: bytes) -> str:
    return f"crops/{sample_id}.{'png' if crop.startswith(_PNG) else 'jpg'}"


def _document(service: Service, collection_id: str, subject_id: str, crops: list[str], now: datetime) -> dict[str, Any]:
    """All that is known but the pictures, as values for JSON. Times are in UTC."""
    gallery, wanted = service.gallery, Wanted(collection_id=collection_id, subject_id=subject_id)
    subject = gallery.get_subject(collection_id, subject_id)
    contract_id = gallery.contract.contract_id
    pictures = {name.partition("/")[2].partition(".")[0]: name for name in crops}
    stays = list(service.journal.stays(wanted))
    return {
        "export_time": now.isoformat(),
        "subject": _plain(convert.subject(subject)),
        "samples": [_sample(one, contract_id, pictures) for one in gallery.list_samples(collection_id, subject_id)],
        "events": list(_events(service, wanted)),
        "stays": [_stay(stay) for stay in stays],
        "attendance": [_plain(convert_events.attendance(one)) for one in attendances(stays, UTC, now)],
        "audit": list(_audit(service, collection_id, subject_id)),
    }


def _sample(sample: Sample, contract_id: str, pictures: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_plain(convert.sample(sample)),
        "image_sha256": sample.image_sha256.hex(),
        "embedding_contract": None if sample.vector is None else contract_id,
        "embedding": None if sample.vector is None else sample.vector.tolist(),
        "picture": pictures.get(sample.sample_id),
    }


def _events(service: Service, wanted: Wanted) -> Iterator[dict[str, Any]]:
    after = None
    while True:
        page = service.journal.list_events(wanted, _PAGE, after)
        yield from (_plain(convert_events.event(one, 0.0)) for one in page.events)
        after = page.next_after
        if after is None:
            return


def _stay(stay: Stay) -> dict[str, Any]:
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asdict(stay).items()}


def _audit(service: Service, collection_id: str, subject_id: str) -> Iterator[dict[str, Any]]:
    asked, after = Asked(collection_id=collection_id, subject_id=subject_id), 0
    while page := service.audit.list_entries(asked, _PAGE, after):
        yield from (_plain(audit.entry(one)) for one in page)
        after = page[-1].sequence


def _plain(message: Message) -> dict[str, Any]:
    """A message as the API writes it in JSON."""
    return MessageToDict(message, preserving_proto_field_name=True)
