"""Reading of big chunks in pieces that threads share.

Chunks whose format can be entered anywhere (raw bytes, Blosc blocks), and raw chunks with a
checksum that can be joined from those of slices, are taken apart, and the pieces run in a loop of
their own, in the order of the memory they go to: pieces of neighbouring chunks fill the same pages
of the result while these are hot.
"""

from libc.stdlib cimport free, malloc, qsort

from zarrs._core cimport (
    OK,
    THE_FILE,
    ChainSpec,
    Failure,
    Item,
    Region,
    Status,
    Tasks,
    Team,
    Workspace,
)
from zarrs.chunks._checked cimport cut_checked, run_checked_slice, verify_slices
from zarrs.chunks._partial cimport (
    Source,
    blosc_window,
    close_source,
    cut_blosc,
    cut_raw,
    open_blosc,
    run_blosc_piece,
    run_raw_piece,
    wants_blosc_piece,
)
from zarrs.chunks._read cimport read_region
from zarrs.codecs._chunk cimport check_size, check_stored
from zarrs.runtime._failures cimport begin_failure, is_cancelled, record_failure
from zarrs.runtime._loop cimport run_loop


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_countdown(Py_ssize_t* p)


cdef struct Piece:
    Source* source
    Py_ssize_t number
    const char* dst  # where its first item goes


cdef Status open_source(
    Source* source, const Tasks* tasks, const ChainSpec* chain, Failure* failure,
) noexcept nogil:
    """Take a chunk apart whose ``input`` and ``region`` are set; closes it if that fails."""
    cdef Status status = check_stored(&source.input, chain, source.region.nbytes, failure)
    if status != OK:
        pass
    elif chain.is_raw:
        failure.stage = THE_FILE
        status = check_size(source.region.nbytes + chain.tail, source.input.size, failure)
        if status == OK:
            source.n_pieces = source.left = cut_raw(source, &source.region.box)
    elif chain.is_checked_raw:
        status = cut_checked(source, &tasks.layout.item, failure)
        source.left = source.n_pieces
    else:
        status = open_blosc(source, source.region.nbytes, failure)
        if status == OK:
            source.n_pieces = source.left = cut_blosc(source, &tasks.layout.item)
    if status != OK:
        close_source(source)
    return status


# The pieces of a loop.
cdef struct Pieces:
    Tasks* tasks
    const ChainSpec* chain
    Piece* items


cdef inline Failure* _begin(const Source* source, Workspace* space) noexcept nogil:
    cdef Failure* failure = begin_failure(space)
    failure.depth = source.depth
    failure.inner = source.inner
    return failure


cdef void _read_piece(void* context, Py_ssize_t k, Workspace* space) noexcept nogil:
    cdef Tasks* tasks = (<Pieces*> context).tasks
    cdef const ChainSpec* chain = (<Pieces*> context).chain
    cdef const Piece* piece = &(<Pieces*> context).items[k]
    cdef Source* source = piece.source
    cdef const Item* item = &tasks.layout.item
    cdef Failure* failure
    if not is_cancelled(tasks, source.task):
        failure = _begin(source, space)
        if chain.is_raw:
            failure.status = run_raw_piece(source, piece.number, item, &source.region, space)
        elif chain.is_blosc:
            failure.status = run_blosc_piece(source, piece.number, chain, item, &source.region,
                                             space)
        elif source.n_pieces == 1:
            failure.status = read_region(&source.input, chain, item, &source.region, space)
        else:
            failure.status = run_checked_slice(source, piece.number, chain, item, space)
        if failure.status != OK:
            record_failure(tasks, source.task, failure)
    if zarrs_countdown(&source.left) > 0:
        return
    if chain.is_checked_raw and source.n_pieces > 1 and not is_cancelled(tasks, source.task):
        failure = _begin(source, space)
        failure.status = verify_slices(source, chain, space)
        if failure.status != OK:
            record_failure(tasks, source.task, failure)
    close_source(source)


cdef int _by_destination(const void* a, const void* b) noexcept nogil:
    cdef const char* x = (<const Piece*> a).dst
    cdef const char* y = (<const Piece*> b).dst
    return (x > y) - (x < y)


cdef Py_ssize_t _collect_pieces(
    const ChainSpec* chain, const Item* item, Source* source, Piece* pieces,
) noexcept nogil:
    # Lists the wanted pieces of a chunk; closes it if there are none.
    cdef const Region* region = &source.region
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t number, start, end, row
    for number in range(source.n_pieces):
        if chain.is_raw:
            row = number * source.group
            start = row * region.box.dst_stride[source.axis] if (
                source.axis < region.box.ndim) else 0
        elif chain.is_checked_raw:
            start = 0
        else:
            if not wants_blosc_piece(source, number, item, region):
                source.left -= 1
                continue
            start = 0
            end = 0
            blosc_window(source, number, &start, &end)
            start = start * source.index.blocksize - region.offset
            row = max(start, 0) // region.box.src_stride[0] if region.box.ndim else 0
            start = row * region.box.dst_stride[0] if region.box.ndim else 0
        pieces[n].source = source
        pieces[n].number = number
        pieces[n].dst = region.data + start
        n += 1
    if source.n_pieces and source.left == 0:
        close_source(source)
    return n


cdef int read_pieces(
    Tasks* tasks, const ChainSpec* chain, Source* sources, Py_ssize_t n_sources,
    const Team* team,
) except -1:
    """Read all open sources piece by piece and close them; those without pieces are skipped."""
    cdef Py_ssize_t most = 0
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i
    cdef Pieces pieces
    for i in range(n_sources):
        most += sources[i].n_pieces
    if most == 0:
        return 0
    pieces.tasks = tasks
    pieces.chain = chain
    pieces.items = <Piece*> malloc(most * sizeof(Piece))
    if pieces.items == NULL:
        for i in range(n_sources):
            if sources[i].n_pieces:
                close_source(&sources[i])
        raise MemoryError("no memory for the pieces of a read")
    with nogil:
        for i in range(n_sources):
            n += _collect_pieces(chain, &tasks.layout.item, &sources[i], pieces.items + n)
        qsort(pieces.items, n, sizeof(Piece), _by_destination)
        run_loop(_read_piece, &pieces, n, 1, team)
    free(pieces.items)
    return 0
