"""Decoding and encoding of whole chunks, or of a prefix; see ``_chunk.pyx``."""

from libc.stdint cimport int64_t, uint8_t

from zarrs._core cimport ChainSpec, Failure, Input, Status, Workspace


cdef enum:
    DEAD_SPACE = 16  # a shard of another writer may be this many times as long as ours ...
    MIN_DEAD_SPACE = 16 * 1024 * 1024  # ... or this many bytes longer


cdef Status check_size(int64_t expected, int64_t found, Failure* failure) noexcept nogil

cdef Status check_stored(
    const Input* source, const ChainSpec* chain, int64_t nbytes, Failure* failure) noexcept nogil

cdef Status decode_chunk(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t nbytes,
    uint8_t* dst, const uint8_t** decoded) noexcept nogil

cdef Status decode_open(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t nbytes,
    const uint8_t** decoded, size_t* n) noexcept nogil

cdef Status decode_shard(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t bound,
    uint8_t** data, Py_ssize_t* size) noexcept nogil

cdef Status decode_prefix(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t nbytes, int64_t need,
    const uint8_t** decoded) noexcept nogil

cdef size_t encoded_bound(const ChainSpec* chain, size_t n) noexcept nogil

cdef Status encode_chunk(
    const ChainSpec* chain, Workspace* space, const uint8_t** data, size_t* n,
    int inner_threads) noexcept nogil
