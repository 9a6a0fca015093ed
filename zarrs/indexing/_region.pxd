"""Selections in chunks and inner chunks; see ``_region.pyx``."""

from zarrs._core cimport (
    MAX_NDIM,
    Axis,
    Buffer,
    Item,
    Region,
    Selection,
    ShardSpec,
    Status,
    Task,
    Tasks,
)


cdef struct Split:
    # A selection in a shard, taken apart into its inner chunks.
    Py_ssize_t n  # inner chunks in which something is selected
    Py_ssize_t touched[MAX_NDIM]  # of these, along every axis
    Py_ssize_t* runs[MAX_NDIM]  # where each begins in an axis's list; NULL: the axis is a range
    Py_ssize_t* groups  # where each begins in the points
    Py_ssize_t* indexes  # and its place in the shard's index
    Py_ssize_t* points  # sorted by inner chunk; numbered within it
    Py_ssize_t* array_offsets


cdef Status make_region(
    const Selection* select, int ndim, const Item* item, char* data, bint writing,
    Buffer* pairs, Region* region) noexcept nogil

cdef Status task_region(
    const Tasks* tasks, const Task* task, bint writing, Buffer* pairs,
    Region* region) noexcept nogil

cdef Status share_region(
    const Tasks* tasks, const Task* task, Py_ssize_t number, Buffer* pairs,
    Region* region) noexcept nogil

cdef Py_ssize_t n_touched(const Axis* axis, Py_ssize_t inner) noexcept nogil

cdef Py_ssize_t most_touched(
    const ShardSpec* shard, const Selection* select, Py_ssize_t n) noexcept nogil

cdef Py_ssize_t touched_by_all(
    const ShardSpec* shard, const Task* task, Py_ssize_t n) noexcept nogil

cdef Status split_selection(
    const ShardSpec* shard, const Selection* select, Split* split) noexcept nogil

cdef void free_split(Split* split) noexcept nogil

cdef Py_ssize_t inner_selection(
    const ShardSpec* shard, const Selection* select, const Split* split, Py_ssize_t number,
    Axis* parts, Selection* inner, char** data) noexcept nogil

cdef const char* first_place(const Selection* select, int ndim, const char* data) noexcept nogil
