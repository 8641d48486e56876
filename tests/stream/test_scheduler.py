"""Workers are shared by time and weight, nobody starves, and no worker idles while a job waits."""

import heapq
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.scheduler import FairQueue, Party, Turn


@dataclass(eq=False)
class Camera:
    """Asks again at once, as a camera does whose next frame waits; its jobs take ``cost`` seconds."""

    cost: float
    weight: float = 1.0
    joins: float = 0.0
    party: Party = field(init=False)
    served: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.party = Party(self.weight)

    def jobs(self, after: float = 0.0, before: float = float("inf")) -> int:
        """How many began in this time."""
        return sum(after <= time < before for time in self.served)

    def time(self, after: float = 0.0, before: float = float("inf")) -> float:
        """How much of the workers it got."""
        return self.cost * self.jobs(after, before)


def simulate(cameras: list[Camera], workers: int, seconds: float) -> FairQueue[Camera]:
    """A box with so many workers; time is the simulation's."""
    queue: FairQueue[Camera] = FairQueue()
    events: list[tuple[float, int, Camera, Turn[Camera] | None]] = [
        (camera.joins, number, camera, None) for number, camera in enumerate(cameras)
    ]
    heapq.heapify(events)
    free, number = workers, len(events)
    while events and events[0][0] < seconds:
        now = events[0][0]
        while events and events[0][0] == now:
            _, _, camera, turn = heapq.heappop(events)
            if turn is not None:
                queue.finish(turn, camera.cost, now)
                free += 1
            queue.put(camera.party, camera, now)
        while free and (turn := queue.take()) is not None:
            turn.job.served.append(now)
            free, number = free - 1, number + 1
            heapq.heappush(events, (now + turn.job.cost, number, turn.job, turn))
        assert not free or not queue._waiting
    return queue


def test_alike_they_take_turns() -> None:
    queue: FairQueue[str] = FairQueue()
    parties = {name: Party() for name in "abc"}
    for name, party in parties.items():
        queue.put(party, name, 0.0)
    order, clock = "", 0.0
    for _ in range(9):
        turn = queue.take()
        assert turn is not None
        order += turn.job
        clock += 0.02
        queue.finish(turn, 0.02, clock)
        queue.put(turn.party, turn.job, clock)
    assert order == "abc" * 3


def test_ten_times_as_dear_is_a_tenth_as_many() -> None:
    dear, cheap = Camera(0.1), Camera(0.01)
    simulate([dear, cheap], 1, 60)
    assert cheap.jobs() == pytest.approx(10 * dear.jobs(), rel=0.05)


def test_weights_are_shares() -> None:
    cameras = [Camera(0.02, weight) for weight in (0.5, 1, 2, 4)]
    simulate(cameras, 2, 60)
    assert [camera.time() for camera in cameras] == pytest.approx([8, 16, 32, 60], rel=0.08)
    simulate(one := [Camera(0.02, weight) for weight in (0.5, 1, 2, 4)], 1, 60)
    assert [camera.time() for camera in one] == pytest.approx([4, 8, 16, 32], rel=0.02)


def test_more_weight_than_one_worker_can_serve_is_no_reserve_for_later() -> None:
    """One of weight 10 uses one of two workers only; that it could have used more gives it nothing afterwards."""
    heavy = Camera(0.02, 10)
    early = [Camera(0.02), Camera(0.02)]
    late = [Camera(0.02, 10, joins=600) for _ in range(9)]
    simulate([heavy, *early, *late], 2, 660)
    assert heavy.time(0, 600) == pytest.approx(600, rel=0.01)
    assert [camera.time(0, 600) for camera in early] == pytest.approx([300, 300], rel=0.01)
    assert heavy.time(600, 660) == pytest.approx(120 / 10.2, rel=0.5)
    assert all(camera.jobs(600, 605) for camera in (*early, *late))


def test_who_idled_has_no_credit_and_no_debt() -> None:
    busy, newcomer = Camera(0.02), Camera(0.02, joins=3600)
    queue = simulate([busy, newcomer], 1, 3610)
    assert newcomer.time() == pytest.approx(5, abs=0.1)
    assert busy.time(3600, 3610) == pytest.approx(5, abs=0.1)
    # What it used while nobody else wanted anything is not held against it, not even against somebody new.
    queue = FairQueue()
    worker, other = Party(), Party()
    queue.put(worker, newcomer, 0.0)
    turn = queue.take()
    assert turn is not None
    queue.finish(turn, 5.0, 5.0)
    queue.put(other, busy, 6.0)
    queue.put(worker, newcomer, 6.0)
    assert other.tag == worker.tag


@pytest.mark.parametrize(("pause", "behind"), [(0.0, 0.1), (1.0, 0.0)])
def test_only_who_asks_again_at_once_keeps_a_tag_that_is_behind(pause: float, behind: float) -> None:
    queue: FairQueue[str] = FairQueue()
    light, other, third = Party(), Party(), Party()
    queue.put(light, "job", 0.0)
    queue.put(other, "job", 0.0)
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    queue.finish(second, 0.2, 0.2)
    queue.put(other, "job", 0.2)
    assert queue.take() is not None  # virtual time is 0.2 from here on
    queue.finish(first, 0.1, 0.2)
    queue.put(light, "job", 0.2 + pause)
    queue.put(third, "job", 0.2 + pause)
    assert third.tag == pytest.approx(0.2)
    assert light.tag == pytest.approx(third.tag - behind)


def test_many_jobs_of_one_party_do_not_take_all_workers() -> None:
    queue: FairQueue[str] = FairQueue()
    calls, camera = Party(), Party()
    for clock in (0.0, 1.0):  # both have been there before
        for party in (calls, camera):
            queue.put(party, "known", clock)
            turn = queue.take()
            assert turn is not None
            queue.finish(turn, 0.1, clock + 0.1)
    for number in range(4):
        queue.put(calls, f"call {number}", 2.0)
    queue.put(camera, "frame", 2.0)
    taken = [turn.job for turn in (queue.take(), queue.take(), queue.take()) if turn]
    assert taken == ["call 0", "frame", "call 1"]


def test_a_job_that_was_not_begun_costs_nothing() -> None:
    queue: FairQueue[str] = FairQueue()
    party = Party()
    for seconds in (0.1, 0.0):
        queue.put(party, "job", 0.0)
        turn = queue.take()
        assert turn is not None
        queue.finish(turn, seconds, 0.0)
    assert party.tag == pytest.approx(0.1)
    assert party.expected_s == 0.1


def test_what_is_taken_back_is_not_served() -> None:
    queue: FairQueue[str] = FairQueue()
    party = Party()
    for job in ("a", "b"):
        queue.put(party, job, 0.0)
    assert queue.waiting(party) == 2
    queue.discard(party, "a")
    queue.discard(party, "never there")
    queue.discard(Party(), "a")
    turn = queue.take()
    assert turn is not None
    assert turn.job == "b"
    assert queue.take() is None
    assert queue.waiting(party) == 0


def test_nothing_is_kept_of_who_left() -> None:
    queue: FairQueue[int] = FairQueue()
    for number in range(100):
        party = Party()
        queue.put(party, number, float(number))
        queue.discard(party, number)
    assert not queue._waiting


@pytest.mark.parametrize("weight", [0.0, -1.0])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Party(weight)


boxes = st.tuples(
    st.lists(st.tuples(st.floats(0.005, 0.1), st.floats(0.1, 10)), min_size=2, max_size=8), st.integers(1, 4)
)


@given(boxes)
def test_nobody_starves(box: tuple[list[tuple[float, float]], int]) -> None:
    """A newcomer waits no longer than all others need for as much virtual time as their tags are ahead."""
    kinds, workers = box
    cameras = [Camera(cost, weight) for cost, weight in kinds] + [Camera(0.02, joins=30)]
    simulate(cameras, workers, 60)
    for camera in cameras:
        times = [max(camera.joins, 0), *camera.served, 60]
        longest = max(after - before for before, after in pairwise(times))
        step = max(one.cost / one.weight for one in (camera, *cameras))
        assert longest <= (step + 0.25) * sum(one.weight for one in cameras) + sum(one.cost for one in cameras)


@given(boxes)
def test_shares_are_proportional_to_weights(box: tuple[list[tuple[float, float]], int]) -> None:
    """On one worker, at any time, no two are further apart than a job of each (theorem 1 of Goyal et al.)."""
    kinds, _ = box
    cameras = [Camera(cost, weight) for cost, weight in kinds]
    simulate(cameras, 1, 30)
    for end in (3.0, 10.0, 30.0):
        for one in cameras:
            for other in cameras:
                apart = abs(one.time(0, end) / one.weight - other.time(0, end) / other.weight)
                assert apart <= one.cost / one.weight + other.cost / other.weight + 1e-9


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0.005, 0.1), st.floats(0.5, 2)), min_size=9, max_size=12), st.integers(2, 4))
def test_shares_are_proportional_on_several_workers(kinds: list[tuple[float, float]], workers: int) -> None:
    """Where nobody is due more than one worker."""
    cameras = [Camera(cost, weight) for cost, weight in kinds]
    total = sum(camera.weight for camera in cameras)
    simulate(cameras, workers, 60)
    for camera in cameras:
        if camera.weight * workers <= 0.8 * total:
            assert camera.time() == pytest.approx(60 * workers * camera.weight / total, rel=0.1, abs=0.3)
