/* Memory for what is kept: big blocks in huge pages, where the system has them. */
#ifndef ZARRS_MEMORY_H
#define ZARRS_MEMORY_H

#include <stdlib.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

/* From so many bytes on, the page faults of small pages cost more than filling the block. */
#define ZARRS_HUGE_PAGE ((size_t)2 * 1024 * 1024)

/* To be given back with free(); NULL if there is no memory. */
static inline void *zarrs_allocate(size_t n)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    void *block = NULL;
    if (n >= ZARRS_HUGE_PAGE) {
        if (posix_memalign(&block, ZARRS_HUGE_PAGE, n) != 0)
            return NULL;
        madvise(block, n / ZARRS_HUGE_PAGE * ZARRS_HUGE_PAGE, MADV_HUGEPAGE);
        return block;
    }
#endif
    return malloc(n ? n : 1);
}

#endif
