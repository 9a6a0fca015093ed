"""CRC-32C after the data, four bytes, little-endian (Zarr v3 codec ``crc32c``).

Params: whether the checksum is verified when decoding.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memmove

from zarrs._core cimport (
    BAD_CHECKSUM,
    CHECKSUM,
    OK,
    WRONG_SIZE,
    Codec,
    Failure,
    Params,
    Status,
)


cdef extern from "_native/crc32c.h" nogil:
    const char* ZARRS_CRC32C_HARDWARE
    void zarrs_crc32c_init()
    bint zarrs_crc32c_has_hardware()
    uint32_t zarrs_crc32c_hardware(uint32_t crc, const uint8_t* p, size_t n)
    uint32_t zarrs_crc32c_software(uint32_t crc, const uint8_t* p, size_t n)


zarrs_crc32c_init()
cdef bint _has_hardware = zarrs_crc32c_has_hardware()


cdef inline uint32_t _checksum(const uint8_t* p, size_t n) noexcept nogil:
    if _has_hardware:
        return zarrs_crc32c_hardware(0, p, n)
    return zarrs_crc32c_software(0, p, n)


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    # The data stay where they are: `dst` is not used.
    cdef uint32_t stored
    if n < 4:
        failure.expected = 4
        failure.found = n
        return WRONG_SIZE
    n -= 4
    written[0] = n
    if params.v[0]:
        stored = (<uint32_t> src[n] | <uint32_t> src[n + 1] << 8
                  | <uint32_t> src[n + 2] << 16 | <uint32_t> src[n + 3] << 24)
        failure.expected = stored
        failure.found = _checksum(src, n)
        if failure.expected != failure.found:
            return BAD_CHECKSUM
    return OK


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef uint32_t crc = _checksum(src, n)
    cdef int k
    if dst != src:
        memmove(dst, src, n)
    for k in range(4):
        dst[n + k] = <uint8_t> (crc >> (8 * k))
    written[0] = n + 4
    return OK


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    return n + 4


cdef Codec _codec
_codec.name = b"crc32c"
_codec.kind = CHECKSUM
_codec.trailer = 4
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
_codec.begin = NULL
_codec.feed = NULL
_codec.release_decoder = NULL
_codec.release_encoder = NULL


def capsule() -> object:
    """The codec's table entry, for ``_core.register_codec``."""
    return PyCapsule_New(&_codec, b"zarrs.codec", NULL)


def library_version() -> str:
    """How checksums are computed: the instruction set, or ``software``."""
    return ZARRS_CRC32C_HARDWARE.decode() if _has_hardware else "software"


def checksum(data: bytes, hardware: bool = True) -> int:
    """CRC-32C of ``data``, with or without the processor's own instruction."""
    cdef const uint8_t[::1] view = data
    if view.shape[0] == 0:
        return 0
    if hardware and _has_hardware:
        return zarrs_crc32c_hardware(0, &view[0], view.shape[0])
    return zarrs_crc32c_software(0, &view[0], view.shape[0])
