"""Writes that fail, are killed or meet one another leave old or new values, never anything else."""

import contextlib
import errno
import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    CHAIN,
    ROOT,
    Chain,
    assert_same,
    child_command,
    child_environment,
    chunk_file,
    create,
    emit,
    make_data,
    ours_open,
    run_child,
    stock_open,
    stock_read,
    stored_files,
)
from shards import in_threads

CHAINS = [CHAIN[n] for n in ("raw", "zstd", "blosc-lz4-shuffle", "v2-raw-F", "v2-zlib-F")]
STRESS_KILLS = ROOT / "scripts" / "stress_kills"
each_chain = pytest.mark.parametrize("chain", CHAINS, ids=str)


def leftovers(path: Path) -> list[str]:
    """Temporary files below `path`."""
    return [str(p) for p in path.rglob("*") if ".partial" in p.name]


def incompressible(seed: int, shape: tuple[int, ...] = (100, 150)) -> np.ndarray:
    """60 kB by default, in every codec."""
    return np.random.default_rng(seed).integers(0, 2**32, shape, dtype="<u4")


# ------------------------------------------------------- disks that are full or read-only


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writing past `size` bytes fails with EFBIG, for root too."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)


@contextlib.contextmanager
def full_disk(root: Path, small_disk: bool) -> Iterator[None]:
    """Less than 50 kB are left in `root`, or may be written to one file."""
    if not small_disk:
        with file_size_limit(50_000):
            yield
        return
    free = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
    (root / "ballast").write_bytes(bytes(free - 45_000))
    yield
    (root / "ballast").unlink()


@contextlib.contextmanager
def read_only_disk(root: Path, small_disk: bool) -> Iterator[None]:
    """Nothing can be written in `root`, or nothing into any file."""
    if not small_disk:
        with file_size_limit(0):
            yield
        return
    subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)


DISKS = {"full": full_disk, "read-only": read_only_disk}


def small_disk_prefix(root: Path) -> list[str]:
    """How to run a command that sees a file system of 1 MiB in `root`; empty if it cannot be.

    It lives in a mount namespace of that command, so nothing is left behind.
    """
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-r", "-m"]):
        prefix = [*unshare, "sh", "-c", mount, str(root)]
        with contextlib.suppress(FileNotFoundError):
            test = [*prefix, sys.executable, "-c", "import os, sys; os.statvfs(sys.argv[1])"]
            if subprocess.run([*test, str(root)], capture_output=True).returncode == 0:
                return prefix
    return []


def child_disk(where: str, kind: str, small_disk: bool, names: list[str]) -> None:
    """Fail to overwrite and to add chunks; emit what happened and what is stored after."""
    for name in names:
        chain, root = CHAIN[name], Path(where)
        path = root / "arrays" / name
        array = create(path, chain, (200, 150), (100, 150), "<u4")
        old = incompressible(0)
        array[:100] = old
        before = stored_files(root / "arrays")
        for selection, value in (
            ((slice(0, 100),), incompressible(1)),  # replace a chunk
            ((slice(100, 200),), incompressible(2)),  # a new chunk
            ((slice(90, 110),), incompressible(3, (20, 150))),  # merge, two chunks
        ):
            said: dict[str, Any] = {"name": name}
            with DISKS[kind](root, small_disk):
                try:
                    array[selection] = value
                except OSError as error:
                    said |= {"errno": error.errno, "text": str(error)}
                except Exception as error:
                    said |= {"errno": None, "text": repr(error)}
            said["same"] = stored_files(root / "arrays") == before
            said["leftovers"] = leftovers(root)
            emit(said)
        assert_same(array[:100], old)
        array[...] = np.zeros((200, 150), "<u4")  # and now it works again
        assert_same(array[...], np.zeros((200, 150), "<u4"))
        shutil.rmtree(path)


@pytest.mark.parametrize("disk", ["limit", "small-disk"])
@pytest.mark.parametrize("kind", DISKS)
def test_disk(tmp_path: Path, kind: str, disk: str) -> None:
    """A full or read-only disk is an OSError that names the file; the old chunks stay.

    The small disk is a tmpfs where the tests may mount one (as root, or with user namespaces);
    else, and always once, a limit on the size of files plays the part.
    """
    prefix = small_disk_prefix(tmp_path) if disk == "small-disk" else []
    arguments = (str(tmp_path), kind, bool(prefix), [c.name for c in CHAINS])
    lines = run_child(child_disk, *arguments, prefix=prefix).check()
    assert len(lines) == 3 * len(CHAINS)
    number = errno.EFBIG if not prefix else errno.ENOSPC if kind == "full" else errno.EROFS
    for line in lines:
        assert line["errno"] == number, line
        assert str(tmp_path / "arrays" / line["name"]) in line["text"], line
        assert line["same"], line
        assert line["leftovers"] == [], line


# ------------------------------------------------------------------- directories and files


@each_chain
def test_missing_directories_are_made(native: None, tmp_path: Path, chain: Chain) -> None:
    """Chunk directories, and the whole array's, appear when a chunk is written."""
    path = tmp_path / "deep" / "array"
    key = {"name": "v2" if chain.zarr_format == 2 else "default", "separator": "/"}
    array = create(path, chain, (8, 8), (4, 4), "<i4", chunk_key_encoding=key)
    data = make_data("<i4", (8, 8))
    array[...] = data
    assert_same(array[...], data)
    shutil.rmtree(tmp_path / "deep")
    assert_same(array[...], np.zeros((8, 8), "<i4"), "removed underneath")
    array[4:] = data[4:]
    data[:4] = 0
    assert_same(array[...], data)
    array[...] = 0  # chunks to delete, some of which are not there
    shutil.rmtree(tmp_path / "deep")
    array[...] = 0
    assert not (tmp_path / "deep").exists() or stored_files(tmp_path) == {}


@pytest.mark.parametrize("step", ["read", "write"])
def test_directory_removed_by_another_thread(native: None, tmp_path: Path, step: str) -> None:
    """Reads give old data or fill values; writes succeed or raise OSError."""
    array = create(tmp_path / "a", CHAIN["raw"], (64, 64), (8, 8), "<i4", fill_value=-1)
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            shutil.rmtree(tmp_path / "a" / "c", ignore_errors=True)
            time.sleep(0.0005)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(60):
            with contextlib.suppress(OSError):
                array[...] = 1
            if step == "read":
                assert np.isin(np.asarray(array[...]), (1, -1)).all()
    finally:
        stop.set()
        thread.join()
    array[...] = 2
    assert (np.asarray(array[...]) == 2).all()


def test_a_file_where_a_directory_should_be(native: None, tmp_path: Path) -> None:
    """As in zarr: reads find nothing there, writes raise and name the file."""
    array = create(tmp_path, CHAIN["raw"], (8, 8), (4, 4), "<i4", fill_value=5)
    array[:4] = 1
    (tmp_path / "c" / "1").write_text("in the way")
    expected = stock_read(tmp_path)
    assert_same(array[...], expected)
    with pytest.raises(OSError, match=r"c/1"):
        array[4:] = 2
    assert (tmp_path / "c" / "1").read_text() == "in the way"
    assert_same(array[...], expected)
    assert leftovers(tmp_path) == []


@each_chain
def test_a_directory_where_a_chunk_should_be(native: None, tmp_path: Path, chain: Chain) -> None:
    """As in zarr: reads find no chunk there, writes raise and name the file."""
    array = create(tmp_path, chain, (8, 8), (4, 4), "<i4", fill_value=5)
    array[:4] = 1
    file = chunk_file(tmp_path, chain.zarr_format, 1, 0)
    (file / "inside").mkdir(parents=True)
    expected = stock_read(tmp_path)
    assert_same(array[...], expected)
    with pytest.raises(OSError, match=file.name) as caught:
        array[4:, :4] = 2
    assert caught.value.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST)
    assert (file / "inside").is_dir()
    assert leftovers(tmp_path) == []


def test_links_and_special_files(native: None, tmp_path: Path) -> None:
    """A chunk behind a symbolic link reads; a dangling link is a missing chunk."""
    array = create(tmp_path / "a", CHAIN["zstd"], (8,), (4,), "<i4", fill_value=5)
    array[...] = data = make_data("<i4", (8,))
    file = chunk_file(tmp_path / "a", 3, 0)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert_same(array[...], data)
    (tmp_path / "elsewhere").unlink()
    assert_same(array[:4], np.full(4, 5, "<i4"))


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_file_modes_follow_the_umask(native: None, tmp_path: Path, mask: int) -> None:
    """New files and directories have the modes that any program would give them."""
    array = create(tmp_path, CHAIN["zstd"], (8, 8), (4, 4), "<i4")
    old = os.umask(mask)
    try:
        array[...] = 1
        array[1:7] = 2
    finally:
        os.umask(old)
    for path in [tmp_path / "c", *(tmp_path / "c").rglob("*")]:
        full = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == full & ~mask


@each_chain
def test_temporary_files_are_not_chunks(native: None, tmp_path: Path, chain: Chain) -> None:
    """What a killed writer left behind is neither read nor in the way."""
    array = create(tmp_path, chain, (8, 4), (4, 4), "<i4")
    array[:4] = data = make_data("<i4", (4, 4))
    file = chunk_file(tmp_path, chain.zarr_format, 1, 0)
    for name in (f"{file.name}.partial", f"{file.name}.0123456789abcdef.partial", ".1.partial"):
        file.parent.mkdir(parents=True, exist_ok=True)
        (file.parent / name).write_bytes(b"half a chunk")
    assert_same(array[...], np.concatenate([data, np.zeros((4, 4), "<i4")]))
    array[4:] = data
    assert_same(array[...], np.concatenate([data, data]))
    assert len(leftovers(tmp_path)) == 3


def test_no_temporary_files_after_writing(tmp_path: Path) -> None:
    """Not after success, and not after a value that does not fit."""
    array = create(tmp_path, CHAIN["raw"], (8, 8), (3, 3), "<i4")
    array[...] = 1
    assert leftovers(tmp_path) == []
    with pytest.raises((ValueError, IndexError)):
        array[1:7, 1:7] = np.ones((2, 2), "<i4")
    for _ in range(100):  # zarr's own pipeline raises while other chunks are being written
        if not leftovers(tmp_path):
            break
        time.sleep(0.05)
    assert leftovers(tmp_path) == []


# ----------------------------------------------------------------------- read-only stores


@pytest.mark.parametrize("mode", ["r", None])
def test_read_only_stores_refuse(tmp_path: Path, mode: str | None) -> None:
    """With the exception of zarr's default pipeline; deleting empty chunks included."""
    create(tmp_path, CHAIN["zstd"], (8,), (4,), "<i4")[...] = data = make_data("<i4", (8,))
    store = zarr.storage.LocalStore(tmp_path, read_only=True)
    array = zarr.open_array(store, mode=mode) if mode else zarr.open_array(store)
    for value in (1, 0, np.arange(8)):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = value
        with pytest.raises(ValueError, match="read-only"):
            array[1:3] = 0
    with pytest.raises(ValueError, match="read-only"):
        stock_open(tmp_path, mode="r")[...] = 1
    assert_same(array[...], data)


# --------------------------------------------------------------------------------- kill -9


def test_killed_writers_leave_whole_chunks(tmp_path: Path) -> None:
    """A short run of the script, whose own run is longer and of more kinds."""
    kinds = ["raw", "zstd, in part", "deleted", "shard", "shard, index at start", "shard in shard"]
    command = [sys.executable, str(STRESS_KILLS), "--kills", "18", "--directory", str(tmp_path)]
    done = subprocess.run(
        [*command, "--only", *kinds],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("18 kills, ")


# ------------------------------------------------------------------- several processes at once


def child_rewriter(path: str, first: int, gate: str) -> None:
    """Write numbers into the only chunk; temporary names are the same in every process."""
    os.urandom = bytes  # where names come from: zeros
    array = ours_open(path)
    while not Path(gate).exists():
        time.sleep(0.001)
    for number in range(first, first + 200):
        array[...] = number
    emit("done")


def test_processes_replace_one_chunk(tmp_path: Path) -> None:
    """Names of temporary files that are taken are not used, whoever has them; values are whole."""
    path, gate = tmp_path / "a", tmp_path / "gate"
    array = create(path, CHAIN["raw"], (200_000,), (200_000,), "<i4")
    array[...] = 1
    taken = chunk_file(path, 3, 0).with_name("0.0000000000000000.partial")
    taken.write_bytes(b"of a writer that was killed")
    writers = [
        subprocess.Popen(
            child_command(child_rewriter, str(path), first, str(gate)),
            env=child_environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (1000, 2000, 3000)
    ]
    gate.touch()
    while any(writer.poll() is None for writer in writers):
        values = np.asarray(array[...])
        assert (values == values[0]).all()
    for writer in writers:
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.read().strip().endswith('"done"')
            assert writer.wait() == 0
    assert array[0] in (1199, 2199, 3199)
    assert leftovers(path) == [str(taken)]
    assert taken.read_bytes() == b"of a writer that was killed"


def child_forks(path: str) -> None:
    """Several forks of a process that has written go on writing, each its own row and one all."""
    array = ours_open(path)
    array[...] = 1
    children = []
    for i in range(4):
        child = os.fork()
        if child == 0:
            for number in range(2, 30):
                array[i] = array[4] = number
            os._exit(0)
        children.append(child)
    emit([os.waitpid(child, 0)[1] for child in children])
    emit(np.asarray(array[:, 0]).tolist())
    emit(bool((np.asarray(array[...]) == np.asarray(array[:, :1])).all()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forks_replace_one_chunk(tmp_path: Path) -> None:
    create(tmp_path, CHAIN["zstd"], (5, 50_000), (1, 50_000), "<i4")
    assert run_child(child_forks, str(tmp_path)).check() == [[0] * 4, [29] * 5, True]
    assert leftovers(tmp_path) == []


# --------------------------------------------------------------------- several threads at once


@each_chain
def test_threads_merge_into_one_chunk(native: None, tmp_path: Path, chain: Chain) -> None:
    """Read-modify-write of one chunk by several threads loses nothing."""
    array = create(tmp_path, chain, (8, 50), (8, 50), "<i4")
    twin = ours_open(tmp_path)  # another array object on the same files

    def write(i: int) -> None:
        mine = array if i % 2 else twin
        for k in range(10):
            mine[i, k * 5 : k * 5 + 5] = i * 100 + k

    in_threads(8, write)
    expected = np.arange(8)[:, None] * 100 + np.arange(50) // 5
    assert_same(array[...], expected.astype("<i4"))


@each_chain
def test_readers_see_whole_chunks(native: None, tmp_path: Path, chain: Chain) -> None:
    """While one thread replaces chunks, others read old or new ones, never a mixture."""
    array = create(tmp_path, chain, (4, 5000), (1, 5000), "<i4")
    array[...] = 1
    stop = threading.Event()

    def work(i: int) -> None:
        if i == 0:
            for number in range(2, 40):
                array[...] = number
            stop.set()
        while not stop.is_set():
            rows = np.asarray(array[...])
            assert (rows == rows[:, :1]).all()
            assert rows.min() >= 1

    try:
        in_threads(4, work)
    finally:
        stop.set()
    assert (np.asarray(array[...]) == 39).all()


def test_threads_write_different_arrays(native: None, tmp_path: Path) -> None:
    """Nothing is shared between calls that should not be."""

    def work(i: int) -> None:
        chain = CHAINS[i % len(CHAINS)]
        data = make_data("<f4", (40, 30), seed=i)
        array = create(tmp_path / str(i), chain, data.shape, (7, 9), "<f4")
        for _ in range(4):
            array[...] = data
            array[3:20, 5] = data[3:20, 5]
            assert_same(array[...], data)

    in_threads(10, work)
