"""New files take their places while others are being made.

Who replaces a file often waits for the disk: ext4 sends the blocks of a new file there before it
takes the place of another one, and with ``fsync`` every file does. So as soon as commits have
turned out to block, threads that do nothing else commit what the threads of the loop have made,
which go on with the next chunk. A file waits here with its bytes in the page cache, so that it
takes no memory; small ones wait to be written as well, for that blocks, too, as long as others are
replaced.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from zarrs._clib.pthread cimport (
    pthread_cond_broadcast,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_signal,
    pthread_cond_wait,
    pthread_create,
    pthread_join,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
    pthread_t,
)
from zarrs._core cimport OK, OVERTAKEN, THE_FILE, Failure, Input, Status, Tasks, WriteOptions
from zarrs.filesystem._files cimport (
    NewFile,
    abandon_file,
    close_input,
    commit_file,
    write_file,
)
from zarrs.runtime._failures cimport is_cancelled, record_failure


cdef extern from "_native/clocks.h" nogil:
    Py_ssize_t zarrs_waited()

cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    Py_ssize_t zarrs_add(Py_ssize_t* p, Py_ssize_t x)

cdef enum:
    SMALL = 64 * 1024  # bytes of a file that are copied, rather than written by who has them
    ENOUGH = 2  # more commits that waited than ones that did not

cdef Py_ssize_t _handed_over = 0


def handed_over() -> int:
    """Return how many files of this process threads of their own have committed."""
    return zarrs_load(&_handed_over)


cdef void begin_commits(
    Commits* commits, Tasks* tasks, const WriteOptions* options,
) noexcept nogil:
    """Expect commits of tasks; ``end_commits`` ends them."""
    memset(commits, 0, sizeof(Commits))
    commits.tasks = tasks
    commits.options = options
    if options.waiting > 0:
        pthread_mutex_init(&commits.lock, NULL)
        pthread_cond_init(&commits.changed, NULL)


cdef void _end_ready(Commits* commits, Ready* ready) noexcept nogil:
    cdef Tasks* tasks = commits.tasks
    cdef Py_ssize_t i = ready.task
    cdef Failure failure
    cdef Status status = OK
    memset(&failure, 0, sizeof(Failure))
    failure.stage = THE_FILE
    failure.inner = -1
    if is_cancelled(tasks, i):
        abandon_file(&ready.file)
    else:
        if ready.data != NULL:
            status = write_file(tasks.items[i].path, &tasks.files, ready.data, ready.n,
                                ready.nonce, &ready.file, &failure)
        if status == OK:
            status = commit_file(&ready.file, tasks.items[i].path,
                                 &ready.old if ready.merged else NULL, &failure)
    free(ready.data)
    if ready.closes_old:
        close_input(&ready.old)
    if status == OVERTAKEN:
        tasks.items[i].overtaken = True
        zarrs_add(&commits.n_overtaken, 1)
    elif status != OK:
        failure.status = status
        record_failure(tasks, i, &failure)


cdef void* _commit_what_is_ready(void* context) noexcept nogil:
    # Until there will be nothing more.
    cdef Commits* commits = <Commits*> context
    cdef Ready ready
    pthread_mutex_lock(&commits.lock)
    while True:
        while commits.n == 0 and not commits.ended:
            pthread_cond_wait(&commits.changed, &commits.lock)
        if commits.n == 0:
            break
        ready = commits.ready[commits.first]
        commits.first = (commits.first + 1) % commits.options.waiting
        commits.n -= 1
        pthread_mutex_unlock(&commits.lock)
        _end_ready(commits, &ready)
        pthread_mutex_lock(&commits.lock)
    pthread_mutex_unlock(&commits.lock)
    return NULL


cdef bint _start_threads(Commits* commits) noexcept nogil:
    # As many as there can be, unless that was tried before; returns whether there are any.
    cdef int most = commits.options.waiting
    if commits.began:
        return commits.n_threads > 0
    commits.began = True
    commits.ready = <Ready*> calloc(most, sizeof(Ready))
    commits.threads = <pthread_t*> calloc(most, sizeof(pthread_t))
    if commits.ready == NULL or commits.threads == NULL:
        return False
    while commits.n_threads < most and pthread_create(
        &commits.threads[commits.n_threads], NULL, _commit_what_is_ready, commits
    ) == 0:
        commits.n_threads += 1
    return commits.n_threads > 0


cdef bint _is_handing_over(const Commits* commits) noexcept nogil:
    return (
        commits.options.waiting > 0 and not commits.ended
        and zarrs_load(&commits.n_slow) >= ENOUGH
    )


cdef void _note_wait(Commits* commits, Py_ssize_t microseconds) noexcept nogil:
    # Now and then a thread waits for other reasons; when it is clear that it does for files, that
    # is so for all that follow.
    if _is_handing_over(commits):
        return
    if microseconds > commits.options.patience:
        zarrs_add(&commits.n_slow, 1)
    elif zarrs_load(&commits.n_slow) > 0:
        zarrs_add(&commits.n_slow, -1)


cdef bint _hand_over(
    Commits* commits, Ready* ready, Input* old, bint closes_old,
) noexcept nogil:
    # Returns whether there was room; then nothing is left of `old` that is to be closed.
    cdef int most = commits.options.waiting
    cdef bint has_room
    if old != NULL:
        ready.merged = True
        ready.old = old[0]
        ready.closes_old = closes_old
    pthread_mutex_lock(&commits.lock)
    has_room = _start_threads(commits) and commits.n < most
    if has_room:
        commits.ready[(commits.first + commits.n) % most] = ready[0]
        commits.n += 1
        pthread_cond_signal(&commits.changed)
    pthread_mutex_unlock(&commits.lock)
    if has_room:
        zarrs_add(&_handed_over, 1)
        if old != NULL and closes_old:
            old.fd = -1
            old.handle = NULL
    return has_room


cdef Status commit(
    Commits* commits, Py_ssize_t i, NewFile* file, Input* old, bint closes_old, Failure* failure,
) noexcept nogil:
    """Commit the new file of a task, or have it committed before ``end_commits`` returns.

    ``old`` is what was merged, NULL if nothing was; unless this ``closes_old``, it has to stay open
    until then. Where a commit fails later, the task is told; if it is that another writer was
    quicker, it is ``overtaken``.
    """
    cdef Ready ready
    cdef Py_ssize_t waited
    cdef Status status
    if _is_handing_over(commits):
        memset(&ready, 0, sizeof(Ready))
        ready.task = i
        ready.file = file[0]
        if _hand_over(commits, &ready, old, closes_old):
            memset(file, 0, sizeof(NewFile))
            file.fd = -1
            return OK
    waited = zarrs_waited()
    status = commit_file(file, commits.tasks.items[i].path, old, failure)
    if old != NULL and closes_old:  # which gives back the space of a file that has been replaced
        close_input(old)
    _note_wait(commits, zarrs_waited() - waited)
    return status


cdef Status write_and_commit(
    Commits* commits, Py_ssize_t i, const uint8_t* data, size_t n, uint64_t nonce, Input* old,
    bint closes_old, Failure* failure,
) noexcept nogil:
    """Make the new file of a task, too, as ``write_file`` does; ``data`` are left to the caller."""
    cdef Ready ready
    cdef NewFile file
    cdef Status status
    if n <= SMALL and _is_handing_over(commits):
        memset(&ready, 0, sizeof(Ready))
        ready.task = i
        ready.file.fd = -1
        ready.n = n
        ready.nonce = nonce
        ready.data = <uint8_t*> malloc(max(n, <size_t> 1))
        if ready.data != NULL:
            memcpy(ready.data, data, n)
            if _hand_over(commits, &ready, old, closes_old):
                return OK
            free(ready.data)
    status = write_file(commits.tasks.items[i].path, &commits.tasks.files, data, n, nonce, &file,
                        failure)
    return commit(commits, i, &file, old, closes_old, failure) if status == OK else status


cdef void end_commits(Commits* commits) noexcept nogil:
    """Wait until everything is committed, and help with it; what comes later is not handed over."""
    cdef int k
    if commits.options.waiting == 0:
        return
    pthread_mutex_lock(&commits.lock)
    commits.ended = True
    pthread_cond_broadcast(&commits.changed)
    pthread_mutex_unlock(&commits.lock)
    _commit_what_is_ready(commits)
    for k in range(commits.n_threads):
        pthread_join(commits.threads[k], NULL)
    free(commits.threads)
    free(commits.ready)
    pthread_cond_destroy(&commits.changed)
    pthread_mutex_destroy(&commits.lock)
