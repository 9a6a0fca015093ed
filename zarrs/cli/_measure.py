"""An array is read in several ways by several implementations, compared and timed."""

from __future__ import annotations

import importlib
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from zarrs._direct import direct
from zarrs.cli._errors import described

if TYPE_CHECKING:
    from zarrs.cli._operations import Operation

OURS = "zarrs.ZarrsCodecPipeline"
DEFAULT = "zarr default"
PEERS = {
    DEFAULT: "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr Fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
}
ZARRS = {"zarrs pipeline": OURS, "zarrs direct": OURS}

Open = Callable[[], zarr.Array[Any]]


@dataclass
class Measured:
    """What was measured of one operation.

    Attributes
    ----------
    operation : Operation
    nbytes : int
        Of all results together.
    seconds : dict of str to list of float
        By implementation, one time a round.
    problems : dict of str to str
        By implementation: what it raised, or that its results are not those of the first one.
    """

    operation: Operation
    nbytes: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        """Return the median of an implementation's times; None: it has none."""
        times = self.seconds.get(name)
        return statistics.median(times) if times else None

    @property
    def gain(self) -> float | None:
        """How many times as fast the faster of zarrs' ways is as the fastest of zarr's."""
        peers, ours = (
            [median for name in names if (median := self.median(name)) is not None]
            for names in (PEERS, ZARRS)
        )
        return min(peers) / min(ours) if peers and ours else None


def implementations(open_array: Open) -> dict[str, zarr.Array[Any]]:
    """Open an array once for every implementation there is.

    Parameters
    ----------
    open_array : callable
        It opens the array with the pipeline that zarr's configuration names.
    """
    opened = {}
    for name, path in (PEERS | ZARRS).items():
        if _is_there(path):
            with using(path):
                opened[name] = open_array()
    opened["zarrs direct"] = direct(opened["zarrs direct"])
    return opened


def using(path: str) -> AbstractContextManager[object]:
    """Return a context in which arrays are opened with a pipeline."""
    context: AbstractContextManager[object] = zarr.config.set({"codec_pipeline.path": path})
    return context


def _is_there(path: str) -> bool:
    module, _, name = path.rpartition(".")
    return hasattr(importlib.import_module(module), name)


def measure(
    operation: Operation,
    arrays: dict[str, zarr.Array[Any]],
    rounds: int,
    step: Callable[[], object],
) -> Measured:
    """Compare what implementations read, then time those that read it, in rounds.

    In each round all of them are timed once, in shuffled order, so that a machine that becomes
    slower does so for all alike.

    Parameters
    ----------
    operation : Operation
    arrays : dict of str to zarr.Array
    rounds : int
    step : callable
        It is called ``len(arrays) * (1 + rounds)`` times.
    """
    measured = Measured(operation)
    (first, reference), *others = arrays.items()
    try:
        measured.nbytes = sum(np.asarray(one).nbytes for one in operation.read(reference))
    except Exception as error:
        measured.problems[first] = described(error)
    step()
    for name, array in others:
        problem = _difference(operation, array, reference, first in measured.problems)
        if problem:
            measured.problems[name] = problem
        step()
    names = [name for name in arrays if name not in measured.problems]
    for _ in range(rounds):
        for name in random.sample(names, len(names)):
            begin = time.perf_counter()
            for _result in operation.read(arrays[name]):
                pass
            measured.seconds.setdefault(name, []).append(time.perf_counter() - begin)
            step()
    return measured


def _difference(
    operation: Operation, array: zarr.Array[Any], reference: zarr.Array[Any], is_alone: bool
) -> str | None:
    # One result of each at a time, so that no more than two are in memory.
    try:
        if is_alone:
            for _ in operation.read(array):
                pass
            return None
        pairs = zip(operation.read(array), operation.read(reference), strict=True)
        for number, (found, expected) in enumerate(pairs):
            if not is_same(np.asarray(found), np.asarray(expected)):
                selection = operation.selections[number]
                return f"reads something else than {DEFAULT} at {selection}"
    except Exception as error:
        return described(error)
    return None


def is_same(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> bool:
    """Say whether two results are equal, byte by byte where items have a fixed size."""
    if found.dtype != expected.dtype or found.shape != expected.shape:
        return False
    if found.dtype.kind in ("O", "T"):
        return bool(np.array_equal(found, expected))
    return bool(np.array_equal(_bytes(found), _bytes(expected)))


def _bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
