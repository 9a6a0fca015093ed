"""Blosc buffers; see ``_blosc.pyx``."""

from libc.stdint cimport uint8_t

from zarrs._core cimport Failure, Params, Status


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure) noexcept nogil
