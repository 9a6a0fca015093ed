"""Reading of the inner chunks of shards; see ``_read_inner.pyx``."""

from libc.stdint cimport int64_t, uint8_t

from zarrs._core cimport (
    Axis,
    ChainSpec,
    Failure,
    Input,
    Selection,
    Status,
    Tasks,
    Workspace,
)
from zarrs._region cimport Split
from zarrs._shard_index cimport Entry


cdef struct Leaf:
    # An inner chunk that is needed.
    Py_ssize_t number  # among those that are touched
    Py_ssize_t position  # in the index
    Py_ssize_t offset
    Py_ssize_t size  # -1: the shard does not hold it


cdef struct Shard:
    Py_ssize_t task
    int depth  # 0: a chunk of the array
    int64_t inner  # in which inner chunk of the outermost shard it is
    const ChainSpec* chain
    Input source
    uint8_t* decoded  # the memory behind it, if it had to be decoded as a whole
    Entry* index
    Py_ssize_t n  # inner chunks
    Axis* own_axes
    Selection select
    Split split
    char* data  # of the first selected item
    Leaf* leaves
    Py_ssize_t n_leaves


cdef void begin_shard(
    const Tasks* tasks, const ChainSpec* chain, Py_ssize_t task, Shard* shard) noexcept nogil

cdef Status find_leaves(Shard* shard, Failure* failure) noexcept nogil

cdef void close_shard(Shard* shard) noexcept nogil

cdef int read_opened(
    Tasks* tasks, Shard* shards, Py_ssize_t n, Workspace** spaces, int threads) except -1

cdef int read_level(
    Tasks* tasks, Shard* shards, Py_ssize_t n, Workspace** spaces, int threads) except -1
