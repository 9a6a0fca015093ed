"""Event loops: small calls let others run, and idle threads end."""

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore

from zarrs.runtime import _threads, _turns

Call = Callable[[Any], Awaitable[Any]]

CALLS: dict[str, Call] = {
    "read": lambda array: array.getitem((slice(0, 3),)),
    "read missing": lambda array: array.getitem((slice(8, 11),)),
    "read shard": lambda array: array.getitem((slice(4, 6),)),
    "write": lambda array: array.setitem((slice(0, 3),), 1),
    "write fill": lambda array: array.setitem((slice(0, 4),), 0),
}


def create(store: Store) -> zarr.Array[Any]:
    array = zarr.create_array(store, shape=(12,), chunks=(2,), shards=(4,), dtype="i4")
    array[:8] = np.arange(8)
    return array


@pytest.mark.parametrize("kind", ["local", "memory"])
@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_timeouts_reach_small_calls(native: None, tmp_path: Path, call: Call, kind: str) -> None:
    array = create(LocalStore(tmp_path) if kind == "local" else MemoryStore())

    async def loop() -> int:
        count = 0
        try:
            async with asyncio.timeout(0.05):
                for _ in range(20_000):
                    await call(array._async_array)
                    count += 1
        except TimeoutError:
            pass
        return count

    assert 0 < asyncio.run(loop()) < 20_000


def test_other_tasks_run_beside_small_reads(native: None) -> None:
    array = create(MemoryStore())
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def main() -> float:
        task = asyncio.ensure_future(tick())
        started = time.perf_counter()
        for _ in range(500):
            await array._async_array.getitem((slice(0, 3),))
        task.cancel()
        return time.perf_counter() - started

    seconds = asyncio.run(main())
    assert ticks > min(seconds / _turns.LONGEST / 4, 10)


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_calls_of_tasks_begin_together(native: None, call: Call) -> None:
    array = create(MemoryStore())
    seen = []

    async def one() -> None:
        seen.append("begin")
        await call(array._async_array)
        seen.append("end")

    async def main() -> None:
        await asyncio.gather(*[one() for _ in range(5)])

    asyncio.run(main())
    assert seen == ["begin"] * 5 + ["end"] * 5


def test_a_loop_that_has_its_turn_is_not_disturbed() -> None:
    async def main() -> list[bool]:
        answers = []
        for _ in range(5):
            answers.append(_turns.is_loop_waiting())
            await asyncio.sleep(2 * _turns.LONGEST)
        answers.append(_turns.is_loop_waiting())
        time.sleep(2 * _turns.LONGEST)
        answers.append(_turns.is_loop_waiting())
        return answers

    assert asyncio.run(main()) == [False] * 6 + [True]


def names_of_threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("zarrs")]


def wait_until_ended(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while names_of_threads() and time.monotonic() < end:
        gc.collect()  # a thread may have held a loop that has ended when it was collected last
        time.sleep(0.02)
    return not names_of_threads()


def big(path: Path) -> zarr.Array[Any]:
    return zarr.create_array(LocalStore(path), shape=(64, 65536), chunks=(1, 65536), dtype="i4")


def test_threads_end_when_they_are_idle(native: None, tmp_path: Path) -> None:
    array = big(tmp_path)
    array[...] = 1
    assert names_of_threads()
    assert wait_until_ended(10 * _threads.IDLE)
    assert np.asarray(array[...]).sum() == array.size  # others begin
    assert names_of_threads()
    assert wait_until_ended(10 * _threads.IDLE)


def test_threads_end_with_their_loop(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = big(tmp_path)
    array[...] = 1
    assert wait_until_ended(10 * _threads.IDLE)
    monkeypatch.setattr(_threads, "IDLE", 600.0)

    async def main() -> None:
        await array._async_array.getitem(...)
        assert names_of_threads()

    asyncio.run(main())
    assert wait_until_ended(5)
