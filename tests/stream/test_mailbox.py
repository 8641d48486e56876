"""One place, newest wins, every drop counted."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facesvc.stream.mailbox import Mailbox


async def test_the_newest_item_is_delivered_and_the_dropped_are_counted() -> None:
    mailbox: Mailbox[int] = Mailbox()
    for item in range(5):
        mailbox.put(item)
    assert await mailbox.ready()
    delivery = mailbox.take()
    assert (delivery.item, delivery.dropped) == (4, 4)
    mailbox.put(9)
    assert mailbox.take().dropped == 0


async def test_a_reader_waits_for_an_item() -> None:
    mailbox: Mailbox[int] = Mailbox()
    reader = asyncio.create_task(mailbox.ready())
    await asyncio.sleep(0)
    assert not reader.done()
    mailbox.put(1)
    assert await reader


async def test_a_closed_mailbox_delivers_what_waits_and_then_ends() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.close()
    assert await mailbox.ready()
    assert mailbox.take().item == 1
    mailbox.put(2)
    assert not await mailbox.ready()


async def test_closing_wakes_a_reader() -> None:
    mailbox: Mailbox[int] = Mailbox()
    reader = asyncio.create_task(mailbox.ready())
    await asyncio.sleep(0)
    mailbox.close()
    assert not await reader


def test_an_empty_mailbox_gives_nothing() -> None:
    with pytest.raises(LookupError):
        Mailbox[int]().take()


@given(st.lists(st.booleans()))
def test_every_item_is_delivered_or_counted(steps: list[bool]) -> None:
    mailbox: Mailbox[int] = Mailbox()
    put = delivered = dropped = 0
    waiting = False
    for is_put in steps:
        if is_put:
            mailbox.put(put)
            put, waiting = put + 1, True
        elif waiting:
            delivery = mailbox.take()
            assert delivery.item == put - 1
            delivered, dropped, waiting = delivered + 1, dropped + delivery.dropped, False
    if waiting:
        dropped, delivered = dropped + mailbox.take().dropped, delivered + 1
    assert delivered + dropped == put
