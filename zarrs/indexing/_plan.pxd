"""The plan of one call: what to copy from which part of which chunk to where; see ``_plan.pyx``."""

from libc.stdint cimport int64_t, uint8_t

from zarrs._core cimport Axis, Selection, ShardSpec, Task, Tasks


# The array that chunks are copied to or from.
cdef struct Target:
    int ndim
    bint broadcast  # a single item, the value of every selected one
    const Py_ssize_t* shape
    const Py_ssize_t* stride


cdef class Settings:
    cdef int cached_files
    cdef readonly bint direct
    cdef bint sync
    cdef bint exchange
    cdef Py_ssize_t max_gap
    cdef Py_ssize_t max_span


cdef class Plan:
    cdef readonly Py_ssize_t n_tasks
    cdef readonly Py_ssize_t n_units
    cdef readonly int ndim
    cdef Py_ssize_t itemsize
    cdef readonly bint in_memory
    cdef readonly object array  # keeps the array's memory alive
    cdef list named  # the keys, as far as they were asked for
    cdef readonly bint is_simple  # one box a chunk
    cdef list kept  # keeps the memory alive in which stored chunks are
    cdef Tasks* tasks
    cdef Py_ssize_t first_failed
    cdef Axis* axes
    cdef void** blocks  # lists of positions
    cdef Py_ssize_t n_blocks
    cdef char* paths
    cdef size_t paths_size
    cdef size_t paths_capacity
    cdef Py_ssize_t top  # see FileOptions
    cdef Py_ssize_t n_root  # bytes that all paths begin with: what is above the store's keys
    cdef readonly int64_t touched_bytes  # of decoded chunks, from the first to the last needed
    cdef readonly int64_t chunk_bytes  # of decoded chunks, all of each
    cdef readonly int64_t prefix_bytes  # of decoded chunks, up to the last needed

    cdef int add_path(
        self, Task* task, const char* root, Py_ssize_t n_root, const char* key, Py_ssize_t n_key,
    ) except -1

    cdef void paths_are_complete(self) noexcept

    cdef Py_ssize_t* add_list(self, Py_ssize_t n) except NULL

    cdef Task* task(self, Py_ssize_t i) except NULL

    cdef str count(self, const Task* task, const ShardSpec* shard)

    cdef int needed_bytes(self, Py_ssize_t i, Py_ssize_t* low, Py_ssize_t* high) except -1


cdef class TaskSet:
    cdef Plan plan
    cdef list kept  # keeps the memory alive in which stored chunks are
    cdef Tasks* tasks
    cdef Py_ssize_t* numbers

    cdef int add(self, Py_ssize_t number, bint is_part, object buffer) except -1


cdef Target see_array(object array, bint broadcast)

cdef char* data_of_array(object array)

cdef object see_buffer(object buffer, const uint8_t** data, Py_ssize_t* size)

cdef void needed_items(
    const Selection* select, int ndim, Py_ssize_t* low, Py_ssize_t* high) noexcept
