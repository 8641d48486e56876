"""What turns out to be wrong in a gallery, set right: two entries of one person, samples of somebody else."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ulid import ULID

from facesvc.api import audit, convert, erasure
from facesvc.api.naming import collection_of, name_of
from facesvc.api.service import Service
from facesvc.errors import InputError
from facesvc.gallery import ErasureReceipt, Subject
from facesvc.gallery.records import check_id
from facesvc.v1 import enrollment_pb2, recognition_pb2

_MAX_SAMPLES = 1000


async def merge(
    service: Service, request: enrollment_pb2.MergeSubjectsRequest, actor: str
) -> enrollment_pb2.MergeSubjectsResponse:
    """Make one person of two entries."""
    collection_id, subject_id = name_of(request)
    check_id(request.merged_subject_id, "merged_subject_id")
    # Who cancels the call does not stop it half-way.
    merging = _merge(service, collection_id, subject_id, request.merged_subject_id, actor)
    subject, receipt = await asyncio.shield(asyncio.ensure_future(merging))
    return enrollment_pb2.MergeSubjectsResponse(subject=convert.subject(subject), receipt=convert.receipt(receipt))


async def _merge(
    service: Service, collection_id: str, subject_id: str, merged_id: str, actor: str
) -> tuple[Subject, ErasureReceipt]:
    # Before the events forget anybody.
    await asyncio.to_thread(service.gallery.check_merge, collection_id, subject_id, merged_id, service.now())
    async with service.observer.erasing(collection_id, merged_id) as event_count:
        note_count = await asyncio.to_thread(service.plugins.forget, (collection_id, merged_id))
        merge = partial(service.gallery.merge_subjects, collection_id, subject_id, merged_id, service.now())
        subject, receipt = await asyncio.to_thread(merge)
        await asyncio.to_thread(service.plugins.sweep, (collection_id, merged_id))

    def note() -> None:
        for one in (subject_id, merged_id):
            detail = f"{merged_id} became {subject_id}; receipt {receipt.receipt_id}"
            service.audit.note("MergeSubjects", collection_id, one, detail, actor)

    completing = erasure.complete(service, replace(receipt, event_count=event_count, plugin_note_count=note_count))
    # Where the one fails the other is done all the same.
    _, completed = await asyncio.gather(asyncio.to_thread(note), completing)
    return subject, completed


async def split(
    service: Service, request: enrollment_pb2.SplitSubjectRequest, actor: str
) -> enrollment_pb2.SplitSubjectResponse:
    """Make some samples those of somebody else."""
    collection_id, subject_id = name_of(request)
    sample_ids = list(dict.fromkeys(request.sample_ids))
    if not 1 <= len(sample_ids) <= _MAX_SAMPLES:
        raise InputError(f"name 1 to {_MAX_SAMPLES} samples, not {len(sample_ids)}", field="sample_ids")
    for sample_id in sample_ids:
        check_id(sample_id, "sample_ids")
    other_id = request.new_subject_id or str(ULID())
    if other_id == subject_id:
        raise InputError("the samples are this person's already", field="new_subject_id")
    now = service.now()
    other = Subject(
        collection_id=collection_id,
        subject_id=other_id,
        display_name=request.display_name or other_id,
        create_time=now,
        update_time=now,
    )
    change = partial(service.gallery.split_subject, collection_id, subject_id, sample_ids, other)
    stored = await audit.noted(service, actor, change, lambda _: _moved("SplitSubject", subject_id, other, sample_ids))
    return enrollment_pb2.SplitSubjectResponse(subject=convert.subject(stored))


def _moved(action: str, subject_id: str, other: Subject, sample_ids: Sequence[str]) -> list[audit.Note]:
    """One for each of the two people."""
    detail = f"{len(sample_ids)} samples of {subject_id} are {other.subject_id}'s: {', '.join(sample_ids)}"
    return [audit.Note(action, other.collection_id, one, detail) for one in (subject_id, other.subject_id)]


async def correct(
    service: Service, request: recognition_pb2.CorrectMatchRequest, actor: str
) -> recognition_pb2.CorrectMatchResponse:
    """A match was wrong because of one sample: give it to the right person, or remove it."""
    collection_id, subject_id = name_of(request)
    check_id(request.sample_id, "sample_id")
    gallery = service.gallery
    if request.actual_subject_id:
        check_id(request.actual_subject_id, "actual_subject_id")
        actual = await asyncio.to_thread(gallery.get_subject, collection_of(collection_id), request.actual_subject_id)
        move = partial(gallery.split_subject, collection_id, subject_id, [request.sample_id], actual, create=False)
        await audit.noted(
            service, actor, move, lambda _: _moved("CorrectMatch", subject_id, actual, [request.sample_id])
        )
    else:
        delete = partial(gallery.delete_sample, collection_id, subject_id, request.sample_id)
        note = audit.Note("CorrectMatch", collection_id, subject_id, f"sample {request.sample_id} was deleted")
        await audit.noted(service, actor, delete, lambda _: [note])
    return recognition_pb2.CorrectMatchResponse()
