"""What is written here reads the same elsewhere, and the other way round, native all the way."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from covering import WAYS, each_pair, each_row, in_turn
from helpers import (
    CHAIN,
    CHAINS,
    CORE_CHAINS,
    CORE_DTYPES,
    DTYPES,
    MIXED_STRUCT,
    MORE_CHAINS,
    STRUCT,
    ZARR_34,
    Chain,
    TensorStore,
    assert_same,
    bits,
    create,
    make_data,
    ours_open,
    selections,
    stock,
    stock_open,
    stock_read,
    stock_write,
    zarr_has,
)
from zarr.codecs import BloscCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.buffer.cpu import NDBuffer

pytestmark = pytest.mark.usefixtures("access")

# Every chain and every data type with both ways of access.
CHAIN_DTYPE = [
    (in_turn(i, k), chain, dtype)
    for chains, dtypes in ((CORE_CHAINS, DTYPES), (MORE_CHAINS, [*CORE_DTYPES, STRUCT]))
    for i, chain in enumerate(chains)
    for k, dtype in enumerate(dtypes)
    if zarr_has(dtype, chain.zarr_format)
]
each_chain_dtype = each_row(("access", "chain", "dtype"), CHAIN_DTYPE)


def named(*names: str) -> list[Chain]:
    return [CHAIN[n] for n in names]


def chains(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("chain", named(*names), ids=str)


# ------------------------------------------------------------------- chains and data types


@each_chain_dtype
def test_written_here_reads_elsewhere(
    native: None, tmp_path: Path, chain: Chain, dtype: np.dtype
) -> None:
    """zarr's default pipeline and TensorStore read what this pipeline wrote."""
    data = make_data(dtype, (7, 5, 3))
    array = create(tmp_path, chain, data.shape, (4, 3, 3), dtype)
    array[...] = data
    assert_same(array[...], data, "ours")
    assert_same(ours_open(tmp_path)[...], data, "ours, opened again")
    assert_same(stock_read(tmp_path), data, "zarr")
    if TensorStore.has(chain, dtype):
        assert_same(TensorStore(tmp_path, chain.zarr_format).read(), data, "TensorStore")


@each_chain_dtype
def test_written_elsewhere_reads_here(
    native: None, tmp_path: Path, chain: Chain, dtype: np.dtype
) -> None:
    """This pipeline reads what zarr's default pipeline and TensorStore wrote."""
    data = make_data(dtype, (7, 5, 3), seed=1)
    create(tmp_path, chain, data.shape, (4, 3, 3), dtype)
    stock_write(tmp_path, ..., data)
    array = ours_open(tmp_path)
    assert_same(array[...], data, "after zarr")
    assert_same(array[1:6:2, 3], data[1:6:2, 3], "after zarr, partly")
    if TensorStore.has(chain, dtype):
        other = make_data(dtype, data.shape, seed=2)
        TensorStore(tmp_path, chain.zarr_format).write(other)
        assert_same(array[...], other, "after TensorStore")


# ------------------------------------------------------------------------ grids, selections

GRIDS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "0d": ((), ()),
    "1d-prime": ((23,), (5,)),
    "1d-even": ((20,), (5,)),
    "1d-ones": ((6,), (1,)),
    "one-item": ((1,), (1,)),
    "one-chunk": ((7, 4), (7, 4)),
    "smaller-than-chunk": ((3, 2), (8, 16)),
    "counts-312": ((9, 4, 6), (3, 4, 3)),
    "counts-132": ((2, 9, 6), (2, 3, 3)),
    "3d-prime": ((7, 11, 5), (3, 6, 2)),
    "axes-of-one": ((1, 6, 1, 5), (1, 4, 1, 2)),
    "zero-axis": ((4, 0, 3), (2, 1, 3)),
    "zero-array": ((0,), (4,)),
    "4d": ((3, 4, 5, 4), (2, 3, 2, 4)),
}
RECTILINEAR: dict[str, tuple[tuple[int, ...], Any]] = {
    "1d": ((12,), [[1, 8, 3]]),
    "last-large": ((4, 9), [[1, 1, 2], [2, 2, 5]]),
    "last-small": ((8, 9), [[4, 3, 1], [4, 4, 1]]),
    "3d": ((7, 6, 5), [[3, 1, 3], [6], [2, 2, 1]]),
}
GRID_CHAINS = (
    *("raw", "raw-big", "blosc-lz4-shuffle", "gzip", "rotated-big-zstd-crc32c"),
    *("v2-raw-F", "v2-blosc", "v2-zlib-F"),
)


def check_reads(array: zarr.Array[Any], data: np.ndarray, seed: int = 0) -> None:
    """Every selection gives what NumPy gives."""
    for selection in selections(data.shape, seed):
        assert_same(array[selection], data[selection], f"read {selection}")


def check_writes(array: zarr.Array[Any], data: np.ndarray, seed: int = 0) -> None:
    """Write through every selection, then compare with NumPy; `data` is changed alike."""
    for i, selection in enumerate(selections(data.shape, seed)):
        target = data[selection]
        value = make_data(data.dtype, np.shape(target), seed=i + 7)
        array[selection] = value
        data[selection] = value
        if i % 3 == 0:  # a scalar for all
            array[selection] = data[selection] = value.reshape(-1)[0] if value.size else 1
    assert_same(array[...], data, "after all writes")


def memory_order(chain: Chain, order: str) -> dict[str, Any]:
    """Format 2 keeps its order in the metadata, format 3 only in memory."""
    return {"order": order} if chain.zarr_format == 2 else {"config": {"order": order}}


CHAIN_ORDER = [(c, "C") for c in GRID_CHAINS] + [(c, "F") for c in GRID_CHAINS[::3]]


@each_row(
    ("access", "chain", "order", "grid"),
    [
        (in_turn(i, k), CHAIN[name], order, grid)
        for i, (name, order) in enumerate(CHAIN_ORDER)
        for k, grid in enumerate(GRIDS)
    ],
)
def test_selections(native: None, tmp_path: Path, chain: Chain, grid: str, order: str) -> None:
    """Reads and writes of parts agree with NumPy, and with other readers after."""
    shape, chunks = GRIDS[grid]
    dtype = np.dtype("<i4")
    data = make_data(dtype, shape)
    array = create(tmp_path, chain, shape, chunks, dtype, **memory_order(chain, order))
    array[...] = data
    result = np.asarray(array[...])
    assert result.flags.f_contiguous if order == "F" else result.flags.c_contiguous
    check_reads(array, data)
    check_writes(array, data)
    assert_same(stock_read(tmp_path), data, "zarr")
    if TensorStore.has(chain, dtype):
        assert_same(TensorStore(tmp_path, chain.zarr_format).read(), data, "TensorStore")


@pytest.mark.skipif(not ZARR_34, reason="rectilinear grids came with zarr 3.4")
@each_pair(
    access=WAYS,
    chain=named("raw", "blosc-lz4-shuffle", "rotated-big-zstd-crc32c"),
    grid=[*RECTILINEAR],
    order=["C", "F"],
)
def test_rectilinear(native: None, tmp_path: Path, chain: Chain, grid: str, order: str) -> None:
    """Chunks of different shapes in one array."""
    shape, chunks = RECTILINEAR[grid]
    data = make_data("<i4", shape)
    with zarr.config.set({"array.rectilinear_chunks": True}):
        array = create(tmp_path, chain, shape, chunks, data.dtype, **memory_order(chain, order))
        array[...] = data
        check_reads(array, data)
        check_writes(array, data)
        assert_same(stock_read(tmp_path), data, "zarr")
        other = make_data("<i4", shape, seed=5)
        stock_write(tmp_path, ..., other)
        assert_same(ours_open(tmp_path)[...], other)


@each_pair(
    access=WAYS,
    chain=named("raw", "blosc-lz4-shuffle", "rotated-big-zstd-crc32c", "v2-raw-F"),
    dtype=DTYPES,
)
def test_selections_of_each_type(
    native: None, tmp_path: Path, chain: Chain, dtype: np.dtype
) -> None:
    """Partial reads and writes of every item size."""
    if not zarr_has(dtype, chain.zarr_format):
        dtype = STRUCT
    data = make_data(dtype, (7, 10))
    array = create(tmp_path, chain, data.shape, (3, 4), dtype)
    array[...] = data
    for selection in selections(data.shape, count=4)[::4]:
        assert_same(array[selection], data[selection], f"read {selection}")
        value = make_data(dtype, data[selection].shape, seed=3)
        array[selection] = data[selection] = value
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data, "zarr")


BLOCK_SIZES: dict[Any, int] = {"lz4": 128, "zstd": 1000, "blosclz": 4096, "lz4hc": 16384}
BIG_CHAINS: dict[str, dict[str, Any]] = {
    "raw": {},
    "raw-big": {},
    "crc32c": {},
    "zstd": {},
    "gzip": {},
    "reversed": {},
    "rotated-blosc": {},
    "rotated-big-zstd-crc32c": {},
    "v2-raw-F": {},
    "v2-blosc": {},
    "v2-blosc-bit-F": {},
    "v2-lz4": {},
    "v2-zlib-F": {},
    "blosc-blosclz-bitshuffle": {},
    "blosc-level0": {},
    "blosc-typesize-other": {},
    **{
        f"blosc-blocksize-{size}": {
            "compressors": [BloscCodec(cname=cname, shuffle="shuffle", blocksize=size)]
        }
        for cname, size in BLOCK_SIZES.items()
    },
}


@each_pair(access=WAYS, name=[*BIG_CHAINS], dtype=[np.dtype(d) for d in ("u1", "<f8", "V3")])
def test_parts_of_large_chunks(native: None, tmp_path: Path, name: str, dtype: np.dtype) -> None:
    """Chunks of many blocks, of which a selection needs few."""
    chain = CHAIN.get(name, CHAIN["blosc-lz4-shuffle"])
    data = make_data(dtype, (150, 190))
    data[10:70, 20:150] = data[0, 0]  # something to compress
    array = create(tmp_path, chain, data.shape, (64, 96), dtype, **BIG_CHAINS[name])
    stock_write(tmp_path, ..., data)
    for selection in selections(data.shape, seed=9)[::2]:
        assert_same(array[selection], data[selection], f"read {selection}")
    for selection in selections(data.shape, seed=11, count=0)[::6]:
        value = make_data(dtype, data[selection].shape, seed=5)
        array[selection] = data[selection] = value
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data, "zarr")


@pytest.mark.parametrize("encoding", ["default", "v2"])
@pytest.mark.parametrize("separator", ["/", "."])
def test_chunk_keys(native: None, tmp_path: Path, encoding: str, separator: str) -> None:
    """Every chunk key encoding, in a group, 0-d included."""
    for shape, chunks in (((), ()), ((5, 7), (2, 3))):
        path = tmp_path / "group" / f"array-{len(shape)}"
        for zarr_format, name in ((2, "v2-zlib-9"), (3, "zstd")):
            if zarr_format == 2 and encoding == "default":
                continue
            where = path / str(zarr_format)
            key: Any = {"name": encoding, "separator": separator}
            array = create(
                where, CHAIN[name], shape, chunks, "<u2", chunk_key_encoding=key, overwrite=True
            )
            data = make_data("<u2", shape)
            array[...] = data
            assert_same(array[...], data)
            assert_same(stock_read(where), data)


# ------------------------------------------------------------------- what may be assigned


def _strided(x: np.ndarray) -> np.ndarray:
    wide = np.empty(tuple(2 * n for n in x.shape), x.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


def _backwards(x: np.ndarray) -> np.ndarray:
    flip = (slice(None, None, -1),) * x.ndim
    return x[flip].copy()[flip]


def _read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.flags.writeable = False
    return x


def _unaligned(x: np.ndarray) -> np.ndarray:
    room = np.empty(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _subclass(x: np.ndarray) -> np.ndarray:
    class Sub(np.ndarray):
        pass

    return x.view(Sub)


VALUES: dict[str, Callable[[np.ndarray], Any]] = {
    "fortran": np.asfortranarray,
    "strided": _strided,
    "backwards": _backwards,
    "transposed": lambda x: x.T.copy().T,
    "read-only": _read_only,
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder("S")),
    "unaligned": _unaligned,
    "stride-zero": lambda x: np.broadcast_to(x[:1], x.shape),
    "subclass": _subclass,
    "list": lambda x: x.tolist(),
}


@each_pair(
    access=WAYS,
    chain=named("raw", "raw-big", "zstd", "rotated-blosc", "v2-raw-F", "v2-blosc"),
    dtype=[*map(np.dtype, ("<f8", "<i2", "<c8", "<U3", "V3", "u1")), STRUCT],
    kind=[*VALUES],
)
def test_values_of_any_layout(
    native: None, tmp_path: Path, chain: Chain, dtype: np.dtype, kind: str
) -> None:
    """Whole and partial writes take any array; the caller's array is left alone."""
    if kind == "list" and dtype.kind == "V":
        kind = "strided"
    value = VALUES[kind](make_data(dtype, (8, 6)))
    expected = np.asarray(value, dtype).copy()
    before = bits(value) if kind != "list" else b""
    array = create(tmp_path, chain, (8, 6), (4, 3), dtype)
    array[...] = value
    assert_same(array[...], expected, "complete chunks")
    assert_same(stock_read(tmp_path), expected, "zarr")
    part = VALUES[kind](make_data(dtype, (5, 4), seed=2))
    array[2:7, 1:5] = part
    expected[2:7, 1:5] = np.asarray(part, dtype)
    assert_same(array[...], expected, "parts of chunks")
    if kind != "list":
        assert bits(value) == before


SCALARS: dict[str, Any] = {
    "int": 3,
    "float": 2.75,
    "numpy": np.int8(-4),
    "0d": np.array(5),
    "0d-swapped": np.array(6, ">i4"),
    "bool": True,
}


@each_pair(
    access=WAYS,
    chain=named("raw", "rotated-big-zstd-crc32c", "v2-blosc"),
    dtype=["<i4", ">f4", "<c8", "bool", "<f2"],
    scalar=[*SCALARS],
)
def test_scalars_broadcast(
    native: None, tmp_path: Path, chain: Chain, dtype: str, scalar: str
) -> None:
    """A scalar fills whole chunks, parts of chunks and 0-d arrays."""
    value = SCALARS[scalar]
    data = make_data(dtype, (7, 5))
    array = create(tmp_path / "2d", chain, (7, 5), (3, 2), dtype)
    array[...] = data
    for selection in ((slice(0, 3), slice(0, 2)), (slice(1, 6, 2), 3), (6, 4), (slice(2, 5),)):
        array[selection] = data[selection] = value
    assert_same(array[...], data)
    array[...] = data[...] = value
    assert_same(stock_read(tmp_path / "2d"), data)
    point = create(tmp_path / "0d", chain, (), (), dtype)
    point[...] = value
    assert_same(point[()], np.asarray(value).astype(dtype))


def test_struct_scalars(native: None, tmp_path: Path) -> None:
    """A tuple or a void is one value of a struct."""
    data = make_data(MIXED_STRUCT, (6,))
    array = create(tmp_path, CHAIN["v2-blosc"], (6,), (4,), MIXED_STRUCT)
    array[...] = data
    array[1:5] = data[0]
    data[1:5] = data[0]
    assert_same(array[...], data)
    array[...] = (1, 2.5, 3)
    data[...] = (1, 2.5, 3)
    assert_same(array[...], data)


def test_fields(tmp_path: Path) -> None:
    """All fields in their order read as NumPy does; one field as zarr does, or right."""
    data = make_data(STRUCT, (6,))
    array = create(tmp_path, CHAIN["v2-raw"], (6,), (4,), STRUCT)
    array[...] = data
    names = list(STRUCT.names or ())
    assert_same(array.get_basic_selection(slice(1, 5), fields=names), data[1:5])
    try:
        one = array.get_basic_selection(slice(1, 5), fields="b")
    except TypeError:  # zarr 3.1.6 and 3.4.2
        with pytest.raises(TypeError):
            stock_open(tmp_path).get_basic_selection(slice(1, 5), fields="b")
    else:
        assert_same(one, data["b"][1:5])


@pytest.mark.parametrize("shape", [(3,), (1, 4), (4, 1), (2, 4), (4, 3), (1, 1), (4, 4, 1), (0,)])
def test_value_of_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """A value that is too small raises, or repeats as in zarr; memory beyond it stays out."""
    data = make_data("<i4", (8, 8))
    value = make_data("<i4", shape, seed=4)
    results: list[np.ndarray | None] = []
    for path, context in ((tmp_path / "ours", nullcontext()), (tmp_path / "stock", stock())):
        with context:
            array = create(path, CHAIN["raw"], (8, 8), (3, 3), "<i4")
            array[...] = data
            try:
                array[2:6, 1:5] = value
            except (ValueError, IndexError):
                results.append(None)
            else:
                results.append(np.asarray(array[...]))
    assert results[0] is None or bits(results[0]) == bits(results[1])
    after = np.asarray(ours_open(tmp_path / "ours")[...])
    untouched = np.ones((8, 8), bool)
    untouched[2:6, 1:5] = False
    assert_same(after[untouched], data[untouched])
    known = np.concatenate([data.ravel(), value.ravel()])
    assert np.isin(after, known).all()


@pytest.mark.parametrize(
    "selection",
    [slice(None, None, -1), (0, 0, 0), 8, -9, 1.5, None, (..., ...), (slice(None), 8)],
    ids=str,
)
def test_selections_that_zarr_refuses(native: None, tmp_path: Path, selection: Any) -> None:
    """The same exception as from zarr's default pipeline, for reads and writes."""
    array = create(tmp_path, CHAIN["raw"], (8, 8), (3, 3), "<i4")
    with pytest.raises(IndexError) as theirs, stock():
        stock_open(tmp_path)[selection]
    with pytest.raises(theirs.type):
        array[selection]
    with pytest.raises(theirs.type):
        array[selection] = 1


# ----------------------------------------------------------------------------- into `out=`


def _out(kind: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    if kind == "strided":
        return np.zeros(tuple(2 * n for n in shape), dtype)[::2, ::2]
    if kind == "unaligned":
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.asarray(np.zeros(size + 1, np.uint8)[1:].view(dtype).reshape(shape))
    return np.zeros(shape, dtype, order="F" if kind == "fortran" else "C")


@each_pair(
    access=WAYS,
    chain=named("raw", "raw-big", "blosc-lz4-shuffle", "v2-zlib-F"),
    kind=["c", "fortran", "strided", "unaligned"],
    out_dtype=["<i4", ">i4", "<f8", "<i8", "<c16"],
)
def test_out(tmp_path: Path, chain: Chain, kind: str, out_dtype: str) -> None:
    """`out` may have any layout, and another type is converted, not filled with raw bytes."""
    data = make_data("<i4", (9, 10))
    data[0, 0] = 0
    array = create(tmp_path, chain, data.shape, (4, 3), "<i4", fill_value=7)
    array[:8] = data[:8]  # the last chunks stay away
    data[8:] = 7
    for selection in (..., (slice(1, 9, 2), slice(3, 10))):
        out = _out(kind, data[selection].shape, out_dtype)
        array.get_basic_selection(selection, out=NDBuffer.from_numpy_array(out))
        assert_same(out, data[selection].astype(out_dtype))


def test_out_of_another_shape(tmp_path: Path) -> None:
    array = create(tmp_path, CHAIN["raw"], (8, 8), (3, 3), "<i4")
    out = NDBuffer.from_numpy_array(np.zeros((4, 8), "<i4"))
    with pytest.raises(ValueError, match="shape"):
        array.get_basic_selection(..., out=out)


# ----------------------------------------- what falls back to zarr, and must still be right


def _pick(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-n, n, 9)


MASK = np.random.default_rng(0).random((9, 10, 4)) > 0.7
FANCY: dict[str, tuple[str, Any]] = {
    "unsorted": ("oindex", ([5, 1, 7], slice(None), slice(None))),
    "repeated": ("oindex", (slice(1, 8), [3, 3, 0, 3], slice(None))),
    "negative": ("oindex", ([-1, -9, 4], slice(None), 2)),
    "one": ("oindex", ([4], [2], [0])),
    "two-axes": ("oindex", ([8, 0, 5], slice(1, 7, 2), [3, 1])),
    "dropped-axes": ("oindex", ([6, 2], 3, [0, 2])),
    "bools": ("oindex", (np.arange(9) % 2 == 0, slice(None), np.arange(4) > 1)),
    "no-bools": ("oindex", (np.zeros(9, bool), slice(None), slice(None))),
    "points": ("vindex", (_pick(9, 1), _pick(10, 2), _pick(4, 3))),
    "broadcast-points": ("vindex", (np.array([[1], [8]]), np.array([[0, 9, 3]]), np.array([[2]]))),
    "mask": ("vindex", MASK),
    "no-mask": ("vindex", np.zeros_like(MASK)),
}


def numpy_fancy(data: np.ndarray, how: str, key: Any) -> Any:
    """The NumPy index that means the same."""
    if how == "vindex":
        return key
    axes = [
        np.flatnonzero(k)
        if isinstance(k, np.ndarray) and k.dtype == bool
        else np.atleast_1d(np.arange(n)[k] if isinstance(k, slice) else np.asarray(k))
        for k, n in zip(key, data.shape, strict=True)
    ]
    return np.ix_(*axes)


@pytest.mark.parametrize("shards", [None, (6, 6, 4)], ids=["chunks", "shards"])
@pytest.mark.parametrize("name", FANCY)
def test_fancy_reads_and_writes(tmp_path: Path, name: str, shards: Any) -> None:
    """Integer arrays, masks and points give what NumPy gives, sharded or not."""
    how, key = FANCY[name]
    data = make_data("<i4", MASK.shape)
    array = create(tmp_path, CHAIN["zstd"], data.shape, (3, 2, 2), "<i4", shards=shards)
    array[...] = data
    index = numpy_fancy(data, how, key)
    actual = np.asarray(getattr(array, how)[key])
    expected = data[index]
    assert_same(actual.reshape(expected.shape), expected)
    if shards and not ZARR_34:  # zarr's own pipeline cannot write these
        return
    value = make_data("<i4", actual.shape, seed=3)
    if name == "repeated":  # whichever of the repeated wins, it is the same
        value[...] = 5
    getattr(array, how)[key] = value
    data[index] = value.reshape(expected.shape)
    assert_same(array[...], data)


def test_blocks(tmp_path: Path) -> None:
    data = make_data("<i4", (9, 10))
    array = create(tmp_path, CHAIN["raw"], data.shape, (4, 3), "<i4")
    array[...] = data
    assert_same(array.blocks[1:3, 2], data[4:9, 6:9])
    array.blocks[0, 1] = data[0:4, 3:6] = 11
    assert_same(array[...], data)


SHARDED: dict[str, dict[str, Any]] = {
    "plain": {},
    "prime": {"shape": (11, 13, 5)},
    "transposed": {"chain": "rotated-big-zstd-crc32c"},
    "index-first": {"index_location": "start"},
    "gzip": {"chain": "gzip"},
}


@pytest.mark.parametrize("case", SHARDED)
def test_sharded_arrays(tmp_path: Path, case: str) -> None:
    """Sharding goes through zarr, with this pipeline for the inner chunks."""
    options = SHARDED[case]
    shape = options.get("shape", (9, 10, 8))
    chain = CHAIN[options.get("chain", "blosc-lz4-shuffle")]
    shards: Any = (6, 4, 4)
    if location := options.get("index_location"):
        shards = {"shape": shards, "index_location": location}
    data = make_data("<f4", shape)
    array = create(tmp_path, chain, shape, (3, 2, 2), "<f4", shards=shards)
    array[...] = data
    check_reads(array, data)
    for selection in selections(shape, count=2)[::5]:
        value = make_data("<f4", data[selection].shape, seed=2)
        array[selection] = data[selection] = value
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data, "zarr")
    if TensorStore.has(chain, data.dtype):
        assert_same(TensorStore(tmp_path, 3).read(), data, "TensorStore")


def test_variable_length_strings(tmp_path: Path) -> None:
    words = np.array(["", "a", "b\u00e9", "\U0001f600" * 9, "x" * 300] * 3, dtype=object)
    array = zarr.create_array(
        store=str(tmp_path), shape=words.shape, chunks=(4,), dtype=str, fill_value="-"
    )
    array[:13] = words[:13]
    assert np.asarray(array[:]).tolist() == [*words[:13], "-", "-"]
    with stock():
        assert np.asarray(stock_open(tmp_path)[3:9]).tolist() == words[3:9].tolist()


# --------------------------------------------------------------------- nothing is kept alive


@chains("raw", "raw-big", "blosc-lz4-shuffle", "v2-raw-F")
def test_results_belong_to_the_caller(native: None, tmp_path: Path, chain: Chain) -> None:
    """Results can be changed, and neither they nor the values share memory with anything."""
    data = make_data("<i4", (6, 6))
    array = create(tmp_path, chain, (6, 6), (6, 6), "<i4")
    value = data.copy()
    array[...] = value
    value[...] = -1
    first = np.asarray(array[...])
    first[...] = -2
    assert_same(array[...], data)
    part = np.asarray(array[1:3, 2:])
    assert part.flags.writeable
    part[...] = -3
    assert_same(array[...], data)


@pytest.mark.parametrize("name", ["raw", "raw-big", "zstd"] if ZARR_34 else ["raw-big", "zstd"])
def test_memory_store_does_not_alias(name: str) -> None:
    """A store in memory keeps its own bytes (raw chunks before zarr 3.4 do not)."""
    store = zarr.storage.MemoryStore()
    data = make_data("<i4", (4, 4))
    array = create(store, CHAIN[name], (4, 4), (4, 4), "<i4")
    value = data.copy()
    array[...] = value
    value[...] = 0
    np.asarray(array[...])[...] = 9
    assert_same(array[...], data)


def test_another_buffer_prototype(tmp_path: Path) -> None:
    """A prototype with its own buffer class gets results of that class."""

    class OwnNDBuffer(NDBuffer):
        pass

    prototype = default_buffer_prototype()._replace(nd_buffer=OwnNDBuffer)
    data = make_data("<i4", (6, 6))
    array = create(tmp_path, CHAIN["zstd"], (6, 6), (4, 4), "<i4")
    array.set_basic_selection(..., data, prototype=prototype)
    assert_same(array.get_basic_selection((slice(1, 5), 2), prototype=prototype), data[1:5, 2])


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_changes_between_reads_are_seen(native: None, tmp_path: Path, chain: Chain) -> None:
    """Nothing is cached: other writers, deletion and resizing show at once."""
    data = make_data("<i4", (6, 4))
    array = create(tmp_path, chain, (6, 4), (3, 4), "<i4", fill_value=9)
    array[...] = data
    other = make_data("<i4", (6, 4), seed=8)
    stock_write(tmp_path, ..., other)
    assert_same(array[...], other)
    array.resize((4, 4))
    assert_same(array[...], other[:4])
    array.resize((6, 4))
    assert_same(array[3], other[3])
    stock_write(tmp_path, ..., 9)
    assert_same(array[...], np.full((6, 4), 9, "<i4"))
