"""Decoded chunks, inner chunks and indexes of shards, kept from call to call in bounded memory.

What is kept belongs to an origin, a chunk of an array by its key, and is found by its place in it.
What is in use stays; the rest waits in a list, in the order of its last use, and is dropped when
room is needed.

A write makes everything of its chunks drop out, when it begins and when it ends. In between nothing
is found and nothing added, nor by whoever has begun to read before: each cache counts the writes.
So nothing of a chunk before a write is used together with anything from after it.
"""

import weakref
from operator import index

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset, strcmp, strlen, strncmp

from zarrs._clib.pthread cimport (
    pthread_atfork,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)
from zarrs._core cimport FileStamp, Task, Tasks


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    Py_ssize_t zarrs_add(Py_ssize_t* p, Py_ssize_t x)
    Py_ssize_t zarrs_look(const Py_ssize_t* p)

cdef enum:
    BYTES_A_BUCKET = 16 * 1024
    MIN_BUCKETS = 256
    MAX_BUCKETS = 1 << 20
    LONG_KEY = 256


cdef struct Origin:
    # A chunk of an array; its key follows in the same memory.
    Origin* next  # in its bucket
    int64_t array
    uint64_t hash
    Kept* first


cdef struct Cache:
    size_t limit  # bytes
    size_t size
    Py_ssize_t count
    Py_ssize_t hits
    Py_ssize_t misses
    Py_ssize_t writes  # that have begun or ended
    Py_ssize_t writers  # those under way ...
    Py_ssize_t process  # ... in this one of the processes that forks have made
    size_t n_buckets  # a power of two, of either table
    Kept** kept
    Origin** origins
    Kept unused  # both ends of the list: the newest is `unused.older`, the oldest `unused.newer`


cdef pthread_mutex_t _lock  # of all caches; who holds it waits for nothing, nor for the GIL
cdef Py_ssize_t _process = 0  # counts forks

pthread_mutex_init(&_lock, NULL)


cdef uint64_t hash_key(const char* key) noexcept nogil:
    """The hash of a chunk's key."""
    cdef uint64_t h = 14695981039346656037u
    while key[0]:
        h = (h ^ <uint8_t> key[0]) * 1099511628211u
        key += 1
    return h ^ (h >> 32)


cdef inline uint64_t _mix(uint64_t h, uint64_t number) noexcept nogil:
    h = (h ^ number) * 0x9E3779B97F4A7C15u
    return h ^ (h >> 29)


cdef inline uint64_t _hash(const Tasks* tasks, const Task* task) noexcept nogil:
    return _mix(task.key_hash, tasks.cached_array)


cdef inline uint64_t _hash_of_place(uint64_t h, const Place* place) noexcept nogil:
    cdef int k
    for k in range(place.n):
        h = _mix(h, place.at[k])
    return h


cdef inline bint _is_same_place(const Place* a, const Place* b) noexcept nogil:
    return a.n == b.n and memcmp(a.at, b.at, a.n * sizeof(int64_t)) == 0


cdef inline bint _is_same_file(const FileStamp* a, const FileStamp* b) noexcept nogil:
    return (a.inode == b.inode and a.seconds == b.seconds and a.nanoseconds == b.nanoseconds
            and a.size == b.size)


cdef bint add_place(Place* place, int64_t number) noexcept nogil:
    """Go into an inner chunk; return whether what lies so deep is kept."""
    if place.n < MAX_PLACE:
        place.at[place.n] = number
    place.n += 1
    return place.n <= MAX_PLACE


# Under the lock ------------------------------------------------------------------------------

cdef Origin* _find_origin(
    const Cache* cache, int64_t array, uint64_t hash, const char* key,
) noexcept nogil:
    cdef Origin* origin = cache.origins[hash & (cache.n_buckets - 1)]
    while origin != NULL and (
        origin.hash != hash or origin.array != array or strcmp(<char*> (origin + 1), key) != 0
    ):
        origin = origin.next
    return origin


cdef Kept* _find(const Cache* cache, const Origin* origin, const Place* place) noexcept nogil:
    cdef uint64_t hash = _hash_of_place(origin.hash, place)
    cdef Kept* kept = cache.kept[hash & (cache.n_buckets - 1)]
    while kept != NULL and (
        kept.hash != hash or kept.origin != origin or not _is_same_place(&kept.place, place)
    ):
        kept = kept.next
    return kept


cdef inline size_t _size_of_origin(const Origin* origin) noexcept nogil:
    return sizeof(Origin) + strlen(<char*> (origin + 1)) + 1


cdef Origin* _add_origin(
    Cache* cache, int64_t array, uint64_t hash, const char* key,
) noexcept nogil:
    cdef size_t n = strlen(key) + 1
    cdef Origin* origin = <Origin*> malloc(sizeof(Origin) + n)
    cdef Origin** bucket = &cache.origins[hash & (cache.n_buckets - 1)]
    if origin == NULL:
        return NULL
    memset(origin, 0, sizeof(Origin))
    memcpy(origin + 1, key, n)
    origin.array = array
    origin.hash = hash
    origin.next = bucket[0]
    bucket[0] = origin
    cache.size += _size_of_origin(origin)
    return origin


cdef void _drop_origin(Cache* cache, Origin* origin) noexcept nogil:
    cdef Origin** link = &cache.origins[origin.hash & (cache.n_buckets - 1)]
    while link[0] != origin:
        link = &link[0].next
    link[0] = origin.next
    cache.size -= _size_of_origin(origin)
    free(origin)


cdef void _take_from_unused(Kept* kept) noexcept nogil:
    kept.newer.older = kept.older
    kept.older.newer = kept.newer
    kept.newer = NULL
    kept.older = NULL


cdef void _add_to_unused(Kept* kept) noexcept nogil:
    cdef Kept* ends = &kept.cache.unused
    kept.newer = ends
    kept.older = ends.older
    kept.newer.older = kept
    kept.older.newer = kept


cdef void _drop(Kept* kept, Kept** dropped) noexcept nogil:
    # Takes something from the cache, and its origin if nothing else is kept of that; what nobody
    # uses is added to what is to be freed.
    cdef Cache* cache = kept.cache
    cdef Kept** link = &cache.kept[kept.hash & (cache.n_buckets - 1)]
    while link[0] != kept:
        link = &link[0].next
    link[0] = kept.next
    if kept.before != NULL:
        kept.before.after = kept.after
    else:
        kept.origin.first = kept.after
    if kept.after != NULL:
        kept.after.before = kept.before
    if kept.origin.first == NULL:
        _drop_origin(cache, kept.origin)
    kept.origin = NULL
    cache.size -= sizeof(Kept) + kept.size
    cache.count -= 1
    if kept.users == 0:
        _take_from_unused(kept)
        kept.next = dropped[0]
        dropped[0] = kept


cdef void _drop_all_of(Origin* origin, Kept** dropped) noexcept nogil:
    cdef Kept* kept = origin.first
    cdef Kept* after
    while kept != NULL:
        after = kept.after  # the origin goes with the last one
        _drop(kept, dropped)
        kept = after


cdef inline bint _is_off(const Cache* cache, const Tasks* tasks) noexcept nogil:
    # Whether a call that began to read has been overtaken by a write, or one is under way.
    return zarrs_look(&cache.writes) != tasks.writes_seen or (
        cache.writers > 0 and cache.process == _process)


cdef bint _add(
    Cache* cache, const Tasks* tasks, const Task* task, Kept* kept, Kept** dropped,
) noexcept nogil:
    # Puts something into the cache if it may be there; what is the oldest makes room.
    cdef uint64_t hash = _hash(tasks, task)
    cdef size_t needed = sizeof(Kept) + kept.size + sizeof(Origin) + strlen(task.key) + 1
    cdef Origin* origin
    cdef Kept** bucket
    if needed > cache.limit or _is_off(cache, tasks):
        return False
    origin = _find_origin(cache, tasks.cached_array, hash, task.key)
    if origin != NULL and (
        _find(cache, origin, &kept.place) != NULL
        or not _is_same_file(&origin.first.stamp, &kept.stamp)
    ):
        return False
    while cache.size > cache.limit - needed and cache.unused.newer != &cache.unused:
        _drop(cache.unused.newer, dropped)
    if cache.size > cache.limit - needed:
        return False  # the rest is in use
    origin = _find_origin(cache, tasks.cached_array, hash, task.key)  # it may have been dropped
    if origin == NULL:
        origin = _add_origin(cache, tasks.cached_array, hash, task.key)
        if origin == NULL:
            return False
    kept.cache = cache
    kept.origin = origin
    kept.hash = _hash_of_place(hash, &kept.place)
    bucket = &cache.kept[kept.hash & (cache.n_buckets - 1)]
    kept.next = bucket[0]
    bucket[0] = kept
    kept.after = origin.first
    if origin.first != NULL:
        origin.first.before = kept
    origin.first = kept
    _add_to_unused(kept)
    cache.size += sizeof(Kept) + kept.size
    cache.count += 1
    return True


# Without the lock ----------------------------------------------------------------------------

cdef void _free_all(Kept* dropped) noexcept nogil:
    cdef Kept* kept
    while dropped != NULL:
        kept = dropped
        dropped = kept.next
        free(kept)


cdef bint can_keep(const Tasks* tasks, size_t size) noexcept nogil:
    """Whether there is a cache for the chunks of a call, in which so many bytes have room."""
    return tasks.cache != NULL and size + sizeof(Kept) + sizeof(Origin) + LONG_KEY <= (
        <const Cache*> tasks.cache).limit


cdef Kept* find_kept(
    const Tasks* tasks, const Task* task, const Place* place, const FileStamp* stamp,
) noexcept nogil:
    """Begin to use what is kept at a place; NULL: nothing is.

    It must have come from a file as it is now, if ``stamp`` says how that is.
    """
    cdef Cache* cache = <Cache*> tasks.cache
    cdef Kept* kept = NULL
    cdef Origin* origin = NULL
    pthread_mutex_lock(&_lock)
    if not _is_off(cache, tasks):
        origin = _find_origin(cache, tasks.cached_array, _hash(tasks, task), task.key)
    if origin != NULL:
        kept = _find(cache, origin, place)
    if kept != NULL and stamp != NULL and not _is_same_file(&kept.stamp, stamp):
        kept = NULL
    if kept != NULL:
        if kept.users == 0:
            _take_from_unused(kept)
        kept.users += 1
    pthread_mutex_unlock(&_lock)
    return kept


cdef bint still_holds(
    const Tasks* tasks, const Kept* kept, const FileStamp* stamp,
) noexcept nogil:
    """Whether what was found goes with a file that was opened after that."""
    cdef bint holds
    pthread_mutex_lock(&_lock)
    holds = not _is_off(<const Cache*> tasks.cache, tasks) and _is_same_file(&kept.stamp, stamp)
    pthread_mutex_unlock(&_lock)
    return holds


cdef void keep(
    const Tasks* tasks, const Task* task, const Place* place, const uint8_t* data, size_t size,
    const FileStamp* stamp,
) noexcept nogil:
    """Keep a copy of some data, which were read from a file as it was then; or do not.

    They are not kept if there is no room or no memory, if something is being written or has been
    since the call began, or if what is kept of the chunk came from another file.
    """
    cdef Kept* dropped = NULL
    cdef Kept* kept
    cdef bint added
    if not can_keep(tasks, size):
        return
    kept = <Kept*> malloc(sizeof(Kept) + size)
    if kept == NULL:
        return
    memset(kept, 0, sizeof(Kept))
    memcpy(kept + 1, data, size)
    kept.place = place[0]
    kept.stamp = stamp[0]
    kept.size = size
    pthread_mutex_lock(&_lock)
    added = _add(<Cache*> tasks.cache, tasks, task, kept, &dropped)
    pthread_mutex_unlock(&_lock)
    if not added:
        free(kept)
    _free_all(dropped)


cdef void release_kept(Kept* kept) noexcept nogil:
    """End the use of what was found."""
    cdef Kept* dropped = NULL
    pthread_mutex_lock(&_lock)
    kept.users -= 1
    if kept.users == 0:
        if kept.origin != NULL:
            _add_to_unused(kept)
        else:
            kept.next = NULL
            dropped = kept
    pthread_mutex_unlock(&_lock)
    _free_all(dropped)


cdef void drop_origin(
    const Tasks* tasks, const Task* task, const FileStamp* stamp,
) noexcept nogil:
    """Drop what is kept of a chunk; with a stamp, if it came from another file."""
    cdef Cache* cache = <Cache*> tasks.cache
    cdef Kept* dropped = NULL
    cdef Origin* origin
    pthread_mutex_lock(&_lock)
    origin = _find_origin(cache, tasks.cached_array, _hash(tasks, task), task.key)
    if origin != NULL and (stamp == NULL or not _is_same_file(&origin.first.stamp, stamp)):
        _drop_all_of(origin, &dropped)
    pthread_mutex_unlock(&_lock)
    _free_all(dropped)


cdef void count_use(const Tasks* tasks, bint hit) noexcept nogil:
    """Count a chunk or inner chunk that was read, from the cache or not."""
    cdef Cache* cache = <Cache*> tasks.cache
    zarrs_add(&cache.hits if hit else &cache.misses, 1)


# ---------------------------------------------------------------------------------------------
# What Python sees

cdef class ChunkCache:
    """Decoded chunks that are kept in memory, those that were not used for longest dropped first.

    Arrays that are opened with ``cache_bytes`` have one, and so have groups, whose arrays share it.
    All threads share what is kept. A forked process goes on with a copy of its own.

    Parameters
    ----------
    limit : int
        The most bytes that it may hold, above 0, with the keys; besides them it has a table, of
        at most two thousandths of that, or 4 KiB.

    Attributes
    ----------
    limit : int
    nbytes : int
        Bytes that it holds.
    hits : int
        Chunks and inner chunks that were read from it.
    misses : int
        Those that had to be decoded to be kept.

    Raises
    ------
    ValueError
        If `limit` is no number of bytes.

    Examples
    --------
    >>> import numpy as np, zarrs
    >>> array = zarrs.create_array({}, data=np.arange(8), chunks=(4,))
    >>> array = zarrs.direct(array, cache_bytes=2**20)
    >>> int(array[0] + array[1])
    1
    >>> array.cache.hits, array.cache.misses, len(array.cache)
    (1, 1, 1)
    """

    def __cinit__(self, limit):
        cdef Cache* cache
        cdef size_t n = MIN_BUCKETS
        given = limit
        try:
            if isinstance(limit, bool):
                raise TypeError
            limit = index(limit)
        except TypeError:
            limit = 0
        if not 0 < limit <= 2**62:
            raise ValueError(
                f"cache_bytes is a number of bytes, at least 1 for a cache, not {given!r}")
        cache = <Cache*> calloc(1, sizeof(Cache))
        if cache == NULL:
            raise MemoryError("no memory for a cache")
        self.cache = cache
        cache.limit = limit
        while n < MAX_BUCKETS and n * BYTES_A_BUCKET < cache.limit:
            n *= 2
        cache.n_buckets = n
        cache.unused.newer = &cache.unused
        cache.unused.older = &cache.unused
        cache.kept = <Kept**> calloc(n, sizeof(Kept*))
        cache.origins = <Origin**> calloc(n, sizeof(Origin*))
        if cache.kept == NULL or cache.origins == NULL:
            raise MemoryError("no memory for a cache")

    def __dealloc__(self):
        if self.cache == NULL:
            return
        if self.cache.kept != NULL and self.cache.origins != NULL:
            self.clear()
        free(self.cache.kept)
        free(self.cache.origins)
        free(self.cache)

    def __reduce__(self):
        return ChunkCache, (self.limit,)

    def __len__(self) -> int:
        return self.cache.count

    def __repr__(self) -> str:
        return (
            f"<ChunkCache of {self.nbytes:,} of {self.limit:,} bytes: "
            f"{self.hits:,} hits, {self.misses:,} misses>"
        )

    @property
    def limit(self) -> int:
        return self.cache.limit

    @property
    def nbytes(self) -> int:
        return self.cache.size

    @property
    def hits(self) -> int:
        return zarrs_load(&self.cache.hits)

    @property
    def misses(self) -> int:
        return zarrs_load(&self.cache.misses)

    def clear(self) -> None:
        """Drop everything; needed after others than this package's arrays have written."""
        cdef Kept* dropped = NULL
        cdef size_t i
        with nogil:
            pthread_mutex_lock(&_lock)
            zarrs_add(&self.cache.writes, 1)
            for i in range(self.cache.n_buckets):
                while self.cache.origins[i] != NULL:
                    _drop_all_of(self.cache.origins[i], &dropped)
            pthread_mutex_unlock(&_lock)
            _free_all(dropped)


cdef Py_ssize_t _n_sections = 0
cdef dict _sections = {}  # those that live: weak references by their numbers


cdef class Section:
    """What a cache holds of one array, as long as its metadata stay the same.

    Parameters
    ----------
    cache : ChunkCache
    store : Store
        Where the array is.
    """

    def __cinit__(self, ChunkCache cache not None, object store):
        global _n_sections
        _n_sections += 1
        number = _n_sections
        self.owner = cache
        self.store = store
        self.number = number
        _sections[number] = weakref.ref(self, lambda _: _sections.pop(number, None))

    def __dealloc__(self):
        if self.owner is not None:
            self.drop_below(b"")

    cdef void lend(self, Tasks* tasks) noexcept:
        """Let the tasks of a call that begins now use the cache."""
        tasks.cache = self.owner.cache
        tasks.cached_array = self.number
        tasks.writes_seen = zarrs_look(&self.owner.cache.writes)

    cdef void drop_below(self, const char* prefix) noexcept:
        # Drops what is kept of chunks whose keys begin so.
        cdef Cache* cache = self.owner.cache
        cdef Kept* dropped = NULL
        cdef Origin* origin
        cdef Origin* next_one
        cdef size_t n = strlen(prefix)
        cdef size_t i
        with nogil:
            pthread_mutex_lock(&_lock)
            for i in range(cache.n_buckets):
                origin = cache.origins[i]
                while origin != NULL:
                    next_one = origin.next
                    if origin.array == self.number and (
                        strncmp(<char*> (origin + 1), prefix, n) == 0
                    ):
                        _drop_all_of(origin, &dropped)
                    origin = next_one
            pthread_mutex_unlock(&_lock)
            _free_all(dropped)

    def begin_write(self) -> None:
        """Let nothing be found and nothing be added until `end_write`."""
        cdef Cache* cache = self.owner.cache
        pthread_mutex_lock(&_lock)
        if cache.process != _process:
            cache.process = _process
            cache.writers = 0
        cache.writers += 1
        zarrs_add(&cache.writes, 1)
        pthread_mutex_unlock(&_lock)

    def end_write(self) -> None:
        """Follow `begin_write`, in the same process."""
        cdef Cache* cache = self.owner.cache
        pthread_mutex_lock(&_lock)
        if cache.process == _process:
            cache.writers -= 1
        pthread_mutex_unlock(&_lock)

    def forget(self, keys) -> None:
        """Drop what is kept of chunks that were written, or may have been."""
        cdef Cache* cache = self.owner.cache
        cdef Kept* dropped = NULL
        cdef Origin* origin
        cdef const char* name
        zarrs_add(&cache.writes, 1)
        for key in keys:
            encoded = key.encode(errors="surrogatepass")
            name = encoded
            pthread_mutex_lock(&_lock)
            origin = _find_origin(cache, self.number, _mix(hash_key(name), self.number), name)
            if origin != NULL:
                _drop_all_of(origin, &dropped)
            pthread_mutex_unlock(&_lock)
        _free_all(dropped)

    def forget_below(self, str prefix) -> None:
        """Drop what is kept of chunks whose keys begin so."""
        zarrs_add(&self.owner.cache.writes, 1)
        self.drop_below(prefix.encode(errors="surrogatepass"))


def living_sections() -> list[Section]:
    """Return what all caches hold of arrays."""
    if not _sections:
        return []
    living = [reference() for reference in list(_sections.values())]
    return [one for one in living if one is not None]


# ---------------------------------------------------------------------------------------------
# Forks

cdef void _before_fork() noexcept nogil:
    # No other thread is in the middle of a change.
    pthread_mutex_lock(&_lock)


cdef void _after_fork_in_parent() noexcept nogil:
    pthread_mutex_unlock(&_lock)


cdef void _after_fork_in_child() noexcept nogil:
    # The child goes on with its copy of everything. What threads use that it has not got stays, and
    # what they write is another process's.
    global _process
    _process += 1
    pthread_mutex_unlock(&_lock)


# By C's means, as for the table of open files: a hook of Python's could wait for the lock with the
# GIL.
if pthread_atfork(_before_fork, _after_fork_in_parent, _after_fork_in_child) != 0:
    raise MemoryError("no memory for what to do about forks")
