"""Chunks in any store: the same values and bytes as elsewhere, by the store's own methods."""

import asyncio
import gc
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import stores
import zarr
from helpers import (
    CHAIN,
    CORE_DTYPES,
    ZARR_34,
    assert_same,
    bits,
    chain_arguments,
    make_data,
    selections,
    stock,
    zarr_has,
)
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from selections import Case, Pick, cases, check, picks
from shards import SHARDING, Coords, Layout, Sharding, in_threads
from stores import (
    KIND,
    KINDS,
    READ_ONLY_KINDS,
    AsyncOnly,
    CountingLocal,
    Kind,
    Latency,
    Mapping,
    Ranges,
    ReadScrambled,
    Request,
    ScrambledLocal,
    Services,
    Spy,
    SyncSpy,
    each_kind,
    filled,
    ours,
    stored,
    theirs,
)
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.codecs import BytesCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype, cpu
from zarr.core.sync import sync
from zarr.storage import (
    GpuMemoryStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    WrapperStore,
    ZipStore,
)
from zarr.testing.buffer import StoreExpectingTestBuffer, TestBuffer

import zarrs
from zarrs import pipeline as pipeline_module
from zarrs.storage import _stores

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

services = stores.services


# --------------------------------------------------------------------- the same in every store


def _plain(name: str, shape: Coords, grid: Coords) -> Case:
    arguments = {"chunks": grid, **chain_arguments(CHAIN[name], len(shape))}
    return Case(shape, grid, arguments, name)


def _sharded(
    name: str,
    shape: Coords = (29, 17, 13),
    shard: Coords = (12, 12, 12),
    inner: Coords = (4, 12, 6),
) -> Case:
    how = SHARDING[name]
    return Case(shape, how.shard_shape(shard), how.arguments(shard, inner), f"shards-{name}")


CASES = [
    _plain("raw", (23, 17), (7, 5)),
    _plain("zstd", (101,), (13,)),
    _plain("rotated-big-zstd-crc32c", (7, 11, 5), (3, 6, 2)),
    _plain("v2-blosc", (3, 4, 5, 7), (2, 3, 2, 4)),
    _plain("v2-zlib-F", (13, 11), (6, 4)),
    _plain("gzip", (), ()),
    _sharded("zstd"),
    _sharded("crc32c-start"),
    _sharded("nested-start-end", (37, 29), (12, 12), (4, 6)),
    _sharded("after-gzip", (31, 23), (12, 12), (4, 6)),
]
CASE = {case.name: case for case in CASES}
SAME_BYTES = ("raw", "shards-crc32c-start", "shards-nested-start-end")  # whoever writes
FEW_CASES = ("raw", "v2-zlib-F", "shards-zstd", "shards-nested-start-end")  # where all is slow


def each_kind_and_case(*, read_only: bool = False) -> pytest.MarkDecorator:
    """Every kind of store with every case that it takes."""
    return pytest.mark.parametrize(
        ("kind", "case"),
        [
            pytest.param(kind, case, id=f"{kind}-{case.name}", marks=kind.marks)
            for kind in (*KINDS, *(READ_ONLY_KINDS if read_only else ()))
            for case in CASES
            if case.arguments.get("zarr_format", 3) in kind.formats
            and (not kind.remote or case.name in FEW_CASES)
        ],
    )


def make(store: Store, case: Case, dtype: Any = "<i4", **kw: Any) -> zarr.Array:
    """A new array in a store, with the configured pipeline."""
    return zarr.create_array(store, shape=case.shape, dtype=dtype, **case.arguments, **kw)


def some_picks(shape: Coords, every: int, seed: int = 0) -> list[Pick]:
    """Selections of all kinds: of the basic ones, one in `every`."""
    basic = [Pick("basic", key) for key in selections(shape, seed, count=0)[::every]]
    if not shape:
        return basic
    rng = np.random.default_rng([seed, *shape])
    return [
        *basic,
        Pick("oindex", tuple(rng.integers(-n, n, 1 + n // 3) for n in shape)),
        Pick(
            "oindex",
            (np.unique(rng.integers(0, shape[0], 5)), *(slice(1, None, 2),) * (len(shape) - 1)),
        ),
        Pick("vindex", tuple(rng.integers(-n, n, 7) for n in shape)),
        Pick("mask", rng.random(shape) < 0.1),
    ]


@each_kind_and_case(read_only=True)
def test_written_elsewhere_reads_here(
    native: None, tmp_path: Path, services: Services, kind: Kind, case: Case
) -> None:
    """All that zarr's default pipeline has stored, in every kind of selection."""
    data = make_data("<i4", case.shape)

    def fill(store: Store) -> None:
        make(store, case)[...] = data

    store = filled(kind, tmp_path, services, fill)
    array = ours(store)
    assert_same(array[...], data)
    for pick in some_picks(case.shape, 11 if kind.remote else 4):
        where = pick.places(case.shape)
        assert_same(pick.read(array), data.reshape(-1)[where], f"read {pick}")
    assert zarrs.explain(array).native


@each_kind_and_case()
def test_written_here_reads_elsewhere(
    native: None, tmp_path: Path, services: Services, kind: Kind, case: Case
) -> None:
    """Whole and partial writes leave what they leave in NumPy, for both pipelines."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", case.shape)
    array = make(store, case, fill_value=7)
    assert_same(array[...], np.full(case.shape, 7, "<i4"), "nothing stored")
    array[...] = data
    assert_same(array[...], data)
    assert_same(theirs(store)[...], data, "zarr")
    if case.name in SAME_BYTES:
        before = stored(store)
        theirs(store)[...] = data
        assert stored(store) == before
    for i, pick in enumerate(some_picks(case.shape, 19 if kind.remote else 5, seed=1)):
        where = pick.places(case.shape)
        value = make_data("<i4", case.shape, i + 2).reshape(-1)[where]
        if i % 4 == 3 and value.size:  # one value for all
            value = value.reshape(-1)[0]
        pick.write(array, value)
        data.reshape(-1)[where] = value
        if i % 3 == 0:
            assert_same(array[...], data, f"after {pick}")
    assert_same(array[...], data)
    assert_same(theirs(store)[...], data, "zarr, after all")
    other = make_data("<i4", case.shape, 99)
    theirs(store)[...] = other
    assert_same(array[...], other, "after zarr")
    assert_same(ours(store)[...], other, "after zarr, opened again")


@each_kind()
@pytest.mark.parametrize("name", ["raw", "shards-crc32c-start", "shards-nested-start-end"])
def test_empty_chunks(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """Chunks of the fill value are deleted or stay away, as in zarr; or are stored if asked."""
    case = CASE[name]
    store = kind.new(tmp_path, services)
    array = make(store, case, fill_value=7)
    array[...] = 7
    assert stored(store) == {}
    corner = tuple(slice(0, n) for n in case.grid)
    array[corner] = 5
    assert len(stored(store)) == 1
    if not kind.deletes:
        with pytest.raises(NotImplementedError), stock():
            theirs(store)[corner] = 7
        with pytest.raises(NotImplementedError):
            array[corner] = 7
        return
    array[corner] = 7
    assert stored(store) == {}
    data = np.full(case.shape, 7, "<i4")
    data[corner] = 1
    array[corner] = 1
    assert_same(array[...], data, "others are missing")
    assert_same(theirs(store)[...], data, "zarr")
    with zarr.config.set({"array.write_empty_chunks": True}):
        full = ours(store)
    full[...] = 7
    assert len(stored(store)) == math.prod(
        -(-n // g) for n, g in zip(case.shape, case.grid, strict=True)
    )
    assert_same(theirs(store)[...], np.full(case.shape, 7, "<i4"), "zarr, all stored")


@each_kind()
@pytest.mark.parametrize("name", ["raw", "shards-zstd"])
def test_arrays_deep_below_the_root(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """The path of an array is part of its keys, and of no other's."""
    store = kind.new(tmp_path, services)
    case = CASE[name]
    data = {path: make_data("<i4", case.shape, i) for i, path in enumerate(("deep/path/in/a", "b"))}
    for path, values in data.items():
        make(store, case, name=path)[...] = values
    for path, values in data.items():
        assert_same(ours(store, path)[...], values)
        assert_same(theirs(store, path)[...], values, "zarr")
    assert {key.split("/c/")[0] for key in stored(store)} == set(data)


@each_kind()
def test_read_only_stores(native: None, tmp_path: Path, services: Services, kind: Kind) -> None:
    """A write raises what zarr raises, before anything has changed."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", (23, 17))
    make(store, CASE["raw"])[...] = data
    before = stored(store)
    if isinstance(store, ZipStore):
        store.close()
        closed: Store = ZipStore(store.path, mode="r")
    else:
        closed = store.with_read_only(True)
    array = ours(closed)
    assert_same(array[...], data)
    for key in (..., (slice(3, 9), slice(2, 8)), (0, 0)):
        with pytest.raises(ValueError, match="read-only"):
            array[key] = 1
    assert stored(closed) == before
    assert_same(array[...], data)


def test_committed_to_icechunk(native: None, tmp_path: Path) -> None:
    """What a session has committed reads in another, whole and in parts."""
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    case = CASE["shards-zstd"]
    data = make_data("<i4", case.shape)
    make(session.store, case, name="small")[...] = data
    make(session.store, BIG[0], name="big")[...] = big = make_data("<i4", BIG[0].shape)
    session.commit("both")
    store = repository.readonly_session("main").store
    assert_same(ours(store, "small")[...], data)
    assert_same(ours(store, "big")[5:500:90, 3:9], big[5:500:90, 3:9])
    assert_same(theirs(store, "big")[5:500:90, 3:9], big[5:500:90, 3:9])
    with pytest.raises(ValueError, match="read-only"):
        ours(store, "small")[...] = 1


# --------------------------------------------------------------- parts of what is big, anywhere


def _big(location: str) -> Case:
    # 1.5 MiB a shard of raw inner chunks of 12 KiB, one shard after the other.
    how = SHARDING["index-start-little-crc32c" if location == "start" else "zstd"]
    arguments = how.arguments((384, 1024), (48, 64))
    return Case((512, 1030), (384, 1024), arguments, f"big-{location}")


BIG = [
    _big("end"),
    _big("start"),
    _plain("raw", (1030, 600), (515, 512)),
]


@each_kind(read_only=True)
@pytest.mark.parametrize("case", BIG, ids=lambda case: case.name)
def test_parts_of_big_chunks(
    native: None, tmp_path: Path, services: Services, kind: Kind, case: Case
) -> None:
    """Byte ranges mean the same in every store."""
    data = make_data("<i4", case.shape)

    def fill(store: Store) -> None:
        array = make(store, case)
        array[...] = data
        array[-1:, -1:] = 0  # the last chunk is not stored

    store = filled(kind, tmp_path, services, fill)
    data[-1:, -1:] = 0
    array = ours(store)
    keys: list[Any] = [
        (slice(3, 5), slice(60, 70)),
        (slice(380, 390), slice(1000, 1026)),
        (slice(0, None, 100), 7),
        (-1, slice(None)),
        (slice(None), slice(None)),
    ]
    for key in keys:
        assert_same(array[key], data[key], f"read {key}")
    points = (np.array([1, 300, 500]), np.array([2, 900, 1]))
    if case.shape[1] > 900:
        assert_same(array.vindex[points], data[points])


# ------------------------------------------------------------------- only what is needed, asked


RAW_END, RAW_START = SHARDING["index-end-little-crc32c"], SHARDING["index-start-little-crc32c"]
BIG_SHAPE, BIG_SHARD, BIG_INNER = (768, 1024), (384, 1024), (48, 64)  # 1.5 MiB and 12 KiB
BIG_COUNTS = (8, 16)
MIB = 1024 * 1024


@contextmanager
def coalescing(gap: int = MIB, span: int = 16 * MIB) -> Iterator[None]:
    """zarr's options for arrays that are opened inside; before 3.4 there are none."""
    if ZARR_34:
        prefix = "array.sharding_coalesce_max"
        with zarr.config.set({f"{prefix}_gap_bytes": gap, f"{prefix}_bytes": span}):
            yield
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline_module, "MAX_STORE_GAP", gap)
            patch.setattr(pipeline_module, "MAX_STORE_SPAN", span)
            yield


def big_shards(store: Store, location: str = "end") -> np.ndarray:
    """Two shards of raw inner chunks, written by zarr; return what is in them."""
    data = make_data("<i4", BIG_SHAPE)
    how = RAW_START if location == "start" else RAW_END
    case = Case(BIG_SHAPE, BIG_SHARD, how.arguments(BIG_SHARD, BIG_INNER), "")
    with stock():
        make(store, case)[...] = data
    return data


def needed(layout: Layout, blob: bytes, rows: range, columns: range) -> list[tuple[int, int]]:
    """Start and stop of some inner chunks of a shard, in the order of its bytes."""
    index = layout.index(blob)
    some = [index[i, k] for i in rows for k in columns]
    return sorted((int(start), int(start + size)) for start, size in some)


def merged(parts: list[tuple[int, int]], gap: int, span: int) -> list[tuple[int, int]]:
    """Ranges in the order of their bytes, with those in one that are close to each other."""
    out: list[tuple[int, int]] = []
    for start, stop in parts:
        if out and start - out[-1][1] <= gap and stop - out[-1][0] <= span:
            out[-1] = (out[-1][0], stop)
        else:
            out.append((start, stop))
    return out


WINDOWS: dict[str, tuple[Any, range, range]] = {  # a key in the first shard, and what it touches
    "one": ((slice(50, 60), slice(70, 80)), range(1, 2), range(1, 2)),
    "corner": ((slice(40, 50), slice(60, 70)), range(2), range(2)),
    "far-apart": ((slice(5, 350, 343), slice(0, 1024, 1000)), range(0, 8, 7), range(0, 16, 15)),
    "rows": ((7, slice(None)), range(1), range(16)),
    "column": ((slice(0, 384), slice(640, 645)), range(8), range(10, 11)),
}


@pytest.mark.parametrize("location", ["end", "start"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("gap", "span"), [(0, 16 * MIB), (20_000, 16 * MIB), (MIB, 16 * MIB), (MIB, 30_000), (0, 1)]
)
def test_index_then_ranges(native: None, location: str, window: str, gap: int, span: int) -> None:
    """Of a big shard: the index, and what is needed, in as few ranges as the options allow."""
    store = Spy()
    data = big_shards(store, location)
    key, rows, columns = WINDOWS[window]
    layout = (RAW_START if location == "start" else RAW_END).layout.of(*BIG_COUNTS)
    with coalescing(gap, span):
        array = ours(store)
    store.watch.forget()
    with coalescing(gap, span):
        assert_same(array[key], data[key])
    index, *parts = store.watch.requests
    assert index.range == (
        RangeByteRequest(0, layout.size) if location == "start" else SuffixByteRequest(layout.size)
    )
    expected = merged(needed(layout, store.held["c/0/0"], rows, columns), gap, span)
    asked = [request.range for request in parts]
    assert sorted(asked, key=lambda r: r.start) == [RangeByteRequest(*part) for part in expected]
    assert {request.key for request in store.watch.requests} == {"c/0/0"}


@pytest.mark.parametrize("location", ["end", "start"])
def test_own_ranges_are_used(native: None, location: str) -> None:
    """A store that reads many ranges in its own way is asked for them in one go."""
    store = Ranges()
    data = big_shards(store, location)
    layout = (RAW_START if location == "start" else RAW_END).layout.of(*BIG_COUNTS)
    with coalescing(gap=0):
        array = ours(store)
        store.watch.forget()
        key, rows, columns = WINDOWS["far-apart"]
        assert_same(array[key], data[key])
        expected = merged(needed(layout, store.held["c/0/0"], rows, columns), 0, 16 * MIB)
        assert len(expected) == 4
        assert store.asked == [("c/0/0", [RangeByteRequest(*part) for part in expected])]
        assert len(store.watch.of("get")) == 1  # the index
        key, rows, columns = WINDOWS["one"]  # one range is none of many
        assert_same(array[key], data[key])
        assert len(store.asked) == 1
        both = (slice(0, 768, 767), slice(0, 1024, 1000))
        assert_same(array[both], data[both])
        assert {asked for asked, _ in store.asked[1:]} == {"c/0/0", "c/1/0"}


def test_shards_as_a_whole(native: None) -> None:
    """What is needed nearly all is one request, and so is what is small."""
    store = Spy()
    data = big_shards(store)
    array = ours(store)
    store.watch.forget()
    key = (slice(0, 300), slice(0, 1000))
    assert_same(array[key], data[key])
    assert store.watch.requests == [Request("get", "c/0/0", None, len(store.held["c/0/0"]))]
    small = Spy()
    case = CASE["shards-zstd"]
    make(small, case)[...] = data = make_data("<i4", case.shape)
    small.watch.forget()
    assert ours(small)[5, 5, 5] == data[5, 5, 5]
    assert [(r.key, r.range) for r in small.watch.requests] == [("c/0/0/0", None)]


def test_missing_shards_and_inner_chunks(native: None) -> None:
    """A missing shard is one request; missing inner chunks are none."""
    store = Spy()
    case = Case(BIG_SHAPE, BIG_SHARD, RAW_END.arguments(BIG_SHARD, BIG_INNER), "")
    array = make(store, case, fill_value=5)
    array[:48, :64] = 1
    store.watch.forget()
    assert_same(array[400:410, :100], np.full((10, 100), 5, "<i4"))
    assert [(r.key, r.size) for r in store.watch.requests] == [("c/1/0", -1)]
    store.watch.forget()
    assert_same(array[100:110, :100], np.full((10, 100), 5, "<i4"))
    assert len(store.watch.requests) == 1  # the index says it all
    store.watch.forget()
    assert_same(
        array[40:50, :70],
        np.where(np.add.outer(np.arange(40, 50) >= 48, np.arange(70) >= 64), 5, 1).astype("<i4"),
    )
    assert [r.size for r in store.watch.requests[1:]] == [48 * 64 * 4]


NESTED = Case(
    (700, 650),
    (576, 576),
    {
        "chunks": (576, 576),  # 1.3 MiB, of 16 shards, of 81 inner chunks
        "filters": [],
        "serializer": ShardingCodec(
            chunk_shape=(144, 144),
            codecs=[
                TransposeCodec(order=(1, 0)),
                ShardingCodec(
                    chunk_shape=(16, 16),
                    codecs=[BytesCodec(endian="big"), ZstdCodec()],
                    index_location="start",
                ),
            ],
        ),
        "compressors": [],
    },
    "nested",
)


def test_nested_shards_in_ranges(native: None) -> None:
    """Inner chunks that are shards themselves come in ranges, and are read as shards."""
    store = Spy()
    data = make_data("<i4", NESTED.shape)
    with stock():
        make(store, NESTED)[...] = data
    array = ours(store)
    for key in ((slice(50, 60), slice(70, 80)), (slice(0, 500, 170), 3), (-150, 500)):
        store.watch.forget()
        assert_same(array[key], data[key])
        index, *parts = store.watch.requests
        assert index.range == SuffixByteRequest(16 * 16 + 4)
        assert 1 <= len(parts) <= 4
        assert all(isinstance(request.range, RangeByteRequest) for request in parts)
        assert store.watch.nbytes < 0.6 * len(store.held["c/0/0"])


RAW_PARTS: dict[str, tuple[str, Any, tuple[int, int] | None]] = {
    # a chain, a key in the chunk of (512, 400) int32, and the bytes that are needed
    "row": ("raw", (3, slice(None)), (3 * 1600, 4 * 1600)),
    "item": ("raw", (7, 9), (7 * 1600 + 36, 7 * 1600 + 40)),
    "window": ("raw", (slice(10, 12), slice(100, 200)), (16400, 11 * 1600 + 800)),
    "strided": ("raw", (slice(0, 20, 7), 0), (0, 14 * 1600 + 4)),
    "column": ("raw", (slice(None), 5), None),
    "most": ("raw", (slice(0, 300), slice(None)), None),
    "big-endian": ("raw-big", (3, slice(2, 5)), (3 * 1600 + 8, 3 * 1600 + 20)),
    "order-F": ("v2-raw-F", (slice(4, 6), 3), (3 * 2048 + 16, 3 * 2048 + 24)),
    "order-F-row": ("v2-raw-F", (0, slice(None)), None),
    "zstd": ("zstd", (0, 0), None),
    "crc32c": ("crc32c", (0, 0), None),
}


@pytest.mark.parametrize("case", RAW_PARTS)
def test_parts_of_raw_chunks(native: None, case: str) -> None:
    """Of a raw chunk the bytes between the first and the last item that is needed."""
    name, key, expected = RAW_PARTS[case]
    store = Spy()
    data = make_data("<i4", (1024, 400))
    array = make(store, _plain(name, data.shape, (512, 400)))
    array[...] = data
    store.watch.forget()
    assert_same(array[key], data[key])
    if case in ("column", "order-F-row"):
        data = data[:512] if case == "order-F-row" else data
    wanted = None if expected is None else RangeByteRequest(*expected)
    assert {request.range for request in store.watch.requests} == {wanted}
    assert len(store.watch.requests) == (2 if case == "column" else 1)


def merged_at_edges(array: zarr.Array[Any], case: Case) -> int:
    """How many shards overhang the array, so that a write of all of it merges them."""
    if not array._async_array.codec_pipeline.supports_partial_encode:
        return 0
    counts = [(-(-n // g), n // g) for n, g in zip(case.shape, case.grid, strict=True)]
    return math.prod(n for n, _ in counts) - math.prod(n for _, n in counts)


@pytest.mark.parametrize("name", ["raw", "zstd", "shards-zstd", "shards-nested-start-end"])
def test_writes_ask_for_what_they_merge(native: None, name: str) -> None:
    """A complete chunk is stored and nothing is fetched; any other is fetched once."""
    store = Spy()
    case = CASE[name]
    data = make_data("<i4", case.shape)
    array = make(store, case)
    array[...] = data
    count = math.prod(-(-n // g) for n, g in zip(case.shape, case.grid, strict=True))
    for _ in range(2):
        assert len(store.watch.of("set")) == count
        assert len(store.watch.of("get")) == merged_at_edges(array, case)
        assert len(store.watch.requests) == count + merged_at_edges(array, case)
        store.watch.forget()
        array[...] = data
    store.watch.forget()
    corner = tuple(slice(1, g + 1) for g in case.grid)
    array[corner] = data[corner] = 3
    touched = 2 ** len(case.grid)
    assert [(r.verb, r.range) for r in store.watch.of("get")] == [("get", None)] * touched
    assert len({r.key for r in store.watch.of("get")}) == touched
    assert {r.key for r in store.watch.of("set")} == {r.key for r in store.watch.of("get")}
    assert_same(array[...], data)


def test_http_sends_what_is_needed(native: None, tmp_path: Path, services: Services) -> None:
    """Bytes that are really sent, by a server that counts them."""
    data = np.empty(0)

    def fill(store: Store) -> None:
        nonlocal data
        data = big_shards(store)

    for name in ("fsspec-http", "obstore-http"):
        array = ours(filled(KIND[name], tmp_path / name, services, fill))
        services.http.forget()
        key = (slice(50, 60), slice(70, 80))
        assert_same(array[key], data[key])
        layout = RAW_END.layout.of(*BIG_COUNTS)
        assert services.http.sent == layout.size + 48 * 64 * 4
        assert {r.status for r in services.http.requests if r.method == "GET"} == {206}


class Forgets(Ranges):
    """Its ranges are all but the last."""

    async def get_ranges(self, key: str, byte_ranges: Any, **kw: Any) -> Any:
        async for group in super().get_ranges(key, byte_ranges[:-1], **kw):
            yield group


def test_ranges_that_do_not_come(native: None) -> None:
    """Whatever a store does, nobody gets memory in which nothing was written."""
    store = Forgets()
    data = big_shards(store)
    key, *_ = WINDOWS["far-apart"]
    out = np.full(data[key].shape, -77, "<i4")
    with coalescing(gap=0):
        ours(store).get_basic_selection(key, out=cpu.NDBuffer.from_numpy_array(out))
    assert len(store.asked) == 1
    assert_same(out, data[key])


class Told(Ranges):
    """Remembers what else it was told."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.told: list[dict[str, int]] = []

    async def get_ranges(self, key: str, byte_ranges: Any, *, prototype: Any, **kw: Any) -> Any:
        self.told.append(kw)
        async for group in super().get_ranges(key, byte_ranges, prototype=prototype):
            yield group


def test_own_ranges_know_the_options(native: None) -> None:
    """A store must not merge more, nor ask for more at a time, than the user wants."""
    store = Told()
    data = big_shards(store)
    key, *_ = WINDOWS["far-apart"]
    with coalescing(gap=1000, span=30_000), zarr.config.set({"async.concurrency": 3}):
        assert_same(ours(store)[key], data[key])
    [told] = store.told
    assert told["max_gap_bytes"] <= 1000
    assert told["max_concurrency"] <= 3


class NoRanges(Spy):
    """Sends all of a chunk, whatever is asked for."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: Any = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        return found and await AsyncOnly.get(self, key, prototype)


@pytest.mark.parametrize("location", ["end", "start"])
def test_stores_without_ranges(native: None, location: str) -> None:
    """Who answers with all of it is not asked for parts again in this call."""
    store = NoRanges()
    data = big_shards(store, location)
    array = ours(store)
    for key in ((slice(50, 60), slice(70, 80)), (slice(380, 390), slice(1000, None)), (-1, -1)):
        assert_same(array[key], data[key])
    raw = NoRanges()
    plain = make(raw, _plain("raw", data.shape, (384, 512)))
    plain[...] = data
    raw.watch.forget()
    assert_same(plain[5:760:300, 7], data[5:760:300, 7])
    assert_same(plain[383:386, 510:515], data[383:386, 510:515])


# ----------------------------------------------------------------------- whose memory it is


@pytest.mark.parametrize("name", ["raw", "raw-big", "zstd", "v2-raw-F"])
@each_kind("memory", "memory-mapping", "managed-memory", "wrapper", "sync-spy", "async-only")
def test_stores_in_memory_keep_their_own(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """Neither the user's array nor a result shares memory with what is stored."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", (8, 6))
    value = data.copy(order="F" if name.endswith("F") else "C")
    array = make(store, _plain(name, (8, 6), (8, 6)))
    array[...] = value
    before = stored(store)
    value[...] = -1
    result = np.asarray(array[...])
    result[...] = -2
    part = np.asarray(array[1:3])
    part[...] = -3
    assert stored(store) == before
    assert_same(array[...], data)
    held = getattr(store, "_store_dict", {})
    for key in before:
        if key in held:
            assert not np.shares_memory(held[key].as_numpy_array(), value)


def test_writes_do_not_change_old_buffers(native: None) -> None:
    """A partial write stores a new buffer: who has the old one keeps it as it is."""
    store = MemoryStore()
    array = make(store, _plain("raw", (8, 6), (8, 6)))
    array[...] = data = make_data("<i4", (8, 6))
    old = store._store_dict["c/0/0"]
    array[2:4, 1:3] = 0
    assert old.to_bytes() == data.tobytes()


# ------------------------------------------------------------------------- how many requests


Watched = Callable[[], Spy | SyncSpy]
WATCHED: dict[str, Watched] = {
    "async": lambda: Spy(delay=0.003),
    "ranges": lambda: Ranges(delay=0.003),
    "blocking": lambda: SyncSpy(delay=0.0005),
}


@pytest.fixture
def threads_to_block() -> Iterator[None]:
    """zarr's event loop keeps the threads of whichever call was its first; it may be one."""

    async def exchange(threads: Any) -> Any:
        loop: Any = asyncio.get_running_loop()
        before, loop._default_executor = loop._default_executor, threads
        return before

    with ThreadPoolExecutor(8) as threads:
        before = sync(exchange(threads))
        yield
        sync(exchange(before))


@pytest.mark.parametrize("limit", [1, 2, 5, 10, None])
@pytest.mark.parametrize("name", WATCHED)
def test_requests_at_a_time(
    native: None, threads_to_block: None, name: str, limit: int | None
) -> None:
    """Never more than ``async.concurrency``, and as many if there is enough to do."""
    store = WATCHED[name]()
    data = make_data("<i4", (64, 60))
    array = make(store, _plain("zstd", data.shape, (4, 15)))  # 64 chunks
    with zarr.config.set({"async.concurrency": limit}):
        peaks = {}
        for what in ("write", "read", "merge"):
            store.watch.forget()
            if what == "write":
                array[...] = data
            elif what == "read":
                assert_same(array[...], data)
            else:
                array[1:63, 1:59] = data[1:63, 1:59] = data[1:63, 1:59][::-1].copy()
            peaks[what] = store.watch.peak
    assert_same(array[...], data)
    if limit is not None:
        assert max(peaks.values()) <= limit, peaks
    if limit != 1:
        # keys of a store that blocks go to threads in groups, and there are few threads
        least = 2 if name == "blocking" else min(limit or 11, 11)
        assert peaks["write"] >= min(least, 4)  # stored as they are encoded
        assert peaks["read"] >= least
    assert len(stored(store)) == 64


def test_requests_at_a_time_of_shards(native: None) -> None:
    """Ranges count as other requests do."""
    store = Spy(delay=0.003)
    data = big_shards(store)
    for limit in (1, 3):
        with zarr.config.set({"async.concurrency": limit}), coalescing(gap=0):
            array = ours(store)
            store.watch.forget()
            assert_same(array[5:768:48, 3], data[5:768:48, 3])
            assert len(store.watch.requests) >= 10
            assert store.watch.peak == limit


@pytest.mark.parametrize("nonsense", ["many", 0, -1, 2.5, True, [3]])
def test_nonsense_concurrency(native: None, nonsense: Any) -> None:
    """One warning a call, and zarr's own default."""
    store = Spy(delay=0.002)
    data = make_data("<i4", (64, 60))
    array = make(store, _plain("zstd", data.shape, (4, 15)))
    with zarr.config.set({"async.concurrency": nonsense}):
        for work in ("write", "read"):
            store.watch.forget()
            with pytest.warns(UserWarning, match=r"async\.concurrency") as seen:
                array.__setitem__(..., data) if work == "write" else array.__getitem__(...)
            assert len(seen) == 1
            assert 1 < store.watch.peak <= 10
    assert_same(theirs(store)[...], data)


def test_the_environment_may_say_it_in_text(native: None) -> None:
    store = Spy(delay=0.002)
    array = make(store, _plain("zstd", (64, 60), (4, 15)))
    array[...] = data = make_data("<i4", (64, 60))
    store.watch.forget()
    with zarr.config.set({"async.concurrency": "3"}):
        assert_same(array[...], data)
    assert store.watch.peak == 3


def test_blocking_stores_do_not_block_the_event_loop(native: None) -> None:
    """Their methods run in other threads, whatever the size of the call."""

    async def here() -> int:
        return threading.get_ident()

    store = SyncSpy()
    for shape in ((3, 4), (200, 100)):
        array = make(store, _plain("raw", shape, (50, 20)), overwrite=True)
        store.threads.clear()
        array[...] = data = make_data("<i4", shape)
        assert_same(array[...], data)
        array[1:3, 1:3] = 1
        assert store.threads
        assert sync(here()) not in store.threads


class Waits(AsyncOnly):
    """The last chunk comes when the first is where it belongs, or never."""

    arrived: Callable[[], bool] = staticmethod(lambda: True)

    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        for _ in range(2000):
            if not key.endswith("c/7") or self.arrived():
                return await super().get(key, *args, **kw)
            await asyncio.sleep(0.005)
        raise TimeoutError("nothing was decoded")


@pytest.mark.parametrize("size", [100, 100_000])
def test_decoding_does_not_wait_for_the_last(native: None, size: int) -> None:
    """Chunks are decoded while others are being fetched."""
    store = Waits()
    data = np.arange(1, 8 * size + 1, dtype="<i4")
    array = make(store, _plain("zstd", data.shape, (size,)))
    array[...] = data
    out = np.zeros_like(data)
    store.arrived = lambda: out[0] == 1
    array.get_basic_selection(..., out=cpu.NDBuffer.from_numpy_array(out))
    assert_same(out, data)


LIMITS: dict[str, dict[str, int]] = {
    "held": {"storage._store_reads.MAX_HELD": 1},
    "held-some": {"storage._store_reads.MAX_HELD": 1000},
    "thread-bytes": {"storage._store_reads.THREAD_BYTES": 1},
    "thread-keys": {"storage._store_reads.THREAD_KEYS": 1},
    "index": {"storage._store_reads.SMALL_INDEX": 0},
    "old": {"storage._store_writes.MAX_OLD": 1},
    "encoded": {"storage._store_writes.MAX_ENCODED": 1},
    "batch": {"storage._store_writes.BATCH_BYTES": 1, "storage._store_writes.BATCH_TASKS": 1},
    "big-batch": {"storage._store_writes.MAX_BATCH_BYTES": 1},
    "all-of-them": {
        "storage._store_reads.MAX_HELD": 1,
        "storage._store_writes.MAX_OLD": 1,
        "storage._store_writes.MAX_ENCODED": 1,
        "storage._store_writes.MAX_BATCH_BYTES": 1,
    },
}


@pytest.mark.parametrize("store", [Spy, Ranges, SyncSpy, MemoryStore], ids=lambda c: c.__name__)
@pytest.mark.parametrize("limits", LIMITS)
def test_limits_of_memory(
    native: None, monkeypatch: pytest.MonkeyPatch, limits: str, store: type[Store]
) -> None:
    """However little may be held, it goes on, and one chunk is always possible."""
    for name, value in LIMITS[limits].items():
        monkeypatch.setattr(f"zarrs.{name}", value)
    where = store()
    case = CASE["shards-zstd"]
    data = make_data("<i4", case.shape)
    array = make(where, case)
    array[...] = data
    assert_same(array[...], data)
    array[1:28, 1:16, 1:12] = data[1:28, 1:16, 1:12] = data[1:28, 1:16, 1:12] // 2
    if limits == "held" and isinstance(where, Spy):
        where.watch.forget()
    assert_same(array[...], data)
    if limits == "held" and isinstance(where, Spy):
        assert where.watch.peak == 1
    assert_same(theirs(where)[...], data, "zarr")
    big = store()
    with coalescing(gap=0):
        expected = big_shards(big)
        assert_same(ours(big)[5:768:300, ::200], expected[5:768:300, ::200])


@each_kind("memory", "zip", "latency", "local-own-get", "async-only", "sync-spy", "fsspec-local")
def test_writers_of_one_chunk(native: None, tmp_path: Path, services: Services, kind: Kind) -> None:
    """Threads that write parts of the same chunks lose nothing."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", (24, 30))
    array = make(store, _plain("zstd", data.shape, (24, 10)))

    def write(i: int) -> None:
        one = ours(store)
        for row in range(i, 24, 4):
            one[row] = data[row]

    in_threads(4, write)
    assert_same(array[...], data)


@pytest.mark.parametrize("store", [AsyncOnly, Ranges, SyncSpy, MemoryStore])
def test_other_event_loops(native: None, store: type[Store]) -> None:
    """Calls come from event loops of several threads, not from zarr's alone."""
    where = store()
    data = make_data("<i4", (24, 30))
    array = make(where, _plain("zstd", data.shape, (24, 10)))

    async def work(i: int) -> None:
        one = array._async_array
        for row in range(i, 24, 4):
            await one.setitem(row, data[row])
            assert_same(await one.getitem(row), data[row])

    in_threads(4, lambda i: asyncio.run(work(i)))
    assert_same(array[...], data)


@pytest.mark.parametrize("store", [Spy, Ranges, SyncSpy], ids=lambda c: c.__name__)
def test_shards_that_change_meanwhile(
    native: None, monkeypatch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """A shard that goes after its index was read is missing, not an error, nor half of it."""
    where = store()
    data = big_shards(where)
    with coalescing(gap=0):
        array = ours(where)
    held: Any = where._store_dict if isinstance(where, SyncSpy) else where.held
    kept = held["c/0/0"]

    class Gone(dict[str, Any]):
        def __getitem__(self, key: str) -> Any:
            return super().pop(key) if stores.is_chunk(key) else super().__getitem__(key)

        def get(self, key: str, default: Any = None) -> Any:
            return super().pop(key, default) if stores.is_chunk(key) else super().get(key, default)

    gone = Gone(held)
    monkeypatch.setattr(where, "_store_dict" if isinstance(where, SyncSpy) else "held", gone)
    key, *_ = WINDOWS["far-apart"]
    assert_same(array[key], np.zeros_like(data[key]))
    gone["c/0/0"] = kept
    assert array[0, 0] == 0  # the index came, and then nothing


# ---------------------------------------------------------- nobody goes past a store's methods


@pytest.mark.parametrize("name", ["raw", "zstd", "shards-crc32c-start"])
def test_own_get_is_honoured(native: None, tmp_path: Path, name: str) -> None:
    """A subclass of LocalStore with its own ``get`` sees every read."""
    case = CASE[name]
    store = CountingLocal(tmp_path)
    array = make(store, case)
    array[...] = data = make_data("<i4", case.shape)
    assert store.gets == merged_at_edges(array, case)
    store.gets = 0
    assert_same(array[...], data)
    assert store.gets == len(stored(LocalStore(tmp_path)))


def test_what_get_returns_is_what_counts(native: None, tmp_path: Path) -> None:
    """Reads, and the old bytes of partial writes, come from the store's own ``get``."""
    case = _plain("raw", (23, 17), (7, 5))
    data = make_data("<i4", case.shape)
    make(LocalStore(tmp_path), case)[...] = data
    array = ours(ReadScrambled(tmp_path))
    seen = data ^ np.frombuffer(b"\x5a" * 4, "<i4")[0]
    assert_same(array[...], seen)
    assert_same(theirs(ReadScrambled(tmp_path))[...], seen, "zarr")
    array[0, 0] = 1
    plain = ours(LocalStore(tmp_path))
    data[:7, :5] = seen[:7, :5]  # merged with what was read
    data[0, 0] = 1
    assert_same(plain[...], data)


def test_scrambled_files(native: None, tmp_path: Path) -> None:
    """A subclass with its own idea of bytes has it in the files, too."""
    case = _plain("raw", (8, 6), (8, 6))
    data = make_data("<i4", case.shape)
    make(ScrambledLocal(tmp_path), case)[...] = data
    blob = np.frombuffer((tmp_path / "c" / "0" / "0").read_bytes(), "u1")
    assert bits(blob ^ 0x5A) == data.tobytes()


class GetOnly(MemoryStore):
    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return await super().get(key, *args, **kw)


class SetOnly(MemoryStore):
    async def set(self, key: str, value: Buffer, *args: Any) -> None:
        await super().set(key, value, *args)


class DeleteOnly(MemoryStore):
    async def delete(self, key: str) -> None:
        await super().delete(key)


class BelowGetOnly(GetOnly):
    pass


class GetSyncOnly(MemoryStore):
    def get_sync(self, key: str, **kw: Any) -> Buffer | None:
        return super().get_sync(key, **kw)


class GetBoth(GetOnly):
    def get_sync(self, key: str, **kw: Any) -> Buffer | None:
        return super().get_sync(key, **kw)


class Counts:
    """A mixin, which is no store."""

    async def get(self, key: str, *args: Any, **kw: Any) -> Any:
        return await super().get(key, *args, **kw)  # type: ignore[misc]


class Mixed(Counts, MemoryStore):
    pass


class OptsOut(MemoryStore):
    _supports_sync_io = False


class Renamed(MemoryStore):
    pass


def _patched() -> Store:
    store = MemoryStore()
    store.get = store.get  # type: ignore[method-assign]
    return store


@dataclass(frozen=True)
class Ways:
    """A store, and what may be made of it."""

    make: Callable[[], Store]
    synchronous: bool
    immediate: bool = False
    ranges: bool = False


class RangesBelowGet(Ranges):
    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return await super().get(key, *args, **kw)


WAYS: dict[str, Ways] = {
    "memory": Ways(MemoryStore, True, immediate=True),
    "memory-mapping": Ways(lambda: MemoryStore(Mapping()), True),
    "memory-subclass": Ways(Renamed, True),
    "memory-patched": Ways(_patched, False),
    "local": Ways(lambda: LocalStore("x"), True),
    "async-only": Ways(AsyncOnly, False),
    "own-ranges": Ways(Ranges, False, ranges=True),
    "own-ranges-below-get": Ways(RangesBelowGet, False),
    "get": Ways(GetOnly, False),
    "below-get": Ways(BelowGetOnly, False),
    "set": Ways(SetOnly, False),
    "delete": Ways(DeleteOnly, False),
    "get-sync": Ways(GetSyncOnly, True),
    "get-both": Ways(GetBoth, True),
    "mixin": Ways(Mixed, False),
    "opts-out": Ways(OptsOut, False),
    "all": Ways(SyncSpy, True),
    "local-get": Ways(lambda: CountingLocal("x"), False),
    "local-all": Ways(lambda: ScrambledLocal("x"), True),
    # wrappers have methods that block since zarr 3.4
    "wrapper": Ways(lambda: WrapperStore(MemoryStore()), ZARR_34),
    "wrapper-twice": Ways(lambda: WrapperStore(WrapperStore(MemoryStore())), ZARR_34),
    "wrapper-async": Ways(lambda: WrapperStore(AsyncOnly()), False),
    "wrapper-get": Ways(lambda: WrapperStore(GetOnly()), False),
    "wrapper-opts-out": Ways(lambda: WrapperStore(OptsOut()), False),
    "wrapper-ranges": Ways(lambda: WrapperStore(Ranges()), False),
    "wrapper-own-get": Ways(lambda: Latency(MemoryStore()), False),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_ask(name: str) -> None:
    """Which methods of a store may be used in the place of which others."""
    ways = WAYS[name]
    store = ways.make()
    assert _stores.is_synchronous(store) is ways.synchronous
    assert _stores.is_immediate(store) is ways.immediate
    assert _stores.has_own_ranges(store) is ways.ranges


@pytest.mark.skipif(not ZARR_34, reason="zarr's own stores have methods that block since 3.4")
def test_ways_to_ask_of_zarr() -> None:
    from zarr.experimental.cache_store import CacheStore
    from zarr.testing.store import LatencyStore

    assert not _stores.is_synchronous(CacheStore(MemoryStore(), cache_store=MemoryStore()))
    assert _stores.is_immediate(zarr.storage.ManagedMemoryStore())
    assert _stores.is_synchronous(LatencyStore(MemoryStore()))
    assert not _stores.is_synchronous(LatencyStore(AsyncOnly()))
    assert not _stores.has_own_ranges(LatencyStore(Ranges()))
    logging = LoggingStore(LocalStore("x"), "ERROR")
    assert _stores.is_synchronous(logging) is ("get_sync" in vars(LoggingStore))


# ------------------------------------------------------------------------- what is not there


@pytest.mark.skipif(not ZARR_34, reason="the option came with zarr 3.4")
@each_kind("memory", "sync-spy", "async-only", "own-ranges", "zip", "obstore-memory")
@pytest.mark.parametrize("name", ["raw", "zstd", "shards-zstd"])
def test_missing_chunks_may_be_an_error(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """With ``array.read_missing_chunks`` off, whatever the store."""
    from zarr.errors import ChunkNotFoundError

    case = CASE[name]
    store = kind.new(tmp_path, services)
    data = make_data("<i4", case.shape)
    array = make(store, case)
    corner = tuple(slice(0, g) for g in case.grid)
    array[corner] = data[corner]
    with zarr.config.set({"array.read_missing_chunks": False}):
        array = ours(store)
    assert_same(array[corner], data[corner])
    with pytest.raises(ChunkNotFoundError):
        array[...]


# ---------------------------------------------------------------------- explained, or refused


@each_kind(read_only=True)
def test_explain(tmp_path: Path, services: Services, kind: Kind) -> None:
    """Native from end to end, and by what way."""

    def fill(store: Store) -> None:
        make(store, CASE["zstd"])

    explanation = zarrs.explain(ours(filled(kind, tmp_path, services, fill)))
    assert explanation.native is True
    assert explanation.store.native is True
    assert "its own interface" in explanation.store.reason
    assert explanation.store.reason in str(explanation)


def test_chunks_in_a_gpu() -> None:
    """Their bytes are no business of ours, whoever wraps the store."""
    store = GpuMemoryStore()
    for one in (store, WrapperStore(store), WrapperStore(WrapperStore(store))):
        reason = _stores.file_prefix(one)
        assert isinstance(reason, str)
        assert "GPU" in reason
        assert type(one).__name__ in reason
    assert _stores.file_prefix(WrapperStore(MemoryStore())) is None
    assert _stores.file_prefix(WrapperStore(LocalStore("x"))) is None
    assert isinstance(_stores.file_prefix(LocalStore("x")), bytes)


class Foreign(cpu.Buffer.__mro__[1]):  # type: ignore[misc]
    """A buffer that is none of the CPU's, as far as anybody can tell."""

    create_zero_length = cpu.Buffer.__dict__["create_zero_length"]
    from_buffer = cpu.Buffer.__dict__["from_buffer"]
    from_bytes = cpu.Buffer.__dict__["from_bytes"]
    as_numpy_array = cpu.Buffer.__dict__["as_numpy_array"]
    combine = cpu.Buffer.__dict__["combine"]
    __add__ = cpu.Buffer.__dict__.get("__add__", lambda self, other: self)


def test_foreign_buffers() -> None:
    """A prototype with buffers from elsewhere is left to zarr, with a reason."""
    prototype = BufferPrototype(buffer=Foreign, nd_buffer=cpu.NDBuffer)
    store = MemoryStore()
    data = make_data("<i4", (23, 17))
    array = make(store, CASE["raw"])
    array.set_basic_selection(..., data, prototype=prototype)
    assert_same(array.get_basic_selection((slice(1, 9), 3), prototype=prototype), data[1:9, 3])
    assert_same(array[...], data)
    with zarr.config.set({"codec_pipeline.strict": True}):
        strict = ours(store)
    with pytest.raises(zarrs.NotNativeError, match="Foreign is no buffer"):
        strict.get_basic_selection(..., prototype=prototype)
    with pytest.raises(zarrs.NotNativeError, match="Foreign is no buffer"):
        strict.set_basic_selection(..., data, prototype=prototype)


class Typed(Spy):
    """Remembers of which classes the buffers were."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.classes: set[type] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, *args: Any, **kw: Any
    ) -> Buffer | None:
        self.classes |= {prototype.buffer} if stores.is_chunk(key) else set()
        return await super().get(key, prototype, *args, **kw)

    async def set(self, key: str, value: Buffer) -> None:
        self.classes |= {type(value)} if stores.is_chunk(key) else set()
        await super().set(key, value)


@pytest.mark.parametrize("name", ["raw", "zstd", "shards-zstd"])
@pytest.mark.parametrize("store", [Typed, StoreExpectingTestBuffer], ids=lambda c: c.__name__)
def test_buffers_of_a_subclass(native: None, store: type[Store], name: str) -> None:
    """Subclasses of the CPU's buffers are native, and are what a store gets and is asked for."""
    prototype = BufferPrototype(buffer=TestBuffer, nd_buffer=cpu.NDBuffer)
    where = store()
    case = CASE[name]
    data = make_data("<i4", case.shape)
    array = make(where, case)
    array.set_basic_selection(..., data, prototype=prototype)
    corner = tuple(slice(1, g + 1) for g in case.grid)
    array.set_basic_selection(corner, 5, prototype=prototype)
    data[corner] = 5
    assert_same(array.get_basic_selection(..., prototype=prototype), data)
    if isinstance(where, Typed):
        assert where.classes == {TestBuffer}
    plain = AsyncOnly(where.held) if isinstance(where, Typed) else MemoryStore(where._store_dict)
    assert_same(theirs(plain)[...], data, "zarr")


# ------------------------------------------------------------------------------------ random


RANDOM_STORES: dict[str, Callable[[], Store]] = {
    "memory": MemoryStore,
    "async-only": AsyncOnly,
    "spy": lambda: Spy(delay=0.0001),
    "ranges": Ranges,
    "no-ranges": NoRanges,
    "blocking": SyncSpy,
    "mapping": lambda: MemoryStore(Mapping()),
    "latency": lambda: WrapperStore(Spy(delay=0.0001)),
}


EXAMPLES = int(os.environ.get("ZARRS_EXAMPLES", "100"))


def referee(store: Store) -> zarr.Array:
    """The array for zarr's default pipeline, which takes it that stores have ranges."""
    return theirs(AsyncOnly(store.held) if isinstance(store, NoRanges) else store)


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # to make it smaller takes minutes
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@examples(EXAMPLES)
@given(
    data=st.data(),
    case=cases(),
    dtype=st.sampled_from([*CORE_DTYPES, np.dtype(">i4")]),
    name=st.sampled_from([*RANDOM_STORES]),
    limit=st.sampled_from([1, 2, 10, None]),
)
@pytest.mark.usefixtures("native")
def test_random(
    data: st.DataObject, case: Case, dtype: np.dtype, name: str, limit: int | None
) -> None:
    """Any sequence of reads and writes leaves what it leaves in NumPy, in any store."""
    no_void = not ZARR_34 and dtype.kind == "V"  # which zarr cannot read from shards
    if no_void or not zarr_has(dtype, case.arguments.get("zarr_format", 3)):
        dtype = np.dtype("<i4")
    options = {
        "async.concurrency": limit,
        # to zarr a chunk of complex -0.0 is as empty as one of 0.0
        "array.write_empty_chunks": dtype.kind in "cV",
    }
    store = RANDOM_STORES[name]()
    with zarr.config.set(options):
        array = make(store, case, dtype)
        expected = np.full(case.shape, array.fill_value, dtype)
        for _ in range(data.draw(st.integers(1, 4), label="steps")):
            pick = data.draw(picks(case), label="write")
            note(str(pick))
            where = pick.places(case.shape, case.grid)
            value = make_data(dtype, case.shape, data.draw(st.integers(0, 5))).reshape(-1)[where]
            if value.size and data.draw(st.booleans(), label="scalar"):
                value = value.reshape(-1)[0]
            pick.write(array, value)
            expected.reshape(-1)[where] = value
            pick = data.draw(picks(case), label="read")
            where = pick.places(case.shape, case.grid)
            assert_same(pick.read(array), expected.reshape(-1)[where], f"read {pick}")
        assert_same(array[...], expected, "all")
        assert_same(referee(store)[...], expected, "zarr")
        # before 3.4 zarr cannot write to shards of no dimensions
        if (ZARR_34 or case.shape) and data.draw(st.booleans(), label="zarr writes"):
            expected = make_data(dtype, case.shape, 7)
            referee(store)[...] = expected
            assert_same(array[...], expected, "after zarr")


BIG_SHARDINGS = (
    *("index-end-little-crc32c", "index-start-big-bare", "zstd", "crc32c-start", "blosc"),
    *("before-rotated", "inside-rotated-zstd", "nested-zstd"),
)


@examples(EXAMPLES // 4)
@given(
    data=st.data(),
    how=st.sampled_from([None, *(SHARDING[name] for name in BIG_SHARDINGS)]),
    name=st.sampled_from([*RANDOM_STORES]),
    inner=st.sampled_from([(48, 64), (192, 192), (64, 576), (12, 24)]),
    limits=st.tuples(st.sampled_from([0, 500, 50_000, MIB]), st.sampled_from([1, 40_000, MIB])),
    holes=st.booleans(),
)
@pytest.mark.usefixtures("native")
def test_random_parts_of_big_shards(
    data: st.DataObject,
    how: Sharding | None,
    name: str,
    inner: Coords,
    limits: tuple[int, int],
    holes: bool,
) -> None:
    """Index and ranges, with any gaps, in any store."""
    shape, shard = (700, 650), (576, 576)
    case = NESTED
    if how is not None:
        case = Case(shape, how.shard_shape(shard), how.arguments(shard, inner), how.name)
    store = RANDOM_STORES[name]()
    expected = make_data("<i4", shape, 3)
    if holes:
        expected[100:400, 200:500] = 0
    with coalescing(*limits):
        array = make(store, case)
        array[...] = expected
        for _ in range(3):
            pick = data.draw(picks(case).filter(lambda p: p.kind != "mask"), label="read")
            note(str(pick))
            where = pick.places(shape, case.grid)
            assert_same(pick.read(array), expected.reshape(-1)[where], f"read {pick}")
        pick = data.draw(picks(case), label="write")
        check(array, expected, pick, grid=case.grid)
    assert_same(referee(store)[...], expected, "zarr")


# ------------------------------------------------------------------------ what is left behind


@pytest.mark.parametrize("writing", [False, True])
def test_nothing_outlives_a_call(native: None, writing: bool) -> None:
    """Memory is given back when its user lets go of it, not when cycles are collected."""
    store = Spy(delay=0.001)
    array = make(store, _plain("zstd", (64, 60), (16, 15)))
    array[...] = 1
    gc.collect()
    gc.disable()
    try:
        values = np.zeros((64, 60), "<i4")
        memory = weakref.ref(values)
        if writing:
            array[1:, 1:] = values[1:, 1:]
        else:
            array.get_basic_selection(..., out=cpu.NDBuffer.from_numpy_array(values))
        del values
        deadline = time.monotonic() + 10
        while memory() is not None and time.monotonic() < deadline:
            time.sleep(0.01)  # the event loop lets go of a call after it has answered
        assert memory() is None
    finally:
        gc.enable()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="new in Python 3.12")
@pytest.mark.parametrize("kind", [Spy, Ranges])
def test_eager_tasks(native: None, kind: type[Spy]) -> None:
    """Event loops that begin a task before it has been counted."""
    store = kind()
    data = big_shards(store)
    key, *_ = WINDOWS["far-apart"]

    async def main() -> Any:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        array = await zarr.api.asynchronous.open_array(store=store)
        return await array.getitem(key)

    assert_same(asyncio.run(main()), data[key])


def test_a_cancelled_write_begins_nothing(native: None) -> None:
    """No chunk is stored that was not being stored already."""
    store = Spy(delay=0.02)
    data = make_data("<f8", (64 * 2**14,))
    begun: list[str] = []

    async def main() -> None:
        array = await zarr.api.asynchronous.create_array(
            store=store, shape=data.shape, chunks=(2**14,), dtype="<f8", compressors=GzipCodec()
        )
        task = asyncio.create_task(array.setitem(..., data))
        while not stored_now(store):
            await asyncio.sleep(0)
        task.cancel()
        for _ in range(5):  # until it knows
            await asyncio.sleep(0)
        under_way = store.watch._under_way
        before = stored_now(store)
        with pytest.raises(asyncio.CancelledError):
            await task
        begun.extend(set(stored_now(store)) - set(before))
        assert len(begun) <= under_way

    with zarr.config.set({"async.concurrency": 3}):
        asyncio.run(main())
    count = len(stored_now(store))
    time.sleep(0.1)
    assert len(stored_now(store)) == count


def stored_now(store: Spy) -> list[str]:
    """Keys of chunks in a store that is not asked."""
    return [key for key in store.held if "c/" in key]
