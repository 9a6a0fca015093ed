"""Parallel reading and writing of planned chunks.

A read runs over chunks. Where much is needed of chunks whose format can be entered anywhere (raw
bytes, Blosc blocks) they are opened and taken apart, and the pieces run in a second loop, in the
order of the memory they go to: pieces of neighbouring chunks fill the same pages of the result
while these are hot. A write runs over chunks. Neither knows of Python: a task ends with a status,
which ``Plan.failure`` reports.
"""

from cython.parallel cimport prange, threadid

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memset

from zarrs._chunk cimport check_size, decode_chunk, decode_prefix, encode_chunk
from zarrs._copy cimport FillKind, all_fill, copy_box, fill_box, is_one_run, source_extent, swap_run
from zarrs._core cimport (
    MAX_SEGMENTS,
    MAX_STAGES,
    MISSING,
    NO_MEMORY,
    OK,
    Box,
    ChainSpec,
    Failure,
    Item,
    LayoutSpec,
    Stage,
    Status,
    Task,
    Tasks,
    Workspace,
)
from zarrs._files cimport close_file, open_file, remove_file, replace_file
from zarrs._partial cimport (
    PIECE,
    Source,
    blosc_window,
    close_source,
    cut_blosc,
    cut_raw,
    open_blosc,
    read_raw,
    read_verified,
    run_blosc_piece,
    run_raw_piece,
    wants_blosc_piece,
)
from zarrs._plan cimport Plan, read_box, write_box
from zarrs._workspace cimport Crew, codec_at, reserve, slot_of
from zarrs.codecs._blosc2 cimport decode as decode_blosc

import os


cdef extern from "_native/openmp.h" nogil:
    void zarrs_release_team()
    int zarrs_start_openmp()

cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    Py_ssize_t zarrs_countdown(Py_ssize_t* p)
    void zarrs_lower(Py_ssize_t* p, Py_ssize_t x)

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t*, void*)
    int pthread_mutex_lock(pthread_mutex_t*)
    int pthread_mutex_unlock(pthread_mutex_t*)

cdef enum:
    MIN_SPLIT = 512 * 1024  # needed bytes of a chunk from which on chunks are taken apart
    WAVE = 128  # chunks that are taken apart, and hence files that are open, at the same time
    FEW = 16  # so many chunks are opened before the threads of a team have woken up
    MIN_SAVED = 64 * 1024  # decoded bytes for whose sake a stream is stopped early
    N_LOCKS = 256

zarrs_start_openmp()

# ---------------------------------------------------------------------------------------------
# What a call works with

cdef class Chain:
    """The bytes-to-bytes codecs of an array and the layout of its items, for the native loops.

    Parameters
    ----------
    stages : sequence of (str, tuple of int)
        Registered codec name and parameters, in the order of encoding.
    tail : int
        Bytes after the data that are neither checked nor used.
    """

    cdef ChainSpec spec

    def __init__(self, stages, tail: int = 0):
        cdef int k
        cdef Stage* stage
        if len(stages) > MAX_STAGES:
            raise ValueError(f"at most {MAX_STAGES} bytes-to-bytes codecs are supported")
        memset(&self.spec, 0, sizeof(ChainSpec))
        self.spec.n_stages = len(stages)
        self.spec.tail = tail
        for i, (name, params) in enumerate(stages):
            stage = &self.spec.stages[<int> i]
            stage.slot = slot_of(name)
            stage.codec = codec_at(stage.slot)
            for k in range(len(params)):
                stage.params.v[k] = params[k]
        stage = &self.spec.stages[0]
        self.spec.is_blosc = self.spec.n_stages == 1 and stage.codec.decode == decode_blosc
        self.spec.has_prefix = self.spec.n_stages > 0 and stage.codec.feed != NULL
        self.spec.is_checked_raw = (
            self.spec.n_stages == 1 and stage.codec.extend != NULL and stage.params.v[0] != 0
        )

    @property
    def enterable(self) -> bool:
        """Whether any part of a chunk can be decoded without what is before it."""
        return self.spec.n_stages == 0 or self.spec.is_blosc

    @property
    def has_prefix(self) -> bool:
        """Whether decoding can stop early."""
        return self.spec.has_prefix


cdef class Layout:
    """How items are copied between chunks and one array, and what a missing item is.

    Parameters
    ----------
    itemsize : int
    segments : sequence of (int, int, int)
        Offset, unit and count of the numbers in an item whose bytes are reversed.
    fill : bytes
        The fill value: for reads as it lies in the array, for writes as in the chunk.
    fill_kind : int
        A ``FillKind`` of ``_copy.pxd``.
    fill_swapped : bool
        Whether the numbers of a chunk are in foreign byte order.
    """

    cdef LayoutSpec spec
    cdef bytes fill

    def __init__(self, itemsize: int, segments, fill: bytes, fill_kind: int = 0,
                 fill_swapped: bool = False):
        cdef int k
        if len(fill) != itemsize:
            raise ValueError(f"fill value of {len(fill)} bytes for items of {itemsize}")
        if len(segments) > MAX_SEGMENTS:
            raise ValueError(f"at most {MAX_SEGMENTS} fields are supported")
        self.spec.item.size = itemsize
        self.spec.item.swap_unit = 0
        self.spec.item.n_segments = 0
        if len(segments) == 1 and segments[0][1] in (2, 4, 8) and (
            segments[0][0] == 0 and segments[0][1] * segments[0][2] == itemsize
        ):
            self.spec.item.swap_unit = segments[0][1]
        else:
            self.spec.item.n_segments = len(segments)
            for k in range(len(segments)):
                self.spec.item.segments[k].offset = segments[k][0]
                self.spec.item.segments[k].unit = segments[k][1]
                self.spec.item.segments[k].count = segments[k][2]
        self.fill = fill
        self.spec.fill = self.fill
        self.spec.fill_kind = fill_kind
        self.spec.fill_swapped = fill_swapped


# ---------------------------------------------------------------------------------------------
# Reading

cdef struct Piece:
    Py_ssize_t task
    Py_ssize_t number
    const char* dst  # where its first item goes


cdef inline bint _is_little(const Box* box, const Item* item, const Task* task) noexcept nogil:
    # Whether a box is so small a part of its chunk that it matters little how it is copied.
    cdef int64_t selected = item.size
    cdef int k
    for k in range(box.ndim):
        selected *= box.count[k]
    return 8 * selected <= task.nbytes


cdef Status _read_task(
    const Tasks* tasks, Task* task, Workspace* space, Source* source, bint split,
) noexcept nogil:
    # Reads one chunk; or, if `split`, opens it and leaves its pieces for later.
    cdef Failure* failure = &task.failure
    cdef const Item* item = &tasks.layout.item
    cdef const uint8_t* decoded = NULL
    cdef char* dst = tasks.data + task.array_offset
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t extent, need, number
    cdef Status status
    cdef Box box
    cdef bint direct
    read_box(tasks, task, &box)
    extent = source_extent(&box, item, 0)
    need = task.chunk_offset + extent
    failure.stage = -1
    status = open_file(task.path, &source.fd, &size, failure)
    if status == MISSING:
        fill_box(&box, item, tasks.layout.fill, dst)
    if status != OK:
        return status
    source.n_pieces = 0
    if tasks.chain.n_stages == 0:
        status = check_size(task.nbytes + tasks.chain.tail, size, failure)
        if status == OK and split:
            source.n_pieces = source.left = cut_raw(source, &box)
            return OK
        if status == OK:
            status = read_raw(source.fd, &box, item, task.chunk_offset, dst, space, failure)
        close_source(source)
        return status
    direct = task.covers and is_one_run(&box, item)
    if tasks.chain.is_blosc and (split or task.nbytes > PIECE // 4):
        status = open_blosc(source, size, task.nbytes, failure)
        if status == OK and (split or source.index.n_blocks > 1):
            source.n_pieces = source.left = cut_blosc(source, item)
            if split:
                return OK
            for number in range(source.n_pieces):
                if status == OK and wants_blosc_piece(source, number, task, &box, item):
                    status = run_blosc_piece(source, number, tasks, task, &box, space, failure)
            close_source(source)
            source.n_pieces = 0
            return status
        if status != OK:
            close_source(source)
            return status
    if tasks.chain.is_checked_raw and task.nbytes > PIECE and _is_little(&box, item, task):
        status = read_verified(source.fd, size, tasks, task, &box, space, failure)
        close_source(source)
        return status
    # A stream that can be stopped is decoded more slowly than one that is decoded in one go.
    if tasks.chain.has_prefix and task.nbytes - need >= max(MIN_SAVED, task.nbytes // 3):
        status = decode_prefix(source.fd, size, tasks.chain, space, task.nbytes, need, &decoded,
                               failure)
    else:
        status = decode_chunk(source.fd, size, tasks.chain, space, task.nbytes,
                              <uint8_t*> dst if direct else NULL, &decoded, failure)
    close_source(source)
    if status != OK:
        return status
    if direct:
        swap_run(item, dst, task.nbytes // item.size)
    else:
        copy_box(&box, item, <const char*> decoded + task.chunk_offset, dst)
    return OK


cdef void _read_one(
    Tasks* tasks, Py_ssize_t i, Workspace* space, Source* source, bint split,
) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    source.n_pieces = 0
    source.head = NULL
    source.extents = NULL
    if task.empty or i > zarrs_load(&tasks.first_failed):
        return
    task.failure.status = _read_task(tasks, task, space, source, split)
    if task.failure.status > MISSING:
        zarrs_lower(&tasks.first_failed, i)


cdef void _read_piece(
    Tasks* tasks, const Piece* piece, Workspace* space, Source* source,
) noexcept nogil:
    cdef Task* task = &tasks.items[piece.task]
    cdef Failure failure
    cdef Status status
    cdef Box box
    if piece.task <= zarrs_load(&tasks.first_failed):
        memset(&failure, 0, sizeof(Failure))
        read_box(tasks, task, &box)
        if tasks.chain.n_stages == 0:
            status = run_raw_piece(source, piece.number, tasks, task, &box, space, &failure)
        else:
            status = run_blosc_piece(source, piece.number, tasks, task, &box, space, &failure)
        if status != OK:
            failure.status = status
            _record(task, &failure)
            zarrs_lower(&tasks.first_failed, piece.task)
    if zarrs_countdown(&source.left) == 0:
        close_source(source)


cdef pthread_mutex_t _record_lock


cdef void _record(Task* task, const Failure* failure) noexcept nogil:
    # Several pieces of a chunk can fail: one of them speaks for it.
    pthread_mutex_lock(&_record_lock)
    task.failure = failure[0]
    pthread_mutex_unlock(&_record_lock)


cdef int _by_destination(const void* a, const void* b) noexcept nogil:
    cdef const char* x = (<const Piece*> a).dst
    cdef const char* y = (<const Piece*> b).dst
    return (x > y) - (x < y)


cdef Py_ssize_t _collect_pieces(
    const Tasks* tasks, Py_ssize_t first, Py_ssize_t stop, Source* sources, Piece* pieces,
) noexcept nogil:
    # Lists the wanted pieces in the order of the memory they go to; with NULL, counts all.
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i, number, start, end, row
    cdef const Item* item = &tasks.layout.item
    cdef Source* source
    cdef Box box
    for i in range(first, stop):
        source = &sources[i - first]
        if pieces == NULL:
            n += source.n_pieces
            continue
        if source.n_pieces == 0:
            continue
        read_box(tasks, &tasks.items[i], &box)
        for number in range(source.n_pieces):
            if tasks.chain.n_stages == 0:
                row = number * source.group
                start = row * box.dst_stride[source.axis] if source.axis < box.ndim else 0
            else:
                if not wants_blosc_piece(source, number, &tasks.items[i], &box, item):
                    source.left -= 1
                    continue
                start = 0
                end = 0
                blosc_window(source, number, &start, &end)
                start = start * source.index.blocksize - tasks.items[i].chunk_offset
                row = max(start, 0) // box.src_stride[0] if box.ndim else 0
                start = row * box.dst_stride[0] if box.ndim else 0
            pieces[n].task = i
            pieces[n].number = number
            pieces[n].dst = tasks.data + tasks.items[i].array_offset + start
            n += 1
        if source.left == 0:
            close_source(source)
    if pieces != NULL:
        qsort(pieces, n, sizeof(Piece), _by_destination)
    return n


def read(Plan plan, Chain chain, Layout layout, int threads) -> None:
    """Read all chunks of a plan into its array; the outcome is in the plan."""
    cdef Crew crew = Crew(threads)
    cdef Workspace** spaces = crew.spaces
    cdef Tasks* tasks = plan.tasks
    cdef Py_ssize_t n = plan.n_tasks
    cdef Py_ssize_t wave = n
    cdef Py_ssize_t first, stop, n_pieces, i, k
    cdef bint split = chain.enterable and plan.touched_bytes >= n * MIN_SPLIT
    cdef Source* sources = NULL
    cdef Piece* pieces = NULL
    if split:
        wave = min(n, <Py_ssize_t> WAVE)
    sources = <Source*> calloc(wave if split else threads, sizeof(Source))
    if sources == NULL:
        raise MemoryError("no memory for a read")
    tasks.chain = &chain.spec
    tasks.layout = &layout.spec
    try:
        for first in range(0, n, max(wave, 1)):
            stop = min(n, first + wave)
            with nogil:
                if threads == 1 or (split and stop - first <= FEW):
                    for i in range(first, stop):
                        _read_one(tasks, i, spaces[0],
                                  &sources[i - first if split else 0], split)
                else:
                    for i in prange(first, stop, num_threads=threads, schedule="dynamic",
                                    chunksize=1):
                        _read_one(tasks, i, spaces[threadid()],
                                  &sources[i - first if split else threadid()], split)
            if not split:
                continue
            n_pieces = _collect_pieces(tasks, first, stop, sources, NULL)
            if n_pieces == 0:
                continue
            pieces = <Piece*> malloc(n_pieces * sizeof(Piece))
            if pieces == NULL:
                for i in range(first, stop):
                    if sources[i - first].n_pieces:
                        close_source(&sources[i - first])
                raise MemoryError("no memory for the pieces of a read")
            n_pieces = _collect_pieces(tasks, first, stop, sources, pieces)
            with nogil:
                if threads == 1:
                    for k in range(n_pieces):
                        _read_piece(tasks, &pieces[k], spaces[0],
                                    &sources[pieces[k].task - first])
                else:
                    for k in prange(n_pieces, num_threads=threads, schedule="dynamic",
                                    chunksize=1):
                        _read_piece(tasks, &pieces[k], spaces[threadid()],
                                    &sources[pieces[k].task - first])
            free(pieces)
            pieces = NULL
    finally:
        free(sources)
        crew.disband()


# ---------------------------------------------------------------------------------------------
# Writing

cdef pthread_mutex_t _locks[N_LOCKS]


cdef inline pthread_mutex_t* _lock_of(const char* path) noexcept nogil:
    # Two threads that write one chunk take the same lock; a few other chunks share it.
    cdef uint64_t h = 14695981039346656037u
    while path[0]:
        h = (h ^ <uint8_t> path[0]) * 1099511628211u
        path += 1
    return &_locks[(h ^ (h >> 32)) % N_LOCKS]


def reset_after_fork() -> None:
    """Make locks anew in a forked child: no thread lives there that could give them back."""
    cdef int k
    pthread_mutex_init(&_record_lock, NULL)
    for k in range(N_LOCKS):
        pthread_mutex_init(&_locks[k], NULL)


reset_after_fork()
os.register_at_fork(after_in_child=reset_after_fork)


cdef Status _old_chunk(
    const Tasks* tasks, const Task* task, Workspace* space, uint8_t* chunk, Failure* failure,
) noexcept nogil:
    # What is stored of a chunk, or the fill value where nothing is.
    cdef const uint8_t* decoded = NULL
    cdef Py_ssize_t size = 0
    cdef int fd = -1
    cdef Status status = MISSING
    failure.stage = -1
    if not task.complete:
        status = open_file(task.path, &fd, &size, failure)
    if status == OK:
        status = decode_chunk(fd, size, tasks.chain, space, task.nbytes, chunk, &decoded, failure)
        close_file(fd)
        return status
    if status == MISSING:
        _fill_run(tasks.layout, chunk, task.nbytes)
        return OK
    return status


cdef void _fill_run(const LayoutSpec* layout, uint8_t* chunk, int64_t nbytes) noexcept nogil:
    cdef Box box
    box.ndim = 1
    box.count[0] = nbytes // layout.item.size
    box.src_stride[0] = 0
    box.dst_stride[0] = layout.item.size
    fill_box(&box, &layout.item, layout.fill, <char*> chunk)


cdef Status _write_task(
    const Tasks* tasks, Task* task, Workspace* space,
    bint keep_empty, int inner_threads, uint64_t nonce,
) noexcept nogil:
    cdef Failure* failure = &task.failure
    cdef const Item* item = &tasks.layout.item
    cdef const uint8_t* data
    cdef uint8_t* chunk
    cdef size_t n = task.nbytes
    cdef Status status
    cdef Box box
    write_box(tasks, task, &box)
    data = <const uint8_t*> tasks.data + task.array_offset
    if not (
        task.covers and is_one_run(&box, item) and not item.swap_unit and not item.n_segments
    ):
        chunk = reserve(&space.chunk, n)
        if chunk == NULL:
            return NO_MEMORY
        if not task.covers:
            status = _old_chunk(tasks, task, space, chunk, failure)
            if status != OK:
                return status
        copy_box(&box, item, <const char*> data, <char*> chunk + task.chunk_offset)
        data = chunk
    failure.stage = -1
    if not keep_empty and all_fill(
        <const char*> data, n // item.size, item.size, tasks.layout.fill,
        <FillKind> tasks.layout.fill_kind, tasks.layout.fill_swapped
    ):
        return remove_file(task.path, failure)
    status = encode_chunk(tasks.chain, space, &data, &n, inner_threads, failure)
    if status == OK:
        failure.stage = -1
        status = replace_file(task.path, data, n, nonce, failure)
    return status


cdef void _write_one(
    Tasks* tasks, Py_ssize_t i, Workspace* space,
    bint keep_empty, int inner_threads, uint64_t seed,
) noexcept nogil:
    cdef Task* task = &tasks.items[i]
    cdef pthread_mutex_t* lock
    if task.empty or i > zarrs_load(&tasks.first_failed):
        return
    lock = _lock_of(task.path)
    pthread_mutex_lock(lock)
    task.failure.status = _write_task(tasks, task, space, keep_empty, inner_threads,
                                      seed + <uint64_t> i)
    pthread_mutex_unlock(lock)
    if task.failure.status > MISSING:
        zarrs_lower(&tasks.first_failed, i)


def write(
    Plan plan, Chain chain, Layout layout, int threads, int inner_threads, bint keep_empty,
) -> None:
    """Write a plan's array into its chunks; the outcome is in the plan.

    Parameters
    ----------
    threads, inner_threads : int
        Chunks encoded at the same time, and threads inside a codec that can use them.
    keep_empty : bool
        Whether chunks of nothing but the fill value are stored.
    """
    cdef Crew crew = Crew(threads)
    cdef Workspace** spaces = crew.spaces
    cdef uint64_t seed = int.from_bytes(os.urandom(8), "little")
    cdef Tasks* tasks = plan.tasks
    cdef Py_ssize_t n = plan.n_tasks
    cdef Py_ssize_t i
    tasks.chain = &chain.spec
    tasks.layout = &layout.spec
    try:
        with nogil:
            if threads == 1:
                for i in range(n):
                    _write_one(tasks, i, spaces[0], keep_empty, inner_threads, seed)
            else:
                for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=1):
                    _write_one(tasks, i, spaces[threadid()], keep_empty,
                               inner_threads, seed)
    finally:
        crew.disband()


def release_team() -> None:
    """End the threads that OpenMP keeps for the calling thread."""
    with nogil:
        zarrs_release_team()
