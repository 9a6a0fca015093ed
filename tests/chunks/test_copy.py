"""The copies of ``arrays/_copy``, function by function, against NumPy."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_kernels import Memory, examples, kernels

from zarrs._core import FillKind, Layout

EXAMPLES = examples(100)
MAX_NDIM = 5
MAX_ITEMS = 3000
COUNTS = st.sampled_from([1, 1, 2, 3, 4, 5, 9, 17, 34, 70])

Segments = tuple[tuple[int, int, int], ...]
Bytes = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Kind:
    """The size of an item, and the numbers in it that are swapped: offset, unit, count."""

    size: int
    segments: Segments = ()

    @property
    def layout(self) -> Layout:
        return Layout(self.size, self.segments, bytes(self.size))

    def swap(self, items: Bytes) -> Bytes:
        """Reverse the bytes of each number; items' bytes are along the last axis."""
        swapped = items.copy()
        for offset, unit, count in self.segments:
            part = items[..., offset : offset + unit * count]
            turned = part.reshape(*part.shape[:-1], count, unit)[..., ::-1]
            swapped[..., offset : offset + unit * count] = turned.reshape(part.shape)
        return swapped


SIZES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 20, 24]
NUMBERS = [(unit, count) for unit in (2, 4, 8) for count in (1, 2, 3) if unit * count <= 24]
KINDS = [
    *(Kind(size) for size in SIZES),
    *(Kind(unit * count, ((0, unit, count),)) for unit, count in NUMBERS),
    Kind(12, ((0, 4, 1),)),  # a number, and bytes that are kept
    Kind(16, ((0, 16, 1),)),  # no unit of `swap_unit`
    Kind(11, ((1, 2, 1), (3, 8, 1))),
    Kind(24, ((0, 2, 3), (8, 4, 2), (17, 3, 2))),
]


@dataclass
class Side:
    """Where the items of a box are in some memory."""

    counts: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    size: int  # of the memory

    def items(self, memory: Memory, kind: Kind) -> Bytes:
        return memory.view(self.offset, self.counts, self.strides, kind.size)

    def offsets(self) -> list[int]:
        """Where each item begins, in C order."""
        return [
            self.offset + sum(i * s for i, s in zip(index, self.strides, strict=True))
            for index in itertools.product(*map(range, self.counts))
        ]


@st.composite
def counts_of_boxes(draw: st.DrawFn, least: int = 0, most: int = MAX_NDIM) -> tuple[int, ...]:
    counts = draw(st.lists(COUNTS, min_size=least, max_size=most))
    while math.prod(counts) > MAX_ITEMS:
        counts[int(np.argmax(counts))] = 2
    return tuple(counts)


@st.composite
def sides(
    draw: st.DrawFn, counts: tuple[int, ...], size: int, as_stored: bool = False, same: bool = False
) -> Side:
    """Items that do not overlap, in any order of axes, forward and backward, with gaps.

    Of ``as_stored`` ones the strides fall; of ``same`` ones some are 0, so that items come again.
    """
    ndim = len(counts)
    order = list(range(ndim)) if as_stored else draw(st.permutations(range(ndim)))
    strides, offset, stride = [0] * ndim, 0, size
    for k in reversed(order):
        step = draw(st.sampled_from([1, 1, 1, 2, 3]))
        strides[k] = stride * step
        if same and draw(st.integers(0, 4)) == 0:
            strides[k] = 0
        elif not as_stored and draw(st.integers(0, 3)) == 0:
            strides[k] = -strides[k]
            offset += stride * step * (counts[k] - 1)
        elif counts[k] == 1 and not as_stored:
            strides[k] = draw(st.sampled_from([0, size, -7, 1 << 40]))  # means nothing
        gap = draw(st.sampled_from([0, 0, 0, 1])) * (1 if not as_stored else size)
        stride *= counts[k] * step
        stride += gap
    before = draw(st.integers(0, 3)) * (size if as_stored else 1)
    return Side(counts, tuple(strides), offset + before, before + stride + size)


def copied(kind: Kind, source: Side, target: Side) -> None:
    src, dst = Memory(source.size, 1), Memory(target.size, 2)
    target.items(dst, kind)[...] = kind.swap(source.items(src, kind))
    box = (target.counts, source.strides, target.strides)
    kernels().copy_box(box, kind.layout, src.at(source.offset), dst.at(target.offset))
    dst.check()
    src.check()


@EXAMPLES
@given(st.data(), st.sampled_from(KINDS), counts_of_boxes())
def test_copy_box(data: st.DataObject, kind: Kind, counts: tuple[int, ...]) -> None:
    source = data.draw(sides(counts, kind.size, same=True))
    target = data.draw(sides(counts, kind.size))
    copied(kind, source, target)


def packed(counts: Sequence[int], order: Sequence[int], size: int) -> Side:
    """A box without gaps whose axes lie in some order in memory."""
    strides = [0] * len(counts)
    stride = size
    for k in reversed(order):
        strides[k] = stride
        stride *= counts[k]
    return Side(tuple(counts), tuple(strides), 0, stride)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_turned(kind: Kind) -> None:
    """Axes in every order on both sides: full tiles of transposes, and what is left of them."""
    for counts in ((70, 37), (2, 33, 40), (33, 2, 41), (32, 34, 3), (3, 2, 9, 10)):
        orders = list(itertools.permutations(range(len(counts))))
        for order in orders[:7]:
            copied(kind, packed(counts, orders[0], kind.size), packed(counts, order, kind.size))
            copied(kind, packed(counts, order, kind.size), packed(counts, orders[-1], kind.size))


# ------------------------------------------------------------------------------------- windows


def cuts_of(data: st.DataObject, source: Side, size: int) -> list[int]:
    """Ends of windows that no item crosses, from the first byte to the last."""
    crossed = {at + k for at in source.offsets() for k in range(1, size)}
    free = [at for at in range(1, source.size) if at not in crossed]
    inside = data.draw(st.lists(st.sampled_from(free or [0]), max_size=7), label="cuts")
    return [0, *sorted(inside), source.size]


@EXAMPLES
@given(st.data(), st.sampled_from(KINDS), counts_of_boxes())
def test_windows(data: st.DataObject, kind: Kind, counts: tuple[int, ...]) -> None:
    """Each window gives the items in it, and all together what ``copy_box`` gives."""
    source = data.draw(sides(counts, kind.size, as_stored=True))
    target = data.draw(sides(counts, kind.size))
    cuts = cuts_of(data, source, kind.size)
    src, dst = Memory(source.size, 1), Memory(target.size, 2)
    box, layout = (counts, source.strides, target.strides), kind.layout
    items = kind.swap(source.items(src, kind)).reshape(-1, kind.size)
    places = list(zip(source.offsets(), target.offsets(), items, strict=True))
    for low, high in itertools.pairwise(cuts):
        inside = [(to, item) for at, to, item in places if low <= at < high]
        for to, item in inside:
            dst.view(to, (), (), kind.size)[...] = item
        window = Memory(high - low, 3)
        window.put(src.view(low, (), (), high - low).tobytes())
        kernels().copy_window(
            box, layout, source.offset, window.at(0), low, high, dst.at(target.offset)
        )
        dst.check()
        touched = kernels().touches_window(box, layout, source.offset, low, high)
        assert touched == bool(inside)
    whole = Memory(target.size, 2)
    kernels().copy_box(box, layout, src.at(source.offset), whole.at(target.offset))
    np.testing.assert_array_equal(dst.bytes, whole.bytes)


@EXAMPLES
@given(st.data(), st.sampled_from(SIZES), counts_of_boxes())
def test_source_extent(data: st.DataObject, size: int, counts: tuple[int, ...]) -> None:
    source = data.draw(sides(counts, size, as_stored=True))
    for axis in range(len(counts) + 1):
        rest = Side(counts[axis:], source.strides[axis:], 0, 0).offsets()
        extent = kernels().source_extent((counts, source.strides, counts), Kind(size).layout, axis)
        assert extent == max(rest) - min(rest) + size


@EXAMPLES
@given(st.data(), st.sampled_from(SIZES), counts_of_boxes(most=4))
def test_is_one_run(data: st.DataObject, size: int, counts: tuple[int, ...]) -> None:
    """Boxes of which most are one run, or nearly."""

    def side() -> tuple[int, ...]:
        strides = list(packed(counts, range(len(counts)), size).strides)
        for k, count in enumerate(counts):
            if data.draw(st.integers(0, 5)) == 0 or count == 1:
                strides[k] += data.draw(st.sampled_from([0, size, 1, -size, -2 * strides[k]]))
        return tuple(strides)

    source, target = side(), side()
    run = list(range(0, math.prod(counts) * size, size))
    expected = all(Side(counts, strides, 0, 0).offsets() == run for strides in (source, target))
    assert kernels().is_one_run((counts, source, target), Kind(size).layout) == expected


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 2, 15, 64, 129])
def test_swap_run(kind: Kind, n: int) -> None:
    data = Memory(n * kind.size, n)
    items = data.view(0, (n,), (kind.size,), kind.size)
    items[...] = kind.swap(items)
    kernels().swap_run(kind.layout, data.at(0), n)
    data.check()


# --------------------------------------------------------------------------------------- fills


@EXAMPLES
@given(st.data(), st.sampled_from(KINDS), counts_of_boxes())
def test_fill_box(data: st.DataObject, kind: Kind, counts: tuple[int, ...]) -> None:
    """The bytes as they are given, wherever the source would be."""
    target = data.draw(sides(counts, kind.size))
    dst = Memory(target.size)
    fill = np.random.default_rng(3).integers(0, 256, kind.size, np.uint8)
    target.items(dst, kind)[...] = fill
    box = (counts, [1 << 50] * len(counts), target.strides)
    kernels().fill_box(box, kind.layout, fill.tobytes(), dst.at(target.offset))
    dst.check()


@EXAMPLES
@given(st.data(), st.sampled_from(SIZES), st.sampled_from([1, 2, 3, 40, 300]), st.integers(0, 2))
def test_all_fill_bits(data: st.DataObject, size: int, n: int, changes: int) -> None:
    fill = data.draw(st.binary(min_size=size, max_size=size))
    chunk = Memory(n * size)
    chunk.put(fill * n)
    for _ in range(changes):
        at = data.draw(st.integers(0, n * size - 1))
        chunk.view(at, (), (), 1)[...] ^= np.uint8(data.draw(st.sampled_from([0, 1, 128])))
    chunk.bytes[:] = chunk.expected
    items = chunk.view(0, (n,), (size,), size)
    expected = all(item.tobytes() == fill for item in items)
    for swapped in (False, True):  # bits are compared as they are
        found = kernels().all_fill(chunk.at(0), n, size, fill, FillKind.FILL_BITS, swapped)
        assert found == expected


NANS = {2: [0x7C01, 0xFE00, 0x7FFF], 4: [0x7F800001, 0xFFC00000], 8: [(0x7FF << 52) + 1, -1]}
OTHERS = {
    2: [0x7C00, 0xFC00, 0x007C, 0x3C00, 0x00FE],
    4: [0x7F800000, 0xFF800000, 0x0000C07F, 0],
    8: [0x7FF << 52, 0xFFF << 52, 0xF87F, 0],
}
NAN_KINDS = {2: FillKind.FILL_NAN2, 4: FillKind.FILL_NAN4, 8: FillKind.FILL_NAN8}


@EXAMPLES
@given(
    st.data(),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([1, 2]),
    st.sampled_from([1, 2, 3, 17]),
    st.booleans(),
)
def test_all_fill_nan(data: st.DataObject, unit: int, parts: int, n: int, swapped: bool) -> None:
    """Every NaN is as good as another; a complex number is one if one of its parts is."""
    other = data.draw(st.booleans(), label="with others")
    mask = (1 << 8 * unit) - 1
    pool = st.sampled_from(NANS[unit] * 3 + (OTHERS[unit] if other or parts == 2 else []))
    bits = [data.draw(pool) & mask for _ in range(n * parts)]
    raw = b"".join(x.to_bytes(unit, "big" if swapped else "little") for x in bits)
    floats = np.frombuffer(raw, f"{'>' if swapped else '<'}f{unit}").reshape(n, parts)
    expected = bool(np.isnan(floats).any(axis=1).all())
    chunk = Memory(len(raw))
    chunk.put(raw)
    fill = bytes(unit * parts)  # any NaN will do: it is not looked at
    kind = NAN_KINDS[unit]
    assert kernels().all_fill(chunk.at(0), n, unit * parts, fill, kind, swapped) == expected


# ------------------------------------------------------------------------------------- regions


@st.composite
def scattered(draw: st.DrawFn, size: int) -> tuple[Side, Side, list[int], list[int]]:
    """Boxes of one shape: in the chunk, in the array, and where each begins on both sides.

    None shares a byte with another; only in the chunk some come again.
    """
    counts = draw(counts_of_boxes(most=2).filter(lambda counts: math.prod(counts) <= 50))
    chunk, array = draw(sides(counts, size, as_stored=True)), draw(sides(counts, size))
    n = draw(st.integers(0, 12))
    places = st.permutations(range(n))
    slots = draw(st.lists(st.integers(0, max(n - 1, 0)), min_size=n, max_size=n))
    offsets = [k * chunk.size for k in slots]
    array_offsets = [k * array.size for k in draw(places)]
    return chunk, array, offsets, array_offsets


@EXAMPLES
@given(st.data(), st.sampled_from(KINDS), st.booleans())
def test_regions(data: st.DataObject, kind: Kind, is_scattered: bool) -> None:
    chunk, array, offsets, array_offsets = data.draw(scattered(kind.size))
    if is_scattered:
        check_region(kind, chunk, array, offsets, array_offsets)
    else:
        check_region(kind, chunk, array, [5], [7], is_scattered=False)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_single_items(kind: Kind) -> None:
    """Points: those of a usual size are not copied as boxes."""
    one = Side((), (), 0, kind.size)
    places = np.random.default_rng(1).permutation(20) * (kind.size + 1)
    check_region(kind, one, one, [kind.size * k for k in (3, 0, 7, 3, 9)], places[:5].tolist())


def check_region(
    kind: Kind,
    chunk: Side,
    array: Side,
    offsets: list[int],
    array_offsets: list[int],
    is_scattered: bool = True,
) -> None:
    """What leaves a chunk, what enters one, and what takes the place of a missing one."""
    inside = Memory(max(offsets, default=0) + chunk.size, 1)
    size = max(array_offsets, default=0) + array.size
    outside = Memory(size, 2)

    def items(side: Side, memory: Memory, offset: int) -> Bytes:
        return memory.view(offset + side.offset, side.counts, side.strides, kind.size)

    def region(writing: bool) -> tuple[Any, ...]:
        strides = (array.strides, chunk.strides) if writing else (chunk.strides, array.strides)
        lists = (offsets, array_offsets) if is_scattered else (None, None)
        start = 0 if is_scattered else 5 + chunk.offset
        data_at = outside.at(array.offset + (0 if is_scattered else 7))
        return (array.counts, *strides), start, data_at, *lists

    chunk_at = inside.at(chunk.offset if is_scattered else 0)
    for at, to in zip(offsets, array_offsets, strict=True):
        items(array, outside, to)[...] = kind.swap(items(chunk, inside, at))
    kernels().copy_out(region(False), kind.layout, chunk_at)
    outside.check()
    inside.check()

    outside.bytes[:] = Memory(size, 4).bytes
    outside.expected[:] = outside.bytes
    for at, to in zip(offsets, array_offsets, strict=True):  # the last one stays
        items(chunk, inside, at)[...] = kind.swap(items(array, outside, to))
    kernels().copy_in(region(True), kind.layout, chunk_at)
    inside.check()
    outside.check()

    fill = bytes(range(100, 100 + kind.size))
    for to in array_offsets:
        items(array, outside, to)[...] = np.frombuffer(fill, np.uint8)
    kernels().fill_out(region(False), kind.layout, fill)
    outside.check()
