"""An array in regions: boxes of whole target chunks, so that each is written once, by one task.

A source chunk that several regions need is read and decoded by each of them. So a region grows
along the axes on which this happens, as long as memory allows, until its borders are those
of source chunks as well; then a little more, so that there are not too many of them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrs._grid import Axis, number_of, place_of, size_of
from zarrs.copying._memory import Limit, show_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarrs._grid import Box, Coordinates

Numbers = np.ndarray[Any, np.dtype[np.int64]]
Sizes = tuple[Any, ...]  # of the chunks along every axis: one for all of them, or that of each

USEFUL = 32 * 1024 * 1024  # bytes of a region that is large enough, if nothing is read twice


class RegionError(ValueError):
    """There is too little memory for a single region."""


@dataclass(frozen=True)
class Cut:
    """One axis of the array, in runs of target chunks.

    Attributes
    ----------
    axis : Axis
        The target's chunks.
    run : int
        How many of them are in a region.
    extent : int
        Of the array.
    """

    axis: Axis
    run: int
    extent: int

    def __len__(self) -> int:
        return -(-self.axis.n_chunks // self.run)

    def span(self, i: int) -> slice:
        """Return the items of the i-th run."""
        last = min((i + 1) * self.run, self.axis.n_chunks) - 1
        stop = self.axis.span(last).stop
        return slice(self.axis.span(i * self.run).start, min(stop, self.extent))

    def at(self, item: int) -> int:
        """Return the run that holds an item."""
        axis = self.axis
        chunk = bisect_right(axis.starts, item) - 1 if axis.starts else item // axis.size
        return chunk // self.run


@dataclass(frozen=True)
class Regions:
    """All regions of an array, numbered in C order.

    Attributes
    ----------
    cuts : tuple of Cut
    under_way : int
        How many there is memory for at the same time.
    reads : float
        How often a source chunk is read, on average.
    itemsize : int
    """

    cuts: tuple[Cut, ...]
    under_way: int
    reads: float
    itemsize: int

    @property
    def grid(self) -> Coordinates:
        """How many there are along every axis."""
        return tuple(len(cut) for cut in self.cuts)

    @property
    def runs(self) -> Coordinates:
        """How many target chunks are in a region along every axis."""
        return tuple(cut.run for cut in self.cuts)

    def __len__(self) -> int:
        return size_of(self.grid)

    def box(self, number: int) -> Box:
        """Return the items of a region."""
        place = place_of(number, self.grid)
        return tuple(cut.span(i) for cut, i in zip(self.cuts, place, strict=True))

    def n_bytes(self, number: int) -> int:
        """Return the decoded bytes of a region."""
        n_items: int = math.prod(part.stop - part.start for part in self.box(number))
        return n_items * self.itemsize

    def chunks(self, number: int) -> Numbers:
        """Return, ascending, the numbers of the target chunks in a region."""
        found = np.zeros(1, np.int64)
        for cut, i in zip(self.cuts, place_of(number, self.grid), strict=True):
            n_chunks = cut.axis.n_chunks
            along = np.arange(i * cut.run, min((i + 1) * cut.run, n_chunks))
            found = (found[:, None] * n_chunks + along).reshape(-1)
        return found

    def overlapping(self, box: Box) -> Iterator[int]:
        """Yield the numbers of the regions that hold something of a box."""
        ranges = [
            range(cut.at(part.start), cut.at(part.stop - 1) + 1)
            for cut, part in zip(self.cuts, box, strict=True)
        ]
        for place in product(*ranges):
            yield number_of(place, self.grid)

    def touched(self, chunks: Numbers, axes: Sequence[Axis]) -> Numbers:
        """Return, ascending, the regions that hold something of some chunks.

        Parameters
        ----------
        chunks : numpy.ndarray of int
            The numbers of the chunks.
        axes : sequence of Axis
            The grid that they are in: that of the source, or of the target.
        """
        found = np.zeros(len(chunks), np.int64)
        rest = chunks  # of those that are found, the number of the chunk along the axes to come
        size = size_of(tuple(axis.n_chunks for axis in axes))
        for cut, axis in zip(self.cuts, axes, strict=True):
            # Along every axis a chunk touches a range of regions.
            size //= max(1, axis.n_chunks)
            place, rest = np.divmod(rest, max(1, size))
            which, back = np.unique(place, return_inverse=True)
            spans = [axis.span(int(i)) for i in which]
            first = np.array([cut.at(span.start) for span in spans], np.int64)
            last = np.array([cut.at(min(span.stop, cut.extent) - 1) for span in spans], np.int64)
            n_touched = (last - first + 1)[back]
            ends = np.cumsum(n_touched)
            steps = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - n_touched, n_touched)
            found = np.repeat(found * len(cut) + first[back], n_touched) + steps
            rest = np.repeat(rest, n_touched)
        return np.unique(found)


def axes_of(sizes: Sizes, shape: Coordinates) -> tuple[Axis, ...]:
    """Return the axes of an array that is cut into chunks."""
    return tuple(Axis.of(size, extent) for size, extent in zip(sizes, shape, strict=True))


def make_regions(
    name: str, shape: Coordinates, itemsize: int, source: Sizes, target: Sizes, limit: Limit
) -> Regions:
    """Cut an array into regions.

    Parameters
    ----------
    name : str
        The array's, for an error.
    shape : tuple of int
    itemsize : int
        Bytes of an item in memory.
    source : tuple
        Sizes of what can be read by itself.
    target : tuple
        Sizes of the chunks, or shards, that are written as a whole.
    limit : Limit

    Raises
    ------
    RegionError
        If there is no memory for a single target chunk.
    """
    grower = _Grower(shape, itemsize, source, target, limit)
    ones = (1,) * len(shape)
    if not grower.fits(ones, 1):
        needed = show_memory(grower.cost(ones, 1))
        raise RegionError(
            f"array {name!r} needs {needed} to be copied, as a chunk or shard is written as a "
            f"whole, and memory is {show_memory(limit.n_bytes)}: allow as much (memory=, "
            "--memory), or ask for smaller chunks or shards"
        )
    under_way = next(n for n in range(limit.under_way, 0, -1) if grower.fits(ones, n))
    runs = grower.grow(under_way)
    axes = axes_of(target, shape)
    cuts = tuple(Cut(*parts) for parts in zip(axes, runs, shape, strict=True))
    return Regions(cuts, under_way, grower.reads(runs), itemsize)


class _Grower:
    # Finds out how many target chunks are in a region along every axis.

    def __init__(
        self, shape: Coordinates, itemsize: int, source: Sizes, target: Sizes, limit: Limit
    ) -> None:
        self.shape = shape
        self.itemsize = itemsize
        self.limit = limit
        self.n_chunks = [axis.n_chunks for axis in axes_of(target, shape)]
        self.is_same = [one == other for one, other in zip(source, target, strict=True)]
        self.is_regular = [
            isinstance(one, int) and isinstance(other, int)
            for one, other in zip(source, target, strict=True)
        ]
        self.source = [one if isinstance(one, int) else max(one) for one in source]
        self.target = [one if isinstance(one, int) else max(one) for one in target]
        self.source_chunk = math.prod(self.source) * itemsize

    def items(self, runs: Sequence[int]) -> list[int]:
        return [run * size for run, size in zip(runs, self.target, strict=True)]

    def n_bytes(self, runs: Sequence[int]) -> int:
        # A chunk at the edge is encoded as a whole.
        return math.prod(self.items(runs)) * self.itemsize

    def cost(self, runs: Sequence[int], under_way: int) -> int:
        items = zip(self.items(runs), self.source, strict=True)
        n_chunks = math.prod(-(-n // size) + (n % size > 0) for n, size in items)
        return self.limit.cost(self.n_bytes(runs), self.source_chunk, n_chunks, under_way)

    def fits(self, runs: Sequence[int], under_way: int) -> bool:
        return self.cost(runs, under_way) <= self.limit.n_bytes

    def reads_along(self, axis: int, run: int) -> float:
        # How often a source chunk is read, as far as this axis is concerned.
        if self.is_same[axis] or run >= self.n_chunks[axis]:
            return 1.0
        n, size = run * self.target[axis], self.source[axis]
        common = math.gcd(n, size) if self.is_regular[axis] else 0
        return 1 + (size - common) / n

    def reads(self, runs: Sequence[int]) -> float:
        return math.prod(self.reads_along(axis, run) for axis, run in enumerate(runs))

    def larger(self, axis: int, run: int) -> list[int]:
        # What may come next: twice as many, or as many as end with a source chunk.
        candidates = [2 * run]
        if self.is_regular[axis]:
            size, other = self.target[axis], self.source[axis]
            even = math.lcm(size, other) // size
            candidates.append(even * (run // even + 1) if run % even else 2 * run)
        return [min(one, self.n_chunks[axis]) for one in candidates]

    def grow(self, under_way: int) -> list[int]:
        runs = [1] * len(self.shape)
        while better := self._better(runs, under_way):
            runs = better
        for axis in reversed(range(len(runs))):
            while runs[axis] < self.n_chunks[axis]:
                more = [*runs]
                more[axis] = min(2 * runs[axis], self.n_chunks[axis])
                too_large = self.n_bytes(more) > USEFUL or not self.fits(more, under_way)
                if too_large or self.reads(more) > self.reads(runs):
                    break
                runs = more
        return runs

    def _better(self, runs: list[int], under_way: int) -> list[int] | None:
        # The step that saves most reads for the memory that it takes.
        best, best_gain = None, 0.0
        before, size = self.reads(runs), self.n_bytes(runs)
        for axis, run in enumerate(runs):
            for larger in self.larger(axis, run):
                more = [*runs[:axis], larger, *runs[axis + 1 :]]
                if larger <= run or not self.fits(more, under_way):
                    continue
                gain = math.log(before / self.reads(more)) / math.log(self.n_bytes(more) / size)
                if gain > best_gain:
                    best, best_gain = more, gain
        return best
