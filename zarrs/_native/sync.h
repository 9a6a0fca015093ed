/* Waiting until the bytes of a file, or the names in a directory, are on the disk. */
#ifndef ZARRS_SYNC_H
#define ZARRS_SYNC_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static inline int zarrs_sync(int fd)
{
    int result;
#ifdef F_FULLFSYNC
    /* macOS' fsync leaves them in the cache of the drive; not every file system knows better. */
    do
        result = fcntl(fd, F_FULLFSYNC);
    while (result < 0 && errno == EINTR);
    if (result == 0 || (errno != ENOTSUP && errno != EINVAL && errno != ENOTTY))
        return result;
#endif
    do
        result = fsync(fd);
    while (result < 0 && errno == EINTR);
    return result;
}

/* Whether a failed sync of a directory means that the file system does not have such a thing. */
static inline int zarrs_cannot_sync(void)
{
    return errno == EINVAL || errno == ENOTSUP || errno == EOPNOTSUPP || errno == ENOSYS;
}

#endif
