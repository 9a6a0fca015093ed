"""Writing of all chunks of a call, each replaced in one step."""

from cython.parallel cimport prange, threadid

from libc.stdint cimport uint8_t, uint64_t
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
    WriteOptions,
    Workspace,
    task_number,
)
from zarrs._files cimport close_input, remove_file, replace_file
from zarrs._failures cimport is_cancelled, record_failure
from zarrs._read_chunks cimport open_task
from zarrs._region cimport task_region
from zarrs._write cimport encode_region, keep_encoded


cdef Status _write_task(
    const Tasks* tasks, Py_ssize_t i, const WriteOptions* options, Workspace* space,
    Failure* failure,
) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    cdef const uint8_t* data = NULL
    cdef size_t n = 0
    cdef Status status
    cdef Region region
    cdef Input old
    status = task_region(tasks, task, True, &space.pairs, &region)
    if status != OK:
        return status
    memset(&old, 0, sizeof(Input))
    old.fd = -1
    status = MISSING
    if not task.complete and not region.covers:
        status = open_task(tasks, task, &old, failure)
        if status > MISSING:
            return status
    status = encode_region(&old if status == OK else NULL, tasks.chain, tasks.layout, &region,
                           options, space, &data, &n, failure)
    close_input(&old)
    if status != OK:
        return status
    failure.stage = -1
    if task.path == NULL:
        return OK if data == NULL else keep_encoded(task, data, n)
    if data == NULL:
        return remove_file(task.path, failure)
    return replace_file(task.path, &tasks.files, data, n, options.seed + <uint64_t> i, failure)


cdef void _write_one(
    Tasks* tasks, Py_ssize_t i, const WriteOptions* options, Workspace* space,
) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    cdef Failure failure
    if task.empty or is_cancelled(tasks, i):
        return
    memset(&failure, 0, sizeof(Failure))
    failure.inner = -1
    failure.status = _write_task(tasks, i, options, space, &failure)
    if failure.status != OK:
        record_failure(tasks, i, &failure)


cdef int write_chunks(
    Tasks* tasks, const WriteOptions* options, Workspace** spaces, int threads,
) except -1:
    """Write all chunks of a call."""
    cdef Py_ssize_t i
    with nogil:
        if threads == 1:
            for i in range(tasks.n):
                _write_one(tasks, task_number(tasks, i), options, spaces[0])
        else:
            for i in prange(tasks.n, num_threads=threads, schedule="dynamic", chunksize=1):
                _write_one(tasks, task_number(tasks, i), options, spaces[threadid()])
    return 0
