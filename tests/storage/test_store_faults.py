"""Stores that fail, lie or change: an error that says where, never wrong data, nothing left behind.

Whatever could hang runs in a thread or a child that is given up after a while.
"""

import asyncio
import contextlib
import errno
import itertools
import resource
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from faulty_http import (
    FaultyServer,
    Request,
    ToldStore,
    fsspec_store,
    in_time,
    obstore_store,
    tasks_left,
)
from helpers import assert_same, emit, run_child
from shards import EMPTY, Layout
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import cpu
from zarr.core.buffer.core import Buffer
from zarr.storage import LocalStore, LoggingStore, MemoryStore

import zarrs

FILL = -77
KEY = "c/0/0"
WIDE = (1024, 1024)  # 4 MiB: read in parts
INNER = (64, 1024)
LAYOUT = Layout((16, 1))


@dataclass(frozen=True, eq=False)
class Case:
    """A way in which a chunk is fetched.

    Parameters
    ----------
    name : str
    arguments : callable
        Those of ``zarr.create_array``.
    rows : object
        What is selected, orthogonally, in an array of 2048 rows of which the first chunk has 1024.
    ranges : bool
        The store is asked for ranges.
    verified : bool
        Wrong bytes are found.
    """

    name: str
    arguments: Callable[[], dict[str, Any]] = field(repr=False)
    rows: slice | Sequence[int]
    ranges: bool = True
    verified: bool = True

    def __str__(self) -> str:
        return self.name

    def create(self, store: Any) -> zarr.Array:
        return zarr.create_array(
            store=store, shape=(2048, 1024), dtype="<i4", fill_value=FILL, **self.arguments()
        )

    def read(self, array: zarr.Array) -> np.ndarray:
        # into memory of which no value is right: what is forgotten is seen
        out = np.full(self.expected(np.empty((2048, 1024), "i1")).shape, -12345, "<i4")
        array.get_orthogonal_selection(self.places, out=cpu.NDBuffer.from_numpy_array(out))
        return out

    def expected(self, data: np.ndarray) -> np.ndarray:
        return data[self.places]

    @property
    def places(self) -> Any:
        return self.rows if isinstance(self.rows, slice) else list(self.rows)


def sharded(*codecs: Any, location: str = "end") -> Callable[[], dict[str, Any]]:
    def arguments() -> dict[str, Any]:
        serializer = ShardingCodec(
            chunk_shape=INNER, codecs=[BytesCodec(), *codecs], index_location=location
        )
        return {"chunks": WIDE, "serializer": serializer, "compressors": [], "filters": []}

    return arguments


def plain(*codecs: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"chunks": WIDE, "compressors": list(codecs), "filters": []}


FAR_APART = (3, 1000, 1100)  # too far to be fetched in one range
CASES = [
    Case("chunk", plain(ZstdCodec(), Crc32cCodec()), slice(1000, 1100), ranges=False),
    Case("raw-part", plain(), slice(10, 30), verified=False),
    Case("shard-one-range", sharded(Crc32cCodec()), slice(100, 140)),
    Case("shard-ranges", sharded(Crc32cCodec()), FAR_APART),
    Case("shard-index-at-start", sharded(ZstdCodec(), Crc32cCodec(), location="start"), FAR_APART),
]
CASE = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=str)


@cache
def values(seed: int = 0) -> np.ndarray:
    """Such that nothing gets smaller, and nothing is equal to what other seeds give."""
    data = np.random.default_rng(seed).integers(0, 2**24, (2048, 1024), dtype="<i4")
    return data * 64 + seed


@cache
def stored(case: Case, seed: int = 0) -> dict[str, bytes]:
    """What a store holds of the array of a case."""
    held: dict[str, Buffer] = {}
    case.create(MemoryStore(held))[...] = values(seed)
    return {key: value.to_bytes() for key, value in held.items()}


def told(case: Case, seed: int = 0) -> ToldStore:
    store = ToldStore()
    for key, value in stored(case, seed).items():
        store.put(key, value)
    return store


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


def assert_names(error: BaseException, store: Any, key: str = KEY) -> None:
    """The chunk is in the message, or the key and the store are in a note."""
    if isinstance(error, zarrs.ChunkError):
        assert key in str(error)
        assert "array" in str(error)
    else:
        assert repr(key) in notes(error), repr(error)
        assert type(store).__name__ in notes(error), repr(error)


def caught(call: Callable[[], Any]) -> Exception | None:
    """The exception that a call ends with in bounded time, if it does."""
    try:
        in_time(call)
    except Exception as error:
        return error
    return None


# ------------------------------------------------------------------------------ web servers

STORES = {"fsspec": fsspec_store, "obstore": obstore_store}
each_store = pytest.mark.parametrize("kind", STORES)


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """From a case and a kind of store to a server, a store and an array on it."""
    with contextlib.ExitStack() as stack:

        def serve(case: Case, kind: str) -> tuple[FaultyServer, Any, zarr.Array]:
            server = stack.enter_context(FaultyServer(dict(stored(case))))
            store = stack.enter_context(STORES[kind](server.url))
            return server, store, zarr.open_array(store=store, mode="r", zarr_format=3)

        yield serve


@each_store
@each_case
def test_http_missing_is_fill(native: None, served: Any, case: Case, kind: str) -> None:
    server, _, array = served(case, kind)
    del server.files[KEY]
    data = values().copy()
    data[:1024] = FILL
    assert_same(in_time(lambda: case.read(array)), case.expected(data))
    server.files.clear()
    assert (in_time(lambda: case.read(array)) == FILL).all()
    assert tasks_left() == []


# What may come of a fault: "right" data, a ChunkError ("chunk"), an exception of the store's
# ("store"). Where there are ranges and where there are none.
RIGHT, STORE, FOUND = {"right"}, {"store"}, {"chunk", "store"}
FAULTS: dict[Any, tuple[set[str], set[str]]] = {
    403: (STORE, STORE),
    416: (STORE, STORE),
    500: (STORE, STORE),
    "cut": (STORE, STORE),
    "short": (STORE, STORE),
    "no ranges": (RIGHT, RIGHT),
    "few": (FOUND | RIGHT, RIGHT),
    "few, lying": (FOUND | RIGHT, RIGHT),
    "more": (FOUND | RIGHT, RIGHT),
    "elsewhere": (FOUND, RIGHT),
}


@each_store
@each_case
@pytest.mark.parametrize("fault", FAULTS)
def test_http_fault(native: None, served: Any, fault: Any, case: Case, kind: str) -> None:
    """What a server does to the first chunk never becomes wrong data."""
    if fault == "elsewhere" and not case.verified:
        pytest.skip("without a checksum, bytes of another place are as good as these")
    server, store, array = served(case, kind)
    server.fault = lambda asked: fault if asked.key == KEY else None
    result: list[np.ndarray] = []
    error = caught(lambda: result.append(case.read(array)))
    assert tasks_left() == []
    allowed = FAULTS[fault][not case.ranges]
    if kind == "obstore" and fault == "no ranges" and case.ranges:
        allowed = STORE  # object_store has no idea of what to do then
    if error is None:
        assert_same(result[0], case.expected(values()))
        assert "right" in allowed
    else:
        assert ("chunk" if isinstance(error, zarrs.ChunkError) else "store") in allowed, repr(error)
        assert_names(error, store)
    assert len(server.asked) <= 12
    server.fault = lambda asked: None
    assert_same(in_time(lambda: case.read(array)), case.expected(values()))


@pytest.mark.parametrize("fault", ["few", "few, lying", "more", "elsewhere", 500, "cut"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_http_fault_of_one_request(native: None, served: Any, fault: Any, which: int) -> None:
    """The index, the first range, or the second one."""
    case = CASE["shard-ranges"]
    server, store, array = served(case, "fsspec")
    server.fault = lambda asked: (
        fault if [a for a in server.asked if a.key == KEY][which:] == [asked] else None
    )
    result: list[np.ndarray] = []
    error = caught(lambda: result.append(case.read(array)))
    assert tasks_left() == []
    if error is None:
        assert_same(result[0], case.expected(values()))
    else:
        assert_names(error, store)
    assert (error is None) == (fault == "more")  # after which all of the shard was fetched
    server.fault = lambda asked: None
    assert_same(in_time(lambda: case.read(array)), case.expected(values()))


@pytest.mark.parametrize("sharding", [False, True])
def test_a_server_without_ranges_is_soon_understood(
    native: None, served: Any, sharding: bool
) -> None:
    """Ranges are not asked for again and again by one call."""
    if sharding:
        serializer = ShardingCodec(chunk_shape=(8, 1024), codecs=[BytesCodec(), Crc32cCodec()])
        arguments = {"chunks": (512, 1024), "serializer": serializer, "compressors": []}
    else:
        arguments = {"chunks": (64, 1024), "compressors": []}
    rows = range(5, 2048, 512 if sharding else 64)
    case = Case("", lambda: arguments, rows)
    server, _, array = served(case, "fsspec")
    server.fault = lambda asked: "no ranges"
    with zarr.config.set({"async.concurrency": 3}):
        assert_same(in_time(lambda: case.read(array)), case.expected(values()))
    ranges = [asked for asked in server.asked if asked.range is not None]
    whole = [asked for asked in server.asked if asked.range is None]
    assert len(ranges) <= 3
    assert sorted(asked.key for asked in whole) == sorted({asked.key for asked in whole})
    assert len(whole) == len(rows)


def test_http_errors_keep_their_type(native: None, served: Any) -> None:
    """Code that knows the store's exceptions still does."""
    import aiohttp

    server, _, array = served(CASE["chunk"], "fsspec")
    server.fault = lambda asked: 403
    error = caught(lambda: array[...])
    assert isinstance(error, aiohttp.ClientResponseError)
    assert error.status == 403


# ------------------------------------------------------------------ stores that change


def lay(data: np.ndarray, *seeds: int, fill: bool = False) -> np.ndarray:
    """Where `data` is what one of the seeds, or the fill value, says."""
    rows = CASE["shard-ranges"].places
    fine = np.zeros(data.shape, bool)
    for seed in seeds:
        fine |= data == values(seed)[rows]
    return fine | (data == FILL) if fill else fine


def replacement(case: Case, name: str) -> bytes | None:
    """What somebody puts in the place of the first chunk."""
    old = stored(case)[KEY]
    layout = Layout((16, 1), "start" if "start" in case.name else "end")
    if name == "new":
        return stored(case, 1)[KEY]
    if name == "new order":  # the same inner chunks as a new shard, elsewhere in it
        chunks = layout.split(stored(case, 1)[KEY])
        return layout.build(chunks, list(reversed(chunks)), gap=b"gap")
    if name == "new, fewer":
        chunks = layout.split(stored(case, 1)[KEY])
        return layout.build({c: chunks[c] for c in list(chunks)[:1]})
    return {"deleted": None, "empty": b"", "short": old[: len(old) // 3], "zeros": bytes(len(old))}[
        name
    ]


@pytest.mark.parametrize("case", CASES[-2:], ids=str)
@pytest.mark.parametrize(
    "name", ["new", "new order", "new, fewer", "deleted", "empty", "short", "zeros"]
)
@pytest.mark.parametrize("after", [1, 2, 3])
def test_replaced_between_requests(native: None, case: Case, name: str, after: int) -> None:
    """Between index and ranges, and between ranges: old, new, or an error."""
    store = told(case)
    array = zarr.open_array(store=store)
    value = replacement(case, name)
    gets = 0

    async def hook(request: Request) -> Any:
        nonlocal gets
        found = await request.go_on()
        gets += request.key == KEY
        if request.key == KEY and gets == after:
            store.put(KEY, value)
        return found

    for concurrency in (1, 10):
        store.reset()
        store.put(KEY, stored(case)[KEY])
        store.hook, gets = hook, 0
        result: list[np.ndarray] = []
        with zarr.config.set({"async.concurrency": concurrency}):
            error = caught(lambda r=result: r.append(case.read(array)))
        assert tasks_left() == []
        assert store.running == 0
        assert len(store.asked) <= 12
        if error is None:
            fill = name in ("deleted", "new, fewer")
            assert lay(result[0], 0, 1, fill=fill)[:2].all(), name
            assert_same(result[0][2], values()[1100])
        else:
            assert isinstance(error, zarrs.ChunkError), repr(error)
            assert_names(error, store)
    store.reset()
    if name == "deleted":
        assert (case.read(array)[:2] == FILL).all()


def test_deleted_after_the_index_is_fill(native: None) -> None:
    """And not an error: somebody deleted the chunk, that is all."""
    case = CASE["shard-ranges"]
    store = told(case)
    array = zarr.open_array(store=store)

    async def hook(request: Request) -> Any:
        found = await request.go_on()
        store.put(KEY, None)
        return found

    store.hook = hook
    result = in_time(lambda: case.read(array))
    assert (result[:2] == FILL).all()
    assert_same(result[2], values()[1100])


@each_case
@pytest.mark.parametrize("what", ["nothing", "all", "all, for the index"])
def test_stores_without_ranges(native: None, case: Case, what: str) -> None:
    """They say that there is nothing, or give all of it; then all of it is fetched, once."""
    store = told(case)
    whole = stored(case)
    array = zarr.open_array(store=store)

    async def hook(request: Request) -> Any:
        if request.range is None or (request.number and what == "all, for the index"):
            return await request.go_on()
        if what == "nothing":
            return None
        return cpu.Buffer.from_bytes(whole[request.key])

    store.hook = hook
    found = in_time(lambda: case.read(array))
    if what == "nothing" and case.ranges:  # which is what a store says of a chunk that is not there
        assert (found == FILL).all()
    else:
        assert_same(found, case.expected(values()))
    for key in {request.key for request in store.asked}:
        assert len([r for r in store.asked if r.key == key and r.range is None]) <= 1
        assert len([r for r in store.asked if r.key == key]) <= 4


@pytest.mark.parametrize("name", ["new", "deleted", "empty", "short"])
@pytest.mark.parametrize("case", [CASE["raw-part"], CASE["chunk"]], ids=str)
def test_replaced_chunk(native: None, case: Case, name: str) -> None:
    """While it is fetched, after which another call sees the new one."""
    store = told(case)
    array = zarr.open_array(store=store)
    value = replacement(case, name)

    async def hook(request: Request) -> Any:
        found = await request.go_on()
        if request.key == KEY:
            store.put(KEY, value)
        return found

    store.hook = hook
    assert_same(in_time(lambda: case.read(array)), case.expected(values()))
    error = caught(lambda: case.read(array))
    if name in ("empty", "short") and not (name == "short" and case.name == "raw-part"):
        assert isinstance(error, zarrs.ChunkError)
        assert_names(error, store)
    else:
        assert error is None


# ------------------------------------------------------------------------- damaged chunks


def as_memory(held: dict[str, Buffer], root: Path) -> Any:
    return MemoryStore(held)


def as_told(held: dict[str, Buffer], root: Path) -> Any:
    return ToldStore(held)


def as_logged(held: dict[str, Buffer], root: Path) -> Any:
    return LoggingStore(MemoryStore(held), log_level="ERROR")


HELD = {"memory": as_memory, "told": as_told, "logged": as_logged}

SMALL: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": [ZstdCodec()]},
    "gzip": {"compressors": [GzipCodec(level=1)]},
    "crc32c": {"compressors": [Crc32cCodec()]},
    "raw": {"compressors": []},
    "shard": {
        "compressors": [],
        "serializer": ShardingCodec(chunk_shape=(4, 8), codecs=[BytesCodec(), Crc32cCodec()]),
    },
}


@pytest.mark.parametrize("make", HELD.values(), ids=list(HELD))
@pytest.mark.parametrize("codecs", SMALL)
def test_damaged_chunk(native: None, tmp_path: Path, make: Any, codecs: str) -> None:
    """A ChunkError that says which; a failed merge leaves everything as it was."""
    held: dict[str, Buffer] = {}
    store = make(held, tmp_path)
    group = zarr.create_group(store=store)
    array = group.create_array(
        "deep/er", shape=(16, 16), chunks=(8, 8), dtype="<i4", filters=[], **SMALL[codecs]
    )
    data = np.random.default_rng(0).integers(0, 2**30, (16, 16), dtype="<i4")
    array[...] = data
    key = "deep/er/c/1/0"
    good = held[key].to_bytes()
    for bad in (good[:-3], b"", good[: len(good) // 2]):
        held[key] = cpu.Buffer.from_bytes(bad)
        before = {k: v.to_bytes() for k, v in held.items()}
        for read in (..., (slice(7, 9), 0), (9, 5)):
            error = caught(lambda s=read: array[s])
            if error is None and codecs == "raw":  # what is needed is there
                assert_same(array[read], data[read])
                continue
            assert isinstance(error, zarrs.ChunkError), repr(error)
            assert "c/1/0" in str(error)
            assert "deep/er" in str(error)
        error = caught(lambda: array.__setitem__((slice(9, 11), slice(2, 4)), 5))
        assert isinstance(error, zarrs.ChunkError), repr(error)
        assert "c/1/0" in str(error)
        assert {k: v.to_bytes() for k, v in held.items()} == before
        assert_same(array[:8], data[:8])
        assert tasks_left() == []
    array[8:, :8] = data[8:, :8]  # all of it: replaced
    assert_same(array[...], data)


@pytest.mark.parametrize("make", HELD.values(), ids=list(HELD))
def test_one_damaged_chunk_of_many(native: None, tmp_path: Path, make: Any) -> None:
    """A partial write over many chunks: the bad one keeps its bytes, others are old or new."""
    held: dict[str, Buffer] = {}
    array = zarr.create_array(
        store=make(held, tmp_path),
        shape=(640,),
        chunks=(10,),
        dtype="<i4",
        compressors=[GzipCodec()],
    )
    array[...] = old = np.arange(640, dtype="<i4")
    held["c/40"] = bad = cpu.Buffer.from_bytes(held["c/40"].to_bytes()[:-9])
    error = caught(lambda: array.oindex.__setitem__(slice(5, None, 10), -1))
    assert isinstance(error, zarrs.ChunkError)
    assert "'c/40'" in str(error)
    assert held["c/40"].to_bytes() == bad.to_bytes()
    new = old.copy()
    new[5::10] = -1
    for i in set(range(64)) - {40}:
        part = slice(10 * i, 10 * i + 10)
        assert array[part].tolist() in (old[part].tolist(), new[part].tolist())
    held["c/40"] = cpu.Buffer.from_bytes(held["c/41"].to_bytes())
    array.oindex[slice(5, None, 10)] = -1  # nothing is locked
    assert (array[5::10] == -1).all()


# --------------------------------------------------------------------------- full stores


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("concurrency", [1, 3, 50])
@pytest.mark.parametrize("failing", [0, 5, 11])
def test_set_raises(native: None, failing: int, concurrency: int, merge: bool) -> None:
    """The exception comes through; what was being stored is stored, nothing is stored later."""
    store = ToldStore()
    array = zarr.create_array(store=store, shape=(120,), chunks=(10,), dtype="<i4", compressors=[])
    array[...] = old = np.arange(120, dtype="<i4")
    store.reset()
    refused: list[str] = []

    async def hook(request: Request) -> Any:
        if request.what == "set":
            if request.number == failing:
                refused.append(request.key)
                raise OSError(errno.ENOSPC, "disk full")
            await asyncio.sleep(0.02)
        return await request.go_on()

    store.hook = hook
    selection = slice(0, None, 2) if merge else slice(None)
    with zarr.config.set({"async.concurrency": concurrency}):
        error = caught(lambda: array.__setitem__(selection, -5))
    assert store.running == 0, "sets were not awaited"
    after = store.chunks()
    assert type(error) is OSError
    assert error.errno == errno.ENOSPC
    assert_names(error, store, refused[0])
    assert "writing" in notes(error)
    assert tasks_left() == []
    asked = len(store.asked)
    new = old.copy()
    new[selection] = -5
    store.hook = lambda request: request.go_on()
    sets = {r.key for r in store.asked if r.what == "set"} - set(refused)
    for i in range(12):
        part = slice(10 * i, 10 * i + 10)
        expected = new if f"c/{i}" in sets else old
        assert array[part].tolist() == expected[part].tolist()
    assert len([r for r in store.asked[:asked] if r.what == "set"]) <= failing + concurrency
    assert store.chunks() == after
    in_time(lambda: array.__setitem__(selection, -5))  # nothing is locked
    assert_same(array[...], new)


def test_delete_and_get_raise(native: None) -> None:
    """Deleting empty chunks, and fetching what is to be merged."""
    store = ToldStore()
    array = zarr.create_array(store=store, shape=(40,), chunks=(10,), dtype="<i4", fill_value=0)
    array[...] = 7

    for what, selection, doing in (
        ("delete", slice(None), "writing"),
        ("get", slice(1, 3), "reading"),
    ):

        async def hook(request: Request, what: str = what) -> Any:
            if request.what == what:
                raise PermissionError(f"no {what}")
            return await request.go_on()

        store.hook = hook
        error = caught(lambda s=selection: array.__setitem__(s, 0))
        assert type(error) is PermissionError
        assert doing in notes(error)
        assert "'c/" in notes(error)
        store.reset()
        assert (array[...] == 7).all()


# --------------------------------------------------------------------------- wrong types


class OtherBuffer(Buffer):
    """A buffer that is not in the memory of the CPU."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    @classmethod
    def create_zero_length(cls) -> "OtherBuffer":
        return cls(0)

    @classmethod
    def from_buffer(cls, buffer: Buffer) -> "OtherBuffer":
        return cls(len(buffer))

    @classmethod
    def from_bytes(cls, bytes_like: Any) -> "OtherBuffer":
        return cls(len(bytes_like))

    def as_numpy_array(self) -> Any:
        raise AssertionError("nobody should copy it")

    def combine(self, others: Any) -> "OtherBuffer":
        return self

    def __add__(self, other: Buffer) -> "OtherBuffer":
        return self


WRONG: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "str": lambda b: "x" * len(b),
    "int": len,
    "object": lambda b: object(),
    "list": lambda b: [1, 2],
    "array": lambda b: np.frombuffer(b, "u1"),
    "other buffer": lambda b: OtherBuffer(len(b)),
}


@each_case
@pytest.mark.parametrize("name", WRONG)
def test_wrong_types(native: None, case: Case, name: str) -> None:
    """A store that returns something else than a buffer: TypeError, also where it is merged."""
    store = told(case)
    array = zarr.open_array(store=store)

    async def hook(request: Request) -> Any:
        found = await request.go_on()
        if request.what == "get" and request.key == KEY:
            return WRONG[name](found.to_bytes())
        return found

    store.hook = hook
    before = store.chunks()
    for call in (lambda: case.read(array), lambda: array.__setitem__((slice(1000, 1030), 5), 1)):
        error = caught(call)
        assert isinstance(error, TypeError), repr(error)
        what = type(WRONG[name](b"abcd")).__name__
        assert what in str(error) + notes(error)
        assert tasks_left() == []
        assert store.running == 0
    assert store.chunks() == before
    store.reset()
    assert_same(case.read(array), case.expected(values()))


@pytest.mark.parametrize("which", [1, 2])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_types_of_ranges(native: None, name: str, which: int) -> None:
    """The ranges after the index."""
    case = CASE["shard-ranges"]
    store = told(case)
    array = zarr.open_array(store=store)
    gets = 0

    async def hook(request: Request) -> Any:
        nonlocal gets
        found = await request.go_on()
        gets += request.key == KEY
        if gets == which + 1 and request.key == KEY:
            return WRONG[name](found.to_bytes())
        return found

    store.hook = hook
    with zarr.config.set({"async.concurrency": 1}):
        error = caught(lambda: case.read(array))
    assert isinstance(error, TypeError), repr(error)
    assert type(WRONG[name](b"abcd")).__name__ in str(error) + notes(error)
    assert tasks_left() == []
    store.reset()
    assert_same(case.read(array), case.expected(values()))


# ------------------------------------------------------------------------ hostile indexes

HOSTILE: dict[str, Callable[[int, int, int], tuple[int, int]]] = {
    "offset-at-end": lambda o, n, size: (size, n),
    "offset-2^40": lambda o, n, size: (2**40, n),
    "offset-2^62": lambda o, n, size: (2**62, n),
    "offset-2^63-1": lambda o, n, size: (2**63 - 1, n),
    "offset-2^63": lambda o, n, size: (2**63, n),
    "offset-2^64-2": lambda o, n, size: (EMPTY - 1, n),
    "length-past-end": lambda o, n, size: (o, size - o + 1),
    "length-2^33": lambda o, n, size: (o, 2**33),
    "length-2^40": lambda o, n, size: (o, 2**40),
    "length-2^62": lambda o, n, size: (o, 2**62),
    "length-2^63-1": lambda o, n, size: (o, 2**63 - 1),
    "length-2^63": lambda o, n, size: (o, 2**63),
    "length-2^64-2": lambda o, n, size: (o, EMPTY - 1),
    "sum-2^63": lambda o, n, size: (2**63 - n, n),
    "sum-2^64": lambda o, n, size: (2**64 - n, n),
    "sum-wraps": lambda o, n, size: (2**64 - 8, n + 8),
    "sum-wraps-into-place": lambda o, n, size: (2**64 - 16, 16 + o + n),
    "only-offset-empty": lambda o, n, size: (EMPTY, n),
    "only-length-empty": lambda o, n, size: (o, EMPTY),
    "length-0": lambda o, n, size: (o, 0),
    "overlaps": lambda o, n, size: (o - n // 2, n),
    "all-of-it": lambda o, n, size: (0, size),
}
BADS = (4, 15)  # the inner chunks whose entries lie: one in the middle, and the last
MOST = 64 * 1024 * 1024  # no request for this shard, which has 4 MiB, has a reason to be bigger


def stores_of(root: str) -> dict[str, Any]:
    return {
        "told": ToldStore(),
        "memory": MemoryStore(),
        "logged": LoggingStore(LocalStore(root), log_level="ERROR"),
    }


def child_hostile(root: str, codec: str) -> None:
    """Read shards whose index lies, in every store; emit what happened and what it cost."""
    codecs = {"crc32c": [Crc32cCodec()], "zstd": [ZstdCodec()], "raw": []}[codec]
    zarr.config.set({"codec_pipeline.strict": True})
    for store_name, store in stores_of(root).items():
        case = Case("", sharded(*codecs), (3, 300, 1000))
        array = case.create(store)
        array[...] = values()
        good = zarr.core.sync.sync(store.get(KEY, cpu.buffer_prototype)).to_bytes()
        assert_same(case.read(array), case.expected(values()))
        for (name, fault), row in itertools.product(HOSTILE.items(), BADS):
            index = LAYOUT.index(good).copy()
            index[row, 0] = fault(*(int(x) for x in index[row, 0]), len(good))
            bad = cpu.Buffer.from_bytes(LAYOUT.with_index(good, index))
            zarr.core.sync.sync(store.set(KEY, bad))
            if isinstance(store, ToldStore):
                store.reset()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            said = {"store": store_name, "name": name, "row": row}
            emit(said)
            try:
                result = case.read(array)
                same = (result == case.expected(values())).all()
                said["error"] = "none" if same else "wrong data"
            except Exception as error:
                said["error"] = type(error).__name__
                said["text"] = str(error)[:300]
            ranges = [r.range for r in getattr(store, "asked", ()) if hasattr(r.range, "end")]
            said["asked"] = max((r.end - r.start for r in ranges), default=0)
            said["requests"] = len(getattr(store, "asked", ()))
            said["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            emit(said)


@pytest.mark.parametrize("codec", ["crc32c", "zstd", "raw"])
def test_hostile_index(tmp_path: Path, codec: str) -> None:
    """An error that names the shard; nobody asks for, or waits for, what cannot be there."""
    result = run_child(child_hostile, str(tmp_path / "files"), codec, timeout=60)
    lines = [line for line in result.check() if "error" in line]
    assert len(lines) == 3 * len(HOSTILE) * len(BADS)
    for line in lines:
        assert line["error"] == "ChunkError", line
        assert KEY in line["text"], line
        assert line["requests"] <= 10, line
        assert line["asked"] <= MOST, line
        assert line["memory"] <= 200 * 1024, line


def test_hostile_index_over_http(native: None, served: Any) -> None:
    """The server is asked for little, too."""
    case = CASE["shard-ranges"]
    for kind in STORES:
        server, store, array = served(case, kind)
        good = stored(case)[KEY]
        for name in ("offset-2^40", "offset-2^63-1", "length-2^40", "length-2^62", "sum-wraps"):
            index = LAYOUT.index(good).copy()
            index[15, 0] = HOSTILE[name](*(int(x) for x in index[15, 0]), len(good))
            server.files[KEY] = LAYOUT.with_index(good, index)
            server.asked.clear()
            error = caught(lambda a=array: case.read(a))
            assert error is not None, name
            assert_names(error, store)
            assert len(server.asked) <= 12
            assert all(
                asked.range is None or asked.range[1] - asked.range[0] <= MOST
                for asked in server.asked
            ), name
            assert tasks_left() == []


# --------------------------------------------------------------- stores with own ranges


class RangesStore(ToldStore):
    """A store with its own way of reading many ranges of a key.

    Attributes
    ----------
    change : callable
        From the answers, each the number of a range and its bytes, to what is given instead; it
        may raise.
    """

    change: Callable[[list[tuple[Any, Any]]], list[tuple[Any, Any]]] = staticmethod(list)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        return await super().get(key, prototype, byte_range)

    async def get_ranges(
        self, key: str, byte_ranges: Sequence[Any], *, prototype: Any, **_: Any
    ) -> AsyncIterator[Sequence[tuple[int, Any]]]:
        answers: list[tuple[Any, Any]] = []
        for i, wanted in enumerate(byte_ranges):
            found = await self.get(key, prototype, wanted)
            if found is None:
                raise BaseExceptionGroup("reading failed", [FileNotFoundError(key)])
            answers.append((i, found))
        for answer in self.change(answers) if key == KEY else answers:
            await asyncio.sleep(0)
            yield [answer]


def raising(error: BaseException) -> Callable[[list[tuple[Any, Any]]], list[tuple[Any, Any]]]:
    def change(answers: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        raise error

    return change


def cut(buffer: Any, n: int) -> Any:
    return cpu.Buffer.from_bytes(buffer.to_bytes()[:n])


BAD_ANSWERS: dict[str, Any] = {
    "not all": lambda answers: answers[:1],
    "none": lambda answers: [],
    "twice the same": lambda answers: [answers[0], answers[0]],
    "numbers too big": lambda answers: [(i + 5, b) for i, b in answers],
    "negative numbers": lambda answers: [(i - 2, b) for i, b in answers],
    "no numbers": lambda answers: [("0", b) for _, b in answers],
    "bytes": lambda answers: [(i, b.to_bytes()) for i, b in answers],
    "too few bytes": lambda answers: [(i, cut(b, 100)) for i, b in answers],
    "empty": lambda answers: [(i, cut(b, 0)) for i, b in answers],
    "error": raising(ConnectionError("gone")),
    "group": raising(ExceptionGroup("failed", [ConnectionError("gone")])),
    "mixed group": raising(
        ExceptionGroup("failed", [FileNotFoundError("no"), ConnectionError("gone")])
    ),
}


@pytest.mark.parametrize("case", CASES[-2:], ids=str)
@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answers_of_own_ranges(native: None, case: Case, name: str) -> None:
    """An error, never what happened to be in the memory of the result."""
    store = RangesStore()
    for key, value in stored(case).items():
        store.put(key, value)
    array = zarr.open_array(store=store)
    assert_same(case.read(array), case.expected(values()))
    store.change = BAD_ANSWERS[name]
    result: list[np.ndarray] = []
    error = caught(lambda: result.append(case.read(array)))
    assert error is not None or (result[0] == case.expected(values())).all(), "wrong data"
    if error is not None and not isinstance(error, (TypeError, LookupError)):
        assert_names(error, store)
    if name in ("error", "group", "mixed group"):
        assert "gone" in str([error, *getattr(error, "exceptions", ())])
    assert tasks_left() == []
    assert store.running == 0
    store.change = list
    assert_same(case.read(array), case.expected(values()))


def test_own_ranges_of_a_deleted_shard(native: None) -> None:
    case = CASE["shard-ranges"]
    store = RangesStore()
    for key, value in stored(case).items():
        store.put(key, value)
    array = zarr.open_array(store=store)

    async def hook(request: Request) -> Any:
        found = await request.go_on()
        store.put(KEY, None)
        return found

    store.hook = hook
    result = in_time(lambda: case.read(array))
    assert (result[:2] == FILL).all()
    assert_same(result[2], values()[1100])


# ------------------------------------------------------------------------- own exceptions


class StrangeError(Exception):
    """One that cannot be made of its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


@each_case
def test_an_exception_is_the_stores_own(native: None, case: Case) -> None:
    """The very object that the store raised, with one note a level."""
    store = told(case)
    array = zarr.open_array(store=store)
    raised: list[Exception] = []

    async def hook(request: Request) -> Any:
        if request.key == KEY:
            raised.append(StrangeError(1, 2))
            raise raised[-1]
        return await request.go_on()

    store.hook = hook
    error = caught(lambda: case.read(array))
    assert error is raised[0]
    assert_names(error, store)
    assert notes(error).count(KEY) == 1
    assert tasks_left() == []
