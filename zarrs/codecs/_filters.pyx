"""Codecs that change the items of a chunk, or the order of their bytes.

They are what numcodecs and zarr have under these names, for numbers in the byte order of the
machine; ``swap`` goes around them where numbers are in the other. Types are counted as in
``zarrs._core.NUMBER_TYPES``.

Params:

``delta``, ``astype``
    what is encoded and what it is encoded as: two types, the second times 256.
``fixedscaleoffset``, ``scale_offset``
    types as above (one twice, of ``scale_offset``), offset, scale; the numbers are the bits of
    doubles, but for the integers of ``scale_offset`` integers.
``quantize``
    types as above, the bits of the double that items are multiplied by.
``bitround``
    size of an item, bits to drop.
``packbits``
    none.
``shuffle``, ``swap``
    size of an item; of ``swap`` 2, 4 or 8.
``cast_value``
    types as above; a rounding, and 256 times what happens out of range, counted as in ``ROUNDINGS``
    and ``OUT_OF_RANGES``; the addresses of two scalar maps, to encode and to decode, and the number
    of pairs in each, the second times 2**32. A pair is eight bytes of an item, which is a double if
    it is a float, and eight bytes that begin with its result.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from zarrs._core cimport (
    CORRUPT,
    ENCODE_FAILED,
    OK,
    OUTSIDE_OF_TYPE,
    OUT_OF_RANGE,
    REMAINDER,
    TRANSFORM,
    WRONG_SIZE,
    BoundFn,
    Codec,
    DecodeFn,
    EncodeFn,
    Failure,
    Params,
    Status,
    register_codec,
)


cdef extern from "_native/filters.h" nogil:
    enum:
        ZARRS_INT64
        ZARRS_UINT64
        ZARRS_FLOAT16
        ZARRS_SCALE
        ZARRS_SCALE_ROUND
        ZARRS_UNSCALE
        ZARRS_QUANTIZE
    const size_t zarrs_sizes[]
    ctypedef size_t (*zarrs_scale_fn)(
        int64_t offset, int64_t scale, const uint8_t* src, uint8_t* dst, size_t n) noexcept
    const zarrs_scale_fn zarrs_scales[]
    const zarrs_scale_fn zarrs_unscales[]
    void zarrs_convert(int source, int target, const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_arithmetic(int op, int source, int target, double a, double b,
                          const uint8_t* src, uint8_t* dst, size_t n)
    bint zarrs_delta_encode(int source, int target, const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_delta_decode(int source, int target, const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_bitround(size_t size, int drop, const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_reverse(size_t unit, const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_pack_bits(const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_unpack_bits(const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_shuffle(size_t size, const uint8_t* src, uint8_t* dst, size_t n)
    void zarrs_unshuffle(size_t size, const uint8_t* src, uint8_t* dst, size_t n)

cdef extern from "_native/cast_value.h" nogil:
    ctypedef struct zarrs_cast:
        int source
        int target
        int rounding
        int out_of_range
        const uint8_t* map
        size_t n_map
    size_t zarrs_cast_values(
        const zarrs_cast* cast, const uint8_t* src, uint8_t* dst, size_t n)

ROUNDINGS = ("nearest-even", "towards-zero", "towards-positive", "towards-negative",
             "nearest-away")
OUT_OF_RANGES = (None, "clamp", "wrap")


cdef inline int source_of(const Params* params) noexcept nogil:
    return params.v[0] & 0xFF


cdef inline int target_of(const Params* params) noexcept nogil:
    return params.v[0] >> 8


cdef inline double as_double(int64_t bits) noexcept nogil:
    cdef double value
    memcpy(&value, &bits, sizeof(value))
    return value


cdef inline size_t product(size_t items, size_t size) noexcept nogil:
    """In bytes; as many as there can be, if there are more."""
    cdef size_t most = <size_t> -1
    return items * size if items <= most // size else most


cdef Status measure(
    size_t n, size_t size, size_t new_size, size_t capacity, Status broken,
    size_t* items, size_t* written, Failure* failure,
) noexcept nogil:
    """How many items of `size` there are in `n` bytes; `broken` if they are not whole."""
    items[0] = n // size
    if n % size:
        failure.expected = items[0] * size
        failure.found = n
        return broken
    if items[0] > capacity // new_size:
        failure.expected = capacity
        failure.found = product(items[0], new_size)
        return WRONG_SIZE
    written[0] = items[0] * new_size
    return OK


cdef inline Status measure_encode(
    const Params* params, size_t n, size_t capacity, size_t* items, size_t* written,
    Failure* failure,
) noexcept nogil:
    return measure(n, zarrs_sizes[source_of(params)], zarrs_sizes[target_of(params)], capacity,
                   ENCODE_FAILED, items, written, failure)


cdef inline Status measure_decode(
    const Params* params, size_t n, size_t capacity, size_t* items, size_t* written,
    Failure* failure,
) noexcept nogil:
    return measure(n, zarrs_sizes[target_of(params)], zarrs_sizes[source_of(params)], capacity,
                   WRONG_SIZE, items, written, failure)


cdef size_t typed_bound(const Params* params, size_t n) noexcept nogil:
    return product(n // zarrs_sizes[source_of(params)], zarrs_sizes[target_of(params)])


cdef size_t same_bound(const Params* params, size_t n) noexcept nogil:
    return n


cdef inline Status all_fit(
    size_t first_bad, size_t items, int source, int target, const uint8_t* src, Failure* failure,
) noexcept nogil:
    if first_bad == items:
        return OK
    failure.code = OUTSIDE_OF_TYPE | source << 8 | target << 16
    failure.expected = 0
    memcpy(&failure.expected, src + first_bad * zarrs_sizes[source], zarrs_sizes[source])
    failure.found = first_bad
    return OUT_OF_RANGE


cdef Status delta_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_encode(params, n, capacity, &items, written, failure)
    if status != OK:
        return status
    if not zarrs_delta_encode(source_of(params), target_of(params), src, dst, items):
        return all_fit(0, items, source_of(params), target_of(params), src, failure)
    return OK


cdef Status delta_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_decode(params, n, capacity, &items, written, failure)
    if status == OK:
        zarrs_delta_decode(source_of(params), target_of(params), src, dst, items)
    return status


cdef Status astype_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_encode(params, n, capacity, &items, written, failure)
    if status == OK:
        zarrs_convert(source_of(params), target_of(params), src, dst, items)
    return status


cdef Status astype_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_decode(params, n, capacity, &items, written, failure)
    if status == OK:
        zarrs_convert(target_of(params), source_of(params), src, dst, items)
    return status


cdef Status fixedscaleoffset_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_encode(params, n, capacity, &items, written, failure)
    if status == OK:
        zarrs_arithmetic(ZARRS_SCALE_ROUND, source_of(params), target_of(params),
                         as_double(params.v[1]), as_double(params.v[2]), src, dst, items)
    return status


cdef Status fixedscaleoffset_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_decode(params, n, capacity, &items, written, failure)
    if status == OK:
        zarrs_arithmetic(ZARRS_UNSCALE, target_of(params), source_of(params),
                         as_double(params.v[1]), as_double(params.v[2]), src, dst, items)
    return status


cdef Status quantize_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_encode(params, n, capacity, &items, written, failure)
    if status == OK:
        zarrs_arithmetic(ZARRS_QUANTIZE, source_of(params), target_of(params),
                         0, as_double(params.v[1]), src, dst, items)
    return status


cdef Status scale_offset_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef int kind = source_of(params)
    cdef Status status = measure_encode(params, n, capacity, &items, written, failure)
    if status != OK:
        return status
    if kind < ZARRS_FLOAT16:
        return all_fit(zarrs_scales[kind](params.v[1], params.v[2], src, dst, items), items, kind,
                       kind, src, failure)
    zarrs_arithmetic(ZARRS_SCALE, kind, kind, as_double(params.v[1]), as_double(params.v[2]),
                     src, dst, items)
    return OK


cdef bint leaves_remainder(int kind, int64_t bits, int64_t scale) noexcept nogil:
    cdef int64_t number
    if kind == ZARRS_UINT64:
        return <uint64_t> bits % <uint64_t> scale != 0
    zarrs_convert(kind, ZARRS_INT64, <const uint8_t*> &bits, <uint8_t*> &number, 1)
    return number % scale != 0


cdef Status scale_offset_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef int kind = source_of(params)
    cdef Status status = measure_decode(params, n, capacity, &items, written, failure)
    if status != OK:
        return status
    if kind < ZARRS_FLOAT16:
        status = all_fit(zarrs_unscales[kind](params.v[1], params.v[2], src, dst, items), items,
                         kind, kind, src, failure)
        if status != OK and leaves_remainder(kind, failure.expected, params.v[2]):
            failure.code |= REMAINDER
        return status
    zarrs_arithmetic(ZARRS_UNSCALE, kind, kind, as_double(params.v[1]), as_double(params.v[2]),
                     src, dst, items)
    return OK


cdef inline Status cast_values(
    const Params* params, int source, int target, int64_t map_address, size_t n_map,
    const uint8_t* src, uint8_t* dst, size_t items, Failure* failure,
) noexcept nogil:
    cdef zarrs_cast cast
    cast.source = source
    cast.target = target
    cast.rounding = params.v[1] & 0xFF
    cast.out_of_range = params.v[1] >> 8
    cast.map = <const uint8_t*> map_address
    cast.n_map = n_map
    return all_fit(zarrs_cast_values(&cast, src, dst, items), items, source, target, src, failure)


cdef Status cast_value_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_encode(params, n, capacity, &items, written, failure)
    if status != OK:
        return status
    return cast_values(params, source_of(params), target_of(params), params.v[2],
                       <uint32_t> params.v[4], src, dst, items, failure)


cdef Status cast_value_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items
    cdef Status status = measure_decode(params, n, capacity, &items, written, failure)
    if status != OK:
        return status
    return cast_values(params, target_of(params), source_of(params), params.v[3],
                       params.v[4] >> 32, src, dst, items, failure)


cdef Status bitround_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items, size = params.v[0]
    cdef Status status = measure(n, size, size, capacity, ENCODE_FAILED, &items, written, failure)
    if status == OK:
        zarrs_bitround(size, params.v[1], src, dst, items)
    return status


cdef Status bitround_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    """The rounded bits are those of the float already."""
    cdef size_t items, size = params.v[0]
    cdef Status status = measure(n, size, size, capacity, WRONG_SIZE, &items, written, failure)
    if status == OK:
        memcpy(dst, src, n)
    return status


cdef Status packbits_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    written[0] = packbits_bound(params, n)
    dst[0] = (8 - n % 8) % 8
    zarrs_pack_bits(src, dst + 1, n)
    return OK


cdef Status packbits_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t size
    if n == 0:
        failure.expected = 1
        return WRONG_SIZE
    if src[0] > 7 or (src[0] and n == 1):
        failure.code = src[0]
        return CORRUPT
    size = product(n - 1, 8) - src[0]
    if size > capacity:
        failure.expected = capacity
        failure.found = size
        return WRONG_SIZE
    zarrs_unpack_bits(src + 1, dst, size)
    written[0] = size
    return OK


cdef size_t packbits_bound(const Params* params, size_t n) noexcept nogil:
    return 1 + n // 8 + (n % 8 != 0)


cdef Status shuffle_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items, size = params.v[0]
    cdef Status status = measure(n, size, size, capacity, ENCODE_FAILED, &items, written, failure)
    if status == OK:
        zarrs_shuffle(size, src, dst, items)
    return status


cdef Status shuffle_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items, size = params.v[0]
    cdef Status status = measure(n, size, size, capacity, WRONG_SIZE, &items, written, failure)
    if status == OK:
        zarrs_unshuffle(size, src, dst, items)
    return status


cdef Status swap(
    const Params* params, size_t n, const uint8_t* src, uint8_t* dst, size_t capacity,
    Status broken, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t items, unit = params.v[0]
    cdef Status status = measure(n, unit, unit, capacity, broken, &items, written, failure)
    if status == OK:
        zarrs_reverse(unit, src, dst, items)
    return status


cdef Status swap_encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    return swap(params, n, src, dst, capacity, ENCODE_FAILED, written, failure)


cdef Status swap_decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    return swap(params, n, src, dst, capacity, WRONG_SIZE, written, failure)


cdef enum:
    N_CODECS = 10

cdef Codec[N_CODECS] _codecs
memset(_codecs, 0, sizeof(_codecs))


cdef void define(
    int k, const char* name, EncodeFn encode, DecodeFn decode, BoundFn bound,
) except *:
    _codecs[k].name = name
    _codecs[k].kind = TRANSFORM
    _codecs[k].encode = encode
    _codecs[k].decode = decode
    _codecs[k].bound = bound
    register_codec(&_codecs[k])


define(0, b"delta", delta_encode, delta_decode, typed_bound)
define(1, b"fixedscaleoffset", fixedscaleoffset_encode, fixedscaleoffset_decode, typed_bound)
define(2, b"quantize", quantize_encode, astype_decode, typed_bound)
define(3, b"bitround", bitround_encode, bitround_decode, same_bound)
define(4, b"astype", astype_encode, astype_decode, typed_bound)
define(5, b"packbits", packbits_encode, packbits_decode, packbits_bound)
define(6, b"shuffle", shuffle_encode, shuffle_decode, same_bound)
define(7, b"swap", swap_encode, swap_decode, same_bound)
define(8, b"cast_value", cast_value_encode, cast_value_decode, typed_bound)
define(9, b"scale_offset", scale_offset_encode, scale_offset_decode, typed_bound)


def explain(code: int) -> str:
    """What the only error code there is means."""
    return f"{code} bits of padding in its first byte"
