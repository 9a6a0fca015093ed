"""Reading of all chunks of a call, one after the other or, if they are big, in pieces."""

from libc.stdlib cimport calloc, free
from libc.string cimport memset

from zarrs.caching._chunk_cache cimport (
    Kept,
    Place,
    can_keep,
    count_use,
    data_of,
    find_kept,
    keep,
    release_kept,
)
from zarrs._core cimport (
    MISSING,
    OK,
    THE_FILE,
    Failure,
    Input,
    Item,
    Region,
    Status,
    Task,
    Tasks,
    Team,
    Workspace,
    task_number,
)
from zarrs.chunks._partial cimport Source
from zarrs.chunks._pieces cimport WAVE, open_source, read_pieces
from zarrs.chunks._read cimport (
    Decoded,
    copy_decoded,
    decode_whole,
    fill_region,
    read_region,
)
from zarrs.filesystem._files cimport close_input, open_input
from zarrs.indexing._region cimport share_region, task_region
from zarrs.runtime._failures cimport begin_failure, is_cancelled, record_failure
from zarrs.runtime._loop cimport run_loop

cdef enum:
    FEW = 16  # chunks are opened by one thread before a team's others have woken up


cdef Status open_task(
    const Tasks* tasks, const Task* task, Input* source, Failure* failure,
) noexcept nogil:
    """Open what is stored of a chunk."""
    failure.stage = THE_FILE
    if task.path != NULL:
        return open_input(task.path, &tasks.files, source, failure)
    memset(source, 0, sizeof(Input))
    source.fd = -1
    source.data = task.stored
    source.size = task.stored_size
    return OK if task.stored != NULL else MISSING


cdef void _read_one(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = <Tasks*> context
    cdef Py_ssize_t i = task_number(tasks, k)
    cdef Task* task = &tasks.items[i]
    cdef Failure* failure
    cdef Input source
    if task.empty or is_cancelled(tasks, i):
        return
    failure = begin_failure(space)
    if tasks.cache == NULL or not _read_kept(tasks, task, space):
        if tasks.only_kept:
            return
        failure.status = open_task(tasks, task, &source, failure)
        if failure.status == OK:
            failure.status = _read_opened(tasks, task, &source, space)
            close_input(&source)
    if failure.status == MISSING:
        task.failure.status = MISSING
        failure.status = _fill(tasks, task, space)
    if failure.status > MISSING:
        record_failure(tasks, i, failure)


cdef bint _read_kept(const Tasks* tasks, Task* task, Workspace* space) noexcept nogil:
    # Reads a chunk that is in the cache; returns whether it is. The outcome is in the workspace.
    cdef Place place
    cdef Kept* kept
    cdef Decoded decoded
    place.n = 0
    kept = find_kept(tasks, task, &place, NULL)
    if kept == NULL:
        return False
    decoded.bytes = data_of(kept)
    decoded.size = kept.size
    space.failure.status = _copy_all(tasks, task, &decoded, space)
    release_kept(kept)
    count_use(tasks, True)
    task.empty = True
    return True


cdef Status _copy_all(
    const Tasks* tasks, const Task* task, const Decoded* decoded, Workspace* space,
) noexcept nogil:
    # Copies what all selections want of a decoded chunk.
    cdef Status status = OK
    cdef Py_ssize_t number
    cdef Region region
    for number in range(-1, task.n_shares):
        if status == OK:
            status = share_region(tasks, task, number, &space.pairs, &region)
        if status == OK:
            status = copy_decoded(decoded, &tasks.layout.item, &region, space)
    return status


cdef Status _read_opened(
    const Tasks* tasks, const Task* task, const Input* source, Workspace* space,
) noexcept nogil:
    # What is to be kept, and what several selections want, is decoded as a whole, once; but of raw
    # chunks that are not kept, each selection is read by itself.
    cdef const Item* item = &tasks.layout.item
    cdef bint keeping = can_keep(tasks, task.nbytes) and not task.is_part
    cdef Status status = OK
    cdef Py_ssize_t number
    cdef Decoded decoded
    cdef Region region
    cdef Place place
    if keeping or (task.n_shares > 0 and not tasks.chain.is_raw):
        status = decode_whole(source, tasks.chain, item, task.nbytes, space, &decoded)
        if status == OK and keeping:
            place.n = 0
            keep(tasks, task, &place, decoded.bytes, decoded.size, &source.stamp)
            count_use(tasks, False)
        return _copy_all(tasks, task, &decoded, space) if status == OK else status
    for number in range(-1, task.n_shares):
        if status == OK:
            status = share_region(tasks, task, number, &space.pairs, &region)
        if status == OK:
            status = read_region(source, tasks.chain, item, &region, space)
    return status


cdef Status _fill(const Tasks* tasks, const Task* task, Workspace* space) noexcept nogil:
    cdef Status status = OK
    cdef Py_ssize_t number
    cdef Region region
    for number in range(-1, task.n_shares):
        if status == OK:
            status = share_region(tasks, task, number, &space.pairs, &region)
        if status == OK:
            status = fill_region(tasks.layout, &region, space)
    return status


# The chunks of a wave, which are open at the same time.
cdef struct Wave:
    Tasks* tasks
    Py_ssize_t first
    Source* sources


cdef void _open_one(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Wave* wave = <Wave*> context
    cdef Tasks* tasks = wave.tasks
    cdef Py_ssize_t i = task_number(tasks, wave.first + k)
    cdef Source* source = &wave.sources[k]
    cdef Task* task = &tasks.items[i]
    cdef Failure* failure
    memset(source, 0, sizeof(Source))
    if task.empty or is_cancelled(tasks, i):
        return
    failure = begin_failure(space)
    source.task = i
    source.inner = -1
    source.owns_input = True
    task_region(tasks, task, False, NULL, &source.region)  # one box: it cannot fail
    failure.status = open_task(tasks, task, &source.input, failure)
    if failure.status == MISSING:
        task.failure.status = MISSING
        failure.status = fill_region(tasks.layout, &source.region, space)
    elif failure.status == OK:
        failure.status = open_source(source, tasks, tasks.chain, failure)
    if failure.status > MISSING:
        record_failure(tasks, i, failure)


cdef int _read_in_pieces(Tasks* tasks, const Team* team) except -1:
    # In waves, as open files and headers in memory are bounded.
    cdef Py_ssize_t most = min(tasks.n, <Py_ssize_t> WAVE)
    cdef Py_ssize_t n
    cdef Team alone = team[0]
    cdef Wave wave
    alone.threads = 1
    wave.tasks = tasks
    wave.first = 0
    wave.sources = <Source*> calloc(most, sizeof(Source))
    if wave.sources == NULL:
        raise MemoryError("no memory for a read")
    try:
        while wave.first < tasks.n:
            n = min(most, tasks.n - wave.first)
            with nogil:
                if n <= FEW:
                    run_loop(_open_one, &wave, n, 1, &alone)
                else:
                    run_loop(_open_one, &wave, n, 1, team)
            read_pieces(tasks, tasks.chain, wave.sources, n, team)
            wave.first += n
    finally:
        free(wave.sources)
    return 0


cdef int read_chunks(Tasks* tasks, const Team* team, bint split) except -1:
    """Read all chunks of a call; ``split``: in pieces, which the chain allows."""
    if split:
        return _read_in_pieces(tasks, team)
    with nogil:
        run_loop(_read_one, tasks, tasks.n, 1, team)
    return 0
