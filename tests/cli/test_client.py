"""The SDK's streams: errors of whoever feeds them, readers who leave early; and what a failed call says."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facesvc.client import CallError, Client, frame, opening, sample
from facesvc.v1 import recognition_pb2


def test_what_the_frames_raise_is_raised_after_their_results(client: Client, faces: dict[str, Path]) -> None:
    def frames() -> Iterator[recognition_pb2.Frame]:
        yield frame(7, faces["Ana"].read_bytes())
        raise OSError("the camera is gone")

    results = client.recognize(opening("door"), frames())

    assert next(results).frame_id == 7
    with pytest.raises(OSError, match="the camera is gone"):
        next(results)


def test_what_the_samples_raise_is_raised(client: Client) -> None:
    def broken() -> Iterator[None]:
        raise ValueError("no such file")
        yield

    with pytest.raises(ValueError, match="no such file"):
        list(client.enroll(broken()))  # type: ignore[arg-type]


def test_a_reader_who_is_interrupted_ends_the_stream(client: Client, faces: dict[str, Path]) -> None:
    def frames() -> Iterator[recognition_pb2.Frame]:
        senders.append(threading.current_thread())
        for number in itertools.count():
            yield frame(number, faces["Ana"].read_bytes())

    senders: list[threading.Thread] = []
    results = client.recognize(opening("door"), frames())
    next(results)
    # The error that is held holds the call too: it does not end by being forgotten.
    with pytest.raises(KeyboardInterrupt) as held:
        results.throw(KeyboardInterrupt)  # type: ignore[attr-defined]

    senders[0].join(10)
    assert not senders[0].is_alive()
    assert held.value is not None


def test_a_refusal_is_in_the_server_s_words(client: Client) -> None:
    with pytest.raises(CallError, match="has no subject 'nobody'") as refusal:
        client.get_subject("nobody")

    assert (refusal.value.code.name, refusal.value.reason) == ("NOT_FOUND", "NOT_FOUND")


def test_no_server_is_in_ours() -> None:
    with Client("127.0.0.1:1") as client, pytest.raises(CallError, match="no server answers at") as refusal:
        client.server_info()

    assert (refusal.value.code.name, refusal.value.reason, refusal.value.retry_delay_s) == ("UNAVAILABLE", "", None)


def test_a_proxy_for_the_web_is_not_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)

    with Client(server) as client:
        assert client.server_info().workers > 0


def test_a_sample_names_an_unknown_person_without_ending_the_stream(client: Client, faces: dict[str, Path]) -> None:
    data = faces["Ana"].read_bytes()

    answers = list(client.enroll([sample("nobody", data), sample("nobody", data)]))

    assert [answer.error.reason for answer in answers] == ["NOT_FOUND", "NOT_FOUND"]
