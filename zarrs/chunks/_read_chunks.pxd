"""Reading of all chunks of a call; see ``_read_chunks.pyx``."""

from zarrs._core cimport Failure, Input, Status, Task, Tasks, Team


cdef Status open_task(
    const Tasks* tasks, const Task* task, Input* source, Failure* failure) noexcept nogil

cdef int read_chunks(
    Tasks* tasks, const Team* team, bint split) except -1
