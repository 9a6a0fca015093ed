"""Decoded chunks that are kept: what is read from them, how many, and when they are dropped."""

import asyncio
import copy
import pickle
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore.store
import pytest
import zarr
from forks import forked
from helpers import assert_same, make_data, ours_open, stock_open
from hypothesis import given, note
from hypothesis import strategies as st
from picks import CASES, SHAPE
from selections import EXAMPLES, Case, cases, picks
from shards import in_threads
from stores import AsyncOnly, Spy, SyncSpy, ours, theirs
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, WrapperStore

import zarrs
from zarrs.storage._stores import location

pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

DATA = make_data("<i4", SHAPE)
MIB = 2**20
GRID = (8, 8)
PLACES = (np.array([28, 0, 3]), slice(None), np.array([12, 1]))
STORES: dict[str, Callable[[Path], Any]] = {
    "files": str,
    "memory": lambda path: MemoryStore(),
    "async": lambda path: AsyncOnly(),
    "wrapped": lambda path: WrapperStore(MemoryStore()),
}
each_store = pytest.mark.parametrize("kind", STORES)
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": GRID},
    "shards": {"chunks": (4, 4), "shards": GRID},
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS)
PIECES = {"chunks": 16, "shards": 64}  # chunks, or inner chunks, of an array of 32 by 32


def squares(store: Any, layout: str, **kw: Any) -> tuple[zarr.Array[Any], np.ndarray]:
    """An array of 32 by 32 items, and what is in it."""
    kw = {"compressors": ZstdCodec(), **LAYOUTS[layout], **kw}
    array = zarr.create_array(store, shape=(32, 32), dtype="<i4", **kw)
    array[...] = data = make_data("<i4", (32, 32), 1)
    return array, data


class Interrupted(AsyncOnly):
    """A store in which something else happens between a request and its answer, once."""

    after_get: Callable[[], None] | None = None
    after_set: Callable[[], None] | None = None

    async def get(self, *args: Any, **kwargs: Any) -> Any:
        found = await super().get(*args, **kwargs)
        hook, self.after_get = self.after_get, None
        if hook is not None:
            await asyncio.to_thread(hook)
        return found

    async def set(self, key: str, value: Any) -> None:
        await super().set(key, value)
        hook, self.after_set = self.after_set, None
        if hook is not None:
            await asyncio.to_thread(hook)


def shard_of_eight(store: Any) -> zarr.Array[Any]:
    """Inner chunks of one item that are not stored where it is -1, so that the others move."""
    return zarr.create_array(
        store, shape=(8,), chunks=(1,), shards=(8,), dtype="i8", compressors=None, fill_value=-1
    )


def figures(array: zarrs.Array) -> tuple[int, int]:
    assert array.cache is not None
    return array.cache.hits, array.cache.misses


# ------------------------------------------------------------------------------ what is read


@EXAMPLES
@given(data=st.data(), case=cases(), dtype=st.sampled_from(["<i4", ">f8", "S3"]))
@pytest.mark.usefixtures("native")
def test_random_reads_and_writes(data: st.DataObject, case: Case, dtype: Any) -> None:
    """Whatever is read again, after writes of any kind, is what was written last."""
    kind = data.draw(st.sampled_from(sorted(STORES)), label="store")
    limit = data.draw(st.sampled_from([1, 300, 3000, MIB]), label="limit")
    with tempfile.TemporaryDirectory() as root:
        store = STORES[kind](Path(root))
        plain = zarr.create_array(store, shape=case.shape, dtype=dtype, **case.arguments)
        model = np.full(case.shape, plain.fill_value, dtype)
        array = zarrs.direct(plain, cache_bytes=limit)
        other = zarrs.direct(plain)
        for step in range(data.draw(st.integers(2, 7), label="steps")):
            pick = data.draw(picks(case), label="pick")
            what = data.draw(st.sampled_from(["read", "read", "many", "own", "other", "plain"]))
            note(f"{step}: {what} {pick}")
            where = pick.places(case.shape, case.grid)
            if what in ("own", "other", "plain"):
                values = make_data(dtype, case.shape, step).reshape(-1)
                writer = {"own": array, "other": other, "plain": plain}[what]
                pick.write(writer, values[where])
                model.reshape(-1)[where] = values[where]
            elif what == "many" and pick.kind in ("basic", "oindex"):
                for one in array.read_many([pick.key, pick.key]):
                    assert_same(one, model.reshape(-1)[where])
            else:
                assert_same(pick.read(array), model.reshape(-1)[where])
            assert array.cache is not None
            assert array.cache.nbytes <= limit


@each_store
@each_layout
def test_what_was_read_is_not_decoded_again(
    native: None, tmp_path: Path, kind: str, layout: str
) -> None:
    array, data = squares(STORES[kind](tmp_path), layout)
    cached = zarrs.direct(array, cache_bytes=MIB)
    pieces = PIECES[layout]
    assert figures(cached) == (0, 0)
    assert_same(cached[...], data)
    assert figures(cached) == (0, pieces)
    assert_same(cached[1:31:2, ::3], data[1:31:2, ::3])
    assert_same(cached.oindex[np.array([3, 1, 31]), 5:], data[[3, 1, 31], 5:])
    assert_same(cached.vindex[[3, 31], [4, 30]], data[[3, 31], [4, 30]])
    assert_same(cached.read_many([np.s_[1:3], np.s_[2:4]]), np.stack([data[1:3], data[2:4]]))
    assert cached[5, 6] == data[5, 6]
    hits, misses = figures(cached)
    assert misses == pieces
    assert hits > pieces


@each_layout
def test_a_window_that_moves(native: None, tmp_path: Path, layout: str) -> None:
    """Each piece is decoded once, wherever the window has been."""
    array, data = squares(tmp_path, layout)
    cached = zarrs.direct(array, cache_bytes=MIB)
    for start in range(17):
        assert_same(cached[start : start + 16, 4:20], data[start : start + 16, 4:20])
    wanted = {"chunks": 4 * 3, "shards": 8 * 4}[layout]
    assert figures(cached)[1] == wanted


@each_store
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_shards_of_every_kind(native: None, tmp_path: Path, case: Case, kind: str) -> None:
    """Codecs around shards, shards in shards, rotated ones: a second read decodes nothing."""
    store = STORES[kind](tmp_path)
    made = zarr.create_array(store, shape=SHAPE, dtype="<i4", **case.arguments)
    array = zarrs.direct(made, cache_bytes=16 * MIB)
    array[...] = DATA
    for _ in range(2):
        assert_same(array[3:20, 2:9, 1:12], DATA[3:20, 2:9, 1:12])
        assert_same(array.oindex[PLACES], DATA[np.ix_(PLACES[0], np.arange(17), PLACES[2])])
    misses = figures(array)[1]
    assert_same(array[3:20, 2:9, 1:12], DATA[3:20, 2:9, 1:12])
    assert figures(array)[1] == misses
    array[4, 4, 4] = DATA[4, 4, 4] = 7
    assert array[4, 4, 4] == 7


def test_strings(native: None, tmp_path: Path) -> None:
    words = np.array([["one", "two"], ["", "vier"]] * 4, object)
    array = zarr.create_array(tmp_path, shape=(8, 2), chunks=(4, 2), dtype=str)
    array[...] = words
    cached = zarrs.direct(array, cache_bytes=MIB)
    for _ in range(2):
        assert cached[1:7].tolist() == words[1:7].tolist()
    assert figures(cached) == (2, 2)


def test_a_chunk_that_just_has_no_room(native: None, tmp_path: Path) -> None:
    """It is read as without a cache, not decoded to be thrown away."""
    array = zarrs.create_array(tmp_path, data=np.arange(1000), chunks=(1000,))
    cached = zarrs.direct(array, cache_bytes=8100)
    for _ in range(2):
        assert_same(cached[:5], np.arange(5))
    assert figures(cached) == (0, 0)


def test_big_chunks(native: None, tmp_path: Path) -> None:
    """Of chunks that threads share otherwise, all is kept that any part is wanted of."""
    data = np.arange(2 * MIB, dtype="<i4").reshape(2, 1024, 1024)
    for name, compressors in {"raw": None, "blosc": BloscCodec(cname="lz4")}.items():
        array = zarrs.create_array(
            tmp_path / name, data=data, chunks=(1, 1024, 1024), compressors=compressors
        )
        cached = zarrs.direct(array, cache_bytes=64 * MIB)
        assert cached[1, 3, 4] == data[1, 3, 4]
        assert_same(cached[:, :700], data[:, :700])
        assert_same(cached[...], data)
        assert figures(cached) == (3, 2)
        small = zarrs.direct(array, cache_bytes=MIB)  # in which no chunk has room
        assert_same(small[:, :700], data[:, :700])
        assert (figures(small), len(small.cache or ())) == ((0, 0), 0)


@each_store
def test_missing_chunks(native: None, tmp_path: Path, kind: str) -> None:
    """They are no hits: another process may write them."""
    array = zarr.create_array(STORES[kind](tmp_path), shape=(8,), chunks=(4,), dtype="i2")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], np.zeros(8, "i2"))
    theirs(array.store)[:4] = 5
    assert_same(cached[...], np.repeat([5, 0], 4).astype("i2"))
    assert figures(cached) == (0, 1)


# --------------------------------------------------------------------------- what is fetched


@pytest.mark.parametrize("watched", [Spy, SyncSpy], ids=["async", "blocking"])
def test_nothing_is_fetched_twice(native: None, watched: Any) -> None:
    store = watched()
    array, data = squares(store, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[:8], data[:8])
    store.watch.forget()
    assert_same(cached[2:8, 3:20], data[2:8, 3:20])
    assert store.watch.requests == []
    assert_same(cached[:16, :8], data[:16, :8])  # one chunk is known, one is not
    assert len(store.watch.requests) == 1


def test_indexes_of_shards_are_fetched_once(native: None) -> None:
    """Of a shard whose index is known, only inner chunks are fetched, and those only once."""
    store = Spy()
    data = make_data("<i4", (768, 768))
    array = zarr.create_array(
        store, shape=data.shape, dtype="<i4", chunks=(64, 64), shards=(768, 768), compressors=None
    )
    array[...] = data
    cached = zarrs.direct(array, cache_bytes=4 * MIB)
    store.watch.forget()
    assert_same(cached[5, :9], data[5, :9])
    assert len(store.watch.requests) == 2  # the index, and an inner chunk
    assert_same(cached[700, :9], data[700, :9])
    assert len(store.watch.requests) == 3  # another inner chunk
    assert_same(cached[60:70, 5], data[60:70, 5])
    assert len(store.watch.requests) == 4  # one of the two is known
    assert_same(cached[:9, 5], data[:9, 5])
    assert len(store.watch.requests) == 4


def test_a_shard_that_others_replaced_in_a_store(native: None) -> None:
    """What a kept index leads to may be something else by now: then all is read again."""
    store = Spy()
    data = make_data("<i4", (768, 768))
    array = zarr.create_array(
        store, shape=data.shape, dtype="<i4", chunks=(64, 64), shards=(768, 768)
    )
    array[...] = data
    cached = zarrs.direct(array, cache_bytes=4 * MIB)
    assert_same(cached[5, :9], data[5, :9])
    data[:64, :64] = 0  # so that the others move
    theirs(store)[...] = data
    assert_same(cached[700:, 700:], data[700:, 700:])
    assert_same(cached[5, :9], data[5, :9])


def test_a_shorter_shard_in_a_store_that_minds(native: None) -> None:
    """What is asked of a store according to a kept index may be past its end by now."""
    store = ObjectStore(obstore.store.MemoryStore())
    data = make_data("<i4", (768, 768))
    array = zarr.create_array(
        store, shape=data.shape, dtype="<i4", chunks=(64, 64), shards=(768, 768)
    )
    array[...] = data
    cached = zarrs.direct(array, cache_bytes=4 * MIB)
    assert_same(cached[5, :9], data[5, :9])
    data[:700] = 0
    theirs(store)[...] = data
    assert_same(cached[700:, 700:], data[700:, 700:])
    assert_same(cached.read_many([np.s_[700:, 600:]]), data[None, 700:, 600:])


def test_a_file_that_others_replaced(native: None, tmp_path: Path) -> None:
    """As soon as anything is read of the new file, nothing of the old one is used."""
    array, data = squares(tmp_path, "shards")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[:4, :4], data[:4, :4])
    data[...] = make_data("<i4", data.shape, 7)
    stock_open(tmp_path, mode="r+")[...] = data
    assert_same(cached[4:8, :4], data[4:8, :4])
    assert_same(cached[:8, :8], data[:8, :8])


def test_clearing_for_what_others_wrote(native: None, tmp_path: Path) -> None:
    array, data = squares(tmp_path, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    stock_open(tmp_path, mode="r+")[...] = -data
    assert_same(cached[...], data)  # which nobody has told it of
    assert cached.cache is not None
    cached.cache.clear()
    assert (len(cached.cache), cached.cache.nbytes) == (0, 0)
    assert_same(cached[...], -data)


# ------------------------------------------------------------------------- what is written


def _through_the_pipeline(path: Any) -> Any:
    return ours_open(path, mode="r+")


def _from_above(path: Path) -> Any:
    return zarrs.open_array(path.parent, path=path.name, mode="r+")


WRITERS: dict[str, Callable[[zarrs.Array, Any], Any]] = {
    "from-a-group-above": lambda cached, path: _from_above(path),
    "through-fsspec": lambda cached, path: zarrs.open(f"file://{path}", mode="r+"),
    "through-obstore": lambda cached, path: zarrs.open(
        ObjectStore(obstore.store.LocalStore(path)), mode="r+"
    ),
    "itself": lambda cached, path: cached,
    "another": lambda cached, path: zarrs.open(path, mode="r+"),
    "another-with-a-cache": lambda cached, path: zarrs.open(path, mode="r+", cache_bytes=MIB),
    "the-pipeline": lambda cached, path: _through_the_pipeline(path),
    "a-link": lambda cached, path: _through_the_pipeline(_link(path)),
}


def _link(path: Path) -> Path:
    link = path.with_name(f"{path.name}-link")
    link.symlink_to(path)
    return link


@each_layout
@pytest.mark.parametrize("name", WRITERS)
def test_writes(native: None, tmp_path: Path, name: str, layout: str) -> None:
    """Whoever writes in this process, what is read after that is new, and only that is decoded."""
    array, data = squares(tmp_path / "a", layout)
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    writer = WRITERS[name](cached, tmp_path / "a")
    writer[2:5, 3] = data[2:5, 3] = [7, 8, 9]
    assert_same(cached[...], data)
    assert figures(cached)[1] == PIECES[layout] + PIECES[layout] // 16
    writer.vindex[[0, 31], [0, 31]] = data[[0, 31], [0, 31]] = [5, 6]
    assert_same(cached[...], data)


def test_writes_below_what_is_cached(native: None, tmp_path: Path) -> None:
    """The cache is that of a group, and who writes knows the array only."""
    zarr.open_group(tmp_path, mode="w")
    _, data = squares(tmp_path / "a", "shards")
    group: Any = zarrs.open_group(tmp_path, mode="r", cache_bytes=MIB)
    cached = group["a"]
    assert_same(cached[...], data)
    zarrs.open_array(tmp_path / "a", mode="r+")[3:5, 3:5] = data[3:5, 3:5] = 9
    assert_same(cached[...], data)
    zarr.open_group(tmp_path / "other", mode="w")
    zarrs.create_array(tmp_path / "other" / "a", data=-data, chunks=GRID)
    hits, misses = figures(cached)
    assert_same(cached[...], data)
    assert figures(cached) == (hits + 64, misses)  # those were others


def test_writes_meanwhile_are_not_mixed(native: None) -> None:
    """Bytes of a shard that were fetched before a write do not meet an index from after it."""

    store = Interrupted()
    array = shard_of_eight(store)
    old = np.arange(8)
    array[...] = old
    cached = zarrs.direct(array, cache_bytes=MIB)
    new = np.concatenate([[-1, -1], np.arange(102, 108)])  # so that all others move

    def write_and_look() -> None:
        ours(store)[...] = new
        assert cached[3] == new[3]

    store.after_get = write_and_look
    seen = cached[4:8]
    assert seen.tolist() in (old[4:8].tolist(), new[4:8].tolist())
    assert_same(cached[...], new)


def test_reads_in_the_middle_of_a_write_are_not_mixed(native: None) -> None:
    """The new bytes are there, and the write has not returned."""

    store = Interrupted()
    array = shard_of_eight(store)
    array[...] = old = np.concatenate([[-1, -1], np.arange(2, 8)])
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[:3], old[:3])
    seen: list[Any] = []
    store.after_set = lambda: seen.append(cached[4:8])
    new = 100 + np.arange(8)
    ours(store)[...] = new
    assert_same(seen[0], new[4:8])
    assert_same(cached[...], new)


@each_layout
def test_one_writes_and_others_see_whole_states(native: None, tmp_path: Path, layout: str) -> None:
    """Of what lies in one chunk, or shard, all values are of one write."""

    def state(value: int) -> np.ndarray:
        whole = np.full((8, 8), value, "<i4")
        whole[:4, :4] *= value % 2  # an inner chunk that is there or not, so that the others move
        return whole

    for place in (tmp_path, MemoryStore()):
        array, _ = squares(place, layout, compressors=None)
        array[...] = 0
        cached = zarrs.direct(array, cache_bytes=MIB)
        stop = threading.Event()

        def work(number: int, array: Any = array, cached: Any = cached, stop: Any = stop) -> None:
            if number == 0:
                try:
                    for value in range(1, 150):
                        array[8:16, :8] = state(value)
                finally:
                    stop.set()
            while not stop.is_set():
                seen = cached[8:16, :8]
                assert np.array_equal(seen, state(int(seen[7, 7]))), seen

        in_threads(3, work)


def test_names_of_what_stores_hold(tmp_path: Path) -> None:
    """One chunk has one name, also from a store that begins further down."""

    def s3(prefix: str | None) -> Any:
        return ObjectStore(obstore.store.S3Store("bucket", region="x", prefix=prefix))

    fsspec = FsspecStore.from_url
    pairs: list[tuple[Any, Any]] = [
        (LocalStore(tmp_path), LocalStore(tmp_path / "a")),
        (LocalStore(tmp_path), fsspec(f"file://{tmp_path}/a")),
        (LocalStore(tmp_path), ObjectStore(obstore.store.LocalStore(tmp_path / "a", mkdir=True))),
        (ObjectStore(obstore.store.LocalStore()), LocalStore(f"{tmp_path}/a")),
        (LocalStore("/"), LocalStore(f"{tmp_path}/a")),
        (fsspec("memory://"), fsspec("memory://a")),
        (fsspec("memory://x"), fsspec("memory://x/a/")),
        (s3(None), s3("a")),
        (s3("x"), s3("x/a")),
    ]
    for above, below in pairs:
        name = f"{location(below)}/c/0"
        assert name.startswith(f"{location(above)}/")
        assert name.endswith("/a/c/0")
    assert location(s3("x")) != location(
        ObjectStore(obstore.store.S3Store("other", region="x", prefix="x"))
    )


@each_store
def test_a_coroutine_that_writes(native: None, tmp_path: Path, kind: str) -> None:
    array, data = squares(STORES[kind](tmp_path), "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    asyncio.run(array.async_array.setitem((slice(0, 3), slice(0, 3)), np.int32(4)))
    data[:3, :3] = 4
    assert_same(cached[...], data)


def test_a_write_that_zarr_does(native: None, tmp_path: Path, monkeypatch: Any) -> None:
    """What the pipeline leaves to zarr's own drops out, too."""
    array, data = squares(tmp_path, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    with zarr.config.set({"codec_pipeline.strict": False}):
        writer = ours_open(tmp_path, mode="r+")
    pipeline: Any = writer.async_array.codec_pipeline
    monkeypatch.setattr(pipeline.planner, "plan_write", lambda *args: "this test wants it so")
    writer[:4, :4] = data[:4, :4] = 3
    assert_same(cached[...], data)


def test_a_write_that_fails_may_have_written(native: None, tmp_path: Path) -> None:
    array, data = squares(tmp_path, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    broken = tmp_path / "c" / "3" / "3"
    kept = broken.read_bytes()
    broken.write_bytes(b"not a frame")
    with pytest.raises(zarrs.ChunkError):
        array[20:30, 20:30] = 1
    broken.write_bytes(kept)
    now = stock_open(tmp_path)[...]
    assert not np.array_equal(now, data)  # some chunks were written
    assert_same(cached[...], now)


def test_a_read_that_a_write_overtakes_is_not_kept(native: None) -> None:
    """The old bytes were fetched before the write, and are decoded after it."""

    store = Interrupted()
    array, data = squares(store, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    new = make_data("<i4", data.shape, 9)
    store.after_get = lambda: ours(store).__setitem__(np.s_[:8, :8], new[:8, :8])
    first = cached[:8, :8]
    assert np.array_equal(first, data[:8, :8]) or np.array_equal(first, new[:8, :8])
    assert_same(cached[:8, :8], new[:8, :8])


def test_resizing(native: None, tmp_path: Path) -> None:
    """What is cut off and comes back is the fill value."""
    array, data = squares(tmp_path, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    cached.resize((8, 32))
    cached.resize((32, 32))
    data[8:] = 0
    assert_same(cached[...], data)
    assert cached.cache is not None
    assert len(cached.cache) == 4  # nothing is left of before
    cached.append(data[:8])
    assert_same(cached[...], np.concatenate([data, data[:8]]))


def test_others_that_delete(native: None, tmp_path: Path) -> None:
    """Another object cuts off chunks, or makes a new array of the same name."""
    array, data = squares(tmp_path, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    other = zarrs.open_array(tmp_path, mode="r+")
    other.resize((8, 32))
    other.resize((32, 32))
    data[8:] = 0
    assert_same(cached[...], data)
    zarrs.create_array(tmp_path, shape=(32, 32), chunks=GRID, dtype="<i4", overwrite=True)
    assert_same(cached[...], 0 * data)
    group: Any = zarrs.open_group(tmp_path / "g", mode="w", cache_bytes=MIB)
    kept = group.create_array("a", data=data, chunks=GRID)
    assert_same(kept[...], data)
    del group["a"]
    assert len(group.cache) == 0


def test_a_directory_that_moves(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("one", 1), ("two", 2)):
        zarrs.create_array(tmp_path / name / "a", data=np.full(8, value), chunks=(4,))
    monkeypatch.chdir(tmp_path / "one")
    cached = zarrs.open_array("a", mode="r+", cache_bytes=MIB)
    assert_same(cached[...], np.full(8, 1))
    monkeypatch.chdir(tmp_path / "two")
    assert_same(cached[...], np.full(8, 2))
    cached[:] = 7
    assert_same(cached[...], np.full(8, 7))


def test_a_new_array_in_the_place_of_another(native: None, tmp_path: Path) -> None:
    group = zarrs.open_group(tmp_path, mode="w", cache_bytes=MIB)
    for value in (3, 4):
        array = group.create_array("a", shape=(8,), chunks=(4,), dtype="i4", overwrite=True)
        array[...] = value
        found: Any = group["a"]
        for _ in range(2):
            assert_same(found[...], np.full(8, value, "i4"))
    del group["a"]
    new: Any = group.create_array("a", shape=(8,), chunks=(4,), dtype="i4", fill_value=1)
    assert_same(new[...], np.ones(8, "i4"))


def test_damage_is_told_as_without_a_cache(native: None, tmp_path: Path) -> None:
    array, data = squares(tmp_path, "shards")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    (tmp_path / "c" / "0" / "1").write_bytes(b"short")
    assert cached.cache is not None
    cached.cache.clear()
    reads: list[Callable[[zarrs.Array], Any]] = [
        lambda a: a[0, 9],
        lambda a: a.read_many([np.s_[0, 9], np.s_[0, 9]]),
    ]
    for read in reads:
        messages = []
        for one in (zarrs.direct(array), cached):
            with pytest.raises(zarrs.ChunkError) as found:
                read(one)
            messages.append(str(found.value))
        assert messages[0] == messages[1]
    assert_same(cached[8:], data[8:])


# ---------------------------------------------------------------------------- how much is kept


def test_the_bound_holds_and_the_oldest_goes_first(native: None, tmp_path: Path) -> None:
    data = np.arange(64 * 256, dtype="<i4").reshape(64, 256)
    array = zarrs.create_array(tmp_path, data=data, chunks=(1, 256))  # of 1 KiB
    cached = zarrs.direct(array, cache_bytes=6000)
    cache = cached.cache
    assert cache is not None
    for row in range(64):
        assert_same(cached[row], data[row])
        assert cache.nbytes <= cache.limit == 6000
    assert len(cache) == 4
    for row in (63, 62, 61, 60):
        assert_same(cached[row], data[row])
    assert figures(cached) == (4, 64)
    cached[0], cached[63]  # 61 was not used for longest; now 0 has its place
    assert cached[61, 0] == data[61, 0]
    assert figures(cached) == (5, 66)
    assert_same(cached[...], data)
    assert cache.nbytes <= 6000


@each_layout
def test_nothing_stays_in_use(native: None, tmp_path: Path, layout: str) -> None:
    """What was read from the cache makes room later, so that what comes last is kept."""
    array, data = squares(tmp_path, layout)
    cached = zarrs.direct(array, cache_bytes=3000)
    for row in range(32):
        for column in range(0, 32, 4):
            cached[row, column]
            before = figures(cached)[0]
            assert cached[row, column] == data[row, column]
            assert figures(cached)[0] == before + 1


def test_threads_share_it(native: None, tmp_path: Path) -> None:
    array, data = squares(tmp_path, "shards")
    for limit in (3000, MIB):
        cached = zarrs.direct(array, cache_bytes=limit)

        def read(number: int, cached: zarrs.Array = cached) -> None:
            rng = np.random.default_rng(number)
            for _ in range(200):
                a, b = rng.integers(0, 24, 2)
                assert_same(cached[a : a + 8, b : b + 8], data[a : a + 8, b : b + 8])

        in_threads(8, read)
        hits, misses = figures(cached)
        assert hits > 1000
        assert cached.cache is not None
        assert cached.cache.nbytes <= limit
        if limit == MIB:
            assert 64 <= misses <= 64 * 8


def test_threads_read_while_one_writes(native: None, tmp_path: Path) -> None:
    """A read that begins after a write has ended sees what it wrote, or what came after."""
    array = zarrs.create_array(tmp_path, shape=(64,), chunks=(16,), shards=(32,), dtype="i8")
    array[...] = 0
    cached = zarrs.direct(array, cache_bytes=MIB)
    written = 0
    stop = threading.Event()

    def work(number: int) -> None:
        nonlocal written
        if number == 0:
            try:
                for value in range(1, 300):
                    array[8:56] = value
                    written = value
            finally:
                stop.set()
            return
        while not stop.is_set():
            least = written
            seen = cached[8:56]
            assert seen.min() >= least, (seen, least)

    in_threads(3, work)
    assert_same(cached[8:56], np.full(48, 299))


def test_groups_share_one(native: None, tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path, mode="w")
    for path in ("x", "a/y"):
        root.create_array(path, data=np.arange(8), chunks=(4,))
    group = zarrs.open_group(tmp_path, cache_bytes=MIB)
    x: Any = group["x"]
    below: Any = group["a"]
    y = below["y"]
    assert x.cache is y.cache is below.cache is group.cache
    assert_same(x[...], np.arange(8))
    assert_same(y[...], np.arange(8))
    assert group.cache is not None
    assert len(group.cache) == 4
    others: list[Any] = [group.update_attributes({"a": 1}), *group.array_values()]
    assert [one.cache for one in others] == [group.cache] * 2
    again = zarrs.direct(y, cache_bytes=group.cache)
    assert again is y
    assert zarrs.direct(y) is y
    assert zarrs.direct(y, cache_bytes=5000).cache is not group.cache


def test_ways_to_ask_for_it(native: None, tmp_path: Path) -> None:
    made = zarrs.create_array(tmp_path, data=np.arange(8), chunks=(4,), cache_bytes=MIB)
    assert made.cache is not None
    numpy_int: Any = np.int64(MIB)
    for array in (
        zarrs.open(tmp_path, cache_bytes=MIB),
        zarrs.open_array(tmp_path, cache_bytes=numpy_int),
        zarrs.Array(made.async_array, MIB),
        made.with_config({"order": "F"}),
        made.update_attributes({"a": 1}),
        made,
    ):
        assert type(array) is zarrs.Array
        assert array.cache is not None
        assert array.cache.limit == MIB
        assert_same(array[...], np.arange(8))
        assert "decoded chunks are kept in 1,048,576 bytes" in str(zarrs.explain(array))
    for plain in (zarrs.open(tmp_path), zarrs.open(tmp_path, cache_bytes=0)):
        assert plain.cache is None
        assert "decoded chunks" not in str(zarrs.explain(plain))
    assert zarrs.open_group(MemoryStore()).cache is None


@pytest.mark.parametrize("nonsense", [-1, 0.0, 1.5, "1GB", True, False, None, [3], 2**70], ids=repr)
def test_nonsense(native: None, tmp_path: Path, nonsense: Any) -> None:
    array = zarrs.create_array(tmp_path, data=np.arange(8), chunks=(4,))
    calls: list[Callable[[], Any]] = [
        lambda: zarrs.direct(array, cache_bytes=nonsense),
        lambda: zarrs.open(tmp_path, cache_bytes=nonsense),
        lambda: zarrs.open_array(tmp_path, cache_bytes=nonsense),
        lambda: zarrs.open_group(MemoryStore(), cache_bytes=nonsense),
        lambda: zarrs.create_array({}, data=np.arange(8), cache_bytes=nonsense),
        lambda: zarrs.Array(array.async_array, nonsense),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"cache_bytes is a number of bytes"):
            call()


def test_figures_in_words(native: None) -> None:
    array = zarrs.create_array({}, data=np.arange(2000), chunks=(1000,), cache_bytes=MIB)
    assert array[0] + array[1] + array[1500] == 1501
    text = repr(array.cache)
    assert "of 1,048,576 bytes" in text
    assert "1 hits, 2 misses" in text


def test_copies_of_an_array(native: None, tmp_path: Path) -> None:
    """A copy in the same process shares it; one that was pickled has an empty one as big."""
    array, data = squares(tmp_path, "chunks")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    assert copy.copy(cached).cache is cached.cache
    others: list[Any] = [pickle.loads(pickle.dumps(cached)), copy.deepcopy(cached)]
    for other in others:
        assert other == cached
        assert other.cache is not cached.cache
        assert (other.cache.limit, len(other.cache)) == (MIB, 0)
        assert_same(other[...], data)
    group = zarrs.direct(zarr.open_group(tmp_path / "g", mode="w"), cache_bytes=MIB)
    again = pickle.loads(pickle.dumps(group))
    assert again.cache.limit == MIB


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_has_its_own(native: None, tmp_path: Path) -> None:
    array, data = squares(tmp_path, "shards")
    cached = zarrs.direct(array, cache_bytes=MIB)
    assert_same(cached[...], data)
    before = figures(cached)

    def work() -> None:
        assert_same(cached[...], data)  # of what the parent had
        assert figures(cached)[1] == before[1]
        cached[:4, :4] = 0
        assert_same(cached[:4, :4], np.zeros((4, 4), "i4"))

    assert forked(work) == 0
    assert figures(cached) == before
    assert_same(cached[...], data)  # as with any other process that writes


def test_memory_is_given_back(native: None, tmp_path: Path) -> None:
    """What belongs to an array that is gone makes room at once."""
    group = zarrs.open_group(tmp_path, mode="w", cache_bytes=MIB)
    array: Any = group.create_array("a", data=np.arange(1000), chunks=(100,))
    assert_same(array[...], np.arange(1000))
    assert group.cache is not None
    assert len(group.cache) == 10
    del array
    assert (len(group.cache), group.cache.nbytes) == (0, 0)
