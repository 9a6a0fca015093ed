"""``codec_pipeline.lock_files``: processes that write one array exclude each other."""

import asyncio
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import obstore.store
import pytest
import zarr
from forks import allow_forks, forked
from helpers import (
    MARK,
    ROOT,
    assert_same,
    child_command,
    child_environment,
    emit,
    run_child,
    stock_open,
)
from zarr.codecs import ZstdCodec
from zarr.storage import (
    FsspecStore,
    LocalStore,
    LoggingStore,
    MemoryStore,
    ObjectStore,
    ZipStore,
    _local,
)

import zarrs
from zarrs.storage import _file_locks
from zarrs.storage._file_locks import LOCK_FILE, TOGETHER, FileLocks, lock_parts
from zarrs.storage._key_locks import key_locks, lock_names
from zarrs.storage._stores import location

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="locks as Linux has them")

STRESS_WRITERS = ROOT / "scripts" / "stress_writers"
SOON, LONG = 0.15, 20.0  # seconds: enough to be done, if nothing is waited for; more than it takes


@pytest.fixture
def locking() -> Iterator[None]:
    """The option is on."""
    with zarr.config.set({"codec_pipeline.lock_files": True}):
        yield


class InThread:
    """Work in a thread, and how it ended."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self.error = error

    def ends_within(self, seconds: float) -> bool:
        self._thread.join(seconds)
        return not self._thread.is_alive()


def two_chunks(store: Any, **kw: Any) -> zarr.Array[Any]:
    """Items 0 to 7 in two chunks, "c/0" and "c/1"."""
    keywords = {"shape": (8,), "chunks": (4,), "dtype": "<i4", "compressors": None} | kw
    array = zarr.create_array(store, **keywords)
    array[...] = np.arange(8)
    return array


# ------------------------------------------------------------------------------- who has to wait


def by_zarr(path: Path) -> Any:
    return zarr.open_array(path)


def directly(path: Path) -> Any:
    return zarrs.open_array(path)


def wrapped(path: Path) -> Any:
    return zarr.open_array(LoggingStore(LocalStore(path), log_level="ERROR"))


def through_a_group(path: Path) -> Any:
    return zarr.open_group(path.parent)[path.name]


def through_fsspec(path: Path) -> Any:
    return zarr.open_array(FsspecStore.from_url(f"file://{path}"))


def through_obstore(path: Path) -> Any:
    return zarr.open_array(ObjectStore(obstore.store.LocalStore(path)))


def through_a_link(path: Path) -> Any:
    link = path.parent / "link"
    link.symlink_to(path)
    return zarr.open_array(link)


def left_to_zarr(path: Path) -> Any:
    array = zarr.open_array(path)
    pipeline: Any = array.async_array.codec_pipeline
    pipeline.planner.plan_write = Mock(return_value="this test wants it so")
    return array


WAYS = [by_zarr, directly, wrapped, through_a_group, through_fsspec, through_obstore]
WAYS += [through_a_link, left_to_zarr]
WRITES: dict[str, Callable[[Any], None]] = {
    "part": lambda array: array.__setitem__(5, 50),
    "whole": lambda array: array.__setitem__(slice(4, 8), [4, 50, 6, 7]),
    "empty": lambda array: array.__setitem__(slice(4, 8), 0),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("open_in_a_way", WAYS)
def test_writes_wait_and_reads_do_not(
    locking: None, tmp_path: Path, open_in_a_way: Any, write: str
) -> None:
    path = tmp_path / "a"
    two_chunks(path)
    array = open_in_a_way(path)
    with FileLocks(str(path), ["c/1"]):
        writer = InThread(lambda: WRITES[write](array))
        assert not writer.ends_within(SOON)
        assert_same(array[...], np.arange(8, dtype="<i4"))
        other = stock_open(path, mode="r+")
        other[7] = 70  # who does not lock goes on
        if open_in_a_way is not left_to_zarr:
            array[0] = 10  # nobody has that one
    assert writer.ends_within(LONG)
    assert writer.error is None
    expected = np.arange(8, dtype="<i4")
    expected[0] = 10 if open_in_a_way is not left_to_zarr else 0
    expected[4:] = {"part": [4, 50, 6, 70], "whole": [4, 50, 6, 7], "empty": 0}[write]
    assert_same(array[...], expected)


LAYOUTS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2},
    "v2-slash": {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
    "shard": {"chunks": (2,), "shards": (4,)},
    "zstd": {"compressors": ZstdCodec()},
    "0-d": {"shape": (), "chunks": ()},
}
KEYS = {"v2": "1", "v2-slash": "1", "shard": "c/1", "zstd": "c/1", "0-d": "c"}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("path", ["", "0", "c/0"])
def test_layouts_and_names(locking: None, tmp_path: Path, layout: str, path: str) -> None:
    """Arrays may be called like chunks."""
    zarr.open_group(tmp_path)
    keywords = {"shape": (8,), "chunks": (4,), "dtype": "<i4", "compressors": None}
    group: Any = zarr.open_group(tmp_path, zarr_format=LAYOUTS[layout].get("zarr_format", 3))
    root = tmp_path / path if path else tmp_path / "root"
    array: Any = zarr.create_array(root, **{**keywords, **LAYOUTS[layout]})
    if path and group.metadata.zarr_format == 3:
        array = zarr.open_group(tmp_path)[path]
    with FileLocks(str(root), [KEYS[layout]]):
        writer = InThread(lambda: array.__setitem__(5 if array.shape else (), 50))
        assert not writer.ends_within(SOON)
    assert writer.ends_within(LONG)
    assert writer.error is None
    assert np.max(array[...]) == 50


@pytest.mark.parametrize("kind", ["memory", "zip", "local"])
def test_other_stores(locking: None, tmp_path: Path, kind: str, access: str) -> None:
    """A dictionary has no other process; of a store that cannot be locked a warning tells."""
    kinds: dict[str, Callable[[], Any]] = {
        "memory": MemoryStore,
        "zip": lambda: ZipStore(tmp_path / "a.zip", mode="w"),
        "local": lambda: LocalStore(tmp_path / "a"),
    }
    store = kinds[kind]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        array = zarr.create_array(store, shape=(8,), chunks=(4,), dtype="<i4")
        array[:] = np.arange(8)
    said = [str(one.message) for one in caught if "lock_files" in str(one.message)]
    assert len(said) == (kind == "zip")
    assert all("ZipStore writes no local files" in one for one in said)
    assert_same(array[:], np.arange(8, dtype="<i4"))
    assert (tmp_path / "a" / LOCK_FILE).exists() == (kind == "local")
    store.close()


def test_without_the_option(tmp_path: Path, access: str) -> None:
    array = two_chunks(tmp_path)
    with FileLocks(str(tmp_path), ["c/0", "c/1"]):
        array[5] = 50
    (tmp_path / LOCK_FILE).unlink()
    array[6] = 60
    assert not (tmp_path / LOCK_FILE).exists()


@pytest.mark.filterwarnings("error")
def test_a_lock_file_is_nothing_to_zarr(locking: None, tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path)
    array = group.create_array("a", shape=(8,), chunks=(4,), dtype="<i4")
    array[:4] = 1
    assert (tmp_path / "a" / LOCK_FILE).exists()
    assert dict(group.members()).keys() == {"a"}
    assert array.nchunks_initialized == 1
    del group["a"]
    assert not (tmp_path / "a").exists()


# ------------------------------------------------------------------------------------ the locks


def test_many_chunks_have_their_turns(locking: None, tmp_path: Path, access: str) -> None:
    """A call holds the locks of some of its chunks only."""
    n = 2 * TOGETHER + 5
    array = zarr.create_array(tmp_path, shape=(n,), chunks=(1,), dtype="<i4", compressors=None)
    with FileLocks(str(tmp_path), [f"c/{n - 1}"]):
        writer = InThread(lambda: array.__setitem__(slice(None), np.arange(1, n + 1)))
        assert not writer.ends_within(1.0)
        with FileLocks(str(tmp_path), ["c/0"]):  # is free again
            pass
        assert array[0] == 1
        assert array[n - 1] == 0
    assert writer.ends_within(LONG)
    assert_same(array[:], np.arange(1, n + 1, dtype="<i4"))


def test_parts() -> None:
    keys = [f"a/c/{i}" for i in range(TOGETHER + 1)]
    assert [part for _, part in lock_parts("/", keys)] == [
        range(TOGETHER),
        range(TOGETHER, TOGETHER + 1),
    ]
    assert [part for _, part in lock_parts("/", keys[1:])] == [None]


def test_same_byte_for_two_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls of one process wait for each other; one call does not wait for itself."""
    two_chunks(tmp_path)
    monkeypatch.setattr(_file_locks, "crc32", lambda key: 7)
    with FileLocks(str(tmp_path), ["c/0", "c/1"]):
        other = InThread(FileLocks(str(tmp_path), ["c/2"]).__enter__)
        assert not other.ends_within(SOON)
    assert other.ends_within(LONG)


def test_owned(locking: None, native: None, tmp_path: Path) -> None:
    """Who looks at a chunk before he writes to it holds its lock for both."""
    array = two_chunks(tmp_path)
    with FileLocks(str(tmp_path), ["c/1"]) as locks:
        with locks.owned():
            array[5] = 50
            array[:] = 51
        writer = InThread(lambda: array.__setitem__(5, 52))
        assert not writer.ends_within(SOON)
    assert writer.ends_within(LONG)
    assert array[5] == 52


def test_repairs_exclude_others(locking: None, native: None, tmp_path: Path) -> None:
    array = two_chunks(tmp_path)
    (tmp_path / "c" / "1").write_bytes(b"damaged")
    with FileLocks(str(tmp_path), ["c/1"]):
        repair = InThread(lambda: zarrs.check(array, repair=True))
        assert not repair.ends_within(2 * SOON)
        (tmp_path / "c" / "1").write_bytes(np.arange(4, dtype="<i4").tobytes())  # is sound again
    assert repair.ends_within(LONG)
    assert repair.error is None
    assert_same(array[:], np.array([0, 1, 2, 3, 0, 1, 2, 3], "<i4"))


def test_no_deadlock(tmp_path: Path) -> None:
    """Whatever the order in which they are named."""
    two_chunks(tmp_path)
    keys = [f"c/{i}" for i in range(20)]

    def work(order: list[str]) -> None:
        for _ in range(200):
            with FileLocks(str(tmp_path), order):
                pass

    threads = [InThread(lambda order=order: work(order)) for order in (keys, keys[::-1])]  # type: ignore[misc]
    assert all(thread.ends_within(LONG) for thread in threads)
    assert all(thread.error is None for thread in threads)


def test_locks_end_with_what_holds_them(tmp_path: Path) -> None:
    two_chunks(tmp_path)
    locks = FileLocks(str(tmp_path), ["c/0"])
    locks.__enter__()
    opened = len(os.listdir("/proc/self/fd"))
    del locks
    assert len(os.listdir("/proc/self/fd")) == opened - 1
    with FileLocks(str(tmp_path), ["c/0"]):
        pass


def test_an_array_that_is_made_again(tmp_path: Path) -> None:
    """The lock of a file that was deleted meanwhile excludes nobody."""
    two_chunks(tmp_path)
    with FileLocks(str(tmp_path), ["c/0"]):
        waiting = FileLocks(str(tmp_path), ["c/0"])
        thread = InThread(waiting.__enter__)
        assert not thread.ends_within(SOON)
        (tmp_path / LOCK_FILE).unlink()
    assert thread.ends_within(LONG)
    assert (tmp_path / LOCK_FILE).exists()
    late = InThread(FileLocks(str(tmp_path), ["c/0"]).__enter__)
    assert not late.ends_within(SOON)
    waiting.__exit__()
    assert late.ends_within(LONG)


# ----------------------------------------------------------------------------------- interrupted


def test_the_event_loop_goes_on(locking: None, native: None, tmp_path: Path) -> None:
    two_chunks(tmp_path)

    async def main() -> None:
        array = await zarr.api.asynchronous.open_array(store=tmp_path, mode="r+")
        with FileLocks(str(tmp_path), ["c/1"]):
            write = asyncio.create_task(array.setitem(5, 50))
            ticks = 0
            begun = time.monotonic()
            while time.monotonic() - begun < SOON:
                await asyncio.sleep(0.001)
                ticks += 1
            assert ticks > 20
            assert not write.done()
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
        await array.setitem(6, 60)
        assert_same(await array.getitem(slice(4, 8)), np.array([4, 5, 60, 7], "<i4"))

    asyncio.run(main())


def child_interrupted(path: str, direct: bool) -> None:
    with zarr.config.set({"codec_pipeline.lock_files": True}):
        array: Any = (zarrs if direct else zarr).open_array(path)
        opened = len(os.listdir("/proc/self/fd"))
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        with FileLocks(path, ["c/1"]):
            signal.setitimer(signal.ITIMER_REAL, SOON)
            try:
                array[5] = 50
            except KeyboardInterrupt:
                emit("interrupted")
        if direct:  # zarr's loop goes on with a write that its caller has left
            assert len(os.listdir("/proc/self/fd")) == opened
            assert array[5] == 5
        array[5] = 51
        assert array[5] in (50, 51)


class Puts:
    """zarr's own way of storing chunks in files, which a test holds up or lets fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.go_on, self.done = (threading.Event() for _ in range(3))
        real = _local._put

        def put(path: Path, *args: Any, **kw: Any) -> Any:
            if path.match("c/0"):
                raise OSError("this test wants it so")
            if path.match("c/1"):
                self.begun.set()
                assert self.go_on.wait(LONG)
                result = real(path, *args, **kw)
                self.done.set()
                return result
            return real(path, *args, **kw)

        monkeypatch.setattr(_local, "_put", put)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_what_is_left_to_zarr_and_does_not_end_well(
    locking: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Locks are held as long as anything is under way, though zarr does not wait for that."""
    two_chunks(tmp_path)
    array = left_to_zarr(tmp_path)
    puts = Puts(monkeypatch)

    async def main() -> None:
        selection = slice(5, 7) if how == "cancelled" else slice(2, 7)
        write = asyncio.create_task(array.async_array.setitem(selection, 50))
        if how == "cancelled":
            await asyncio.to_thread(puts.begun.wait, LONG)
            write.cancel()
        else:
            puts.go_on.set()
        locks = FileLocks(str(tmp_path), ["c/1"])
        waiting = asyncio.create_task(asyncio.to_thread(locks.__enter__))
        if how == "cancelled":
            await asyncio.sleep(SOON)
            assert not waiting.done()
            puts.go_on.set()
        with pytest.raises(asyncio.CancelledError if how == "cancelled" else OSError):
            await write
        await waiting
        assert puts.done.is_set() or not puts.begun.is_set()
        locks.__exit__()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["left to zarr", "link"])
def test_a_thread_does_not_wait_for_its_own_loop(locking: None, tmp_path: Path, kind: str) -> None:
    """It is told so, as with locks within the process, also where names of arrays differ."""
    two_chunks(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    if kind == "link":
        store = LoggingStore(LocalStore(tmp_path), log_level="ERROR")
        one, two = zarr.open_array(store, path="a"), zarrs.open_array(tmp_path, path="b")
    else:
        one, two = left_to_zarr(tmp_path / "a"), zarrs.open_array(tmp_path / "a")
    refused: list[str] = []

    async def main() -> None:
        async def write() -> None:
            for _ in range(100):
                await one.async_array.setitem(5, 1)

        task = asyncio.create_task(write())
        while not task.done():
            await asyncio.sleep(0.0005)
            try:
                two[6] = 7
            except RuntimeError as error:
                refused.append(str(error))
        await task

    thread = InThread(lambda: asyncio.run(main()))
    assert thread.ends_within(LONG)
    assert thread.error is None
    assert refused
    assert all("would wait for it for ever" in said for said in refused)
    assert one[5] == 1


@pytest.mark.parametrize("direct", [False, True])
def test_interrupted(tmp_path: Path, direct: bool) -> None:
    two_chunks(tmp_path)
    assert run_child(child_interrupted, str(tmp_path), direct).check() == ["interrupted"]


def test_a_warning_of_whom_one_waits_for(
    locking: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    monkeypatch.setattr(_file_locks, "PATIENCE", 0.05)
    array = two_chunks(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with FileLocks(str(tmp_path), ["c/1"]):
            writer = InThread(lambda: array.__setitem__(slice(1, 7), 50))
            assert not writer.ends_within(4 * SOON)
        assert writer.ends_within(LONG)
    (said,) = (str(one.message) for one in caught)
    assert f"others have locked chunk 'c/1' of '{tmp_path}'; this write goes on waiting" in said
    assert array[6] == 50


# ----------------------------------------------------------------------------------- processes


def child_holder(path: str) -> None:
    """Hold a lock, and a child that was forked meanwhile, until killed."""
    allow_forks()
    with FileLocks(path, ["c/1"]):
        pid = os.fork()
        if pid == 0:
            time.sleep(LONG)
            os._exit(0)
        emit(pid)
        time.sleep(LONG)


@contextmanager
def killed_holder(path: Path) -> Iterator[int]:
    """A process that held the lock of "c/1" is dead, and a child that it forked is alive."""
    holder = subprocess.Popen(
        child_command(child_holder, str(path)),
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    child = int(holder.stdout.readline().removeprefix(MARK))
    try:
        locks = FileLocks(str(path), ["c/1"])
        thread = InThread(locks.__enter__)
        assert not thread.ends_within(SOON)
        holder.kill()
        holder.wait()
        assert thread.ends_within(LONG)
        locks.__exit__()
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()


def test_killed(locking: None, native: None, tmp_path: Path) -> None:
    """Nobody waits for a dead one, though a child of his is alive."""
    array = two_chunks(tmp_path)
    with killed_holder(tmp_path) as child:
        os.kill(child, 0)  # is there
        array[5] = 50
    assert array[5] == 50


def test_forked_children_have_no_locks(locking: None, native: None, tmp_path: Path) -> None:
    """They wait as others do, and do not give back what is their parent's."""
    allow_forks()
    array = two_chunks(tmp_path)
    with FileLocks(str(tmp_path), ["c/1"]) as locks:

        def child() -> None:
            locks.__exit__()  # does nothing here
            array[0] = 10  # of another chunk
            thread = InThread(lambda: array.__setitem__(5, 50))
            assert not thread.ends_within(SOON)

        pid = os.fork()
        if pid == 0:
            try:
                child()
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert array[5] == 5
    array[5] = 51
    assert array[0] == 10


def test_a_child_owns_nothing(locking: None, native: None, tmp_path: Path) -> None:
    """Also one that is forked by whom its parent lets write."""
    allow_forks()
    array = two_chunks(tmp_path)
    names = lock_names(location(array.store), ["c/1"])

    def work() -> None:
        writer = InThread(lambda: array.__setitem__(5, 50))
        assert not writer.ends_within(SOON)

    with FileLocks(str(tmp_path), ["c/1"]) as locks, locks.owned():
        key_locks().owning(names, lambda: array.__setitem__(6, forked(work)))
    assert_same(array[4:], np.array([4, 5, 0, 7], "<i4"))


def test_forks_while_others_lock(locking: None, native: None, tmp_path: Path) -> None:
    allow_forks()
    array = two_chunks(tmp_path)
    stop = threading.Event()

    def write() -> None:
        k = 0
        while not stop.is_set():
            k += 1
            array[5] = k

    writers = [InThread(write) for _ in range(2)]
    try:
        for k in range(20):

            def work(k: int = k) -> None:
                array[1] = k

            assert forked(work) == 0
            assert array[1] == k
    finally:
        stop.set()
    assert all(writer.ends_within(LONG) for writer in writers)
    assert all(writer.error is None for writer in writers)


@pytest.mark.parametrize("locked", [True, False])
def test_stress_writers(locked: bool) -> None:
    """With locks nothing is lost; that something is without shows that this test can fail."""
    command = [sys.executable, str(STRESS_WRITERS), "--processes", "4", "--writes", "100"]
    command += ["--runs", "1", "--kills", "5" if locked else "0"]
    command += [] if locked else ["--no-locks"]
    for _ in range(1 if locked else 5):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=child_environment()
        )
        if locked or done.returncode:
            break
    assert done.stderr == ""
    assert done.returncode == (0 if locked else 1), done.stdout
    assert done.stdout.count("items lost") == 6


# ------------------------------------------------------------------------------------- bad input


def test_a_lock_file_that_is_a_directory(locking: None, tmp_path: Path, access: str) -> None:
    array = zarr.create_array(tmp_path, shape=(8,), chunks=(4,), dtype="<i4", compressors=None)
    (tmp_path / LOCK_FILE).mkdir()
    with pytest.raises(IsADirectoryError, match="chunks cannot be locked: Is a directory") as info:
        array[...] = 1
    assert info.value.filename == str(tmp_path / LOCK_FILE)
    assert not (tmp_path / "c").exists()
    assert_same(array[...], np.zeros(8, "<i4"))


def child_without_rights(path: str) -> None:
    with zarr.config.set({"codec_pipeline.lock_files": True}):
        arrays = [module.open_array(path, mode="r+") for module in (zarr, zarrs)]
        assert all(array[0] == 0 for array in arrays)  # all is loaded that must be, ...
        if os.getuid() == 0:
            os.setuid(65534)  # ... which this one may not read
        for array in arrays:
            try:
                array[:] = 1
            except PermissionError as error:
                emit([str(error), error.filename])


def test_a_directory_one_may_not_write_to(tmp_path: Path) -> None:
    path = Path("/tmp") / f"zarrs-{os.getpid()}-read-only"  # pytest's own are not for others
    two_chunks(path)
    path.chmod(0o555)
    try:
        said = run_child(child_without_rights, str(path)).check()
        assert_same(stock_open(path)[...], np.arange(8, dtype="<i4"))
    finally:
        path.chmod(0o755)
        shutil.rmtree(path)
    assert len(said) == 2
    for text, file in said:
        assert "codec_pipeline.lock_files is on, and chunks cannot be locked: Permission" in text
        assert file == str(path / LOCK_FILE)


def test_a_file_system_without_locks(
    locking: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, access: str
) -> None:
    """Calls that fail are those of test_faults.py, too."""
    array = two_chunks(tmp_path)

    class NoLocks:
        def find_above(self, root: bytes, key: bytes, name: bytes) -> None:
            pass

        def open_file(self, path: bytes, make: bool) -> bool:
            return make

        def number(self) -> tuple[int, int]:
            return 0, 0

        def take(self, places: list[int], first: int) -> int:
            raise OSError(errno.ENOLCK, "No locks available")

        def give(self) -> None:
            pass

    monkeypatch.setattr(_file_locks, "LockedFile", NoLocks)
    with pytest.raises(
        OSError, match="this file system has no locks of open files, so leave the"
    ) as info:
        array[...] = 1
    assert info.value.errno == errno.ENOLCK
    assert info.value.filename == str(tmp_path / LOCK_FILE)
    assert_same(array[...], np.arange(8, dtype="<i4"))


def test_no_metadata(locking: None, tmp_path: Path, access: str) -> None:
    array = two_chunks(tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(
        FileNotFoundError,
        match=r"there are no metadata of an array .* above chunk 'c/1'; was the array",
    ):
        array[5] = 50
    assert not (tmp_path / "a").exists()
