"""Nonsense in zarr's own options: who complains first, and how, as configuration.md says."""

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import CHAIN, PIPELINE, create, emit, ours_open, run_child
from zarr.storage import FsspecStore, LocalStore

THREADS = "threading.max_workers"
CONCURRENCY = "async.concurrency"


def fault_of(call: Any) -> str | None:
    """What is raised, if anything is."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def child_max_workers(path: str, value: Any) -> None:
    """Emit what zarr's functions say, its coroutines, and its functions once there is a pool."""
    import warnings

    # zarr forgets a coroutine when it cannot make its pool.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)

    def awaited() -> Any:
        return asyncio.run(zarr.api.asynchronous.open_array(store=LocalStore(path)))

    with zarr.config.set({THREADS: value}):
        emit(fault_of(lambda: ours_open(path)))
        emit(fault_of(awaited))
    with zarr.config.set({THREADS: 1}):
        ours_open(path)  # makes the pool
    with zarr.config.set({THREADS: value}):
        emit(fault_of(lambda: ours_open(path)))


@pytest.mark.parametrize(
    ("value", "first"),
    [
        (0, r"ValueError: max_workers must be greater than 0"),
        (-1, r"ValueError: max_workers must be greater than 0"),
        ("many", r"TypeError: '<=' not supported between instances of 'str' and 'int'"),
        ([2], r"TypeError: '<=' not supported between instances of 'list' and 'int'"),
        (2.5, None),
        (True, None),
    ],
)
def test_max_workers(tmp_path: Path, value: Any, first: str | None) -> None:
    """zarr makes a thread pool before it opens anything; after that ours is the message."""
    create(tmp_path, CHAIN["raw"], (4,), (2,), "<i4")
    ours = f"ValueError: zarr.config option {THREADS!r} must be a positive integer, not {value!r}"
    said = run_child(child_max_workers, str(tmp_path), value).check()
    assert said == [first or ours, ours, ours]


@pytest.mark.parametrize("value", [0, -1, "many", 2.5])
def test_concurrency_of_our_calls(tmp_path: Path, value: Any) -> None:
    """A warning and zarr's default, in stores that answer later; local files do not ask."""
    array = create(tmp_path, CHAIN["zstd"], (40,), (2,), "<i4")
    array[...] = data = np.arange(40, dtype="<i4")
    store = FsspecStore.from_url(f"file://{tmp_path}", storage_options={"auto_mkdir": True})
    remote = zarr.open_array(store)
    with zarr.config.set({CONCURRENCY: value}):
        assert np.asarray(array[...]).tolist() == data.tolist()
        with pytest.warns(UserWarning, match=re.escape(f"{CONCURRENCY!r} must be")) as caught:
            assert np.asarray(remote[...]).tolist() == data.tolist()
    assert f"not {value!r}; zarr's default, 10, is used" in str(caught[0].message)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1, ValueError, "Semaphore initial value must be >= 0"),
        ("many", TypeError, "'<' not supported between instances of 'str' and 'int'"),
        (None, TypeError, "'<' not supported between instances of 'NoneType' and 'int'"),
    ],
)
def test_concurrency_of_zarrs_own(
    tmp_path: Path, value: Any, error: type[Exception], text: str
) -> None:
    """What zarr does itself, such as to list a group, is none of ours."""
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("a", shape=(4,), chunks=(2,), dtype="<i4")
    with zarr.config.set({CONCURRENCY: value}):
        with pytest.raises(error, match=re.escape(text)):
            group.members()
        array = group["a"]
        assert isinstance(array, zarr.Array)
        assert type(array.async_array.codec_pipeline).__module__ == PIPELINE.split(".")[0]


def child_concurrency_0(path: str) -> None:
    """Emit whether listing a group has an end."""
    group: Any = zarr.open_group(path)
    with zarr.config.set({CONCURRENCY: 0, "async.timeout": 3}):
        emit(group["a"][...].tolist())
        try:
            group.members()
        except TimeoutError:
            emit("no end")


def test_concurrency_0_waits_for_ever_in_zarr(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("a", data=np.arange(4, dtype="<i4"), chunks=(2,))
    assert run_child(child_concurrency_0, str(tmp_path)).check() == [[0, 1, 2, 3], "no end"]
