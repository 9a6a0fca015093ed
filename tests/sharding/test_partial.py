"""Parts of shards: what a read fetches, what a write merges and what neither has to touch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from covering import WAYS, each_pair
from helpers import (
    ZARR_34,
    assert_same,
    make_data,
    ours_open,
    stock_open,
    stock_read,
    stock_write,
    stored_files,
)
from shardings import CORE, DEFAULT, DTYPE, READS, each_layout, shardings
from shards import (
    COUNTS,
    INNER,
    SHAPE,
    SHARDING,
    Layout,
    Sharding,
    assert_stored,
    create_sharded,
    in_threads,
)
from zarr.codecs import BytesCodec, ShardingCodec
from zarr.core.buffer.cpu import NDBuffer

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]


@pytest.mark.parametrize("selection", READS)
def test_reads(native: None, tmp_path: Path, selection: str) -> None:
    """Also where whole shards and some inner chunks of others are missing."""
    data = make_data(DTYPE, SHAPE)
    key = READS[selection]
    for name in CORE:
        path = tmp_path / name
        create_sharded(path, SHARDING[name], fill_value=-3)
        stock_write(path, ..., data)
        assert_same(ours_open(path)[key], data[key], name)
        stock_write(path, slice(3, 24), -3)
        stock_write(path, (13, 5, 7), 99)
        sparse = data.copy()
        sparse[3:24] = -3
        sparse[13, 5, 7] = 99
        assert_same(ours_open(path)[key], sparse[key], f"{name}, partly filled")


@each_pair(
    access=WAYS,
    sharding=[SHARDING[n] for n in ("raw-big", "zstd", "before-rotated", "nested-start-end")],
    kind=["c", "fortran", "strided"],
    out_dtype=["<i4", ">i4", "<f8"],
)
def test_out(tmp_path: Path, sharding: Sharding, kind: str, out_dtype: str) -> None:
    """`out` may have any layout, and another type is converted."""
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding, fill_value=7)
    array[:14] = data[:14]
    data[14:] = 7
    for selection in (..., (slice(1, 20, 2), slice(3, 15), slice(2, None))):
        shape = data[selection].shape
        out = np.zeros(shape, out_dtype, order="F" if kind == "fortran" else "C")
        if kind == "strided":
            out = np.zeros([2 * n for n in shape], out_dtype)[::2, ::2, ::2]
        array.get_basic_selection(selection, out=NDBuffer.from_numpy_array(out))
        assert_same(out, data[selection].astype(out_dtype))


@pytest.mark.skipif(not ZARR_34, reason="the setting came with zarr 3.4")
def test_missing_shards_may_be_errors(tmp_path: Path) -> None:
    """A missing shard is a missing chunk; a missing inner chunk is none."""
    config: Any = {"read_missing_chunks": False}
    array = create_sharded(tmp_path, DEFAULT, (24,), shard=(12,), inner=(4,), config=config)
    array[1] = 5
    expected = np.zeros(24, DTYPE)
    expected[1] = 5
    with zarr.config.set({"array.read_missing_chunks": False}):
        theirs = stock_open(tmp_path)
    assert_same(array[:12], expected[:12])
    assert_same(theirs[:12], expected[:12])
    for selection in (slice(None), 13, slice(10, 14)):
        with pytest.raises(Exception, match=r"c/1|[Cc]hunk") as caught:
            theirs[selection]
        with pytest.raises(caught.type):
            array[selection]


# -------------------------------------------------------------------------------- writing


@each_pair(access=WAYS, selection=[*READS], kind=["values", "scalar"])
def test_writes(native: None, tmp_path: Path, selection: str, kind: str) -> None:
    """Into a full array, and into one of which nothing is there yet."""
    key = READS[selection]
    old = make_data(DTYPE, SHAPE)
    value: Any = make_data(DTYPE, old[key].shape, seed=6) if kind == "values" else 12345
    for name in CORE if kind == "values" else CORE[::3]:
        for state in ("full", "absent"):
            path = tmp_path / name / state
            array = create_sharded(path, SHARDING[name], fill_value=-3)
            data = np.full(SHAPE, -3, DTYPE)
            if state == "full":
                stock_write(path, ..., old)
                data[...] = old
            array[key] = data[key] = value
            assert_same(array[...], data, f"{name} {state}")
            assert_stored(path, SHARDING[name], data)


VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fortran": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "backwards": lambda x: x[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "stride-zero": lambda x: np.broadcast_to(x[:1], x.shape),
}


@pytest.mark.parametrize("kind", VALUES)
@shardings("index-end-little-crc32c", "zstd-start", "before-rotated", "nested")
def test_values_of_any_layout(native: None, tmp_path: Path, sharding: Sharding, kind: str) -> None:
    value = VALUES[kind](make_data(DTYPE, SHAPE))
    expected = np.asarray(value, DTYPE).copy()
    array = create_sharded(tmp_path, sharding)
    array[...] = value
    assert_same(array[...], expected)
    part = VALUES[kind](make_data(DTYPE, (9, 11, 7), seed=2))
    array[8:17, 4:15, 3:10] = expected[8:17, 4:15, 3:10] = part
    assert_same(array[...], expected)
    assert_same(stock_read(tmp_path), expected)


@each_layout
def test_partial_write_to_an_absent_shard(native: None, tmp_path: Path, layout: Layout) -> None:
    """Only the inner chunks that are touched are stored."""
    layout = layout.of(*COUNTS)
    array = create_sharded(
        tmp_path, DEFAULT, fill_value=4,
        serializer=ShardingCodec(chunk_shape=INNER, codecs=[BytesCodec()], **layout.keywords),
    )  # fmt: skip
    array[13:18, 2, 7] = 1  # inner chunks (0, 0, 1) and (1, 0, 1) of shard (1, 0, 0)
    ((name, blob),) = stored_files(tmp_path).items()
    assert name == "c/1/0/0"
    chunks = layout.split(blob)
    assert set(chunks) == {(0, 0, 1), (1, 0, 1)}
    expected = np.full(INNER, 4, DTYPE)
    expected[1:, 2, 1] = 1
    assert chunks[0, 0, 1] == expected.tobytes()
    assert len(blob) == layout.size + 2 * expected.nbytes
    array[12, 0, 0] = 4  # the fill value: nothing to store
    assert stored_files(tmp_path) == {name: blob}
    array[0, 0, 0] = 4
    assert set(stored_files(tmp_path)) == {name}


@pytest.mark.parametrize("fill_value", [0, 6])
@each_layout
def test_emptied(native: None, tmp_path: Path, layout: Layout, fill_value: int) -> None:
    """Inner chunks of nothing but fill values leave the index, and in the end the shard goes."""
    layout = layout.of(4)
    serializer = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()], **layout.keywords)
    array = create_sharded(
        tmp_path, DEFAULT, (14,), shard=(8,), inner=(2,), serializer=serializer,
        fill_value=fill_value,
    )  # fmt: skip
    array[...] = np.arange(10, 24)
    file = tmp_path / "c" / "0"
    array[2:4] = fill_value  # all of it at once
    assert set(layout.split(file.read_bytes())) == {(0,), (2,), (3,)}
    array[4] = fill_value  # by and by
    array[5] = fill_value
    assert set(layout.split(file.read_bytes())) == {(0,), (3,)}
    assert len(file.read_bytes()) == layout.size + 16
    array[0:8:7] = fill_value
    assert set(layout.split(file.read_bytes())) == {(0,), (3,)}
    array[1] = fill_value
    assert set(layout.split(file.read_bytes())) == {(3,)}
    assert (tmp_path / "c" / "1").exists()
    array[6:13] = fill_value
    assert not file.exists()
    array[13] = np.full((), fill_value)
    assert stored_files(tmp_path) == {}
    assert (np.asarray(array[...]) == fill_value).all()
    array[...] = fill_value  # nothing there to delete
    assert stored_files(tmp_path) == {}


@pytest.mark.parametrize("name", ["nested", "nested-twice-mixed", "after-gzip", "before-rotated"])
def test_emptied_with_codecs_around(native: None, tmp_path: Path, name: str) -> None:
    sharding = SHARDING[name]
    array = create_sharded(tmp_path, sharding)
    array[...] = data = make_data(DTYPE, SHAPE)
    array[12:24, 0:12] = data[12:24, 0:12] = 0
    assert_stored(tmp_path, sharding, data)
    array[...] = 0
    assert stored_files(tmp_path) == {}


def test_emptied_inner_shards(native: None, tmp_path: Path) -> None:
    """A shard in a shard that is all empty is no entry of the outer index."""
    sharding = SHARDING["nested-zstd"]
    outer = sharding.outer[0].of(2, 1, 1)
    array = create_sharded(tmp_path, sharding, (24, 12, 12))
    array[...] = 3
    file = tmp_path / "c/0/0/0"
    assert set(outer.split(file.read_bytes())) == {(0, 0, 0), (1, 0, 0)}
    array[:12] = 0
    assert set(outer.split(file.read_bytes())) == {(1, 0, 0)}
    array[12:] = 0
    assert not file.exists()


@pytest.mark.parametrize("option", ["array", "pipeline"])
@each_layout
def test_empty_chunks_are_stored_on_demand(
    native: None, tmp_path: Path, layout: Layout, option: str
) -> None:
    """``write_empty_chunks`` of the array, or ``store_empty_chunks`` of the pipeline."""
    layout = layout.of(4)
    serializer = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()], **layout.keywords)
    config: Any = {"write_empty_chunks": option == "array"}
    with zarr.config.set({"codec_pipeline.store_empty_chunks": option == "pipeline"}):
        array = create_sharded(
            tmp_path, DEFAULT, (16,), shard=(8,), inner=(2,), serializer=serializer, config=config
        )
    array[:8] = 0
    blob = (tmp_path / "c" / "0").read_bytes()
    assert layout.split(blob) == {(i,): bytes(8) for i in range(4)}
    array[:8] = np.arange(1, 9)
    array[2:6] = 0
    assert set(layout.split((tmp_path / "c" / "0").read_bytes())) == {(i,) for i in range(4)}
    array[9:12] = 0  # of a shard that is not there: what is touched
    blob = (tmp_path / "c" / "1").read_bytes()
    assert layout.split(blob) == {(i,): bytes(8) for i in (0, 1)}


def test_fill_values_that_look_alike(native: None, tmp_path: Path) -> None:
    """-0.0 is no 0.0, and any NaN is a NaN, for inner chunks too."""
    layout = Layout((4,))
    for name, fill, values, stored in (
        ("zero", 0.0, [0.0, 0.0, -0.0, 0.0, 1.0, 0.0, 0.0, 0.0], {(1,), (2,)}),
        ("nan", np.nan, [np.nan, np.nan, 0.0, np.nan, np.nan, 5.0, np.nan, -np.nan], {(1,), (2,)}),
    ):
        kw: dict[str, Any] = {"shard": (8,), "inner": (2,), "fill_value": fill}
        path = tmp_path / name
        array = create_sharded(path, DEFAULT, (8,), "<f8", **kw)
        array[...] = values
        assert set(layout.split((path / "c" / "0").read_bytes())) == stored
        if name == "zero":
            assert_same(array[...], np.array(values))


# ------------------------------------------------------------- what a write has no need to read

WHOLE_SHARDS: dict[str, Any] = {
    "one": (slice(12, 24), slice(0, 12), slice(0, 12)),
    "edge": (slice(24, None), slice(0, 12), slice(0, 12)),
    "corner": (slice(24, None), slice(12, None), slice(12, None)),
    "row": (slice(0, 12),),
    "all": ...,
}


@pytest.mark.parametrize("selection", WHOLE_SHARDS)
@shardings(
    *("index-end-little-crc32c", "index-start-big-bare", "zstd", "inside-rotated-zstd"),
    *("before-rotated", "after-gzip", "before-and-after"),
)
def test_complete_writes_do_not_read(
    native: None, tmp_path: Path, sharding: Sharding, selection: str
) -> None:
    """A torn shard does not stop its own replacement.

    Overhanging edges included where codecs are around the shards: else they are merged, see
    `test_overhang.py`.
    """
    is_codec_around = bool(sharding.before or sharding.after)
    shape = SHAPE if is_codec_around else tuple(-(-n // 12) * 12 for n in SHAPE)
    array = create_sharded(tmp_path, sharding, shape, fill_value=2)
    data = make_data(DTYPE, shape)
    array[...] = data
    key = WHOLE_SHARDS[selection]
    old = stored_files(tmp_path)
    create_sharded(tmp_path / "mark", sharding, shape)[key] = 1
    covered = set(stored_files(tmp_path / "mark"))
    for garbage in (b"torn", b"", b"\xff" * 5000):
        for value in (make_data(DTYPE, data[key].shape, seed=2), 4):
            for name in covered:
                (tmp_path / name).write_bytes(garbage)
            array[key] = data[key] = value
            assert_same(array[...], data)
    assert_stored(tmp_path, sharding, data)
    for name in covered:
        (tmp_path / name).write_bytes(b"torn")
    array[key] = data[key] = 2
    assert covered.isdisjoint(stored_files(tmp_path))
    for name in set(old) - covered:
        assert (tmp_path / name).read_bytes() == old[name]


@pytest.mark.parametrize("name", ["nested", "nested-twice-mixed"])
def test_complete_writes_of_nested_shards_do_not_read(
    native: None, tmp_path: Path, name: str
) -> None:
    shape = (48, 48, 48)
    array = create_sharded(tmp_path, SHARDING[name], shape)
    array[...] = data = make_data(DTYPE, shape)
    for file in stored_files(tmp_path):
        (tmp_path / file).write_bytes(b"torn")
    array[...] = data[...] = make_data(DTYPE, shape, seed=3)
    assert_stored(tmp_path, SHARDING[name], data)


@shardings("index-end-little-crc32c", "index-start-big-bare", "zstd", "nested", "after-gzip")
def test_integers_that_cover_a_shard(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """An integer on an axis of shards of one item makes shards complete, with an axis less."""
    array = create_sharded(tmp_path, sharding, (4, 12), shard=(1, 6), inner=(1, 2))
    array[...] = data = make_data(DTYPE, (4, 12))
    for name in stored_files(tmp_path):
        (tmp_path / name).write_bytes(b"torn")
    if sharding.outer:  # its shards are two rows high
        array[...] = data
        return
    for row in range(4):
        array[row] = data[row]
    assert_same(array[...], data)


@shardings("zstd", "nested", "before-rotated")
def test_appending(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Small appends through a growing edge shard."""
    rows = make_data("<f4", (31, 7))
    array = create_sharded(tmp_path, sharding, (0, 7), "<f4", shard=(12, 6), inner=(2, 2))
    for start in range(0, 31, 3):
        array.append(rows[start : start + 3])
    assert_same(array[...], rows)
    assert_stored(tmp_path, sharding, rows)


# ------------------------------------------------------------------------- files and threads


@shardings("index-start-little-crc32c", "zstd", "before-and-after", "nested-zstd")
def test_shards_are_replaced_at_once(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Whoever has the old file open reads on in it; nothing temporary is left."""
    array = create_sharded(tmp_path, sharding)
    array[...] = 1
    file = tmp_path / "c/0/0/0"
    for selection in (..., (slice(1, 3), 4, 5)):
        with file.open("rb") as reader:
            before, inode = file.read_bytes(), file.stat().st_ino
            array[selection] = make_data(DTYPE, np.zeros(SHAPE)[selection].shape)
            assert file.stat().st_ino != inode
            assert file.read_bytes() != before
            assert reader.read() == before
    assert [p for p in tmp_path.rglob("*") if "partial" in p.name] == []


@shardings("index-end-little-crc32c", "zstd-start", "before-rotated", "after-gzip", "nested-zstd")
def test_threads_merge_into_one_shard(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Threads that write different inner chunks of one shard lose nothing."""
    array = create_sharded(tmp_path, sharding, (32, 32), shard=(32, 32), inner=(4, 32))
    twin = ours_open(tmp_path)  # another array object on the same files

    def write(i: int) -> None:
        mine = array if i % 2 else twin
        for k in range(8):
            mine[4 * i : 4 * i + 4, 4 * k : 4 * k + 4] = i * 100 + k + 1

    in_threads(8, write)
    expected = (np.arange(32) // 4)[:, None] * 100 + np.arange(32) // 4 + 1
    assert_same(array[...], expected.astype(DTYPE))
    assert_same(stock_read(tmp_path), expected.astype(DTYPE))


@shardings("crc32c-start", "zstd")
def test_readers_see_whole_shards(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """While one thread replaces shards, others read old or new ones, never a mixture."""
    array = create_sharded(tmp_path, sharding, (3, 4000), shard=(1, 4000), inner=(1, 500))
    array[...] = 1
    done: list[int] = []

    def work(i: int) -> None:
        try:
            for number in range(2, 30) if i == 0 else ():
                array[...] = number
        finally:
            if i == 0:
                done.append(1)
        while not done:
            rows = np.asarray(array[:, 100:3900])
            assert (rows == rows[:, :1]).all()
            assert rows.min() >= 1

    in_threads(3, work)
    assert (np.asarray(array[...]) == 29).all()


def test_changes_between_reads_are_seen(native: None, tmp_path: Path) -> None:
    """No index is kept: other writers, deletion and resizing show at once."""
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, SHARDING["zstd"], fill_value=9)
    array[...] = data
    assert_same(array[3:20, 4], data[3:20, 4])
    other = make_data(DTYPE, SHAPE, seed=8)
    stock_write(tmp_path, ..., other)
    assert_same(array[3:20, 4], other[3:20, 4])
    assert_same(array[...], other)
    (tmp_path / "c/1/0/0").unlink()
    other[12:24, :12, :12] = 9
    assert_same(array[3:20, 4], other[3:20, 4])
    array.resize((12, 17, 13))
    array.resize(SHAPE)
    other[12:] = 9
    assert_same(array[...], other)
