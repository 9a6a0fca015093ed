"""Writing of all chunks of a call; see ``_write_chunks.pyx``."""

from zarrs._core cimport Tasks, Team, WriteOptions


cdef int write_chunks(
    Tasks* tasks, const WriteOptions* options, const Team* team) except -1
