"""An array in regions: each target chunk once, within the limit, and few source chunks twice."""

import math
from collections import Counter
from itertools import accumulate, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrs.copying._memory import Limit, parse_memory, show_memory
from zarrs.copying._regions import RegionError, Regions, axes_of, make_regions

UNLIMITED = Limit(2**62, 3, 2)


def edges(draw: Any, extent: int) -> Any:
    """Chunks of one size along an axis, or of several."""
    if draw(st.booleans()):
        return draw(st.integers(1, extent + 3))
    sizes: list[int] = []
    while sum(sizes) < extent:
        sizes.append(draw(st.integers(1, extent)))
    return tuple(sizes) or (1,)


@st.composite
def grids(draw: Any) -> tuple[tuple[int, ...], tuple[Any, ...], tuple[Any, ...]]:
    shape = tuple(draw(st.lists(st.integers(0, 24), min_size=0, max_size=3)))
    source, target = (tuple(edges(draw, n) for n in shape) for _ in range(2))
    return shape, source, target


def largest(sizes: tuple[Any, ...]) -> int:
    return math.prod(size if isinstance(size, int) else max(size) for size in sizes)


def needed(source: tuple[Any, ...], target: tuple[Any, ...], itemsize: int) -> int:
    """What a single region of a single chunk takes, at most."""
    n_chunks = largest(target) + 1  # more than it can touch
    return Limit(0, 1, 2).cost(largest(target) * itemsize, largest(source) * itemsize, n_chunks, 1)


@settings(max_examples=150, deadline=None)
@given(grids(), st.integers(1, 16), st.floats(1, 50))
def test_each_target_chunk_is_in_one_region(grid: Any, itemsize: int, factor: float) -> None:
    shape, source, target = grid
    limit = Limit(int(factor * needed(source, target, itemsize)), 3, 2)
    regions = make_regions("a", shape, itemsize, source, target, limit)
    seen: Counter[int] = Counter()
    items = np.zeros(shape, int)
    for number in range(len(regions)):
        box = regions.box(number)
        items[box] += 1
        chunks = regions.chunks(number).tolist()
        assert chunks == sorted(chunks)
        seen.update(chunks)
        assert regions.n_bytes(number) == items[box].size * itemsize
        # Its borders are those of target chunks, so nobody else has a part of one of them.
        for part, size, extent in zip(box, target, shape, strict=True):
            borders = {extent}
            ends = accumulate((0, *size)) if isinstance(size, tuple) else range(0, extent, size)
            assert {part.start, part.stop} <= borders.union(ends)
    assert (items == 1).all()
    n_chunks = math.prod(axis.n_chunks for axis in axes_of(target, shape))
    assert seen == Counter(range(n_chunks))


@settings(max_examples=150, deadline=None)
@given(grids(), st.integers(1, 16), st.floats(1, 50))
def test_regions_stay_within_the_limit(grid: Any, itemsize: int, factor: float) -> None:
    shape, source, target = grid
    limit = Limit(int(factor * needed(source, target, itemsize)), 3, 2)
    regions = make_regions("a", shape, itemsize, source, target, limit)
    sizes = [regions.n_bytes(number) for number in range(len(regions))]
    assert 2 * regions.under_way * max(sizes, default=0) <= limit.n_bytes
    assert 1 <= regions.under_way <= 3


@settings(max_examples=100, deadline=None)
@given(grids(), st.floats(1, 20), st.data())
def test_regions_that_hold_something(grid: Any, factor: float, data: Any) -> None:
    """As counted item by item."""
    shape, source, target = grid
    limit = Limit(int(factor * needed(source, target, 8)), 3, 2)
    regions = make_regions("a", shape, 8, source, target, limit)
    axes = axes_of(source, shape)
    places = list(product(*(range(axis.n_chunks) for axis in axes)))
    stored = data.draw(st.sets(st.integers(0, len(places) - 1))) if places else set()
    held = np.zeros(shape, bool)
    for number in stored:
        held[tuple(axis.span(i) for axis, i in zip(axes, places[number], strict=True))] = True
    expected = [number for number in range(len(regions)) if held[regions.box(number)].any()]
    assert regions.touched(np.array(sorted(stored), np.int64), axes).tolist() == expected
    for number in range(len(regions)):
        assert list(regions.overlapping(regions.box(number))) == [number]


def test_huge_grids_take_no_time() -> None:
    """Of which little is stored."""
    regions = make_regions("a", (10**9, 10**9), 4, (1000, 1000), (1500, 1500), UNLIMITED)
    axes = axes_of((1000, 1000), (10**9, 10**9))
    found = regions.touched(np.array([0, 10**6 * 5 + 7, 10**12 - 1]), axes)
    assert 3 <= len(found) <= 12
    assert found[-1] == len(regions) - 1


@pytest.mark.parametrize(
    ("source", "target", "memory", "reads"),
    [
        ((100, 100), (100, 100), "1MiB", 1),  # the same
        ((10, 1000), (1000, 10), "128MiB", 1),  # across, and there is room for all
        ((100, 100), (30, 30), "4MiB", 1),  # common multiples fit
        ((64, 64), (96, 96), "2MiB", 1),
    ],
)
def test_source_chunks_are_read_once(source: Any, target: Any, memory: str, reads: float) -> None:
    """Where memory allows."""
    limit = Limit(parse_memory(memory), 3, 2)
    regions = make_regions("a", (1000, 1000), 4, source, target, limit)
    assert regions.reads == reads
    assert counted_reads(regions, source) == reads


def counted_reads(regions: Regions, source: tuple[int, ...]) -> Any:
    """How often a source chunk is read, on average."""
    n_read = sum(
        math.prod(-(-p.stop // size) - p.start // size for p, size in zip(box, source, strict=True))
        for box in map(regions.box, range(len(regions)))
    )
    return n_read / math.prod(
        -(-cut.extent // s) for cut, s in zip(regions.cuts, source, strict=True)
    )


def test_more_memory_means_fewer_reads() -> None:
    found = [
        make_regions("a", (1000, 1000, 100), 4, (1, 1000, 100), (100, 10, 10),
                     Limit(parse_memory(memory), 3, 2))
        for memory in ("16MiB", "64MiB", "256MiB", "1GiB", "4GiB")
    ]  # fmt: skip
    reads = [regions.reads for regions in found]
    assert reads == sorted(reads, reverse=True)
    assert reads[0] > 5
    assert reads[-1] == 1
    for regions in found:
        assert counted_reads(regions, (1, 1000, 100)) == pytest.approx(regions.reads, rel=0.2)


def test_too_little_memory_says_how_much_is_needed() -> None:
    with pytest.raises(
        RegionError, match=r"array 'a' needs .*, and memory is 1024KiB: allow as much \(memory"
    ) as e:
        make_regions("a", (1000, 1000), 8, (10, 10), (1000, 1000), Limit(2**20, 3, 2))
    needed = str(e.value).split()[3]
    make_regions("a", (1000, 1000), 8, (10, 10), (1000, 1000), Limit(parse_memory(needed), 3, 2))


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("1", 1), (77, 77), ("2k", 2048), ("1KiB", 1024), ("1.5 kB", 1500), ("3GB", 3 * 10**9),
     ("0.5gib", 2**29), ("2T", 2**41), (" 12 MiB ", 12 * 2**20)],
)  # fmt: skip
def test_memory_as_it_is_typed(text: Any, n_bytes: int) -> None:
    assert parse_memory(text) == n_bytes


@pytest.mark.parametrize("text", ["", "0", "-1", "lots", "1.2.3", "5 apples", True, None, "1e3"])
def test_what_is_no_memory(text: Any) -> None:
    with pytest.raises(ValueError, match="memory must be a number of bytes, such as"):
        parse_memory(text)


@given(st.integers(1, 2**50))
def test_what_is_shown_is_enough(n_bytes: int) -> None:
    assert n_bytes <= parse_memory(show_memory(n_bytes)) <= n_bytes * 1.1
