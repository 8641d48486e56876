"""A reader that is slow loses the oldest, and nobody waits for it."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.outbox import Outbox


async def everything(outbox: Outbox[int]) -> list[int]:
    return [item async for item in outbox.read()]


async def test_items_come_in_order_until_it_is_closed() -> None:
    outbox: Outbox[int] = Outbox(9)
    assert [outbox.put(item) for item in (1, 2, 3)] == [None] * 3
    outbox.close()
    assert outbox.put(4) is None
    assert await everything(outbox) == [1, 2, 3]
    assert outbox.take_lost() == 0


async def test_the_oldest_is_lost_and_counted_once() -> None:
    outbox: Outbox[int] = Outbox(2)
    assert [outbox.put(item) for item in (1, 2, 3, 4)] == [None, None, 1, 2]
    assert [outbox.take_lost(), outbox.take_lost()] == [2, 0]
    outbox.close()
    assert await everything(outbox) == [3, 4]


async def test_what_may_not_be_lost_is_kept_beside_what_may() -> None:
    outbox: Outbox[int] = Outbox(2)
    outbox.put(1, losable=False)
    for item in (2, 3, 4, 5):
        outbox.put(item)
    assert outbox.put(6, losable=False) is None
    outbox.close()
    assert await everything(outbox) == [1, 4, 5, 6]


async def test_even_that_is_bounded_and_its_loss_is_told_to_who_puts_it_only() -> None:
    outbox: Outbox[int] = Outbox(2)
    outbox.put(1)
    assert [outbox.put(item, losable=False) for item in (2, 3, 4)] == [None, None, 2]
    assert outbox.take_lost() == 0
    outbox.close()
    assert await everything(outbox) == [1, 3, 4]


async def test_a_reader_waits_for_items_and_for_the_end() -> None:
    outbox: Outbox[int] = Outbox(2)
    reader = asyncio.create_task(everything(outbox))
    for item in range(5):
        await asyncio.sleep(0)
        assert not reader.done()
        outbox.put(item)
    await asyncio.sleep(0)
    outbox.close()
    # It took each item as it came, so none was lost.
    assert await reader == [0, 1, 2, 3, 4]
    assert outbox.take_lost() == 0


async def test_an_empty_one_that_is_closed_has_nothing() -> None:
    outbox: Outbox[int] = Outbox(2)
    outbox.close()
    outbox.close()
    assert await everything(outbox) == []


@given(st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["read", "lost"])), max_size=60), st.integers(1, 4))
def test_each_item_is_read_or_lost(script: list[int | str], limit: int) -> None:
    async def play() -> tuple[list[int], int, int]:
        outbox: Outbox[int] = Outbox(limit)
        reading = outbox.read()
        read, lost, put = [], 0, 0
        waiting = 0
        for step in script:
            if step == "lost":
                lost += outbox.take_lost()
            elif step == "read" and waiting:
                read.append(await anext(reading))
                waiting -= 1
            elif step != "read":
                waiting += outbox.put(put) is None
                put += 1
        outbox.close()
        return [*read, *[item async for item in reading]], lost + outbox.take_lost(), put

    read, lost, put = asyncio.run(play())
    assert read == sorted(set(read))
    assert len(read) + lost == put
