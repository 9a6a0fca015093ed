"""Writing of all chunks of a call, each replaced in one step."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memset

from zarrs._core cimport (
    MISSING,
    OK,
    OVERTAKEN,
    THE_FILE,
    Failure,
    Input,
    Region,
    Status,
    Task,
    Tasks,
    Team,
    Workspace,
    WriteOptions,
    task_number,
)
from zarrs.chunks._read_chunks cimport open_task
from zarrs.chunks._write cimport encode_region, keep_encoded
from zarrs.filesystem._files cimport (
    MAX_MERGES,
    close_input,
    remove_file,
    replace_file,
    wait_for_others,
)
from zarrs.indexing._region cimport task_region
from zarrs.runtime._failures cimport begin_failure, is_cancelled, record_failure
from zarrs.runtime._loop cimport run_loop


cdef Status _store(
    const Tasks* tasks, Py_ssize_t i, const Input* old, const uint8_t* data, size_t n,
    const WriteOptions* options, Workspace* space,
) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    space.failure.stage = THE_FILE
    if task.path == NULL:
        return OK if data == NULL else keep_encoded(task, data, n)
    if data == NULL:
        return remove_file(task.path, old, &space.failure)
    return replace_file(task.path, &tasks.files, old, data, n, options.seed + <uint64_t> i,
                        &space.failure)


cdef Status _write_once(
    const Tasks* tasks, Py_ssize_t i, const WriteOptions* options, Workspace* space,
) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    cdef const uint8_t* data = NULL
    cdef size_t n = 0
    cdef bint merges
    cdef Status status
    cdef Region region
    cdef Input old
    status = task_region(tasks, task, True, &space.pairs, &region)
    if status != OK:
        return status
    memset(&old, 0, sizeof(Input))
    old.fd = -1
    status = MISSING
    merges = not task.complete and not region.covers
    if merges:
        status = open_task(tasks, task, &old, &space.failure)
        if status > MISSING:
            return status
    status = encode_region(&old if status == OK else NULL, tasks.chain, tasks.layout, &region,
                           options, space, &data, &n)
    if status == OK:
        status = _store(tasks, i, &old if merges else NULL, data, n, options, space)
    close_input(&old)
    return status


cdef Status _write_task(
    Tasks* tasks, Py_ssize_t i, const WriteOptions* options, Workspace* space,
) noexcept nogil:
    # Writes a chunk, again and again if other processes write it at the same time.
    cdef Status status = OVERTAKEN
    cdef int attempt = 0
    while status == OVERTAKEN and attempt < MAX_MERGES and not is_cancelled(tasks, i):
        if attempt > 0:
            wait_for_others(attempt, options.seed + <uint64_t> i)
        status = _write_once(tasks, i, options, space)
        attempt += 1
    return status


cdef struct Write:
    Tasks* tasks
    const WriteOptions* options


cdef void _write_one(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = (<Write*> context).tasks
    cdef const WriteOptions* options = (<Write*> context).options
    cdef Py_ssize_t i = task_number(tasks, k)
    cdef Task* task = &tasks.items[i]
    cdef Failure* failure
    if task.empty or is_cancelled(tasks, i):
        return
    failure = begin_failure(space)
    failure.status = _write_task(tasks, i, options, space)
    if failure.status != OK:
        record_failure(tasks, i, failure)


cdef int write_chunks(
    Tasks* tasks, const WriteOptions* options, const Team* team,
) except -1:
    """Write all chunks of a call."""
    cdef Write write
    write.tasks = tasks
    write.options = options
    with nogil:
        run_loop(_write_one, &write, tasks.n, 1, team)
    return 0
