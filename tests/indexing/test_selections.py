"""oindex, vindex, masks, blocks and fancy indexing: natively what NumPy does.

The random test runs 300 examples, or as many as the environment variable ``ZARRS_EXAMPLES`` says::

    ZARRS_EXAMPLES=5000 python -m pytest tests/indexing/test_selections.py -k random
"""

import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    CHAIN,
    CORE_CHAINS,
    CORE_DTYPES,
    PIPELINE,
    STOCK,
    STRUCT,
    ZARR_34,
    Chain,
    assert_same,
    bits,
    chain_arguments,
    chunk_file,
    create,
    dtype_id,
    make_data,
    ours_open,
    stock_read,
    stored_files,
    zarr_has,
)
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from selections import Case, Pick, cases, check, picks
from shards import SHARDING, Coords
from zarr.codecs import BloscCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import NDBuffer
from zarr.core.sync import sync
from zarr.storage import StorePath

import zarrs
from zarrs import pipeline as pipeline_module
from zarrs.execution import _job as job_module

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

EXAMPLES = settings(
    max_examples=int(os.environ.get("ZARRS_EXAMPLES", "300")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


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


# ------------------------------------------------------------------------------------ tables


SHAPE = (29, 17, 13)
PLAIN_GRID = (7, 5, 6)
SHARD, INNER = (12, 12, 12), (4, 12, 6)


def _sharded(name: str) -> Case:
    sharding = SHARDING[name]
    return Case(SHAPE, sharding.shard_shape(SHARD), sharding.arguments(SHARD, INNER), name)


def _plain(name: str) -> Case:
    arguments = {"chunks": PLAIN_GRID, **chain_arguments(CHAIN[name], 3)}
    return Case(SHAPE, PLAIN_GRID, arguments, name)


CASES = {
    c.name: c
    for c in (
        *map(_plain, ("raw", "blosc-lz4-shuffle", "rotated-big-zstd-crc32c", "v2-zlib-F")),
        *map(_sharded, ("index-end-little-crc32c", "inside-rotated-zstd", "before-rotated")),
        *map(_sharded, ("after-zstd", "nested-rotated", "nested-twice-mixed")),
    )
}
FEW_CASES = ("raw", "rotated-big-zstd-crc32c", "index-end-little-crc32c", "nested-rotated")


def _some(n: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-n, n, count)


def _mask(n: Any, share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n) < share


def _where(shape: Any, *on: Any) -> np.ndarray:
    out = np.zeros(shape, bool)
    for one in on:
        out[one] = True
    return out


EMPTY = np.zeros(0, int)
ALL = slice(None)
X, Y, Z = SHAPE
PICKS: dict[str, Pick] = {
    "sorted": Pick("oindex", ([0, 3, 4, 20, 28], ALL, ALL)),
    "unsorted": Pick("oindex", ([20, 3, 28, 0, 4], ALL, ALL)),
    "repeated": Pick("oindex", ([5, 5, 28, 5, 0, 0], ALL, [3, 3])),
    "negative": Pick("oindex", ([-1, -29, 3, -4], [-17, -1], ALL)),
    "empty-array": Pick("oindex", (EMPTY, ALL, [1])),
    "all-empty": Pick("oindex", (EMPTY, EMPTY, EMPTY)),
    "one-each": Pick("oindex", ([7], [-1], [12])),
    "one-and-slices": Pick("oindex", (ALL, [4], slice(1, None, 5))),
    "last-axis-only": Pick("oindex", (..., [2, 11, 0])),
    "first-axis-only": Pick("oindex", ([2, 11, 0],)),
    "dropped-between": Pick("oindex", ([4, 1, 28], 2, [0, 12, 5])),
    "dropped-first": Pick("oindex", (-1, [4, 1, 16], [0, 12, 5])),
    "dropped-last": Pick("oindex", ([4, 1, 16], [0, 12, 5], 3)),
    "dropped-two": Pick("oindex", (5, [3, 1], -1)),
    "dropped-all": Pick("oindex", (5, 3, -1)),
    "dropped-by-slice": Pick("oindex", (3, slice(2, None, 4), [9, 2])),
    "three-arrays": Pick("oindex", (_some(X, 40), _some(Y, 9, 1), _some(Z, 20, 2))),
    "many-repeats": Pick("oindex", (_some(X, 300), 3, ALL)),
    "descending": Pick("oindex", (np.arange(X)[::-1], np.arange(Y)[::-1], np.arange(Z)[::-1])),
    "descending-one": Pick("oindex", (ALL, np.arange(Y)[::-1], ALL)),
    "descending-by-3": Pick("oindex", (np.arange(X)[::-3], ALL, 4)),
    "ascending-by-3": Pick("oindex", (np.arange(X)[1::3], np.arange(Y)[::5], np.arange(Z)[::2])),
    "everything-as-arrays": Pick("oindex", (np.arange(X), np.arange(Y), np.arange(Z))),
    "steps-above-the-chunk": Pick("oindex", (slice(None, None, 15), [8, 0], slice(1, None, 9))),
    "mask-axis": Pick("oindex", (_mask(X, 0.4), ALL, ALL)),
    "mask-axes": Pick("oindex", (_mask(X, 0.4), _mask(Y, 0.5, 1), _mask(Z, 0.6, 2))),
    "mask-and-array": Pick("oindex", (_mask(X, 0.1), [5, 2], 7)),
    "mask-axis-none": Pick("oindex", (np.zeros(X, bool), ALL, ALL)),
    "mask-axis-all": Pick("oindex", (ALL, np.ones(Y, bool), ALL)),
    "mask-axis-one": Pick("oindex", (_where(X, 28), ALL, [0, 1])),
    "mask-axis-is-a-slice": Pick("oindex", (_where(X, slice(3, 22)), ALL, ALL)),
    "mask-axis-is-a-strided-slice": Pick("oindex", (ALL, ALL, _where(Z, slice(1, 12, 2)))),
    "mask-axis-is-nearly-a-slice": Pick("oindex", (_where(X, slice(3, 9), 10), ALL, ALL)),
    "small-integers": Pick("oindex", (np.array([3, 1, 28], "u1"), ALL, np.array([-1, 2], "i1"))),
    "lists": Pick("oindex", ([3, 1], [True, False] * 8 + [True], [2])),
    "strided-index": Pick("oindex", (np.arange(2 * X)[:X:2][::-1], ALL, 0)),
    "points": Pick("vindex", (_some(X, 50), _some(Y, 50, 1), _some(Z, 50, 2))),
    "points-repeated": Pick("vindex", ([3, 3, 28, 3, 3], [1, 1, 0, 1, 2], [5, 5, -1, 5, 5])),
    "points-empty": Pick("vindex", (EMPTY, EMPTY, EMPTY)),
    "points-one": Pick("vindex", ([7], [-1], [12])),
    "points-integer": Pick("vindex", (7, -1, 12)),
    "points-one-axis-integer": Pick("vindex", (7, [-1, 4, 5], 12)),
    "points-in-a-row": Pick("vindex", ([7] * Z, [3] * Z, np.arange(Z))),
    "points-in-a-row-backward": Pick("vindex", ([7] * Z, [3] * Z, np.arange(Z)[::-1])),
    "points-diagonal": Pick("vindex", (np.arange(13), np.arange(13), np.arange(13))),
    "points-2d": Pick("vindex", (_some(X, 12).reshape(3, 4), _some(Y, 4), _some(Z, 3)[:, None])),
    "points-3d": Pick("vindex", (_some(X, 24).reshape(2, 3, 4), [[2], [4], [1]], [0, 1, 2, -1])),
    "points-2d-grid": Pick("vindex", ([[4], [28], [4]], [[0, 16, 3, 3]], 2)),
    "points-2d-empty": Pick("vindex", (np.zeros((2, 0), int), np.zeros((1, 0), int), 0)),
    "points-everywhere": Pick("vindex", tuple(i.reshape(-1) for i in np.indices(SHAPE))),
    "points-everywhere-shuffled": Pick(
        "vindex", np.unravel_index(np.random.default_rng(0).permutation(X * Y * Z), SHAPE)
    ),
    "mask": Pick("mask", _mask(SHAPE, 0.3)),
    "mask-thin": Pick("mask", _mask(SHAPE, 0.002)),
    "mask-none": Pick("mask", np.zeros(SHAPE, bool)),
    "mask-all": Pick("mask", np.ones(SHAPE, bool)),
    "mask-one": Pick("mask", _where(SHAPE, (28, 16, 12))),
    "mask-is-a-box": Pick("mask", _where(SHAPE, (slice(3, 22), slice(5, 12), slice(2, 9)))),
    "mask-is-rows": Pick("mask", _where(SHAPE, slice(6, 9))),
    "mask-is-strided": Pick("mask", _where(SHAPE, (slice(1, None, 3), ALL, slice(None, None, 2)))),
    "mask-is-nearly-a-box": Pick("mask", _where(SHAPE, (slice(3, 9), slice(5, 9)), (9, 5, 1))),
    "mask-fortran": Pick("mask", np.asfortranarray(_mask(SHAPE, 0.3))),
    "blocks": Pick("blocks", (slice(1, 3), 0, ALL)),
    "blocks-last": Pick("blocks", (-1, -1, -1)),
    "blocks-first-axis": Pick("blocks", 1),
    "fancy-array": Pick("fancy", [4, 28, 0, -1]),
    "fancy-array-and-slices": Pick("fancy", (ALL, [4, -1, 0], slice(1, 9, 3))),
    "fancy-integer-slice-array": Pick("fancy", (3, slice(2, 9), [4, 1, 0])),
    "fancy-points": Pick("fancy", ([4, 28, 0], [1, -1, 1], [0, 3, 7])),
    "fancy-points-2d": Pick("fancy", (np.array([[4], [28]]), np.array([1, -1, 1]), 5)),
    "fancy-mask": Pick("fancy", (_mask(X, 0.3), ALL, ALL)),
    "fancy-masks": Pick("fancy", (_mask(X, 0.3), _mask(Y, 0.3), _mask(Z, 0.3))),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
few_cases = pytest.mark.parametrize("case", [CASES[n] for n in FEW_CASES], ids=FEW_CASES)


def make(path: Path, case: Case, dtype: Any = "<i4", **kw: Any) -> zarr.Array:
    return zarr.create_array(str(path), shape=case.shape, dtype=dtype, **case.arguments, **kw)


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


@few_cases
@pytest.mark.parametrize(
    "name",
    [
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


@few_cases
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["<i4", ">f8", "<c16", "S5", "<U3", STRUCT], ids=dtype_id)
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


@pytest.mark.parametrize("chain", CORE_CHAINS, ids=str)
@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        *(((1,), (1,)), ((1, 1, 1), (1, 1, 1)), ((1, 9), (1, 4)), ((9, 1), (4, 3))),
        *(((5, 1, 6), (2, 1, 6)), ((7,), (1,)), ((7,), (50,)), ((3, 3, 3, 3), (2, 1, 3, 2))),
    ],
)
def test_small_axes(
    native: None, tmp_path: Path, chain: Chain, shape: Coords, chunks: Coords
) -> None:
    """Axes and chunks of one item, where strides mean nothing."""
    data = make_data("<f4", shape)
    array = create(tmp_path, chain, shape, chunks, "<f4")
    array[...] = data
    n = len(shape)
    repeated = [np.array([0, -1, 0, m - 1, m // 2]) for m in shape]
    one = [np.array([m - 1]) for m in shape]
    backward = [np.arange(m)[::-1] for m in shape]
    table = [Pick("oindex", tuple(k)) for k in (repeated, one, backward)]
    table += [Pick("vindex", tuple(k)) for k in (repeated, one)]
    table += [Pick("mask", _mask(shape, share, 1)) for share in (0.0, 0.5, 1.0)]
    for axis in range(n):
        for other in (0, slice(None), slice(None, None, 2)):
            key = [other] * n
            for index in (repeated[axis], one[axis], backward[axis], _mask(shape[axis], 0.5)):
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
    for key in (([3, 1], ALL, [2]), (ALL, EMPTY, 4), (_mask(29, 0.5), ALL, ALL)):
        pick = Pick("oindex", key)
        expected = pick.places((29, 0, 13)).astype("<i4")
        assert_same(pick.read(array), expected)
        pick.write(array, expected)
        pick.write(array, 5)
    assert not stored_files(tmp_path)


@few_cases
@pytest.mark.parametrize("name", KINDS)
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


@few_cases
@pytest.mark.parametrize("name", KINDS)
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


@pytest.mark.parametrize("name", [*FEW_CASES, "v2-zlib-F"])
@pytest.mark.parametrize("threads", [1, 4])
def test_threads(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, threads: int
) -> None:
    """The same from one thread and from several, with nothing done inline."""
    monkeypatch.setattr(pipeline_module, "THREAD_COST", 1)
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
    real = pipeline_module.make_plan

    def timed(*args: Any) -> Any:
        start = time.thread_time()
        plan = real(*args)
        made.append((plan, time.thread_time() - start))
        return plan

    monkeypatch.setattr(pipeline_module, "make_plan", timed)
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


# ------------------------------------------------------------------------ repeated assignments


def direct_write(
    array: zarr.Array, grid: Coords, batch: list[tuple[Coords, Any, Any]], value: np.ndarray
) -> None:
    """Hand `batch` (chunk, selection in it, selection in `value`) to the pipeline as it is."""
    inner = array._async_array
    prototype = default_buffer_prototype()
    config = inner.config if hasattr(inner, "config") else inner._config
    metadata = inner.metadata
    if metadata.zarr_format == 2:  # as zarr does
        config = replace(config, order=metadata.order)
    spec = ArraySpec(grid, metadata.dtype, metadata.fill_value, config, prototype)
    info = [
        (
            StorePath(inner.store_path.store, metadata.encode_chunk_key(chunk)),
            spec,
            mine,
            out,
            False,
        )
        for chunk, mine, out in batch
    ]
    buffer = prototype.nd_buffer.from_numpy_array(value)
    sync(inner.codec_pipeline.write(info, buffer))


REPEAT_SHAPE, REPEAT_GRID = (48, 36), (24, 12)
REPEAT_CASES = {
    "plain": {"chunks": REPEAT_GRID, "compressors": None},
    "blosc": {"chunks": REPEAT_GRID, "compressors": [BloscCodec(cname="lz4", blocksize=256)]},
    "v2-F": {"chunks": REPEAT_GRID, **chain_arguments(CHAIN["v2-raw-F"], 2)},
    "one-chunk": {"chunks": REPEAT_SHAPE, "compressors": None},
    **{
        name: SHARDING[name].arguments(REPEAT_GRID, (6, 4))
        for name in ("index-end-little-crc32c", "crc32c-start", "after-zstd")
    },
    "inside-rotated-zstd": SHARDING["inside-rotated-zstd"].arguments((12, 12), (6, 4)),
}
each_repeat = pytest.mark.parametrize("arguments", REPEAT_CASES.values(), ids=REPEAT_CASES)


@pytest.fixture
def many_threads(monkeypatch: pytest.MonkeyPatch, native: None) -> Any:
    """Threads even for little work."""
    monkeypatch.setattr(pipeline_module, "THREAD_COST", 1)
    monkeypatch.setattr(pipeline_module, "CHUNK_COST", 100)
    with zarr.config.set({"threading.max_workers": 4}):
        yield


@each_repeat
@pytest.mark.parametrize("seed", range(5))
def test_last_point_wins(
    many_threads: None, tmp_path: Path, arguments: dict[str, Any], seed: int
) -> None:
    """Each of 10,000 points in the order of the call, on 1,728 items."""
    rng = np.random.default_rng(seed)
    grid = arguments["chunks"]
    array = zarr.create_array(str(tmp_path), shape=REPEAT_SHAPE, dtype="<i4", **arguments)
    expected = make_data("<i4", REPEAT_SHAPE)
    array[...] = expected
    value = rng.permutation(10_000).astype("<i4")
    per_chunk = rng.permutation(10_000)
    chunks = list(np.ndindex(*(n // g for n, g in zip(REPEAT_SHAPE, grid, strict=True))))
    batch: list[tuple[Coords, Any, Any]] = []
    for chunk, part in zip(chunks, np.array_split(per_chunk, len(chunks)), strict=True):
        local = tuple(rng.integers(0, g, len(part)) for g in grid)
        batch.append((chunk, local, part))
        for *c, place in zip(*local, part, strict=True):
            where = tuple(a * g + b for a, g, b in zip(chunk, grid, c, strict=True))
            expected[where] = value[place]
    direct_write(array, grid, batch, value)
    assert_same(array[...], expected)


@each_repeat
def test_last_point_wins_in_slices_of_the_value(
    many_threads: None, tmp_path: Path, arguments: dict[str, Any]
) -> None:
    """As zarr says it if it did not have to sort: a slice of the value for each chunk."""
    grid = arguments["chunks"]
    array = zarr.create_array(str(tmp_path), shape=REPEAT_SHAPE, dtype="<i4", **arguments)
    expected = np.zeros(REPEAT_SHAPE, "<i4")
    rng = np.random.default_rng(0)
    value = np.arange(1, 10_001, dtype="<i4")
    chunks = list(np.ndindex(*(n // g for n, g in zip(REPEAT_SHAPE, grid, strict=True))))
    size = 10_000 // len(chunks)
    batch: list[tuple[Coords, Any, Any]] = []
    for i, chunk in enumerate(chunks):
        # few different items, each of them many times
        local = tuple(rng.integers(0, 3, size) * (g // 3) for g in grid)
        batch.append((chunk, local, slice(i * size, (i + 1) * size)))
        for k, c in enumerate(zip(*local, strict=True)):
            where = tuple(a * g + b for a, g, b in zip(chunk, grid, c, strict=True))
            expected[where] = value[i * size + k]
    direct_write(array, grid, batch, value)
    assert_same(array[...], expected)


@each_repeat
@pytest.mark.parametrize("seed", range(5))
def test_last_row_and_column_win(
    many_threads: None, tmp_path: Path, arguments: dict[str, Any], seed: int
) -> None:
    """Orthogonal index arrays with repetitions: one row after another, one item after another."""
    rng = np.random.default_rng(seed)
    grid = arguments["chunks"]
    array = zarr.create_array(str(tmp_path), shape=REPEAT_SHAPE, dtype="<i4", **arguments)
    expected = make_data("<i4", REPEAT_SHAPE)
    array[...] = expected
    chunk = tuple(n // g - 1 for n, g in zip(REPEAT_SHAPE, grid, strict=True))
    rows, columns = (rng.integers(0, g, 100) for g in grid)
    value = rng.permutation(10_000).astype("<i4").reshape(100, 100)
    out_rows, out_columns = rng.permutation(100), rng.permutation(100)
    for a, i in zip(rows, out_rows, strict=True):
        for b, k in zip(columns, out_columns, strict=True):
            where = chunk[0] * grid[0] + a, chunk[1] * grid[1] + b
            expected[where] = value[i, k]
    direct_write(
        array, grid, [(chunk, np.ix_(rows, columns), np.ix_(out_rows, out_columns))], value
    )
    assert_same(array[...], expected)


# --------------------------------------------------------------------- only what has to be read


NEEDED = ("dropped-between", "points-one", "points-repeated", "points-2d-grid", "mask-thin",
          "negative", "mask-axis-one", "one-each", "dropped-two", "fancy-points",
          "points-one-axis-integer", "points-in-a-row-backward")  # fmt: skip


def _cells(pick: Pick, shape: Coords, grid: Coords) -> set[Coords]:
    """The cells of a grid in which something is selected."""
    places = np.unravel_index(pick.places(shape, grid).reshape(-1), shape)
    cells = [p // g for p, g in zip(places, grid, strict=True)]
    return {tuple(map(int, c)) for c in zip(*cells, strict=True)}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("how", ["raw", "rotated-big-zstd-crc32c", "v2-blosc"])
def test_only_needed_chunks(native: None, tmp_path: Path, how: str, name: str) -> None:
    """All others are damaged; a write leaves them as they are."""
    chain, pick, data = CHAIN[how], PICKS[name], make_data("<i4", SHAPE)
    array = create(tmp_path, chain, SHAPE, PLAIN_GRID, "<i4")
    array[...] = data
    needed = _cells(pick, SHAPE, PLAIN_GRID)
    others = set(np.ndindex(*(-(-n // g) for n, g in zip(SHAPE, PLAIN_GRID, strict=True)))) - needed
    assert needed
    assert others
    for index in others:
        chunk_file(tmp_path, chain.zarr_format, *index).write_bytes(b"damaged")
    where = pick.places(SHAPE)
    assert_same(pick.read(array), data.reshape(-1)[where])
    value = make_data("<i4", SHAPE, 5).reshape(-1)[where]
    pick.write(array, value)
    assert_same(pick.read(array), value)
    for index in others:
        assert chunk_file(tmp_path, chain.zarr_format, *index).read_bytes() == b"damaged"
    with pytest.raises(zarrs.ChunkError):
        array[...]


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("how", ["crc32c", "crc32c-start", "zstd-crc32c"])
def test_only_needed_inner_chunks(native: None, tmp_path: Path, how: str, name: str) -> None:
    """All other shards are cut off, and all other inner chunks are overwritten."""
    sharding, pick, data = SHARDING[how], PICKS[name], make_data("<i4", SHAPE)
    array = zarr.create_array(
        str(tmp_path), shape=SHAPE, dtype="<i4", **sharding.arguments(SHARD, INNER)
    )
    array[...] = data
    counts = tuple(s // i for s, i in zip(SHARD, INNER, strict=True))
    layout = sharding.layout.of(*counts)
    needed, damaged = _cells(pick, SHAPE, INNER), 0
    for shard in np.ndindex(*(-(-n // s) for n, s in zip(SHAPE, SHARD, strict=True))):
        file = chunk_file(tmp_path, 3, *shard)
        chunks = layout.split(file.read_bytes())
        keep = {
            c for c in chunks
            if tuple(s * n + i for s, n, i in zip(shard, counts, c, strict=True)) in needed
        }  # fmt: skip
        for c in set(chunks) - keep:
            chunks[c] = bytes(255 - b for b in chunks[c])
            damaged += 1
        file.write_bytes(layout.build(chunks) if keep else b"cut off")
    assert damaged
    assert_same(pick.read(array), data.reshape(-1)[pick.places(SHAPE)])
    with pytest.raises(zarrs.ChunkError):
        array[...]


BLOCK = 16 * 1024


@pytest.mark.parametrize(
    "pick",
    [
        Pick("vindex", [300_000]),
        Pick("vindex", ([300_001, 299_999, 300_000, 300_001],)),
        Pick("oindex", [300_011, 300_004]),
        Pick("mask", _where(2**19, [300_000, 300_007])),
        Pick("oindex", np.arange(300_000, 300_009)[::-1]),
    ],
    ids=["point", "points", "rows", "mask", "descending"],
)
def test_only_needed_blocks(native: None, tmp_path: Path, pick: Pick) -> None:
    """Of a Blosc chunk of 2 MiB the blocks before and after what is selected are damaged."""
    n = 2**19
    codec = BloscCodec(cname="lz4", typesize=4, blocksize=BLOCK)
    array = zarr.create_array(
        str(tmp_path), shape=(n,), chunks=(n,), dtype="<i4", compressors=[codec]
    )
    data = np.random.default_rng(0).integers(0, 40, n).astype("<i4")
    array[...] = data
    file = chunk_file(tmp_path, 3, 0)
    encoded = bytearray(file.read_bytes())
    nbytes, blocksize, _ = np.frombuffer(bytes(encoded), "<i4", 3, 4)
    assert nbytes == 4 * n
    starts = np.frombuffer(bytes(encoded), "<i4", -(-nbytes // blocksize), 16)
    # blocks are decoded in pieces of several
    near = pipeline_module.PIECE // blocksize
    assert len(starts) > 3 * near
    # the blocks are in any order if several threads wrote them
    ends = {int(a): int(b) for a, b in itertools.pairwise([*sorted(starts), len(encoded)])}
    places = pick.places((n,)).reshape(-1) * 4 // blocksize
    for i, a in enumerate(map(int, starts)):
        if not places.min() - near <= i <= places.max() + near:
            # streams that are longer than the chunk
            encoded[a : ends[a]] = b"\x7f" * (ends[a] - a)
    file.write_bytes(encoded)
    for _ in range(2):  # the second time with what the first one left open
        assert_same(pick.read(array), data[pick.places((n,))])
    with pytest.raises(zarrs.ChunkError):
        array[...]


# -------------------------------------------------------------------------------- bad input


SMALL = (6, 5)
BAD_READS: dict[str, Pick] = {
    "oindex-too-big": Pick("oindex", ([0, 6], ALL)),
    "oindex-too-negative": Pick("oindex", ([0, -7], ALL)),
    "oindex-integer-too-big": Pick("oindex", ([0, 1], 5)),
    "oindex-too-many": Pick("oindex", ([0], [1], [2])),
    "oindex-floats": Pick("oindex", ([0.0, 1.0], ALL)),
    "oindex-text": Pick("oindex", ("rows", ALL)),
    "oindex-2d": Pick("oindex", (np.zeros((2, 2), int), ALL)),
    "oindex-mask-short": Pick("oindex", (np.ones(5, bool), ALL)),
    "oindex-mask-long": Pick("oindex", (np.ones(7, bool), ALL)),
    "oindex-mask-2d": Pick("oindex", (np.ones(SMALL, bool), ALL)),
    "oindex-backward": Pick("oindex", (slice(None, None, -1), [0])),
    "oindex-two-ellipses": Pick("oindex", (..., ...)),
    "vindex-too-big": Pick("vindex", ([0, 6], [0, 0])),
    "vindex-too-negative": Pick("vindex", ([0, 0], [0, -6])),
    "vindex-too-few": Pick("vindex", ([0, 1],)),
    "vindex-too-many": Pick("vindex", ([0], [1], [2])),
    "vindex-lengths": Pick("vindex", ([0, 1, 2], [0, 1])),
    "vindex-slice": Pick("vindex", ([0, 1], ALL)),
    "vindex-floats": Pick("vindex", ([0.0], [1.0])),
    "vindex-empty-list": Pick("vindex", ([], [])),
    "mask-shape": Pick("mask", np.ones((5, 6), bool)),
    "mask-short": Pick("mask", np.ones((6, 4), bool)),
    "mask-1d": Pick("mask", np.ones(6, bool)),
    "fancy-too-big": Pick("fancy", ([0, 6], [0, 0])),
    "fancy-floats": Pick("fancy", np.array([0.5])),
    "fancy-mask": Pick("fancy", np.ones(6, bool)),
    "blocks-too-big": Pick("blocks", (9, 0)),
    "blocks-step": Pick("blocks", (slice(0, 1, 2), 0)),
    "blocks-array": Pick("blocks", ([0], 0)),
}
ROWS = Pick("oindex", ([4, 0, 1], [1, 3]))
DROPPED = Pick("oindex", ([4, 0, 1], 3))
POINTS = Pick("vindex", ([4, 0, 1], [1, 3, 4]))
GRID = Pick("vindex", ([[4], [0], [1]], [1, 3]))
MASKED = Pick("mask", _where(SMALL, (slice(1, 3), slice(2, 4))))
# without those that zarr broadcasts, crops or writes in part before it raises
BAD_WRITES: dict[str, tuple[Pick, Any]] = {
    "oindex-one-axis": (ROWS, np.arange(3)),
    "oindex-rows": (ROWS, np.ones((2, 2), int)),
    "oindex-columns": (ROWS, np.ones((3, 1), int)),
    "oindex-text": (ROWS, "text"),
    "oindex-array-of-text": (ROWS, np.full((3, 2), "text")),
    "oindex-object": (ROWS, np.full((3, 2), None, object)),
    "oindex-dropped": (DROPPED, np.ones((2,), int)),
    "vindex-long": (POINTS, np.ones(4, int)),
    "vindex-short": (POINTS, np.ones(2, int)),
    "vindex-one": (POINTS, np.ones(1, int)),
    "vindex-text": (POINTS, "text"),
    "vindex-array-of-text": (POINTS, np.full(3, "text")),
    "vindex-broadcast": (GRID, np.ones(2, int)),
    "vindex-object": (POINTS, np.full(3, None, object)),
    "mask-short": (MASKED, np.ones(3, int)),
    "mask-one": (MASKED, np.ones(1, int)),
    "mask-text": (MASKED, "text"),
}  # fmt: skip
SMALL_LAYOUTS: dict[str, dict[str, Any]] = {
    "one-chunk": {"chunks": SMALL, "compressors": None},
    "v2": {"chunks": SMALL, **chain_arguments(CHAIN["v2-zlib-F"], 2)},
    "one-shard": {"chunks": (3, 5), "shards": SMALL},
}
small_layouts = pytest.mark.parametrize("arguments", SMALL_LAYOUTS.values(), ids=SMALL_LAYOUTS)


def small(path: Path, arguments: dict[str, Any], name: str = PIPELINE) -> zarr.Array:
    """A filled array that uses the named pipeline."""
    with zarr.config.set({"codec_pipeline.path": name}):
        array = zarr.create_array(str(path), shape=SMALL, dtype="<i4", **arguments)
        array[...] = make_data("<i4", SMALL)
    return array


def outcome(work: Callable[[], Any]) -> Any:
    """What is returned, as bytes, or the type of what is raised."""
    try:
        result = np.asarray(work())
    except Exception as error:
        return type(error)
    return result.shape, result.dtype.str, bits(result)


def both(tmp_path: Path, arguments: dict[str, Any]) -> list[zarr.Array]:
    return [small(tmp_path / n.split(".")[0], arguments, n) for n in (PIPELINE, STOCK)]


@small_layouts
@pytest.mark.parametrize("name", BAD_READS)
def test_bad_selections(native: None, tmp_path: Path, arguments: dict[str, Any], name: str) -> None:
    """The errors are zarr's, for reads and writes, and nothing has happened."""
    pick = BAD_READS[name]
    ours, theirs = both(tmp_path, arguments)
    before = stored_files(ours.store.root)
    expected = outcome(lambda: pick.read(theirs))
    assert isinstance(expected, type), "zarr takes it"
    assert outcome(lambda: pick.read(ours)) is expected
    expected = outcome(lambda: pick.write(theirs, 1))
    assert isinstance(expected, type), "zarr takes it"
    assert outcome(lambda: pick.write(ours, 1)) is expected
    assert stored_files(ours.store.root) == before
    assert_same(ours[...], make_data("<i4", SMALL))


@small_layouts
@pytest.mark.parametrize("name", BAD_WRITES)
def test_bad_values(tmp_path: Path, arguments: dict[str, Any], name: str) -> None:
    """The same type of error, or none, and the same array afterwards."""
    pick, value = BAD_WRITES[name]
    ours, theirs = both(tmp_path, arguments)
    expected = outcome(lambda: pick.write(theirs, value))
    assert outcome(lambda: pick.write(ours, value)) == expected
    assert_same(ours[...], theirs[...])
    if isinstance(expected, type):
        assert_same(ours[...], make_data("<i4", SMALL))


@small_layouts
def test_bad_values_raise_something(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """At least these, so that the table above does not compare successes only."""
    array = small(tmp_path, arguments)
    for name in ("oindex-one-axis", "vindex-long", "vindex-broadcast", "mask-short", "mask-text"):
        pick, value = BAD_WRITES[name]
        with pytest.raises((ValueError, IndexError)):
            pick.write(array, value)
    assert_same(array[...], make_data("<i4", SMALL))


# ------------------------------------------------------------------------------------- out=


OUTS: dict[str, tuple[str, Any, Any]] = {
    "orthogonal": ("get_orthogonal_selection", PICKS["three-arrays"], (40, 9, 20)),
    "orthogonal-dropped": ("get_orthogonal_selection", PICKS["dropped-between"], (3, 3)),
    "orthogonal-mask": ("get_orthogonal_selection", PICKS["mask-axes"], None),
    "orthogonal-backward": ("get_orthogonal_selection", PICKS["descending"], SHAPE),
    "coordinate": ("get_coordinate_selection", PICKS["points"], (50,)),
    "coordinate-2d": ("get_coordinate_selection", PICKS["points-2d"], (12,)),  # flat in zarr
    "mask": ("get_mask_selection", PICKS["mask"], None),
    "block": ("get_block_selection", PICKS["blocks"], None),
    "basic": ("get_basic_selection", Pick("basic", (slice(3, 25, 4), 5, ALL)), None),
}


@few_cases
@pytest.mark.parametrize("memory", ["C", "F", "strided", "swapped"])
@pytest.mark.parametrize("name", OUTS)
def test_out(native: None, tmp_path: Path, case: Case, name: str, memory: str) -> None:
    """The result goes where it should, whatever that looks like, and nowhere else."""
    method, pick, shape = OUTS[name]
    data = make_data("<i4", SHAPE)
    data[:7, :5, :6] = 0
    array = make(tmp_path, case)
    array[...] = data  # a chunk of fill values is missing
    expected = data.reshape(-1)[pick.places(SHAPE, case.grid)]
    expected = expected.reshape(shape or expected.shape)
    dtype = ">i4" if memory == "swapped" else "<i4"
    around = np.full([2 * n + 3 for n in expected.shape], -1, dtype)
    out = np.full(expected.shape, -1, dtype, order="F" if memory == "F" else "C")
    inside = (slice(1, -2, 2),) * out.ndim
    if memory == "strided":
        out = around[inside]
    assert out.shape == expected.shape
    getattr(array, method)(pick.key, out=NDBuffer.from_numpy_array(out))
    assert np.array_equal(out, expected)
    around[inside] = -1
    assert (around == -1).all()


@pytest.mark.parametrize("name", [n for n in OUTS if n != "basic"])
def test_out_of_another_shape(tmp_path: Path, name: str) -> None:
    method, pick, _ = OUTS[name]
    array = make(tmp_path, CASES["raw"])
    with pytest.raises(ValueError, match="shape of out"):
        getattr(array, method)(pick.key, out=NDBuffer.from_numpy_array(np.zeros(7, "<i4")))


# ----------------------------------------------------------------------------------- fields=


FIELDS: dict[str, Callable[[zarr.Array], Any]] = {
    "one": lambda a: a["a"],
    "one-of-rows": lambda a: a["b", 1:3],
    "orthogonal": lambda a: a.oindex["a", [4, 0], [1, 3]],
    "points": lambda a: a.vindex["a", [4, 0], [1, 3]],
    "all": lambda a: a["a", "b", "c"],
    "all-orthogonal": lambda a: a.oindex["a", "b", "c", [4, 0], [1, 3]],
    "all-points": lambda a: a.vindex["a", "b", "c", [4, 0], [1, 3]],
    "two": lambda a: a["a", "b"],
    "other-order": lambda a: a.get_basic_selection(..., fields=["c", "b", "a"]),
    "mask": lambda a: a.get_mask_selection(_mask(SMALL, 0.5), fields=["a", "b", "c"]),
    "unknown": lambda a: a["z"],
    "set": lambda a: a.set_basic_selection(slice(2), 7, fields="a"),
    "set-rows": lambda a: a.set_orthogonal_selection(([3, 1], ALL), 7, fields="a"),
    "set-points": lambda a: (a.set_coordinate_selection(([3, 1], [0, 2]), 7, fields="b"), a[...])[
        1
    ],
    "set-two": lambda a: a.set_basic_selection(slice(2), 7, fields=["a", "b"]),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fields(tmp_path: Path, zarr_format: int, name: str) -> None:
    """zarr can do little with them since version 3; that little is the same, errors included."""
    dtype = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "<i4")])
    outcomes = []
    for which in (PIPELINE, STOCK):
        with zarr.config.set({"codec_pipeline.path": which}):
            array = zarr.create_array(
                str(tmp_path / which.split(".")[0]), shape=SMALL, chunks=(4, 3), dtype=dtype,
                zarr_format=zarr_format,
            )  # fmt: skip
            data = np.zeros(SMALL, dtype)
            data["a"] = np.arange(30).reshape(SMALL)
            data["b"], data["c"] = data["a"] / 2, data["a"] * 3
            array[...] = data
            first = outcome(lambda array=array: FIELDS[name](array))
            outcomes.append(first if isinstance(first, type) else (first, bits(array[...])))
    assert outcomes[0] == outcomes[1]
    if name in ("all", "all-orthogonal", "all-points", "mask", "set"):
        assert not isinstance(outcomes[0], type), "this works in zarr"


@pytest.mark.parametrize("name", ["all", "all-orthogonal", "all-points", "mask"])
def test_all_fields_natively(native: None, tmp_path: Path, name: str) -> None:
    """All fields in their order are the data type itself."""
    dtype = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "<i4")])
    array = zarr.create_array(str(tmp_path), shape=SMALL, chunks=(4, 3), dtype=dtype)
    array[...] = data = make_data(dtype, SMALL)
    where = {
        "all-orthogonal": np.ix_([4, 0], [1, 3]),
        "all-points": ([4, 0], [1, 3]),
        "mask": _mask(SMALL, 0.5),
    }.get(name, ...)
    assert_same(FIELDS[name](array), data[where])


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
