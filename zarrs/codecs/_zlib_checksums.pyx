"""The checksums of zlib: ``crc32`` and ``adler32``, with zlib-ng or zlib."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from zarrs._core cimport CHECKSUM, Codec, Params, register_codec


cdef extern from "_native/deflate_stream.h" nogil:
    uint32_t zarrs_crc32(uint32_t, const uint8_t*, size_t)
    uint32_t zarrs_adler32(uint32_t, const uint8_t*, size_t)


# The library takes a NULL, which no bytes may be, for a question about its initial value.
cdef uint32_t crc32(
    const Params* params, uint32_t sum, const uint8_t* src, size_t n,
) noexcept nogil:
    return zarrs_crc32(sum, src, n) if n > 0 else sum


cdef uint32_t adler32(
    const Params* params, uint32_t sum, const uint8_t* src, size_t n,
) noexcept nogil:
    return zarrs_adler32(sum, src, n) if n > 0 else sum


cdef Codec _crc32
memset(&_crc32, 0, sizeof(Codec))
_crc32.name = b"crc32"
_crc32.kind = CHECKSUM
_crc32.extend = crc32
_crc32.piecewise = True
register_codec(&_crc32)

cdef Codec _adler32 = _crc32
_adler32.name = b"adler32"
_adler32.extend = adler32
_adler32.first = 1
register_codec(&_adler32)
