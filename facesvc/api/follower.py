"""Keeps this box's view of a gallery that it shares with others up to date, in a thread of its own.

While the database is away recognition goes on with what is known; whatever was missed is taken over afterwards.
"""

import threading
from collections.abc import Callable
from datetime import datetime

import structlog

from facesvc.errors import DependencyError
from facesvc.gallery import Gallery

_log = structlog.get_logger(__name__)


class Follower:
    """``forget`` is called, in the follower's thread, for everybody who was erased, before the others are told so.

    Where it or the telling fails it is called again.
    """

    def __init__(
        self,
        gallery: Gallery,
        box_id: str,
        poll_s: float,
        now: Callable[[], datetime],
        forget: Callable[[str, str], None],
    ) -> None:
        self._gallery = gallery
        self._box_id = box_id
        self._poll_s = poll_s
        self._now = now
        self._forget = forget
        self._stopping = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Follow once, so that the others know of this box, and then on and on. Raises ``DependencyError``."""
        self._follow()
        self._thread.start()

    def stop(self) -> None:
        """End; returns once the thread has."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._gallery.wait_for_change(self._poll_s)
                if self._stopping.is_set():
                    return
                self._follow()
                self._say(away=False)
            except DependencyError as error:
                self._say(away=True, why=error.message)
                self._stopping.wait(self._poll_s)

    def _follow(self) -> None:
        for key in self._gallery.follow():
            self._forget(*key)
        self._gallery.say(self._box_id, self._now())

    def _say(self, *, away: bool, why: str = "") -> None:
        if away and not self._away:
            _log.warning("gallery_away", why=why)
        elif self._away and not away:
            _log.info("gallery_back")
        self._away = away
