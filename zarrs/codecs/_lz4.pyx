"""LZ4 blocks behind their decoded size as a little-endian uint32, as numcodecs' ``lz4`` has them.

Params: acceleration.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from zarrs._core cimport (
    CORRUPT,
    ENCODE_FAILED,
    OK,
    TRANSFORM,
    UNSUPPORTED,
    WRONG_SIZE,
    Codec,
    Failure,
    Params,
    Status,
    register_codec,
)


cdef extern from * nogil:
    """
    const char *LZ4_versionString(void);
    int LZ4_compress_fast(const char *src, char *dst, int n, int capacity, int acceleration);
    int LZ4_decompress_safe(const char *src, char *dst, int n, int capacity);
    """
    const char* LZ4_versionString()
    int LZ4_compress_fast(const char* src, char* dst, int n, int capacity, int acceleration)
    int LZ4_decompress_safe(const char* src, char* dst, int n, int capacity)

cdef enum:
    HEADER_SIZE = 4
    MAX_INPUT_SIZE = 0x7E000000  # LZ4's own limit
    MAX_INT = 0x7FFFFFFF


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t size
    cdef int result
    if n < HEADER_SIZE:
        failure.expected = HEADER_SIZE
        failure.found = n
        return WRONG_SIZE
    size = (<uint32_t> src[0] | <uint32_t> src[1] << 8
            | <uint32_t> src[2] << 16 | <uint32_t> src[3] << 24)
    if size > capacity:
        failure.expected = capacity
        failure.found = size
        return WRONG_SIZE
    if n - HEADER_SIZE > MAX_INT or size > MAX_INT:
        return UNSUPPORTED
    result = LZ4_decompress_safe(<const char*> src + HEADER_SIZE, <char*> dst,
                                 <int> (n - HEADER_SIZE), <int> size)
    if result < 0 or <size_t> result != size:
        failure.code = result
        return CORRUPT
    written[0] = size
    return OK


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef int result
    cdef int k
    if n > MAX_INPUT_SIZE:
        failure.expected = MAX_INPUT_SIZE
        failure.found = n
        return UNSUPPORTED
    for k in range(HEADER_SIZE):
        dst[k] = <uint8_t> ((<uint32_t> n) >> (8 * k))
    result = LZ4_compress_fast(<const char*> src, <char*> dst + HEADER_SIZE, <int> n,
                               <int> min(capacity - HEADER_SIZE, <size_t> MAX_INT),
                               <int> params.v[0])
    if result <= 0:
        failure.code = result
        return ENCODE_FAILED
    written[0] = HEADER_SIZE + result
    return OK


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    return n + n // 255 + 16 + HEADER_SIZE


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"lz4"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
register_codec(&_codec)


def explain(code: int) -> str:
    """What an error code means: the library tells where it stopped, or what it decoded instead."""
    if code < 0:
        return f"the block is damaged at about byte {HEADER_SIZE - 1 - code}"
    return f"the block has {code} bytes, which is not what its header says"


def library_version() -> str:
    """The version of LZ4 in use."""
    return LZ4_versionString().decode()
