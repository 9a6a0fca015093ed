"""How many requests are under way at a time, and what is left behind when they are done."""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
import zarr
from helpers import assert_same, make_data, newer
from shards import in_threads
from store_cases import CASE, WINDOWS, big_shards, coalescing, make, plain_case
from stores import AsyncOnly, Kind, Ranges, Services, Spy, SyncSpy, each_kind, ours, stored, theirs
from zarr.abc.store import Store
from zarr.codecs import GzipCodec
from zarr.core.buffer import Buffer, cpu
from zarr.core.sync import sync
from zarr.storage import MemoryStore

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")


# ------------------------------------------------------------------------- how many requests


Watched = Callable[[], Spy | SyncSpy]
WATCHED: dict[str, Watched] = {
    "async": lambda: Spy(delay=0.003),
    "ranges": lambda: Ranges(delay=0.003),
    "blocking": lambda: SyncSpy(delay=0.0005),
}


@pytest.fixture
def threads_to_block() -> Iterator[None]:
    """zarr's event loop keeps the threads of whichever call was its first; it may be one."""

    async def exchange(threads: Any) -> Any:
        loop: Any = asyncio.get_running_loop()
        before, loop._default_executor = loop._default_executor, threads
        return before

    with ThreadPoolExecutor(8) as threads:
        before = sync(exchange(threads))
        yield
        sync(exchange(before))


@pytest.mark.parametrize("limit", [1, 2, 5, 10, None])
@pytest.mark.parametrize("name", WATCHED)
def test_requests_at_a_time(
    native: None, threads_to_block: None, name: str, limit: int | None
) -> None:
    """Never more than ``async.concurrency``, and as many if there is enough to do."""
    store = WATCHED[name]()
    data = make_data("<i4", (64, 60))
    array = make(store, plain_case("zstd", data.shape, (4, 15)))  # 64 chunks
    with zarr.config.set({"async.concurrency": limit}):
        peaks = {}
        for what in ("write", "read", "merge"):
            store.watch.forget()
            if what == "write":
                array[...] = data
            elif what == "read":
                assert_same(array[...], data)
            else:
                array[1:63, 1:59] = data[1:63, 1:59] = data[1:63, 1:59][::-1].copy()
            peaks[what] = store.watch.peak
    assert_same(array[...], data)
    if limit is not None:
        assert max(peaks.values()) <= limit, peaks
    if limit != 1:
        # keys of a store that blocks go to threads in groups, and there are few threads
        least = 2 if name == "blocking" else min(limit or 11, 11)
        assert peaks["write"] >= min(least, 4)  # stored as they are encoded
        assert peaks["read"] >= least
    assert len(stored(store)) == 64


def test_requests_at_a_time_of_shards(native: None) -> None:
    """Ranges count as other requests do."""
    store = Spy(delay=0.003)
    data = big_shards(store)
    for limit in (1, 3):
        with zarr.config.set({"async.concurrency": limit}), coalescing(gap=0):
            array = ours(store)
            store.watch.forget()
            assert_same(array[5:768:48, 3], data[5:768:48, 3])
            assert len(store.watch.requests) >= 10
            assert store.watch.peak == limit


@pytest.mark.parametrize("nonsense", ["many", 0, -1, 2.5, True, [3]])
def test_nonsense_concurrency(native: None, nonsense: Any) -> None:
    """One warning a call, and zarr's own default."""
    store = Spy(delay=0.002)
    data = make_data("<i4", (64, 60))
    array = make(store, plain_case("zstd", data.shape, (4, 15)))
    with zarr.config.set({"async.concurrency": nonsense}):
        for work in ("write", "read"):
            store.watch.forget()
            with pytest.warns(UserWarning, match=r"async\.concurrency") as seen:
                array.__setitem__(..., data) if work == "write" else array.__getitem__(...)
            assert len(seen) == 1
            assert 1 < store.watch.peak <= 10
    assert_same(theirs(store)[...], data)


def test_the_environment_may_say_it_in_text(native: None) -> None:
    store = Spy(delay=0.002)
    array = make(store, plain_case("zstd", (64, 60), (4, 15)))
    array[...] = data = make_data("<i4", (64, 60))
    store.watch.forget()
    with zarr.config.set({"async.concurrency": "3"}):
        assert_same(array[...], data)
    assert store.watch.peak == 3


def test_blocking_stores_do_not_block_the_event_loop(native: None) -> None:
    """Their methods run in other threads, whatever the size of the call."""

    async def here() -> int:
        return threading.get_ident()

    store = SyncSpy()
    for shape in ((3, 4), (200, 100)):
        array = make(store, plain_case("raw", shape, (50, 20)), overwrite=True)
        store.threads.clear()
        array[...] = data = make_data("<i4", shape)
        assert_same(array[...], data)
        array[1:3, 1:3] = 1
        assert store.threads
        assert sync(here()) not in store.threads


class Waits(AsyncOnly):
    """The last chunk comes when the first is where it belongs, or never."""

    arrived: Callable[[], bool] = staticmethod(lambda: True)

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        for _ in range(2000):
            if not key.endswith("c/7") or self.arrived():
                return await super().get(key, *args, **kw)
            await asyncio.sleep(0.005)
        raise TimeoutError("nothing was decoded")


@pytest.mark.parametrize("size", [100, 100_000])
def test_decoding_does_not_wait_for_the_last(native: None, size: int) -> None:
    """Chunks are decoded while others are being fetched."""
    store = Waits()
    data = np.arange(1, 8 * size + 1, dtype="<i4")
    array = make(store, plain_case("zstd", data.shape, (size,)))
    array[...] = data
    out = np.zeros_like(data)
    store.arrived = lambda: out[0] == 1
    array.get_basic_selection(..., out=cpu.NDBuffer.from_numpy_array(out))
    assert_same(out, data)


LIMITS: dict[str, dict[str, int]] = {
    "held": {"storage._store_reads.MAX_HELD": 1},
    "held-some": {"storage._store_reads.MAX_HELD": 1000},
    "thread-bytes": {"storage._store_reads.THREAD_BYTES": 1},
    "thread-keys": {"storage._store_reads.THREAD_KEYS": 1},
    "index": {"storage._store_reads.SMALL_INDEX": 0},
    "old": {"storage._store_writes.MAX_OLD": 1},
    "encoded": {"storage._store_writes.MAX_ENCODED": 1},
    "batch": {"storage._store_writes.BATCH_BYTES": 1, "storage._store_writes.BATCH_TASKS": 1},
    "big-batch": {"storage._store_writes.MAX_BATCH_BYTES": 1},
    "all-of-them": {
        "storage._store_reads.MAX_HELD": 1,
        "storage._store_writes.MAX_OLD": 1,
        "storage._store_writes.MAX_ENCODED": 1,
        "storage._store_writes.MAX_BATCH_BYTES": 1,
    },
}


@pytest.mark.parametrize("store", [Spy, Ranges, SyncSpy, MemoryStore], ids=lambda c: c.__name__)
@pytest.mark.parametrize("limits", LIMITS)
def test_limits_of_memory(
    native: None, monkeypatch: pytest.MonkeyPatch, limits: str, store: type[Store]
) -> None:
    """However little may be held, it goes on, and one chunk is always possible."""
    for name, value in LIMITS[limits].items():
        monkeypatch.setattr(f"zarrs.{name}", value)
    where = store()
    case = CASE["shards-zstd"]
    data = make_data("<i4", case.shape)
    array = make(where, case)
    array[...] = data
    assert_same(array[...], data)
    array[1:28, 1:16, 1:12] = data[1:28, 1:16, 1:12] = data[1:28, 1:16, 1:12] // 2
    if limits == "held" and isinstance(where, Spy):
        where.watch.forget()
    assert_same(array[...], data)
    if limits == "held" and isinstance(where, Spy):
        assert where.watch.peak == 1
    assert_same(theirs(where)[...], data, "zarr")
    big = store()
    with coalescing(gap=0):
        expected = big_shards(big)
        assert_same(ours(big)[5:768:300, ::200], expected[5:768:300, ::200])


@each_kind("memory", "zip", "latency", "local-own-get", "async-only", "sync-spy", "fsspec-local")
def test_writers_of_one_chunk(native: None, tmp_path: Path, services: Services, kind: Kind) -> None:
    """Threads that write parts of the same chunks lose nothing."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", (24, 30))
    array = make(store, plain_case("zstd", data.shape, (24, 10)))

    def write(i: int) -> None:
        one = ours(store)
        for row in range(i, 24, 4):
            one[row] = data[row]

    in_threads(4, write)
    assert_same(array[...], data)


@pytest.mark.parametrize("store", [AsyncOnly, Ranges, SyncSpy, MemoryStore])
def test_other_event_loops(native: None, store: type[Store]) -> None:
    """Calls come from event loops of several threads, not from zarr's alone."""
    where = store()
    data = make_data("<i4", (24, 30))
    array = make(where, plain_case("zstd", data.shape, (24, 10)))

    async def work(i: int) -> None:
        one = array._async_array
        for row in range(i, 24, 4):
            await one.setitem(row, data[row])
            assert_same(await one.getitem(row), data[row])

    in_threads(4, lambda i: asyncio.run(work(i)))
    assert_same(array[...], data)


@pytest.mark.parametrize("store", [Spy, Ranges, SyncSpy], ids=lambda c: c.__name__)
def test_shards_that_change_meanwhile(
    native: None, monkeypatch: pytest.MonkeyPatch, store: Callable[[], Any]
) -> None:
    """A shard that goes after its index was read is missing, not an error, nor half of it."""
    where = store()
    data = big_shards(where)
    with coalescing(gap=0):
        array = ours(where)
    held = where._store_dict if isinstance(where, SyncSpy) else where.held
    kept = held["c/0/0"]

    class Gone(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return super().pop(key) if stores.is_chunk(key) else super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            return super().pop(key, default) if stores.is_chunk(key) else super().get(key, default)

    gone = Gone(held)
    monkeypatch.setattr(where, "_store_dict" if isinstance(where, SyncSpy) else "held", gone)
    key, *_ = WINDOWS["far-apart"]
    assert_same(array[key], np.zeros_like(data[key]))
    gone["c/0/0"] = kept
    assert array[0, 0] == 0  # the index came, and then nothing


# ------------------------------------------------------------------------ what is left behind


@pytest.mark.parametrize("writing", [False, True])
def test_nothing_outlives_a_call(native: None, writing: bool) -> None:
    """Memory is given back when its user lets go of it, not when cycles are collected."""
    store = Spy(delay=0.001)
    array = make(store, plain_case("zstd", (64, 60), (16, 15)))
    array[...] = 1
    gc.collect()
    gc.disable()
    try:
        values = np.zeros((64, 60), "<i4")
        memory = weakref.ref(values)
        if writing:
            array[1:, 1:] = values[1:, 1:]
        else:
            array.get_basic_selection(..., out=cpu.NDBuffer.from_numpy_array(values))
        del values
        deadline = time.monotonic() + 10
        while memory() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # the event loop lets go of a call after it has answered
        assert memory() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="new in Python 3.12")
@pytest.mark.parametrize("kind", [Spy, Ranges])
def test_eager_tasks(native: None, kind: type[Spy]) -> None:
    """Event loops that begin a task before it has been counted."""
    store = kind()
    data = big_shards(store)
    key, *_ = WINDOWS["far-apart"]

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(newer("asyncio", "eager_task_factory"))
        array = await zarr.api.asynchronous.open_array(store=store)
        return await array.getitem(key)

    assert_same(asyncio.run(main()), data[key])


def test_a_cancelled_write_begins_nothing(native: None) -> None:
    """No chunk is stored that was not being stored already."""
    store = Spy(delay=0.02)
    data = make_data("<f8", (64 * 2**14,))
    begun: list[str] = []

    async def main() -> None:
        array = await zarr.api.asynchronous.create_array(
            store=store, shape=data.shape, chunks=(2**14,), dtype="<f8", compressors=GzipCodec()
        )
        task = asyncio.create_task(array.setitem(..., data))
        while not stored_now(store):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(5):  # until it knows
            await asyncio.sleep(0)
        under_way = store.watch._under_way
        before = stored_now(store)
        with pytest.raises(asyncio.CancelledError):
            await task
        begun.extend(set(stored_now(store)) - set(before))
        assert len(begun) <= under_way

    with zarr.config.set({"async.concurrency": 3}):
        asyncio.run(main())
    count = len(stored_now(store))
    time.sleep(0.1)
    assert len(stored_now(store)) == count


def stored_now(store: Spy) -> list[str]:
    """Keys of chunks in a store that is not asked."""
    return [key for key in store.held if "c/" in key]
