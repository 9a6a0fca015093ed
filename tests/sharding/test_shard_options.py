"""Options that say how shards are read and written."""

import contextlib
import itertools
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import ZARR_34, assert_same, make_data, ours_open, selections, stock_read, stock_write
from shardings import CORE, DTYPE, READS, check_reads, shardings
from shards import SHAPE, SHARD, SHARDING, Sharding, assert_stored, create_sharded, in_threads

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")


THREADS: dict[str, dict[str, Any]] = {
    "one": {"threading.max_workers": 1},
    "two": {"threading.max_workers": 2},
    "many": {"threading.max_workers": 64},
    "one-by-one": {"codec_pipeline.chunk_concurrent_maximum": 1},
    "minimum": {"codec_pipeline.chunk_concurrent_minimum": 100},
}


def large(seed: int = 0) -> np.ndarray:
    """Enough for several threads: 1.7 MB that compresses somewhat."""
    data = make_data(DTYPE, (600, 700), seed)
    data[100:500, 50:600] //= 1000
    return data


@pytest.mark.parametrize("name", ["blosc", "after-gzip", "nested-zstd"])
@pytest.mark.parametrize("threads", THREADS)
def test_threads_do_not_change_data(native: None, tmp_path: Path, threads: str, name: str) -> None:
    """Many small shards and one large shard, of many inner chunks each."""
    data = large()
    with zarr.config.set(THREADS[threads]):
        for kind, shard, inner in (("small", (60, 80), (20, 16)), ("large", (600, 720), (30, 72))):
            path = tmp_path / kind
            array = create_sharded(path, SHARDING[name], data.shape, shard=shard, inner=inner)
            array[...] = data
            assert_same(array[...], data)
            for selection in selections(data.shape, count=2)[::7]:
                assert_same(array[selection], data[selection], f"read {selection}")
            array[3:400, 1:699] = data[3:400, 1:699]
            assert_same(stock_read(path), data, "zarr")


COALESCING = [
    (0, 0),
    (0, 1),
    (1, 1),
    (0, 2**40),
    (2**40, 0),
    (2**40, 1),
    (2**40, 2**40),
    (100, 3000),
]


@pytest.mark.skipif(not ZARR_34, reason="the settings came with zarr 3.4")
@pytest.mark.parametrize("way", ["global", "array"])
@pytest.mark.parametrize(("gap", "most"), COALESCING)
def test_coalescing(native: None, tmp_path: Path, gap: int, most: int, way: str) -> None:
    """How much is read at once changes nothing else."""
    settings = {"sharding_coalesce_max_gap_bytes": gap, "sharding_coalesce_max_bytes": most}
    data = large()
    for name in ("index-start-little-crc32c", "zstd", "nested-zstd"):
        kw: dict[str, Any] = {"shard": (300, 360), "inner": (20, 24)}
        context: Any = nullcontext()
        if way == "global":
            context = zarr.config.set({f"array.{key}": value for key, value in settings.items()})
        else:
            kw["config"] = settings
        with context:
            array = create_sharded(tmp_path / name, SHARDING[name], data.shape, **kw)
        stock_write(tmp_path / name, ..., data)
        for selection in (
            *(..., 5, (slice(None), 333), (slice(10, 590, 45), slice(3, None, 100)), (599, 699)),
            *((slice(290, 310), slice(350, 370)), (slice(0, 300), slice(0, 359)), (slice(7, 8),)),
        ):
            assert_same(array[selection], data[selection], f"read {selection}")
        array[250:420, 100:130] = 4
        expected = data.copy()
        expected[250:420, 100:130] = 4
        assert_same(array[...], expected)


def open_files(path: Path) -> int:
    """Descriptors of this process that lead below `path`, deleted files included."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{fd}").startswith(str(path.resolve()))
    return count


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
@pytest.mark.parametrize("size", [0, 1, 8])
@pytest.mark.parametrize("kind", ["sharded", "plain", "nested"])
def test_file_handle_cache(native: None, tmp_path: Path, kind: str, size: int) -> None:
    """Files stay open between calls, up to a number, and our own writes are seen."""
    data = make_data(DTYPE, SHAPE)  # in 12 shards
    with zarr.config.set({"codec_pipeline.file_handle_cache_size": size}):
        if kind == "plain":
            array = zarr.create_array(
                str(tmp_path), shape=SHAPE, chunks=SHARD, dtype=DTYPE, compressors=None
            )
        else:
            name = "zstd" if kind == "sharded" else "nested-zstd"
            array = create_sharded(tmp_path, SHARDING[name])
        array[...] = data
        assert open_files(tmp_path) <= size
        for step in range(3):
            for _ in range(3):
                assert_same(array[...], data)
                assert open_files(tmp_path) <= size
                for selection in (READS["point"], READS["plane-1"], READS["step-above-inner"]):
                    assert_same(array[selection], data[selection])
                    assert open_files(tmp_path) <= size
            array[...] = data = make_data(DTYPE, SHAPE, seed=step + 1)
            assert_same(array[...], data, "written whole")
            array[3:27, 5, 2:12] = data[3:27, 5, 2:12] = step
            assert_same(array[...], data, "written in part")
            assert_same(array[13, 5], data[13, 5])
            array[12:24] = data[12:24] = 0
            assert_same(array[5:20, :3], data[5:20, :3], "deleted")
            assert open_files(tmp_path) <= size
            array[14, 3] = data[14, 3] = 2
            assert_same(array[5:20, :4], data[5:20, :4], "back again")
    assert_same(stock_read(tmp_path), data)


def test_file_handle_cache_at_the_same_time(native: None, tmp_path: Path) -> None:
    """Threads share the open files, and close none that another one reads."""
    with zarr.config.set({"codec_pipeline.file_handle_cache_size": 2}):
        array = create_sharded(tmp_path, SHARDING["zstd"])
        array[...] = data = make_data(DTYPE, SHAPE)

        def work(i: int) -> None:
            for k in range(30):
                x = (i * 7 + k) % 29
                assert_same(array[x], data[x])
                if i == 0:  # what is there already, in other files
                    array[x, :5] = data[x, :5]

        in_threads(6, work)
    assert_same(stock_read(tmp_path), data)


@contextlib.contextmanager
def direct_io() -> Iterator[None]:
    """With direct I/O; a file system may refuse it, which is a warning that says so."""
    with (
        zarr.config.set({"codec_pipeline.direct_io": True}),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        yield
    for warning in caught:
        assert issubclass(warning.category, UserWarning), warning
        assert "direct" in str(warning.message).lower(), warning


@pytest.fixture(params=["tmp", "memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where files are, on different file systems if the machine has them."""
    if request.param == "tmp":
        yield tmp_path
        return
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("no file system in memory")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        yield Path(name)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 4095, 4096, 4097, 70_001])
def test_direct_io_of_odd_sizes(native: None, directory: Path, size: int) -> None:
    """Chunks of any number of bytes, sharded and plain, whole and in part."""
    data = make_data("u1", (size * 2 + 1,))
    with direct_io():
        for kind in ("plain", "sharded", "nested"):
            path = directory / kind
            if kind == "plain":
                array = zarr.create_array(
                    str(path), shape=data.shape, chunks=(size,), dtype="u1", compressors=None
                )
            else:
                name = "crc32c" if kind == "sharded" else "nested-start-end"
                array = create_sharded(
                    path, SHARDING[name], data.shape, "u1", shard=(3 * size,), inner=(size,)
                )
            array[...] = data
            assert_same(array[...], data)
            expected = data.copy()
            for selection in (slice(1, None, 3), slice(size // 2, size + 1), size, slice(-1, None)):
                assert_same(array[selection], expected[selection], f"read {selection}")
                array[selection] = expected[selection] = 7
                assert_same(array[...], expected, f"wrote {selection}")
            array[:size] = expected[:size] = 0
            assert_same(ours_open(path)[...], expected)
            assert_same(stock_read(path), expected)
            assert [p for p in path.rglob("*") if "partial" in p.name] == []


@shardings(*CORE)
def test_direct_io(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE)
    with direct_io(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Combining a .sharding_indexed. codec")
        array = create_sharded(tmp_path, sharding)
        array[...] = data
        array[3:20, 4:9, 5] = data[3:20, 4:9, 5] = 1
        check_reads(array, data)
    assert_stored(tmp_path, sharding, data)


NONSENSE: list[tuple[str, Any]] = [
    *itertools.product(["file_handle_cache_size"], [-1, "many", 2.5, [2]]),
    *itertools.product(["direct_io"], ["perhaps", 7, []]),
]


@pytest.mark.parametrize(("option", "value"), NONSENSE, ids=str)
def test_nonsense_is_refused(tmp_path: Path, option: str, value: Any) -> None:
    """A ValueError that names the option and the value; arrays that are open go on."""
    array = create_sharded(tmp_path, SHARDING["zstd"])
    array[...] = 1
    with zarr.config.set({f"codec_pipeline.{option}": value}):
        with pytest.raises(ValueError, match=re.escape(f"codec_pipeline.{option}")) as caught:
            ours_open(tmp_path)
        assert str(value) in str(caught.value)
        assert (np.asarray(array[...]) == 1).all()
        array[2:5] = 2
    assert (np.asarray(ours_open(tmp_path)[2:5]) == 2).all()


@pytest.mark.parametrize(
    ("option", "value"),
    [*(("file_handle_cache_size", x) for x in (0, 3, "4", None)), ("direct_io", "false"),
     ("direct_io", False), ("direct_io", None)],
    ids=str,
)  # fmt: skip
def test_sense_is_accepted(native: None, tmp_path: Path, option: str, value: Any) -> None:
    """Also as the environment spells it."""
    with zarr.config.set({f"codec_pipeline.{option}": value}):
        array = create_sharded(tmp_path, SHARDING["zstd"])
        array[...] = data = make_data(DTYPE, SHAPE)
        assert_same(ours_open(tmp_path)[5:20], data[5:20])
