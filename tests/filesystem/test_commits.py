"""New files that threads of their own put in place, where that blocks."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    assert_same,
    child_command,
    child_environment,
    emit,
    make_data,
    stock_read,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_codecs import Hooked
from zarr.codecs import BloscCodec, ShardingCodec, ZstdCodec
from zarr.storage import MemoryStore

import zarrs
from zarrs import _planner
from zarrs.filesystem import _commits
from zarrs.runtime import _threads

pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")

TASKS = Path("/proc/self/task")
MAXIMUM = "codec_pipeline.chunk_concurrent_maximum"
HOOKED = Hooked("commits")
SHAPE = (64, 32, 32)
# 32 chunks, small enough to be handed over with their bytes; 16 bigger ones; shards.
LAYOUTS: dict[str, dict[str, Any]] = {
    "small": {"chunks": (2, 32, 32), "compressors": None},
    "big": {"shape": (64, 64, 64), "chunks": (4, 64, 64), "compressors": None},
    "blosc": {"chunks": (2, 32, 32), "compressors": BloscCodec(cname="lz4")},
    "zstd": {"chunks": (2, 32, 32), "compressors": ZstdCodec()},
    "python": {"chunks": (2, 32, 32), "compressors": HOOKED},
    "shards": {"chunks": (2, 16, 16), "shards": (4, 32, 32), "compressors": ZstdCodec()},
    "joined": {
        "chunks": (4, 32, 32),
        "serializer": ShardingCodec(chunk_shape=(2, 16, 16)),
        "compressors": ZstdCodec(),
    },
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(autouse=True)
def cpus(native: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Four of them, for every call; and commits count as slow, so that most are handed over."""
    grant = _threads.budget().claim
    monkeypatch.setattr(_threads, "claim", lambda wanted, limit: grant(wanted, 64))
    monkeypatch.setattr("zarrs._config.available_cpus", lambda: 4)
    monkeypatch.setattr("zarrs._planner.available_cpus", lambda: 4)
    monkeypatch.setattr(_planner, "PATIENCE", -1)
    monkeypatch.setattr(_planner, "THREAD_COST", 1)
    yield
    Hooked.hooks.clear()


def new_array(path: Any, layout: str, **more: Any) -> tuple[Any, np.ndarray]:
    """An array, and what it holds."""
    arguments = {"shape": SHAPE, "dtype": "<f4"} | LAYOUTS[layout] | more
    array = zarr.create_array(path, **arguments)
    data = make_data("<f4", arguments["shape"])
    array[...] = data
    return array, data


def handed_over(write: Callable[[], object]) -> int:
    """Run a write, and return how many files others committed."""
    before = _commits.handed_over()
    write()
    return _commits.handed_over() - before


def leftovers(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if ".partial" in file.name]


@each_layout
def test_what_is_handed_over(access: str, tmp_path: Path, layout: str) -> None:
    array, data = new_array(tmp_path, layout)
    data = data[::-1].copy()
    assert handed_over(lambda: array.__setitem__(..., data)) > 0
    assert_same(stock_read(tmp_path), data)
    data[1:, 3:-2] *= 2
    assert (
        handed_over(lambda: array.__setitem__((slice(1, None), slice(3, -2)), data[1:, 3:-2])) > 0
    )
    assert_same(stock_read(tmp_path), data)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("option", ["codec_pipeline.direct_io", "codec_pipeline.fsync"])
@pytest.mark.parametrize("layout", ["small", "big", "shards"])
def test_with_options_of_files(tmp_path: Path, layout: str, option: str) -> None:
    with zarr.config.set({option: True}):
        array, data = new_array(tmp_path, layout)
        assert handed_over(lambda: array.__setitem__(slice(1, None), data[:-1])) > 0
    data[1:] = data[:-1].copy()
    assert_same(stock_read(tmp_path), data)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_boxes(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
    shape = data.draw(st.tuples(*[st.integers(8, 24)] * 2))
    array = zarrs.direct(
        zarr.create_array(tmp_path / "a", shape=shape, dtype="<i2", chunks=(3, 5), fill_value=7)
    )
    expected = np.full(shape, 7, "<i2")
    for value in range(1, data.draw(st.integers(1, 5)) + 1):
        starts = [data.draw(st.integers(0, n - 1)) for n in shape]
        box = tuple(
            slice(k, data.draw(st.integers(k + 1, n)), data.draw(st.integers(1, 3)))
            for k, n in zip(starts, shape, strict=True)
        )
        array[box] = expected[box] = value if value % 2 else 7  # what is empty is deleted
    assert_same(stock_read(tmp_path / "a"), expected)


def test_what_does_not_block_is_not_handed_over(
    access: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_planner, "PATIENCE", 10**9)
    array, data = new_array(tmp_path, "small")
    assert handed_over(lambda: array.__setitem__(..., data)) == 0


@pytest.mark.parametrize(
    "option", [{MAXIMUM: 4}, {"threading.max_workers": 3}, {"threading.max_workers": 1}], ids=str
)
def test_limits_that_users_set_are_kept(
    access: str, tmp_path: Path, option: dict[str, int]
) -> None:
    with zarr.config.set(option):
        array, data = new_array(tmp_path, "small")
        assert handed_over(lambda: array.__setitem__(..., data)) == 0


def test_other_stores_have_their_own_overlap(access: str) -> None:
    array, data = new_array(MemoryStore(), "small")
    assert handed_over(lambda: array.__setitem__(..., data)) == 0


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux lists a process's threads")
def test_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three for each that encodes, at most eight, and none is left."""
    seen: list[int] = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        seen.append(len(list(TASKS.iterdir())))
        return data

    array, data = new_array(tmp_path, "python")
    Hooked.hooks["commits"] = hook
    for _ in range(5):  # threads of others may begin or end meanwhile
        most = {}
        for waiting in (0, 3, 8, 0):
            monkeypatch.setattr(_planner, "MAX_WAITING", waiting)
            seen.clear()
            array[...] = data
            most[waiting] = max(seen)
        more = [n - most[0] for n in most.values()]
        if more == [0, 3, 8]:
            break
    assert more == [0, 3, 8]


@pytest.mark.parametrize("layout", ["small", "big", "shards"])
def test_a_commit_that_fails(access: str, tmp_path: Path, layout: str) -> None:
    """A directory, which no file can replace, where the last chunk should be."""
    array, data = new_array(tmp_path, layout)
    last = sorted(tmp_path.glob("c/*"), key=lambda place: int(place.name))[-1] / "0" / "0"
    last.unlink()
    (last / "x").mkdir(parents=True)
    with pytest.raises(OSError, match=r"c/[0-9]+/0/0"):
        array[...] = data + 1
    assert leftovers(tmp_path) == []
    (last / "x").rmdir()
    last.rmdir()
    array[...] = data + 2
    assert_same(stock_read(tmp_path), data + 2)


def test_a_small_file_that_cannot_be_written(access: str, tmp_path: Path) -> None:
    array, data = new_array(tmp_path, "small")
    shutil.rmtree(tmp_path / "c" / "31")
    (tmp_path / "c" / "31").write_bytes(b"in the way")
    with pytest.raises(OSError, match="c/31/0/0"):
        array[...] = data + 1
    assert leftovers(tmp_path) == []
    assert (tmp_path / "c" / "31").read_bytes() == b"in the way"


def test_others_that_were_quicker(access: str, tmp_path: Path) -> None:
    """What another process writes into chunks while they are merged is merged again."""
    array, data = new_array(tmp_path, "python")
    left = {20, 25, 30}  # chunks that are still to be overtaken

    def hook(now: str, stored: Any, spec: Any) -> Any:
        items = stored.as_array_like().view("<f4").reshape(2, 32, 32)
        chunk = int(items[0, 1, 1]) - 1000
        if now == "encode" and chunk in left:
            left.remove(chunk)
            others = np.frombuffer((tmp_path / f"c/{chunk}/0/0").read_bytes(), "<f4").copy()
            others[0] = 5000 + chunk
            new = tmp_path / f"other-{chunk}"
            new.write_bytes(others.tobytes())
            new.replace(tmp_path / f"c/{chunk}/0/0")
        return stored

    Hooked.hooks["commits"] = hook
    numbers = 1000 + np.arange(64, dtype="<f4") // 2
    with pytest.warns(UserWarning, match="another process writes the same chunks"):
        array[:, 1, 1] = numbers
    Hooked.hooks.clear()
    data[:, 1, 1] = numbers
    for chunk in (20, 25, 30):
        data[2 * chunk, 0, 0] = 5000 + chunk
    assert left == set()
    assert_same(stock_read(tmp_path), data)


def write_for_ever(path: str) -> None:
    _planner.PATIENCE = -1
    array = zarrs.open_array(path, mode="r+")
    for value in range(1, 10**6):
        array[...] = np.full(array.shape, value, "<i4")
        emit(value)


def test_killed_writers_leave_whole_chunks(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path, data=np.zeros((64, 64, 64), "<i4"), chunks=(4, 32, 32), compressors=None
    )
    for moment in range(1, 5):
        writer = subprocess.Popen(
            child_command(write_for_ever, str(tmp_path)),
            stdout=subprocess.PIPE,
            text=True,
            env=child_environment(),
        )
        assert writer.stdout is not None
        assert [writer.stdout.readline() for _ in range(moment)][-1]
        writer.kill()
        writer.communicate()
        chunks = stock_read(tmp_path).reshape(16, 4, 2, 32, 2, 32).transpose(0, 2, 4, 1, 3, 5)
        assert (chunks == chunks[:, :, :, :1, :1, :1]).all()
