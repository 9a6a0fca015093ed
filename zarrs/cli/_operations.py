"""What ``zarrs bench`` reads of an array: ways that programs read, none without a limit."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import zarr

    from zarrs.cli._layout import Layout

Shape = tuple[int, ...]

WINDOWS = 8
ROWS = 64
POINTS = 50
MAX_CHUNKS = 5000  # of an operation, or an array of tiny chunks would take hours
VARIABLE_ITEM = 64  # bytes that a string in memory is taken for


@dataclass(frozen=True)
class Operation:
    """A way to read.

    Attributes
    ----------
    name : str
    selections : tuple
        What is read, one after another.
    is_orthogonal : bool
        Whether these are for ``oindex``.
    """

    name: str
    selections: tuple[Any, ...]
    is_orthogonal: bool = False

    def read(self, array: zarr.Array[Any]) -> Iterator[Any]:
        """Read one selection after another."""
        for selection in self.selections:
            yield array.oindex[selection] if self.is_orthogonal else array[selection]


def operations_on(layout: Layout, limit: int) -> list[Operation]:
    """Return what can be read of an array, of few bytes and chunks each; the same every time.

    Parameters
    ----------
    layout : Layout
        The array has at least one item.
    limit : int
        The most bytes.
    """
    shape = layout.shape
    itemsize = VARIABLE_ITEM if layout.nbytes is None else layout.nbytes // math.prod(shape)
    most = max(1, limit // max(1, itemsize))
    # So many items of a box, and of what is thin along an axis, are in so many chunks.
    chunk = math.prod(layout.chunk)
    items = min(most, MAX_CHUNKS * chunk)
    thin = [min(most, MAX_CHUNKS * chunk // n) for n in layout.chunk]
    rng = random.Random(0)
    found = [_whole(layout, items)]
    if len(shape) >= 1:
        found += [_windows(shape, items, rng)]
    if len(shape) >= 2:
        found += [_planes(shape, thin), _rows(shape, thin[0], rng)]
    if len(shape) >= 1:
        points = tuple(tuple(rng.randrange(n) for n in shape) for _ in range(POINTS))
        found += [Operation("points", points)]
    return found


def _whole(layout: Layout, items: int) -> Operation:
    # From the beginning, as many whole chunks or shards as fit.
    shape = _cut(layout.shape, items)
    if shape == layout.shape:
        return Operation("whole", (_box(shape),))
    units = layout.shard or layout.chunk
    shape = tuple(n - n % unit if n > unit else n for n, unit in zip(shape, units, strict=True))
    return Operation("beginning", (_box(shape),))


def _windows(shape: Shape, items: int, rng: random.Random) -> Operation:
    # A quarter of every axis, or less of each.
    edges = tuple(max(1, n // 4) for n in shape)
    scale = min(1.0, (items / WINDOWS / math.prod(edges)) ** (1 / len(shape)))
    edges = _cut(tuple(max(1, int(n * scale)) for n in edges), max(1, items // WINDOWS))
    corners = [
        tuple(rng.randrange(n - edge + 1) for n, edge in zip(shape, edges, strict=True))
        for _ in range(WINDOWS)
    ]
    return Operation("windows", tuple(_box(edges, corner) for corner in corners))


def _planes(shape: Shape, items: list[int]) -> Operation:
    # One across each axis, in its middle.
    def plane(axis: int) -> tuple[int | slice, ...]:
        cut = list(_box(_cut((*shape[:axis], 1, *shape[axis + 1 :]), items[axis] // len(shape))))
        return (*cut[:axis], shape[axis] // 2, *cut[axis + 1 :])

    return Operation("planes", tuple(plane(axis) for axis in range(len(shape))))


def _rows(shape: Shape, items: int, rng: random.Random) -> Operation:
    # As a loader of samples reads them: some of the first axis, in no order, all at once.
    rows = rng.sample(range(shape[0]), min(ROWS, shape[0]))
    row = _box(_cut(shape[1:], items // len(rows)))
    return Operation("random rows", ((rows, *row),), is_orthogonal=True)


def _cut(shape: Shape, items: int) -> Shape:
    # So that no more than so many items are left, or one; the first axes are cut first.
    cut = list(shape)
    for axis, n in enumerate(shape):
        others = math.prod(cut) // n
        cut[axis] = max(1, min(n, items // others))
    return tuple(cut)


def _box(edges: Shape, corner: Shape | None = None) -> tuple[slice, ...]:
    starts = corner or (0,) * len(edges)
    return tuple(slice(start, start + n) for start, n in zip(starts, edges, strict=True))
