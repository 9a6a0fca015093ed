"""Every kind of store: the same values and bytes as zarr's."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import pytest
import stores
import zarr
from covering import WAYS, covering, in_turn
from helpers import CORE_DTYPES, ZARR_34, assert_same, make_data, newer, selections, stock, zarr_has
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from selections import Case, Pick, cases, check, picks
from shards import SHARDING, Coords, Sharding
from store_cases import BIG, CASE, CASES, MIB, NESTED, NoRanges, coalescing, make, plain_case
from stores import (
    KINDS,
    READ_ONLY_KINDS,
    AsyncOnly,
    Kind,
    Mapping,
    Ranges,
    Services,
    Spy,
    SyncSpy,
    each_kind,
    filled,
    ours,
    stored,
    theirs,
)
from zarr.abc.store import Store
from zarr.core.buffer import Buffer, BufferPrototype, cpu
from zarr.storage import GpuMemoryStore, LocalStore, MemoryStore, WrapperStore, ZipStore
from zarr.testing.buffer import StoreExpectingTestBuffer, TestBuffer

import zarrs
from zarrs.storage import _stores

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]

SAME_BYTES = ("raw", "shards-crc32c-start", "shards-nested-start-end")  # whoever writes
FEW_CASES = ("raw", "v2-zlib-F", "shards-zstd", "shards-nested-start-end")  # where all is slow


def each_kind_and_case(*, read_only: bool = False) -> pytest.MarkDecorator:
    """Every kind of store with every case that it takes, each with both ways of access."""
    return pytest.mark.parametrize(
        ("access", "kind", "case"),
        [
            pytest.param(way, kind, case, id=f"{way}-{kind}-{case.name}", marks=kind.marks)
            for i, kind in enumerate((*KINDS, *(READ_ONLY_KINDS if read_only else ())))
            for k, case in enumerate(case for case in CASES if takes(kind, case))
            for way in (in_turn(i, k),)
        ],
        indirect=["access"],
    )


def takes(kind: Kind, case: Case) -> bool:
    """Whether a kind of store is tried with a case."""
    return case.arguments.get("zarr_format", 3) in kind.formats and (
        not kind.remote or case.name in FEW_CASES
    )


def each_kind_and_name(*names: str) -> pytest.MarkDecorator:
    """Every kind of store with some cases, each with both ways of access."""
    return pytest.mark.parametrize(
        ("access", "kind", "name"),
        [
            pytest.param(way, kind, name, id=f"{way}-{kind}-{name}", marks=kind.marks)
            for way, kind, name in covering(WAYS, KINDS, names)
        ],
        indirect=["access"],
    )


def some_picks(shape: Coords, every: int, seed: int = 0) -> list[Pick]:
    """Selections of all kinds: of the basic ones, one in `every`."""
    basic = [Pick("basic", key) for key in selections(shape, seed, count=0)[::every]]
    if not shape:
        return basic
    rng = np.random.default_rng([seed, *shape])
    return [
        *basic,
        Pick("oindex", tuple(rng.integers(-n, n, 1 + n // 3) for n in shape)),
        Pick(
            "oindex",
            (np.unique(rng.integers(0, shape[0], 5)), *(slice(1, None, 2),) * (len(shape) - 1)),
        ),
        Pick("vindex", tuple(rng.integers(-n, n, 7) for n in shape)),
        Pick("mask", rng.random(shape) < 0.1),
    ]


@each_kind_and_case(read_only=True)
def test_written_elsewhere_reads_here(
    native: None, tmp_path: Path, services: Services, kind: Kind, case: Case
) -> None:
    """All that zarr's default pipeline has stored, in every kind of selection."""
    data = make_data("<i4", case.shape)

    def fill(store: Store) -> None:
        make(store, case)[...] = data

    store = filled(kind, tmp_path, services, fill)
    array = ours(store)
    assert_same(array[...], data)
    for pick in some_picks(case.shape, 11 if kind.remote else 4):
        where = pick.places(case.shape)
        assert_same(pick.read(array), data.reshape(-1)[where], f"read {pick}")
    assert zarrs.explain(array).native


@each_kind_and_case()
def test_written_here_reads_elsewhere(
    native: None, tmp_path: Path, services: Services, kind: Kind, case: Case
) -> None:
    """Whole and partial writes leave what they leave in NumPy, for both pipelines."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", case.shape)
    array = make(store, case, fill_value=7)
    assert_same(array[...], np.full(case.shape, 7, "<i4"), "nothing stored")
    array[...] = data
    assert_same(array[...], data)
    assert_same(theirs(store)[...], data, "zarr")
    if case.name in SAME_BYTES:
        before = stored(store)
        theirs(store)[...] = data
        assert stored(store) == before
    for i, pick in enumerate(some_picks(case.shape, 19 if kind.remote else 5, seed=1)):
        where = pick.places(case.shape)
        value = make_data("<i4", case.shape, i + 2).reshape(-1)[where]
        if i % 4 == 3 and value.size:  # one value for all
            value = value.reshape(-1)[0]
        pick.write(array, value)
        data.reshape(-1)[where] = value
        if i % 3 == 0:
            assert_same(array[...], data, f"after {pick}")
    assert_same(array[...], data)
    assert_same(theirs(store)[...], data, "zarr, after all")
    other = make_data("<i4", case.shape, 99)
    theirs(store)[...] = other
    assert_same(array[...], other, "after zarr")
    assert_same(ours(store)[...], other, "after zarr, opened again")


@each_kind_and_name("raw", "shards-crc32c-start", "shards-nested-start-end")
def test_empty_chunks(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """Chunks of the fill value are deleted or stay away, as in zarr; or are stored if asked."""
    case = CASE[name]
    store = kind.new(tmp_path, services)
    array = make(store, case, fill_value=7)
    array[...] = 7
    assert stored(store) == {}
    corner = tuple(slice(0, n) for n in case.grid)
    array[corner] = 5
    assert len(stored(store)) == 1
    if not kind.deletes:
        with pytest.raises(NotImplementedError), stock():
            theirs(store)[corner] = 7
        with pytest.raises(NotImplementedError):
            array[corner] = 7
        return
    array[corner] = 7
    assert stored(store) == {}
    data = np.full(case.shape, 7, "<i4")
    data[corner] = 1
    array[corner] = 1
    assert_same(array[...], data, "others are missing")
    assert_same(theirs(store)[...], data, "zarr")
    with zarr.config.set({"array.write_empty_chunks": True}):
        full = ours(store)
    full[...] = 7
    assert len(stored(store)) == math.prod(
        -(-n // g) for n, g in zip(case.shape, case.grid, strict=True)
    )
    assert_same(theirs(store)[...], np.full(case.shape, 7, "<i4"), "zarr, all stored")


@each_kind_and_name("raw", "shards-zstd")
def test_arrays_deep_below_the_root(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """The path of an array is part of its keys, and of no other's."""
    store = kind.new(tmp_path, services)
    case = CASE[name]
    data = {path: make_data("<i4", case.shape, i) for i, path in enumerate(("deep/path/in/a", "b"))}
    for path, values in data.items():
        make(store, case, name=path)[...] = values
    for path, values in data.items():
        assert_same(ours(store, path)[...], values)
        assert_same(theirs(store, path)[...], values, "zarr")
    assert {key.split("/c/")[0] for key in stored(store)} == set(data)


@each_kind()
def test_read_only_stores(native: None, tmp_path: Path, services: Services, kind: Kind) -> None:
    """A write raises what zarr raises, before anything has changed."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", (23, 17))
    make(store, CASE["raw"])[...] = data
    before = stored(store)
    if isinstance(store, ZipStore):
        store.close()
        assert store.path is not None
        closed: Store = ZipStore(store.path, mode="r")
    else:
        closed = store.with_read_only(True)
    array = ours(closed)
    assert_same(array[...], data)
    for key in (..., (slice(3, 9), slice(2, 8)), (0, 0)):
        with pytest.raises(ValueError, match="read-only"):
            array[key] = 1
    assert stored(closed) == before
    assert_same(array[...], data)


def test_committed_to_icechunk(native: None, tmp_path: Path) -> None:
    """What a session has committed reads in another, whole and in parts."""
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path)))
    session = repository.writable_session("main")
    case = CASE["shards-zstd"]
    data = make_data("<i4", case.shape)
    make(session.store, case, name="small")[...] = data
    make(session.store, BIG[0], name="big")[...] = big = make_data("<i4", BIG[0].shape)
    session.commit("both")
    store = repository.readonly_session("main").store
    assert_same(ours(store, "small")[...], data)
    assert_same(ours(store, "big")[5:500:90, 3:9], big[5:500:90, 3:9])
    assert_same(theirs(store, "big")[5:500:90, 3:9], big[5:500:90, 3:9])
    with pytest.raises(ValueError, match="read-only"):
        ours(store, "small")[...] = 1


# ----------------------------------------------------------------------- whose memory it is


@pytest.mark.parametrize("name", ["raw", "raw-big", "zstd", "v2-raw-F"])
@each_kind("memory", "memory-mapping", "managed-memory", "wrapper", "sync-spy", "async-only")
def test_stores_in_memory_keep_their_own(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """Neither the user's array nor a result shares memory with what is stored."""
    store = kind.new(tmp_path, services)
    data = make_data("<i4", (8, 6))
    value = data.copy(order="F" if name.endswith("F") else "C")
    array = make(store, plain_case(name, (8, 6), (8, 6)))
    array[...] = value
    before = stored(store)
    value[...] = -1
    result = np.asarray(array[...])
    result[...] = -2
    part = np.asarray(array[1:3])
    part[...] = -3
    assert stored(store) == before
    assert_same(array[...], data)
    held = getattr(store, "_store_dict", {})
    for key in before:
        if key in held:
            assert not np.shares_memory(held[key].as_numpy_array(), value)


def test_writes_do_not_change_old_buffers(native: None) -> None:
    """A partial write stores a new buffer: who has the old one keeps it as it is."""
    store = MemoryStore()
    array = make(store, plain_case("raw", (8, 6), (8, 6)))
    array[...] = data = make_data("<i4", (8, 6))
    old = store._store_dict["c/0/0"]
    array[2:4, 1:3] = 0
    assert old.to_bytes() == data.tobytes()


# ------------------------------------------------------------------------- what is not there


@pytest.mark.skipif(not ZARR_34, reason="the option came with zarr 3.4")
@each_kind("memory", "sync-spy", "async-only", "own-ranges", "zip", "obstore-memory")
@pytest.mark.parametrize("name", ["raw", "zstd", "shards-zstd"])
def test_missing_chunks_may_be_an_error(
    native: None, tmp_path: Path, services: Services, kind: Kind, name: str
) -> None:
    """With ``array.read_missing_chunks`` off, whatever the store."""
    ChunkNotFoundError = newer("zarr.errors", "ChunkNotFoundError")  # noqa: N806

    case = CASE[name]
    store = kind.new(tmp_path, services)
    data = make_data("<i4", case.shape)
    array = make(store, case)
    corner = tuple(slice(0, g) for g in case.grid)
    array[corner] = data[corner]
    with zarr.config.set({"array.read_missing_chunks": False}):
        array = ours(store)
    assert_same(array[corner], data[corner])
    with pytest.raises(ChunkNotFoundError):
        array[...]


# ---------------------------------------------------------------------- explained, or refused


@each_kind(read_only=True)
def test_explain(tmp_path: Path, services: Services, kind: Kind) -> None:
    """Native from end to end, and by what way."""

    def fill(store: Store) -> None:
        make(store, CASE["zstd"])

    explanation = zarrs.explain(ours(filled(kind, tmp_path, services, fill)))
    assert explanation.native is True
    assert explanation.store.native is True
    assert "its own interface" in explanation.store.reason
    assert explanation.store.reason in str(explanation)


def test_chunks_in_a_gpu() -> None:
    """Their bytes are no business of ours, whoever wraps the store."""
    store = GpuMemoryStore()
    for one in (store, WrapperStore(store), WrapperStore(WrapperStore(store))):
        reason = _stores.file_prefix(one)
        assert isinstance(reason, str)
        assert "GPU" in reason
        assert type(one).__name__ in reason
    assert _stores.file_prefix(WrapperStore(MemoryStore())) is None
    assert _stores.file_prefix(WrapperStore(LocalStore("x"))) is None
    assert isinstance(_stores.file_prefix(LocalStore("x")), bytes)


class Foreign(cpu.Buffer.__mro__[1]):  # type: ignore[misc,name-defined]
    """A buffer that is none of the CPU's, as far as anybody can tell."""

    create_zero_length = cpu.Buffer.__dict__["create_zero_length"]
    from_buffer = cpu.Buffer.__dict__["from_buffer"]
    from_bytes = cpu.Buffer.__dict__["from_bytes"]
    as_numpy_array = cpu.Buffer.__dict__["as_numpy_array"]
    combine = cpu.Buffer.__dict__["combine"]
    __add__ = cpu.Buffer.__dict__.get("__add__", lambda self, other: self)


def test_foreign_buffers() -> None:
    """A prototype with buffers from elsewhere is left to zarr, with a reason."""
    prototype = BufferPrototype(buffer=Foreign, nd_buffer=cpu.NDBuffer)
    store = MemoryStore()
    data = make_data("<i4", (23, 17))
    array = make(store, CASE["raw"])
    array.set_basic_selection(..., data, prototype=prototype)
    assert_same(array.get_basic_selection((slice(1, 9), 3), prototype=prototype), data[1:9, 3])
    assert_same(array[...], data)
    with zarr.config.set({"codec_pipeline.strict": True}):
        strict = ours(store)
    with pytest.raises(zarrs.NotNativeError, match="Foreign is no buffer"):
        strict.get_basic_selection(..., prototype=prototype)
    with pytest.raises(zarrs.NotNativeError, match="Foreign is no buffer"):
        strict.set_basic_selection(..., data, prototype=prototype)


class Typed(Spy):
    """Remembers of which classes the buffers were."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.classes: set[type] = set()

    async def get(
        self, key: str, prototype: BufferPrototype, *args: Any, **kw: Any
    ) -> Buffer | None:
        self.classes |= {prototype.buffer} if stores.is_chunk(key) else set()
        return await super().get(key, prototype, *args, **kw)

    async def set(self, key: str, value: Buffer) -> None:
        self.classes |= {type(value)} if stores.is_chunk(key) else set()
        await super().set(key, value)


@pytest.mark.parametrize("name", ["raw", "zstd", "shards-zstd"])
@pytest.mark.parametrize("store", [Typed, StoreExpectingTestBuffer], ids=lambda c: c.__name__)
def test_buffers_of_a_subclass(native: None, store: type[Store], name: str) -> None:
    """Subclasses of the CPU's buffers are native, and are what a store gets and is asked for."""
    prototype = BufferPrototype(buffer=TestBuffer, nd_buffer=cpu.NDBuffer)
    where: Any = store()
    case = CASE[name]
    data = make_data("<i4", case.shape)
    array = make(where, case)
    array.set_basic_selection(..., data, prototype=prototype)
    corner = tuple(slice(1, g + 1) for g in case.grid)
    array.set_basic_selection(corner, 5, prototype=prototype)
    data[corner] = 5
    assert_same(array.get_basic_selection(..., prototype=prototype), data)
    if isinstance(where, Typed):
        assert where.classes == {TestBuffer}
    plain = AsyncOnly(where.held) if isinstance(where, Typed) else MemoryStore(where._store_dict)
    assert_same(theirs(plain)[...], data, "zarr")


# ------------------------------------------------------------------------------------ random


RANDOM_STORES: dict[str, Callable[[], Store]] = {
    "memory": MemoryStore,
    "async-only": AsyncOnly,
    "spy": lambda: Spy(delay=0.0001),
    "ranges": Ranges,
    "no-ranges": NoRanges,
    "blocking": SyncSpy,
    "mapping": lambda: MemoryStore(Mapping()),
    "latency": lambda: WrapperStore(Spy(delay=0.0001)),
}


EXAMPLES = int(os.environ.get("ZARRS_EXAMPLES", "100"))


def referee(store: Store) -> zarr.Array[Any]:
    """The array for zarr's default pipeline, which takes it that stores have ranges."""
    return theirs(AsyncOnly(store.held) if isinstance(store, NoRanges) else store)


def examples(count: int) -> settings:
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # to make it smaller takes minutes
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@examples(EXAMPLES)
@given(
    data=st.data(),
    case=cases(),
    dtype=st.sampled_from([*CORE_DTYPES, np.dtype(">i4")]),
    name=st.sampled_from([*RANDOM_STORES]),
    limit=st.sampled_from([1, 2, 10, None]),
)
@pytest.mark.usefixtures("native")
def test_random(
    data: st.DataObject, case: Case, dtype: np.dtype, name: str, limit: int | None
) -> None:
    """Any sequence of reads and writes leaves what it leaves in NumPy, in any store."""
    no_void = not ZARR_34 and dtype.kind == "V"  # which zarr cannot read from shards
    if no_void or not zarr_has(dtype, case.arguments.get("zarr_format", 3)):
        dtype = np.dtype("<i4")
    options = {
        "async.concurrency": limit,
        # to zarr a chunk of complex -0.0 is as empty as one of 0.0
        "array.write_empty_chunks": dtype.kind in "cV",
    }
    store = RANDOM_STORES[name]()
    with zarr.config.set(options):
        array = make(store, case, dtype)
        expected = np.full(case.shape, array.fill_value, dtype)
        for _ in range(data.draw(st.integers(1, 4), label="steps")):
            pick = data.draw(picks(case), label="write")
            note(str(pick))
            where = pick.places(case.shape, case.grid)
            value = make_data(dtype, case.shape, data.draw(st.integers(0, 5))).reshape(-1)[where]
            if value.size and data.draw(st.booleans(), label="scalar"):
                value = value.reshape(-1)[0]
            pick.write(array, value)
            expected.reshape(-1)[where] = value
            pick = data.draw(picks(case), label="read")
            where = pick.places(case.shape, case.grid)
            assert_same(pick.read(array), expected.reshape(-1)[where], f"read {pick}")
        assert_same(array[...], expected, "all")
        assert_same(referee(store)[...], expected, "zarr")
        # before 3.4 zarr cannot write to shards of no dimensions
        if (ZARR_34 or len(case.shape) > 0) and data.draw(st.booleans(), label="zarr writes"):
            expected = make_data(dtype, case.shape, 7)
            referee(store)[...] = expected
            assert_same(array[...], expected, "after zarr")


BIG_SHARDINGS = (
    *("index-end-little-crc32c", "index-start-big-bare", "zstd", "crc32c-start", "blosc"),
    *("before-rotated", "inside-rotated-zstd", "nested-zstd"),
)


@examples(EXAMPLES // 4)
@given(
    data=st.data(),
    how=st.sampled_from([None, *(SHARDING[name] for name in BIG_SHARDINGS)]),
    name=st.sampled_from([*RANDOM_STORES]),
    inner=st.sampled_from([(48, 64), (192, 192), (64, 576), (12, 24)]),
    limits=st.tuples(st.sampled_from([0, 500, 50_000, MIB]), st.sampled_from([1, 40_000, MIB])),
    holes=st.booleans(),
)
@pytest.mark.usefixtures("native")
def test_random_parts_of_big_shards(
    data: st.DataObject,
    how: Sharding | None,
    name: str,
    inner: Coords,
    limits: tuple[int, int],
    holes: bool,
) -> None:
    """Index and ranges, with any gaps, in any store."""
    shape, shard = (700, 650), (576, 576)
    case = NESTED
    if how is not None:
        case = Case(shape, how.shard_shape(shard), how.arguments(shard, inner), how.name)
    store = RANDOM_STORES[name]()
    expected = make_data("<i4", shape, 3)
    if holes:
        expected[100:400, 200:500] = 0
    with coalescing(*limits):
        array = make(store, case)
        array[...] = expected
        for _ in range(3):
            pick = data.draw(picks(case).filter(lambda p: p.kind != "mask"), label="read")
            note(str(pick))
            where = pick.places(shape, case.grid)
            assert_same(pick.read(array), expected.reshape(-1)[where], f"read {pick}")
        pick = data.draw(picks(case), label="write")
        check(array, expected, pick, grid=case.grid)
    assert_same(referee(store)[...], expected, "zarr")
