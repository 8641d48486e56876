"""Receipts: what stays of somebody who was erased, signed, so that it can be shown to others."""

import json
from dataclasses import replace

from facesvc.database import Database, Row, from_microseconds, to_microseconds
from facesvc.errors import NotFoundError
from facesvc.gallery import rows
from facesvc.gallery.crypto import Signer, associated, new_key
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.records import ErasureReceipt

_LISTS = ("sample_ids", "backup_names", "unreached_backups", "box_ids")
_SIGNER_NAME = associated("signer")
_SELECT = "SELECT receipt_id, collection_id, subject_id, erase_time, change, receipt, signature FROM receipts"
_INSERT = "INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?)"
_REPLACE = "UPDATE receipts SET receipt = ?, signature = ? WHERE receipt_id = ?"


class Receipts:
    """The receipts of a gallery. Every method may be called from any thread."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def _signer(self) -> Signer:
        with self._database.transaction():
            cipher = self._keyring.of_nobody()
            if found := self._database.select("SELECT sealed FROM keyring.signer"):
                return Signer(cipher.unseal(found[0][0], _SIGNER_NAME))
            sealed = cipher.seal(new_key(), _SIGNER_NAME)
            if (
                self._database.execute("INSERT INTO keyring.signer VALUES (1, ?) ON CONFLICT DO NOTHING", (sealed,))
                == 0
            ):
                [(sealed,)] = self._database.select("SELECT sealed FROM keyring.signer")  # another box was first
            return Signer(cipher.unseal(sealed, _SIGNER_NAME))

    def put(self, receipt: ErasureReceipt, change: int) -> ErasureReceipt:
        """Store a receipt, signed, inside the caller's transaction; as it is then."""
        signed = self.signed(receipt)
        self._database.execute(_INSERT, receipt_to_row(signed, change))
        return signed

    def complete(self, receipt: ErasureReceipt) -> ErasureReceipt:
        """Store what has become known of an erasure since its receipt was put; as it is then."""
        signed = self.signed(receipt)
        self._database.execute(_REPLACE, (signed.document, signed.signature, signed.receipt_id))
        return signed

    def confirm(self, receipt_id: str, box_ids: tuple[str, ...]) -> ErasureReceipt:
        """Store that those boxes have followed an erasure; the receipt as it is then."""
        with self._database.transaction():
            return self.complete(replace(self.get(receipt_id), box_ids=box_ids))

    def prepare(self) -> None:
        """Make the key to sign with, if there is none yet: on the disk before what it signs."""
        self._signer()

    def last_of(self, collection_id: str, subject_id: str) -> ErasureReceipt:
        """The receipt of somebody's last erasure, or ``NotFoundError``."""
        sql = f"{_SELECT} WHERE collection_id = ? AND subject_id = ? ORDER BY change DESC LIMIT 1"
        found = self._database.select(sql, (collection_id, subject_id))
        if not found:
            raise NotFoundError(f"collection {collection_id!a} has no subject {subject_id!a}", field="subject_id")
        return self._from_row(found[0])

    def get(self, receipt_id: str) -> ErasureReceipt:
        """The receipt of an erasure, or ``NotFoundError``."""
        return self.find(receipt_id)[0]

    def find(self, receipt_id: str) -> tuple[ErasureReceipt, int]:
        """A receipt, and the number of the change that erased, or ``NotFoundError``."""
        found = self._database.select(f"{_SELECT} WHERE receipt_id = ?", (receipt_id,))
        if not found:
            raise NotFoundError(f"there is no receipt {receipt_id!a}", field="receipt_id")
        return self._from_row(found[0]), found[0][4]

    def erased_after(self, change: int) -> list[tuple[str, str]]:
        """Who was erased by a change after that one: collection and subject."""
        sql = "SELECT collection_id, subject_id FROM receipts WHERE change > ? ORDER BY change"
        return [(collection_id, subject_id) for collection_id, subject_id in self._database.select(sql, (change,))]

    def signed(self, receipt: ErasureReceipt) -> ErasureReceipt:
        """A receipt with its document and signature."""
        signer = self._signer()
        document = json.dumps(
            {
                "receipt_id": receipt.receipt_id,
                "collection_id": receipt.collection_id,
                "subject_id": receipt.subject_id,
                "erase_time": receipt.erase_time.isoformat(),
                "event_count": receipt.event_count,
                "crop_count": receipt.crop_count,
                "plugin_note_count": receipt.plugin_note_count,
                **{name: list(getattr(receipt, name)) for name in _LISTS},
            }
        )
        signature = signer.sign(document.encode())
        return replace(receipt, document=document, signature=signature, public_key=signer.public_key)

    def _from_row(self, row: Row) -> ErasureReceipt:
        receipt_id, collection_id, subject_id, erase_time, _, document, signature = row
        with rows.undamaged(f"receipt {receipt_id}"):
            known = json.loads(document)
            return ErasureReceipt(
                receipt_id=receipt_id,
                collection_id=collection_id,
                subject_id=subject_id,
                erase_time=from_microseconds(erase_time),
                event_count=known["event_count"],
                crop_count=known["crop_count"],
                plugin_note_count=known.get("plugin_note_count", 0),  # no receipt had it before there were plugins
                document=document,
                signature=signature,
                public_key=self._signer().public_key,
                **{name: tuple(known[name]) for name in _LISTS},
            )


def receipt_to_row(signed: ErasureReceipt, change: int) -> Row:
    """The columns of ``receipts``."""
    return (
        signed.receipt_id,
        signed.collection_id,
        signed.subject_id,
        to_microseconds(signed.erase_time),
        change,
        signed.document,
        signed.signature,
    )
