"""The format of Blosc buffers: their header, and where their blocks lie.

A buffer is a header of 16 bytes (version, format of the compressor, flags, typesize; then decoded
size, block size and encoded size as little-endian int32), the start of every block as int32, and
the blocks. Some blocks of it are decoded by putting a header of their own in front of them: a
smaller buffer, for the library like any other.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy

from zarrs._core cimport (
    CORRUPT,
    NO_MEMORY,
    OK,
    UNSUPPORTED,
    WRONG_SIZE,
    Failure,
    Status,
)


cdef enum:
    FORMAT_VERSION = 2
    FLAG_STORED = 0x2
    FLAGS_EXTENDED = 0x5  # both shuffles at once: a buffer that only C-Blosc2 understands
    FLAG_RESERVED = 0x8  # C-Blosc2's delta filter, which C-Blosc 1 does not have


cdef inline int64_t _int32_at(const uint8_t* p) noexcept nogil:
    return <int32_t> (<uint32_t> p[0] | <uint32_t> p[1] << 8
                      | <uint32_t> p[2] << 16 | <uint32_t> p[3] << 24)


cdef inline void _put_int32(uint8_t* p, int64_t x) noexcept nogil:
    cdef int k
    for k in range(4):
        p[k] = <uint8_t> ((<uint32_t> x) >> (8 * k))


cdef Status read_header(
    const uint8_t* header, int64_t n, int64_t capacity, BlockIndex* index, Failure* failure,
) noexcept nogil:
    """Check the header against ``n``, the size of the buffer, and the room there is to decode it.

    Only the first 16 bytes of ``header`` are looked at. Bytes after the buffer are allowed.
    """
    cdef int flags
    if n < HEADER_SIZE:
        failure.expected = HEADER_SIZE
        failure.found = n
        return WRONG_SIZE
    flags = header[2]
    index.nbytes = _int32_at(header + 4)
    index.blocksize = _int32_at(header + 8)
    index.cbytes = _int32_at(header + 12)
    index.stored = (flags & FLAG_STORED) != 0
    if (
        header[0] != FORMAT_VERSION
        or (flags & FLAGS_EXTENDED) == FLAGS_EXTENDED
        or flags & FLAG_RESERVED
    ):
        failure.code = OTHER_FORMAT
        return UNSUPPORTED
    if index.nbytes > capacity:
        failure.expected = capacity
        failure.found = index.nbytes
        return WRONG_SIZE
    if index.cbytes < HEADER_SIZE or index.cbytes > n:
        failure.expected = index.cbytes
        failure.found = n
        return WRONG_SIZE
    if index.blocksize <= 0 or index.blocksize > index.nbytes or header[3] == 0:
        failure.code = BAD_SIZES
        return CORRUPT
    index.n_blocks = (index.nbytes + index.blocksize - 1) // index.blocksize
    if index.stored:
        if index.cbytes != index.nbytes + HEADER_SIZE:
            failure.code = BAD_SIZES
            return CORRUPT
    elif HEADER_SIZE + 4 * index.n_blocks > index.cbytes:
        failure.code = BAD_SIZES
        return CORRUPT
    return OK


cdef int _by_value(const void* a, const void* b) noexcept nogil:
    cdef int64_t x = (<const int64_t*> a)[0]
    cdef int64_t y = (<const int64_t*> b)[0]
    return (x > y) - (x < y)


cdef Status read_extents(
    const uint8_t* header, const BlockIndex* index, Extent* extents, Failure* failure,
) noexcept nogil:
    """Find where each block of a compressed buffer lies.

    Starts are stored, ends are not. Serial writers leave the blocks in order; writers with several
    threads leave them in any, and a block then ends where the next one in the buffer starts.
    """
    cdef int64_t n = index.n_blocks
    cdef int64_t table_end = HEADER_SIZE + 4 * n
    cdef int64_t b, low, high, middle
    cdef int64_t* starts
    cdef bint ordered = True
    for b in range(n):
        extents[b].start = _int32_at(header + HEADER_SIZE + 4 * b)
        if extents[b].start < table_end or extents[b].start >= index.cbytes:
            failure.code = BAD_STARTS
            return CORRUPT
        if b > 0:
            extents[b - 1].stop = extents[b].start
            ordered = ordered and extents[b].start > extents[b - 1].start
    extents[n - 1].stop = index.cbytes
    if ordered:
        return OK
    starts = <int64_t*> malloc(n * sizeof(int64_t))
    if starts == NULL:
        return NO_MEMORY
    for b in range(n):
        starts[b] = extents[b].start
    qsort(starts, n, sizeof(int64_t), _by_value)
    for b in range(1, n):
        if starts[b] == starts[b - 1]:  # read more than once, blocks could exceed the buffer
            free(starts)
            failure.code = BAD_STARTS
            return CORRUPT
    for b in range(n):
        low = 0
        high = n
        while low < high:  # the first start that is greater
            middle = (low + high) // 2
            if starts[middle] > extents[b].start:
                high = middle
            else:
                low = middle + 1
        extents[b].stop = starts[low] if low < n else index.cbytes
    free(starts)
    return OK


cdef void make_part_header(
    const uint8_t* header, const BlockIndex* index, const Extent* extents,
    int64_t first, int64_t stop, uint8_t* part,
) noexcept nogil:
    """Write the header of a buffer made of the blocks ``first`` to ``stop``.

    ``part`` has room for ``16 + 4 * (stop - first)`` bytes, and the bytes of the blocks follow, one
    after the other. A short last block must have another one before it.
    """
    cdef int64_t position = HEADER_SIZE + 4 * (stop - first)
    cdef int64_t decoded = min(stop * index.blocksize, index.nbytes) - first * index.blocksize
    cdef int64_t b
    memcpy(part, header, 4)
    _put_int32(part + 4, decoded)
    _put_int32(part + 8, index.blocksize)
    for b in range(first, stop):
        _put_int32(part + HEADER_SIZE + 4 * (b - first), position)
        position += extents[b].stop - extents[b].start
    _put_int32(part + 12, position)


def explain(code: int) -> str:
    """What an error code of this module means."""
    return {
        OTHER_FORMAT: "a buffer of another format, such as Blosc2's own",
        BAD_SIZES: "sizes in its header that do not go together",
        BAD_STARTS: "blocks of it outside of the buffer, or on top of each other",
    }.get(code, "")
