"""Stores that fail: web servers, full ones, and errors of their own."""

import asyncio
import errno
from typing import Any

import numpy as np
import pytest
import zarr
from fault_cases import (
    CASE,
    CASES,
    FILL,
    KEY,
    STORES,
    Case,
    assert_names,
    caught,
    check_deleted_after_the_index,
    each_case,
    notes,
    stored,
    told,
    values,
)
from faulty_http import Request, ToldStore, in_time, tasks_left
from helpers import assert_same
from shards import Layout
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import cpu

import zarrs

each_store = pytest.mark.parametrize("kind", STORES)


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
    # After too much all of the shard was fetched; wrong bytes were asked for once more.
    assert (error is None) == (fault not in (500, "cut"))
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
    check_deleted_after_the_index(store)


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
        assert np.asarray(array[part]).tolist() == expected[part].tolist()
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
        assert (np.asarray(array[...]) == 7).all()


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
