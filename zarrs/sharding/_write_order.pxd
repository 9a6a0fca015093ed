"""The order of inner chunks in a new shard; see ``_write_order.pyx``."""

from zarrs._core cimport Axis, Shard, ShardSpec


cdef Py_ssize_t* make_write_order(
    const ShardSpec* shard, const Axis* axes, Py_ssize_t n) noexcept nogil

cdef int prepare_inner_order(Shard shard) except -1
