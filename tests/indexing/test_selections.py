"""Every selection that zarr offers, against NumPy."""

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from covering import WAYS, each_pair
from helpers import (
    CORE_CHAINS,
    CORE_DTYPES,
    STRUCT,
    ZARR_34,
    Chain,
    assert_same,
    bits,
    create,
    make_data,
    ours_open,
    stock_read,
    stored_files,
    zarr_has,
)
from hypothesis import given, note
from hypothesis import strategies as st
from picks import ALL, CASES, EMPTY, FEW_CASES, PICKS, SHAPE, few_cases, make, some_mask
from selections import EXAMPLES, Case, Pick, cases, check, picks
from shards import SHARDING, Coords

from zarrs import _access, _planner
from zarrs.execution import _job as job_module
from zarrs.indexing._make_plan import make_plan
from zarrs.indexing._plan_selected import plan_selected

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]


# ------------------------------------------------------------------------------------ random

LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {
    "c": lambda value: value,
    "fortran": lambda value: value.copy(order="F"),
    "strided": lambda value: _strided(value),
    "swapped": lambda value: _swapped(value),
    "read-only": lambda value: _read_only(value),
}


def _strided(value: np.ndarray) -> np.ndarray:
    """The same values, backward in memory, with others between them."""
    if value.ndim == 0:
        return value
    return np.repeat(value[::-1], 2, axis=0)[::-2]


def _swapped(value: np.ndarray) -> np.ndarray:
    return value.astype(value.dtype.newbyteorder("S")) if value.dtype.names is None else value


def _read_only(value: np.ndarray) -> np.ndarray:
    value = value.copy()
    value.flags.writeable = False
    return value


@EXAMPLES
@given(
    data=st.data(),
    case=cases(),
    dtype=st.sampled_from([*CORE_DTYPES, np.dtype("S3"), np.dtype(">i4"), STRUCT]),
    order=st.sampled_from(["C", "F"]),
)
@pytest.mark.usefixtures("native")
def test_random(data: st.DataObject, case: Case, dtype: np.dtype, order: str) -> None:
    """Reads, writes and reads of random selections of random arrays."""
    if not zarr_has(dtype, case.arguments.get("zarr_format", 3)):
        dtype = np.dtype("<i4")
    options = {
        "array.order": order,
        # to zarr a chunk of complex or struct -0.0 is as empty as one of 0.0
        "array.write_empty_chunks": dtype.kind in "cV",
    }
    with tempfile.TemporaryDirectory() as root, zarr.config.set(options):
        path = Path(root) / "array"
        array = zarr.create_array(str(path), shape=case.shape, dtype=dtype, **case.arguments)
        expected = np.full(case.shape, array.fill_value, dtype)
        if data.draw(st.booleans(), label="filled"):
            expected[...] = make_data(dtype, case.shape, 3)
            array[...] = expected
        for _ in range(data.draw(st.integers(1, 3), label="steps")):
            pick = data.draw(picks(case), label="read")
            note(str(pick))
            where = pick.places(case.shape, case.grid)
            assert_same(pick.read(array), expected.reshape(-1)[where], f"read {pick}")
            pick = data.draw(picks(case), label="write")
            note(str(pick))
            where = pick.places(case.shape, case.grid)
            fresh = make_data(dtype, case.shape, data.draw(st.integers(0, 5))).reshape(-1)
            layout = data.draw(st.sampled_from([*LAYOUTS, "scalar"]), label="layout")
            if layout == "scalar":
                value = make_data(dtype, (1,), data.draw(st.integers(0, 5))).reshape(())
                kept = value.copy()
            else:
                value = LAYOUTS[layout](np.asarray(fresh[where]))
                kept = value.copy()
            pick.write(array, value)
            assert bits(value) == bits(kept), "the user's array has changed"
            expected.reshape(-1)[where] = value
            assert_same(array[...], expected, f"all after {pick}")
        assert_same(ours_open(path)[...], expected, "opened again")
        if ZARR_34 or dtype.kind != "V":  # which zarr before 3.4 cannot read from shards
            assert_same(stock_read(path), expected, "zarr")


FEW = [CASES[name] for name in FEW_CASES]
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@each_case
def test_table(native: None, tmp_path: Path, case: Case) -> None:
    data = make_data("<i4", SHAPE)
    array = make(tmp_path, case)
    array[...] = data
    for i, pick in enumerate(PICKS.values()):
        check(array, data, pick, seed=i + 1, grid=case.grid)
    assert_same(stock_read(tmp_path), data, "zarr")


@each_case
def test_table_with_nothing_stored(native: None, tmp_path: Path, case: Case) -> None:
    """All that is read is the fill value, and all that is not written stays it."""
    for i, (name, pick) in enumerate(PICKS.items()):
        array = make(tmp_path / str(i), case, fill_value=7)
        data = np.full(SHAPE, 7, "<i4")
        check(array, data, pick, seed=i + 1, grid=case.grid)
        if pick.places(SHAPE, case.grid).size == 0:
            assert not stored_files(tmp_path / str(i)), name
        assert_same(stock_read(tmp_path / str(i)), data, name)


@each_pair(
    access=WAYS,
    case=FEW,
    name=[
        *("repeated", "empty-array", "dropped-between", "dropped-all", "descending", "mask-axes"),
        *("mask-axis-is-a-slice", "points-repeated", "points-empty", "points-2d", "points-integer"),
        *("mask", "mask-none", "mask-is-a-box", "blocks", "fancy-array", "fancy-points-2d"),
    ],
)
def test_scalars_go_everywhere(native: None, tmp_path: Path, case: Case, name: str) -> None:
    """A Python number, a NumPy number and an array without dimensions."""
    data = make_data("<i4", SHAPE)
    array = make(tmp_path, case)
    array[...] = data
    pick = PICKS[name]
    where = pick.places(SHAPE, case.grid)
    for value in (5, np.int32(-6), np.array(7, "<i4"), np.array(8, ">i4")):
        pick.write(array, value)
        data.reshape(-1)[where] = value
        assert_same(array[...], data, repr(value))
    pick.write(array, 0)  # the fill value: chunks go
    data.reshape(-1)[where] = 0
    assert_same(array[...], data, "the fill value")
    assert_same(stock_read(tmp_path), data, "zarr")


KINDS = (
    "three-arrays",
    "dropped-between",
    "mask-axes",
    "descending",
    "points",
    "points-2d",
    "mask",
)


@each_pair(
    access=WAYS,
    case=FEW,
    dtype=["<i4", ">f8", "<c16", "S5", "<U3", STRUCT],
    layout=[*LAYOUTS],
)
def test_memory_of_values(
    native: None, tmp_path: Path, case: Case, layout: str, dtype: Any
) -> None:
    """Values are taken from any memory and not touched."""
    dtype = np.dtype(dtype)
    data = make_data(dtype, SHAPE)
    array = make(tmp_path, case, dtype, config={"write_empty_chunks": True})
    array[...] = data
    for i, name in enumerate(KINDS):
        pick = PICKS[name]
        where = pick.places(SHAPE)
        value = LAYOUTS[layout](make_data(dtype, SHAPE, i + 1).reshape(-1)[where])
        kept = value.copy()
        pick.write(array, value)
        assert bits(value) == bits(kept), name
        data.reshape(-1)[where] = value
        assert_same(array[...], data, name)
        assert_same(pick.read(array), data.reshape(-1)[where], name)


SMALL: list[tuple[Coords, Coords]] = [  # arrays and their chunks
    *(((1,), (1,)), ((1, 1, 1), (1, 1, 1)), ((1, 9), (1, 4)), ((9, 1), (4, 3))),
    *(((5, 1, 6), (2, 1, 6)), ((7,), (1,)), ((7,), (50,)), ((3, 3, 3, 3), (2, 1, 3, 2))),
]


@each_pair(access=WAYS, chain=CORE_CHAINS, shapes=SMALL)
def test_small_axes(
    native: None, tmp_path: Path, chain: Chain, shapes: tuple[Coords, Coords]
) -> None:
    """Axes and chunks of one item, where strides mean nothing."""
    shape, chunks = shapes
    data = make_data("<f4", shape)
    array = create(tmp_path, chain, shape, chunks, "<f4")
    array[...] = data
    n = len(shape)
    repeated = [np.array([0, -1, 0, m - 1, m // 2]) for m in shape]
    one = [np.array([m - 1]) for m in shape]
    backward = [np.arange(m)[::-1] for m in shape]
    table = [Pick("oindex", tuple(k)) for k in (repeated, one, backward)]
    table += [Pick("vindex", tuple(k)) for k in (repeated, one)]
    table += [Pick("mask", some_mask(shape, share, 1)) for share in (0.0, 0.5, 1.0)]
    for axis in range(n):
        for other in (0, slice(None), slice(None, None, 2)):
            key: list[Any] = [other] * n
            for index in (repeated[axis], one[axis], backward[axis], some_mask(shape[axis], 0.5)):
                key[axis] = index
                table.append(Pick("oindex", tuple(key)))
    for i, pick in enumerate(table):
        check(array, data, pick, seed=i)


@pytest.mark.parametrize("chain", CORE_CHAINS, ids=str)
def test_no_dimensions(native: None, tmp_path: Path, chain: Chain) -> None:
    array = create(tmp_path, chain, (), (), "<i4", fill_value=3)
    for key in ((), ...):
        assert_same(array.oindex[key], np.array(3, "<i4") if key == () else np.int32(3))
    array.oindex[()] = 8
    assert_same(array.oindex[()], np.array(8, "<i4"))
    assert_same(array[...], np.int32(8))
    array.oindex[...] = np.array(9, ">i4")
    assert_same(stock_read(tmp_path), np.int32(9))


def test_no_dimensions_sharded(native: None, tmp_path: Path) -> None:
    array = zarr.create_array(
        str(tmp_path), shape=(), dtype="<i4", **SHARDING["crc32c"].arguments((), ())
    )
    array.oindex[()] = 8
    assert_same(array.oindex[()], np.array(8, "<i4"))


@few_cases
def test_zero_length_axes(native: None, tmp_path: Path, case: Case) -> None:
    array = zarr.create_array(str(tmp_path), shape=(29, 0, 13), dtype="<i4", **case.arguments)
    for key in (([3, 1], ALL, [2]), (ALL, EMPTY, 4), (some_mask(29, 0.5), ALL, ALL)):
        pick = Pick("oindex", key)
        expected = pick.places((29, 0, 13)).astype("<i4")
        assert_same(pick.read(array), expected)
        pick.write(array, expected)
        pick.write(array, 5)
    assert not stored_files(tmp_path)


@each_pair(access=WAYS, case=FEW, name=KINDS)
def test_missing_chunks(native: None, tmp_path: Path, case: Case, name: str) -> None:
    """Some chunks, and some inner chunks of shards, are not there: read, then written."""
    array = make(tmp_path, case, fill_value=-4)
    data = np.full(SHAPE, -4, "<i4")
    for box in ((slice(0, 4), slice(0, 5), slice(0, 6)), (slice(14, 20), ALL, slice(7, 12))):
        array[box] = data[box] = make_data("<i4", SHAPE, 1)[box]
    assert len(stored_files(tmp_path)) < math.prod(
        -(-n // g) for n, g in zip(SHAPE, case.grid, strict=True)
    ), "nothing is missing"
    check(array, data, PICKS[name])
    assert_same(stock_read(tmp_path), data, "zarr")


@each_pair(access=WAYS, case=FEW, name=KINDS)
def test_chunks_go_when_they_are_empty(native: None, tmp_path: Path, case: Case, name: str) -> None:
    """What was written alone and is then overwritten with the fill value leaves nothing."""
    array = make(tmp_path, case, fill_value=-4)
    PICKS[name].write(array, 5)
    assert stored_files(tmp_path)
    PICKS[name].write(array, -4)
    assert not stored_files(tmp_path)


@few_cases
def test_result_order(native: None, tmp_path: Path, case: Case) -> None:
    """Results in Fortran order are filled as well."""
    data = make_data("<i4", SHAPE)
    array = make(tmp_path, case, config={"order": "F"})
    array[...] = data
    for name, pick in PICKS.items():
        where = pick.places(SHAPE, case.grid)
        assert_same(pick.read(array), data.reshape(-1)[where], name)
    three = PICKS["three-arrays"].read(array)
    assert three.flags.f_contiguous


@each_pair(access=WAYS, name=[*FEW_CASES, "v2-zlib-F"], threads=[1, 4])
def test_threads(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, threads: int
) -> None:
    """The same from one thread and from several, with nothing done inline."""
    monkeypatch.setattr(_planner, "THREAD_COST", 1)
    monkeypatch.setattr(job_module, "INLINE_CHUNKS", 0)
    with zarr.config.set({"threading.max_workers": threads}):
        data = make_data("<i4", SHAPE)
        array = make(tmp_path, CASES[name])
        array[...] = data
        for i, pick in enumerate(PICKS.values()):
            check(array, data, pick, seed=i + 1, grid=CASES[name].grid)


# -------------------------------------------------------------------- slices under other names


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, float]]:
    """Every plan that is made from now on, and the seconds that it took."""
    made: list[tuple[Any, float]] = []

    def timed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.thread_time()
            plan = real(*args)
            made.append((plan, time.thread_time() - start))
            return plan

        return call

    monkeypatch.setattr(_planner, "make_plan", timed(make_plan))
    monkeypatch.setattr(_access, "plan_selected", timed(plan_selected))
    return made


@few_cases
@pytest.mark.parametrize(
    ("name", "simple"),
    [
        ("mask-axis-is-a-slice", True),
        ("mask-axis-is-a-strided-slice", True),
        ("everything-as-arrays", True),
        ("ascending-by-3", True),
        ("descending", True),
        ("one-each", True),
        ("three-arrays", False),
        ("mask-axes", False),
        ("points", False),
    ],
)
def test_slices_are_recognised(
    native: None, tmp_path: Path, plans: list[Any], case: Case, name: str, simple: bool
) -> None:
    """An index array or mask of an axis that is a range in truth is planned as one."""
    array = make(tmp_path, case)
    PICKS[name].read(array)
    PICKS[name].write(array, 5)
    assert len(plans) == 2
    assert [plan.is_simple for plan, _ in plans] == [simple, simple]


# ------------------------------------------------------------------------------ cost of plans


@pytest.mark.parametrize("sharded", [False, True], ids=["plain", "sharded"])
def test_plans_take_time_by_the_point(
    native: None, tmp_path: Path, plans: list[tuple[Any, float]], sharded: bool
) -> None:
    """A million points cost no more each than fifty thousand, within reason."""
    n = 1000
    kw: dict[str, Any] = {"chunks": (n, n)}
    if sharded:
        kw = {"chunks": (100, 100), "shards": (n, n)}
    array = zarr.create_array(str(tmp_path), shape=(n, n), dtype="<i4", compressors=None, **kw)
    array[...] = data = make_data("<i4", (n, n))
    cost = {}
    for count in (50_000, 1_000_000):
        key = tuple(np.random.default_rng(count).integers(0, n, (2, count)))
        plans.clear()
        for _ in range(5):
            assert_same(array.vindex[key], data[key])
        assert len(plans) == 5
        cost[count] = min(seconds for _, seconds in plans) / count
    assert cost[1_000_000] < 10 * cost[50_000]
    assert cost[1_000_000] < 5e-6  # a Python loop would need more


@pytest.mark.parametrize("count", [10_000, 1_000_000])
def test_writing_many_points(native: None, tmp_path: Path, count: int) -> None:
    n = 1000
    array = zarr.create_array(str(tmp_path), shape=(n, n), chunks=(n, n), dtype="<i4")
    places = np.random.default_rng(count).permutation(n * n)[:count]
    key = np.unravel_index(places, (n, n))
    expected = np.zeros(n * n, "<i4")
    expected[places] = value = np.arange(1, count + 1, dtype="<i4")
    array.vindex[key] = value
    assert_same(array[...], expected.reshape(n, n))
