"""Directories on the disk: what makes the names of new chunks, and deletions, durable.

The bytes of a file are synced before it takes its name (``commit_file``). The name is durable when
its directory is, and that one's name when the directory above is. Who made a directory may not
have synced it: another process that is still at it, one that was killed, or zarr itself, which
makes the array's. So all directories up to the store's root are synced, each once, when all chunks
of a call are in place.
"""

from libc.errno cimport ENOENT, ENOTDIR, errno
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset, strlen
from posix.fcntl cimport O_RDONLY, open
from posix.unistd cimport close

from zarrs._core cimport (
    MISSING,
    NOT_SYNCED,
    OK,
    THE_FILE,
    Failure,
    Status,
    Task,
    Tasks,
    task_number,
)
from zarrs.runtime._failures cimport record_failure


cdef extern from "<fcntl.h>" nogil:
    const int O_CLOEXEC
    const int O_DIRECTORY

cdef extern from "_native/atomics.h" nogil:
    void zarrs_store(Py_ssize_t* p, Py_ssize_t x)
    Py_ssize_t zarrs_exchange(Py_ssize_t* p, Py_ssize_t x)

cdef extern from "_native/sync.h" nogil:
    int zarrs_sync(int fd)
    bint zarrs_cannot_sync()

cdef Py_ssize_t _refused = 0


def take_sync_refusal() -> bool:
    """Return whether syncing of a directory was refused since the last question."""
    return zarrs_exchange(&_refused, 0) != 0


cdef Status _sync_open(int fd, Failure* failure) noexcept nogil:
    if zarrs_sync(fd) == 0:
        return OK
    if zarrs_cannot_sync():
        zarrs_store(&_refused, 1)
        return OK
    failure.code = errno
    return NOT_SYNCED


cdef Status _sync_directory(const char* path, size_t n, Failure* failure) noexcept nogil:
    # The directory that the first n characters name; 0: the root of all.
    cdef char* name = <char*> malloc(n + 2)
    cdef Status status = OK
    cdef int fd = -1
    if name != NULL:
        memcpy(name, path, max(n, <size_t> 1))
        name[max(n, <size_t> 1)] = 0
        fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        free(name)
    if fd >= 0:
        status = _sync_open(fd, failure)
        close(fd)
    elif errno != ENOENT and errno != ENOTDIR:  # what is gone holds nothing to be kept
        failure.code = errno
        status = NOT_SYNCED
    return status


cdef size_t _shared(const char* a, const char* b) noexcept nogil:
    # How many characters two names begin with in common.
    cdef size_t n = 0
    while a[n] != 0 and a[n] == b[n]:
        n += 1
    return n


cdef void sync_directories(Tasks* tasks) noexcept nogil:
    """Sync the directories above the chunks of a call that wrote.

    The chunks of a call come in order: those of one directory follow each other.
    """
    cdef const char* previous = b""
    cdef Py_ssize_t i, k, n, first
    cdef Failure failure
    cdef Task* task
    for k in range(tasks.n):
        i = task_number(tasks, k)
        task = &tasks.items[i]
        if task.empty or task.path == NULL:
            continue
        memset(&failure, 0, sizeof(Failure))
        failure.inner = -1
        failure.stage = THE_FILE
        first = max(tasks.files.top[0], <Py_ssize_t> _shared(previous, task.path))
        previous = task.path
        for n in range(<Py_ssize_t> strlen(task.path) - 1, first - 1, -1):
            if task.path[n] != c"/":
                continue
            failure.found += 1  # the level above the chunk
            failure.status = _sync_directory(task.path, n, &failure)
            if failure.status != OK:
                if task.failure.status <= MISSING:
                    record_failure(tasks, i, &failure)
                break
