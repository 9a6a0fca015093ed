"""Many threads, event loops and OpenMP's own teams call at the same time; signals; and the end."""

import asyncio
import atexit
import ctypes
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import CHAIN, assert_same, create, emit, make_data, ours_open, run_child
from native_library import compile_library, preloaded
from zarr.core.sync import _get_loop
from zarr.storage import LoggingStore, MemoryStore

from zarrs import _planner
from zarrs.runtime._openmp import OVERRIDES, may_spin

SHAPE = (320, 300)
CHUNKS = (20, 30)
DATA = make_data("<f8", SHAPE)


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run ``work(i)`` in so many threads at the same time; raise what one of them raised."""
    gate = threading.Barrier(count)

    def run(i: int) -> None:
        gate.wait(30)
        work(i)

    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(run, i) for i in range(count)]:
            done.result(60)


# ------------------------------------------------------------------------------- many threads


def native_threads() -> int:
    """Threads of this process that Python does not know."""
    return len(os.listdir("/proc/self/task")) - threading.active_count()


def child_threads(paths: list[str], callers: int, workers: int, rounds: int, waiting: int) -> None:
    """Read and write from many Python threads; emit how many native threads that took."""
    _planner.MAX_WAITING, _planner.PATIENCE = waiting, -1
    zarr.config.set({"threading.max_workers": workers})
    arrays = [ours_open(path) for path in paths]
    before, most = native_threads(), 0
    errors: list[BaseException] = []
    working, leave = list(range(callers)), threading.Event()
    n = SHAPE[0] // callers

    def call(i: int) -> None:
        mine = arrays[i % len(arrays)]
        rows = slice(i * n, i * n + n)  # of chunks that others write to
        try:
            for k in range(rounds):
                mine[rows] = DATA[rows] + k
                assert_same(np.asarray(mine[...])[rows], DATA[rows] + k)
            mine[rows] = DATA[rows]
        except BaseException as error:
            errors.append(error)
        working.remove(i)
        leave.wait()  # a thread that ends is gone for Python before it is for the system

    threads = [threading.Thread(target=call, args=(i,)) for i in range(callers)]
    for thread in threads:
        thread.start()
    while working:
        most = max(most, native_threads())
        time.sleep(0.0005)
    idle = native_threads()
    leave.set()
    for thread in threads:
        thread.join()
    for k, array in enumerate(arrays):
        expected = np.zeros(SHAPE)
        for i in range(k, callers, len(arrays)):
            expected[i * n : i * n + n] = DATA[i * n : i * n + n]
        assert_same(array[...], expected)
    ours = sum(thread.name.startswith("zarrs") for thread in threading.enumerate())
    emit(
        {
            "most": most - before,
            "idle": idle - before,
            "ours": ours,
            "errors": [repr(e) for e in errors],
        }
    )


@pytest.mark.parametrize("waiting", [0, 8])
@pytest.mark.parametrize(
    ("callers", "arrays", "workers"),
    [(1, 1, 2), (16, 1, 2), (16, 1, 1), (16, 1, 64), (64, 1, 64), (64, 16, 64), (64, 64, 64)],
)
def test_threads_are_bounded(
    tmp_path: Path, callers: int, arrays: int, workers: int, waiting: int
) -> None:
    """Native threads follow max_workers and the CPUs, not the number of callers.

    Nor do those that wait for files, of which there are at most eight more in a process.
    """
    paths = [str(tmp_path / str(k)) for k in range(arrays)]
    for path in paths:
        create(path, CHAIN["blosc-lz4-shuffle"], SHAPE, CHUNKS, "<f8")
    rounds = 6 if callers < 64 else 2
    (found,) = run_child(child_threads, paths, callers, workers, rounds, waiting).check()
    assert found["errors"] == []
    cpus = len(os.sched_getaffinity(0))
    assert found["most"] <= 2 * min(workers, cpus) + waiting
    assert found["idle"] <= min(workers, cpus)  # the team that is kept
    assert found["ours"] <= cpus


def child_affinity(path: str) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = native_threads()
    array = ours_open(path)
    for _ in range(5):
        np.asarray(array[...])
    emit(native_threads() - before)


def test_affinity_is_obeyed(tmp_path: Path) -> None:
    """On one CPU there is nothing to gain from a second native thread."""
    create(tmp_path, CHAIN["zstd"], (320, 300), (20, 30), "<f8")[...] = 1.5
    (extra,) = run_child(child_affinity, str(tmp_path)).check()
    assert extra <= 1


# ----------------------------------------------------------------------- callers in OpenMP's teams


@pytest.fixture(scope="module")
def openmp_callers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library whose teams call."""
    return compile_library("openmp_callers", tmp_path_factory.mktemp("native"), "-fopenmp")


def child_openmp(library: str, path: str, callers: int) -> None:
    """Read and write in each thread of a team; emit whether OpenMP was there before zarrs."""
    assert SHAPE[0] % callers == 0
    emit(may_spin)
    native = ctypes.CDLL(library)
    array = ours_open(path)
    errors: list[BaseException] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_int)  # type: ignore[untyped-decorator]
    def call(i: int) -> None:
        n = SHAPE[0] // callers
        rows = slice(i * n, i * n + n)
        try:
            for k in range(3):
                array[rows] = DATA[rows] + k
                assert_same(np.asarray(array[...])[rows], DATA[rows] + k)
                # in the calling thread, on a loop of its own
                assert_same(asyncio.run(array.async_array.getitem(rows)), DATA[rows] + k)
        except BaseException as error:
            errors.append(error)

    for _ in range(3):
        emit(native.call_from_team(callers, call))
    assert errors == []
    assert_same(array[...], DATA + 2)


@pytest.mark.parametrize("loaded", ["before", "after"])
def test_callers_in_openmp_teams(tmp_path: Path, openmp_callers: str, loaded: str) -> None:
    """GNU OpenMP is there before zarrs is imported, with teams that spin, or comes later."""
    create(tmp_path, CHAIN["blosc-lz4-shuffle"], SHAPE, CHUNKS, "<f8")
    environment = preloaded(openmp_callers) if loaded == "before" else {}
    prefix = ["env", *(f"--unset={name}" for name in OVERRIDES)]
    arguments = openmp_callers, str(tmp_path), 4
    result = run_child(child_openmp, *arguments, prefix=prefix, env=environment)
    assert result.check() == [loaded == "before", 4, 4, 4]


# --------------------------------------------------------------------------------- event loops

STORES: dict[str, Callable[[Path], Any]] = {
    "local": lambda path: str(path),
    "memory": lambda path: MemoryStore(),
    "wrapped": lambda path: LoggingStore(zarr.storage.LocalStore(path), log_level="ERROR"),
}
each_store = pytest.mark.parametrize("kind", STORES)


@pytest.fixture
def array(native: None, tmp_path: Path, kind: str) -> zarr.Array[Any]:
    made = create(STORES[kind](tmp_path), CHAIN["zstd"], SHAPE, CHUNKS, "<f8")
    made[...] = DATA
    return made


async def many(array: zarr.Array[Any], rows: range) -> None:
    """Reads and writes of one loop, at the same time."""

    async def one(i: int) -> None:
        part = slice(i, i + 5)
        await array.async_array.setitem(part, DATA[part])
        assert_same(await array.async_array.getitem(part), DATA[part])
        assert_same(await array.async_array.getitem(slice(None)), DATA)

    async with asyncio.timeout(200):
        await asyncio.gather(*(one(i) for i in rows))


@each_store
def test_zarrs_own_loop(array: zarr.Array[Any]) -> None:
    """Coroutines on the loop that zarr's synchronous functions wait for, and these meanwhile."""
    calls = [asyncio.run_coroutine_threadsafe(many(array, range(0, 160, 5)), _get_loop())]
    in_threads(4, lambda i: assert_same(array[...], DATA))
    for call in calls:
        call.result(240)


@each_store
def test_many_loops(array: zarr.Array[Any]) -> None:
    """Each in a thread of its own."""
    in_threads(8, lambda i: asyncio.run(many(array, range(i * 40, i * 40 + 40, 10))))


@each_store
def test_saturated_pools(array: zarr.Array[Any]) -> None:
    """Threads that wait for reads are all that a loop's executor has."""

    async def main() -> None:
        with ThreadPoolExecutor(2) as pool:
            asyncio.get_running_loop().set_default_executor(pool)
            waiting = [asyncio.to_thread(lambda: assert_same(array[...], DATA)) for _ in range(12)]
            await asyncio.gather(*waiting, many(array, range(0, 40, 10)))

    asyncio.run(asyncio.wait_for(main(), 240))


# ------------------------------------------------------------------------- writers of one shard

ROUNDS = 60
PAIR = 2 * 64


def shared_shard(kind: str, path: Path) -> zarr.Array[Any]:
    array = zarr.create_array(
        STORES[kind](path), shape=(PAIR,), chunks=(8,), shards=(PAIR,), dtype="<i4"
    )
    array[...] = 0
    return array


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_two_threads_write_one_shard(native: None, tmp_path: Path, kind: str) -> None:
    """Every inner chunk is what its writer wrote last, every time."""
    array = shared_shard(kind, tmp_path)
    gate = threading.Barrier(2)

    def write(i: int) -> None:
        for k in range(1, ROUNDS):
            gate.wait(30)
            for start in range(8 * i, PAIR, 16):
                array[start : start + 8] = 2 * k + i
            gate.wait(30)
            expected = np.repeat(np.tile([2 * k, 2 * k + 1], PAIR // 16), 8)
            assert_same(array[...], expected.astype("<i4"))

    in_threads(2, write)


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_two_tasks_write_one_shard(native: None, tmp_path: Path, kind: str) -> None:
    array = shared_shard(kind, tmp_path).async_array

    async def write(k: int, i: int) -> None:
        for start in range(8 * i, PAIR, 16):
            await array.setitem(slice(start, start + 8), 2 * k + i)

    async def main() -> None:
        for k in range(1, ROUNDS):
            await asyncio.gather(write(k, 0), write(k, 1))
            expected = np.repeat(np.tile([2 * k, 2 * k + 1], PAIR // 16), 8)
            assert_same(await array.getitem(slice(None)), expected.astype("<i4"))

    asyncio.run(asyncio.wait_for(main(), 240))


# ------------------------------------------------------------------------------------- the end


def child_end(path: str, how: str) -> None:
    """End while daemon threads read and write, or read when everything else has ended."""
    array = ours_open(path)
    expected = float(np.asarray(array[...]).sum())

    def work() -> None:
        while True:  # calls too big to run on the event loop
            array[...] = array[...]

    if how == "atexit":
        atexit.register(lambda: emit(float(np.asarray(array[...]).sum()) == expected))
        return
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(random.random() * 0.3)
    emit("ends")
    if how == "sys.exit":
        sys.exit(0)


@pytest.mark.parametrize("how", ["return", "sys.exit", "atexit"])
@pytest.mark.parametrize("name", ["zstd", "raw"])
def test_end_of_the_interpreter(tmp_path: Path, name: str, how: str) -> None:
    """No hang, nothing that we say, and chunks are whole.

    Threads that go on while zarr's event loop is being closed can make zarr complain.
    """
    create(tmp_path, CHAIN[name], (400, 300), (40, 60), "<f8")[...] = 3
    result = run_child(child_end, str(tmp_path), how, timeout=30)
    assert result.check() == [True if how == "atexit" else "ends"], result.stderr
    assert how != "atexit" or result.stderr == ""
    assert re.search(r"zarrs/\w+\.py|Fatal", result.stderr) is None, result.stderr
    assert (np.asarray(ours_open(tmp_path)[...]) == 3).all()


# -------------------------------------------------------------------------------------- signals


def blocks(array: zarr.Array[Any]) -> np.ndarray:
    """The value of each chunk of (40, 60), which must be the same all over."""
    values = np.asarray(array[...]).reshape(20, 40, 10, 60)
    assert (values == values[:, :1, :, :1]).all()
    return values[:, 0, :, 0]


def child_interrupted(path: str, act: str) -> None:
    """SIGINT during calls, at many moments."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    array = ours_open(path)
    chance = random.Random(0)
    interrupted = 0
    for k in range(1, 16):
        timer = threading.Timer(chance.random() * 0.02, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                if act == "write":
                    array[...] = k
                else:
                    np.asarray(array[...])
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        assert set(np.unique(blocks(array))) <= {k - 1, k}
        array[...] = k  # after what goes on in the background
        assert (blocks(array) == k).all()
    emit(interrupted)


@pytest.mark.parametrize("act", ["read", "write"])
def test_interrupted_calls(tmp_path: Path, act: str) -> None:
    """The process goes on; each chunk is the old or the new one."""
    create(tmp_path, CHAIN["zstd"], (800, 600), (40, 60), "<f8")[...] = 0
    assert run_child(child_interrupted, str(tmp_path), act).check() == [15]


def child_storm(path: str) -> None:
    """Read and write while a timer's signals, which Python code handles, come all the time."""
    array = ours_open(path)
    seen = 0

    # It must not read: the call that it interrupts may hold the lock of the future that zarr's
    # event loop is about to set, and then the loop never comes to the handler's own call.
    def handle(*_: object) -> None:
        nonlocal seen
        seen += 1

    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for k in range(1, 15):
        array[...] = k
        array[5:700, 3:] = k + 0.5
        expected = np.full((800, 600), float(k))
        expected[5:700, 3:] = k + 0.5
        assert_same(array[...], expected)
    signal.setitimer(signal.ITIMER_REAL, 0)
    emit(seen)


@pytest.mark.parametrize("name", ["raw", "zstd"])
def test_a_storm_of_signals(tmp_path: Path, name: str) -> None:
    """System calls that are interrupted are taken up again."""
    create(tmp_path, CHAIN[name], (800, 600), (40, 60), "<f8")[...] = 0
    (seen,) = run_child(child_storm, str(tmp_path)).check()
    assert seen > 50
