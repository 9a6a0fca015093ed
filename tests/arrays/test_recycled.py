"""Results in memory that earlier results have left: same values, never an array that lives."""

import asyncio
import itertools
import resource
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from covering import WAYS, each_pair
from forks import allow_forks, forked
from helpers import CHAIN, PIPELINE, STOCK, create, emit, make_data, run_child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy._core import multiarray
from zarr.core.sync import sync
from zarr.storage import MemoryStore

import zarrs
from zarrs.arrays import _recycled

MIB = 2**20
LIMIT = "codec_pipeline.recycled_bytes"
INSTALLED = bool(entry_points(group="zarr.ndbuffer", name="zarrs"))


@pytest.fixture(autouse=True)
def recycling(pipeline: None) -> Iterator[None]:
    """Results are recycled, and nothing is left of an earlier test."""
    sync(asyncio.sleep(0.02))  # zarr's loop lets go of the last results
    _recycled.give_back()
    with zarr.config.set({"ndbuffer": "zarrs.RecyclingNDBuffer"}):
        yield


def is_recycled(array: Any) -> bool:
    """Whether the memory of an array came from where results are kept."""
    owner = array if array.base is None else array.base
    return multiarray.get_handler_name(owner) == "zarrs"


def address(array: Any) -> int:
    """Where an array's memory starts."""
    number: int = array.__array_interface__["data"][0]
    return number


def kept_soon() -> int:
    """Return what is kept when zarr's loop has let go its references, a moment after a read."""
    end = time.monotonic() + 5
    while _recycled.kept() == 0 and time.monotonic() < end:
        time.sleep(0.01)
    return _recycled.kept()


def stored(shape: tuple[int, ...] = (1024, 512), dtype: str = "<f8", **more: Any) -> Any:
    """Return an array in memory, and its data: 4 MiB unless told otherwise."""
    data = make_data(dtype, shape)
    chunks = tuple(-(-n // 3) for n in shape)
    array = zarr.create_array(MemoryStore(), shape=shape, dtype=data.dtype, chunks=chunks, **more)
    array[...] = data
    return array, data


@each_pair(
    access=WAYS,
    order=["C", "F"],
    zarr_format=[2, 3],
    dtype=["<i2", ">f8", "?", "<c16", "<U8", "|S16", "<M8[ns]", "<m8[10us]"],
)
def test_the_same_results(access: str, dtype: str, zarr_format: int, order: Any) -> None:
    settings = {"order": order} if zarr_format == 2 else {"config": {"order": order}}
    rows = -(-5 * MIB // 4 // np.dtype(dtype).itemsize // 512)
    array, data = stored((rows, 512), dtype, zarr_format=zarr_format, **settings)
    for _ in range(2):
        result = array[...]
        assert is_recycled(result)
        assert result.dtype == data.dtype
        assert result.flags.c_contiguous == (order == "C")
        assert result.flags.writeable
        np.testing.assert_array_equal(result, data)
        np.testing.assert_array_equal(array[::2, 3:], data[::2, 3:])
        np.testing.assert_array_equal(array.oindex[np.arange(0, rows, 7), :], data[::7])
        del result


def test_structures_and_what_is_missing(access: str) -> None:
    dtype = np.dtype([("a", "<i4"), ("b", ">f8")])
    array: Any = zarr.create_array(
        MemoryStore(), shape=(300_000,), dtype=dtype, chunks=(100_000,), fill_value=(7, 1.5)
    )
    for _ in range(2):  # the second finds the first one's values in its memory
        result = array[...]
        assert is_recycled(result)
        assert (result["a"] == 7).all()
        assert (result["b"] == 1.5).all()
        result[...] = (1, 2)
        del result


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_strings_and_small_results_are_made_as_usual(access: str) -> None:
    words = np.array(["a", "bc", "def"] * 100_000, dtype=np.dtypes.StringDType())
    array = zarr.create_array(MemoryStore(), data=words, chunks=(100_000,))
    assert not is_recycled(array[...])
    np.testing.assert_array_equal(array[...], words)
    numbers, data = stored()
    assert not is_recycled(numbers[:10])
    assert numbers[3, 4] == data[3, 4]


def test_memory_is_taken_over(access: str) -> None:
    array, data = stored()
    result = array[...]
    first = address(result)
    assert first % (2 * MIB) == 0  # a huge page fits
    assert _recycled.kept() == 0
    result[...] = 1
    del result
    assert kept_soon() == 4 * MIB
    result = array[...]
    assert address(result) == first
    np.testing.assert_array_equal(result, data)
    del result
    assert kept_soon() == 4 * MIB
    smaller = array[:800]  # 3.1 of 4 MiB
    assert address(smaller) == first
    assert address(array[:700]) != first  # 2.7 would waste too much, and it is in use


def test_views_keep_it(access: str) -> None:
    array, data = stored()
    view = array[...][10:20, ::2]
    for _ in range(3):
        assert not np.shares_memory(array[...], view)
    np.testing.assert_array_equal(view, data[10:20, ::2])
    memory = memoryview(array[...])
    other = array[...]
    other[...] = 0
    np.testing.assert_array_equal(np.asarray(memory), data)


def test_no_more_is_kept_than_the_limit() -> None:
    array = zarrs.direct(stored()[0])  # which leaves no reference behind
    with zarr.config.set({LIMIT: 10 * MIB}):
        results = [array[...] for _ in range(4)]
        newest = address(results[-1])
        while results:
            del results[0]
        assert _recycled.kept() == 8 * MIB
        assert address(array[...]) == newest
    with zarr.config.set({LIMIT: 3 * MIB}):
        array[:500]
        assert _recycled.kept() <= 3 * MIB
    with zarr.config.set({LIMIT: "0"}):
        array[...]
        assert _recycled.kept() == 0


@pytest.mark.parametrize("value", [-1, "much", 2.5, True])
def test_nonsense_for_the_limit(value: Any) -> None:
    array, data = stored()
    with zarr.config.set({LIMIT: value}):
        with pytest.warns(UserWarning, match=LIMIT):
            result = array[...]
        assert LIMIT in str(zarrs.show_config("dicts")["options"][LIMIT])
    np.testing.assert_array_equal(result, data)


def test_idle_memory_is_given_back() -> None:
    """And the thread that does it ends; after that, memory is recycled again."""
    assert run_child(_idle).check() == [True]


def _idle() -> None:
    zarr.config.set({"ndbuffer": "zarrs.RecyclingNDBuffer"})
    array = zarrs.create_array({}, data=np.arange(1_000_000))
    late = array[:]
    array[:]
    assert _recycled.kept() > 0
    time.sleep(_recycled.IDLE + 1)
    assert _recycled.kept() == 0
    assert "zarrs-recycled" not in [thread.name for thread in threading.enumerate()]
    del late  # nobody would give it back
    assert _recycled.kept() == 0
    array[:]
    assert _recycled.kept() > 0
    emit(True)


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    array, data = stored()
    watcher = [one for one in threading.enumerate() if one.name == "zarrs-recycled"]
    for one in watcher:
        one.join()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        result = _recycled.empty((MIB,), np.dtype("f8"), "C", 2**30)
        assert not is_recycled(result)
        assert _recycled.kept() == 0
    assert is_recycled(array[...])
    np.testing.assert_array_equal(array[...], data)


def test_out_of_memory() -> None:
    with pytest.raises(MemoryError):
        _recycled.empty((2**60,), np.dtype("u1"), "C", 2**30)
    with pytest.raises((MemoryError, ValueError)):
        _recycled.empty((2**62, 4), np.dtype("f8"), "C", 2**30)
    assert is_recycled(_recycled.empty((MIB,), np.dtype("f8"), "C", 2**30))


def test_results_can_be_resized() -> None:
    array, data = stored((1024, 1024))
    for n in (3000, 10, 1):
        result = array[...]
        result.resize((n, 1024), refcheck=False)
        least = min(n, 1024)
        np.testing.assert_array_equal(result[:least], data[:least])
        assert (result[least:] == 0).all()


@pytest.mark.parametrize("path", [PIPELINE, STOCK])
def test_writing_and_zarrs_own_pipelines(access: str, path: str) -> None:
    with zarr.config.set({"codec_pipeline.path": path}):
        array, data = stored()
        array[100:900] = data[:800] + 1
        data[100:900] = data[:800].copy() + 1
        result = array[...]
        assert is_recycled(result)
        np.testing.assert_array_equal(result, data)


def test_batches_and_explicit_prototypes(native: None, tmp_path: Path) -> None:
    array = zarrs.direct(create(tmp_path, CHAIN["raw"], (1024, 512), (100, 512), "<f8"))
    array[...] = data = make_data("<f8", (1024, 512))
    batch = array.read_many([slice(0, 400), slice(300, 700)])
    assert is_recycled(batch)
    np.testing.assert_array_equal(batch, np.stack([data[:400], data[300:700]]))
    with zarr.config.set({"ndbuffer": "zarr.buffer.cpu.NDBuffer"}):
        assert not is_recycled(array[...])
        prototype = zarr.core.buffer.BufferPrototype(
            zarr.core.buffer.cpu.Buffer, zarrs.RecyclingNDBuffer
        )
        result: Any = array.get_basic_selection(..., prototype=prototype)
        assert is_recycled(result)
        np.testing.assert_array_equal(result, data)


def test_forked_children_have_their_own() -> None:
    allow_forks()
    array, data = stored()
    living = array[...]
    array[...]
    assert kept_soon() == 4 * MIB

    def child() -> None:
        assert _recycled.kept() == 0
        for _ in range(3):
            np.testing.assert_array_equal(zarrs.direct(array)[...], data)
        assert _recycled.kept() == 4 * MIB
        living[...] = 0

    assert forked(child) == 0
    assert _recycled.kept() == 4 * MIB
    np.testing.assert_array_equal(living, data)


def test_forks_under_way_of_other_threads() -> None:
    """No child finds the lock taken."""
    allow_forks()
    array, _ = stored((300, 512))
    direct = zarrs.direct(array)
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            direct[...]

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(work) for _ in range(3)]
        try:
            for _ in range(30):
                assert forked(lambda: direct[...]) == 0
        finally:
            done.set()
    for future in futures:
        future.result()


def test_many_threads(access: str) -> None:
    array, data = stored((600, 512))
    stop = time.monotonic() + 2

    def work(seed: int) -> int:
        random = np.random.default_rng(seed)
        kept: list[tuple[int, Any]] = []
        n = 0
        while time.monotonic() < stop:
            start = int(random.integers(0, 80))
            kept.append((start, array[start : start + 520]))
            if len(kept) > 3:
                begin, result = kept.pop(int(random.integers(0, 4)))
                assert result.tobytes() == data[begin : begin + 520].tobytes()
                result[...] = -1
                n += 1
        return n

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) > 4
    assert _recycled.kept() <= 2**30


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.integers(-4, 8), st.integers(MIB, 5 * MIB), st.integers(0, 12 * MIB)),
        max_size=40,
    )
)
def test_living_arrays_never_share(steps: list[tuple[int, int, int]]) -> None:
    """Arrays are made and let go in any order, under limits that change."""
    living: list[tuple[Any, int]] = []
    for step, (choice, size, limit) in enumerate(steps):
        if choice < 0 and living:
            array, mark = living.pop(choice % len(living))
            assert (array[:: 1 + size // 997] == mark).all()
            assert array[-1] == mark
            del array
        else:
            array = _recycled.empty((size,), np.dtype("u1"), "C", limit)
            assert is_recycled(array)
            array[:] = mark = step % 251
            living.append((array, mark))
            assert _recycled.kept() <= 12 * MIB
        ranges = sorted((address(one), address(one) + one.nbytes) for one, _ in living)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    for array, mark in living:
        assert (array == mark).all()


def test_peak_memory_is_no_more_than_what_lives_and_the_limit() -> None:
    before, after = run_child(_many_sizes).check()[0]
    assert after - before < (64 + 32 + 8) * 1024  # KiB


def _many_sizes() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for size in range(8 * MIB, 64 * MIB, MIB):
        array = _recycled.empty((size,), np.dtype("u1"), "C", 32 * MIB)
        array[:] = 1
        del array
    emit((before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


@pytest.mark.skipif(not INSTALLED, reason="zarr finds it where zarrs is installed")
def test_chosen_in_the_environment() -> None:
    child = run_child(_chosen, env={"ZARR_NDBUFFER": "zarrs.RecyclingNDBuffer"})
    assert child.check() == [["zarrs", "zarrs.RecyclingNDBuffer"]]


def _chosen() -> None:
    array = zarr.create_array({}, shape=(1000, 1000), dtype="f8", fill_value=3)
    name = multiarray.get_handler_name(np.asarray(array[:]))
    emit([name, zarrs.show_config("dicts")["options"]["ndbuffer"]])
