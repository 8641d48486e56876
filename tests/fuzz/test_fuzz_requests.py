"""Whatever a caller sends: the server says what was wrong with it, never that it failed, and goes on serving."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from fuzz import edges
from fuzz.exploring import explore, mutated
from fuzz.messages import Method, methods, requests
from fuzz.served import Served
from fuzz.served_target import asked_by, seeds
from fuzz.targets import seconds_of
from google.protobuf import descriptor_pool
from hypothesis import strategies as st

from facesvc.api.server import SERVICES

NAMES = sorted({method.path.split("/")[1] for method in methods()})
SECONDS = seconds_of("server") / (len(NAMES) + 1)
pytestmark = pytest.mark.timeout(90 + 5 * SECONDS)


@pytest.fixture(scope="module")
def served(pack_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all that follows: what it has lived through is part of the test."""
    running = Served(pack_cache, tmp_path_factory.mktemp("served"))
    yield running
    running.close()


def test_no_call_is_left_out() -> None:
    pool = descriptor_pool.Default()
    served = {f"/{name}/{one.name}" for name in SERVICES for one in pool.FindServiceByName(name).methods}
    assert served < {method.path for method in methods()}


@st.composite
def _asked(draw: st.DrawFn, service: str) -> tuple[Method, list[bytes]]:
    # Whoever watches takes long to say nothing.
    own = [one for one in methods() if one.path.startswith(f"/{service}/")]
    quick = [one for one in own if not one.streams_out]
    method = draw(st.sampled_from(own + 3 * quick))
    return method, draw(requests(method))


@pytest.mark.parametrize("service", NAMES)
def test_messages_with_values_at_an_edge(served: Served, service: str) -> None:
    assert explore(lambda asked: served.ask(*asked), _asked(service), SECONDS) > 10


@pytest.mark.parametrize("service", NAMES)
def test_every_field_at_each_of_its_edges(served: Served, service: str) -> None:
    for method in methods():
        if method.path.startswith(f"/{service}/"):
            for asked in edges.requests(method):
                served.ask(method, asked)


def test_bytes_that_are_hardly_a_message(served: Served) -> None:
    assert explore(lambda data: served.ask(*asked_by(data)), mutated(seeds()), SECONDS) > 10


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.path.rpartition("/")[2])
def test_bytes_that_are_no_message(served: Served, method: Method) -> None:
    assert served.ask(method, [b"\xff\xff\xff"]) is grpc.StatusCode.INVALID_ARGUMENT
