/* Files that bypass the page cache. Where there is no O_DIRECT, none does. */
#ifndef ZARRS_DIRECT_H
#define ZARRS_DIRECT_H

#include <fcntl.h>

#ifndef O_DIRECT
#define O_DIRECT 0
#endif

static inline int zarrs_is_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_DIRECT) != 0;
}

/* Many file systems refuse; ask zarrs_is_direct. */
static inline void zarrs_set_direct(int fd, int on)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
}

#endif
