"""Writing of shards: the inner chunks of all shards of a call are encoded in one loop.

A shard is never changed in place: of the old one every inner chunk that is not written is copied
as it is, encoded, into the new one, which then takes its place. The thread that encodes the last
inner chunk of a shard puts it together. Shards are written in waves, so that only so many encoded
inner chunks are in memory; the locks of a wave's keys are held from before the old indexes are
read until the new shards are there.
"""

from cython.parallel cimport prange, threadid

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from zarrs._chunk cimport decode_shard, encode_chunk
from zarrs._core cimport (
    MAX_NDIM,
    MISSING,
    NO_MEMORY,
    OK,
    Axis,
    ChainSpec,
    Failure,
    Input,
    Region,
    ShardSpec,
    Status,
    Task,
    Tasks,
    WriteOptions,
    Workspace,
)
from zarrs._files cimport (
    NewFile,
    abandon_file,
    append_file,
    close_input,
    commit_file,
    create_file,
    remove_file,
    replace_file,
    view_input,
)
from zarrs._locks cimport (
    N_LOCKS,
    give_lock,
    is_cancelled,
    lock_number,
    record_failure,
    take_lock,
)
from zarrs._read_chunks cimport open_task
from zarrs._region cimport inner_axes, make_region, touched_inner_chunks
from zarrs._shard_index cimport (
    Entry,
    check_entry,
    check_overlaps,
    count_inner_chunks,
    encode_index,
    index_size,
    is_absent,
    make_write_order,
    read_index,
    shard_bound,
)
from zarrs._write cimport encode_region, keep_encoded


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_countdown(Py_ssize_t* p)

cdef enum:
    WAVE_SHARDS = 128
    WAVE_BYTES = 256 * 1024 * 1024  # of decoded inner chunks that are written
    COPIED = 1024 * 1024  # bytes of an old shard that are copied in one go
    TOGETHER = 64 * 1024  # decoded bytes of inner chunks that a thread takes at once


cdef enum Fate:
    KEPT = 0  # as it was
    EMPTIED = 1
    REPLACED = 2


cdef struct Inner:
    # What becomes of an inner chunk.
    Fate fate
    bint borrowed  # the bytes are the array's own
    const uint8_t* data
    size_t size


cdef struct Shard:
    Py_ssize_t task
    int depth  # 0: a chunk of the array
    int64_t inner  # in which inner chunk of the outermost shard it is
    const ChainSpec* chain
    Input old
    uint8_t* decoded  # the memory behind it, if it had to be decoded as a whole
    Entry* index  # of the old shard; NULL: nothing of it survives
    Py_ssize_t n  # inner chunks
    const Py_ssize_t* order  # in which they are written
    const Axis* axes
    char* data  # the first item to write
    Inner* inners
    Py_ssize_t n_touched
    Py_ssize_t left  # touched inner chunks that have not been encoded yet


# A new shard on its way: to a file or to memory.
cdef struct Sink:
    NewFile* file
    uint8_t* data
    size_t size


cdef Status _put(Sink* sink, const uint8_t* data, size_t n, Failure* failure) noexcept nogil:
    if sink.file != NULL:
        return append_file(sink.file, data, n, failure)
    memcpy(sink.data + sink.size, data, n)
    sink.size += n
    return OK


# ---------------------------------------------------------------------------------------------
# Opening what there is

cdef Status _read_old_index(Shard* shard, Workspace* space, Failure* failure) noexcept nogil:
    # From an open old shard to its index, all of which must be right, as all is copied.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t i
    cdef size_t bound
    cdef Status status
    if shard.chain.n_stages > 0:
        bound = shard_bound(spec, shard.n)
        if bound == 0:
            return NO_MEMORY
        status = decode_shard(&shard.old, shard.chain, space, bound, &shard.decoded, &size,
                              failure)
        if shard.depth == 0:
            close_input(&shard.old)
        memset(&shard.old, 0, sizeof(Input))
        shard.old.fd = -1
        shard.old.data = shard.decoded
        shard.old.size = size
        if status != OK:
            return status
    status = read_index(&shard.old, spec, shard.n, &shard.index, failure)
    if status != OK:
        return status
    for i in range(shard.n):
        status = check_entry(&shard.index[i], &shard.old, spec, shard.n, failure)
        if status > MISSING:
            if shard.depth == 0:
                failure.inner = i
            return status
    return check_overlaps(shard.index, shard.n, NULL, shard.n, failure)


cdef Status _begin_shard(
    Shard* shard, Status old, Workspace* space, Failure* failure,
) noexcept nogil:
    # `old` says whether something survives of the old shard, which is open then.
    failure.stage = -1
    shard.n_touched = shard.left = touched_inner_chunks(shard.chain.shard, shard.axes)
    shard.inners = <Inner*> calloc(max(shard.n, <Py_ssize_t> 1), sizeof(Inner))
    if shard.inners == NULL:
        return NO_MEMORY
    return _read_old_index(shard, space, failure) if old == OK else OK


cdef void _end_shard(Shard* shard) noexcept nogil:
    cdef Py_ssize_t i
    if shard.inners != NULL:
        for i in range(shard.n):
            if not shard.inners[i].borrowed:
                free(<void*> shard.inners[i].data)
    if shard.depth == 0:
        close_input(&shard.old)
    free(shard.inners)
    free(shard.decoded)
    free(shard.index)


# ---------------------------------------------------------------------------------------------
# Encoding inner chunks

cdef Status _old_inner(const Shard* shard, Py_ssize_t position, Input* old) noexcept nogil:
    # What is stored of an inner chunk; MISSING if nothing is.
    if shard.index == NULL or is_absent(&shard.index[position]):
        return MISSING
    old[0] = shard.old
    old.handle = NULL
    if old.data != NULL:
        old.data += shard.index[position].offset
    else:
        old.offset += <Py_ssize_t> shard.index[position].offset
    old.size = shard.index[position].size
    return OK


cdef Status _encode_inner(
    Tasks* tasks, Shard* shard, Py_ssize_t number, const WriteOptions* options,
    Workspace* space, Failure* failure,
) noexcept nogil:
    # Encodes one touched inner chunk and keeps the result.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Axis axes[MAX_NDIM]
    cdef char* data = shard.data
    cdef Py_ssize_t position = inner_axes(spec, shard.axes, number, axes, &data)
    cdef Inner* inner = &shard.inners[position]
    cdef const uint8_t* encoded = NULL
    cdef size_t n = 0
    cdef uint8_t* copy
    cdef bint owned = False
    cdef Region region
    cdef Input old
    cdef Status status
    if shard.depth == 0:
        failure.inner = position
    make_region(axes, tasks.ndim, tasks.layout.item.size, data, True, &region)
    status = MISSING if region.covers else _old_inner(shard, position, &old)
    if spec.chain.shard == NULL:
        status = encode_region(&old if status == OK else NULL, spec.chain, tasks.layout, &region,
                               options, space, &encoded, &n, failure)
    else:
        status = _encode_inner_shard(tasks, shard, axes, data, &old if status == OK else NULL,
                                     options, space, &encoded, &n, &owned, failure)
    if status != OK:
        return status
    if encoded == NULL:
        inner.fate = EMPTIED
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
    inner.fate = REPLACED
    return OK


cdef Status _encode_inner_shard(
    Tasks* tasks, const Shard* outer, const Axis* axes, char* data, const Input* old,
    const WriteOptions* options, Workspace* space, const uint8_t** encoded, size_t* n,
    bint* owned, Failure* failure,
) noexcept nogil:
    # Writes a shard inside of a shard, in this thread, into memory.
    cdef const ShardSpec* spec = outer.chain.shard
    cdef Py_ssize_t number
    cdef Status status
    cdef Shard shard
    memset(&shard, 0, sizeof(Shard))
    shard.task = outer.task
    shard.depth = outer.depth + 1
    shard.chain = spec.chain
    shard.axes = axes
    shard.data = data
    shard.n = spec.inner_n
    shard.order = spec.inner_order
    shard.old.fd = -1
    if old != NULL:
        shard.old = old[0]
    failure.depth = shard.depth
    status = _begin_shard(&shard, MISSING if old == NULL else OK, space, failure)
    number = 0
    while status == OK and number < shard.n_touched:
        failure.depth = shard.depth + 1
        status = _encode_inner(tasks, &shard, number, options, space, failure)
        number += 1
    if status == OK:
        failure.depth = shard.depth
        status = _join(&shard, space, options, encoded, n, owned, failure)
    _end_shard(&shard)
    return status


# ---------------------------------------------------------------------------------------------
# Putting shards together

cdef size_t _lay_out(const Shard* shard, Entry* index) noexcept nogil:
    # Where everything goes in the new shard; returns its size, 0 if it holds nothing.
    cdef size_t position = index_size(shard.chain.shard, shard.n)
    cdef size_t start
    cdef Py_ssize_t k, i
    cdef Inner* inner
    if not shard.chain.shard.index_at_start:
        position = 0
    start = position
    for k in range(shard.n):
        i = shard.order[k]
        inner = &shard.inners[i]
        index[i].offset = index[i].size = <uint64_t> -1
        if inner.fate == REPLACED:
            index[i].size = inner.size
        elif inner.fate == KEPT and shard.index != NULL:
            index[i].size = shard.index[i].size  # as absent as it was, or as long
        if index[i].size != <uint64_t> -1:
            index[i].offset = position
            position += index[i].size
    if position == start:
        return 0
    return position if start else position + index_size(shard.chain.shard, shard.n)


cdef Status _put_inner_chunks(
    const Shard* shard, Workspace* space, Sink* sink, Failure* failure,
) noexcept nogil:
    # The new ones and, as they are, the old ones; of these, runs that follow each other.
    cdef const Inner* inner
    cdef const Entry* entry
    cdef const uint8_t* bytes = NULL
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = 0
    cdef Py_ssize_t k, step
    cdef Status status = OK
    for k in range(shard.n + 1):
        inner = NULL
        entry = NULL
        if k < shard.n:
            inner = &shard.inners[shard.order[k]]
            if inner.fate == EMPTIED:
                continue
            if inner.fate == KEPT:
                if shard.index == NULL or is_absent(&shard.index[shard.order[k]]):
                    continue
                entry = &shard.index[shard.order[k]]
                if <Py_ssize_t> entry.offset == high:
                    high += entry.size
                    continue
        while low < high and status == OK:
            step = min(high - low, <Py_ssize_t> COPIED)
            status = view_input(&shard.old, step, low, &space.span, &bytes, failure)
            if status == OK:
                status = _put(sink, bytes, step, failure)
            low += step
        if entry != NULL:
            low = entry.offset
            high = low + <Py_ssize_t> entry.size
        elif inner != NULL and status == OK:
            status = _put(sink, inner.data, inner.size, failure)
        if status != OK:
            return status
    return OK


cdef Status _put_shard(
    const Shard* shard, Entry* index, Workspace* space, Sink* sink, Failure* failure,
) noexcept nogil:
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Py_ssize_t size = index_size(spec, shard.n)
    cdef uint8_t* encoded = <uint8_t*> malloc(size)
    cdef Status status = OK
    if encoded == NULL:
        return NO_MEMORY
    encode_index(spec, index, shard.n, encoded)
    if spec.index_at_start:
        status = _put(sink, encoded, size, failure)
    if status == OK:
        status = _put_inner_chunks(shard, space, sink, failure)
    if status == OK and not spec.index_at_start:
        status = _put(sink, encoded, size, failure)
    free(encoded)
    return status


cdef Status _join(
    const Shard* shard, Workspace* space, const WriteOptions* options, const uint8_t** data,
    size_t* n, bint* owned, Failure* failure,
) noexcept nogil:
    # A whole new shard in memory, through the codecs around it: in scratch, or `owned` by the
    # caller. NULL if it holds nothing.
    cdef Entry* index = <Entry*> malloc(max(shard.n, <Py_ssize_t> 1) * sizeof(Entry))
    cdef Sink sink
    cdef Status status
    failure.stage = -1
    data[0] = NULL
    if index == NULL:
        return NO_MEMORY
    memset(&sink, 0, sizeof(Sink))
    n[0] = _lay_out(shard, index)
    if n[0] == 0:
        free(index)
        return OK
    sink.data = <uint8_t*> malloc(n[0])
    if sink.data == NULL:
        free(index)
        return NO_MEMORY
    status = _put_shard(shard, index, space, &sink, failure)
    free(index)
    data[0] = sink.data
    owned[0] = shard.chain.n_stages == 0
    if status == OK and not owned[0]:
        status = encode_chunk(shard.chain, space, data, n, options.inner_threads, failure)
    if status != OK or not owned[0]:
        free(sink.data)
    return status


cdef Status _store_plain(
    Tasks* tasks, const Shard* shard, Workspace* space, const WriteOptions* options,
    Failure* failure,
) noexcept nogil:
    # A shard with nothing around it goes to its file as it is put together.
    cdef Task* task = &tasks.items[shard.task]
    cdef Entry* index = <Entry*> malloc(max(shard.n, <Py_ssize_t> 1) * sizeof(Entry))
    cdef NewFile file
    cdef Sink sink
    cdef Status status
    if index == NULL:
        return NO_MEMORY
    if _lay_out(shard, index) == 0:
        free(index)
        return remove_file(task.path, failure)
    memset(&sink, 0, sizeof(Sink))
    sink.file = &file
    status = create_file(task.path, &tasks.files, options.seed + <uint64_t> shard.task, &file,
                         failure)
    if status == OK:
        status = _put_shard(shard, index, space, &sink, failure)
        if status == OK:
            status = commit_file(&file, task.path, failure)
        else:
            abandon_file(&file)
    free(index)
    return status


cdef Status _store_shard(
    Tasks* tasks, const Shard* shard, Workspace* space, const WriteOptions* options,
    Failure* failure,
) noexcept nogil:
    cdef Task* task = &tasks.items[shard.task]
    cdef const uint8_t* data = NULL
    cdef size_t n = 0
    cdef bint owned = False
    cdef Status status
    failure.stage = -1
    if shard.chain.n_stages == 0 and task.path != NULL:
        return _store_plain(tasks, shard, space, options, failure)
    status = _join(shard, space, options, &data, &n, &owned, failure)
    if status != OK:
        return status
    failure.stage = -1
    if task.path == NULL:
        status = OK if data == NULL else keep_encoded(task, data, n)
    elif data == NULL:
        status = remove_file(task.path, failure)
    else:
        status = replace_file(task.path, &tasks.files, data, n,
                              options.seed + <uint64_t> shard.task, failure)
    if owned:
        free(<void*> data)
    return status


# ---------------------------------------------------------------------------------------------
# All shards of a call

cdef void _open_one(Tasks* tasks, Shard* shard, Workspace* space) noexcept nogil:
    cdef Task* task = &tasks.items[shard.task]
    cdef Status old = MISSING
    cdef Failure failure
    if is_cancelled(tasks, shard.task):
        return
    memset(&failure, 0, sizeof(Failure))
    failure.inner = -1
    if not task.complete and not task.covers:
        old = open_task(tasks, task, &shard.old, &failure)
    failure.status = old if old > MISSING else _begin_shard(shard, old, space, &failure)
    if failure.status != OK:
        shard.n_touched = 0
        record_failure(tasks, shard.task, &failure)


cdef void _write_one(
    Tasks* tasks, Shard* shard, Py_ssize_t number, const WriteOptions* options,
    Workspace* space,
) noexcept nogil:
    # One inner chunk; with the last one of a shard, the shard.
    cdef Failure failure
    memset(&failure, 0, sizeof(Failure))
    failure.inner = -1
    failure.depth = 1
    if not is_cancelled(tasks, shard.task):
        failure.status = _encode_inner(tasks, shard, number, options, space, &failure)
        if failure.status != OK:
            record_failure(tasks, shard.task, &failure)
    if zarrs_countdown(&shard.left) > 0 or is_cancelled(tasks, shard.task):
        return
    if tasks.items[shard.task].failure.status > MISSING:
        return
    memset(&failure, 0, sizeof(Failure))
    failure.inner = -1
    failure.status = _store_shard(tasks, shard, space, options, &failure)
    if failure.status != OK:
        record_failure(tasks, shard.task, &failure)


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


cdef bint _same_grid(const Shard* a, const Shard* b, int ndim) noexcept nogil:
    cdef int k
    for k in range(ndim):
        if a.axes[k].size != b.axes[k].size:
            return False
    return True


cdef Py_ssize_t _next_wave(
    Tasks* tasks, Py_ssize_t* first, Shard* shards, bint* locks,
) noexcept nogil:
    # Prepares the shards of a wave and marks the locks of their keys; returns how many.
    cdef const ShardSpec* spec = tasks.chain.shard
    cdef int64_t nbytes = 0
    cdef Py_ssize_t n = 0
    cdef Task* task
    cdef Shard* shard
    memset(locks, 0, N_LOCKS * sizeof(bint))
    while first[0] < tasks.n and n < WAVE_SHARDS and nbytes < WAVE_BYTES:
        task = &tasks.items[first[0]]
        if not task.empty:
            shard = &shards[n]
            memset(shard, 0, sizeof(Shard))
            shard.task = first[0]
            shard.inner = -1
            shard.chain = tasks.chain
            shard.old.fd = -1
            shard.axes = task.axes
            shard.data = tasks.data + task.array_offset
            shard.n = count_inner_chunks(spec, task.axes)
            nbytes += touched_inner_chunks(spec, task.axes) * spec.inner_nbytes
            if task.path != NULL:
                locks[lock_number(task.path)] = True
            n += 1
        first[0] += 1
    return n


cdef int _write_wave(
    Tasks* tasks, Shard* shards, Py_ssize_t n, const WriteOptions* options,
    Workspace** spaces, int threads,
) except -1:
    cdef Py_ssize_t first[WAVE_SHARDS + 1]
    cdef Py_ssize_t* orders[WAVE_SHARDS]
    cdef Py_ssize_t n_orders = 0
    cdef Py_ssize_t i, k, s, together
    cdef bint short_of_memory = False
    with nogil:
        for i in range(n):
            # Shards of one shape, which usually is that of all, share an order.
            if i == 0 or not _same_grid(&shards[i], &shards[i - 1], tasks.ndim):
                orders[n_orders] = make_write_order(tasks.chain.shard, shards[i].axes,
                                                    shards[i].n)
                short_of_memory = short_of_memory or orders[n_orders] == NULL
                n_orders += 1
            shards[i].order = orders[n_orders - 1]
        if not short_of_memory:
            if threads == 1 or n == 1:
                for i in range(n):
                    _open_one(tasks, &shards[i], spaces[0])
            else:
                for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=1):
                    _open_one(tasks, &shards[i], spaces[threadid()])
            first[0] = 0
            for i in range(n):
                first[i + 1] = first[i] + shards[i].n_touched
            together = max(<int64_t> 1, TOGETHER // max(
                <int64_t> 1, tasks.chain.shard.inner_nbytes))
            if threads == 1:
                for k in range(first[n]):
                    s = _shard_of(first, n, k)
                    _write_one(tasks, &shards[s], k - first[s], options, spaces[0])
            else:
                for k in prange(first[n], num_threads=threads, schedule="dynamic",
                                chunksize=together):
                    s = _shard_of(first, n, k)
                    _write_one(tasks, &shards[s], k - first[s], options, spaces[threadid()])
        for i in range(n):
            _end_shard(&shards[i])
        for i in range(n_orders):
            free(orders[i])
    if short_of_memory:
        raise MemoryError("no memory for the order of inner chunks")
    return 0


cdef int write_shards(
    Tasks* tasks, const WriteOptions* options, Workspace** spaces, int threads,
) except -1:
    """Write what a call selects in shards."""
    cdef bint locks[N_LOCKS]
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t n
    cdef int k
    cdef Shard* shards = <Shard*> malloc(WAVE_SHARDS * sizeof(Shard))
    if shards == NULL:
        raise MemoryError("no memory for a write")
    try:
        while first < tasks.n:
            with nogil:
                n = _next_wave(tasks, &first, shards, locks)
                for k in range(N_LOCKS):
                    if locks[k]:
                        take_lock(k)
            try:
                _write_wave(tasks, shards, n, options, spaces, threads)
            finally:
                with nogil:
                    for k in range(N_LOCKS):
                        if locks[k]:
                            give_lock(k)
    finally:
        free(shards)
    return 0
