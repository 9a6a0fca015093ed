"""The plan of one call: what to copy from which part of which chunk to where; see ``_plan.pyx``."""

from libc.stdint cimport int64_t

from zarrs._core cimport Box, Task, Tasks


cdef class Plan:
    cdef readonly Py_ssize_t n_tasks
    cdef readonly int ndim
    cdef readonly object array  # keeps the array's memory alive
    cdef readonly list keys
    cdef Tasks* tasks
    cdef Py_ssize_t* boxes
    cdef char* paths
    cdef size_t paths_size
    cdef size_t paths_capacity
    cdef readonly int64_t touched_bytes  # of decoded chunks, from the first to the last needed
    cdef readonly int64_t chunk_bytes  # of decoded chunks, all of each
    cdef readonly int64_t prefix_bytes  # of decoded chunks, up to the last needed

    cdef int add_path(
        self, Task* task, const char* root, Py_ssize_t n_root, const char* key, Py_ssize_t n_key,
    ) except -1


cdef void read_box(const Tasks* tasks, const Task* task, Box* box) noexcept nogil

cdef void write_box(const Tasks* tasks, const Task* task, Box* box) noexcept nogil
