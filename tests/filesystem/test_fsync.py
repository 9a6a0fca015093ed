"""``codec_pipeline.fsync``: what a write leaves on the disk, and what it says if it cannot."""

import contextlib
import ctypes
import errno
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import PIPELINE, chunk_file, emit, run_child
from native_library import compile_library, preloaded
from own_codecs import own
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore, LoggingStore

SHARD: dict[str, Any] = {"chunks": (2, 3), "shards": (4, 6)}

# Every way in which a chunk gets into a file.
KINDS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "zstd": {"compressors": ZstdCodec()},
    "format 2": {"zarr_format": 2, "compressors": None},
    "strings": {"dtype": str},
    "in Python": {"compressors": own("xor")},
    "shard": {**SHARD, "compressors": ZstdCodec()},
    "index at start": {
        "chunks": (4, 6),
        "serializer": ShardingCodec(chunk_shape=(2, 3), index_location="start"),
        "compressors": None,
    },
    "nested": {
        "chunks": (4, 6),
        "serializer": ShardingCodec(
            chunk_shape=(4, 3),
            codecs=[ShardingCodec(chunk_shape=(2, 3), codecs=[BytesCodec(), Crc32cCodec()])],
        ),
        "compressors": None,
    },
    "codec around a shard": {
        "chunks": (4, 6),
        "serializer": ShardingCodec(chunk_shape=(2, 3)),
        "compressors": ZstdCodec(),
    },
    "shard in Python": {**SHARD, "compressors": own("xor")},
}


# ------------------------------------------------------------------------------ traced children


@pytest.fixture(scope="module")
def tracer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library that traces."""
    if sys.platform != "linux":
        pytest.skip("calls are traced on Linux only")
    return compile_library("trace_sync", tmp_path_factory.mktemp("tracer"))


def run_traced(tracer: str, func: Any, *args: Any, log: Path, fsync: str = "true") -> list[Any]:
    """What a child emits that runs with the tracer and, as its environment says, the option."""
    environment = {
        **preloaded(tracer),
        "TRACE_SYNC_LOG": str(log),
        "ZARR_CODEC_PIPELINE__FSYNC": fsync,
        "ZARR_CODEC_PIPELINE__STRICT": "true",
    }
    return run_child(func, *args, env=environment).check()


def fail_sync(number: int, error: int) -> None:
    """Let the n-th sync from now on fail; 0: none."""
    ctypes.CDLL(None).trace_sync_fail(number, error)


def value(array: Any, number: int) -> Any:
    """A number as the array holds it; 0 is the fill value."""
    return (str(number) if number else "") if array.dtype.kind in "TO" else number


def make_array(path: Path, kind: str) -> zarr.Array[Any]:
    keywords = {"dtype": "<i4", "chunks": (4, 6)} | KINDS[kind]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Combining a .sharding_indexed. codec")
        return zarr.create_array(str(path), shape=(8, 12), **keywords)


# --------------------------------------------------------------------------------- the order


def child_write(root: str, direct: bool) -> None:
    """Write, merge, delete, and write where the store has gone; a line of the log before each."""
    log = Path(os.environ["TRACE_SYNC_LOG"])

    def begin(kind: str, step: str) -> None:
        with log.open("a") as file:
            file.write(f"step\t{kind}\t{step}\n")

    warnings.filterwarnings("ignore", "codec_pipeline.direct_io is on")
    zarr.config.set({"codec_pipeline.direct_io": direct})
    for kind in KINDS:
        store = Path(root) / kind / "store"
        array = make_array(store, kind)
        begin(kind, "new")
        array[...] = value(array, 1)
        begin(kind, "merged")
        array[1:7, 2:9] = value(array, 2)
        begin(kind, "deleted")
        array[...] = value(array, 0)
        shutil.rmtree(store)
        begin(kind, "store made again")
        array[:4] = value(array, 3)
        begin(kind, "end")


def steps(log: Path) -> dict[tuple[str, ...], list[list[str]]]:
    """The calls of every step of a child, by kind and name."""
    found: dict[tuple[str, ...], list[list[str]]] = {}
    calls: list[list[str]] = []
    for line in log.read_text().splitlines():
        what, *paths = line.split("\t")
        if what == "step":
            calls = found.setdefault(tuple(paths), [])
        elif str(log) not in paths:
            calls.append([what, *paths])
    return {step: calls for step, calls in found.items() if step[-1] != "end"}


def check_step(calls: list[list[str]]) -> tuple[set[str], set[str]]:
    """Chunks that were replaced and directories that were synced, all in the right order."""
    unsynced: set[str] = set()  # what a power failure may undo
    replaced: set[str] = set()
    synced: list[str] = []
    for what, path, *target in calls:
        if what in ("create", "write"):
            assert path.endswith(".partial")
            unsynced.add(path)
        elif what == "sync":
            unsynced.discard(path)
            synced.append(path)
        elif what == "rename":
            assert path not in unsynced, "a name for bytes that are not on the disk"
            replaced.add(target[0])
            unsynced.add(os.path.dirname(target[0]))
        else:
            assert what in ("mkdir", "unlink")
            unsynced.add(os.path.dirname(path))
    assert not unsynced
    assert len(synced) == len(set(synced))
    return replaced, {path for path in synced if not path.endswith(".partial")}


@pytest.mark.parametrize("direct", [False, True], ids=["cached", "direct"])
def test_order(tracer: str, tmp_path: Path, direct: bool) -> None:
    """Bytes are synced before they take a name; then every directory on the way, once."""
    log = tmp_path / "log"
    run_traced(tracer, child_write, str(tmp_path), direct, log=log)
    done = steps(log)
    assert len(done) == 4 * len(KINDS)
    for (kind, step), calls in done.items():
        replaced, synced = check_step(calls)
        count = {"new": 4, "merged": 4, "deleted": 0, "store made again": 2}[step]
        assert len(replaced) == count, (kind, step)
        removed = sum(what == "unlink" for what, *_ in calls)
        assert removed == (4 if step == "deleted" else 0), (kind, step)
        # Somebody else may have made the store's root, and the directories in it.
        assert {str(Path(path).parent) for path in replaced} <= synced
        assert str(tmp_path / kind / "store") in synced
        assert (str(tmp_path / kind) in synced) == (step == "store made again")


def test_nothing_is_synced_without_the_option(tracer: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_traced(tracer, child_write, str(tmp_path), False, log=log, fsync="false")
    done = steps(log)
    assert len(done) == 4 * len(KINDS)
    for calls in done.values():
        assert {"rename", "unlink"} & {what for what, *_ in calls}
        assert "sync" not in {what for what, *_ in calls}


def test_names_are_exchanged(tracer: str, tmp_path: Path) -> None:
    """With "never", where there is an old file: no rename over it, which ext4 would sync."""
    log = tmp_path / "log"
    run_traced(tracer, child_write, str(tmp_path), False, log=log, fsync="never")
    done = steps(log)
    assert len(done) == 4 * len(KINDS)
    for (kind, step), calls in done.items():
        kinds = [what for what, *_ in calls]
        assert "sync" not in kinds
        renamed = {"new": 4, "merged": 0, "deleted": 0, "store made again": 2}[step]
        assert kinds.count("rename") == renamed, (kind, step)
        assert kinds.count("unlink") == (4 if step in ("merged", "deleted") else 0), (kind, step)
        if step == "merged":  # the old files, under the new ones' temporary names
            assert all(path.endswith(".partial") for what, path, *_ in calls if what == "unlink")
        assert list((tmp_path / kind).rglob("*.partial")) == []


@pytest.mark.parametrize("kind", ["raw", "shard"])
def test_a_directory_is_not_exchanged(tmp_path: Path, kind: str) -> None:
    with fsync(**{"codec_pipeline.fsync": "never"}):
        array = make_array(tmp_path, kind)
        (tmp_path / "c" / "0" / "0" / "in the way").mkdir(parents=True)
        with pytest.raises(IsADirectoryError):
            array[...] = 1
        assert (tmp_path / "c" / "0" / "0" / "in the way").is_dir()
        assert list(tmp_path.rglob("*.partial")) == []


def child_read(root: str) -> None:
    array = make_array(Path(root) / "store", "shard")
    array[...] = 1
    Path(os.environ["TRACE_SYNC_LOG"]).write_text("step\tread\t\n")
    assert (np.asarray(array[1:, 2:]) == 1).all()


def test_reads_sync_nothing(tracer: str, tmp_path: Path) -> None:
    run_traced(tracer, child_read, str(tmp_path), log=tmp_path / "log")
    [calls] = steps(tmp_path / "log").values()
    assert "sync" not in {what for what, *_ in calls}


# ---------------------------------------------------------------------------- syncs that fail


def child_fail(root: str, cases: list[tuple[str, int, int, int]]) -> None:
    """Change one chunk, whose n-th sync fails; emit what is said and what is stored then."""
    for case, (kind, number, error, new) in enumerate(cases):
        store = Path(root) / str(case)
        array = make_array(store, kind)
        array[...] = value(array, 1)
        said: dict[str, Any] = {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fail_sync(number, error)
            try:
                array[:4, :6] = value(array, new)
            except OSError as problem:
                said |= {"errno": problem.errno, "text": str(problem), "file": problem.filename}
            fail_sync(0, 0)
        assert (np.asarray(array[4:]) == value(array, 1)).all()
        numbers = {int(x or 0) for x in np.asarray(array[:4, :6]).reshape(-1).tolist()}
        said["values"] = list(numbers)
        said["warnings"] = [str(w.message) for w in caught]
        said["leftovers"] = [str(p) for p in store.rglob("*.partial")]
        array[...] = value(array, 3)
        assert (np.asarray(array[...]) == value(array, 3)).all()
        emit(said)


def failures(
    tracer: str, root: Path, cases: list[tuple[str, int, int, int]]
) -> Iterator[tuple[tuple[str, int, int, int], dict[str, Any], Path]]:
    """Of each case what was said, and the file of the chunk."""
    lines = run_traced(tracer, child_fail, str(root), cases, log=root / "log")
    for i, (case, said) in enumerate(zip(cases, lines, strict=True)):
        yield case, said, chunk_file(root / str(i), 2 if case[0] == "format 2" else 3, 0, 0)


def test_bytes_that_cannot_be_synced(tracer: str, tmp_path: Path) -> None:
    """The old chunk stays, and no temporary file does."""
    cases = [(kind, 1, error, 2) for kind in KINDS for error in (errno.EIO, errno.EINVAL)]
    for (_, _, error, _), said, file in failures(tracer, tmp_path, cases):
        assert said["errno"] == error
        assert "while writing" in said["text"]
        assert said["file"] == str(file)
        assert said["values"] == [1]
        assert said["leftovers"] == said["warnings"] == []


def test_directories_that_cannot_be_synced(tracer: str, tmp_path: Path) -> None:
    """The new chunk is there, or the old one is not, and the error says what is not sure."""
    cases = [
        (kind, level + bool(new), errno.EIO, new)  # the first sync is that of the new file
        for kind in KINDS
        for level in ((1,) if kind == "format 2" else (1, 2, 3))
        for new in (2, 0)
    ]
    for (_, number, _, new), said, file in failures(tracer, tmp_path, cases):
        directory = file.parents[number - bool(new) - 1]
        assert said["errno"] == errno.EIO
        assert f"while syncing directory {str(directory)!r}" in said["text"]
        assert "may not survive a power failure" in said["text"]
        assert said["file"] == str(file)
        assert said["values"] == [new]
        assert said["leftovers"] == said["warnings"] == []


def test_file_systems_that_do_not_sync_directories(tracer: str, tmp_path: Path) -> None:
    """A warning: what can be done is done."""
    cases = [("raw", 2, error, 2) for error in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)]
    for _, said, _ in failures(tracer, tmp_path, cases):
        assert "errno" not in said
        assert said["values"] == [2]
        assert len(said["warnings"]) == 1
        assert "does not sync directories" in said["warnings"][0]


# ------------------------------------------------------------------------------ what knows it not


class OwnLocalStore(LocalStore):
    """May have its own idea of where bytes are."""


@contextlib.contextmanager
def fsync(**more: Any) -> Iterator[None]:
    options = {"codec_pipeline.path": PIPELINE, "codec_pipeline.fsync": True}
    with zarr.config.set(options | more):
        yield


@pytest.mark.parametrize("kind", ["subclass", "wrapper"])
def test_local_stores_that_are_not_synced(tmp_path: Path, kind: str) -> None:
    """Say so; writing goes on. Reading has nothing to say."""
    store: Any = (
        OwnLocalStore(tmp_path) if kind == "subclass" else LoggingStore(LocalStore(tmp_path))
    )
    with fsync():
        array = zarr.create_array(store, shape=(4,), chunks=(4,), dtype="<i4")
        with pytest.warns(UserWarning, match="they are not synced"):
            array[...] = 1
        assert (np.asarray(array[...]) == 1).all()


def test_fallback_is_not_synced(tmp_path: Path) -> None:
    """What zarr's own pipeline writes; strict mode refuses it."""
    index: list[Any] = [BytesCodec(), Crc32cCodec(), Crc32cCodec()]
    codec = ShardingCodec(chunk_shape=(2,), index_codecs=index)
    with fsync():
        array = zarr.create_array(str(tmp_path), shape=(4,), chunks=(4,), dtype="<i4",
                                  serializer=codec, compressors=None)  # fmt: skip
        with pytest.warns(UserWarning, match="they are not synced"):
            array[...] = 1
    assert (np.asarray(array[...]) == 1).all()


def test_other_stores_ignore_it() -> None:
    with fsync():
        array = zarr.create_array({}, shape=(4,), chunks=(4,), dtype="<i4")
        array[...] = 1
    assert (np.asarray(array[...]) == 1).all()


@pytest.mark.parametrize("nonsense", ["perhaps", 7, [], "nevermore"])
def test_nonsense_is_refused(nonsense: Any) -> None:
    with (
        fsync(**{"codec_pipeline.fsync": nonsense}),
        pytest.raises(ValueError, match=r"codec_pipeline\.fsync"),
    ):
        zarr.create_array({}, shape=(4,), chunks=(4,), dtype="<i4")
