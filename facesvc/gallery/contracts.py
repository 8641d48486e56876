"""Under which contracts the vectors of a gallery were made, which one searches use, and who lacks a vector.

A sample has a vector under the current contract, as a rule under the previous one too (the way back), and during a
migration under a third.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from facesvc.database import Database, to_microseconds
from facesvc.errors import ContractMismatchError
from facesvc.gallery import rows
from facesvc.gallery.crypto import Cipher
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.records import EmbeddingContract, Floats, Sample, SampleName

_BATCH = 128  # samples per statement while all are read; bounds how long the others wait

_COUNTS = "SELECT (SELECT count(*) FROM vectors WHERE contract_id = ?), (SELECT count(*) FROM samples)"
_PREVIOUS = "SELECT contract_id, dimension FROM contracts WHERE contract_id = (SELECT previous_contract_id FROM meta)"
_SWITCH = "UPDATE meta SET previous_contract_id = contract_id, contract_id = ?, switch_time = ?"
_DROP_OLD_VECTORS = """
    DELETE FROM vectors
     WHERE contract_id NOT IN (SELECT contract_id FROM meta UNION SELECT previous_contract_id FROM meta)
"""
_DROP_OLD_CONTRACTS = """
    DELETE FROM contracts
     WHERE contract_id NOT IN (SELECT contract_id FROM meta UNION SELECT previous_contract_id FROM meta)
"""
_NEXT_SAMPLES = " WHERE samples.row_id > :last AND vectors.sealed IS NOT NULL ORDER BY samples.row_id LIMIT :limit"
_CHANGED = "UPDATE subjects SET change = ? WHERE collection_id = ? AND subject_id = ?"
_PUT = "INSERT INTO vectors VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_LACKING = """
    SELECT samples.row_id, crops.row_id IS NOT NULL, collection_id, subject_id, sample_id
      FROM samples LEFT JOIN crops ON crops.row_id = samples.row_id
     WHERE NOT EXISTS (
               SELECT 1 FROM vectors WHERE vectors.row_id = samples.row_id AND vectors.contract_id = ?)
     ORDER BY samples.row_id
"""

_SEALED = "SELECT contract_id, sealed FROM vectors WHERE row_id = ?"
_RESEAL = "UPDATE vectors SET sealed = ? WHERE row_id = ? AND contract_id = ?"
_CHECKABLE = """
    SELECT row_id, collection_id, subject_id, sample_id
      FROM samples JOIN crops USING (row_id) JOIN vectors USING (row_id)
     WHERE vectors.contract_id = ?
     ORDER BY row_id
"""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A sample without a vector under some contract, and whether it has a crop to make one from."""

    row_id: int
    has_crop: bool
    name: SampleName


class Contracts:
    """The contracts of a gallery and the vectors under each. Every method may be called from any thread."""

    def __init__(self, database: Database, keyring: Keyring, current: EmbeddingContract) -> None:
        self.current = current
        self._database = database
        self._keyring = keyring

    def settle(self, now: datetime) -> None:
        """Makes ``current`` the gallery's contract, if it is not.

        That is sound where every sample has a vector under it: an empty gallery, one that goes back to its previous
        contract, or one whose migration was complete but for the switch. ``ContractMismatchError`` otherwise, and for
        all but an empty gallery where others share it: they would go on with the contract that it has.
        """
        with self._database.transaction():
            found = self._database.select("SELECT contract_id, dimension FROM meta JOIN contracts USING (contract_id)")
            held = EmbeddingContract(*found[0]) if found else None
            if held == self.current:
                return
            have, total = self.counts(self.current.contract_id)
            same_id = held is not None and held.contract_id == self.current.contract_id
            used_by_others = self._database.shared and total > 0
            if held is not None and (have < total or same_id or used_by_others):
                raise ContractMismatchError(
                    f"{self._database.where} holds vectors of {held}, but the loaded models make"
                    f" {self.current}, under which {have} of {total} samples have one; `facesvc models list` shows"
                    " which pack has that contract: start with it (`facesvc models use NAME`), then change to"
                    " the other with `facesvc models migrate NAME`"
                )
            self.register(self.current)
            if held is None:
                time = to_microseconds(now)
                row = (self.current.contract_id, time, time)
                if not self._database.execute("INSERT INTO meta VALUES (1, ?, NULL, ?, ?) ON CONFLICT DO NOTHING", row):
                    self.settle(now)  # another box was first
            else:
                self.switch(self.current, now)

    def check_current(self) -> None:
        """Raises ``ContractMismatchError`` where another box has switched the gallery to another contract."""
        [(held,)] = self._database.select("SELECT contract_id FROM meta")
        if held != self.current.contract_id:
            raise ContractMismatchError(
                f"another box has changed {self._database.where} to {held}, but the loaded models make {self.current};"
                " `facesvc models list` shows which pack has that contract: start this box with it"
                " (`facesvc models use NAME`)"
            )

    def register(self, contract: EmbeddingContract) -> None:
        """Makes a contract known; ``ContractMismatchError`` where it is known with another dimension."""
        with self._database.transaction():
            self._database.execute("INSERT INTO contracts VALUES (?, ?) ON CONFLICT DO NOTHING", _row(contract))
            sql = "SELECT contract_id, dimension FROM contracts WHERE contract_id = ?"
            known = EmbeddingContract(*self._database.select(sql, (contract.contract_id,))[0])
            if known != contract:
                message = f"the gallery knows {known}, but the loaded models make {contract}; one of them is wrong"
                raise ContractMismatchError(message)

    def switch(self, contract: EmbeddingContract, now: datetime) -> None:
        """Makes a registered contract the gallery's, and today's the previous, inside the caller's transaction.

        The vectors of all others go. Once that is committed, ``current`` is the caller's to set.
        """
        self._database.execute(_SWITCH, (contract.contract_id, to_microseconds(now)))
        self._database.execute(_DROP_OLD_VECTORS)
        self._database.execute(_DROP_OLD_CONTRACTS)

    @property
    def previous(self) -> EmbeddingContract | None:
        """The contract before the current one, whose vectors are kept."""
        found = self._database.select(_PREVIOUS)
        return EmbeddingContract(*found[0]) if found else None

    def counts(self, contract_id: str) -> tuple[int, int]:
        """How many samples have a vector under a contract, and how many there are."""
        [(have, total)] = self._database.select(_COUNTS, (contract_id,))
        return have, total

    def samples(self, contract_id: str) -> Iterator[tuple[int, Sample]]:
        """Every sample with a vector under a contract, with its row id, in the order in which they were added."""
        last = 0
        while batch := self._database.select(
            rows.SELECT_SAMPLE + _NEXT_SAMPLES, {"contract_id": contract_id, "last": last, "limit": _BATCH}
        ):
            yield from (rows.sample_from_row(row, contract_id, self._keyring) for row in batch)
            last = batch[-1][0]

    def put(self, contract_id: str, vectors: Mapping[int, Floats], change: int) -> list[tuple[int, Sample]]:
        """Stores vectors by row id in one transaction; the samples that had none under that contract, with them.

        What was erased since, and what has a vector already, is passed over. The others' subjects bear ``change``.
        """
        one = rows.SELECT_SAMPLE + " WHERE samples.row_id = :row_id"
        added = []
        with self._database.transaction():
            for row_id, vector in vectors.items():
                found = self._database.select(one, {"row_id": row_id, "contract_id": contract_id})
                if not found:
                    continue
                _, sample = rows.sample_from_row(found[0], contract_id, self._keyring)
                if sample.vector is None:
                    cipher = self._keyring.get(sample.collection_id, sample.subject_id)
                    self.put_vector(row_id, sample.name, contract_id, vector, cipher)
                    self._database.execute(_CHANGED, (change, sample.collection_id, sample.subject_id))
                    added.append((row_id, replace(sample, vector=vector)))
        return added

    def put_vector(self, row_id: int, name: SampleName, contract_id: str, vector: Floats, cipher: Cipher) -> None:
        """Stores the vector of a sample, inside the caller's transaction."""
        self._database.execute(_PUT, (row_id, contract_id, rows.seal_vector(vector, name, contract_id, cipher)))

    def reseal(self, row_id: int, name: SampleName, moved: SampleName, old: Cipher, new: Cipher) -> None:
        """Makes the vectors of the sample ``name`` those of ``moved``, inside the caller's transaction."""
        for contract_id, sealed in self._database.select(_SEALED, (row_id,)):
            vector = rows.unseal_vector(sealed, name, contract_id, old)
            again = rows.seal_vector(vector, moved, contract_id, new)
            self._database.execute(_RESEAL, (again, row_id, contract_id))

    def lacking(self, contract_id: str) -> list[Lacking]:
        """The samples without a vector under a contract, in the order in which they were added."""
        found = self._database.select(_LACKING, (contract_id,))
        return [Lacking(row_id, bool(has_crop), SampleName(*name)) for row_id, has_crop, *name in found]

    def checkable(self, contract_id: str) -> dict[int, SampleName]:
        """The samples that have both a crop and a vector under a contract, by row id."""
        return {row_id: SampleName(*name) for row_id, *name in self._database.select(_CHECKABLE, (contract_id,))}

    def discard(self, contract_id: str) -> None:
        """Deletes every vector of a contract."""
        with self._database.transaction():
            self._database.execute("DELETE FROM vectors WHERE contract_id = ?", (contract_id,))


def _row(contract: EmbeddingContract) -> tuple[str, int]:
    return contract.contract_id, contract.dimension
