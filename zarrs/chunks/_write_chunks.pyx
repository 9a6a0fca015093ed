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
from zarrs.filesystem._commits cimport Commits, begin_commits, end_commits, write_and_commit
from zarrs.filesystem._files cimport MAX_MERGES, close_input, remove_file, wait_for_others
from zarrs.indexing._region cimport task_region
from zarrs.runtime._failures cimport begin_failure, is_cancelled, record_failure
from zarrs.runtime._loop cimport run_loop


cdef struct Write:
    Tasks* tasks
    const WriteOptions* options
    Commits commits


cdef Status _store(
    Write* write, Py_ssize_t i, Input* old, const uint8_t* data, size_t n, Workspace* space,
) noexcept nogil:
    cdef Task* task = &write.tasks.items[i]
    space.failure.stage = THE_FILE
    if task.path == NULL:
        return OK if data == NULL else keep_encoded(task, data, n)
    if data == NULL:
        return remove_file(task.path, old, &space.failure)
    return write_and_commit(&write.commits, i, data, n, write.options.seed + <uint64_t> i, old,
                            True, &space.failure)


cdef Status _write_once(Write* write, Py_ssize_t i, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = write.tasks
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
                           write.options, space, &data, &n)
    if status == OK:
        status = _store(write, i, &old if merges else NULL, data, n, space)
    close_input(&old)
    return status


cdef Status _write_task(Write* write, Py_ssize_t i, Workspace* space) noexcept nogil:
    # Writes a chunk, again and again if other processes write it at the same time.
    cdef Status status = OVERTAKEN
    cdef int attempt = 0
    while status == OVERTAKEN and attempt < MAX_MERGES and not is_cancelled(write.tasks, i):
        if attempt > 0:
            wait_for_others(attempt, write.options.seed + <uint64_t> i)
        status = _write_once(write, i, space)
        attempt += 1
    return status


cdef void _write_one(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Write* write = <Write*> context
    cdef Tasks* tasks = write.tasks
    cdef Py_ssize_t i = task_number(tasks, k)
    cdef Failure* failure
    if tasks.items[i].empty or is_cancelled(tasks, i):
        return
    failure = begin_failure(space)
    failure.status = _write_task(write, i, space)
    if failure.status != OK:
        record_failure(tasks, i, failure)


cdef void _write_overtaken(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    # Writes a chunk once more if that was found when others committed it.
    cdef Tasks* tasks = (<Write*> context).tasks
    cdef Task* task = &tasks.items[task_number(tasks, k)]
    if task.overtaken:
        task.overtaken = False
        _write_one(context, k, space)


cdef int write_chunks(
    Tasks* tasks, const WriteOptions* options, const Team* team,
) except -1:
    """Write all chunks of a call."""
    cdef Write write
    write.tasks = tasks
    write.options = options
    with nogil:
        begin_commits(&write.commits, tasks, options)
        run_loop(_write_one, &write, tasks.n, 1, team)
        end_commits(&write.commits)
        if write.commits.n_overtaken > 0:
            run_loop(_write_overtaken, &write, tasks.n, 1, team)
    return 0
