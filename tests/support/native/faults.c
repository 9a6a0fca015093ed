/* Failing system calls and allocations, on demand: to be preloaded into a process under test.
 *
 * The process arms the faults itself, through the functions at the end of this file. Calls on files
 * are counted, and fail, below one directory; allocations only where the caller is in one of some
 * modules, so that Python and NumPy go on as always. Every counted allocation that succeeds is also
 * remembered until it is freed: what is alive shows leaks.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* In the order of the names in tests/support/faults.py. */
enum call {
    CALL_ALLOCATE,
    CALL_OPEN,
    CALL_READ,
    CALL_WRITE,
    CALL_SYNC,
    CALL_CLOSE,
    CALL_RENAME,
    CALL_MKDIR,
    CALL_UNLINK,
    CALL_TRUNCATE,
    CALL_STAT,
    CALL_LOCK,
    N_CALLS
};

enum { MAX_FDS = 4096, MAX_RANGES = 256, N_BUCKETS = 8192, BUCKET = 64, ARENA = 65536 };

typedef struct {
    atomic_long count; /* calls so far */
    atomic_long first; /* the first one to fail, from 1; 0: none */
    atomic_long last;  /* and the last */
    atomic_int error;
    atomic_int half; /* the call before the first transfers half of its bytes */
} plan;

static plan plans[N_CALLS];
static char directory[4096];
static size_t directory_size;
static atomic_char watched[MAX_FDS];

/* ------------------------------------------------------------------------------ what is next */

typedef enum { GO_ON, FAIL, HALF } verdict;

static verdict next(enum call call)
{
    plan *p = &plans[call];
    long number = atomic_fetch_add(&p->count, 1) + 1;
    long first = atomic_load(&p->first);
    if (first == 0)
        return GO_ON;
    if (number >= first && number <= atomic_load(&p->last)) {
        errno = atomic_load(&p->error);
        return FAIL;
    }
    return atomic_load(&p->half) && number == first - 1 ? HALF : GO_ON;
}

static int is_below(const char *path)
{
    return directory_size && path && strncmp(path, directory, directory_size) == 0 &&
           (path[directory_size] == '/' || path[directory_size] == 0);
}

static int is_watched(int fd)
{
    return fd >= 0 && fd < MAX_FDS && atomic_load(&watched[fd]);
}

static int watch(int fd)
{
    if (fd >= 0 && fd < MAX_FDS)
        atomic_store(&watched[fd], 1);
    return fd;
}

/* ------------------------------------------------------------------------------- allocations */

static struct {
    uintptr_t low, high;
} ranges[MAX_RANGES];
static int n_ranges;
static _Atomic(void *) alive[N_BUCKETS][BUCKET];
static atomic_long n_alive;
static atomic_long n_lost; /* not remembered, as their bucket was full */

static _Alignas(16) char arena[ARENA]; /* for what dlsym allocates before it has found malloc */
static atomic_size_t arena_used;

static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static void *(*real_memalign)(size_t, size_t);
static int (*real_posix_memalign)(void **, size_t, size_t);
static void (*real_free)(void *);
static atomic_int resolving;

static void find_allocator(void)
{
    if (atomic_exchange(&resolving, 1))
        return;
    *(void **)&real_free = dlsym(RTLD_NEXT, "free");
    *(void **)&real_aligned_alloc = dlsym(RTLD_NEXT, "aligned_alloc");
    *(void **)&real_memalign = dlsym(RTLD_NEXT, "memalign");
    *(void **)&real_posix_memalign = dlsym(RTLD_NEXT, "posix_memalign");
    *(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
    *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
    *(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
}

static void *from_arena(size_t n)
{
    size_t at = atomic_fetch_add(&arena_used, (n + 31) / 16 * 16);
    if (at + n + 16 > ARENA)
        abort();
    memcpy(arena + at, &n, sizeof n); /* for realloc */
    return arena + at + 16;
}

static int in_arena(const void *p)
{
    return (const char *)p >= arena && (const char *)p < arena + ARENA;
}

static int is_counted(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    for (int k = 0; k < n_ranges; k++)
        if (at >= ranges[k].low && at < ranges[k].high)
            return 1;
    return 0;
}

static _Atomic(void *) *bucket_of(const void *p)
{
    uint64_t x = (uint64_t)(uintptr_t)p * 0x9E3779B97F4A7C15u;
    return alive[x >> 32 & (N_BUCKETS - 1)];
}

static void *remember(void *p)
{
    _Atomic(void *) *bucket = bucket_of(p);
    if (p == NULL)
        return p;
    for (int k = 0; k < BUCKET; k++) {
        void *nothing = NULL;
        if (atomic_compare_exchange_strong(&bucket[k], &nothing, p)) {
            atomic_fetch_add(&n_alive, 1);
            return p;
        }
    }
    atomic_fetch_add(&n_lost, 1);
    return p;
}

static int forget(void *p)
{
    _Atomic(void *) *bucket = bucket_of(p);
    if (p == NULL || atomic_load(&n_alive) == 0)
        return 0;
    for (int k = 0; k < BUCKET; k++) {
        void *same = p;
        if (atomic_compare_exchange_strong(&bucket[k], &same, NULL)) {
            atomic_fetch_sub(&n_alive, 1);
            return 1;
        }
    }
    return 0;
}

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

void *malloc(size_t n)
{
    if (!real_malloc) {
        find_allocator();
        if (!real_malloc)
            return from_arena(n);
    }
    if (!is_counted(CALLER))
        return real_malloc(n);
    return next(CALL_ALLOCATE) == FAIL ? NULL : remember(real_malloc(n));
}

void *calloc(size_t n, size_t size)
{
    if (!real_malloc) {
        find_allocator();
        if (!real_malloc)
            return from_arena(n * size); /* static memory is zero */
    }
    if (!is_counted(CALLER))
        return real_calloc(n, size);
    return next(CALL_ALLOCATE) == FAIL ? NULL : remember(real_calloc(n, size));
}

void *realloc(void *old, size_t n)
{
    int was_alive;
    void *p;
    if (!real_malloc)
        find_allocator();
    if (in_arena(old)) {
        size_t size;
        memcpy(&size, (char *)old - 16, sizeof size);
        p = malloc(n);
        return p ? memcpy(p, old, size < n ? size : n) : p;
    }
    if (is_counted(CALLER) && next(CALL_ALLOCATE) == FAIL)
        return NULL;
    was_alive = forget(old); /* before another thread can be given the same address */
    p = real_realloc(old, n);
    if (p == NULL && n > 0)
        return was_alive ? remember(old), p : p;
    return was_alive || is_counted(CALLER) ? remember(p) : p;
}

int posix_memalign(void **p, size_t alignment, size_t n)
{
    int result;
    if (!is_counted(CALLER))
        return real_posix_memalign(p, alignment, n);
    if (next(CALL_ALLOCATE) == FAIL)
        return ENOMEM;
    result = real_posix_memalign(p, alignment, n);
    if (result == 0)
        remember(*p);
    return result;
}

void *aligned_alloc(size_t alignment, size_t n)
{
    if (!is_counted(CALLER))
        return real_aligned_alloc(alignment, n);
    return next(CALL_ALLOCATE) == FAIL ? NULL : remember(real_aligned_alloc(alignment, n));
}

void *memalign(size_t alignment, size_t n)
{
    if (!is_counted(CALLER))
        return real_memalign(alignment, n);
    return next(CALL_ALLOCATE) == FAIL ? NULL : remember(real_memalign(alignment, n));
}

void free(void *p)
{
    if (in_arena(p))
        return;
    forget(p);
    if (real_free)
        real_free(p);
}

/* ------------------------------------------------------------------------------------- files */

#define REAL(name)                                                                                \
    static __typeof__(name) *real;                                                                \
    if (!real)                                                                                    \
        *(void **)&real = dlsym(RTLD_NEXT, #name)

#define OPEN_CALL(name)                                                                           \
    int name(const char *path, int flags, ...)                                                    \
    {                                                                                             \
        va_list rest;                                                                             \
        mode_t mode;                                                                              \
        REAL(name);                                                                               \
        va_start(rest, flags);                                                                    \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                          \
        va_end(rest);                                                                             \
        if (!is_below(path))                                                                      \
            return real(path, flags, mode);                                                       \
        return next(CALL_OPEN) == FAIL ? -1 : watch(real(path, flags, mode));                     \
    }

#define OPENAT_CALL(name)                                                                         \
    int name(int at, const char *path, int flags, ...)                                            \
    {                                                                                             \
        va_list rest;                                                                             \
        mode_t mode;                                                                              \
        REAL(name);                                                                               \
        va_start(rest, flags);                                                                    \
        mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                          \
        va_end(rest);                                                                             \
        if (!is_below(path))                                                                      \
            return real(at, path, flags, mode);                                                   \
        return next(CALL_OPEN) == FAIL ? -1 : watch(real(at, path, flags, mode));                 \
    }

#define TRANSFER_CALL(name, call, memory)                                                         \
    ssize_t name(int fd, memory data, size_t n)                                                   \
    {                                                                                             \
        verdict what = is_watched(fd) ? next(call) : GO_ON;                                       \
        REAL(name);                                                                               \
        return what == FAIL ? -1 : real(fd, data, what == HALF ? (n + 1) / 2 : n);                \
    }

#define TRANSFER_AT_CALL(name, call, memory, offset)                                              \
    ssize_t name(int fd, memory data, size_t n, offset at)                                        \
    {                                                                                             \
        verdict what = is_watched(fd) ? next(call) : GO_ON;                                       \
        REAL(name);                                                                               \
        return what == FAIL ? -1 : real(fd, data, what == HALF ? (n + 1) / 2 : n, at);            \
    }

#define FD_CALL(name, call, result, arguments, values)                                            \
    result name arguments                                                                         \
    {                                                                                             \
        REAL(name);                                                                               \
        return is_watched(fd) && next(call) == FAIL ? -1 : real values;                           \
    }

#define PATH_CALL(name, call, arguments, values)                                                  \
    int name arguments                                                                            \
    {                                                                                             \
        REAL(name);                                                                               \
        return is_below(path) && next(call) == FAIL ? -1 : real values;                           \
    }

OPEN_CALL(open)
OPEN_CALL(open64)
OPENAT_CALL(openat)
OPENAT_CALL(openat64)
TRANSFER_CALL(read, CALL_READ, void *)
TRANSFER_CALL(write, CALL_WRITE, const void *)
TRANSFER_AT_CALL(pread, CALL_READ, void *, off_t)
TRANSFER_AT_CALL(pread64, CALL_READ, void *, off64_t)
TRANSFER_AT_CALL(pwrite, CALL_WRITE, const void *, off_t)
TRANSFER_AT_CALL(pwrite64, CALL_WRITE, const void *, off64_t)
FD_CALL(fsync, CALL_SYNC, int, (int fd), (fd))
FD_CALL(fdatasync, CALL_SYNC, int, (int fd), (fd))
FD_CALL(ftruncate, CALL_TRUNCATE, int, (int fd, off_t n), (fd, n))
FD_CALL(ftruncate64, CALL_TRUNCATE, int, (int fd, off64_t n), (fd, n))
FD_CALL(fstat, CALL_STAT, int, (int fd, struct stat *info), (fd, info))
FD_CALL(fstat64, CALL_STAT, int, (int fd, struct stat64 *info), (fd, info))
PATH_CALL(rename, CALL_RENAME, (const char *path, const char *to), (path, to))
PATH_CALL(mkdir, CALL_MKDIR, (const char *path, mode_t mode), (path, mode))
PATH_CALL(unlink, CALL_UNLINK, (const char *path), (path))

#ifdef __GLIBC__ /* what fstat was a macro for, before 2.33 */
int __fxstat(int version, int fd, struct stat *info);
int __fxstat64(int version, int fd, struct stat64 *info);
FD_CALL(__fxstat, CALL_STAT, int, (int version, int fd, struct stat *info), (version, fd, info))
FD_CALL(__fxstat64, CALL_STAT, int, (int version, int fd, struct stat64 *info),
        (version, fd, info))
#endif

#define LOCK_CALL(name)                                                                            \
    int name(int fd, int command, ...)                                                             \
    {                                                                                              \
        va_list list;                                                                              \
        void *argument;                                                                            \
        static int (*real)(int, int, ...);                                                         \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        va_start(list, command);                                                                   \
        argument = va_arg(list, void *); /* which may be a number, or nothing */                   \
        va_end(list);                                                                              \
        if (command == F_OFD_SETLK && is_watched(fd) && next(CALL_LOCK) == FAIL)                   \
            return -1;                                                                             \
        return real(fd, command, argument);                                                        \
    }

LOCK_CALL(fcntl)
LOCK_CALL(fcntl64)

int close(int fd)
{
    verdict what = is_watched(fd) ? next(CALL_CLOSE) : GO_ON;
    int error = errno;
    int result;
    REAL(close);
    if (fd >= 0 && fd < MAX_FDS)
        atomic_store(&watched[fd], 0);
    result = real(fd); /* Linux closes the file whatever the answer is */
    if (what != FAIL)
        return result;
    errno = error;
    return -1;
}

/* ------------------------------------------------------------------- for the process under test */

/* The directory below which calls on files are counted. */
void faults_watch(const char *path)
{
    directory_size = strlen(path);
    memcpy(directory, path, directory_size + 1);
}

static int add_range(struct dl_phdr_info *info, size_t size, void *part)
{
    (void)size;
    if (!strstr(info->dlpi_name, part))
        return 0;
    for (int k = 0; k < info->dlpi_phnum && n_ranges < MAX_RANGES; k++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[k];
        if (header->p_type == PT_LOAD && header->p_flags & PF_X) {
            ranges[n_ranges].low = info->dlpi_addr + header->p_vaddr;
            ranges[n_ranges].high = ranges[n_ranges].low + header->p_memsz;
            n_ranges++;
        }
    }
    return 0;
}

/* Count the allocations of all loaded modules with `part` in their path; return how many there are
 * now in all. */
int faults_count_allocations_of(char *part)
{
    dl_iterate_phdr(add_range, part);
    return n_ranges;
}

/* From now on, let the calls from the `first` to the `last` fail; before that, with `half`, one
 * transfer only half of its bytes. */
void faults_arm(int call, long first, long last, int error, int half)
{
    plan *p = &plans[call];
    atomic_store(&p->first, 0);
    atomic_store(&p->last, last);
    atomic_store(&p->error, error);
    atomic_store(&p->half, half);
    atomic_store(&p->count, 0);
    atomic_store(&p->first, first);
}

/* Fail nothing any more; go on counting. */
void faults_disarm(void)
{
    for (int call = 0; call < N_CALLS; call++)
        atomic_store(&plans[call].first, 0);
}

/* How many calls there were since one of their kind was armed. */
long faults_count(int call) { return atomic_load(&plans[call].count); }

/* How many counted allocations have not been freed; -1: too many to know. */
long faults_alive(void) { return atomic_load(&n_lost) ? -1 : atomic_load(&n_alive); }
