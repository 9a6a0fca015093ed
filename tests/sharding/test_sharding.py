"""Shards in both directions: written here and read by zarr, written by zarr and read here."""

import gzip
import json
import pickle
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from covering import WAYS, each_pair
from helpers import (
    MIXED_STRUCT,
    STRUCT,
    ZARR_34,
    TensorStore,
    assert_same,
    make_data,
    ours_open,
    selections,
    stock,
    stock_read,
    stock_write,
    stored_files,
)
from shardings import DEFAULT, DTYPE, check_reads, shardings
from shards import (
    COUNTS,
    INNER,
    LAYOUTS,
    SHAPE,
    SHARD,
    SHARDING,
    SHARDINGS,
    Layout,
    Sharding,
    assert_stored,
    create_sharded,
    tensorstore_has,
)
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

import zarrs
from zarrs._core import NativeChain, Shard

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]

each_sharding = pytest.mark.parametrize("sharding", SHARDINGS, ids=str)


# ------------------------------------------------------------------------- there and back


@each_sharding
def test_explain(tmp_path: Path, sharding: Sharding) -> None:
    """Every way to shard is native in all its parts."""
    explanation = zarrs.explain(create_sharded(tmp_path, sharding))
    assert explanation.native, str(explanation)
    assert "sharding_indexed" in str(explanation)


@each_sharding
def test_written_here_reads_elsewhere(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding)
    array[...] = data
    assert_same(array[...], data, "ours")
    assert_stored(tmp_path, sharding, data)


@each_sharding
def test_written_elsewhere_reads_here(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE, seed=1)
    create_sharded(tmp_path, sharding)
    stock_write(tmp_path, ..., data)
    array = ours_open(tmp_path)
    assert_same(array[...], data, "after zarr")
    assert_same(array[3:26:2, 5, 2:], data[3:26:2, 5, 2:], "after zarr, partly")
    if tensorstore_has(sharding, DTYPE):
        other = make_data(DTYPE, SHAPE, seed=2)
        TensorStore(tmp_path, 3).write(other)
        assert_same(array[...], other, "after TensorStore")
        assert_same(array[1:9, 15:, ::3], other[1:9, 15:, ::3], "after TensorStore, partly")


@pytest.mark.parametrize(
    "sharding", [s for s in SHARDINGS if s.deterministic], ids=str
)  # whatever compresses may have another version inside
def test_the_same_files_as_zarr(native: None, tmp_path: Path, sharding: Sharding) -> None:
    """Written whole or in parts, emptied in parts, in every order of inner chunks."""
    ours = create_sharded(tmp_path / "ours", sharding, fill_value=5)
    with stock():
        theirs = create_sharded(tmp_path / "theirs", sharding, fill_value=5)
    steps: list[tuple[Any, Any]] = [
        (..., make_data(DTYPE, SHAPE)),
        ((slice(2, 21), slice(3, 14), slice(5, 9)), make_data(DTYPE, (19, 11, 4), seed=1)),
        (slice(None, None, 5), 8),
        (slice(0, 12), 5),  # shards go, the larger ones of nested levels in part
        ((slice(12, 17), slice(0, 12), slice(0, 7)), 5),  # an inner chunk goes
        ((13, 1, 1), 6),
    ]
    for selection, value in steps:
        ours[selection] = value
        with stock():
            theirs[selection] = value
        expected = stored_files(tmp_path / "theirs")
        actual = stored_files(tmp_path / "ours")
        assert list(actual) == list(expected), selection
        for name in actual:
            assert actual[name] == expected[name], (selection, name)


@pytest.mark.skipif(not ZARR_34, reason="subchunk_write_order came with zarr 3.4")
def test_unordered(native: None, tmp_path: Path) -> None:
    """No order is promised, but the inner chunks are the same, with nothing between them."""
    sharding, data = SHARDING["order-unordered"], make_data(DTYPE, SHAPE)
    layout = sharding.layout.of(*COUNTS)
    create_sharded(tmp_path / "ours", sharding)[...] = data
    with stock():
        create_sharded(tmp_path / "theirs", sharding)[...] = data
    expected = stored_files(tmp_path / "theirs")
    for name, blob in stored_files(tmp_path / "ours").items():
        assert layout.split(blob) == layout.split(expected[name])
        assert len(blob) == len(expected[name])


@pytest.mark.skipif(not ZARR_34, reason="subchunk_write_order came with zarr 3.4")
@pytest.mark.parametrize("order", ["morton", "lexicographic", "colexicographic"])
def test_write_order(native: None, tmp_path: Path, order: str) -> None:
    """By the numbers; a pickled array keeps it; partial writes too."""
    sharding = SHARDING[f"order-{order}"]
    layout = sharding.layout.of(3, 2, 2)
    array = create_sharded(tmp_path, sharding, (12, 8, 6), shard=(12, 8, 6), inner=(4, 4, 3))
    coords = list(np.ndindex(3, 2, 2))
    if order == "colexicographic":
        coords.sort(key=lambda c: c[::-1])
    elif order == "morton":  # bits of the coordinates in turn, those of the first axis lowest
        coords.sort(
            key=lambda c: sum((c[i] >> b & 1) << 3 * b + i for b in (0, 1) for i in (0, 1, 2))
        )
    for a in (array, pickle.loads(pickle.dumps(array))):
        a[...] = make_data(DTYPE, (12, 8, 6))
        assert layout.order((tmp_path / "c/0/0/0").read_bytes()) == coords
        a[3:7, 1, 2] = 7
        assert layout.order((tmp_path / "c/0/0/0").read_bytes()) == coords


# --------------------------------------------------------------------- types, shapes, grids

TYPES: list[Any] = [
    *map(np.dtype, ("u1", ">i2", "<f4", ">f8", "<c16", "bool", "<M8[ns]", "<U3", "S3", "<f2")),
    *([np.dtype("V5"), STRUCT, MIXED_STRUCT] if ZARR_34 else ()),  # 3.1.6 cannot hash their fills
]


TYPES_SHARDINGS = (
    *("raw-big", "crc32c-start", "zstd"),
    *("inside-twice", "before-twice", "nested-rotated"),
)


@each_pair(access=WAYS, sharding=[SHARDING[name] for name in TYPES_SHARDINGS], dtype=TYPES)
def test_types(native: None, tmp_path: Path, sharding: Sharding, dtype: np.dtype) -> None:
    data = make_data(dtype, SHAPE)
    array = create_sharded(tmp_path, sharding, dtype=dtype)
    array[:24] = data[:24]
    data[24:] = array.fill_value
    assert_same(array[...], data)
    for selection in ((slice(3, 27, 2), 4, slice(2, None)), (27, 16, 12), (..., 5)):
        assert_same(array[selection], data[selection], f"read {selection}")
    value = make_data(dtype, (20, 9, 7), seed=4)
    array[7:27, 5:14, 4:11] = data[7:27, 5:14, 4:11] = value
    array[12:24, :12, :12] = data[12:24, :12, :12] = data[0, 0, 0]
    assert_same(array[...], data)
    assert_stored(tmp_path, sharding, data)


GRIDS: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = {
    "0d": ((), (), ()),
    "1d-prime": ((23,), (9,), (3,)),
    "1d-ones": ((6,), (2,), (1,)),
    "one-item": ((1,), (1,), (1,)),
    "one-inner-chunk": ((17, 5), (8, 4), (8, 4)),
    "smaller-than-shard": ((5, 3), (12, 12), (4, 6)),
    "smaller-than-inner-chunk": ((3, 2), (12, 12), (4, 6)),
    "counts-312": ((12, 6, 8), (6, 6, 4), (2, 6, 2)),
    "counts-132-prime": ((7, 11, 13), (6, 6, 6), (6, 2, 3)),
    "axes-of-one": ((1, 13, 1, 5), (1, 8, 1, 4), (1, 2, 1, 2)),
    "zero-axis": ((4, 0, 3), (2, 2, 2), (2, 1, 2)),
    "zero-array": ((0,), (4,), (2,)),
    "4d": ((5, 4, 6, 7), (4, 4, 4, 4), (2, 4, 1, 2)),
}
# 0-d shards are beyond zarr 3.1.6 itself, so that only TensorStore can be asked
GRID_SHARDINGS = ("index-start-big-bare", "blosc", "inside-rotated-zstd", "nested-start-end")


def check_writes(array: zarr.Array[Any], data: np.ndarray, seed: int = 0) -> None:
    """Write through every selection, then compare with NumPy; `data` is changed alike."""
    for i, selection in enumerate(selections(data.shape, seed)):
        value = make_data(data.dtype, np.shape(data[selection]), seed=i + 7)
        array[selection] = value
        data[selection] = value
        if i % 3 == 0:  # a scalar for all
            array[selection] = data[selection] = value.reshape(-1)[0] if value.size else 1
        if i % 8 == 0:
            assert_same(array[...], data, f"wrote {selection}")
    assert_same(array[...], data, "after all writes")


@each_pair(
    access=WAYS,
    sharding=[SHARDING[name] for name in GRID_SHARDINGS],
    grid=[*GRIDS],
    order=["C", "F"],
)
def test_selections(
    native: None, tmp_path: Path, sharding: Sharding, grid: str, order: str
) -> None:
    """Reads and writes of parts agree with NumPy, and with other readers after."""
    shape, shard, inner = GRIDS[grid]
    data = make_data(DTYPE, shape)
    kw: dict[str, Any] = {"config": {"order": order}}
    array = create_sharded(tmp_path, sharding, shape, DTYPE, shard, inner, **kw)
    array[...] = data
    result = np.asarray(array[...])
    assert result.flags.f_contiguous if order == "F" else result.flags.c_contiguous
    check_reads(array, data)
    check_writes(array, data)
    assert_stored(tmp_path, sharding, data, zarr_too=ZARR_34 or grid != "0d")


@shardings("before-rotated", "before-and-after", "nested-before-after", "nested-rotated")
def test_selections_with_codecs_around(native: None, tmp_path: Path, sharding: Sharding) -> None:
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding)
    stock_write(tmp_path, ..., data)
    check_reads(array, data, seed=3)
    check_writes(array, data, seed=4)
    assert_stored(tmp_path, sharding, data)


RECTILINEAR: dict[str, tuple[tuple[int, ...], Any]] = {
    "divided": ((32, 36, 18), [[12, 4, 12, 4], [12, 24], [12, 6]]),
    "small-and-large": ((28, 36, 18), [[4, 8, 16], [24, 12], [6, 6, 6]]),
}


@pytest.mark.skipif(not ZARR_34, reason="rectilinear grids came with zarr 3.4")
@pytest.mark.parametrize("grid", RECTILINEAR)
@shardings("index-start-little-crc32c", "zstd", "inside-rotated-blosc-crc32c", "after-gzip")
def test_rectilinear(native: None, tmp_path: Path, sharding: Sharding, grid: str) -> None:
    """Shards of different shapes in one array, each with an index of its own size."""
    shape, chunks = RECTILINEAR[grid]
    data = make_data(DTYPE, shape)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = create_sharded(tmp_path, sharding, shape, chunks=chunks)
        array[...] = data
        check_reads(array, data)
        check_writes(array, data)
        assert_same(stock_read(tmp_path), data, "zarr")
        other = make_data(DTYPE, shape, seed=5)
        stock_write(tmp_path, ..., other)
        assert_same(ours_open(tmp_path)[...], other)


@pytest.mark.parametrize("location", ["start", "end"])
def test_shards_argument(native: None, tmp_path: Path, location: str) -> None:
    """As most people shard: the codecs move inside by themselves."""
    data = make_data("<f4", SHAPE)
    shards: Any = {"shape": SHARD, "index_location": location}
    array = zarr.create_array(
        str(tmp_path), shape=SHAPE, shards=shards, chunks=INNER, dtype="<f4", name="group/array"
    )
    array[...] = data
    array[5:25, 3, 2:] = data[5:25, 3, 2:] = 4
    assert_same(array[...], data)
    assert_stored(tmp_path / "group/array", DEFAULT, data)


INNER_CHAINS = ("raw-big", "blosc", "zstd-crc32c", "crc32c", "inside-rotated-zstd", "gzip")


def random_slice(rng: np.random.Generator, n: int) -> Any:
    """Any slice, or an integer."""
    if n and rng.random() < 0.2:
        return int(rng.integers(-n, n))
    start, stop = sorted(int(x) for x in rng.integers(0, n + 1, 2))
    return slice(start, stop, int(rng.choice([1, 1, 1, 2, 3, 7])))


@pytest.mark.parametrize("seed", range(60))
def test_random_arrays(native: None, tmp_path: Path, seed: int) -> None:
    """Any shape, any shards, any selections, as NumPy does them."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(1, 5))
    inner = tuple(int(x) for x in rng.integers(1, 5 if ndim > 2 else 9, ndim))
    shard = tuple(n * int(x) for n, x in zip(inner, rng.integers(1, 5, ndim), strict=True))
    shape = tuple(int(rng.integers(1, 3 * n)) for n in shard)
    sharding = Sharding(
        "random",
        LAYOUTS[rng.integers(len(LAYOUTS))],
        SHARDING[INNER_CHAINS[rng.integers(len(INNER_CHAINS))]].inner,
        outer=[LAYOUTS[i] for i in rng.integers(0, len(LAYOUTS), rng.choice([0, 0, 1, 2]))],
        after=[GzipCodec(level=1)] if rng.random() < 0.2 else [],
    )
    data = np.full(shape, 7, DTYPE)
    array = create_sharded(tmp_path, sharding, shape, DTYPE, shard, inner, fill_value=7)
    for step in range(12):
        key = tuple(random_slice(rng, n) for n in shape)
        value: Any = make_data(DTYPE, data[key].shape, seed=step)
        if rng.random() < 0.4:
            value = int(rng.choice([7, 8]))
        array[key] = data[key] = value
        key = tuple(random_slice(rng, n) for n in shape)
        assert_same(array[key], data[key], f"{step}: {key}")
    assert_same(array[...], data)
    assert_stored(tmp_path, sharding, data)


# ------------------------------------------------------------------------ odds and ends


def test_metadata_says_what_the_tables_say(tmp_path: Path) -> None:
    """So that the tests test it."""
    for sharding in SHARDINGS:
        create_sharded(tmp_path / sharding.name, sharding)
        codecs = json.loads((tmp_path / sharding.name / "zarr.json").read_text())["codecs"]
        assert len(codecs) == len(sharding.before) + 1 + len(sharding.after)
        found = codecs[len(sharding.before)]
        for depth, layout in enumerate([*reversed(sharding.outer), sharding.layout]):
            assert found["name"] == "sharding_indexed"
            configuration = found["configuration"]
            assert configuration["index_location"] == layout.location
            index_codecs = configuration["index_codecs"]
            assert len(index_codecs) == 1 + layout.checksum
            assert index_codecs[0]["configuration"]["endian"] == layout.endian
            innermost = depth == len(sharding.outer)
            found = configuration["codecs"][0 if innermost else len(sharding.between)]
        assert found["name"] in ("bytes", "transpose")


def test_metadata_without_an_index_location(native: None, tmp_path: Path) -> None:
    """It came later to the specification: at the end is what older arrays mean."""
    array = create_sharded(tmp_path, SHARDING["zstd"])
    array[...] = data = make_data(DTYPE, SHAPE)
    file = tmp_path / "zarr.json"
    metadata = json.loads(file.read_text())
    del metadata["codecs"][0]["configuration"]["index_location"]
    file.write_text(json.dumps(metadata))
    assert_same(ours_open(tmp_path)[...], data)
    assert_same(ours_open(tmp_path)[3:20, 5], data[3:20, 5])


def test_incompressible_inner_chunks(native: None, tmp_path: Path) -> None:
    """Inner chunks that grow when they are compressed have room enough."""
    data = np.random.default_rng(0).integers(0, 256, (64, 64), dtype="u1")
    for level in (0, 1, 9):
        path = tmp_path / str(level)
        codecs: list[Any] = [BytesCodec(), GzipCodec(level=level)]
        array = create_sharded(
            path, DEFAULT, (64, 64), "u1", shard=(64, 64), inner=(1, 8),
            serializer=ShardingCodec(chunk_shape=(1, 8), codecs=codecs),
        )  # fmt: skip
        array[...] = data
        assert_same(array[...], data)
        chunks = Layout((64, 8)).split((path / "c/0/0").read_bytes())
        assert all(gzip.decompress(x) == data[i, 8 * j : 8 * j + 8].tobytes()
                   for (i, j), x in chunks.items())  # fmt: skip
        assert len(chunks) == 512
        assert zlib.crc32(b"".join(map(gzip.decompress, chunks.values()))) == zlib.crc32(
            data.tobytes()
        )


def test_many_small_inner_chunks(native: None, tmp_path: Path) -> None:
    """Thousands in one shard, most of them missing."""
    codecs: list[Any] = [BytesCodec(), ZstdCodec(), Crc32cCodec()]
    serializer = ShardingCodec(chunk_shape=(1, 2), codecs=codecs, index_location="start")
    array = create_sharded(
        tmp_path, DEFAULT, (100, 100), shard=(100, 100), inner=(1, 2), serializer=serializer
    )
    data = np.zeros((100, 100), DTYPE)
    for i in range(0, 100, 9):
        array[i, i::7] = data[i, i::7] = i + 1
    assert_same(array[...], data)
    assert_same(array[40:80, 33], data[40:80, 33])
    assert_stored(tmp_path, DEFAULT, data)
    stored = Layout((100, 50), "start").split((tmp_path / "c/0/0").read_bytes())
    assert len(stored) == sum(len({j // 2 for j in range(i, 100, 7)}) for i in range(0, 100, 9))


@pytest.mark.parametrize("location", ["start", "end"])
def test_a_shard_that_grows_while_it_is_encoded(
    native: None, tmp_path: Path, location: Literal["start", "end"]
) -> None:
    """Two threads encode inner chunks and append them to one file, whoever is first."""
    codecs: list[Any] = [BytesCodec(), ZstdCodec(level=3)]
    serializer = ShardingCodec(chunk_shape=(16, 32), codecs=codecs, index_location=location)
    array = create_sharded(
        tmp_path, DEFAULT, (512, 256), shard=(256, 256), inner=(16, 32), serializer=serializer
    )
    rng = np.random.default_rng(0)
    data = rng.integers(0, 99, (512, 256)).astype(DTYPE)
    array[...] = data
    for i in range(40):
        window = (slice(i, 300 + 5 * i, 1 + i % 2), slice(3 * i, 256 - i))
        data[window] = rng.integers(0, 99, data[window].shape)
        array[window] = data[window]
        assert_same(array[...], data)
    assert_stored(tmp_path, DEFAULT, data)
    assert not list(tmp_path.rglob("*.partial"))


# ------------------------------------------------------------------ what a review has found


def test_inner_shards_that_do_not_divide() -> None:
    """zarr 3.1 lets such arrays be made; nothing native touches them."""
    arguments: dict[str, Any] = {
        "index_at_start": False,
        "index_swapped": False,
        "index_checksum": False,
        "verify": False,
        "write_order": 0,
    }
    raw = NativeChain([])
    for inner in ((4,), (0,), (12,)):
        shard = Shard(inner, (0,), 1, raw, **arguments)
        with pytest.raises(ValueError, match="whole inner chunks"):
            Shard((6,), (0,), 1, NativeChain([], 0, shard), **arguments)
    shard = Shard((1,), (0,), 1, raw, **arguments)
    with pytest.raises(ValueError, match="too many"):
        Shard((2**50,), (0,), 1, NativeChain([], 0, shard), **arguments)


@pytest.mark.skipif(ZARR_34, reason="zarr 3.4 refuses to make them")
def test_inner_shards_that_do_not_divide_are_not_native(native: None, tmp_path: Path) -> None:
    """The reason says why."""
    inner = ShardingCodec(chunk_shape=(4,), codecs=[BytesCodec()])
    array = create_sharded(
        tmp_path, DEFAULT, (24,), "u1", shard=(12,), inner=(6,),
        serializer=ShardingCodec(chunk_shape=(6,), codecs=[inner]),
    )  # fmt: skip
    with pytest.raises(zarrs.NotNativeError, match="whole inner chunks"):
        array[...]


def test_more_inner_chunks_than_can_be_counted(native: None, tmp_path: Path) -> None:
    """The size of such an index does not fit 64 bits."""
    array = create_sharded(
        tmp_path, DEFAULT, (2**60,), "u1", shard=(2**60,), inner=(1,),
        serializer=ShardingCodec(chunk_shape=(1,), codecs=[BytesCodec()],
                                 index_codecs=[BytesCodec()]),
    )  # fmt: skip
    (tmp_path / "c").mkdir()
    (tmp_path / "c/0").write_bytes(bytes(64))
    with pytest.raises(zarrs.NotNativeError, match="too many"):
        array[:1]
    with pytest.raises(zarrs.NotNativeError, match="too many"):
        array[:1] = 1


def test_unused_bytes_in_a_shard_with_codecs_around(native: None, tmp_path: Path) -> None:
    """Writers that append and never clean up leave some."""
    array = create_sharded(
        tmp_path, DEFAULT, (8,), "u1", shard=(8,), inner=(2,), compressors=[GzipCodec()],
        serializer=ShardingCodec(chunk_shape=(2,), codecs=[BytesCodec()]),
    )  # fmt: skip
    data = np.arange(8, dtype="u1")
    array[...] = data
    file = tmp_path / "c/0"
    raw = gzip.decompress(file.read_bytes())
    for unused in (80_000, 10_000_000):
        file.write_bytes(gzip.compress(raw[:8] + bytes(unused) + raw[8:], 1))
        assert_same(array[...], data)
        array[3] = data[3] = 9
        raw = gzip.decompress(file.read_bytes())
        assert len(raw) < 200
    assert_same(stock_read(tmp_path), data)


def test_unverified_checksums_below_a_codec_around(native: None, tmp_path: Path) -> None:
    """They are bytes that nobody looks at, but there."""
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        codecs: list[Any] = [BytesCodec(), *[Crc32cCodec()] * 15]
        array = create_sharded(
            tmp_path, DEFAULT, (8192,), "u1", shard=(8192,), inner=(1,),
            serializer=ShardingCodec(chunk_shape=(1,), codecs=codecs), compressors=[ZstdCodec()],
        )  # fmt: skip
        data = (np.arange(8192) % 250 + 1).astype("u1")
        array[...] = data
        assert_same(array[...], data)


def test_cached_files_are_never_merged(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stale read is bad enough; it must not be written. Nor is one directory another."""
    with zarr.config.set({"codec_pipeline.file_handle_cache_size": 4}):
        old = create_sharded(tmp_path / "x", DEFAULT, (8,), "u1", shard=(8,), inner=(2,))
        old[...] = 1
        assert (np.asarray(old[...]) == 1).all()
        (tmp_path / "x").rename(tmp_path / "moved")
        new = create_sharded(tmp_path / "x", DEFAULT, (8,), "u1", shard=(8,), inner=(2,))
        new[...]
        new[0] = 9
        assert stock_read(tmp_path / "x").tolist() == [9, 0, 0, 0, 0, 0, 0, 0]
        for name, value in (("p", 1), ("q", 2)):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            array = create_sharded(Path("y"), DEFAULT, (8,), "u1", shard=(8,), inner=(2,))
            array[...] = value
            assert (np.asarray(array[...]) == value).all()
        monkeypatch.chdir(tmp_path / "p")
        assert (np.asarray(ours_open(Path("y"))[...]) == 1).all()


@pytest.mark.parametrize("location", ["start", "end"])
def test_nothing_is_made_for_nothing(
    native: None, tmp_path: Path, location: Literal["start", "end"]
) -> None:
    """Shards of fill values leave no directories behind."""
    codecs = [BytesCodec()]
    array = create_sharded(
        tmp_path, DEFAULT, (8, 8), "u1", shard=(4, 4), inner=(2, 2),
        serializer=ShardingCodec(chunk_shape=(2, 2), codecs=codecs, index_location=location),
    )  # fmt: skip
    array[...] = 0
    array[1:3, 2:7] = 0
    assert [path.name for path in tmp_path.iterdir()] == ["zarr.json"]
