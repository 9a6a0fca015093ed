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
    uint32_t zarrs_crc32c_combine(uint32_t first, uint32_t second, size_t n)

cdef extern from "_native/crc32c_folding.h" nogil:
    void zarrs_crc32c_folding_init()
    bint zarrs_crc32c_has_folding()
    uint32_t zarrs_crc32c_folding(uint32_t crc, const uint8_t* p, size_t n)


ctypedef uint32_t (*Extend)(uint32_t crc, const uint8_t* p, size_t n) noexcept nogil

zarrs_crc32c_init()
zarrs_crc32c_folding_init()


cdef Extend _extend_by(str instructions):
    # One of `all_instructions`.
    if instructions == "software":
        return zarrs_crc32c_software
    return zarrs_crc32c_folding if instructions == "avx512" else zarrs_crc32c_hardware


def all_instructions() -> tuple:
    """The instruction sets that checksums can be computed with here, the fastest first."""
    found = ["software"]
    if zarrs_crc32c_has_hardware():
        found.insert(0, ZARRS_CRC32C_HARDWARE.decode())
    if zarrs_crc32c_has_folding():
        found.insert(0, "avx512")
    return tuple(found)


def instructions() -> str:
    """How checksums are computed: the instruction set, or ``software``."""
    return all_instructions()[0]


cdef Extend _extend = _extend_by(instructions())


cdef uint32_t extend(
    const Params* params, uint32_t crc, const uint8_t* src, size_t n,
) noexcept nogil:
    return _extend(crc, src, n)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"crc32c"
_codec.kind = CHECKSUM
_codec.extend = extend
_codec.piecewise = True
_codec.combine = zarrs_crc32c_combine
register_codec(&_codec)


def combine(first: int, second: int, n: int) -> int:
    """CRC-32C of two pieces of data from that of each; ``n`` is the size of the second."""
    return zarrs_crc32c_combine(first, second, n)


def checksum(data: bytes, instructions: str) -> int:
    """CRC-32C of ``data``, with one of `all_instructions`."""
    cdef const uint8_t[::1] view = data
    return _extend_by(instructions)(0, &view[0], view.shape[0]) if len(data) else 0
