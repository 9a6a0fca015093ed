"""Batches of selections: the same values as one by one, and every chunk once."""

import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import CHAIN, assert_same, create, make_data, stock_read
from hypothesis import given, note
from hypothesis import strategies as st
from numcodecs import Delta
from picks import CASES, SHAPE, make
from selections import EXAMPLES, Case, cases, orthogonal, picks
from shards import SHARDING
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import zarrs
from zarrs import _planner
from zarrs.indexing._plan_many import plan_many

pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

DATA = make_data("<i4", SHAPE)
ALL = slice(None)
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def expected(data: np.ndarray, selection: Any) -> np.ndarray:
    """What NumPy selects, one axis after the other."""
    key = selection if isinstance(selection, tuple) else (selection,)
    return orthogonal(data, tuple(int(k) if isinstance(k, np.integer) else k for k in key))


def crops(shape: Any, size: Any, count: int, seed: int = 0) -> list[tuple[slice, ...]]:
    rng = np.random.default_rng(seed)
    corners = [
        [int(rng.integers(0, n - m + 1)) for n, m in zip(shape, size, strict=True)]
        for _ in range(count)
    ]
    return [tuple(slice(c, c + m) for c, m in zip(corner, size, strict=True)) for corner in corners]


@each_case
def test_crops(native: None, tmp_path: Path, case: Case) -> None:
    array = zarrs.direct(make(tmp_path, case))
    array[...] = DATA
    wanted = crops(SHAPE, (9, 5, 6), 40)
    found = array.read_many(wanted)
    assert_same(found, np.stack([DATA[one] for one in wanted]))


@each_case
def test_rows_and_runs(native: None, tmp_path: Path, case: Case) -> None:
    array = zarrs.direct(make(tmp_path, case))
    array[...] = DATA
    rows = np.random.default_rng(1).integers(-29, 29, 50)
    assert_same(array.read_many(rows), DATA[rows])
    indptr = [0, 3, 3, 4, 20, 29]
    runs = array.read_many([slice(a, b) for a, b in pairwise(indptr)])
    assert isinstance(runs, list)
    for run, (a, b) in zip(runs, pairwise(indptr), strict=True):
        assert_same(run, DATA[a:b])


@EXAMPLES
@given(data=st.data(), case=cases(), dtype=st.sampled_from(["<i4", ">f8", "S3"]))
@pytest.mark.usefixtures("native")
def test_random(data: st.DataObject, case: Case, dtype: str) -> None:
    """Batches of random selections of random arrays, in files and in memory."""
    with tempfile.TemporaryDirectory() as root:
        store: Any = root if data.draw(st.booleans(), label="files") else MemoryStore()
        array = zarrs.create_array(store, shape=case.shape, dtype=np.dtype(dtype), **case.arguments)
        values = np.full(case.shape, array.fill_value, dtype)
        if data.draw(st.booleans(), label="filled"):
            array[...] = values = make_data(np.dtype(dtype), case.shape, 3)
        chosen = picks(case).filter(lambda pick: pick.kind in ("basic", "oindex"))
        wanted = [pick.key for pick in data.draw(st.lists(chosen, max_size=6), label="picks")]
        note(str(wanted))
        found = array.read_many(wanted)
        assert len(found) == len(wanted)
        for one, selection in zip(found, wanted, strict=True):
            assert_same(np.asarray(one), np.asarray(array.oindex[selection]))
            assert_same(np.asarray(one), np.asarray(expected(values, selection)))


@pytest.mark.parametrize("threads", [1, 4])
@each_case
def test_threads(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Case, threads: int
) -> None:
    monkeypatch.setattr(_planner, "THREAD_COST", 1)
    monkeypatch.setattr("zarrs.execution._job.INLINE_CHUNKS", 0)
    with zarr.config.set({"threading.max_workers": threads}):
        array = zarrs.direct(make(tmp_path, case))
        array[...] = DATA
        wanted = [*crops(SHAPE, (9, 5, 6), 20), *crops(SHAPE, (3, 17, 1), 20), (4, ALL, [1, 0, 12])]
        for one, selection in zip(array.read_many(wanted), wanted, strict=True):
            assert_same(one, expected(DATA, selection))


def test_strings(native: None, tmp_path: Path) -> None:
    values = np.array([f"text {i}" for i in range(30)], "T")
    array = zarrs.create_array(str(tmp_path), shape=(30,), chunks=(7,), dtype=str)
    array[...] = values
    found = array.read_many([slice(0, 9), slice(3, 12), slice(21, 30)])
    assert found.tolist() == [values[a : a + 9].tolist() for a in (0, 3, 21)]


def test_numpy_strings_of_several_shapes(native: None, tmp_path: Path) -> None:
    """Their memory belongs to their data type, of which every array has its own."""
    dtype = np.dtypes.StringDType()
    values = np.array(["x" * (i % 40) + str(i) for i in range(60)], dtype)
    array = zarrs.create_array(str(tmp_path), data=values, chunks=(7,))
    wanted = [slice(0, 30), slice(10, 60), slice(5, 5)]
    expected = [values[one].tolist() for one in wanted]
    assert [one.tolist() for one in array.read_many(wanted)] == expected
    out = [np.empty(len(one), array.dtype) for one in expected]
    assert array.read_many(wanted, out=out) is out
    assert [one.tolist() for one in out] == expected


@pytest.mark.parametrize("name", ["zstd", "v2-zlib-F"])
def test_missing_chunks(native: None, tmp_path: Path, name: str) -> None:
    array = zarrs.direct(create(tmp_path, CHAIN[name], SHAPE, (7, 5, 6), "<i4", fill_value=3))
    array[:7] = 5
    found = array.read_many([slice(0, 9), slice(5, 14), slice(14, 23)])
    values = np.full(SHAPE, 3, "<i4")
    values[:7] = 5
    assert_same(found, np.stack([values[:9], values[5:14], values[14:23]]))


# ------------------------------------------------------------------------------------ shared chunks


class Counting(WrapperStore[Any]):
    """Counts what is asked of a store."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.asked: Counter[Any] = Counter()

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        self.asked[key, repr(byte_range)] += 1
        return await super().get(key, prototype, byte_range)


@each_case
def test_chunks_are_fetched_once(native: None, case: Case) -> None:
    store = Counting(MemoryStore())
    array = zarrs.create_array(store, shape=SHAPE, dtype="<i4", **case.arguments)
    array[...] = DATA
    wanted = crops(SHAPE, (9, 5, 6), 40)
    store.asked.clear()
    found = array.read_many(wanted)
    assert_same(found, np.stack([DATA[one] for one in wanted]))
    assert store.asked
    assert set(store.asked.values()) == {1}


def test_files_are_opened_once(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And decoded once: what a selection costs more is a copy."""
    plans: list[Any] = []

    def plan(*args: Any) -> Any:
        plans.append(plan_many(*args))
        return plans[-1]

    monkeypatch.setattr("zarrs._access.plan_many", plan)
    array = zarrs.direct(create(tmp_path, CHAIN["zstd"], (100, 100), (10, 100), "<i4"))
    array[...] = data = make_data("<i4", (100, 100))
    found = array.read_many([(slice(i, i + 15), slice(3, 9)) for i in range(80)])
    assert_same(found, np.stack([data[i : i + 15, 3:9] for i in range(80)]))
    assert plans[0].n_tasks == 10
    assert len(set(plans[0].keys)) == 10
    assert plans[0].bytes_to_decode(array_reader(array)) == 100 * 100 * 4


def array_reader(array: zarrs.Array) -> Any:
    access = array._access()
    assert access is not None
    return access._chain.reader


@pytest.mark.parametrize("name", ["index-end-little-crc32c", "index-start-big-bare"])
def test_parts_of_big_shards(native: None, name: str) -> None:
    """Of shards that are fetched in ranges, each range once."""
    store = Counting(MemoryStore())
    sharding = SHARDING[name]
    shape = (2000, 1000)
    array = zarrs.create_array(
        store, shape=shape, dtype="<i4", **sharding.arguments((1000, 1000), (10, 100))
    )
    array[...] = data = make_data("<i4", shape)
    wanted = [(slice(i, i + 9), slice(j, j + 50)) for i in (5, 7, 990, 1500) for j in (20, 60)]
    store.asked.clear()
    assert_same(array.read_many(wanted), np.stack([data[one] for one in wanted]))
    assert set(store.asked.values()) == {1}
    assert any("Range" in what or "Suffix" in what for _, what in store.asked)


# ------------------------------------------------------------------------------------------ results


@pytest.fixture
def array(native: None, tmp_path: Path) -> zarrs.Array:
    made = create(tmp_path, CHAIN["zstd"], (20, 30), (6, 7), "<i4")
    made[...] = make_data("<i4", (20, 30))
    return zarrs.direct(made)


def test_no_selections(array: zarrs.Array) -> None:
    assert array.read_many([]) == []


def test_points_and_empty_selections(array: zarrs.Array) -> None:
    data = np.asarray(array)
    assert_same(array.read_many([(3, 4), (5, 29)]), data[[3, 5], [4, 29]])
    found = array.read_many([slice(0, 0), slice(2, 2)])
    assert found.shape == (2, 0, 30)
    unequal = array.read_many([slice(0, 0), slice(2, 4)])
    assert [one.shape for one in unequal] == [(0, 30), (2, 30)]
    assert_same(unequal[1], data[2:4])


class Tensor:
    """Memory that NumPy can use, of somebody else."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.memory = np.zeros(shape, "<i4")

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self.memory.__array_interface__


def test_out(array: zarrs.Array) -> None:
    data = np.asarray(array)
    wanted = [slice(2, 5), slice(4, 7)]
    stacked = np.stack([data[one] for one in wanted])
    for out in (np.zeros((2, 3, 30), "<i4"), np.zeros((30, 3, 2), "<i4").T):
        assert array.read_many(wanted, out=out) is out
        assert_same(out, stacked)
    tensor = Tensor((2, 3, 30))
    assert array.read_many(wanted, out=tensor) is tensor
    assert_same(tensor.memory, stacked)
    several = [np.zeros((3, 30), "<i4"), np.zeros((1, 30), "<i4")]
    assert array.read_many([slice(2, 5), slice(4, 5)], out=several) is several
    assert_same(several[1], data[4:5])
    tensor = Tensor((3, 30))
    array.read_many(wanted, out=[np.zeros((3, 30), "<i4"), tensor])
    assert_same(tensor.memory, data[4:7])


def _read_only() -> np.ndarray:
    out = np.zeros((2, 3, 30), "<i4")
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    ("out", "error", "match"),
    [
        (
            np.zeros((2, 3, 29), "<i4"),
            ValueError,
            r"^expected out of shape \(2, 3, 30\), found \(2, 3, 29\)",
        ),
        (np.zeros((2, 3, 30), "<f4"), TypeError, "^expected out of data type int32, found float32"),
        (np.zeros((2, 3, 30), ">i4"), TypeError, "of data type int32, found >i4"),
        (
            [np.zeros((3, 30), "<i4")],
            ValueError,
            "expected 2 arrays in out, one for each selection, found 1",
        ),
        (
            [np.zeros((3, 30), "<i4"), np.zeros(3, "<i4")],
            ValueError,
            r"^expected out\[1\] of shape",
        ),
        (range(5), TypeError, "^out is a range, whose memory NumPy cannot use: pass a NumPy array"),
        (_read_only(), ValueError, "^out is read-only: pass an array"),
    ],
)
def test_bad_out(array: zarrs.Array, out: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        array.read_many([slice(2, 5), slice(4, 7)], out=out)


def test_one_array_for_several_shapes(array: zarrs.Array) -> None:
    with pytest.raises(
        ValueError, match=r"out must be a list of arrays, .*common: \(3, 30\), \(1, 30\)"
    ):
        array.read_many([slice(2, 5), slice(4, 5)], out=np.zeros((2, 3, 30), "<i4"))


@pytest.mark.parametrize(
    "bad", [20, slice(None, None, -1), ([0, 1], [2], [3]), "text", (0, 30), [0.5], np.ones(3, bool)]
)
def test_bad_selections(array: zarrs.Array, bad: Any) -> None:
    """As zarr's own indexing raises."""
    with pytest.raises(Exception) as expected:  # noqa: PT011
        zarr.Array(array.async_array).oindex[bad]
    with pytest.raises(type(expected.value)) as found:
        array.read_many([slice(2, 3), bad])
    assert str(found.value) == str(expected.value)


def test_damaged_chunks(array: zarrs.Array) -> None:
    store: Any = array.store
    assert isinstance(store, LocalStore)
    (store.root / "c" / "0" / "1").write_bytes(b"damaged")
    with pytest.raises(zarrs.ChunkError, match="c/0/1") as caught:
        array.read_many([(slice(0, 3), slice(0, 9)), (slice(2, 5), slice(1, 10))])
    assert caught.value.key == "c/0/1"
    assert array.read_many([(ALL, slice(0, 5)), (ALL, slice(1, 6))]).shape == (2, 20, 5)


def test_arrays_without_direct_access(tmp_path: Path) -> None:
    made = zarr.create_array(
        str(tmp_path), shape=(9,), chunks=(4,), dtype="<i8", zarr_format=2, filters=[Delta("<i8")]
    )
    array = zarrs.direct(made)
    array[...] = np.arange(9)
    assert_same(array.read_many([slice(0, 3), slice(2, 5)]), np.array([[0, 1, 2], [2, 3, 4]]))
    out = np.zeros((2, 3), "<i8")
    assert array.read_many([slice(0, 3), slice(2, 5)], out=out) is out
    assert_same(out, np.array([[0, 1, 2], [2, 3, 4]]))
    assert_same(stock_read(tmp_path), np.arange(9))
