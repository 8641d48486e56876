"""Forgetting somebody everywhere: events, gallery, backups, and the other boxes that share the gallery."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from facesvc.api.service import Service
from facesvc.errors import UnavailableError
from facesvc.gallery import ErasureReceipt, Subject

_ASK_AGAIN_S = 0.05


async def erase(
    service: Service,
    collection_id: str,
    subject_id: str,
    actor: str,
    why: str = "",
    only_if: Callable[[Subject], bool] = lambda _: True,
) -> ErasureReceipt:
    """The receipt, once everybody has forgotten; ``why`` is for the audit log, ``only_if`` as in ``Gallery``.

    Raises ``UnavailableError`` (``ERASURE_UNCONFIRMED``). Who cancels the call does not stop the erasure.
    """
    erasing = _erase(service, (collection_id, subject_id), actor, why, only_if)
    return await asyncio.shield(asyncio.ensure_future(erasing))


async def _erase(
    service: Service, key: tuple[str, str], actor: str, why: str, only_if: Callable[[Subject], bool]
) -> ErasureReceipt:
    async with service.observer.erasing(*key) as event_count:
        note_count = await asyncio.to_thread(service.plugins.forget, key)
        forget = partial(service.gallery.erase_subject, event_count=event_count, only_if=only_if)
        erase = partial(forget, *key, service.now())
        receipt = await asyncio.to_thread(erase)
        await asyncio.to_thread(service.plugins.sweep, key)
    receipt = replace(receipt, plugin_note_count=note_count)
    note = partial(service.audit.note, "EraseSubject", *key, _words(receipt, why), actor)
    # Where the one fails the other is done all the same.
    _, completed = await asyncio.gather(asyncio.to_thread(note), complete(service, receipt))
    return completed


def _words(receipt: ErasureReceipt, why: str) -> str:
    """For the audit log."""
    counts = {
        "samples": len(receipt.sample_ids),
        "crops": receipt.crop_count,
        "events": receipt.event_count,
        "notes of plugins": receipt.plugin_note_count,
    }
    removed = ", ".join(f"{count} {what}" for what, count in counts.items())
    return f"{why}{'; ' if why else ''}{removed}; receipt {receipt.receipt_id}"


async def complete(service: Service, receipt: ErasureReceipt) -> ErasureReceipt:
    """A receipt of the gallery with what backups and other boxes had to say."""
    reached, unreached = await asyncio.to_thread(_puncture, service, receipt)
    completed = replace(receipt, backup_names=reached, unreached_backups=unreached)
    return await _confirmed(service, await asyncio.to_thread(service.gallery.complete_receipt, completed))


async def receipt(service: Service, receipt_id: str) -> ErasureReceipt:
    """The receipt of an earlier erasure. Raises as ``erase``, and ``NotFoundError``."""
    return await _confirmed(service, await asyncio.to_thread(service.gallery.get_receipt, receipt_id))


def _puncture(service: Service, receipt: ErasureReceipt) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if service.backups is None:
        return (), ()
    return service.backups.puncture(receipt.collection_id, receipt.subject_id, receipt.sample_ids)


async def _confirmed(service: Service, known: ErasureReceipt) -> ErasureReceipt:
    """With the boxes that share the gallery, once all have followed the erasure."""
    deadline = service.clock() + service.settings.store.confirm_seconds
    while missing := await asyncio.to_thread(service.gallery.unconfirmed, known.receipt_id):
        if service.clock() > deadline:
            message = (
                f"{known.subject_id} is erased from the gallery, but {', '.join(missing)} did not say yet that it"
                f" forgot the person; ask for receipt {known.receipt_id} later"
            )
            raise UnavailableError(message, reason="ERASURE_UNCONFIRMED")
        await asyncio.sleep(_ASK_AGAIN_S)
    return await asyncio.to_thread(service.gallery.confirm_receipt, known)
