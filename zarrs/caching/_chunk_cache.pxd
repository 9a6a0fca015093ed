"""Decoded chunks that are kept from call to call; see ``_chunk_cache.pyx``."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from zarrs._core cimport FileStamp, Task, Tasks


cdef enum:
    MAX_PLACE = 4  # numbers that a place has; what lies deeper in shards is not kept
    SHARD_INDEX = -1  # in the place of the number of an inner chunk


cdef struct Place:
    # What of a chunk of the array is kept: all of it (no numbers), or an inner chunk, by the
    # number of the one that it is in at every depth of shards.
    int n
    int64_t at[MAX_PLACE]


cdef struct Origin


cdef struct Cache


cdef struct Kept:
    # What is kept at one place; the data follow in the same memory.
    Kept* next  # in its bucket, or among those to be freed
    Kept* newer  # in the list of the unused; NULL while in use
    Kept* older
    Kept* before  # among those of the same chunk of the array
    Kept* after
    Origin* origin  # NULL: dropped
    Cache* cache
    uint64_t hash
    Place place
    FileStamp stamp  # of the file that it was read from
    Py_ssize_t users
    size_t size


cdef inline const uint8_t* data_of(const Kept* kept) noexcept nogil:
    """What is kept: decoded items, or strings as they are encoded, or the entries of an index."""
    return <const uint8_t*> (kept + 1)


cdef class ChunkCache:
    cdef Cache* cache


cdef class Section:
    cdef ChunkCache owner
    cdef int64_t number
    cdef readonly object store
    cdef object __weakref__

    cdef void lend(self, Tasks* tasks) noexcept

    cdef void drop_below(self, const char* prefix) noexcept


cdef uint64_t hash_key(const char* key) noexcept nogil

cdef bint can_keep(const Tasks* tasks, size_t size) noexcept nogil

cdef bint add_place(Place* place, int64_t number) noexcept nogil

cdef Kept* find_kept(
    const Tasks* tasks, const Task* task, const Place* place,
    const FileStamp* stamp) noexcept nogil

cdef bint still_holds(
    const Tasks* tasks, const Kept* kept, const FileStamp* stamp) noexcept nogil

cdef void keep(
    const Tasks* tasks, const Task* task, const Place* place, const uint8_t* data, size_t size,
    const FileStamp* stamp) noexcept nogil

cdef void release_kept(Kept* kept) noexcept nogil

cdef void drop_origin(
    const Tasks* tasks, const Task* task, const FileStamp* stamp) noexcept nogil

cdef void count_use(const Tasks* tasks, bint hit) noexcept nogil
