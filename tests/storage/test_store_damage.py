"""Stores whose answers are wrong: damaged chunks, wrong types, hostile indexes."""

import asyncio
import itertools
import resource
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from fault_cases import (
    CASE,
    CASES,
    KEY,
    STORES,
    Case,
    assert_names,
    caught,
    check_deleted_after_the_index,
    cut,
    each_case,
    notes,
    sharded,
    stored,
    told,
    values,
)
from faulty_http import Request, ToldStore, tasks_left
from helpers import assert_same, emit, run_child
from shards import EMPTY, Layout
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import cpu
from zarr.core.buffer.core import Buffer
from zarr.storage import LocalStore, LoggingStore, MemoryStore

import zarrs

LAYOUT = Layout((16, 1))


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
        assert np.asarray(array[part]).tolist() in (old[part].tolist(), new[part].tolist())
    held["c/40"] = cpu.Buffer.from_bytes(held["c/41"].to_bytes())
    array.oindex[slice(5, None, 10)] = -1  # nothing is locked
    assert (np.asarray(array[5::10]) == -1).all()


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
    chains: dict[str, list[Any]] = {"crc32c": [Crc32cCodec()], "zstd": [ZstdCodec()], "raw": []}
    codecs = chains[codec]
    zarr.config.set({"codec_pipeline.strict": True})
    for store_name, store in stores_of(root).items():
        case = Case("", sharded(*codecs), (3, 300, 1000))
        array = case.create(store)
        array[...] = values()
        good = zarr.core.sync.sync(store.get(KEY, cpu.buffer_prototype)).to_bytes()
        assert_same(case.read(array), case.expected(values()))
        for (name, fault), row in itertools.product(HOSTILE.items(), BADS):
            index = LAYOUT.index(good).copy()
            index[row, 0] = fault(int(index[row, 0, 0]), int(index[row, 0, 1]), len(good))
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
            index[15, 0] = HOSTILE[name](int(index[15, 0, 0]), int(index[15, 0, 1]), len(good))
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

    change: Any = staticmethod(list)

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
    check_deleted_after_the_index(store)
