"""A gallery on its way to another embedding contract, while it is searched and changed.

The way, which a caller walks in a thread of its own::

    with gallery.begin_migration(contract) as migration:
        while pending := migration.pending():
            ...  # embed migration.crop(row_id) of some, migration.put_many(...), again until none is left
        migration.switch(now, allow_missing=False)

Vectors are stored as they come, so a migration that ended early, with the process or without, goes on where it was.
Until the switch is committed the gallery is one of the old contract, from then on one of the new.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from threading import Lock
from types import TracebackType
from typing import Self

from facesvc.errors import PreconditionError
from facesvc.gallery.records import Audience, Candidate, EmbeddingContract, Floats, SampleName
from facesvc.gallery.store import Store
from facesvc.gallery.views import Views


class Migration:
    """One migration to ``contract``, the only one of its gallery. Every method may be called from any thread.

    Once it has switched or was abandoned, every method but ``abandon`` raises ``PreconditionError``
    (``MIGRATION_OVER``). ``catch_up`` takes over what other boxes have changed, under ``changing``.
    """

    def __init__(
        self, store: Store, views: Views, changing: Lock, contract: EmbeddingContract, catch_up: Callable[[], None]
    ) -> None:
        self.contract = contract
        self._store = store
        self._views = views
        self._changing = changing
        self._catch_up = catch_up
        self._given_up: set[int] = set()
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abandon()

    def pending(self) -> dict[int, SampleName]:
        """The samples that still need a vector and have a crop to make it from, by row id, oldest first."""
        self._check_running()
        return self._sort_lacking()[0]

    def unmigratable(self) -> list[SampleName]:
        """The samples that have neither a vector under the new contract nor a crop to make one from."""
        self._check_running()
        return self._sort_lacking()[1]

    def crop(self, row_id: int) -> bytes | None:
        """The crop of a pending sample; None where the sample is gone since. ``DependencyError`` for a damaged one."""
        self._check_running()
        return self._store.crops.get(row_id)

    def give_up(self, row_id: int) -> None:
        """Counts a sample whose crop turned out to be of no use among the unmigratable, for this migration."""
        with self._changing:
            self._check_running()
            self._given_up.add(row_id)

    def put(self, row_id: int, vector: Floats) -> bool:
        """As ``put_many`` for one vector (D,); whether it was taken in."""
        return self.put_many({row_id: vector}) == 1

    def put_many(self, vectors: Mapping[int, Floats]) -> int:
        """Stores vectors (D,) float32 of unit length by row id, in one transaction; how many were taken in.

        What is gone since, and what has a vector already, is passed over. Changes of the gallery wait meanwhile,
        searches do not.
        """
        for vector in vectors.values():
            self.contract.check(vector[None], "vector")
        with self._changing:
            self._check_running()
            with self._store.transaction():
                added = self._store.contracts.put(self.contract.contract_id, vectors, self._store.next_change())
            if self._store.shared:
                self._catch_up()  # of some not even the subject may be known here, of some another box has a vector
            else:
                self._views.add_to_shadow(added)
        return len(added)

    def checkable(self, most: int) -> dict[int, SampleName]:
        """At most so many samples that have a crop and a vector under the new contract, evenly from all over."""
        self._check_running()
        found = list(self._store.contracts.checkable(self.contract.contract_id).items())
        step = max(1.0, len(found) / most)
        return dict(found[int(at * step)] for at in range(min(len(found), most)))

    def discard(self) -> None:
        """Deletes every vector under the new contract, for they are of no use, and ends the migration.

        Those of the contract that the gallery can go back to are kept.
        """
        with self._changing:
            self._check_running()
            previous = self._store.contracts.previous
            if previous is None or previous.contract_id != self.contract.contract_id:
                self._store.contracts.discard(self.contract.contract_id)
            self._views.drop_shadow()
            self._over = True

    def nearest(self, collection_id: str, vector: Floats) -> Candidate | None:
        """Whose vector is most like ``vector`` (D,), among all that are there by now, disabled people too."""
        self._check_running()
        [found] = self._views.search_shadow(self.contract.contract_id, collection_id, vector[None], 1, Audience())
        return found[0] if found else None

    def search(self, collection_id: str, vectors: Floats, limit: int, now: datetime) -> list[list[Candidate]]:
        """As ``Gallery.search``, among the vectors of the new contract that are there by now."""
        self._check_running()
        return self._views.search_shadow(self.contract.contract_id, collection_id, vectors, limit, Audience(now))

    def switch(self, now: datetime, *, allow_missing: bool) -> None:
        """Makes the new contract the gallery's, from the next search on; the old one stays searchable as well.

        Raises ``PreconditionError``: ``MIGRATION_INCOMPLETE`` while samples are pending (enrolled meanwhile: embed
        those and come again), and ``CROPS_MISSING`` where some are unmigratable, unless ``allow_missing``. Those then
        keep their old vectors only: nobody is found by them, until the gallery goes back.
        """
        with self._changing:
            self._check_running()
            if self._store.shared:
                self._catch_up()
            with self._store.transaction():
                if self._store.shared:
                    self._store.next_change()  # who enrols on another box waits, and is refused then
                    self._store.contracts.check_current()
                self._check_complete(allow_missing=allow_missing)
                self._store.contracts.switch(self.contract, now)
            self._store.contracts.current = self.contract
            self._views.switch()
            self._over = True

    def _check_complete(self, *, allow_missing: bool) -> None:
        pending, unmigratable = self._sort_lacking()
        if pending:
            message = f"{len(pending)} samples have no vector of {self.contract} yet; embed their crops first"
            raise PreconditionError(message, reason="MIGRATION_INCOMPLETE")
        if unmigratable and not allow_missing:
            people = {(name.collection_id, name.subject_id) for name in unmigratable}
            message = (
                f"{len(unmigratable)} samples of {len(people)} subjects have no usable crop to make a vector of"
                f" {self.contract} from; enrol them again, or allow that nobody is found by these samples"
            )
            raise PreconditionError(message, reason="CROPS_MISSING")

    def abandon(self) -> None:
        """Ends the migration where it is; what was stored stays, for the next one to the same contract."""
        with self._changing:
            if not self._over:
                self._views.drop_shadow()
                self._over = True

    def _sort_lacking(self) -> tuple[dict[int, SampleName], list[SampleName]]:
        """Who lacks a vector: the pending by row id, and the unmigratable."""
        pending, unmigratable = {}, []
        for one in self._store.contracts.lacking(self.contract.contract_id):
            if one.has_crop and one.row_id not in self._given_up:
                pending[one.row_id] = one.name
            else:
                unmigratable.append(one.name)
        return pending, unmigratable

    def _check_running(self) -> None:
        if self._over:
            raise PreconditionError("this migration is over; begin another one", reason="MIGRATION_OVER")
