"""Reading of the inner chunks of shards: from some shards to one loop over all inner chunks.

The shards are opened in parallel and their indexes read. Then the inner chunks that are needed are
put into batches, neighbours in a file into one as they can be read in one go, and all batches of
all shards run in one loop, in the order of the memory that they fill. Inner chunks that are shards
again go through the same once more.
"""

from cython.parallel cimport prange, threadid

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memset

from zarrs._core cimport (
    MAX_NDIM,
    MIN_SPLIT,
    MISSING,
    NO_MEMORY,
    OK,
    Axis,
    Buffer,
    ChainSpec,
    Failure,
    Input,
    Region,
    Selection,
    ShardSpec,
    Status,
    Task,
    Tasks,
    Workspace,
)
from zarrs._files cimport close_input, view_input
from zarrs._failures cimport is_cancelled, record_failure
from zarrs._partial cimport Source
from zarrs._pieces cimport WAVE, open_source, read_pieces
from zarrs._read cimport fill_region, read_region
from zarrs._read_chunks cimport open_task
from zarrs._region cimport (
    first_place,
    free_split,
    inner_selection,
    make_region,
    split_selection,
)
from zarrs._shard_index cimport (
    Entry,
    check_entry,
    check_overlaps,
    count_inner_chunks,
    narrow_input,
    read_index,
    unwrap_shard,
)

cdef enum:
    MAX_TOGETHER = 64 * 1024  # a bigger encoded inner chunk is read on its own
    TINY = 4096  # mean size of encoded inner chunks that are taken in the order of the file
    BATCH = 512 * 1024  # decoded bytes of a batch
    BATCHES_A_THREAD = 8  # at least so many, that threads end at the same time


cdef struct Batch:
    Shard* shard
    Py_ssize_t first
    Py_ssize_t count
    const char* dst  # where its first item goes


cdef void begin_shard(
    const Tasks* tasks, const ChainSpec* chain, Py_ssize_t task, Shard* shard,
) noexcept nogil:
    """Say what is selected in the shard that is a chunk of the array; ``close_shard`` ends it."""
    memset(shard, 0, sizeof(Shard))
    shard.task = task
    shard.inner = -1
    shard.chain = chain
    shard.source.fd = -1
    shard.select = tasks.items[task].select
    shard.data = tasks.data + tasks.items[task].array_offset
    shard.n = count_inner_chunks(chain.shard, shard.select.axes)


cdef void close_shard(Shard* shard) noexcept nogil:
    """Give back what a shard holds."""
    if shard.depth == 0:
        close_input(&shard.source)
    free(shard.decoded)
    free(shard.index)
    free(shard.own_axes)
    free(shard.leaves)
    free_split(&shard.split)


cdef Status _fill_shard(
    const Tasks* tasks, const Selection* select, char* data, Workspace* space, Failure* failure,
) noexcept nogil:
    cdef Region region
    cdef Status status = make_region(select, tasks.ndim, &tasks.layout.item, data, False,
                                     &space.pairs, &region)
    if status == OK:
        status = fill_region(tasks.layout, &region, space, failure)
    return status


cdef int _by_offset(const void* a, const void* b) noexcept nogil:
    cdef Py_ssize_t x = (<const Leaf*> a).offset
    cdef Py_ssize_t y = (<const Leaf*> b).offset
    return (x > y) - (x < y)


cdef Status find_leaves(Shard* shard, Failure* failure) noexcept nogil:
    """Look up the needed inner chunks in the index and check what it says of them."""
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Py_ssize_t n
    cdef Py_ssize_t* wanted
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef char* data
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t i
    cdef const Entry* entry
    cdef Leaf* leaf
    cdef Status status = split_selection(spec, &shard.select, &shard.split)
    if status != OK:
        return status
    n = shard.split.n
    shard.leaves = <Leaf*> malloc(max(n, <Py_ssize_t> 1) * sizeof(Leaf))
    wanted = <Py_ssize_t*> malloc(max(n, <Py_ssize_t> 1) * sizeof(Py_ssize_t))
    if shard.leaves == NULL or wanted == NULL:
        free(wanted)
        return NO_MEMORY
    for i in range(n):
        leaf = &shard.leaves[i]
        leaf.number = i
        data = shard.data
        leaf.position = inner_selection(spec, &shard.select, &shard.split, i, parts, &inner, &data)
        wanted[i] = leaf.position
        entry = &shard.index[leaf.position]
        status = check_entry(entry, &shard.source, spec, shard.n, failure)
        if status > MISSING:
            if shard.depth == 0:
                failure.inner = leaf.position
            free(wanted)
            return status
        leaf.offset = entry.offset if status == OK else 0
        leaf.size = entry.size if status == OK else -1
        total += max(leaf.size, <Py_ssize_t> 0)
    status = check_overlaps(shard.index, shard.n, wanted, n, failure)
    free(wanted)
    if status == OK and total < n * TINY:
        qsort(shard.leaves, n, sizeof(Leaf), _by_offset)
    shard.n_leaves = n
    return status


cdef void _open_shard(Tasks* tasks, Shard* shard, Workspace* space) noexcept nogil:
    cdef Task* task = &tasks.items[shard.task]
    cdef Failure failure
    if is_cancelled(tasks, shard.task):
        return
    memset(&failure, 0, sizeof(Failure))
    failure.stage = -1
    failure.inner = shard.inner
    failure.depth = shard.depth
    if shard.depth == 0:
        failure.status = open_task(tasks, task, &shard.source, &failure)
    if failure.status == OK:
        failure.status = unwrap_shard(shard.chain, shard.n, shard.depth == 0, &shard.source,
                                      &shard.decoded, space, &failure)
    if failure.status == MISSING:  # or a codec says so
        if shard.depth == 0:
            task.failure.status = MISSING
        failure.status = _fill_shard(tasks, &shard.select, shard.data, space, &failure)
        if failure.status == OK:
            return
    if failure.status == OK:
        failure.status = read_index(&shard.source, shard.chain.shard, shard.n, &shard.index,
                                    &failure)
    if failure.status == OK:
        failure.status = find_leaves(shard, &failure)
    if failure.status > MISSING:
        shard.n_leaves = 0
        record_failure(tasks, shard.task, &failure)


cdef Py_ssize_t _next_shards(
    Tasks* tasks, Shard* shard, Shard* inner, Workspace* space,
) noexcept nogil:
    # Makes shards of the inner chunks of a shard; returns how many. Missing ones are filled.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i
    cdef const Leaf* leaf
    cdef Shard* one
    cdef Status status
    cdef Failure failure
    for i in range(shard.n_leaves):
        leaf = &shard.leaves[i]
        one = &inner[n]
        memset(one, 0, sizeof(Shard))
        memset(&failure, 0, sizeof(Failure))
        failure.stage = -1
        one.own_axes = <Axis*> malloc(max(tasks.ndim, 1) * sizeof(Axis))
        status = OK if one.own_axes != NULL else NO_MEMORY
        if status == OK:
            one.data = shard.data
            inner_selection(spec, &shard.select, &shard.split, leaf.number, one.own_axes,
                            &one.select, &one.data)
            if leaf.size < 0:
                status = _fill_shard(tasks, &one.select, one.data, space, &failure)
        if status != OK:
            failure.status = status
            record_failure(tasks, shard.task, &failure)
        if status != OK or leaf.size < 0:
            free(one.own_axes)
            continue
        one.task = shard.task
        one.depth = shard.depth + 1
        one.inner = leaf.position if shard.depth == 0 else shard.inner
        one.chain = spec.chain
        one.n = spec.inner_n
        one.source = shard.source
        narrow_input(&one.source, leaf.offset, leaf.size)
        n += 1
    return n


cdef Status _leaf_region(
    const Tasks* tasks, const Shard* shard, const Leaf* leaf, Buffer* pairs, Region* region,
) noexcept nogil:
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef char* data = shard.data
    inner_selection(shard.chain.shard, &shard.select, &shard.split, leaf.number, parts, &inner,
                    &data)
    return make_region(&inner, tasks.ndim, &tasks.layout.item, data, False, pairs, region)


cdef const char* _leaf_place(
    const Tasks* tasks, const Shard* shard, const Leaf* leaf,
) noexcept nogil:
    # Where in the array the first item of an inner chunk goes.
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef char* data = shard.data
    inner_selection(shard.chain.shard, &shard.select, &shard.split, leaf.number, parts, &inner,
                    &data)
    return first_place(&inner, tasks.ndim, data)


cdef inline bint _is_simple(const Shard* shard) noexcept nogil:
    # Whether what is selected in an inner chunk is one box.
    return not shard.select.has_lists and not shard.select.has_points


cdef bint _goes_with(
    const Tasks* tasks, const Shard* shard, const Leaf* leaf, Py_ssize_t low, Py_ssize_t high,
) noexcept nogil:
    # Whether an inner chunk is read in one go with the range from `low` to `high`; below 0: none.
    cdef Region region
    if leaf.size < 0 or low < 0:
        return True
    if leaf.size > MAX_TOGETHER or leaf.offset < high or leaf.offset - high > tasks.max_gap or (
        leaf.offset + leaf.size - low > tasks.max_span
    ):
        return False
    if shard.chain.shard.chain.is_raw and _is_simple(shard):
        # Of raw bytes no more than is needed
        _leaf_region(tasks, shard, leaf, NULL, &region)
        return 4 * (region.high - region.low) >= leaf.size
    return True


cdef Py_ssize_t _cut_batches(
    const Tasks* tasks, Shard* shard, Py_ssize_t most, Batch* batches,
) noexcept nogil:
    # Cuts a shard's needed inner chunks into batches of at most `most`; returns how many.
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t low = -1
    cdef Py_ssize_t high = -1
    cdef Py_ssize_t i
    cdef const Leaf* leaf
    cdef Batch* batch = NULL
    for i in range(shard.n_leaves):
        leaf = &shard.leaves[i]
        if batch == NULL or batch.count == most or not _goes_with(tasks, shard, leaf, low, high):
            batch = &batches[n]
            n += 1
            batch.shard = shard
            batch.first = i
            batch.count = 0
            batch.dst = _leaf_place(tasks, shard, leaf)
            low = -1
        batch.count += 1
        if leaf.size >= 0:
            if low < 0:
                low = leaf.offset
            high = leaf.offset + leaf.size
            if leaf.size > MAX_TOGETHER:
                batch = NULL
    return n


cdef void _read_batch(Tasks* tasks, const Batch* batch, Workspace* space) noexcept nogil:
    cdef const Shard* shard = batch.shard
    cdef const Leaf* leaf
    cdef const uint8_t* bytes = NULL
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = 0
    cdef Py_ssize_t present = 0
    cdef Py_ssize_t i
    cdef Failure failure
    cdef Region region
    cdef Input source
    if is_cancelled(tasks, shard.task):
        return
    memset(&failure, 0, sizeof(Failure))
    failure.depth = shard.depth + 1
    failure.stage = -1
    for i in range(batch.first, batch.first + batch.count):
        leaf = &shard.leaves[i]
        if leaf.size >= 0:
            if present == 0:
                low = leaf.offset
            high = leaf.offset + leaf.size
            present += 1
    if present > 1:
        failure.inner = shard.inner
        failure.status = view_input(&shard.source, high - low, low, &space.span, &bytes, &failure)
    for i in range(batch.first, batch.first + batch.count):
        if failure.status != OK:
            break
        leaf = &shard.leaves[i]
        failure.inner = leaf.position if shard.depth == 0 else shard.inner
        failure.status = _leaf_region(tasks, shard, leaf, &space.pairs, &region)
        if failure.status != OK:
            break
        if leaf.size < 0:
            failure.status = fill_region(tasks.layout, &region, space, &failure)
            continue
        source = shard.source
        if present > 1:
            source.data = bytes + (leaf.offset - low)
            source.size = leaf.size
        else:
            narrow_input(&source, leaf.offset, leaf.size)
        failure.status = read_region(&source, shard.chain.shard.chain, &tasks.layout.item,
                                     &region, space, &failure)
        if failure.status == MISSING:  # says a codec
            failure.status = fill_region(tasks.layout, &region, space, &failure)
    if failure.status != OK:
        record_failure(tasks, shard.task, &failure)


cdef int _by_destination(const void* a, const void* b) noexcept nogil:
    cdef const char* x = (<const Batch*> a).dst
    cdef const char* y = (<const Batch*> b).dst
    return (x > y) - (x < y)


cdef int _read_leaves(
    Tasks* tasks, Shard* shards, Py_ssize_t n_shards, Workspace** spaces, int threads,
) except -1:
    # Reads the inner chunks of open shards.
    cdef Py_ssize_t n_leaves = 0
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i, most
    cdef Batch* batches
    for i in range(n_shards):
        n_leaves += shards[i].n_leaves
    if n_leaves == 0:
        return 0
    batches = <Batch*> malloc(n_leaves * sizeof(Batch))
    if batches == NULL:
        raise MemoryError(f"no memory for a plan of {n_leaves} inner chunks")
    with nogil:
        most = BATCH // max(<int64_t> 1, shards[0].chain.shard.inner_nbytes)
        most = max(<Py_ssize_t> 1, min(most, n_leaves // (BATCHES_A_THREAD * threads)))
        for i in range(n_shards):
            n += _cut_batches(tasks, &shards[i], most, batches + n)
        qsort(batches, n, sizeof(Batch), _by_destination)
    try:
        if not _are_big(tasks, batches, n):
            with nogil:
                if threads == 1:
                    for i in range(n):
                        _read_batch(tasks, &batches[i], spaces[0])
                else:
                    for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=1):
                        _read_batch(tasks, &batches[i], spaces[threadid()])
        else:
            _read_in_pieces(tasks, batches, n, spaces, threads)
    finally:
        free(batches)
    return 0


cdef bint _are_big(const Tasks* tasks, const Batch* batches, Py_ssize_t n) noexcept nogil:
    # Whether so much is needed of inner chunks that threads share them piece by piece.
    cdef const ChainSpec* chain = batches[0].shard.chain.shard.chain
    cdef Py_ssize_t needed = 0
    cdef Py_ssize_t i
    cdef Region region
    if batches[0].shard.chain.shard.inner_nbytes < MIN_SPLIT or not (
        chain.is_raw or chain.is_blosc
    ):
        return False
    for i in range(n):  # chunks as big as this are alone in their batches
        if not _is_simple(batches[i].shard):
            return False
        _leaf_region(tasks, batches[i].shard, &batches[i].shard.leaves[batches[i].first], NULL,
                     &region)
        needed += region.high - region.low
    return needed >= n * MIN_SPLIT


cdef void _open_leaf(Tasks* tasks, const Batch* batch, Source* source) noexcept nogil:
    cdef const Shard* shard = batch.shard
    cdef const Leaf* leaf = &shard.leaves[batch.first]
    cdef Failure failure
    memset(source, 0, sizeof(Source))
    if is_cancelled(tasks, shard.task):
        return
    memset(&failure, 0, sizeof(Failure))
    _leaf_region(tasks, shard, leaf, NULL, &source.region)  # one box: it cannot fail
    if leaf.size < 0:
        fill_region(tasks.layout, &source.region, NULL, &failure)  # nor can this, of plain items
        return
    source.task = shard.task
    source.depth = shard.depth + 1
    source.inner = leaf.position if shard.depth == 0 else shard.inner
    source.input = shard.source
    narrow_input(&source.input, leaf.offset, leaf.size)
    failure.depth = source.depth
    failure.inner = source.inner
    failure.status = open_source(source, tasks, shard.chain.shard.chain, &failure)
    if failure.status != OK:
        record_failure(tasks, shard.task, &failure)


cdef int _read_in_pieces(
    Tasks* tasks, const Batch* batches, Py_ssize_t n, Workspace** spaces, int threads,
) except -1:
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t i, count
    cdef Source* sources = <Source*> calloc(min(n, <Py_ssize_t> WAVE), sizeof(Source))
    if sources == NULL:
        raise MemoryError("no memory for a read")
    try:
        while first < n:
            count = min(n - first, <Py_ssize_t> WAVE)
            with nogil:
                for i in prange(count, num_threads=threads, schedule="dynamic", chunksize=1):
                    _open_leaf(tasks, &batches[first + i], &sources[i])
            read_pieces(tasks, batches[0].shard.chain.shard.chain, sources, count, spaces,
                        threads)
            first += count
    finally:
        free(sources)
    return 0


cdef int read_opened(
    Tasks* tasks, Shard* shards, Py_ssize_t n, Workspace** spaces, int threads,
) except -1:
    """Read from open shards, all at the same depth, the inner chunks that are their leaves."""
    cdef Py_ssize_t n_inner = 0
    cdef Py_ssize_t n_leaves = 0
    cdef Py_ssize_t i
    cdef Shard* inner
    if n == 0 or shards[0].chain.shard.chain.shard == NULL:
        return _read_leaves(tasks, shards, n, spaces, threads)
    for i in range(n):
        n_leaves += shards[i].n_leaves
    inner = <Shard*> malloc(max(n_leaves, 1) * sizeof(Shard))
    if inner == NULL:
        raise MemoryError(f"no memory for a plan of {n_leaves} inner shards")
    try:
        with nogil:
            for i in range(n):
                n_inner += _next_shards(tasks, &shards[i], inner + n_inner, spaces[0])
        return read_level(tasks, inner, n_inner, spaces, threads)
    finally:
        free(inner)


cdef int read_level(
    Tasks* tasks, Shard* shards, Py_ssize_t n, Workspace** spaces, int threads,
) except -1:
    """Open shards, all at the same depth, read them, and close them."""
    cdef Py_ssize_t i
    try:
        with nogil:
            if threads == 1 or n == 1:
                for i in range(n):
                    _open_shard(tasks, &shards[i], spaces[0])
            else:
                for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=1):
                    _open_shard(tasks, &shards[i], spaces[threadid()])
        return read_opened(tasks, shards, n, spaces, threads)
    finally:
        with nogil:
            for i in range(n):
                close_shard(&shards[i])
