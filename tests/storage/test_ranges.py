"""Byte ranges: only what is needed is asked for, and in how many requests."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, make_data, stock
from selections import Case
from shards import Layout
from store_cases import (
    BIG,
    BIG_INNER,
    BIG_SHAPE,
    BIG_SHARD,
    CASE,
    MIB,
    NESTED,
    RAW_END,
    RAW_START,
    WINDOWS,
    NoRanges,
    big_shards,
    coalescing,
    make,
    merged_at_edges,
    plain_case,
)
from stores import KIND, Kind, Ranges, Request, Services, Spy, each_kind, filled, ours
from zarr.abc.store import RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import cpu

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")


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


BIG_COUNTS = (8, 16)


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
    asked: list[Any] = [request.range for request in parts]
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
    array = make(store, plain_case(name, data.shape, (512, 400)))
    array[...] = data
    store.watch.forget()
    assert_same(array[key], data[key])
    if case in ("column", "order-F-row"):
        data = data[:512] if case == "order-F-row" else data
    wanted = None if expected is None else RangeByteRequest(*expected)
    assert {request.range for request in store.watch.requests} == {wanted}
    assert len(store.watch.requests) == (2 if case == "column" else 1)


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


@pytest.mark.parametrize("location", ["end", "start"])
def test_stores_without_ranges(native: None, location: str) -> None:
    """Who answers with all of it is not asked for parts again in this call."""
    store = NoRanges()
    data = big_shards(store, location)
    array = ours(store)
    for key in ((slice(50, 60), slice(70, 80)), (slice(380, 390), slice(1000, None)), (-1, -1)):
        assert_same(array[key], data[key])
    raw = NoRanges()
    plain = make(raw, plain_case("raw", data.shape, (384, 512)))
    plain[...] = data
    raw.watch.forget()
    assert_same(plain[5:760:300, 7], data[5:760:300, 7])
    assert_same(plain[383:386, 510:515], data[383:386, 510:515])
