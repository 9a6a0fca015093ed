/* Whether bytes are UTF-8 (RFC 3629): no overlong forms, no surrogates, nothing past U+10FFFF. */
#ifndef ZARRS_UTF8_H
#define ZARRS_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline int zarrs_is_utf8(const uint8_t *p, size_t n)
{
    const uint8_t *end = p + n;
    while (p < end) {
        uint64_t eight;
        if (end - p >= 8) { /* most text is ASCII */
            memcpy(&eight, p, 8);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                p += 8;
                continue;
            }
        }
        uint8_t first = *p++;
        if (first < 0x80)
            continue;
        /* How many bytes follow, and what the next one may be. */
        int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (first < 0xC2 || first > 0xF4 || end - p < more || *p < low || *p > high)
            return 0;
        for (p++; more > 1; more--, p++)
            if ((*p & 0xC0) != 0x80)
                return 0;
    }
    return 1;
}

#endif
