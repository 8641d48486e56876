"""What a stream's client is told, at the pace at which it reads: results, credits, how a challenge stands."""

from collections.abc import AsyncIterator

from facesvc.stream.outbox import Outbox
from facesvc.v1 import recognition_pb2


class Telling:
    """Everything that waits to be told. A slow reader loses the oldest results, and learns how many; nothing else."""

    def __init__(self, max_results: int) -> None:
        self._outbox: Outbox[recognition_pb2.RecognizeResponse] = Outbox(max_results)
        self._credits = 0

    def result(self, result: recognition_pb2.FrameResult) -> bool:
        """Tell a result; whether an older one was lost to make room."""
        return self._outbox.put(recognition_pb2.RecognizeResponse(result=result))

    def challenge(self, progress: recognition_pb2.ChallengeProgress) -> None:
        """Tell how a challenge stands."""
        self._outbox.put(recognition_pb2.RecognizeResponse(challenge=progress), losable=False)

    def credit(self) -> None:
        """Tell that one more frame is welcome: with the next result, or by itself."""
        if not self._credits:
            message = recognition_pb2.RecognizeResponse(credits=recognition_pb2.Credits())
            self._outbox.put(message, losable=False)
        self._credits += 1

    def close(self) -> None:
        """There will be nothing more to tell."""
        self._outbox.close()

    async def messages(self) -> AsyncIterator[recognition_pb2.RecognizeResponse]:
        """All of it in order, until it is closed."""
        async for response in self._outbox.read():
            if self._is_worth_sending(response):
                yield response

    def _is_worth_sending(self, response: recognition_pb2.RecognizeResponse) -> bool:
        """Adds what is known at the last moment, credits and losses; False for credits that were given already."""
        if response.HasField("result"):
            response.result.results_dropped = self._outbox.take_lost()
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
