"""Fill values of every data type, byte order and unit: the items of missing chunks, bit by bit."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import ours_open
from zarr.storage import LocalStore

UNITS = ("generic", "Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")
TIMES = [f"{kind}8[{n}{unit}]" for kind in "mM" for unit in UNITS for n in ("", 3)]
if zarr.__version__.startswith("3.1."):  # makes no scalars of these
    TIMES = [name for name in TIMES if not (name.startswith("M8") and "generic" in name)]
NUMBERS = ["i2", "u4", "i8", "f2", "f4", "f8", "c8", "c16"]
FIELDS = {"n": "<i4", "t": ">m8[2generic]", "d": "<M8[s]", "f": ">f8", "b": "S2"}
NAT = -(2**63)

pytestmark = pytest.mark.filterwarnings("ignore:.*generic:DeprecationWarning")


def integers(array: Any) -> list[int]:
    """The bits of times, as numbers; NumPy does not always swap those of the generic unit."""
    array = np.asarray(array)
    order = ">" if array.dtype.byteorder == ">" else "<"
    return list(map(int, np.frombuffer(array.tobytes(), f"{order}i8")))


@pytest.mark.parametrize("fill", [7, 0, "NaT"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", TIMES)
def test_times(
    native: None, tmp_path: Path, name: str, order: str, zarr_format: Any, fill: Any
) -> None:
    """Missing chunks, merged chunks and chunks that turn empty, of times in every unit."""
    dtype = np.dtype(order + name)
    array: zarr.Array[Any] = zarr.create_array(
        LocalStore(tmp_path),
        shape=(6,),
        chunks=(2,),
        dtype=dtype,
        zarr_format=zarr_format,
        fill_value=fill,
        compressors=None,
    )
    missing = NAT if fill == "NaT" else fill
    prefix = "c/" if zarr_format == 3 else ""
    assert integers(array[...]) == [missing] * 6
    ones = np.ones(6, "i8").astype(f"{array.dtype.str[0]}i8").view(array.dtype)
    array[1] = ones[0]
    array[2:4] = ones[2:4]
    assert integers(array[...]) == [missing, 1, 1, 1, missing, missing]
    empty = np.full(2, missing, "i8").astype(f"{array.dtype.str[0]}i8").view(array.dtype)
    array[2:4] = empty
    assert not (tmp_path / f"{prefix}1").exists()
    stored = np.frombuffer((tmp_path / f"{prefix}0").read_bytes(), "u1").reshape(2, 8)
    swapped = order == ">" and zarr_format == 2
    assert stored.view(">i8" if swapped else "<i8").ravel().tolist() == [missing, 1]
    assert integers(ours_open(tmp_path)[...]) == [missing, 1, *[missing] * 4]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(native: None, tmp_path: Path, name: str, order: str, zarr_format: Any) -> None:
    dtype = np.dtype(order + name)
    fills: list[float] = [1, 0]
    if dtype.kind in "fc":
        fills += [np.nan, -0.0, np.inf]
    for number, fill in enumerate(fills):
        array = zarr.create_array(
            LocalStore(tmp_path / str(number)),
            shape=(3,),
            chunks=(2,),
            dtype=dtype,
            zarr_format=zarr_format,
            fill_value=fill,
        )
        array[0] = 5
        expected = np.full(3, fill, "=" + name)
        expected[0] = 5
        got = np.asarray(array[...]).astype(dtype.newbyteorder("="))
        assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("null", [False, True])
def test_fields_of_mixed_byte_order(native: None, tmp_path: Path, null: bool) -> None:
    """Each field of a fill value in its own byte order."""
    dtype = np.dtype(list(FIELDS.items()))
    native_order = dtype.newbyteorder("=")
    item = np.zeros((), native_order)
    if not null:
        for name, bits in (("n", 1), ("t", 2), ("d", 3)):
            item[name] = np.array(bits, f"i{native_order[name].itemsize}").view(native_order[name])
        item["f"], item["b"] = 1.5, b"ab"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array(
            LocalStore(tmp_path),
            shape=(3,),
            chunks=(2,),
            dtype=dtype,
            zarr_format=2,
            fill_value=item[()],
        )
    got = np.asarray(array[...])
    for name in ("n", "t", "d"):
        order = ">" if got.dtype[name].byteorder == ">" else "<"
        stored = np.frombuffer(
            np.ascontiguousarray(got[name]).tobytes(), f"{order}i{got.dtype[name].itemsize}"
        )
        wanted = np.frombuffer(item[name].tobytes(), f"=i{native_order[name].itemsize}")
        assert stored.tolist() == wanted.tolist() * 3, name
    assert got["f"].tolist() == [float(item["f"])] * 3
    assert got["b"].tolist() == [item["b"][()]] * 3
