"""Arrays with direct access: what they return, what they are, and that no event loop is needed."""

import asyncio
import copy
import json
import pickle
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    CHAIN,
    ZARR_34,
    assert_same,
    create,
    emit,
    make_data,
    newer,
    run_child,
    stock_open,
    stock_read,
    stored_files,
)
from numcodecs import Delta
from own_codecs import own
from shards import in_threads
from zarr.core.buffer import BufferPrototype, cpu
from zarr.core.chunk_key_encodings import ChunkKeyEncoding
from zarr.core.sync import _get_loop
from zarr.registry import register_chunk_key_encoding
from zarr.storage import LocalStore, LoggingStore, MemoryStore, WrapperStore

import zarrs
from zarrs import ZarrsCodecPipeline
from zarrs.execution import _execute
from zarrs.runtime._blocking_call import BlockingCall
from zarrs.storage._key_locks import key_locks
from zarrs.storage._stores import location

SHAPE, CHUNKS = (20, 30), (6, 7)
DATA = make_data("<i4", SHAPE)
ALL = slice(None)

ITEMS: dict[str, Any] = {
    "all": ...,
    "nothing": (),
    "point": (3, 4),
    "numpy-point": (np.int64(3), np.int16(-1)),
    "ellipsis-point": (..., 3, 4),
    "row": 5,
    "rows": slice(2, 19),
    "strided": (slice(1, None, 5), slice(None, None, 11)),
    "negative": (-1, slice(-9, -2)),
    "empty": (slice(3, 3), ALL),
    "beyond": (slice(15, 99), slice(29, 30)),
    "step-beyond": (slice(0, 20, 7), slice(4, 30, 29)),
    "list": [1, 19, 1, -3],
    "mask-of-an-axis": (np.arange(20) % 3 == 0, ALL),
    "mask": DATA % 3 == 0,
    "points": ([3, 1, 19], [0, 0, 29]),
    "column-list": (ALL, [5, 4]),
}


@pytest.fixture
def array(native: None, tmp_path: Path) -> zarrs.Array:
    made = create(tmp_path / "array", CHAIN["zstd"], SHAPE, CHUNKS, "<i4")
    made[...] = DATA
    return zarrs.direct(made)


@pytest.fixture
def no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever would use zarr's event loop, or the pipeline, fails."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("not without an event loop")

    for name in ("sync", "_get_loop"):
        monkeypatch.setattr(f"zarr.core.sync.{name}", fail)
        monkeypatch.setattr("zarr.core.array.sync", fail)
    monkeypatch.setattr("zarrs._run.sync", fail)
    for name in ("read", "write"):
        monkeypatch.setattr(ZarrsCodecPipeline, name, fail)


# --------------------------------------------------------------------------------- what they return


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_items_are_those_of_zarr(array: zarrs.Array, item: Any) -> None:
    """The same values, in the same type: what zarr makes a scalar is one."""
    expected = zarr.Array(array.async_array)[item]
    found = array[item]
    assert type(found) is type(expected)
    assert_same(found, expected)


@pytest.mark.parametrize("order", ["C", "F"])
def test_order_in_memory(tmp_path: Path, order: str) -> None:
    made = create(tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<i4", config={"order": order})
    found = zarrs.direct(made)[...]
    assert found.flags.f_contiguous == (order == "F")


@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_no_event_loop_for_files(
    array: zarrs.Array, item: Any, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue("no_loop")
    expected = array[item]
    array[item] = 5
    assert_same(array[item], np.full_like(expected, 5))


@pytest.mark.parametrize("chain", ["zstd", "v2-zlib-F"])
def test_no_event_loop_for_dictionaries(
    native: None, chain: str, request: pytest.FixtureRequest
) -> None:
    made = create(MemoryStore(), CHAIN[chain], SHAPE, CHUNKS, "<i4")
    request.getfixturevalue("no_loop")
    array = zarrs.direct(made)
    array[...] = DATA
    array[3:5, ::2] = 1
    expected = DATA.copy()
    expected[3:5, ::2] = 1
    assert_same(array[...], expected)
    assert_same(array[4, 4:9], expected[4, 4:9])
    assert_same(array.vindex[[1, 19], [29, 0]], expected[[1, 19], [29, 0]])


def test_many_threads_and_big_reads(native: None, tmp_path: Path) -> None:
    """More than one thread of ours reads, and the calls are handed to them."""
    data = make_data("<f8", (1000, 1000))
    made = create(tmp_path, CHAIN["zstd"], data.shape, (100, 100), "<f8")
    array = zarrs.direct(made)
    array[...] = data

    def work(i: int) -> None:
        for _ in range(5):
            assert_same(array[i::4], data[i::4])

    in_threads(4, work)
    assert_same(stock_read(tmp_path), data)


# --------------------------------------------------------------------------------------- parameters


def buffer_of(array: Any) -> cpu.NDBuffer:
    """What `out` takes; zarr 3.1 has another opinion of the types of arrays."""
    return cpu.NDBuffer(array)


def test_out(array: zarrs.Array) -> None:
    out = buffer_of(np.zeros((3, 30), "<i4"))
    found = array.get_basic_selection(slice(2, 5), out=out)
    assert found is out.as_ndarray_like()
    assert_same(found, DATA[2:5])
    points = buffer_of(np.zeros(2, "<i4"))
    array.get_coordinate_selection(([1, 2], [3, 4]), out=points)
    assert_same(points.as_numpy_array(), DATA[[1, 2], [3, 4]])
    array.get_mask_selection(DATA > 0, out=buffer_of(np.zeros((DATA > 0).sum(), "<i4")))
    array.get_block_selection((1, 0), out=buffer_of(np.zeros(CHUNKS, "<i4")))
    array.get_orthogonal_selection(([1], [2]), out=buffer_of(np.zeros((1, 1), "<i4")))


@pytest.mark.parametrize(
    ("out", "error"),
    [(np.zeros((3, 30), "<i4"), TypeError), (buffer_of(np.zeros((3, 3), "<i4")), ValueError)],
)
def test_bad_out(array: zarrs.Array, out: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as ours:
        array.get_basic_selection(slice(2, 5), out=out)
    with pytest.raises(error) as theirs:
        zarr.Array(array.async_array).get_basic_selection(slice(2, 5), out=out)
    assert str(ours.value) == str(theirs.value)


class MyBuffer(cpu.NDBuffer):
    """A user's own buffers."""


def test_prototype(array: zarrs.Array) -> None:
    prototype = BufferPrototype(buffer=cpu.Buffer, nd_buffer=MyBuffer)
    assert_same(array.get_basic_selection(slice(2, 5), prototype=prototype), DATA[2:5])
    array.set_basic_selection(slice(2, 5), 7, prototype=prototype)
    assert_same(array[2:5], np.full((3, 30), 7, "<i4"))


def test_buffers_of_the_configuration(tmp_path: Path) -> None:
    """What zarr's users have instead of NumPy's arrays."""
    testing = pytest.importorskip("zarr.testing.buffer")
    made = create(tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<i4")
    array = zarrs.direct(made)
    array[...] = DATA
    zarr.registry.register_buffer(testing.TestBuffer)
    zarr.registry.register_ndbuffer(testing.NDBufferUsingTestNDArrayLike)
    names = {
        "buffer": "zarr.testing.buffer.TestBuffer",
        "ndbuffer": "zarr.testing.buffer.NDBufferUsingTestNDArrayLike",
    }
    with zarr.config.set(names):
        assert type(array[2:5]) is testing.TestNDArrayLike
        array[2:5] = 3
    assert type(array[2:5]) is np.ndarray
    assert_same(array[2:5], np.full((3, 30), 3, "<i4"))


def test_structs(tmp_path: Path) -> None:
    """What zarr makes of fields, whole items among them, is in ``test_bad_selections``."""
    dtype = np.dtype([("a", "<i4"), ("b", "<f8")])
    data = make_data(dtype, SHAPE)
    array = zarrs.direct(create(tmp_path, CHAIN["v2-zlib-F"], SHAPE, CHUNKS, dtype))
    array[...] = data
    assert_same(array[3:5], data[3:5])
    array[1, 2] = (7, 0.5)
    assert array[1, 2] == np.array((7, 0.5), dtype)


# ------------------------------------------------------------------------------------ what they are


def test_they_are_arrays_of_zarr(array: zarrs.Array) -> None:
    theirs = zarr.Array(array.async_array)
    assert isinstance(array, zarr.Array)
    assert array == theirs
    assert theirs == array
    assert array != 5
    assert zarrs.direct(array) is array
    assert (array.shape, array.chunks, array.dtype) == (SHAPE, CHUNKS, np.dtype("<i4"))
    assert repr(array) == repr(theirs)
    assert_same(np.asarray(array), DATA)
    with pytest.raises(TypeError, match="unhashable"):
        hash(array)


class Described(zarrs.Array):
    """A user's own array."""

    def __init__(self, array: Any, text: str) -> None:
        super().__init__(array)
        self.text = text


def test_subclasses(array: zarrs.Array) -> None:
    mine = Described(array.async_array, "mine")
    assert_same(mine[3], DATA[3])
    for other in (copy.copy(mine), pickle.loads(pickle.dumps(mine))):
        assert other.text == "mine"
        assert_same(other[3], DATA[3])


@pytest.mark.parametrize("duplicate", [copy.copy, lambda a: pickle.loads(pickle.dumps(a))])
def test_duplicates(array: zarrs.Array, duplicate: Callable[[Any], Any]) -> None:
    assert_same(array[3:5], DATA[3:5])
    other = duplicate(array)
    assert type(other) is zarrs.Array
    assert other == array
    assert_same(other[3:5], DATA[3:5])


def test_methods_that_return_arrays(array: zarrs.Array) -> None:
    configured = array.with_config({"order": "F"})
    assert type(configured) is zarrs.Array
    assert configured[...].flags.f_contiguous
    changed = array.update_attributes({"unit": "m"})
    assert type(changed) is zarrs.Array
    assert changed.attrs["unit"] == "m"
    assert_same(changed[3], DATA[3])


def test_resize_and_append(array: zarrs.Array) -> None:
    """The array that has changed its shape is read and written in full."""
    array.resize((25, 10))
    expected = np.zeros((25, 10), "<i4")
    expected[:20] = DATA[:, :10]
    assert_same(array[...], expected)
    array[24, 9] = expected[24, 9] = 8
    array.append(np.ones((2, 10), "<i4"))
    expected = np.concatenate([expected, np.ones((2, 10), "<i4")])
    assert_same(array[...], expected)
    assert_same(array[24:, 9], expected[24:, 9])
    with pytest.raises(IndexError):
        array[27]


def test_resized_while_others_look(array: zarrs.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has found the old metadata does not hand them on to those who come later."""
    begun, resized = threading.Event(), threading.Event()
    real = zarrs._array.access_to

    def slow(async_array: Any, metadata: Any, cache: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            resized.wait(10)
        return real(async_array, metadata, cache)

    array._found = (None, None)
    monkeypatch.setattr("zarrs._array.access_to", slow)
    reader = threading.Thread(target=lambda: array[0, 0])
    reader.start()
    begun.wait(10)
    array.resize((40, 30))
    assert_same(array[30, 3:5], np.zeros(2, "<i4"))
    resized.set()
    reader.join()
    assert array[...].shape == (40, 30)


def test_opened_with_another_pipeline(tmp_path: Path) -> None:
    create(tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<i4")[...] = DATA
    theirs = stock_open(tmp_path)
    array = zarrs.direct(theirs)
    assert type(array.async_array.codec_pipeline) is ZarrsCodecPipeline
    assert type(theirs.async_array.codec_pipeline) is not ZarrsCodecPipeline
    assert array.metadata is theirs.metadata
    assert array.store_path == theirs.store_path
    assert array == theirs
    assert theirs == array
    assert_same(array[3:7, 5], DATA[3:7, 5])


def test_other_things_are_refused() -> None:
    with pytest.raises(TypeError, match=r"direct\(\) takes a zarr.Array or a zarr.Group, not ndar"):
        zarrs.direct(np.zeros(3))  # type: ignore[call-overload]


# --------------------------------------------------------------------------------- where chunks are


class Reversed(ChunkKeyEncoding):
    """Numbers of chunks in another order."""

    name = "reversed"

    def encode_chunk_key(self, chunk_coords: tuple[int, ...]) -> str:
        return "_".join(map(str, ("r", *chunk_coords[::-1])))


KEYS: dict[str, Any] = {
    "default/": {"name": "default", "separator": "/"},
    "default.": {"name": "default", "separator": "."},
    "v2/": {"name": "v2", "separator": "/"},
    "v2.": {"name": "v2", "separator": "."},
    "own": Reversed(),
}


@pytest.mark.parametrize("store", ["files", "memory"])
@pytest.mark.parametrize("shape", [(), (150,), SHAPE, (3, 2, 120, 2)], ids=str)
@pytest.mark.parametrize("path", ["", "group/with a blank/ä"])
@pytest.mark.parametrize("name", KEYS)
def test_keys(
    native: None, tmp_path: Path, name: str, path: str, shape: tuple[int, ...], store: str
) -> None:
    """Chunks are where zarr looks for them, in arrays at the root and below."""
    register_chunk_key_encoding("reversed", Reversed)
    data = make_data("<i4", shape)
    where: Any = LocalStore(tmp_path) if store == "files" else MemoryStore()
    array = zarrs.create_array(
        where,
        name=path or None,
        shape=shape,
        chunks=tuple(min(n, 7) for n in shape),
        dtype="<i4",
        chunk_key_encoding=KEYS[name],
    )
    array[...] = data
    assert_same(stock_of(array)[...], data)
    stock_of(array)[...] = data + 1
    assert_same(array[...], data + 1)
    assert_same(array[(0,) * len(shape)], (data + 1)[(0,) * len(shape)])


def stock_of(array: zarrs.Array) -> zarr.Array[Any]:
    """The same array through zarr's own pipeline."""
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        return zarr.open_array(array.store, path=array.path)


@pytest.mark.skipif(not ZARR_34, reason="zarr 3.1 has regular grids only")
@pytest.mark.parametrize("chain", ["zstd", "rotated-big-zstd-crc32c"])
def test_rectilinear_grids(native: None, tmp_path: Path, chain: str) -> None:
    with zarr.config.set({"array.rectilinear_chunks": True}):
        made = create(tmp_path, CHAIN[chain], SHAPE, [[1, 5, 14], [10, 10, 3, 7]], "<i4")
        array = zarrs.direct(made)
        assert zarrs.explain(array).access == zarrs.Part("zarrs.Array", native=True)
        array[...] = DATA
        assert_same(stock_read(tmp_path), DATA)
        for item in (np.s_[::3, 9:24], np.s_[5], np.s_[0, 29], np.s_[6:6]):
            assert_same(array[item], DATA[item])
        rows: Any = ([19, 0, 5], [29, 3])
        assert_same(array.oindex[rows], DATA[np.ix_([19, 0, 5], [29, 3])])
        assert_same(array.vindex[[19, 0, 5], [29, 3, 3]], DATA[[19, 0, 5], [29, 3, 3]])
        assert_same(array.blocks[1, 2], DATA[1:6, 20:23])
        array[4:9, ::7] = expected = np.arange(25, dtype="<i4").reshape(5, 5)
        assert_same(array[4:9, ::7], expected)


def test_huge_arrays(native: None, tmp_path: Path) -> None:
    """What is far from the start of an array with more chunks than a number can count."""
    shape = (2**62, 2**62, 10)
    array = zarrs.create_array(str(tmp_path), shape=shape, chunks=(4, 4, 5), dtype="u1")
    array[2**62 - 3 :, 2**61, 3] = 7
    assert_same(array[2**62 - 4 :, 2**61, 3], np.array([0, 7, 7, 7], "u1"))
    last: Any = ([2**62 - 1], [2**61], [3])
    assert_same(array.oindex[last], np.full((1, 1, 1), 7, "u1"))
    assert len(stored_files(tmp_path)) == 1


@pytest.mark.parametrize("size", [1, 2**20, 2**40 - 1])
def test_the_longest_arrays(size: int) -> None:
    """zarr's own methods read what is too long for sums of native numbers."""
    for length in (2**62 + 1, 2**63 - 1):
        array = zarrs.create_array({}, shape=(length,), chunks=(size,), dtype="u1")
        access = zarrs.explain(array).access
        assert access is not None
        assert "too long" in str(access)
        if ZARR_34:  # those of zarr 3.1 return other values, or raise
            assert_same(array[length - 5 :], np.zeros(5, "u1"))
            assert_same(array[np.array([length - 1, 0, -1])], np.zeros(3, "u1"))


# ------------------------------------------------------------------------------------- other stores


class Asynchronous(WrapperStore[Any]):
    """A store without synchronous methods."""

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        return await super().get(*args, **kwargs)

    async def set(self, *args: Any, **kwargs: Any) -> None:
        await super().set(*args, **kwargs)

    async def delete(self, *args: Any, **kwargs: Any) -> None:
        await super().delete(*args, **kwargs)


STORES: dict[str, Callable[[Path], Any]] = {
    "files": LocalStore,
    "memory": lambda path: MemoryStore(),
    "logging": lambda path: LoggingStore(MemoryStore(), log_level="ERROR"),
    "asynchronous": lambda path: Asynchronous(LocalStore(path)),
}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_inside_of_event_loops(native: None, tmp_path: Path, store: Callable[[Path], Any]) -> None:
    """In zarr's own loop, too, where zarr raises."""
    array = zarrs.direct(create(store(tmp_path), CHAIN["zstd"], SHAPE, CHUNKS, "<i4"))

    async def work() -> Any:
        array[...] = DATA
        array[2:9, 3:5] = 4
        return array[...]

    expected = DATA.copy()
    expected[2:9, 3:5] = 4
    assert_same(asyncio.run(work()), expected)
    array[...] = 0
    assert_same(asyncio.run_coroutine_threadsafe(work(), _get_loop()).result(60), expected)


def test_a_store_that_was_closed(tmp_path: Path) -> None:
    """As with zarr, it is opened again."""
    array = zarrs.direct(create(tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<i4"))
    array[...] = DATA
    array.store.close()
    assert_same(array[3:5], DATA[3:5])
    array.store.close()
    array[3] = 5
    assert_same(array[3], np.full(30, 5, "<i4"))


def test_a_store_that_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is one of the working directory."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        create("array", CHAIN["zstd"], (4,), (2,), "<i4")[...] = len(name + name[0])
    array = zarrs.open_array("array")
    monkeypatch.chdir(tmp_path / "one")
    array[0] = 9
    assert_same(array[:2], np.array([9, 4], "<i4"))
    monkeypatch.chdir(tmp_path / "two")
    assert_same(array[:2], np.array([4, 4], "<i4"))


# ---------------------------------------------------------------------------------- what goes wrong


@dataclass
class Writers:
    """Writes that overlap within chunks, by arrays of both kinds."""

    ways: list[Any]

    def __call__(self, i: int) -> None:
        array = self.ways[i % len(self.ways)]
        for row in range(i, SHAPE[0], 4):
            array[row] = DATA[row]


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
def test_writers_of_one_chunk_wait_for_each_other(
    native: None, tmp_path: Path, store: Callable[[Path], Any]
) -> None:
    theirs = create(store(tmp_path), CHAIN["zstd"], SHAPE, (20, 30), "<i4")
    for _ in range(5):
        theirs[...] = -1
        in_threads(4, Writers([theirs, zarrs.direct(theirs)]))
        assert_same(theirs[...], DATA)


def test_read_only_stores(array: zarrs.Array) -> None:
    array = zarrs.open_array(array.store_path.store.with_read_only(read_only=True), path="")
    assert_same(array[3], DATA[3])
    with pytest.raises(ValueError, match="read-only") as ours:
        array[3] = 5
    with pytest.raises(ValueError, match="read-only") as theirs:
        zarr.Array(array.async_array)[3] = 5
    assert str(ours.value) == str(theirs.value)
    array[3:3] = 5  # nothing is written


def test_damaged_chunks(array: zarrs.Array, tmp_path: Path) -> None:
    """The same error as through the pipeline."""
    (tmp_path / "array" / "c" / "0" / "1").write_bytes(b"damaged")
    theirs = zarr.Array(array.async_array)
    calls: list[Callable[[Any], Any]] = [
        lambda a: a[...],
        lambda a: a[2, 8],
        lambda a: a.set_basic_selection((2, 8), 5),
    ]
    for work in calls:
        errors = []
        for one in (array, theirs):
            with pytest.raises(zarrs.ChunkError) as caught:
                work(one)
            errors.append((str(caught.value), caught.value.key, caught.value.filename))
        assert errors[0] == errors[1]
    array[:6, 7:14] = 1  # replaced as a whole
    assert_same(array[2, 8:10], np.ones(2, "<i4"))


@pytest.mark.skipif(not ZARR_34, reason="zarr 3.1 has no such option")
def test_missing_chunks_may_be_an_error(tmp_path: Path) -> None:
    made = create(
        tmp_path, CHAIN["zstd"], SHAPE, CHUNKS, "<i4", config={"read_missing_chunks": False}
    )
    array = zarrs.direct(made)
    array[:6, :7] = 1
    assert_same(array[:6, :7], np.ones((6, 7), "<i4"))
    missing: type[Exception] = newer("zarr.errors", "ChunkNotFoundError")
    reads: list[Callable[[], Any]] = [
        lambda: array[0, 8],
        lambda: array[...],
        lambda: array.read_many([0, 1]),
    ]
    for read in reads:
        with pytest.raises(missing):
            read()


def test_codecs_in_python(tmp_path: Path) -> None:
    """They run where zarr has them run, and `explain` says so."""
    made = zarr.create_array(
        str(tmp_path), shape=SHAPE, chunks=CHUNKS, dtype="<i4", filters=[own("reverse")]
    )
    array = zarrs.direct(made)
    array[...] = DATA
    array[3:5, 7] = 1
    expected = DATA.copy()
    expected[3:5, 7] = 1
    assert_same(array[...], expected)
    access = zarrs.explain(array).access
    assert access is not None
    assert not access.native
    assert "codecs in Python run there: own.reverse.sync" in str(access)


def test_what_is_not_native_is_done_by_zarr(tmp_path: Path) -> None:
    made = zarr.create_array(
        str(tmp_path), shape=(9,), chunks=(4,), dtype="<i8", zarr_format=2, filters=[Delta("<i8")]
    )
    array = zarrs.direct(made)
    array[...] = np.arange(9)
    assert_same(array[2:7], np.arange(2, 7))


def test_values_that_do_not_fit(array: zarrs.Array) -> None:
    theirs = zarr.Array(array.async_array)
    values: list[Any] = [np.ones(3), np.ones((20, 1)), "text", [1, 2], object()]
    for value in values:
        with pytest.raises(Exception) as expected:  # noqa: PT011
            theirs[:, 3:9] = value
        with pytest.raises(type(expected.value)) as found:
            array[:, 3:9] = value
        assert str(found.value) == str(expected.value)
    assert_same(array[...], DATA)


def test_writes_that_would_wait_for_themselves(native: None) -> None:
    """A call that blocks an event loop cannot wait for a coroutine of that loop."""
    array = zarrs.direct(create(MemoryStore(), CHAIN["zstd"], SHAPE, (20, 30), "<i4"))
    name = f"{location(array.store)}/c/0/0"

    async def work() -> None:
        async with key_locks().hold([name]):
            with pytest.raises(RuntimeError, match="await the methods"):
                array[3] = 5
        array[3] = 6

    asyncio.run(work())
    assert_same(array[3], np.full(30, 6, "<i4"))
    assert key_locks().is_free


def test_interrupted(native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who interrupts a call gets his way when its threads have stopped."""
    array = zarrs.direct(create(tmp_path, CHAIN["zstd"], (4000, 1000), (10, 1000), "<f8"))
    array[...] = 1.0
    begun, ended = threading.Event(), threading.Event()
    real = _execute.read

    def read(*args: Any, **named: Any) -> None:
        begun.set()
        time.sleep(0.2)
        real(*args, **named)
        ended.set()

    class Interrupted(BlockingCall):
        def result(self) -> Any:
            begun.wait()
            raise KeyboardInterrupt

    monkeypatch.setattr("zarrs.execution._execute.read", read)
    monkeypatch.setattr("zarrs.execution._job.BlockingCall", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        array[...]
    assert ended.is_set()


@pytest.mark.skipif(not ZARR_34, reason="zarr 3.1 repairs no metadata")
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
def test_metadata_are_repaired_before_chunks_are_written(tmp_path: Path) -> None:
    """As with zarr: what was stored meanwhile by others is not mistaken for what was read."""
    made = zarr.create_array(str(tmp_path), shape=(3,), chunks=(1,), dtype="i2", zarr_format=2)
    file = tmp_path / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chunks": [0]}))
    array = zarrs.open_array(str(tmp_path), mode="r+")
    assert_same(array[:], np.zeros(3, "i2"))
    array[0] = 9
    assert json.loads(file.read_text())["chunks"] == [1]
    array[1:] = 8
    assert_same(made[:], np.array([9, 8, 8], "i2"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "chunks": [0]}))
    stale = zarrs.open_array(str(tmp_path), mode="r+")
    zarr.create_array(
        str(tmp_path), shape=(3,), chunks=(3,), dtype="i2", zarr_format=2, overwrite=True
    )
    with pytest.raises(ValueError, match="Nothing was stored"):
        stale[:] = [1, 2, 3]
    assert_same(zarr.open_array(str(tmp_path))[:], np.zeros(3, "i2"))


def child_signals(path: str) -> None:
    """Write, interrupted at any moment; emit whether a lock or a call is left behind."""

    class Interrupt(BaseException):
        pass

    def interrupt(*_: Any) -> None:
        raise Interrupt

    array = zarrs.direct(create(MemoryStore(), CHAIN["zstd"], (100,), (10,), "<i4"))
    big = zarrs.direct(create(path, CHAIN["zstd"], (400, 1000), (10, 1000), "<i4"))
    signal.signal(signal.SIGALRM, interrupt)
    rng = random.Random(0)
    count = 0
    for i in range(300):
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.random() * 0.002 + 1e-6)
            if i % 3:
                array[0:95] = i
            else:
                big[...] = i
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            count += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    emit(count)
    emit(key_locks().is_free)
    array[...] = 1
    big[...] = 1
    time.sleep(2.5)
    emit([t.name for t in threading.enumerate() if t.name.startswith("zarrs")])


def test_signals_leave_nothing_behind(tmp_path: Path) -> None:
    count, free, threads = run_child(child_signals, str(tmp_path)).check()
    assert count > 30
    assert free
    assert threads == []
