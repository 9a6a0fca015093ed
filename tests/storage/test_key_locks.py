"""The locks by which writers of one chunk wait for each other."""

import asyncio
import os
import signal
import threading
import time
import warnings
from typing import Any

import numpy as np
import pytest
from faulty_http import ToldStore, in_time, slow
from helpers import assert_same, emit, run_child
from loops import CHUNK, make, run
from shards import in_threads
from zarr.codecs import GzipCodec
from zarr.core.sync import sync
from zarr.storage import MemoryStore

from zarrs.storage._key_locks import KeyLocks


def is_free(locks: KeyLocks, *names: str) -> bool:
    """Whether locks can be had at once, and nothing is kept of them."""

    async def main() -> bool:
        async with asyncio.timeout(2):
            async with locks.hold(names):
                pass
        return locks.is_free

    return bool(run(main))


def test_locks_in_order() -> None:
    """First come, first served."""
    locks = KeyLocks()
    order: list[int] = []

    async def main() -> None:
        async def take(i: int) -> None:
            async with locks.hold(["a"]):
                order.append(i)
                await asyncio.sleep(0.001)

        await asyncio.gather(*(take(i) for i in range(20)))

    run(main)
    assert order == list(range(20))
    assert is_free(locks, "a")


def test_locks_exclude() -> None:
    """Of several names, across event loops; a name twice is a name once."""
    locks = KeyLocks()
    inside: dict[str, int] = dict.fromkeys("abcd", 0)
    sets = ["ab", "bc", "cd", "da", "abcd", "aa", "dcba", "bd"]

    def work(i: int) -> None:
        async def main() -> None:
            async def once(names: str) -> None:
                async with locks.hold(names):
                    for name in set(names):
                        inside[name] += 1
                        assert inside[name] == 1
                    await asyncio.sleep(0.0002)
                    for name in set(names):
                        inside[name] -= 1

            for k in range(10):
                await asyncio.gather(*(once(sets[(i + j + k) % 8]) for j in range(4)))

        run(main, 40)

    in_time(lambda: in_threads(8, work), 60)
    assert is_free(locks, *"abcd")


def test_owners_may_write() -> None:
    """What an owner calls, and the coroutines that it waits for, need not wait; all others do."""
    locks = KeyLocks()
    done: list[str] = []

    def other() -> None:
        locks.holding(["a"], lambda: done.append("other"))

    def work() -> None:
        locks.holding(["a", "b"], lambda: done.append("thread"))
        assert is_free(locks, "b") is False  # "a" is held, and "b" can be had
        sync(coroutine())
        thread.start()
        thread.join(0.1)
        locks.owning(["a"], lambda: done.append("owner"))

    async def coroutine() -> None:
        async with locks.hold(["a"]):
            done.append("coroutine")

    thread = threading.Thread(target=other)
    in_time(lambda: locks.owning(["a"], work), 60)
    thread.join()
    assert done == ["thread", "coroutine", "owner", "other"]
    assert is_free(locks, *"ab")


def test_owners_that_fail() -> None:
    locks = KeyLocks()
    with pytest.raises(ZeroDivisionError):
        locks.owning(["a"], lambda: print(1 / 0))
    assert is_free(locks, "a")
    locks.holding(["a"], lambda: None)
    assert is_free(locks, "a")


def test_locks_and_errors() -> None:
    """An exception inside gives the locks back."""
    locks = KeyLocks()

    async def main() -> None:
        with pytest.raises(KeyError):
            async with locks.hold(["a", "b"]):
                raise KeyError
        async with locks.hold([]):
            pass

    run(main)
    assert is_free(locks, "a", "b")


def test_cancelled_waiters() -> None:
    """They leave the queue, and give back what they had."""
    locks = KeyLocks()
    got: list[int] = []

    async def main() -> None:
        async def take(i: int) -> None:
            async with locks.hold(["a", "b"]):
                got.append(i)

        async with locks.hold(["b"]):
            tasks = [asyncio.create_task(take(i)) for i in range(5)]
            await asyncio.sleep(0.01)
            tasks[0].cancel()  # has a, waits for b
            tasks[2].cancel()  # waits for a
            await asyncio.wait({tasks[0], tasks[2]}, timeout=5)
        await asyncio.wait(tasks, timeout=5)
        assert [task.cancelled() for task in tasks] == [True, False, True, False, False]

    run(main)
    assert got == [1, 3, 4]
    assert is_free(locks, "a", "b")


@pytest.mark.parametrize("steps", range(4))
def test_cancelled_when_it_is_granted(steps: int) -> None:
    """In the very moment, and one or two turns of the loop to either side."""
    locks = KeyLocks()

    async def main() -> None:
        async def take() -> None:
            async with locks.hold(["a"]):
                await asyncio.sleep(0)

        holder = locks.hold(["a"])
        await holder.__aenter__()
        waiter = asyncio.create_task(take())
        other = asyncio.create_task(take())
        await asyncio.sleep(0.01)
        await holder.__aexit__(None, None, None)
        for _ in range(steps):
            await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait({waiter, other}, timeout=5)
        assert other.done()
        assert not other.cancelled()

    run(main)
    assert is_free(locks, "a")


def test_cancelled_before_the_grant_arrives() -> None:
    """Another thread grants while the loop is about to cancel."""
    for _ in range(100):
        locks = KeyLocks()
        waiting, go = threading.Event(), threading.Barrier(2)

        def cancelled(
            locks: KeyLocks = locks, waiting: Any = waiting, go: threading.Barrier = go
        ) -> None:
            async def take() -> None:
                async with locks.hold(["a"]):
                    pass

            async def main() -> None:
                task = asyncio.create_task(take())
                await asyncio.sleep(0)
                waiting.set()
                go.wait(5)
                task.cancel()
                await asyncio.wait({task}, timeout=5)

            run(main)

        async def hold(
            locks: KeyLocks = locks, waiting: Any = waiting, go: threading.Barrier = go
        ) -> None:
            async with locks.hold(["a"]):
                thread = threading.Thread(target=cancelled, daemon=True)
                thread.start()
                waiting.wait(5)
                go.wait(5)
            await asyncio.get_running_loop().run_in_executor(None, thread.join, 10)

        asyncio.run(hold())
        assert locks.is_free


def test_a_waiter_whose_loop_is_closed() -> None:
    """Its turn goes to the next one."""
    locks = KeyLocks()

    async def main() -> None:
        async with locks.hold(["a"]):
            dead = asyncio.new_event_loop()

            async def take() -> None:
                async with locks.hold(["a"]):
                    raise AssertionError("nobody runs this")

            task = dead.create_task(take())
            dead.call_later(0.01, dead.stop)
            await asyncio.get_running_loop().run_in_executor(None, dead.run_forever)
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is the point
            dead.close()
            next_one = asyncio.create_task(wait_for_it())
            await asyncio.sleep(0.01)
        await asyncio.wait_for(next_one, 5)

    async def wait_for_it() -> None:
        async with locks.hold(["a"]):
            pass

    run(main)


def child_fork_locks() -> None:
    """A child that is forked while locks are held, and awaited, has none of them."""
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    store = ToldStore()
    array, _ = make(store, 2)
    store.hook = slow(0.5)
    threads = [threading.Thread(target=array.__setitem__, args=(i, i)) for i in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            store.hook = lambda request: request.go_on()
            array[3] = 5  # of the chunk that is locked in the parent
            assert array[3] == 5
            code = 0
        finally:
            os._exit(code)
    end = time.monotonic() + 20
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
        time.sleep(0.02)
    if done == (0, 0):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    emit(list(done)[1] if done != (0, 0) else "hangs")
    for thread in threads:
        thread.join()
    emit([int(np.asarray(array[i])) for i in (0, 1, 3)])


def test_fork_while_locks_are_held() -> None:
    assert run_child(child_fork_locks, timeout=60).check() == [0, [0, 1, 3]]


def child_fork_memory() -> None:
    """Reads and writes in a forked child, after reads in the parent."""
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    for kind in (MemoryStore, ToldStore):
        array, data = make(kind(), 24, GzipCodec(level=1))
        assert_same(array[...], data)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                assert_same(array[...], data)
                array[5:CHUNK] = 1
                assert (np.asarray(array[5:CHUNK]) == 1).all()
                code = 0
            finally:
                os._exit(code)
        end = time.monotonic() + 20
        while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < end:
            time.sleep(0.02)
        if done == (0, 0):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        emit(done[1] if done != (0, 0) else "hangs")
        assert_same(array[...], data)  # the parent's memory is its own


def test_fork_after_reads() -> None:
    assert run_child(child_fork_memory, timeout=60).check() == [0, 0]
