"""System calls and allocations that fail on demand; see ``native/faults.c``.

It is loaded into a child, and there `Faults` arms it.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import zarrs

CALLS = (
    "allocate",
    "open",
    "read",
    "write",
    "sync",
    "close",
    "rename",
    "mkdir",
    "unlink",
    "truncate",
    "stat",
    "lock",
)
FOR_EVER = 2**31 - 1  # of the last call to fail


class Faults:
    """The faults of this process, which has the library loaded."""

    def __init__(self, directory: str | None = None) -> None:
        """Watch the files below `directory`."""
        self._library = ctypes.CDLL(None)
        self._library.faults_count.restype = self._library.faults_alive.restype = ctypes.c_long
        if directory is not None:
            self._library.faults_watch(os.fsencode(directory))

    def count_allocations(self) -> None:
        """Count the allocations of the package's modules and of the libraries it looks up."""
        package = str(Path(zarrs.__file__).parent) + os.sep
        for part in (package, "libbz2", "liblzma", "libdeflate"):
            self._library.faults_count_allocations_of(os.fsencode(part))

    @contextlib.contextmanager
    def armed(
        self, call: str, first: int, last: int | None = None, error: int = 0, half: bool = False
    ) -> Iterator[None]:
        """Let calls fail, from the `first` (counted from 1) to the `last`, inclusive.

        With `half`, the transfer before that moves half of its bytes.
        """
        last = first if last is None else last
        c_long = ctypes.c_long
        self._library.faults_arm(CALLS.index(call), c_long(first), c_long(last), error, half)
        try:
            yield
        finally:
            self._library.faults_disarm()  # all

    def count(self, call: str) -> int:
        """How many calls there were since `call` was armed."""
        return int(self._library.faults_count(CALLS.index(call)))

    def alive(self) -> int:
        """How many counted allocations have not been freed."""
        alive = int(self._library.faults_alive())
        assert alive >= 0, "too many allocations"
        return alive
