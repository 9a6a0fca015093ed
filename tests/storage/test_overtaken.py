"""Chunks that another process replaces while something is merged into them."""

import errno
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, stock_open
from own_codecs import Hooked
from zarr.codecs import BytesCodec, ShardingCodec, ZstdCodec

pytestmark = [
    pytest.mark.usefixtures("native", "access"),
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
]

HOOKED = Hooked("overtaken")
# Every way in which something is merged into a file; the codec calls the test while a chunk is
# being encoded.
KINDS: dict[str, dict[str, Any]] = {
    "chunk": {"chunks": (8,), "compressors": [HOOKED]},
    "shard": {"chunks": (4,), "shards": (8,), "compressors": [HOOKED]},
    "index at start": {
        "chunks": (8,),
        "serializer": ShardingCodec(
            chunk_shape=(4,), codecs=[BytesCodec(), HOOKED], index_location="start"
        ),
        "compressors": [],
    },
    "codec around a shard": {
        "chunks": (8,),
        "serializer": ShardingCodec(chunk_shape=(4,)),
        "compressors": [HOOKED],
    },
    "nested": {
        "chunks": (8,),
        "serializer": ShardingCodec(
            chunk_shape=(8,),
            codecs=[ShardingCodec(chunk_shape=(4,), codecs=[BytesCodec(), HOOKED])],
        ),
        "compressors": [],
    },
}
each_kind = pytest.mark.parametrize("kind", KINDS)
SAID = "another process writes the same chunks"


@pytest.fixture(autouse=True)
def no_hook_left() -> Iterator[None]:
    yield
    Hooked.hooks.clear()


def meanwhile(act: Callable[[], None], times: int = 1, doing: str = "encode") -> None:
    """While a chunk is encoded, let another process do something; so many times."""
    left = [times]

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == doing and left[0] > 0:
            left[0] -= 1
            Hooked.hooks.clear()  # the others' writes are not disturbed
            act()
            Hooked.hooks["overtaken"] = hook
        return data

    Hooked.hooks["overtaken"] = hook


def new_array(path: Path, kind: str, fill: bool = True) -> tuple[Any, Path]:
    array = zarr.create_array(path, shape=(16,), dtype="<i4", **KINDS[kind])
    if fill:
        array[...] = np.arange(1, 17)
    return array, path / "c" / "0"


@each_kind
def test_what_both_write_is_kept(tmp_path: Path, kind: str) -> None:
    array, _ = new_array(tmp_path, kind)
    other = stock_open(tmp_path, mode="r+")
    meanwhile(lambda: other.__setitem__(slice(0, 3), 70), times=3)
    with pytest.warns(UserWarning, match=SAID):
        array[1:6] = 50
    expected = np.arange(1, 17, dtype="<i4")
    expected[0] = 70
    expected[1:6] = 50
    assert_same(array[...], expected)


@each_kind
def test_a_chunk_that_was_not_there(tmp_path: Path, kind: str) -> None:
    array, _ = new_array(tmp_path, kind, fill=False)
    other = stock_open(tmp_path, mode="r+")
    meanwhile(lambda: other.__setitem__(7, 70))
    with pytest.warns(UserWarning, match=SAID):
        array[1] = 50
    assert_same(array[:8], np.array([0, 50, 0, 0, 0, 0, 0, 70], "<i4"))


@each_kind
def test_a_chunk_that_is_deleted(tmp_path: Path, kind: str) -> None:
    array, chunk = new_array(tmp_path, kind)
    meanwhile(chunk.unlink)
    with pytest.warns(UserWarning, match=SAID):
        array[1] = 50
    assert_same(array[:8], np.array([0, 50, 0, 0, 0, 0, 0, 0], "<i4"))


@each_kind
def test_a_chunk_that_becomes_empty(tmp_path: Path, kind: str) -> None:
    """It would be removed, with what another process has put there."""
    array, chunk = new_array(tmp_path, kind, fill=False)
    array[0] = 1
    other = stock_open(tmp_path, mode="r+")
    meanwhile(lambda: other.__setitem__(7, 70), doing="decode")
    with pytest.warns(UserWarning, match=SAID):
        array[0] = 0
    assert_same(array[:8], np.array([0, 0, 0, 0, 0, 0, 0, 70], "<i4"))
    array[7] = 0
    assert not chunk.exists()


@each_kind
def test_a_file_that_is_changed_in_place(tmp_path: Path, kind: str) -> None:
    """As the Rust package writes; its number stays the same, its time does not."""
    array, chunk = new_array(tmp_path, kind)
    other, changed = new_array(tmp_path / "b", kind)
    other[0] = 70
    stored = changed.read_bytes()

    def act() -> None:
        with chunk.open("r+b") as file:
            file.write(stored)
            file.truncate()
        os.utime(chunk, ns=(1, 1))  # whatever the clock of the file system

    meanwhile(act)
    with pytest.warns(UserWarning, match=SAID):
        array[1] = 50
    assert_same(array[:8], np.array([70, 50, 3, 4, 5, 6, 7, 8], "<i4"))


@each_kind
def test_never_first(tmp_path: Path, kind: str) -> None:
    """Who is overtaken again and again gives up; what is stored is the others', and whole."""
    array, _ = new_array(tmp_path, kind)
    other = stock_open(tmp_path, mode="r+")
    count = iter(range(100, 10**6))
    meanwhile(lambda: other.__setitem__(0, next(count)), times=10**6)
    with (
        pytest.warns(UserWarning, match=SAID),
        pytest.raises(OSError, match=r"other processes kept replacing .* 'c/0'") as info,
    ):
        array[1] = 50
    assert info.value.errno == errno.EBUSY
    assert info.value.filename == str(tmp_path / "c" / "0")
    Hooked.hooks.clear()
    assert next(count) - 100 == 100  # attempts
    assert_same(array[:8], np.array([199, 2, 3, 4, 5, 6, 7, 8], "<i4"))
    assert [p.name for p in tmp_path.rglob("*.partial")] == []


@each_kind
def test_whole_chunks_replace_whatever_is_there(tmp_path: Path, kind: str) -> None:
    array, _ = new_array(tmp_path, kind)
    other = stock_open(tmp_path, mode="r+")
    meanwhile(lambda: other.__setitem__(0, 70))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        array[0:8] = 50
    assert_same(array[:8], np.full(8, 50, "<i4"))


def test_other_chunks_of_the_call(tmp_path: Path) -> None:
    """Only what was overtaken is merged again."""
    array, _ = new_array(tmp_path, "shard")
    encoded: list[int] = []
    other = stock_open(tmp_path, mode="r+")

    def hook(doing: str, data: Any, spec: Any) -> Any:
        if doing == "encode":
            encoded.append(1)
            if len(encoded) == 1:
                Hooked.hooks.clear()
                other[0] = 70
                Hooked.hooks["overtaken"] = hook
        return data

    Hooked.hooks["overtaken"] = hook
    with zarr.config.set({"threading.max_workers": 1}):
        one = zarr.open_array(tmp_path)
    with pytest.warns(UserWarning, match=SAID):
        one[2:14] = 50
    assert len(encoded) == 6  # four inner chunks, and two of them once more
    expected = np.arange(1, 17, dtype="<i4")
    expected[0], expected[2:14] = 70, 50
    assert_same(array[...], expected)


def test_who_is_alone_is_not_warned(tmp_path: Path) -> None:
    """With crowds, and without a codec in Python: scripts/stress_writers."""
    array = zarr.create_array(
        tmp_path, shape=(16,), chunks=(16,), dtype="<i4", compressors=ZstdCodec()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for k in range(16):
            array[k] = k
    assert_same(array[...], np.arange(16, dtype="<i4"))
