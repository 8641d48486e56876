"""Consent that has run out: nobody is matched from that moment on, and after the grace time they are erased."""

import asyncio
from datetime import datetime, timedelta
from functools import partial

import structlog

from facesvc.api import audit, erasure
from facesvc.api.service import Service
from facesvc.api.workers import Background
from facesvc.errors import NotFoundError, PreconditionError, UnavailableError
from facesvc.gallery import Gallery, Subject

_PAGE = 1000

_log = structlog.get_logger(__name__)


async def erase_expired(service: Service, now: datetime) -> None:
    """Erase everybody whose consent ran out the grace time before ``now`` or earlier."""
    before = now - timedelta(days=service.settings.consent.grace_days)
    with Background() as background:
        for key in await background.run(_expired, service.gallery, before):
            await _erase(service, key, before)


def _expired(gallery: Gallery, before: datetime) -> list[tuple[str, str]]:
    """Collection and id of everybody whose consent had run out then."""
    found = []
    for collection_id in gallery.collections():
        token = ""
        while True:
            page, token = gallery.list_subjects(collection_id, _PAGE, token)
            found += [(one.collection_id, one.subject_id) for one in page if one.consent_expired(before)]
            if not token:
                break
    return found


async def _erase(service: Service, key: tuple[str, str], before: datetime) -> None:
    try:
        subject = await asyncio.to_thread(service.gallery.get_subject, *key)
        if not subject.consent_expired(before):  # it was renewed meanwhile
            return
        expired = partial(Subject.consent_expired, now=before)
        receipt = await erasure.erase(service, *key, audit.ITSELF, "consent has run out", expired)
    except (NotFoundError, PreconditionError):
        return  # another box was faster, or it was renewed at this moment
    except UnavailableError as error:
        _log.warning("erased, and not all boxes have said so", why=error.message)
        return
    _log.info("erased: consent has run out", collection_id=key[0], subject_id=key[1], receipt_id=receipt.receipt_id)
