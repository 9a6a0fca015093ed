"""Shards that are replaced while they are read range by range, in stores other than local files."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import obstore.store
import pytest
import zarr
from helpers import assert_same, stock
from stores import Ranges, Spy
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import cpu
from zarr.storage import FsspecStore, MemoryStore, ObjectStore

import zarrs
from zarrs.storage import _store_reads

pytestmark = pytest.mark.usefixtures("native", "access")

SHAPE, INNER = (1024, 384), (32, 96)  # one shard of 1.5 MiB is read in ranges
WINDOW = (slice(20, 500, 40), slice(90, 100))
INDEX_SIZE = 16 * 128 + 4


def make(store: Any, location: Any, shards: int = 1) -> zarr.Array[Any]:
    codec = ShardingCodec(
        chunk_shape=INNER,
        codecs=[BytesCodec(), ZstdCodec(), Crc32cCodec()],
        index_location=location,
    )
    return zarr.create_array(
        store, shape=(shards * SHAPE[0], SHAPE[1]), chunks=SHAPE, dtype="<i4", fill_value=-1,
        filters=None, serializer=codec, compressors=None, overwrite=True,
    )  # fmt: skip


def version(number: int) -> np.ndarray:
    """Values of which every inner chunk has another size in each version."""
    rng = np.random.default_rng(number)
    return rng.integers(0, 2 ** (2 + number % 25), SHAPE, "<i4")


def stored(location: str, *numbers: int) -> list[bytes]:
    blobs = []
    for number in numbers:
        held: dict[str, Any] = {}
        with stock():
            make(MemoryStore(held), location)[...] = version(number)
        blobs.append(held["c/0/0"].to_bytes())
    return blobs


def is_of_index(byte_range: Any) -> bool:
    if isinstance(byte_range, SuffixByteRequest):
        return byte_range.suffix == INDEX_SIZE
    return isinstance(byte_range, RangeByteRequest) and byte_range.end - byte_range.start == (
        INDEX_SIZE
    )


class Replaced:
    """After the index of a shard was fetched, the shard is replaced by its next version.

    Attributes
    ----------
    next : list of bytes or None
        What comes; None: it is deleted.
    passing : list of bytes
        What comes after `next`, each until the index is fetched again.
    index_requests : int
    """

    held: Any
    next: list[bytes | None] = []  # noqa: RUF012
    passing: list[bytes] = []  # noqa: RUF012
    index_requests = 0
    _lasting: bytes | None = None

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if key != "c/0/0" or not is_of_index(byte_range):
            return await super().get(key, prototype, byte_range)  # type: ignore[misc]
        if self._lasting is not None:
            self.held[key], self._lasting = self._lasting, None
        found = await super().get(key, prototype, byte_range)  # type: ignore[misc]
        if not found:
            return found
        self.index_requests += 1
        if self.next:
            new = self.next.pop(0)
            if new is None:
                del self.held[key]
            else:
                self.held[key] = new
        elif self.passing:
            self._lasting, self.held[key] = self.held[key], self.passing.pop(0)
        return found


class ReplacedInGet(Replaced, Spy):
    pass


class ReplacedInRanges(Replaced, Ranges):
    pass


@pytest.fixture(params=[ReplacedInGet, ReplacedInRanges], ids=["get", "get_ranges"])
def store(request: pytest.FixtureRequest) -> Any:
    made = request.param()
    made.next, made.passing = [], []
    return made


each_location = pytest.mark.parametrize("location", ["start", "end"])


@each_location
@pytest.mark.parametrize("times", [1, 3])
def test_replaced(store: Any, location: str, times: int) -> None:
    """What is read is one version, the last."""
    array = make(store, location)
    first, *later = stored(location, *range(times + 1))
    store.held["c/0/0"], store.next = first, later
    assert_same(array[WINDOW], version(times)[WINDOW])
    assert store.index_requests == times + 1


@each_location
def test_replaced_and_restored(store: Any, location: str) -> None:
    """A version that was there only while inner chunks were fetched does not make it damaged."""
    array = make(store, location)
    first, other, last = stored(location, 1, 2, 3)
    store.held["c/0/0"], store.passing = first, [other]
    assert_same(array[WINDOW], version(1)[WINDOW])
    assert store.index_requests == 2
    store.next, store.passing = [last], [other]
    assert_same(array[WINDOW], version(3)[WINDOW])
    assert store.index_requests == 2 + 3


@each_location
def test_deleted(store: Any, location: str) -> None:
    array = make(store, location)
    store.held["c/0/0"], store.next = stored(location, 5)[0], [None]
    assert_same(array[WINDOW], np.full_like(version(5)[WINDOW], -1))


def test_replaced_again_and_again(store: Any) -> None:
    """It ends with an error."""
    array = make(store, "end")
    first, second = stored("end", 1, 2)
    store.held["c/0/0"] = first
    store.next = [second, first] * 20
    with pytest.raises(zarrs.ChunkError, match="'c/0/0'"):
        array[WINDOW]
    assert store.index_requests == _store_reads.MAX_ATTEMPTS + 1


@each_location
def test_damaged(store: Any, location: str) -> None:
    """What is damaged fails twice with the same index."""
    array = make(store, location)
    [blob] = stored(location, 7)
    middle = bytearray(blob)
    middle[6000:-6000] = bytes(len(blob) - 12000)
    store.held["c/0/0"] = bytes(middle)
    with pytest.raises(zarrs.ChunkError, match="inner chunk"):
        array[WINDOW]
    assert store.index_requests == 3
    index = slice(8, 12) if location == "start" else slice(-12, -8)
    damaged = bytearray(blob)
    damaged[index] = b"xxxx"
    store.held["c/0/0"] = bytes(damaged)
    with pytest.raises(zarrs.ChunkError, match="index of the shard is damaged"):
        array[WINDOW]
    assert store.index_requests == 3 + 3


def test_a_damaged_index_that_is_replaced(store: Any) -> None:
    array = make(store, "end")
    first, second = stored("end", 1, 2)
    store.held["c/0/0"], store.next = first[:-4] + b"xxxx", [second]
    assert_same(array[WINDOW], version(2)[WINDOW])


def test_other_shards_of_the_call(store: Any) -> None:
    """They are fetched once; what was skipped when one failed is read all the same."""
    array = make(store, "end", shards=4)
    first, second = stored("end", 1, 2)
    for i in range(4):
        store.held[f"c/{i}/0"] = first
    store.next = [second]
    window = (slice(20, 4000, 40), slice(90, 100))
    expected = np.concatenate([version(2), *[version(1)] * 3])
    assert_same(array[window], expected[window])
    others = [one for one in store.watch.requests if one.key in ("c/1/0", "c/2/0", "c/3/0")]
    assert len({(one.key, str(one.range)) for one in others}) == len(others)


@pytest.mark.parametrize("kind", ["memory of fsspec", "memory of obstore"])
def test_beside_a_writer(kind: str) -> None:
    """Every 10 ms; each value that is read is of some version."""
    store: Any = (
        FsspecStore.from_url("memory://replaced")
        if kind == "memory of fsspec"
        else ObjectStore(obstore.store.MemoryStore())
    )
    array = make(store, "end")
    numbers = range(3, 10)
    blobs = [cpu.Buffer.from_bytes(blob) for blob in stored("end", *numbers)]
    versions = [version(number)[WINDOW] for number in numbers]
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not stop.is_set():
            zarr.core.sync.sync(store.set("c/0/0", blobs[written % len(blobs)]))
            written += 1
            time.sleep(0.01)

    zarr.core.sync.sync(store.set("c/0/0", blobs[0]))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            found = np.asarray(array[WINDOW])
            assert np.any([found == one for one in versions], axis=0).all()
    finally:
        stop.set()
        writer.join()
    assert written > 20


class Strict(ReplacedInGet):
    """A range that begins behind the end is an error, as in stores of objects."""

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        if isinstance(byte_range, RangeByteRequest) and key in self.held:
            size = len(self.held[key])
            if byte_range.start >= size:
                self.refused += 1
                raise OSError(f"range {byte_range} of {size} bytes")
        return await super().get(key, prototype, byte_range)

    refused = 0


def test_replaced_by_a_shorter_one() -> None:
    store = Strict()
    array = make(store, "end")
    blobs = sorted(stored("end", 0, 24), key=len)
    store.held["c/0/0"], store.next = blobs[1], [blobs[0]]
    window = (slice(990, 1000), slice(300, 310))  # at the end of the shard
    assert_same(array[window], version(0)[window])
    assert store.refused > 0


def test_replaced_deleted_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """One range is of a version that was deleted before the next range was asked for."""

    class Passing(Spy):
        indexes = ranges = 0

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key != "c/0/0" or byte_range is None:
                return await super().get(key, prototype, byte_range)
            self.indexes += is_of_index(byte_range)
            if self.indexes > 1 or is_of_index(byte_range):
                if self.indexes == 2:
                    came_back.set()
                    await asyncio.sleep(0.05)
                return await super().get(key, prototype, byte_range)
            self.ranges += 1
            if self.ranges == 1:
                return await other.get(key, prototype, byte_range)
            await came_back.wait()
            return None

    came_back = asyncio.Event()
    store, other = Passing(), Spy()
    monkeypatch.setattr("zarrs._planner.MAX_STORE_GAP", 0)  # where zarr has no option for it
    with zarr.config.set({"array.sharding_coalesce_max_gap_bytes": 0}):
        array = make(store, "end")
        store.held["c/0/0"], other.held["c/0/0"] = stored("end", 1, 2)
        assert_same(array[WINDOW], version(1)[WINDOW])
    assert store.ranges > 1


def test_ranges_that_a_store_refuses() -> None:
    """The error is the store's if the index is still the same."""
    store = Strict()
    array = make(store, "end")
    [blob] = stored("end", 24)
    index = blob[-INDEX_SIZE:]
    store.held["c/0/0"] = blob[:1000] + index  # what the index leads to is not there
    with pytest.raises(OSError, match=r"range .* of 3052 bytes"):
        array[slice(990, 1000), slice(300, 310)]
    assert store.index_requests == 2


def test_errors_of_others_are_not_lost() -> None:
    """What fails while an index is fetched again is raised."""

    class Failing(ReplacedInGet):
        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key == "c/1/0":
                while self.index_requests < 2:  # the first shard is about to be begun anew
                    await asyncio.sleep(0.001)
                raise OSError("this test wants it so")
            found = await super().get(key, prototype, byte_range)
            if self.index_requests == 2:
                await asyncio.sleep(0.05)
            return found

    store = Failing()
    store.next = []
    array = make(store, "end", shards=2)
    first, second = stored("end", 1, 2)
    store.held["c/0/0"], store.next = first, [second]
    with pytest.raises(OSError, match="this test wants it so"):
        array[slice(20, 2000, 40), slice(90, 100)]
