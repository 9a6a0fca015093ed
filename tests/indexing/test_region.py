"""``indexing/_region`` function by function: from selections to bytes, and to inner chunks.

The referee visits every selected item by itself.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_kernels import (
    Axis,
    Cell,
    Points,
    cells,
    examples,
    in_order,
    item_number,
    kernels,
    make_shard,
)

from zarrs._core import Layout, Status

EXAMPLES = examples(150)
MAX_CELLS = 4000

Chosen = tuple[list[Axis], Points | None]


def layout(itemsize: int) -> Layout:
    return Layout(itemsize, (), bytes(itemsize))


# ---------------------------------------------------------------------------------- selections

OFFSETS = st.integers(-50, 50).map(lambda k: 24 * k)


@st.composite
def ranges(draw: st.DrawFn, size: int, stride: int) -> Axis:
    """A range as planning makes it: of one item the step is no distance."""
    start = draw(st.integers(0, size - 1))
    step = draw(st.sampled_from([1, 1, 1, 2, 3, 7]))
    most = (size - 1 - start) // step + 1
    count = draw(st.sampled_from([most, most, 1, draw(st.integers(1, most))]))
    if draw(st.integers(0, 3)) == 0:
        start, step, count = 0, 1, size
    return Axis(size, start, step, count, stride) if count > 1 else Axis(size, start, 1, 1, 0)


@st.composite
def lists(draw: st.DrawFn, size: int) -> Axis:
    """Positions that rise, some of them several times; their places are anywhere."""
    n = draw(st.integers(1, 9))
    chosen = sorted(draw(st.lists(st.integers(0, size - 1), min_size=n, max_size=n)))
    places = draw(st.lists(OFFSETS, min_size=n, max_size=n))
    origin = draw(st.sampled_from([0, 0, 1000]))
    return Axis(size, 0, 1, n, 0, [origin + k for k in chosen], places, origin)


@st.composite
def points_of(draw: st.DrawFn, shape: tuple[int, ...]) -> Chosen:
    n = draw(st.integers(1, 30))
    numbers = st.lists(st.integers(0, math.prod(shape) - 1), min_size=n, max_size=n)
    places = draw(st.lists(OFFSETS, min_size=n, max_size=n))
    return [Axis(size, 0, 1, n, 0) for size in shape], (draw(numbers), places)


def _first_half(axis: Axis) -> Axis:
    """Less of an axis of which more than three items are selected."""
    n = axis.count // 2
    if axis.chosen is None or axis.array_offsets is None:
        return axis._replace(count=n)
    return axis._replace(count=n, chosen=axis.chosen[:n], array_offsets=axis.array_offsets[:n])


@st.composite
def selections(draw: st.DrawFn, shape: tuple[int, ...], itemsize: int) -> Chosen:
    if shape and draw(st.integers(0, 3)) == 0:
        return draw(points_of(shape))
    ordered, fancy = draw(st.booleans()), draw(st.booleans())
    axes: list[Axis] = []
    stride = itemsize
    for size in reversed(shape):
        if fancy and draw(st.booleans()):
            axes.insert(0, draw(lists(size)))
        else:
            given = stride if ordered else draw(st.sampled_from([itemsize, -7, 24, 400]))
            axes.insert(0, draw(ranges(size, given)))
        stride *= axes[0].count
    while math.prod(axis.count for axis in axes) > MAX_CELLS:
        k = max(range(len(axes)), key=lambda k: axes[k].count)
        axes[k] = _first_half(axes[k])
    return axes, None


SHAPES = st.lists(st.sampled_from([1, 2, 3, 5, 17, 24]), max_size=5).map(tuple)
ITEMSIZES = st.sampled_from([1, 2, 4, 5, 8, 16])


# --------------------------------------------------------------------------------------- bytes


def pairs(region: dict[str, Any], writing: bool) -> Iterator[tuple[int, int]]:
    """Of every item of a region its offsets in the decoded chunk and in the array."""
    counts, source, target = region["sides"]
    inside, outside = (target, source) if writing else (source, target)
    begins = [(region["offset"], 0)]
    if region["offsets"] is not None:
        assert region["offset"] == 0
        begins = list(zip(region["offsets"], region["array_offsets"], strict=True))
    for (at, to), index in itertools.product(begins, itertools.product(*map(range, counts))):
        moved = [sum(i * s for i, s in zip(index, side, strict=True)) for side in (inside, outside)]
        yield at + moved[0], region["data"] + to + moved[1]


@EXAMPLES
@given(st.data(), SHAPES, ITEMSIZES, st.booleans(), st.sampled_from([None, False, True]))
def test_make_region(
    data: st.DataObject, shape: tuple[int, ...], itemsize: int, writing: bool, part: bool | None
) -> None:
    """The same items go to the same places, those for one item in their order."""
    axes, points = data.draw(selections(shape, itemsize))
    selected = [(itemsize * item_number(at, shape), to) for at, to in cells(axes, points)]
    low, high = min(selected)[0], max(selected)[0] + itemsize
    status, region = kernels().make_region(axes, points, layout(itemsize), writing, part)
    assert status == Status.OK
    if part:  # what is needed is all that there is
        selected = [(at - low, to) for at, to in selected]
        low, high = 0, high - low
    assert in_order(pairs(region, writing)) == in_order(iter(selected))
    assert (region["low"], region["high"]) == (low, high)
    assert region["nbytes"] == (high if part else itemsize * math.prod(shape))
    assert (region["offsets"] is None) == (
        points is None and all(axis.chosen is None for axis in axes)
    )
    # A box that has all items of a chunk covers it; of lists nobody has to know.
    whole = len(selected) == math.prod(shape) and region["offsets"] is None
    assert region["covers"] == whole
    assert kernels().first_place(axes, points) == selected[0][1]
    needed = kernels().needed([_without_origin(axis) for axis in axes], points)
    if not part:
        assert needed == (low // itemsize, high // itemsize)


def _without_origin(axis: Axis) -> Axis:
    """What a plan has: only inner chunks of shards have an origin."""
    if axis.chosen is None:
        return axis
    return axis._replace(chosen=[k - axis.origin for k in axis.chosen], origin=0)


@pytest.mark.parametrize("tail", [15, 16, 17])
@pytest.mark.parametrize("last", [4, 400])
def test_ranges_before_a_list(tail: int, last: int) -> None:
    """They make offsets, but stay in the boxes where copying these turns axes around."""
    axes = [
        Axis(10, 2, 2, 3, 4),
        Axis(4, 0, 1, 3, 0, [1, 1, 3], [8, 0, 4000]),
        Axis(20, 1, 1, tail, last),
    ]
    _, region = kernels().make_region(axes, None, layout(4), False)
    turned = tail >= 16 and last == 400
    assert region["sides"][0] == ([3, tail] if turned else [tail])
    assert len(region["offsets"]) == (3 if turned else 9)


def test_too_many_offsets() -> None:
    """More boxes than memory can hold are no memory, and no overflow."""
    n = 1 << 12
    axis = Axis(n, 0, 1, n, 0, [0] * n, [0] * n)
    status, region = kernels().make_region([axis] * 5, None, layout(1), False)
    assert status == Status.NO_MEMORY
    assert region is None


# -------------------------------------------------------------------------------- inner chunks


def split_cells(
    found: Iterator[Cell], shape: tuple[int, ...], inner: tuple[int, ...], order: tuple[int, ...]
) -> dict[int, list[Cell]]:
    """The cells of each inner chunk, which is numbered in C order; its axes are as it is stored."""
    grid = [n // m for n, m in zip(shape, inner, strict=True)]
    split: dict[int, list[Cell]] = {}
    for position, offset in found:
        chunk = [i // m for i, m in zip(position, inner, strict=True)]
        rest = [i % m for i, m in zip(position, inner, strict=True)]
        cell = (tuple(rest[k] for k in order), offset)
        split.setdefault(item_number(chunk, grid), []).append(cell)
    return split


GRIDS = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4]), st.sampled_from([1, 2, 3, 5])), max_size=4
)


def compare(
    axes: list[Axis],
    points: Points | None,
    data: int,
    inner: tuple[int, ...],
    order: tuple[int, ...],
) -> list[tuple[list[Axis], Points | None, int]]:
    """Split a selection in a shard and check it; return what is selected in the inner chunks."""
    shape = tuple(axis.size for axis in axes)
    expected = split_cells(cells(axes, points, data), shape, inner, order)
    shard = make_shard(inner, order)
    n_inner = math.prod(n // m for n, m in zip(shape, inner, strict=True))
    assert kernels().count_inner_chunks(shard, axes) == n_inner
    status, found = kernels().split_selection(shard, axes, points, data)
    assert status == Status.OK
    indexes = [index for index, *_ in found]
    assert len(set(indexes)) == len(indexes)
    assert sorted(indexes) == sorted(expected)
    most = kernels().most_touched(shard, axes, points, n_inner)
    if points is None:
        assert most == len(expected)
        for k, axis in enumerate(axes):
            touched = {position // inner[k] for position, _ in axis.places()}
            assert kernels().n_touched(axis, inner[k]) == len(touched)
    else:
        assert len(expected) <= most == min(n_inner, len(points[0]))
    parts = []
    for index, bare, inner_points, place, has_lists in found:
        inside = [Axis(*axis) for axis in bare]
        assert [axis.size for axis in inside] == [inner[k] for k in order]
        assert has_lists == any(axis.chosen is not None for axis in inside)
        got, wanted = list(cells(inside, inner_points, place)), expected[index]
        assert Counter(got) == Counter(wanted)
        if points is not None:  # in their order
            assert in_order(iter(got)) == in_order(iter(wanted))
        assert dict(got) == dict(wanted)  # the last value for an item stays the last
        parts.append((inside, inner_points, place))
    return parts


@EXAMPLES
@given(st.data(), GRIDS, st.sampled_from([-96, 0, 4000]))
def test_inner_chunks(data: st.DataObject, grid: list[tuple[int, int]], place: int) -> None:
    """No item is lost, doubled or moved; nor in the inner chunks of inner chunks."""
    ndim = len(grid)
    deeper = tuple(data.draw(st.sampled_from([1, 2, 3])) for _ in range(ndim))
    inner = tuple(m * k for (_, m), k in zip(grid, deeper, strict=True))
    shape = tuple(n * m for (n, _), m in zip(grid, inner, strict=True))
    order = tuple(data.draw(st.permutations(range(ndim)), label="order"))
    axes, points = data.draw(selections(shape, 4))
    parts = compare(axes, points, place, inner, order)
    again = tuple(data.draw(st.permutations(range(ndim)), label="order inside"))
    for inside, inner_points, at in parts[:8]:
        compare(inside, inner_points, at, tuple(grid[k][1] for k in order), again)


@pytest.mark.parametrize("inner", range(1, 13))
def test_every_range(inner: int) -> None:
    """All ranges of an axis of twelve items, in inner chunks of any size."""
    size = -(-12 // inner) * inner
    for start, step in itertools.product(range(12), range(1, 13)):
        for count in range(1, (size - 1 - start) // step + 2):
            axis = Axis(size, start, step if count > 1 else 1, count, 4 if count > 1 else 0)
            compare([axis], None, 0, (inner,), (0,))


def test_nothing_is_touched() -> None:
    assert kernels().n_touched(Axis(12, 3, 1, 0, 0), 4) == 0


def test_many_points() -> None:
    """Points of many inner chunks, sorted or not: those of one stay in their order."""
    rng = np.random.default_rng(1)
    n = 5000
    axes = [Axis(size, 0, 1, n, 0) for size in (40, 60)]
    for numbers in (rng.integers(0, 2400, n), np.sort(rng.integers(0, 60, n))):
        offsets = (4 * rng.permutation(n)).tolist()
        compare(axes, (numbers.tolist(), offsets), 8, (4, 5), (1, 0))
