"""Locks without the GIL: of keys that are written, and of failures; see ``_locks.pyx``."""

from zarrs._core cimport Failure, Tasks


cdef enum:
    N_LOCKS = 256


cdef int lock_number(const char* path) noexcept nogil

cdef void take_lock(int number) noexcept nogil

cdef void give_lock(int number) noexcept nogil

cdef bint is_cancelled(Tasks* tasks, Py_ssize_t i) noexcept nogil

cdef void record_failure(Tasks* tasks, Py_ssize_t i, const Failure* failure) noexcept nogil
