"""The ways to read and write an array, and how what they do is verified."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np

from .cases import Case
from .data import Array
from .implementations import Selection, Target, Way

Kind = Literal["read", "create", "round trip", "overwrite"]


@dataclasses.dataclass(frozen=True)
class Operation:
    """One or more selections, one after the other, that are read or written.

    Attributes
    ----------
    name, title : str
        What the command line and tables call it.
    kind : {"read", "create", "round trip", "overwrite"}
        Reads the array of the case, writes a new one, reads the one and writes a new one, or writes
        to a copy.
    selections : callable
        Chooses the selections for a case, at random.
    way : {"basic", "oindex", "vindex"}
        How the array is indexed.
    steps : bool
        Whether there are slices with steps.
    """

    name: str
    title: str
    kind: Kind
    selections: Callable[[Case, np.random.Generator], list[Selection]]
    way: Way = "basic"
    steps: bool = False


def _whole(case: Case, rng: np.random.Generator) -> list[Selection]:
    return [(slice(None),) * len(case.shape)]


def _window(case: Case, rng: np.random.Generator) -> Selection:
    """Return a box with a quarter of each extent, anywhere."""
    starts = [int(rng.integers(0, n - n // 4)) for n in case.shape]
    return tuple(
        slice(start, start + max(1, n // 4)) for start, n in zip(starts, case.shape, strict=True)
    )


def _windows(case: Case, rng: np.random.Generator) -> list[Selection]:
    return [_window(case, rng) for _ in range(8)]


def _one_window(case: Case, rng: np.random.Generator) -> list[Selection]:
    return [_window(case, rng)]


def _plane(case: Case, rng: np.random.Generator) -> list[Selection]:
    """Return one index of the last axis: a little of every row."""
    return [(slice(None),) * (len(case.shape) - 1) + (int(rng.integers(0, case.shape[-1])),)]


def _points(case: Case, rng: np.random.Generator) -> list[Selection]:
    return [tuple(int(rng.integers(0, n)) for n in case.shape) for _ in range(50)]


def _strided(case: Case, rng: np.random.Generator) -> list[Selection]:
    return [(slice(None, None, 3),) * len(case.shape)]


def _rows(case: Case, rng: np.random.Generator) -> list[Selection]:
    """Return 64 indexes of the first axis, sorted."""
    count = min(64, case.shape[0] // 2)
    rows = np.sort(rng.choice(case.shape[0], count, replace=False))
    return [(rows, *(slice(None),) * (len(case.shape) - 1))]


def _scattered(case: Case, rng: np.random.Generator) -> list[Selection]:
    """Return 2,000 points, no two of them the same, so that it is clear what a write leaves."""
    total = int(np.prod(case.shape))
    points = rng.choice(total, min(2000, total // 2), replace=False)
    return [np.unravel_index(points, case.shape)]


def _chunks(case: Case, rng: np.random.Generator) -> list[Selection]:
    """Return every chunk, or shard."""
    extents = zip(case.shape, case.stored_together, strict=True)
    sides = [[slice(i, min(i + m, n)) for i in range(0, n, m)] for n, m in extents]
    return list(itertools.product(*sides))


# What overwrites comes last: replaced files would make those slow that are created after it.
OPERATIONS = [
    Operation("read_all", "read all", "read", _whole),
    Operation("read_chunks", "read chunk by chunk", "read", _chunks),
    Operation("read_windows", "read 8 windows", "read", _windows),
    Operation("read_plane", "read a plane", "read", _plane),
    Operation("read_points", "read 50 points, one by one", "read", _points),
    Operation("read_strided", "read every third item", "read", _strided, steps=True),
    Operation("read_oindex", "read 64 rows (oindex)", "read", _rows, "oindex"),
    Operation("read_vindex", "read 2,000 points (vindex)", "read", _scattered, "vindex"),
    Operation("create_all", "write a new array", "create", _whole),
    Operation("round_trip", "read all, write it to a new array", "round trip", _whole),
    Operation("write_all", "overwrite all", "overwrite", _whole),
    Operation("write_window", "write a window", "overwrite", _one_window),
    Operation("write_oindex", "write 64 rows (oindex)", "overwrite", _rows, "oindex"),
    Operation("write_vindex", "write 2,000 points (vindex)", "overwrite", _scattered, "vindex"),
]


# -------------------------------------------------------------------------------- verified


def same(got: Any, expected: Array) -> bool:
    """Tell whether shape, type and every byte agree, so that NaN and -0.0 count too."""
    found = np.asarray(got)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    one, other = (np.ascontiguousarray(array).reshape(-1) for array in (found, expected))
    return np.array_equal(one.view("u1"), other.view("u1"))


class Work(Protocol):
    """What is timed.

    `run` gets the array of the case and the one that is written; what it returns is shown to
    `is_right`, with a function that reads the written one.
    """

    def run(self, source: Target, target: Target) -> Any: ...
    def is_right(self, results: Any, readback: Callable[[], Any]) -> bool: ...


class Reads:
    """Selections are read."""

    def __init__(self, data: Array, selections: list[Selection], way: Way) -> None:
        self.data, self.selections, self.way = data, selections, way

    def run(self, source: Target, target: Target) -> Any:
        return [source.read(selection, self.way) for selection in self.selections]

    def is_right(self, results: Any, readback: Callable[[], Any]) -> bool:
        pairs = zip(results, self.selections, strict=True)
        return all(same(result, np.asarray(self.data[selection])) for result, selection in pairs)


class Creates:
    """A new array gets the data."""

    def __init__(self, data: Array, selections: list[Selection], way: Way) -> None:
        self.data, self.selections, self.way = data, selections, way

    def run(self, source: Target, target: Target) -> Any:
        for selection in self.selections:
            target.write(selection, self.data[selection], self.way)

    def is_right(self, results: Any, readback: Callable[[], Any]) -> bool:
        return same(readback(), self.data)


class RoundTrips(Creates):
    """A new array gets what is read from the other."""

    def run(self, source: Target, target: Target) -> Any:
        for selection in self.selections:
            target.write(selection, np.asarray(source.read(selection, self.way)), self.way)


class Overwrites:
    """Other values are written, so that no write is idle."""

    def __init__(self, data: Array, selections: list[Selection], way: Way) -> None:
        self.way = way
        self.work = [(s, np.ascontiguousarray(np.flip(data[s]))) for s in selections]
        self.expected = data.copy()
        for selection, value in self.work:
            self.expected[selection] = value

    def run(self, source: Target, target: Target) -> Any:
        for selection, value in self.work:
            target.write(selection, value, self.way)

    def is_right(self, results: Any, readback: Callable[[], Any]) -> bool:
        return same(readback(), self.expected)


WORKS: dict[Kind, Callable[[Array, list[Selection], Way], Work]] = {
    "read": Reads,
    "create": Creates,
    "round trip": RoundTrips,
    "overwrite": Overwrites,
}
