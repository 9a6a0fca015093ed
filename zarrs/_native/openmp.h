/* The one door to OpenMP; a build without it runs everything on the calling thread. */
#ifndef ZARRS_OPENMP_H
#define ZARRS_OPENMP_H

#ifdef _OPENMP
#include <omp.h>
#include <stddef.h>

/* LLVM's runtime has this function. Whatever the compiler, it may be what runs: conda can put it in
   the place of GNU's. */
#ifdef __clang__
#define ZARRS_IS_LLVM 1
#else
extern int kmp_get_blocktime(void) __attribute__((weak));
#define ZARRS_IS_LLVM (kmp_get_blocktime != NULL)
#endif

/* Ends the calling thread's team, which otherwise waits for its next loop. LLVM's runtime crashes in
   the next loop of a thread that did so while other threads have teams; see _openmp.py for what it
   is told instead. */
static inline void zarrs_release_team(void)
{
#if _OPENMP >= 201811 || (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9)
    if (!ZARRS_IS_LLVM) {
        omp_pause_resource_all(omp_pause_hard);
    }
#endif
}

/* Makes the runtime read its environment now. */
static inline int zarrs_start_openmp(void) { return omp_get_max_threads(); }
#else
static inline void zarrs_release_team(void) {}
static inline int zarrs_start_openmp(void) { return 1; }
#endif

#endif
