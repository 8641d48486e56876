"""What waits for the disk is bounded, kept in order, and given again until it was written."""

from events.making import arrived, at, left, seen, stay

from facesvc.api.backlog import Backlog


def test_it_gives_back_what_it_was_given_in_order() -> None:
    backlog = Backlog(10)
    events = [seen(), arrived(), left()]
    for event in events:
        backlog.add(event)
    assert backlog.batch().events == events
    backlog.written()
    assert not backlog.batch()


def test_a_batch_is_the_same_until_it_was_written() -> None:
    backlog = Backlog(10)
    first, second = seen(), seen()
    backlog.add(first)
    assert backlog.batch().events == [first]
    backlog.add(second)
    assert backlog.batch().events == [first]
    assert len(backlog) == 2
    backlog.written()
    assert backlog.batch().events == [second]


def test_of_a_stay_only_the_newest_state_waits() -> None:
    backlog = Backlog(10)
    for seconds in (1, 2, 3):
        backlog.put(stay(at(0), at(seconds), stay_id="s"))
    assert [one.leave_time for one in backlog.batch().stays.values()] == [at(3)]
    assert backlog.dropped == 0


def test_beyond_its_bound_it_drops_who_was_only_seen_first() -> None:
    backlog = Backlog(3)
    first, *others = [arrived(), seen(at(1)), seen(at(2)), left(), left()]
    backlog.add(first)
    for event in others:
        backlog.add(event)
    assert backlog.batch().events == [first, *others[2:]]
    assert backlog.dropped == 2


def test_beyond_its_bound_it_drops_the_oldest_of_all_else() -> None:
    backlog = Backlog(2)
    events = [arrived(), left(), arrived()]
    for event in events:
        backlog.add(event)
        backlog.put(stay())
    assert backlog.batch().events == events[1:]
    assert len(backlog.batch().stays) == 2
    assert backlog.dropped == 2


def test_a_batch_is_no_longer_than_a_transaction_should_be() -> None:
    backlog = Backlog(2000)
    for _ in range(1200):
        backlog.add(seen())
        backlog.put(stay())
    sizes = []
    while batch := backlog.batch():
        sizes.append((len(batch.events), len(batch.stays)))
        backlog.written()
    assert sizes == [(500, 500), (500, 500), (200, 200)]


def test_nothing_waits_of_who_is_forgotten() -> None:
    backlog = Backlog(10)
    backlog.add(seen())
    backlog.put(stay())
    batch = backlog.batch()
    backlog.add(seen())
    backlog.add(seen(subject_id="joe"))
    backlog.put(stay())
    backlog.forget("c", "jane")
    assert not batch
    assert len(backlog) == 1
    assert [event.about for event in backlog.batch().events] == ["joe"]
