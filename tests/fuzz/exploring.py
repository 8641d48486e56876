"""How the tests fuzz: bytes that are nearly right, for a stated time, the same ones in every run.

Examples are drawn in rounds, each from a seed of its own, 0, 1, 2 …: whoever changes nothing sees nothing new in CI,
and a failure can be repeated. ``FACESVC_FUZZ_SECONDS`` draws on for as long as it says, beyond what CI has seen;
``make fuzz`` looks further by following branches.
"""

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

T = TypeVar("T")

SECONDS = float(os.environ.get("FACESVC_FUZZ_SECONDS") or 100)
"""Of all that draw examples, together; each has its share. With what else they do it is about two minutes."""

_A_ROUND = 50
_EDGES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0", b"\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff",
          b"\x80\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", bytes(8), b"\xff" * 8, b"[" * 2000, b"9" * 5000, b"-1",
          b"1e999", b"NaN", b'"', b"\\ud800", b"\n", b"..", b"/")  # fmt: skip
# Time is what counts, and some examples are a hundred times as dear as others.
_QUIETLY = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


def explore(run: Callable[[T], object], strategy: st.SearchStrategy[T], seconds: float) -> int:
    """Call ``run`` with examples for so long; how many there were. Raises what ``run`` raises, of the least example."""
    until, count, number = time.monotonic() + seconds, 0, 0

    def one(example: T) -> None:
        nonlocal count
        count += 1
        run(example)

    settings = hypothesis.settings(
        max_examples=_A_ROUND, database=None, suppress_health_check=_QUIETLY, phases=[Phase.generate, Phase.shrink]
    )
    while time.monotonic() < until:
        hypothesis.seed(number)(settings(hypothesis.given(strategy)(one)))()
        number += 1
    return count


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of ``seeds`` with a few changes: bits, numbers at an edge, pieces cut out, doubled, or of another one."""
    data = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(0, 4))):
        # Most of what decides stands in front.
        place = draw(st.integers(0, min(len(data), 200)) | st.integers(0, len(data)))
        length = draw(st.sampled_from((1, 2, 4, 8, 40, 1000)))
        match draw(st.integers(0, 6)):
            case 0 if data:
                data[place % len(data)] ^= 1 << draw(st.integers(0, 7))
            case 1:
                edge = draw(st.sampled_from(_EDGES))
                data[place : place + len(edge)] = edge
            case 2:
                data[place:place] = draw(st.sampled_from(_EDGES) | st.binary(max_size=8))
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = data[place : place + length] * draw(st.sampled_from((1, 2, 50)))
            case 5:
                other = draw(st.sampled_from(list(seeds)))
                data[place : place + length] = other[place : place + length]
            case _:
                del data[place:]
    return bytes(data)
