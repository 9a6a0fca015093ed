"""dask with its threads and its processes."""

import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from clusters import (
    CHUNKS,
    LIMIT,
    MISALIGNED,
    SHAPE,
    STORES,
    STRICT,
    SWITCHED_ON,
    check_threads,
    describe,
    describe_opened,
    every_layout,
    most_threads,
    new_array,
    write_chunks,
)
from helpers import (
    CHAIN,
    assert_same,
    create,
    emit,
    make_data,
    ours_open,
    root_of,
    run_child,
    stock,
    stock_read,
)

import zarrs

# xarray and zarr mean what they say, but here it is no news.
pytestmark = [
    pytest.mark.usefixtures("native", "alarm"),
    pytest.mark.filterwarnings(
        "ignore:Consolidated metadata is currently not part in the Zarr format 3 specification"
    ),
]

every_store = pytest.mark.parametrize("kind", STORES)


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
    array: Any = new_array(STORES[kind](tmp_path), layout)
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
    array: Any = new_array(tmp_path, layout)
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
    target: Any = new_array(tmp_path / "b", "sharded", dtype=">f4")
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
        return np.asarray(block + np.asarray(small[:1, 0]))

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


def child_native_threads(path: str, callers: int, workers: int | None, cpus: int | None) -> None:
    if cpus is not None:
        os.sched_getaffinity = lambda _: set(range(cpus))
    zarr.config.set({"threading.max_workers": workers})
    emit(most_threads(ours_open(path), callers))


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
    many_chunks: zarr.Array[Any], callers: int, workers: int | None, cpus: int | None
) -> None:
    """They follow the CPUs, not dask's threads."""
    arguments = (str(root_of(many_chunks)), callers, workers, cpus)
    (found,) = run_child(child_native_threads, *arguments, timeout=LIMIT).check()
    check_threads(found, many_chunks)


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
