"""Writing of shards: the inner chunks of all shards of a call are encoded in one loop.

A shard is never changed in place: of the old one every inner chunk that is not written is copied
as it is, encoded, into the new one, which then takes its place. Inner chunks are encoded in the
order in which the new shard holds them, and whichever thread has encoded one appends what is ready,
so the file grows while the rest is still being encoded. Shards are written in waves, so that only
so many are open and encoded at a time. One that another process has replaced meanwhile is written
once more, with what is there now, in a wave of such shards.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from zarrs._core cimport (
    MAX_NDIM,
    MISSING,
    NO_MEMORY,
    OK,
    OVERTAKEN,
    THE_FILE,
    Axis,
    ChainSpec,
    Failure,
    FileOptions,
    Input,
    Region,
    Selection,
    ShardSpec,
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
from zarrs.codecs._chunk cimport encode_chunk
from zarrs.filesystem._commits cimport (
    Commits,
    begin_commits,
    commit,
    end_commits,
    write_and_commit,
)
from zarrs.filesystem._files cimport (
    MAX_MERGES,
    NewFile,
    abandon_file,
    append_file,
    close_input,
    create_file,
    patch_file,
    remove_file,
    view_input,
    wait_for_others,
)
from zarrs.indexing._region cimport (
    Split,
    free_split,
    inner_selection,
    make_region,
    split_selection,
    touched_by_all,
)
from zarrs.runtime._failures cimport begin_failure, is_cancelled, record_failure
from zarrs.runtime._loop cimport run_loop
from zarrs.sharding._index cimport (
    Entry,
    check_entry,
    check_overlaps,
    count_inner_chunks,
    encode_index,
    index_size,
    is_absent,
    narrow_input,
    read_index,
    unwrap_shard,
)
from zarrs.sharding._write_order cimport make_write_order


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_countdown(Py_ssize_t* p)
    Py_ssize_t zarrs_add(Py_ssize_t* p, Py_ssize_t x)
    Py_ssize_t zarrs_look(const Py_ssize_t* p)

cdef enum:
    WAVE_SHARDS = 128
    WAVE_BYTES = 256 * 1024 * 1024  # of decoded inner chunks that are written
    COPIED = 1024 * 1024  # bytes of an old shard that are copied in one go
    TOGETHER = 64 * 1024  # decoded bytes of inner chunks that a thread takes at once


cdef enum Fate:
    KEPT = 0  # as it was
    PENDING = 1  # is being encoded
    EMPTIED = 2
    REPLACED = 3


cdef struct InnerWrite:
    # What becomes of an inner chunk.
    Py_ssize_t fate
    bint borrowed  # the bytes are the array's own
    const uint8_t* data
    size_t size


# A new shard on its way: to memory that is big enough, or to a file, made when it is needed.
cdef struct Sink:
    uint8_t* data
    const char* path
    const FileOptions* files
    uint64_t nonce
    NewFile file
    bint is_open
    size_t room  # for an index at the start, which is known at the end
    size_t size  # of what was put, and of the room


cdef struct ShardWrite:
    Py_ssize_t task
    int depth  # 0: a chunk of the array
    int64_t inner  # in which inner chunk of the outermost shard it is
    const ChainSpec* chain
    Input file  # of the old shard, as long as the new one is written
    bint merges  # whether anything of the old shard may survive
    Input old  # the bytes of the old shard
    uint8_t* decoded  # the memory behind it, if it had to be decoded as a whole
    Entry* index  # of the old shard; NULL: nothing of it survives
    Entry* new_index
    Py_ssize_t n  # inner chunks
    const Py_ssize_t* order  # in which the new shard holds them
    Py_ssize_t* touched  # those to encode, in the same order, by their numbers
    Selection select
    Split split
    char* data  # the first item to write
    InnerWrite* inners
    Py_ssize_t n_touched
    bint streamed  # goes to its file while it is encoded
    Sink sink
    Py_ssize_t cursor  # in the order: what has been put
    Py_ssize_t calls  # threads that asked for appending; above 0: one is appending, and looks again
    Py_ssize_t left  # touched inner chunks that have not been encoded yet
    bint is_closed  # stored, or given up
    Commits* commits  # of the wave


cdef Status _put(Sink* sink, const uint8_t* data, size_t n, Failure* failure) noexcept nogil:
    cdef Status status
    if sink.data != NULL:
        memcpy(sink.data + sink.size, data, n)
        sink.size += n
        return OK
    if not sink.is_open:
        status = create_file(sink.path, sink.files, sink.nonce, &sink.file, failure)
        if status != OK:
            return status
        sink.is_open = True
        status = _make_room(sink, failure)
        if status != OK:
            return status
    sink.size += n
    return append_file(&sink.file, data, n, failure)


cdef Status _make_room(Sink* sink, Failure* failure) noexcept nogil:
    cdef uint8_t* zeros
    cdef Status status
    if sink.room == 0:
        return OK
    zeros = <uint8_t*> calloc(sink.room, 1)
    if zeros == NULL:
        return NO_MEMORY
    status = append_file(&sink.file, zeros, sink.room, failure)
    free(zeros)
    return status


# ---------------------------------------------------------------------------------------------
# Opening what there is

cdef Status _read_old_index(ShardWrite* shard, Workspace* space) noexcept nogil:
    # From an open old shard to its index, all of which must be right, as all is copied.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Py_ssize_t i
    cdef Status status
    status = unwrap_shard(shard.chain, shard.n, False, &shard.old, &shard.decoded, space)
    if status != OK:
        return status
    status = read_index(&shard.old, spec, shard.n, &shard.index, &space.failure)
    if status != OK:
        return status
    for i in range(shard.n):
        status = check_entry(&shard.index[i], &shard.old, spec, shard.n, &space.failure)
        if status > MISSING:
            if shard.depth == 0:
                space.failure.inner = i
            return status
    return check_overlaps(shard.index, shard.n, NULL, shard.n, &space.failure)


cdef Status _begin_shard(
    ShardWrite* shard, Status old, Workspace* space,
) noexcept nogil:
    # `old` says whether something survives of the old shard, which is open then.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef size_t n = max(shard.n, <Py_ssize_t> 1)
    cdef Axis axes[MAX_NDIM]
    cdef Selection inner
    cdef char* data
    cdef Py_ssize_t i, k
    cdef Status status = split_selection(spec, &shard.select, &shard.split)
    space.failure.stage = THE_FILE
    if status != OK:
        return status
    shard.n_touched = shard.split.n
    shard.inners = <InnerWrite*> calloc(n, sizeof(InnerWrite))
    shard.new_index = <Entry*> malloc(n * sizeof(Entry))
    shard.touched = <Py_ssize_t*> malloc(n * sizeof(Py_ssize_t))
    if shard.inners == NULL or shard.new_index == NULL or shard.touched == NULL:
        return NO_MEMORY
    for i in range(shard.n_touched):
        data = shard.data
        k = inner_selection(spec, &shard.select, &shard.split, i, axes, &inner, &data)
        shard.inners[k].fate = PENDING
        shard.inners[k].size = i
    k = 0
    for i in range(shard.n):
        if shard.inners[shard.order[i]].fate == PENDING:
            shard.touched[k] = shard.inners[shard.order[i]].size
            k += 1
    status = _read_old_index(shard, space) if old == OK else OK
    return OK if status == MISSING else status  # a codec can say that there was none


cdef void _end_shard(ShardWrite* shard) noexcept nogil:
    cdef Py_ssize_t i
    if shard.inners != NULL:
        for i in range(shard.n):
            if not shard.inners[i].borrowed:
                free(<void*> shard.inners[i].data)
    if shard.sink.is_open:
        abandon_file(&shard.sink.file)
    if shard.depth == 0:
        close_input(&shard.file)
    free(shard.inners)
    free(shard.decoded)
    free(shard.index)
    free(shard.new_index)
    free(shard.touched)
    free_split(&shard.split)


# ---------------------------------------------------------------------------------------------
# Encoding inner chunks

cdef Status _old_inner(const ShardWrite* shard, Py_ssize_t position, Input* old) noexcept nogil:
    # What is stored of an inner chunk; MISSING if nothing is.
    if shard.index == NULL or is_absent(&shard.index[position]):
        return MISSING
    old[0] = shard.old
    narrow_input(old, shard.index[position].offset, shard.index[position].size)
    return OK


cdef Status _encode_inner(
    Tasks* tasks, ShardWrite* shard, Py_ssize_t number, const WriteOptions* options,
    Workspace* space,
) noexcept nogil:
    # Encodes one touched inner chunk and keeps the result.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Axis axes[MAX_NDIM]
    cdef Selection select
    cdef char* data = shard.data
    cdef Py_ssize_t position = inner_selection(spec, &shard.select, &shard.split, number, axes,
                                               &select, &data)
    cdef InnerWrite* inner = &shard.inners[position]
    cdef const uint8_t* encoded = NULL
    cdef size_t n = 0
    cdef uint8_t* copy
    cdef bint owned = False
    cdef Region region
    cdef Input old
    cdef Status status
    if shard.depth == 0:
        space.failure.inner = position
    status = make_region(&select, tasks.ndim, &tasks.layout.item, data, True, &space.pairs, &region)
    if status != OK:
        return status
    status = MISSING if region.covers else _old_inner(shard, position, &old)
    if spec.chain.shard == NULL:
        status = encode_region(&old if status == OK else NULL, spec.chain, tasks.layout, &region,
                               options, space, &encoded, &n)
    else:
        status = _encode_inner_shard(tasks, shard, &select, data, &old if status == OK else NULL,
                                     options, space, &encoded, &n, &owned)
    if status != OK:
        return status
    if encoded == NULL:
        zarrs_add(&inner.fate, EMPTIED - PENDING)
        return OK
    inner.borrowed = encoded == <const uint8_t*> region.data
    if not inner.borrowed and not owned:
        copy = <uint8_t*> malloc(max(n, <size_t> 1))
        if copy == NULL:
            return NO_MEMORY
        memcpy(copy, encoded, n)
        encoded = copy
    inner.data = encoded
    inner.size = n
    zarrs_add(&inner.fate, REPLACED - PENDING)  # after the rest, which others may look at now
    return OK


cdef Status _encode_inner_shard(
    Tasks* tasks, const ShardWrite* outer, const Selection* select, char* data, const Input* old,
    const WriteOptions* options, Workspace* space, const uint8_t** encoded, size_t* n,
    bint* owned,
) noexcept nogil:
    # Writes a shard inside of a shard, in this thread, into memory.
    cdef const ShardSpec* spec = outer.chain.shard
    cdef Py_ssize_t number
    cdef Status status
    cdef ShardWrite shard
    memset(&shard, 0, sizeof(ShardWrite))
    shard.task = outer.task
    shard.depth = outer.depth + 1
    shard.chain = spec.chain
    shard.select = select[0]
    shard.data = data
    shard.n = spec.inner_n
    shard.order = spec.inner_order
    shard.old.fd = -1
    if old != NULL:
        shard.old = old[0]
    space.failure.depth = shard.depth
    status = _begin_shard(&shard, MISSING if old == NULL else OK, space)
    number = 0
    while status == OK and number < shard.n_touched:
        space.failure.depth = shard.depth + 1
        status = _encode_inner(tasks, &shard, number, options, space)
        number += 1
    if status == OK:
        space.failure.depth = shard.depth
        status = _join(&shard, space, options, encoded, n, owned)
    _end_shard(&shard)
    return status


# ---------------------------------------------------------------------------------------------
# Putting shards together

cdef Status _put_old(
    ShardWrite* shard, Py_ssize_t low, Py_ssize_t high, Workspace* space,
) noexcept nogil:
    # Copies a range of the old shard.
    cdef const uint8_t* bytes = NULL
    cdef Py_ssize_t step
    cdef Status status = OK
    while low < high and status == OK:
        step = min(high - low, <Py_ssize_t> COPIED)
        status = view_input(&shard.old, step, low, &space.span, &bytes, &space.failure)
        if status == OK:
            status = _put(&shard.sink, bytes, step, &space.failure)
        low += step
    return status


cdef Status _put_ready(ShardWrite* shard, Workspace* space) noexcept nogil:
    # Puts the inner chunks that are next and ready into the new shard: new ones and, as they are,
    # old ones; of these, runs that follow each other.
    cdef const Entry* entry
    cdef Entry* place
    cdef InnerWrite* inner
    cdef Py_ssize_t low = 0  # of the old shard, what is still to be put
    cdef Py_ssize_t high = 0
    cdef Py_ssize_t fate, i
    cdef Status status = OK
    while shard.cursor < shard.n and status == OK:
        i = shard.order[shard.cursor]
        inner = &shard.inners[i]
        fate = zarrs_look(&inner.fate)
        if fate == PENDING:
            break
        shard.cursor += 1
        place = &shard.new_index[i]
        place.offset = place.size = <uint64_t> -1
        if fate == KEPT and shard.index != NULL and not is_absent(&shard.index[i]):
            entry = &shard.index[i]
            if <Py_ssize_t> entry.offset != high:
                status = _put_old(shard, low, high, space)
                low = high = entry.offset
            place.offset = shard.sink.size + (high - low)
            place.size = entry.size
            high += <Py_ssize_t> entry.size
        elif fate == REPLACED:
            status = _put_old(shard, low, high, space)
            low = high
            if status == OK:
                place.offset = shard.sink.size
                place.size = inner.size
                status = _put(&shard.sink, inner.data, inner.size, &space.failure)
            if not inner.borrowed:
                free(<void*> inner.data)
            inner.data = NULL
    if status == OK:
        status = _put_old(shard, low, high, space)
    return status


cdef Status _join(
    ShardWrite* shard, Workspace* space, const WriteOptions* options, const uint8_t** data,
    size_t* n, bint* owned,
) noexcept nogil:
    # A whole new shard in memory, through the codecs around it: in scratch, or `owned` by the
    # caller. NULL if it holds nothing.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef size_t size = index_size(spec, shard.n)
    cdef bint holds_something = False
    cdef Py_ssize_t i
    cdef Status status
    space.failure.stage = THE_FILE
    data[0] = NULL
    n[0] = size
    for i in range(shard.n):
        if shard.inners[i].fate == REPLACED:
            n[0] += shard.inners[i].size
        elif shard.inners[i].fate == KEPT and shard.index != NULL and not is_absent(
            &shard.index[i]
        ):
            n[0] += shard.index[i].size
        else:
            continue
        holds_something = True
    if not holds_something:
        return OK
    shard.sink.data = <uint8_t*> malloc(n[0])
    if shard.sink.data == NULL:
        return NO_MEMORY
    shard.sink.size = size if spec.index_at_start else 0
    status = _put_ready(shard, space)
    if status == OK:
        encode_index(spec, shard.new_index, shard.n,
                     shard.sink.data + (0 if spec.index_at_start else shard.sink.size))
    data[0] = shard.sink.data
    owned[0] = shard.chain.n_stages == 0
    if status == OK and not owned[0]:
        status = encode_chunk(shard.chain, space, data, n, options.inner_threads)
        if status == MISSING:  # a codec says that there is nothing to store
            status = OK
    if status != OK or not owned[0]:
        free(shard.sink.data)
    return status


cdef Status _store_joined(
    Tasks* tasks, ShardWrite* shard, Workspace* space, const WriteOptions* options,
) noexcept nogil:
    # A shard with codecs around it, or one that is stored in memory.
    cdef Task* task = &tasks.items[shard.task]
    cdef const uint8_t* data = NULL
    cdef size_t n = 0
    cdef bint owned = False
    cdef Input* old = &shard.file if shard.merges else NULL
    cdef Status status = _join(shard, space, options, &data, &n, &owned)
    if status != OK:
        return status
    space.failure.stage = THE_FILE
    if task.path == NULL:
        if owned:
            task.encoded = <uint8_t*> data
            task.encoded_size = n
            return OK
        status = OK if data == NULL else keep_encoded(task, data, n)
    elif data == NULL:
        status = remove_file(task.path, old, &space.failure)
    else:
        status = write_and_commit(shard.commits, shard.task, data, n,
                                  options.seed + <uint64_t> shard.task, old, False,
                                  &space.failure)
    if owned:
        free(<void*> data)
    return status


cdef Status _finish_file(ShardWrite* shard, Failure* failure) noexcept nogil:
    # Writes the index and puts the new shard in the place of the old one.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Input* old = &shard.file if shard.merges else NULL
    cdef Py_ssize_t size = index_size(spec, shard.n)
    cdef bint holds_something = False
    cdef uint8_t* encoded
    cdef Py_ssize_t i
    cdef Status status
    for i in range(shard.n):
        holds_something = holds_something or not is_absent(&shard.new_index[i])
    if not holds_something:
        return remove_file(shard.sink.path, old, failure)
    encoded = <uint8_t*> malloc(size)
    if encoded == NULL:
        return NO_MEMORY
    encode_index(spec, shard.new_index, shard.n, encoded)
    if spec.index_at_start:
        status = patch_file(&shard.sink.file, encoded, size, failure)
    else:
        status = _put(&shard.sink, encoded, size, failure)
    free(encoded)
    if status == OK:
        shard.sink.is_open = False
        status = commit(shard.commits, shard.task, &shard.sink.file, old, False, failure)
    return status


cdef void _give_up(Tasks* tasks, ShardWrite* shard, const Failure* failure) noexcept nogil:
    if failure.status == OVERTAKEN:
        tasks.items[shard.task].overtaken = True
    else:
        record_failure(tasks, shard.task, failure)


cdef void _append(Tasks* tasks, ShardWrite* shard, Workspace* space) noexcept nogil:
    # Appends what is ready, unless another thread is about it, which then looks again.
    cdef Py_ssize_t calls = zarrs_add(&shard.calls, 1)
    cdef Failure* failure
    if calls != 1:
        return
    while calls > 0:
        if not shard.is_closed and not is_cancelled(tasks, shard.task):
            failure = begin_failure(space)
            failure.stage = THE_FILE
            failure.status = _put_ready(shard, space)
            if failure.status == OK and shard.cursor == shard.n:
                shard.is_closed = True
                failure.status = _finish_file(shard, failure)
            if failure.status != OK:
                shard.is_closed = True
                _give_up(tasks, shard, failure)
        calls = zarrs_add(&shard.calls, -calls)


# ---------------------------------------------------------------------------------------------
# All shards of a call

# The shards of a wave, which are written at the same time.
cdef struct Wave:
    Tasks* tasks
    const WriteOptions* options
    ShardWrite* shards
    Py_ssize_t n
    Py_ssize_t first[WAVE_SHARDS + 1]  # of every shard its first inner chunk to encode


cdef void _open_one(void* context, Py_ssize_t i, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = (<Wave*> context).tasks
    cdef ShardWrite* shard = &(<Wave*> context).shards[i]
    cdef Task* task = &tasks.items[shard.task]
    cdef Status old = MISSING
    cdef Failure* failure
    if is_cancelled(tasks, shard.task):
        return
    failure = begin_failure(space)
    if shard.merges:
        old = open_task(tasks, task, &shard.file, failure)
        shard.old = shard.file
    failure.status = old if old > MISSING else _begin_shard(shard, old, space)
    shard.left = shard.n_touched
    if failure.status != OK:
        shard.n_touched = 0
        record_failure(tasks, shard.task, failure)


cdef inline Py_ssize_t _shard_of(
    const Py_ssize_t* first, Py_ssize_t n, Py_ssize_t k,
) noexcept nogil:
    # The shard that the k-th inner chunk of a wave is in: the last with first <= k.
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = n
    cdef Py_ssize_t middle
    while high - low > 1:
        middle = (low + high) // 2
        if first[middle] <= k:
            low = middle
        else:
            high = middle
    return low


cdef void _write_one(void* context, Py_ssize_t i, Workspace* space) noexcept nogil:
    # One inner chunk, and what can be done of the shard after it.
    cdef Wave* wave = <Wave*> context
    cdef Tasks* tasks = wave.tasks
    cdef const WriteOptions* options = wave.options
    cdef Py_ssize_t s = _shard_of(wave.first, wave.n, i)
    cdef ShardWrite* shard = &wave.shards[s]
    cdef Py_ssize_t k = i - wave.first[s]
    cdef Failure* failure
    failure = begin_failure(space)
    failure.depth = 1
    if not is_cancelled(tasks, shard.task):
        failure.status = _encode_inner(tasks, shard, shard.touched[k], options, space)
        if failure.status != OK:
            record_failure(tasks, shard.task, failure)
        elif shard.streamed:
            _append(tasks, shard, space)
    if zarrs_countdown(&shard.left) > 0 or shard.streamed or is_cancelled(tasks, shard.task):
        return
    if tasks.items[shard.task].failure.status > MISSING:
        return
    failure = begin_failure(space)
    failure.status = _store_joined(tasks, shard, space, options)
    if failure.status != OK:
        _give_up(tasks, shard, failure)


cdef bint _same_grid(const ShardWrite* a, const ShardWrite* b, int ndim) noexcept nogil:
    cdef int k
    for k in range(ndim):
        if a.select.axes[k].size != b.select.axes[k].size:
            return False
    return True


cdef void _prepare(
    Tasks* tasks, Py_ssize_t i, ShardWrite* shard, const WriteOptions* options,
) noexcept nogil:
    # For the write of the i-th task.
    cdef const ShardSpec* spec = tasks.chain.shard
    cdef const Task* task = &tasks.items[i]
    memset(shard, 0, sizeof(ShardWrite))
    shard.task = i
    shard.inner = -1
    shard.chain = tasks.chain
    shard.merges = not task.complete and not task.covers
    shard.file.fd = shard.old.fd = -1
    shard.select = task.select
    shard.data = tasks.data + task.array_offset
    shard.n = count_inner_chunks(spec, task.select.axes)
    shard.streamed = tasks.chain.n_stages == 0 and task.path != NULL
    shard.sink.path = task.path
    shard.sink.files = &tasks.files
    shard.sink.nonce = options.seed + <uint64_t> i
    if spec.index_at_start:
        shard.sink.room = shard.sink.size = index_size(spec, shard.n)


cdef Py_ssize_t _next_wave(
    Tasks* tasks, Py_ssize_t* first, ShardWrite* shards, const WriteOptions* options,
) noexcept nogil:
    # Prepares the shards of a wave; returns how many.
    cdef const ShardSpec* spec = tasks.chain.shard
    cdef int64_t nbytes = 0
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i
    cdef const Task* task
    while first[0] < tasks.n and n < WAVE_SHARDS and nbytes < WAVE_BYTES:
        i = task_number(tasks, first[0])
        task = &tasks.items[i]
        if not task.empty:
            _prepare(tasks, i, &shards[n], options)
            nbytes += touched_by_all(spec, task, shards[n].n) * spec.inner_nbytes
            if tasks.chain.n_stages > 0 and shards[n].merges:
                nbytes += task.nbytes  # of the old shard
            n += 1
        first[0] += 1
    return n


cdef Py_ssize_t _next_attempt(
    Tasks* tasks, ShardWrite* shards, Py_ssize_t n, int attempt, const WriteOptions* options,
) noexcept nogil:
    # Prepares those shards of a wave that other processes have replaced; returns how many.
    cdef Py_ssize_t again = 0
    cdef Py_ssize_t i
    cdef Failure failure
    for i in range(n):
        if not tasks.items[shards[i].task].overtaken:
            continue
        tasks.items[shards[i].task].overtaken = False
        if attempt < MAX_MERGES:
            _prepare(tasks, shards[i].task, &shards[again], options)
            again += 1
        else:
            memset(&failure, 0, sizeof(Failure))
            failure.status = OVERTAKEN
            failure.stage = THE_FILE
            failure.inner = -1
            record_failure(tasks, shards[i].task, &failure)
    if again > 0:
        wait_for_others(attempt, shards[0].sink.nonce)
    return again


cdef int _write_wave(
    Tasks* tasks, ShardWrite* shards, Py_ssize_t n, const WriteOptions* options, const Team* team,
) except -1:
    cdef Wave wave
    cdef Commits commits
    cdef Py_ssize_t* orders[WAVE_SHARDS]
    cdef Py_ssize_t n_orders = 0
    cdef Py_ssize_t i, together
    cdef bint short_of_memory = False
    wave.tasks = tasks
    wave.options = options
    wave.shards = shards
    wave.n = n
    with nogil:
        for i in range(n):
            # Shards of one shape, which usually is that of all, share an order.
            if i == 0 or not _same_grid(&shards[i], &shards[i - 1], tasks.ndim):
                orders[n_orders] = make_write_order(tasks.chain.shard, shards[i].select.axes,
                                                    shards[i].n)
                short_of_memory = short_of_memory or orders[n_orders] == NULL
                n_orders += 1
            shards[i].order = orders[n_orders - 1]
            shards[i].commits = &commits
        if not short_of_memory:
            begin_commits(&commits, tasks, options)
            run_loop(_open_one, &wave, n, 1, team)
            wave.first[0] = 0
            for i in range(n):
                wave.first[i + 1] = wave.first[i] + shards[i].n_touched
            together = max(<int64_t> 1, TOGETHER // max(
                <int64_t> 1, tasks.chain.shard.inner_nbytes))
            run_loop(_write_one, &wave, wave.first[n], together, team)
            end_commits(&commits)
        for i in range(n):
            _end_shard(&shards[i])
        for i in range(n_orders):
            free(orders[i])
    if short_of_memory:
        raise MemoryError("no memory for the order of inner chunks")
    return 0


cdef int write_shards(
    Tasks* tasks, const WriteOptions* options, const Team* team,
) except -1:
    """Write what a call selects in shards."""
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t n
    cdef int attempt
    cdef ShardWrite* shards = <ShardWrite*> malloc(WAVE_SHARDS * sizeof(ShardWrite))
    if shards == NULL:
        raise MemoryError("no memory for a write")
    try:
        while first < tasks.n:
            with nogil:
                n = _next_wave(tasks, &first, shards, options)
            attempt = 0
            while n > 0:
                _write_wave(tasks, shards, n, options, team)
                attempt += 1
                with nogil:
                    n = _next_attempt(tasks, shards, n, attempt, options)
    finally:
        free(shards)
    return 0
