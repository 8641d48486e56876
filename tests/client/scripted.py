"""A server of one method whose answers a test gives, and a camera whose pictures it gives."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc

from facesvc.client import Client, opening
from facesvc.client.camera import CameraLoop, Times
from facesvc.client.pacing import Level
from facesvc.v1 import recognition_pb2, recognition_pb2_grpc

WAIT_S = 30


def opened(credit: int | None = None) -> recognition_pb2.RecognizeResponse:
    """The answer to the opening; None: from a server that knows nothing of credits."""
    credits_ = None if credit is None else recognition_pb2.Credits(frames=credit)
    return recognition_pb2.RecognizeResponse(opened=recognition_pb2.StreamOpened(stream_id="s", credits=credits_))


def more(credit: int) -> recognition_pb2.RecognizeResponse:
    return recognition_pb2.RecognizeResponse(credits=recognition_pb2.Credits(frames=credit))


def result(frame_id: int, credit: int | None = None, **fields: Any) -> recognition_pb2.RecognizeResponse:
    credits_ = None if credit is None else recognition_pb2.Credits(frames=credit)
    made = recognition_pb2.FrameResult(frame_id=frame_id, credits=credits_, **fields)
    return recognition_pb2.RecognizeResponse(result=made)


class Desk:
    """The server's end of one stream."""

    def __init__(self) -> None:
        self.received: queue.Queue[recognition_pb2.RecognizeRequest | None] = queue.Queue()
        self.answers: queue.Queue[recognition_pb2.RecognizeResponse | grpc.StatusCode | None] = queue.Queue()

    def read(self) -> recognition_pb2.RecognizeRequest:
        message = self.received.get(timeout=WAIT_S)
        assert message is not None, "the client has said all"
        return message

    def frame(self) -> recognition_pb2.Frame:
        message = self.read()
        assert message.HasField("frame"), message
        return message.frame

    def say(self, *answers: recognition_pb2.RecognizeResponse | grpc.StatusCode | None) -> None:
        """Answers; a status ends the stream with it, None well."""
        for answer in answers:
            self.answers.put(answer)


class Server(recognition_pb2_grpc.RecognitionServiceServicer):
    """Listens on a real socket; each stream is a ``Desk``."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self.desks: queue.Queue[Desk] = queue.Queue()
        self._server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        recognition_pb2_grpc.add_RecognitionServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait(WAIT_S)

    def desk(self) -> Desk:
        """The next stream; its opening has been read."""
        desk = self.desks.get(timeout=WAIT_S)
        assert desk.read().HasField("opening")
        return desk

    def Recognize(  # noqa: N802 - gRPC's name
        self, request_iterator: Iterator[recognition_pb2.RecognizeRequest], context: grpc.ServicerContext
    ) -> Iterator[recognition_pb2.RecognizeResponse]:
        desk = Desk()
        reader = threading.Thread(target=_read, args=(request_iterator, desk), daemon=True)
        reader.start()
        context.add_callback(lambda: desk.answers.put(None))
        self.desks.put(desk)
        while (answer := desk.answers.get()) is not None:
            if isinstance(answer, grpc.StatusCode):
                context.abort(answer, "as the test wants it")
            yield answer


def _read(requests: Iterator[recognition_pb2.RecognizeRequest], desk: Desk) -> None:
    try:
        for request in requests:
            desk.received.put(request)
    except grpc.RpcError:
        return
    finally:
        desk.received.put(None)


@contextmanager
def server(address: str = "127.0.0.1:0") -> Iterator[Server]:
    one = Server(address)
    try:
        yield one
    finally:
        one.stop()


class Tape:
    """A camera that gives what the test puts in: pictures, an error, or None for its end."""

    def __init__(self, *pictures: str | Exception | None) -> None:
        self._pictures: queue.Queue[str | Exception | None] = queue.Queue()
        self.closed = False
        self.put(*pictures)

    def put(self, *pictures: str | Exception | None) -> None:
        for picture in pictures:
            self._pictures.put(picture)

    def __iter__(self) -> Iterator[str]:
        while (picture := self._pictures.get()) is not None:
            if isinstance(picture, Exception):
                raise picture
            yield picture

    def close(self) -> None:
        self.closed = True
        self._pictures.put(None)


class Running:
    """A loop at work in a thread, and what came of it."""

    def __init__(self, address: str, open_source: Callable[[], Any], **options: Any) -> None:
        self.levels: list[Level] = []
        self.troubles: list[str] = []
        self.answers: queue.Queue[recognition_pb2.RecognizeResponse | BaseException | None] = queue.Queue()
        self._client = Client(address)
        options = {"times": Times(starved_s=WAIT_S, first_pause_s=0.01), "encode": self._encode, **options}
        encode = options.pop("encode")
        self.loop = CameraLoop(
            self._client, opening("cam"), open_source, encode, on_trouble=self.troubles.append, **options
        )
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def answer(self) -> recognition_pb2.RecognizeResponse:
        one = self.answers.get(timeout=WAIT_S)
        assert isinstance(one, recognition_pb2.RecognizeResponse), one
        return one

    def end(self) -> BaseException | None:
        """Wait for the end: what it raised, None where it just ended."""
        while True:
            one = self.answers.get(timeout=WAIT_S)
            if not isinstance(one, recognition_pb2.RecognizeResponse):
                return one

    def grabbed(self, pictures: int) -> None:
        """Wait until so many pictures were read from the camera."""
        with self.loop._changed:
            assert self.loop._changed.wait_for(lambda: self.loop._capture._grabbed >= pictures, WAIT_S)

    def close(self) -> None:
        self.loop.close()
        self._client.close()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _encode(self, pixels: str, level: Level) -> bytes:
        self.levels.append(level)
        return pixels.encode()

    def _run(self) -> None:
        try:
            for answer in self.loop.run():
                self.answers.put(answer)
        except BaseException as error:  # noqa: BLE001 - given to the test
            self.answers.put(error)
        else:
            self.answers.put(None)


@contextmanager
def running(address: str, open_source: Callable[[], Any], **options: Any) -> Iterator[Running]:
    one = Running(address, open_source, **options)
    try:
        yield one
    finally:
        one.close()
