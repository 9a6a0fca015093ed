"""System calls that fail: a clear error, old or new values, nothing left behind, and on it goes.

A library in C (see ``faults.py``) lets the n-th call of a kind fail, for every n until an operation
makes fewer calls than n. Disks that are really full or read-only are in ``test_write_safety.py``.
"""

import errno
import itertools
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from faults import Faults
from helpers import emit, run_child
from native_library import compile_library, preloaded
from zarr.codecs import BloscCodec, BytesCodec, ZstdCodec

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="calls as Linux has them")

SHAPE, CHUNKS = (32, 24), (16, 12)
STORM = 50  # signals that arrive one after the other
ENOUGH = 10_000  # more calls of a kind than any operation makes
MEMORY = "/dev/shm"


@dataclass(frozen=True)
class Case:
    """An array, and the options with which it is used."""

    name: str
    arguments: dict[str, Any] = field(repr=False)
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _cases() -> Iterator[Case]:
    blosc = BloscCodec(cname="lz4", typesize=4)
    kinds: dict[str, dict[str, Any]] = {
        "raw": {"compressors": []},
        "zstd": {"compressors": [ZstdCodec()]},
        "blosc": {"compressors": [blosc]},
        "sharded": {"compressors": [ZstdCodec()], "shards": CHUNKS, "chunks": (8, 6)},
    }
    options: tuple[dict[str, Any], ...] = ({}, {"direct_io": True}, {"file_handle_cache_size": 8})
    for (name, kind), option in itertools.product(kinds.items(), options):
        arguments = {"chunks": CHUNKS, "filters": [], "serializer": BytesCodec(), **kind}
        settings = {f"codec_pipeline.{k}": v for k, v in option.items()}
        yield Case("-".join([name, *option]), arguments, settings)
    for name, compressor in (("v2-raw", None), ("v2-zlib", numcodecs.Zlib(1))):
        arguments = {"chunks": CHUNKS, "filters": None, "compressors": compressor}
        yield Case(name, {**arguments, "zarr_format": 2})
    yield Case("locked", {"chunks": CHUNKS}, {"codec_pipeline.lock_files": True})
    yield Case(
        "2-threads",
        {"chunks": CHUNKS, "filters": [], "compressors": [ZstdCodec()]},
        {"threading.max_workers": 2},
    )


CASES = {case.name: case for case in _cases()}


def _write(a: Any, new: np.ndarray) -> None:
    a[...] = new


def _merge(a: Any, new: np.ndarray) -> None:
    a[1:-1, 1:-1] = new[1:-1, 1:-1]


def _clear(a: Any, new: np.ndarray) -> None:
    a[...] = 0


OPERATIONS: dict[str, Callable[[Any, np.ndarray], Any]] = {
    "write": _write,
    "merge": _merge,
    "clear": _clear,
    "read": lambda a, new: a[...],
    "part": lambda a, new: a[3:20, 5:],
}
READS = ("read", "part")

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
REFUSED = (errno.EACCES, errno.EROFS)
MANY = (errno.EMFILE, errno.ENFILE)
# Which calls fail in what ways.
ERRORS = {
    "open": (*NO_SPACE, *REFUSED, *MANY, errno.EIO),
    "read": (errno.EIO,),
    "write": (*NO_SPACE, errno.EIO),
    "close": (*NO_SPACE, errno.EIO),
    "rename": (*NO_SPACE, *REFUSED, errno.ENOENT),  # ENOENT: the directory has been removed
    "unlink": REFUSED,
    "truncate": (errno.ENOSPC, errno.EIO),
    "stat": (errno.EIO,),
    "lock": (errno.ENOLCK, errno.EIO),
}


def leftovers(path: str) -> list[str]:
    """Temporary files."""
    return [str(p) for p in Path(path).rglob("*.partial")]


class Walker:
    """Walks through the calls of operations on one array."""

    def __init__(self, path: str, case: Case) -> None:
        self.faults = Faults(path)
        self.path = path
        self.is_cached = "codec_pipeline.file_handle_cache_size" in case.options
        self.is_locked = "codec_pipeline.lock_files" in case.options
        self.array = zarr.create_array(
            store=f"{path}/a", shape=SHAPE, dtype="<i4", **case.arguments
        )
        rng = np.random.default_rng(0)
        self.old, self.new = (rng.integers(1, 2**30, SHAPE, dtype="<i4") for _ in range(2))
        self.files = 0

    def operate(self, operation: str) -> Any:
        """Do it; return what is read, or all that is stored then."""
        result = OPERATIONS[operation](self.array, self.new)
        return result if operation in READS else np.asarray(self.array[...])

    def begin(self, operation: str) -> np.ndarray:
        """Learn what comes of an operation."""
        self.array[...] = self.old
        expected = np.asarray(self.operate(operation))
        self.array[...] = self.old
        self.operate(operation)
        self.files = len(os.listdir("/proc/self/fd"))
        return expected

    def attempt(
        self, operation: str, call: str, first: int, last: int, error: int, half: bool = False
    ) -> tuple[OSError | None, list[str], int]:
        """Let calls fail; return the error, what is wrong, and how many calls there were."""
        caught: OSError | None = None
        wrong = []
        if operation not in READS:
            self.array[...] = self.old
        with self.faults.armed(call, first, last, error, half):
            try:
                OPERATIONS[operation](self.array, self.new)
            except OSError as exception:
                caught = exception
                expected = type(OSError(error, ""))
                if type(exception) is not expected or exception.errno != error:
                    wrong.append(repr(exception))
                file = str(exception.filename)
                if not file.startswith(f"{self.path}/a/") or file not in str(exception):
                    wrong.append(f"no file: {exception!r}")
            except Exception as exception:
                wrong.append(repr(exception))
        return caught, wrong, self.faults.count(call)

    def judge(self, operation: str, expected: np.ndarray, failed: bool) -> Iterator[str]:
        """What is wrong after an operation, and after doing it again."""
        if operation not in READS:
            now = np.asarray(self.array[...])
            rows, columns = CHUNKS
            for i, k in itertools.product(range(0, SHAPE[0], rows), range(0, SHAPE[1], columns)):
                chunk = np.s_[i : i + rows, k : k + columns]
                if not np.array_equal(now[chunk], expected[chunk]) and not (
                    failed and np.array_equal(now[chunk], self.old[chunk])
                ):
                    yield f"chunk at {(i, k)} is neither old nor new"
        if found := leftovers(self.path):
            yield f"{len(found)} temporary files left"
        if not np.array_equal(self.operate(operation), expected):
            yield "wrong afterwards"
        if (files := len(os.listdir("/proc/self/fd"))) != self.files:
            yield f"{files - self.files} files left open"
            self.files = files

    def walk(self, operation: str, call: str, error: int, half: bool = False) -> int:
        """Let one call after the other fail; return how many of the runs failed."""
        expected = self.begin(operation)
        failures = 0
        count = n = 0
        while count >= n:  # the n-th call was made
            n += 1
            # After half a transfer all others fail.
            last = ENOUGH if half else n
            caught, wrong, count = self.attempt(operation, call, n, last, error, half)
            failures += caught is not None
            if caught is None and count >= n and not self.may_pass(operation, call):
                wrong.append("no error")
            wrong += self.judge(operation, expected, caught is not None)
            if wrong:
                emit([operation, call, errno.errorcode[error], n, half, wrong])
        return failures

    def may_pass(self, operation: str, call: str) -> bool:
        """Whether no harm is done: a file that was only read is closed, or is opened again."""
        if call == "close":
            return operation != "write" or self.is_cached or self.is_locked
        if call == "lock":  # or one is given back
            return True
        return call == "stat" and (self.is_cached or self.is_locked)

    def storm(self, operation: str, call: str) -> None:
        """Let signals interrupt a call again and again."""
        expected = self.begin(operation)
        for n in itertools.count(1):
            caught, wrong, count = self.attempt(operation, call, n, n + STORM, errno.EINTR)
            wrong += [repr(caught)] if caught else []
            wrong += self.judge(operation, expected, False)
            if wrong:
                emit([operation, call, "EINTR", n, wrong])
            if count < n:
                return


def child_walk(path: str, name: str) -> None:
    """Walk through everything that can happen to one array."""
    case = CASES[name]
    failures = dict.fromkeys(ERRORS, 0)
    options = {"codec_pipeline.strict": True, "threading.max_workers": 1, **case.options}
    with zarr.config.set(options):
        walker = Walker(path, case)
        for operation, (call, errors) in itertools.product(OPERATIONS, ERRORS.items()):
            for error in errors:
                failures[call] += walker.walk(operation, call, error)
        for operation in ("write", "merge"):
            failures["write"] += walker.walk(operation, "write", errno.ENOSPC, half=True)
            walker.storm(operation, "write")
        for operation in ("merge", *READS):
            failures["read"] += walker.walk(operation, "read", errno.EIO, half=True)
            walker.storm(operation, "read")
    emit(failures)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library of faults."""
    return compile_library("faults", tmp_path_factory.mktemp("faults"))


@pytest.fixture
def directory(tmp_path: Path, name: str) -> Iterator[str]:
    """Where a case has its files: in memory, if there is such a place and it is all the same.

    What fails does so on demand, so that nobody needs to wait for a disk, which takes half of the
    time. Direct I/O is another thing there.
    """
    if "direct_io" in name or not os.access(MEMORY, os.W_OK):
        yield str(tmp_path)
    else:
        with tempfile.TemporaryDirectory(dir=MEMORY) as made:
            yield made


@pytest.mark.parametrize("name", CASES)
def test_every_call_fails(directory: str, library: str, name: str) -> None:
    """One after the other: an OSError with the number and the file, and no harm done."""
    child = run_child(child_walk, directory, name, env=preloaded(library))
    *wrong, failures = child.check()
    assert wrong == []
    never = set() if "direct_io" in name else {"truncate"}
    never |= set() if name == "locked" else {"lock"}
    assert {call for call, n in failures.items() if n == 0} == never


def child_without_files(path: str) -> None:
    """Use up the files that a process may have open."""
    with zarr.config.set({"codec_pipeline.strict": True}):
        array = zarr.create_array(
            store=f"{path}/a", shape=SHAPE, chunks=CHUNKS, dtype="<i4", compressors=[ZstdCodec()]
        )
        array[...] = 1
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for operation in OPERATIONS:
            opened = len(os.listdir("/proc/self/fd")) - 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (opened, hard))
            try:
                OPERATIONS[operation](array, np.full(SHAPE, 2, "<i4"))
                emit([operation, None, None])
            except OSError as error:
                emit([operation, error.errno, str(error.filename)])
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert (np.asarray(array[...]) == 1).all() or operation == "clear"
            assert leftovers(path) == []
            assert len(os.listdir("/proc/self/fd")) - 1 == opened
            array[...] = 1


def test_no_more_files(tmp_path: Path) -> None:
    """A process that may open no more files is told so; deleting needs none."""
    said = {line[0]: line[1:] for line in run_child(child_without_files, str(tmp_path)).check()}
    assert said.pop("clear") == [None, None]
    assert said.keys() == OPERATIONS.keys() - {"clear"}
    for number, file in said.values():
        assert number == errno.EMFILE
        assert file.startswith(f"{tmp_path}/a/c/")


def child_directory_vanishes(path: str) -> None:
    """Have no directory for a chunk, as if it were removed in the middle of a write."""
    faults = Faults(path)
    with zarr.config.set({"codec_pipeline.strict": True}):
        array = zarr.create_array(store=f"{path}/a", shape=4, chunks=(4,), dtype="<i4")
        array[...] = 1
        with faults.armed("open", 1, error=errno.ENOENT):
            array[...] = 2
        emit(np.asarray(array[...]).tolist())
        for number in (*NO_SPACE, *REFUSED):
            with (
                faults.armed("open", 1, error=errno.ENOENT),
                faults.armed("mkdir", 1, error=number),
            ):
                try:
                    array[...] = 3
                except OSError as error:
                    emit([error.errno, str(error.filename)])
        emit(np.asarray(array[...]).tolist())


def test_directory_vanishes(tmp_path: Path, library: str) -> None:
    """It is made again; where it cannot be, the error is what the system said."""
    child = run_child(child_directory_vanishes, str(tmp_path), env=preloaded(library))
    file = f"{tmp_path}/a/c/0"
    errors = [[number, file] for number in (*NO_SPACE, *REFUSED)]
    assert child.check() == [[2] * 4, *errors, [2] * 4]
