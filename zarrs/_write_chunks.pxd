"""Writing of all chunks of a call; see ``_write_chunks.pyx``."""

from zarrs._core cimport Tasks, WriteOptions, Workspace


cdef int write_chunks(
    Tasks* tasks, const WriteOptions* options, Workspace** spaces, int threads) except -1
