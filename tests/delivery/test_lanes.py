"""Whatever waits in lanes keeps its order, is never lost, and never two of a lane are under way."""

from collections import defaultdict

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from facesvc.delivery.lanes import Item, Lanes
from facesvc.delivery.outbox import Lane

LANES = [("c", "ana"), ("c", "bea"), ("", "door-1")]


class Machine(RuleBasedStateMachine):
    """Lanes beside a model: the numbers that wait in each, which lanes are busy, and until when one is held."""

    lanes_drawn = Bundle("lanes")

    @initialize()
    def begin(self) -> None:
        self.lanes = Lanes()
        self.waiting: dict[Lane, list[int]] = defaultdict(list)
        self.busy: dict[Lane, Item] = {}
        self.held: dict[Lane, float] = {}
        self.clock = 0.0
        self.newest = 100
        self.oldest = 100

    @rule(lane=st.sampled_from(LANES))
    def add(self, lane: Lane) -> None:
        self.newest += 1
        self._add(lane, self.newest)

    @rule(lane=st.sampled_from(LANES))
    def add_one_that_was_given_up_long_ago(self, lane: Lane) -> None:
        self.oldest -= 1
        self._add(lane, self.oldest)

    def _add(self, lane: Lane, sequence: int) -> None:
        assert self.lanes.add(lane, Item(sequence)) == (lane in self.held)
        self.waiting[lane].append(sequence)
        first = [self.busy[lane].sequence] if lane in self.busy else []
        self.waiting[lane] = first + sorted(set(self.waiting[lane]) - set(first))

    @precondition(lambda self: self.lanes.is_ready)
    @rule()
    def take(self) -> None:
        lane, item = self.lanes.take(self.clock)
        assert lane not in self.busy, "two of a lane at a time"
        assert item.sequence == self.waiting[lane][0], "not in order"
        assert self.held.get(lane, 0) <= self.clock, "too early"
        self.busy[lane] = item

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.busy)))
        self.lanes.finish(lane)
        del self.busy[lane]
        self.held.pop(lane, None)
        self.waiting[lane].pop(0)

    @precondition(lambda self: self.busy)
    @rule(data=st.data(), seconds=st.floats(0.125, 10))
    def hold(self, data: st.DataObject, seconds: float) -> None:
        lane = data.draw(st.sampled_from(sorted(self.busy)))
        self.held[lane] = self.clock + seconds
        self.lanes.hold(lane, self.held[lane])
        del self.busy[lane]
        self.waiting[lane].sort()

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(self.busy)))
        self.lanes.give_back(lane)
        del self.busy[lane]
        self.waiting[lane].sort()

    @rule(lane=st.sampled_from(LANES))
    def forget(self, lane: Lane) -> None:
        kept = self.waiting[lane][: lane in self.busy]
        assert [item.sequence for item in self.lanes.forget(lane)] == self.waiting[lane][len(kept) :]
        self.waiting[lane] = kept
        if kept:
            assert self.busy[lane].dropped
        else:
            self.held.pop(lane, None)

    @rule(seconds=st.floats(0.125, 10))
    def wake(self, seconds: float) -> None:
        self.clock += seconds
        self.lanes.wake(self.clock)

    @rule()
    def slow(self) -> None:
        for lane in self.lanes.slow(self.clock - 1):
            assert lane in self.busy
            self.held[lane] = 0.0  # what comes is better written down, but nothing has to wait for a time

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "lanes"):
            numbers = {number for waiting in self.waiting.values() for number in waiting}
            assert self.lanes.sequences == numbers
            assert len(self.lanes) == len(numbers)
            for lane, waiting in self.waiting.items():
                if waiting:
                    assert [item.sequence for item in self.lanes.of(lane)] == waiting

    def teardown(self) -> None:
        """All that waits can be taken, in order."""
        if not hasattr(self, "lanes"):
            return
        for lane in list(self.busy):
            self.lanes.finish(lane)
            self.waiting[lane].pop(0)
        left = {lane: list(numbers) for lane, numbers in self.waiting.items() if numbers}
        self.lanes.wake(self.clock + 100)
        taken: dict[Lane, list[int]] = defaultdict(list)
        while self.lanes.is_ready:
            lane, item = self.lanes.take(self.clock)
            taken[lane].append(item.sequence)
            self.lanes.finish(lane)
        assert taken == left


Machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLanes = Machine.TestCase


def test_lanes_take_turns() -> None:
    lanes = Lanes()
    for number in range(9):
        lanes.add(LANES[number % 3], Item(number))
    order = []
    while lanes.is_ready:
        lane, item = lanes.take(0)
        order.append(item.sequence)
        lanes.finish(lane)
    assert order == list(range(9))


def test_a_wait_that_was_replaced_by_a_longer_one_does_not_end_early() -> None:
    lanes = Lanes()
    lanes.add(LANES[0], Item(2))
    lanes.take(0)
    lanes.hold(LANES[0], 5)
    lanes.forget(LANES[0])
    lanes.add(LANES[0], Item(3))
    lanes.take(0)
    lanes.hold(LANES[0], 60)
    lanes.wake(5)
    assert not lanes.is_ready
    lanes.wake(60)
    assert lanes.is_ready


def test_one_that_takes_long_is_slow_once() -> None:
    lanes = Lanes()
    for number in (1, 2):
        lanes.add(LANES[0], Item(number))
    lanes.take(10)
    assert lanes.slow(9.5) == []
    assert lanes.slow(10) == [LANES[0]]
    assert lanes.slow(11) == []
    assert lanes.add(LANES[0], Item(3))
    lanes.finish(LANES[0])
    assert not lanes.add(LANES[0], Item(4))
