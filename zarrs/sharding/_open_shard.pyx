"""Shards that are fetched range by range: first the index, then what it says is needed.

Ranges that are close to each other are fetched in one request. Each is then, on its own, a shard of
which the inner chunks in it are all that is to be read, so that some are decoded while others are
under way.
"""

from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memset

from zarrs.caching._chunk_cache cimport can_keep
from zarrs._core cimport (
    BAD_INDEX,
    MAX_SIZE,
    NO_MEMORY,
    OK,
    OUTSIDE,
    THE_FILE,
    THE_INDEX,
    TOO_SHORT,
    ChainSpec,
    Failure,
    Input,
    ShardSpec,
    Status,
    Task,
    Tasks,
    Team,
)
from zarrs.codecs._chunk cimport DEAD_SPACE, MIN_DEAD_SPACE, encoded_bound
from zarrs.indexing._plan cimport Plan, see_buffer
from zarrs.indexing._region cimport touched_by_all
from zarrs.runtime._failures cimport record_failure
from zarrs.sharding._index cimport (
    count_inner_chunks,
    index_size,
    shard_bound,
)
from zarrs.sharding._read_inner cimport (
    InnerChunk,
    ShardRead,
    begin_shard,
    close_shard,
    find_kept_index,
    get_index,
    list_wanted,
    look_up_wanted,
    read_opened,
)


cdef int _by_offset(const void* a, const void* b) noexcept nogil:
    # What needs no fetching comes first: the shard does not hold it, or the cache does.
    cdef const InnerChunk* x = <const InnerChunk*> a
    cdef const InnerChunk* y = <const InnerChunk*> b
    if (x.size < 0) != (y.size < 0):
        return -1 if x.size < 0 else 1
    if x.offset != y.offset:
        return (x.offset > y.offset) - (x.offset < y.offset)
    return (x.position > y.position) - (x.position < y.position)


cdef Failure _new_failure() noexcept nogil:
    cdef Failure failure
    memset(&failure, 0, sizeof(Failure))
    failure.stage = THE_FILE
    failure.inner = -1
    return failure


cdef enum:
    # Decoded bytes of a shard: up to this one a range is not worth another request ...
    SMALL_SHARD = 1024 * 1024
    BIG_SHARD = 64 * 1024 * 1024  # ... and from here on it is fetched in parts in any case


cdef class OpenShard:
    """The needed inner chunks of one shard, in the order of their bytes.

    Attributes
    ----------
    task : int
    ranges : list of (int, int)
        Start and stop of what is to be fetched.
    has_absent : bool
        Whether some of the inner chunks need no fetching: the shard does not hold them, or a cache
        does. They are part -1.
    """

    cdef readonly Py_ssize_t task
    cdef readonly list ranges
    cdef readonly bint has_absent
    cdef Plan plan  # keeps what `shard` points to
    cdef ShardRead shard
    # The first wanted inner chunk of every range; those before the first are not in the shard.
    cdef Py_ssize_t* first

    def __cinit__(self):
        memset(&self.shard, 0, sizeof(ShardRead))
        self.shard.source.fd = -1

    def __dealloc__(self):
        close_shard(&self.shard)
        free(self.first)

    cdef int see_part(self, Py_ssize_t part, object buffer, ShardRead* seen, list kept) except -1:
        # The shard as far as it is in one range, whose bytes are in `buffer`. What is too short
        # for an inner chunk is what the store had: the index points past the end.
        cdef Failure failure
        cdef Py_ssize_t stop = self.first[0]
        cdef Py_ssize_t i
        seen[0] = self.shard
        seen.n_wanted = 0
        if part >= 0:
            start = self.ranges[part][0]
            seen.wanted = self.shard.wanted + self.first[part]
            stop = self.first[part + 1] - self.first[part]
            kept.append(see_buffer(buffer, &seen.source.data, &seen.source.size))
            for i in range(stop):
                if seen.wanted[i].offset + seen.wanted[i].size > seen.source.size:
                    failure = _new_failure()
                    failure.status = BAD_INDEX
                    failure.stage = THE_INDEX
                    failure.code = OUTSIDE
                    failure.inner = seen.wanted[i].position
                    failure.expected = seen.wanted[i].size
                    failure.found = start + seen.wanted[i].offset
                    record_failure(self.plan.tasks, self.task, &failure)
                    return 0
        seen.n_wanted = stop
        return 0


cdef Status _check_sizes(const ShardRead* shard, Failure* failure) noexcept nogil:
    # Nobody knows where the shard ends, but no inner chunk is that much longer than ours would be:
    # a damaged index must not make a store look for exabytes.
    cdef const ShardSpec* spec = shard.chain.shard
    cdef size_t bound = spec.inner_nbytes
    cdef Py_ssize_t i
    if spec.chain.shard != NULL:
        bound = shard_bound(spec.chain.shard, spec.inner_n)
    if bound:
        bound = encoded_bound(spec.chain, bound)
    if bound == 0 or bound > MAX_SIZE // DEAD_SPACE:
        return OK
    bound = max(DEAD_SPACE * bound, <size_t> MIN_DEAD_SPACE)
    for i in range(shard.n_wanted):
        if shard.wanted[i].size > <Py_ssize_t> bound:
            failure.stage = THE_INDEX
            failure.code = OUTSIDE
            failure.inner = shard.wanted[i].position
            failure.expected = shard.wanted[i].size
            failure.found = shard.wanted[i].offset
            return BAD_INDEX
    return OK


cdef int _cut_ranges(OpenShard opened, Py_ssize_t max_gap, Py_ssize_t max_span) except -1:
    # Inner chunks that are close to each other come in one range; their offsets are in it, then.
    cdef InnerChunk* wanted = opened.shard.wanted
    cdef Py_ssize_t n = opened.shard.n_wanted
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t k = 0
    cdef Py_ssize_t low, high
    qsort(wanted, n, sizeof(InnerChunk), _by_offset)
    while i < n and wanted[i].size < 0:
        i += 1
    opened.has_absent = i > 0
    opened.ranges = []
    while i < n:
        opened.first[k] = i
        k += 1
        low = wanted[i].offset
        high = low + wanted[i].size
        while i < n and wanted[i].offset - high <= max_gap and (
            wanted[i].offset + wanted[i].size - low <= max(max_span, high - low)
        ):
            high = max(high, wanted[i].offset + wanted[i].size)
            wanted[i].offset -= low
            i += 1
        opened.ranges.append((low, high))
    opened.first[k] = n
    return 0


cdef object part_of_task(Plan plan, const ChainSpec* chain, Py_ssize_t task):
    """What to fetch first of a chunk; see ``_execute.part_to_fetch``."""
    cdef const Task* one = plan.task(task)
    cdef Py_ssize_t low, high, n, size
    if chain.n_stages > 0 or chain.tail > 0:
        return None
    if chain.shard == NULL:
        if not chain.is_raw or can_keep(plan.tasks, one.nbytes):
            return None
        plan.needed_bytes(task, &low, &high)
        return (low, high) if 2 * (high - low) <= one.nbytes else None
    n = count_inner_chunks(chain.shard, one.select.axes)
    if one.nbytes <= SMALL_SHARD or (
        one.nbytes <= BIG_SHARD
        and 2 * touched_by_all(chain.shard, one, n) * chain.shard.inner_nbytes >= one.nbytes
    ):
        return None
    size = index_size(chain.shard, n)
    if chain.shard.index_at_start:
        return 0, size
    return -size, 0


cdef Status _read_given(
    const Tasks* tasks, ShardRead* shard, const Input* source, Failure* failure,
) noexcept nogil:
    # Reads an index that was fetched.
    if source.size == index_size(shard.chain.shard, shard.n):
        return get_index(tasks, shard, source, failure)
    failure.stage = THE_INDEX
    failure.code = TOO_SHORT
    failure.expected = index_size(shard.chain.shard, shard.n)
    failure.found = source.size
    return BAD_INDEX


cdef object open_fetched(Plan plan, const ChainSpec* chain, Py_ssize_t task, object index):
    """Read the index of a shard that is not fetched as a whole.

    Parameters
    ----------
    index : Buffer or None
        The bytes of the index. None: the index is taken from the cache.

    Returns
    -------
    OpenShard or None
        None if the index is damaged; the plan knows. Or the cache has no index.
    """
    cdef OpenShard opened = OpenShard.__new__(OpenShard)
    cdef ShardRead* shard = &opened.shard
    cdef Failure failure = _new_failure()
    cdef bint is_given = index is not None
    cdef bint is_known, all_kept
    cdef Input source
    memset(&source, 0, sizeof(Input))
    opened.plan = plan
    opened.task = task
    plan.task(task)  # or IndexError
    kept = see_buffer(index, &source.data, &source.size) if is_given else None
    with nogil:
        begin_shard(plan.tasks, chain, task, shard)
        is_known = not is_given and find_kept_index(plan.tasks, shard, NULL)
        if is_given:
            failure.status = _read_given(plan.tasks, shard, &source, &failure)
        if failure.status == OK:
            failure.status = list_wanted(plan.tasks, shard, &all_kept)
        if failure.status == OK and (is_known or is_given):
            shard.source.size = MAX_SIZE  # unknown; a range past the end arrives short
            failure.status = look_up_wanted(plan.tasks, shard, &failure)
        if failure.status == OK:
            failure.status = _check_sizes(shard, &failure)
        if failure.status == OK:
            opened.first = <Py_ssize_t*> malloc((shard.n_wanted + 1) * sizeof(Py_ssize_t))
            if opened.first == NULL:
                failure.status = NO_MEMORY
        if failure.status != OK:
            record_failure(plan.tasks, task, &failure)
    del kept
    if failure.status != OK or not (is_known or is_given):
        return None
    _cut_ranges(opened, plan.tasks.max_gap, plan.tasks.max_span)
    return opened


cdef int read_parts(
    Tasks* tasks, list parts, const Team* team,
) except -1:
    """Read the inner chunks in ranges that were fetched.

    Parameters
    ----------
    parts : list of (OpenShard, int, Buffer or None)
        For every range its shard, its number there, and its bytes; number -1: what the shard does
        not hold.
    """
    cdef Py_ssize_t n = len(parts)
    cdef Py_ssize_t i
    cdef list kept = []
    cdef OpenShard opened
    cdef ShardRead* shards = <ShardRead*> malloc(max(n, 1) * sizeof(ShardRead))
    if shards == NULL:
        raise MemoryError("no memory for a read")
    try:
        for i in range(n):
            opened, part, buffer = parts[i]
            opened.see_part(part, buffer, &shards[i], kept)
        return read_opened(tasks, shards, n, team)
    finally:
        free(shards)
