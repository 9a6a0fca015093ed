"""A store's own methods are used, whichever it has replaced."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ZARR_34, assert_same, bits, make_data, newer
from store_cases import CASE, make, merged_at_edges, plain_case
from stores import (
    AsyncOnly,
    CountingLocal,
    Latency,
    Mapping,
    Ranges,
    ReadScrambled,
    ScrambledLocal,
    SyncSpy,
    ours,
    stored,
    theirs,
)
from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore, LoggingStore, MemoryStore, WrapperStore

from zarrs.storage import _stores

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")


@pytest.mark.parametrize("name", ["raw", "zstd", "shards-crc32c-start"])
def test_own_get_is_honoured(native: None, tmp_path: Path, name: str) -> None:
    """A subclass of LocalStore with its own ``get`` sees every read."""
    case = CASE[name]
    store = CountingLocal(tmp_path)
    array = make(store, case)
    array[...] = data = make_data("<i4", case.shape)
    assert store.gets == merged_at_edges(array, case)
    store.gets = 0
    assert_same(array[...], data)
    assert store.gets == len(stored(LocalStore(tmp_path)))


def test_what_get_returns_is_what_counts(native: None, tmp_path: Path) -> None:
    """Reads, and the old bytes of partial writes, come from the store's own ``get``."""
    case = plain_case("raw", (23, 17), (7, 5))
    data = make_data("<i4", case.shape)
    make(LocalStore(tmp_path), case)[...] = data
    array = ours(ReadScrambled(tmp_path))
    seen = data ^ np.frombuffer(b"\x5a" * 4, "<i4")[0]
    assert_same(array[...], seen)
    assert_same(theirs(ReadScrambled(tmp_path))[...], seen, "zarr")
    array[0, 0] = 1
    plain = ours(LocalStore(tmp_path))
    data[:7, :5] = seen[:7, :5]  # merged with what was read
    data[0, 0] = 1
    assert_same(plain[...], data)


def test_scrambled_files(native: None, tmp_path: Path) -> None:
    """A subclass with its own idea of bytes has it in the files, too."""
    case = plain_case("raw", (8, 6), (8, 6))
    data = make_data("<i4", case.shape)
    make(ScrambledLocal(tmp_path), case)[...] = data
    blob = np.frombuffer((tmp_path / "c" / "0" / "0").read_bytes(), "u1")
    assert bits(blob ^ 0x5A) == data.tobytes()


class GetOnly(MemoryStore):
    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return await super().get(key, *args, **kw)


class SetOnly(MemoryStore):
    async def set(self, key: str, value: Buffer, *args: Any) -> None:
        await super().set(key, value, *args)


class DeleteOnly(MemoryStore):
    async def delete(self, key: str) -> None:
        await super().delete(key)


class BelowGetOnly(GetOnly):
    pass


class GetSyncOnly(MemoryStore):
    def get_sync(self, key: str, **kw: Any) -> Buffer | None:
        return super().get_sync(key, **kw)


class GetBoth(GetOnly):
    def get_sync(self, key: str, **kw: Any) -> Buffer | None:
        return super().get_sync(key, **kw)


class Counts:
    """A mixin, which is no store."""

    async def get(self, key: str, *args: Any, **kw: Any) -> Any:
        return await super().get(key, *args, **kw)  # type: ignore[misc]


class Mixed(Counts, MemoryStore):
    pass


class OptsOut(MemoryStore):
    _supports_sync_io = False


class Renamed(MemoryStore):
    pass


def _patched() -> Store:
    store = MemoryStore()
    store.get = store.get  # type: ignore[method-assign]
    return store


@dataclass(frozen=True)
class Ways:
    """A store, and what may be made of it."""

    make: Callable[[], Store]
    synchronous: bool
    immediate: bool = False
    ranges: bool = False


class RangesBelowGet(Ranges):
    async def get(self, key: str, *args: Any, **kw: Any) -> Buffer | None:
        return await super().get(key, *args, **kw)


WAYS: dict[str, Ways] = {
    "memory": Ways(MemoryStore, True, immediate=True),
    "memory-mapping": Ways(lambda: MemoryStore(Mapping()), True),
    "memory-subclass": Ways(Renamed, True),
    "memory-patched": Ways(_patched, False),
    "local": Ways(lambda: LocalStore("x"), True),
    "async-only": Ways(AsyncOnly, False),
    "own-ranges": Ways(Ranges, False, ranges=True),
    "own-ranges-below-get": Ways(RangesBelowGet, False),
    "get": Ways(GetOnly, False),
    "below-get": Ways(BelowGetOnly, False),
    "set": Ways(SetOnly, False),
    "delete": Ways(DeleteOnly, False),
    "get-sync": Ways(GetSyncOnly, True),
    "get-both": Ways(GetBoth, True),
    "mixin": Ways(Mixed, False),
    "opts-out": Ways(OptsOut, False),
    "all": Ways(SyncSpy, True),
    "local-get": Ways(lambda: CountingLocal("x"), False),
    "local-all": Ways(lambda: ScrambledLocal("x"), True),
    # wrappers have methods that block since zarr 3.4
    "wrapper": Ways(lambda: WrapperStore(MemoryStore()), ZARR_34),
    "wrapper-twice": Ways(lambda: WrapperStore(WrapperStore(MemoryStore())), ZARR_34),
    "wrapper-async": Ways(lambda: WrapperStore(AsyncOnly()), False),
    "wrapper-get": Ways(lambda: WrapperStore(GetOnly()), False),
    "wrapper-opts-out": Ways(lambda: WrapperStore(OptsOut()), False),
    "wrapper-ranges": Ways(lambda: WrapperStore(Ranges()), False),
    "wrapper-own-get": Ways(lambda: Latency(MemoryStore()), False),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_to_ask(name: str) -> None:
    """Which methods of a store may be used in the place of which others."""
    ways = WAYS[name]
    store = ways.make()
    assert _stores.is_synchronous(store) is ways.synchronous
    assert _stores.is_immediate(store) is ways.immediate
    assert _stores.has_own_ranges(store) is ways.ranges


@pytest.mark.skipif(not ZARR_34, reason="zarr's own stores have methods that block since 3.4")
def test_ways_to_ask_of_zarr() -> None:
    from zarr.experimental.cache_store import CacheStore
    from zarr.testing.store import LatencyStore

    assert not _stores.is_synchronous(CacheStore(MemoryStore(), cache_store=MemoryStore()))
    assert _stores.is_immediate(newer("zarr.storage", "ManagedMemoryStore")())
    assert _stores.is_synchronous(LatencyStore(MemoryStore()))
    assert not _stores.is_synchronous(LatencyStore(AsyncOnly()))
    assert not _stores.has_own_ranges(LatencyStore(Ranges()))
    logging = LoggingStore(LocalStore("x"), "ERROR")
    assert _stores.is_synchronous(logging) is ("get_sync" in vars(LoggingStore))
