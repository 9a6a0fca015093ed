/* Loops over the items of a chunk: conversions, arithmetic, and the order of their bytes.
 *
 * `src` and `dst` need no alignment, hold numbers in the byte order of the machine, and do not
 * overlap. Items are moved with fixed-size memcpy, which compilers turn into plain moves and
 * vectorise. Whatever the numbers are, the behaviour is defined.
 *
 * Stages of several steps take a block of items through all of them while it is in the cache, so
 * that one table of conversions serves them all.
 */
#ifndef ZARRS_FILTERS_H
#define ZARRS_FILTERS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "clones.h"

#define ZARRS_BLOCK 512 /* items; their widest form takes 4 KiB */

/* Type codes. Everything from FLOAT16 on is a float. */
enum {
    ZARRS_INT8,
    ZARRS_INT16,
    ZARRS_INT32,
    ZARRS_INT64,
    ZARRS_UINT8,
    ZARRS_UINT16,
    ZARRS_UINT32,
    ZARRS_UINT64,
    ZARRS_FLOAT16,
    ZARRS_FLOAT32,
    ZARRS_FLOAT64,
    ZARRS_N_TYPES
};

/* X(code, what is stored, what is computed with) */
#define ZARRS_INTEGERS(X)                                                                          \
    X(INT8, int8_t, int8_t)                                                                        \
    X(INT16, int16_t, int16_t)                                                                     \
    X(INT32, int32_t, int32_t)                                                                     \
    X(INT64, int64_t, int64_t)                                                                     \
    X(UINT8, uint8_t, uint8_t)                                                                     \
    X(UINT16, uint16_t, uint16_t)                                                                  \
    X(UINT32, uint32_t, uint32_t)                                                                  \
    X(UINT64, uint64_t, uint64_t)
#define ZARRS_TYPES(X)                                                                             \
    ZARRS_INTEGERS(X)                                                                              \
    X(FLOAT16, uint16_t, float)                                                                    \
    X(FLOAT32, float, float)                                                                       \
    X(FLOAT64, double, double)
#define ZARRS_PAIRS(X, S)                                                                          \
    X(S, INT8)                                                                                     \
    X(S, INT16)                                                                                    \
    X(S, INT32)                                                                                    \
    X(S, INT64)                                                                                    \
    X(S, UINT8)                                                                                    \
    X(S, UINT16)                                                                                   \
    X(S, UINT32)                                                                                   \
    X(S, UINT64)                                                                                   \
    X(S, FLOAT16)                                                                                  \
    X(S, FLOAT32)                                                                                  \
    X(S, FLOAT64)

static const size_t zarrs_sizes[ZARRS_N_TYPES] = {1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8};

/* ---------------------------------------------------------------- conversions */

/* Half precision in integer arithmetic, which vectorises on every machine, and keeps the payload of
 * every NaN, signalling or not, as NumPy does. */
static inline float zarrs_half_to_float(uint16_t h)
{
    uint32_t rest = h & 0x7fffu;
    float tiny = (float)(int32_t)rest * 0x1p-24f; /* what it is if subnormal */
    uint32_t bits, result;
    memcpy(&bits, &tiny, sizeof(bits));
    result = (rest << 13) + 0x38000000u + (rest >= 0x7c00u ? 0x38000000u : 0u);
    result = (rest < 0x400u ? bits : result) | (uint32_t)(h & 0x8000u) << 16;
    memcpy(&tiny, &result, sizeof(tiny));
    return tiny;
}

/* F, U: the float and an integer of its size; DROP: bits of the significand that a half lacks;
 * BIAS: that of F less that of a half; TINY: with it the sum has a half's last place. */
#define ZARRS_DEFINE_TO_HALF(F, U, DROP, BIAS, TINY)                                               \
    static inline uint16_t zarrs_##F##_to_half(F x)                                                \
    {                                                                                              \
        const U one = 1, over = ((U)(BIAS) + 31) << (DROP + 10);                               \
        const U endless = (((U)(BIAS) + 15) * 2 + 1) << (DROP + 10);                               \
        U bits, sign, rest, small, normal, special;                                                \
        F magnitude, tiny = TINY;                                                                  \
        memcpy(&bits, &x, sizeof(x));                                                              \
        sign = bits >> (8 * sizeof(U) - 16) & 0x8000u;                                             \
        rest = bits & ((U)-1 >> 1);                                                                \
        memcpy(&magnitude, &rest, sizeof(x));                                                      \
        magnitude += tiny;                                                                         \
        memcpy(&small, &magnitude, sizeof(x));                                                     \
        memcpy(&bits, &tiny, sizeof(x));                                                           \
        small -= bits;                                                                             \
        normal = rest - ((U)(BIAS) << (DROP + 10));                                                \
        normal = (normal + ((one << (DROP - 1)) - 1) + (normal >> DROP & 1)) >> DROP;              \
        special = rest >> DROP & 0x3ffu;                                                           \
        special = rest > endless ? (special ? special : 1) : 0;                                    \
        normal = rest < over ? normal : (0x7c00u | special);                                   \
        return (uint16_t)(sign | (rest < ((U)(BIAS) + 1) << (DROP + 10) ? small : normal));        \
    }
ZARRS_DEFINE_TO_HALF(float, uint32_t, 13, 112, 0.5f)
ZARRS_DEFINE_TO_HALF(double, uint64_t, 42, 1008, 0x1p28)

/* To integers towards zero. Out of range, what x86 makes of it: the smallest number. */
#define ZARRS_DEFINE_TO_INTEGER(F, I, U, LIMIT)                                                    \
    static inline I zarrs_##F##_to_##I(F x)                                                        \
    {                                                                                              \
        return (I)(x >= -(F)LIMIT && x < (F)LIMIT ? x : -(F)LIMIT);                                \
    }                                                                                              \
    static inline U zarrs_##F##_to_##U(F x)                                                        \
    {                                                                                              \
        const U top = (U)1 << (8 * sizeof(U) - 1);                                                 \
        U upper = x >= (F)LIMIT ? top : 0;                                                         \
        return (U)zarrs_##F##_to_##I(x >= (F)LIMIT ? x - (F)LIMIT : x) ^ upper;                    \
    }
ZARRS_DEFINE_TO_INTEGER(float, int32_t, uint32_t, 0x1p31)
ZARRS_DEFINE_TO_INTEGER(float, int64_t, uint64_t, 0x1p63)
ZARRS_DEFINE_TO_INTEGER(double, int32_t, uint32_t, 0x1p31)
ZARRS_DEFINE_TO_INTEGER(double, int64_t, uint64_t, 0x1p63)

#define ZARRS_TO_INTEGER(T, VIA, x)                                                                \
    ((T)_Generic((x), float: zarrs_float_to_##VIA((float)(x)),                                     \
                 double: zarrs_double_to_##VIA((double)(x)), default: (x)))
#define ZARRS_TO_INT8(x) ZARRS_TO_INTEGER(int8_t, int32_t, x)
#define ZARRS_TO_INT16(x) ZARRS_TO_INTEGER(int16_t, int32_t, x)
#define ZARRS_TO_INT32(x) ZARRS_TO_INTEGER(int32_t, int32_t, x)
#define ZARRS_TO_INT64(x) ZARRS_TO_INTEGER(int64_t, int64_t, x)
#define ZARRS_TO_UINT8(x) ZARRS_TO_INTEGER(uint8_t, int32_t, x)
#define ZARRS_TO_UINT16(x) ZARRS_TO_INTEGER(uint16_t, int32_t, x)
#define ZARRS_TO_UINT32(x) ZARRS_TO_INTEGER(uint32_t, uint32_t, x)
#define ZARRS_TO_UINT64(x) ZARRS_TO_INTEGER(uint64_t, uint64_t, x)
#define ZARRS_TO_FLOAT16(x)                                                                        \
    _Generic((x), double: zarrs_double_to_half((double)(x)),                                       \
             default: zarrs_float_to_half((float)(x)))
#define ZARRS_TO_FLOAT32(x) ((float)(x))
#define ZARRS_TO_FLOAT64(x) ((double)(x))

#define ZARRS_VALUE_FLOAT16(x) zarrs_half_to_float(x)
#define ZARRS_VALUE_FLOAT32(x) (x)
#define ZARRS_VALUE_FLOAT64(x) (x)
#define ZARRS_VALUE_INT8(x) (x)
#define ZARRS_VALUE_INT16(x) (x)
#define ZARRS_VALUE_INT32(x) (x)
#define ZARRS_VALUE_INT64(x) (x)
#define ZARRS_VALUE_UINT8(x) (x)
#define ZARRS_VALUE_UINT16(x) (x)
#define ZARRS_VALUE_UINT32(x) (x)
#define ZARRS_VALUE_UINT64(x) (x)

#define ZARRS_DEFINE_ITEM(NAME, T, V)                                                              \
    typedef T zarrs_##NAME;                                                                        \
    static inline V zarrs_get_##NAME(const uint8_t *p)                                             \
    {                                                                                              \
        T x;                                                                                       \
        memcpy(&x, p, sizeof(x));                                                                  \
        return ZARRS_VALUE_##NAME(x);                                                              \
    }
ZARRS_TYPES(ZARRS_DEFINE_ITEM)

typedef void (*zarrs_convert_fn)(const uint8_t *restrict src, uint8_t *restrict dst, size_t n);

#define ZARRS_DEFINE_CONVERT(S, D)                                                                 \
    ZARRS_CLONES static void zarrs_##S##_to_##D(const uint8_t *restrict src,                       \
                                                uint8_t *restrict dst, size_t n)                   \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            zarrs_##D y = ZARRS_TO_##D(zarrs_get_##S(src + i * sizeof(zarrs_##S)));                \
            memcpy(dst + i * sizeof(y), &y, sizeof(y));                                            \
        }                                                                                          \
    }
#define ZARRS_DEFINE_CONVERTS(S, T, V) ZARRS_PAIRS(ZARRS_DEFINE_CONVERT, S)
ZARRS_TYPES(ZARRS_DEFINE_CONVERTS)

#define ZARRS_NAME_CONVERT(S, D) zarrs_##S##_to_##D,
#define ZARRS_NAME_CONVERTS(S, T, V) {ZARRS_PAIRS(ZARRS_NAME_CONVERT, S)},
static const zarrs_convert_fn zarrs_converts[ZARRS_N_TYPES][ZARRS_N_TYPES] = {
    ZARRS_TYPES(ZARRS_NAME_CONVERTS)};

/* By way of single precision, signalling NaNs would become quiet ones; in NumPy they do not. */
ZARRS_CLONES static void zarrs_halves_to_doubles(const uint8_t *restrict src,
                                                 uint8_t *restrict dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        uint64_t bits;
        double x;
        memcpy(&h, src + i * sizeof(h), sizeof(h));
        x = (double)zarrs_half_to_float(h & 0x7fffu);
        memcpy(&bits, &x, sizeof(bits));
        bits = (h & 0x7fffu) > 0x7c00u ? 0x7ff0000000000000u | (uint64_t)(h & 0x3ffu) << 42 : bits;
        bits |= (uint64_t)(h & 0x8000u) << 48;
        memcpy(dst + i * sizeof(bits), &bits, sizeof(bits));
    }
}

/* As NumPy's astype. */
static void zarrs_convert(int from, int to, const uint8_t *src, uint8_t *dst, size_t n)
{
    if (from == to)
        memcpy(dst, src, n * zarrs_sizes[from]);
    else if (from == ZARRS_FLOAT16 && to == ZARRS_FLOAT64)
        zarrs_halves_to_doubles(src, dst, n);
    else
        zarrs_converts[from][to](src, dst, n);
}

/* ---------------------------------------------------------------- float arithmetic */

enum {
    ZARRS_SCALE, /* (x - a) * b */
    ZARRS_SCALE_ROUND, /* the same as an integer */
    ZARRS_UNSCALE, /* x / b + a */
    ZARRS_QUANTIZE /* x as a multiple of 1 / b */
};

/* R rounds the result of each operation to the precision computed in. */
#define ZARRS_EACH(EXPRESSION)                                                                     \
    for (size_t i = 0; i < n; i++)                                                                 \
        x[i] = EXPRESSION;                                                                         \
    break
#define ZARRS_DEFINE_ARITHMETIC(NAME, F, RINT, R)                                                  \
    ZARRS_CLONES static void zarrs_##NAME##_arithmetic(int op, F *x, size_t n, F a, F b)           \
    {                                                                                              \
        switch (op) {                                                                              \
        case ZARRS_SCALE:                                                                          \
            ZARRS_EACH(R(R(x[i] - a) * b));                                                        \
        case ZARRS_SCALE_ROUND:                                                                    \
            ZARRS_EACH(RINT(R(R(x[i] - a) * b)));                                                  \
        case ZARRS_UNSCALE:                                                                        \
            ZARRS_EACH(R(R(x[i] / b) + a));                                                        \
        default:                                                                                   \
            ZARRS_EACH(R(RINT(R(b * x[i])) / b));                                                  \
        }                                                                                          \
    }
#define ZARRS_EXACT(x) (x)
#define ZARRS_HALF(x) zarrs_half_to_float(zarrs_float_to_half(x))
ZARRS_DEFINE_ARITHMETIC(half, float, rintf, ZARRS_HALF)
ZARRS_DEFINE_ARITHMETIC(float, float, rintf, ZARRS_EXACT)
ZARRS_DEFINE_ARITHMETIC(double, double, rint, ZARRS_EXACT)

/* As NumPy with Python's floats: in the precision of `from`, integers in double precision. */
static void zarrs_arithmetic(int op, int from, int to, double a, double b, const uint8_t *src,
                             uint8_t *dst, size_t n)
{
    int single = from == ZARRS_FLOAT16 || from == ZARRS_FLOAT32;
    int in = single ? ZARRS_FLOAT32 : ZARRS_FLOAT64;
    for (size_t done = 0; done < n; done += ZARRS_BLOCK) {
        size_t m = n - done < ZARRS_BLOCK ? n - done : ZARRS_BLOCK;
        union {
            float single[ZARRS_BLOCK];
            double twice[ZARRS_BLOCK];
        } x;
        zarrs_convert(from, in, src + done * zarrs_sizes[from], (uint8_t *)&x, m);
        if (from == ZARRS_FLOAT16)
            zarrs_half_arithmetic(op, x.single, m, zarrs_half_to_float(zarrs_double_to_half(a)),
                                  zarrs_half_to_float(zarrs_double_to_half(b)));
        else if (single)
            zarrs_float_arithmetic(op, x.single, m, (float)a, (float)b);
        else
            zarrs_double_arithmetic(op, x.twice, m, a, b);
        zarrs_convert(in, to, (const uint8_t *)&x, dst + done * zarrs_sizes[to], m);
    }
}

/* ---------------------------------------------------------------- differences */

/* Of `n` items, each with the one before it, which is in front of src; and in front of dst. Once a
 * sum is not a number it stays that one: which of two comes through is up to the compiler. */
#define ZARRS_NEVER(x) 0
#define ZARRS_DEFINE_DELTA(T, IS_NAN)                                                              \
    ZARRS_CLONES static void zarrs_diff_##T(const uint8_t *restrict src, uint8_t *restrict dst,    \
                                            size_t n)                                              \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            T before, x;                                                                           \
            memcpy(&before, src + i * sizeof(T) - sizeof(T), sizeof(T));                           \
            memcpy(&x, src + i * sizeof(T), sizeof(T));                                            \
            x = (T)(x - before);                                                                   \
            memcpy(dst + i * sizeof(T), &x, sizeof(T));                                            \
        }                                                                                          \
    }                                                                                              \
    static void zarrs_sum_##T(const uint8_t *src, uint8_t *dst, size_t n)                          \
    {                                                                                              \
        T sum, x;                                                                                  \
        size_t i = 0;                                                                              \
        memcpy(&sum, dst - sizeof(T), sizeof(T));                                                  \
        for (; i < n && !IS_NAN(sum); i++) {                                                       \
            memcpy(&x, src + i * sizeof(T), sizeof(T));                                            \
            sum = (T)(sum + x);                                                                    \
            memcpy(dst + i * sizeof(T), &sum, sizeof(T));                                          \
        }                                                                                          \
        sum = (T)(sum + sum); /* a quiet one */                                                    \
        for (; i < n; i++)                                                                         \
            memcpy(dst + i * sizeof(T), &sum, sizeof(T));                                          \
    }
ZARRS_DEFINE_DELTA(uint8_t, ZARRS_NEVER)
ZARRS_DEFINE_DELTA(uint16_t, ZARRS_NEVER)
ZARRS_DEFINE_DELTA(uint32_t, ZARRS_NEVER)
ZARRS_DEFINE_DELTA(uint64_t, ZARRS_NEVER)
ZARRS_DEFINE_DELTA(float, isnan)
ZARRS_DEFINE_DELTA(double, isnan)

#define ZARRS_BY_WIDTH(FN)                                                                         \
    {FN##_uint8_t, FN##_uint16_t, FN##_uint32_t, FN##_uint64_t, FN##_uint8_t, FN##_uint16_t,       \
     FN##_uint32_t, FN##_uint64_t, NULL, FN##_float, FN##_double}
static const zarrs_convert_fn zarrs_diffs[ZARRS_N_TYPES] = ZARRS_BY_WIDTH(zarrs_diff);
static void (*const zarrs_sums[ZARRS_N_TYPES])(const uint8_t *, uint8_t *, size_t) =
    ZARRS_BY_WIDTH(zarrs_sum);

/* Returns 0 if the first item does not fit, which NumPy takes as it is; differences wrap around. */
static int zarrs_delta_encode(int from, int to, const uint8_t *src, uint8_t *dst, size_t n)
{
    uint64_t differences[ZARRS_BLOCK];
    if (n > 0) {
        uint64_t first, stored;
        zarrs_convert(from, to, src, dst, 1);
        zarrs_convert(from, ZARRS_UINT64, src, (uint8_t *)&first, 1);
        zarrs_convert(to, ZARRS_UINT64, dst, (uint8_t *)&stored, 1);
        if (from != to
            && (first != stored
                || (first >> 63 && (from < ZARRS_UINT8) != (to < ZARRS_UINT8))))
            return 0;
    }
    for (size_t done = 1; done < n; done += ZARRS_BLOCK) {
        size_t m = n - done < ZARRS_BLOCK ? n - done : ZARRS_BLOCK;
        const uint8_t *s = src + done * zarrs_sizes[from];
        uint8_t *d = dst + done * zarrs_sizes[to];
        if (from == to) {
            zarrs_diffs[from](s, d, m);
        } else {
            zarrs_diffs[from](s, (uint8_t *)differences, m);
            zarrs_convert(from, to, (const uint8_t *)differences, d, m);
        }
    }
    return 1;
}

static void zarrs_delta_decode(int from, int to, const uint8_t *src, uint8_t *dst, size_t n)
{
    uint64_t differences[ZARRS_BLOCK];
    if (n > 0)
        zarrs_convert(to, from, src, dst, 1);
    for (size_t done = 1; done < n; done += ZARRS_BLOCK) {
        size_t m = n - done < ZARRS_BLOCK ? n - done : ZARRS_BLOCK;
        const uint8_t *s = src + done * zarrs_sizes[to];
        uint8_t *d = dst + done * zarrs_sizes[from];
        if (from != to) {
            zarrs_convert(to, from, s, (uint8_t *)differences, m);
            s = (const uint8_t *)differences;
        }
        zarrs_sums[from](s, d, m);
    }
}

/* ---------------------------------------------------------------- bits and bytes */

/* Rounds significands to nearest even, `drop` bits of them away. */
#define ZARRS_DEFINE_BITROUND(U)                                                                   \
    ZARRS_CLONES static void zarrs_bitround_##U(const uint8_t *restrict src,                       \
                                                uint8_t *restrict dst, size_t n, int drop)         \
    {                                                                                              \
        const U half = (U)(((U)1 << (drop - 1)) - 1), mask = (U)((U)-1 << drop);                   \
        for (size_t i = 0; i < n; i++) {                                                           \
            U x;                                                                                   \
            memcpy(&x, src + i * sizeof(x), sizeof(x));                                            \
            x = (U)((U)(x + (x >> drop & 1) + half) & mask);                                       \
            memcpy(dst + i * sizeof(x), &x, sizeof(x));                                            \
        }                                                                                          \
    }
ZARRS_DEFINE_BITROUND(uint16_t)
ZARRS_DEFINE_BITROUND(uint32_t)
ZARRS_DEFINE_BITROUND(uint64_t)

static void zarrs_bitround(size_t size, int drop, const uint8_t *src, uint8_t *dst, size_t n)
{
    if (drop == 0)
        memcpy(dst, src, n * size);
    else if (size == 2)
        zarrs_bitround_uint16_t(src, dst, n, drop);
    else if (size == 4)
        zarrs_bitround_uint32_t(src, dst, n, drop);
    else
        zarrs_bitround_uint64_t(src, dst, n, drop);
}

#define ZARRS_DEFINE_REVERSE(U, SWAP)                                                              \
    ZARRS_CLONES static void zarrs_reverse_##U(const uint8_t *restrict src, uint8_t *restrict dst, \
                                               size_t n)                                           \
    {                                                                                              \
        for (size_t i = 0; i < n; i++) {                                                           \
            U x;                                                                                   \
            memcpy(&x, src + i * sizeof(x), sizeof(x));                                            \
            x = SWAP(x);                                                                           \
            memcpy(dst + i * sizeof(x), &x, sizeof(x));                                            \
        }                                                                                          \
    }
ZARRS_DEFINE_REVERSE(uint16_t, __builtin_bswap16)
ZARRS_DEFINE_REVERSE(uint32_t, __builtin_bswap32)
ZARRS_DEFINE_REVERSE(uint64_t, __builtin_bswap64)

static void zarrs_reverse(size_t unit, const uint8_t *src, uint8_t *dst, size_t n)
{
    (unit == 2   ? zarrs_reverse_uint16_t
     : unit == 4 ? zarrs_reverse_uint32_t
                 : zarrs_reverse_uint64_t)(src, dst, n);
}

/* Up to eight bytes as a number whose lowest is the first. */
static inline uint64_t zarrs_little_endian(uint64_t x)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    return __builtin_bswap64(x);
#else
    return x;
#endif
}

#define ZARRS_LOWEST_BITS 0x0101010101010101u
#define ZARRS_DIAGONAL 0x8040201008040201u /* the n-th bit of the n-th byte */

/* Eight bytes to as many bits, the first to the highest. The sum sets the highest bit of every byte
 * that is not 0; the product has them side by side at its top. */
static inline uint8_t zarrs_pack8(const uint8_t *src, size_t n)
{
    uint64_t x = 0;
    memcpy(&x, src, n);
    x = zarrs_little_endian(x);
    x |= (x & ZARRS_LOWEST_BITS * 0x7f) + ZARRS_LOWEST_BITS * 0x7f;
    return (uint8_t)((x >> 7 & ZARRS_LOWEST_BITS) * ZARRS_DIAGONAL >> 56);
}

/* The other way. The product has the byte once for every bit, each time one further up. */
static inline void zarrs_unpack8(uint8_t byte, uint8_t *dst, size_t n)
{
    uint64_t x = zarrs_little_endian(byte * ZARRS_DIAGONAL >> 7 & ZARRS_LOWEST_BITS);
    memcpy(dst, &x, n);
}

/* One bit for each of `n` bytes; zeros fill the last byte. */
static void zarrs_pack_bits(const uint8_t *restrict src, uint8_t *restrict dst, size_t n)
{
    for (size_t k = 0; k < n / 8; k++)
        dst[k] = zarrs_pack8(src + 8 * k, 8);
    if (n % 8)
        dst[n / 8] = zarrs_pack8(src + n / 8 * 8, n % 8);
}

/* The first `n` bits of `src` as bytes. */
static void zarrs_unpack_bits(const uint8_t *restrict src, uint8_t *restrict dst, size_t n)
{
    for (size_t k = 0; k < n / 8; k++)
        zarrs_unpack8(src[k], dst + 8 * k, 8);
    if (n % 8)
        zarrs_unpack8(src[n / 8], dst + n / 8 * 8, n % 8);
}

/* The first bytes of all items, then the second bytes, ...: a tile of constant size is turned
 * around in registers, which compilers see only if it is a variable of its own. */
#define ZARRS_TILE 64
#define ZARRS_DEFINE_SHUFFLE(SIZE)                                                                 \
    ZARRS_CLONES static size_t zarrs_shuffle##SIZE(const uint8_t *restrict src,                    \
                                                   uint8_t *restrict dst, size_t n)                \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; n - i >= ZARRS_TILE; i += ZARRS_TILE) {                                             \
            uint8_t tile[SIZE][ZARRS_TILE];                                                        \
            for (int j = 0; j < ZARRS_TILE; j++)                                                   \
                for (int k = 0; k < SIZE; k++)                                                     \
                    tile[k][j] = src[i * SIZE + (size_t)(j * SIZE + k)];                           \
            for (size_t k = 0; k < SIZE; k++)                                                      \
                memcpy(dst + k * n + i, tile[k], ZARRS_TILE);                                      \
        }                                                                                          \
        return i;                                                                                  \
    }                                                                                              \
    ZARRS_CLONES static size_t zarrs_unshuffle##SIZE(const uint8_t *restrict src,                  \
                                                     uint8_t *restrict dst, size_t n)              \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; n - i >= ZARRS_TILE; i += ZARRS_TILE) {                                             \
            uint8_t tile[SIZE][ZARRS_TILE];                                                        \
            for (size_t k = 0; k < SIZE; k++)                                                      \
                memcpy(tile[k], src + k * n + i, ZARRS_TILE);                                      \
            for (int j = 0; j < ZARRS_TILE; j++)                                                   \
                for (int k = 0; k < SIZE; k++)                                                     \
                    dst[i * SIZE + (size_t)(j * SIZE + k)] = tile[k][j];                           \
        }                                                                                          \
        return i;                                                                                  \
    }
ZARRS_DEFINE_SHUFFLE(2)
ZARRS_DEFINE_SHUFFLE(4)
ZARRS_DEFINE_SHUFFLE(8)

/* What tiles leave over, and any other size. */
#define ZARRS_DEFINE_SHUFFLES(NAME, TO, FROM)                                                      \
    static void zarrs_##NAME(size_t size, const uint8_t *src, uint8_t *dst, size_t n)              \
    {                                                                                              \
        size_t first = size == 2   ? zarrs_##NAME##2(src, dst, n)                                  \
                       : size == 4 ? zarrs_##NAME##4(src, dst, n)                                  \
                       : size == 8 ? zarrs_##NAME##8(src, dst, n)                                  \
                                   : 0;                                                            \
        for (size_t end; first < n; first = end) {                                                 \
            end = n - first < ZARRS_TILE ? n : first + ZARRS_TILE;                                 \
            for (size_t k = 0; k < size; k++)                                                      \
                for (size_t i = first; i < end; i++)                                               \
                    dst[TO] = src[FROM];                                                           \
        }                                                                                          \
    }
ZARRS_DEFINE_SHUFFLES(shuffle, k *n + i, i *size + k)
ZARRS_DEFINE_SHUFFLES(unshuffle, i *size + k, k *n + i)

/* ---------------------------------------------------------------- integers that have to fit */

/* These return the number of the first item whose result is not an item, or `n`. */
typedef size_t (*zarrs_scale_fn)(int64_t offset, int64_t scale, const uint8_t *src, uint8_t *dst,
                                 size_t n);

/* Numbers of up to 32 bits. A product that leaves 64 bits comes back far outside of 32. */
#define ZARRS_SCALED(x) ((int64_t)((uint64_t)((x)-offset) * (uint64_t)scale))
/* The remainder moves what has one out of range. */
#define ZARRS_UNSCALED(x) ((x) % scale == 0 ? (x) / scale + offset : INT64_MAX)
#define ZARRS_DEFINE_SCALE_LOOP(NAME, T, RESULT)                                                   \
    ZARRS_CLONES static size_t NAME##_##T(int64_t offset, int64_t scale, const uint8_t *src,       \
                                          uint8_t *dst, size_t n)                                  \
    {                                                                                              \
        for (size_t done = 0, end; done < n; done = end) {                                         \
            uint64_t bad = 0;                                                                      \
            end = n - done < ZARRS_BLOCK ? n : done + ZARRS_BLOCK;                                 \
            for (size_t i = done; i < end; i++) {                                                  \
                T x;                                                                               \
                int64_t y;                                                                         \
                memcpy(&x, src + i * sizeof(x), sizeof(x));                                        \
                y = RESULT(x);                                                                  \
                x = (T)y;                                                                          \
                bad |= (uint64_t)(y ^ x);                                                          \
                memcpy(dst + i * sizeof(x), &x, sizeof(x));                                        \
            }                                                                                      \
            for (size_t i = done; bad && i < end; i++) {                                           \
                T x;                                                                               \
                int64_t y;                                                                         \
                memcpy(&x, src + i * sizeof(x), sizeof(x));                                        \
                y = RESULT(x);                                                                  \
                if (y != (T)y)                                                                     \
                    return i;                                                                      \
            }                                                                                      \
        }                                                                                          \
        return n;                                                                                  \
    }
#define ZARRS_DEFINE_SCALE(T)                                                                      \
    ZARRS_DEFINE_SCALE_LOOP(zarrs_scale, T, ZARRS_SCALED)                                          \
    ZARRS_DEFINE_SCALE_LOOP(zarrs_unscale, T, ZARRS_UNSCALED)
ZARRS_DEFINE_SCALE(int8_t)
ZARRS_DEFINE_SCALE(int16_t)
ZARRS_DEFINE_SCALE(int32_t)
ZARRS_DEFINE_SCALE(uint8_t)
ZARRS_DEFINE_SCALE(uint16_t)
ZARRS_DEFINE_SCALE(uint32_t)

/* The parameters of uint64 are such numbers too. */
static size_t zarrs_scale_uint64_t(int64_t offset, int64_t scale, const uint8_t *src, uint8_t *dst,
                                   size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t x = zarrs_get_UINT64(src + i * sizeof(x));
        if (x < (uint64_t)offset
            || __builtin_mul_overflow(x - (uint64_t)offset, (uint64_t)scale, &x))
            return i;
        memcpy(dst + i * sizeof(x), &x, sizeof(x));
    }
    return n;
}

static size_t zarrs_unscale_uint64_t(int64_t offset, int64_t scale, const uint8_t *src,
                                     uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t x = zarrs_get_UINT64(src + i * sizeof(x));
        if (x % (uint64_t)scale != 0
            || __builtin_add_overflow(x / (uint64_t)scale, (uint64_t)offset, &x))
            return i;
        memcpy(dst + i * sizeof(x), &x, sizeof(x));
    }
    return n;
}

#define ZARRS_BY_INTEGER(FN)                                                                       \
    {FN##_int8_t, FN##_int16_t, FN##_int32_t, NULL, FN##_uint8_t, FN##_uint16_t, FN##_uint32_t,    \
     FN##_uint64_t}
static const zarrs_scale_fn zarrs_scales[] = ZARRS_BY_INTEGER(zarrs_scale);
static const zarrs_scale_fn zarrs_unscales[] = ZARRS_BY_INTEGER(zarrs_unscale);

#endif
