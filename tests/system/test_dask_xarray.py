"""Under dask, distributed and xarray: many threads, other processes, and other readers."""

import functools
import itertools
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import psutil
import pytest
import xarray as xr
import zarr
from helpers import (
    CHAIN,
    PIPELINE,
    STOCK,
    Chain,
    assert_same,
    create,
    emit,
    make_data,
    ours_open,
    run_child,
    stock,
    stock_read,
)
from zarr.codecs import BloscCodec, BytesCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore

import zarrs
from zarrs.runtime._cpus import available_cpus

# pytest gives this module a name under which worker processes, which have the same path, do not
# find it, nor the functions that are sent to them. With this name and its folder they do.
sys.modules["test_dask_xarray"] = sys.modules[__name__]
__name__ = "test_dask_xarray"
sys.path.insert(0, str(Path(__file__).parent))

SHAPE = (96, 64)
CHUNKS = (24, 16)
SHARDS = (48, 32)
MISALIGNED = (17, 23)  # shares no border with chunks or shards but those of the array
LIMIT = 60  # seconds that nothing here takes unless it hangs

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"chain": CHAIN["blosc-lz4-shuffle"]},
    "sharded": {"chain": CHAIN["zstd"], "shards": SHARDS},
    "v2": {"chain": CHAIN["v2-zlib-F"]},
}
STORES: dict[str, Callable[[Path], Any]] = {
    "local": lambda path: LocalStore(path),
    "memory": lambda path: MemoryStore(),
    "fsspec": lambda path: FsspecStore.from_url(
        f"file://{path}", storage_options={"auto_mkdir": True}
    ),
    "logging": lambda path: LoggingStore(LocalStore(path), log_level="ERROR"),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_store = pytest.mark.parametrize("kind", STORES)


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """What hangs in this process fails, where Python lets us interrupt it."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"no end after {2 * LIMIT} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(2 * LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def strict(native: None) -> None:
    """Nothing here may fall back to zarr's own pipeline, unless a test says so."""


def new_array(store: Any, layout: str, **kw: Any) -> zarr.Array:
    """An array of the usual shape that holds nothing yet."""
    arguments = {"dtype": "<f8"} | LAYOUTS[layout] | kw
    chain: Chain = arguments.pop("chain")
    return create(store, chain, SHAPE, CHUNKS, arguments.pop("dtype"), **arguments)


def write_chunks(array: zarr.Array) -> tuple[int, ...]:
    """What one writer should have for himself."""
    return array.shards or array.chunks


def describe(array: zarr.Array) -> dict[str, Any]:
    """What an array is where this runs."""
    pipeline: Any = array._async_array.codec_pipeline
    options = getattr(pipeline, "options", None)
    return {
        "pid": os.getpid(),
        "ours": type(pipeline) is zarrs.ZarrsCodecPipeline,
        "strict": getattr(options, "strict", None),
        "max_workers": getattr(options, "max_workers", None),
        "cpus": available_cpus(),
        "path": zarr.config.get("codec_pipeline.path"),
    }


def describe_opened(path: str) -> dict[str, Any]:
    """As `describe`, of an array that is opened here."""
    return describe(zarr.open_array(path))


# ----------------------------------------------------------------------- the threaded scheduler


@every_layout
@every_store
def test_threads_read(tmp_path: Path, kind: str, layout: str) -> None:
    """Blocks as the chunks are, blocks across them, and selections of both."""
    array = new_array(STORES[kind](tmp_path), layout)
    array[...] = data = make_data("<f8", SHAPE)
    with dask.config.set(scheduler="threads", num_workers=8):
        for chunks in (None, CHUNKS, MISALIGNED, (1, 64)):
            lazy = da.from_zarr(array, chunks=chunks)
            assert_same(lazy.compute(), data, str(chunks))
            assert_same(lazy[5:90:3, ::-1].compute(), data[5:90:3, ::-1], str(chunks))
            assert_same(lazy[[70, 3, 3, 41]].compute(), data[[70, 3, 3, 41]], str(chunks))
            assert int(da.isnan(lazy).sum().compute()) == np.isnan(data).sum()


@every_layout
@every_store
def test_threads_write_aligned(tmp_path: Path, kind: str, layout: str) -> None:
    """`to_zarr` into an array that is there; dask gives every chunk one writer."""
    array = new_array(STORES[kind](tmp_path), layout)
    data = make_data("<f8", SHAPE)
    # dask merges blocks up to this size; so there is more than one task
    with dask.config.set({"scheduler": "threads", "num_workers": 8, "array.chunk-size": "16KiB"}):
        da.to_zarr(da.from_array(data, chunks=write_chunks(array)), array)
    assert_same(array[...], data)
    with stock():
        assert_same(zarr.open_array(array.store)[...], data)


@every_layout
@every_store
def test_threads_write_misaligned(tmp_path: Path, kind: str, layout: str) -> None:
    """Blocks without a lock of dask's that share chunks: no writer undoes another's work."""
    array = new_array(STORES[kind](tmp_path), layout)
    with dask.config.set(scheduler="threads", num_workers=16):
        for round_ in range(5):
            data = make_data("<f8", SHAPE, seed=round_)
            da.store(da.from_array(data, chunks=MISALIGNED), array, lock=False)
            assert_same(array[...], data, f"round {round_}")
    with stock():
        assert_same(zarr.open_array(array.store)[...], data)


@every_store
def test_threads_write_through_arrays_of_their_own(tmp_path: Path, kind: str) -> None:
    """The chunks are what is locked, not the `zarr.Array` that somebody came through."""
    store = STORES[kind](tmp_path)
    array = new_array(store, "sharded")
    data = make_data("<f8", SHAPE)

    def write(rows: slice) -> None:
        zarr.open_array(store, mode="r+")[rows] = data[rows]

    tasks = [dask.delayed(write)(slice(i, i + 5)) for i in range(0, SHAPE[0], 5)]
    dask.compute(*tasks, scheduler="threads", num_workers=16)
    assert_same(array[...], data)


@pytest.mark.parametrize("lock", [True, False])
@every_layout
def test_threads_write_regions(tmp_path: Path, layout: str, lock: bool) -> None:
    """Two sources into two regions of one array in one go; the rest stays."""
    array = new_array(tmp_path, layout)
    array[...] = expected = make_data("<f8", SHAPE)
    top, bottom = make_data("<f8", (30, 40), 1), make_data("<f8", (51, 64), 2)
    regions = [(slice(3, 33), slice(11, 51)), (slice(40, 91), slice(None))]
    sources = [da.from_array(top, chunks=(7, 9)), da.from_array(bottom, chunks=(10, 64))]
    with dask.config.set(scheduler="threads", num_workers=8):
        da.store(sources, [array, array], regions=regions, lock=lock)
    for region, source in zip(regions, (top, bottom), strict=True):
        expected[region] = source
    assert_same(array[...], expected)
    assert_same(stock_read(tmp_path), expected)


def test_threads_write_new_arrays(tmp_path: Path) -> None:
    """`to_zarr` makes the array itself; `from_zarr` finds it by its path."""
    data = make_data("<i4", SHAPE)
    with dask.config.set(scheduler="threads", num_workers=4):
        da.from_array(data, chunks=CHUNKS).to_zarr(str(tmp_path / "a"))
        da.from_array(data[::-1], chunks=(32, 32)).to_zarr(str(tmp_path / "g"), component="x/y")
        assert_same(da.from_zarr(str(tmp_path / "a")).compute(), data)
        assert_same(da.from_zarr(str(tmp_path / "g"), component="x/y").compute(), data[::-1])
    assert_same(stock_read(tmp_path / "a"), data)
    assert_same(stock_read(tmp_path / "g" / "x" / "y"), data[::-1])


def test_copy_from_array_to_array(tmp_path: Path) -> None:
    """Tasks that read and write; source and target differ in everything."""
    source = new_array(tmp_path / "a", "v2")
    source[...] = data = make_data("<f8", SHAPE)
    target = new_array(tmp_path / "b", "sharded", dtype=">f4")
    with dask.config.set(scheduler="threads", num_workers=16):
        da.store((da.from_zarr(source).astype("f4") * 2).T[::-1].T, target, lock=False)
    assert_same(stock_read(tmp_path / "b"), (data.astype("f4") * 2)[:, ::-1])


def test_errors_pass_through_dask(tmp_path: Path) -> None:
    """A damaged chunk is the same error from a task as without dask."""
    array = new_array(tmp_path, "sharded")
    array[...] = 1.0
    (tmp_path / "c" / "1" / "0").write_bytes(b"nothing of use")
    lazy = da.from_zarr(array)
    with dask.config.set(scheduler="threads", num_workers=4):
        with pytest.raises(zarrs.ChunkError, match="c/1/0"):
            lazy.compute()
        assert float(lazy[:48].sum().compute()) == 48 * 64


def test_same_array_same_name(tmp_path: Path) -> None:
    """dask names a graph after what it reads; reading in between is no reason for another name."""
    first = new_array(tmp_path, "plain")
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        name = da.from_zarr(first).name
        first[...]
        assert da.from_zarr(first).name == name
        assert da.from_zarr(ours_open(tmp_path)).name == name
        assert da.from_zarr(pickle.loads(pickle.dumps(first))).name == name


# ------------------------------------------------------------------- many threads, and none waits


def child_crowd(path: str, other: str, threads: int) -> None:
    """32 tasks at a time, each of which reads another array too, and computes with dask."""
    array, small = ours_open(path), ours_open(other)
    data, numbers = np.asarray(stock_read(path)), np.asarray(stock_read(other))

    def nested(block: np.ndarray, block_info: Any = None) -> np.ndarray:
        rows = slice(*block_info[0]["array-location"][0])
        again = ours_open(path)[rows]  # opening goes through zarr's event loop
        assert_same(again, block)
        inner = da.from_zarr(small).sum().compute(scheduler="threads")
        assert int(inner) == int(numbers.sum())
        return block + np.asarray(small[:1, 0])

    with dask.config.set(scheduler="threads", num_workers=threads):
        for _ in range(2):
            blocks = da.from_zarr(array, chunks=(3, 64))
            assert_same(blocks.compute(), data)
            assert_same(blocks.map_blocks(nested, dtype="<f8").compute(), data + numbers[0, 0])
    emit("done")


@pytest.mark.parametrize("layout", ["plain", "sharded"])
def test_32_threads_and_nested_reads(tmp_path: Path, layout: str) -> None:
    """Tasks that read while they are fed what others read: nobody waits for ever."""
    new_array(tmp_path / "a", layout)[...] = np.round(
        np.random.default_rng(0).normal(0, 9, SHAPE), 1
    )
    other = create(tmp_path / "b", CHAIN["gzip"], (40, 40), (10, 10), "<i4")
    other[...] = make_data("<i4", (40, 40)) // 1000
    result = run_child(
        child_crowd, str(tmp_path / "a"), str(tmp_path / "b"), 32, timeout=LIMIT, env=STRICT
    )
    assert result.check() == ["done"]


# ------------------------------------------------------------------------------ native threads


def threads_of_ours() -> int:
    """Threads that Python does not know, and those of it that bear our name."""
    system = psutil.Process().num_threads()  # first, so that one that starts now is not native
    python = threading.enumerate()
    return system - len(python) + sum(t.name.startswith("zarrs") for t in python)


def most_threads(array: zarr.Array, callers: int) -> dict[str, Any]:
    """Read an array from many threads of dask's and see how many of ours that takes."""
    before = threads_of_ours()
    samples: list[int] = []
    lazy = da.from_zarr(array, chunks=(240, 600))
    # A thread that ends is gone for Python before it is for the system, so none may end.
    with ThreadPoolExecutor(callers) as crowd, ThreadPoolExecutor(1) as conductor:
        read = functools.partial(lazy.compute, scheduler="threads", pool=crowd)
        total = conductor.submit(lambda: [float(read().sum()) for _ in range(8)])
        while not total.done():
            samples.append(threads_of_ours())
            time.sleep(0.0005)
        sums = total.result()
        idle = threads_of_ours()
    # Threads that have been told to end need the processor once more for it, which takes time
    # on a busy machine: what counts is how many there are for 10 samples, 5 ms or more.
    runs = [samples[i : i + 10] for i in range(max(1, len(samples) - 9))]
    return {
        "before": before,
        "most": max(min(run) for run in runs),
        "peak": max(samples),
        "idle": idle,
        "cpus": available_cpus(),
        "sums": sums,
        "pid": os.getpid(),
    }


def check_threads(found: dict[str, Any], array: zarr.Array) -> None:
    """What `zarrs.runtime._threads` promises."""
    assert found["sums"] == [float(np.asarray(array[...]).sum())] * 8
    bound = 2 * found["cpus"]
    # From 0: in a worker there may be some from before.
    assert 1 <= found["most"] <= found["before"] + bound, found
    assert found["idle"] - found["before"] <= bound, found


def child_native_threads(path: str, callers: int, workers: int | None, cpus: int | None) -> None:
    if cpus is not None:
        os.sched_getaffinity = lambda _: set(range(cpus))
    zarr.config.set({"threading.max_workers": workers})
    emit(most_threads(ours_open(path), callers))


@pytest.fixture
def many_chunks(tmp_path: Path) -> zarr.Array:
    """Chunks enough that a call has use for every thread there is."""
    array = create(tmp_path / "many", CHAIN["zstd"], (1920, 600), (20, 30), "<f8",
                   shards=(480, 600))  # fmt: skip
    array[...] = np.arange(1152000.0).reshape(1920, 600)
    return array


@pytest.mark.parametrize(
    ("callers", "workers", "cpus"),
    [
        pytest.param(16, None, None, id="these CPUs"),
        pytest.param(16, 1, None, id="one worker"),
        # The arithmetic of more CPUs than there may be here.
        pytest.param(16, None, 8, id="8 CPUs"),
        pytest.param(2, None, 8, id="8 CPUs, few callers"),
    ],
)
def test_native_threads_are_bounded(
    many_chunks: zarr.Array, callers: int, workers: int | None, cpus: int | None
) -> None:
    """They follow the CPUs, not dask's threads."""
    arguments = (str(many_chunks.store.root), callers, workers, cpus)
    (found,) = run_child(child_native_threads, *arguments, timeout=LIMIT).check()
    check_threads(found, many_chunks)


# ----------------------------------------------------------------------- the processes scheduler

STRICT = {"ZARR_CODEC_PIPELINE__STRICT": "True"}
SWITCHED_ON = STRICT | {"ZARR_CODEC_PIPELINE__PATH": PIPELINE}


def child_scheduler(path: str, target: str, sharded: str, method: str) -> None:
    """Read with one scheduler of processes, write with it; emit what the workers had."""
    warnings.filterwarnings(
        "ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning
    )
    array, out, shards = ours_open(path), ours_open(target), ours_open(sharded)
    data = np.asarray(array[...])  # so that there are threads, and OpenMP's, before the fork
    with dask.config.set(
        {"scheduler": "processes", "num_workers": 2, "multiprocessing.context": method}
    ):
        # Every compute starts its own workers.
        *seen, read = dask.compute(
            dask.delayed(describe)(array),
            dask.delayed(describe)(shards),
            dask.delayed(describe_opened)(path),
            da.from_zarr(array, chunks=MISALIGNED),
        )
        assert_same(read, data)
        with dask.config.set({"array.chunk-size": "16KiB"}):
            lazy = da.from_zarr(array)
            dask.compute(
                da.to_zarr(lazy * 2, out, compute=False),
                da.to_zarr(lazy[::-1] * 2, shards, compute=False),
            )
    assert_same(stock_read(target), data * 2)
    assert_same(stock_read(sharded), data[::-1] * 2)
    assert_same(np.asarray(shards[...]), data[::-1] * 2)  # and the parent goes on
    for one in seen:
        assert one.pop("pid") != os.getpid()
    emit(seen)


@pytest.mark.parametrize(
    ("method", "everywhere"),
    [("spawn", False), ("spawn", True), ("fork", False), ("forkserver", True)],
)
def test_processes(tmp_path: Path, method: str, everywhere: bool) -> None:
    """Arrays bring their pipeline along; the environment switches it on for those opened there."""
    new_array(tmp_path / "a", "plain")[...] = make_data("<f8", SHAPE)
    new_array(tmp_path / "b", "v2")
    new_array(tmp_path / "c", "sharded")
    paths = [str(tmp_path / name) for name in "abc"]
    environment = SWITCHED_ON if everywhere else STRICT
    child = run_child(child_scheduler, *paths, method, timeout=LIMIT, env=environment)
    ((first, second, opened),) = child.check()
    assert (first["ours"], first["strict"]) == (True, True)
    assert second == first
    # A forked child has its parent's configuration.
    assert opened["ours"] is (everywhere or method == "fork")


# ---------------------------------------------------------------------------------- distributed


def cluster(processes: bool) -> Any:
    """A cluster on this machine without a dashboard."""
    return distributed.LocalCluster(
        n_workers=2 if processes else 1,
        threads_per_worker=2 if processes else 4,
        processes=processes,
        dashboard_address=":0",  # with None it asks for one port, and warns when that is taken
    )


@pytest.fixture(scope="module")
def worker_processes() -> Iterator[Any]:
    """Workers for which the environment switches our pipeline on, strictly."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SWITCHED_ON.items():
            patch.setenv(name, value)
        running = cluster(processes=True)
    # Not the default client, or else every other test would use it.
    with running, distributed.Client(running, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def worker_threads() -> Iterator[Any]:
    """Workers in this process."""
    with (
        cluster(processes=False) as running,
        distributed.Client(running, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Any:
    """A client of each kind of cluster."""
    return request.getfixturevalue(f"worker_{request.param}")


def result(client: Any, lazy: Any) -> Any:
    """Compute on a cluster, in finite time."""
    return client.compute(lazy).result(timeout=LIMIT)


def on_every_worker(client: Any, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a function once in each worker, as a task."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    futures = [client.submit(function, *args, workers=[w], pure=False) for w in workers]
    return [future.result(timeout=LIMIT) for future in futures]


@every_layout
def test_cluster_reads(client: Any, tmp_path: Path, layout: str) -> None:
    array = new_array(tmp_path, layout)
    array[...] = data = make_data("<f8", SHAPE)
    for chunks in (None, MISALIGNED):
        lazy = da.from_zarr(array, chunks=chunks)
        assert_same(result(client, lazy), data)
        assert_same(result(client, lazy[5:90:3, ::-1]), data[5:90:3, ::-1])
    assert_same(result(client, da.from_zarr(str(tmp_path))), data)


@pytest.mark.parametrize("kind", ["fsspec", "logging"])
def test_cluster_reads_other_stores(client: Any, tmp_path: Path, kind: str) -> None:
    array = new_array(STORES[kind](tmp_path), "sharded")
    array[...] = data = make_data("<f8", SHAPE)
    assert_same(result(client, da.from_zarr(array)), data)


@every_layout
def test_cluster_writes(client: Any, tmp_path: Path, layout: str) -> None:
    """Every chunk has one writer, as behaviour.md asks of processes."""
    array = new_array(tmp_path, layout)
    data = make_data("<f8", SHAPE)
    with dask.config.set({"array.chunk-size": "16KiB"}):
        lazy = da.from_array(data, chunks=write_chunks(array))
        result(client, da.to_zarr(lazy, array, compute=False))
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)


# (distributed pickles graphs for threads too, and a dictionary that was pickled is another.)
@pytest.mark.parametrize("kind", ["local", "fsspec", "logging"])
def test_cluster_of_threads_writes_misaligned(
    worker_threads: Any, tmp_path: Path, kind: str
) -> None:
    """In one process writers may share chunks."""
    array = new_array(STORES[kind](tmp_path), "sharded")
    for seed in range(3):
        data = make_data("<f8", SHAPE, seed)
        lazy = da.from_array(data, chunks=MISALIGNED)
        result(worker_threads, da.store(lazy, array, lock=False, compute=False))
        assert_same(array[...], data)


def test_cluster_has_our_pipeline(client: Any, tmp_path: Path) -> None:
    """In every worker: of arrays that were sent, and of those that are opened there."""
    array = new_array(tmp_path, "plain")
    sent = on_every_worker(client, describe, array)
    opened = on_every_worker(client, describe_opened, str(tmp_path))
    for one in (*sent, *opened):
        assert one["ours"]
        assert one["strict"]
        assert one["path"] == PIPELINE
    assert len({one["pid"] for one in sent}) == len(sent)


def test_arrays_bring_their_pipeline_along(worker_processes: Any, tmp_path: Path) -> None:
    """Where the workers' configuration says nothing of it; and zarr's own is not replaced."""
    array = new_array(tmp_path, "plain")
    with stock():
        default = ours_open(tmp_path)
    before = configure(worker_processes, {"codec_pipeline.path": STOCK})
    try:
        assert all(one["ours"] for one in on_every_worker(worker_processes, describe, array))
        opened = on_every_worker(worker_processes, describe_opened, str(tmp_path))
        assert not any(one["ours"] for one in opened)
    finally:
        configure(worker_processes, before)
    assert not any(one["ours"] for one in on_every_worker(worker_processes, describe, default))


def set_config(options: dict[str, Any]) -> dict[str, Any]:
    """Set options of zarr's and say what they were."""
    before = {name: zarr.config.get(name, None) for name in options}
    zarr.config.set(options)
    return before


def configure(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Set options in all workers, as a user does."""
    return next(iter(client.run(set_config, options).values()))


def read_all(array: zarr.Array) -> np.ndarray:
    return np.asarray(array[...])


def test_options_are_those_of_the_worker(worker_processes: Any, tmp_path: Path) -> None:
    """They are read when an array arrives, whatever they were where it comes from."""
    with zarr.config.set({"codec_pipeline.strict": False, "threading.max_workers": 2}):
        array = new_array(tmp_path / "a", "plain")
        # Shards whose index has codecs of its own: zarr's pipeline takes them.
        index_codecs = [TransposeCodec(order=(1, 0)), BytesCodec(endian="little")]
        odd = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()], index_codecs=index_codecs)
        odd_array = zarr.create_array(
            tmp_path / "b", shape=(4,), chunks=(4,), dtype="i4", serializer=odd, compressors=None
        )
        odd_array[...] = expected = np.arange(4, dtype="i4")
    for flag, workers in itertools.product((True, False), (1, None)):
        options = {"codec_pipeline.strict": flag, "threading.max_workers": workers}
        before = configure(worker_processes, options)
        try:
            seen = on_every_worker(worker_processes, describe, array)
            tasks = [worker_processes.submit(read_all, odd_array, pure=False)]
            if flag:
                with pytest.raises(zarrs.NotNativeError, match="index"):
                    tasks[0].result(timeout=LIMIT)
            else:
                assert tasks[0].result(timeout=LIMIT).tolist() == expected.tolist()
        finally:
            configure(worker_processes, before)
        for one in seen:
            assert one["strict"] is flag
            assert one["max_workers"] == (workers or one["cpus"])
    assert describe(array)["strict"] is False


def test_nonsense_in_a_worker_is_an_error_of_the_task(
    worker_processes: Any, tmp_path: Path
) -> None:
    """It names the option; nothing hangs, and the workers live on."""
    array = new_array(tmp_path, "plain")
    before = configure(worker_processes, {"codec_pipeline.strict": "perhaps"})
    try:
        task = worker_processes.submit(describe_opened, str(tmp_path), pure=False)
        with pytest.raises(ValueError, match=r"codec_pipeline\.strict"):
            task.result(timeout=LIMIT)
    finally:
        configure(worker_processes, before)
    assert all(one["ours"] for one in on_every_worker(worker_processes, describe, array))


def test_chunk_errors_come_back_from_workers(client: Any, tmp_path: Path) -> None:
    """With their type and message: exceptions of ours can be pickled."""
    array = new_array(tmp_path, "sharded")
    array[...] = 1.0
    (tmp_path / "c" / "0" / "1").write_bytes(b"nothing of use")
    task = client.compute(da.from_zarr(array, chunks=SHARDS))
    with pytest.raises(zarrs.ChunkError, match="c/0/1"):
        task.result(timeout=LIMIT)


def test_native_threads_of_workers_are_bounded(
    worker_processes: Any, many_chunks: zarr.Array
) -> None:
    """Also while tasks of theirs use dask's threads."""
    found = on_every_worker(worker_processes, most_threads, many_chunks, 16)
    assert len({one["pid"] for one in found}) == 2
    for one in found:
        check_threads(one, many_chunks)
    lazy = da.from_zarr(many_chunks, chunks=(60, 600))
    assert float(result(worker_processes, lazy.sum())) == found[0]["sums"][0]
    for one, ours in zip(found, on_every_worker(worker_processes, threads_of_ours), strict=True):
        assert ours - one["before"] <= 2 * one["cpus"]


# --------------------------------------------------------------------------------------- xarray

ZARR_FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
CONSOLIDATED = pytest.mark.parametrize("consolidated", [True, False])

# xarray and zarr mean what they say, but here it is no news.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:Consolidated metadata is currently not part in the Zarr format 3 specification"
    ),
]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often our pipeline was asked to read and to write, in this process."""
    counter: Counter[str] = Counter()

    def count(name: str) -> None:
        original = vars(zarrs.ZarrsCodecPipeline)[name]

        def counted(self: Any, *args: Any, **kw: Any) -> Any:
            counter[name] += 1
            return original(self, *args, **kw)

        monkeypatch.setattr(zarrs.ZarrsCodecPipeline, name, counted)

    count("read")
    count("write")
    return counter


def dataset(times: int = 12, seed: int = 0) -> Any:
    """A little of everything that xarray puts into arrays of fixed-size items."""
    n = (times, 10, 14)
    stamps = make_data("<M8[ns]", (times,), seed)
    start, step = np.datetime64("2001-02-03T04", "ns"), np.timedelta64(6, "h")
    return xr.Dataset(
        {
            "t": (("time", "y", "x"), make_data("<f4", n, seed), {"units": "K", "odd": [1, 2]}),
            "n": (("time", "x"), make_data("<i8", (times, 14), seed + 1)),
            "packed": (("y", "x"), np.round(np.random.default_rng(seed).normal(0, 99, n[1:]), 1)),
            "mask": (("y", "x"), make_data("bool", n[1:], seed + 2)),
            "stamp": (("time",), stamps, {"long_name": "some of it is NaT"}),
            "scalar": ((), np.float64(4.5)),
        },
        coords={
            "time": start + np.arange(times) * step,
            "y": np.linspace(-1, 1, 10),
            "x": np.arange(14),
            "area": (("y", "x"), np.random.default_rng(seed + 3).random(n[1:])),
        },
        attrs={"title": "test", "levels": [1, 2, 3]},
    )


def encoding(zarr_format: int) -> dict[str, dict[str, Any]]:
    """Codecs and chunks other than the default ones, shards where there are any."""
    packed = {"dtype": "int16", "scale_factor": 0.1, "_FillValue": -32768, "chunks": (10, 5)}
    if zarr_format == 2:
        import numcodecs

        return {
            "t": {"chunks": (4, 5, 14), "compressors": (numcodecs.Blosc("zstd", 3),)},
            "n": {"chunks": (4, 7), "compressors": (numcodecs.Zlib(1),)},
            "packed": packed,
        }
    blosc = BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4)
    return {
        "t": {"chunks": (2, 5, 7), "shards": (4, 10, 14), "compressors": (blosc,)},
        "n": {"chunks": (4, 7), "compressors": (ZstdCodec(level=1),)},
        "packed": packed,
    }


def load(store: Any, **kw: Any) -> Any:
    """All of a dataset, in memory."""
    with xr.open_zarr(store, **({"chunks": None} | kw)) as opened:
        return opened.load()


def stock_load(store: Any, **kw: Any) -> Any:
    """As `load`, with zarr's default pipeline."""
    with stock():
        return load(store, **kw)


@CONSOLIDATED
@ZARR_FORMATS
@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_xarray_round_trip(
    calls: Counter[str],
    tmp_path: Path,
    kind: str,
    chunked: bool,
    zarr_format: int,
    consolidated: bool,
) -> None:
    """What one pipeline writes the other reads, and both are the dataset."""
    data = dataset()
    source = data.chunk({"time": 4, "y": 10, "x": 14}) if chunked else data
    how = {"zarr_format": zarr_format, "consolidated": consolidated}
    codes = encoding(zarr_format)
    store = STORES[kind](tmp_path / "ours")
    # `packed` is written in other chunks than dask's, which xarray would rather not
    source.to_zarr(store, encoding=codes, safe_chunks=False, **how)
    assert calls["write"] >= 6
    read_before = calls["read"]
    mine = load(store, **how)
    assert calls["read"] > read_before
    theirs = stock_load(store, **how)
    for got in (mine, theirs):
        np.testing.assert_allclose(got.packed, data.packed, atol=0.051)
        xr.testing.assert_identical(got.drop_vars("packed"), data.drop_vars("packed"))
    xr.testing.assert_identical(mine.packed, theirs.packed)
    group = zarr.open_group(store, mode="r")
    assert group.metadata.zarr_format == zarr_format
    assert group["time"].dtype.kind == "i"
    assert group["t"].chunks == codes["t"]["chunks"]
    if zarr_format == 3:
        assert group["t"].shards == codes["t"]["shards"]

    other = STORES[kind](tmp_path / "theirs")
    with stock():
        data.to_zarr(other, encoding=codes, **how)
    xr.testing.assert_identical(load(other, **how), mine)
    lazy = xr.open_zarr(other, chunks={}, **how).chunk({"time": 3, "x": 5})
    xr.testing.assert_identical(lazy.isel(time=slice(1, 9, 2), x=[7, 1]).load(),
                                mine.isel(time=slice(1, 9, 2), x=[7, 1]))  # fmt: skip
    lazy.close()


@ZARR_FORMATS
@pytest.mark.parametrize("kind", STORES)
def test_xarray_defaults(calls: Counter[str], tmp_path: Path, kind: str, zarr_format: int) -> None:
    """As xarray encodes it when nobody says how."""
    data, store = dataset(), STORES[kind](tmp_path)
    data.to_zarr(store, zarr_format=zarr_format, consolidated=False)
    how = {"zarr_format": zarr_format, "consolidated": False}
    xr.testing.assert_identical(load(store, **how), data)
    xr.testing.assert_identical(stock_load(store, **how), data)
    assert calls["read"] > 0
    assert calls["write"] > 0


@ZARR_FORMATS
@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
def test_xarray_append(tmp_path: Path, zarr_format: int, chunked: bool) -> None:
    """Steps that end within chunks and shards: the last one of them is completed."""
    data = dataset(22)
    how = {"zarr_format": zarr_format, "consolidated": False}
    steps = [0, 3, 4, 9, 17, 22]
    for start, stop in itertools.pairwise(steps):
        part = data.isel(time=slice(start, stop))
        if chunked:
            # dask's threads meet in one chunk or shard
            part, how = part.chunk({"time": 1, "x": 5}), {**how, "safe_chunks": False}
        if start:
            part = part.drop_vars([n for n, v in part.variables.items() if "time" not in v.dims])
            part.to_zarr(str(tmp_path), append_dim="time", **how)
        else:
            # of the first times alone xarray would choose days as the unit
            units = {"units": "hours since 2001-01-01", "dtype": "int64"}
            stamp = {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}
            codes = encoding(zarr_format) | {"time": units, "stamp": stamp}
            part.to_zarr(str(tmp_path), encoding=codes, **how)
    kept = {"zarr_format": zarr_format, "consolidated": False}
    mine, theirs = load(str(tmp_path), **kept), stock_load(str(tmp_path), **kept)
    xr.testing.assert_identical(mine, theirs)
    xr.testing.assert_identical(mine.drop_vars("packed"), data.drop_vars("packed"))


@ZARR_FORMATS
@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
def test_xarray_regions(tmp_path: Path, zarr_format: int, chunked: bool) -> None:
    """A template first, then regions of it from many threads, which share chunks and shards."""
    data = dataset(24)[["t", "n"]].drop_vars(["area"])
    how = {"zarr_format": zarr_format, "consolidated": False}
    codes = {name: e for name, e in encoding(zarr_format).items() if name in data}
    template = xr.zeros_like(data.chunk({"time": 4}))
    template.to_zarr(str(tmp_path), compute=False, encoding=codes, **how)
    rest = data.drop_vars(["y", "x"])

    def write(start: int) -> None:
        rows = slice(start, start + 3)
        part = rest.isel(time=rows)
        if chunked:
            part = part.chunk({"time": 2, "x": 5})
        # dask's own threads, and those of the pool below, each a region
        part.to_zarr(str(tmp_path), region={"time": rows}, safe_chunks=False, **how)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, i) for i in range(0, 24, 3)]:
            done.result(timeout=LIMIT)
    xr.testing.assert_identical(load(str(tmp_path), **how), data)
    xr.testing.assert_identical(stock_load(str(tmp_path), **how), data)


@ZARR_FORMATS
def test_xarray_strings(tmp_path: Path, zarr_format: int) -> None:
    """Strings are zarr's affair, in a dataset whose other arrays are native."""
    data = dataset().assign_coords(label=("x", [f"item {'x' * i}" for i in range(14)]))
    how = {"zarr_format": zarr_format, "consolidated": False}
    with zarr.config.set({"codec_pipeline.strict": False}):
        data.to_zarr(str(tmp_path), **how)
        xr.testing.assert_identical(load(str(tmp_path), **how), data)
    xr.testing.assert_identical(stock_load(str(tmp_path), **how), data)


@ZARR_FORMATS
def test_xarray_on_a_cluster(client: Any, tmp_path: Path, zarr_format: int) -> None:
    """Written and read by workers; what xarray wraps around arrays is pickled with them."""
    data = dataset()
    lazy = data.chunk({"time": 4})
    codes = {name: e for name, e in encoding(zarr_format).items() if name != "packed"}
    codes["n"] = {**codes["n"], "chunks": (4, 14)}
    how = {"zarr_format": zarr_format, "consolidated": False}
    result(client, lazy.to_zarr(str(tmp_path), encoding=codes, compute=False, **how))
    with xr.open_zarr(str(tmp_path), chunks={"time": 8}, **how) as opened:
        found = result(client, opened)
        total = result(client, opened.n.sum())
    xr.testing.assert_identical(found, data)
    assert int(total) == int(data.n.sum())
    xr.testing.assert_identical(stock_load(str(tmp_path), **how), data)
