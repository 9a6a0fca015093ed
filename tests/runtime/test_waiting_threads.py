"""Writes to files have threads that wait for the file system beside those that compute."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, stock_read
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import MemoryStore

from zarrs import _planner
from zarrs.execution import _execute

MAXIMUM = "codec_pipeline.chunk_concurrent_maximum"
SHAPE, CHUNKS = (64, 128, 256), (2, 128, 256)  # 32 chunks of 256 KiB
Threads = Callable[..., list[int]]


@pytest.fixture
def threads(native: None, monkeypatch: pytest.MonkeyPatch) -> Threads:
    """From an array's arguments to the threads of each loop that writes it, on four CPUs."""
    monkeypatch.setattr("zarrs._config.available_cpus", lambda: 4)
    monkeypatch.setattr("zarrs._planner.available_cpus", lambda: 4)
    used: list[int] = []
    write = _execute.write

    def watched(plan: Any, chain: Any, layout: Any, n: int, *args: Any, **named: Any) -> None:
        used.append(n)
        write(plan, chain, layout, n, *args, **named)

    monkeypatch.setattr(_execute, "write", watched)

    def threads_of(store: Any, n_chunks: int = 32, **arguments: Any) -> list[int]:
        arguments = {"compressors": None, "chunks": CHUNKS} | arguments
        array = zarr.create_array(store, shape=SHAPE, dtype="f4", **arguments)
        used.clear()
        array[: 2 * n_chunks] = np.ones((2 * n_chunks, *SHAPE[1:]), "f4")
        return used

    return threads_of


@pytest.mark.parametrize(
    "compressor",
    [None, BloscCodec(cname="lz4"), BloscCodec(cname="blosclz")],
    ids=["raw", "lz4", "blosclz"],
)
def test_chunks_that_are_quick_to_encode(
    access: str, threads: Threads, tmp_path: Path, compressor: Any
) -> None:
    assert threads(str(tmp_path), compressors=compressor) == [8]
    assert_same(stock_read(tmp_path), np.ones(SHAPE, "f4"))


@pytest.mark.parametrize(
    "compressor",
    [ZstdCodec(), BloscCodec(cname="zstd"), BloscCodec(cname="zlib")],
    ids=["zstd", "blosc-zstd", "blosc-zlib"],
)
def test_others_take_the_cpus(
    access: str, threads: Threads, tmp_path: Path, compressor: Any
) -> None:
    assert threads(str(tmp_path), compressors=compressor) == [4]


def test_no_more_than_chunks(access: str, threads: Threads, tmp_path: Path) -> None:
    assert threads(str(tmp_path), 6) == [6]


def test_no_more_than_eight_beyond_the_cpus(
    access: str, threads: Threads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_planner, "MAX_WAITING", 1)
    assert threads(str(tmp_path)) == [5]


@pytest.mark.parametrize(("n_bytes", "expected"), [(768, 7), (255, 4)])
def test_no_more_than_there_is_memory_for(
    access: str,
    threads: Threads,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_bytes: int,
    expected: int,
) -> None:
    """Each holds a chunk, of 256 KiB here."""
    monkeypatch.setattr(_planner, "MAX_WAITING_BYTES", n_bytes * 1024)
    assert threads(str(tmp_path)) == [expected]


@pytest.mark.parametrize(
    "option", [{MAXIMUM: 4}, {"threading.max_workers": 3}, {"threading.max_workers": 1}], ids=str
)
def test_limits_that_users_set_are_kept(
    access: str, threads: Threads, tmp_path: Path, option: dict[str, int]
) -> None:
    with zarr.config.set(option):
        assert threads(str(tmp_path)) == [next(iter(option.values()))]


def test_shards_take_memory(access: str, threads: Threads, tmp_path: Path) -> None:
    assert threads(str(tmp_path), shards=(8, 128, 256)) == [4]


def test_stores_have_their_own_overlap(access: str, threads: Threads) -> None:
    assert set(threads(MemoryStore())) <= {1, 4}
