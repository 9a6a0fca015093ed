/* The few atomic operations that threads share. */
#ifndef ZARRS_ATOMICS_H
#define ZARRS_ATOMICS_H

#include <stddef.h>

static inline ptrdiff_t zarrs_load(const ptrdiff_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }

static inline void zarrs_store(ptrdiff_t *p, ptrdiff_t x) { __atomic_store_n(p, x, __ATOMIC_RELAXED); }

/* Subtracts one and returns what is left; orders the caller's work before that of the last one. */
static inline ptrdiff_t zarrs_countdown(ptrdiff_t *p)
{
    return __atomic_sub_fetch(p, 1, __ATOMIC_ACQ_REL);
}

static inline void zarrs_lower(ptrdiff_t *p, ptrdiff_t x)
{
    ptrdiff_t seen = zarrs_load(p);
    while (x < seen
           && !__atomic_compare_exchange_n(p, &seen, x, 1, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

/* All threads see these two in one order: of two threads that each add to a number of their own and
   then look at the other's, at least one sees what the other added. */
static inline ptrdiff_t zarrs_add(ptrdiff_t *p, ptrdiff_t x)
{
    return __atomic_add_fetch(p, x, __ATOMIC_SEQ_CST);
}

static inline ptrdiff_t zarrs_look(const ptrdiff_t *p)
{
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static inline ptrdiff_t zarrs_exchange(ptrdiff_t *p, ptrdiff_t x)
{
    return __atomic_exchange_n(p, x, __ATOMIC_RELAXED);
}

#endif
