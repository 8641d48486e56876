"""Keeps indexes in the tier that suits their size: rebuilds run in a thread, beside searches and changes."""

import threading
from collections.abc import Callable, Iterable

from facesvc.gallery.index import PeopleIndex, Rebuild


class Tending:
    """One rebuild at a time. ``lock`` is the one under which the indexes are used."""

    def __init__(self, lock: threading.Lock, indexes: Callable[[], Iterable[PeopleIndex]]) -> None:
        self._lock = lock
        self._indexes = indexes
        self._thread: threading.Thread | None = None
        self._rebuild: Rebuild | None = None
        self._closed = False

    def look(self) -> None:
        """Begin the rebuild that is due, if one is and none runs. Under the lock."""
        if self._rebuild is not None or self._closed:
            return
        for index in self._indexes():
            if index.wants_rebuild:
                self._rebuild = index.begin_rebuild()
                self._thread = threading.Thread(target=self._run, args=(self._rebuild,), name="rebuild", daemon=True)
                self._thread.start()
                return

    def _run(self, rebuild: Rebuild) -> None:
        done = False
        while not done:
            rebuild.run(self._lock)
            with self._lock:
                done = rebuild.finish()
                if done:
                    self._rebuild = None
                    self.look()  # another collection may have waited

    def join(self) -> None:
        """Wait until no rebuild runs."""
        while (thread := self._thread) is not None and thread.is_alive():
            thread.join()

    def close(self) -> None:
        """Give up the rebuild that runs; returns once its thread has ended. Not under the lock."""
        with self._lock:
            self._closed = True
            if self._rebuild is not None:
                self._rebuild.abandoned = True
        self.join()
