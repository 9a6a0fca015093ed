/* With which instructions the Blosc libraries shuffle here. They do not tell, but choose the widest
   that they were built with and this processor has; what they were built with is told by the
   functions that are linked in. Of a shared library nothing is known, as it hides these.

   C-Blosc2 3.3 has a bit shuffle with AVX-512, which it does not come to: it asks for the state of
   MPX with that of AVX-512, and Linux has had no MPX since 5.6. */
#ifndef ZARRS_SHUFFLES_H
#define ZARRS_SHUFFLES_H

#include <stddef.h>

#ifdef __ELF__
#define ZARRS_LINKED_IN(function) \
    extern void function(void) __attribute__((weak)); \
    static inline int zarrs_has_##function(void) { return &function != NULL; }
#else
#define ZARRS_LINKED_IN(function) \
    static inline int zarrs_has_##function(void) { return 0; }
#endif

ZARRS_LINKED_IN(blosc_internal_shuffle_sse2)
ZARRS_LINKED_IN(blosc_internal_shuffle_avx2)
ZARRS_LINKED_IN(shuffle_sse2)
ZARRS_LINKED_IN(shuffle_avx2)
ZARRS_LINKED_IN(shuffle_neon)

/* Where the compiler cannot ask the processor, it is one that has them: NEON is part of arm64. */
#if defined(__x86_64__) || defined(__i386__)
#define ZARRS_PROCESSOR_HAS(feature) __builtin_cpu_supports(feature)
#else
#define ZARRS_PROCESSOR_HAS(feature) 0
#endif

static inline const char *zarrs_blosc_shuffles(void)
{
    if (zarrs_has_blosc_internal_shuffle_avx2() && ZARRS_PROCESSOR_HAS("avx2"))
        return "avx2";
    return zarrs_has_blosc_internal_shuffle_sse2() ? "sse2" : NULL;
}

static inline const char *zarrs_blosc2_shuffles(void)
{
    if (zarrs_has_shuffle_neon())
        return "neon";
    if (zarrs_has_shuffle_avx2() && ZARRS_PROCESSOR_HAS("avx2"))
        return "avx2";
    return zarrs_has_shuffle_sse2() ? "sse2" : NULL;
}

#endif
