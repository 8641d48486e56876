"""What the demo saw, held against what was really there."""

import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
from rich.table import Table

from facesvc.cli.console import out
from facesvc.cli.demo_camera import Person, Shot
from facesvc.cli.draw import draw, label_of, outcome_name
from facesvc.v1 import common_pb2, recognition_pb2
from facesvc.vision.decode import ImageLimits, decode, read_header

STAGES = ("wait", "decode", "detect", "align", "quality", "embed", "search", "total")


@dataclass(slots=True)
class _Sighting:
    """How one enrolled person fared."""

    name: str
    frames: int = 0
    similarity: float = 0.0
    best: float = 0.0
    first_s: float | None = None
    last_s: float = 0.0


class Report:
    """Collects results and judges them. ``sent`` is called by the thread that films, all else by the one that reads."""

    def __init__(self, names: Mapping[str, str], started: float) -> None:
        self._people = {subject_id: _Sighting(name) for subject_id, name in names.items()}
        self._started = started
        self._shots: dict[int, Shot] = {}
        self._shots_lock = threading.Lock()
        self._sent = self._processed = self._dropped = 0
        self._wrong_names: list[str] = []
        self._stranger: dict[str, int] = {}
        self._stage_ms: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._best_shot: tuple[int, Shot, recognition_pb2.FrameResult] | None = None
        self._visible: dict[str, str] = {}

    def sent(self, shot: Shot) -> None:
        """A frame is on its way."""
        with self._shots_lock:
            self._shots[shot.frame_id] = shot
        self._sent += 1

    def add(self, result: recognition_pb2.FrameResult) -> list[str]:
        """Judge a result; returns a line for each change in who is there."""
        shot = self._take(result.frame_id)
        self._processed += 1
        self._dropped += result.frames_dropped
        for stage in STAGES:
            seconds = getattr(result.timings, stage).ToTimedelta().total_seconds()
            self._stage_ms[stage].append(1000 * seconds)
        now = time.monotonic() - self._started
        # Where a hidden face should be says nothing about whether it was recognised.
        visible = dict(self._judge(face, shot, now) for face in result.faces if not face.track.predicted)
        matches = sum(face.decision.outcome == common_pb2.OUTCOME_MATCH for face in result.faces)
        if self._best_shot is None or matches > self._best_shot[0]:
            self._best_shot = (matches, shot, result)
        return self._changes(visible, now)

    def _take(self, frame_id: int) -> Shot:
        """The frame with this id; those before it were dropped and are forgotten."""
        with self._shots_lock:
            for earlier in [known for known in self._shots if known < frame_id]:
                del self._shots[earlier]
            return self._shots.pop(frame_id)

    def _judge(self, face: recognition_pb2.RecognizedFace, shot: Shot, now: float) -> tuple[str, str]:
        person, decision = _nearest(face, shot), face.decision
        outcome = outcome_name(decision.outcome)
        if person is not None and person.subject_id is None:
            self._stranger[outcome] = self._stranger.get(outcome, 0) + 1
        if decision.outcome != common_pb2.OUTCOME_MATCH:
            return (person.subject_id or "the stranger") if person else "somebody", outcome
        named = decision.subject.subject_id
        if person is None or person.subject_id != named:
            really = (person.subject_id or "the stranger") if person else "nobody"
            self._wrong_names.append(f"frame {shot.frame_id}: {really} was called {named}")
            return named, "WRONG"
        self._recognised(named, decision.subject.similarity, now)
        return named, outcome

    def _recognised(self, subject_id: str, similarity: float, now: float) -> None:
        sighting = self._people[subject_id]
        sighting.frames += 1
        sighting.similarity, sighting.best = similarity, max(sighting.best, similarity)
        sighting.first_s = now if sighting.first_s is None else sighting.first_s
        sighting.last_s = now

    def _changes(self, visible: dict[str, str], now: float) -> list[str]:
        before, self._visible = self._visible, visible
        lines = [
            f"{now:6.2f} s  {self._name(who):14} {what}" for who, what in visible.items() if before.get(who) != what
        ]
        return lines + [f"{now:6.2f} s  {self._name(who):14} left" for who in before if who not in visible]

    def _name(self, who: str) -> str:
        return self._people[who].name if who in self._people else who

    def table(self) -> Table:
        """Who, how similar, seen for how long: as it stands now."""
        title = f"frames: {self._sent} sent, {self._processed} processed, {self._dropped} dropped"
        table = Table(title=title, title_justify="left")
        for column, justify in (("who", "left"), ("now", "left"), ("similarity", "right"), ("best", "right"),
                                ("frames", "right"), ("seen for", "right")):  # fmt: skip
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for subject_id, person in self._people.items():
            if person.first_s is None:
                table.add_row(person.name, "", "", "", "0", "", style="dim")
                continue
            seconds = f"{person.last_s - person.first_s:.1f} s"
            now = self._visible.get(subject_id, "")
            numbers = (f"{person.similarity:.3f}", f"{person.best:.3f}", str(person.frames), seconds)
            table.add_row(person.name, now, *numbers, style="green" if now else "")
        seen = ", ".join(f"{outcome} {count}" for outcome, count in sorted(self._stranger.items()))
        table.add_row(
            "a stranger", self._visible.get("the stranger", ""), "", "", str(sum(self._stranger.values())), ""
        )
        table.caption = f"the stranger's outcomes: {seen}" if seen else None
        return table

    @property
    def passed(self) -> bool:
        """Everybody was recognised, nobody wrongly, and the stranger was seen and given no name."""
        return not self._missing and not self._wrong_names and self._stranger.get("UNKNOWN", 0) > 0

    @property
    def _missing(self) -> list[str]:
        return [person.name for person in self._people.values() if person.first_s is None]

    def finish(self, picture: Path) -> None:
        """Print the summary and write the frame with the most names in it."""
        if not out.is_terminal:
            out.print(self.table())
        stages = Table(title="milliseconds a frame", title_justify="left")
        stages.add_column("stage")
        stages.add_column("median", justify="right")
        stages.add_column("p95", justify="right")
        for stage, values in self._stage_ms.items():
            if values:
                stages.add_row(stage, f"{statistics.median(values):.1f}", f"{_percentile(values, 0.95):.1f}")
        out.print(stages)
        for complaint in self._wrong_names:
            out.print(f"wrong: {complaint}", style="red", markup=False)
        if self._missing:
            out.print(f"never recognised: {', '.join(self._missing)}", style="red", markup=False)
        self._write(picture)

    def _write(self, picture: Path) -> None:
        if self._best_shot is None:
            return
        _, shot, result = self._best_shot
        pixels = decode(shot.jpeg, read_header(shot.jpeg, ImageLimits())).pixels
        PIL.Image.fromarray(draw(pixels, [label_of(face) for face in result.faces])).save(picture)
        out.print(f"wrote {picture}", markup=False, highlight=False)

    def summary(self, picture: Path) -> dict[str, Any]:
        """The whole as one object."""
        firsts = [person.first_s for person in self._people.values() if person.first_s is not None]
        return {
            "passed": self.passed,
            "recognized": {person.name: person.frames for person in self._people.values() if person.frames},
            "never_recognized": self._missing,
            "wrong_names": self._wrong_names,
            "stranger": self._stranger,
            "frames_sent": self._sent,
            "frames_processed": self._processed,
            "frames_dropped": self._dropped,
            "first_match_s": round(min(firsts), 2) if firsts else None,
            "stage_ms": {
                stage: round(statistics.median(values), 2) for stage, values in self._stage_ms.items() if values
            },
            "picture": str(picture),
        }


def _nearest(face: recognition_pb2.RecognizedFace, shot: Shot) -> Person | None:
    """Whose face it really is: the person nearest the middle of the box, if within it."""
    box = face.face.box
    x, y = box.left + box.width / 2, box.top + box.height / 2

    def off(person: Person) -> float:
        return max(abs(person.x - x) / box.width, abs(person.y - y) / box.height)

    nearest = min(shot.people, key=off, default=None)
    return nearest if nearest is not None and off(nearest) < 0.5 else None


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
