"""Forked children, workers of every start method, and data loaders: all read and write in full."""

import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from forks import LIMIT, allow_forks, forked
from helpers import (
    CHAIN,
    PIPELINE,
    ROOT,
    assert_same,
    child_environment,
    create,
    emit,
    make_data,
    ours_open,
    run_child,
)

from zarrs.filesystem._handles import clear_handles

SCRIPTS = ROOT / "scripts"
CHUNKS = (20, 30)
SHAPE = (320, 300)


# ---------------------------------------------------------------------------- forked children


def child_forks(path: str, busy: bool) -> None:
    """Read, fork, read in the children (and their parent); emit what became of each child."""
    allow_forks()
    zarr.config.set({"threading.max_workers": 2})
    array = ours_open(path)
    expected = np.asarray(array[...])
    array[:40] = expected[:40]
    stop = threading.Event()

    def keep_reading() -> None:
        while not stop.is_set():
            np.asarray(array[...])

    reader = threading.Thread(target=keep_reading)
    if busy:
        reader.start()
        time.sleep(0.05)
    for i in range(4):

        def work(rows: slice = slice(40 * i, 40 * i + 40)) -> None:
            zarr.config.set({"codec_pipeline.strict": True})
            opened = ours_open(path)
            for a in (array, opened, pickle.loads(pickle.dumps(array))):
                assert_same(a[...], expected)
                a[rows] = expected[rows]
                assert_same(a[7:300:3, 5], expected[7:300:3, 5])

        emit(forked(work))
        assert_same(array[...], expected)
    stop.set()
    if busy:
        reader.join()


@pytest.mark.parametrize("busy", [False, True])
def test_forked_children_read_and_write(tmp_path: Path, busy: bool) -> None:
    """After a read in the parent, and while another thread of the parent reads."""
    create(tmp_path, CHAIN["blosc-lz4-shuffle"], SHAPE, CHUNKS, "<f8")[...] = make_data(
        "<f8", SHAPE
    )
    result = run_child(child_forks, str(tmp_path), busy, timeout=110)
    assert result.check() == [0, 0, 0, 0], result.stderr


def child_unused(path: str) -> None:
    """Fork before anything was read, with the array opened or not; then read in the parent."""
    array = ours_open(path)
    for opened in (array, None):
        emit(forked(lambda opened=opened: read_and_write(opened or ours_open(path))))
    read_and_write(array)


def read_and_write(array: zarr.Array[Any]) -> None:
    assert_same(array[...], make_data("<f8", SHAPE))
    array[3:50] = make_data("<f8", SHAPE)[3:50]
    assert_same(array[...], make_data("<f8", SHAPE))


def test_forks_before_the_first_read(tmp_path: Path) -> None:
    create(tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<f8")[...] = make_data("<f8", SHAPE)
    assert run_child(child_unused, str(tmp_path)).check() == [0, 0]


def test_forks_at_random_moments() -> None:
    """The script does many more when it is run by hand."""
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPTS / "stress_forks"), "--forks", "100"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("100 forks and "), done.stdout
    assert done.stderr == ""


# -------------------------------------------------------------------- what children inherit


def child_descriptors(path: str, count: int) -> None:
    """Keep many files open; emit how many descriptors every generation has."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count + 150, count + 150))
    array = ours_open(path)

    def live(generation: int) -> None:
        for _ in range(2):
            assert_same(array[...], np.arange(1, count + 51, dtype="<i4"))
        emit(len(os.listdir("/proc/self/fd")))
        if generation < 3:
            assert forked(lambda: live(generation + 1)) == 0

    allow_forks()
    zarr.config.set({"codec_pipeline.file_handle_cache_size": count})
    array = ours_open(path)
    live(0)


def test_files_kept_open_are_taken_over(tmp_path: Path) -> None:
    """A child goes on with the open files of its parent: no generation needs more of them."""
    count = 300
    array = create(tmp_path, CHAIN["raw"], (count + 50,), (1,), "<i4")
    array[...] = np.arange(1, count + 51)
    found = run_child(child_descriptors, str(tmp_path), count).check()
    assert len(found) == 4
    assert found[0] >= count
    assert max(found) < count + 50  # event loops of the parents, and the like


def child_files_in_use(path: str) -> None:
    """Fork while other threads use files that are kept open; emit what children cannot close."""
    allow_forks()
    zarr.config.set({"codec_pipeline.file_handle_cache_size": 500})
    array = ours_open(path)
    expected = make_data("<f8", SHAPE)
    assert_same(array[...], expected)  # from here on all files are open
    stop = threading.Event()

    def keep_reading() -> None:
        while not stop.is_set():
            assert_same(array[...], expected)

    readers = [threading.Thread(target=keep_reading) for _ in range(2)]
    for reader in readers:
        reader.start()

    def open_files() -> int:
        links = (Path("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
        return sum(os.readlink(link).startswith(path) for link in links if link.exists())

    def work() -> None:
        assert open_files() == 160
        clear_handles()
        emit(open_files())
        assert_same(array[...], expected)
        assert open_files() == 160

    for _ in range(20):
        assert forked(work) == 0
    stop.set()
    for reader in readers:
        reader.join()


def test_files_that_other_threads_used_are_not_lost(tmp_path: Path) -> None:
    """What they had in hand at the time of the fork can be closed in the child like any other."""
    create(tmp_path, CHAIN["raw"], SHAPE, CHUNKS, "<f8")[...] = make_data("<f8", SHAPE)
    assert run_child(child_files_in_use, str(tmp_path)).check() == [0] * 20


def child_same_names(path: str) -> None:
    """Parent and children write one chunk, all with the same idea of a random name."""
    allow_forks()
    os.urandom = lambda n: bytes(n)
    array = ours_open(path)
    array[...] = 1
    ready = multiprocessing.get_context("fork").Barrier(4)

    def write(value: int) -> None:
        ready.wait(LIMIT)
        for _ in range(200):
            array[...] = value

    children: list[int] = []
    for value in (2, 3, 4):
        pid = os.fork()
        if pid == 0:
            try:
                write(value)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    write(5)
    emit([os.waitpid(pid, 0)[1] for pid in children])


def test_names_of_temporary_files_do_not_collide(tmp_path: Path) -> None:
    """Even if a child makes the names that its parent makes."""
    array = create(tmp_path, CHAIN["raw"], (4, 5000), (4, 5000), "<i4")
    assert run_child(child_same_names, str(tmp_path)).check() == [[0, 0, 0]]
    values = np.unique(np.asarray(array[...]))
    assert len(values) == 1
    assert values[0] in (2, 3, 4, 5)
    assert [p.name for p in tmp_path.rglob("*.partial")] == []


# ----------------------------------------------------------------------------- multiprocessing


def process_sum(array: zarr.Array[Any], rows: slice) -> float:
    """Read rows, write them back, and add them up."""
    values = np.asarray(array[rows])
    array[rows] = values
    return float(values.sum())


def child_processes(path: str, method: str) -> None:
    allow_forks()
    array = ours_open(path)
    whole = np.asarray(array[...])
    with multiprocessing.get_context(method).Pool(2) as pool:
        jobs = [(array, slice(i, i + 40)) for i in range(0, 320, 40)]
        sums = pool.starmap_async(process_sum, jobs).get(60)
    emit([sums, [float(whole[rows].sum()) for _, rows in jobs]])
    assert_same(array[...], whole)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes(tmp_path: Path, method: str) -> None:
    """Arrays travel to workers of every start method."""
    create(tmp_path, CHAIN["zstd"], (320, 30), CHUNKS, "<i4")[...] = make_data("<i4", (320, 30))
    environment = {"ZARR_CODEC_PIPELINE__PATH": PIPELINE}
    (line,) = run_child(child_processes, str(tmp_path), method, env=environment).check()
    assert line[0] == line[1]


# ----------------------------------------------------------------------------- a data loader


def load(array: zarr.Array[Any], asked: Any, batches: Any) -> None:
    """A worker: batches of rows, as they are asked for, until there is nothing to do."""
    while (rows := asked.get()) is not None:
        batches.put((rows, np.asarray(array.oindex[rows])))


def child_loader(path: str, epochs: int) -> None:
    """Epochs of shuffled batches from 4 workers that are forked for each; the parent reads, too."""
    allow_forks()
    context = multiprocessing.get_context("fork")
    array = ours_open(path)
    data = np.asarray(array[...])  # before there are workers ...
    stop = threading.Event()

    def keep_reading() -> None:  # ... and meanwhile
        while not stop.is_set():
            assert_same(array[:100], data[:100])

    reader = threading.Thread(target=keep_reading)
    reader.start()
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(len(data))
        asked, batches = context.Queue(), context.Queue()
        workers = [
            context.Process(target=load, args=(array, asked, batches), daemon=True)
            for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for k in range(0, len(order), 16):
            asked.put(np.sort(order[k : k + 16]).tolist())
        seen: list[int] = []
        while len(seen) < len(order):
            rows, batch = batches.get(timeout=LIMIT)
            assert_same(batch, data[rows])
            seen += rows
        for _ in workers:
            asked.put(None)
        for worker in workers:
            worker.join(LIMIT)
        emit([sorted(seen) == list(range(len(data))), [worker.exitcode for worker in workers]])
    stop.set()
    reader.join()


@pytest.mark.parametrize("shards", [None, (160, 300)], ids=["plain", "sharded"])
def test_loader(tmp_path: Path, shards: tuple[int, int] | None) -> None:
    """Every epoch sees every row once, and the right one."""
    kw = {} if shards is None else {"shards": shards}
    create(tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<f8", **kw)[...] = make_data("<f8", SHAPE)
    assert run_child(child_loader, str(tmp_path), 3).check() == [[True, [0, 0, 0, 0]]] * 3
