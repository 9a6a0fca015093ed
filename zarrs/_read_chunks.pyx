"""Reading of all chunks of a call, one after the other or, if they are big, in pieces."""

from cython.parallel cimport prange, threadid

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from zarrs._core cimport (
    MISSING,
    OK,
    Failure,
    Input,
    Region,
    Status,
    Task,
    Tasks,
    Workspace,
    task_number,
)
from zarrs._files cimport close_input, open_input
from zarrs._failures cimport is_cancelled, record_failure
from zarrs._partial cimport Source
from zarrs._pieces cimport WAVE, open_source, read_pieces
from zarrs._read cimport fill_region, read_region
from zarrs._region cimport task_region

cdef enum:
    FEW = 16  # so many chunks are opened before the threads of a team have woken up


cdef Status open_task(
    const Tasks* tasks, const Task* task, Input* source, Failure* failure,
) noexcept nogil:
    """Open what is stored of a chunk."""
    failure.stage = -1
    if task.path != NULL:
        return open_input(task.path, &tasks.files, source, failure)
    memset(source, 0, sizeof(Input))
    source.fd = -1
    source.data = task.stored
    source.size = task.stored_size
    return OK if task.stored != NULL else MISSING


cdef void _read_one(Tasks* tasks, Py_ssize_t i, Workspace* space) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    cdef Failure failure
    cdef Region region
    cdef Input source
    if task.empty or is_cancelled(tasks, i):
        return
    memset(&failure, 0, sizeof(Failure))
    failure.inner = -1
    failure.status = task_region(tasks, task, False, &space.pairs, &region)
    if failure.status == OK:
        failure.status = open_task(tasks, task, &source, &failure)
    if failure.status == OK:
        failure.status = read_region(&source, tasks.chain, &tasks.layout.item, &region, space,
                                     &failure)
        close_input(&source)
    if failure.status == MISSING:
        task.failure.status = MISSING
        failure.status = fill_region(tasks.layout, &region, space, &failure)
    if failure.status > MISSING:
        record_failure(tasks, i, &failure)


cdef void _open_one(Tasks* tasks, Py_ssize_t i, Source* source) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    cdef Failure failure
    memset(source, 0, sizeof(Source))
    if task.empty or is_cancelled(tasks, i):
        return
    memset(&failure, 0, sizeof(Failure))
    failure.inner = -1
    source.task = i
    source.inner = -1
    source.owns_input = True
    task_region(tasks, task, False, NULL, &source.region)  # one box: it cannot fail
    failure.status = open_task(tasks, task, &source.input, &failure)
    if failure.status == MISSING:
        task.failure.status = MISSING
        failure.status = fill_region(tasks.layout, &source.region, NULL, &failure)
    elif failure.status == OK:
        failure.status = open_source(source, tasks, tasks.chain, &failure)
    if failure.status > MISSING:
        record_failure(tasks, i, &failure)


cdef int _read_in_pieces(Tasks* tasks, Workspace** spaces, int threads) except -1:
    # In waves: so many files are open, and so many headers in memory, at the same time.
    cdef Py_ssize_t wave = min(tasks.n, <Py_ssize_t> WAVE)
    cdef Source* sources = <Source*> calloc(wave, sizeof(Source))
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t i, n
    if sources == NULL:
        raise MemoryError("no memory for a read")
    try:
        while first < tasks.n:
            n = min(wave, tasks.n - first)
            with nogil:
                if threads == 1 or n <= FEW:
                    for i in range(n):
                        _open_one(tasks, task_number(tasks, first + i), &sources[i])
                else:
                    for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=1):
                        _open_one(tasks, task_number(tasks, first + i), &sources[i])
            read_pieces(tasks, tasks.chain, sources, n, spaces, threads)
            first += n
    finally:
        free(sources)
    return 0


cdef int read_chunks(Tasks* tasks, Workspace** spaces, int threads, bint split) except -1:
    """Read all chunks of a call; ``split``: in pieces, which the chain allows."""
    cdef Py_ssize_t i
    if split:
        return _read_in_pieces(tasks, spaces, threads)
    with nogil:
        if threads == 1:
            for i in range(tasks.n):
                _read_one(tasks, task_number(tasks, i), spaces[0])
        else:
            for i in prange(tasks.n, num_threads=threads, schedule="dynamic", chunksize=1):
                _read_one(tasks, task_number(tasks, i), spaces[threadid()])
    return 0
