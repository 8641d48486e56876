"""From the store, and the saved view where there is one, to a view that can be searched; and the way back."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import numpy as np

from facesvc.errors import InputError, NotFoundError
from facesvc.gallery import saved_view
from facesvc.gallery.crypto import Cipher
from facesvc.gallery.index import PeopleIndex
from facesvc.gallery.keyring import NOBODY
from facesvc.gallery.records import EmbeddingContract, Subject
from facesvc.gallery.roster import Roster
from facesvc.gallery.saved_view import Entry, Key, Part
from facesvc.gallery.store import Store
from facesvc.gallery.views import View, Views

_TOGETHER = 10_000  # subjects taken in at a time
_SAVED_TOGETHER = 500  # subjects between whose changes nobody comes
WORTH_SAVING = 20_000
"""Samples from which on reading them all from the store takes longer than anybody wants to wait."""


def load(store: Store, contract: EmbeddingContract, path: Path | None = None) -> View:
    """Everybody, with their vectors under ``contract``; ``path`` is where a view was saved.

    Where that does not fit, or another box moves samples between people meanwhile, all is read again without it.
    """
    try:
        return Loader(store, contract, path).load()
    except ValueError:
        return Loader(store, contract, None).load()


class Loader:
    """Fills one view."""

    def __init__(self, store: Store, contract: EmbeddingContract, path: Path | None) -> None:
        self._store = store
        self._contract = contract
        self._view = View(contract)
        self._saved = self._read(path) if path is not None else {}
        self._stale: list[Key] = []

    def _read(self, path: Path) -> dict[Key, Entry]:
        """What is saved, by subject; and an empty index for each collection that was saved."""
        saved = {}
        cipher, last = self._store.keyring.of_nobody(), self._store.change
        for entry in saved_view.read(path):
            if entry.change > last:
                return {}  # an earlier state of the database was put back since
            if entry.key[1]:
                saved[entry.key] = entry
            elif trained := saved_view.unseal(entry, self._contract.contract_id, cipher):
                self._restore(entry.key[0], trained)
        return saved

    def _restore(self, collection_id: str, trained: bytes) -> None:
        try:
            index = PeopleIndex.restore(self._contract.dimension, trained)
        except InputError:
            return  # of another version: it is built anew
        self._view.rosters[collection_id] = Roster(index)

    def load(self) -> View:
        """Everybody, as the store has them."""
        pending: list[tuple[Subject, Part]] = []
        for subject, change, cipher in self._store.subjects_with_change():
            self._view.put_subject(subject)
            part = self._part(subject, change, cipher)
            if part is not None:
                pending.append((subject, part))
            elif subject.sample_count:
                self._stale.append((subject.collection_id, subject.subject_id))
            if len(pending) >= _TOGETHER:
                self._take(pending)
        self._take(pending)
        self._add_stale()
        rosters = self._view.rosters
        self._view.rosters = {name: roster for name, roster in rosters.items() if roster.subject_count}
        return self._view

    def _part(self, subject: Subject, change: int, cipher: Cipher) -> Part | None:
        """What is saved of somebody, if that is still so."""
        entry = self._saved.pop((subject.collection_id, subject.subject_id), None)
        if entry is None or entry.change != change:
            return None
        value = saved_view.unseal(entry, self._contract.contract_id, cipher)
        try:
            index = self._view.rosters[subject.collection_id].index
            return None if value is None else Part.from_bytes(value, index.code_width)
        except InputError:
            return None

    def _take(self, pending: list[tuple[Subject, Part]]) -> None:
        by_collection: dict[str, list[tuple[Subject, Part]]] = {}
        for subject, part in pending:
            if len(part.rows):
                by_collection.setdefault(subject.collection_id, []).append((subject, part))
        pending.clear()
        for collection_id, group in by_collection.items():
            roster = self._view.rosters[collection_id]
            rows = np.concatenate([part.rows for _, part in group])
            owners = roster.own(
                (row_id, subject.subject_id, sample_id)
                for subject, part in group
                for row_id, sample_id in zip(part.rows.tolist(), part.sample_ids, strict=True)
            )
            roster.index.add_codes(rows, owners, np.concatenate([part.codes for _, part in group]))

    def _add_stale(self) -> None:
        """Those of whom nothing is saved: all at once where that is nearly everybody."""
        contract_id = self._contract.contract_id
        people = sum(roster.subject_count for roster in self._view.rosters.values())
        if len(self._stale) > people // 10:
            wanted = set(self._stale)
            samples = self._store.contracts.samples(contract_id)
            self._view.fill((), (one for one in samples if (one[1].collection_id, one[1].subject_id) in wanted))
            return
        for key in self._stale:
            with suppress(NotFoundError):  # erased meanwhile, by another box
                self._view.add_samples(self._store.rows_of(*key, contract_id))


def save(
    store: Store, views: Views, followed: Callable[[], int], unchanging: AbstractContextManager[object], path: Path
) -> None:
    """Write a file of the current view: what each collection's index was trained to, and everybody's part of it.

    ``unchanging`` is held while the store and the view are compared, a few people at a time. Left out is whom a change
    after ``followed`` was about: the view may not have it yet. Raises ``OSError``.
    """
    contract_id, trained = views.contract.contract_id, views.trained()

    def entries() -> Iterator[Entry]:
        cipher, last = store.keyring.of_nobody(), NOBODY
        for collection_id, value in trained.items():
            yield saved_view.seal((collection_id, ""), 0, contract_id, value, cipher)
        while True:
            with unchanging:
                page = store.page_of_changes(last, _SAVED_TOGETHER)
                last_followed = followed()
                parts = [views.part(key) if change <= last_followed else None for key, change, _ in page]
            if not page:
                return
            for (key, change, own), part in zip(page, parts, strict=True):
                if part is not None:
                    yield saved_view.seal(key, change, contract_id, part.to_bytes(), own)
            last = page[-1][0]

    saved_view.write(path, entries())
