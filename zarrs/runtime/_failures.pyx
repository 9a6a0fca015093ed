"""How tasks of a loop tell that they failed, and learn that others did."""

from libc.stdint cimport int64_t

from zarrs._clib.pthread cimport (
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)
from zarrs._core cimport MISSING, Failure, Tasks

import os


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    void zarrs_lower(Py_ssize_t* p, Py_ssize_t x)

cdef pthread_mutex_t _failure_lock


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


cdef int64_t keep_exception(object call, object error) noexcept:
    """Keep what Python raised with the call, if there is one; its place is a failure's code."""
    if call is None:
        return -1
    call.errors.append(error)
    return len(call.errors) - 1


def reset_after_fork() -> None:
    """Make the lock anew in a forked child: no thread lives there that could give it back."""
    pthread_mutex_init(&_failure_lock, NULL)


reset_after_fork()
os.register_at_fork(after_in_child=reset_after_fork)
