"""Writing of shards; see ``_write_shards.pyx``."""

from zarrs._core cimport Tasks, Team, WriteOptions


cdef int write_shards(
    Tasks* tasks, const WriteOptions* options, const Team* team) except -1
