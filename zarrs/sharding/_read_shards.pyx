"""Reading of what a call selects in shards, in waves, so that not all their files are open."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from zarrs._core cimport ChainSpec, Tasks, Team, task_number
from zarrs.chunks._pieces cimport WAVE
from zarrs.sharding._read_inner cimport ShardRead, begin_shard, read_level

cdef enum:
    DECODED_WAVE = 256 * 1024 * 1024  # of shards that must be decoded as a whole, at a time


cdef Py_ssize_t _wave(const Tasks* tasks, int threads) noexcept nogil:
    # How many shards are open at the same time: as many as their decoded bytes allow.
    cdef const ChainSpec* chain = tasks.chain
    cdef int64_t biggest = 1
    cdef Py_ssize_t i
    while chain.shard != NULL and chain.n_stages == 0:
        chain = chain.shard.chain
    if chain.shard == NULL:
        return WAVE  # no shard, nor one inside of it, has to be decoded
    for i in range(tasks.n):
        biggest = max(biggest, tasks.items[task_number(tasks, i)].nbytes)
    return max(<Py_ssize_t> threads, min(<Py_ssize_t> WAVE, DECODED_WAVE // biggest))


cdef int read_shards(Tasks* tasks, const Team* team) except -1:
    """Read what a call selects in shards."""
    cdef Py_ssize_t wave = _wave(tasks, team.threads)
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t n, task
    cdef ShardRead* shards = <ShardRead*> malloc(min(wave, tasks.n) * sizeof(ShardRead))
    if shards == NULL:
        raise MemoryError("no memory for a read")
    try:
        while first < tasks.n:
            n = 0
            while first < tasks.n and n < wave:
                task = task_number(tasks, first)
                if not tasks.items[task].empty:
                    begin_shard(tasks, tasks.chain, task, &shards[n])
                    n += 1
                first += 1
            read_level(tasks, shards, n, team)
    finally:
        free(shards)
    return 0
