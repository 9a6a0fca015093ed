"""Failures of tasks; see ``_failures.pyx``."""

from libc.stdint cimport int64_t

from zarrs._core cimport Failure, Tasks


cdef bint is_cancelled(Tasks* tasks, Py_ssize_t i) noexcept nogil

cdef void record_failure(Tasks* tasks, Py_ssize_t i, const Failure* failure) noexcept nogil

cdef int64_t keep_exception(object call, object error) noexcept
