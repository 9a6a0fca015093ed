"""Many requests, many callers: nothing is lost, nothing is left behind, nobody waits for ever.

Whatever could hang runs in a thread or a child that is given up after a while.
"""

import asyncio
import contextlib
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from faulty_http import Request, ToldStore, in_time, slow, tasks_left
from helpers import assert_same, emit, run_child
from shards import in_threads
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec
from zarr.core.buffer import cpu
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore, WrapperStore

import zarrs
from zarrs.execution import _execute
from zarrs.runtime._task_group import TaskGroup
from zarrs.storage import _store_reads, _store_writes
from zarrs.storage._key_locks import KeyLocks

CHUNK = 20_000  # items
NBYTES = 4 * CHUNK
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


@pytest.fixture
def loops(native: None, monkeypatch: pytest.MonkeyPatch) -> Native:
    """The native loops, watched."""
    watched = Native()
    monkeypatch.setattr(_execute, "read", watched.wrap(_execute.read))
    monkeypatch.setattr(_execute, "write", watched.wrap(_execute.write))
    return watched


@contextlib.contextmanager
def concurrency(n: int) -> Iterator[None]:
    with zarr.config.set({"async.concurrency": n}):
        yield


def make(store: Any, count: int = 24, *codecs: Any, **kw: Any) -> tuple[zarr.Array, np.ndarray]:
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


class BlockingStore(ToldStore):
    """A store that is asked in threads, and takes its time there."""

    seconds = 0.0

    def get_sync(self, key: str, *, prototype: Any = None, byte_range: Any = None) -> Any:
        with self.asking("get", key, byte_range):
            value = self._store_dict.get(key)
            assert byte_range is None
            return value

    def set_sync(self, key: str, value: Any) -> None:
        with self.asking("set", key, None):
            self._store_dict[key] = value

    def delete_sync(self, key: str) -> None:
        with self.asking("delete", key, None):
            self._store_dict.pop(key, None)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        return self._store_dict.get(key)

    async def set(self, key: str, value: Any, byte_range: Any = None) -> None:
        self._store_dict[key] = value

    async def delete(self, key: str) -> None:
        self._store_dict.pop(key, None)

    @contextlib.contextmanager
    def asking(self, what: str, key: str, byte_range: Any) -> Iterator[None]:
        self.asked.append(Request(what, key, byte_range, len(self.asked), None))
        self.running += 1
        try:
            time.sleep(self.seconds)
            yield
        finally:
            self.running -= 1


# --------------------------------------------------------------------- an error in one of many


@pytest.mark.parametrize("failing", [0, 7, 23])
@pytest.mark.parametrize("width", [1, 4, 50])
def test_an_error_ends_the_others(loops: Native, failing: int, width: int) -> None:
    """No request, no native loop and no task is left when the exception has come."""
    store = ToldStore()
    array, data = make(store, 24, GzipCodec(level=1))

    async def hook(request: Request) -> Any:
        if request.number == failing:
            raise ConnectionError("gone")
        await asyncio.sleep(0.01 if request.number < failing else 5)
        return await request.go_on()

    store.hook = hook
    loops.delay = 0.002
    out = np.full(data.shape, MARK, "<i4")
    begin = time.monotonic()
    with concurrency(width), pytest.raises(ConnectionError, match="gone"):
        in_time(lambda: array.get_basic_selection(slice(None), out=ndbuffer(out)))
    assert time.monotonic() - begin < 4, "the others were not cancelled"
    left = store.running, loops.running, tasks_left()
    found, asked = out.copy(), len(store.asked)
    assert left == (0, 0, [])
    time.sleep(0.1)
    assert_same(out, found)
    assert len(store.asked) == asked <= failing + width
    store.reset()
    assert_same(in_time(lambda: array[...]), data)


def test_a_damaged_chunk_ends_the_others(loops: Native) -> None:
    store = ToldStore()
    array, data = make(store, 24, GzipCodec(level=1))
    store.put("c/3", store.chunks()["c/3"][:-10])

    async def hook(request: Request) -> Any:
        await asyncio.sleep(0.005 if request.number < 8 else 5)
        return await request.go_on()

    store.hook = hook
    out = np.full(data.shape, MARK, "<i4")
    begin = time.monotonic()
    with concurrency(10), pytest.raises(zarrs.ChunkError, match="c/3"):
        in_time(lambda: array.get_basic_selection(slice(None), out=ndbuffer(out)))
    assert time.monotonic() - begin < 4
    assert (store.running, loops.running, tasks_left()) == (0, 0, [])
    found = out.copy()
    time.sleep(0.05)
    assert_same(out, found)
    store.reset()
    store.put("c/3", store.chunks()["c/4"])
    data[3 * CHUNK : 4 * CHUNK] = data[4 * CHUNK : 5 * CHUNK]
    assert_same(array[...], data)


# --------------------------------------------------------------------------- cancellation

Act = Callable[[Any, np.ndarray], Awaitable[Any]]


async def read_all(array: Any, out: np.ndarray) -> None:
    await array.get_orthogonal_selection(slice(None), out=ndbuffer(out))


async def write_all(array: Any, out: np.ndarray) -> None:
    await array.setitem(slice(None), out)


async def merge_all(array: Any, out: np.ndarray) -> None:
    await array.setitem(slice(None, None, 2), out[::2])


ACTS: dict[str, Act] = {"read": read_all, "write": write_all, "merge": merge_all}
STAGES = ["at once", "first request", "tenth request", "native", "after a while"]


def told_slowly(kind: str, seconds: float) -> ToldStore:
    store = ToldStore() if kind == "async" else BlockingStore()
    store.seconds = seconds if kind != "async" else 0.0
    return store


async def reach(stage: str, store: ToldStore, loops: Native) -> None:
    """Wait until a call has come so far."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        if (
            stage == "at once"
            or (stage == "first request" and store.asked)
            or (stage == "tenth request" and len(store.asked) >= 10)
            or (stage == "native" and loops.running)
        ):
            return
        await asyncio.sleep(0.001)
        if stage == "after a while":
            await asyncio.sleep(0.06)
            return
    raise AssertionError(f"{stage} did not come")


@pytest.mark.parametrize("kind", ["async", "blocking"])
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("act", ACTS)
def test_cancelled(loops: Native, act: str, stage: str, twice: bool, kind: str) -> None:
    """Nothing runs on, nothing is locked; stored chunks are old or new; twice is no less."""
    store = told_slowly(kind, 0.01)
    array, data = make(store)
    store.reset()
    if kind == "async":
        store.hook = slow(0.01)
    loops.delay = 0.01
    out = np.full(data.shape, MARK, "<i4")
    new = np.full(data.shape, MARK - 1, "<i4")

    async def main() -> None:
        work = ACTS[act](array.async_array, out if act == "read" else new)
        task = asyncio.create_task(work)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await reach(stage, store, loops)
        task.cancel()
        if twice:
            await asyncio.sleep(0.002)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = asyncio.all_tasks() - {asyncio.current_task()}
        running = store.running, loops.running
        assert running == (0, 0), "requests or native loops run on"
        assert not left
        found, chunks, asked = out.copy(), store.chunks(), len(store.asked)
        await asyncio.sleep(0.05)
        assert_same(out, found)
        assert store.chunks() == chunks
        assert len(store.asked) == asked
        sets = {request.key for request in store.asked if request.what == "set"}
        for key, value in chunks.items():
            i = int(key[2:])
            old = data[i * CHUNK : (i + 1) * CHUNK]
            expected = np.full(CHUNK, MARK - 1, "<i4")
            if act == "merge":
                expected[1::2] = old[1::2]
            # what the store was asked to do it could finish
            assert value == (expected if key in sets else old).tobytes()
        # and another call finds nothing locked
        store.hook = lambda request: request.go_on()
        loops.delay = 0
        async with asyncio.timeout(20):
            await array.async_array.setitem(slice(None), data)
            assert_same(await array.async_array.getitem(slice(None)), data)

    with concurrency(4):
        in_time(lambda: asyncio.run(main()), 60)


@pytest.mark.parametrize("act", ACTS)
def test_left_alone(loops: Native, act: str) -> None:
    """``asyncio.run`` ends while a call is under way: it is cancelled, and has ended then."""
    store = ToldStore()
    array, data = make(store)
    store.hook = slow(0.01)
    loops.delay = 0.01
    out = np.full(data.shape, MARK, "<i4")
    started = []

    async def main() -> None:
        started.append(asyncio.create_task(ACTS[act](array.async_array, out)))  # type: ignore[arg-type]
        await reach("tenth request", store, loops)

    with concurrency(4):
        in_time(lambda: asyncio.run(main()))
    assert started[0].cancelled()
    assert (store.running, loops.running) == (0, 0)
    found, chunks = out.copy(), store.chunks()
    time.sleep(0.05)
    assert_same(out, found)
    assert store.chunks() == chunks
    store.reset()
    in_time(lambda: array.__setitem__(slice(None), data))
    assert_same(array[...], data)


def test_timeouts(loops: Native) -> None:
    """``asyncio.timeout`` and ``wait_for`` around calls, again and again, one store."""
    store = ToldStore()
    array, data = make(store)
    store.hook = slow(0.005)
    loops.delay = 0.002

    async def main() -> None:
        ended = 0
        for milliseconds in (*range(0, 50, 6), 10_000):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(milliseconds / 1000):
                    await array.async_array.setitem(slice(None, None, 3), data[::3])
                    ended += 1
            with contextlib.suppress(TimeoutError):
                found = await asyncio.wait_for(
                    array.async_array.getitem(slice(None)), milliseconds / 1000
                )
                assert_same(found, data)
                ended += 1
            assert store.running == loops.running == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}
        assert ended >= 2

    in_time(lambda: asyncio.run(main()), 60)


def test_cancelled_while_waiting_for_a_lock(loops: Native) -> None:
    """Who waits for another write and is cancelled leaves the others their turns."""
    store = ToldStore()
    array, _ = make(store, 2)
    store.hook = slow(0.05)

    async def main() -> None:
        a = array.async_array
        tasks = [asyncio.create_task(a.setitem(slice(i, i + 1), i)) for i in range(8)]
        await asyncio.sleep(0.03)
        for i in (1, 3, 4):
            tasks[i].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(r, asyncio.CancelledError) for r in results] == [
            i in (1, 3, 4) for i in range(8)
        ]
        found = np.asarray(await a.getitem(slice(0, 8)))
        assert [found[i] for i in (0, 2, 5, 6, 7)] == [0, 2, 5, 6, 7]

    in_time(lambda: asyncio.run(main()))


# ---------------------------------------------------------------------------- interruptions


def interrupt_after(seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored in background jobs
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def child_sync(act: str, catch: bool) -> None:
    """SIGINT in the middle of a call of zarr's synchronous interface."""
    zarr.config.set({"codec_pipeline.strict": True, "async.concurrency": 4})
    store = ToldStore()
    array, data = make(store)
    store.hook = slow(0.25)
    interrupt_after(0.4)
    begin = time.monotonic()
    try:
        if act == "read":
            array[...]
        else:
            array[::2] = data[::2]
    except KeyboardInterrupt:
        emit(time.monotonic() - begin)
        if not catch:
            raise
    store.hook = lambda request: request.go_on()
    array[1::2] = 5  # waits for what runs on in the background
    data[1::2] = 5
    assert_same(array[...], data)
    emit("works")


def child_asyncio(act: str, catch: bool) -> None:
    """SIGINT in ``asyncio.run``, which cancels the call."""
    zarr.config.set({"codec_pipeline.strict": True, "async.concurrency": 4})
    store = ToldStore()
    array, data = make(store)
    store.hook = slow(0.25)

    async def main() -> None:
        if act == "read":
            await array.async_array.getitem(slice(None))
        else:
            await array.async_array.setitem(slice(None, None, 2), data[::2])

    interrupt_after(0.4)
    begin = time.monotonic()
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        emit(time.monotonic() - begin)
        assert store.running == 0
        if not catch:
            raise
    store.hook = lambda request: request.go_on()
    array[1::2] = 5
    data[1::2] = 5
    assert_same(array[...], data)
    emit("works")


@pytest.mark.parametrize("child", [child_sync, child_asyncio])
@pytest.mark.parametrize("act", ["read", "merge"])
@pytest.mark.parametrize("catch", [True, False], ids=["caught", "not caught"])
def test_interrupted(child: Any, act: str, catch: bool) -> None:
    """The interruption comes at once, the process goes on, and ends."""
    begin = time.monotonic()
    result = run_child(child, act, catch, timeout=40)
    assert time.monotonic() - begin < 30
    assert result.lines, result.stderr
    assert result.lines[0] < 5
    if catch:
        assert result.check()[1:] == ["works"]
    else:
        assert result.lines[1:] == []
        assert result.returncode in (1, 130, -signal.SIGINT)
        assert "KeyboardInterrupt" in result.stderr


# ----------------------------------------------------------------- the event loop stays free


@pytest.mark.parametrize("kind", [ToldStore, MemoryStore], ids=["async", "memory"])
@pytest.mark.parametrize("act", ["read", "write"])
def test_the_loop_is_free_while_chunks_are_decoded(native: None, kind: Any, act: str) -> None:
    """Other coroutines of the loop run on while native code works."""
    n = 512 * 1024
    data = np.random.default_rng(0).integers(0, 200, 24 * n, dtype="<i4")
    with zarr.config.set({"codec_pipeline.chunk_concurrent_maximum": 1}):  # a thread at a time
        array = zarr.create_array(
            store=kind(),
            shape=data.shape,
            chunks=(n,),
            dtype="<i4",
            compressors=[GzipCodec(level=1)],
        )
    array[...] = data

    async def main() -> tuple[float, float]:
        gaps: list[float] = []

        async def beat() -> None:
            last = time.monotonic()
            while True:
                await asyncio.sleep(0.002)
                now = time.monotonic()
                gaps.append(now - last)
                last = now

        heart = asyncio.create_task(beat())
        await asyncio.sleep(0.01)
        gaps.clear()
        begin = time.monotonic()
        if act == "read":
            await read_all(array.async_array, np.empty_like(data))
        else:
            await write_all(array.async_array, data)
        took = time.monotonic() - begin
        await asyncio.sleep(0.005)
        heart.cancel()
        return took, max(gaps)

    with concurrency(50):
        results = [in_time(lambda: asyncio.run(main()), 60) for _ in range(3)]
    took, gap = min(results, key=lambda result: result[1] / result[0])
    assert gap < max(took / 3, 0.02), results


# ---------------------------------------------------------------------------------- overlap

REQUEST = 0.08  # seconds; 24 of which 4 run at a time take as long as 24 chunks of a quarter of it
BOTH = 1.15 * 24 * REQUEST / 4 + 0.2  # one after the other takes 2 * 24 * REQUEST / 4


def test_decodes_while_others_are_fetched(loops: Native) -> None:
    """As many requests as configured, and the time of the longer of the two."""
    store = ToldStore()
    array, data = make(store)
    ended: list[float] = []

    async def hook(request: Request) -> Any:
        await asyncio.sleep(REQUEST)
        ended.append(time.monotonic())
        return await request.go_on()

    times: list[float] = []
    while len(times) < 6 and min(times, default=9) > BOTH:  # again, if the machine is busy
        store.reset()
        store.hook = hook
        ended.clear()
        loops.times.clear()
        loops.delay = REQUEST / 4
        begin = time.monotonic()
        with concurrency(4):
            found = in_time(lambda: array[...])
        times.append(time.monotonic() - begin)
        assert_same(found, data)
        assert store.peak == 4
        assert loops.times[0][0] < ended[-1]
    assert min(times) <= BOTH, times


def test_encodes_while_others_are_stored(loops: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_store_writes, "BATCH_BYTES", NBYTES)
    monkeypatch.setattr(_store_writes, "BATCH_TASKS", 1)
    store = ToldStore()
    array, data = make(store)
    begun: list[float] = []

    async def hook(request: Request) -> Any:
        begun.append(time.monotonic())
        await asyncio.sleep(REQUEST)
        return await request.go_on()

    times: list[float] = []
    while len(times) < 6 and min(times, default=9) > BOTH:  # again, if the machine is busy
        store.reset()
        store.hook = hook
        begun.clear()
        loops.times.clear()
        loops.delay = REQUEST / 4
        begin = time.monotonic()
        with concurrency(4):
            in_time(lambda: array.__setitem__(slice(None), data[::-1]))
        times.append(time.monotonic() - begin)
        assert store.peak <= 4
        assert begun[0] < loops.times[-1][1]
    assert store.peak >= 3
    assert min(times) <= BOTH, times
    store.reset()
    assert_same(array[...], data[::-1])


def test_merges_overlap(loops: Native) -> None:
    """Old chunks are fetched while others are stored."""
    store = ToldStore()
    array, data = make(store)
    kinds: list[str] = []

    async def hook(request: Request) -> Any:
        kinds.append(request.what)
        await asyncio.sleep(0.01)
        return await request.go_on()

    store.hook = hook
    with concurrency(3):
        in_time(lambda: array.__setitem__(slice(None, None, 2), MARK))
    assert store.peak == 3
    assert kinds.index("set") < len(kinds) - 1 - kinds[::-1].index("get"), "one after the other"
    data[::2] = MARK
    store.reset()
    assert_same(array[...], data)


# ------------------------------------------------------------------------------- in bounds


@pytest.mark.parametrize("width", [1, 2, 50])
@pytest.mark.parametrize("most", [1, 4])
def test_fetched_bytes_are_bounded(
    loops: Native, monkeypatch: pytest.MonkeyPatch, width: int, most: int
) -> None:
    """A fast store does not fill the memory while chunks wait to be decoded."""
    monkeypatch.setattr(_store_reads, "MAX_HELD", most * NBYTES)
    store = ToldStore()
    array, data = make(store, 60)
    held, peak = 0, 0

    async def hook(request: Request) -> Any:
        nonlocal held, peak
        found = await request.go_on()
        held += len(found)
        peak = max(peak, held)
        return found

    def done(given: list[Any]) -> None:
        nonlocal held
        held -= sum(len(buffer) for *_, buffer in given if buffer is not None)

    store.hook, loops.done = hook, done
    loops.delay = 0.004
    with concurrency(width):
        assert_same(in_time(lambda: array[...]), data)
    assert held == 0
    assert peak <= most * NBYTES, f"{peak / NBYTES} chunks"


@pytest.mark.parametrize("width", [1, 50])
def test_fetched_parts_of_shards_are_bounded(
    loops: Native, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """The same for byte ranges of shards."""
    inner = 256 * 1024
    monkeypatch.setattr(_store_reads, "MAX_HELD", 4 * inner)
    store = ToldStore()
    array = zarr.create_array(
        store=store,
        shape=(64, inner),
        chunks=(32, inner),
        dtype="u1",
        serializer=ShardingCodec(chunk_shape=(1, inner), codecs=[BytesCodec(), Crc32cCodec()]),
        compressors=[],
    )
    array[...] = data = np.arange(64, dtype="u1")[:, None] * np.ones(inner, "u1")
    store.reset()
    held, peak = 0, 0

    async def hook(request: Request) -> Any:
        nonlocal held, peak
        found = await request.go_on()
        if isinstance(request.range, RangeByteRequest):
            held += len(found)
            peak = max(peak, held)
        return found

    def done(given: list[Any]) -> None:
        nonlocal held
        held -= sum(len(buffer) for *_, buffer in given if buffer is not None)

    store.hook, loops.done = hook, done
    loops.delay = 0.004
    rows = list(range(0, 64, 6))  # too far apart for one range
    with concurrency(width):
        assert_same(in_time(lambda: array.oindex[rows]), data[rows])
    kinds = {type(request.range) for request in store.asked}
    assert kinds == {RangeByteRequest, SuffixByteRequest}
    assert held == 0
    assert peak <= 5 * inner, f"{peak / inner} ranges"


@pytest.mark.parametrize("width", [1, 50])
def test_encoded_bytes_are_bounded(
    loops: Native, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """A slow store does not fill the memory with chunks that wait to be stored."""
    monkeypatch.setattr(_store_writes, "BATCH_BYTES", 2 * NBYTES)
    monkeypatch.setattr(_store_writes, "BATCH_TASKS", 1)
    monkeypatch.setattr(_store_writes, "MAX_ENCODED", 4 * NBYTES)
    store = ToldStore()
    array, data = make(store, 60)
    waiting, peak, batch = 0, 0, 0

    def done(given: list[Any]) -> None:
        nonlocal waiting, peak, batch
        waiting += len(given) * NBYTES
        peak, batch = max(peak, waiting), max(batch, len(given) * NBYTES)

    async def hook(request: Request) -> Any:
        nonlocal waiting
        await asyncio.sleep(0.003)
        await request.go_on()
        waiting -= NBYTES

    store.hook, loops.done = hook, done
    with concurrency(width):
        in_time(lambda: array.__setitem__(slice(None), data[::-1]))
    assert waiting == 0
    assert batch <= 2 * NBYTES
    assert peak < 4 * NBYTES + batch, f"{peak / NBYTES} chunks"
    store.reset()
    assert_same(array[...], data[::-1])


@pytest.mark.parametrize("width", [1, 50])
def test_old_chunks_are_bounded(loops: Native, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Those that are fetched to be merged."""
    monkeypatch.setattr(_store_writes, "MAX_OLD", 4 * NBYTES)
    monkeypatch.setattr(_store_writes, "MAX_ENCODED", 4 * NBYTES)
    store = ToldStore()
    array, data = make(store, 60)
    held, peak = 0, 0

    async def hook(request: Request) -> Any:
        nonlocal held, peak
        if request.what == "set":
            await asyncio.sleep(0.002)
        found = await request.go_on()
        if request.what == "get":
            held += len(found)
            peak = max(peak, held)
        return found

    def done(given: list[Any]) -> None:
        nonlocal held
        held -= sum(len(buffer) for *_, buffer in given if buffer is not None)

    store.hook, loops.done = hook, done
    loops.delay = 0.002
    with concurrency(width):
        in_time(lambda: array.__setitem__(slice(None, None, 2), MARK))
    assert held == 0
    assert peak <= 4 * NBYTES, f"{peak / NBYTES} chunks"
    data[::2] = MARK
    store.reset()
    assert_same(array[...], data)


# ------------------------------------------------------------------------- nothing is lost

MEMORY_NUMBER = iter(range(10**6))


def one_memory(root: Path) -> list[Any]:
    return [MemoryStore()]


def one_told(root: Path) -> list[Any]:
    store = ToldStore()
    store.hook = slow(0.001)
    return [store]


def one_logged(root: Path) -> list[Any]:
    return [LoggingStore(LocalStore(root), log_level="ERROR")]


def one_fsspec(root: Path) -> list[Any]:
    return [FsspecStore.from_url(f"memory://zarrs-{os.getpid()}-{next(MEMORY_NUMBER)}")]


def two_memory(root: Path) -> list[Any]:
    held: dict[str, Any] = {}
    return [MemoryStore(held), MemoryStore(held)]


def wrapped_memory(root: Path) -> list[Any]:
    held: dict[str, Any] = {}
    bare = MemoryStore(held)
    logged = LoggingStore(MemoryStore(held), log_level="ERROR")
    return [bare, logged, WrapperStore(bare), WrapperStore(logged)]


def wrapped_told(root: Path) -> list[Any]:
    store = one_told(root)[0]
    return [store, LoggingStore(store, log_level="ERROR"), WrapperStore(store)]


def two_logged(root: Path) -> list[Any]:
    return [LoggingStore(LocalStore(root), log_level="ERROR") for _ in range(2)]


def wrapped_local(root: Path) -> list[Any]:
    return [LocalStore(root), LoggingStore(LocalStore(root), log_level="ERROR")]


def two_fsspec(root: Path) -> list[Any]:
    url = f"memory://zarrs-{os.getpid()}-{next(MEMORY_NUMBER)}"
    return [FsspecStore.from_url(url), FsspecStore.from_url(url)]


SHARED = [
    *(one_memory, one_told, one_logged, one_fsspec, two_memory, wrapped_memory, wrapped_told),
    *(two_logged, wrapped_local, two_fsspec),
]
each_shared = pytest.mark.parametrize("stores", SHARED)

THREADS = 12
PART = 50  # items of every thread
GEOMETRY: dict[str, dict[str, Any]] = {
    "chunk": {"chunks": (THREADS * PART,), "compressors": [GzipCodec(level=1)]},
    "shard": {
        "chunks": (THREADS * PART,),
        "compressors": [],
        "serializer": ShardingCodec(chunk_shape=(PART,), codecs=[BytesCodec(), Crc32cCodec()]),
    },
}


@each_shared
@pytest.mark.parametrize("geometry", GEOMETRY)
def test_parts_of_one_chunk_from_threads(
    native: None, tmp_path: Path, stores: Any, geometry: str
) -> None:
    """Each thread has its own part of the chunk; every store object is used by some of them."""
    made = stores(tmp_path)
    shape = (THREADS * PART,)
    first = zarr.create_array(store=made[0], shape=shape, dtype="<i4", **GEOMETRY[geometry])
    first[...] = 0
    arrays = [first, *(zarr.open_array(store=store, mode="r+") for store in made[1:])]

    def work(i: int) -> None:
        array = arrays[i % len(arrays)]
        part = slice(i * PART, (i + 1) * PART)
        for k in range(1, 9):
            array[part] = 100 * k + i
            assert (np.asarray(array[part]) == 100 * k + i).all()

    in_time(lambda: in_threads(THREADS, work), 60)
    expected = np.repeat(800 + np.arange(THREADS, dtype="<i4"), PART)
    assert_same(first[...], expected)


@pytest.mark.parametrize("geometry", GEOMETRY)
def test_parts_of_one_chunk_from_event_loops(native: None, geometry: str) -> None:
    """Locks are handed from loop to loop; each loop has several writers, too."""
    held: dict[str, Any] = {}
    array = zarr.create_array(
        store=MemoryStore(held), shape=(THREADS * PART,), dtype="<i4", **GEOMETRY[geometry]
    )
    array[...] = 0

    def work(i: int) -> None:
        async def main() -> None:
            store = ToldStore(held)
            store.hook = slow(0.0005)
            mine = await zarr.api.asynchronous.open_array(store=store, mode="r+")

            async def write(j: int) -> None:
                for k in range(1, 5):
                    start = i * PART + j * PART // 2
                    await mine.setitem(slice(start, start + PART // 2), 100 * k + i)

            async with asyncio.timeout(50):
                await asyncio.gather(write(0), write(1))

        asyncio.run(main())

    in_time(lambda: in_threads(THREADS, work), 60)
    assert_same(array[...], np.repeat(400 + np.arange(THREADS, dtype="<i4"), PART))


def test_overlapping_keys_in_other_orders(native: None) -> None:
    """Calls that want the same keys in another order do not wait for each other for ever."""
    held: dict[str, Any] = {}
    array, data = make(MemoryStore(held), 12)
    chunks = [list(range(12)), list(range(11, -1, -1)), [3, 7, 1, 9], [9, 1, 7, 3, 5, 11]]

    def work(i: int) -> None:
        store = ToldStore(held)
        store.hook = slow(0.0005)
        mine = zarr.open_array(store=store, mode="r+")
        order = chunks[i % 4]
        for _ in range(6):
            mine.oindex[[chunk * CHUNK + i for chunk in order]] = MARK

    with concurrency(3):
        in_time(lambda: in_threads(8, work), 60)
    for i in range(8):
        data[[chunk * CHUNK + i for chunk in chunks[i % 4]]] = MARK
    assert_same(array[...], data)


# ------------------------------------------------------------------------------- KeyLocks


def run(main: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Run a coroutine function in a loop of its own, in bounded time."""

    async def bounded() -> Any:
        async with asyncio.timeout(seconds):
            return await main()

    return in_time(lambda: asyncio.run(bounded()), seconds + 5)


def is_free(locks: KeyLocks, *names: str) -> bool:
    """Whether locks can be had at once, and nothing is kept of them."""

    async def main() -> bool:
        async with asyncio.timeout(2):
            async with locks.hold(names):
                pass
        return not locks._held

    return run(main)


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
        assert not locks._held


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
            task._log_destroy_pending = False  # that is the point
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
    emit([int(array[i]) for i in (0, 1, 3)])


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
                assert (array[5:CHUNK] == 1).all()
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


# ------------------------------------------------------------------------------- pickling


@pytest.mark.parametrize("name", ["memory", "logged", "fsspec", "obstore"])
def test_pickled_arrays(native: None, tmp_path: Path, name: str) -> None:
    """A copy reads, and where the bytes are shared it writes."""
    if name == "obstore":
        from obstore.store import LocalStore as Files
        from zarr.storage import ObjectStore

        store: Any = ObjectStore(Files(str(tmp_path)))
    else:
        makers = {"memory": one_memory, "logged": one_logged, "fsspec": one_fsspec}
        store = makers[name](tmp_path)[0]
    array, data = make(store, 4, GzipCodec(level=1))
    with zarr.config.set({"codec_pipeline.strict": True}):
        copy = pickle.loads(pickle.dumps(array))
    assert_same(copy[...], data)
    copy[7 : CHUNK + 7] = data[7 : CHUNK + 7] = MARK
    assert_same(copy[...], data)
    if name != "memory":
        assert_same(array[...], data)


# ------------------------------------------------------------------------------- TaskGroup


def test_requests_limit() -> None:
    async def main() -> None:
        running, peak, ended = 0, 0, 0
        left = iter(range(20))

        async def one(_: int) -> None:
            nonlocal running, peak, ended
            running += 1
            peak = max(peak, running)
            await asyncio.sleep(0.002)
            running -= 1
            ended += 1

        def go_on() -> None:
            while not requests.is_full and (i := next(left, None)) is not None:
                requests.begin(one(i))

        requests = TaskGroup(3, go_on)
        go_on()
        assert len(requests) == 3
        assert requests.is_full
        await forever(requests)
        assert (running, peak, ended) == (0, 3, 20)
        await requests.drain(cancel=True)

    run(main)


async def forever(requests: TaskGroup) -> None:
    """Wait until all have ended, as calls do."""
    while requests:
        await requests.news()


@pytest.mark.parametrize("cancel", [False, True])
def test_requests_after_an_error(cancel: bool) -> None:
    """The first error is raised, no other is begun, all have ended after `drain`."""

    async def main() -> None:
        ended: list[Any] = []
        begun = 0

        async def one(i: int) -> None:
            nonlocal begun
            begun += 1
            try:
                await asyncio.sleep(0.01 * (i + 1))
                if i in (1, 2):
                    raise ValueError(i)
                ended.append(i)
            except asyncio.CancelledError:
                await asyncio.sleep(0.01)  # takes its time
                ended.append("cancelled")
                raise

        requests = TaskGroup(10, lambda: None)
        for i in range(6):
            requests.begin(one(i))
        assert not requests.is_full
        with pytest.raises(ValueError, match="1"):
            await forever(requests)
        assert requests.is_full
        await requests.drain(cancel=cancel)
        assert len(requests) == 0
        assert begun == 6
        assert ended == [0, *(["cancelled"] * 4 if cancel else [3, 4, 5])]
        with pytest.raises(ValueError, match="1"):
            requests.check()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_a_cancelled_request_is_an_error() -> None:
    """A store that cancels its own request does not make the call wait for ever."""

    async def main() -> None:
        async def one() -> None:
            raise asyncio.CancelledError

        requests = TaskGroup(2, lambda: None)
        requests.begin(one())
        with pytest.raises(asyncio.CancelledError):
            await requests.news()
        await requests.drain(cancel=True)

    run(main)


def test_an_error_in_going_on_is_raised() -> None:
    """What cannot begin the next request must not make the call wait for ever."""

    async def main() -> None:
        def go_on() -> None:
            raise MemoryError("no memory for another")

        async def one() -> None:
            await asyncio.sleep(0.001)

        requests = TaskGroup(2, go_on)
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        requests.begin(one())
        with pytest.raises(MemoryError):
            async with asyncio.timeout(2):
                await requests.news()

    run(main)


@pytest.mark.parametrize("times", [2, 3])
def test_a_drain_that_is_cancelled(times: int) -> None:
    """It still waits: what is under way works with memory and locks of the caller's."""

    async def main() -> None:
        ended: list[int] = []

        async def one(i: int) -> None:
            await asyncio.sleep(0.05)
            ended.append(i)

        requests = TaskGroup(5, lambda: None)

        async def call() -> None:
            for i in range(3):
                requests.begin(one(i))
            try:
                await forever(requests)
            finally:
                await requests.drain(cancel=False)

        task = asyncio.create_task(call())
        for _ in range(times):
            await asyncio.sleep(0.005)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [0, 1, 2]

    run(main)
