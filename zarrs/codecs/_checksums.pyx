"""The checksums of HDF5 in numcodecs: ``fletcher32`` and ``jenkins_lookup3``.

Params, from the third on: of ``jenkins_lookup3``, the initial value.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset

from zarrs._core cimport CHECKSUM, Codec, Params, register_codec

cdef enum:
    LANES = 8  # words that are added at once
    ROWS = 45  # words a row; the sums of sums of 360 words fit 32 bits
    INITIAL = 2  # the parameter of jenkins_lookup3
    LOOKUP3_BLOCK = 12  # bytes


cdef inline uint32_t _fold(uint32_t sum) noexcept nogil:
    # Modulo 65535; 0 remains 0, any other multiple becomes 65535 in the end.
    return (sum & 0xFFFF) + (sum >> 16)


cdef inline uint32_t _word(const uint8_t* src) noexcept nogil:
    return <uint32_t> src[0] << 8 | src[1]


cdef uint32_t fletcher32(
    const Params* params, uint32_t sum, const uint8_t* src, size_t n,
) noexcept nogil:
    # `low` is the sum of all words, `high` that of `low` after each of them. Every lane does the
    # same with the words of its own; of those, the later lanes' are in fewer of the sums.
    cdef uint32_t low = 0
    cdef uint32_t high = 0
    cdef uint32_t lows[LANES]
    cdef uint32_t highs[LANES]
    cdef uint32_t rows, lane, _row
    while n >= 2 * LANES:
        rows = <uint32_t> min(n // (2 * LANES), <size_t> ROWS)
        memset(lows, 0, sizeof(lows))
        memset(highs, 0, sizeof(highs))
        for _row in range(rows):
            for lane in range(<uint32_t> LANES):
                lows[lane] += _word(src + 2 * lane)
                highs[lane] += lows[lane]
            src += 2 * LANES
        n -= 2 * LANES * rows
        high += LANES * rows * low
        for lane in range(<uint32_t> LANES):
            low += lows[lane]
            high += LANES * highs[lane] - lane * lows[lane]
        low = _fold(low)
        high = _fold(high)
    while n >= 2:
        low += _word(src)
        high += low
        src += 2
        n -= 2
    if n > 0:  # the upper half of a word
        low += <uint32_t> src[0] << 8
        high += low
    return _fold(_fold(high)) << 16 | _fold(_fold(low))


cdef inline uint32_t _rotate(uint32_t x, int k) noexcept nogil:
    return x << k | x >> (32 - k)


cdef inline void _mix(uint32_t* x, const uint32_t* y, uint32_t* z, int k) noexcept nogil:
    x[0] = (x[0] - z[0]) ^ _rotate(z[0], k)
    z[0] += y[0]


cdef inline void _finish(uint32_t* x, uint32_t y, int k) noexcept nogil:
    x[0] = (x[0] ^ y) - _rotate(y, k)


cdef inline uint32_t _load(const uint8_t* src) noexcept nogil:
    return (<uint32_t> src[0] | <uint32_t> src[1] << 8 | <uint32_t> src[2] << 16
            | <uint32_t> src[3] << 24)


cdef uint32_t lookup3(
    const Params* params, uint32_t sum, const uint8_t* src, size_t n,
) noexcept nogil:
    # Bob Jenkins, lookup3.c, 2006, public domain: hashlittle().
    cdef uint8_t last[LOOKUP3_BLOCK]
    cdef uint32_t a = <uint32_t> 0xDEADBEEF + <uint32_t> n + <uint32_t> params.v[INITIAL]
    cdef uint32_t b = a
    cdef uint32_t c = a
    if n == 0:
        return c
    while n > LOOKUP3_BLOCK:
        a += _load(src)
        b += _load(src + 4)
        c += _load(src + 8)
        _mix(&a, &b, &c, 4)
        _mix(&b, &c, &a, 6)
        _mix(&c, &a, &b, 8)
        _mix(&a, &b, &c, 16)
        _mix(&b, &c, &a, 19)
        _mix(&c, &a, &b, 4)
        src += LOOKUP3_BLOCK
        n -= LOOKUP3_BLOCK
    memset(last, 0, LOOKUP3_BLOCK)
    memcpy(last, src, n)
    a += _load(last)
    b += _load(last + 4)
    c += _load(last + 8)
    _finish(&c, b, 14)
    _finish(&a, c, 11)
    _finish(&b, a, 25)
    _finish(&c, b, 16)
    _finish(&a, c, 4)
    _finish(&b, a, 14)
    _finish(&c, b, 24)
    return c


cdef Codec _fletcher32
memset(&_fletcher32, 0, sizeof(Codec))
_fletcher32.name = b"fletcher32"
_fletcher32.kind = CHECKSUM
_fletcher32.extend = fletcher32
register_codec(&_fletcher32)

cdef Codec _lookup3
memset(&_lookup3, 0, sizeof(Codec))
_lookup3.name = b"jenkins_lookup3"
_lookup3.kind = CHECKSUM
_lookup3.extend = lookup3
register_codec(&_lookup3)
