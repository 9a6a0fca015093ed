"""Damaged and hostile chunks of strings."""

import contextlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import chunk_file, stock_read, stock_write
from strings import (
    GOOD,
    TEXT,
    each_kind_of_item,
    encoded,
    flat,
    into,
    objects,
    same,
    stored_as,
    texts,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.filterwarnings("ignore:The data type"),
]

DAMAGED: dict[str, bytes] = {
    "nothing": b"",
    "short-header": b"\3\0\0",
    "too-few": encoded(b"a", b"b"),
    "too-many": encoded(b"a", b"b", b"c", b"d"),
    "count-0": encoded(*GOOD, count=0),
    "count-2": encoded(*GOOD, count=2),
    "count-4": encoded(*GOOD, count=4),
    "count-max": encoded(*GOOD, count=2**32 - 1),
    "count-sign": encoded(*GOOD, count=2**31),
    "count-wraps": encoded(*GOOD, count=3 + 2**31),
    "no-items": struct.pack("<I", 3),
    "cut-length": encoded(*GOOD)[:-2],
    "cut-item": encoded(b"a", b"b", b"cc")[:-1],
    "length-past-end": struct.pack("<II", 3, 99) + b"abc",
    "length-max": struct.pack("<II", 3, 2**32 - 1) + b"abc",
    "length-sign": struct.pack("<II", 3, 2**31) + b"abc",
    "last-length-max": encoded(b"a", b"b", count=3) + struct.pack("<I", 2**32 - 1),
}  # fmt: skip
NOT_UTF8: dict[str, bytes] = {
    "continuation": b"\x80",
    "cut-2": b"\xc3",
    "cut-3": b"\xe4\xb8",
    "cut-4": b"\xf0\x9f\x98",
    "overlong-2": b"\xc0\x80",
    "overlong-c1": b"\xc1\xbf",
    "overlong-3": b"\xe0\x80\x80",
    "overlong-3-high": b"\xe0\x9f\xbf",
    "overlong-4": b"\xf0\x80\x80\x80",
    "overlong-4-high": b"\xf0\x8f\xbf\xbf",
    "surrogate-low": b"\xed\xa0\x80",
    "surrogate-high": b"\xed\xbf\xbf",
    "past-the-end": b"\xf4\x90\x80\x80",
    "f5": b"\xf5\x80\x80\x80",
    "ff": b"\xff",
    "fe": b"\xfe",
    "five": b"\xf8\x88\x80\x80\x80",
    "second": b"\xe4\x28\xad",
    "third": b"\xe4\xb8\x28",
    "fourth": b"\xf0\x9f\x98\x28",
    "lead-lead": b"\xc3\xc3\xa9",
}


def refused(array: zarr.Array[Any]) -> None:
    """Neither read nor merged; all of it can be replaced."""
    for out in (np.full(3, "x", TEXT), np.full(3, None, object)):
        with pytest.raises((ValueError, RuntimeError), match=r"c/0"):
            into(array, out)
    with pytest.raises((ValueError, RuntimeError), match=r"c/0"):
        array[1:2] = np.array(["n"], TEXT)
    array[...] = np.array(["x", "y", "z"], TEXT)
    same(array[...], np.array(["x", "y", "z"], TEXT))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(native: None, tmp_path: Path, name: str, sharded: bool) -> None:
    refused(stored_as(tmp_path, "text", DAMAGED[name], sharded))


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_bytes(native: None, tmp_path: Path, name: str) -> None:
    array = stored_as(tmp_path, "bytes", DAMAGED[name])
    with pytest.raises((ValueError, RuntimeError), match=r"vlen-bytes.*c/0"):
        array[...]
    with pytest.raises((ValueError, RuntimeError), match=r"c/0"):
        array[1:2] = objects(b"n")


@pytest.mark.parametrize("before", [0, 1, 6, 7, 8, 15, 16])
@pytest.mark.parametrize("name", NOT_UTF8)
def test_not_utf8(native: None, tmp_path: Path, name: str, before: int) -> None:
    """Wherever it is in its string; the next string does not complete it."""
    payload = encoded(b"ok", b"x" * before + NOT_UTF8[name], b"\x80\x80\x80\x80")
    array = stored_as(tmp_path, "text", payload)
    with pytest.raises(ValueError, match=r"UTF-8.* string 1 of the chunk"):
        array[...]
    if before == 8:
        refused(array)
        with pytest.raises(UnicodeDecodeError):
            NOT_UTF8[name].decode()


def test_every_two_bytes(native: None, tmp_path: Path) -> None:
    """Of all pairs of bytes, exactly what Python takes for UTF-8 is taken."""
    pairs = [bytes([a, b]) for a in range(256) for b in range(0, 256, 5)]
    good = []
    for pair in pairs:
        with contextlib.suppress(UnicodeDecodeError):
            pair.decode()
            good.append(pair)
    array = flat(tmp_path / "a", n=len(good), chunks=(len(good),))
    file = chunk_file(tmp_path / "a", 3, 0)
    file.parent.mkdir(parents=True)
    file.write_bytes(encoded(*good))
    same(array[...], np.array([pair.decode() for pair in good], TEXT))
    for pair in [pair for pair in pairs if pair not in set(good)][::97]:
        file.write_bytes(encoded(*good[:-1], pair))
        with pytest.raises(ValueError, match="UTF-8"):
            array[...]


@each_kind_of_item
def test_trailing_bytes(native: None, tmp_path: Path, items: str) -> None:
    """What follows the last item is ignored, as by numcodecs."""
    array = stored_as(tmp_path, items, encoded(*GOOD) + b"more")
    expected = stock_read(tmp_path / "a")
    same(array[...], expected)
    assert np.asarray(array[...]).tolist() == (["a", "bb", ""] if items == "text" else [*GOOD])


def test_old_items_that_are_replaced(native: None, tmp_path: Path) -> None:
    """Old strings may be empty, long or in other places; the rest of a merge stays."""
    array = flat(tmp_path / "a", n=9, chunks=(9,))
    data = texts((9,), seed=2)
    array[...] = data
    for i in range(9):
        new = "n" * (i * 37)
        array[i] = new
        data[i] = new
        same(array[...], data)
    stock_write(tmp_path / "a", slice(2, 5), np.array(["p", "", "q"], TEXT))
    data[2:5] = ["p", "", "q"]
    same(array[...], data)
