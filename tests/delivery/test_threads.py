"""The threads of a plugin's event loop."""

import subprocess
import sys
import threading
from concurrent.futures import wait

import pytest

from facesvc.delivery.threads import Threads

# Ends although a thread hangs: the event loop waits for its executor, and the interpreter for those of executors.
HANGING = """
import asyncio, time
from facesvc.delivery.threads import Threads

async def main():
    asyncio.get_running_loop().set_default_executor(Threads(2, "test"))
    assert await asyncio.to_thread(lambda: 7) == 7
    hanging = asyncio.create_task(asyncio.to_thread(time.sleep, 600))
    await asyncio.sleep(0)
    await asyncio.to_thread(print, "ready")

asyncio.run(main())
"""


def test_nobody_waits_for_a_thread_that_hangs() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ready\n"


def test_as_many_at_a_time_as_there_may_be() -> None:
    threads, gate, busy = Threads(3, "test"), threading.Event(), threading.Semaphore(0)

    def work(number: int) -> int:
        busy.release()
        assert gate.wait(20)
        return number

    calls = [threads.submit(work, number) for number in range(7)]
    for _ in range(3):
        assert busy.acquire(timeout=20)
    assert not busy.acquire(blocking=False)
    gate.set()
    wait(calls, 20)
    assert [call.result() for call in calls] == list(range(7))
    names = {threads.submit(lambda: threading.current_thread().name).result(20) for _ in range(20)}
    assert names <= {"test-1", "test-2", "test-3"}
    threads.shutdown()


def test_what_it_raises_and_what_was_cancelled() -> None:
    threads, gate = Threads(1, "test"), threading.Event()
    first = threads.submit(gate.wait, 20)
    second = threads.submit(lambda: None)
    assert second.cancel()
    gate.set()
    assert first.result(20)
    with pytest.raises(SystemExit):
        threads.submit(sys.exit).result(20)
    assert threads.submit(lambda: 1).result(20) == 1


def test_its_threads_end_with_it() -> None:
    threads = Threads(4, "ending")
    wait([threads.submit(lambda: None) for _ in range(9)], 20)
    mine = [thread for thread in threading.enumerate() if thread.name.startswith("ending-")]
    assert mine
    threads.shutdown()
    for thread in mine:
        thread.join(20)
        assert not thread.is_alive()
