"""``facesvc demo --plugins``: what plugins find out about the people of the demonstration, line by line."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

from facesvc.cli.console import out, printable
from facesvc.client import CallError, Client
from facesvc.delivery.kit import Staged
from facesvc.errors import DependencyError
from facesvc.v1 import presence_pb2

GROUP = "facesvc.demos"
"""Entry points of functions ``stage(names by subject id, folder)``, context managers that give a ``Staged``."""


@dataclass(slots=True)
class Stages:
    """What all plugins that take part have set up."""

    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    external_ids: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, name: str, staged: Staged) -> None:
        """One more."""
        self.settings[name] = dict(staged.settings)
        for subject_id, ids in staged.external_ids.items():
            self.external_ids.setdefault(subject_id, {}).update(ids)


@contextmanager
def staged(people: Mapping[str, str], folder: Path) -> Iterator[Stages]:
    """The plugins that have something to show. Raises ``DependencyError`` where none is installed."""
    found = entry_points(group=GROUP)
    if not found:
        raise DependencyError(
            "no plugin that could be shown is installed: pip install facesvc-graph, or `make plugins`"
        )
    stages = Stages()
    with ExitStack() as stack:
        for entry in found:
            own = folder / entry.name
            own.mkdir(mode=0o700)
            stages.add(entry.name, stack.enter_context(entry.load()(people, own)))
        yield stages


class Gossip:
    """Prints who arrives, with what plugins know of them; in a thread, until it is closed."""

    def __init__(self, address: str) -> None:
        self.lines: list[str] = []
        self._client = Client(address)
        self._begun = Event()
        self._arrived: set[str] = set()
        self._known: dict[str, str] = {}
        self._thread = Thread(target=self._watch, name="demo-events", daemon=True)

    def __enter__(self) -> Self:
        """Wait until nothing that happens from now on is missed."""
        self._thread.start()
        self._begun.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self._client.close()
        self._thread.join(10)

    def _watch(self) -> None:
        try:
            for told in self._client.watch_events():
                self._begun.set()
                if told.HasField("event"):
                    self._take(told.event)
        except (CallError, ValueError):
            pass  # it was closed
        finally:
            self._begun.set()

    def _take(self, event: presence_pb2.Event) -> None:
        """Whoever has arrived and is known about is told of, and again when something new is known."""
        if event.HasField("arrived"):
            self._arrived.add(event.arrived.subject_id)
            self._tell(event.arrived.subject_id, event.arrived.display_name, "arrived")
        elif event.HasField("enriched"):
            one = event.enriched
            is_news = one.subject_id in self._known
            self._known[one.subject_id] = one.facts.summary
            self._tell(one.subject_id, one.display_name, "now" if is_news else "arrived")

    def _tell(self, subject_id: str, name: str, verb: str) -> None:
        if subject_id in self._arrived and subject_id in self._known:
            line = printable(f"{name} {verb} · {self._known[subject_id]}")
            self.lines.append(line)
            out.print(line, markup=False, highlight=False)
