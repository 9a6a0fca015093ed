"""Reading of the inner chunks of shards: from some shards to one loop over all inner chunks.

The shards are opened in parallel and their indexes read. Then the inner chunks that are needed are
put into runs, neighbours in a file into one as they can be read in one go, and all runs of
all shards run in one loop, in the order of the memory that they fill. Inner chunks that are shards
again go through the same once more.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memset

from zarrs.caching._chunk_cache cimport (
    SHARD_INDEX,
    Kept,
    Place,
    add_place,
    can_keep,
    count_use,
    data_of,
    drop_origin,
    find_kept,
    keep,
    release_kept,
    still_holds,
)
from zarrs._core cimport (
    MAX_NDIM,
    MIN_SPLIT,
    MISSING,
    NO_MEMORY,
    OK,
    THE_FILE,
    Axis,
    Buffer,
    ChainSpec,
    Failure,
    FileStamp,
    Input,
    Item,
    Region,
    Selection,
    ShardSpec,
    Status,
    Task,
    Tasks,
    Team,
    Workspace,
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
from zarrs.chunks._read_chunks cimport open_task
from zarrs.filesystem._files cimport close_input, view_input
from zarrs.indexing._region cimport (
    first_place,
    free_split,
    inner_selection,
    make_region,
    split_selection,
)
from zarrs.runtime._failures cimport begin_failure, is_cancelled, record_failure
from zarrs.runtime._loop cimport run_loop
from zarrs.sharding._index cimport (
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
    RUN_BYTES = 512 * 1024  # decoded, of a run
    RUNS_A_THREAD = 8  # at least, so that threads end at the same time


# Shards of one depth.
cdef struct Level:
    Tasks* tasks
    ShardRead* shards


# Inner chunks that a thread reads one after the other, with one read of the file if it can.
cdef struct Run:
    ShardRead* shard
    Py_ssize_t first
    Py_ssize_t count
    const char* dst  # where its first item goes


cdef struct Runs:
    Tasks* tasks
    Run* items


cdef void begin_shard(
    const Tasks* tasks, const ChainSpec* chain, Py_ssize_t task, ShardRead* shard,
) noexcept nogil:
    """Say what is selected in the shard that is a chunk of the array; ``close_shard`` ends it."""
    memset(shard, 0, sizeof(ShardRead))
    shard.task = task
    shard.inner = -1
    shard.chain = chain
    shard.source.fd = -1
    shard.wish.select = tasks.items[task].select
    shard.wish.data = tasks.data + tasks.items[task].array_offset
    shard.n = count_inner_chunks(chain.shard, shard.wish.select.axes)


cdef void close_shard(ShardRead* shard) noexcept nogil:
    """Give back what a shard holds."""
    cdef Py_ssize_t i
    if shard.depth == 0:
        close_input(&shard.source)
    free(shard.decoded)
    if shard.kept_index != NULL:
        release_kept(shard.kept_index)
    else:
        free(<void*> shard.index)
    free(shard.own_axes)
    _release_wanted(shard)
    free(shard.wanted)
    free_split(&shard.wish.split)
    for i in range(shard.n_others):
        free_split(&shard.others[i].split)
    free(shard.others)


cdef void _release_wanted(ShardRead* shard) noexcept nogil:
    # Uses nothing from the cache any more. (However they are sorted, those of one position are
    # neighbours.)
    cdef Py_ssize_t i
    for i in range(shard.n_listed):
        if shard.wanted[i].kept != NULL and not _is_repeated(shard, i):
            release_kept(shard.wanted[i].kept)
    for i in range(shard.n_listed):
        shard.wanted[i].kept = NULL


cdef Status _fill_wish(
    const Tasks* tasks, const Selection* select, char* data, Workspace* space,
) noexcept nogil:
    cdef Region region
    cdef Status status = make_region(select, tasks.ndim, &tasks.layout.item, data, False,
                                     &space.pairs, &region)
    if status == OK:
        status = fill_region(tasks.layout, &region, space)
    return status


cdef Status _fill_shard(
    const Tasks* tasks, const ShardRead* shard, Workspace* space,
) noexcept nogil:
    cdef const Task* task = &tasks.items[shard.task]
    cdef Status status = _fill_wish(tasks, &shard.wish.select, shard.wish.data, space)
    cdef Py_ssize_t i
    for i in range(task.n_shares if shard.depth == 0 else shard.n_others):
        if status != OK:
            break
        if shard.depth == 0:
            status = _fill_wish(tasks, &task.shares[i].select,
                                tasks.data + task.shares[i].array_offset, space)
        else:
            status = _fill_wish(tasks, &shard.others[i].select, shard.others[i].data, space)
    return status


cdef int _by_offset(const void* a, const void* b) noexcept nogil:
    cdef const InnerChunk* x = <const InnerChunk*> a
    cdef const InnerChunk* y = <const InnerChunk*> b
    if x.offset != y.offset:
        return (x.offset > y.offset) - (x.offset < y.offset)
    return _by_position(a, b)


cdef int _by_position(const void* a, const void* b) noexcept nogil:
    cdef const InnerChunk* x = <const InnerChunk*> a
    cdef const InnerChunk* y = <const InnerChunk*> b
    if x.position != y.position:
        return (x.position > y.position) - (x.position < y.position)
    return (x.wish > y.wish) - (x.wish < y.wish)


cdef inline const Wish* _wish_of(const ShardRead* shard, const InnerChunk* chunk) noexcept nogil:
    return &shard.wish if chunk.wish == 0 else &shard.others[chunk.wish - 1]


cdef Status _split_wishes(const Tasks* tasks, ShardRead* shard, Py_ssize_t* n) noexcept nogil:
    # Finds out in how many inner chunks something is wanted, one counted for everybody who does.
    cdef const Task* task = &tasks.items[shard.task]
    cdef Status status
    cdef Py_ssize_t i
    if shard.depth == 0 and task.n_shares > 0:
        shard.others = <Wish*> calloc(task.n_shares, sizeof(Wish))
        if shard.others == NULL:
            return NO_MEMORY
        shard.n_others = task.n_shares
        for i in range(task.n_shares):
            shard.others[i].select = task.shares[i].select
            shard.others[i].data = tasks.data + task.shares[i].array_offset
    status = split_selection(shard.chain.shard, &shard.wish.select, &shard.wish.split)
    n[0] = shard.wish.split.n
    for i in range(shard.n_others):
        if status == OK:
            status = split_selection(
                shard.chain.shard, &shard.others[i].select, &shard.others[i].split)
        n[0] += shard.others[i].split.n
    return status


cdef void _list_wanted(ShardRead* shard) noexcept nogil:
    # Those that several selections want lie side by side.
    cdef InnerChunk* chunk
    cdef const Wish* wish
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef char* data
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i, k
    for k in range(1 + shard.n_others):
        wish = &shard.wish if k == 0 else &shard.others[k - 1]
        for i in range(wish.split.n):
            chunk = &shard.wanted[n]
            n += 1
            chunk.wish = k
            chunk.number = i
            chunk.offset = 0
            chunk.size = -1
            chunk.kept = NULL
            data = wish.data
            chunk.position = inner_selection(shard.chain.shard, &wish.select, &wish.split, i,
                                             parts, &inner, &data)
    if shard.n_others > 0:
        qsort(shard.wanted, n, sizeof(InnerChunk), _by_position)


cdef bint _find_all_kept(
    const Tasks* tasks, ShardRead* shard, const FileStamp* stamp,
) noexcept nogil:
    # Finds the wanted inner chunks in the cache; returns whether all are there, and from one file.
    # Inner chunks that are shards are not kept as such.
    cdef const Task* task = &tasks.items[shard.task]
    cdef InnerChunk* chunk
    cdef Place place
    cdef bint has_all = True
    cdef Py_ssize_t i
    if shard.chain.shard.chain.shard != NULL:
        return False
    for i in range(shard.n_listed):
        chunk = &shard.wanted[i]
        place = shard.place
        if _is_repeated(shard, i):
            chunk.kept = shard.wanted[i - 1].kept
        else:
            chunk.kept = find_kept(tasks, task, &place, stamp) if (
                add_place(&place, chunk.position)) else NULL
        has_all = has_all and chunk.kept != NULL and (
            memcmp(&chunk.kept.stamp, &shard.wanted[0].kept.stamp, sizeof(FileStamp)) == 0)
    return has_all


cdef void _check_kept(const Tasks* tasks, ShardRead* shard) noexcept nogil:
    # Lets go of what does not go with the file that is open now.
    cdef Py_ssize_t i
    drop_origin(tasks, &tasks.items[shard.task], &shard.source.stamp)
    for i in range(shard.n_listed):
        if shard.wanted[i].kept != NULL and not still_holds(
            tasks, shard.wanted[i].kept, &shard.source.stamp
        ):
            _release_wanted(shard)
            return


cdef Status list_wanted(
    const Tasks* tasks, ShardRead* shard, bint* all_kept,
) noexcept nogil:
    """List the needed inner chunks, and find them in the cache; ``all_kept``: all are there."""
    cdef Py_ssize_t n = 0
    cdef Status status = _split_wishes(tasks, shard, &n)
    all_kept[0] = False
    if status != OK:
        return status
    shard.wanted = <InnerChunk*> malloc(max(n, <Py_ssize_t> 1) * sizeof(InnerChunk))
    if shard.wanted == NULL:
        return NO_MEMORY
    _list_wanted(shard)
    shard.n_listed = n
    if tasks.cache != NULL:
        all_kept[0] = _find_all_kept(
            tasks, shard, NULL if shard.depth == 0 else &shard.source.stamp)
    return OK


cdef bint find_kept_index(
    const Tasks* tasks, ShardRead* shard, const FileStamp* stamp,
) noexcept nogil:
    """Take the index of a shard from the cache; return whether it is there."""
    cdef Place place = shard.place
    if tasks.cache != NULL and add_place(&place, SHARD_INDEX):
        shard.kept_index = find_kept(tasks, &tasks.items[shard.task], &place, stamp)
    if shard.kept_index == NULL:
        return False
    shard.index = <const Entry*> data_of(shard.kept_index)
    return True


cdef Status get_index(
    const Tasks* tasks, ShardRead* shard, const Input* source, Failure* failure,
) noexcept nogil:
    """Read the index of a shard, and keep it.

    If it is in memory, and is not the one that is kept, nothing that is kept of the shard is used:
    no stamp tells whether that is older. What is kept of the whole chunk of the array goes, then,
    unless this is a shard in it of which nothing is known yet.
    """
    cdef Place place = shard.place
    cdef const Task* task = &tasks.items[shard.task]
    cdef Entry* index = NULL
    cdef size_t size = shard.n * sizeof(Entry)
    cdef Kept* kept
    cdef bint is_known, is_same
    cdef Status status = read_index(source, shard.chain.shard, shard.n, &index, failure)
    shard.index = index
    if status != OK or tasks.cache == NULL or not add_place(&place, SHARD_INDEX):
        return status
    if source.data != NULL:
        kept = find_kept(tasks, task, &place, &source.stamp)
        is_known = kept != NULL
        is_same = is_known and memcmp(data_of(kept), index, size) == 0
        if is_known:
            release_kept(kept)
        if is_same:
            return OK
        _release_wanted(shard)
        if is_known or shard.depth == 0:
            drop_origin(tasks, task, NULL)
    keep(tasks, task, &place, <const uint8_t*> index, size, &source.stamp)
    return OK


cdef Status look_up_wanted(
    const Tasks* tasks, ShardRead* shard, Failure* failure,
) noexcept nogil:
    """Look up in the index what is not in the cache, and check what it says."""
    cdef Py_ssize_t n = shard.n_listed
    cdef Py_ssize_t n_positions = 0
    cdef Py_ssize_t* positions = <Py_ssize_t*> malloc(
        max(n, <Py_ssize_t> 1) * sizeof(Py_ssize_t))
    cdef Py_ssize_t total = 0
    cdef Py_ssize_t i
    cdef const Entry* entry
    cdef InnerChunk* chunk
    cdef Status status = OK
    if positions == NULL:
        return NO_MEMORY
    for i in range(n):
        chunk = &shard.wanted[i]
        if chunk.kept != NULL:
            continue
        if _is_repeated(shard, i):
            chunk.offset = shard.wanted[i - 1].offset
            chunk.size = shard.wanted[i - 1].size
            continue
        positions[n_positions] = chunk.position
        n_positions += 1
        entry = &shard.index[chunk.position]
        status = check_entry(entry, &shard.source, shard.chain.shard, shard.n, failure)
        if status > MISSING:
            if shard.depth == 0:
                failure.inner = chunk.position
            free(positions)
            return status
        if status == OK:
            chunk.offset = entry.offset
            chunk.size = entry.size
            total += chunk.size
    if n_positions > 0:
        status = check_overlaps(shard.index, shard.n, positions, n_positions, failure)
    free(positions)
    if status > MISSING:
        return status
    if total < n_positions * TINY:
        qsort(shard.wanted, n, sizeof(InnerChunk), _by_offset)
    shard.n_wanted = n
    return OK


cdef inline bint _is_repeated(const ShardRead* shard, Py_ssize_t i) noexcept nogil:
    # Whether the i-th wanted inner chunk is the one before, which somebody else wants.
    return shard.n_others > 0 and i > 0 and (
        shard.wanted[i].position == shard.wanted[i - 1].position)


cdef void _open_shard(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = (<Level*> context).tasks
    cdef ShardRead* shard = &(<Level*> context).shards[k]
    cdef Task* task = &tasks.items[shard.task]
    cdef Failure* failure
    cdef bint all_kept = False
    if is_cancelled(tasks, shard.task):
        return
    failure = begin_failure(space)
    failure.stage = THE_FILE
    failure.inner = shard.inner
    failure.depth = shard.depth
    failure.status = list_wanted(tasks, shard, &all_kept)
    if failure.status == OK and all_kept:
        shard.n_wanted = shard.n_listed
        task.empty = task.empty or shard.depth == 0
        return
    if failure.status == OK and tasks.only_kept:
        return
    if failure.status == OK:
        failure.status = _open_source(tasks, shard, space)
    if failure.status == MISSING:  # or a codec says so
        if shard.depth == 0:
            task.failure.status = MISSING
        failure.status = _fill_shard(tasks, shard, space)
        if failure.status == OK:
            return
    if failure.status == OK and (
        shard.source.data != NULL or not find_kept_index(tasks, shard, &shard.source.stamp)
    ):
        failure.status = get_index(tasks, shard, &shard.source, failure)
    if failure.status == OK:
        failure.status = look_up_wanted(tasks, shard, failure)
    if failure.status > MISSING:
        shard.n_wanted = 0
        record_failure(tasks, shard.task, failure)


cdef Status _open_source(const Tasks* tasks, ShardRead* shard, Workspace* space) noexcept nogil:
    # Opens a shard and undoes the codecs around it. What came from another file is not used.
    cdef const Task* task = &tasks.items[shard.task]
    cdef Status status = OK
    if shard.depth == 0:
        status = open_task(tasks, task, &shard.source, &space.failure)
    if status == OK and tasks.cache != NULL:
        _check_kept(tasks, shard)
    if status == OK:
        status = unwrap_shard(shard.chain, shard.n, shard.depth == 0, &shard.source,
                              &shard.decoded, space)
    return status


cdef Status _pass_wishes(
    const Tasks* tasks, const ShardRead* shard, Py_ssize_t first, Py_ssize_t count,
    ShardRead* inner,
) noexcept nogil:
    # What everybody who wants something of an inner chunk wants of it, as it is a shard.
    cdef const InnerChunk* chunk
    cdef const Wish* wish
    cdef Wish* passed
    cdef Py_ssize_t i
    inner.own_axes = <Axis*> malloc(count * max(tasks.ndim, 1) * sizeof(Axis))
    if count > 1:
        inner.others = <Wish*> calloc(count - 1, sizeof(Wish))
    if inner.own_axes == NULL or (count > 1 and inner.others == NULL):
        return NO_MEMORY
    inner.n_others = count - 1
    for i in range(count):
        chunk = &shard.wanted[first + i]
        wish = _wish_of(shard, chunk)
        passed = &inner.wish if i == 0 else &inner.others[i - 1]
        passed.data = wish.data
        inner_selection(shard.chain.shard, &wish.select, &wish.split, chunk.number,
                        inner.own_axes + i * tasks.ndim, &passed.select, &passed.data)
    return OK


cdef Py_ssize_t _next_shards(
    Tasks* tasks, ShardRead* shard, ShardRead* inner, Workspace* space,
) noexcept nogil:
    # Makes shards of the inner chunks of a shard; returns how many. Missing ones are filled.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t first
    cdef const InnerChunk* chunk
    cdef ShardRead* one
    cdef Status status
    cdef Failure* failure
    while i < shard.n_wanted:
        chunk = &shard.wanted[i]
        one = &inner[n]
        memset(one, 0, sizeof(ShardRead))
        one.task = shard.task
        one.depth = shard.depth + 1
        one.place = shard.place
        add_place(&one.place, chunk.position)
        first = i
        i += 1
        while i < shard.n_wanted and _is_repeated(shard, i):
            i += 1
        failure = begin_failure(space)
        failure.stage = THE_FILE
        status = _pass_wishes(tasks, shard, first, i - first, one)
        if status == OK and chunk.size < 0:
            status = _fill_shard(tasks, one, space)
        if status != OK:
            failure.status = status
            record_failure(tasks, shard.task, failure)
        if status != OK or chunk.size < 0:
            free(one.own_axes)
            free(one.others)
            continue
        one.inner = chunk.position if shard.depth == 0 else shard.inner
        one.chain = spec.chain
        one.n = spec.inner_n
        one.source = shard.source
        narrow_input(&one.source, chunk.offset, chunk.size)
        n += 1
    return n


cdef Status _region_of(
    const Tasks* tasks, const ShardRead* shard, const InnerChunk* chunk, Buffer* pairs,
    Region* region,
) noexcept nogil:
    cdef const Wish* wish = _wish_of(shard, chunk)
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef char* data = wish.data
    inner_selection(shard.chain.shard, &wish.select, &wish.split, chunk.number, parts, &inner,
                    &data)
    return make_region(&inner, tasks.ndim, &tasks.layout.item, data, False, pairs, region)


cdef const char* _first_item_of(
    const Tasks* tasks, const ShardRead* shard, const InnerChunk* chunk,
) noexcept nogil:
    # Where in the array the first item of an inner chunk goes.
    cdef const Wish* wish = _wish_of(shard, chunk)
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef char* data = wish.data
    inner_selection(shard.chain.shard, &wish.select, &wish.split, chunk.number, parts, &inner,
                    &data)
    return first_place(&inner, tasks.ndim, data)


cdef inline bint _is_simple(const ShardRead* shard) noexcept nogil:
    # Whether what is selected in an inner chunk is one box.
    return not (
        shard.wish.select.has_lists or shard.wish.select.has_points or shard.n_others > 0)


cdef bint _goes_with(
    const Tasks* tasks, const ShardRead* shard, const InnerChunk* chunk, Py_ssize_t low,
    Py_ssize_t high,
) noexcept nogil:
    # Whether an inner chunk is read in one go with the range from `low` to `high`; below 0: none.
    cdef Region region
    if chunk.size < 0 or low < 0:
        return True
    if chunk.size > MAX_TOGETHER or chunk.offset < high or chunk.offset - high > tasks.max_gap or (
        chunk.offset + chunk.size - low > tasks.max_span
    ):
        return False
    if shard.chain.shard.chain.is_raw and _is_simple(shard):
        # Of raw bytes no more than is needed
        _region_of(tasks, shard, chunk, NULL, &region)
        return 4 * (region.high - region.low) >= chunk.size
    return True


cdef Py_ssize_t _cut_runs(
    const Tasks* tasks, ShardRead* shard, Py_ssize_t most, Run* runs,
) noexcept nogil:
    # Cuts a shard's needed inner chunks into runs of at most `most`; returns how many.
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t low = -1
    cdef Py_ssize_t high = -1
    cdef Py_ssize_t i
    cdef const InnerChunk* chunk
    cdef Run* run = NULL
    for i in range(shard.n_wanted):
        chunk = &shard.wanted[i]
        if _is_repeated(shard, i):
            runs[n - 1].count += 1
            continue
        if run == NULL or run.count >= most or not _goes_with(tasks, shard, chunk, low, high):
            run = &runs[n]
            n += 1
            run.shard = shard
            run.first = i
            run.count = 0
            run.dst = _first_item_of(tasks, shard, chunk)
            low = -1
        run.count += 1
        if chunk.size >= 0:
            if low < 0:
                low = chunk.offset
            high = chunk.offset + chunk.size
            if chunk.size > MAX_TOGETHER:
                run = NULL
    return n


cdef Status _read_chunk(
    const Tasks* tasks, const ShardRead* shard, const InnerChunk* chunks, Py_ssize_t n,
    const Input* source, Workspace* space,
) noexcept nogil:
    # Reads one inner chunk, of which ``n`` selections want something; it is decoded once, and as a
    # whole if it is to be kept.
    cdef const ChainSpec* chain = shard.chain.shard.chain
    cdef const Item* item = &tasks.layout.item
    cdef bint is_missing = chunks.size < 0 and chunks.kept == NULL
    cdef Place place = shard.place
    cdef bint keeping = (
        chunks.size >= 0 and can_keep(tasks, shard.chain.shard.inner_nbytes)
        and add_place(&place, chunks.position)
    )
    cdef bint once = chunks.kept != NULL or keeping or (
        n > 1 and not chain.is_raw and not is_missing)
    cdef Status status = OK
    cdef Decoded decoded
    cdef Region region
    cdef Py_ssize_t i
    if chunks.kept != NULL:
        decoded.bytes = data_of(chunks.kept)
        decoded.size = chunks.kept.size
        count_use(tasks, True)
    elif once:
        status = decode_whole(source, chain, item, shard.chain.shard.inner_nbytes, space, &decoded)
    if status == OK and keeping:
        keep(tasks, &tasks.items[shard.task], &place, decoded.bytes, decoded.size,
             &shard.source.stamp)
        count_use(tasks, False)
    for i in range(n):
        if status == MISSING:  # says a codec
            is_missing = True
        elif status != OK:
            return status
        status = _region_of(tasks, shard, &chunks[i], &space.pairs, &region)
        if status != OK:
            return status
        if not is_missing and once:
            status = copy_decoded(&decoded, item, &region, space)
        elif not is_missing:
            status = read_region(source, chain, item, &region, space)
        if is_missing or status == MISSING:
            status = fill_region(tasks.layout, &region, space)
    return status


cdef void _read_run(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = (<Runs*> context).tasks
    cdef const Run* run = &(<Runs*> context).items[k]
    cdef const ShardRead* shard = run.shard
    cdef const InnerChunk* chunk
    cdef const uint8_t* bytes = NULL
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = 0
    cdef Py_ssize_t present = 0
    cdef Py_ssize_t i, n
    cdef Failure* failure
    cdef Input source
    if is_cancelled(tasks, shard.task):
        return
    failure = begin_failure(space)
    failure.depth = shard.depth + 1
    failure.stage = THE_FILE
    for i in range(run.first, run.first + run.count):
        chunk = &shard.wanted[i]
        if chunk.size >= 0 and (i == run.first or not _is_repeated(shard, i)):
            if present == 0:
                low = chunk.offset
            high = chunk.offset + chunk.size
            present += 1
    if present > 1:
        failure.inner = shard.inner
        failure.status = view_input(&shard.source, high - low, low, &space.span, &bytes, failure)
    i = run.first
    while i < run.first + run.count and failure.status == OK:
        n = 1
        while i + n < run.first + run.count and _is_repeated(shard, i + n):
            n += 1
        chunk = &shard.wanted[i]
        failure.inner = chunk.position if shard.depth == 0 else shard.inner
        source = shard.source
        if present > 1:
            source.data = bytes + (chunk.offset - low)
            source.size = chunk.size
        elif chunk.size >= 0:
            narrow_input(&source, chunk.offset, chunk.size)
        failure.status = _read_chunk(tasks, shard, chunk, n, &source, space)
        i += n
    if failure.status != OK:
        record_failure(tasks, shard.task, failure)


cdef int _by_destination(const void* a, const void* b) noexcept nogil:
    cdef const char* x = (<const Run*> a).dst
    cdef const char* y = (<const Run*> b).dst
    return (x > y) - (x < y)


cdef int _read_wanted(
    Tasks* tasks, ShardRead* shards, Py_ssize_t n_shards, const Team* team,
) except -1:
    # Reads the inner chunks of open shards.
    cdef Py_ssize_t n_wanted = 0
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i, most
    cdef Runs runs
    for i in range(n_shards):
        n_wanted += shards[i].n_wanted
    if n_wanted == 0:
        return 0
    runs.tasks = tasks
    runs.items = <Run*> malloc(n_wanted * sizeof(Run))
    if runs.items == NULL:
        raise MemoryError(f"no memory for a plan of {n_wanted} inner chunks")
    with nogil:
        most = RUN_BYTES // max(<int64_t> 1, shards[0].chain.shard.inner_nbytes)
        most = max(<Py_ssize_t> 1, min(most, n_wanted // (RUNS_A_THREAD * team.threads)))
        for i in range(n_shards):
            n += _cut_runs(tasks, &shards[i], most, runs.items + n)
        qsort(runs.items, n, sizeof(Run), _by_destination)
    try:
        if _are_big(tasks, runs.items, n):
            _read_in_pieces(&runs, n, team)
        else:
            with nogil:
                run_loop(_read_run, &runs, n, 1, team)
    finally:
        free(runs.items)
    return 0


cdef bint _are_big(const Tasks* tasks, const Run* runs, Py_ssize_t n) noexcept nogil:
    # Whether so much is needed of inner chunks that threads share them piece by piece.
    cdef const ChainSpec* chain = runs[0].shard.chain.shard.chain
    cdef Py_ssize_t needed = 0
    cdef Py_ssize_t i
    cdef Region region
    if runs[0].shard.chain.shard.inner_nbytes < MIN_SPLIT or not (
        chain.is_raw or chain.is_blosc
    ) or can_keep(tasks, runs[0].shard.chain.shard.inner_nbytes):
        return False
    for i in range(n):  # chunks as big as this are alone in their runs
        if not _is_simple(runs[i].shard):
            return False
        _region_of(tasks, runs[i].shard, &runs[i].shard.wanted[runs[i].first], NULL, &region)
        needed += region.high - region.low
    return needed >= n * MIN_SPLIT


# Of the runs of one inner chunk each, those that are open at the same time.
cdef struct Wave:
    Runs* runs
    Py_ssize_t first
    Source* sources


cdef void _open_inner_chunk(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef const Wave* wave = <const Wave*> context
    cdef Tasks* tasks = wave.runs.tasks
    cdef const Run* run = &wave.runs.items[wave.first + k]
    cdef Source* source = &wave.sources[k]
    cdef const ShardRead* shard = run.shard
    cdef const InnerChunk* chunk = &shard.wanted[run.first]
    cdef Failure* failure
    memset(source, 0, sizeof(Source))
    if is_cancelled(tasks, shard.task):
        return
    failure = begin_failure(space)
    _region_of(tasks, shard, chunk, NULL, &source.region)  # one box: it cannot fail
    if chunk.size < 0:
        fill_region(tasks.layout, &source.region, space)  # nor can this, of plain items
        return
    source.task = shard.task
    source.depth = shard.depth + 1
    source.inner = chunk.position if shard.depth == 0 else shard.inner
    source.input = shard.source
    narrow_input(&source.input, chunk.offset, chunk.size)
    failure.depth = source.depth
    failure.inner = source.inner
    failure.status = open_source(source, tasks, shard.chain.shard.chain, failure)
    if failure.status != OK:
        record_failure(tasks, shard.task, failure)


cdef int _read_in_pieces(Runs* runs, Py_ssize_t n, const Team* team) except -1:
    cdef const ChainSpec* chain = runs.items[0].shard.chain.shard.chain
    cdef Py_ssize_t count
    cdef Wave wave
    wave.runs = runs
    wave.first = 0
    wave.sources = <Source*> calloc(min(n, <Py_ssize_t> WAVE), sizeof(Source))
    if wave.sources == NULL:
        raise MemoryError("no memory for a read")
    try:
        while wave.first < n:
            count = min(n - wave.first, <Py_ssize_t> WAVE)
            with nogil:
                run_loop(_open_inner_chunk, &wave, count, 1, team)
            read_pieces(runs.tasks, chain, wave.sources, count, team)
            wave.first += count
    finally:
        free(wave.sources)
    return 0


cdef int read_opened(
    Tasks* tasks, ShardRead* shards, Py_ssize_t n, const Team* team,
) except -1:
    """Read from open shards, all at the same depth, the inner chunks that are wanted."""
    cdef Py_ssize_t n_inner = 0
    cdef Py_ssize_t n_wanted = 0
    cdef Py_ssize_t i
    cdef ShardRead* inner
    if n == 0 or shards[0].chain.shard.chain.shard == NULL:
        return _read_wanted(tasks, shards, n, team)
    for i in range(n):
        n_wanted += shards[i].n_wanted
    inner = <ShardRead*> malloc(max(n_wanted, 1) * sizeof(ShardRead))
    if inner == NULL:
        raise MemoryError(f"no memory for a plan of {n_wanted} inner shards")
    try:
        with nogil:
            for i in range(n):
                n_inner += _next_shards(tasks, &shards[i], inner + n_inner, team.spaces[0])
        return read_level(tasks, inner, n_inner, team)
    finally:
        free(inner)


cdef int read_level(
    Tasks* tasks, ShardRead* shards, Py_ssize_t n, const Team* team,
) except -1:
    """Open shards, all at the same depth, read them, and close them."""
    cdef Level level
    cdef Py_ssize_t i
    level.tasks = tasks
    level.shards = shards
    try:
        with nogil:
            run_loop(_open_shard, &level, n, 1, team)
        return read_opened(tasks, shards, n, team)
    finally:
        with nogil:
            for i in range(n):
                close_shard(&shards[i])
