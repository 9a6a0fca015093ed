"""Runs libFuzzer on reads that are prepared once and repeated with other stored bytes.

Stored bytes and results lie at the end of pages behind which nothing may be touched: so what the C
libraries do is watched too, although they were compiled without a sanitizer.
"""

from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_WRITE
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport abort, calloc
from libc.string cimport memcpy

from zarrs._core cimport MIN_SPLIT, NativeChain, Layout, Task, Tasks
from zarrs.chunks._read_chunks cimport read_chunks
from zarrs.indexing._plan cimport Plan
from zarrs.runtime._workspace cimport Workspaces
from zarrs.sharding._read_shards cimport read_shards

import sys
import traceback


cdef extern from "<sys/mman.h>" nogil:
    enum:
        MAP_ANONYMOUS
        MAP_FAILED
        MAP_PRIVATE
        PROT_NONE
        PROT_READ
        PROT_WRITE
    void* mmap(void* address, size_t n, int protection, int flags, int fd, ssize_t offset)
    int mprotect(void* address, size_t n, int protection)

cdef extern from *:
    """
    int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *, size_t));
    """
    int LLVMFuzzerRunDriver(int* argc, char*** argv, int (*test)(const uint8_t*, size_t) noexcept)

cdef extern from *:
    """
    #include <sanitizer/lsan_interface.h>

    /* Make the sanitizer look for pointers in this thread's Python frames as well: CPython maps
       their memory itself, and what only a frame refers to would count as leaked. */
    static void register_frames(void) {
        _PyStackChunk *chunk = PyThreadState_Get()->datastack_chunk;
        for (; chunk != NULL; chunk = chunk->previous)
            __lsan_register_root_region(chunk, chunk->size);
    }
    """
    void register_frames()

cdef enum:
    PAGE = 4096
    MAX_INPUT = 4 << 20
    SELECTOR = 4  # bytes before what is stored: which read it is for


cdef uint8_t* _end_of_pages(size_t n) except NULL:
    """The end of at least ``n`` bytes, after which there is no memory."""
    cdef size_t size = (n + PAGE - 1) // PAGE * PAGE
    cdef void* memory = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if memory == <void*> MAP_FAILED or mprotect(<uint8_t*> memory + size, PAGE, PROT_NONE):
        raise MemoryError(f"no memory for {n} bytes before a guard page")
    return <uint8_t*> memory + size


def guarded(n: int) -> memoryview:
    """Memory of ``n`` bytes, for ever, after which there is none."""
    return PyMemoryView_FromMemory(<char*> _end_of_pages(n) - <size_t> n, n, PyBUF_WRITE)


cdef class Read:
    """A read of one chunk as the pipeline prepared it, for any stored bytes.

    Parameters
    ----------
    plan, chain, layout, call
        Arguments of ``_execute.read``, whose work is done here with one thread, and without Python
        where that is possible.
    run : callable, optional
        Reads in another way: called with the plan, the chain, the layout and the stored bytes.
    """

    cdef Plan plan
    cdef Workspaces workspaces
    cdef NativeChain chain
    cdef Layout layout
    cdef object call, other
    cdef Task fresh
    cdef Tasks tasks
    cdef bint split

    def __init__(self, Plan plan, NativeChain chain, Layout layout, call, run=None):
        if plan.n_tasks != 1:
            raise ValueError(f"expected a read of one chunk, not of {plan.n_tasks}")
        self.plan = plan
        self.chain = chain
        self.layout = layout
        self.call = call
        self.other = run
        self.workspaces = Workspaces(1)
        self.fresh = plan.tasks.items[0]
        self.tasks = plan.tasks[0]
        self.tasks.chain = &chain.spec
        self.tasks.layout = &layout.spec
        self.split = (
            plan.is_simple
            and chain.supports_partial_decode
            and plan.touched_bytes >= MIN_SPLIT
        )

    cdef int run(self, const uint8_t* data, size_t n) except -1:
        cdef Task* task = &self.plan.tasks.items[0]
        task[0] = self.fresh
        self.plan.first_failed = 1
        if self.other is not None:
            self.other(self.plan, self.chain, self.layout, data[:n])
            return 0
        task.stored = data
        task.stored_size = n
        self.workspaces.bind(self.call)
        if self.tasks.chain.shard != NULL:
            read_shards(&self.tasks, &self.workspaces.team)
        else:
            read_chunks(&self.tasks, &self.workspaces.team, self.split)
        self.workspaces.contexts.clear()
        if self.call is not None:
            self.call.errors.clear()
        return 0


cdef dict _reads  # by selector
cdef list _others
cdef uint8_t* _end


cdef Read _read_for(const uint8_t* selector):
    cdef uint32_t number
    memcpy(&number, selector, SELECTOR)
    read = _reads.get(number)
    return _others[number % <uint32_t> len(_others)] if read is None else read


cdef int _test(const uint8_t* data, size_t n) noexcept:
    cdef uint8_t* stored
    if n < SELECTOR or n - SELECTOR > MAX_INPUT:
        return 0
    stored = _end - (n - SELECTOR)
    memcpy(stored, data + SELECTOR, n - SELECTOR)
    try:
        _read_for(data).run(stored, n - SELECTOR)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        abort()
    return 0


def fuzz(reads: dict[int, Read], arguments: list[bytes]) -> int:
    """Run libFuzzer; it ends the process with its own exit code when it has found something.

    Parameters
    ----------
    reads : dict
        By the number, of four bytes, that comes before what is stored. All other numbers belong to
        some read too.
    arguments : list of bytes
        Of the command, from its name on.
    """
    global _reads, _others, _end
    cdef int n = len(arguments)
    cdef char** strings = <char**> calloc(n + 1, sizeof(char*))
    cdef int k
    if strings == NULL:
        raise MemoryError("no memory for arguments")
    _reads = reads
    _others = list(reads.values())
    _end = _end_of_pages(MAX_INPUT)
    for k in range(n):
        strings[k] = arguments[k]
    register_frames()
    return LLVMFuzzerRunDriver(&n, &strings, _test)
