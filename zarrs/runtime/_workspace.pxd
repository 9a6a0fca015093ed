"""What a thread needs for its work and keeps from call to call; see ``_workspace.pyx``."""

from libc.stdint cimport uint8_t

from zarrs._core cimport Buffer, Team


cdef uint8_t* reserve(Buffer* buffer, size_t n) noexcept nogil


cdef class CallContext:
    """Where a thread runs the Python stages of a call: their context."""

    cdef object call
    cdef object result  # waits for room


cdef class Workspaces:
    cdef list owners
    cdef Team team
    cdef list contexts

    cdef int bind(self, object call) except -1

    cdef int release(self) except -1
