"""What was copied is compared, bit by bit where it can be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import MORE_DTYPES, dtype_id, make_data
from zarr.codecs import numcodecs as wrapped

import zarrs
from zarrs.copying import _transfer
from zarrs.copying._verify import differing


@pytest.mark.parametrize("dtype", MORE_DTYPES, ids=dtype_id)
def test_a_single_item_that_differs(dtype: Any) -> None:
    """In any data type, in any byte order, in any memory layout."""
    one = make_data(dtype, (37, 5))
    other = np.array(one.T, order="C").T
    assert not differing(one, other).any()
    other = np.array(one, order="F")
    if one.dtype.kind == "U":
        other[11, 3] = "z" + one[11, 3][1:]
    else:
        raw = bytearray(one[11:12, 3].tobytes())
        raw[-1] ^= 1
        other[11, 3] = np.frombuffer(bytes(raw), dtype)[0]
    found = np.argwhere(differing(one, other)).tolist()
    assert found in ([[11, 3]], [])
    assert found or np.dtype(dtype).kind in "Sf"  # zeros at the end of strings; NaN is NaN
    if np.dtype(dtype).kind in "iufcMm":
        assert not differing(one, one.astype(one.dtype.newbyteorder())).any()


def test_what_is_equal_and_what_is_not() -> None:
    one = np.array([np.nan, 0.0, 1.0, np.nan])
    other = np.array([-np.nan, -0.0, 1.0, 2.0])
    assert differing(one, other).tolist() == [False, True, False, True]
    strings = np.array(["a", "", "\u4e2d"], object)
    assert differing(strings, np.array(["a", "b", "\u4e2d"], object)).tolist() == [0, 1, 0]
    text = np.array(["a", "", "\u4e2d"], np.dtypes.StringDType())
    assert differing(text, np.array(["a", "", "x"], text.dtype)).tolist() == [0, 0, 1]
    assert differing(np.array(1), np.array(2)).shape == ()
    assert differing(np.empty((3, 0)), np.empty((3, 0))).shape == (3, 0)


def test_items_in_the_copy_that_differ_are_named(tmp_path: Path, monkeypatch: Any) -> None:
    """And it is left unfinished."""
    group = zarr.create_group(tmp_path / "a")
    group.create_array("x/y", shape=(20, 20), chunks=(5, 5), dtype="i4")[...] = 7
    copy_region = _transfer.copy_region

    def wrong(pair: Any, box: Any, chunks: Any) -> None:
        copy_region(pair, box, chunks)
        if box[0].start <= 13 < box[0].stop:
            pair.writer[13, 2] = 8

    monkeypatch.setattr("zarrs.copying._copy.copy_region", wrong)
    with pytest.raises(
        zarrs.VerificationError, match=r"1 item differs .*x/y\[13, 2\]: 8, not 7"
    ) as e:
        zarrs.copy(group, tmp_path / "b", chunks=(4, 4), memory="4KiB", verify=True)
    assert e.value.count == 1
    assert e.value.differences[0].index == (13, 2)
    assert not (tmp_path / "b/zarr.json").exists()
    with pytest.raises(zarrs.VerificationError):  # it goes on, with comparing
        zarrs.copy(group, tmp_path / "b", chunks=(4, 4), memory="4KiB", verify=True)
    monkeypatch.undo()
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        zarrs.copy(group, tmp_path / "c", chunks=(4, 4), verify=True)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
def test_codecs_that_change_values(tmp_path: Path) -> None:
    source = zarr.create_array(tmp_path / "a", shape=(400,), chunks=(50,), dtype="f4")
    source[...] = np.linspace(0, 1, 400)
    rounded: Any = {"filters": [wrapped.BitRound(keepbits=3)]}
    with pytest.raises(zarrs.VerificationError, match=r"items differ from the source.*codec") as e:
        zarrs.copy(source, tmp_path / "b", verify=True, **rounded)
    assert e.value.count > 100
    assert str(e.value).count(", not ") == 5
    zarrs.copy(source, tmp_path / "b", **rounded)  # meant so
    assert np.allclose(zarr.open_array(tmp_path / "b", mode="r")[...], source[...], atol=0.1)
