"""Writing of shards; see ``_write_shards.pyx``."""

from zarrs._core cimport Tasks, WriteOptions, Workspace


cdef int write_shards(
    Tasks* tasks, const WriteOptions* options, Workspace** spaces, int threads) except -1
