"""The format of Blosc buffers; see ``_blosc_format.pyx``."""

from libc.stdint cimport int64_t, uint8_t

from zarrs._core cimport Failure, Status


cdef enum:
    HEADER_SIZE = 16
    FLAG_BITSHUFFLE = 0x4


cdef enum HeaderFault:
    # Error codes that the library, whose own are negative, does not have.
    OTHER_FORMAT = 1
    BAD_SIZES = 2
    BAD_STARTS = 3


cdef struct BlockIndex:
    int64_t nbytes  # decoded
    int64_t cbytes  # encoded, this header included
    int64_t blocksize
    int64_t n_blocks
    bint stored  # not compressed: the data follow the header as they are


cdef struct Extent:
    # Where a block lies in the buffer.
    int64_t start
    int64_t stop


cdef Status read_header(
    const uint8_t* header, int64_t n, int64_t capacity, BlockIndex* index,
    Failure* failure) noexcept nogil

cdef Status read_extents(
    const uint8_t* header, const BlockIndex* index, Extent* extents,
    Failure* failure) noexcept nogil

cdef void make_part_header(
    const uint8_t* header, const BlockIndex* index, const Extent* extents,
    int64_t first, int64_t stop, uint8_t* part) noexcept nogil
