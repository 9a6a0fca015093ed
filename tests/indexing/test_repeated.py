"""Cells that an assignment names more than once: the last one wins, as in NumPy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import CHAIN, assert_same, chain_arguments, make_data
from shards import SHARDING, Coords
from zarr.codecs import BloscCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from zarrs import _planner

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]


def direct_write(
    array: zarr.Array[Any], grid: Coords, batch: list[tuple[Coords, Any, Any]], value: np.ndarray
) -> None:
    """Hand `batch` (chunk, selection in it, selection in `value`) to the pipeline as it is."""
    inner = array._async_array
    prototype = default_buffer_prototype()
    config = inner.config if hasattr(inner, "config") else inner._config
    metadata = inner.metadata
    if metadata.zarr_format == 2:  # as zarr does
        config = replace(config, order=metadata.order)
    spec = ArraySpec(grid, metadata.dtype, metadata.fill_value, config, prototype)
    info = [
        (
            StorePath(inner.store_path.store, metadata.encode_chunk_key(chunk)),
            spec,
            mine,
            out,
            False,
        )
        for chunk, mine, out in batch
    ]
    buffer = prototype.nd_buffer.from_numpy_array(value)
    sync(inner.codec_pipeline.write(info, buffer))


REPEAT_SHAPE, REPEAT_GRID = (48, 36), (24, 12)
REPEAT_CASES = {
    "plain": {"chunks": REPEAT_GRID, "compressors": None},
    "blosc": {"chunks": REPEAT_GRID, "compressors": [BloscCodec(cname="lz4", blocksize=256)]},
    "v2-F": {"chunks": REPEAT_GRID, **chain_arguments(CHAIN["v2-raw-F"], 2)},
    "one-chunk": {"chunks": REPEAT_SHAPE, "compressors": None},
    **{
        name: SHARDING[name].arguments(REPEAT_GRID, (6, 4))
        for name in ("index-end-little-crc32c", "crc32c-start", "after-zstd")
    },
    "inside-rotated-zstd": SHARDING["inside-rotated-zstd"].arguments((12, 12), (6, 4)),
}
each_repeat = pytest.mark.parametrize("arguments", REPEAT_CASES.values(), ids=REPEAT_CASES)


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch, native: None) -> Any:
    """Threads even for little work."""
    monkeypatch.setattr(_planner, "THREAD_COST", 1)
    monkeypatch.setattr(_planner, "CHUNK_COST", 100)
    with zarr.config.set({"threading.max_workers": 4}):
        yield


@each_repeat
@pytest.mark.parametrize("seed", range(5))
def test_last_point_wins(
    many_threads: None, tmp_path: Path, arguments: dict[str, Any], seed: int
) -> None:
    """Each of 10,000 points in the order of the call, on 1,728 items."""
    rng = np.random.default_rng(seed)
    grid = arguments["chunks"]
    array = zarr.create_array(str(tmp_path), shape=REPEAT_SHAPE, dtype="<i4", **arguments)
    expected = make_data("<i4", REPEAT_SHAPE)
    array[...] = expected
    value = rng.permutation(10_000).astype("<i4")
    per_chunk = rng.permutation(10_000)
    chunks = list(np.ndindex(*(n // g for n, g in zip(REPEAT_SHAPE, grid, strict=True))))
    batch: list[tuple[Coords, Any, Any]] = []
    for chunk, part in zip(chunks, np.array_split(per_chunk, len(chunks)), strict=True):
        local = tuple(rng.integers(0, g, len(part)) for g in grid)
        batch.append((chunk, local, part))
        for *c, place in zip(*local, part, strict=True):
            where = tuple(a * g + b for a, g, b in zip(chunk, grid, c, strict=True))
            expected[where] = value[place]
    direct_write(array, grid, batch, value)
    assert_same(array[...], expected)


@each_repeat
def test_last_point_wins_in_slices_of_the_value(
    many_threads: None, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    """As zarr says it if it did not have to sort: a slice of the value for each chunk."""
    grid = arguments["chunks"]
    array = zarr.create_array(str(tmp_path), shape=REPEAT_SHAPE, dtype="<i4", **arguments)
    expected = np.zeros(REPEAT_SHAPE, "<i4")
    rng = np.random.default_rng(0)
    value = np.arange(1, 10_001, dtype="<i4")
    chunks = list(np.ndindex(*(n // g for n, g in zip(REPEAT_SHAPE, grid, strict=True))))
    size = 10_000 // len(chunks)
    batch: list[tuple[Coords, Any, Any]] = []
    for i, chunk in enumerate(chunks):
        # few different items, each of them many times
        local = tuple(rng.integers(0, 3, size) * (g // 3) for g in grid)
        batch.append((chunk, local, slice(i * size, (i + 1) * size)))
        for k, c in enumerate(zip(*local, strict=True)):
            where = tuple(a * g + b for a, g, b in zip(chunk, grid, c, strict=True))
            expected[where] = value[i * size + k]
    direct_write(array, grid, batch, value)
    assert_same(array[...], expected)


@each_repeat
@pytest.mark.parametrize("seed", range(5))
def test_last_row_and_column_win(
    many_threads: None, tmp_path: Path, arguments: dict[str, Any], seed: int
) -> None:
    """Orthogonal index arrays with repetitions: one row after another, one item after another."""
    rng = np.random.default_rng(seed)
    grid = arguments["chunks"]
    array = zarr.create_array(str(tmp_path), shape=REPEAT_SHAPE, dtype="<i4", **arguments)
    expected = make_data("<i4", REPEAT_SHAPE)
    array[...] = expected
    chunk = tuple(n // g - 1 for n, g in zip(REPEAT_SHAPE, grid, strict=True))
    rows, columns = (rng.integers(0, g, 100) for g in grid)
    value = rng.permutation(10_000).astype("<i4").reshape(100, 100)
    out_rows, out_columns = rng.permutation(100), rng.permutation(100)
    for a, i in zip(rows, out_rows, strict=True):
        for b, k in zip(columns, out_columns, strict=True):
            where = chunk[0] * grid[0] + a, chunk[1] * grid[1] + b
            expected[where] = value[i, k]
    direct_write(
        array, grid, [(chunk, np.ix_(rows, columns), np.ix_(out_rows, out_columns))], value
    )
    assert_same(array[...], expected)
