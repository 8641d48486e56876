"""Keeps indexes in the tier that suits their size: rebuilds run in a thread, beside searches and changes."""

import threading
from collections.abc import Callable, Iterable
from weakref import WeakKeyDictionary

import structlog

from facesvc.gallery.index import PeopleIndex, Rebuild

_log = structlog.get_logger(__name__)
# An index whose rebuild failed is rebuilt once its size has changed by so much: it would fail again.
_CHANGED_ENOUGH = 0.1


class Tending:
    """One rebuild at a time. ``lock`` is the one under which the indexes are used."""

    def __init__(self, lock: threading.Lock, indexes: Callable[[], Iterable[PeopleIndex]]) -> None:
        self._lock = lock
        self._indexes = indexes
        self._thread: threading.Thread | None = None
        self._rebuild: Rebuild | None = None
        self._failed_at: WeakKeyDictionary[PeopleIndex, int] = WeakKeyDictionary()
        self._closed = False

    def look(self) -> None:
        """Begin the rebuild that is due, if one is and none runs. Under the lock."""
        if self._rebuild is not None or self._closed:
            return
        for index in self._indexes():
            if index.wants_rebuild and not self._would_fail_again(index):
                self._rebuild = index.begin_rebuild()
                arguments = (index, self._rebuild)
                self._thread = threading.Thread(target=self._run, args=arguments, name="rebuild", daemon=True)
                self._thread.start()
                return

    def _would_fail_again(self, index: PeopleIndex) -> bool:
        failed_at = self._failed_at.get(index)
        return failed_at is not None and abs(len(index) - failed_at) < max(1, _CHANGED_ENOUGH * failed_at)

    def _run(self, index: PeopleIndex, rebuild: Rebuild) -> None:
        try:
            done = False
            while not done:
                rebuild.run(self._lock)
                with self._lock:
                    done = rebuild.finish()
        except Exception as error:  # noqa: BLE001 - whatever it is, such as no memory left: the index goes on as it is
            with self._lock:
                self._failed_at[index] = len(index)
                index.abandon_rebuild()
            self._go_on()
            _log.error("rebuild_failed", samples=len(index), exc_info=error)
        else:
            self._go_on()

    def _go_on(self) -> None:
        with self._lock:
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
