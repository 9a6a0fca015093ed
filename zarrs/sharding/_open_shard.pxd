"""What is fetched of chunks and shards; see ``_open_shard.pyx``."""

from zarrs._core cimport ChainSpec, Tasks, Team
from zarrs.indexing._plan cimport Plan


cdef object part_of_task(Plan plan, const ChainSpec* chain, Py_ssize_t task)

cdef object open_fetched(Plan plan, const ChainSpec* chain, Py_ssize_t task, object index)

cdef int read_parts(
    Tasks* tasks, list parts, const Team* team) except -1
