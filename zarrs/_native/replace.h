/* Helps rename() to do the slow parts of replacing a file outside of the directory's lock, under
 * which threads that write to one directory wait for each other. */
#ifndef ZARRS_REPLACE_H
#define ZARRS_REPLACE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>

/* Returns a descriptor that keeps the old file's pages and blocks from being freed inside rename():
 * they are freed when it is closed. Negative if there is no old file. */
static inline int zarrs_hold(const char *path)
{
#ifdef O_PATH
    return open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
#else
    return open(path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
#endif
}

/* Starts to write a new file's pages to the disk. ext4 does so inside rename() when a file takes
 * the place of another, lest a power cut leave an empty one. */
static inline void zarrs_start_writeback(int fd)
{
#ifdef SYNC_FILE_RANGE_WRITE
    (void)!sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
#endif
}

#endif
