"""The index of a shard; see ``_index.pyx``."""

from libc.stdint cimport uint8_t, uint64_t

from zarrs._core cimport Axis, ChainSpec, Failure, Input, ShardSpec, Status, Workspace


cdef struct Entry:
    # Where an inner chunk is in its shard, in bytes; both numbers 2^64 - 1: it is not there.
    uint64_t offset
    uint64_t size


cdef bint is_absent(const Entry* entry) noexcept nogil

cdef Py_ssize_t count_inner_chunks(const ShardSpec* shard, const Axis* axes) noexcept nogil

cdef Py_ssize_t index_size(const ShardSpec* shard, Py_ssize_t n) noexcept nogil

cdef size_t shard_bound(const ShardSpec* shard, Py_ssize_t n) noexcept nogil

cdef Status unwrap_shard(
    const ChainSpec* chain, Py_ssize_t n, bint owned, Input* source, uint8_t** decoded,
    Workspace* space) noexcept nogil

cdef void narrow_input(Input* source, Py_ssize_t offset, Py_ssize_t size) noexcept nogil

cdef Status read_index(
    const Input* source, const ShardSpec* shard, Py_ssize_t n, Entry** index,
    Failure* failure) noexcept nogil

cdef Status check_entry(
    const Entry* entry, const Input* source, const ShardSpec* shard, Py_ssize_t n,
    Failure* failure) noexcept nogil

cdef Status check_overlaps(
    const Entry* index, Py_ssize_t n, const Py_ssize_t* wanted, Py_ssize_t n_wanted,
    Failure* failure) noexcept nogil

cdef void encode_index(
    const ShardSpec* shard, Entry* index, Py_ssize_t n, uint8_t* dst) noexcept nogil
