"""Reading of chunks that are raw but for a checksum; see ``_checked.pyx``."""

from zarrs._core cimport ChainSpec, Failure, Input, Item, Region, Status, Workspace
from zarrs.chunks._partial cimport Source


cdef bint wants_read_checked(
    const ChainSpec* chain, const Item* item, const Region* region) noexcept nogil

cdef Status read_checked(
    const Input* source, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space) noexcept nogil

cdef Status cut_checked(Source* source, const Item* item, Failure* failure) noexcept nogil

cdef Status run_checked_slice(
    const Source* source, Py_ssize_t number, const ChainSpec* chain, const Item* item,
    Workspace* space) noexcept nogil

cdef Status verify_slices(
    const Source* source, const ChainSpec* chain, Workspace* space) noexcept nogil
