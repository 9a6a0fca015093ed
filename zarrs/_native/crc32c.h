/* CRC-32C (Castagnoli, RFC 3720 appendix B.4): reflected polynomial 0x82f63b78.
 *
 * One hardware instruction consumes 8 bytes but takes three cycles, so three independent streams
 * keep it busy; their checksums are then joined by multiplying with x^(8 * length) modulo the
 * polynomial, through tables made once for the one stream length that is used.
 */
#ifndef ZARRS_CRC32C_H
#define ZARRS_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ZARRS_CRC32C_POLYNOMIAL 0x82f63b78u
#define ZARRS_CRC32C_STREAM 4096 /* bytes of each of the three streams */

static uint32_t zarrs_crc32c_table[8][256];
static uint32_t zarrs_crc32c_shift[4][256];

/* The checksum register after one zero bit. */
static inline uint32_t zarrs_crc32c_zero_bit(uint32_t crc)
{
    return (crc >> 1) ^ (ZARRS_CRC32C_POLYNOMIAL & (0u - (crc & 1u)));
}

/* The product of two polynomials modulo P. */
static inline uint32_t zarrs_crc32c_multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 0x80000000u; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = zarrs_crc32c_zero_bit(b);
    }
    return product;
}

/* The checksum of data in two pieces, from that of each; n bytes are in the second. */
static uint32_t zarrs_crc32c_combine(uint32_t first, uint32_t second, size_t n)
{
    uint32_t power = 0x00800000u; /* x^8, then x^16, x^32, ... */
    for (; n; n >>= 1) {
        if (n & 1)
            first = zarrs_crc32c_multiply(first, power);
        power = zarrs_crc32c_multiply(power, power);
    }
    return first ^ second;
}

/* Called once, when the module is imported. */
static void zarrs_crc32c_init(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int k = 0; k < 8; k++)
            crc = zarrs_crc32c_zero_bit(crc);
        zarrs_crc32c_table[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++) {
            uint32_t crc = zarrs_crc32c_table[k - 1][n];
            zarrs_crc32c_table[k][n] = (crc >> 8) ^ zarrs_crc32c_table[0][crc & 0xff];
        }
    /* The map "append STREAM zero bytes" is linear: it is known from its effect on single bits. */
    uint32_t bit[32];
    for (int b = 0; b < 32; b++) {
        uint32_t crc = 1u << b;
        for (size_t k = 0; k < ZARRS_CRC32C_STREAM; k++)
            crc = (crc >> 8) ^ zarrs_crc32c_table[0][crc & 0xff];
        bit[b] = crc;
    }
    for (int k = 0; k < 4; k++)
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t crc = 0;
            for (int b = 0; b < 8; b++)
                if (n & (1u << b))
                    crc ^= bit[8 * k + b];
            zarrs_crc32c_shift[k][n] = crc;
        }
}

static uint32_t zarrs_crc32c_software(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n >= 8; n -= 8, p += 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16
                              | (uint32_t)p[3] << 24);
        crc = zarrs_crc32c_table[7][low & 0xff] ^ zarrs_crc32c_table[6][(low >> 8) & 0xff]
              ^ zarrs_crc32c_table[5][(low >> 16) & 0xff] ^ zarrs_crc32c_table[4][low >> 24]
              ^ zarrs_crc32c_table[3][p[4]] ^ zarrs_crc32c_table[2][p[5]]
              ^ zarrs_crc32c_table[1][p[6]] ^ zarrs_crc32c_table[0][p[7]];
    }
    for (; n; n--, p++)
        crc = (crc >> 8) ^ zarrs_crc32c_table[0][(crc ^ *p) & 0xff];
    return ~crc;
}

#if (defined(__x86_64__) && defined(__GNUC__))
#define ZARRS_CRC32C_HARDWARE "sse4.2"
#define ZARRS_CRC32C_TARGET __attribute__((target("sse4.2")))
#define ZARRS_CRC32C_8(crc, x) __builtin_ia32_crc32di((crc), (x))
#define ZARRS_CRC32C_1(crc, x) __builtin_ia32_crc32qi((uint32_t)(crc), (x))
static inline int zarrs_crc32c_has_hardware(void) { return __builtin_cpu_supports("sse4.2") != 0; }
#elif defined(__aarch64__) && defined(__GNUC__)
#define ZARRS_CRC32C_HARDWARE "armv8 crc"
#ifdef __clang__
#define ZARRS_CRC32C_TARGET __attribute__((target("crc")))
#define ZARRS_CRC32C_8(crc, x) __builtin_arm_crc32cd((uint32_t)(crc), (x))
#define ZARRS_CRC32C_1(crc, x) __builtin_arm_crc32cb((uint32_t)(crc), (x))
#else
#define ZARRS_CRC32C_TARGET __attribute__((target("+crc")))
#define ZARRS_CRC32C_8(crc, x) __builtin_aarch64_crc32cx((uint32_t)(crc), (x))
#define ZARRS_CRC32C_1(crc, x) __builtin_aarch64_crc32cb((uint32_t)(crc), (x))
#endif
/* Optional in ARMv8.0, and in all that came after it, hence in all of Apple's. */
#ifdef __linux__
#include <asm/hwcap.h>
#include <sys/auxv.h>
static inline int zarrs_crc32c_has_hardware(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}
#else
static inline int zarrs_crc32c_has_hardware(void) { return 1; }
#endif
#endif

#ifdef ZARRS_CRC32C_HARDWARE
static inline uint32_t zarrs_crc32c_append_zeros(uint32_t crc)
{
    return zarrs_crc32c_shift[0][crc & 0xff] ^ zarrs_crc32c_shift[1][(crc >> 8) & 0xff]
           ^ zarrs_crc32c_shift[2][(crc >> 16) & 0xff] ^ zarrs_crc32c_shift[3][crc >> 24];
}

ZARRS_CRC32C_TARGET static uint32_t zarrs_crc32c_hardware(uint32_t crc0, const uint8_t *p, size_t n)
{
    uint64_t crc = (uint32_t)~crc0;
    while (n >= 3 * ZARRS_CRC32C_STREAM) {
        uint64_t a = crc, b = 0, c = 0;
        for (size_t k = 0; k < ZARRS_CRC32C_STREAM; k += 8) {
            uint64_t x, y, z;
            memcpy(&x, p + k, 8);
            memcpy(&y, p + k + ZARRS_CRC32C_STREAM, 8);
            memcpy(&z, p + k + 2 * ZARRS_CRC32C_STREAM, 8);
            a = ZARRS_CRC32C_8(a, x);
            b = ZARRS_CRC32C_8(b, y);
            c = ZARRS_CRC32C_8(c, z);
        }
        crc = zarrs_crc32c_append_zeros((uint32_t)a) ^ (uint32_t)b;
        crc = zarrs_crc32c_append_zeros((uint32_t)crc) ^ (uint32_t)c;
        p += 3 * ZARRS_CRC32C_STREAM;
        n -= 3 * ZARRS_CRC32C_STREAM;
    }
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t x;
        memcpy(&x, p, 8);
        crc = ZARRS_CRC32C_8(crc, x);
    }
    for (; n; n--, p++)
        crc = ZARRS_CRC32C_1(crc, *p);
    return ~(uint32_t)crc;
}
#else
#define ZARRS_CRC32C_HARDWARE "software"
static inline int zarrs_crc32c_has_hardware(void) { return 0; }
#define zarrs_crc32c_hardware zarrs_crc32c_software
#endif

#endif
