"""What recognises, and how it is replaced while it is at work.

An engine is a pack with all that follows from it: networks, thresholds, the contract of its vectors. A frame is looked
at, searched and decided by one engine from beginning to end; the next one may meet another. The engine that was
replaced is let go of once nobody works with it any more.
"""

from asyncio import Lock
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Condition
from typing import TypeVar

from facesvc.api.policies import Policies
from facesvc.errors import ContractMismatchError
from facesvc.models.packs import Pack
from facesvc.stream.recognizer import Answer, Question, Recognizer
from facesvc.vision.pipeline import Pipeline

R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class Engine:
    """One pack at work; ``providers`` are the execution providers that really run it."""

    pack: Pack
    providers: tuple[str, ...]
    pipeline: Pipeline
    recognizer: Recognizer
    policies: Policies

    def recognize(self, data: bytes, question: Question, capture_time: datetime) -> Answer:
        """Everybody in an encoded picture, decided by the question's policy as this engine's calibration has it.

        Raises ``ImageError`` and, where another engine was asked the question, what ``Policies.get`` does.
        """
        policy = self.policies.get(question.policy.name)
        return self.recognizer.recognize(data, replace(question, policy=policy), capture_time)


class Engines:
    """The engine in use. Every method may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._current = engine
        self._users: Counter[int] = Counter()
        self._changed = Condition()
        self.changing = Lock()
        """Held, on the event loop, over a change of gallery and engine, so that two changes never mix."""

    @property
    def current(self) -> Engine:
        """The engine in use at this moment."""
        return self._current

    @contextmanager
    def using(self) -> Iterator[Engine]:
        """The engine in use, which is kept for the time of the block."""
        with self._changed:
            engine = self._current
            self._users[id(engine)] += 1
        try:
            yield engine
        finally:
            with self._changed:
                self._users[id(engine)] -= 1
                if not self._users[id(engine)]:
                    del self._users[id(engine)]
                    self._changed.notify_all()

    def recognize(self, data: bytes, question: Question, capture_time: datetime) -> tuple[Answer, str]:
        """As ``Engine.recognize`` by the engine in use, and the contract that the answer was made under."""
        return self.use(lambda engine: engine.recognize(data, question, capture_time))

    def use(self, work: Callable[[Engine], R]) -> tuple[R, str]:
        """What ``work`` makes of a picture with the engine in use, and the contract that it was made under."""
        while True:
            with self.using() as engine:
                try:
                    return work(engine), engine.pack.contract_id
                except ContractMismatchError:
                    if engine is self._current:
                        raise
                    # Two changes came within this one picture; the engine in use looks at it.

    def replace(self, engine: Engine) -> Engine:
        """Makes ``engine`` the one in use from the next picture on; the one before."""
        with self._changed:
            before, self._current = self._current, engine
            self._changed.notify_all()
        return before

    def wait_replaced(self, engine: Engine, timeout_s: float) -> bool:
        """Wait until ``engine`` is no longer the one in use; False when ``timeout_s`` have passed."""
        with self._changed:
            return self._changed.wait_for(lambda: self._current is not engine, timeout_s)

    def wait_unused(self, engine: Engine, timeout_s: float) -> bool:
        """Wait until nobody works with an engine that was replaced; False when ``timeout_s`` have passed."""
        with self._changed:
            return self._changed.wait_for(lambda: id(engine) not in self._users, timeout_s)
