"""Blosc buffers with C-Blosc 1.21; where there is ``_blosc2``, that decodes nearly all of them.

Params: compressor (index in COMPRESSORS), clevel, shuffle (0 none, 1 byte, 2 bit), typesize,
blocksize (0: automatic), threads inside one call.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from zarrs._clib.blosc cimport (
    BLOSC_MAX_BUFFERSIZE,
    BLOSC_MAX_OVERHEAD,
    blosc_compress_ctx,
    blosc_decompress_ctx,
    blosc_get_version_string,
)
from zarrs._core cimport (
    CORRUPT,
    ENCODE_FAILED,
    NO_MEMORY,
    OK,
    TRANSFORM,
    UNSUPPORTED,
    Codec,
    Failure,
    Params,
    Status,
    register_codec,
)
from zarrs.codecs._blosc_format cimport BlockIndex, read_header


cdef extern from "_native/shuffles.h":
    const char* zarrs_blosc_shuffles()

cdef extern from "_native/prepared.h" nogil:
    bint zarrs_prepare(size_t n)
    bint zarrs_discard()

cdef enum:
    MAX_AUTOMATIC = 1024 * 1024  # of the block sizes that the library chooses
    THREAD_SIZE = 256  # at least of what the library keeps of a thread

#: Compressors in the order that Params uses. The snappy of old files is in neither library.
COMPRESSORS = ("blosclz", "lz4", "lz4hc", "zlib", "zstd")

cdef const char* _names[5]
_names[:] = [b"blosclz", b"lz4", b"lz4hc", b"zlib", b"zstd"]


cdef inline bint _prepare(size_t blocksize, size_t typesize, int threads) noexcept nogil:
    # A thread has scratch for three blocks, and for where the parts of one are.
    cdef int _k
    for _k in range(threads):
        if not zarrs_prepare(3 * blocksize + 4 * typesize):
            return False
        if threads > 1 and not zarrs_prepare(THREAD_SIZE):
            return False
    return True


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t blocksize = min(n, max(<size_t> params.v[4], <size_t> MAX_AUTOMATIC))
    cdef int result = -1
    cdef bint prepared
    if n > <size_t> BLOSC_MAX_BUFFERSIZE:
        failure.expected = BLOSC_MAX_BUFFERSIZE
        failure.found = n
        return UNSUPPORTED
    prepared = _prepare(blocksize, <size_t> params.v[3], <int> params.v[5])
    if prepared:
        result = blosc_compress_ctx(
            <int> params.v[1], <int> params.v[2], <size_t> params.v[3], n, src, dst, capacity,
            _names[params.v[0]], <size_t> params.v[4], <int> params.v[5])
    zarrs_discard()
    if not prepared:
        return NO_MEMORY
    if result <= 0:
        failure.code = result
        return ENCODE_FAILED
    written[0] = result
    return OK


cdef Status _decode_once(
    const uint8_t* src, const BlockIndex* index, uint8_t* dst, Failure* failure,
) noexcept nogil:
    cdef bint prepared = _prepare(<size_t> index.blocksize, src[3], 1)
    cdef int64_t size = 0
    if prepared:
        size = blosc_decompress_ctx(src, dst, <size_t> index.nbytes, 1)
    zarrs_discard()
    if not prepared:
        return NO_MEMORY
    if size == index.nbytes:
        return OK
    failure.code = -1  # which is all that this library says
    return CORRUPT


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef BlockIndex index
    cdef Status status = read_header(src, <int64_t> n, <int64_t> capacity, &index, failure)
    if status != OK:
        return status
    status = _decode_once(src, &index, dst, failure)
    if status == CORRUPT:
        # The library reports a failed allocation in the same way; damage fails a second time.
        status = _decode_once(src, &index, dst, failure)
    if status == OK:
        written[0] = <size_t> index.nbytes
    return status


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    return n + BLOSC_MAX_OVERHEAD


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"blosc"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
register_codec(&_codec)


def library_version() -> str:
    """The version of C-Blosc in use."""
    return blosc_get_version_string().decode()


def shuffles() -> str | None:
    """With which instructions C-Blosc shuffles here; None: it does not tell."""
    cdef const char* found = zarrs_blosc_shuffles()
    return None if found == NULL else found.decode()
