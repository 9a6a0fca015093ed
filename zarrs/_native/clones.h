/* Loops that vectorise better with AVX2: compiled twice, and the loader picks one, once. */
#ifndef ZARRS_CLONES_H
#define ZARRS_CLONES_H

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GLIBC__) && !defined(__clang__) \
    && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ZARRS_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define ZARRS_CLONES
#endif

#endif
