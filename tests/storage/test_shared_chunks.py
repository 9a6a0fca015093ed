"""Several writers of one chunk: nothing is lost."""

import asyncio
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from faulty_http import ToldStore, in_time, slow
from helpers import assert_same
from loops import CHUNK, MARK, concurrency, make
from shards import in_threads
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec
from zarr.storage import (
    FsspecStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    StorePath,
    WrapperStore,
)

pytestmark = pytest.mark.usefixtures("access")

# ------------------------------------------------------------------------- nothing is lost

MEMORY_NUMBER = iter(range(10**6))


def one_memory(root: Path) -> list[Any]:
    return [MemoryStore()]


def one_told(root: Path) -> list[Any]:
    store = ToldStore()
    store.hook = slow(0.001)
    return [store]


def one_logged(root: Path) -> list[Any]:
    return [LoggingStore(LocalStore(root), log_level="ERROR")]


def one_fsspec(root: Path) -> list[Any]:
    return [FsspecStore.from_url(f"memory://zarrs-{os.getpid()}-{next(MEMORY_NUMBER)}")]


def two_memory(root: Path) -> list[Any]:
    held: dict[str, Any] = {}
    return [MemoryStore(held), MemoryStore(held)]


def wrapped_memory(root: Path) -> list[Any]:
    held: dict[str, Any] = {}
    bare = MemoryStore(held)
    logged = LoggingStore(MemoryStore(held), log_level="ERROR")
    return [bare, logged, WrapperStore(bare), WrapperStore(logged)]


def wrapped_told(root: Path) -> list[Any]:
    store = one_told(root)[0]
    return [store, LoggingStore(store, log_level="ERROR"), WrapperStore(store)]


def two_logged(root: Path) -> list[Any]:
    return [LoggingStore(LocalStore(root), log_level="ERROR") for _ in range(2)]


def wrapped_local(root: Path) -> list[Any]:
    return [LocalStore(root), LoggingStore(LocalStore(root), log_level="ERROR")]


def two_fsspec(root: Path) -> list[Any]:
    url = f"memory://zarrs-{os.getpid()}-{next(MEMORY_NUMBER)}"
    return [FsspecStore.from_url(url), FsspecStore.from_url(url)]


def two_roots(root: Path) -> list[Any]:
    return [LocalStore(root), StorePath(LocalStore(root.parent), root.name)]


SHARED = [
    *(one_memory, one_told, one_logged, one_fsspec, two_memory, wrapped_memory, wrapped_told),
    *(two_logged, wrapped_local, two_fsspec, two_roots),
]
each_shared = pytest.mark.parametrize("stores", SHARED)

THREADS = 12
PART = 50  # items of every thread
GEOMETRY: dict[str, dict[str, Any]] = {
    "chunk": {"chunks": (THREADS * PART,), "compressors": [GzipCodec(level=1)]},
    "shard": {
        "chunks": (THREADS * PART,),
        "compressors": [],
        "serializer": ShardingCodec(chunk_shape=(PART,), codecs=[BytesCodec(), Crc32cCodec()]),
    },
}


@each_shared
@pytest.mark.parametrize("geometry", GEOMETRY)
def test_parts_of_one_chunk_from_threads(
    native: None, tmp_path: Path, stores: Any, geometry: str
) -> None:
    """Each thread has its own part of the chunk; every store object is used by some of them."""
    made = stores(tmp_path)
    shape = (THREADS * PART,)
    first = zarr.create_array(store=made[0], shape=shape, dtype="<i4", **GEOMETRY[geometry])
    first[...] = 0
    arrays = [first, *(zarr.open_array(store=store, mode="r+") for store in made[1:])]

    def work(i: int) -> None:
        array = arrays[i % len(arrays)]
        part = slice(i * PART, (i + 1) * PART)
        for k in range(1, 9):
            array[part] = 100 * k + i
            assert (np.asarray(array[part]) == 100 * k + i).all()

    in_time(lambda: in_threads(THREADS, work), 60)
    expected = np.repeat(800 + np.arange(THREADS, dtype="<i4"), PART)
    assert_same(first[...], expected)


@pytest.mark.parametrize("geometry", GEOMETRY)
def test_parts_of_one_chunk_from_event_loops(native: None, geometry: str) -> None:
    """Locks are handed from loop to loop; each loop has several writers, too."""
    held: dict[str, Any] = {}
    array = zarr.create_array(
        store=MemoryStore(held), shape=(THREADS * PART,), dtype="<i4", **GEOMETRY[geometry]
    )
    array[...] = 0

    def work(i: int) -> None:
        async def main() -> None:
            store = ToldStore(held)
            store.hook = slow(0.0005)
            mine = await zarr.api.asynchronous.open_array(store=store, mode="r+")

            async def write(j: int) -> None:
                for k in range(1, 5):
                    start = i * PART + j * PART // 2
                    await mine.setitem(slice(start, start + PART // 2), 100 * k + i)

            async with asyncio.timeout(200):
                await asyncio.gather(write(0), write(1))

        asyncio.run(main())

    in_time(lambda: in_threads(THREADS, work), 60)
    assert_same(array[...], np.repeat(400 + np.arange(THREADS, dtype="<i4"), PART))


def test_overlapping_keys_in_other_orders(native: None) -> None:
    """Calls that want the same keys in another order do not wait for each other for ever."""
    held: dict[str, Any] = {}
    array, data = make(MemoryStore(held), 12)
    chunks = [list(range(12)), list(range(11, -1, -1)), [3, 7, 1, 9], [9, 1, 7, 3, 5, 11]]

    def work(i: int) -> None:
        store = ToldStore(held)
        store.hook = slow(0.0005)
        mine = zarr.open_array(store=store, mode="r+")
        order = chunks[i % 4]
        for _ in range(6):
            places: Any = [chunk * CHUNK + i for chunk in order]  # zarr's annotations have no lists
            mine.oindex[places] = MARK

    with concurrency(3):
        in_time(lambda: in_threads(8, work), 60)
    for i in range(8):
        data[[chunk * CHUNK + i for chunk in chunks[i % 4]]] = MARK
    assert_same(array[...], data)


# ------------------------------------------------------------------------------- pickling


@pytest.mark.parametrize("name", ["memory", "logged", "fsspec", "obstore"])
def test_pickled_arrays(native: None, tmp_path: Path, name: str) -> None:
    """A copy reads, and where the bytes are shared it writes."""
    if name == "obstore":
        from obstore.store import LocalStore as Files
        from zarr.storage import ObjectStore

        store: Any = ObjectStore(Files(str(tmp_path)))
    else:
        makers = {"memory": one_memory, "logged": one_logged, "fsspec": one_fsspec}
        store = makers[name](tmp_path)[0]
    array, data = make(store, 4, GzipCodec(level=1))
    with zarr.config.set({"codec_pipeline.strict": True}):
        copy = pickle.loads(pickle.dumps(array))
    assert_same(copy[...], data)
    copy[7 : CHUNK + 7] = data[7 : CHUNK + 7] = MARK
    assert_same(copy[...], data)
    if name != "memory":
        assert_same(array[...], data)
