/* Memory for libraries that do not look whether there was any.
 *
 * C-Blosc 1 writes into scratch that it did not get; C-Blosc2 into a context of zstd, and it loses
 * memory where it gets the first of two pieces only. So what they are going to ask for is got before
 * they are called. The archive that is linked into this module finds the posix_memalign and malloc
 * below, which hand over what was prepared; the library frees it as any other memory.
 *
 * A shared library, and the linker of macOS, do not look here: there all is as the libraries have
 * it, and what was prepared is not used.
 */
#ifndef ZARRS_PREPARED_H
#define ZARRS_PREPARED_H

#include <stddef.h>

#ifdef __linux__
#include <errno.h>
#include <stdlib.h>

enum { ZARRS_ALIGNMENT = 64 };

/* What is prepared is a list, in its own memory. */
typedef struct zarrs_block {
    struct zarrs_block *next;
    size_t size;
} zarrs_block;

static __thread zarrs_block *zarrs_blocks;

static void *zarrs_allocate(size_t alignment, size_t n)
{
    return aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
}

static void *zarrs_take(size_t alignment, size_t n)
{
    zarrs_block **best = NULL;
    zarrs_block *block;
    for (zarrs_block **at = &zarrs_blocks; *at; at = &(*at)->next)
        if ((*at)->size >= n && (!best || (*at)->size < (*best)->size))
            best = at;
    if (!best || alignment > ZARRS_ALIGNMENT)
        return zarrs_allocate(alignment, n);
    block = *best;
    *best = block->next;
    return block;
}

__attribute__((visibility("hidden"))) int posix_memalign(void **p, size_t alignment, size_t n)
{
    *p = zarrs_take(alignment, n);
    return *p ? 0 : ENOMEM;
}

#ifdef ZARRS_PREPARED_MALLOC
__attribute__((visibility("hidden"))) void *malloc(size_t n)
{
    return zarrs_take(_Alignof(max_align_t), n);
}
#endif

/* Gets memory for one request of at most `n` bytes of this thread; returns whether there was any. */
static int zarrs_prepare(size_t n)
{
    zarrs_block *block = zarrs_allocate(ZARRS_ALIGNMENT, n);
    if (!block)
        return 0;
    block->size = n;
    block->next = zarrs_blocks;
    zarrs_blocks = block;
    return 1;
}

/* Frees what was not asked for; returns whether all was. */
static int zarrs_discard(void)
{
    int all = zarrs_blocks == NULL;
    while (zarrs_blocks) {
        zarrs_block *next = zarrs_blocks->next;
        free(zarrs_blocks);
        zarrs_blocks = next;
    }
    return all;
}
#else
static int zarrs_prepare(size_t n)
{
    (void)n;
    return 1;
}
static int zarrs_discard(void) { return 1; }
#endif

#endif
