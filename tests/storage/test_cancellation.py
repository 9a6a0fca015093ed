"""Reads and writes that an error, a cancellation or a signal ends."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
import zarr
from faulty_http import Request, ToldStore, in_time, slow, tasks_left
from helpers import assert_same, emit, run_child
from loops import CHUNK, MARK, Native, concurrency, make, ndbuffer, read_all, write_all
from zarr.codecs import GzipCodec

import zarrs


async def _nothing() -> None:
    """What a request that is not answered by a hook can go on with."""


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
        self.asked.append(Request(what, key, byte_range, len(self.asked), _nothing))
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

Act = Callable[[Any, np.ndarray], Coroutine[Any, Any, Any]]


async def merge_all(array: Any, out: np.ndarray) -> None:
    await array.setitem(slice(None, None, 2), out[::2])


ACTS: dict[str, Act] = {"read": read_all, "write": write_all, "merge": merge_all}
STAGES = ["at once", "first request", "tenth request", "native", "after a while"]


def told_slowly(kind: str, seconds: float) -> ToldStore:
    if kind == "async":
        return ToldStore()
    store = BlockingStore()
    store.seconds = seconds
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
        task = asyncio.create_task(work)
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
    started: list[asyncio.Task[Any]] = []

    async def main() -> None:
        started.append(asyncio.create_task(ACTS[act](array.async_array, out)))
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
