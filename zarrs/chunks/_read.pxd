"""Reading of what a region needs of one chunk or inner chunk; see ``_read.pyx``."""

from libc.stdint cimport int64_t, uint8_t

from zarrs._core cimport ChainSpec, Input, Item, LayoutSpec, Region, Status, Workspace


cdef struct Decoded:
    # A whole chunk; of strings, as they are encoded.
    const uint8_t* bytes
    size_t size


cdef Status read_region(
    const Input* source, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space) noexcept nogil

cdef Status decode_whole(
    const Input* source, const ChainSpec* chain, const Item* item, int64_t nbytes,
    Workspace* space, Decoded* decoded) noexcept nogil

cdef Status copy_decoded(
    const Decoded* decoded, const Item* item, const Region* region,
    Workspace* space) noexcept nogil

cdef Status fill_region(
    const LayoutSpec* layout, const Region* region, Workspace* space) noexcept nogil
