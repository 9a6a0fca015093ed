"""Sharded arrays: the same data and the same files as elsewhere, native all the way."""

import contextlib
import gzip
import json
import os
import pickle
import re
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from helpers import (
    MIXED_STRUCT,
    STRUCT,
    ZARR_34,
    TensorStore,
    assert_same,
    dtype_id,
    make_data,
    ours_open,
    selections,
    stock,
    stock_open,
    stock_read,
    stock_write,
    stored_files,
)
from shards import (
    COUNTS,
    INNER,
    LAYOUTS,
    SHAPE,
    SHARD,
    SHARDING,
    SHARDINGS,
    Layout,
    Sharding,
    assert_stored,
    create_sharded,
    in_threads,
    tensorstore_has,
)
from zarr.abc.codec import ArrayArrayCodec, BytesBytesCodec
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer.cpu import Buffer, NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline

import zarrs
from zarrs._core import NativeChain, Shard

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

DTYPE = "<i4"
each_sharding = pytest.mark.parametrize("sharding", SHARDINGS, ids=str)
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)
DEFAULT = SHARDING["index-end-little-crc32c"]


def shardings(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sharding", [SHARDING[n] for n in names], ids=str)


CORE = (
    *("index-end-little-crc32c", "blosc-zstd-bit", "crc32c-start", "inside-rotated-zstd"),
    *("before-rotated", "before-and-after", "after-zstd", "nested-end-start", "nested-rotated"),
    "nested-twice-mixed",
)


# ------------------------------------------------------------------------- there and back


@each_sharding
def test_explain(tmp_path: Path, sharding: Sharding) -> None:
    """Every way to shard is native in all its parts."""
    explanation = zarrs.explain(create_sharded(tmp_path, sharding))
    assert explanation.native, str(explanation)
    assert "sharding_indexed" in str(explanation)


@each_sharding
def test_written_here_reads_elsewhere(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding)
    array[...] = data
    assert_same(array[...], data, "ours")
    assert_stored(tmp_path, sharding, data)


@each_sharding
def test_written_elsewhere_reads_here(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE, seed=1)
    create_sharded(tmp_path, sharding)
    stock_write(tmp_path, ..., data)
    array = ours_open(tmp_path)
    assert_same(array[...], data, "after zarr")
    assert_same(array[3:26:2, 5, 2:], data[3:26:2, 5, 2:], "after zarr, partly")
    if tensorstore_has(sharding, DTYPE):
        other = make_data(DTYPE, SHAPE, seed=2)
        TensorStore(tmp_path, 3).write(other)
        assert_same(array[...], other, "after TensorStore")
        assert_same(array[1:9, 15:, ::3], other[1:9, 15:, ::3], "after TensorStore, partly")


@pytest.mark.parametrize(
    "sharding", [s for s in SHARDINGS if s.deterministic], ids=str
)  # whatever compresses may have another version inside
def test_the_same_files_as_zarr(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Written whole or in parts, emptied in parts, in every order of inner chunks."""
    ours = create_sharded(tmp_path / "ours", sharding, fill_value=5)
    with stock():
        theirs = create_sharded(tmp_path / "theirs", sharding, fill_value=5)
    steps: list[tuple[Any, Any]] = [
        (..., make_data(DTYPE, SHAPE)),
        ((slice(2, 21), slice(3, 14), slice(5, 9)), make_data(DTYPE, (19, 11, 4), seed=1)),
        (slice(None, None, 5), 8),
        (slice(0, 12), 5),  # shards go, the larger ones of nested levels in part
        ((slice(12, 17), slice(0, 12), slice(0, 7)), 5),  # an inner chunk goes
        ((13, 1, 1), 6),
    ]
    for selection, value in steps:
        ours[selection] = value
        with stock():
            theirs[selection] = value
        expected = stored_files(tmp_path / "theirs")
        actual = stored_files(tmp_path / "ours")
        assert list(actual) == list(expected), selection
        for name in actual:
            assert actual[name] == expected[name], (selection, name)


@pytest.mark.skipif(not ZARR_34, reason="subchunk_write_order came with zarr 3.4")
def test_unordered(native: None, tmp_path: Path) -> None:
    """No order is promised, but the inner chunks are the same, with nothing between them."""
    sharding, data = SHARDING["order-unordered"], make_data(DTYPE, SHAPE)
    layout = sharding.layout.of(*COUNTS)
    create_sharded(tmp_path / "ours", sharding)[...] = data
    with stock():
        create_sharded(tmp_path / "theirs", sharding)[...] = data
    expected = stored_files(tmp_path / "theirs")
    for name, blob in stored_files(tmp_path / "ours").items():
        assert layout.split(blob) == layout.split(expected[name])
        assert len(blob) == len(expected[name])


@pytest.mark.skipif(not ZARR_34, reason="subchunk_write_order came with zarr 3.4")
@pytest.mark.parametrize("order", ["morton", "lexicographic", "colexicographic"])
def test_write_order(native: None, tmp_path: Path, order: str) -> None:
    """By the numbers; a pickled array keeps it; partial writes too."""
    sharding = SHARDING[f"order-{order}"]
    layout = sharding.layout.of(3, 2, 2)
    array = create_sharded(tmp_path, sharding, (12, 8, 6), shard=(12, 8, 6), inner=(4, 4, 3))
    coords = list(np.ndindex(3, 2, 2))
    if order == "colexicographic":
        coords.sort(key=lambda c: c[::-1])
    elif order == "morton":  # bits of the coordinates in turn, those of the first axis lowest
        coords.sort(
            key=lambda c: sum((c[i] >> b & 1) << 3 * b + i for b in (0, 1) for i in (0, 1, 2))
        )
    for a in (array, pickle.loads(pickle.dumps(array))):
        a[...] = make_data(DTYPE, (12, 8, 6))
        assert layout.order((tmp_path / "c/0/0/0").read_bytes()) == coords
        a[3:7, 1, 2] = 7
        assert layout.order((tmp_path / "c/0/0/0").read_bytes()) == coords


# ----------------------------------------------------------------- shards taken apart by hand


def padded_inner_chunks(
    data: np.ndarray, fill: Any
) -> dict[str, dict[tuple[int, ...], np.ndarray]]:
    """By the key of the shard and the coordinates in it: what has to be stored in 3-D."""
    counts = [-(-n // s) for n, s in zip(data.shape, SHARD, strict=True)]
    whole = np.full([c * s for c, s in zip(counts, SHARD, strict=True)], fill, data.dtype)
    whole[tuple(map(slice, data.shape))] = data
    out: dict[str, dict[tuple[int, ...], np.ndarray]] = {}
    for shard in np.ndindex(*counts):
        chunks = out.setdefault("c/" + "/".join(map(str, shard)), {})
        for coords in np.ndindex(*COUNTS):
            start = [s * n + c * i for s, n, c, i in zip(shard, SHARD, coords, INNER, strict=True)]
            if all(a < n for a, n in zip(start, data.shape, strict=True)):
                chunks[coords] = whole[
                    tuple(slice(a, a + i) for a, i in zip(start, INNER, strict=True))
                ]
    return out


def _crc32c(raw: bytes) -> bytes:
    return raw + google_crc32c.value(raw).to_bytes(4, "little")


# codecs for zarr; how NumPy and others encode an inner chunk
BY_HAND: dict[str, tuple[list[Any], Callable[[np.ndarray], bytes]]] = {
    "raw": ([BytesCodec()], lambda x: x.tobytes()),
    "raw-big": ([BytesCodec(endian="big")], lambda x: x.astype(">i4").tobytes()),
    "crc32c": ([BytesCodec(), Crc32cCodec()], lambda x: _crc32c(x.tobytes())),
    "transposed": (
        [*SHARDING["inside-rotated"].inner(3)],
        lambda x: x.transpose(1, 2, 0).tobytes(),
    ),
}


@each_layout
@pytest.mark.parametrize("how", BY_HAND)
def test_files_by_hand(native: None, tmp_path: Path, how: str, layout: Layout) -> None:
    """Each inner chunk is where the index says, as NumPy encodes it, and nothing else is there."""
    codecs, encode = BY_HAND[how]
    layout = layout.of(*COUNTS)
    serializer = ShardingCodec(chunk_shape=INNER, codecs=codecs, **layout.keywords)
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, DEFAULT, serializer=serializer, fill_value=9)
    array[...] = data
    expected = padded_inner_chunks(data, 9)
    files = stored_files(tmp_path)
    assert set(files) == set(expected)
    for name, blob in files.items():
        chunks = layout.split(blob)
        assert chunks == {coords: encode(x) for coords, x in expected[name].items()}
        assert len(blob) == layout.size + sum(map(len, chunks.values()))


def _members(raw: bytes) -> bytes:
    """Gzip that no encoder of ours makes: two members, a time stamp, little compression."""
    return gzip.compress(raw[:100], 1, mtime=1234) + gzip.compress(raw[100:], 9, mtime=5678)


def handmade(layout: Layout, data: np.ndarray, seed: int, gap: bytes) -> dict[str, bytes]:
    """Shards of gzip in any order, with room between the inner chunks."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, chunks in padded_inner_chunks(data, 0).items():
        encoded = {coords: _members(x.tobytes()) for coords, x in chunks.items()}
        order = [list(encoded)[i] for i in rng.permutation(len(encoded))]
        out[name] = layout.build(encoded, order, gap)
    return out


@each_layout
@pytest.mark.parametrize("gap", [b"", b"room"], ids=["dense", "gaps"])
def test_shards_of_another_writer(native: None, tmp_path: Path, layout: Layout, gap: bytes) -> None:
    """Any order, unused space anywhere; a merge takes what it does not touch byte by byte."""
    layout = layout.of(*COUNTS)
    codecs = [BytesCodec(), GzipCodec()]
    serializer = ShardingCodec(chunk_shape=INNER, codecs=codecs, **layout.keywords)
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, DEFAULT, serializer=serializer)
    made = handmade(layout, data, seed=3, gap=gap)
    for name, blob in made.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(blob)
    assert_same(array[...], data)
    for selection in selections(SHAPE, seed=2, count=0)[::6]:
        assert_same(array[selection], data[selection], f"read {selection}")
    array[5:7, 3:5, 2:9] = data[5:7, 3:5, 2:9] = 77  # inner chunks (1, 0, 0) and (1, 0, 1)
    assert_same(array[...], data)
    after = stored_files(tmp_path)
    for name, blob in after.items():
        if name != "c/0/0/0":
            assert blob == made[name]
    before, now = layout.split(made["c/0/0/0"]), layout.split(after["c/0/0/0"])
    assert set(now) == set(before)
    assert {c for c in now if now[c] != before[c]} == {(1, 0, 0), (1, 0, 1)}
    assert_same(stock_read(tmp_path), data, "zarr")


def test_nested_shards_keep_what_is_not_touched(native: None, tmp_path: Path) -> None:
    """In the inner shard that is touched too."""
    sharding, data = SHARDING["nested-end-start"], make_data(DTYPE, (24, 12, 12))
    outer, inner = sharding.outer[0].of(2, 1, 1), sharding.layout.of(*COUNTS)
    array = create_sharded(tmp_path, sharding, (24, 12, 12))
    weird = {}
    for number in range(2):
        part = padded_inner_chunks(data[number * 12 : number * 12 + 12], 0)["c/0/0/0"]
        chunks = {coords: _members(x.tobytes()) for coords, x in part.items()}
        weird[number, 0, 0] = inner.build(chunks, list(chunks)[::-1])
    file = tmp_path / "c/0/0/0"
    file.parent.mkdir(parents=True)
    file.write_bytes(outer.build(weird))
    assert_same(array[...], data)
    array[13, 2, 3] = data[13, 2, 3] = 77  # in inner shard 1, chunk (0, 0, 0)
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)
    now = outer.split(file.read_bytes())
    assert now[0, 0, 0] == weird[0, 0, 0]
    old, new = inner.split(weird[1, 0, 0]), inner.split(now[1, 0, 0])
    assert {c for c in new if new[c] != old[c]} == {(0, 0, 0)}


# --------------------------------------------------------------------- types, shapes, grids

TYPES: list[Any] = [
    *map(np.dtype, ("u1", ">i2", "<f4", ">f8", "<c16", "bool", "<M8[ns]", "<U3", "S3", "<f2")),
    *([np.dtype("V5"), STRUCT, MIXED_STRUCT] if ZARR_34 else ()),  # 3.1.6 cannot hash their fills
]


@pytest.mark.parametrize("dtype", TYPES, ids=dtype_id)
@shardings("raw-big", "crc32c-start", "zstd", "inside-twice", "before-twice", "nested-rotated")
def test_types(native: None, tmp_path: Path, sharding: Sharding, dtype: np.dtype) -> None:
    data = make_data(dtype, SHAPE)
    array = create_sharded(tmp_path, sharding, dtype=dtype)
    array[:24] = data[:24]
    data[24:] = array.fill_value
    assert_same(array[...], data)
    for selection in ((slice(3, 27, 2), 4, slice(2, None)), (27, 16, 12), (..., 5)):
        assert_same(array[selection], data[selection], f"read {selection}")
    value = make_data(dtype, (20, 9, 7), seed=4)
    array[7:27, 5:14, 4:11] = data[7:27, 5:14, 4:11] = value
    array[12:24, :12, :12] = data[12:24, :12, :12] = data[0, 0, 0]
    assert_same(array[...], data)
    assert_stored(tmp_path, sharding, data)


GRIDS: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "0d": ((), (), ()),
    "1d-prime": ((23,), (9,), (3,)),
    "1d-ones": ((6,), (2,), (1,)),
    "one-item": ((1,), (1,), (1,)),
    "one-inner-chunk": ((17, 5), (8, 4), (8, 4)),
    "smaller-than-shard": ((5, 3), (12, 12), (4, 6)),
    "smaller-than-inner-chunk": ((3, 2), (12, 12), (4, 6)),
    "counts-312": ((12, 6, 8), (6, 6, 4), (2, 6, 2)),
    "counts-132-prime": ((7, 11, 13), (6, 6, 6), (6, 2, 3)),
    "axes-of-one": ((1, 13, 1, 5), (1, 8, 1, 4), (1, 2, 1, 2)),
    "zero-axis": ((4, 0, 3), (2, 2, 2), (2, 1, 2)),
    "zero-array": ((0,), (4,), (2,)),
    "4d": ((5, 4, 6, 7), (4, 4, 4, 4), (2, 4, 1, 2)),
}
# 0-d shards are beyond zarr 3.1.6 itself, so that only TensorStore can be asked
GRID_SHARDINGS = ("index-start-big-bare", "blosc", "inside-rotated-zstd", "nested-start-end")


def check_reads(array: zarr.Array, data: np.ndarray, seed: int = 0) -> None:
    """Every selection gives what NumPy gives."""
    for selection in selections(data.shape, seed):
        assert_same(array[selection], data[selection], f"read {selection}")


def check_writes(array: zarr.Array, data: np.ndarray, seed: int = 0) -> None:
    """Write through every selection, then compare with NumPy; `data` is changed alike."""
    for i, selection in enumerate(selections(data.shape, seed)):
        value = make_data(data.dtype, np.shape(data[selection]), seed=i + 7)
        array[selection] = value
        data[selection] = value
        if i % 3 == 0:  # a scalar for all
            array[selection] = data[selection] = value.reshape(-1)[0] if value.size else 1
        if i % 8 == 0:
            assert_same(array[...], data, f"wrote {selection}")
    assert_same(array[...], data, "after all writes")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("grid", GRIDS)
@shardings(*GRID_SHARDINGS)
def test_selections(
    native: None, tmp_path: Path, sharding: Sharding, grid: str, order: str
) -> None:
    """Reads and writes of parts agree with NumPy, and with other readers after."""
    shape, shard, inner = GRIDS[grid]
    data = make_data(DTYPE, shape)
    kw: dict[str, Any] = {"config": {"order": order}}
    array = create_sharded(tmp_path, sharding, shape, DTYPE, shard, inner, **kw)
    array[...] = data
    result = np.asarray(array[...])
    assert result.flags.f_contiguous if order == "F" else result.flags.c_contiguous
    check_reads(array, data)
    check_writes(array, data)
    assert_stored(tmp_path, sharding, data, zarr_too=ZARR_34 or grid != "0d")


@shardings("before-rotated", "before-and-after", "nested-before-after", "nested-rotated")
def test_selections_with_codecs_around(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding)
    stock_write(tmp_path, ..., data)
    check_reads(array, data, seed=3)
    check_writes(array, data, seed=4)
    assert_stored(tmp_path, sharding, data)


RECTILINEAR: dict[str, tuple[tuple[int, ...], Any]] = {
    "divided": ((32, 36, 18), [[12, 4, 12, 4], [12, 24], [12, 6]]),
    "small-and-large": ((28, 36, 18), [[4, 8, 16], [24, 12], [6, 6, 6]]),
}


@pytest.mark.skipif(not ZARR_34, reason="rectilinear grids came with zarr 3.4")
@pytest.mark.parametrize("grid", RECTILINEAR)
@shardings("index-start-little-crc32c", "zstd", "inside-rotated-blosc-crc32c", "after-gzip")
def test_rectilinear(native: None, tmp_path: Path, sharding: Sharding, grid: str) -> None:
    """Shards of different shapes in one array, each with an index of its own size."""
    shape, chunks = RECTILINEAR[grid]
    data = make_data(DTYPE, shape)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = create_sharded(tmp_path, sharding, shape, chunks=chunks)
        array[...] = data
        check_reads(array, data)
        check_writes(array, data)
        assert_same(stock_read(tmp_path), data, "zarr")
        other = make_data(DTYPE, shape, seed=5)
        stock_write(tmp_path, ..., other)
        assert_same(ours_open(tmp_path)[...], other)


@pytest.mark.parametrize("location", ["start", "end"])
def test_shards_argument(native: None, tmp_path: Path, location: str) -> None:
    """As most people shard: the codecs move inside by themselves."""
    data = make_data("<f4", SHAPE)
    shards: Any = {"shape": SHARD, "index_location": location}
    array = zarr.create_array(
        str(tmp_path), shape=SHAPE, shards=shards, chunks=INNER, dtype="<f4", name="group/array"
    )
    array[...] = data
    array[5:25, 3, 2:] = data[5:25, 3, 2:] = 4
    assert_same(array[...], data)
    assert_stored(tmp_path / "group/array", DEFAULT, data)


INNER_CHAINS = ("raw-big", "blosc", "zstd-crc32c", "crc32c", "inside-rotated-zstd", "gzip")


def random_slice(rng: np.random.Generator, n: int) -> Any:
    """Any slice, or an integer."""
    if n and rng.random() < 0.2:
        return int(rng.integers(-n, n))
    start, stop = sorted(int(x) for x in rng.integers(0, n + 1, 2))
    return slice(start, stop, int(rng.choice([1, 1, 1, 2, 3, 7])))


@pytest.mark.parametrize("seed", range(60))
def test_random_arrays(native: None, tmp_path: Path, seed: int) -> None:
    """Any shape, any shards, any selections, as NumPy does them."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(1, 5))
    inner = tuple(int(x) for x in rng.integers(1, 5 if ndim > 2 else 9, ndim))
    shard = tuple(n * int(x) for n, x in zip(inner, rng.integers(1, 5, ndim), strict=True))
    shape = tuple(int(rng.integers(1, 3 * n)) for n in shard)
    sharding = Sharding(
        "random",
        LAYOUTS[rng.integers(len(LAYOUTS))],
        SHARDING[INNER_CHAINS[rng.integers(len(INNER_CHAINS))]].inner,
        outer=[LAYOUTS[i] for i in rng.integers(0, len(LAYOUTS), rng.choice([0, 0, 1, 2]))],
        after=[GzipCodec(level=1)] if rng.random() < 0.2 else [],
    )
    data = np.full(shape, 7, DTYPE)
    array = create_sharded(tmp_path, sharding, shape, DTYPE, shard, inner, fill_value=7)
    for step in range(12):
        key = tuple(random_slice(rng, n) for n in shape)
        value: Any = make_data(DTYPE, data[key].shape, seed=step)
        if rng.random() < 0.4:
            value = int(rng.choice([7, 8]))
        array[key] = data[key] = value
        key = tuple(random_slice(rng, n) for n in shape)
        assert_same(array[key], data[key], f"{step}: {key}")
    assert_same(array[...], data)
    assert_stored(tmp_path, sharding, data)


# -------------------------------------------------------------------------------- reading

READS: dict[str, Any] = {
    "whole": ...,
    "all-slices": (slice(None),) * 3,
    "inside-inner": (slice(1, 3), slice(2, 9), slice(1, 5)),
    "inner": (slice(4, 8), slice(0, 12), slice(6, 12)),
    "across-inner": (slice(2, 11), slice(3, 8), slice(4, 9)),
    "shard": (slice(12, 24), slice(0, 12), slice(0, 12)),
    "across-shards": (slice(10, 26), slice(5, 15), slice(3, 13)),
    "step-1": (slice(1, 28, 1), slice(None), slice(None)),
    "step-2": (slice(1, None, 2), slice(None, None, 2), slice(None)),
    "step-3": (slice(None, None, 3), slice(2, None, 3), slice(1, None, 3)),
    "step-above-inner": (slice(1, None, 5), slice(None), slice(None, None, 7)),
    "step-above-shard": (slice(2, None, 13), slice(1, None, 14), slice(None)),
    "steps-on-the-last": (..., slice(5, None, 100)),
    "point": (28, 16, 12),
    "first": (0, 0, 0),
    "negative": (-1, -17, -13),
    "plane-0": 13,
    "plane-1": (slice(None), 11),
    "plane-2": (..., 6),
    "line": (7, slice(None), 3),
    "empty": slice(5, 5),
    "empty-last": (..., slice(13, None)),
    "edge": (slice(24, None), slice(12, None), slice(12, None)),
    "ellipsis": (slice(3, 9), ..., slice(0, 1)),
}


@pytest.mark.parametrize("selection", READS)
def test_reads(native: None, tmp_path: Path, selection: str) -> None:
    """Also where whole shards and some inner chunks of others are missing."""
    data = make_data(DTYPE, SHAPE)
    key = READS[selection]
    for name in CORE:
        path = tmp_path / name
        create_sharded(path, SHARDING[name], fill_value=-3)
        stock_write(path, ..., data)
        assert_same(ours_open(path)[key], data[key], name)
        stock_write(path, slice(3, 24), -3)
        stock_write(path, (13, 5, 7), 99)
        sparse = data.copy()
        sparse[3:24] = -3
        sparse[13, 5, 7] = 99
        assert_same(ours_open(path)[key], sparse[key], f"{name}, partly filled")


@pytest.mark.parametrize("out_dtype", ["<i4", ">i4", "<f8"])
@pytest.mark.parametrize("kind", ["c", "fortran", "strided"])
@shardings("raw-big", "zstd", "before-rotated", "nested-start-end")
def test_out(tmp_path: Path, sharding: Sharding, kind: str, out_dtype: str) -> None:
    """`out` may have any layout, and another type is converted."""
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding, fill_value=7)
    array[:14] = data[:14]
    data[14:] = 7
    for selection in (..., (slice(1, 20, 2), slice(3, 15), slice(2, None))):
        shape = data[selection].shape
        out = np.zeros(shape, out_dtype, order="F" if kind == "fortran" else "C")
        if kind == "strided":
            out = np.zeros([2 * n for n in shape], out_dtype)[::2, ::2, ::2]
        array.get_basic_selection(selection, out=NDBuffer.from_numpy_array(out))
        assert_same(out, data[selection].astype(out_dtype))


@pytest.mark.skipif(not ZARR_34, reason="the setting came with zarr 3.4")
def test_missing_shards_may_be_errors(tmp_path: Path) -> None:
    """A missing shard is a missing chunk; a missing inner chunk is none."""
    config: Any = {"read_missing_chunks": False}
    array = create_sharded(tmp_path, DEFAULT, (24,), shard=(12,), inner=(4,), config=config)
    array[1] = 5
    expected = np.zeros(24, DTYPE)
    expected[1] = 5
    with zarr.config.set({"array.read_missing_chunks": False}):
        theirs = stock_open(tmp_path)
    assert_same(array[:12], expected[:12])
    assert_same(theirs[:12], expected[:12])
    for selection in (slice(None), 13, slice(10, 14)):
        with pytest.raises(Exception, match=r"c/1|[Cc]hunk") as caught:
            theirs[selection]
        with pytest.raises(caught.type):
            array[selection]


# -------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("kind", ["values", "scalar"])
@pytest.mark.parametrize("selection", READS)
def test_writes(native: None, tmp_path: Path, selection: str, kind: str) -> None:
    """Into a full array, and into one of which nothing is there yet."""
    key = READS[selection]
    old = make_data(DTYPE, SHAPE)
    value: Any = make_data(DTYPE, old[key].shape, seed=6) if kind == "values" else 12345
    for name in CORE if kind == "values" else CORE[::3]:
        for state in ("full", "absent"):
            path = tmp_path / name / state
            array = create_sharded(path, SHARDING[name], fill_value=-3)
            data = np.full(SHAPE, -3, DTYPE)
            if state == "full":
                stock_write(path, ..., old)
                data[...] = old
            array[key] = data[key] = value
            assert_same(array[...], data, f"{name} {state}")
            assert_stored(path, SHARDING[name], data)


VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "stride-zero": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("kind", VALUES)
@shardings("index-end-little-crc32c", "zstd-start", "before-rotated", "nested")
def test_values_of_any_layout(native: None, tmp_path: Path, sharding: Sharding, kind: str) -> None:
    value = VALUES[kind](make_data(DTYPE, SHAPE))
    expected = np.asarray(value, DTYPE).copy()
    array = create_sharded(tmp_path, sharding)
    array[...] = value
    assert_same(array[...], expected)
    part = VALUES[kind](make_data(DTYPE, (9, 11, 7), seed=2))
    array[8:17, 4:15, 3:10] = expected[8:17, 4:15, 3:10] = part
    assert_same(array[...], expected)
    assert_same(stock_read(tmp_path), expected)


@each_layout
def test_partial_write_to_an_absent_shard(native: None, tmp_path: Path, layout: Layout) -> None:
    """Only the inner chunks that are touched are stored."""
    layout = layout.of(*COUNTS)
    array = create_sharded(
        tmp_path, DEFAULT, fill_value=4,
        serializer=ShardingCodec(chunk_shape=INNER, codecs=[BytesCodec()], **layout.keywords),
    )  # fmt: skip
    array[13:18, 2, 7] = 1  # inner chunks (0, 0, 1) and (1, 0, 1) of shard (1, 0, 0)
    ((name, blob),) = stored_files(tmp_path).items()
    assert name == "c/1/0/0"
    chunks = layout.split(blob)
    assert set(chunks) == {(0, 0, 1), (1, 0, 1)}
    expected = np.full(INNER, 4, DTYPE)
    expected[1:, 2, 1] = 1
    assert chunks[0, 0, 1] == expected.tobytes()
    assert len(blob) == layout.size + 2 * expected.nbytes
    array[12, 0, 0] = 4  # the fill value: nothing to store
    assert stored_files(tmp_path) == {name: blob}
    array[0, 0, 0] = 4
    assert set(stored_files(tmp_path)) == {name}


@pytest.mark.parametrize("fill_value", [0, 6])
@each_layout
def test_emptied(native: None, tmp_path: Path, layout: Layout, fill_value: int) -> None:
    """Inner chunks of nothing but fill values leave the index, and in the end the shard goes."""
    layout = layout.of(4)
    serializer = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()], **layout.keywords)
    array = create_sharded(
        tmp_path, DEFAULT, (14,), shard=(8,), inner=(2,), serializer=serializer,
        fill_value=fill_value,
    )  # fmt: skip
    array[...] = np.arange(10, 24)
    file = tmp_path / "c" / "0"
    array[2:4] = fill_value  # all of it at once
    assert set(layout.split(file.read_bytes())) == {(0,), (2,), (3,)}
    array[4] = fill_value  # by and by
    array[5] = fill_value
    assert set(layout.split(file.read_bytes())) == {(0,), (3,)}
    assert len(file.read_bytes()) == layout.size + 16
    array[0:8:7] = fill_value
    assert set(layout.split(file.read_bytes())) == {(0,), (3,)}
    array[1] = fill_value
    assert set(layout.split(file.read_bytes())) == {(3,)}
    assert (tmp_path / "c" / "1").exists()
    array[6:13] = fill_value
    assert not file.exists()
    array[13] = np.full((), fill_value)
    assert stored_files(tmp_path) == {}
    assert (np.asarray(array[...]) == fill_value).all()
    array[...] = fill_value  # nothing there to delete
    assert stored_files(tmp_path) == {}


@pytest.mark.parametrize("name", ["nested", "nested-twice-mixed", "after-gzip", "before-rotated"])
def test_emptied_with_codecs_around(native: None, tmp_path: Path, name: str) -> None:
    sharding = SHARDING[name]
    array = create_sharded(tmp_path, sharding)
    array[...] = data = make_data(DTYPE, SHAPE)
    array[12:24, 0:12] = data[12:24, 0:12] = 0
    assert_stored(tmp_path, sharding, data)
    array[...] = 0
    assert stored_files(tmp_path) == {}


def test_emptied_inner_shards(native: None, tmp_path: Path) -> None:
    """A shard in a shard that is all empty is no entry of the outer index."""
    sharding = SHARDING["nested-zstd"]
    outer = sharding.outer[0].of(2, 1, 1)
    array = create_sharded(tmp_path, sharding, (24, 12, 12))
    array[...] = 3
    file = tmp_path / "c/0/0/0"
    assert set(outer.split(file.read_bytes())) == {(0, 0, 0), (1, 0, 0)}
    array[:12] = 0
    assert set(outer.split(file.read_bytes())) == {(1, 0, 0)}
    array[12:] = 0
    assert not file.exists()


@pytest.mark.parametrize("option", ["array", "pipeline"])
@each_layout
def test_empty_chunks_are_stored_on_demand(
    native: None, tmp_path: Path, layout: Layout, option: str
) -> None:
    """``write_empty_chunks`` of the array, or ``store_empty_chunks`` of the pipeline."""
    layout = layout.of(4)
    serializer = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()], **layout.keywords)
    config: Any = {"write_empty_chunks": option == "array"}
    with zarr.config.set({"codec_pipeline.store_empty_chunks": option == "pipeline"}):
        array = create_sharded(
            tmp_path, DEFAULT, (16,), shard=(8,), inner=(2,), serializer=serializer, config=config
        )
    array[:8] = 0
    blob = (tmp_path / "c" / "0").read_bytes()
    assert layout.split(blob) == {(i,): bytes(8) for i in range(4)}
    array[:8] = np.arange(1, 9)
    array[2:6] = 0
    assert set(layout.split((tmp_path / "c" / "0").read_bytes())) == {(i,) for i in range(4)}
    array[9:12] = 0  # of a shard that is not there: what is touched
    blob = (tmp_path / "c" / "1").read_bytes()
    assert layout.split(blob) == {(i,): bytes(8) for i in (0, 1)}


def test_fill_values_that_look_alike(native: None, tmp_path: Path) -> None:
    """-0.0 is no 0.0, and any NaN is a NaN, for inner chunks too."""
    layout = Layout((4,))
    for name, fill, values, stored in (
        ("zero", 0.0, [0.0, 0.0, -0.0, 0.0, 1.0, 0.0, 0.0, 0.0], {(1,), (2,)}),
        ("nan", np.nan, [np.nan, np.nan, 0.0, np.nan, np.nan, 5.0, np.nan, -np.nan], {(1,), (2,)}),
    ):
        kw: dict[str, Any] = {"shard": (8,), "inner": (2,), "fill_value": fill}
        path = tmp_path / name
        array = create_sharded(path, DEFAULT, (8,), "<f8", **kw)
        array[...] = values
        assert set(layout.split((path / "c" / "0").read_bytes())) == stored
        if name == "zero":
            assert_same(array[...], np.array(values))


# ------------------------------------------------------------- what a write has no need to read

WHOLE_SHARDS: dict[str, Any] = {
    "one": (slice(12, 24), slice(0, 12), slice(0, 12)),
    "edge": (slice(24, None), slice(0, 12), slice(0, 12)),
    "corner": (slice(24, None), slice(12, None), slice(12, None)),
    "row": (slice(0, 12),),
    "all": ...,
}


@pytest.mark.parametrize("selection", WHOLE_SHARDS)
@shardings(
    *("index-end-little-crc32c", "index-start-big-bare", "zstd", "inside-rotated-zstd"),
    *("before-rotated", "after-gzip", "before-and-after"),
)
def test_complete_writes_do_not_read(
    native: None, tmp_path: Path, sharding: Sharding, selection: str
) -> None:
    """A torn shard does not stop its own replacement.

    Overhanging edges included where codecs are around the shards: else they are merged, see
    `test_overhang.py`.
    """
    is_codec_around = bool(sharding.before or sharding.after)
    shape = SHAPE if is_codec_around else tuple(-(-n // 12) * 12 for n in SHAPE)
    array = create_sharded(tmp_path, sharding, shape, fill_value=2)
    data = make_data(DTYPE, shape)
    array[...] = data
    key = WHOLE_SHARDS[selection]
    old = stored_files(tmp_path)
    create_sharded(tmp_path / "mark", sharding, shape)[key] = 1
    covered = set(stored_files(tmp_path / "mark"))
    for garbage in (b"torn", b"", b"\xff" * 5000):
        for value in (make_data(DTYPE, data[key].shape, seed=2), 4):
            for name in covered:
                (tmp_path / name).write_bytes(garbage)
            array[key] = data[key] = value
            assert_same(array[...], data)
    assert_stored(tmp_path, sharding, data)
    for name in covered:
        (tmp_path / name).write_bytes(b"torn")
    array[key] = data[key] = 2
    assert covered.isdisjoint(stored_files(tmp_path))
    for name in set(old) - covered:
        assert (tmp_path / name).read_bytes() == old[name]


@pytest.mark.parametrize("name", ["nested", "nested-twice-mixed"])
def test_complete_writes_of_nested_shards_do_not_read(
    native: None, tmp_path: Path, name: str
) -> None:
    shape = (48, 48, 48)
    array = create_sharded(tmp_path, SHARDING[name], shape)
    array[...] = data = make_data(DTYPE, shape)
    for file in stored_files(tmp_path):
        (tmp_path / file).write_bytes(b"torn")
    array[...] = data[...] = make_data(DTYPE, shape, seed=3)
    assert_stored(tmp_path, SHARDING[name], data)


@shardings("index-end-little-crc32c", "index-start-big-bare", "zstd", "nested", "after-gzip")
def test_integers_that_cover_a_shard(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """An integer on an axis of shards of one item makes shards complete, with an axis less."""
    array = create_sharded(tmp_path, sharding, (4, 12), shard=(1, 6), inner=(1, 2))
    array[...] = data = make_data(DTYPE, (4, 12))
    for name in stored_files(tmp_path):
        (tmp_path / name).write_bytes(b"torn")
    if sharding.outer:  # its shards are two rows high
        array[...] = data
        return
    for row in range(4):
        array[row] = data[row]
    assert_same(array[...], data)


@shardings("zstd", "nested", "before-rotated")
def test_appending(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Small appends through a growing edge shard."""
    rows = make_data("<f4", (31, 7))
    array = create_sharded(tmp_path, sharding, (0, 7), "<f4", shard=(12, 6), inner=(2, 2))
    for start in range(0, 31, 3):
        array.append(rows[start : start + 3])
    assert_same(array[...], rows)
    assert_stored(tmp_path, sharding, rows)


# ------------------------------------------------------------------------- files and threads


@shardings("index-start-little-crc32c", "zstd", "before-and-after", "nested-zstd")
def test_shards_are_replaced_at_once(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Whoever has the old file open reads on in it; nothing temporary is left."""
    array = create_sharded(tmp_path, sharding)
    array[...] = 1
    file = tmp_path / "c/0/0/0"
    for selection in (..., (slice(1, 3), 4, 5)):
        with file.open("rb") as reader:
            before, inode = file.read_bytes(), file.stat().st_ino
            array[selection] = make_data(DTYPE, np.zeros(SHAPE)[selection].shape)
            assert file.stat().st_ino != inode
            assert file.read_bytes() != before
            assert reader.read() == before
    assert [p for p in tmp_path.rglob("*") if "partial" in p.name] == []


@shardings("index-end-little-crc32c", "zstd-start", "before-rotated", "after-gzip", "nested-zstd")
def test_threads_merge_into_one_shard(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Threads that write different inner chunks of one shard lose nothing."""
    array = create_sharded(tmp_path, sharding, (32, 32), shard=(32, 32), inner=(4, 32))
    twin = ours_open(tmp_path)  # another array object on the same files

    def write(i: int) -> None:
        mine = array if i % 2 else twin
        for k in range(8):
            mine[4 * i : 4 * i + 4, 4 * k : 4 * k + 4] = i * 100 + k + 1

    in_threads(8, write)
    expected = (np.arange(32) // 4)[:, None] * 100 + np.arange(32) // 4 + 1
    assert_same(array[...], expected.astype(DTYPE))
    assert_same(stock_read(tmp_path), expected.astype(DTYPE))


@shardings("crc32c-start", "zstd")
def test_readers_see_whole_shards(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """While one thread replaces shards, others read old or new ones, never a mixture."""
    array = create_sharded(tmp_path, sharding, (3, 4000), shard=(1, 4000), inner=(1, 500))
    array[...] = 1
    done: list[int] = []

    def work(i: int) -> None:
        try:
            for number in range(2, 30) if i == 0 else ():
                array[...] = number
        finally:
            if i == 0:
                done.append(1)
        while not done:
            rows = np.asarray(array[:, 100:3900])
            assert (rows == rows[:, :1]).all()
            assert rows.min() >= 1

    in_threads(3, work)
    assert (np.asarray(array[...]) == 29).all()


def test_changes_between_reads_are_seen(native: None, tmp_path: Path) -> None:
    """No index is kept: other writers, deletion and resizing show at once."""
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, SHARDING["zstd"], fill_value=9)
    array[...] = data
    assert_same(array[3:20, 4], data[3:20, 4])
    other = make_data(DTYPE, SHAPE, seed=8)
    stock_write(tmp_path, ..., other)
    assert_same(array[3:20, 4], other[3:20, 4])
    assert_same(array[...], other)
    (tmp_path / "c/1/0/0").unlink()
    other[12:24, :12, :12] = 9
    assert_same(array[3:20, 4], other[3:20, 4])
    array.resize((12, 17, 13))
    array.resize(SHAPE)
    other[12:] = 9
    assert_same(array[...], other)


# --------------------------------------------- what zarr's own sharding asks of this pipeline


class Xor(BytesBytesCodec):
    """A codec in Python that nobody knows: every byte changed."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> "Xor":
        return cls()

    def to_dict(self) -> Any:
        return {"name": "tests-xor", "configuration": {}}

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return Buffer.from_array_like(chunk_bytes.as_numpy_array().view("u1") ^ 0x55)

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await self._decode_single(chunk_bytes, chunk_spec)


class Negate(ArrayArrayCodec):
    """A codec in Python that nobody knows: every number changed."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> "Negate":
        return cls()

    def to_dict(self) -> Any:
        return {"name": "tests-negate", "configuration": {}}

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length

    async def _decode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        return NDBuffer.from_numpy_array(~chunk_array.as_numpy_array())

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        return await self._decode_single(chunk_array, chunk_spec)


# what stands around the shard, and whether the chain of the inner chunks has a stranger too
STRANGERS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "after": ({"compressors": [Xor()]}, []),
    "before": ({"filters": [Negate()]}, []),
    "both": ({"filters": [Negate()], "compressors": [Xor()]}, []),
    "inside": ({}, [Xor()]),
    "everywhere": ({"filters": [Negate()], "compressors": [Xor()]}, [Xor()]),
}


@pytest.fixture
def zarr_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of places that zarr's own pipeline reads from and writes to during the test."""
    zarr.registry.register_codec("tests-xor", Xor)
    zarr.registry.register_codec("tests-negate", Negate)
    seen: list[str] = []

    def spy(name: str) -> None:
        original = getattr(BatchedCodecPipeline, name)

        async def call(self: Any, batch_info: Any, *args: Any, **kw: Any) -> Any:
            batch = list(batch_info)
            seen.extend(type(entry[0]).__name__ for entry in batch)
            return await original(self, batch, *args, **kw)

        monkeypatch.setattr(BatchedCodecPipeline, name, call)

    spy("read")
    spy("write")
    return seen


@pytest.mark.parametrize("name", ["index-end-little-crc32c", "zstd-start", "inside-rotated-zstd"])
@pytest.mark.parametrize("where", STRANGERS)
def test_zarr_calls_from_inside(
    tmp_path: Path, zarr_calls: list[str], where: str, name: str
) -> None:
    """Codecs in Python before, inside or after a shard: all the rest stays here."""
    around, inside = STRANGERS[where]
    sharding = SHARDING[name]
    serializer = ShardingCodec(
        chunk_shape=INNER, codecs=[*sharding.inner(3), *inside], **sharding.layout.keywords
    )
    kw: dict[str, Any] = {**around, "serializer": serializer, "fill_value": 3}
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding, **kw)
    assert zarrs.explain(array).hybrid
    array[...] = data
    array[3:14, 5:9, 2:] = data[3:14, 5:9, 2:] = 8
    array[12:16] = data[12:16] = 3
    assert_same(array[...], data)
    for selection in selections(SHAPE, seed=4, count=0)[::5]:
        assert_same(array[selection], data[selection], f"read {selection}")
    called = set(zarr_calls)
    assert_same(stock_read(tmp_path), data, "zarr")
    assert called == set()
    assert zarr_calls  # the spy works


def test_sharding_in_memory(tmp_path: Path, zarr_calls: list[str]) -> None:
    """A store in memory makes zarr do the sharding, too."""
    store = zarr.storage.MemoryStore()
    array = create_sharded(store, SHARDING["zstd"], fill_value=3)
    data = make_data(DTYPE, SHAPE)
    array[...] = data
    array[3:14, 5:9, 2:] = data[3:14, 5:9, 2:] = 8
    assert_same(array[...], data)
    assert_same(array[4:27:5, 3], data[4:27:5, 3])
    assert set(zarr_calls) <= {"StorePath"}


# -------------------------------------------------------------------------------- options

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
    *(("file_handle_cache_size", x) for x in (-1, "many", 2.5, [2])),
    *(("direct_io", x) for x in ("perhaps", 7, [])),
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


# ------------------------------------------------------------------------ odds and ends


def test_metadata_says_what_the_tables_say(tmp_path: Path) -> None:
    """So that the tests test it."""
    for sharding in SHARDINGS:
        create_sharded(tmp_path / sharding.name, sharding)
        codecs = json.loads((tmp_path / sharding.name / "zarr.json").read_text())["codecs"]
        assert len(codecs) == len(sharding.before) + 1 + len(sharding.after)
        found = codecs[len(sharding.before)]
        for depth, layout in enumerate([*reversed(sharding.outer), sharding.layout]):
            assert found["name"] == "sharding_indexed"
            configuration = found["configuration"]
            assert configuration["index_location"] == layout.location
            index_codecs = configuration["index_codecs"]
            assert len(index_codecs) == 1 + layout.checksum
            assert index_codecs[0]["configuration"]["endian"] == layout.endian
            innermost = depth == len(sharding.outer)
            found = configuration["codecs"][0 if innermost else len(sharding.between)]
        assert found["name"] in ("bytes", "transpose")


def test_metadata_without_an_index_location(native: None, tmp_path: Path) -> None:
    """It came later to the specification: at the end is what older arrays mean."""
    array = create_sharded(tmp_path, SHARDING["zstd"])
    array[...] = data = make_data(DTYPE, SHAPE)
    file = tmp_path / "zarr.json"
    metadata = json.loads(file.read_text())
    del metadata["codecs"][0]["configuration"]["index_location"]
    file.write_text(json.dumps(metadata))
    assert_same(ours_open(tmp_path)[...], data)
    assert_same(ours_open(tmp_path)[3:20, 5], data[3:20, 5])


def test_incompressible_inner_chunks(native: None, tmp_path: Path) -> None:
    """Inner chunks that grow when they are compressed have room enough."""
    data = np.random.default_rng(0).integers(0, 256, (64, 64), dtype="u1")
    for level in (0, 1, 9):
        path = tmp_path / str(level)
        codecs = [BytesCodec(), GzipCodec(level=level)]
        array = create_sharded(
            path, DEFAULT, (64, 64), "u1", shard=(64, 64), inner=(1, 8),
            serializer=ShardingCodec(chunk_shape=(1, 8), codecs=codecs),
        )  # fmt: skip
        array[...] = data
        assert_same(array[...], data)
        chunks = Layout((64, 8)).split((path / "c/0/0").read_bytes())
        assert all(gzip.decompress(x) == data[i, 8 * j : 8 * j + 8].tobytes()
                   for (i, j), x in chunks.items())  # fmt: skip
        assert len(chunks) == 512
        assert zlib.crc32(b"".join(map(gzip.decompress, chunks.values()))) == zlib.crc32(data)


def test_many_small_inner_chunks(native: None, tmp_path: Path) -> None:
    """Thousands in one shard, most of them missing."""
    codecs = [BytesCodec(), ZstdCodec(), Crc32cCodec()]
    serializer = ShardingCodec(chunk_shape=(1, 2), codecs=codecs, index_location="start")
    array = create_sharded(
        tmp_path, DEFAULT, (100, 100), shard=(100, 100), inner=(1, 2), serializer=serializer
    )
    data = np.zeros((100, 100), DTYPE)
    for i in range(0, 100, 9):
        array[i, i::7] = data[i, i::7] = i + 1
    assert_same(array[...], data)
    assert_same(array[40:80, 33], data[40:80, 33])
    assert_stored(tmp_path, DEFAULT, data)
    stored = Layout((100, 50), "start").split((tmp_path / "c/0/0").read_bytes())
    assert len(stored) == sum(len({j // 2 for j in range(i, 100, 7)}) for i in range(0, 100, 9))


@pytest.mark.parametrize("location", ["start", "end"])
def test_a_shard_that_grows_while_it_is_encoded(
    native: None, tmp_path: Path, location: str
) -> None:
    """Two threads encode inner chunks and append them to one file, whoever is first."""
    codecs = [BytesCodec(), ZstdCodec(level=3)]
    serializer = ShardingCodec(chunk_shape=(16, 32), codecs=codecs, index_location=location)
    array = create_sharded(
        tmp_path, DEFAULT, (512, 256), shard=(256, 256), inner=(16, 32), serializer=serializer
    )
    rng = np.random.default_rng(0)
    data = rng.integers(0, 99, (512, 256)).astype(DTYPE)
    array[...] = data
    for i in range(40):
        window = (slice(i, 300 + 5 * i, 1 + i % 2), slice(3 * i, 256 - i))
        data[window] = rng.integers(0, 99, data[window].shape)
        array[window] = data[window]
        assert_same(array[...], data)
    assert_stored(tmp_path, DEFAULT, data)
    assert not list(tmp_path.rglob("*.partial"))


# ------------------------------------------------------------------ what a review has found


def test_inner_shards_that_do_not_divide() -> None:
    """zarr 3.1 lets such arrays be made; nothing native touches them."""
    arguments = {
        "index_at_start": False,
        "index_swapped": False,
        "index_checksum": False,
        "verify": False,
        "write_order": 0,
    }
    raw = NativeChain([])
    for inner in ((4,), (0,), (12,)):
        shard = Shard(inner, (0,), 1, raw, **arguments)
        with pytest.raises(ValueError, match="whole inner chunks"):
            Shard((6,), (0,), 1, NativeChain([], 0, shard), **arguments)
    shard = Shard((1,), (0,), 1, raw, **arguments)
    with pytest.raises(ValueError, match="too many"):
        Shard((2**50,), (0,), 1, NativeChain([], 0, shard), **arguments)


@pytest.mark.skipif(ZARR_34, reason="zarr 3.4 refuses to make them")
def test_inner_shards_that_do_not_divide_are_not_native(native: None, tmp_path: Path) -> None:
    """The reason says why."""
    inner = ShardingCodec(chunk_shape=(4,), codecs=[BytesCodec()])
    array = create_sharded(
        tmp_path, DEFAULT, (24,), "u1", shard=(12,), inner=(6,),
        serializer=ShardingCodec(chunk_shape=(6,), codecs=[inner]),
    )  # fmt: skip
    with pytest.raises(zarrs.NotNativeError, match="whole inner chunks"):
        array[...]


def test_more_inner_chunks_than_can_be_counted(native: None, tmp_path: Path) -> None:
    """The size of such an index does not fit 64 bits."""
    array = create_sharded(
        tmp_path, DEFAULT, (2**60,), "u1", shard=(2**60,), inner=(1,),
        serializer=ShardingCodec(chunk_shape=(1,), codecs=[BytesCodec()],
                                 index_codecs=[BytesCodec()]),
    )  # fmt: skip
    (tmp_path / "c").mkdir()
    (tmp_path / "c/0").write_bytes(bytes(64))
    with pytest.raises(zarrs.NotNativeError, match="too many"):
        array[:1]
    with pytest.raises(zarrs.NotNativeError, match="too many"):
        array[:1] = 1


def test_unused_bytes_in_a_shard_with_codecs_around(native: None, tmp_path: Path) -> None:
    """Writers that append and never clean up leave some."""
    array = create_sharded(
        tmp_path, DEFAULT, (8,), "u1", shard=(8,), inner=(2,), compressors=[GzipCodec()],
        serializer=ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()]),
    )  # fmt: skip
    data = np.arange(8, dtype="u1")
    array[...] = data
    file = tmp_path / "c/0"
    raw = gzip.decompress(file.read_bytes())
    for unused in (80_000, 10_000_000):
        file.write_bytes(gzip.compress(raw[:8] + bytes(unused) + raw[8:], 1))
        assert_same(array[...], data)
        array[3] = data[3] = 9
        raw = gzip.decompress(file.read_bytes())
        assert len(raw) < 200
    assert_same(stock_read(tmp_path), data)


def test_unverified_checksums_below_a_codec_around(native: None, tmp_path: Path) -> None:
    """They are bytes that nobody looks at, but there."""
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        codecs = [BytesCodec(), *[Crc32cCodec()] * 15]
        array = create_sharded(
            tmp_path, DEFAULT, (8192,), "u1", shard=(8192,), inner=(1,),
            serializer=ShardingCodec(chunk_shape=(1,), codecs=codecs), compressors=[ZstdCodec()],
        )  # fmt: skip
        data = (np.arange(8192) % 250 + 1).astype("u1")
        array[...] = data
        assert_same(array[...], data)


def test_cached_files_are_never_merged(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale read is bad enough; it must not be written. Nor is one directory another."""
    with zarr.config.set({"codec_pipeline.file_handle_cache_size": 4}):
        old = create_sharded(tmp_path / "x", DEFAULT, (8,), "u1", shard=(8,), inner=(2,))
        old[...] = 1
        assert (old[...] == 1).all()
        (tmp_path / "x").rename(tmp_path / "moved")
        new = create_sharded(tmp_path / "x", DEFAULT, (8,), "u1", shard=(8,), inner=(2,))
        new[...]
        new[0] = 9
        assert stock_read(tmp_path / "x").tolist() == [9, 0, 0, 0, 0, 0, 0, 0]
        for name, value in (("p", 1), ("q", 2)):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            array = create_sharded(Path("y"), DEFAULT, (8,), "u1", shard=(8,), inner=(2,))
            array[...] = value
            assert (array[...] == value).all()
        monkeypatch.chdir(tmp_path / "p")
        assert (ours_open(Path("y"))[...] == 1).all()


@pytest.mark.parametrize("location", ["start", "end"])
def test_nothing_is_made_for_nothing(native: None, tmp_path: Path, location: str) -> None:
    """Shards of fill values leave no directories behind."""
    codecs = [BytesCodec()]
    array = create_sharded(
        tmp_path, DEFAULT, (8, 8), "u1", shard=(4, 4), inner=(2, 2),
        serializer=ShardingCodec(chunk_shape=(2, 2), codecs=codecs, index_location=location),
    )  # fmt: skip
    array[...] = 0
    array[1:3, 2:7] = 0
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]
