"""Reading of what a region needs of one chunk or inner chunk; see ``_read.pyx``."""

from zarrs._core cimport ChainSpec, Failure, Input, Item, LayoutSpec, Region, Status, Workspace


cdef Status read_region(
    const Input* source, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space) noexcept nogil

cdef Status fill_region(
    const LayoutSpec* layout, const Region* region, Workspace* space) noexcept nogil
