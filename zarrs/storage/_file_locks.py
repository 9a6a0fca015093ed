"""Locks of chunks in local files that hold between processes: ``codec_pipeline.lock_files``.

An array has one lock file, beside its metadata. A chunk stands for a byte of it, which a hash of
the chunk's key below the array chooses, and who writes the chunk has locked that byte from before
old bytes are read until the new ones are in place. Every call opens the file for itself, so that
calls of one process, too, exclude each other where two keys share a byte.

Everybody takes locks in the order of the bytes, after those of ``_key_locks``, and waits for
nothing else while he has them: so nobody waits for ever. Who has to wait asks again and again, as
waiting in the system could neither be cancelled nor interrupted. Only a thread whose event loop has
to go on for a lock to be given must not wait for it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import random
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

# Lock files and bytes that the caller has locked for what it calls.
_own: ContextVar[frozenset[tuple[str, int]]] = ContextVar("own", default=frozenset())

# What coroutines hold, or are about to.
_in_coroutines: weakref.WeakSet[FileLocks] = weakref.WeakSet()


class FileLocks:
    """Locks of some chunks of an array, to be held in a ``with`` or ``async with`` statement.

    Parameters
    ----------
    root : str
        Directory of the store.
    keys : sequence of str
        Keys of the chunks.

    Raises
    ------
    OSError
        On entering, if there is no array around the chunks, the lock file cannot be opened, or the
        file system has no locks.
    """

    def __init__(self, root: str, keys: Sequence[str]) -> None:
        self._root = root.rstrip("/")
        self._keys = keys
        self._path = ""  # of the lock file, once it is open
        self._places: dict[int, str] = {}  # and, in order, which bytes of it are whose
        self._file = LockedFile()
        self._number: tuple[int, int] | None = None  # of that file
        self._loop: asyncio.AbstractEventLoop | None = None  # of the coroutine that holds these

    def __enter__(self) -> Self:
        try:
            for delay in self._take():
                self._refuse_to_block()
                time.sleep(delay)
        except BaseException:
            self._file.give()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._file.give()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        _in_coroutines.add(self)
        try:
            for delay in self._take():
                await asyncio.sleep(delay)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        self._file.give()
        _in_coroutines.discard(self)

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
        self._number = None
        try:
            while self._number is None:  # or the array was deleted, and maybe made again
                self._open()
                self._number = self._file.number()
                yield from self._take_all()
                self._number = self._file.number()
        except OSError as error:
            raise self._explained(error) from error

    def _open(self) -> None:
        # The next one above the chunks; or else it is made where the array is. (Names of arrays may
        # look like those of chunks.)
        root, first = os.fsencode(self._root), os.fsencode(self._keys[0])
        found = self._file.find_above(root, first, os.fsencode(LOCK_FILE))
        path = os.fsdecode(found) if found is not None else self._array_path()
        self._path = f"{self._root}/{path}/{LOCK_FILE}" if path else f"{self._root}/{LOCK_FILE}"
        if found is None:
            self._file.open_file(os.fsencode(self._path), True)
        start = len(path) + 1 if path else 0
        places = {crc32(os.fsencode(key[start:])): key for key in self._keys}
        own = _own.get()
        self._places = {
            place: places[place] for place in sorted(places) if (self._path, place) not in own
        }

    def _array_path(self) -> str:
        path = self._keys[0]
        while path:
            path = path.rpartition("/")[0]
            if any(os.path.exists(os.path.join(self._root, path, name)) for name in METADATA):
                return path
        self._path = self._root
        raise FileNotFoundError(
            errno.ENOENT,
            f"there are no metadata of an array ({' or '.join(METADATA)}) above chunk "
            f"{self._keys[0]!r}; was the array deleted?",
        )

    def _take_all(self) -> Iterator[float]:
        places = list(self._places)
        taken = 0
        delay = FIRST_WAIT
        due: float | None = None
        while (now := self._file.take(places, taken)) < len(places):
            if due is None or now > taken:
                taken, delay, due = now, FIRST_WAIT, time.monotonic() + PATIENCE
            elif time.monotonic() > due:
                self._warn(self._places[places[now]])
                due = float("inf")
            yield delay * random.uniform(0.5, 1)
            delay = min(1.5 * delay, LONGEST_WAIT)

    def _refuse_to_block(self) -> None:
        loop = asyncio._get_running_loop()
        for other in list(_in_coroutines) if loop is not None else ():
            if other._loop is loop and other._number == self._number:
                for place in self._places.keys() & other._places.keys():
                    raise RuntimeError(
                        f"a coroutine of this thread's event loop writes {self._places[place]!r}, "
                        "and a write that blocks the loop would wait for it for ever: await the "
                        "methods of array.async_array in coroutines"
                    )

    def _warn(self, key: str) -> None:
        warnings.warn(
            f"for {PATIENCE:.0f} seconds others have locked chunk {key!r} of {self._root!r}; this "
            f"write goes on waiting (`lslocks` lists who has locked {self._path!r})",
            stacklevel=2,
        )

    def _explained(self, error: OSError) -> OSError:
        fault = error.strerror
        if error.errno in NO_LOCKS:
            fault = (
                "this file system has no locks of open files, so leave the option off and let each "
                "chunk have one writer"
            )
        text = f"codec_pipeline.lock_files is on, and chunks cannot be locked: {fault}"
        return OSError(error.errno, text, os.fsdecode(error.filename or self._path))


def lock_parts(root: str, keys: Sequence[str]) -> Iterator[tuple[FileLocks, range | None]]:
    """Share out the chunks of a call that writes: some at a time, with their locks.

    Parameters
    ----------
    root : str
        Directory of the store.
    keys : sequence of str
        Keys in the store, of chunks of one array.

    Yields
    ------
    (FileLocks, range or None)
        Locks, and the numbers of the chunks that may be written while they are held; None: all.
    """
    if len(keys) <= TOGETHER:
        yield FileLocks(root, keys), None
        return
    for n in range(0, len(keys), TOGETHER):
        part = range(n, min(n + TOGETHER, len(keys)))
        yield FileLocks(root, keys[n : part.stop]), part


def _reset_after_fork() -> None:
    # A child has no locks.
    _own.set(frozenset())
    _in_coroutines.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
