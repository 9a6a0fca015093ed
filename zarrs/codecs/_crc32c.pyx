"""CRC-32C after the data, four bytes, little-endian (Zarr v3 codec ``crc32c``).

Params: whether the checksum is verified when decoding.
"""

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memmove, memset

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


cdef enum:
    TRAILER = 4

zarrs_crc32c_init()
cdef bint _has_hardware = zarrs_crc32c_has_hardware()


cdef uint32_t extend(uint32_t crc, const uint8_t* src, size_t n) noexcept nogil:
    if _has_hardware:
        return zarrs_crc32c_hardware(crc, src, n)
    return zarrs_crc32c_software(crc, src, n)


cdef Status compare(uint32_t crc, const uint8_t* trailer, Failure* failure) noexcept nogil:
    cdef uint32_t stored = (<uint32_t> trailer[0] | <uint32_t> trailer[1] << 8
                            | <uint32_t> trailer[2] << 16 | <uint32_t> trailer[3] << 24)
    if stored == crc:
        return OK
    failure.expected = stored
    failure.found = crc
    return BAD_CHECKSUM


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    # The data stay where they are: `dst` is not used.
    if n < TRAILER:
        failure.expected = TRAILER
        failure.found = n
        return WRONG_SIZE
    written[0] = n - TRAILER
    if not params.v[0]:
        return OK
    return compare(extend(0, src, n - TRAILER), src + n - TRAILER, failure)


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef uint32_t crc = extend(0, src, n)
    cdef int k
    if dst != src:
        memmove(dst, src, n)
    for k in range(TRAILER):
        dst[n + k] = <uint8_t> (crc >> (8 * k))
    written[0] = n + TRAILER
    return OK


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    return n + TRAILER


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"crc32c"
_codec.kind = CHECKSUM
_codec.trailer = TRAILER
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
_codec.extend = extend
_codec.compare = compare


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
