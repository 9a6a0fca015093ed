"""What `check` finds in arrays of every kind and on every store, and what a repair deletes."""

import asyncio
import os
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import hybrid
import numcodecs
import numpy as np
import pytest
import strings
import zarr
from helpers import (
    CHAIN,
    CORE_CHAINS,
    STOCK,
    ZARR_34,
    Chain,
    child_environment,
    create,
    make_data,
    newer,
    ours_open,
    stock,
    stock_open,
    stock_read,
    stored_files,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from own_codecs import Hooked, HookedArray, own
from shardings import CORE, shardings
from shards import INNER, SHAPE, SHARD, Layout, Sharding, create_sharded
from stores import AsyncOnly, Kind, Services, each_kind, filled, stored
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.core.chunk_key_encodings import ChunkKeyEncoding
from zarr.core.sync import _get_loop
from zarr.storage import LocalStore, MemoryStore, ZipStore

import zarrs
from zarrs._grid import Axis
from zarrs.checking._stored import StoredArray

pytestmark = pytest.mark.filterwarnings(
    "ignore:Combining a `sharding_indexed` codec:zarr.errors.ZarrUserWarning"
)

OURS, THEIRS = "00c0ffee00c0ffee", "00c0ffee00c0ffee00c0ffee00c0ffee"
DATA = np.arange(1, 101, dtype="<i4").reshape(10, 10)
PLAIN = [CHAIN[name] for name in ("raw", "crc32c", "zstd", "blosc-lz4-shuffle", "v2-zlib-F")]
Change = Callable[[bytes], bytes]


def kinds(report: zarrs.CheckReport) -> list[tuple[str, str, Any]]:
    """What was found, without what is missing."""
    return [(one.kind, one.key, one.inner_chunk) for one in report.findings]


def change(file: Path, how: Change) -> bytes:
    """Change a file in place; return what it holds then."""
    file.write_bytes(how(file.read_bytes()))
    return file.read_bytes()


def flip(place: int) -> Change:
    """Change one byte."""

    def changed(data: bytes) -> bytes:
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        return bytes(damaged)

    return changed


def plain(path: Path, chain: Chain = CHAIN["crc32c"], **kw: Any) -> Any:
    """Nine chunks, all stored; those at the edges overhang."""
    array = create(path, chain, (10, 10), (4, 4), "<i4", **kw)
    array[...] = DATA
    return array


def sharded(path: Any, **kw: Any) -> Any:
    """Four shards of four inner chunks with checksums, all stored."""
    how: dict[str, Any] = {"chunks": (2, 2), "shards": (4, 4), "compressors": [Crc32cCodec()]} | kw
    array = zarr.create_array(path, shape=(8, 8), dtype="<i4", filters=[], **how)
    array[...] = np.arange(1, 65).reshape(8, 8)
    return array


def first_shard(path: Path) -> tuple[Path, Layout]:
    """The file of the first shard of such an array, and how it is laid out."""
    return path / "c/0/0", Layout((2, 2))


def inner_places(path: Path) -> dict[Any, slice]:
    """Where the inner chunks of the first shard are."""
    file, layout = first_shard(path)
    index = layout.index(file.read_bytes())
    return {
        place: slice(int(index[place][0]), int(index[place].sum()))
        for place in np.ndindex(*layout.counts)
    }


# ------------------------------------------------------------------------------- what is sound


@pytest.mark.parametrize("chain", CORE_CHAINS, ids=str)
def test_sound_arrays(tmp_path: Path, chain: Chain) -> None:
    array = plain(tmp_path, chain)
    before = stored_files(tmp_path)
    report = zarrs.check(array, repair=True)
    assert report.is_sound
    assert report.findings == report.deleted == ()
    assert len(report.missing) == 0
    assert (report.arrays, report.chunks, report.stored_chunks) == (1, 9, 9)
    assert report.bytes_stored == sum(map(len, before.values()))
    assert stored_files(tmp_path) == before


@shardings(*CORE)
def test_sound_shards(tmp_path: Path, sharding: Sharding) -> None:
    """Without the first shard, and without half of the second."""
    array = create_sharded(tmp_path, sharding)
    data = make_data("<i4", SHAPE, 3) | 1
    shard = sharding.shard_shape(SHARD)
    data[: shard[0], : shard[1], : shard[2]] = 0
    data[: INNER[0], :, shard[2] :] = 0
    array[...] = data
    report = zarrs.check(array)
    assert report.is_sound, report
    assert report.findings == ()
    missing = [one for one in report.missing if one.inner_chunk is None]
    assert len(missing) == report.chunks - report.stored_chunks > 0
    if sharding.after:  # the index is inside of another codec
        assert report.inner_chunks == 0
        return
    inner = {(one.key, one.inner_chunk) for one in report.missing if one.inner_chunk is not None}
    assert inner == absent_by_reading(array, data, shard)
    assert len(inner) == report.inner_chunks - report.stored_inner_chunks


def absent_by_reading(array: Any, data: np.ndarray, shard: tuple[int, ...]) -> set[Any]:
    """The inner chunks of stored shards that hold nothing but the fill value."""
    whole = np.zeros([-(-n // m) * m for n, m in zip(data.shape, shard, strict=True)], data.dtype)
    whole[tuple(map(slice, data.shape))] = data
    counts = [n // m for n, m in zip(shard, INNER, strict=True)]
    found = set()
    for chunk in np.ndindex(*(n // m for n, m in zip(whole.shape, shard, strict=True))):
        at = tuple(slice(i * n, i * n + n) for i, n in zip(chunk, shard, strict=True))
        for inner in np.ndindex(*counts):
            part = tuple(slice(i * n, i * n + n) for i, n in zip(inner, INNER, strict=True))
            if whole[at].any() and not whole[at][part].any():
                found.add((array.metadata.encode_chunk_key(chunk), inner))
    return found


@hybrid.chains(*hybrid.FEW)
def test_sound_codecs_in_python(tmp_path: Path, chain: hybrid.Hybrid) -> None:
    array = chain.create(tmp_path)
    array[...] = hybrid.start(chain)
    report = zarrs.check(array)
    assert report.is_sound, report
    assert report.stored_chunks == len(stored_files(tmp_path))


@pytest.mark.parametrize("items", ["text", "bytes"])
@pytest.mark.parametrize("shards", [None, strings.SHARD])
def test_sound_strings(items: str, shards: Any) -> None:
    store = MemoryStore()
    dtype: Any = str if items == "text" else zarr.core.dtype.VariableLengthBytes()
    array = zarr.create_array(store, shape=strings.SHAPE, chunks=strings.CHUNK, shards=shards,
                              dtype=dtype)  # fmt: skip
    array[...] = strings.texts().astype(object) if items == "text" else strings.blobs()
    report = zarrs.check(array)
    assert report.is_sound, report
    assert report.stored_chunks == len(stored(store)) > 1


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("sharded", [False, True])
def test_no_axes_and_no_items(tmp_path: Path, zarr_format: Any, sharded: bool) -> None:
    if sharded and zarr_format == 2:
        return
    serializer: Any = ShardingCodec(chunk_shape=(), codecs=[BytesCodec()])
    how: dict[str, Any] = {"serializer": serializer, "compressors": []} if sharded else {}
    point = zarr.create_array(tmp_path / "0d", shape=(), dtype="i4", zarr_format=zarr_format, **how)
    assert [one.key for one in zarrs.check(point).missing] == ["c" if zarr_format == 3 else "0"]
    point[...] = 5
    assert zarrs.check(point).is_sound
    change(tmp_path / "0d" / ("c" if zarr_format == 3 else "0"), lambda data: data[:-1])
    assert not zarrs.check(point, repair=True).is_sound
    assert point[()] == 0
    none = zarr.create_array(tmp_path / "none", shape=(0, 3), dtype="i4", zarr_format=zarr_format)
    assert zarrs.check(none).chunks == 0


def test_whatever_pipeline_an_array_has(tmp_path: Path) -> None:
    plain(tmp_path, CHAIN["zstd"])
    change(tmp_path / "c/1/1", lambda data: data[:-5])
    theirs = stock_open(tmp_path)
    for array in (theirs, theirs.with_config({"order": "F"}), zarrs.direct(theirs)):
        with zarr.config.set({"codec_pipeline.path": STOCK}):
            assert kinds(zarrs.check(array)) == [("damaged", "c/1/1", None)]
    assert "Batched" in type(theirs.async_array.codec_pipeline).__name__


def test_names_that_a_store_lists_twice() -> None:
    """Each array is looked at, and told of, once."""

    class Twice(AsyncOnly):
        async def list_dir(self, prefix: str) -> Any:
            async for name in super().list_dir(prefix):
                yield name
                yield name

    store = Twice()
    group = zarr.create_group(store)
    for path in ("a", "b/c"):
        group.create_array(path, shape=(2,), chunks=(2,), dtype="i4", compressors=None)[...] = 1
        store.held[f"{path}/c/0"] = b"too few"
    report = zarrs.check(group)
    assert report.arrays == 2
    assert kinds(report) == [("damaged", "a/c/0", None), ("damaged", "b/c/c/0", None)]


@pytest.mark.parametrize("node", [None, 5, "path", {}, np.zeros(3)])
def test_neither_array_nor_group(node: Any) -> None:
    with pytest.raises(TypeError, match=r"takes a zarr\.Array or a zarr\.Group, not"):
        zarrs.check(node)


@pytest.mark.skipif(not ZARR_34, reason="zarr has no such grids")
@pytest.mark.parametrize("shards", [False, True])
def test_rectilinear_grids(tmp_path: Path, shards: bool) -> None:
    """The last chunk overhangs, and one is beyond the array."""
    how: dict[str, Any] = {"chunks": [[4, 2, 6, 4], [4, 8]], "compressors": [Crc32cCodec()]}
    if shards:
        inner = ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec(), Crc32cCodec()])
        how |= {"serializer": inner, "compressors": []}
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = zarr.create_array(tmp_path, shape=(16, 12), dtype="<i4", filters=[], **how)
        array[...] = np.arange(1, 193).reshape(16, 12)
        array.resize((10, 9))
        report = zarrs.check(array)
        assert report.is_sound
        assert (report.chunks, report.stored_chunks) == (6, 6)
        last = 0 if shards else -1  # beyond the array, if the order is lexicographic
        change(tmp_path / "c/2/1", flip(-5 if not shards else last))
        (found,) = zarrs.check(array).findings
        assert (found.kind, found.key) == ("damaged", "c/2/1")


# -------------------------------------------------------------------------------- what is not


@pytest.mark.parametrize(
    ("name", "how", "kind"),
    [
        ("raw", lambda data: data[:-1], "damaged"),
        ("raw", lambda data: b"", "damaged"),
        ("raw", lambda data: data + b"x", "too long"),
        ("raw", flip(3), None),  # nothing tells
        ("v2-raw", lambda data: data[:7], "damaged"),
        ("v2-raw-F", lambda data: data + data, "too long"),
        ("crc32c", flip(0), "damaged"),
        ("crc32c", flip(-1), "damaged"),
        ("crc32c", lambda data: data + b"x", "too long"),
        ("crc32c", lambda data: data[:2], "damaged"),
        ("zstd", lambda data: data[:-3], "damaged"),
        ("zstd", lambda data: bytes(len(data)), "damaged"),
        ("gzip", flip(-6), "damaged"),
        ("blosc-lz4-shuffle", lambda data: data + b"behind", "too long"),
        ("blosc-lz4-shuffle", lambda data: data[:-1], "damaged"),
        ("blosc-lz4-shuffle", lambda data: bytes(len(data)), "damaged"),
        ("v2-blosc", lambda data: data + b"x", "too long"),
        ("v2-blosc", lambda data: b"", "damaged"),
        ("v2-zlib-F", flip(-1), "damaged"),
        ("rotated-big-zstd-crc32c", flip(5), "damaged"),
    ],
)
@pytest.mark.parametrize("where", ["inside", "edge"])
def test_changed_chunks(tmp_path: Path, name: str, how: Change, kind: Any, where: str) -> None:
    chain = CHAIN[name]
    array = plain(tmp_path, chain)
    i = {"inside": 1, "edge": 2}[where]
    key = f"c/{i}/{i}" if chain.zarr_format == 3 else f"{i}.{i}"
    data = change(tmp_path / key, how)
    report = zarrs.check(array)
    assert kinds(report) == ([] if kind is None else [(kind, key, None)])
    assert report.is_sound == (kind is None)
    for one in report.findings:
        assert one.size == len(data)
        assert one.array == ""
        if kind == "damaged":
            assert key in one.message
        else:
            assert one.expected is not None
            assert one.expected < one.size
    if "raw" in name and kind:
        assert report.findings[0].expected == 64
    change(tmp_path / key, lambda _: data)  # as it was
    repaired = zarrs.check(array, repair=True)
    assert repaired.deleted == (report.findings if kind == "damaged" else ())
    assert (tmp_path / key).exists() == (kind != "damaged")


def test_damage_beyond_the_array_only(tmp_path: Path) -> None:
    """Readers of the array do not see it."""
    array: Any = create(tmp_path, CHAIN["raw"], (10, 10), (4, 4), "<i4", shards=(8, 8),
                   compressors=[Crc32cCodec()])  # fmt: skip
    array[...] = DATA
    array.resize((10, 3))
    array.resize((10, 4))
    array[...] = DATA[:, :4]
    before = array[...]
    places = Layout((2, 2)).index((tmp_path / "c/0/0").read_bytes())
    change(tmp_path / "c/0/0", flip(int(places[1, 1][0])))
    assert (array[...] == before).all()
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("damaged", "c/0/0", (1, 1))]
    assert len(report.deleted) == 1
    assert zarrs.check(array).is_sound
    assert (array[...] == before).all()


def test_checksums_are_verified_whatever_is_set(tmp_path: Path) -> None:
    plain(tmp_path)
    change(tmp_path / "c/0/1", flip(1))
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        array = ours_open(tmp_path)
        assert array[0, 4] != DATA[0, 4]
        assert kinds(zarrs.check(array)) == [("damaged", "c/0/1", None)]


@pytest.mark.parametrize("chain", PLAIN, ids=str)
def test_missing_chunks(tmp_path: Path, chain: Chain) -> None:
    array = create(tmp_path, chain, (10, 10), (4, 4), "<i4")
    array[4:8] = 1
    report = zarrs.check(array, repair=True)
    assert report.is_sound
    assert report.findings == report.deleted == ()
    keys = [array.metadata.encode_chunk_key(place) for place in np.ndindex(3, 3)]
    assert [one.key for one in report.missing] == [*keys[:3], *keys[6:]]
    assert report.by_kind("missing") is report.missing
    assert len(report.missing) == 6
    assert next(iter(report.missing)) in report.missing
    assert zarrs.Finding("missing", "", keys[4]) not in report.missing
    assert {(one.kind, one.size, one.expected) for one in report.missing} == {("missing", 0, None)}


def test_very_sparse_arrays(tmp_path: Path) -> None:
    """A grid that could not be walked in a lifetime."""
    array = zarr.create_array(tmp_path, shape=(10**15, 10**5), chunks=(10, 10), dtype="u1")
    array[10**14, 7] = 1
    report = zarrs.check(array)
    assert report.is_sound
    assert report.stored_chunks == 1
    assert len(report.missing) == 10**18 - 1
    assert next(iter(report.missing)).key == "c/0/0"
    assert f"1 of {10**18:,} chunks stored" in str(report)


def test_a_directory_or_a_pipe_in_the_place_of_a_chunk(tmp_path: Path) -> None:
    array = plain(tmp_path)
    for key, make in (("c/0/1", os.mkdir), ("c/1/0", os.mkfifo)):
        (tmp_path / key).unlink()
        make(tmp_path / key)
    (tmp_path / "c/2/2").unlink()
    (tmp_path / "c/2/2").symlink_to(tmp_path / "nowhere")
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/1", None), ("unreadable", "c/1/0", None)]
    assert not report.is_sound
    assert [one.key for one in report.missing] == ["c/2/2"]  # as readers have it
    assert (tmp_path / "c/0/1").is_dir()


def test_linked_directories(tmp_path: Path) -> None:
    array = plain(tmp_path / "array")
    (tmp_path / "array/c/1").rename(tmp_path / "elsewhere")
    (tmp_path / "array/c/1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "array/c/1/1/loop").parent.unlink()
    (tmp_path / "array/c/1/1").symlink_to(tmp_path / "array")
    report = zarrs.check(array)
    assert report.stored_chunks == 9
    assert kinds(report) == [("unreadable", "c/1/1", None)]


def test_other_files_are_no_chunks(tmp_path: Path) -> None:
    """Of a larger array, of a lock, of nobody knows whom."""
    array = plain(tmp_path)
    for name in (".zarrs.lock", "c/0/3", "c/3/0", "c/00/1", "c/0/1x", "c/0/.hidden", "c/0/-1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"?")
    report = zarrs.check(array, repair=True)
    assert report.findings == ()
    assert report.stored_chunks == 9
    assert (tmp_path / "c/3/0").exists()


def test_temporary_files(tmp_path: Path) -> None:
    array = plain(tmp_path / "array")
    names = [f"c/0/1.{OURS}.partial", f"c/1/1.{THEIRS}.partial", f"zarr.{THEIRS}.partial"]
    for i, name in enumerate(names):
        (tmp_path / "array" / name).write_bytes(bytes(i))
    for other in (f"c/0/1.{OURS[1:]}.partial", "c/0/1.partial", f"c/0/1.{OURS}.partial.txt"):
        (tmp_path / "array" / other).write_bytes(b"?")
    before = stored_files(tmp_path)
    report = zarrs.check(array, repair=True)
    assert report.is_sound
    found = sorted((one.kind, one.key, one.size) for one in report.findings)
    assert found == [("temporary", name, i) for i, name in enumerate(names)]
    assert report.deleted == ()
    assert stored_files(tmp_path) == before
    assert report.by_kind("temporary") == report.findings


def test_temporary_files_of_chunks_with_dots(tmp_path: Path) -> None:
    array = plain(tmp_path, CHAIN["v2-raw"])
    names = {f"0.1.{OURS}.partial", f"0.{THEIRS}.partial"}
    for name in names:
        (tmp_path / name).write_bytes(b"12")
    report = zarrs.check(array)
    assert {one.key for one in report.findings} == names
    assert report.stored_chunks == 9


def test_groups(tmp_path: Path) -> None:
    group: Any = zarr.create_group(tmp_path)
    data = np.arange(1, 9, dtype="<i4")
    for path in ("b", "a/x", "a/y/z"):
        codecs: Any = [Crc32cCodec()]
        array = group.create_array(path, shape=8, chunks=4, dtype="<i4", compressors=codecs)
        array[...] = data
    group["a/x"].update_attributes({})
    change(tmp_path / "a/y/z/c/1", flip(2))
    (tmp_path / "b/c/0").unlink()
    (tmp_path / f"a/x/c/0.{OURS}.partial").write_bytes(b"1")
    for node in (group, zarrs.direct(group), zarr.open_group(tmp_path)):
        report = zarrs.check(node)
        assert (report.arrays, report.chunks, report.stored_chunks) == (3, 6, 5)
        assert [(one.array, one.kind, one.key) for one in report.findings] == [
            ("a/x", "temporary", f"a/x/c/0.{OURS}.partial"),
            ("a/y/z", "damaged", "a/y/z/c/1"),
        ]
        assert [(one.array, one.key) for one in report.missing] == [("b", "b/c/0")]
    zarrs.check(group, repair=True)
    assert group["a/y/z"][:].tolist() == [1, 2, 3, 4, 0, 0, 0, 0]
    assert zarrs.check(group["a/y"]).is_sound
    assert zarrs.check(zarr.create_group({})).arrays == 0


# ------------------------------------------------------------------------------------- shards


@pytest.mark.parametrize("location", ["start", "end"])
def test_damaged_inner_chunks(tmp_path: Path, location: Any) -> None:
    """Each by itself; after a repair all others are what they were, byte by byte."""
    codec = ShardingCodec(
        chunk_shape=(2, 2), codecs=[BytesCodec(), Crc32cCodec()], index_location=location
    )
    array = sharded(tmp_path, chunks=(4, 4), shards=None, serializer=codec, compressors=[])
    file = tmp_path / "c/0/0"
    layout = Layout((2, 2), location)
    before, others = layout.split(file.read_bytes()), stored_files(tmp_path)
    expected = array[...]
    for place in ((0, 1), (1, 0)):
        change(file, flip(int(layout.index(file.read_bytes())[place][0])))
        expected[tuple(slice(2 * i, 2 * i + 2) for i in place)] = 0
    report = zarrs.check(array)
    assert kinds(report) == [("damaged", "c/0/0", (0, 1)), ("damaged", "c/0/0", (1, 0))]
    assert [(one.size, one.expected) for one in report.findings] == [(20, 20), (20, 20)]
    assert (report.inner_chunks, report.stored_inner_chunks) == (16, 16)
    repaired = zarrs.check(array, repair=True)
    assert repaired.deleted == report.findings
    after = layout.split(file.read_bytes())
    assert after == {place: before[place] for place in ((0, 0), (1, 1))}
    del others["c/0/0"]
    assert {k: v for k, v in stored_files(tmp_path).items() if k != "c/0/0"} == others
    assert (array[...] == expected).all()
    assert (stock_read(tmp_path) == expected).all()
    report = zarrs.check(array)
    assert report.is_sound
    assert [(one.key, one.inner_chunk) for one in report.missing] == [
        ("c/0/0", (0, 1)),
        ("c/0/0", (1, 0)),
    ]


def test_all_inner_chunks_are_damaged(tmp_path: Path) -> None:
    array = sharded(tmp_path)
    file, _ = first_shard(tmp_path)
    for place in inner_places(tmp_path).values():
        change(file, flip(place.start))
    report = zarrs.check(array, repair=True)
    assert [one.inner_chunk for one in report.findings] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert report.deleted == report.findings
    assert not file.exists()


@pytest.mark.parametrize(
    "how", [flip(-1), flip(-9), lambda data: data[:10], lambda data: b"", lambda data: data + b"x"]
)
def test_damaged_indexes(tmp_path: Path, how: Change) -> None:
    array = sharded(tmp_path)
    file, _ = first_shard(tmp_path)
    before = stored_files(tmp_path)
    size = len(change(file, how))
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("damaged", "c/0/0", None)]
    assert report.findings[0].size == size
    assert report.inner_chunks == 12
    assert report.deleted == report.findings
    del before["c/0/0"]
    assert stored_files(tmp_path) == before


def test_an_entry_that_points_outside(tmp_path: Path) -> None:
    """The others can be read, so nothing is deleted: no writer can keep them."""
    array = sharded(tmp_path)
    file, layout = first_shard(tmp_path)
    index = layout.index(file.read_bytes())
    index[0, 1] = 10**6, 30
    damaged = change(file, lambda data: layout.with_index(data, index))
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("damaged", "c/0/0", (0, 1))]
    assert (
        "it could not be deleted: the index of the shard is damaged" in report.findings[0].message
    )
    assert report.deleted == ()
    assert file.read_bytes() == damaged


def test_inner_chunks_that_share_bytes_are_kept(tmp_path: Path) -> None:
    """This package refuses them, others read them: that is no damage."""
    array = sharded(tmp_path)
    file, layout = first_shard(tmp_path)
    index = layout.index(file.read_bytes())
    index[0, 1] = index[0, 0]
    shared = change(file, lambda data: layout.with_index(data, index))
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", (0, 0)), ("unreadable", "c/0/0", (0, 1))]
    assert report.deleted == ()
    assert file.read_bytes() == shared
    assert (stock_read(tmp_path)[:2, :2] == stock_read(tmp_path)[:2, 2:4]).all()


def test_gaps_in_shards_are_no_fault(tmp_path: Path) -> None:
    array = sharded(tmp_path)
    file, layout = first_shard(tmp_path)
    chunks = layout.split(file.read_bytes())
    file.write_bytes(layout.build(chunks, gap=b"left over"))
    assert zarrs.check(array).findings == ()


@pytest.mark.parametrize("before", [[], [TransposeCodec(order=(1, 0))]])
def test_shards_in_shards(tmp_path: Path, before: list[Any]) -> None:
    """One innermost chunk, and the index of one inner shard; the rest stays as it is."""
    inner = ShardingCodec(chunk_shape=(2, 1), codecs=[BytesCodec(), Crc32cCodec()])
    outer = ShardingCodec(chunk_shape=(4, 4), codecs=[inner])
    array: Any = zarr.create_array(tmp_path, shape=(16, 16), chunks=(8, 8), dtype="<i4",
                              filters=before, serializer=outer, compressors=[])  # fmt: skip
    data = np.arange(1, 257).reshape(16, 16)
    data[0, 0:2] = data[1, 0:2] = 0  # one or two innermost chunks that are not stored
    array[...] = data
    file, layout, within = tmp_path / "c/0/0", Layout((2, 2)), Layout((2, 4))
    blob = file.read_bytes()
    index = layout.index(blob)
    first, last = (slice(int(index[p][0]), int(index[p].sum())) for p in ((0, 0), (1, 1)))
    entry = within.index(blob[first])[1, 2]
    change(file, flip(first.start + int(entry[0])))
    change(file, flip(last.stop - 1))
    # In the order of the index the chunk is (1, 2), of two items along the first of its axes.
    unit, place = ((2, 1), (1, 2)) if not before else ((1, 2), (2, 1))
    report = zarrs.check(array, repair=True)
    counts = [8 // n for n in unit]
    broken = {p for p in np.ndindex(*counts) if all(2 * p[k] >= counts[k] for k in (0, 1))}
    assert {one.inner_chunk for one in report.findings} == {place, *broken}
    assert len(report.findings) == 9
    assert report.deleted == report.findings
    expected = data.copy()
    expected[4:8, 4:8] = 0
    expected[tuple(slice(i * n, i * n + n) for i, n in zip(place, unit, strict=True))] = 0
    assert (array[...] == expected).all()
    assert (stock_read(tmp_path) == expected).all()
    again = zarrs.check(array)
    assert again.is_sound
    absent = np.zeros([2 * n for n in counts], bool)
    for one in again.missing:
        assert one.inner_chunk is not None
        if one.key == "c/0/0":
            absent[one.inner_chunk] = True
    by_value = expected[:8, :8].reshape(counts[0], unit[0], counts[1], unit[1]).any((1, 3))
    assert (absent[: counts[0], : counts[1]] == ~by_value).all()


@shardings("after-zstd", "before-and-after")
def test_shards_inside_of_codecs(tmp_path: Path, sharding: Sharding) -> None:
    array = create_sharded(tmp_path, sharding)
    array[...] = make_data("<i4", SHAPE) | 1
    change(tmp_path / "c/0/0/0", lambda data: data[:-3])
    report = zarrs.check(array, repair=True)
    assert {(one.kind, one.key) for one in report.findings} == {("damaged", "c/0/0/0")}
    assert not (tmp_path / "c/0/0/0").exists()
    assert zarrs.check(array).is_sound


def test_large_shards_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrs.checking._stored.MAX_PIECE", 200)
    read: list[Any] = []
    getitem = zarrs.Array.__getitem__

    def watched(self: Any, box: Any) -> Any:
        result = getitem(self, box)
        read.append(result.nbytes)
        return result

    monkeypatch.setattr(zarrs.Array, "__getitem__", watched)
    array = sharded(tmp_path, chunks=(2, 2), shards=(8, 8))
    assert zarrs.check(array).is_sound
    assert max(read) <= 200
    assert sum(read) == 256
    change(tmp_path / "c/0/0", flip(25))
    assert len(zarrs.check(array).findings) == 1


def test_other_indexes_are_left_to_zarr(tmp_path: Path) -> None:
    """And what zarr raises is nothing to delete for."""
    codec = ShardingCodec(
        chunk_shape=(2, 2),
        codecs=[BytesCodec(), Crc32cCodec()],
        index_codecs=[BytesCodec(), Crc32cCodec(), Crc32cCodec()],
    )
    array = sharded(tmp_path, chunks=(4, 4), shards=None, serializer=codec, compressors=[])
    assert zarrs.check(array).is_sound
    change(tmp_path / "c/0/0", flip(0))
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", (0, 0))]
    assert report.deleted == ()


# ----------------------------------------------------------------------------------- in Python


@pytest.mark.parametrize("what", ["a directory", "neither file nor directory"])
def test_something_else_in_the_place_of_a_chunk(tmp_path: Path, what: str) -> None:
    plain(tmp_path)
    place = tmp_path / "c/0/0"
    place.unlink()
    place.mkdir() if what == "a directory" else os.mkfifo(place)
    report = zarrs.check(zarr.open_array(tmp_path), repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", None)]
    assert f"expected a file, found {what}: 'c/0/0'" in report.findings[0].message
    assert report.deleted == ()
    assert place.exists()


def test_what_codecs_in_python_raise_is_no_damage(tmp_path: Path) -> None:
    def hook(doing: str, data: Any, spec: Any) -> Any:
        if doing == "decode" and data.to_bytes()[0] == 1:
            raise FileNotFoundError("of the codec's own")
        return data

    array = hybrid.hooked(hook, str(tmp_path), compressors=[Hooked("k")])
    array[...] = hybrid.DATA + 1
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", None)]
    assert "FileNotFoundError: of the codec's own" in report.findings[0].message
    assert report.deleted == ()
    assert (tmp_path / "c/0/0").exists()


def test_damage_of_other_arrays_is_no_damage(tmp_path: Path) -> None:
    """A codec may read other arrays."""
    other = plain(tmp_path / "other")
    change(tmp_path / "other/c/1/1", flip(1))

    def hook(doing: str, data: Any, spec: Any) -> Any:
        return data if doing == "encode" else other[...]

    array = hybrid.hooked(hook, str(tmp_path / "array"), compressors=[Hooked("k")])
    array[:4, :4] = 1
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", None)]
    assert "c/1/1" in report.findings[0].message
    assert report.deleted == ()


def test_wrong_results_of_codecs_in_python_are_no_damage(tmp_path: Path) -> None:
    HookedArray.hooks["short"] = lambda doing, data, spec: (
        data if doing == "encode" else data.as_numpy_array()[:1]
    )
    array = create(tmp_path, CHAIN["raw"], (4, 4), (4, 4), "<i4", filters=[HookedArray("short")])
    array[...] = 1
    with pytest.raises(zarrs.ChunkError):
        array[...]
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", None)]
    assert report.deleted == ()


@hybrid.chains("xor-sync-zstd-crc32c", "shards-of-xor-batch")
def test_damage_behind_codecs_in_python(tmp_path: Path, chain: hybrid.Hybrid) -> None:
    array = chain.create(tmp_path)
    array[...] = hybrid.start(chain) | 1
    before: Any = array[...]
    change(tmp_path / "c/0/0", flip(3))
    report = zarrs.check(array, repair=True)
    (found,) = report.findings
    assert found.kind == "damaged"
    assert report.deleted == report.findings
    gone = tuple(slice(0, n) for n in hybrid.CHUNK)
    if found.inner_chunk is not None:
        gone = tuple(
            slice(i * n, i * n + n) for i, n in zip(found.inner_chunk, hybrid.CHUNK, strict=True)
        )
    before[gone] = 0
    assert (array[...] == before).all()
    assert zarrs.check(array).is_sound


@pytest.mark.parametrize("how", [flip(0), lambda data: data[:-40]])
def test_shards_in_python_are_spared(tmp_path: Path, how: Change) -> None:
    """Where zarr's own sharding codec runs it is not known what else there is in the shard."""
    chain = hybrid.around(
        "own", filters=[own("reverse")], serializer=hybrid.sharding(hybrid.LITTLE, Crc32cCodec())
    )
    array = chain.create(tmp_path)
    array[...] = hybrid.start(chain) | 1
    before = change(tmp_path / "c/0/0", how)
    report = zarrs.check(array, repair=True)
    assert {one.key for one in report.findings} == {"c/0/0"}
    assert report.deleted == ()
    assert (tmp_path / "c/0/0").read_bytes() == before


def test_damage_beside_what_is_unreadable(tmp_path: Path) -> None:
    """Only the one is deleted, though nothing else is in the shard."""

    def hook(doing: str, data: Any, spec: Any) -> Any:
        if doing == "decode" and data.to_bytes()[0] == 1:
            raise RuntimeError("of the codec's own")
        return data

    array = hybrid.hooked(
        hook, str(tmp_path), shards=(4, 8), compressors=[Hooked("k"), Crc32cCodec()]
    )
    array[:4, :4], array[:4, 4:] = 1, 2
    change(tmp_path / "c/0/0", flip(70))
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/0/0", (0, 0)), ("damaged", "c/0/0", (0, 1))]
    assert report.deleted == report.findings[1:]
    assert kinds(zarrs.check(array)) == [("unreadable", "c/0/0", (0, 0))]


# -------------------------------------------------------------------------------------- stores


def damaged_arrays(store: Any) -> None:
    """A plain array and a sharded one, each with something damaged and something missing."""
    root = zarr.create_group(store)
    plain = root.create_array("plain", shape=(6,), chunks=(2,), dtype="<i4",
                              compressors=[Crc32cCodec()])  # fmt: skip
    plain[:4] = [1, 2, 3, 4]
    shards = root.create_array("shards", shape=(8,), chunks=(2,), shards=(4,), dtype="<i4",
                               compressors=[Crc32cCodec()])  # fmt: skip
    shards[:6] = [1, 2, 3, 4, 5, 6]
    for key, place in (("plain/c/1", 0), ("shards/c/0", 14)):
        value = stored(store)[key]
        buffer = zarr.core.buffer.cpu.Buffer.from_bytes(flip(place)(value))
        zarr.core.sync.sync(store.set(key, buffer))


@each_kind(read_only=True)
def test_every_store(kind: Kind, tmp_path: Path, services: Services) -> None:
    if 3 not in kind.formats:
        return
    store = filled(kind, tmp_path, services, damaged_arrays)
    group = zarr.open_group(store, mode="r+" if kind.writable else "r")
    # Those who serve files cannot list them, so that the arrays have to be named.
    arrays: Any = [group["plain"], group["shards"]]
    found = [one for array in arrays for one in zarrs.check(array).findings]
    assert [(one.kind, one.key, one.inner_chunk) for one in found] == [
        ("damaged", "plain/c/1", None),
        ("damaged", "shards/c/0", (1,)),
    ]
    if kind.name == "fsspec-reference":
        return  # it tells wrong sizes, so that indexes at the end are not found
    assert [one.size for one in found] == [12, 12]
    missing = [one for array in arrays for one in zarrs.check(array).missing]
    assert [(one.key, one.inner_chunk) for one in missing] == [
        ("plain/c/2", None),
        ("shards/c/1", (1,)),
    ]
    if not (kind.writable and kind.deletes):
        with pytest.raises(ValueError, match="cannot be repaired"):
            zarrs.check(group["plain"], repair=True)
        return
    for array in arrays:
        assert len(zarrs.check(array, repair=True).deleted) == 1
        assert zarrs.check(array).is_sound
    assert arrays[0][:].tolist() == [1, 2, 0, 0, 0, 0]
    assert arrays[1][:].tolist() == [1, 2, 0, 0, 5, 6, 0, 0]
    assert not zarr.core.sync.sync(store.exists("plain/c/1"))


@dataclass(frozen=True)
class Suffixed(ChunkKeyEncoding):
    """Names of chunks that end in a version."""

    name: ClassVar[str] = "own.suffixed"

    def encode_chunk_key(self, chunk_coords: tuple[int, ...]) -> str:
        return "/".join(["c", *map(str, chunk_coords)]) + ".v5"


class Failing(AsyncOnly):
    """Raises when it is asked for some chunks."""

    async def get(self, key: str, *args: Any, **kw: Any) -> Any:
        if key.endswith("c/1"):
            raise PermissionError(f"not for you: {key}")
        return await super().get(key, *args, **kw)


class Unlisted(AsyncOnly):
    """Lists nothing, as a web server."""

    async def list_prefix(self, prefix: str) -> Any:
        raise NotImplementedError
        yield


@pytest.mark.parametrize("shards", [None, (4,)])
def test_what_stores_raise_is_no_damage(shards: Any) -> None:
    store = Failing()
    array = zarr.create_array(store, shape=(12,), chunks=(2,), shards=shards, dtype="i4")
    array[...] = range(1, 13)
    before = dict(store.held)
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("unreadable", "c/1", None)]
    assert "PermissionError: not for you" in report.findings[0].message
    assert store.held == before


class Mistaken(AsyncOnly):
    """Does not know how long its values are."""

    async def getsize(self, key: str) -> int:
        return len(self.held[key]) + 7 if key in self.held else await super().getsize(key)


def test_stores_that_tell_wrong_sizes() -> None:
    """So that the index is not where it should be: it is not damaged, as a reader finds it."""
    store = Mistaken()
    array = sharded(store)
    value = bytearray(store.held["c/0/0"])
    value[3] ^= 1
    store.held["c/0/0"] = bytes(value)
    report = zarrs.check(array, repair=True)
    assert kinds(report) == [("damaged", "c/0/0", (0, 0))]
    assert report.deleted == report.findings
    assert array[:2, :3].tolist() == [[0, 0, 3], [0, 0, 11]]


class SilentlyUnlisted(AsyncOnly):
    """Lists nothing, and does not say so."""

    async def list_prefix(self, prefix: str) -> Any:
        nothing: list[str] = []
        for key in nothing:
            yield key


@pytest.mark.parametrize("kind", [Unlisted, SilentlyUnlisted])
def test_stores_that_list_nothing(kind: type[AsyncOnly]) -> None:
    store = kind()
    array = zarr.create_array(store, shape=(12,), chunks=(2,), dtype="i4")
    array[4:] = range(1, 9)
    store.held["c/3"] = b"rubbish"
    report = zarrs.check(array)
    assert kinds(report) == [("damaged", "c/3", None)]
    assert [one.key for one in report.missing] == ["c/0", "c/1"]


def test_temporary_files_in_other_stores(tmp_path: Path) -> None:
    class Own(LocalStore):
        pass

    plain(tmp_path)
    (tmp_path / f"c/0/1.{THEIRS}.partial").write_bytes(b"123")
    report = zarrs.check(zarr.open_array(Own(tmp_path)))
    assert [(one.kind, one.key, one.size) for one in report.findings] == [
        ("temporary", f"c/0/1.{THEIRS}.partial", 3)
    ]


@pytest.mark.skipif(not ZARR_34, reason="zarr knows two encodings only")
def test_names_that_only_zarr_can_tell(tmp_path: Path) -> None:
    """They end in a number of their own."""
    newer("zarr.registry", "register_chunk_key_encoding")("own.suffixed", Suffixed)
    array = plain(tmp_path, chunk_key_encoding=Suffixed())
    change(tmp_path / "c/1/2.v5", flip(1))
    report = zarrs.check(array)
    assert kinds(report) == [("damaged", "c/1/2.v5", None)]
    assert report.stored_chunks == 9


# -------------------------------------------------------------------------------------- repair


@pytest.mark.parametrize("chain", [c for c in CORE_CHAINS if c.verified], ids=str)
def test_repair_deletes_what_is_damaged_and_nothing_else(tmp_path: Path, chain: Chain) -> None:
    array = plain(tmp_path, chain, fill_value=7)
    before = stored_files(tmp_path)
    keys = sorted(before)[4:6]
    for key in keys:
        change(tmp_path / key, flip(-2))
    report = zarrs.check(array, repair=True)
    assert [one.key for one in report.deleted] == keys
    assert "deleted 2 of these" in str(report)
    assert stored_files(tmp_path) == {k: v for k, v in before.items() if k not in keys}
    expected = DATA.copy()
    expected[4:8, 4:] = 7
    assert (array[...] == expected).all()


@pytest.mark.parametrize(
    ("zarr_format", "dtype", "fill"),
    [
        *((2, "<f8", None), (2, "<i4", 5), (2, "U3", "x"), (3, "<f4", np.nan), (3, "<f8", -0.0)),
        *((3, "<M8[ns]", None), (3, "<U3", "abc"), (3, [("a", "<i2"), ("b", "<f8")], None)),
        *((3, ">i4", 9), (3, str, "x")),
    ],
)
@pytest.mark.parametrize("empty", [False, True])
def test_fill_values(tmp_path: Path, zarr_format: Any, dtype: Any, fill: Any, empty: bool) -> None:
    """Nothing is written in the place of what is deleted, also where empty chunks are."""
    codec: Any = numcodecs.Zlib() if zarr_format == 2 else [Crc32cCodec()]
    how = {} if fill is None and zarr_format == 3 else {"fill_value": fill}
    array = zarr.create_array(tmp_path, shape=(4,), chunks=(2,), dtype=dtype, compressors=codec,
                              zarr_format=zarr_format, config={"write_empty_chunks": True},
                              **how)  # fmt: skip
    array[...] = array[...]
    keys = sorted(stored_files(tmp_path))
    assert len(keys) == 2
    change(tmp_path / keys[1], flip(-1))
    with zarr.config.set({"codec_pipeline.store_empty_chunks": empty}):
        array = ours_open(tmp_path).with_config({"write_empty_chunks": True})
        assert len(zarrs.check(array, repair=True).deleted) == 1
    assert sorted(stored_files(tmp_path)) == keys[:1]


@pytest.mark.parametrize("what", ["chunk", "inner chunk"])
def test_what_has_become_sound_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Another process has written it between the check and the repair."""
    array = plain(tmp_path) if what == "chunk" else sharded(tmp_path)
    file = tmp_path / "c/0/0"
    before = file.read_bytes()
    change(file, flip(1))
    look = StoredArray.look

    def once(self: Any, number: int) -> Any:
        chunk = look(self, number)
        if number == 0:
            file.write_bytes(before)
        return chunk

    monkeypatch.setattr(StoredArray, "look", once)
    report = zarrs.check(array, repair=True)
    assert [one.kind for one in report.findings] == ["damaged"]
    assert report.deleted == ()
    assert file.read_bytes() == before


@pytest.mark.parametrize("in_memory", [False, True])
def test_writers_of_the_same_chunk_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """From before a chunk is looked at for the second time until it is deleted."""
    array = sharded(MemoryStore() if in_memory else tmp_path)
    data = array[...]
    store: Any = array.store
    if in_memory:
        value = store._store_dict["c/0/0"].to_bytes()
        store._store_dict["c/0/0"] = store._store_dict["c/0/0"].from_bytes(flip(1)(value))
    else:
        change(tmp_path / "c/0/0", flip(1))
    writer = threading.Thread(target=array.__setitem__, args=((slice(0, 2), slice(0, 2)), 77))
    looks = []
    look = StoredArray.look

    def watched(self: Any, number: int) -> Any:
        looks.append(number)
        if looks.count(0) == 2 and number == 0:
            writer.start()
            writer.join(0.2)
            assert writer.is_alive()
        return look(self, number)

    monkeypatch.setattr(StoredArray, "look", watched)
    assert len(zarrs.check(array, repair=True).deleted) == 1
    writer.join()
    data[:2, :2] = 77
    assert (array[...] == data).all()


def test_caches_learn_of_a_repair(tmp_path: Path) -> None:
    plain(tmp_path)
    cached = zarrs.open_array(str(tmp_path), mode="r+", cache_bytes=10**6)
    assert (cached[...] == DATA).all()
    change(tmp_path / "c/0/0", flip(1))
    assert len(zarrs.check(cached, repair=True).deleted) == 1
    assert (cached[:4, :4] == 0).all()


@pytest.mark.parametrize("how", ["store", "array", "group", "zip"])
def test_nothing_is_begun_that_cannot_be_done(tmp_path: Path, how: str) -> None:
    if how == "zip":
        with ZipStore(tmp_path / "a.zip", mode="w") as store:
            array = zarr.create_array(store, shape=(4,), chunks=(2,), dtype="i4")
            array[...] = 1
            with pytest.raises(
                ValueError, match="cannot be repaired: its store cannot delete, so copy"
            ):
                zarrs.check(array, repair=True)
        return
    root = zarr.create_group(tmp_path)
    root.create_array("a", shape=(4,), chunks=(2,), dtype="i4", compressors=None)[...] = 1
    change(tmp_path / "a/c/0", lambda data: b"")
    node: Any = zarr.open_group(tmp_path, mode="r")
    if how == "array":
        node = node["a"]
    elif how == "store":
        node = zarr.open_array(LocalStore(tmp_path / "a", read_only=True), mode="r")
    with pytest.raises(
        ValueError,
        match=r"array .* cannot be repaired: its store is read-only, so open it with mode='r\+'",
    ):
        zarrs.check(node, repair=True)
    assert not zarrs.check(node).is_sound
    assert (tmp_path / "a/c/0").exists()


def test_a_repair_that_fails_goes_on(tmp_path: Path) -> None:
    """And says why."""

    class Stubborn(AsyncOnly):
        async def delete(self, key: str) -> None:
            if key == "c/0":
                raise OSError("not today")
            await super().delete(key)

    store = Stubborn()
    array = zarr.create_array(store, shape=(6,), chunks=(2,), dtype="i4", compressors=None)
    array[...] = 1
    for key in ("c/0", "c/1"):
        store.held[key] = b"too few"
    report = zarrs.check(array, repair=True)
    assert [one.key for one in report.deleted] == ["c/1"]
    assert "it could not be deleted: not today" in report.findings[0].message
    assert set(store.held) == {"zarr.json", "c/0", "c/2"}


# -------------------------------------------------------------------------------------- report


def test_the_text(tmp_path: Path) -> None:
    array = sharded(tmp_path)
    assert str(zarrs.check(array)).splitlines() == [
        "4 of 4 chunks stored in 1 array, with 16 of 16 inner chunks: 592 bytes",
        "sound",
    ]
    change(tmp_path / "c/0/0", flip(1))
    (tmp_path / "c/1/1").write_bytes(b"")
    (tmp_path / f"c/0/0.{OURS}.partial").write_bytes(bytes(1234))
    report = zarrs.check(array)
    lines = str(report).splitlines()
    assert lines[1] == "not sound: 2 damaged, 1 temporary"
    assert lines[2] == f"temporary: c/0/0.{OURS}.partial (1,234 bytes)"
    assert lines[3].startswith("damaged: c/0/0, inner chunk (0, 0) (20 bytes): codec 'crc32c'")
    assert len(lines) == 5
    assert repr(report) == f"<CheckReport: {lines[0]}; {lines[1]}>"
    assert repr(report.missing) == "<0 missing>"
    assert len(report.by_kind("damaged")) == 2
    with pytest.raises(
        ValueError, match=r"kind must be one of 'damaged', 'too long', .*, not 'to long'"
    ):
        report.by_kind("to long")
    copy = pickle.loads(pickle.dumps(report))
    assert copy == report
    assert list(copy.missing) == list(report.missing)


def test_long_lists_are_shortened(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path, shape=(64,), chunks=(2,), dtype="i4", compressors=None)
    array[...] = 1
    for key in stored_files(tmp_path):
        change(tmp_path / key, lambda data: data[:-1])
    report = zarrs.check(array)
    assert len(report.findings) == 32
    assert len(str(report).splitlines()) == 13
    assert "and 22 more in .findings" in str(report)


# ------------------------------------------------------------------------- threads and progress


def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the options allow; of other stores, as many requests."""
    plain(tmp_path)
    make = StoredArray
    monkeypatch.setattr("zarrs._config.available_cpus", lambda: 64)
    with zarr.config.set({"threading.max_workers": 3, "async.concurrency": 10}):
        assert make(ours_open(tmp_path)).threads == 3
        remote = zarr.create_array(AsyncOnly(), shape=(4,), dtype="i4")
        assert make(remote).threads == 10
    with zarr.config.set({"async.concurrency": None}):
        assert make(remote).threads == 32


def test_inside_of_event_loops() -> None:
    """Threads of zarr's own loop would wait for it; any other is just blocked meanwhile."""
    array = zarr.create_array(AsyncOnly(), shape=(4,), chunks=(2,), dtype="i4")
    array[...] = 1

    async def work() -> Any:
        return zarrs.check(array)

    assert asyncio.run(work()).stored_chunks == 2
    with pytest.raises(RuntimeError, match=r"zarrs\.check\(\) was called in zarr's event loop"):
        asyncio.run_coroutine_threadsafe(work(), _get_loop()).result(60)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_no_work_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    array = zarr.create_array(tmp_path, shape=(400,), chunks=(2,), dtype="i4", compressors=None)
    array[...] = 1
    looks: list[int] = []
    look = StoredArray.look

    def failing(self: Any, number: int) -> Any:
        looks.append(number)
        if number == 5:
            raise error
        return look(self, number)

    monkeypatch.setattr(StoredArray, "look", failing)
    before = threading.active_count()
    with pytest.raises(error):
        zarrs.check(array)
    assert threading.active_count() <= before + 1  # native ones end by themselves
    assert not any(thread.name.startswith("zarrs-check") for thread in threading.enumerate())
    assert len(looks) < 100


def test_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    group = zarr.create_group(tmp_path)
    for name in ("a", "[b]"):
        group.create_array(name, shape=(40,), chunks=(2,), dtype="i4")[...] = 1
    report = zarrs.check(group, progress=True)
    assert report == zarrs.check(group)
    out, err = capfd.readouterr()
    assert out == ""
    assert "40/40" in err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", err)


def test_progress_without_rich(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = plain(tmp_path)
    change(tmp_path / "c/0/0", flip(0))
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    assert not zarrs.check(array).is_sound
    with pytest.raises(ImportError, match=r"needs the package rich.*zarrs-cython\[cli\]"):
        zarrs.check(array, repair=True, progress=True)
    assert (tmp_path / "c/0/0").exists()


def test_rich_is_not_imported_without_need() -> None:
    code = "import sys, zarr, zarrs; zarrs.check(zarr.create_array({}, shape=(4,), dtype='i4'))\n"
    code += "assert 'rich.progress' not in sys.modules"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=child_environment())


# ------------------------------------------------------------------------------------ referees


@pytest.mark.parametrize("sizes", [4, [4, 2, 6, 4]])
@pytest.mark.parametrize("extent", range(17))
def test_axes(sizes: Any, extent: int) -> None:
    axis = Axis.of(sizes, extent)
    edges = [4] * 4 if sizes == 4 else sizes
    borders = np.cumsum([0, *edges]).tolist()
    spans = [slice(a, b) for a, b in pairwise(borders) if a < extent]
    assert [axis.span(i) for i in range(axis.n_chunks)] == spans
    assert axis.extent == (spans[-1].stop if spans else 0)


@settings(max_examples=60, deadline=None)
@given(st.data())
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_random_damage(zarr_format: Any, data: Any) -> None:
    """It lists the chunks that zarr's default pipeline cannot read, and no other ones."""
    store = MemoryStore()
    codec: Any = numcodecs.Zlib(1) if zarr_format == 2 else [ZstdCodec(), Crc32cCodec()]
    array = zarr.create_array(store, shape=(5, 5), chunks=(2, 2), dtype="<i4", compressors=codec,
                              zarr_format=zarr_format)  # fmt: skip
    expected = np.arange(1, 26, dtype="<i4").reshape(5, 5)
    array[...] = expected
    keys = sorted(stored(store))
    for key in data.draw(st.sets(st.sampled_from(keys), max_size=4)):
        _damage(store, key, data)
    with stock():
        theirs = zarr.open_array(store)
    wrong = [key for key in keys if not _reads(theirs, key, expected)]
    report = zarrs.check(array)
    assert sorted(one.key for one in report.findings) == wrong
    zarrs.check(array, repair=True)
    assert sorted(stored(store)) == [key for key in keys if key not in wrong]
    assert zarrs.check(array).is_sound


def _damage(store: Any, key: str, data: Any) -> None:
    """Change bytes, cut some off, or append some."""
    value = bytearray(stored(store)[key])
    how = data.draw(st.sampled_from(["flip", "cut", "append", "empty"]))
    if how == "flip":
        for place in data.draw(st.sets(st.integers(0, len(value) - 1), min_size=1, max_size=3)):
            value[place] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del value[data.draw(st.integers(0, len(value) - 1)) :]
    elif how == "append":
        value += data.draw(st.binary(min_size=1, max_size=4))
    else:
        value.clear()
    store._store_dict[key] = store._store_dict[key].from_bytes(bytes(value))


def _reads(array: Any, key: str, expected: np.ndarray) -> bool:
    """Whether zarr reads what was written from a chunk."""
    i, j = (int(n) for n in re.findall(r"\d", key))
    box = slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2)
    try:
        return bool((np.asarray(array[box]) == expected[box]).all())
    except Exception:
        return False
