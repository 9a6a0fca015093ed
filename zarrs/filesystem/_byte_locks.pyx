"""A file whose bytes are locked, by which processes exclude each other.

The locks belong to an open file description: see ``_native/byte_locks.h``. Nothing here waits. It
is compiled, since Python handles signals between its own instructions only: nothing here can be
interrupted between opening a file, or locking, and remembering that.
"""

from libc.errno cimport EACCES, EAGAIN, ENOENT, ENOTDIR, errno
from posix.fcntl cimport O_CREAT, O_RDWR, open
from posix.stat cimport fstat, struct_stat
from posix.unistd cimport close

import os
import threading

cdef extern from "<fcntl.h>" nogil:
    const int O_CLOEXEC

cdef extern from "_native/byte_locks.h" nogil:
    int zarrs_set_lock(int fd, bint locked, long long start, long long length)

# The files that are open in this process; those of its parent belong to another family.
cdef set _open_files = set()
cdef Py_ssize_t _family = 0

# While somebody forks, no file is opened or closed: a child that kept one open would keep its
# locks, too, after its parent's end.
cdef object _opening = threading.RLock()


cdef class LockedFile:
    """Locks of bytes of one file; they end with this, with ``give``, and with the process."""

    cdef int fd
    cdef Py_ssize_t family

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self.give()

    def find_above(self, bytes root not None, bytes key not None, bytes name not None):
        """Open the file of this name that is next above a key; nothing is locked yet.

        Parameters
        ----------
        root : bytes
            A directory, without the slash at its end.
        key : bytes
            A file below it.
        name : bytes
            Of the file to open, in the same directory or one above it.

        Returns
        -------
        bytes or None
            Its directory, below the root; None if there is none.

        Raises
        ------
        OSError
            If it cannot be opened for writing.
        """
        head = key
        while head:
            head = head.rpartition(b"/")[0]
            if self.open_file((b"%b/%b/%b" if head else b"%b%b/%b") % (root, head, name), False):
                return head
        return None

    cpdef bint open_file(self, bytes path, bint make) except -1:
        """Open the file; nothing is locked yet.

        Parameters
        ----------
        path : bytes
        make : bool
            Make it if it is not there.

        Returns
        -------
        bool
            Whether it was there, or was made.

        Raises
        ------
        OSError
            If it cannot be opened for writing.
        """
        cdef const char* name = path
        cdef int flags = O_RDWR | O_CLOEXEC | (O_CREAT if make else 0)
        cdef int fd, error
        self.give()
        with _opening:
            with nogil:
                fd = open(name, flags, 0o666)
                error = errno
            if fd >= 0:
                self.fd = fd
                self.family = _family
                _open_files.add(fd)
        if fd < 0 and (make or not (error == ENOENT or error == ENOTDIR)):
            raise OSError(error, os.strerror(error), path)
        return fd >= 0

    def take(self, list places not None, Py_ssize_t first) -> int:
        """Lock bytes, in the order of a list, as long as nobody else has locked them.

        Parameters
        ----------
        places : list of int
            The bytes.
        first : int
            Where in the list to begin.

        Returns
        -------
        int
            Where in the list the first one is that another one has locked; the length of the list:
            all are locked.

        Raises
        ------
        OSError
            If they cannot be locked, as on file systems that have no locks.
        """
        cdef Py_ssize_t i
        cdef long long place
        cdef int result, error
        for i in range(first, len(places)):
            place = places[i]
            with nogil:  # a file system on a network asks its server
                result = zarrs_set_lock(self.fd, True, place, 1)
                error = errno
            if result < 0:
                if error == EAGAIN or error == EACCES:
                    return i
                raise OSError(error, os.strerror(error))
        return len(places)

    def number(self) -> tuple[int, int] | None:
        """What no other file has at the same time; None: it has been deleted."""
        cdef struct_stat info
        cdef bint found
        with nogil:
            found = fstat(self.fd, &info) == 0
        return (info.st_dev, info.st_ino) if found and info.st_nlink > 0 else None

    cpdef give(self):
        """Give back all locks, if they are this process's."""
        cdef int fd
        if self.fd < 0:
            return
        with _opening:
            fd = self.fd
            self.fd = -1
            if fd >= 0 and self.family == _family:
                _open_files.discard(fd)
                with nogil:
                    # First, as a child that knows nothing of Python's hooks may have it open, too.
                    zarrs_set_lock(fd, False, 0, 0)
                    close(fd)


def _leave_parent() -> None:
    # In a forked child.
    global _family
    _family += 1
    for fd in _open_files:
        close(fd)
    _open_files.clear()
    _opening.release()


os.register_at_fork(
    before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_leave_parent
)
