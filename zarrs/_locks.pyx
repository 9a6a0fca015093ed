"""Locks without the GIL: of keys that are written, and of failures.

Whoever writes a chunk holds the lock of its key from the moment its old bytes are read, so that
two threads that write parts of one chunk lose nothing. A few keys share a lock; a thread that
needs several takes them in rising order.
"""

from libc.stdint cimport uint8_t, uint64_t

from zarrs._core cimport MISSING, Failure, Tasks

import os


cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)

cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    void zarrs_lower(Py_ssize_t* p, Py_ssize_t x)

cdef pthread_mutex_t _locks[N_LOCKS]
cdef pthread_mutex_t _failure_lock


cdef int lock_number(const char* path) noexcept nogil:
    """The lock of a key."""
    cdef uint64_t h = 14695981039346656037u
    while path[0]:
        h = (h ^ <uint8_t> path[0]) * 1099511628211u
        path += 1
    return <int> ((h ^ (h >> 32)) % N_LOCKS)


cdef void take_lock(int number) noexcept nogil:
    """Wait for a lock and take it; the same thread gives it back."""
    pthread_mutex_lock(&_locks[number])


cdef void give_lock(int number) noexcept nogil:
    """Give a lock back."""
    pthread_mutex_unlock(&_locks[number])


cdef bint is_cancelled(Tasks* tasks, Py_ssize_t i) noexcept nogil:
    """Whether the call has failed already at an earlier task, or its caller has gone."""
    return i > zarrs_load(&tasks.first_failed)


cdef void record_failure(Tasks* tasks, Py_ssize_t i, const Failure* failure) noexcept nogil:
    """Keep the failure of a part of a task: several can fail, the first inner chunk speaks."""
    cdef const Failure* kept = &tasks.items[i].failure
    pthread_mutex_lock(&_failure_lock)
    if kept.status <= MISSING or failure.inner < kept.inner:
        tasks.items[i].failure = failure[0]
    pthread_mutex_unlock(&_failure_lock)
    zarrs_lower(&tasks.first_failed, i)


def reset_after_fork() -> None:
    """Make locks anew in a forked child: no thread lives there that could give them back."""
    cdef int k
    pthread_mutex_init(&_failure_lock, NULL)
    for k in range(N_LOCKS):
        pthread_mutex_init(&_locks[k], NULL)


reset_after_fork()
os.register_at_fork(after_in_child=reset_after_fork)
