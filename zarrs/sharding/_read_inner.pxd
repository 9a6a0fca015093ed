"""Reading of the inner chunks of shards; see ``_read_inner.pyx``."""

from libc.stdint cimport int64_t, uint8_t

from zarrs.caching._chunk_cache cimport Kept, Place
from zarrs._core cimport (
    Axis,
    ChainSpec,
    Failure,
    FileStamp,
    Input,
    Selection,
    Status,
    Tasks,
    Team,
)
from zarrs.indexing._region cimport Split
from zarrs.sharding._index cimport Entry


cdef struct Wish:
    # What one selection of a call wants of a shard.
    Selection select
    char* data  # of the first selected item
    Split split


cdef struct InnerChunk:
    # An inner chunk that is needed.
    Py_ssize_t wish  # by which selection; 0: that of the task itself
    Py_ssize_t number  # among those that it touches
    Py_ssize_t position  # in the index
    Py_ssize_t offset
    Py_ssize_t size  # -1: the shard does not hold it, or the cache does
    Kept* kept  # in the cache


cdef struct ShardRead:
    Py_ssize_t task
    int depth  # 0: a chunk of the array
    int64_t inner  # in which inner chunk of the outermost shard it is
    Place place  # in the cache: in which inner chunks it is
    const ChainSpec* chain
    Input source
    uint8_t* decoded  # the memory behind it, if it had to be decoded as a whole
    const Entry* index
    Kept* kept_index  # in the cache; NULL: the index is this shard's own
    Py_ssize_t n  # inner chunks
    Axis* own_axes
    Wish wish
    Wish* others  # what more selections want: as many as the task has shares
    Py_ssize_t n_others
    InnerChunk* wanted
    Py_ssize_t n_wanted
    Py_ssize_t n_listed  # as many, as soon as they are known


cdef void begin_shard(
    const Tasks* tasks, const ChainSpec* chain, Py_ssize_t task, ShardRead* shard) noexcept nogil

cdef Status list_wanted(
    const Tasks* tasks, ShardRead* shard, bint* all_kept) noexcept nogil

cdef bint find_kept_index(
    const Tasks* tasks, ShardRead* shard, const FileStamp* stamp) noexcept nogil

cdef Status get_index(
    const Tasks* tasks, ShardRead* shard, const Input* source, Failure* failure) noexcept nogil

cdef Status look_up_wanted(
    const Tasks* tasks, ShardRead* shard, Failure* failure) noexcept nogil

cdef void close_shard(ShardRead* shard) noexcept nogil

cdef int read_opened(
    Tasks* tasks, ShardRead* shards, Py_ssize_t n, const Team* team) except -1

cdef int read_level(
    Tasks* tasks, ShardRead* shards, Py_ssize_t n, const Team* team) except -1
