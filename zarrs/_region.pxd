"""Selections in chunks and inner chunks; see ``_region.pyx``."""

from zarrs._core cimport Axis, Region, ShardSpec, Task, Tasks


cdef void make_region(
    const Axis* axes, int ndim, Py_ssize_t itemsize, char* data, bint writing,
    Region* region) noexcept nogil

cdef void task_region(
    const Tasks* tasks, const Task* task, bint writing, Region* region) noexcept nogil

cdef Py_ssize_t n_touched(const Axis* axis, Py_ssize_t inner) noexcept nogil

cdef Py_ssize_t touched_inner_chunks(const ShardSpec* shard, const Axis* axes) noexcept nogil

cdef Py_ssize_t inner_axes(
    const ShardSpec* shard, const Axis* axes, Py_ssize_t number, Axis* parts,
    char** data) noexcept nogil
