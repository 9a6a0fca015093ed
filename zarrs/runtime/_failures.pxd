"""Failures of tasks; see ``_failures.pyx``."""

from libc.stdint cimport int64_t
from libc.string cimport memset

from zarrs._core cimport Failure, Tasks, Workspace


cdef inline Failure* begin_failure(Workspace* space) noexcept nogil:
    """Forget the failure of the task before; this one's is written there as it is found out."""
    memset(&space.failure, 0, sizeof(Failure))
    space.failure.inner = -1
    return &space.failure


cdef bint is_cancelled(Tasks* tasks, Py_ssize_t i) noexcept nogil

cdef void record_failure(Tasks* tasks, Py_ssize_t i, const Failure* failure) noexcept nogil

cdef int64_t keep_exception(object call, object error) noexcept
