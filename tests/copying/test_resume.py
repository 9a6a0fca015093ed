"""A copy that was killed, interrupted or failed goes on with the same call."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    assert_same,
    child_command,
    child_environment,
    make_data,
    stock_read,
    stored_files,
)
from zarr.errors import ArrayNotFoundError, GroupNotFoundError

import zarrs
from zarrs.copying import _places, _record, _run, _transfer

KEY = ".zarrs.copy"
SHAPE = (96, 96)
SMALL: Any = {"chunks": (16, 16), "memory": "40KiB"}


def files(path: Path) -> dict[str, bytes]:
    """All that is there, by name."""
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A group of two arrays, one of them half empty."""
    path = tmp_path / "source"
    group = zarr.create_group(path, attributes={"title": "source"})
    group.create_array("a", shape=SHAPE, chunks=(24, 24), dtype="f8")[...] = make_data("f8", SHAPE)
    half = group.create_array("x/b", shape=SHAPE, chunks=(8, 8), dtype="i4")
    half[:48] = make_data("i4", (48, 96))
    return path


@pytest.fixture
def whole(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """What a copy that nobody disturbs stores."""
    zarrs.copy(source, tmp_path / "whole", **SMALL)
    return files(tmp_path / "whole")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The regions that are copied, by array and box."""
    seen: list[tuple[str, str]] = []
    copy_region = _transfer.copy_region

    def watched(pair: Any, box: Any, chunks: Any) -> None:
        copy_region(pair, box, chunks)
        seen.append((pair.name, str(box)))

    monkeypatch.setattr("zarrs.copying._copy.copy_region", watched)
    return seen


def fail_after(monkeypatch: pytest.MonkeyPatch, n: int, error: BaseException) -> None:
    """Let the n-th region raise, and all after it."""
    copy_region, count, lock = _transfer.copy_region, [0], threading.Lock()

    def failing(pair: Any, box: Any, chunks: Any) -> None:
        with lock:
            count[0] += 1
            if count[0] > n:
                raise error
        copy_region(pair, box, chunks)

    monkeypatch.setattr("zarrs.copying._copy.copy_region", failing)


def say(text: object) -> None:
    """Print a line in one piece, from any thread and process."""
    os.write(1, f"{text}\n".encode())


def slowly(function: Callable[..., Any], said: str) -> Callable[..., Any]:
    """Take time before and after something is done, and say when it is."""

    def call(*args: Any) -> None:
        time.sleep(0.01)
        function(*args)
        say(said)
        time.sleep(0.03)

    return call


def start(source: str, target: str, options: dict[str, Any]) -> None:
    """Copy, slowly enough to be killed; write the record often."""
    from zarrs.copying import _copy

    slow: list[tuple[Any, str, str]] = [(_places, "write", "recorded"), (_places, "clear", "gone")]
    slow += [(_transfer, "copy_region" if "chunks" in options else "_copy_file", "done")]
    for module, name, said in slow:
        changed = slowly(getattr(module, name), said)
        for user in (_copy, _record, module):
            if hasattr(user, name):
                setattr(user, name, changed)
    _record.INTERVAL = 0.0
    say("begins")
    zarrs.copy(source, target, **options)


def serve() -> None:
    """In a process of its own: fork for each line, so that nobody waits for imports."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            start(*json.loads(line))
            os._exit(0)
        say(child)
        _, status = os.waitpid(child, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


class Copiers:
    """Starts copies in processes, and kills them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            child_command(serve),
            env=child_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def kill_after(self, regions: int, seconds: float, *arguments: Any) -> bool:
        """Kill a copy when so many regions are done; return whether it had not ended."""
        server = self._server
        assert server.stdin is not None
        assert server.stdout is not None
        print(json.dumps(arguments), file=server.stdin, flush=True)
        pid, n_begun, n_done = 0, 0, 0
        while not (pid and n_begun and n_done >= regions):
            line = server.stdout.readline()
            n_begun += line == "begins\n"
            n_done += line == "done\n"
            pid = int(line) if line.strip().isdigit() else pid
            if line.startswith("ended"):
                return False
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        while not line.startswith("ended"):
            line = server.stdout.readline()
        return line.split() == ["ended", str(-signal.SIGKILL)]

    def close(self) -> None:
        self._server.communicate(timeout=60)
        assert self._server.returncode == 0


@pytest.fixture(scope="module")
def copiers() -> Iterator[Copiers]:
    running = Copiers()
    yield running
    running.close()


# Regions that are done, and milliseconds after that: 20 moments in all.
MOMENTS = {
    "decoded": [(0, 3), (1, 0), (4, 11), (9, 35), (17, 2), (26, 23), (35, 0), (40, 17)],
    "as stored": [(0, 20), (1, 0), (9, 11), (30, 3)],
    "overwriting": [(0, 0), (0, 9), (0, 20), (0, 33), (0, 47), (0, 60), (1, 0), (20, 5)],
}


@pytest.mark.parametrize("kind", MOMENTS)
def test_killed_at_any_moment(
    source: Path, tmp_path: Path, whole: dict[str, bytes], copiers: Copiers, kind: str
) -> None:
    """It goes on, and is equal byte by byte to a copy that nobody killed."""
    options: Any = {"memory": "40KiB"} if kind == "as stored" else dict(SMALL)
    if kind == "as stored":
        zarrs.copy(source, tmp_path / "other", **options)
        whole = files(tmp_path / "other")
    options["overwrite"] = kind == "overwriting"
    n_killed = n_resumed = 0
    for i, (regions, milliseconds) in enumerate(MOMENTS[kind]):
        target = tmp_path / f"target {i}"
        if kind == "overwriting":
            zarr.create_array(target, shape=(60,), chunks=(1,), dtype="i4")[...] = 1
        arguments = str(source), str(target), options
        n_killed += copiers.kill_after(regions, milliseconds / 1000, *arguments)
        has_record = (target / KEY).exists()
        if has_record and not (target / "zarr.json").exists():
            with pytest.raises((ArrayNotFoundError, GroupNotFoundError)):
                zarr.open(target, mode="r")
        if has_record or not (target / "zarr.json").exists() or files(target) != whole:
            report = zarrs.copy(source, target, verify=True, **options)
            assert report.resumed == has_record
            n_resumed += has_record
        assert files(target) == whole
    assert n_killed >= len(MOMENTS[kind]) - 2
    assert n_resumed >= len(MOMENTS[kind]) // 4


def test_nothing_is_done_twice(
    source: Path, tmp_path: Path, whole: dict[str, bytes], calls: Any, monkeypatch: Any
) -> None:
    zarrs.copy(source, tmp_path / "again", **SMALL)
    expected = set(calls)
    assert len(calls) == len(expected) > 30
    calls.clear()
    with monkeypatch.context() as patch:
        fail_after(patch, 20, RuntimeError("enough"))
        with pytest.raises(RuntimeError, match="enough") as failure:
            zarrs.copy(source, tmp_path / "target", **SMALL)
    assert "the same call goes on with it" in str(failure.value.__notes__)
    document = json.loads((tmp_path / "target" / KEY).read_text())
    done = sum(stop - start for start, stop in document["arrays"]["a"]["done"])
    assert done == 20
    report = zarrs.copy(source, tmp_path / "target", **SMALL)
    assert report.resumed
    assert len(calls) == len(set(calls)) == len(expected) - 20
    assert 0 < report.n_bytes_copied < report.n_bytes
    assert "bytes of them before" in str(report)
    assert files(tmp_path / "target") == whole


def test_what_is_done_counts_with_another_limit_of_memory(
    source: Path, tmp_path: Path, whole: dict[str, bytes], calls: Any, monkeypatch: Any
) -> None:
    """More and less of it: regions are others then."""
    for memory in ("160KiB", "24KiB", "2MiB"):
        target = tmp_path / memory
        with monkeypatch.context() as patch:
            fail_after(patch, 20, RuntimeError())
            with pytest.raises(RuntimeError):
                zarrs.copy(source, target, **SMALL)
        report = zarrs.copy(source, target, **SMALL | {"memory": memory})
        assert report.resumed
        if memory != "2MiB":
            assert report.n_bytes_copied < report.n_bytes
        assert files(target) == whole


def test_a_kill_right_before_the_end(
    source: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: Any
) -> None:
    """All is written but the record not yet deleted: it is whole, and the same call ends it."""
    with monkeypatch.context() as patch:
        patch.setattr(_record, "delete", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            zarrs.copy(source, tmp_path / "target", **SMALL)
    assert_same(stock_read(tmp_path / "target/a"), stock_read(source / "a"))
    assert zarrs.copy(source, tmp_path / "target", **SMALL).n_bytes_copied == 0
    assert files(tmp_path / "target") == whole


def test_an_interrupt(source: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Nothing is written after it was told, and it goes on."""
    main = threading.main_thread().ident
    assert main is not None
    copy_region = _transfer.copy_region
    seen: list[int] = []

    def interrupting(pair: Any, box: Any, chunks: Any) -> None:
        copy_region(pair, box, chunks)
        seen.append(0)
        if len(seen) == 10:
            signal.pthread_kill(main, signal.SIGINT)

    # Jobs in the background ignore it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("zarrs.copying._copy.copy_region", interrupting)
            with pytest.raises(KeyboardInterrupt):
                zarrs.copy(source, tmp_path / "target", **SMALL)
    finally:
        signal.signal(signal.SIGINT, handler)
    before = files(tmp_path / "target")
    time.sleep(0.05)
    assert files(tmp_path / "target") == before
    assert not any(thread.name.startswith("zarrs-copy") for thread in threading.enumerate())
    assert zarrs.copy(source, tmp_path / "target", **SMALL).resumed
    assert files(tmp_path / "target") == whole


def test_temporary_files_of_killed_writers_go(source: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_after(patch, 20, RuntimeError())
        with pytest.raises(RuntimeError):
            zarrs.copy(source, tmp_path / "target", **SMALL)
    for name in ("c/0/0.00c0ffee00c0ffee.partial", "zarr.00c0ffee00c0ffee00c0ffee00c0ffee.partial"):
        (tmp_path / "target/a" / name).write_bytes(b"half")
    (tmp_path / "target/a/mine.partial").write_bytes(b"mine")
    zarrs.copy(source, tmp_path / "target", **SMALL)
    left = [name for name in files(tmp_path / "target") if name.endswith("partial")]
    assert left == ["a/mine.partial"]


# ------------------------------------------------------------------ what is not gone on with


def unfinished(source: Path, target: Path, **options: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fail_after(patch, 5, RuntimeError())
        with pytest.raises(RuntimeError):
            zarrs.copy(source, target, **SMALL | options)


def test_other_options(source: Path, tmp_path: Path) -> None:
    unfinished(source, tmp_path / "target")
    before = files(tmp_path / "target")
    for wishes in ({"chunks": 8}, {"compressors": None}, {"zarr_format": 2}):
        with pytest.raises(FileExistsError, match="with other chunks, shards, codecs or format"):
            zarrs.copy(source, tmp_path / "target", **SMALL | wishes)
    assert files(tmp_path / "target") == before
    report = zarrs.copy(source, tmp_path / "target", chunks=8, overwrite=True, verify=True)
    assert not report.resumed


def test_another_source(source: Path, tmp_path: Path) -> None:
    unfinished(source, tmp_path / "target")
    source.rename(tmp_path / "moved")
    with pytest.raises(FileExistsError, match=r"unfinished copy of another source, file .*/source"):
        zarrs.copy(tmp_path / "moved", tmp_path / "target", **SMALL)


def test_a_source_that_has_changed(source: Path, tmp_path: Path) -> None:
    unfinished(source, tmp_path / "target")
    zarr.open_array(source / "a").resize((100, 96))
    with pytest.raises(FileExistsError, match="source's metadata have changed since it was begun"):
        zarrs.copy(source, tmp_path / "target", **SMALL)


@pytest.mark.parametrize("text", ["", "{}", "{", '{"zarrs_copy": 1, "arrays": []}', "[1]"])
def test_a_record_that_is_damaged(source: Path, tmp_path: Path, text: str) -> None:
    unfinished(source, tmp_path / "target")
    (tmp_path / "target" / KEY).write_text(text)
    with pytest.raises(FileExistsError, match=r"\.zarrs\.copy, is damaged; choose another target"):
        zarrs.copy(source, tmp_path / "target", **SMALL)
    zarrs.copy(source, tmp_path / "target", overwrite=True, verify=True)


def test_a_record_of_another_version(source: Path, tmp_path: Path) -> None:
    unfinished(source, tmp_path / "target")
    file = tmp_path / "target" / KEY
    file.write_text(json.dumps(json.loads(file.read_text()) | {"zarrs_copy": 2}))
    with pytest.raises(
        FileExistsError, match="of another version of zarrs, whose record has the version 2, not 1"
    ):
        zarrs.copy(source, tmp_path / "target", **SMALL)


def test_overwriting_goes_on_as_well(source: Path, tmp_path: Path, calls: Any) -> None:
    """The same call is the same call; what was there before has been deleted."""
    zarr.create_array(tmp_path / "target", shape=(8,), chunks=(1,), dtype="i4")[...] = 1
    unfinished(source, tmp_path / "target", overwrite=True)
    assert not (tmp_path / "target/c").exists()
    assert zarrs.copy(source, tmp_path / "target", overwrite=True, **SMALL).resumed


def test_a_deletion_that_was_killed(source: Path, tmp_path: Path, whole: dict[str, bytes]) -> None:
    """Half of what was there is neither an array nor a part of the copy."""
    target = tmp_path / "target"
    old = zarr.create_group(target)
    for name in ("a", "old"):
        old.create_array(name, shape=(8,), chunks=(1,), dtype="i4")[...] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr.storage.LocalStore, "delete_dir", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            zarrs.copy(source, target, overwrite=True, **SMALL)
    assert (target / "old/c/0").exists()
    with pytest.raises((ArrayNotFoundError, GroupNotFoundError)):
        zarr.open(target, mode="r")
    with pytest.raises(FileExistsError, match="other chunks"):
        zarrs.copy(source, target, chunks=5)
    zarrs.copy(source, target, **SMALL)
    assert files(target) == whole


# ---------------------------------------------------------------------------- disks that are full


def test_a_full_disk(
    source: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: Any
) -> None:
    """The record may be as old as it is; what is there stays, and the call goes on."""
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(_record, "INTERVAL", 0.0)
    with monkeypatch.context() as patch:
        fail_after(patch, 12, error)
        writes: list[Any] = []
        write = _places.write

        def failing(*args: Any) -> None:
            writes.append(args)
            if len(writes) > 8:
                raise error
            write(*args)

        patch.setattr(_record, "write", failing)
        with pytest.raises(OSError, match="No space left") as failure:
            zarrs.copy(source, tmp_path / "target", **SMALL)
    assert failure.value.errno == errno.ENOSPC
    assert zarrs.copy(source, tmp_path / "target", verify=True, **SMALL).resumed
    assert files(tmp_path / "target") == whole


def test_the_record_is_synced_after_what_it_is_about(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If files are to survive a power failure."""
    synced: list[int] = []
    monkeypatch.setattr(os, "sync", lambda: synced.append(1))
    zarrs.copy(source, tmp_path / "a", **SMALL)
    assert not synced
    with zarr.config.set({"codec_pipeline.fsync": True}):
        zarrs.copy(source, tmp_path / "b", **SMALL)
    assert synced


def test_no_more_regions_than_there_is_memory_for_are_under_way(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, lock = [0], [0], threading.Lock()
    copy_region = _transfer.copy_region

    def counting(pair: Any, box: Any, chunks: Any) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.001)
        copy_region(pair, box, chunks)
        with lock:
            running[0] -= 1

    monkeypatch.setattr("zarrs.copying._copy.copy_region", counting)
    zarrs.copy(source / "a", tmp_path / "one", chunks=(16, 16), memory="24KiB")
    assert most == [1]
    zarrs.copy(source / "a", tmp_path / "many", chunks=(16, 16), memory="1MiB")
    assert most[0] <= _run.UNDER_WAY


# --------------------------------------------------------------------------------------- memory


def peak(source: str, target: str, options: dict[str, Any]) -> None:
    """In a process of its own: say how much memory a copy takes beyond what is there before."""
    from helpers import emit

    small = zarr.create_array({}, shape=(64, 64), chunks=(8, 8), dtype="f8")
    small[...] = 1
    zarrs.copy(small, {}, chunks=(16, 16), shards=(32, 32), verify=True)
    before = resident()
    Path("/proc/self/clear_refs").write_text("5")
    zarrs.copy(source, target, **options)
    emit(resident() - before)


def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
@pytest.mark.parametrize(
    "wishes",
    [
        {"chunks": (512, 512)},
        {"chunks": (4096, 64)},
        {"chunks": (64, 64), "shards": (1024, 1024)},
        {},
    ],
    ids=str,
)
def test_memory_is_bounded(tmp_path: Path, wishes: Any) -> None:
    """By the limit, of an array that is several times as large."""
    from helpers import run_child

    source = zarr.create_array(tmp_path / "a", shape=(4096, 4096), chunks=(64, 4096), dtype="f8")
    source[...] = np.broadcast_to(np.arange(4096.0), (4096, 4096))
    options = {"memory": "48MiB", "verify": True, **wishes}
    [taken] = run_child(peak, str(tmp_path / "a"), str(tmp_path / "b"), options).check()
    assert taken < 48 * 2**20


def test_stored_bytes_of_any_size_are_copied_with_little_memory(tmp_path: Path) -> None:
    """Chunks that are larger than the limit, if nothing has to be decoded."""
    source = zarr.create_array(tmp_path / "a", shape=(2**20,), chunks=(2**19,), dtype="f8")
    source[...] = np.arange(2**20)
    zarrs.copy(source, tmp_path / "b", memory="64KiB")
    assert stored_files(tmp_path / "b") == stored_files(tmp_path / "a")
    with pytest.raises(ValueError, match="allow as much"):
        zarrs.copy(source, tmp_path / "c", memory="64KiB", compressors=["gzip"])
    assert not (tmp_path / "c").exists()
