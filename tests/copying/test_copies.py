"""Copies are equal to what was copied, whatever they are stored like."""

import json
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from dtype_table import DTYPE_CASES, NESTED, DtypeCase
from helpers import (
    MIXED_STRUCT,
    ZARR_34,
    TensorStore,
    assert_same,
    make_data,
    stock,
    stock_read,
    stored_files,
    zarr_has,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.codecs import numcodecs as wrapped
from zarr.storage import MemoryStore

import zarrs
from zarrs.copying._regions import RegionError

pytestmark = [
    pytest.mark.usefixtures("pipeline"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part in the Zarr"),
]


def copied(source: Any, target: Any, **wishes: Any) -> Any:
    """The copy, opened by zarr with its own pipeline, and verified on the way."""
    zarrs.copy(source, target, verify=True, **wishes)
    with stock():
        return zarr.open(target, mode="r")


# ------------------------------------------------------------------------------------- layouts

DATA = {name: make_data(name, (24, 24, 24), seed=1) for name in ("<i2", "<f4", ">f8", "<c8", "|b1")}


@st.composite
def layouts(draw: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any], dict[str, Any]]:
    """How a source is made, what is in it, and how it is to be copied."""
    shape = tuple(draw(st.lists(st.integers(1, 24), min_size=0, max_size=3)))
    dtype = draw(st.sampled_from(sorted(DATA)))
    formats = [draw(st.sampled_from([2, 3])) for _ in range(2)]

    def grid(zarr_format: int) -> dict[str, Any]:
        chunks = tuple(draw(st.integers(1, n + 2)) for n in shape)
        if zarr_format == 2 or draw(st.booleans()):
            return {"chunks": chunks}
        return {"chunks": chunks, "shards": tuple(n * draw(st.integers(1, 3)) for n in chunks)}

    source: dict[str, Any] = {"zarr_format": formats[0], **grid(formats[0])}
    if formats[0] == 3:
        source["dtype"] = np.dtype(dtype).newbyteorder("=")
        if np.dtype(dtype).itemsize > 1 and draw(st.booleans()):
            source["serializer"] = BytesCodec(endian="big")
        source["compressors"] = draw(
            st.sampled_from([None, [ZstdCodec()], [GzipCodec(level=1), Crc32cCodec()]])
        )
    else:
        source["dtype"] = dtype
        source["order"] = draw(st.sampled_from("CF"))
        source["compressors"] = draw(st.sampled_from([None, numcodecs.Zlib(1), numcodecs.LZ4()]))
    wishes: dict[str, Any] = {"zarr_format": formats[1]}
    if draw(st.booleans()) or (formats[1] == 2 and "shards" in source):
        wishes |= {"shards": None} | grid(formats[1])
    if draw(st.booleans()):
        wishes["compressors"] = draw(st.sampled_from([None, ["zstd"], [numcodecs.Zlib(2)]]))
    data = np.array(DATA[dtype][tuple(slice(n) for n in shape) + (0,) * (3 - len(shape))])
    if shape and draw(st.booleans()):
        data[shape[0] // 2 :] = 0
    return {"shape": shape, **source}, data, wishes


@settings(max_examples=150, deadline=None)
@given(layouts(), st.integers(1, 40))
def test_every_layout_into_every_other(layout: Any, kib: int) -> None:
    """With any memory that is enough for a chunk."""
    made, data, wishes = layout
    source = zarr.create_array({}, **made)
    source[...] = data
    target: dict[str, Any] = {}
    try:
        array = copied(source, target, memory=kib * 1024, **wishes)
    except RegionError:
        array = copied(source, target, **wishes)
    assert_same(array[...], data)
    assert array.metadata.zarr_format == wishes["zarr_format"]
    if "chunks" in wishes:
        assert array.chunks == wishes["chunks"]
        assert array.shards == wishes.get("shards")
    assert array.fill_value == source.fill_value


@pytest.mark.parametrize("case", DTYPE_CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("way", ["same", "other"])
def test_every_data_type(case: DtypeCase, way: str) -> None:
    """In its own format and in the other, with the same chunks and with others."""
    if case.newer_zarr():
        pytest.skip(case.newer_zarr())
    store = MemoryStore()
    source: Any = case.make_array(store, None)  # type: ignore[arg-type]
    data = case.row.data(source.dtype, source.shape)
    source[...] = data
    zarr_format = case.zarr_format if way == "same" else 5 - case.zarr_format
    for wishes in ({}, {"chunks": (5, 4)}):
        if source.dtype.names and zarr_format == 3 and not zarr_has(MIXED_STRUCT, 3):
            continue
        if zarr_format == 2 and source.dtype == np.dtype(NESTED) and not ZARR_34:
            with pytest.raises(ValueError, match="cannot be stored as asked for"):
                copied(source, {}, zarr_format=zarr_format, **wishes)
            continue
        array = copied(source, {}, zarr_format=zarr_format, **wishes)
        assert_equal(array[...], source[...])
        assert_equal(array.fill_value, source.fill_value)


def assert_equal(one: Any, other: Any) -> None:
    one, other = np.asarray(one), np.asarray(other)
    if one.dtype.kind in "TO":
        assert (one == other).all()
    else:
        assert_same(one, other)


# -------------------------------------------------------------------------------------- codecs

V2_CHAINS: dict[str, dict[str, Any]] = {
    "zlib": {"compressors": numcodecs.Zlib(3)},
    "gzip": {"compressors": numcodecs.GZip(3)},
    "bz2": {"compressors": numcodecs.BZ2(3)},
    "lzma": {"compressors": numcodecs.LZMA()},
    "lz4": {"compressors": numcodecs.LZ4(2)},
    "zstd": {"compressors": numcodecs.Zstd(3, checksum=True)},
    "blosc": {"compressors": numcodecs.Blosc("zstd", 3, numcodecs.Blosc.BITSHUFFLE, 256)},
    "blosc-auto": {"compressors": numcodecs.Blosc("lz4", 3, numcodecs.Blosc.AUTOSHUFFLE)},
    "order-F": {"compressors": numcodecs.Zlib(3), "order": "F"},
    "big-endian": {"compressors": numcodecs.Zlib(3), "dtype": ">i4"},
    "shuffle": {"filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib(3)},
    "delta": {"filters": [numcodecs.Delta("<i4")], "compressors": numcodecs.Zlib(3)},
    "delta-F": {"filters": [numcodecs.Delta("<i4")], "compressors": None, "order": "F"},
    "checksum": {"filters": [numcodecs.Zlib(3)], "compressors": numcodecs.Adler32()},
    "nothing": {"compressors": None},
}
AS_STORED = set(V2_CHAINS) - {"delta", "delta-F"}


@pytest.mark.parametrize("name", V2_CHAINS)
def test_codecs_of_format_2_in_format_3_and_back(tmp_path: Path, name: str) -> None:
    """They store the same bytes, so chunks are copied as they are; the way back is the same."""
    source = zarr.create_array(tmp_path / "a", shape=(13, 11), chunks=(5, 4), zarr_format=2,
                               **{"dtype": "<i4"} | V2_CHAINS[name])  # fmt: skip
    source[...] = data = make_data("i4", (13, 11))
    report = zarrs.copy(source, tmp_path / "b", zarr_format=3)
    assert report.arrays_as_stored == (name in AS_STORED)
    assert_same(stock_read(tmp_path / "b"), data)
    report = zarrs.copy(tmp_path / "b", tmp_path / "c", zarr_format=2)
    assert report.arrays_as_stored == (name in AS_STORED)
    assert_same(stock_read(tmp_path / "c"), data)
    before, after = (json.loads((tmp_path / d / ".zarray").read_text()) for d in "ac")
    if name == "blosc-auto":  # format 3 says what it is
        assert after["compressor"].pop("shuffle") == numcodecs.Blosc.SHUFFLE
        assert before["compressor"].pop("shuffle") == numcodecs.Blosc.AUTOSHUFFLE
    for document in (before, after):
        document["compressor"] = dict(sorted((document["compressor"] or {}).items()))
    assert after == before
    if name in AS_STORED:
        assert stored_files(tmp_path / "c") == stored_files(tmp_path / "a")


@pytest.mark.parametrize(
    ("codecs", "expected"),
    [
        ({"compressors": [BloscCodec(cname="lz4hc", clevel=7, shuffle="shuffle")]},
         {"compressor": {"id": "blosc", "cname": "lz4hc", "clevel": 7, "shuffle": 1,
                         "blocksize": 0}}),
        ({"compressors": [ZstdCodec(level=5, checksum=True), GzipCodec(level=2)]},
         {"filters": [{"id": "zstd", "level": 5, "checksum": True}],
          "compressor": {"id": "gzip", "level": 2}}),
        ({"compressors": lambda: [wrapped.LZ4(acceleration=3)]},
         {"compressor": {"id": "lz4", "acceleration": 3}}),
        ({"compressors": None, "filters": [TransposeCodec(order=(1, 0))]}, {"order": "F"}),
        ({"compressors": None, "serializer": BytesCodec(endian="big")}, {"dtype": ">f4"}),
        ({"compressors": None, "filters": lambda: [wrapped.BitRound(keepbits=20)]},
         {"filters": [{"id": "bitround", "keepbits": 20}]}),
    ],
)  # fmt: skip
def test_codecs_of_format_3_in_format_2(tmp_path: Path, codecs: Any, expected: Any) -> None:
    # zarr 3.1 warns of some when they are made.
    made = {key: value() if callable(value) else value for key, value in codecs.items()}
    source = zarr.create_array({}, shape=(13, 11), chunks=(5, 4), dtype="f4", **made)
    source[...] = make_data("f4", (13, 11))
    array = copied(source, tmp_path, zarr_format=2)
    assert_same(array[...], source[...])
    assert expected.items() <= json.loads((tmp_path / ".zarray").read_text()).items()


def test_a_checksum_of_format_3_in_format_2(tmp_path: Path) -> None:
    source = zarr.create_array({}, shape=(8,), chunks=(4,), dtype="f4", compressors=[Crc32cCodec()])
    source[...] = np.arange(8)
    assert zarrs.copy(source, tmp_path, zarr_format=2, verify=True).arrays_as_stored == 1
    assert json.loads((tmp_path / ".zarray").read_text())["compressor"]["id"] == "crc32c"


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "codec",
    [
        "zstd",
        {"name": "zstd", "configuration": {"level": 4, "checksum": False}},
        {"id": "zstd", "level": 4},
        ZstdCodec(level=4),
        numcodecs.Zstd(4),
    ],
    ids=str,
)
def test_codecs_are_asked_for_in_the_words_of_either_format(codec: Any, zarr_format: Any) -> None:
    source = zarr.create_array({}, shape=(8,), chunks=(4,), dtype="f4", zarr_format=5 - zarr_format)
    source[...] = np.arange(8)
    array = copied(source, {}, zarr_format=zarr_format, compressors=[codec])
    assert array.compressors[0].level == (0 if codec == "zstd" else 4)
    assert type(array.compressors[0]) is (ZstdCodec if zarr_format == 3 else numcodecs.Zstd)


def test_what_is_not_asked_for_stays(tmp_path: Path) -> None:
    """Other compressors leave the chunks, other chunks the codecs."""
    source = zarr.create_array(tmp_path / "a", shape=(12, 12), chunks=(2, 3), shards=(6, 6),
                               dtype="i4", filters=[TransposeCodec(order=(1, 0))],
                               serializer=BytesCodec(endian="big"), compressors=[GzipCodec()],
                               fill_value=7, attributes={"a": [1]}, dimension_names=["x", None],
                               chunk_key_encoding={"name": "v2", "separator": "."})  # fmt: skip
    source[:5] = data = make_data("i4", (5, 12))
    before = json.loads((tmp_path / "a/zarr.json").read_text())
    for wishes in ({"compressors": ["zstd"]}, {"chunks": (3, 2)}, {"shards": (12, 6)}):
        target = tmp_path / str(*wishes)
        array = copied(source, target, **wishes)
        assert_same(array[:5], data)
        assert (array[5:] == 7).all()
        after = json.loads((target / "zarr.json").read_text())
        for document in (before, after) if target.name == "compressors" else (after,):
            sharding = document["codecs"][0]["configuration"]
            if target.name == "compressors":
                sharding["codecs"].pop()
            if target.name == "chunks":
                assert sharding["chunk_shape"] == [3, 2]
                sharding["chunk_shape"] = [2, 3]
        if target.name == "shards":
            assert after["chunk_grid"]["configuration"]["chunk_shape"] == [12, 6]
            after["chunk_grid"] = before["chunk_grid"]
        assert {**after, "codecs": 0} == {**before, "codecs": 0}
        assert (target / "0.0").exists()


def test_odd_shards_are_copied_as_they_are(tmp_path: Path) -> None:
    inner = ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()])
    source = zarr.create_array(tmp_path / "a", shape=(30,), chunks=(4,), shards=(8,), dtype="i4",
                               serializer=inner, compressors=None)  # fmt: skip
    source[...] = np.arange(30)
    assert zarrs.copy(source, tmp_path / "b", verify=True).arrays_as_stored == 1
    assert stored_files(tmp_path / "b") == stored_files(tmp_path / "a")
    with pytest.raises(ValueError, match=r"shards in shards.*leave chunks, shards, codecs"):
        zarrs.copy(source, tmp_path / "c", chunks=5)


@pytest.mark.skipif(not ZARR_34, reason="zarr has regular grids only")
def test_chunks_of_several_sizes(tmp_path: Path) -> None:
    with zarr.config.set({"array.rectilinear_chunks": True}):
        chunks: Any = [[3, 4, 5], [2, 4]]
        source = zarr.create_array(tmp_path / "a", shape=(12, 6), chunks=chunks, dtype="i4")
        source[...] = data = np.arange(72).reshape(12, 6)
        cases: dict[str, Any] = {
            "same": {}, "codecs": {"compressors": ["gzip"]}, "regular": {"chunks": (5, 5)},
            "shards": {"chunks": (2, 2), "shards": (4, 6)}, "v2": {"chunks": 5, "zarr_format": 2},
        }  # fmt: skip
        for target, wishes in cases.items():
            array = copied(source, tmp_path / target, **wishes)
            assert (array[...] == data).all()
            if target in ("same", "codecs"):
                assert array.metadata.chunk_grid == source.metadata.chunk_grid
        refused: Any = (
            ({"shards": (4, 4)}, "several sizes.*pass chunks of one size"),
            ({"zarr_format": 2}, "no chunks of several sizes: pass chunks of one size"),
        )
        for wishes, message in refused:
            with pytest.raises(ValueError, match=message):
                zarrs.copy(source, tmp_path / "not", **wishes)


# ---------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize("wishes", [{}, {"chunks": (7, 5)}, {"chunks": (2, 2), "shards": (8, 8)}],
                         ids=["as stored", "chunks", "shards"])  # fmt: skip
def test_sparse_arrays_stay_sparse(tmp_path: Path, wishes: Any) -> None:
    """Whatever the options say of empty chunks."""
    source = zarr.create_array(tmp_path / "a", shape=(100, 100), chunks=(5, 5), dtype="f4",
                               fill_value=np.nan)  # fmt: skip
    source[50:52, 20:22] = 1
    with zarr.config.set(
        {"codec_pipeline.store_empty_chunks": True, "array.write_empty_chunks": True}
    ):
        report = zarrs.copy(source, tmp_path / "b", memory="64KiB", verify=True, **wishes)
    assert 1 <= len(stored_files(tmp_path / "b")) <= 2
    assert report.n_bytes < source.nbytes / 2
    assert_same(stock_read(tmp_path / "b"), source[...])


def test_missing_chunks_are_no_error_while_copying(tmp_path: Path) -> None:
    source = zarr.create_array(tmp_path / "a", shape=(8,), chunks=(2,), dtype="i4")
    source[:2] = 1
    with zarr.config.set({"array.read_missing_chunks": False}):
        zarrs.copy(tmp_path / "a", tmp_path / "b", chunks=8, verify=True)
    assert stock_read(tmp_path / "b").tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_of_nothing(shape: Any, zarr_format: Any) -> None:
    source = zarr.create_array({}, shape=shape, dtype="i4", zarr_format=zarr_format, fill_value=3)
    for target_format in (2, 3):
        array = copied(source, {}, zarr_format=target_format, compressors=None)
        assert array.shape == shape
        assert array.fill_value == 3


# -------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("formats", [(2, 2), (2, 3), (3, 2), (3, 3)], ids=str)
@pytest.mark.parametrize("is_consolidated", [True, False])
def test_groups_with_all_that_is_below(tmp_path: Path, formats: Any, is_consolidated: bool) -> None:
    first, second = formats
    root = zarr.create_group(tmp_path / "a", zarr_format=first, attributes={"title": "é"})
    root.create_group("empty")
    deep = root.create_group("x/y", attributes={"k": {"n": [1, None]}})
    names: Any = {"dimension_names": ["t", "x"]} if first == 3 else {
        "attributes": {"_ARRAY_DIMENSIONS": ["t", "x"]}}  # fmt: skip
    deep.create_array("data", shape=(6, 5), chunks=(2, 5), dtype="f8", **names)[...] = 1.5
    root.create_array("time", shape=(6,), chunks=(6,), dtype="i8")[...] = range(6)
    if is_consolidated:
        zarr.consolidate_metadata(tmp_path / "a")
    group = copied(tmp_path / "a", tmp_path / "b", zarr_format=second, chunks=(3, 3))
    assert (group.metadata.consolidated_metadata is not None) == is_consolidated
    assert group.metadata.zarr_format == second
    assert dict(group.attrs) == {"title": "é"}
    members = dict(group.members(max_depth=None))
    assert sorted(members) == ["empty", "time", "x", "x/y", "x/y/data"]
    assert dict(members["x/y"].attrs) == {"k": {"n": [1, None]}}
    assert members["x/y/data"].chunks == (3, 3)
    assert members["time"].chunks == (6,)
    assert members["time"][...].tolist() == list(range(6))
    assert (members["x/y/data"][...] == 1.5).all()
    if second == 3:
        assert members["x/y/data"].metadata.dimension_names == ("t", "x")
        assert dict(members["x/y/data"].attrs) == {}
    else:
        assert members["x/y/data"].attrs["_ARRAY_DIMENSIONS"] == ["t", "x"]
    # The same without what is consolidated.
    plain = zarr.open_group(tmp_path / "b", mode="r", use_consolidated=False)
    assert sorted(dict(plain.members(max_depth=None))) == sorted(members)
    assert not (tmp_path / "b/.zarrs.copy").exists()


def test_consolidated_metadata_of_a_group_further_down(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "a")
    root.create_array("x/y/z", shape=(1,), dtype="i4")
    zarr.consolidate_metadata(tmp_path / "a", path="x")
    group = copied(tmp_path / "a", tmp_path / "b")
    assert group.metadata.consolidated_metadata is None
    inner = zarr.open_consolidated(tmp_path / "b", path="x")
    assert sorted(dict(inner.members(max_depth=None))) == ["y", "y/z"]


def test_xarray_reads_a_copy_in_the_other_format(tmp_path: Path) -> None:
    xr = pytest.importorskip("xarray")
    dataset = xr.Dataset(
        {"t": (("y", "x"), make_data("i4", (6, 8)), {"units": "K"})}, {"x": np.arange(8)}
    )
    formats: Any = (2, 3)
    for first in formats:
        path = tmp_path / str(first)
        dataset.to_zarr(path, zarr_format=first)
        zarrs.copy(path, tmp_path / f"{first}b", zarr_format=formats[3 - first], chunks=(4, 4))
        # Not masked: of format 2 xarray takes the fill value for what is missing.
        with xr.open_zarr(tmp_path / f"{first}b", mask_and_scale=False) as copy:
            xr.testing.assert_equal(copy.load(), dataset)
            assert copy["t"].attrs["units"] == "K"


# ------------------------------------------------------------------------------------- referee


@pytest.mark.parametrize(("zarr_format", "is_sharded"), [(2, False), (3, False), (3, True)])
def test_tensorstore_reads_what_was_written(
    tmp_path: Path, zarr_format: Any, is_sharded: bool
) -> None:
    source = zarr.create_array({}, shape=(37, 29), chunks=(6, 7), dtype="f4",
                               zarr_format=5 - zarr_format, compressors="auto")  # fmt: skip
    source[...] = data = make_data("f4", (37, 29))
    wishes: Any = {"chunks": (4, 5), "shards": (16, 10)} if is_sharded else {"chunks": (16, 9)}
    zarrs.copy(source, tmp_path, zarr_format=zarr_format, compressors=["blosc"], memory="32KiB",
               **wishes)  # fmt: skip
    assert_same(TensorStore(tmp_path, zarr_format).read(), data)
