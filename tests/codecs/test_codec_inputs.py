"""What codecs in Python are handed, and what they may do with it and return."""

import asyncio
import contextlib
import contextvars
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import stores
import zarr
from helpers import ZARR_34, assert_same, stock, stock_read
from hybrid import CHAIN, CHUNK, DATA, LITTLE, SELECTIONS, Hybrid, chains, hooked, start, steps
from own_codecs import Hooked, HookedArray, HookedAsync, Negative, Relabel, WantsBytes, handed, own
from stores import theirs
from zarr.codecs import Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import BufferPrototype, default_buffer_prototype
from zarr.storage import MemoryStore
from zarr.testing.buffer import TestBuffer

pytestmark = [
    # zarr's own pipeline has something to say about codecs around shards
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
]


# --------------------------------------------------------------- what the codecs are handed


def specifications(chain: Hybrid, path: Path, **kw: Any) -> list[tuple[str, Counter[Any]]]:
    """How often each codec was handed which specification, call by call."""
    found = []

    def after(what: str) -> None:
        found.append((what, Counter(handed)))
        handed.clear()

    handed.clear()
    array = chain.create(path, **kw)
    array[...] = start(chain)
    after("whole write")
    array[...]
    after("whole read")
    array[5, 4]
    after("partial read")
    array[3:6, 2:5] = 1
    after("merge")
    return found


@chains(
    *("xor-sync-zstd-crc32c", "zstd-xor-async-gzip", "reverse-batch", "widen-threaded-blosc"),
    *("turn-fold-sleeping-zstd", "text-sync-zstd", "shards-of-xor-sync", "shards-of-text-xor"),
    *("many", "xor-around-shards", "turn-shards-xor-zstd", "reverse-shards", "my-sharding"),
    *("nested-xor", "nested-xor-between", "foreign-reverse", "repeat-zstd"),
)
def test_specifications(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Shape, data type, fill value and order are those that zarr hands over."""
    actual = specifications(chain, tmp_path / "ours", fill_value=3)
    with stock():
        expected = specifications(chain, tmp_path / "theirs", fill_value=3)
    for (what, mine), (_, of_zarr) in zip(actual, expected, strict=True):
        assert set(mine) == set(of_zarr), what
        if "sh" not in chain.name and "nested" not in chain.name:
            assert mine == of_zarr, what  # not more often, either


@pytest.mark.skipif(not ZARR_34, reason="rectilinear grids came with zarr 3.4")
@chains("xor-sync-zstd-crc32c", "turn-fold-sleeping-zstd", "text-batch-zstd", "many")
def test_rectilinear(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Every chunk comes with its own shape."""
    chunks = [[4, 1, 6, 2], [3, 7]]
    with zarr.config.set({"array.rectilinear_chunks": True}):
        actual = specifications(chain, tmp_path / "ours", chunks=chunks)
        with stock():
            expected = specifications(chain, tmp_path / "theirs", chunks=chunks)
        assert actual == expected
        shapes = {shape for _, _, shape, *_ in actual[0][1]}
        assert len(shapes) >= 8
        array = chain.create(tmp_path / "more", chunks=chunks)
        array[...] = (data := start(chain))
        expected_data = steps(array, data)
        for selection in SELECTIONS:
            assert_same(array[selection], expected_data[selection], str(selection))
        assert_same(stock_read(tmp_path / "more"), expected_data, "zarr")


def test_shape_of_format_2(native: None) -> None:
    """The first filter sees the chunk as it is in the array, the order included."""
    Negative.shapes.clear()
    CHAIN["v2-negative-F"].create(MemoryStore())[...] = start(CHAIN["v2-negative-F"])
    assert Negative.shapes == {CHUNK}


def test_specification_after_relabelling(native: None) -> None:
    """Codecs of bytes, too, say what those behind them are handed."""
    shapes: list[list[Any]] = []
    for pipeline in (contextlib.nullcontext, stock):
        with pipeline():
            array = zarr.create_array(
                MemoryStore(), shape=(4,), dtype="i4", compressors=[Relabel(), own("xor")]
            )
            handed.clear()
            array[...] = 1
            assert_same(array[...], np.ones(4, "i4"))
            shapes.append([shape for _, _, shape, *_ in handed])
    assert shapes[0] == shapes[1] == [(99,), (99,)]


def test_prototype(native: None, tmp_path: Path) -> None:
    """A codec gets the buffers that the caller of this call wants, not those of an earlier one."""
    seen: list[str] = []

    def hook(doing: str, data: Any, spec: Any) -> Any:
        seen.append(f"{doing} {spec.prototype.buffer.__name__} {type(data).__name__}")
        return data

    Hooked.hooks["k"] = hook
    array = zarr.create_array(tmp_path, shape=(4,), dtype="i4", compressors=[Hooked("k")])
    array[...] = 1
    assert_same(array[...], np.ones(4, "i4"))
    prototype = BufferPrototype(TestBuffer, default_buffer_prototype().nd_buffer)
    array.get_basic_selection(slice(None), prototype=prototype)
    assert seen == ["encode Buffer Buffer", "decode Buffer Buffer", "decode TestBuffer TestBuffer"]


def test_bytes_of_a_native_compressor(native: None, tmp_path: Path) -> None:
    """A filter of format 2 gets ``bytes`` where zarr's compressor would have made some."""
    how: dict[str, Any] = {"zarr_format": 2, "filters": [WantsBytes()]}
    array = zarr.create_array(
        tmp_path, shape=(6,), chunks=(4,), dtype="i4", compressors=numcodecs.Zstd(1), **how
    )
    array[...] = (data := np.arange(6, dtype="i4"))
    assert_same(stock_read(tmp_path), data, "zarr")
    assert_same(array[...], data, "ours")


def test_context(native: None, tmp_path: Path) -> None:
    """A codec runs in the context of the call, NumPy's error state included."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: set[tuple[str, str]] = set()

    def hook(doing: str, data: Any, spec: Any) -> Any:
        seen.add((variable.get(), np.geterr()["over"]))
        return data

    Hooked.hooks["k"] = hook
    array = zarr.create_array(tmp_path, shape=(4,), dtype="i4", compressors=[Hooked("k")])
    token = variable.set("set")
    try:
        with np.errstate(over="raise"):
            array[...] = 1
            array[...]
    finally:
        variable.reset(token)
    assert seen == {("set", "raise")}


def test_loop_of_the_caller() -> None:
    """Who calls from a loop of his own has his codecs run there, as with zarr's pipeline."""
    loops = []

    async def hook(doing: str, data: Any, spec: Any) -> Any:
        loops.append(asyncio.get_running_loop())
        return data

    HookedAsync.hooks["k"] = hook

    async def main() -> bool:
        array = await zarr.api.asynchronous.create_array(
            MemoryStore(), shape=(4,), dtype="i4", compressors=[HookedAsync("k")]
        )
        await array.setitem(slice(None), 1)
        await array.getitem(slice(None))
        return all(loop is asyncio.get_running_loop() for loop in loops)

    assert asyncio.run(main())
    assert len(loops) == 2


# -------------------------------------------------------------------------------- manners


def hooked_array(hook: Callable[[str, Any, Any], Any], **kw: Any) -> zarr.Array[Any]:
    """Four chunks of int32 behind an array-to-array codec that does what a test wants."""
    HookedArray.hooks["k"] = hook
    how: dict[str, Any] = {"filters": [HookedArray("k")], "compressors": [ZstdCodec()], **kw}
    return zarr.create_array(MemoryStore(), shape=(8, 8), chunks=(4, 4), dtype="i4", **how)


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


MANNERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "input": lambda array: array,
    "read-only": _read_only,
    "fortran": np.asfortranarray,
    "strided": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
    "negative": lambda array: array[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda array: array.astype(">i4"),
    "broadcast": lambda array: np.broadcast_to(array, array.shape),
    "subclass": lambda array: array.view(np.matrix) if array.ndim == 2 else array,
}
OF_DECODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "float32": lambda array: array.astype("f4"),
    "uint32": lambda array: array.astype("u4"),
    "int64": lambda array: array.astype("i8"),
    "float64": lambda array: array.astype("f8"),
    "int16": lambda array: array.astype("i2"),
}


@pytest.mark.parametrize("how", MANNERS)
@pytest.mark.parametrize("doing", ["encode", "decode"])
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_what_array_codecs_return(native: None, how: str, doing: str) -> None:
    def hook(now: str, data: Any, spec: Any) -> Any:
        if now != doing:
            return data
        return spec.prototype.nd_buffer.from_ndarray_like(MANNERS[how](data.as_numpy_array()))

    array = hooked_array(hook)
    array[...] = DATA
    assert_same(array[...], DATA)
    assert_same(theirs(array.store)[...], DATA)
    array[3:6, 2] = 1
    assert_same(array[2:7, 1:4], theirs(array.store)[2:7, 1:4])


@pytest.mark.parametrize("how", OF_DECODERS)
def test_other_dtypes_of_decoders(native: None, how: str) -> None:
    """Items of another data type are converted by value, as zarr does it."""

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "encode":
            return data
        return spec.prototype.nd_buffer.from_ndarray_like(OF_DECODERS[how](data.as_numpy_array()))

    array = hooked_array(hook)
    array[...] = DATA
    assert_same(theirs(array.store)[...], DATA, "zarr")
    assert_same(array[...], DATA, "ours")


def test_wrong_sizes(native: None) -> None:
    """An error, where zarr raises one, too; never other values."""

    def hook(now: str, data: Any, spec: Any) -> Any:
        return spec.prototype.nd_buffer.from_ndarray_like(data.as_numpy_array()[:3])

    array = hooked_array(hook)
    array[...] = DATA
    for one in (array, theirs(array.store)):
        with pytest.raises(ValueError, match=r"reshape|shape|bytes"):
            one[...]

    def longer(now: str, data: Any, spec: Any) -> Any:
        return spec.prototype.buffer.from_bytes(data.to_bytes() + b"more")

    array = hooked(longer)
    array[...] = DATA
    for one in (array, theirs(array.store)):
        with pytest.raises(ValueError, match=r"reshape|expected 64 bytes"):
            one[...]


def test_mutation(native: None) -> None:
    """A codec may change what it is handed: that is nobody else's."""

    def hook(now: str, data: Any, spec: Any) -> Any:
        items = data.as_numpy_array()
        items += 1 if now == "encode" else -1
        return data

    array = hooked_array(hook, compressors=[])
    value = DATA.copy()
    array[...] = value
    assert_same(value, DATA, "the caller's")
    for _ in range(2):
        assert_same(array[...], DATA)
    array[2:6, 3] = value[2:6, 3]
    assert_same(array[...], DATA, "after a merge")


def test_kept_input(native: None) -> None:
    """What a codec keeps of its input stays what it was."""
    kept: list[tuple[Any, bytes]] = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        kept.append((data, data.to_bytes()))
        return data

    array = hooked(hook)
    for i in range(5):
        array[...] = DATA + i
        array[...]
    assert len(kept) == 40
    gc.collect()
    assert all(data.to_bytes() == before for data, before in kept)


def test_memory_of_inputs(native: None) -> None:
    """Nothing keeps what a codec has been handed, nor what it returned."""
    refs: list[weakref.ref[Any]] = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        out = spec.prototype.buffer.from_bytes(data.to_bytes())
        refs.extend((weakref.ref(data), weakref.ref(out)))
        return out

    array = hooked(hook)
    array[...] = DATA
    assert_same(array[...], DATA)
    gc.collect()
    assert len(refs) == 16
    assert not [ref for ref in refs if ref() is not None]


def test_decoded_to_none(native: None) -> None:
    """A chunk that a codec decodes to None is missing, for zarr."""
    array = hooked(lambda now, data, spec: data if now == "encode" else None, fill_value=3)
    array[...] = DATA
    assert_same(theirs(array.store)[...], np.full((8, 8), 3, "i4"), "zarr")
    assert_same(array[...], np.full((8, 8), 3, "i4"), "ours")


def _none_of_seven(now: str, data: Any, spec: Any) -> Any:
    return None if now == "encode" and data.to_bytes()[:4] == b"\7\0\0\0" else data


@pytest.mark.parametrize("store", ["files", "memory"])
@pytest.mark.parametrize("where", ["plain", "shard", "around", "nested"])
def test_nothing_to_store(native: None, tmp_path: Path, where: str, store: str) -> None:
    """A chunk that a codec encodes to None is deleted, or not in its shard."""
    Hooked.hooks["k"] = _none_of_seven
    mine = Hooked("k")
    bare = ShardingCodec(chunk_shape=(2, 2), codecs=[LITTLE, mine], index_location="start")
    hows: dict[str, dict[str, Any]] = {
        "plain": {"chunks": (4, 4), "compressors": [mine, ZstdCodec()]},
        "shard": {"chunks": (2, 2), "shards": (4, 4), "compressors": [mine, ZstdCodec()]},
        "around": {
            "chunks": (4, 4),
            "serializer": ShardingCodec(chunk_shape=(2, 2), codecs=[LITTLE], index_location="end"),
            "compressors": [mine],
        },
        "nested": {
            "chunks": (8, 4),
            "serializer": ShardingCodec(chunk_shape=(4, 4), codecs=[bare]),
            "compressors": [],
        },
    }
    how = hows[where]
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    targets: list[Any] = places if store == "files" else [MemoryStore(), MemoryStore()]
    data = DATA.copy()
    data[:4, :4] = 7
    found = []
    for target, one in zip(targets, ("ours", "theirs"), strict=True):
        with stock() if one == "theirs" else contextlib.nullcontext():
            array = zarr.create_array(
                target, shape=(8, 8), dtype="i4", fill_value=1, filters=[], **how
            )
            array[...] = DATA
            array[...] = data
            array[0, 0] = 7
            array[4:6, 4:6] = 7
            found.append((array[...], sorted(stores.stored(array.store))))
    assert_same(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_empty_bytes(native: None) -> None:
    """No bytes are bytes, too."""

    def hook(now: str, data: Any, spec: Any) -> Any:
        return spec.prototype.buffer.from_bytes(b"" if now == "encode" else bytes(64))

    for after in ([], [Crc32cCodec()], [GzipCodec()], [own("xor")]):
        array = hooked(hook, compressors=[Hooked("k"), *after])
        array[...] = DATA
        assert array.nchunks_initialized == 4
        assert_same(array[...], np.zeros((8, 8), "i4"))
