"""Arrays whose native loops are counted and whose stores take their time."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import zarr
from faulty_http import ToldStore, in_time
from zarr.core.buffer import cpu

CHUNK = 20_000  # items
MARK = -99


class Native:
    """Sees and delays the native loops of the process.

    Attributes
    ----------
    delay : float
        Seconds that every chunk takes longer.
    running : int
        Loops that run.
    times : list of (float, float)
        When they began and ended.
    begun : threading.Event
        One has begun.
    done : callable
        Called with what a loop was handed when it has ended.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        self.running = 0
        self.times: list[tuple[float, float]] = []
        self.begun = threading.Event()
        self.done: Callable[[list[Any]], None] = lambda given: None

    def wrap(self, real: Callable[..., None]) -> Callable[..., None]:
        def run(*args: Any, **named: Any) -> None:
            given = [*(named.get("fetched") or ()), *(named.get("parts") or ())]
            begin = time.monotonic()
            self.running += 1
            self.begun.set()
            try:
                time.sleep(self.delay * len(given))
                real(*args, **named)
            finally:
                self.running -= 1
                self.times.append((begin, time.monotonic()))
                self.done(given)

        return run


@contextlib.contextmanager
def concurrency(n: int) -> Iterator[None]:
    with zarr.config.set({"async.concurrency": n}):
        yield


def make(
    store: Any, count: int = 24, *codecs: Any, **kw: Any
) -> tuple[zarr.Array[Any], np.ndarray]:
    """An array of `count` chunks, and what is in it."""
    array = zarr.create_array(
        store=store, shape=(count * CHUNK,), chunks=(CHUNK,), dtype="<i4", compressors=codecs, **kw
    )
    array[...] = data = np.arange(count * CHUNK, dtype="<i4")
    if isinstance(store, ToldStore):
        store.reset()
    return array, data


def ndbuffer(out: np.ndarray) -> Any:
    return cpu.NDBuffer.from_numpy_array(out)


async def read_all(array: Any, out: np.ndarray) -> None:
    await array.get_orthogonal_selection(slice(None), out=ndbuffer(out))


async def write_all(array: Any, out: np.ndarray) -> None:
    await array.setitem(slice(None), out)


def run(main: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Run a coroutine function in a loop of its own, in bounded time."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await main()

    return in_time(lambda: asyncio.run(bounded()), seconds + 5)
