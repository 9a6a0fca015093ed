"""Codecs in Python with threads, event loops, forks, interruptions and the interpreter's end."""

import asyncio
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, emit, run_child, stock_read, stock_write
from hybrid import CHAIN, DATA, FEW, LITTLE, SELECTIONS, Hybrid, chains, start
from own_codecs import STYLES, Difference, DifferenceAsync, Hooked, HookedAsync, own
from shards import in_threads
from stores import Kind, Services, each_kind
from zarr.codecs import ShardingCodec, ZstdCodec
from zarr.storage import MemoryStore

pytestmark = [
    # zarr's own pipeline has something to say about codecs around shards
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
]

LIMIT = 20.0  # seconds in which what could hang has to end


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of a call that has to end, in a thread that is given up if it does not."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((True, work()))
        except BaseException as error:
            result.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, f"no end after {seconds} s"
    ok, value = result[0]
    if not ok:
        raise value
    return value


@chains(*FEW)
def test_threads(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Eight threads read one array."""
    data = start(chain)
    array = chain.create(tmp_path)
    array[...] = data

    def work(i: int) -> None:
        for k in range(3):
            selection = SELECTIONS[(i + k) % len(SELECTIONS)]
            assert_same(array[selection], data[selection])

    within(LIMIT, lambda: in_threads(8, work))


@pytest.mark.parametrize("style", STYLES)
def test_threads_that_write(native: None, style: str) -> None:
    """Eight threads write parts of the same chunks."""
    array = zarr.create_array(
        MemoryStore(), shape=(8, 40), chunks=(8, 8), dtype="i4", compressors=[own("xor", style)]
    )

    def work(i: int) -> None:
        array[i] = np.arange(40) + 100 * i

    within(LIMIT, lambda: in_threads(8, work))
    assert_same(array[...], (np.arange(40) + 100 * np.arange(8)[:, None]).astype("i4"))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_codecs_that_read(native: None, tmp_path: Path, style: str, sharded: bool) -> None:
    """A codec that reads another array with this pipeline, whose codec is in Python, too."""
    inner = zarr.create_array(
        tmp_path / "inner", shape=(4,), chunks=(1,), dtype="i4", compressors=[own("xor", style)]
    )
    inner[...] = [1, 2, 3, 4]
    how: dict[str, Any] = {"chunks": (4, 4), "shards": (16, 16)} if sharded else {"chunks": (8, 8)}
    array = zarr.create_array(
        tmp_path / "outer", shape=(32, 32), dtype="i4",
        compressors=[Difference(str(tmp_path / "inner")), ZstdCodec()], **how,
    )  # fmt: skip
    data = np.arange(1024, dtype="i4").reshape(32, 32)
    within(LIMIT, lambda: array.set_basic_selection(..., data))

    def work(i: int) -> None:
        assert_same(array[...], data)
        array[i, 2:30] = data[i, 2:30]

    within(LIMIT, lambda: in_threads(8, work))


def test_codecs_that_read_in_threads_of_the_loop(native: None, tmp_path: Path) -> None:
    """In the caller's loop; in zarr's they would wait for its threads, perhaps the only one."""
    zarr.create_array(tmp_path / "inner", shape=(4,), chunks=(1,), dtype="i4")[...] = 1
    array = zarr.create_array(
        tmp_path / "outer", shape=(64,), chunks=(8,), dtype="i4",
        compressors=[DifferenceAsync(str(tmp_path / "inner"))],
    )  # fmt: skip
    data = np.arange(64, dtype="i4")

    async def main() -> Any:
        await array._async_array.setitem(slice(None), data)
        return await array._async_array.getitem(slice(None))

    assert_same(within(LIMIT, lambda: asyncio.run(main())), data)


@each_kind("memory", "fsspec-memory", "async-only", "sync-spy", "local-own-all")
@pytest.mark.parametrize("where", ["plain", "shard", "around"])
@pytest.mark.parametrize("doing", ["encode", "decode"])
def test_nobody_waits_for_a_codec(
    native: None, tmp_path: Path, services: Services, kind: Kind, where: str, doing: str
) -> None:
    """While a codec blocks, other arrays are read and written, in the same event loop."""
    started, release = threading.Event(), threading.Event()
    blocking = False

    def hook(now: str, data: Any, spec: Any) -> Any:
        if blocking and now == doing:
            started.set()
            assert release.wait(LIMIT)
        return data

    Hooked.hooks["k"] = hook
    hows: dict[str, dict[str, Any]] = {
        "plain": {"chunks": (4, 4), "compressors": [Hooked("k")]},
        "shard": {"chunks": (2, 2), "shards": (4, 4), "compressors": [Hooked("k")]},
        "around": {
            "chunks": (4, 4),
            "serializer": ShardingCodec(chunk_shape=(2, 2), codecs=[LITTLE]),
            "compressors": [Hooked("k")],
        },
    }
    how = hows[where]
    array = zarr.create_array(kind.new(tmp_path / "a", services), shape=(8, 8), dtype="i4", **how)
    array[...] = DATA
    other = CHAIN["xor-async-zstd-crc32c"].create(kind.new(tmp_path / "b", services))
    data = start(CHAIN["xor-async-zstd-crc32c"])
    blocking = True
    act = (lambda: array[...]) if doing == "decode" else (lambda: array.__setitem__(..., DATA))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(act)
        try:
            assert started.wait(LIMIT)
            within(LIMIT, lambda: other.__setitem__(..., data))
            assert_same(within(LIMIT, lambda: other[...]), data)
            assert not call.done()
        finally:
            release.set()
            call.result(LIMIT)
    blocking = False
    assert_same(array[...], DATA)


def test_many_calls(native: None, tmp_path: Path) -> None:
    """A hundred calls at once, from one event loop."""
    array = CHAIN["xor-sleeping-zstd-crc32c"].create(tmp_path)
    array[...] = (data := start(CHAIN["xor-sleeping-zstd-crc32c"]))

    async def main() -> list[Any]:
        calls = [array._async_array.getitem((slice(i % 9, None), i % 10)) for i in range(100)]
        return await asyncio.gather(*calls)

    for i, found in enumerate(within(LIMIT, lambda: asyncio.run(main()))):
        assert_same(found, data[i % 9 :, i % 10])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_cancelled(native: None, tmp_path: Path, asynchronous: bool) -> None:
    """Who cancels a call waits for the codec at work, and for no other."""
    started = threading.Event()
    calls: list[str] = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            calls.append(now)
            started.set()
            time.sleep(0.1)
        return data

    async def later(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            calls.append(now)
            started.set()
            await asyncio.sleep(0.1)
        return data

    Hooked.hooks["k"], HookedAsync.hooks["k"] = hook, later
    codec: Any = (HookedAsync if asynchronous else Hooked)("k")
    array = zarr.create_array(tmp_path, shape=(400,), chunks=(4,), dtype="i4", compressors=[codec])
    array[...] = (data := np.arange(400, dtype="i4"))

    async def main() -> None:
        task = asyncio.ensure_future(array._async_array.getitem(slice(None)))
        await asyncio.to_thread(started.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(LIMIT, lambda: asyncio.run(main()))
    n = len(calls)
    assert n <= 2 * (os.cpu_count() or 1)
    time.sleep(0.15)
    assert len(calls) == n
    Hooked.hooks.clear()
    HookedAsync.hooks.clear()
    assert_same(array[...], data)


def _slow_array(path: str, asynchronous: bool) -> tuple[zarr.Array[Any], np.ndarray]:
    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            time.sleep(0.02)
        return data

    async def later(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            await asyncio.sleep(0.02)
        return data

    Hooked.hooks["k"], HookedAsync.hooks["k"] = hook, later
    codec: Any = (HookedAsync if asynchronous else Hooked)("k")
    array = zarr.create_array(
        path, shape=(64, 64), chunks=(4, 4), dtype="i4", compressors=[codec, ZstdCodec()]
    )
    array[...] = (data := np.arange(64 * 64, dtype="i4").reshape(64, 64))
    return array, data


def child_interrupted(path: str, asynchronous: bool) -> None:
    """Interrupt a read, then read again."""
    array, data = _slow_array(path, asynchronous)
    for _ in range(2):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        try:
            array[...]
            emit("not interrupted")
        except KeyboardInterrupt:
            emit("interrupted")
    Hooked.hooks.clear()
    HookedAsync.hooks.clear()
    emit(bool((np.asarray(array[...]) == data).all()))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_interrupted(tmp_path: Path, asynchronous: bool) -> None:
    said = run_child(child_interrupted, str(tmp_path), asynchronous, timeout=60).check()
    assert said == ["interrupted", "interrupted", True]


def child_that_ends(path: str, asynchronous: bool, own_loop: bool) -> None:
    """End while other threads read."""
    array, _ = _slow_array(path, asynchronous)

    async def read() -> None:
        await array._async_array.getitem(slice(None))

    def work() -> None:
        while True:
            if own_loop:
                asyncio.run(read())
            else:
                array[...]

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)
    emit("the end")


@pytest.mark.parametrize("own_loop", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_exit(tmp_path: Path, asynchronous: bool, own_loop: bool) -> None:
    """The interpreter ends while codecs are at work, without a crash."""
    child = run_child(child_that_ends, str(tmp_path), asynchronous, own_loop, timeout=60)
    assert child.check() == ["the end"]


def child_that_forks(path: str) -> None:
    """Fork after a read, and read on both sides."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
    for style in ("sync", "sleeping", "threaded"):
        chain = CHAIN[f"xor-{style}-zstd-crc32c"]
        array = chain.create(Path(path) / style)
        array[...] = (data := start(chain))
        array[...]
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            array[2:5] = 1
            fine = bool((np.asarray(array[5:]) == data[5:]).all()) and bool(
                (np.asarray(array[2:5]) == 1).all()
            )
            os._exit(0 if fine else 1)
        emit(os.waitpid(child, 0)[1])
        emit(bool((np.asarray(array[5:]) == data[5:]).all()))


def test_fork(tmp_path: Path) -> None:
    assert run_child(child_that_forks, str(tmp_path), timeout=90).check() == [0, True] * 3


def test_no_thread_is_left(native: None, tmp_path: Path) -> None:
    """Threads of hybrid calls end with them."""
    array = CHAIN["many"].create(tmp_path)
    for i in range(3):
        array[...] = i
        array[...]
    until = time.monotonic() + 5
    while time.monotonic() < until:
        left = [thread for thread in threading.enumerate() if thread.name == "zarrs-alone"]
        if not left:
            break
        time.sleep(0.01)
    assert not left


def test_other_writers(native: None, tmp_path: Path) -> None:
    """What zarr has changed since an array was opened is seen."""
    chain = CHAIN["shards-of-text-xor"]
    array = chain.create(tmp_path)
    array[...] = start(chain)
    stock_write(tmp_path, (slice(1, 9), slice(2, 5)), 4)
    assert_same(array[...], stock_read(tmp_path))
