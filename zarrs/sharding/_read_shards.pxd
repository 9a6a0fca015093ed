"""Reading of shards; see ``_read_shards.pyx``."""

from zarrs._core cimport Tasks, Team


cdef int read_shards(Tasks* tasks, const Team* team) except -1
