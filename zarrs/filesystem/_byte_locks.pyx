"""A file whose bytes are locked, by which processes exclude each other.

The locks belong to an open file description: see ``_native/byte_locks.h``. Nothing here waits. It
is compiled, since Python handles signals between its own instructions only: nothing here can be
interrupted between opening a file, or locking, and remembering that.
"""

from libc.errno cimport EACCES, EAGAIN, errno
from posix.fcntl cimport O_CREAT, O_RDWR, open
from posix.stat cimport fstat, stat, struct_stat
from posix.unistd cimport close

import os

cdef extern from "<fcntl.h>" nogil:
    const int O_CLOEXEC

cdef extern from "_native/byte_locks.h" nogil:
    int zarrs_set_lock(int fd, bint locked, long long start, long long length)


cdef class LockedFile:
    """Locks of bytes of one file; they end with this, with ``give``, and with the process."""

    cdef int fd
    cdef object __weakref__

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        self._close(True)

    def open(self, path) -> None:
        """Open the file, making it if it is not there; nothing is locked yet.

        Raises
        ------
        OSError
            If it cannot be opened for writing.
        """
        cdef bytes name = os.fsencode(path)
        cdef const char* chars = name
        cdef int fd
        self._close(True)
        with nogil:
            fd = open(chars, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
            self.fd = fd
        if fd < 0:
            raise OSError(errno, os.strerror(errno), path)

    def take(self, list places, Py_ssize_t first) -> int:
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

    def is_at(self, path) -> bool:
        """Whether the file still has a name; it may have been deleted with all that was around."""
        cdef bytes name = os.fsencode(path)
        cdef const char* chars = name
        cdef struct_stat here, there
        cdef bint found
        with nogil:
            found = fstat(self.fd, &here) == 0 and stat(chars, &there) == 0
        return found and here.st_ino == there.st_ino and here.st_dev == there.st_dev

    def give(self) -> None:
        """Give back all locks."""
        self._close(True)

    def abandon(self) -> None:
        """Have nothing to do with locks any more that are another process's, in a forked child."""
        self._close(False)

    cdef void _close(self, bint giving) noexcept:
        cdef int fd = self.fd
        self.fd = -1
        if fd >= 0:
            with nogil:
                if giving:  # a child that was forked just now may have the file open, too
                    zarrs_set_lock(fd, False, 0, 0)
                close(fd)
