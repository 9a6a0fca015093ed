"""dask.distributed with workers in threads and in processes."""

import itertools
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from clusters import (
    LIMIT,
    MISALIGNED,
    SHAPE,
    SHARDS,
    STORES,
    check_threads,
    configure,
    describe,
    describe_opened,
    every_layout,
    most_threads,
    new_array,
    on_every_worker,
    read_all,
    result,
    threads_of_ours,
    write_chunks,
    write_rows,
)
from helpers import PIPELINE, STOCK, assert_same, make_data, ours_open, stock, stock_read
from zarr.codecs import BytesCodec, ShardingCodec, TransposeCodec

import zarrs

# xarray and zarr mean what they say, but here it is no news.
pytestmark = [
    pytest.mark.usefixtures("native", "alarm"),
    pytest.mark.filterwarnings(
        "ignore:Consolidated metadata is currently not part in the Zarr format 3 specification"
    ),
]


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
    array: Any = new_array(STORES[kind](tmp_path), "sharded")
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


def test_options_are_those_of_the_worker(worker_processes: Any, tmp_path: Path) -> None:
    """They are read when an array arrives, whatever they were where it comes from."""
    with zarr.config.set({"codec_pipeline.strict": False, "threading.max_workers": 2}):
        array = new_array(tmp_path / "a", "plain")
        # Shards whose index has codecs of its own: zarr's pipeline takes them.
        index_codecs: list[Any] = [TransposeCodec(order=(1, 0)), BytesCodec(endian="little")]
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
    worker_processes: Any, many_chunks: zarr.Array[Any]
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


# ------------------------------------------------------------- processes that share chunks


@pytest.fixture
def locked_processes(worker_processes: Any) -> Any:
    """Workers that lock files."""
    name = "codec_pipeline.lock_files"
    before = configure(worker_processes, {name: True})
    yield worker_processes
    configure(worker_processes, before)


@pytest.mark.parametrize("kind", ["local", "fsspec", "logging"])
@pytest.mark.parametrize("layout", ["plain", "sharded"])
def test_processes_write_misaligned(
    locked_processes: Any, tmp_path: Path, kind: str, layout: str
) -> None:
    """With `codec_pipeline.lock_files` they may share chunks."""
    array: Any = new_array(STORES[kind](tmp_path), layout)
    for seed in range(3):
        data = make_data("<f8", SHAPE, seed)
        lazy = da.from_array(data, chunks=MISALIGNED)
        result(locked_processes, da.store(lazy, array, lock=False, compute=False))
        assert_same(array[...], data)


def test_processes_append(locked_processes: Any, tmp_path: Path) -> None:
    """xarray's `append_dim`, and jobs that fill what was appended; chunks do not align."""
    rows, jobs = 7, 30
    path = str(tmp_path / "data")
    encoding = {"v": {"chunks": (50, 8)}}
    template = xr.Dataset({"v": (("time", "x"), np.zeros((10, 8)))})
    template.to_zarr(path, encoding=encoding, consolidated=False)
    more = xr.Dataset({"v": (("time", "x"), np.zeros((rows * jobs - 10, 8)))})
    more.to_zarr(path, append_dim="time", safe_chunks=False, consolidated=False)
    futures = [
        locked_processes.submit(write_rows, path, rows * k, rows, pure=False) for k in range(jobs)
    ]
    for future in futures:
        future.result(timeout=LIMIT)
    found = xr.open_zarr(path, consolidated=False)["v"].values
    assert_same(found, np.repeat(np.arange(0.0, rows * jobs, rows), rows)[:, None].repeat(8, 1))
