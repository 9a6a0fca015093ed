"""Decoding of Blosc buffers, whole or block by block.

C-Blosc2 reads the format of C-Blosc 1 (its README_CHUNK_FORMAT), keeps its scratch in a context and
is the faster decoder; writing is the business of ``_blosc``.

A buffer is a header of 16 bytes (version, format of the compressor, flags, typesize; then decoded
size, block size and encoded size as little-endian int32), the start of every block as int32, and
the blocks. Some blocks of it are decoded by putting a header of their own in front of them: a
smaller buffer, for the library like any other.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy

from zarrs._clib.blosc2 cimport (
    BLOSC2_DPARAMS_DEFAULTS,
    BLOSC2_VERSION_STRING,
    blosc2_context,
    blosc2_create_dctx,
    blosc2_decompress_ctx,
    blosc2_dparams,
    blosc2_free_ctx,
    blosc2_init,
)
from zarrs._core cimport (
    CORRUPT,
    NO_MEMORY,
    OK,
    UNSUPPORTED,
    WRONG_SIZE,
    Failure,
    Params,
    Status,
)


cdef extern from *:
    "#define ZARRS_PREPARED_MALLOC"

cdef extern from "_native/prepared.h" nogil:
    bint zarrs_prepare(size_t n)
    bint zarrs_discard()

cdef enum:
    FORMAT_VERSION = 2
    FORMAT_ZSTD = 4  # in the upper bits of the flags
    ZSTD_SIZE = 256 * 1024  # at least of zstd's context
    THREAD_SIZE = 256  # at least of what the library keeps of a thread
    FLAG_STORED = 0x2
    FLAGS_EXTENDED = 0x5  # both shuffles at once: a buffer that only C-Blosc2 understands
    FLAG_RESERVED = 0x8  # C-Blosc2's delta filter, which C-Blosc 1 does not have
    ERROR_MEMORY = -4
    ERROR_SCRATCH = -26  # or of threads, of which there are none

blosc2_init()


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
        return CORRUPT
    index.n_blocks = (index.nbytes + index.blocksize - 1) // index.blocksize
    if index.stored:
        if index.cbytes != index.nbytes + HEADER_SIZE:
            return CORRUPT
    elif HEADER_SIZE + 4 * index.n_blocks > index.cbytes:
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


cdef struct Decoder:
    blosc2_context* context
    int64_t blocksize  # for which it has scratch; it makes all anew for another one. 0: unknown
    bint has_zstd  # and a context of zstd


cdef inline bint _is_zstd(const uint8_t* header) noexcept nogil:
    return header[2] >> 5 == FORMAT_ZSTD


cdef bint _prepare(
    const Decoder* decoder, const uint8_t* header, const BlockIndex* index,
) noexcept nogil:
    # Scratch is for four blocks, each with where its parts are.
    cdef size_t scratch = 4 * (<size_t> index.blocksize + 4 * <size_t> header[3])
    if decoder.blocksize != index.blocksize and not (
        zarrs_prepare(THREAD_SIZE) and zarrs_prepare(scratch)
    ):
        return False
    return decoder.has_zstd or not _is_zstd(header) or zarrs_prepare(ZSTD_SIZE)


cdef Status _decode_once(
    void** context, const uint8_t* src, const BlockIndex* index, uint8_t* dst, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    cdef blosc2_dparams dparams
    cdef int result = ERROR_MEMORY
    if decoder == NULL:
        context[0] = decoder = <Decoder*> calloc(1, sizeof(Decoder))
        if decoder == NULL:
            return NO_MEMORY
        dparams = BLOSC2_DPARAMS_DEFAULTS
        dparams.nthreads = 1
        decoder.context = blosc2_create_dctx(dparams)
    if decoder.context != NULL:
        if decoder.blocksize != index.blocksize:
            decoder.has_zstd = False
        if _prepare(decoder, src, index):
            result = blosc2_decompress_ctx(decoder.context, src, <int32_t> index.cbytes,
                                           dst, <int32_t> index.nbytes)
        if zarrs_discard():
            decoder.blocksize = index.blocksize
            decoder.has_zstd = decoder.has_zstd or _is_zstd(src)
        else:
            decoder.blocksize = 0
    if result == index.nbytes:
        return OK
    # What a failed call leaves in its context is not documented: start afresh.
    release_decoder(decoder)
    context[0] = NULL
    failure.code = result
    return NO_MEMORY if result == ERROR_MEMORY or result == ERROR_SCRATCH else CORRUPT


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef BlockIndex index
    cdef Status status = read_header(src, <int64_t> n, <int64_t> capacity, &index, failure)
    if status != OK:
        return status
    status = _decode_once(context, src, &index, dst, failure)
    if status == CORRUPT:
        # The library says the same where a decoder in it found no memory; damage is there again.
        status = _decode_once(context, src, &index, dst, failure)
    if status == OK:
        written[0] = <size_t> index.nbytes
    return status


cdef void release_decoder(void* context) noexcept nogil:
    if (<Decoder*> context).context != NULL:
        blosc2_free_ctx((<Decoder*> context).context)
    free(context)


def library_version() -> str:
    """The version of C-Blosc2 in use."""
    return BLOSC2_VERSION_STRING.decode()
