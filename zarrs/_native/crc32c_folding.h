/* CRC-32C of long data by folding: 256 bytes are carried over the next 256 with multiplications that
 * have no carries, of four numbers at a time (AVX-512 with VPCLMULQDQ).
 *
 * A block of 128 bits is a polynomial L * x^64 + H, whose lower 64 bits are L, with the highest power of
 * x in the lowest bit. D bits later it is worth L * (x^(D + 64) mod P) + H * (x^D mod P), as far as the
 * checksum goes. A product of two such numbers comes out multiplied by x, so the factors have one
 * power less. (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", Intel, 2009.)
 */
#ifndef ZARRS_CRC32C_FOLDING_H
#define ZARRS_CRC32C_FOLDING_H

#include <stddef.h>
#include <stdint.h>

#include "crc32c.h"

#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 8))
#include <immintrin.h>

#define ZARRS_CRC32C_FOLDING_TARGET __attribute__((target("avx512f,pclmul,vpclmulqdq,sse4.2")))
#define ZARRS_CRC32C_FOLDED 256 /* bytes under way */

/* The factors of a block's lower and upper half, for the three distances. */
static uint64_t zarrs_crc32c_over_2048[2], zarrs_crc32c_over_512[2], zarrs_crc32c_over_128[2];

/* x^n mod P, as an operand of a multiplication. */
static inline uint64_t zarrs_crc32c_power(int n)
{
    uint32_t power = 0x80000000u;
    while (n--)
        power = zarrs_crc32c_zero_bit(power);
    return (uint64_t)power << 32;
}

static inline void zarrs_crc32c_make_factors(uint64_t factors[2], int distance)
{
    factors[0] = zarrs_crc32c_power(distance + 64 - 1);
    factors[1] = zarrs_crc32c_power(distance - 1);
}

/* Called once, when the module is imported. */
static void zarrs_crc32c_folding_init(void)
{
    zarrs_crc32c_make_factors(zarrs_crc32c_over_2048, 2048);
    zarrs_crc32c_make_factors(zarrs_crc32c_over_512, 512);
    zarrs_crc32c_make_factors(zarrs_crc32c_over_128, 128);
}

static inline int zarrs_crc32c_has_folding(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("pclmul")
           && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("sse4.2");
}

ZARRS_CRC32C_FOLDING_TARGET static inline __m512i zarrs_crc32c_factors(const uint64_t factors[2])
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)factors));
}

ZARRS_CRC32C_FOLDING_TARGET static inline __m512i zarrs_crc32c_fold(
    __m512i blocks, __m512i factors, __m512i next)
{
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(blocks, factors, 0x00),
                                     _mm512_clmulepi64_epi128(blocks, factors, 0x11),
                                     next, 0x96 /* all three added */);
}

ZARRS_CRC32C_FOLDING_TARGET static inline __m128i zarrs_crc32c_fold_one(
    __m128i block, __m128i factors, __m128i next)
{
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(block, factors, 0x00),
                                       _mm_clmulepi64_si128(block, factors, 0x11)),
                         next);
}

ZARRS_CRC32C_FOLDING_TARGET static uint32_t zarrs_crc32c_folding(
    uint32_t crc, const uint8_t *p, size_t n)
{
    if (n < 2 * ZARRS_CRC32C_FOLDED)
        return zarrs_crc32c_hardware(crc, p, n);
    /* The checksum of what came before is added to the first four bytes. */
    __m512i a = _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_maskz_set1_epi32(1, (int)~crc));
    __m512i b = _mm512_loadu_si512(p + 64);
    __m512i c = _mm512_loadu_si512(p + 128);
    __m512i d = _mm512_loadu_si512(p + 192);
    __m512i factors = zarrs_crc32c_factors(zarrs_crc32c_over_2048);
    for (p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
        a = zarrs_crc32c_fold(a, factors, _mm512_loadu_si512(p));
        b = zarrs_crc32c_fold(b, factors, _mm512_loadu_si512(p + 64));
        c = zarrs_crc32c_fold(c, factors, _mm512_loadu_si512(p + 128));
        d = zarrs_crc32c_fold(d, factors, _mm512_loadu_si512(p + 192));
    }
    factors = zarrs_crc32c_factors(zarrs_crc32c_over_512);
    a = zarrs_crc32c_fold(a, factors, b);
    a = zarrs_crc32c_fold(a, factors, c);
    a = zarrs_crc32c_fold(a, factors, d);
    const __m128i last = _mm_loadu_si128((const __m128i *)zarrs_crc32c_over_128);
    __m128i block = _mm512_castsi512_si128(a);
    block = zarrs_crc32c_fold_one(block, last, _mm512_extracti32x4_epi32(a, 1));
    block = zarrs_crc32c_fold_one(block, last, _mm512_extracti32x4_epi32(a, 2));
    block = zarrs_crc32c_fold_one(block, last, _mm512_extracti32x4_epi32(a, 3));
    /* What is left is worth 16 bytes, with no checksum before them. */
    uint64_t rest = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(block));
    rest = _mm_crc32_u64(rest, (uint64_t)_mm_extract_epi64(block, 1));
    return zarrs_crc32c_hardware(~(uint32_t)rest, p, n);
}
#else
static void zarrs_crc32c_folding_init(void) {}
static inline int zarrs_crc32c_has_folding(void) { return 0; }
#define zarrs_crc32c_folding zarrs_crc32c_hardware
#endif

#endif
