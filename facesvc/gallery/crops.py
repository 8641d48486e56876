"""Face crops kept at enrolment, sealed: what vectors under another contract are made from."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from facesvc.database import Database
from facesvc.database.sqlite import SqliteDatabase
from facesvc.errors import InputError, NotFoundError
from facesvc.gallery import rows
from facesvc.gallery.crypto import Cipher
from facesvc.gallery.keyring import Keyring, KeySource
from facesvc.gallery.records import SampleName
from facesvc.gallery.sealing import open_sealed

MAX_CROP_BYTES = 1 << 20

_SEALED = """
    SELECT samples.collection_id, samples.subject_id, sample_id, key_id, wrapped, crops.sealed
      FROM crops JOIN samples USING (row_id)
      JOIN keyring.subject_keys AS own
        ON own.collection_id = samples.collection_id AND own.subject_id = samples.subject_id
     WHERE row_id = ?
"""


def check_crop(crop: bytes) -> None:
    """Raises ``InputError`` unless a crop can be kept."""
    if not 1 <= len(crop) <= MAX_CROP_BYTES:
        message = f"crop has {len(crop)} bytes, which is not within 1 to {MAX_CROP_BYTES}"
        raise InputError(message, field="crop")


class Crops:
    """The crops of a gallery, at most one a sample. Every method may be called from any thread."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    def put(self, row_id: int, name: SampleName, crop: bytes, cipher: Cipher) -> None:
        """Stores the crop of a sample, inside the caller's transaction; the caller has called ``check_crop``."""
        self._database.execute("INSERT INTO crops VALUES (?, ?)", (row_id, rows.seal_crop(crop, name, cipher)))

    def get(self, row_id: int) -> bytes | None:
        """The crop of a sample; None where it has none, or is gone. ``DependencyError`` where it is damaged."""
        found = self._database.select(_SEALED, (row_id,))
        if not found:
            return None
        collection_id, subject_id, sample_id, key_id, wrapped, sealed = found[0]
        cipher = self._keyring.unwrap(collection_id, subject_id, key_id, wrapped)
        return rows.unseal_crop(sealed, SampleName(collection_id, subject_id, sample_id), cipher)

    def reseal(self, row_id: int, name: SampleName, moved: SampleName, old: Cipher, new: Cipher) -> None:
        """Makes the crop of the sample ``name`` that of ``moved``, inside the caller's transaction."""
        for (sealed,) in self._database.select("SELECT sealed FROM crops WHERE row_id = ?", (row_id,)):
            again = rows.seal_crop(rows.unseal_crop(sealed, name, old), moved, new)
            self._database.execute("UPDATE crops SET sealed = ? WHERE row_id = ?", (again, row_id))


def kept(path: Path, keys: Sequence[KeySource], most: int, now: datetime) -> list[bytes]:
    """At most so many of the crops that the gallery at ``path`` keeps, evenly from all over.

    Raises ``DependencyError`` for a gallery that a server holds (``GALLERY_IN_USE``) or a key that is not the right
    one, and ``NotFoundError`` where there is no gallery, or none that keeps crops.
    """
    if not path.is_file():
        raise NotFoundError(f"there is no gallery at {path}", field="gallery")
    database = SqliteDatabase(path, busy_timeout_s=1.0)
    try:
        keyring = Keyring(database)
        open_sealed(database, keyring, keys, now)
        crops = Crops(database, keyring)
        row_ids = [row_id for (row_id,) in database.select("SELECT row_id FROM crops ORDER BY row_id")]
        if not row_ids:
            message = f"the gallery {path} keeps no crops: set enrollment.keep_crops before people are enrolled"
            raise NotFoundError(message, field="gallery")
        step = max(1.0, len(row_ids) / most)
        chosen = [row_ids[int(at * step)] for at in range(min(len(row_ids), most))]
        return [crop for row_id in chosen if (crop := crops.get(row_id)) is not None]
    finally:
        database.close()
