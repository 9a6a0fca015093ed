/* Conversions by value: rounded as asked for, errors for what does not fit, single values mapped.
 *
 * Numbers are converted block by block with the plain loops of filters.h where these do the right
 * thing for every item of a block. The others are taken apart and converted one after the other.
 */
#ifndef ZARRS_CAST_VALUE_H
#define ZARRS_CAST_VALUE_H

#include <float.h>
#include <stdbool.h>

#include "filters.h"

enum { ZARRS_NEAREST_EVEN, ZARRS_TOWARDS_ZERO, ZARRS_UP, ZARRS_DOWN, ZARRS_NEAREST_AWAY };
enum { ZARRS_ERROR, ZARRS_CLAMP, ZARRS_WRAP };

typedef struct {
    int source;
    int target;
    int rounding;
    int out_of_range;
    const uint8_t *map; /* pairs of eight bytes each: an item (a float as a double), its result */
    size_t n_map;
} zarrs_cast;

static inline bool zarrs_is_float(int type) { return type >= ZARRS_FLOAT16; }

static const int64_t zarrs_lowest[] = {INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN, 0, 0, 0, 0};
static const uint64_t zarrs_highest[] = {INT8_MAX,  INT16_MAX,  INT32_MAX,  INT64_MAX,
                                         UINT8_MAX, UINT16_MAX, UINT32_MAX, UINT64_MAX};

/* Of floats: bits of the significand, and the exponents of the smallest normal and largest. */
static const struct {
    int precision, lowest, highest;
} zarrs_floats[] = {{11, -14, 15}, {24, -126, 127}, {53, -1022, 1023}};

/* ---------------------------------------------------------------- one item */

/* A finite number: magnitude * 2^exponent, and its sign. */
typedef struct {
    uint64_t magnitude;
    int exponent;
    bool negative;
} zarrs_number;

static zarrs_number zarrs_number_of_integer(int type, const uint8_t *item)
{
    zarrs_number x = {0, 0, false};
    zarrs_convert(type, ZARRS_UINT64, item, (uint8_t *)&x.magnitude, 1);
    x.negative = type < ZARRS_UINT8 && x.magnitude >> 63;
    if (x.negative)
        x.magnitude = 0 - x.magnitude;
    return x;
}

static zarrs_number zarrs_number_of_double(double value)
{
    zarrs_number x;
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    x.negative = bits >> 63;
    x.exponent = (int)(bits >> 52 & 0x7ff);
    x.magnitude = bits & 0xfffffffffffffu;
    if (x.exponent > 0)
        x.magnitude |= (uint64_t)1 << 52;
    x.exponent = (x.exponent > 0 ? x.exponent : 1) - 1075;
    return x;
}

/* The exponent of the highest bit; there has to be one. */
static int zarrs_top(zarrs_number x) { return x.exponent + 63 - __builtin_clzll(x.magnitude); }

/* To a multiple of 2^exponent. */
static zarrs_number zarrs_round(zarrs_number x, int exponent, int rounding)
{
    int drop = exponent - x.exponent;
    uint64_t rest, half;
    bool up;
    if (drop <= 0)
        return x;
    rest = drop < 64 ? x.magnitude & (((uint64_t)1 << drop) - 1) : x.magnitude;
    half = drop <= 64 ? (uint64_t)1 << (drop - 1) : UINT64_MAX;
    x.magnitude = drop < 64 ? x.magnitude >> drop : 0;
    x.exponent = exponent;
    switch (rounding) {
    case ZARRS_NEAREST_EVEN:
        up = rest > half || (rest == half && (x.magnitude & 1));
        break;
    case ZARRS_NEAREST_AWAY:
        up = rest >= half;
        break;
    default:
        up = rest > 0 && rounding == (x.negative ? ZARRS_DOWN : ZARRS_UP);
    }
    x.magnitude += up;
    return x;
}

static bool zarrs_store_integer(const zarrs_cast *cast, zarrs_number x, uint8_t *item)
{
    bool huge;
    uint64_t value, limit = zarrs_highest[cast->target];
    x = zarrs_round(x, 0, cast->rounding);
    huge = x.exponent >= 64 || (x.exponent > 0 && x.magnitude >> (64 - x.exponent));
    value = x.exponent >= 64 ? 0 : x.magnitude << x.exponent;
    if (x.negative)
        limit = 0 - (uint64_t)zarrs_lowest[cast->target];
    if (x.magnitude != 0 && (huge || value > limit)) {
        if (cast->out_of_range == ZARRS_ERROR)
            return false;
        if (cast->out_of_range == ZARRS_CLAMP)
            value = limit;
    }
    if (x.negative)
        value = 0 - value;
    zarrs_convert(ZARRS_UINT64, cast->target, (const uint8_t *)&value, item, 1);
    return true;
}

/* Numbers do not wrap around into floats: too big is an error then, too. */
static bool zarrs_store_float(const zarrs_cast *cast, zarrs_number x, uint8_t *item)
{
    double value = 0;
    int steps[] = {ZARRS_FLOAT32, cast->target};
    /* The way from double to half precision is by way of single precision, and rounds twice. */
    for (int k = !(cast->source == ZARRS_FLOAT64 && cast->target == ZARRS_FLOAT16); k < 2; k++) {
        int lowest = zarrs_floats[steps[k] - ZARRS_FLOAT16].lowest;
        int top = x.magnitude ? zarrs_top(x) : lowest;
        top = top > lowest ? top : lowest;
        x = zarrs_round(x, top + 1 - zarrs_floats[steps[k] - ZARRS_FLOAT16].precision,
                        cast->rounding);
    }
    if (x.magnitude && zarrs_top(x) > zarrs_floats[cast->target - ZARRS_FLOAT16].highest) {
        if (cast->out_of_range != ZARRS_CLAMP)
            return false;
        value = (double)INFINITY;
    } else {
        value = ldexp((double)x.magnitude, x.exponent);
    }
    value = x.negative ? -value : value;
    zarrs_convert(ZARRS_FLOAT64, cast->target, (const uint8_t *)&value, item, 1);
    return true;
}

/* Returns 0 if there is no result. */
static bool zarrs_cast_item(const zarrs_cast *cast, const uint8_t *src, uint8_t *dst)
{
    double value = 0;
    if (zarrs_is_float(cast->source))
        zarrs_convert(cast->source, ZARRS_FLOAT64, src, (uint8_t *)&value, 1);
    if (!isfinite(value)) {
        if (!zarrs_is_float(cast->target))
            return false;
        value += value; /* NaNs become quiet ones */
        zarrs_convert(ZARRS_FLOAT64, cast->target, (const uint8_t *)&value, dst, 1);
        return true;
    }
    return (zarrs_is_float(cast->target) ? zarrs_store_float : zarrs_store_integer)(
        cast, zarrs_is_float(cast->source) ? zarrs_number_of_double(value)
                                         : zarrs_number_of_integer(cast->source, src),
        dst);
}

/* ---------------------------------------------------------------- a block */

/* Half away from zero: the number below 0.5, or else what is just below a half would reach 1. */
static inline double zarrs_round_away(double x)
{
    return trunc(x + copysign(0x1.fffffffffffffp-2, x));
}

/* Whether all are finite and, when rounded and perhaps clamped, in the range. */
ZARRS_CLONES static bool zarrs_round_block(double *x, size_t n, int rounding, bool clamp,
                                           double lowest, double highest)
{
    bool fit = true;
#define ZARRS_ROUND_EACH(FN)                                                                       \
    for (size_t i = 0; i < n; i++)                                                                 \
        x[i] = FN(x[i]);                                                                           \
    break
    switch (rounding) {
    case ZARRS_NEAREST_EVEN:
        ZARRS_ROUND_EACH(rint);
    case ZARRS_TOWARDS_ZERO:
        ZARRS_ROUND_EACH(trunc);
    case ZARRS_UP:
        ZARRS_ROUND_EACH(ceil);
    case ZARRS_DOWN:
        ZARRS_ROUND_EACH(floor);
    default:
        ZARRS_ROUND_EACH(zarrs_round_away);
    }
    for (size_t i = 0; clamp && i < n; i++) {
        double y = x[i];
        fit &= fabs(y) <= DBL_MAX;
        y = y < lowest ? lowest : y;
        x[i] = y > highest ? highest : y;
    }
    for (size_t i = 0; i < n; i++)
        fit &= x[i] >= lowest && x[i] <= highest;
    return fit;
}

/* Whether all are in the range, whose ends are such numbers. */
#define ZARRS_DEFINE_FIT(NAME, T, V)                                                               \
    ZARRS_CLONES static bool zarrs_fit_##NAME(const uint8_t *src, size_t n, T lowest, T highest)   \
    {                                                                                              \
        T low = highest, high = lowest;                                                            \
        for (size_t i = 0; i < n; i++) {                                                           \
            T x = zarrs_get_##NAME(src + i * sizeof(x));                                           \
            low = x < low ? x : low;                                                               \
            high = x > high ? x : high;                                                            \
        }                                                                                          \
        return low >= lowest && high <= highest;                                                   \
    }
ZARRS_INTEGERS(ZARRS_DEFINE_FIT)

static bool zarrs_integers_fit(const zarrs_cast *cast, const uint8_t *src, size_t n)
{
    int from = cast->source, to = cast->target;
    int64_t low = zarrs_lowest[zarrs_lowest[from] > zarrs_lowest[to] ? from : to];
    uint64_t high = zarrs_highest[zarrs_highest[from] < zarrs_highest[to] ? from : to];
    switch (from) {
#define ZARRS_CASE_FIT(NAME, T, V)                                                                 \
    case ZARRS_##NAME:                                                                             \
        return zarrs_fit_##NAME(src, n, (T)low, (T)high);
        ZARRS_INTEGERS(ZARRS_CASE_FIT)
    default:
        return false;
    }
}

/* Whether there is none of these: infinities, or NaNs as well. */
#define ZARRS_DEFINE_NONE(NAME, U, TEST)                                                           \
    ZARRS_CLONES static bool zarrs_no_##NAME(const uint8_t *p, size_t n)                           \
    {                                                                                              \
        U found = 0;                                                                               \
        for (size_t i = 0; i < n; i++) {                                                           \
            U x;                                                                                   \
            memcpy(&x, p + i * sizeof(x), sizeof(x));                                              \
            found |= (U)(TEST);                                                                    \
        }                                                                                          \
        return !found;                                                                             \
    }
ZARRS_DEFINE_NONE(endless_half, uint16_t, (x & 0x7c00u) == 0x7c00u)
ZARRS_DEFINE_NONE(infinite_float, uint32_t, x << 1 == 0xff000000u)

/* Converts up to ZARRS_BLOCK items if the plain loops can; else what is in `dst` is of no use. */
static bool zarrs_cast_block(const zarrs_cast *cast, const uint8_t *src, uint8_t *dst, size_t n)
{
    double values[ZARRS_BLOCK];
    int from = cast->source, to = cast->target;
    if (from == to) {
        zarrs_convert(from, to, src, dst, n);
        return true;
    }
    if (!zarrs_is_float(to)) {
        if (zarrs_is_float(from)) {
            /* The highest of 64 bits are no doubles; those before them are good enough here. */
            bool wide = zarrs_sizes[to] == 8, clamp = cast->out_of_range == ZARRS_CLAMP && !wide;
            double highest = (double)(zarrs_highest[to] & (wide ? ~(uint64_t)0x7ff : UINT64_MAX));
            zarrs_convert(from, ZARRS_FLOAT64, src, (uint8_t *)values, n);
            if (!zarrs_round_block(values, n, cast->rounding, clamp, (double)zarrs_lowest[to],
                                   highest))
                return false;
            src = (const uint8_t *)values;
            from = ZARRS_FLOAT64;
        } else if (cast->out_of_range != ZARRS_WRAP && !zarrs_integers_fit(cast, src, n)) {
            return false;
        }
        zarrs_convert(from, to, src, dst, n);
        return true;
    }
    if (cast->rounding != ZARRS_NEAREST_EVEN
        && !(to == ZARRS_FLOAT64 && from != ZARRS_INT64 && from != ZARRS_UINT64))
        return false;
    if (from == ZARRS_FLOAT64 && to == ZARRS_FLOAT16) {
        zarrs_convert(from, ZARRS_FLOAT32, src, (uint8_t *)values, n);
        src = (const uint8_t *)values;
        from = ZARRS_FLOAT32;
    }
    zarrs_convert(from, to, src, dst, n);
    /* What became infinite may be an error; NaNs of half precision were not made quiet. */
    if (from < ZARRS_FLOAT16)
        return to != ZARRS_FLOAT16 || zarrs_no_endless_half(dst, n);
    if (from == ZARRS_FLOAT16 || to == ZARRS_FLOAT16)
        return zarrs_no_endless_half(from == ZARRS_FLOAT16 ? src : dst, n);
    return to == ZARRS_FLOAT64 || zarrs_no_infinite_float(dst, n);
}

/* ---------------------------------------------------------------- all items */

/* Marks the items that are keys of the map with the first such pair's number, plus 1; of the others
 * and of zeros in place of these `plain` is made. Returns whether there are any. */
static bool zarrs_find_keys(const zarrs_cast *cast, const uint8_t *src, size_t n, uint8_t *marks,
                            uint8_t *plain)
{
    const size_t size = zarrs_sizes[cast->source];
    uint8_t any = 0;
    union {
        double numbers[ZARRS_BLOCK];
        uint64_t integers[ZARRS_BLOCK];
    } x;
    memset(marks, 0, n);
    zarrs_convert(cast->source, zarrs_is_float(cast->source) ? ZARRS_FLOAT64 : ZARRS_UINT64, src,
                  (uint8_t *)&x, n);
    for (size_t k = cast->n_map; k > 0; k--) {
        const uint8_t *pair = cast->map + 16 * (k - 1);
        double number = zarrs_get_FLOAT64(pair);
        uint64_t integer;
        if (!zarrs_is_float(cast->source)) {
            zarrs_convert(cast->source, ZARRS_UINT64, pair, (uint8_t *)&integer, 1);
            for (size_t i = 0; i < n; i++)
                marks[i] = x.integers[i] == integer ? (uint8_t)k : marks[i];
        } else if (isnan(number)) {
            for (size_t i = 0; i < n; i++)
                marks[i] = isnan(x.numbers[i]) ? (uint8_t)k : marks[i];
        } else {
            for (size_t i = 0; i < n; i++)
                marks[i] = x.numbers[i] == number ? (uint8_t)k : marks[i];
        }
    }
    for (size_t i = 0; i < n; i++)
        any |= marks[i];
    if (any) {
        memcpy(plain, src, n * size);
        for (size_t i = 0; i < n; i++)
            if (marks[i])
                memset(plain + i * size, 0, size);
    }
    return any;
}

/* Returns the number of the first item that has no result, or `n`. */
static size_t zarrs_cast_values(const zarrs_cast *cast, const uint8_t *src, uint8_t *dst, size_t n)
{
    const size_t in = zarrs_sizes[cast->source], out = zarrs_sizes[cast->target];
    uint8_t marks[ZARRS_BLOCK], plain[8 * ZARRS_BLOCK];
    for (size_t done = 0, m; done < n; done += m, src += m * in, dst += m * out) {
        m = n - done < ZARRS_BLOCK ? n - done : ZARRS_BLOCK;
        bool mapped = cast->n_map > 0 && zarrs_find_keys(cast, src, m, marks, plain);
        bool whole = zarrs_cast_block(cast, mapped ? plain : src, dst, m);
        if (whole && !mapped)
            continue;
        for (size_t i = 0; i < m; i++) {
            if (mapped && marks[i])
                memcpy(dst + i * out, cast->map + 16 * (marks[i] - 1) + 8, out);
            else if (!whole && !zarrs_cast_item(cast, src + i * in, dst + i * out))
                return done + i;
        }
    }
    return n;
}

#endif
