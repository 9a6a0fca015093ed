"""Selections of every kind, drawn at random, and what NumPy says of them."""

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from helpers import CORE_CHAINS, Chain, assert_same, chain_arguments, make_data
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from shards import SHARDING, Coords, Sharding

EXAMPLES = settings(
    max_examples=int(os.environ.get("ZARRS_EXAMPLES", "300")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


# ----------------------------------------------------------------------- what NumPy has to say


@dataclass(frozen=True)
class Pick:
    """A way to select, and a key for it.

    Parameters
    ----------
    kind : {"basic", "oindex", "vindex", "mask", "blocks", "fancy"}
        "fancy" is what an array makes of ``array[key]`` if there is an index array in it.
    key : Any
    """

    kind: str
    key: Any

    def __str__(self) -> str:
        return f"{self.kind}[{self.key}]".replace("\n", "")

    def read(self, array: zarr.Array[Any]) -> Any:
        return self._of(array)[self.key]

    def write(self, array: zarr.Array[Any], value: Any) -> None:
        self._of(array)[self.key] = value

    def _of(self, array: zarr.Array[Any]) -> Any:
        views = {"mask": "vindex", "oindex": "oindex", "vindex": "vindex", "blocks": "blocks"}
        return getattr(array, views[self.kind]) if self.kind in views else array

    def places(self, shape: Coords, grid: Coords = ()) -> np.ndarray:
        """Where in a flat array the selected items are; `grid` is the shape of a block."""
        numbers = np.arange(math.prod(shape)).reshape(shape)
        key = self.key if isinstance(self.key, tuple) else (self.key,)
        if self.kind == "basic":
            return np.asarray(numbers[self.key])
        if self.kind == "mask":
            return np.asarray(numbers[self.key])
        if self.kind == "blocks":
            return orthogonal(
                numbers, tuple(block(k, s, n) for k, s, n in zip(key, grid, shape, strict=False))
            )
        arrays = [not isinstance(k, slice) and k is not ... for k in key]
        if self.kind == "vindex" or (
            # all index arrays and integers are coordinates, masks never
            self.kind == "fancy"
            and all(arrays)
            and len(key) == len(shape)
            and not any(np.asarray(k).dtype == bool for k in key)
        ):
            return np.atleast_1d(numbers[tuple(np.asarray(k) for k in key)])
        return orthogonal(numbers, key)


def orthogonal(numbers: np.ndarray, key: tuple[Any, ...]) -> np.ndarray:
    """One axis after another, the last first, so that dropped axes do not move the others."""
    if any(k is ... for k in key):
        hole = next(i for i, k in enumerate(key) if k is ...)
        rest = (slice(None),) * (numbers.ndim - len(key) + 1)
        key = key[:hole] + rest + key[hole + 1 :]
    for axis in reversed(range(len(key))):
        one = key[axis]
        one = one if isinstance(one, (int, slice)) else np.asarray(one)
        if isinstance(one, np.ndarray) and one.size == 0:
            one = one.astype(bool if one.dtype == bool else int)
        numbers = numbers[(slice(None),) * axis + (one,)]
    return np.asarray(numbers)


def block(key: Any, size: int, n: int) -> slice:
    """The slice of an axis that blocks of `size` items cover."""
    count = -(-n // size)
    chosen = range(count)[key]
    if isinstance(chosen, int):
        chosen = range(chosen, chosen + 1)
    return slice(chosen.start * size, min(chosen.stop * size, n)) if chosen else slice(0, 0)


def check(
    array: zarr.Array[Any], data: np.ndarray, pick: Pick, seed: int = 9, grid: Any = ()
) -> None:
    """Read, write and read again; `data` follows.

    The same item always gets the same value, because zarr's indexers may reorder repetitions.
    """
    where = pick.places(data.shape, grid)
    assert_same(pick.read(array), data.reshape(-1)[where], f"read {pick}")
    value = make_data(data.dtype, data.shape, seed).reshape(-1)[where]
    pick.write(array, value)
    data.reshape(-1)[where] = value
    assert_same(pick.read(array), value, f"written {pick}")
    assert_same(array[...], data, f"all after {pick}")


# ------------------------------------------------------------------------ arrays and selections


@dataclass(frozen=True)
class Case:
    """An array to be made."""

    shape: Coords
    grid: Coords
    arguments: dict[str, Any] = field(repr=False)
    name: str

    def __str__(self) -> str:
        return self.name


SOME_SHARDINGS = [
    SHARDING[name]
    for name in (
        *("index-end-little-crc32c", "index-start-big-bare", "blosc-zstd-bit", "zstd", "gzip"),
        *("crc32c-start", "inside-rotated-zstd", "inside-rotated-blosc-crc32c", "before-rotated"),
        *("before-and-inside", "before-and-after", "after-zstd", "nested-zstd", "nested-rotated"),
        *("nested-before-after", "nested-twice-mixed"),
    )
]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """An array of up to four dimensions, plain or sharded, with the chunks of one grid."""
    hows: list[Chain | Sharding] = [*CORE_CHAINS, *SOME_SHARDINGS]
    how = draw(st.sampled_from(hows))
    ndim = draw(st.integers(0, 4))
    longest = (1, 60, 24, 14, 8)[ndim]
    shape = tuple(draw(st.integers(0 if i == 5 else 1, longest)) for i in range(ndim))
    if ndim and draw(st.integers(0, 15)) == 0:
        shape = (0, *shape[1:])
    if isinstance(how, Chain):
        grid = tuple(draw(st.integers(1, longest + 2)) for _ in range(ndim))
        return Case(shape, grid, {"chunks": grid, **chain_arguments(how, ndim)}, str(how))
    # zarr wants every inner edge to divide every edge of the shard before it looks at transposes
    inner = tuple(draw(st.sampled_from([1, 2, 3, 6])) for _ in range(ndim))
    shard = (draw(st.sampled_from([6, 12])),) * ndim
    return Case(shape, how.shard_shape(shard), how.arguments(shard, inner), str(how))


def positions(n: int, least: int = 0) -> st.SearchStrategy[np.ndarray]:
    """Index arrays of one axis: in any order, repeated, negative, of several types."""
    if n == 0:
        return st.just(np.zeros(0, int))
    lists = st.lists(st.integers(-n, n - 1), min_size=least, max_size=2 * n)
    straight = st.builds(range, st.integers(0, n - 1), st.integers(1, n), st.integers(1, 4))
    straight = straight.filter(lambda r: len(r) >= least)
    some = lists | lists.map(sorted) | lists.map(set).map(list) | straight
    some |= straight.map(lambda r: r[::-1])
    return st.builds(np.array, some, dtype=st.sampled_from(["i8", "i4", "i2"]))


def axis_slices(n: int) -> st.SearchStrategy[slice]:
    edge = st.none() | st.integers(-n - 2, n + 2)
    return st.builds(slice, edge, edge, st.none() | st.integers(1, n + 2))


def masks(shape: Any) -> st.SearchStrategy[np.ndarray]:
    """Few, half, nearly all, none or all."""

    def make(seed: int, share: float) -> np.ndarray:
        return np.asarray(np.random.default_rng(seed).random(shape) < share)

    return st.builds(make, st.integers(0, 99), st.sampled_from([0.1, 0.5, 0.9, 0.0, 1.0]))


@st.composite
def points(draw: st.DrawFn, shape: Coords) -> tuple[Any, ...]:
    """Coordinates that broadcast against each other."""
    full = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    if draw(st.integers(0, 7)) == 0:
        full = (0, *full[1:])
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    key: list[Any] = []
    for n in shape:
        kind = draw(st.integers(0, 5))
        if kind == 0:
            key.append(int(rng.integers(-n, n)))
            continue
        some = tuple(1 if draw(st.integers(0, 3)) == 0 and m else m for m in full)
        some = some[draw(st.integers(0, len(some) - 1)) :] if kind == 1 else some
        key.append(rng.integers(-n, n, some))
    if all(isinstance(k, int) for k in key):
        key[0] = rng.integers(-shape[0], shape[0], full)
    return tuple(key)


@st.composite
def picks(draw: st.DrawFn, case: Case) -> Pick:
    """A selection of any kind."""
    shape, ndim = case.shape, len(case.shape)
    kinds = ["basic", "oindex"]
    if ndim and all(shape):
        kinds += ["vindex", "mask", "blocks", "fancy"]
    kind = draw(st.sampled_from(kinds))
    whole = [axis_slices(n) | (st.integers(-n, n - 1) if n else st.nothing()) for n in shape]
    if kind == "basic":
        return Pick(kind, tuple(draw(s) for s in whole))
    if kind == "oindex":
        key: tuple[Any, ...] = tuple(
            # zarr does not take masks of no items
            draw(w | positions(n) | (masks((n,)) if n else positions(n)))
            for w, n in zip(whole, shape, strict=True)
        )
        # zarr compares what is beside an ellipsis with it, which arrays do not take
        arrays = any(isinstance(k, np.ndarray) for k in key)
        if not arrays and draw(st.integers(0, 2)) == 0:
            hole = draw(st.integers(0, ndim))
            key = (*key[:hole], ..., *key[draw(st.integers(hole, ndim)) :])
        return Pick(kind, key)
    if kind == "vindex":
        return Pick(kind, draw(points(shape)))
    if kind == "mask":
        return Pick(kind, draw(masks(shape)))
    if kind == "blocks":
        counts = [-(-n // g) for n, g in zip(shape, case.grid, strict=True)]
        ranges = [
            st.integers(-c, c - 1)
            | st.tuples(st.integers(0, c - 1), st.integers(1, c)).map(
                lambda t: slice(t[0], max(t[0] + 1, t[1]))
            )
            for c in counts
        ]
        return Pick(kind, tuple(draw(r) for r in ranges))
    if draw(st.booleans()):
        return Pick(kind, draw(points(shape)))
    axis = draw(st.integers(0, ndim - 1))
    keys: list[Any] = [draw(w) for w in whole]
    keys[axis] = draw(positions(shape[axis], 1))
    return Pick(kind, tuple(keys))
