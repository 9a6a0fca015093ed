"""What planning makes of the selections of zarr's indexers, read back task by task.

The referee is NumPy's own indexing of an array that holds the number of each of its items.
"""

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import assume, given
from hypothesis import strategies as st
from native_kernels import Axis, cells, examples, in_order, item_number, kernels
from zarr.core.indexing import BasicIndexer, CoordinateIndexer, MaskIndexer, OrthogonalIndexer
from zarr.storage import MemoryStore, StorePath

from zarrs.indexing._make_plan import make_plan
from zarrs.indexing._plan import Plan

EXAMPLES = examples(100)
ITEMSIZE = 4
ALL = slice(None)

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
INDEXERS = {
    "basic": BasicIndexer,
    "orthogonal": OrthogonalIndexer,
    "points": CoordinateIndexer,
    "mask": MaskIndexer,
}


def plan_of(
    projections: list[Any],
    chunks: Shape,
    array: Array,
    order: Shape | None = None,
    drop_axes: Shape = (),
    broadcast: bool = False,
) -> Plan | str:
    """Plan a call, as the pipeline does; the bytes of chunks are in no file."""
    store, spec = MemoryStore(), object()
    batch = [
        (StorePath(store, "/".join(map(str, coords))), spec, chunk_selection, out_selection, False)
        for coords, chunk_selection, out_selection, *_ in projections
    ]
    size = ITEMSIZE * math.prod(chunks)
    stored = tuple(range(len(chunks))) if order is None else order
    return make_plan(
        batch,
        array,
        stored,
        ITEMSIZE,
        lambda _: None,
        lambda _: (chunks, size),
        broadcast,
        drop_axes,
    )


def pick(numbers: Array, kind: str, key: Any) -> Array:
    """What NumPy selects."""
    if kind != "orthogonal":
        return np.asarray(numbers[key])
    axes = []
    for n, one in zip(numbers.shape, key, strict=True):
        axes.append(np.atleast_1d(np.arange(n)[one]))
    picked = numbers[np.ix_(*axes)]
    dropped = tuple(k for k, one in enumerate(key) if isinstance(one, int))
    return np.asarray(picked.squeeze(dropped))


def chunk_pairs(
    projection: Any, chunks: Shape, array: Array, dropped: Shape
) -> list[tuple[int, int]]:
    """What NumPy makes of a chunk's two selections: numbers of items, and bytes in the array."""
    _, chunk_selection, out_selection, *_ = projection
    numbers = np.arange(math.prod(chunks)).reshape(chunks)
    places = sum(
        np.arange(n).reshape([-1 if k == axis else 1 for k in range(array.ndim)]) * stride
        for axis, (n, stride) in enumerate(zip(array.shape, array.strides, strict=True))
    )
    inside = numbers[chunk_selection]
    if dropped:
        inside = inside.squeeze(dropped)
    outside = np.broadcast_to(np.asarray(places), array.shape)[out_selection]
    assert inside.shape == outside.shape
    return list(zip(inside.ravel().tolist(), outside.ravel().tolist(), strict=True))


def check(
    kind: str, key: Any, shape: Shape, chunks: Shape, order: Shape, memory: str = "C"
) -> list[dict[str, Any]]:
    """Plan a selection and compare each task with NumPy, and all of them with the selection."""
    made = zarr.create_array(MemoryStore(), shape=shape, chunks=chunks, dtype="i4")
    inner = made._async_array
    grid: Any = getattr(inner, "_chunk_grid", None) or inner.metadata.chunk_grid
    indexer: Any = INDEXERS[kind](key, shape, grid)
    numbers = np.arange(math.prod(shape)).reshape(shape)
    expected = pick(numbers, kind, key)
    if kind in ("points", "mask"):
        expected = expected.reshape(-1)  # zarr gives these their shape afterwards
    array = np.full(indexer.shape, -1, "i4", order="F" if memory == "F" else "C")
    assert array.shape == expected.shape
    if memory == "backward":
        array = np.asarray(np.flip(array))
    drop_axes = tuple(getattr(indexer, "drop_axes", ()))
    projections = list(indexer)
    plan = plan_of(projections, chunks, array, order, drop_axes)
    assert isinstance(plan, Plan), plan
    assert plan.n_tasks == len(projections)
    stored = tuple(chunks[k] for k in order)
    filled: list[tuple[int, int]] = []
    tasks = []
    for i, projection in enumerate(projections):
        bare, points, task = kernels().task_of(plan, i)
        axes = [Axis(*axis) for axis in bare]
        tasks.append(task | {"axes": axes})
        wanted = chunk_pairs(projection, chunks, array, drop_axes)
        assert task["empty"] == (not wanted)
        assert task["nbytes"] == ITEMSIZE * math.prod(chunks)
        if task["empty"]:
            continue
        assert tuple(axis.size for axis in axes) == stored
        found = []
        for position, place in cells(axes, points, task["array_offset"]):
            inside = [0] * len(order)
            for k, at in zip(order, position, strict=True):
                inside[k] = at
            found.append((item_number(inside, chunks), place))
            filled.append((place, _in_array(projection[0], inside, chunks, shape)))
        assert Counter(found) == Counter(wanted)
        assert dict(found) == dict(wanted)  # of several values for an item the last one stays
        if points is not None:
            assert in_order(iter(found)) == in_order(iter(wanted))
        whole = set(found) if points is None and not task["has_lists"] else set()
        assert task["covers"] == (len(whole) == math.prod(chunks))
    for place, number in filled:
        assert expected[_index_of(place, array)] == number
    assert len({place for place, _ in filled}) == len(filled) == expected.size
    return tasks


def _in_array(coords: Any, inside: list[int], chunks: Shape, shape: Shape) -> int:
    """The number of an item in the whole array."""
    position = [int(c) * m + k for c, m, k in zip(coords, chunks, inside, strict=True)]
    return item_number(position, shape)


def _index_of(place: int, array: Array) -> Shape:
    """Which item of an array is at a byte offset from its first."""
    rest, index = abs(place), [0] * array.ndim
    for k in sorted(range(array.ndim), key=lambda k: -abs(array.strides[k])):
        if array.shape[k] > 1:
            index[k], rest = divmod(rest, abs(array.strides[k]))
    assert sum(i * s for i, s in zip(index, array.strides, strict=True)) == place
    return tuple(index)


# -------------------------------------------------------------------------------------- random


@st.composite
def axis_keys(draw: st.DrawFn, n: int) -> Any:
    kind = draw(st.sampled_from(["slice", "integer", "list", "mask", "reversed", "every"]))
    if kind == "slice":
        start = draw(st.integers(0, n - 1))
        return slice(start, draw(st.integers(start, n)), draw(st.integers(1, 4)))
    if kind == "integer":
        return draw(st.integers(0, n - 1))
    if kind == "mask":
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if kind == "reversed":
        return np.arange(n)[:: -draw(st.integers(1, 3))]
    if kind == "every":
        return np.arange(n)[draw(st.integers(0, n - 1)) :: draw(st.integers(1, 3))]
    return np.array(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9)))


@st.composite
def keys(draw: st.DrawFn, kind: str, shape: Shape) -> Any:
    if kind == "points":
        numbers = st.lists(st.integers(0, math.prod(shape) - 1), min_size=1, max_size=40)
        return tuple(np.unravel_index(np.array(draw(numbers)), shape))
    if kind == "mask":
        seed, share = draw(st.integers(0, 99)), draw(st.sampled_from([0.05, 0.5, 1.0]))
        return np.random.default_rng(seed).random(shape) < share
    key = tuple(draw(axis_keys(n)) for n in shape)
    if kind == "basic":
        return tuple(one if isinstance(one, (int, slice)) else ALL for one in key)
    return key


@EXAMPLES
@given(
    st.data(),
    st.sampled_from(list(INDEXERS)),
    st.lists(st.tuples(st.integers(1, 13), st.integers(1, 6)), min_size=1, max_size=3),
    st.sampled_from(["C", "F", "backward"]),
)
def test_random(data: st.DataObject, kind: str, grid: list[tuple[int, int]], memory: str) -> None:
    shape, chunks = tuple(n for n, _ in grid), tuple(m for _, m in grid)
    order = tuple(data.draw(st.permutations(range(len(grid)))))
    key = data.draw(keys(kind, shape))
    assume(kind != "mask" or key.any())
    check(kind, key, shape, chunks, order, memory)


# ------------------------------------------------------------------------------------- by hand


def ranges(task: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(axis.start, axis.step, axis.count) for axis in task["axes"]]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (np.arange(2, 9), (2, 1, 7)),
        (np.arange(1, 10, 4), (1, 4, 3)),
        (np.arange(8, 0, -3), (2, 3, 3)),  # backward in the array
        (np.array([5]), (5, 1, 1)),
        (np.array([7, 3]), (3, 4, 2)),
        (np.arange(10) % 3 == 1, (1, 3, 3)),
    ],
)
def test_arrays_that_are_ranges(key: Array, expected: tuple[int, int, int]) -> None:
    for order in ((0, 1), (1, 0)):
        (task,) = check("orthogonal", (key, slice(2, 5)), (10, 6), (10, 6), order)
        assert not task["has_lists"]
        assert ranges(task)[order.index(0)] == expected


@pytest.mark.parametrize(
    "key", [[3, 3], [1, 2, 4], [0, 0, 1], [4, 1, 1], [0, 4, 8, 2], [0, 2, 1], [2, 2, 2]]
)
def test_arrays_that_are_none(key: list[int]) -> None:
    (task,) = check("orthogonal", (np.array(key), ALL), (10, 3), (10, 3), (0, 1))
    axis = task["axes"][0]
    places = sorted(range(len(key)), key=lambda i: (key[i], i))
    assert task["has_lists"]
    assert axis.chosen == sorted(key)
    assert axis.array_offsets == [12 * i for i in places]


def test_many_values_for_few_items() -> None:
    """Sorting keeps the order of equal positions, however many there are."""
    key = np.random.default_rng(1).integers(0, 5, 3000)
    projection = ((0,), (key,), (slice(0, 3000),))
    plan = plan_of([projection], (5,), np.zeros(3000, "i4"))
    assert isinstance(plan, Plan), plan
    (axis,), _, _ = kernels().task_of(plan, 0)
    assert axis[5] == sorted(key.tolist())
    assert axis[6] == (4 * np.argsort(key, kind="stable")).tolist()


@pytest.mark.parametrize("dtype", ["i1", "u2", "i4", ">i8", "u8"])
def test_types_of_indices(dtype: str) -> None:
    """Any integers, in any memory."""
    key = np.array([4, 1, 1, 3, 0, 2, 9], dtype)[::2]
    array = np.zeros((4, 7), "i4")
    columns = np.array([6, 0, 2], dtype)
    projection = ((0, 0), np.ix_(key, columns), (ALL, slice(1, 6, 2)))
    plan = plan_of([projection], (10, 7), array)
    assert isinstance(plan, Plan), plan
    axes, points, task = kernels().task_of(plan, 0)
    found = [
        (item_number(at, (10, 7)), place)
        for at, place in cells([Axis(*axis) for axis in axes], points, task["array_offset"])
    ]
    plain = ((0, 0), np.ix_(key.astype(int), columns.astype(int)), (ALL, slice(1, 6, 2)))
    assert Counter(found) == Counter(chunk_pairs(plain, (10, 7), array, ()))


@pytest.mark.parametrize("dropped", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_dropped_axes(dropped: Shape) -> None:
    key: list[Any] = [np.array([6, 1, 1]), np.array([0, 3]), np.array([2, 0, 4])]
    for k in dropped:
        key[k] = 3
    for order in itertools.permutations(range(3)):
        check("orthogonal", tuple(key), (7, 4, 5), (3, 4, 2), order)


def test_one_value_for_all() -> None:
    """A single item is in the place of every one; the array has no axes to match."""
    value = np.zeros((), "i4")
    for chunk_selection, out in (
        ((np.array([3, 1, 1]), slice(2, 4)), (slice(0, 3), slice(0, 2))),
        ((np.array([3, 1, 1]), np.array([0, 2, 2])), (slice(5, 8),)),
    ):
        projection = ((0, 0), chunk_selection, out)
        plan = plan_of([projection], (4, 4), value, broadcast=True)
        assert isinstance(plan, Plan), plan
        axes, points, task = kernels().task_of(plan, 0)
        found = [*cells([Axis(*axis) for axis in axes], points, task["array_offset"])]
        grid = np.arange(16).reshape(4, 4)[chunk_selection]
        assert sorted(item_number(at, (4, 4)) for at, _ in found) == sorted(grid.ravel().tolist())
        assert {place for _, place in found} == {0}


# ----------------------------------------------------------------------------------------- bad

NO_MATCH = "the selections in chunk and array do not match"
UNKNOWN = "the selection is not made of slices, integers and index arrays"
OUTSIDE = "the selection has an index outside of the chunk"
THREE = np.array([0, 2, 3])


@pytest.mark.parametrize(
    ("chunk_selection", "out", "reason"),
    [
        ((THREE, ALL, ALL), (ALL, ALL), "the selection does not name every axis of the chunk"),
        ((THREE,), (ALL, ALL), "the selection does not name every axis of the chunk"),
        ((np.array([0, 2, 4]), ALL), (ALL, ALL), OUTSIDE),
        ((np.array([0, -1, 2]), ALL), (ALL, ALL), OUTSIDE),
        ((np.array([0, 2**64 - 1, 2], "u8"), ALL), (ALL, ALL), OUTSIDE),
        ((THREE, slice(None, None, -1)), (ALL, ALL), "the selection has a backward slice"),
        ((THREE, 5), (ALL,), UNKNOWN),  # no axis is dropped
        ((THREE, None), (ALL, ALL), UNKNOWN),
        ((THREE.astype("f8"), ALL), (ALL, ALL), UNKNOWN),
        ((THREE.reshape(3, 1, 1), ALL), (ALL, ALL), UNKNOWN),
        ((THREE.reshape(1, 3), ALL), (ALL, ALL), UNKNOWN),  # of the other axis
        ((THREE[:2], ALL), (ALL, ALL), NO_MATCH),
        ((THREE, slice(0, 4)), (ALL, ALL), NO_MATCH),
        ((THREE, ALL), (ALL,), NO_MATCH),
        ((THREE, ALL), (ALL, ALL, ALL), NO_MATCH),
        ((THREE, ALL), (np.array([0, 1]), ALL), NO_MATCH),
        ((THREE, ALL), (np.array([0, 1, 3]), ALL), NO_MATCH),  # outside of the array
        ((THREE, ALL), (np.array([0, 1, -1]), ALL), NO_MATCH),
        ((THREE, ALL), (np.array([0.0, 1.0, 2.0]), ALL), UNKNOWN),
        ((THREE, ALL), (slice(None, None, -1), ALL), NO_MATCH),
        ((THREE, ALL), ([0, 1, 2], ALL), UNKNOWN),
        ((np.array([True, False, True]), ALL), (ALL, ALL), NO_MATCH),  # too short a mask
        ((np.ones((4, 5), bool), ALL), (ALL, ALL), UNKNOWN),
    ],
)
def test_bad_orthogonal(chunk_selection: Any, out: Any, reason: str) -> None:
    """Of a chunk of 4 by 5 items, for an array of 3 by 5."""
    projection = ((0, 0), chunk_selection, out)
    assert plan_of([projection], (4, 5), np.zeros((3, 5), "i4")) == reason


@pytest.mark.parametrize(
    ("chunk_selection", "out", "reason"),
    [
        ((THREE, np.array([0, 1, 5])), (ALL,), OUTSIDE),
        ((THREE, np.array([0, -1, 1])), (ALL,), OUTSIDE),
        ((THREE, np.array([0, 1])), (ALL,), NO_MATCH),
        ((THREE, THREE.reshape(3, 1)), (ALL,), UNKNOWN),
        ((THREE, THREE.astype("f4")), (ALL,), UNKNOWN),
        ((THREE, THREE), (slice(0, 2),), NO_MATCH),
        ((THREE, THREE), (slice(None, None, -1),), NO_MATCH),
        ((THREE, THREE), np.array([0, 1]), NO_MATCH),
        ((THREE, THREE), np.array([0, 1, 3]), NO_MATCH),
        ((THREE, THREE), np.array([[0, 1, 2]]), UNKNOWN),
        ((THREE, THREE), (1,), UNKNOWN),
        ((THREE, np.array([True, True, True])), (ALL,), NO_MATCH),  # too short a mask
    ],
)
def test_bad_points(chunk_selection: Any, out: Any, reason: str) -> None:
    projection = ((0, 0), chunk_selection, out)
    assert plan_of([projection], (4, 5), np.zeros(3, "i4")) == reason


def test_bad_dropped_axes() -> None:
    array = np.zeros(3, "i4")
    for one, reason in (
        (4, "the selection has an integer outside of the chunk"),
        (-1, "the selection has an integer outside of the chunk"),
        (slice(0, 2), NO_MATCH),
        (np.array([0, 1]), UNKNOWN),  # not shaped for its axis, and not alone
        (1.0, UNKNOWN),
    ):
        projection = ((0, 0), (one, THREE), (ALL,))
        assert plan_of([projection], (4, 5), array, drop_axes=(0,)) == reason, one
    assert plan_of([((0, 0), (2, THREE), (ALL, ALL))], (4, 5), array, drop_axes=(0,)) == NO_MATCH


NOTHING = np.array([], "i8")


@pytest.mark.parametrize(
    ("chunk_selection", "out", "shape"),
    [
        ((NOTHING, ALL), (slice(0, 0), ALL), (0, 5)),
        ((THREE, slice(2, 2)), (ALL, slice(0, 0)), (3, 0)),
        ((np.zeros(4, bool), ALL), (slice(0, 0), ALL), (0, 5)),
        ((NOTHING, NOTHING), (slice(0, 0),), (0,)),
    ],
)
def test_nothing_is_selected(chunk_selection: Any, out: Any, shape: Shape) -> None:
    plan = plan_of([((0, 0), chunk_selection, out)], (4, 5), np.zeros(shape, "i4"))
    assert isinstance(plan, Plan), plan
    assert kernels().task_of(plan, 0)[2]["empty"]
    assert plan.to_run() == []
