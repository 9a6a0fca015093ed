"""Fill values, chunks that are not stored, and which chunks are complete."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    CHAIN,
    MIXED_STRUCT,
    STRUCT,
    ZARR_34,
    Chain,
    assert_same,
    create,
    dtype_id,
    make_data,
    newer,
    ours_open,
    stock,
    stock_read,
    stock_write,
    stored_files,
)

NAN_PAYLOAD = np.array([0x7FC00123], "<u4").view("<f4")[0]

FILLS: list[tuple[Any, Any]] = [
    ("<i4", 7),
    ("<u8", 2**64 - 1),
    ("bool", True),
    ("<f2", 1.5),
    ("<f4", 0.0),
    ("<f4", -0.0),
    ("<f8", np.nan),
    ("<f8", -np.inf),
    (">f8", 2.5),
    ("<c8", complex(np.nan, 1)),
    ("<c16", complex(1.5, -0.0)),
    ("<M8[s]", "NaT"),
    ("<M8[ns]", np.datetime64(12345, "ns")),
    ("<m8[ms]", np.timedelta64(-3, "ms")),
    ("<U3", "ab"),
    ("S3", b"ab"),
    ("V3", b"abc"),
    ("V5", b"\0\0\1\0\0"),
    (STRUCT, (3, 1.5, b"xy")),
    (MIXED_STRUCT, (3, 1.5, 9)),
]
each_fill = pytest.mark.parametrize(
    ("dtype", "fill"), [(np.dtype(d), f) for d, f in FILLS], ids=dtype_id
)
each_chain = pytest.mark.parametrize(
    "chain",
    [CHAIN[n] for n in ("raw", "rotated-big-zstd-crc32c", "v2-raw-F", "v2-blosc")],
    ids=str,
)

pytestmark = pytest.mark.usefixtures("access")


def as_scalar(dtype: np.dtype, fill: Any) -> np.ndarray:
    """The fill value as a 0-d array."""
    raw = dtype.kind == "V" and dtype.names is None
    return np.frombuffer(fill, dtype).reshape(()) if raw else np.array(fill, dtype)


def skip_lost_byte_order(chain: Chain, dtype: np.dtype) -> None:
    if dtype == MIXED_STRUCT and chain.zarr_format == 3 and not ZARR_34:
        pytest.skip("zarr before 3.4 forgets the byte order of fields in format 3")


@each_chain
@each_fill
def test_missing_chunks_hold_the_fill_value(
    native: None, tmp_path: Path, chain: Chain, dtype: np.dtype, fill: Any
) -> None:
    """Chunks that were never written, and the rest of chunks written in part."""
    skip_lost_byte_order(chain, dtype)
    scalar = as_scalar(dtype, fill)
    array = create(tmp_path, chain, (7, 6), (3, 4), dtype, fill_value=scalar[()])
    expected = np.full((7, 6), scalar, dtype)
    assert_same(array[...], expected)
    assert_same(ours_open(tmp_path)[1:6:2, 3], expected[1:6:2, 3])
    assert_same(array[2, 5], expected[2, 5])
    value = make_data(dtype, (2, 2))
    if dtype.kind == "c":  # to zarr any complex NaN is the fill value; see LOOKALIKES
        value[...] = [[1, 2j], [-3, 4 - 5j]]
    array[2:4, 1:3] = expected[2:4, 1:3] = value
    assert_same(array[...], expected)
    assert_same(stock_read(tmp_path), expected, "zarr")


@pytest.mark.parametrize("dtype", ["<i4", "<f8", "<M8[s]", "<U3", "V3"])
def test_format_2_without_fill_value(native: None, tmp_path: Path, dtype: str) -> None:
    """``fill_value: null`` reads as the type's default, as in zarr."""
    array = create(tmp_path, CHAIN["v2-zlib-9"], (7,), (3,), dtype, fill_value=None)
    assert json.loads((tmp_path / ".zarray").read_text())["fill_value"] is None
    array[1:2] = value = make_data(dtype, (1,))
    expected = np.asarray(stock_read(tmp_path))
    assert_same(expected[1:2], value)
    assert_same(array[...], expected)
    assert_same(ours_open(tmp_path)[::2], expected[::2])


# --------------------------------------------------------------------------- empty chunks

Write = Callable[[zarr.Array[Any], np.ndarray], None]


def _all_fill(array: zarr.Array[Any], fill: np.ndarray) -> None:
    array[...] = np.full(array.shape, fill, array.dtype)


def _scalar_fill(array: zarr.Array[Any], fill: np.ndarray) -> None:
    array[...] = fill[()]


def _some(array: zarr.Array[Any], fill: np.ndarray) -> None:
    array[1:4] = make_data(array.dtype, (3, 6), seed=1)


def _then_empty(array: zarr.Array[Any], fill: np.ndarray) -> None:
    array[...] = make_data(array.dtype, array.shape, seed=1)
    array[0:5] = np.full((5, 6), fill, array.dtype)


def _part_by_part(array: zarr.Array[Any], fill: np.ndarray) -> None:
    array[...] = make_data(array.dtype, array.shape, seed=1)
    for row in range(4):
        array[row] = np.full(6, fill, array.dtype)


def _edge(array: zarr.Array[Any], fill: np.ndarray) -> None:
    array[6:, 4:] = make_data(array.dtype, (1, 2), seed=1)
    array[6:, 4:] = np.full((1, 2), fill, array.dtype)


WRITES: dict[str, Write] = {
    "fill": _all_fill,
    "scalar-fill": _scalar_fill,
    "some": _some,
    "then-empty": _then_empty,
    "part-by-part": _part_by_part,
    "edge": _edge,
}


def written_by_both(
    tmp_path: Path, chain: Chain, dtype: np.dtype, fill: np.ndarray, write: Write, **config: Any
) -> tuple[Path, Path]:
    """The same writes through this pipeline and through zarr's default pipeline."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path, context in ((ours, nullcontext()), (theirs, stock())):
        with context:
            array = create(path, chain, (7, 6), (3, 4), dtype, fill_value=fill[()], config=config)
            write(array, fill)
    return ours, theirs


@pytest.mark.parametrize("keep_empty", [False, True])
@pytest.mark.parametrize("write", WRITES)
@each_fill
def test_the_same_chunks_are_stored(
    native: None, tmp_path: Path, dtype: np.dtype, fill: Any, write: str, keep_empty: bool
) -> None:
    """The key set and the data equal those of zarr's default pipeline."""
    chain = CHAIN["v2-raw" if dtype == MIXED_STRUCT else "raw"]
    ours, theirs = written_by_both(
        tmp_path, chain, dtype, as_scalar(dtype, fill), WRITES[write], write_empty_chunks=keep_empty
    )
    assert set(stored_files(ours)) == set(stored_files(theirs))
    assert_same(ours_open(ours)[...], stock_read(theirs))


# A value that equals the fill value without being the same bits. Where zarr calls such a chunk
# empty, so may this pipeline; else it must be stored bit by bit.
LOOKALIKES: list[tuple[Any, Any, Any, bool]] = [
    ("<f4", 0.0, -0.0, True),
    ("<f8", -0.0, 0.0, True),
    ("<f2", 0.0, -0.0, True),
    (">f4", 0.0, -0.0, True),
    ("<f4", np.nan, NAN_PAYLOAD, False),
    ("<c8", 0j, complex(0.0, -0.0), False),
    ("<c8", complex(np.nan, 1), complex(2, np.nan), False),
    (STRUCT, (0, 0.0, b""), (0, -0.0, b""), False),
    ("<i4", 0, 0, False),
    ("<M8[s]", "NaT", "NaT", False),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "fill", "value", "must_store"),
    LOOKALIKES,
    ids=[f"{dtype_id(row[0])}-{row[2]}" for row in LOOKALIKES],
)
def test_values_that_look_like_the_fill_value(
    native: None,
    tmp_path: Path,
    dtype: Any,
    fill: Any,
    value: Any,
    must_store: bool,
    zarr_format: int,
) -> None:
    """-0.0 is stored where 0.0 is the fill value, whole chunks, parts and scalars alike."""
    dtype = np.dtype(dtype)
    chain = CHAIN["raw" if zarr_format == 3 else "v2-raw"]
    data = np.full((6,), np.array(value, dtype))
    fill_scalar = np.array(fill, dtype)[()]
    for i, selection in enumerate((slice(0, 3), slice(0, 2), slice(2, 6))):
        ours, theirs = tmp_path / f"ours{i}", tmp_path / f"theirs{i}"
        array = create(ours, chain, (6,), (3,), dtype, fill_value=fill_scalar)
        array[selection] = data[selection]
        with stock():
            other = create(theirs, chain, (6,), (3,), dtype, fill_value=fill_scalar)
            other[selection] = data[selection]
        mine, keys = set(stored_files(ours)), set(stored_files(theirs))
        if must_store:
            assert mine == keys
            assert mine
            assert_same(array[selection], data[selection])
        elif mine != keys:
            assert mine > keys
            assert_same(array[selection], data[selection])


def test_one_different_item_is_found_anywhere(native: None, tmp_path: Path) -> None:
    """A chunk is empty only if all of it is: one item anywhere keeps it."""
    for place in (0, 1, 63, 64, 500, 998, 999):
        for dtype in ("u1", "<u2", "<f8", "V3", "S12", "<c16"):
            where = tmp_path / f"{dtype}-{place}"
            array = create(where, CHAIN["raw"], (1000,), (1000,), dtype)
            data = np.zeros(1000, dtype)
            data[place] = np.array(b"\1" * 3 if dtype[0] in "VS" else 1, dtype)
            array[...] = data
            assert len(stored_files(where)) == 1, (dtype, place)
            assert_same(array[...], data)


@pytest.mark.parametrize("scalar", [True, False])
def test_write_empty_chunks_from_the_configuration(
    native: None, tmp_path: Path, scalar: bool
) -> None:
    """``array.write_empty_chunks`` decides for arrays that do not say it themselves."""
    for keep, count in ((True, 6), (False, 0)):
        with zarr.config.set({"array.write_empty_chunks": keep}):
            array = create(tmp_path / str(keep), CHAIN["zstd"], (6, 6), (2, 3), "<i4")
            array[...] = 0 if scalar else np.zeros((6, 6), "<i4")
        assert len(stored_files(tmp_path / str(keep))) == count


def test_store_empty_chunks(native: None, tmp_path: Path) -> None:
    """``codec_pipeline.store_empty_chunks`` keeps what the array would drop."""
    for name, option, count in (("none", None, 0), ("false", False, 0), ("true", True, 6)):
        setting = {} if option is None else {"codec_pipeline.store_empty_chunks": option}
        with zarr.config.set(setting):
            array = create(tmp_path / name, CHAIN["zstd"], (6, 6), (2, 3), "<i4")
            array[...] = 0
            assert len(stored_files(tmp_path / name)) == count
            assert_same(array[...], np.zeros((6, 6), "<i4"))


@each_chain
def test_chunks_that_become_empty_are_deleted(native: None, tmp_path: Path, chain: Chain) -> None:
    """Whether by one write or bit by bit; deleting what is not there is no error."""
    array = create(tmp_path, chain, (6, 4), (3, 4), "<i4", fill_value=5)
    array[...] = make_data("<i4", (6, 4))
    assert len(stored_files(tmp_path)) == 2
    array[:3] = 5
    assert len(stored_files(tmp_path)) == 1
    for row in range(3, 6):
        array[row] = 5
    assert stored_files(tmp_path) == {}
    array[...] = 5
    array[1:2] = 5
    assert stored_files(tmp_path) == {}
    assert_same(array[...], np.full((6, 4), 5, "<i4"))


# ------------------------------------------------------------------------- missing chunks


@pytest.mark.skipif(not ZARR_34, reason="read_missing_chunks came with zarr 3.4")
@pytest.mark.parametrize("name", ["zstd", "v2-zlib-9"])
def test_read_missing_chunks(native: None, tmp_path: Path, name: str) -> None:
    """With ``read_missing_chunks=False`` zarr names every chunk that is not there."""
    ChunkNotFoundError = newer("zarr.errors", "ChunkNotFoundError")  # noqa: N806

    with zarr.config.set({"array.read_missing_chunks": False}):
        array = create(tmp_path, CHAIN[name], (6, 4), (3, 4), "<i4")
        array[:3] = data = make_data("<i4", (3, 4))
        assert_same(array[:3], data)
        with pytest.raises(ChunkNotFoundError) as error:
            array[...]
        assert "(1, 0)" in str(error.value)
        assert "(0, 0)" not in str(error.value)
        with pytest.raises(ChunkNotFoundError):
            array[4, 2]
        array[...] = 1  # writing needs no chunk to be there
        assert (np.asarray(array[...]) == 1).all()


@pytest.mark.skipif(not ZARR_34, reason="read_missing_chunks came with zarr 3.4")
def test_read_missing_chunks_of_what_falls_back(tmp_path: Path) -> None:
    """The same without the native path: another store, another selection, shards."""
    ChunkNotFoundError = newer("zarr.errors", "ChunkNotFoundError")  # noqa: N806

    with zarr.config.set({"array.read_missing_chunks": False}):
        for store, kw in (
            (zarr.storage.MemoryStore(), {}),
            (tmp_path / "plain", {}),
            (tmp_path / "shards", {"shards": (6, 4)}),
        ):
            array = create(store, CHAIN["zstd"], (6, 4), (3, 4), "<i4", **kw)
            with pytest.raises(ChunkNotFoundError):
                array.oindex[[0, 5], :]  # type: ignore[index]  # zarr takes lists, too


# ------------------------------------------------------------------------ complete chunks


@each_chain
def test_shrink_write_grow(native: None, tmp_path: Path, chain: Chain) -> None:
    """What a shrunk array rewrote completely does not bring old items back when it grows."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for path, context in ((ours, nullcontext()), (theirs, stock())):
        with context:
            array = create(path, chain, (10,), (4,), "<i4", fill_value=-1)
            array[...] = np.arange(1, 11)
            array.resize((6,))
            array[...] = np.arange(101, 107)
            array.resize((10,))
    expected = np.array([*range(101, 107), -1, -1, -1, -1], "<i4")
    assert_same(ours_open(ours)[...], expected)
    assert_same(stock_read(theirs), expected)


@each_chain
def test_torn_chunks_do_not_stop_their_replacement(
    native: None, tmp_path: Path, chain: Chain
) -> None:
    """A chunk that a write covers completely is not read first, edge chunks included."""
    array = create(tmp_path, chain, (7, 6), (3, 4), "<i4")
    data = make_data("<i4", (7, 6))
    array[...] = data
    files = [tmp_path / name for name in stored_files(tmp_path)]
    assert len(files) == 6
    for file in files:
        file.write_bytes(b"torn")
    array[...] = data
    assert_same(array[...], data)
    for file in files:
        file.write_bytes(b"")
    array[...] = 5  # a scalar too
    assert_same(stock_read(tmp_path), np.full((7, 6), 5, "<i4"))


def test_integers_that_cover_a_chunk(native: None, tmp_path: Path) -> None:
    """An integer on an axis of chunks of one item makes chunks complete, with an axis less."""
    array = create(tmp_path, CHAIN["zstd"], (3, 6), (1, 4), "<i4")
    data = make_data("<i4", (3, 6))
    array[...] = data
    for name in stored_files(tmp_path):
        (tmp_path / name).write_bytes(b"torn")
    for row in range(3):
        array[row] = data[row]
    assert_same(array[...], data)
    array[1] = 3
    data[1] = 3
    assert_same(stock_read(tmp_path), data)


@each_chain
def test_appending(native: None, tmp_path: Path, chain: Chain) -> None:
    """Small appends through a growing edge chunk."""
    array = create(tmp_path, chain, (0, 5), (4, 3), "<f4")
    rows = make_data("<f4", (11, 5))
    for start in range(0, 11, 3):
        array.append(rows[start : start + 3])
    assert_same(array[...], rows)
    stock_write(tmp_path, slice(2, 9), rows[2:9][::-1])
    rows[2:9] = rows[2:9][::-1].copy()
    assert_same(array[...], rows)
