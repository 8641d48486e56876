"""What ``facesvc camera`` tells: decisions as they change, challenges in words, and now and then how it goes."""

from collections import OrderedDict
from datetime import UTC
from typing import Any

from facesvc.cli.console import complain, err, print_json, say
from facesvc.cli.draw import name_of
from facesvc.cli.results import face_as_json, similarity_of
from facesvc.client import Figures, Level
from facesvc.v1 import common_pb2, recognition_pb2

_STATUS_S = 10.0
_MAX_TRACKS = 256

_PROMPTS = {
    recognition_pb2.CHALLENGE_PROMPT_TURN_LEFT: "turn your head to your left",
    recognition_pb2.CHALLENGE_PROMPT_TURN_RIGHT: "turn your head to your right",
    recognition_pb2.CHALLENGE_PROMPT_COME_CLOSER: "come closer",
    recognition_pb2.CHALLENGE_PROMPT_LOOK_STRAIGHT: "look straight at the camera",
}


class CameraReport:
    """Prints the answers of a stream as they come; times are seconds of a monotonic clock."""

    def __init__(self, name: str, clock: float, *, as_json: bool) -> None:
        self._name = name
        self._as_json = as_json
        self._told: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._error = ""
        self._last_status = clock
        self._last = Figures(0, 0, 0, 0, 0.0, Level(0, 1.0))

    def tell(self, answer: recognition_pb2.RecognizeResponse, figures: Figures, clock: float) -> None:
        """An answer, and how it goes where it is time for that."""
        if answer.HasField("opened"):
            self._tell_opening(answer.opened)
        elif answer.HasField("result"):
            self._tell_error(answer.result)
            for face in answer.result.faces:
                self._tell_face(answer.result, face)
        elif answer.HasField("challenge"):
            self._tell_challenge(answer.challenge)
        if clock - self._last_status >= _STATUS_S:
            self.tell_status(figures, clock)

    def tell_trouble(self, text: str) -> None:
        """What went wrong on the way."""
        if self._as_json:
            print_json({"type": "trouble", "message": text})
        else:
            complain(text)

    def tell_status(self, figures: Figures, clock: float) -> None:
        """How it went since this was told before."""
        last, seconds = self._last, max(clock - self._last_status, 1e-3)
        self._last_status, self._last = clock, figures
        a_second = {
            name: (getattr(figures, name) - getattr(last, name)) / seconds for name in ("sent", "skipped", "dropped")
        }
        level = figures.level
        if self._as_json:
            rates = {f"{name}_per_second": round(rate, 2) for name, rate in a_second.items()}
            size = {"jpeg_quality": level.quality, "share_of_size": level.share}
            print_json(
                {"type": "status", **rates, "results": figures.results, "age_s": round(figures.age_s, 3), **size}
            )
            return
        in_words = ", ".join(f"{rate:.1f} {name}" for name, rate in a_second.items())
        lighter = f", at {level.share:.0%} of its size" if level.share < 1 else ""
        age = f"a result is {1000 * figures.age_s:.0f} ms old"
        say(f"{in_words} a second; {age}; JPEG quality {level.quality}{lighter}", style="dim", to=err)

    def _tell_opening(self, opened: recognition_pb2.StreamOpened) -> None:
        if self._as_json:
            fields = {"stream_id": opened.stream_id, "policy": opened.policy, "threshold": opened.threshold}
            print_json({"type": "opened", "source": self._name, **fields})
        else:
            say(f"watching {self._name}, policy {opened.policy}", style="dim", to=err)

    def _tell_face(self, result: recognition_pb2.FrameResult, face: recognition_pb2.RecognizedFace) -> None:
        """A line where a track has got a decision, or another one than before."""
        decision, track_id = face.decision, face.track.track_id
        conclusion = decision.outcome, decision.subject.subject_id
        # More views may still make a name of it.
        is_open = bool(track_id) and not decision.settled and decision.outcome != common_pb2.OUTCOME_MATCH
        if not face.HasField("decision") or is_open:
            return
        # Without tracking every frame decides anew: then each name is told once.
        key = track_id or f"untracked {name_of(face)}"
        known = self._told.get(key) == conclusion
        self._told[key] = conclusion
        self._told.move_to_end(key)
        if len(self._told) > _MAX_TRACKS:
            self._told.popitem(last=False)
        if not known:
            self._tell_decision(result, face)

    def _tell_decision(self, result: recognition_pb2.FrameResult, face: recognition_pb2.RecognizedFace) -> None:
        if self._as_json:
            line: dict[str, Any] = {"type": "decision", "frame_id": result.frame_id, "track_id": face.track.track_id}
            print_json({**line, "capture_time": result.capture_time.ToJsonString(), **face_as_json(face)})
            return
        when = result.capture_time.ToDatetime(UTC).astimezone().strftime("%H:%M:%S")
        similarity = similarity_of(face)
        number = "" if similarity is None else f"  {similarity:.3f}"
        why = f"  {face.decision.low_quality_reason}" if face.decision.low_quality_reason else ""
        say(f"{when}  {name_of(face)}{number}{why}")

    def _tell_error(self, result: recognition_pb2.FrameResult) -> None:
        """What was wrong with a frame, once for as long as it is the same with each."""
        if result.error.reason and result.error.reason != self._error:
            self.tell_trouble(result.error.message)
        self._error = result.error.reason

    def _tell_challenge(self, progress: recognition_pb2.ChallengeProgress) -> None:
        state = recognition_pb2.ChallengeState.Name(progress.state).removeprefix("CHALLENGE_STATE_")
        if self._as_json:
            line = {
                "type": "challenge",
                "challenge_id": progress.challenge_id,
                "track_id": progress.track_id,
                "state": state,
                "prompt": recognition_pb2.ChallengePrompt.Name(progress.prompt).removeprefix("CHALLENGE_PROMPT_"),
                "steps_done": progress.steps_done,
                "steps_total": progress.steps_total,
                "time_left_s": progress.time_left.ToTimedelta().total_seconds(),
                "reason": progress.reason,
                "message": progress.message,
            }
            print_json(line)
        elif progress.state == recognition_pb2.CHALLENGE_STATE_RUNNING:
            left = progress.time_left.ToTimedelta().total_seconds()
            words = _PROMPTS.get(progress.prompt, "wait")
            say(f"challenge: {words} ({progress.steps_done} of {progress.steps_total} done, {left:.0f} s left)")
        elif progress.state == recognition_pb2.CHALLENGE_STATE_PASSED:
            say("challenge: passed")
        else:
            say(f"challenge: failed: {progress.message or state}")
