"""The C functions below the loops, one by one: ``native/kernels.pyx``, compiled once a process."""

import importlib.util
import itertools
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, settings
from native_library import SOURCES

import zarrs
from zarrs._core import NativeChain, Shard, WriteOrder

NAME = "kernels"
GUARD = 64  # bytes on both sides of what a function may touch


@cache
def kernels() -> ModuleType:
    """Compile and import the driver, against the package that the tests import."""
    packages = Path(zarrs.__file__).resolve().parent.parent
    # As in native_library.py; what is tested was compiled before, so -O1 is enough.
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wno-unused-function"]
    if sys.platform == "darwin":
        flags += ["-undefined", "dynamic_lookup"]
    with tempfile.TemporaryDirectory() as root:
        code = Path(root) / f"{NAME}.c"
        library = Path(root) / f"{NAME}{sysconfig.get_config_var('EXT_SUFFIX')}"
        cython = [sys.executable, "-m", "cython", "-3", "-I", str(packages)]
        subprocess.run([*cython, str(SOURCES / f"{NAME}.pyx"), "-o", str(code)], check=True)
        include = ["-I", sysconfig.get_path("include")]
        subprocess.run([*compiler, *flags, *include, str(code), "-o", str(library)], check=True)
        loader = ExtensionFileLoader(NAME, str(library))
        spec = importlib.util.spec_from_loader(NAME, loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    return module


def examples(most: int) -> settings:
    """How random tests run; the variable that more are asked for with is that of other tests."""
    return settings(
        max_examples=int(os.environ.get("ZARRS_EXAMPLES", most)),
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def make_shard(
    inner: Sequence[int] = (10,),
    order: Sequence[int] | None = None,
    *,
    itemsize: int = 1,
    chain: NativeChain | None = None,
    at_start: bool = False,
    swapped: bool = False,
    checksum: bool = True,
    verify: bool = True,
) -> Shard:
    """What a shard holds: raw inner chunks, unless there is a chain."""
    return Shard(
        inner,
        tuple(range(len(inner))) if order is None else order,
        itemsize,
        NativeChain([]) if chain is None else chain,
        index_at_start=at_start,
        index_swapped=swapped,
        index_checksum=checksum,
        verify=verify,
        write_order=WriteOrder.LEXICOGRAPHIC,
    )


class Memory:
    """Bytes with guards around them, and a copy that says what they should become."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.bytes = np.random.default_rng(seed).integers(0, 256, size + 2 * GUARD, np.uint8)
        self.expected = self.bytes.copy()

    def at(self, offset: int) -> int:
        """The address of a byte."""
        return int(self.bytes.ctypes.data) + GUARD + offset

    def view(
        self, offset: int, shape: Sequence[int], strides: Sequence[int], size: int
    ) -> np.ndarray[Any, Any]:
        """Items as they should become: of every item its bytes, along the last axis."""
        return np.lib.stride_tricks.as_strided(
            self.expected[GUARD + offset :], (*shape, size), (*strides, 1)
        )

    def put(self, data: bytes, offset: int = 0) -> None:
        """Bytes to begin with."""
        self.view(offset, (), (), len(data))[...] = np.frombuffer(data, np.uint8)
        self.bytes[:] = self.expected

    def check(self) -> None:
        """Everything is as it should be, outside of what a function may touch, too."""
        np.testing.assert_array_equal(self.bytes, self.expected)


class Axis(NamedTuple):
    """One axis of a selection; see ``_core.pxd``."""

    size: int
    start: int
    step: int
    count: int  # type: ignore[assignment] # a tuple's method otherwise
    stride: int
    chosen: list[int] | None = None
    array_offsets: list[int] | None = None
    origin: int = 0

    def places(self) -> list[tuple[int, int]]:
        """Of every selected item its position, and how far it moves the place in the array."""
        if self.chosen is None:
            picked = range(self.count)
            found = [(self.start + i * self.step, i * self.stride) for i in picked]
        else:
            assert self.array_offsets is not None
            assert self.chosen == sorted(self.chosen)
            found = [
                (position - self.origin, offset)
                for position, offset in zip(self.chosen, self.array_offsets, strict=True)
            ]
        assert all(0 <= position < self.size for position, _ in found)
        return found


Points = tuple[list[int], list[int]]
Cell = tuple[tuple[int, ...], int]  # a position in a chunk, and an offset in the array


def cells(axes: Sequence[Axis], points: Points | None, data: int = 0) -> Iterator[Cell]:
    """Everything that a selection selects, in its order."""
    shape = tuple(axis.size for axis in axes)
    if points is not None:
        for number, offset in zip(*points, strict=True):
            position = np.unravel_index(number, shape)
            yield tuple(int(k) for k in position), data + offset
        return
    for one in itertools.product(*(axis.places() for axis in axes)):
        yield tuple(k for k, _ in one), data + sum(offset for _, offset in one)


def item_number(position: Sequence[int], shape: Sequence[int]) -> int:
    """The number of a position in C order."""
    return int(np.ravel_multi_index(tuple(position), tuple(shape))) if shape else 0


def in_order(pairs: Iterator[tuple[Any, int]]) -> dict[Any, list[int]]:
    """Of every item the offsets in the array that are selected for it, in their order."""
    found: dict[Any, list[int]] = {}
    for item, offset in pairs:
        found.setdefault(item, []).append(offset)
    return found
