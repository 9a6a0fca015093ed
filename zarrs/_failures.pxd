"""Failures of tasks; see ``_failures.pyx``."""

from zarrs._core cimport Failure, Tasks


cdef bint is_cancelled(Tasks* tasks, Py_ssize_t i) noexcept nogil

cdef void record_failure(Tasks* tasks, Py_ssize_t i, const Failure* failure) noexcept nogil
