"""Making the bytes to store of one chunk or inner chunk; see ``_write.pyx``."""

from libc.stdint cimport uint8_t

from zarrs._core cimport (
    ChainSpec,
    Failure,
    Input,
    LayoutSpec,
    Region,
    Status,
    Task,
    WriteOptions,
    Workspace,
)


cdef Status encode_region(
    const Input* old, const ChainSpec* chain, const LayoutSpec* layout, const Region* region,
    const WriteOptions* options, Workspace* space, const uint8_t** data, size_t* n) noexcept nogil

cdef Status keep_encoded(Task* task, const uint8_t* data, size_t n) noexcept nogil
