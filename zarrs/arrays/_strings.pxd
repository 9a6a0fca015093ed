"""Items of variable length between their encoded form and arrays; see ``_strings.pyx``."""

from libc.stdint cimport uint8_t

from zarrs._core cimport Failure, Item, LayoutSpec, Region, Status, Workspace


cdef Status unpack_strings(
    const Item* item, const Region* region, const uint8_t* payload, size_t n,
    Workspace* space) noexcept nogil

cdef Status fill_strings(
    const LayoutSpec* layout, const Region* region, Workspace* space) noexcept nogil

cdef Status pack_strings(
    const LayoutSpec* layout, const Region* region, const uint8_t* old, size_t n_old,
    bint keep_empty, Workspace* space, const uint8_t** payload, size_t* n) noexcept nogil
