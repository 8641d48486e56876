"""Memory that follows the store: what this box has changed, and what others have, where the database is shared.

Every change has a number. Whoever shares a gallery reads anew whomever a later change than the last that it knows was
about, and says then how far it has come.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Lock

from facesvc.errors import DependencyError, NotFoundError
from facesvc.gallery.loading import load
from facesvc.gallery.records import EmbeddingContract
from facesvc.gallery.store import Store
from facesvc.gallery.views import Known, View, Views
from facesvc.gallery.wiping import overwrite_freed_arrays

# A box that shares a gallery says that it is there so often, also where nothing has changed.
_SAY_AGAIN = timedelta(seconds=10)
_TRIES = 5
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

Key = tuple[str, str]


class Following:
    """The views of a gallery and how far they have followed its store, ``change`` at the time they were loaded.

    ``changing`` is held by whoever calls a method, unless it says otherwise.
    """

    def __init__(self, store: Store, views: Views, changing: Lock, change: int) -> None:
        self._store = store
        self._views = views
        self._changing = changing
        self._change = change
        self._erased_here: list[Key] = []
        self._erased: list[Key] = []  # whom the follower has not forgotten yet, and how many it was told of
        self._told = (change, 0)
        self._said_change = -1
        self._said_time = _LONG_AGO

    @property
    def change(self) -> int:
        """The last change of which everything is in memory."""
        return self._change if self._store.shared else self._store.change

    def follow(self) -> list[Key]:
        """As ``Gallery.follow``; takes the lock itself."""
        with self._changing:
            self.catch_up()
            self._told = (self._change, len(self._erased))
            return list(dict.fromkeys(self._erased))

    def say(self, box_id: str, now: datetime) -> None:
        """As ``Gallery.say``; takes the lock itself."""
        change, count = self._told
        if change != self._said_change or now >= self._said_time + _SAY_AGAIN:
            self._store.boxes.say(box_id, change, now)
            self._said_change, self._said_time = change, now
        with self._changing:
            del self._erased[:count]
            self._told = (change, 0)

    def erased_here(self, key: Key) -> None:
        """This box has erased somebody: whoever asked for it sees to the rest, and is not told."""
        if self._store.shared:
            self._erased_here.append(key)

    def catch_up(self) -> None:
        """Reads anew what was changed since the last time."""
        self.follow_to(self._store.change)

    def follow_to(self, change: int) -> None:
        """Reads anew what was changed since the last time, ``change`` being the last that is committed."""
        if change < self._change:
            erased = self._read_all_anew()
        else:
            erased = self._store.receipts.erased_after(self._change)
            for key in set(self._erased_here).intersection(erased):
                erased.remove(key)
            self.refresh(())
        self._erased_here = []
        if erased:
            self._store.keyring.forget_cached()
            self._erased += erased
        self._change = change

    def _read_all_anew(self) -> list[Key]:
        """After an earlier state of the database was put back; who is gone since because they were erased."""
        known = self._views.everybody()
        self._store.keyring.forget_cached()
        self._views.reload(self._load)
        gone = known - self._views.everybody()
        return [key for key in dict.fromkeys(self._store.receipts.erased_after(-1)) if key in gone]

    def _load(self, contract: EmbeddingContract) -> View:
        return load(self._store, contract)

    def take_over(self, keys: Iterable[Key], known: Callable[[], None]) -> None:
        """Makes a change visible to searches, by what is ``known`` of it where nobody else can have come between."""
        if self._store.shared:
            self.refresh(keys)
        else:
            known()

    def refresh(self, keys: Iterable[Key]) -> None:
        """Reads some subjects anew; of a shared database all whom others have changed since the last time as well.

        For samples may have gone from these to those, and may go while they are read: then they are read once more.
        """
        wanted = dict.fromkeys(keys)
        if not self._store.shared:
            self._read_anew(wanted)
            return
        for _ in range(_TRIES):
            wanted |= dict.fromkeys(self._store.changed_since(self._change))
            with suppress(ValueError):
                self._read_anew(wanted)
                return
        raise DependencyError("other boxes move samples without an end; try again", reason="GALLERY_BUSY")

    def _read_anew(self, keys: Iterable[Key]) -> None:
        people = {}
        for key in keys:
            people[key] = Known()
            with suppress(NotFoundError):
                subject = self._store.get_subject(*key)
                samples = {one: self._store.rows_of(*key, one) for one in self._views.contract_ids}
                people[key] = Known(subject, samples)
        self._views.refresh(people)
        if any(known.subject is None for known in people.values()):
            overwrite_freed_arrays()
