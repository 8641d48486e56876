"""Another master key: all that the old one wraps is wrapped anew, a few keys at a time, while everything goes on.

The new key is a file beside the old one until nothing needs the old one any more; then it takes its place. Whatever
interrupts that, even a power cut, the next start finds both files and goes on: until then each opens what it wraps. The
keys inside stay the same, so nothing has to be sealed anew.

A key that is not in a file of ours is exchanged by the settings, ``gallery.key`` and ``gallery.previous_key``, and the
same work done at the next start.
"""

from datetime import datetime
from threading import Lock
from typing import Protocol

from facesvc.database import Database
from facesvc.errors import PreconditionError
from facesvc.gallery.keyring import Keyring
from facesvc.gallery.masterkey import KeyFile, KeySettings, KnownKey, present, sources

_BATCH = 500
"""Keys wrapped in one transaction, for which changes of the gallery wait."""


class Wrapped(Protocol):
    """What else the master key wraps, such as the keys of backups."""

    def learn(self, key: bytes) -> None:
        """What is made from now on is wrapped by ``key``; what former ones wrap can still be opened."""

    def rewrap(self) -> None:
        """Wrap all by the last key that was learnt. Raises ``FacesvcError`` where that cannot be done."""

    def forget_former(self) -> None:
        """The last key that was learnt is the only one."""


class Rotation:
    """Exchanges the master key of the gallery in ``database``. Every method may be called from any thread.

    Made at a start, after ``keyring`` was opened with the ``sources`` of ``settings``.
    """

    def __init__(self, database: Database, keyring: Keyring, settings: KeySettings, others: Wrapped | None) -> None:
        self._database = database
        self._keyring = keyring
        self._others = others
        self._source = present(settings)
        self._file = self._source if isinstance(self._source, KeyFile) else None
        self._has_former = len(sources(settings)) > 1
        self._lock = Lock()

    @property
    def is_pending(self) -> bool:
        """Whether an exchange has not come to its end, as far as was known at the start, or since."""
        return self._has_former or self._keyring.is_rotating

    def begin(self, now: datetime) -> None:
        """Make a new master key, unless one is on its way; ``step`` does the rest.

        Raises ``PreconditionError`` (``KEY_NOT_OURS``) where the key is not in a file of this box alone, and
        ``DependencyError`` where the file cannot be made.
        """
        with self._lock:
            file = self._our_file()
            if self._keyring.is_rotating:
                return
            key = file.next.make()  # or the one that was made, before something failed
            if self._others is not None:
                self._others.learn(key)
            self._keyring.begin_rotation(key, now)

    def step(self, now: datetime) -> int:
        """Wrap some keys anew; how many. 0: that was all, and the old master key is of no use any more.

        Raises ``DependencyError`` where the disk fails, and ``PreconditionError`` where something cannot be wrapped
        anew; then the old master key stays as well.
        """
        with self._lock:
            if count := self._keyring.rewrap(_BATCH):
                return count
            if self._others is not None:
                self._others.rewrap()
            if self._file is not None and (key := self._file.next.read()) is not None:
                Keyring(self._database).open([KnownKey(key, str(self._file.next))], now)  # it opens all there is
                self._file.exchange()
            if self._others is not None:
                self._others.forget_former()
            self._has_former = False
            return 0

    def _our_file(self) -> KeyFile:
        how = "set gallery.key to the new one and gallery.previous_key to the one before, and start"
        if self._file is None:
            message = f"the master key is {self._source}, which is not ours to change: {how} the server again"
            raise PreconditionError(message, reason="KEY_NOT_OURS")
        if self._database.shared:
            message = f"several boxes share the gallery and its master key: stop all, {how} one after the other"
            raise PreconditionError(message, reason="KEY_NOT_OURS")
        return self._file
