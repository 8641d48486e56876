"""So much a second, and no guessing, by a clock that the tests turn."""

import pytest

from facesvc.security.throttle import Bucket, Guesser, Known


def test_a_bucket_gives_its_burst_at_once_and_then_so_much_a_second() -> None:
    bucket = Bucket(per_second=2, burst=3)
    assert [bucket.take(100) for _ in range(3)] == [0, 0, 0]
    assert bucket.take(100) == pytest.approx(0.5)
    assert bucket.take(100.25) == pytest.approx(0.25)  # what was refused took nothing
    assert bucket.take(100.5) == 0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = Bucket(per_second=2, burst=3)
    bucket.take(0)
    assert [bucket.take(1_000_000) for _ in range(4)] == [0, 0, 0, pytest.approx(0.5)]


def test_what_is_more_than_a_bucket_is_paid_for_afterwards() -> None:
    bucket = Bucket(per_second=10, burst=20)
    assert bucket.take(0, 50) == 0
    assert bucket.take(0) == pytest.approx(3.1)
    assert bucket.take(3) == pytest.approx(0.1)
    assert bucket.take(3.2) == 0


def test_ten_thousand_probes_take_the_time_that_the_rate_asks_for() -> None:
    """A hill is climbed by asking again and again: whoever obeys each wait needs more than half an hour."""
    bucket, clock = Bucket(per_second=5, burst=100), 0.0
    for _ in range(10_000):
        while wait := bucket.take(clock):
            clock += wait
    assert clock == pytest.approx((10_000 - 100) / 5)


def test_ten_thousand_probes_at_once_are_refused_but_for_the_burst() -> None:
    bucket = Bucket(per_second=5, burst=100)
    assert sum(bucket.take(n / 1000) == 0 for n in range(10_000)) == 100 + 5 * 10 - 1


def test_five_mistakes_are_free_and_then_each_wait_is_twice_the_one_before() -> None:
    guesser, clock, waits = Guesser(), 1000.0, []
    for _ in range(16):
        guesser.failed(clock)
        waits.append(guesser.wait(clock))
        clock += waits[-1]
        assert guesser.wait(clock) == 0
    assert waits == [0] * 5 + [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_right_token_makes_up_for_the_wrong_ones() -> None:
    guesser = Guesser()
    for _ in range(8):
        guesser.failed(50)
    guesser.succeeded()
    assert guesser.wait(50) == 0
    guesser.failed(50)
    assert guesser.wait(50) == 0


def test_an_address_is_forgiven_after_a_while_and_no_sooner() -> None:
    guesser = Guesser()
    for _ in range(20):
        guesser.failed(0)
    assert guesser.wait(299) == 1
    assert guesser.wait(800) == 0
    guesser.failed(800)
    assert guesser.wait(800) == 300  # it was not forgiven yet
    assert guesser.wait(1701) == 0
    guesser.failed(1701)
    assert guesser.wait(1701) == 0


def test_many_names_do_not_fill_the_memory_and_who_comes_often_is_remembered() -> None:
    known = Known(Guesser, most=3)
    often = known["often"]
    for n in range(100):
        known[f"once-{n}"].failed(0)
        assert known["often"] is often
    assert known["once-99"].failures == 1
    assert known["once-0"].failures == 0
