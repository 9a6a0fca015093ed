/* Which files a process writes, syncs, renames and removes, in what order: to be preloaded into it.
 *
 * Every such call that succeeds becomes a line of the file that TRACE_SYNC_LOG names. A sync can be
 * made to fail through `trace_sync_fail`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int countdown; /* syncs until one fails; 0: none does */
static atomic_int failure;

/* The n-th sync from now on fails; 0: none. */
void trace_sync_fail(int n, int error)
{
    failure = error;
    countdown = n;
}

static void log_line(const char *what, const char *path, const char *target)
{
    static atomic_int log = -1;
    char line[9000];
    const char *name = getenv("TRACE_SYNC_LOG");
    int n;
    if (name == NULL)
        return;
    if (log < 0)
        log = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT, 0666);
    n = snprintf(line, sizeof line, "%s\t%s%s%s\n", what, path, target ? "\t" : "",
                 target ? target : "");
    if (syscall(SYS_write, log, line, n) != n)
        abort();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* The name by which a file was opened; of another descriptor nothing that begins with "/". */
static const char *path_of(int fd, char path[4096])
{
    char link[64];
    ssize_t n;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    n = readlink(link, path, 4095);
    path[n < 0 ? 0 : n] = 0;
    return path;
}

static int synced(int fd, int (*next)(int))
{
    char path[4096];
    if (countdown > 0 && atomic_fetch_sub(&countdown, 1) == 1) {
        log_line("failed", path_of(fd, path), NULL);
        errno = failure;
        return -1;
    }
    if (next(fd) < 0)
        return -1;
    log_line("sync", path_of(fd, path), NULL);
    return 0;
}

int fsync(int fd) { return synced(fd, NEXT(fsync)); }

int fdatasync(int fd) { return synced(fd, NEXT(fdatasync)); }

static void changed(int fd)
{
    char path[4096];
    if (path_of(fd, path)[0] == '/')
        log_line("write", path, NULL);
}

ssize_t write(int fd, const void *data, size_t n)
{
    ssize_t result = NEXT(write)(fd, data, n);
    changed(fd);
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset)
{
    ssize_t result = NEXT(pwrite)(fd, data, n, offset);
    changed(fd);
    return result;
}

int ftruncate(int fd, off_t size)
{
    int result = NEXT(ftruncate)(fd, size);
    changed(fd);
    return result;
}

static int opened(int fd, const char *path, int flags)
{
    if (fd >= 0 && (flags & O_CREAT))
        log_line("create", path, NULL);
    return fd;
}

int open(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;
    va_start(rest, flags);
    mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(NEXT(open)(path, flags, mode), path, flags);
}

int open64(const char *path, int flags, ...)
{
    va_list rest;
    mode_t mode;
    va_start(rest, flags);
    mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(NEXT(open64)(path, flags, mode), path, flags);
}

int rename(const char *from, const char *to)
{
    int result = NEXT(rename)(from, to);
    if (result == 0)
        log_line("rename", from, to);
    return result;
}

int unlink(const char *path)
{
    int result = NEXT(unlink)(path);
    if (result == 0)
        log_line("unlink", path, NULL);
    return result;
}

int mkdir(const char *path, mode_t mode)
{
    int result = NEXT(mkdir)(path, mode);
    if (result == 0)
        log_line("mkdir", path, NULL);
    return result;
}
