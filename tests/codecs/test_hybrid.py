"""Chains with codecs in Python: only their stages run there, and the results are zarr's."""

import asyncio
import contextlib
import contextvars
import gc
import lzma
import os
import pickle
import resource
import signal
import struct
import threading
import time
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import stores
import zarr
from helpers import (
    ZARR_34,
    assert_same,
    chunk_file,
    emit,
    make_data,
    ours_open,
    run_child,
    stock,
    stock_read,
    stock_write,
    stored_files,
)
from own_codecs import (
    STYLES,
    Difference,
    DifferenceAsync,
    Hooked,
    HookedArray,
    HookedAsync,
    MyBytes,
    MySharding,
    MyTranspose,
    MyZstd,
    Negative,
    Relabel,
    Tail,
    WantsBytes,
    handed,
    own,
)
from shards import in_threads
from stores import Kind, Services, each_kind, ours, theirs
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.core.buffer import BufferPrototype, cpu, default_buffer_prototype
from zarr.storage import MemoryStore
from zarr.testing.buffer import TestBuffer

import zarrs

pytestmark = [
    # zarr's own pipeline has something to say about codecs around shards
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
]

services = stores.services

SHAPE, CHUNK, SHARD = (13, 10), (4, 3), (8, 6)
LIMIT = 20.0  # seconds in which what could hang has to end


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    """No test is left with another one's hooks."""
    yield
    for kind in (Hooked, HookedAsync, HookedArray):
        kind.hooks.clear()
    handed.clear()


@dataclass(frozen=True)
class Hybrid:
    """A chain with stages in Python.

    Parameters
    ----------
    name : str
    arguments : callable
        Makes keyword arguments for ``zarr.create_array``.
    python : int
        How many of its parts run in Python.
    dtype : str
    """

    name: str
    arguments: Callable[[], dict[str, Any]] = field(repr=False)
    python: int = 1
    dtype: str = "<i4"

    def __str__(self) -> str:
        return self.name

    def create(self, store: Any, shape: tuple[int, ...] = SHAPE, **kw: Any) -> zarr.Array:
        where = str(store) if isinstance(store, Path) else store
        arguments = {"chunks": CHUNK, "dtype": self.dtype, **self.arguments(), **kw}
        return zarr.create_array(where, shape=shape, **arguments)


def v3(
    name: str, filters: Any = (), serializer: Any = None, compressors: Any = (), **kw: Any
) -> Hybrid:
    arguments = {
        "filters": list(filters),
        "serializer": serializer or BytesCodec(endian="little"),
        "compressors": list(compressors),
    }
    shards = kw.pop("shards", None)
    return Hybrid(name, lambda: {**arguments, "shards": shards}, **kw)


def v2(name: str, filters: Any, compressor: Any, order: str = "C", **kw: Any) -> Hybrid:
    arguments = {
        "zarr_format": 2,
        "filters": filters,
        "compressors": compressor,
        "order": order,
        "fill_value": kw.pop("fill_value", 0),
    }
    return Hybrid(name, lambda: arguments, **kw)


def sharding(*codecs: Any, chunk: tuple[int, ...] = CHUNK, kind: Any = ShardingCodec) -> Any:
    return kind(chunk_shape=chunk, codecs=list(codecs))


def wrapped(name: str, **configuration: Any) -> Any:
    """One of numcodecs' codecs for format 3; zarr 3.1 warns of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(zarr.codecs.numcodecs, name)(**configuration)


# Raw, as its filters are, LZMA has no native form.
RAW_LZMA: Any = {"format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2, "preset": 1}]}
TURN = TransposeCodec(order=(1, 0))
LITTLE = BytesCodec(endian="little")
AROUND = {"chunks": SHARD}


def around(name: str, *, python: int = 1, **kw: Any) -> Hybrid:
    """Shards with codecs around them."""
    made = v3(name, **kw)
    return Hybrid(name, lambda: {**made.arguments(), **AROUND}, python=python)


BY_STYLE = [
    chain
    for style in STYLES
    for chain in (
        v3(f"xor-{style}-zstd-crc32c", (), None, [own("xor", style), ZstdCodec(), Crc32cCodec()]),
        v3(f"zstd-xor-{style}-gzip", (), None, [ZstdCodec(), own("xor", style), GzipCodec()]),
        v3(f"reverse-{style}", [own("reverse", style)]),
        v3(f"widen-{style}-blosc", [own("widen", style)], None, [BloscCodec()]),
        v3(f"turn-fold-{style}-zstd", [TURN, own("fold", style)], None, [ZstdCodec()]),
        v3(f"text-{style}-zstd", (), own("text", style), [ZstdCodec()]),
        v3(f"shards-of-xor-{style}", (), None, [own("xor", style), ZstdCodec()], shards=SHARD),
    )
]
OTHERS = [
    # To transpose what comes from a codec in Python is no matter of strides.
    v3("big-reverse-turn", [own("reverse"), TURN], BytesCodec(endian="big"), [ZstdCodec()],
       python=2),
    v3("widen-big", [own("widen")], BytesCodec(endian="big")),
    v3("foreign-reverse", [own("reverse")], BytesCodec(endian="big"), dtype=">i4"),
    v3("foreign-text", (), own("text"), dtype=">f8"),
    v3("repeat-zstd", (), None, [own("repeat"), ZstdCodec()]),
    v3(
        "repeatmore-repeat-crc32c",
        compressors=[own("repeatmore"), own("repeat"), Crc32cCodec()],
        python=2,
    ),
    v3(
        "many",
        [TURN, own("reverse"), TURN, own("fold", "sleeping")],
        own("text", "threaded"),
        [ZstdCodec(), own("xor"), BloscCodec(), own("repeat", "batch"), GzipCodec(), Crc32cCodec()],
        python=6,  # transposes behind other filters run there, too
    ),
    v3("my-zstd", (), None, [MyZstd(), Crc32cCodec()]),
    v3("my-bytes", (), MyBytes(endian="little"), [ZstdCodec()]),
    v3("my-transpose", [MyTranspose(order=(1, 0))], None, [ZstdCodec()]),
    v3("wrapped-lzma", (), None, [wrapped("LZMA", **RAW_LZMA)]),
    v3("wrapped-lzma-zstd", (), None, [wrapped("LZMA", **RAW_LZMA), ZstdCodec()]),
    v3("shards-of-reverse", [own("reverse", "async")], None, [GzipCodec()], shards=SHARD),
    v3("shards-of-text-xor", (), own("text"), [own("xor", "sleeping")], shards=SHARD, python=2),
    v3("shards-of-fold", [own("fold")], shards=SHARD),
    around("xor-around-shards", serializer=sharding(LITTLE), compressors=[own("xor")]),
    around(
        "turn-shards-xor-zstd",
        filters=[TURN],
        serializer=sharding(LITTLE, chunk=(2, 2)),
        compressors=[own("xor", "threaded"), ZstdCodec()],
    ),
    around("reverse-shards", filters=[own("reverse")], serializer=sharding(LITTLE), python=2),
    around(
        "xor-in-and-around",
        serializer=sharding(LITTLE, own("xor"), ZstdCodec()),
        compressors=[own("repeat", "async")],
        python=2,
    ),
    around("my-sharding", serializer=sharding(LITTLE, own("xor"), kind=MySharding)),
    around(
        "nested-xor",
        serializer=sharding(sharding(LITTLE, own("xor"), chunk=(2, 3)), chunk=(4, 6)),
    ),
    around(
        "nested-xor-between",
        serializer=sharding(
            sharding(own("reverse"), LITTLE, chunk=(2, 3)), own("xor", "sleeping"), chunk=(4, 6)
        ),
        compressors=[GzipCodec()],
        python=2,
    ),
    *(
        chain
        for order in "CF"
        for chain in (
            v2(f"v2-base64-blosc-{order}", [numcodecs.Base64()], numcodecs.Blosc("lz4"), order,
               python=2),  # nobody knows the size of the items that Blosc gets
            v2(f"v2-base64-zstd-{order}", [numcodecs.Base64()], numcodecs.Zstd(1), order),
            v2(f"v2-negative-{order}", [Negative()], numcodecs.Zlib(1), order),
            v2(f"v2-negative-base64-tail-{order}", [Negative(), numcodecs.Base64()], Tail(), order,
               python=3),
            v2(f"v2-lzma-{order}", None, numcodecs.LZMA(**RAW_LZMA), order),
            v2(f"v2-tail-{order}", None, Tail(), order),
        )
    ),
    v2("v2-foreign-base64", [numcodecs.Base64()], Tail(), dtype=">i4", python=2),
    v2("v2-lzma", None, numcodecs.LZMA(**RAW_LZMA), dtype="<f8"),
]  # fmt: skip
CHAINS = [*BY_STYLE, *OTHERS]
CHAIN = {chain.name: chain for chain in CHAINS}
each_chain = pytest.mark.parametrize("chain", CHAINS, ids=str)


def chains(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("chain", [CHAIN[name] for name in names], ids=str)


FEW = (
    *("xor-sync-zstd-crc32c", "turn-fold-sleeping-zstd", "text-threaded-zstd", "many"),
    *(
        "shards-of-xor-batch",
        "turn-shards-xor-zstd",
        "nested-xor-between",
        "v2-negative-base64-tail-F",
    ),
)

SELECTIONS: list[Any] = [
    ...,
    (0, 0),
    (slice(None), 3),
    slice(2, 11, 3),
    (slice(5, 7), slice(1, 9, 2)),
    (-1, slice(None, -1)),
    slice(6, 6),
]
STEPS: list[tuple[Any, Any]] = [
    ((slice(2, 11), slice(1, 7)), None),  # merges, on some edges
    ((slice(None, None, 5), slice(None)), 9),
    ((7, 8), 3),
    (slice(0, 8), 0),  # chunks go
    ((slice(8, 12), slice(0, 3)), 0),
]


def steps(array: Any, expected: np.ndarray) -> np.ndarray:
    """Partial writes of many kinds; what comes out of them."""
    expected = expected.copy()
    for selection, value in STEPS:
        new = make_data(expected.dtype, expected[selection].shape, 7) if value is None else value
        if value is None and expected.dtype.kind == "f":
            new = np.nan_to_num(new)
        array[selection] = new
        expected[selection] = new
    return expected


def start(chain: Hybrid, seed: int = 0) -> np.ndarray:
    """Data that the codecs of any chain can represent."""
    data = make_data(chain.dtype, SHAPE, seed)
    return np.nan_to_num(data, posinf=1, neginf=2) + 0 if data.dtype.kind == "f" else data


# ------------------------------------------------------------------- the same values as zarr's


@each_chain
def test_there_and_back(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Whole and in parts, written here and read by zarr, and the other way round."""
    data = start(chain)
    array = chain.create(tmp_path / "ours")
    array[...] = data
    assert_same(stock_read(tmp_path / "ours"), data, "zarr")
    array = ours_open(tmp_path / "ours")
    for selection in SELECTIONS:
        assert_same(array[selection], data[selection], str(selection))
    with stock():
        other = chain.create(tmp_path / "theirs")
        other[...] = data
    assert_same(ours_open(tmp_path / "theirs")[...], data, "what zarr wrote")
    expected = steps(array, data)
    with stock():
        steps(other, data)
    for name in ("ours", "theirs"):
        assert_same(stock_read(tmp_path / name), expected, name)
        assert_same(ours_open(tmp_path / name)[...], expected, name)
    assert list(stored_files(tmp_path / "ours")) == list(stored_files(tmp_path / "theirs"))
    steps(ours_open(tmp_path / "theirs"), data)  # merges with what zarr stored
    assert_same(stock_read(tmp_path / "theirs"), expected, "zarr's, merged")


@each_chain
def test_explain(tmp_path: Path, chain: Hybrid) -> None:
    """What runs in Python says so, and everything else is native."""
    explanation = zarrs.explain(chain.create(tmp_path))
    assert explanation.hybrid, str(explanation)
    assert not explanation.native
    in_python = [part for part in explanation.stages if part.python]
    assert len(in_python) == chain.python, str(explanation)
    for part in in_python:
        assert part.reason
        assert not part.native
        assert "in Python" in str(part)


def test_explain_by_stage(tmp_path: Path) -> None:
    found = zarrs.explain(CHAIN["turn-shards-xor-zstd"].create(tmp_path)).stages
    kinds = ["Python" if part.python else "native" for part in found]
    assert [part.name for part in found] == [
        *("transpose", "sharding_indexed", "sharding_indexed > bytes", "own.xor.threaded", "zstd")
    ]
    assert kinds == ["native", "native", "native", "Python", "native"]


@chains(*FEW)
@each_kind("memory", "fsspec-memory", "async-only", "own-ranges", "sync-spy", "local-own-all")
def test_stores(
    native: None, tmp_path: Path, services: Services, kind: Kind, chain: Hybrid
) -> None:
    store = kind.new(tmp_path, services)
    data = start(chain)
    array = chain.create(store)
    array[...] = data
    assert_same(theirs(store)[...], data, "zarr")
    expected = steps(array, data)
    assert_same(theirs(store)[...], expected, "zarr, after merges")
    for selection in SELECTIONS:
        assert_same(ours(store)[selection], expected[selection], str(selection))


@chains(*FEW, "reverse-shards", "my-sharding", "v2-tail-C")
def test_missing_and_empty(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Missing chunks are fill values; empty ones are not stored, unless that is asked for."""
    array = chain.create(tmp_path / "a", fill_value=5)
    assert_same(array[...], np.full(SHAPE, 5, chain.dtype))
    array[...] = 5
    assert not stored_files(tmp_path / "a")
    array[1, 1] = 6
    assert len(stored_files(tmp_path / "a")) == 1
    array[1, 1] = 5
    assert not stored_files(tmp_path / "a")
    keep = {"write_empty_chunks": True}
    kept = chain.create(tmp_path / "b", fill_value=5, config=keep)
    kept[...] = 5
    with stock():
        chain.create(tmp_path / "c", fill_value=5, config=keep)[...] = 5
    assert list(stored_files(tmp_path / "b")) == list(stored_files(tmp_path / "c"))
    assert_same(stock_read(tmp_path / "b"), np.full(SHAPE, 5, chain.dtype))


@pytest.mark.parametrize("style", STYLES)
def test_0d(native: None, tmp_path: Path, style: str) -> None:
    codecs = [own("xor", style), ZstdCodec()]
    how = {"filters": [own("fold", style)], "serializer": own("text", style), "compressors": codecs}
    array = zarr.create_array(tmp_path, shape=(), dtype="f8", **how)
    assert array[...] == 0
    array[...] = 2.5
    assert array[()] == 2.5
    assert stock_read(tmp_path) == 2.5


@chains("xor-async-zstd-crc32c", "reverse-sync", "many", "v2-negative-F")
def test_dtypes_of_edges(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """No items at all, and one chunk that is bigger than the array."""
    empty = chain.create(tmp_path / "a", (0, 4))
    empty[...] = 1
    assert empty[...].shape == (0, 4)
    big = chain.create(tmp_path / "b", (3, 2), chunks=(8, 6))
    big[...] = np.arange(6).reshape(3, 2)
    assert_same(stock_read(tmp_path / "b"), np.arange(6, dtype=chain.dtype).reshape(3, 2))
    assert_same(big[1:, 1], np.array([3, 5], chain.dtype))


CATEGORIES = numcodecs.Categorize(["red", "green", "blue"], dtype="<U5", astype="u1")


@pytest.mark.parametrize("order", "CF")
def test_categorize(native: None, tmp_path: Path, order: Any) -> None:
    data = np.array(["red", "green", "blue", ""] * 5, "<U5").reshape(4, 5)
    array = zarr.create_array(
        tmp_path, shape=(4, 5), chunks=(3, 2), dtype="<U5", zarr_format=2, order=order,
        filters=[CATEGORIES], compressors=numcodecs.Zstd(1), fill_value="",
    )  # fmt: skip
    array[...] = data
    array[1:3, 1] = "red"
    data[1:3, 1] = "red"
    assert_same(array[...], data, "ours")
    assert_same(stock_read(tmp_path), data, "zarr")


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("codec", [numcodecs.JSON(), numcodecs.MsgPack()], ids=str)
@pytest.mark.parametrize("compressor", [None, numcodecs.Zstd(1), numcodecs.BZ2(1)], ids=str)
def test_object_codecs_of_numbers(native: None, codec: Any, compressor: Any, order: Any) -> None:
    """Arrays that zarr makes but does not open again; of order F it does not get back its own."""
    found = []
    for pipeline in (contextlib.nullcontext, stock):
        with pipeline():
            array = zarr.create_array(
                MemoryStore(), shape=SHAPE, chunks=CHUNK, dtype="i4", zarr_format=2, order=order,
                filters=[codec], compressors=compressor,
            )  # fmt: skip
            array[...] = (data := make_data("i4", SHAPE))
            whole = array[...]
            array[3:9, 2:7] = 5
            array[0, 0] = 6
            found.append((stores.stored(array.store), whole, array[...], array[2:9:3, 1]))
    if order == "C":
        assert_same(found[0][1], data)
    assert found[0][0] == found[1][0]
    for mine, of_zarr in zip(found[0][1:], found[1][1:], strict=True):
        assert_same(mine, of_zarr)


def test_pickled(native: None, tmp_path: Path) -> None:
    array = CHAIN["many"].create(tmp_path)
    again = pickle.loads(pickle.dumps(array))
    again[...] = (data := start(CHAIN["many"]))
    assert_same(pickle.loads(pickle.dumps(again))[2:9], data[2:9])
    assert_same(array[...], data)


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


def hooked_array(hook: Callable[[str, Any, Any], Any], **kw: Any) -> zarr.Array:
    """Four chunks of int32 behind an array-to-array codec that does what a test wants."""
    HookedArray.hooks["k"] = hook
    how: dict[str, Any] = {"filters": [HookedArray("k")], "compressors": [ZstdCodec()], **kw}
    return zarr.create_array(MemoryStore(), shape=(8, 8), chunks=(4, 4), dtype="i4", **how)


def hooked(hook: Callable[[str, Any, Any], Any], store: Any = None, **kw: Any) -> zarr.Array:
    """The same with a bytes-to-bytes codec."""
    Hooked.hooks["k"] = hook
    how: dict[str, Any] = {"compressors": [Hooked("k"), ZstdCodec()], "filters": [], **kw}
    where = MemoryStore() if store is None else store
    return zarr.create_array(where, shape=(8, 8), chunks=(4, 4), dtype="i4", **how)


DATA = np.arange(64, dtype="i4").reshape(8, 8)


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
    how: dict[str, Any] = {
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
    }[where]
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


# ------------------------------------------------------------------------- sizes, and calls


@pytest.mark.parametrize("times", [1, 10, 100])
@pytest.mark.parametrize("n", [16, 1000, 10000])
def test_expansion(native: None, tmp_path: Path, times: int, n: int) -> None:
    """Chunks that grow a lot on their way, and shrink again."""
    kind = {1: "xor", 10: "repeat", 100: "repeatmore"}[times]
    codecs = [own(kind, "async"), GzipCodec(level=1), own("repeat"), ZstdCodec()]
    array = zarr.create_array(tmp_path, shape=(2 * n,), chunks=(n,), dtype="i4", compressors=codecs)
    array[...] = (data := np.arange(2 * n, dtype="i4"))
    array[n - 2 : n + 2] = data[n - 2 : n + 2]
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)


def test_every_chunk_once(native: None, tmp_path: Path) -> None:
    """However much they expand, chunks are encoded once, and decoded once."""
    calls: Counter[str] = Counter()

    def hook(now: str, data: Any, spec: Any) -> Any:
        calls[now] += 1
        return data

    Hooked.hooks["k"] = hook
    codecs = [own("repeatmore"), own("repeatmore"), Hooked("k"), ZstdCodec()]
    array = zarr.create_array(tmp_path, shape=(256,), chunks=(64,), dtype="i4", compressors=codecs)
    array[...] = np.arange(256)
    assert calls == {"encode": 4}
    calls.clear()
    assert_same(array[...], np.arange(256, dtype="i4"))
    assert calls == {"decode": 4}


def test_encoder_is_called_once(native: None) -> None:
    """An encoder that expands need not return the same twice."""
    calls = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            return spec.prototype.buffer.from_bytes(data.to_bytes()[:64])
        calls.append(now)
        tail = bytes(200_000 * len(calls))
        return spec.prototype.buffer.from_bytes(data.to_bytes() + tail)

    array = hooked(hook, compressors=[Hooked("k")])
    array[:4, :4] = DATA[:4, :4]
    assert_same(array[:4, :4], DATA[:4, :4])
    assert len(calls) == 1


@pytest.mark.parametrize("n", [12, 15, 18])
def test_many_stages(native: None, tmp_path: Path, n: int) -> None:
    """As many as one likes, with chunks of a megabyte."""
    with zarr.config.set({"codec_pipeline.strict": n <= 16}):  # more have no native form
        array = zarr.create_array(
            tmp_path, shape=(2**20,), chunks=(2**20,), dtype="u1", compressors=[own("xor")] * n
        )
        array[...] = 3
        assert_same(array[:5], np.full(5, 3, "u1"))


# ---------------------------------------------------------------------------------- errors


class OwnError(Exception):
    """Not known to anybody."""


class OwnBaseError(BaseException):
    """Not even an exception."""


ERRORS = [ValueError, KeyError, TypeError, OSError, MemoryError, OwnError, OwnBaseError]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_exceptions(
    native: None, tmp_path: Path, kind: type[BaseException], asynchronous: bool, sharded: bool
) -> None:
    """They come as they are, with a note of the chunk and the codec; old chunks stay."""
    failing = ""

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == failing and data.to_bytes()[:4] == b"\x07\0\0\0":
            raise kind("said so")
        return data

    async def later(now: str, data: Any, spec: Any) -> Any:
        await asyncio.sleep(0)
        return hook(now, data, spec)

    Hooked.hooks["k"], HookedAsync.hooks["k"] = hook, later
    codec: Any = (HookedAsync if asynchronous else Hooked)("k")
    shards = {"shards": (8, 4)} if sharded else {}
    array = zarr.create_array(
        tmp_path, shape=(8, 8), chunks=(4, 4), dtype="i4", compressors=[codec], **shards
    )
    data = DATA + 100
    data[:4, 4:] = 7
    chunk = "c/0/1"
    array[...] = data
    before = stored_files(tmp_path)
    for stage, doing, act in (
        ("decode", "reading", lambda: array[...]),
        ("decode", "reading", lambda: array[1:3, 5]),
        ("decode", "writing", lambda: array.set_basic_selection((3, 5), 1)),
        ("encode", "writing", lambda: array.set_basic_selection((..., slice(4, 8)), data[:, 4:])),
    ):
        failing = stage
        with pytest.raises(kind, match="said so") as caught:
            act()
        assert type(caught.value) is kind
        [text] = caught.value.__notes__
        assert chunk in text
        assert codec.name in text
        assert f"{codec.name!r} failed while {doing}" in text
        if sharded:
            assert "inner chunk (0, 0)" in text
        assert any(entry.name == "hook" for entry in caught.traceback)
    assert stored_files(tmp_path) == before
    failing = ""
    assert_same(array[...], data)


@pytest.mark.parametrize("inner", [False, True])
def test_exceptions_are_let_go(native: None, tmp_path: Path, inner: bool) -> None:
    """Of many that are raised one is reported; the others do not live on, nor their chunks."""
    raised: list[weakref.ref[OwnError]] = []
    gate = threading.Barrier(2)

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            try:
                gate.wait(0.2)  # two at the same time, if there are two threads
            except threading.BrokenBarrierError:
                gate.reset()
            error = OwnError("one of many")
            raised.append(weakref.ref(error))
            raise error
        return data

    Hooked.hooks["k"] = hook
    shards = {"shards": (128, 64)} if inner else {}
    array = zarr.create_array(
        tmp_path, shape=(128, 64), chunks=(4, 4), dtype="i4", compressors=[Hooked("k")], **shards
    )
    array[...] = 7
    with zarr.config.set({"threading.max_workers": 2}):
        array = ours_open(tmp_path)
    for _ in range(3):
        try:
            array[...]
        except OwnError:
            pass
        else:
            pytest.fail("nothing was raised")
    gc.collect()
    assert raised
    assert not [ref for ref in raised if ref() is not None]


def test_native_errors_behind_python(native: None, tmp_path: Path) -> None:
    """Damage around a stage in Python is told of as ever."""
    array = CHAIN["xor-sync-zstd-crc32c"].create(tmp_path)
    array[...] = start(CHAIN["xor-sync-zstd-crc32c"])
    file = chunk_file(tmp_path, 3, 1, 1)
    raw = bytearray(file.read_bytes())
    raw[5] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=r"'crc32c' failed while reading chunk 'c/1/1'"):
        array[...]
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="c/1/1"):
        array[...]


def claims_of_petabytes() -> dict[str, bytes]:
    """Tiny chunks whose headers promise a lot."""
    promise = struct.pack("<Q", 2**50)
    return {
        "zstd": b"\x28\xb5\x2f\xfd\xe0" + promise + b"\1\0\0",
        "zstd-window": b"\x28\xb5\x2f\xfd\xc0\xff" + promise + b"\1\0\0",
        "zstd-unknown": b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\1\0\0",
        "blosc": struct.pack("<4B3I", 2, 1, 0x21, 1, 0x7FFFFF00, 65536, 64) + bytes(48),
        "blosc-too-big": struct.pack("<4B3I", 2, 1, 0x21, 1, 0xFFFFFFFF, 65536, 64) + bytes(48),
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\x03\x00" + bytes(4) + b"\xff\xff\xff\x7f",
        "lz4": struct.pack("<I", 0x7E000000) + b"\x10a",
        "lz4-too-big": b"\xff\xff\xff\xff\x10a",
    }


def child_hostile() -> None:
    """Read them behind a stage in Python, and as strings; what memory that took."""
    native_codecs: dict[str, Any] = {
        "zstd": ZstdCodec(),
        "blosc": BloscCodec(),
        "gzip": GzipCodec(),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, payload in claims_of_petabytes().items():
        kind = name.split("-")[0]
        for strings in (False, True):
            store = MemoryStore()
            how: dict[str, Any] = {"dtype": str if strings else "i4"}
            how["fill_value"] = "" if strings else 0
            if kind == "lz4":
                how |= {"zarr_format": 2, "compressors": numcodecs.LZ4()}
                if not strings:
                    how["filters"] = [Tail()]
            else:
                codecs = [native_codecs[kind]]
                how["compressors"] = codecs if strings else [own("xor"), *codecs]
            array = zarr.create_array(store, shape=(4,), chunks=(4,), **how)
            key = "0" if kind == "lz4" else "c/0"
            store._store_dict[key] = cpu.Buffer.from_bytes(payload)
            try:
                array[...]
            except (ValueError, RuntimeError, AssertionError) as error:
                emit([name, strings, type(error).__name__])
    emit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_claims_of_petabytes() -> None:
    """What the size of is open is not believed either."""
    *failures, grown = run_child(child_hostile).check()
    assert len(failures) == 2 * len(claims_of_petabytes()), failures
    assert grown < 64 * 1024, f"{grown} KiB"


# -------------------------------------------------------------------- threads and processes


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of a call that has to end, in a thread that is given up if it does not."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((True, work()))
        except BaseException as error:
            result.append((False, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, f"no end after {seconds} s"
    ok, value = result[0]
    if not ok:
        raise value
    return value


@chains(*FEW)
def test_threads(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Eight threads read one array."""
    data = start(chain)
    array = chain.create(tmp_path)
    array[...] = data

    def work(i: int) -> None:
        for k in range(3):
            selection = SELECTIONS[(i + k) % len(SELECTIONS)]
            assert_same(array[selection], data[selection])

    within(LIMIT, lambda: in_threads(8, work))


@pytest.mark.parametrize("style", STYLES)
def test_threads_that_write(native: None, style: str) -> None:
    """Eight threads write parts of the same chunks."""
    array = zarr.create_array(
        MemoryStore(), shape=(8, 40), chunks=(8, 8), dtype="i4", compressors=[own("xor", style)]
    )

    def work(i: int) -> None:
        array[i] = np.arange(40) + 100 * i

    within(LIMIT, lambda: in_threads(8, work))
    assert_same(array[...], (np.arange(40) + 100 * np.arange(8)[:, None]).astype("i4"))


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_codecs_that_read(native: None, tmp_path: Path, style: str, sharded: bool) -> None:
    """A codec that reads another array with this pipeline, whose codec is in Python, too."""
    inner = zarr.create_array(
        tmp_path / "inner", shape=(4,), chunks=(1,), dtype="i4", compressors=[own("xor", style)]
    )
    inner[...] = [1, 2, 3, 4]
    how = {"chunks": (4, 4), "shards": (16, 16)} if sharded else {"chunks": (8, 8)}
    array = zarr.create_array(
        tmp_path / "outer", shape=(32, 32), dtype="i4",
        compressors=[Difference(str(tmp_path / "inner")), ZstdCodec()], **how,
    )  # fmt: skip
    data = np.arange(1024, dtype="i4").reshape(32, 32)
    within(LIMIT, lambda: array.set_basic_selection(..., data))

    def work(i: int) -> None:
        assert_same(array[...], data)
        array[i, 2:30] = data[i, 2:30]

    within(LIMIT, lambda: in_threads(8, work))


def test_codecs_that_read_in_threads_of_the_loop(native: None, tmp_path: Path) -> None:
    """In the caller's loop; in zarr's they would wait for its threads, perhaps the only one."""
    zarr.create_array(tmp_path / "inner", shape=(4,), chunks=(1,), dtype="i4")[...] = 1
    array = zarr.create_array(
        tmp_path / "outer", shape=(64,), chunks=(8,), dtype="i4",
        compressors=[DifferenceAsync(str(tmp_path / "inner"))],
    )  # fmt: skip
    data = np.arange(64, dtype="i4")

    async def main() -> Any:
        await array._async_array.setitem(slice(None), data)
        return await array._async_array.getitem(slice(None))

    assert_same(within(LIMIT, lambda: asyncio.run(main())), data)


@each_kind("memory", "fsspec-memory", "async-only", "sync-spy", "local-own-all")
@pytest.mark.parametrize("where", ["plain", "shard", "around"])
@pytest.mark.parametrize("doing", ["encode", "decode"])
def test_nobody_waits_for_a_codec(
    native: None, tmp_path: Path, services: Services, kind: Kind, where: str, doing: str
) -> None:
    """While a codec blocks, other arrays are read and written, in the same event loop."""
    started, release = threading.Event(), threading.Event()
    blocking = False

    def hook(now: str, data: Any, spec: Any) -> Any:
        if blocking and now == doing:
            started.set()
            assert release.wait(LIMIT)
        return data

    Hooked.hooks["k"] = hook
    how: dict[str, Any] = {
        "plain": {"chunks": (4, 4), "compressors": [Hooked("k")]},
        "shard": {"chunks": (2, 2), "shards": (4, 4), "compressors": [Hooked("k")]},
        "around": {
            "chunks": (4, 4),
            "serializer": ShardingCodec(chunk_shape=(2, 2), codecs=[LITTLE]),
            "compressors": [Hooked("k")],
        },
    }[where]
    array = zarr.create_array(kind.new(tmp_path / "a", services), shape=(8, 8), dtype="i4", **how)
    array[...] = DATA
    other = CHAIN["xor-async-zstd-crc32c"].create(kind.new(tmp_path / "b", services))
    data = start(CHAIN["xor-async-zstd-crc32c"])
    blocking = True
    act = (lambda: array[...]) if doing == "decode" else (lambda: array.__setitem__(..., DATA))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(act)
        try:
            assert started.wait(LIMIT)
            within(LIMIT, lambda: other.__setitem__(..., data))
            assert_same(within(LIMIT, lambda: other[...]), data)
            assert not call.done()
        finally:
            release.set()
            call.result(LIMIT)
    blocking = False
    assert_same(array[...], DATA)


def test_many_calls(native: None, tmp_path: Path) -> None:
    """A hundred calls at once, from one event loop."""
    array = CHAIN["xor-sleeping-zstd-crc32c"].create(tmp_path)
    array[...] = (data := start(CHAIN["xor-sleeping-zstd-crc32c"]))

    async def main() -> list[Any]:
        calls = [array._async_array.getitem((slice(i % 9, None), i % 10)) for i in range(100)]
        return await asyncio.gather(*calls)

    for i, found in enumerate(within(LIMIT, lambda: asyncio.run(main()))):
        assert_same(found, data[i % 9 :, i % 10])


@pytest.mark.parametrize("asynchronous", [False, True])
def test_cancelled(native: None, tmp_path: Path, asynchronous: bool) -> None:
    """Who cancels a call waits for the codec at work, and for no other."""
    started = threading.Event()
    calls: list[str] = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            calls.append(now)
            started.set()
            time.sleep(0.1)
        return data

    async def later(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            calls.append(now)
            started.set()
            await asyncio.sleep(0.1)
        return data

    Hooked.hooks["k"], HookedAsync.hooks["k"] = hook, later
    codec: Any = (HookedAsync if asynchronous else Hooked)("k")
    array = zarr.create_array(tmp_path, shape=(400,), chunks=(4,), dtype="i4", compressors=[codec])
    array[...] = (data := np.arange(400, dtype="i4"))

    async def main() -> None:
        task = asyncio.ensure_future(array._async_array.getitem(slice(None)))
        await asyncio.to_thread(started.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    within(LIMIT, lambda: asyncio.run(main()))
    n = len(calls)
    assert n <= 2 * (os.cpu_count() or 1)
    time.sleep(0.15)
    assert len(calls) == n
    Hooked.hooks.clear()
    HookedAsync.hooks.clear()
    assert_same(array[...], data)


def _slow_array(path: str, asynchronous: bool) -> tuple[zarr.Array, np.ndarray]:
    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            time.sleep(0.02)
        return data

    async def later(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            await asyncio.sleep(0.02)
        return data

    Hooked.hooks["k"], HookedAsync.hooks["k"] = hook, later
    codec: Any = (HookedAsync if asynchronous else Hooked)("k")
    array = zarr.create_array(
        path, shape=(64, 64), chunks=(4, 4), dtype="i4", compressors=[codec, ZstdCodec()]
    )
    array[...] = (data := np.arange(64 * 64, dtype="i4").reshape(64, 64))
    return array, data


def child_interrupted(path: str, asynchronous: bool) -> None:
    """Interrupt a read, then read again."""
    array, data = _slow_array(path, asynchronous)
    for _ in range(2):
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        try:
            array[...]
            emit("not interrupted")
        except KeyboardInterrupt:
            emit("interrupted")
    Hooked.hooks.clear()
    HookedAsync.hooks.clear()
    emit(bool((array[...] == data).all()))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_interrupted(tmp_path: Path, asynchronous: bool) -> None:
    said = run_child(child_interrupted, str(tmp_path), asynchronous, timeout=60).check()
    assert said == ["interrupted", "interrupted", True]


def child_that_ends(path: str, asynchronous: bool, own_loop: bool) -> None:
    """End while other threads read."""
    array, _ = _slow_array(path, asynchronous)

    async def read() -> None:
        await array._async_array.getitem(slice(None))

    def work() -> None:
        while True:
            if own_loop:
                asyncio.run(read())
            else:
                array[...]

    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.3)
    emit("the end")


@pytest.mark.parametrize("own_loop", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_exit(tmp_path: Path, asynchronous: bool, own_loop: bool) -> None:
    """The interpreter ends while codecs are at work, without a crash."""
    child = run_child(child_that_ends, str(tmp_path), asynchronous, own_loop, timeout=60)
    assert child.check() == ["the end"]


def child_that_forks(path: str) -> None:
    """Fork after a read, and read on both sides."""
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
    for style in ("sync", "sleeping", "threaded"):
        chain = CHAIN[f"xor-{style}-zstd-crc32c"]
        array = chain.create(Path(path) / style)
        array[...] = (data := start(chain))
        array[...]
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            array[2:5] = 1
            fine = bool((array[5:] == data[5:]).all()) and bool((array[2:5] == 1).all())
            os._exit(0 if fine else 1)
        emit(os.waitpid(child, 0)[1])
        emit(bool((array[5:] == data[5:]).all()))


def test_fork(tmp_path: Path) -> None:
    assert run_child(child_that_forks, str(tmp_path), timeout=90).check() == [0, True] * 3


def test_no_thread_is_left(native: None, tmp_path: Path) -> None:
    """Threads of hybrid calls end with them."""
    array = CHAIN["many"].create(tmp_path)
    for i in range(3):
        array[...] = i
        array[...]
    until = time.monotonic() + 5
    while time.monotonic() < until:
        left = [thread for thread in threading.enumerate() if thread.name == "zarrs-alone"]
        if not left:
            break
        time.sleep(0.01)
    assert not left


def test_other_writers(native: None, tmp_path: Path) -> None:
    """What zarr has changed since an array was opened is seen."""
    chain = CHAIN["shards-of-text-xor"]
    array = chain.create(tmp_path)
    array[...] = start(chain)
    stock_write(tmp_path, (slice(1, 9), slice(2, 5)), 4)
    assert_same(array[...], stock_read(tmp_path))
