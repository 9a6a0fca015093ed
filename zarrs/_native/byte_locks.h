/* Locks of single bytes of a file that belong to an open file description: threads with files of
 * their own exclude each other, too, and the system takes the locks away when the last process that
 * has the file open ends, whatever ends it. Not every system has them. */
#ifndef ZARRS_BYTE_LOCKS_H
#define ZARRS_BYTE_LOCKS_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* -1 and errno, which is EAGAIN or EACCES if another one has the lock. Length 0: to the end. */
static inline int zarrs_set_lock(int fd, int locked, long long start, long long length)
{
#ifdef F_OFD_SETLK
    struct flock lock;
    int result;
    memset(&lock, 0, sizeof lock); /* the number of the process must be 0 */
    lock.l_type = locked ? F_WRLCK : F_UNLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = (off_t)start;
    lock.l_len = (off_t)length;
    do
        result = fcntl(fd, F_OFD_SETLK, &lock);
    while (result < 0 && errno == EINTR);
    return result;
#else
    (void)fd, (void)locked, (void)start, (void)length;
    errno = ENOTSUP;
    return -1;
#endif
}

#endif
