"""Locks of chunks in local files that hold between processes: ``codec_pipeline.lock_files``.

An array has one lock file, beside its metadata. A chunk stands for a byte of it, which a hash of
the chunk's key below the array chooses, and who writes the chunk has locked that byte from before
old bytes are read until the new ones are in place. Every call opens the file for itself, so that
calls of one process, too, exclude each other where two keys share a byte.

Everybody takes locks in the order of the bytes, after those of ``_key_locks``, and waits for
nothing else while he has them: so nobody waits for ever. Who has to wait asks again and again, as
waiting in the system could neither be cancelled nor interrupted.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
import time
import warnings
import weakref
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING
from zlib import crc32

from zarrs.filesystem._byte_locks import LockedFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

LOCK_FILE = ".zarrs.lock"
METADATA = ("zarr.json", ".zarray")

# Chunks that are locked at the same time: the system looks at all locks of a file for each one that
# is taken, and other processes can have those chunks that a call is not at.
TOGETHER = 128

FIRST_WAIT, LONGEST_WAIT = 0.0001, 0.01  # seconds, between two attempts
PATIENCE = 10.0  # seconds without any progress, until a warning

NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}

# A forked child must not keep a file open that is locked: the lock would outlive its process. No
# file is opened while somebody forks.
_opening = threading.RLock()
_living: weakref.WeakSet[LockedFile] = weakref.WeakSet()

# Lock files and bytes that the caller has locked for what it calls.
_own: ContextVar[frozenset[tuple[str, int]]] = ContextVar("own", default=frozenset())


class FileLocks:
    """Locks of some chunks of an array, to be held in a ``with`` or ``async with`` statement.

    Parameters
    ----------
    directory : str
        Where the array is.
    keys : sequence of str
        The keys of the chunks, below that.

    Raises
    ------
    OSError
        On entering, if the lock file cannot be opened, or the file system has no locks.
    """

    def __init__(self, directory: str, keys: Sequence[str]) -> None:
        self._path = os.path.join(directory, LOCK_FILE)
        self._keys = {crc32(os.fsencode(key)): key for key in keys}
        own = _own.get()
        self._places = sorted(place for place in self._keys if (self._path, place) not in own)
        self._file = LockedFile()

    def __enter__(self) -> Self:
        try:
            for delay in self._take():
                time.sleep(delay)
        except BaseException:
            self._file.give()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._file.give()

    async def __aenter__(self) -> Self:
        try:
            for delay in self._take():
                await asyncio.sleep(delay)
        except BaseException:
            self._file.give()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self._file.give()

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Let what is called in here write to the chunks, whose locks are held."""
        before = _own.set(_own.get() | {(self._path, place) for place in self._places})
        try:
            yield
        finally:
            _own.reset(before)

    def _take(self) -> Iterator[float]:
        # Yields how many seconds to wait before the next attempt.
        try:
            while not self._file.is_at(self._path):  # deleted with the array, which was made again
                with _opening:
                    _living.add(self._file)
                    self._file.open(self._path)
                yield from self._take_all()
        except OSError as error:
            raise self._explained(error) from error

    def _take_all(self) -> Iterator[float]:
        taken = 0
        delay = FIRST_WAIT
        due: float | None = None
        while (now := self._file.take(self._places, taken)) < len(self._places):
            if due is None or now > taken:
                taken, delay, due = now, FIRST_WAIT, time.monotonic() + PATIENCE
            elif time.monotonic() > due:
                self._warn(self._keys[self._places[now]])
                due = float("inf")
            yield delay * random.uniform(0.5, 1)
            delay = min(1.5 * delay, LONGEST_WAIT)

    def _warn(self, key: str) -> None:
        warnings.warn(
            f"another process has locked chunk {key!r} of {os.path.dirname(self._path)!r} for "
            f"{PATIENCE:.0f} seconds; this write goes on waiting (`lslocks` lists who has locked "
            f"{self._path!r})",
            stacklevel=2,
        )

    def _explained(self, error: OSError) -> OSError:
        if error.errno in NO_LOCKS:
            fault = "this file system has no locks of open files"
        else:
            fault = os.strerror(error.errno or 0)
        text = f"codec_pipeline.lock_files is on, and chunks cannot be locked: {fault}"
        return OSError(error.errno, text, self._path)


def lock_parts(root: str, keys: Sequence[str]) -> Iterator[tuple[FileLocks, Sequence[int]]]:
    """Share out the chunks of a call that writes: some at a time, with their locks.

    Parameters
    ----------
    root : str
        Directory of the store.
    keys : sequence of str
        Keys in the store, of chunks of one array.

    Yields
    ------
    (FileLocks, sequence of int)
        Locks, and the numbers of the chunks that may be written while they are held.

    Raises
    ------
    FileNotFoundError
        If there is no array around the chunks.
    """
    path = _array_path(root, keys[0])
    start = len(path) + 1 if path else 0
    directory = os.path.join(root, path)
    for n in range(0, len(keys), TOGETHER):
        part = range(n, min(n + TOGETHER, len(keys)))
        yield FileLocks(directory, [keys[i][start:] for i in part]), part


def _array_path(root: str, key: str) -> str:
    # Where in the store the array of a chunk is: names of arrays may look like those of chunks.
    path = key
    while path:
        path = path.rpartition("/")[0]
        if any(os.path.exists(os.path.join(root, path, name)) for name in METADATA):
            return path
    raise FileNotFoundError(
        errno.ENOENT,
        f"codec_pipeline.lock_files is on, and chunks cannot be locked: no metadata of an array "
        f"({' or '.join(METADATA)}) above chunk {key!r}",
        root,
    )


def _reset_after_fork() -> None:
    for file in list(_living):
        file.abandon()
    _opening.release()


os.register_at_fork(
    before=_opening.acquire,
    after_in_parent=_opening.release,
    after_in_child=_reset_after_fork,
)
