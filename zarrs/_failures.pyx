"""How tasks of a loop tell that they failed, and learn that others did."""

from libc.stdint cimport int64_t

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

cdef enum:
    MAX_EXCEPTIONS = 256  # kept; of a call that fails many times only one is asked for

cdef pthread_mutex_t _failure_lock
cdef dict _exceptions = {}
cdef int64_t _n_exceptions = 0


cdef bint is_cancelled(Tasks* tasks, Py_ssize_t i) noexcept nogil:
    """Whether the call has failed already at an earlier task, or its caller has gone."""
    return i > zarrs_load(tasks.first_failed)


cdef void record_failure(Tasks* tasks, Py_ssize_t i, const Failure* failure) noexcept nogil:
    """Keep the failure of a part of a task: several can fail, the first inner chunk speaks."""
    cdef const Failure* kept = &tasks.items[i].failure
    pthread_mutex_lock(&_failure_lock)
    if kept.status <= MISSING or failure.inner < kept.inner:
        tasks.items[i].failure = failure[0]
    pthread_mutex_unlock(&_failure_lock)
    zarrs_lower(tasks.first_failed, i)


cdef int64_t keep_exception(object error) noexcept:
    """Keep what a Python codec raised; its number is a failure's code."""
    global _n_exceptions
    _n_exceptions += 1
    _exceptions[_n_exceptions] = error
    _exceptions.pop(_n_exceptions - MAX_EXCEPTIONS, None)
    return _n_exceptions


def take_exception(number: int) -> BaseException | None:
    """Return a kept exception, which is kept no longer; None: it was dropped, being one of many."""
    return _exceptions.pop(number, None)


def reset_after_fork() -> None:
    """Make the lock anew in a forked child: no thread lives there that could give it back."""
    pthread_mutex_init(&_failure_lock, NULL)


reset_after_fork()
os.register_at_fork(after_in_child=reset_after_fork)
