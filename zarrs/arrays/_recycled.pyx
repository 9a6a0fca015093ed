"""Memory of results that have been let go, kept for those that come next.

A third of the time of reading uncompressed data is the kernel clearing fresh pages. NumPy asks here
for the memory of an array and gives it back when nothing refers to the array any more: so what is
handed out again is nobody's. It is kept until no result has been asked for in `IDLE` seconds.
"""

import math
import os
import threading
import time

import numpy as np

from libc.string cimport memcpy, memset
from posix.mman cimport MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap, munmap
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.unistd cimport _SC_PAGESIZE, sysconf

from zarrs._clib.pthread cimport (
    pthread_atfork,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_t,
    pthread_mutex_unlock,
)


cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
    #define NPY_TARGET_VERSION NPY_2_0_API_VERSION
    #include <numpy/arrayobject.h>
    #include <sys/mman.h>

    /* Clearing two megabytes takes less time than as many small pages one by one. */
    static inline void zarrs_ask_for_huge_pages(void *memory, size_t n)
    {
    #ifdef MADV_HUGEPAGE
        madvise(memory, n, MADV_HUGEPAGE);
    #else
        (void)memory;
        (void)n;
    #endif
    }
    """
    ctypedef struct PyDataMemAllocator:
        void* ctx
        void* (*malloc)(void*, size_t) noexcept nogil
        void* (*calloc)(void*, size_t, size_t) noexcept nogil
        void* (*realloc)(void*, void*, size_t) noexcept nogil
        void (*free)(void*, void*, size_t) noexcept nogil
    ctypedef struct PyDataMem_Handler:
        char name[127]
        unsigned char version
        PyDataMemAllocator allocator
    int _import_array() except -1
    object PyDataMem_SetHandler(object)
    void zarrs_ask_for_huge_pages(void* memory, size_t n) nogil

cdef extern from "Python.h":
    object PyCapsule_New(void* pointer, const char* name, void* destructor)

_import_array()

IDLE = 5  # seconds

cdef enum:
    LEAST = 1024 * 1024  # bytes of a result; malloc itself keeps what is smaller
    HUGE_PAGE = 2 * 1024 * 1024
    FITS = 4  # memory is used for what is at most a fourth smaller


cdef struct Block:
    # Lies in the page before the memory that it describes.
    Block* older
    size_t size


cdef pthread_mutex_t _lock  # who holds it waits for nothing
cdef Block* _newest = NULL  # of those that nobody uses
cdef size_t _kept = 0  # bytes in them
cdef size_t _limit = 0
cdef double _idle = IDLE
cdef double _last = -1e18  # seconds on the clock: when a result was last asked for
cdef size_t _page = sysconf(_SC_PAGESIZE)

pthread_mutex_init(&_lock, NULL)


cdef double _now() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef inline void* _memory_of(Block* block) noexcept nogil:
    return <char*> block + _page


cdef inline Block* _block_of(void* memory) noexcept nogil:
    return <Block*> (<char*> memory - _page)


cdef Block* _map(size_t n) noexcept nogil:
    # The memory starts where a huge page can; what lies before and behind goes back.
    cdef size_t size = (n + _page - 1) // _page * _page
    cdef size_t total = size + _page + HUGE_PAGE
    cdef char* mapped
    cdef char* memory
    cdef Block* block
    if n == 0 or total < n:
        return NULL
    mapped = <char*> mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if mapped == MAP_FAILED:
        return NULL
    memory = <char*> ((<size_t> mapped + _page + HUGE_PAGE - 1) // HUGE_PAGE * HUGE_PAGE)
    block = _block_of(memory)
    if <char*> block > mapped:
        munmap(mapped, <char*> block - mapped)
    if mapped + total > memory + size:
        munmap(memory + size, mapped + total - memory - size)
    zarrs_ask_for_huge_pages(memory, size)
    block.older = NULL
    block.size = size
    return block


cdef void _unmap_all(Block* block) noexcept nogil:
    # A block and all that are older.
    cdef Block* older
    while block != NULL:
        older = block.older
        munmap(block, block.size + _page)
        block = older


cdef Block* _reuse(size_t n) noexcept nogil:
    # The smallest block that fits; NULL: none does.
    global _kept
    cdef Block** link = &_newest
    cdef Block** best = NULL
    cdef Block* block
    while link[0] != NULL:
        block = link[0]
        if block.size >= n and block.size - n <= block.size // FITS and (
                best == NULL or block.size < best[0].size):
            best = link
        link = &block.older
    if best == NULL:
        return NULL
    block = best[0]
    best[0] = block.older
    _kept -= block.size
    return block


cdef Block* _cut(size_t limit) noexcept nogil:
    # Take away the oldest blocks that are too many.
    global _kept
    cdef Block** link = &_newest
    cdef Block* cut
    cdef size_t size = 0
    while link[0] != NULL and size + link[0].size <= limit:
        size += link[0].size
        link = &link[0].older
    cut = link[0]
    link[0] = NULL
    _kept = size
    return cut


# What NumPy calls, with the GIL or without ----------------------------------------------------

cdef void* _malloc(void* context, size_t n) noexcept nogil:
    cdef Block* block
    pthread_mutex_lock(&_lock)
    block = _reuse(n)
    pthread_mutex_unlock(&_lock)
    if block == NULL:
        block = _map(n)
    return NULL if block == NULL else _memory_of(block)


cdef void* _calloc(void* context, size_t count, size_t size) noexcept nogil:
    cdef size_t n = count * size
    cdef void* memory
    if size > 0 and n // size != count:
        return NULL
    memory = _malloc(context, n)
    if memory != NULL:
        memset(memory, 0, n)
    return memory


cdef void _free(void* context, void* memory, size_t n) noexcept nogil:
    global _newest
    cdef Block* block
    cdef Block* cut
    if memory == NULL:
        return
    block = _block_of(memory)
    pthread_mutex_lock(&_lock)
    if block.size > _limit or _now() - _last > _idle:
        block.older = NULL
        cut = block
    else:
        block.older = _newest
        _newest = block
        cut = _cut(_limit)
    pthread_mutex_unlock(&_lock)
    _unmap_all(cut)


cdef void* _realloc(void* context, void* memory, size_t n) noexcept nogil:
    cdef void* other = _malloc(context, n)
    if other != NULL and memory != NULL:
        memcpy(other, memory, min(n, _block_of(memory).size))
        _free(context, memory, n)
    return other


cdef PyDataMem_Handler _handler
memset(&_handler, 0, sizeof(_handler))
memcpy(_handler.name, b"zarrs", 5)
_handler.version = 1
_handler.allocator.malloc = _malloc
_handler.allocator.calloc = _calloc
_handler.allocator.realloc = _realloc
_handler.allocator.free = _free
cdef object _capsule = PyCapsule_New(&_handler, b"mem_handler", NULL)


# The Python side ------------------------------------------------------------------------------

cdef object _watcher = None  # the thread that gives memory back when no more results are asked for


def empty(shape, dtype, order, size_t limit):
    """Return an array of arbitrary values, as ``np.empty``, in recycled memory if it is large.

    Parameters
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    order : {"C", "F"}
    limit : int
        Bytes that may be kept while nobody uses them.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    MemoryError
        If there is not enough memory.
    """
    if math.prod(shape) * dtype.itemsize < LEAST or dtype.hasobject:
        return np.empty(shape, dtype, order)
    _note(limit, _now())
    if not _is_watched():
        _note(0, _now())
        return np.empty(shape, dtype, order)
    before = PyDataMem_SetHandler(_capsule)
    try:
        return np.empty(shape, dtype, order)
    finally:
        PyDataMem_SetHandler(before)


def kept() -> int:
    """Return how many bytes are kept that nobody uses."""
    return _kept


def give_back() -> None:
    """Give what nobody uses back to the system."""
    cdef Block* cut
    with nogil:
        pthread_mutex_lock(&_lock)
        cut = _cut(0)
        pthread_mutex_unlock(&_lock)
        _unmap_all(cut)


cdef void _note(size_t limit, double now) noexcept nogil:
    # What `_free` goes by from now on.
    global _limit, _last
    cdef Block* cut
    pthread_mutex_lock(&_lock)
    _limit = limit
    _last = now
    cut = _cut(limit)
    pthread_mutex_unlock(&_lock)
    _unmap_all(cut)


cdef bint _is_watched():
    # Whether a thread looks after what is kept.
    global _watcher
    if _watcher is None:
        watcher = threading.Thread(
            target=_give_back_when_idle,
            name="zarrs-recycled",
            daemon=True,  # the interpreter's end does not wait for it
        )
        _watcher = watcher
        try:
            watcher.start()
        except RuntimeError:  # the interpreter is about to end, or there are too many threads
            _watcher = None
    return _watcher is not None


def _give_back_when_idle():
    global _watcher
    me = _watcher
    while True:
        time.sleep(max(_last + _idle - _now(), 0.0) + 0.01)
        if _now() - _last <= _idle:
            continue
        _watcher = None
        # Who asked for a result until now relied on this thread.
        if _now() - _last <= _idle and _watcher is None:
            _watcher = me
            continue
        give_back()
        return


# Forks ----------------------------------------------------------------------------------------

cdef void _before_fork() noexcept nogil:
    # No other thread is in the middle of a change.
    pthread_mutex_lock(&_lock)


cdef void _after_fork() noexcept nogil:
    pthread_mutex_unlock(&_lock)


if pthread_atfork(_before_fork, _after_fork, _after_fork) != 0:
    raise MemoryError("no memory for what to do about forks")


def _after_fork_in_child():
    # The thread is not there, and every page that is written would have to be copied.
    global _watcher
    _watcher = None
    give_back()


os.register_at_fork(after_in_child=_after_fork_in_child)
