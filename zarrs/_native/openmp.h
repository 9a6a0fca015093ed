/* The one door to OpenMP; a build without it runs everything on the calling thread. */
#ifndef ZARRS_OPENMP_H
#define ZARRS_OPENMP_H

#ifdef _OPENMP
#include <omp.h>

/* Ends the calling thread's team, which otherwise waits for its next loop. */
static inline void zarrs_release_team(void)
{
#if _OPENMP >= 201811 || (defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9)
    omp_pause_resource_all(omp_pause_hard);
#endif
}

/* Makes the runtime read its environment now. */
static inline int zarrs_start_openmp(void) { return omp_get_max_threads(); }
#else
static inline void zarrs_release_team(void) {}
static inline int zarrs_start_openmp(void) { return 1; }
#endif

#endif
