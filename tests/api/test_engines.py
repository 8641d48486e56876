"""The engine in use: replaced at once, let go of when the last who work with it are done."""

import threading
from typing import Any, cast

from facesvc.api.engines import Engine, Engines


def engine() -> Engine:
    """Any two of these differ."""
    return Engine(*cast("tuple[Any, Any, Any, Any, Any]", (None,) * 5))


def test_whoever_begins_after_the_change_gets_the_new_one() -> None:
    old, new = engine(), engine()
    engines = Engines(old)
    with engines.using() as before:
        assert engines.replace(new) is old
        with engines.using() as after:
            assert (before, after) == (old, new)
    assert engines.current is new


def test_the_old_one_is_in_use_until_the_last_is_done() -> None:
    old, new = engine(), engine()
    engines = Engines(old)
    assert engines.wait_unused(old, 0)
    with engines.using(), engines.using():
        engines.replace(new)
        assert not engines.wait_unused(old, 0)
        assert engines.wait_unused(new, 0)
    assert engines.wait_unused(old, 0)


def test_a_wait_ends_when_the_last_leaves() -> None:
    old = engine()
    engines = Engines(old)
    waited: list[bool] = []
    with engines.using():
        waiting = threading.Thread(target=lambda: waited.append(engines.wait_unused(old, 30)))
        waiting.start()
    waiting.join()
    assert waited == [True]


def test_a_wait_for_the_change() -> None:
    old, new = engine(), engine()
    engines = Engines(old)
    assert not engines.wait_replaced(old, 0)
    changing = threading.Thread(target=engines.replace, args=(new,))
    changing.start()
    assert engines.wait_replaced(old, 30)
    changing.join()
    assert engines.current is new
