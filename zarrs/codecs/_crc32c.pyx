"""CRC-32C (RFC 3720, appendix B.4; Zarr v3 codec ``crc32c``)."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memset

from zarrs._core cimport CHECKSUM, Codec, Params, register_codec


cdef extern from "_native/crc32c.h" nogil:
    const char* ZARRS_CRC32C_HARDWARE
    void zarrs_crc32c_init()
    bint zarrs_crc32c_has_hardware()
    uint32_t zarrs_crc32c_hardware(uint32_t crc, const uint8_t* p, size_t n)
    uint32_t zarrs_crc32c_software(uint32_t crc, const uint8_t* p, size_t n)


zarrs_crc32c_init()
cdef bint _has_hardware = zarrs_crc32c_has_hardware()


cdef uint32_t extend(
    const Params* params, uint32_t crc, const uint8_t* src, size_t n,
) noexcept nogil:
    if _has_hardware:
        return zarrs_crc32c_hardware(crc, src, n)
    return zarrs_crc32c_software(crc, src, n)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"crc32c"
_codec.kind = CHECKSUM
_codec.extend = extend
_codec.piecewise = True
register_codec(&_codec)


def instructions() -> str:
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
