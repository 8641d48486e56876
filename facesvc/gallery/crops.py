"""Face crops kept at enrolment, sealed: what vectors under another contract are made from.

A key of ``keys`` has an id of its own and a check value, so that a wrong key file is noticed when the gallery is opened
and not in the middle of a migration.
"""

from datetime import datetime
from pathlib import Path

from ulid import ULID

from facesvc.errors import InputError, NotFoundError, PreconditionError
from facesvc.gallery.crypto import Vault, associated, missing_key
from facesvc.gallery.records import Sample, SampleName
from facesvc.gallery.schema import GALLERY
from facesvc.sqlite import Database, to_microseconds

MAX_CROP_BYTES = 1 << 20

_UNUSED_KEYS = "DELETE FROM keys WHERE NOT EXISTS (SELECT 1 FROM crops WHERE crops.key_id = keys.key_id)"
_SEALED = "SELECT collection_id, subject_id, sample_id, sealed FROM crops JOIN samples USING (row_id) WHERE row_id = ?"


class Crops:
    """The sealed crops of a gallery, at most one a sample. Every method may be called from any thread."""

    def __init__(self, database: Database, vault: Vault | None) -> None:
        self._database = database
        self._vault = vault

    def check_key(self) -> None:
        """A ``DependencyError`` (``KEY_MISSING``, ``KEY_WRONG``) unless the crops that there are can be unsealed."""
        with self._database.transaction():
            self._database.execute(_UNUSED_KEYS)  # the next crop may be sealed with another
            for key_id, sealed_check in self._database.select("SELECT key_id, sealed_check FROM keys"):
                if self._vault is None:
                    raise missing_key("no key file is configured")
                self._vault.verify(sealed_check, _check_name(key_id))

    def put(self, row_id: int, sample: Sample, crop: bytes) -> None:
        """Seals the crop of a sample, inside the caller's transaction."""
        if not 1 <= len(crop) <= MAX_CROP_BYTES:
            message = f"crop has {len(crop)} bytes, which is not within 1 to {MAX_CROP_BYTES}"
            raise InputError(message, field="crop")
        if self._vault is None:
            message = "this gallery was opened without a key, so it cannot keep crops; configure a key file"
            raise PreconditionError(message, reason="KEY_MISSING")
        name = SampleName(sample.collection_id, sample.subject_id, sample.sample_id)
        sealed = self._vault.seal(crop, _crop_name(name))
        key_id = self._key_id(self._vault, sample)
        self._database.execute("INSERT INTO crops VALUES (?, ?, ?)", (row_id, key_id, sealed))

    def _key_id(self, vault: Vault, sample: Sample) -> str:
        """The id of the vault's key, which is registered with the first crop."""
        if found := self._database.select("SELECT key_id FROM keys"):
            return str(found[0][0])
        key_id = str(ULID())
        row = (key_id, vault.make_check(_check_name(key_id)), to_microseconds(sample.create_time))
        self._database.execute("INSERT INTO keys VALUES (?, ?, ?)", row)
        return key_id

    def get(self, row_id: int) -> bytes | None:
        """The crop of a sample; None where it has none, or is gone. ``DependencyError`` where it is damaged."""
        found = self._database.select(_SEALED, (row_id,))
        if not found:
            return None
        *name, sealed = found[0]
        if self._vault is None:
            raise missing_key("no key file is configured")
        return self._vault.unseal(sealed, _crop_name(SampleName(*name)))


def kept(path: Path, vault: Vault, most: int, now: datetime) -> list[bytes]:
    """At most so many of the crops that the gallery at ``path`` keeps, evenly from all over.

    Raises ``DependencyError`` for a gallery that a server holds (``GALLERY_IN_USE``) or a key that is not the right
    one, and ``NotFoundError`` where there is no gallery, or none that keeps crops.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no gallery at {path}", field="gallery")
    database = Database(path, GALLERY, busy_timeout_s=1.0)
    try:
        database.migrate(now)
        crops = Crops(database, vault)
        crops.check_key()
        row_ids = [row_id for (row_id,) in database.select("SELECT row_id FROM crops ORDER BY row_id")]
        if not row_ids:
            message = f"the gallery {path} keeps no crops: set enrollment.keep_crops before people are enrolled"
            raise NotFoundError(message, field="gallery")
        step = max(1.0, len(row_ids) / most)
        chosen = [row_ids[int(at * step)] for at in range(min(len(row_ids), most))]
        return [crop for row_id in chosen if (crop := crops.get(row_id)) is not None]
    finally:
        database.close()


def _crop_name(name: SampleName) -> bytes:
    return associated("crop", name.collection_id, name.subject_id, name.sample_id)


def _check_name(key_id: str) -> bytes:
    return associated("key check", key_id)
