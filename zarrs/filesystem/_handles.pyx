"""Files that stay open from call to call, for readers that come back to the same few big ones.

One table for the process, by path. An unused handle waits in a list, in the order of its
last use, and is closed when room is needed. A handle whose file was replaced leaves the table at
once; its last user closes it.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strcmp, strlen
from posix.unistd cimport close

from zarrs._clib.pthread cimport (
    pthread_atfork,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    Py_ssize_t zarrs_add(Py_ssize_t* p, Py_ssize_t x)
    Py_ssize_t zarrs_look(const Py_ssize_t* p)

cdef enum:
    N_BUCKETS = 1024


cdef struct Handle:
    # The path follows in the same memory.
    Handle* next  # in its bucket, or among those to be closed
    Handle* newer  # in the list of the unused; NULL while in use
    Handle* older
    uint64_t hash
    int fd
    int users
    bint direct
    bint dropped  # from the table, where it is not found any more

cdef pthread_mutex_t _lock
cdef Handle* _buckets[N_BUCKETS]
cdef Handle _unused  # both ends of the list: the newest is `_unused.older`
cdef Py_ssize_t _count  # of handles in the table; changes under the lock
cdef Py_ssize_t _generation  # of the files: counts invalidations


pthread_mutex_init(&_lock, NULL)
_unused.newer = &_unused
_unused.older = &_unused


cdef inline uint64_t _hash(const char* path) noexcept nogil:
    cdef uint64_t h = 14695981039346656037u
    while path[0]:
        h = (h ^ <uint8_t> path[0]) * 1099511628211u
        path += 1
    return h ^ (h >> 32)


# Under the lock ------------------------------------------------------------------------------

cdef Handle* _find(const char* path, uint64_t hash, bint direct) noexcept nogil:
    cdef Handle* handle = _buckets[hash % N_BUCKETS]
    while handle != NULL and (
        handle.hash != hash or handle.direct != direct or strcmp(<char*> (handle + 1), path) != 0
    ):
        handle = handle.next
    return handle


cdef void _take_from_unused(Handle* handle) noexcept nogil:
    handle.newer.older = handle.older
    handle.older.newer = handle.newer
    handle.newer = NULL
    handle.older = NULL


cdef void _add_to_unused(Handle* handle) noexcept nogil:
    handle.newer = &_unused
    handle.older = _unused.older
    handle.newer.older = handle
    handle.older.newer = handle


cdef void _drop(Handle* handle, Handle** closing) noexcept nogil:
    # Takes a handle from the table and, if it is unused, adds it to those to be closed.
    cdef Handle** link = &_buckets[handle.hash % N_BUCKETS]
    while link[0] != handle:
        link = &link[0].next
    link[0] = handle.next
    handle.dropped = True
    zarrs_add(&_count, -1)
    if handle.users == 0:
        _take_from_unused(handle)
        handle.next = closing[0]
        closing[0] = handle


# Without the lock ----------------------------------------------------------------------------

cdef void _close_all(Handle* closing) noexcept nogil:
    cdef Handle* handle
    while closing != NULL:
        handle = closing
        closing = handle.next
        close(handle.fd)
        free(handle)


cdef Py_ssize_t handle_generation() noexcept nogil:
    """What to read before a file is opened that is to be inserted."""
    return zarrs_look(&_generation)


cdef void* acquire_handle(const char* path, bint direct, int* fd) noexcept nogil:
    """Begin to use an open file and set ``fd``; NULL: it is not there."""
    cdef uint64_t hash = _hash(path)
    cdef Handle* handle
    pthread_mutex_lock(&_lock)
    handle = _find(path, hash, direct)
    if handle != NULL:
        if handle.users == 0:
            _take_from_unused(handle)
        handle.users += 1
        fd[0] = handle.fd
    pthread_mutex_unlock(&_lock)
    return handle


cdef void* insert_handle(
    const char* path, bint direct, int fd, int capacity, Py_ssize_t generation,
) noexcept nogil:
    """Hand over a file that was opened after ``generation`` was read, and begin to use it.

    Unused handles are closed until there are no more than ``capacity``. NULL: the caller keeps the
    file, as there is no room or no memory, another thread was first, or some file has been
    replaced since ``generation`` was read and this may be the old one.
    """
    cdef size_t n = strlen(path) + 1
    cdef Handle* handle = <Handle*> malloc(sizeof(Handle) + n)
    cdef Handle* closing = NULL
    cdef Handle** bucket
    if handle == NULL:
        return NULL
    memset(handle, 0, sizeof(Handle))
    memcpy(handle + 1, path, n)
    handle.hash = _hash(path)
    handle.fd = fd
    handle.users = 1
    handle.direct = direct
    bucket = &_buckets[handle.hash % N_BUCKETS]
    pthread_mutex_lock(&_lock)
    while zarrs_load(&_count) >= capacity and _unused.newer != &_unused:
        _drop(_unused.newer, &closing)
    # It counts before the generation is looked at, and invalidate_handle() does these the other
    # way round: one of the two sees the other.
    if (
        zarrs_add(&_count, 1) <= capacity
        and zarrs_look(&_generation) == generation
        and _find(path, handle.hash, direct) == NULL
    ):
        handle.next = bucket[0]
        bucket[0] = handle
    else:
        zarrs_add(&_count, -1)
        free(handle)
        handle = NULL
    pthread_mutex_unlock(&_lock)
    _close_all(closing)
    return handle


cdef void release_handle(void* used) noexcept nogil:
    """End the use of what was acquired or inserted."""
    cdef Handle* handle = <Handle*> used
    cdef Handle* closing = NULL
    pthread_mutex_lock(&_lock)
    handle.users -= 1
    if handle.users == 0:
        if handle.dropped:
            handle.next = NULL
            closing = handle
        else:
            _add_to_unused(handle)
    pthread_mutex_unlock(&_lock)
    _close_all(closing)


cdef void invalidate_handle(const char* path) noexcept nogil:
    """Forget a file that has just been replaced or removed."""
    cdef Handle* handle
    cdef Handle* closing = NULL
    cdef uint64_t hash
    cdef int direct
    zarrs_add(&_generation, 1)
    if zarrs_look(&_count) == 0:
        return
    hash = _hash(path)
    pthread_mutex_lock(&_lock)
    for direct in range(2):
        handle = _find(path, hash, direct)
        if handle != NULL:
            _drop(handle, &closing)
    pthread_mutex_unlock(&_lock)
    _close_all(closing)


def clear_handles() -> None:
    """Close all files that are open and not in use."""
    cdef Handle* closing = NULL
    with nogil:
        pthread_mutex_lock(&_lock)
        while _unused.newer != &_unused:
            _drop(_unused.newer, &closing)
        pthread_mutex_unlock(&_lock)
        _close_all(closing)


# ---------------------------------------------------------------------------------------------
# Forks

cdef void _before_fork() noexcept nogil:
    # No other thread is in the middle of a change.
    pthread_mutex_lock(&_lock)


cdef void _after_fork_in_parent() noexcept nogil:
    pthread_mutex_unlock(&_lock)


cdef void _after_fork_in_child() noexcept nogil:
    # The child goes on with the parent's files: a table of its own, beside files that nobody would
    # ever close, could be too much for the limit of open files. Who used them is not here.
    cdef Handle* handle
    cdef int k
    for k in range(N_BUCKETS):
        handle = _buckets[k]
        while handle != NULL:
            if handle.users > 0:
                handle.users = 0
                _add_to_unused(handle)
            handle = handle.next
    pthread_mutex_unlock(&_lock)


# Not by Python's means: between its hooks another thread could begin to fork, and wait for the lock
# with the GIL that this one needs.
if pthread_atfork(_before_fork, _after_fork_in_parent, _after_fork_in_child) != 0:
    raise MemoryError("no memory for what to do about forks")
