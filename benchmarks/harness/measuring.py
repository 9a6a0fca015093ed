"""Operations on a case, verified and timed side by side."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Case
from .data import Array
from .files import copy_metadata, empty
from .implementations import Implementation, Target
from .operations import WORKS, Operation, Work

# Who reads back what another has written; the first that is there.
REFEREES = ("tensorstore", "fused", "default", "zarrs")


@dataclasses.dataclass
class Cell:
    """What one implementation did in one operation on one case.

    Attributes
    ----------
    case, operation, implementation : str
    seconds : list of float
        Of each round.
    lacks : str or None
        Why it cannot do it.
    error : str or None
        What went wrong.
    """

    case: str
    operation: str
    implementation: str
    seconds: list[float] = dataclasses.field(default_factory=list)
    lacks: str | None = None
    error: str | None = None

    @property
    def able(self) -> bool:
        return self.lacks is None and self.error is None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


@dataclasses.dataclass
class Entry:
    """An implementation at work: the arrays that it works on, and what comes of it."""

    impl: Implementation
    cell: Cell
    path: Path  # of the array that is written
    source: Target = dataclasses.field(init=False)
    target: Target = dataclasses.field(init=False)


class Contest:
    """One operation on one case, by several implementations.

    Parameters
    ----------
    case : Case
    operation : Operation
    impls : sequence of Implementation
    path : Path
        Of the array of the case, which is only read; what is written lies beside it.
    data : ndarray
        What the array holds.
    """

    def __init__(
        self,
        case: Case,
        operation: Operation,
        impls: Sequence[Implementation],
        path: Path,
        data: Array,
    ) -> None:
        self.case, self.operation, self.path, self.data = case, operation, path, data
        selections = operation.selections(case, np.random.default_rng(7))
        self.work: Work = WORKS[operation.kind](data, selections, operation.way)
        self.cells = [
            Cell(case.name, operation.name, impl.name, lacks=impl.lacks(case, operation))
            for impl in impls
        ]
        self.entries = [
            Entry(impl, cell, path)
            for impl, cell in zip(impls, self.cells, strict=True)
            if cell.able
        ]

    def able(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.cell.able]

    def open(self, entry: Entry) -> None:
        """Open the arrays of an entry; be it in its context."""
        impl, zarr_format = entry.impl, self.case.zarr_format
        entry.source = entry.target = impl.open(self.path, zarr_format)
        if self.operation.kind != "read":
            entry.path = Path(tempfile.mkdtemp(prefix=f"{impl.name}-", dir=self.path.parent))
            if self.operation.kind == "overwrite":
                shutil.copytree(self.path, entry.path, dirs_exist_ok=True)
            else:
                copy_metadata(self.path, entry.path)
            entry.target = impl.open(entry.path, zarr_format, writable=True)

    def verify(self, entry: Entry, results: Any) -> None:
        others = [other.impl for other in self.entries if other is not entry]
        first = sorted(others, key=lambda impl: (*REFEREES, impl.name).index(impl.name))
        referee = first[0] if first else entry.impl

        def readback() -> Any:
            with referee.active():
                everything = (slice(None),) * self.data.ndim
                return referee.open(entry.path, self.case.zarr_format).read(everything)

        if not self.work.is_right(results, readback):
            entry.cell.error = "WRONG RESULT"

    def give_up(self, entry: Entry) -> None:
        """Give the space of what was written back."""
        if entry.path != self.path:
            empty(entry.path)

    def first(self, entry: Entry) -> None:
        """Do it once, which warms everything up, and verify it."""
        with recorded(entry.cell):
            with entry.impl.active():
                self.open(entry)
                results = self.work.run(entry.source, entry.target)
            self.verify(entry, results)

    def timed(self, entry: Entry) -> None:
        with recorded(entry.cell), entry.impl.active():
            if self.operation.kind in ("create", "round trip"):
                self.give_up(entry)
                self.open(entry)
            start = time.perf_counter()
            results = self.work.run(entry.source, entry.target)
            entry.cell.seconds.append(time.perf_counter() - start)
            del results  # giving its memory back is not on the clock

    def last(self, entry: Entry) -> None:
        """Verify once more what was written."""
        with recorded(entry.cell):
            if self.operation.kind != "read":
                self.verify(entry, None)
        self.give_up(entry)


@contextlib.contextmanager
def recorded(cell: Cell) -> Iterator[None]:
    """Keep an error as this cell's result: the others are still worth measuring."""
    try:
        yield
    except Exception as error:
        cell.error = f"{type(error).__name__}: {error}"


def measure(
    contest: Contest, rounds: int, rng: random.Random, patience: float = float("inf")
) -> list[Cell]:
    """Verify, time and verify again one operation on one case by every implementation.

    Whoever has been timed for `patience` seconds is not timed again.
    """
    for entry in contest.entries:
        contest.first(entry)
    for _ in range(rounds):
        waiting = [entry for entry in contest.able() if sum(entry.cell.seconds) < patience]
        rng.shuffle(waiting)
        for entry in waiting:
            contest.timed(entry)
    for entry in contest.able():
        contest.last(entry)
    return contest.cells
