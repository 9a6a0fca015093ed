"""Checksums of four bytes, little-endian, after the data that they are of, or before them."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from zarrs._core cimport (
    AT_START,
    BAD_CHECKSUM,
    CHECKSUM_SIZE,
    OK,
    VERIFY,
    WRONG_SIZE,
    Failure,
    Stage,
    Status,
)


cdef inline Status compare_checksum(
    uint32_t computed, const uint8_t* stored, Failure* failure,
) noexcept nogil:
    """Whether what is stored is what was computed."""
    cdef uint32_t found = (<uint32_t> stored[0] | <uint32_t> stored[1] << 8
                           | <uint32_t> stored[2] << 16 | <uint32_t> stored[3] << 24)
    if found == computed:
        return OK
    failure.expected = found
    failure.found = computed
    return BAD_CHECKSUM


cdef inline void store_checksum(uint32_t checksum, uint8_t* dst) noexcept nogil:
    """Write a checksum as it is stored."""
    cdef int k
    for k in range(CHECKSUM_SIZE):
        dst[k] = (checksum >> (8 * k)) & 0xFF


cdef inline Status strip_checksum(
    const Stage* stage, const uint8_t** src, size_t* n, Failure* failure,
) noexcept nogil:
    """Take the checksum off, after a look at it if it is to be verified."""
    cdef const uint8_t* stored
    if n[0] < CHECKSUM_SIZE:
        failure.expected = CHECKSUM_SIZE
        failure.found = n[0]
        return WRONG_SIZE
    n[0] -= CHECKSUM_SIZE
    stored = src[0] + n[0]
    if stage.params.v[AT_START]:
        stored = src[0]
        src[0] += CHECKSUM_SIZE
    if not stage.params.v[VERIFY]:
        return OK
    return compare_checksum(
        stage.codec.extend(&stage.params, stage.codec.first, src[0], n[0]), stored, failure)


cdef inline void add_checksum(
    const Stage* stage, const uint8_t* src, size_t n, uint8_t* dst,
) noexcept nogil:
    """Write the data with their checksum; there is room for both. ``src`` may be their place."""
    cdef uint32_t checksum = stage.codec.extend(&stage.params, stage.codec.first, src, n)
    cdef bint at_start = stage.params.v[AT_START] != 0
    cdef uint8_t* place = dst + CHECKSUM_SIZE if at_start else dst
    if place != src:
        memcpy(place, src, n)
    store_checksum(checksum, dst if at_start else dst + n)
