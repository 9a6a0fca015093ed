"""Every codec and every data type of zarr's, by the table in codec_table.py.

What one pipeline has stored the other one reads, and they store the same bytes where the format
fixes them. Nothing falls back but what the table says.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import codec_table as table
import dtype_table
import ml_dtypes
import numcodecs
import numpy as np
import pytest
import zarr
from codec_table import NATIVE, PYTHON, SHAPE, ZARR, CodecRow
from dtype_table import DtypeCase
from helpers import (
    ROOT,
    SUPPORT,
    ZARR_34,
    TensorStore,
    assert_same,
    ours_open,
    stock,
    stock_open,
    stock_read,
    stored_files,
)
from zarr.core.dtype import data_type_registry
from zarr.registry import get_codec_class
from zarr.storage import MemoryStore

import zarrs

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in:UserWarning")

# ---------------------------------------------------------------------------------- helpers

BASIC = (np.s_[3:9, 2:7], np.s_[::3, 1::2], np.s_[-1, :], np.s_[6, 5], np.s_[5:10, 4:8])


def same(actual: Any, expected: Any, what: str = "") -> None:
    """Equal to the bit; strings and objects equal."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.dtype.kind not in "TO" and expected.dtype.kind not in "TO":
        assert_same(actual, expected, what)
        return
    if not actual.ndim:  # NumPy's scalars forget of what array they are
        assert actual.item() == expected.item(), what
        return
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    assert actual.tolist() == expected.tolist(), what
    assert list(map(type, actual.ravel())) == list(map(type, expected.ravel())), what


def check_reads(array: zarr.Array[Any], expected: np.ndarray) -> None:
    """Read an array whole, in windows and with strides, and by index arrays."""
    for selection in (*BASIC, np.s_[...]):
        same(array[selection], expected[selection], f"{selection}")
    rows: Any = [0, 4, 5, 12, 3]  # zarr's annotations have no lists
    columns: Any = [10, 1, 1, 7]
    same(array.oindex[rows, columns], expected[np.ix_(rows, columns)], "oindex")
    same(array.vindex[rows[:4], columns], expected[rows[:4], columns], "vindex")
    mask = np.arange(SHAPE[0]) % 3 == 1
    same(array.oindex[mask, 2:9], expected[mask, 2:9], "mask")


def changes(data: np.ndarray) -> Iterator[tuple[str, Any, np.ndarray]]:
    """What to write into parts of chunks, with data that is elsewhere in the array."""
    other = data[::-1, ::-1]
    yield "set_basic_selection", np.s_[3:9, 2:7], other[3:9, 2:7]
    yield "set_basic_selection", np.s_[::3, 1::2], other[::3, 1::2]
    yield "set_basic_selection", np.s_[12, :], other[12]
    rows, columns = [1, 6, 11], [0, 5, 9, 10]
    yield "set_orthogonal_selection", (rows, columns), other[np.ix_(rows, columns)]


def remove_a_chunk(path: Path) -> None:
    """Make the first chunk, or the first shard, a missing one."""
    del_me = path / next(iter(stored_files(path)))
    del_me.unlink()


def change_both(ours: Path, stocks: Path, data: np.ndarray) -> None:
    """Change parts of chunks in either array by its own pipeline; both are the same afterwards."""
    remove_a_chunk(ours)
    remove_a_chunk(stocks)
    array = ours_open(ours, mode="r+")
    other = stock_open(stocks, mode="r+")
    is_sharded = "sharding_indexed" in str(other.metadata.to_dict())
    for method, selection, value in changes(data):
        if is_sharded and method == "set_orthogonal_selection" and not ZARR_34:
            continue  # zarr cannot
        getattr(array, method)(selection, value)
        with stock():  # inner chunks, too
            getattr(other, method)(selection, value)
    same(stock_read(ours), stock_read(stocks), "parts")


def check_files(ours: Path, stocks: Path, same_bytes: bool) -> None:
    mine, theirs = stored_files(ours), stored_files(stocks)
    assert list(mine) == list(theirs)
    if same_bytes:
        for key, stored in mine.items():
            assert stored == theirs[key], key


def tensorstore_reads(path: Path, zarr_format: int) -> bool:
    """Whether TensorStore has it; if so, what it reads has to be right."""
    try:
        opened = TensorStore(path, zarr_format)
    except ValueError:
        return False
    actual, expected = opened.read(), np.asarray(stock_read(path))
    if expected.dtype.kind == "V":  # TensorStore has bytes, on one more axis, but NumPy has not
        assert actual.shape == (*SHAPE, expected.dtype.itemsize)
        return True
    assert_same(actual, expected, "TensorStore")
    return True


# ----------------------------------------------------------------------------------- codecs


def needs(one: CodecRow | DtypeCase) -> list[pytest.MarkDecorator]:
    """Skip what this zarr does not have; packages are here, as the tests require them."""
    newer = one.newer_zarr()
    return [pytest.mark.skip(reason=f"needs {newer}")] if newer else []


codec_cases = pytest.mark.parametrize(
    ("row", "dtype"),
    [
        pytest.param(row, dtype, id=f"{row.name}-{dtype}".replace(" ", "_"), marks=needs(row))
        for row in table.CODECS
        for dtype in row.dtypes
    ],
)


@pytest.fixture
def strict(row: CodecRow) -> Iterator[None]:
    """Nothing falls back, unless the table says so."""
    with zarr.config.set({"codec_pipeline.strict": row.ours != ZARR}):
        yield


@codec_cases
def test_explain(row: CodecRow, dtype: str) -> None:
    """Native, in Python for this stage alone, or zarr's: as the table says."""
    explanation = zarrs.explain(table.make_array(MemoryStore(), row, dtype))
    said = str(explanation)
    ours = PYTHON if "is not installed" in said else row.ours  # a library of the system's
    assert explanation.native == (ours == NATIVE), said
    assert explanation.hybrid == (ours == PYTHON), said
    assert row.codec in said
    in_python = [stage.name for stage in explanation.stages if stage.python]
    if ours == PYTHON:
        assert len(in_python) == 1, said
        assert in_python[0].split(" > ")[-1] in (row.codec, *row.label.split()), said


@codec_cases
def test_zarr_writes_we_read(strict: None, tmp_path: Path, row: CodecRow, dtype: str) -> None:
    data = table.make_data(row, dtype)
    with stock():
        array = table.make_array(str(tmp_path), row, dtype)
        array[...] = data
        expected = np.asarray(array[...])
        if row.lossless:
            same(expected, data, "zarr itself")
    check_reads(ours_open(tmp_path, mode="r"), expected)
    remove_a_chunk(tmp_path)
    check_reads(ours_open(tmp_path, mode="r"), np.asarray(stock_read(tmp_path)))


@codec_cases
def test_we_write_zarr_reads(strict: None, tmp_path: Path, row: CodecRow, dtype: str) -> None:
    """Whole chunks, then parts of them."""
    data = table.make_data(row, dtype)
    ours, stocks = tmp_path / "ours", tmp_path / "stock"
    table.make_array(str(ours), row, dtype)[...] = data
    with stock():
        table.make_array(str(stocks), row, dtype)[...] = data
        expected = np.asarray(zarr.open_array(str(stocks), mode="r")[...])
        same(zarr.open_array(str(ours), mode="r")[...], expected, "written as a whole")
    check_files(ours, stocks, row.same_bytes)
    assert tensorstore_reads(ours, row.zarr_format) == row.tensorstore

    change_both(ours, stocks, data)
    check_files(ours, stocks, row.same_bytes)


# -------------------------------------------------------------------------- zarr-python 2.18

RECORDED = json.loads((SUPPORT / "zarr2_chunks.json").read_text("utf-8"))
NAMES_2 = {f"{row.name} {dtype}": row for row in table.CODECS for dtype in row.dtypes}
CASES_2 = {f"{c.name} {i}": c for c in dtype_table.DTYPE_CASES for i in range(len(c.row.fills))}


def recorded_values(kept: Any, array: zarr.Array[Any]) -> np.ndarray:
    """What zarr 2 read of it."""
    dtype = np.dtype(array.dtype)
    if dtype.kind in "TO":
        items = [x if isinstance(x, str) else base64.b64decode(x["b64"]) for x in kept]
        return np.array(items, dtype).reshape(array.shape)
    return np.frombuffer(base64.b64decode(kept), dtype).reshape(array.shape)


@pytest.mark.parametrize("name", RECORDED["arrays"], ids=lambda name: name.replace(" ", "_"))
def test_reads_what_zarr_2_has_stored(tmp_path: Path, name: str) -> None:
    """``scripts/check_zarr2`` has recorded it, and checks more than this."""
    row = NAMES_2.get(name)
    if newer := (row or CASES_2[name]).newer_zarr():
        pytest.skip(f"needs {newer}")
    one = RECORDED["arrays"][name]
    (tmp_path / ".zarray").write_text(json.dumps(one["metadata"]))
    for key, chunk in one["chunks"].items():
        (tmp_path / key).write_bytes(base64.b64decode(chunk))
    with zarr.config.set({"codec_pipeline.strict": row is None or row.ours != ZARR}):
        array = ours_open(tmp_path, mode="r")
        expected = recorded_values(one["values"], array)
        same(array[...], expected)
        same(array[1:, ::2], expected[1:, ::2])


def test_zarr_2_has_stored_everything() -> None:
    """All rows of format 2, but those that zarr 2 does not have."""
    names = {name for name, row in NAMES_2.items() if row.zarr_format == 2 and row.zarr2}
    assert names <= set(RECORDED["arrays"])


# ------------------------------------------------------------------------------- data types


dtype_cases = pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.name, marks=needs(case)) for case in dtype_table.DTYPE_CASES],
)


@dtype_cases
def test_data_type(native: None, tmp_path: Path, case: DtypeCase) -> None:
    """What zarr writes we read, and we store what zarr stores."""
    row, zarr_format = case.row, case.zarr_format
    data = table.make_data(row, case.dtype)
    ours, stocks = tmp_path / "ours", tmp_path / "stock"
    array = case.make_array(str(ours), row.fills[0])
    explanation = zarrs.explain(array)
    assert explanation.native, str(explanation)
    assert type(array.metadata.dtype) is data_type_registry.contents[registered(row.name)]
    array[...] = data
    with stock():
        case.make_array(str(stocks), row.fills[0])[...] = data
    expected = np.asarray(stock_read(stocks))
    same(expected, data, "zarr itself")
    same(stock_read(ours), expected, "we write, zarr reads")
    check_files(ours, stocks, same_bytes=True)
    check_reads(ours_open(stocks, mode="r"), expected)
    change_both(ours, stocks, data)
    check_files(ours, stocks, same_bytes=True)
    assert tensorstore_reads(ours, zarr_format) == (zarr_format in row.tensorstore)


@dtype_cases
def test_fill_values(native: None, tmp_path: Path, case: DtypeCase) -> None:
    """Chunks that are missing, or become so; every other one in shards."""
    data = table.make_data(case.row, case.dtype)
    for i, fill in enumerate(case.row.fills):
        sharded = case.zarr_format == 3 and i % 2 == 1
        if case.row.name == "raw_bytes" and not ZARR_34:
            sharded = False  # zarr cannot hash the fill value
        ours, stocks = tmp_path / f"ours{i}", tmp_path / f"stock{i}"
        array = case.make_array(str(ours), fill, sharded)
        with stock():
            other = case.make_array(str(stocks), fill, sharded)
            empty = np.asarray(other[...])
            other[2:7, 3:] = data[2:7, 3:]
            other[0:5, 4:8] = empty[0:5, 4:8]  # a whole chunk
        same(array[...], empty, f"nothing stored, fill value {fill}")
        array[2:7, 3:] = data[2:7, 3:]
        array[0:5, 4:8] = empty[0:5, 4:8]
        expected = np.asarray(stock_read(stocks))
        same(stock_read(ours), expected, f"fill value {fill}")
        same(ours_open(stocks, mode="r")[...], expected, f"fill value {fill}")
        check_files(ours, stocks, same_bytes=True)


# ----------------------------------------------------------------- the table is all there is


def registered(name: str) -> str:
    """The name in this release of zarr of a data type of the table."""
    contents = data_type_registry.contents
    return name if name in contents else {v: k for k, v in dtype_table.ALIASES.items()}[name]


def registered_codecs() -> set[tuple[int, str]]:
    """Everything that zarr could open: its own codecs and those of numcodecs."""
    registry = vars(zarr.registry)
    codecs = registry.get("_codec_registries") or registry["__codec_registries"]
    found = set()
    for name, classes in list(codecs.items()):
        if not (classes or classes.lazy_load_list):
            continue  # a name that was asked for, and that nobody has
        if get_codec_class(name).__module__.startswith("zarr."):
            found.add((3, name))
    for name, kind in numcodecs.registry.codec_registry.items():
        if kind.__module__.startswith("numcodecs."):
            found.add((2, name))
    return found


def test_the_table_has_every_codec() -> None:
    present = {(row.zarr_format, row.codec) for row in table.CODECS}
    assert registered_codecs() <= present | set(table.CANNOT)
    assert not present & set(table.CANNOT)
    names = [row.name for row in table.CODECS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("zarr_format", "name"), table.CANNOT)
def test_zarr_cannot_make_an_array_of_it(tmp_path: Path, zarr_format: Any, name: str) -> None:
    def create(**arguments: Any) -> None:
        with stock():
            array = zarr.create_array(
                store=str(tmp_path),
                overwrite=True,
                shape=(4,),
                chunks=(2,),
                zarr_format=zarr_format,
                **arguments,
            )
            array[...] = np.arange(4).astype(array.dtype)
            zarr.open_array(str(tmp_path), mode="r")[...]

    if zarr_format == 3:
        with pytest.raises(ValueError, match=name):
            create(dtype="i4", serializer={"name": name, "configuration": {"endian": "little"}})
        return
    codec = numcodecs.get_codec({"id": name} | ({"dtype": "i4"} if name == "vlen-array" else {}))
    for dtype in ("i4", "f8", "U5", "S5", "T", "O"):
        for how in ({"filters": [codec], "compressors": None}, {"compressors": codec}):
            with pytest.raises((ValueError, TypeError, RuntimeError)):
                create(dtype=dtype, **how)


def test_the_table_has_every_data_type() -> None:
    names = {dtype_table.ALIASES.get(name, name) for name in data_type_registry.contents}
    kinds = {
        name: kind
        for name, kind in data_type_registry.contents.items()
        if kind.__module__.startswith("zarr.")
    }
    assert {dtype_table.ALIASES.get(name, name) for name in kinds} == {
        row.name for row in dtype_table.DTYPES
    }
    assert len(names) >= len(dtype_table.DTYPES)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", dtype_table.NO_DTYPES)
def test_zarr_has_no_such_data_type(tmp_path: Path, name: str, zarr_format: Any) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, None) or name)
    with pytest.raises(ValueError, match=r"[Dd]ata type"):
        zarr.create_array(store=str(tmp_path), shape=(4,), dtype=dtype, zarr_format=zarr_format)


# ------------------------------------------------------------------------------------- docs


def test_the_page_is_made_of_the_table() -> None:
    """And of what is recorded of the peers: `docs/make_codec_table.py` writes it."""
    script = ROOT / "docs" / "make_codec_table.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
