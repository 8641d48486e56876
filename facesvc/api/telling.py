"""What a stream's client is told, at the pace at which it reads: results, credits, how a challenge stands."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from facesvc.api import convert
from facesvc.stream.outbox import Outbox
from facesvc.v1 import recognition_pb2


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message, and when it was made."""

    response: recognition_pb2.RecognizeResponse
    clock: float


class Telling:
    """Everything that waits to be told. A slow reader loses the oldest results, and learns how many; nothing else."""

    def __init__(self, max_results: int, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._outbox: Outbox[_Waiting] = Outbox(max_results)
        self._credits = 0
        self._drops = 0

    def result(self, result: recognition_pb2.FrameResult) -> bool:
        """Tell a result that was made just now; whether an older one was lost to make room."""
        lost = self._put(recognition_pb2.RecognizeResponse(result=result))
        if lost is not None:
            # What it had to say of frames that were dropped, the next one says.
            self._drops += lost.response.result.frames_dropped
        return lost is not None

    def challenge(self, progress: recognition_pb2.ChallengeProgress) -> None:
        """Tell how a challenge stands."""
        self._put(recognition_pb2.RecognizeResponse(challenge=progress), losable=False)

    def credit(self) -> None:
        """Tell that one more frame is welcome: with the next result, or by itself."""
        if not self._credits:
            self._put(recognition_pb2.RecognizeResponse(credits=recognition_pb2.Credits()), losable=False)
        self._credits += 1

    def _put(self, response: recognition_pb2.RecognizeResponse, *, losable: bool = True) -> "_Waiting | None":
        return self._outbox.put(_Waiting(response, self._clock()), losable=losable)

    def close(self) -> None:
        """There will be nothing more to tell."""
        self._outbox.close()

    async def messages(self) -> AsyncIterator[recognition_pb2.RecognizeResponse]:
        """All of it in order, until it is closed."""
        async for waiting in self._outbox.read():
            if self._is_worth_sending(waiting):
                yield waiting.response

    def _is_worth_sending(self, waiting: "_Waiting") -> bool:
        """Adds what is known at the last moment: credits, losses, how long decisions still hold.

        False for credits that were given already.
        """
        response = waiting.response
        if response.HasField("result"):
            _age(response.result, self._clock() - waiting.clock)
            response.result.results_dropped = self._outbox.take_lost()
            response.result.frames_dropped += self._drops
            self._drops = 0
            if self._credits:
                response.result.credits.frames = self._credits
        elif response.HasField("credits"):
            if not self._credits:
                return False
            response.credits.frames = self._credits
        else:
            return True
        self._credits = 0
        return True


def _age(result: recognition_pb2.FrameResult, seconds: float) -> None:
    """Lets the time pass for which a result has waited to be sent."""
    for face in result.faces:
        if face.HasField("decision"):
            left = face.decision.valid_for.ToTimedelta().total_seconds() - seconds
            face.decision.valid_for.CopyFrom(convert.duration(max(0.0, left)))
