"""Requests and native code at the same time: how much overlaps, and within which bounds."""

import asyncio
import time
from typing import Any

import numpy as np
import pytest
import zarr
from faulty_http import Request, ToldStore, in_time
from helpers import assert_same
from loops import CHUNK, MARK, Native, concurrency, make, read_all, write_all
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec
from zarr.storage import MemoryStore

from zarrs.storage import _store_reads, _store_writes

NBYTES = 4 * CHUNK


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
    rows: Any = list(range(0, 64, 6))  # too far apart for one range
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
