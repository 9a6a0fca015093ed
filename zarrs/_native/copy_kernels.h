/* Two-dimensional copies of fixed-size items: the innermost work of every gather and scatter.
 *
 * A kernel copies n0 x n1 items from `src` to `dst`, each addressed by one byte stride an axis.
 * Callers guarantee that both sides lie inside memory they own and do not overlap. Addresses need
 * no alignment: items are moved with fixed-size memcpy, which compilers turn into plain moves.
 */
#ifndef ZARRS_COPY_KERNELS_H
#define ZARRS_COPY_KERNELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "clones.h"

static inline uint16_t zarrs_swap_uint16_t(uint16_t x) { return __builtin_bswap16(x); }
static inline uint32_t zarrs_swap_uint32_t(uint32_t x) { return __builtin_bswap32(x); }
static inline uint64_t zarrs_swap_uint64_t(uint64_t x) { return __builtin_bswap64(x); }

typedef void (*zarrs_plane_fn)(const char *src, ptrdiff_t s0, ptrdiff_t s1, char *dst, ptrdiff_t d0,
                               ptrdiff_t d1, ptrdiff_t n0, ptrdiff_t n1);

#define ZARRS_KEEP(T, x) (x)
#define ZARRS_SWAP(T, x) zarrs_swap_##T(x)

/* Items one after another on both sides: the loop that vectorises. */
#define ZARRS_DEFINE_RUN(T, NAME, OP)                                                             \
    ZARRS_CLONES static void NAME##_run(const char *src, char *dst, ptrdiff_t n)                  \
    {                                                                                             \
        for (ptrdiff_t i = 0; i < n; i++) {                                                       \
            T x;                                                                                  \
            memcpy(&x, src + i * (ptrdiff_t)sizeof(T), sizeof(T));                                \
            x = OP(T, x);                                                                         \
            memcpy(dst + i * (ptrdiff_t)sizeof(T), &x, sizeof(T));                                \
        }                                                                                         \
    }

/* Any strides; one row of axis 1 after the other. */
#define ZARRS_DEFINE_PLANE(T, NAME, OP)                                                           \
    static void NAME##_plane(const char *src, ptrdiff_t s0, ptrdiff_t s1, char *dst,              \
                             ptrdiff_t d0, ptrdiff_t d1, ptrdiff_t n0, ptrdiff_t n1)              \
    {                                                                                             \
        for (ptrdiff_t i = 0; i < n0; i++) {                                                      \
            const char *s = src + i * s0;                                                         \
            char *d = dst + i * d0;                                                               \
            for (ptrdiff_t j = 0; j < n1; j++) {                                                  \
                T x;                                                                              \
                memcpy(&x, s + j * s1, sizeof(T));                                                \
                x = OP(T, x);                                                                     \
                memcpy(d + j * d1, &x, sizeof(T));                                                \
            }                                                                                     \
        }                                                                                         \
    }

/* Axis 1 is contiguous in `src`, axis 0 in `dst`. A tile is collected on the stack, so each cache
 * line of either side is touched once: power-of-two strides, the usual case for chunks, would
 * otherwise evict lines before they are used up. */
#define ZARRS_DEFINE_TRANSPOSE(T, NAME, OP, TILE)                                                 \
    ZARRS_CLONES static void NAME##_transpose(const char *src, ptrdiff_t s0, char *dst,           \
                                              ptrdiff_t d1, ptrdiff_t n0, ptrdiff_t n1)           \
    {                                                                                             \
        T tile[TILE][TILE];                                                                       \
        for (ptrdiff_t i0 = 0; i0 < n0; i0 += TILE) {                                             \
            ptrdiff_t ni = n0 - i0 < TILE ? n0 - i0 : TILE;                                       \
            for (ptrdiff_t j0 = 0; j0 < n1; j0 += TILE) {                                         \
                ptrdiff_t nj = n1 - j0 < TILE ? n1 - j0 : TILE;                                   \
                const char *s = src + i0 * s0 + j0 * (ptrdiff_t)sizeof(T);                        \
                char *d = dst + i0 * (ptrdiff_t)sizeof(T) + j0 * d1;                              \
                if (ni == TILE && nj == TILE) {                                                   \
                    for (int i = 0; i < TILE; i++)                                                \
                        memcpy(tile[i], s + i * s0, TILE * sizeof(T));                            \
                    for (int j = 0; j < TILE; j++) {                                              \
                        T row[TILE];                                                              \
                        for (int i = 0; i < TILE; i++)                                            \
                            row[i] = OP(T, tile[i][j]);                                           \
                        memcpy(d + j * d1, row, sizeof(row));                                     \
                    }                                                                             \
                } else {                                                                          \
                    NAME##_plane(s, s0, sizeof(T), d, sizeof(T), d1, ni, nj);                     \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
    }

#define ZARRS_DEFINE(T, NAME, OP, TILE)                                                           \
    ZARRS_DEFINE_RUN(T, NAME, OP)                                                                 \
    ZARRS_DEFINE_PLANE(T, NAME, OP)                                                               \
    ZARRS_DEFINE_TRANSPOSE(T, NAME, OP, TILE)                                                     \
    static void NAME(const char *src, ptrdiff_t s0, ptrdiff_t s1, char *dst, ptrdiff_t d0,        \
                     ptrdiff_t d1, ptrdiff_t n0, ptrdiff_t n1)                                    \
    {                                                                                             \
        if (s1 == (ptrdiff_t)sizeof(T) && d1 == (ptrdiff_t)sizeof(T))                             \
            for (ptrdiff_t i = 0; i < n0; i++)                                                    \
                NAME##_run(src + i * s0, dst + i * d0, n1);                                       \
        else if (s1 == (ptrdiff_t)sizeof(T) && d0 == (ptrdiff_t)sizeof(T))                        \
            NAME##_transpose(src, s0, dst, d1, n0, n1);                                           \
        else if (s0 == (ptrdiff_t)sizeof(T) && d1 == (ptrdiff_t)sizeof(T))                        \
            NAME##_transpose(src, s1, dst, d0, n1, n0);                                           \
        else                                                                                      \
            NAME##_plane(src, s0, s1, dst, d0, d1, n0, n1);                                       \
    }

ZARRS_DEFINE(uint8_t, zarrs_copy1, ZARRS_KEEP, 32)
ZARRS_DEFINE(uint16_t, zarrs_copy2, ZARRS_KEEP, 32)
ZARRS_DEFINE(uint32_t, zarrs_copy4, ZARRS_KEEP, 16)
ZARRS_DEFINE(uint64_t, zarrs_copy8, ZARRS_KEEP, 8)
typedef struct {
    uint64_t low, high;
} zarrs_pair_t;
ZARRS_DEFINE(zarrs_pair_t, zarrs_copy16, ZARRS_KEEP, 4)
ZARRS_DEFINE(uint16_t, zarrs_swap2, ZARRS_SWAP, 32)
ZARRS_DEFINE(uint32_t, zarrs_swap4, ZARRS_SWAP, 16)
ZARRS_DEFINE(uint64_t, zarrs_swap8, ZARRS_SWAP, 8)

/* Items of any other size. */
static inline void zarrs_copy_any(const char *src, ptrdiff_t s0, ptrdiff_t s1, char *dst,
                                  ptrdiff_t d0, ptrdiff_t d1, ptrdiff_t n0, ptrdiff_t n1,
                                  size_t itemsize)
{
    for (ptrdiff_t i = 0; i < n0; i++)
        for (ptrdiff_t j = 0; j < n1; j++)
            memcpy(dst + i * d0 + j * d1, src + i * s0 + j * s1, itemsize);
}

/* Single items, each with an offset of its own on both sides; without `src_at` all come from `src`. */
#define ZARRS_DEFINE_SCATTER(T, NAME, OP)                                                         \
    static void NAME##_scattered(const char *src, const ptrdiff_t *src_at, char *dst,             \
                                 const ptrdiff_t *dst_at, ptrdiff_t n)                            \
    {                                                                                             \
        for (ptrdiff_t i = 0; i < n; i++) {                                                       \
            T x;                                                                                  \
            memcpy(&x, src + (src_at ? src_at[i] : 0), sizeof(T));                                \
            x = OP(T, x);                                                                         \
            memcpy(dst + dst_at[i], &x, sizeof(T));                                               \
        }                                                                                         \
    }

ZARRS_DEFINE_SCATTER(uint8_t, zarrs_copy1, ZARRS_KEEP)
ZARRS_DEFINE_SCATTER(uint16_t, zarrs_copy2, ZARRS_KEEP)
ZARRS_DEFINE_SCATTER(uint32_t, zarrs_copy4, ZARRS_KEEP)
ZARRS_DEFINE_SCATTER(uint64_t, zarrs_copy8, ZARRS_KEEP)
ZARRS_DEFINE_SCATTER(zarrs_pair_t, zarrs_copy16, ZARRS_KEEP)
ZARRS_DEFINE_SCATTER(uint16_t, zarrs_swap2, ZARRS_SWAP)
ZARRS_DEFINE_SCATTER(uint32_t, zarrs_swap4, ZARRS_SWAP)
ZARRS_DEFINE_SCATTER(uint64_t, zarrs_swap8, ZARRS_SWAP)

/* Copies `n` items of one of these sizes, swapped or not; returns 0 for other sizes. */
static inline int zarrs_copy_scattered(const char *src, const ptrdiff_t *src_at, char *dst,
                                       const ptrdiff_t *dst_at, ptrdiff_t n, size_t itemsize,
                                       int swap)
{
    switch (itemsize) {
    case 1:
        zarrs_copy1_scattered(src, src_at, dst, dst_at, n);
        return 1;
    case 2:
        (swap ? zarrs_swap2_scattered : zarrs_copy2_scattered)(src, src_at, dst, dst_at, n);
        return 1;
    case 4:
        (swap ? zarrs_swap4_scattered : zarrs_copy4_scattered)(src, src_at, dst, dst_at, n);
        return 1;
    case 8:
        (swap ? zarrs_swap8_scattered : zarrs_copy8_scattered)(src, src_at, dst, dst_at, n);
        return 1;
    case 16:
        if (swap)
            return 0;
        zarrs_copy16_scattered(src, src_at, dst, dst_at, n);
        return 1;
    default:
        return 0;
    }
}

/* Reverses the bytes of `count` units of `unit` bytes in place. */
static inline void zarrs_reverse_units(char *p, size_t unit, size_t count)
{
    for (size_t k = 0; k < count; k++, p += unit)
        for (size_t a = 0, b = unit - 1; a < b; a++, b--) {
            char t = p[a];
            p[a] = p[b];
            p[b] = t;
        }
}

#endif
