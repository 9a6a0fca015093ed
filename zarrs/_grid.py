"""The chunks of a grid: where they lie, their numbers, and boxes of items."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Coordinates = tuple[int, ...]
Box = tuple[slice, ...]  # of an array's items


class Axis(NamedTuple):
    """The chunks along one axis of an array that hold something of it."""

    n_chunks: int
    size: int = 0  # of each
    starts: tuple[int, ...] = ()  # if they have several sizes; and where the last one ends

    @classmethod
    def of(cls, size: int | Sequence[int], extent: int) -> Axis:
        """Cut an axis into chunks of one size, or of the given ones."""
        if isinstance(size, int):
            return cls(-(-extent // size) if extent else 0, size)
        starts = (0, *accumulate(size))
        return cls(bisect_left(starts, extent), 0, starts)

    @property
    def extent(self) -> int:
        """The length of all of them."""
        return self.span(self.n_chunks - 1).stop if self.n_chunks else 0

    def span(self, i: int) -> slice:
        """Return what the i-th of them holds."""
        if self.starts:
            return slice(self.starts[i], self.starts[i + 1])
        return slice(i * self.size, (i + 1) * self.size)


def size_of(grid: Coordinates) -> int:
    """Return how many places a grid has, whatever fits into 64 bits."""
    size = 1
    for n in grid:
        size *= n
    return size


def place_of(number: int, grid: Coordinates) -> Coordinates:
    """Return the coordinates of a place in a grid from its number in C order.

    Examples
    --------
    >>> place_of(5, (2, 3))
    (1, 2)
    """
    place: list[int] = []
    for n in reversed(grid):
        number, rest = divmod(number, n)
        place.insert(0, rest)
    return tuple(place)


def number_of(place: Coordinates, grid: Coordinates) -> int:
    """Return the number of a place in C order: what `place_of` takes."""
    number = 0
    for i, n in zip(place, grid, strict=True):
        number = number * n + i
    return number


def shape_of(box: Box) -> Coordinates:
    """Return how many items a box has along each axis."""
    return tuple(part.stop - part.start for part in box)


def halves_of(box: Box, units: tuple[Coordinates, ...]) -> list[Box]:
    """Cut a box where units meet, large ones first; nothing if it is one of the smallest."""
    for unit in units:
        counts = [-(-n // m) for n, m in zip(shape_of(box), unit, strict=True)]
        if counts and max(counts) > 1:
            axis = counts.index(max(counts))
            start, stop = box[axis].start, box[axis].stop
            middle = start + max(counts) // 2 * unit[axis]
            halves = slice(start, middle), slice(middle, stop)
            return [(*box[:axis], half, *box[axis + 1 :]) for half in halves]
    return []
