/* Two files that change names in one step. Not every system, and not every file system, can do it. */
#ifndef ZARRS_EXCHANGE_H
#define ZARRS_EXCHANGE_H

#include <errno.h>
#ifdef __linux__
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

static inline int zarrs_exchange_names(const char *one, const char *other)
{
#if defined(__linux__) && defined(SYS_renameat2)
    /* Older C libraries do not have the function; 2 is RENAME_EXCHANGE. */
    return (int)syscall(SYS_renameat2, AT_FDCWD, one, AT_FDCWD, other, 2u);
#else
    (void)one;
    (void)other;
    errno = ENOSYS;
    return -1;
#endif
}

#endif
