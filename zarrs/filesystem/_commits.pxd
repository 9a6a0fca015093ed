"""Commits of new files, by threads of their own where they block; see ``_commits.pyx``."""

from libc.stdint cimport uint8_t, uint64_t

from zarrs._clib.pthread cimport pthread_cond_t, pthread_mutex_t, pthread_t
from zarrs._core cimport Failure, Input, Status, Tasks, WriteOptions
from zarrs.filesystem._files cimport NewFile

# A file that waits to be committed, or to be written first.
cdef struct Ready:
    Py_ssize_t task
    NewFile file
    uint8_t* data  # what it is to hold; NULL: it has been written
    size_t n
    uint64_t nonce
    Input old  # what was merged, if anything was
    bint merged
    bint closes_old  # when it is done


# All commits of a loop.
cdef struct Commits:
    Tasks* tasks
    const WriteOptions* options
    Py_ssize_t n_slow  # so many more have waited too long than have not
    Py_ssize_t n_overtaken  # of those that were handed over
    pthread_mutex_t lock  # of all that follows
    bint began  # to start threads
    int n_threads
    pthread_t* threads
    pthread_cond_t changed  # `n` or `ended`
    Ready* ready  # a ring with room for one file a thread
    int first
    int n
    bint ended


cdef void begin_commits(
    Commits* commits, Tasks* tasks, const WriteOptions* options) noexcept nogil

cdef Status commit(
    Commits* commits, Py_ssize_t i, NewFile* file, Input* old, bint closes_old,
    Failure* failure) noexcept nogil

cdef Status write_and_commit(
    Commits* commits, Py_ssize_t i, const uint8_t* data, size_t n, uint64_t nonce, Input* old,
    bint closes_old, Failure* failure) noexcept nogil

cdef void end_commits(Commits* commits) noexcept nogil
