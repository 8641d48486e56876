"""Encodings made elsewhere: taken over, and given away.

They are stored in batches of what has arrived, each in one transaction, so that a client who does not wait for answers
is not held up by the disk. Every answer is sent after the commit.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Self

import numpy as np
from ulid import ULID

from facesvc.api import convert
from facesvc.api.engines import Engine
from facesvc.api.migration import contract_of
from facesvc.api.naming import collection_of, name_of
from facesvc.api.service import Lobby, Service
from facesvc.errors import ContractMismatchError, FacesvcError, InputError, NotFoundError, PreconditionError
from facesvc.gallery import DuplicateImageError, EmbeddingContract, IdentityConflictError, Sample, Subject
from facesvc.gallery.records import Floats, check_text
from facesvc.v1 import enrollment_pb2

Request = enrollment_pb2.ImportEncodingsRequest
Response = enrollment_pb2.ImportEncodingsResponse
Exported = enrollment_pb2.ExportEncodingsResponse

BATCH = 256
"""Encodings that are stored together, at most; as many wait meanwhile."""
UNKNOWN_QUALITY = 0.0
"""Of a sample whose picture nobody has seen."""
_MAX_REQUEST_BYTES = 32 << 10  # 4096 values and the longest texts take 20 KiB
_TOO_LARGE = Request()


@dataclass(frozen=True, slots=True)
class _Arrived:
    """An encoding on its way into the gallery; ``create`` is who is made known for it where that is needed."""

    sample: Sample
    allow_conflict: bool
    create: Subject | None


async def take_over(lobby: Lobby, requests: AsyncIterator[Request], actor: str) -> AsyncGenerator[Response, None]:
    """One answer to each encoding, in order."""
    service = lobby.service
    with service.enrollments.admitted():
        async with aclosing(_batches(lobby, requests)) as batches:
            async for batch in batches:
                for response in await asyncio.to_thread(_store, service, batch, actor):
                    yield response


async def _batches(lobby: Lobby, requests: AsyncIterator[Request]) -> AsyncGenerator[list[Request], None]:
    """What has arrived since the batch before, at least one. Raises as ``Lobby.next_message``."""
    timeout_s = lobby.service.settings.limits.enrollment_idle_timeout_seconds
    inbox = _Inbox()
    reader = asyncio.create_task(inbox.fill(requests))
    try:
        while (first := await lobby.next_message(inbox, timeout_s, "ENROLLMENT_IDLE")) is not None:
            yield [first, *inbox.take(BATCH - 1)]
    finally:
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader


class _Inbox:
    """What has arrived and waits; an iterator that waits for more."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Request | None] = asyncio.Queue(BATCH)

    async def fill(self, requests: AsyncIterator[Request]) -> None:
        """Take in everything that arrives, then None."""
        try:
            async for request in requests:
                # What is far too large will be refused, and need not be kept while it waits.
                await self._waiting.put(request if request.ByteSize() <= _MAX_REQUEST_BYTES else _TOO_LARGE)
        except Exception:
            await self._waiting.put(None)
            raise
        await self._waiting.put(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        if (request := await self._waiting.get()) is None:
            raise StopAsyncIteration
        return request

    def take(self, count: int) -> Iterator[Request]:
        """So many of those that are here already, at most."""
        while count and not self._waiting.empty():
            request = self._waiting.get_nowait()
            if request is None:
                self._waiting.put_nowait(None)  # for whoever asks next
                return
            count -= 1
            yield request


def _store(service: Service, batch: Sequence[Request], actor: str) -> list[Response]:
    """In a thread: the answers to a batch, once what they say is on the disk."""
    with service.engines.using() as engine:
        parsed = [_parsed(request, contract_of(engine), service.now()) for request in batch]
        outcomes: list[Sample | FacesvcError] = []
        for _, group in groupby(parsed, _kind):
            run = list(group)
            arrived = [one for one in run if isinstance(one, _Arrived)]
            refused = [one for one in run if isinstance(one, FacesvcError)]
            outcomes += _add(service, engine, arrived, actor) if arrived else refused
    return [_answer(outcome) for outcome in outcomes]


def _kind(parsed: _Arrived | FacesvcError) -> tuple[bool, bool] | None:
    """What encodings that are stored together have in common; None of those that are refused."""
    return (parsed.allow_conflict, parsed.create is not None) if isinstance(parsed, _Arrived) else None


def _parsed(request: Request, contract: EmbeddingContract, now: datetime) -> _Arrived | FacesvcError:
    """A request as what it asks for, or what is wrong with it."""
    if request is _TOO_LARGE:
        message = f"over {_MAX_REQUEST_BYTES} bytes, which is more than any encoding needs"
        return InputError(message, field="embedding")
    try:
        collection_id, subject_id = name_of(request)
        check_text(request.source, "source")
        check_text(request.display_name, "display_name")
        vector = _unit(request, contract)
    except (InputError, PreconditionError) as error:
        return error
    sample = Sample(
        sample_id=str(ULID()),
        collection_id=collection_id,
        subject_id=subject_id,
        vector=vector,
        quality=UNKNOWN_QUALITY,
        source=request.source,
        image_sha256=hashlib.sha256(vector.astype("<f4").tobytes()).digest(),
        create_time=now,
    )
    create = Subject(
        collection_id=collection_id,
        subject_id=subject_id,
        display_name=request.display_name or subject_id,
        create_time=now,
        update_time=now,
    )
    return _Arrived(sample, request.allow_conflict, create if request.create_subjects else None)


def _unit(request: Request, contract: EmbeddingContract) -> Floats:
    """The vector of a request, of unit length. Raises ``InputError``, ``ContractMismatchError``."""
    if request.embedding_contract not in ("", contract.contract_id):
        raise ContractMismatchError(
            f"the encoding is of {request.embedding_contract[:256]!a}, but the gallery of {contract}: make it anew with"
            " the models that are loaded now",
        )
    values = np.array(request.embedding, np.float64)
    if len(values) != contract.dimension:
        message = f"the encoding has {len(values)} values, those of {contract.contract_id} have {contract.dimension}"
        raise InputError(message, field="embedding")
    length = float(np.linalg.norm(values))
    if not np.isfinite(length) or length == 0:
        message = "the encoding has a length of 0, or a value that is not finite: leave it out"
        raise InputError(message, field="embedding")
    return (values / length).astype(np.float32)  # which leaves a vector of unit length as it is, to the last bit


def _add(service: Service, engine: Engine, run: Sequence[_Arrived], actor: str) -> list[Sample | FacesvcError]:
    """What became of encodings of one kind."""
    create = {(one.create.collection_id, one.create.subject_id): one.create for one in reversed(run) if one.create}
    samples, contract_id = [one.sample for one in run], engine.pack.contract_id
    try:
        rate = service.settings.enrollment.conflict_false_match_rate
        conflict_at = None if run[0].allow_conflict else engine.policies.calibration.similarity_at(rate)
        outcomes = service.gallery.add_samples(
            samples, conflict_at, service.now(), contract_id=contract_id, create=create
        )
    except PreconditionError as error:  # the models were changed just now, or their error rates are not known
        return [error] * len(run)
    stored = Counter((one.collection_id, one.subject_id) for one in outcomes if isinstance(one, Sample))
    for name, count in stored.items():
        service.audit.note("ImportEncodings", *name, f"{count} samples", actor)
    return outcomes


def _answer(outcome: Sample | FacesvcError) -> Response:
    """What became of an encoding."""
    if isinstance(outcome, Sample):
        verdict = enrollment_pb2.IMPORT_VERDICT_IMPORTED
        return Response(verdict=verdict, message="imported", sample_id=outcome.sample_id)
    if isinstance(outcome, DuplicateImageError):
        message = f"this very encoding is stored for this person already, as sample {outcome.sample_id}"
        return Response(verdict=enrollment_pb2.IMPORT_VERDICT_DUPLICATE, message=message)
    if isinstance(outcome, IdentityConflictError):
        message = (
            f"this encoding has similarity {outcome.similarity:.3f} to {outcome.subject_id}, who is enrolled: import it"
            " for that person, or allow the conflict"
        )
        return Response(verdict=enrollment_pb2.IMPORT_VERDICT_IDENTITY_CONFLICT, message=message)
    item = convert.item_error(outcome)
    return Response(error=item, message=item.message)


async def give_away(
    service: Service, request: enrollment_pb2.ExportEncodingsRequest, actor: str
) -> AsyncGenerator[Exported, None]:
    """The templates of a collection, or of one person, in order of the ids. Raises ``NotFoundError``."""
    collection_id, subject_id = collection_of(request.collection_id), request.subject_id
    if subject_id:
        await asyncio.to_thread(service.gallery.get_subject, *name_of(request))
    await asyncio.to_thread(service.audit.note, "ExportEncodings", collection_id, subject_id, "", actor)
    contract = service.gallery.contract
    exported = _exported(service, collection_id, subject_id, contract.contract_id)
    while chunk := await asyncio.to_thread(lambda: list(islice(exported, BATCH))):
        if service.gallery.contract != contract:
            raise PreconditionError("the models were changed meanwhile: export again", reason="CONTRACT_CHANGED")
        for one in chunk:
            yield one


def _exported(service: Service, collection_id: str, subject_id: str, contract_id: str) -> Iterator[Exported]:
    """In a thread: a message for each sample that has a vector."""
    for owner, samples in groupby(service.gallery.samples(collection_id, subject_id), lambda one: one.subject_id):
        with suppress(NotFoundError):  # erased a moment ago
            name = service.gallery.get_subject(collection_id, owner).display_name
            for sample in samples:
                if sample.vector is not None:
                    yield Exported(
                        subject_id=owner,
                        display_name=name,
                        sample_id=sample.sample_id,
                        embedding=sample.vector.tolist(),
                        embedding_contract=contract_id,
                    )
