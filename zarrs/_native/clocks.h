/* How long a thread has waited. */
#ifndef ZARRS_CLOCKS_H
#define ZARRS_CLOCKS_H

#include <stddef.h>
#include <time.h>

static inline ptrdiff_t zarrs_microseconds(clockid_t clock)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        return 0;
    return (ptrdiff_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Microseconds, from any moment on, in which the calling thread did not run. */
static inline ptrdiff_t zarrs_waited(void)
{
    return zarrs_microseconds(CLOCK_MONOTONIC) - zarrs_microseconds(CLOCK_THREAD_CPUTIME_ID);
}

#endif
