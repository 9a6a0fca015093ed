"""Reading of parts of chunks whose format can be entered anywhere; see ``_partial.pyx``."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

from zarrs._core cimport (
    Box,
    ChainSpec,
    Failure,
    Input,
    Item,
    Region,
    Status,
    Workspace,
)
from zarrs.codecs._blosc_format cimport BlockIndex, Extent


cdef enum:
    PIECE = 256 * 1024  # bytes of a decoded chunk that are handled in one go: half of a usual L2


cdef struct Source:
    # An open chunk. For Blosc: its header and where its blocks are.
    Py_ssize_t task
    int depth  # 0: a chunk; 1: an inner chunk; ...
    int64_t inner  # which one of the outermost shard
    Input input
    bint owns_input  # and closes it
    Region region
    Py_ssize_t n_pieces  # 0: done in one go
    Py_ssize_t left  # pieces that have not been done yet
    int axis  # raw chunks are cut along this axis of the box ...
    Py_ssize_t group  # ... into groups: rows, Blosc blocks, or bytes of a slice
    uint8_t* head
    Py_ssize_t head_size
    BlockIndex index
    Extent* extents
    uint32_t* checksums  # of slices


cdef Status read_raw(
    const Input* source, const Box* box, const Item* item, Py_ssize_t offset, char* dst,
    Workspace* space) noexcept nogil

cdef Status read_raw_scattered(
    const Input* source, const Item* item, const Region* region, Workspace* space) noexcept nogil

cdef Status read_blosc_scattered(
    Source* source, const ChainSpec* chain, const Item* item, Workspace* space) noexcept nogil

cdef void close_source(Source* source) noexcept nogil

cdef Status open_blosc(Source* source, int64_t nbytes, Failure* failure) noexcept nogil

cdef void blosc_window(
    const Source* source, Py_ssize_t number, Py_ssize_t* first, Py_ssize_t* stop) noexcept nogil

cdef Py_ssize_t cut_blosc(Source* source, const Item* item) noexcept nogil

cdef Py_ssize_t cut_raw(Source* source, const Box* box) noexcept nogil

cdef Status run_raw_piece(
    const Source* source, Py_ssize_t number, const Item* item, const Region* region,
    Workspace* space) noexcept nogil

cdef bint wants_blosc_piece(
    const Source* source, Py_ssize_t number, const Item* item,
    const Region* region) noexcept nogil

cdef Status run_blosc_piece(
    const Source* source, Py_ssize_t number, const ChainSpec* chain, const Item* item,
    const Region* region, Workspace* space) noexcept nogil
