"""What a thread needs for its work and keeps from call to call; see ``_workspace.pyx``."""

from libc.stdint cimport uint8_t

from zarrs._core cimport Buffer, Codec, Workspace


cdef int slot_of(str name) except -1

cdef const Codec* codec_at(int slot) noexcept nogil

cdef uint8_t* reserve(Buffer* buffer, size_t n) noexcept nogil


cdef class Seat:
    """Where a thread runs the Python stages of a call: their context."""

    cdef object call
    cdef object result  # waits for room


cdef class Crew:
    cdef list owners
    cdef Workspace** spaces
    cdef int n
    cdef list seats

    cdef int serve(self, object call) except -1

    cdef int disband(self) except -1
