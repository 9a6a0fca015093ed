"""Reading of chunks that are raw but for a checksum, which needs all of their bytes.

These pass through a small buffer that stays in the cache, or go to the array at once; the chunk is
nowhere as a whole. Threads share a chunk slice by slice, and the slices' checksums are joined.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport malloc

from zarrs._core cimport (
    CHECKSUM_SIZE,
    MIN_SPLIT,
    NO_MEMORY,
    OK,
    THE_FILE,
    ChainSpec,
    Failure,
    Input,
    Item,
    Region,
    Stage,
    Status,
    Workspace,
)
from zarrs.arrays._copy cimport copy_window, is_one_run, swap_run
from zarrs.chunks._partial cimport PIECE, Source
from zarrs.codecs._checksum_stage cimport compare_checksum
from zarrs.codecs._chunk cimport check_size
from zarrs.filesystem._files cimport read_input, view_input

cdef enum:
    MAX_SLICES = 16  # as their checksums take a microsecond or two to be joined


cdef inline bint _is_one_run(const Region* region, const Item* item) noexcept nogil:
    # Whether a chunk goes to the array as it is.
    return region.covers and is_one_run(&region.box, item)


cdef inline bint _is_little(const Region* region, const Item* item) noexcept nogil:
    # Whether a box is so small a part of its chunk that it matters little how it is copied.
    cdef Py_ssize_t selected = item.size
    cdef int k
    for k in range(region.box.ndim):
        selected *= region.box.count[k]
    return not region.is_scattered and 8 * selected <= region.nbytes


cdef Status _read_slice(
    const Input* source, const Stage* stage, const Item* item, const Region* region,
    Py_ssize_t low, Py_ssize_t high, uint32_t* checksum, Workspace* space,
) noexcept nogil:
    # Reads what is needed of some bytes of a chunk, and computes their checksum.
    cdef Py_ssize_t step = max(<Py_ssize_t> 1, PIECE // item.size) * item.size
    cdef bint direct = _is_one_run(region, item)
    cdef Py_ssize_t stop
    cdef const uint8_t* piece = NULL
    cdef Status status = OK
    checksum[0] = stage.codec.first
    space.failure.stage = THE_FILE
    while low < high and status == OK:
        stop = min(low + step, high)
        if direct:
            piece = <const uint8_t*> region.data + low
            status = read_input(source, <uint8_t*> piece, stop - low, low, &space.failure)
        else:
            status = view_input(source, stop - low, low, &space.chunk, &piece, &space.failure)
        if status == OK:
            checksum[0] = stage.codec.extend(&stage.params, checksum[0], piece, stop - low)
            if direct:
                swap_run(item, region.data + low, (stop - low) // item.size)
            else:
                copy_window(&region.box, item, region.offset, <const char*> piece, low, stop,
                            region.data)
        low = stop
    return status


cdef Status _verify(
    const Input* source, uint32_t checksum, const Region* region, Workspace* space,
) noexcept nogil:
    cdef const uint8_t* stored = NULL
    cdef Status status
    space.failure.stage = THE_FILE
    status = view_input(source, CHECKSUM_SIZE, region.nbytes, &space.chunk, &stored,
                        &space.failure)
    if status == OK:
        space.failure.stage = 0
        status = compare_checksum(checksum, stored, &space.failure)
    return status


cdef bint wants_read_checked(
    const ChainSpec* chain, const Item* item, const Region* region,
) noexcept nogil:
    """Whether a chunk goes to the array as it is, or a little of a big one is wanted."""
    return chain.is_checked_raw and (
        _is_one_run(region, item) or (region.nbytes > PIECE and _is_little(region, item))
    )


cdef Status read_checked(
    const Input* source, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space,
) noexcept nogil:
    """Read what is selected of a chunk."""
    cdef uint32_t checksum = 0
    cdef Status status
    space.failure.stage = 0
    status = check_size(region.nbytes + CHECKSUM_SIZE, source.size, &space.failure)
    if status == OK:
        status = _read_slice(source, &chain.stages[0], item, region, 0, region.nbytes, &checksum,
                             space)
    return _verify(source, checksum, region, space) if status == OK else status


cdef Status cut_checked(Source* source, const Item* item, Failure* failure) noexcept nogil:
    """Cut an open chunk into slices: one, if it is not worth it or is better copied as a whole."""
    cdef const Region* region = &source.region
    cdef Py_ssize_t n = 1
    cdef Status status
    failure.stage = 0
    status = check_size(region.nbytes + CHECKSUM_SIZE, source.input.size, failure)
    if status != OK:
        return status
    if _is_little(region, item) or _is_one_run(region, item):
        n = max(<Py_ssize_t> 1, min(region.nbytes // MIN_SPLIT, <Py_ssize_t> MAX_SLICES))
    source.group = (region.nbytes // item.size + n - 1) // n * item.size
    source.n_pieces = (region.nbytes + source.group - 1) // source.group
    source.checksums = <uint32_t*> malloc(source.n_pieces * sizeof(uint32_t))
    return OK if source.checksums != NULL else NO_MEMORY


cdef Status run_checked_slice(
    const Source* source, Py_ssize_t number, const ChainSpec* chain, const Item* item,
    Workspace* space,
) noexcept nogil:
    """Read one of several slices of an open chunk."""
    cdef Py_ssize_t low = number * source.group
    return _read_slice(&source.input, &chain.stages[0], item, &source.region, low,
                       min(low + source.group, <Py_ssize_t> source.region.nbytes),
                       &source.checksums[number], space)


cdef Status verify_slices(
    const Source* source, const ChainSpec* chain, Workspace* space,
) noexcept nogil:
    """Compare the checksum of all slices, which have been read, with the stored one."""
    cdef const Stage* stage = &chain.stages[0]
    cdef uint32_t checksum = source.checksums[0]
    cdef Py_ssize_t low = source.group
    cdef Py_ssize_t number
    for number in range(1, source.n_pieces):
        checksum = stage.codec.combine(
            checksum, source.checksums[number],
            min(source.group, <Py_ssize_t> source.region.nbytes - low))
        low += source.group
    return _verify(&source.input, checksum, &source.region, space)
