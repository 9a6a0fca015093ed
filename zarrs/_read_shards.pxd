"""Reading of shards; see ``_read_shards.pyx``."""

from zarrs._core cimport Tasks, Workspace


cdef int read_shards(Tasks* tasks, Workspace** spaces, int threads) except -1
