"""Reading of parts of chunks whose format can be entered anywhere: raw bytes and Blosc blocks.

Of a raw chunk only the bytes that are needed are read, of a Blosc chunk only the blocks. Both can
be cut into pieces that different threads take.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from zarrs._core cimport (
    NO_MEMORY,
    OK,
    THE_FILE,
    Box,
    ChainSpec,
    Failure,
    Input,
    Item,
    Region,
    Stage,
    Status,
    Workspace,
)
from zarrs.arrays._copy cimport (
    copy_box,
    copy_out,
    copy_window,
    is_one_run,
    source_extent,
    swap_run,
    touches_window,
)
from zarrs.codecs._blosc_format cimport (
    HEADER_SIZE,
    BlockIndex,
    Extent,
    make_part_header,
    read_extents,
    read_header,
)
from zarrs.codecs._chunk cimport check_size
from zarrs.filesystem._files cimport close_input, read_input, view_input
from zarrs.runtime._workspace cimport reserve

cdef enum:
    HEAD = 4096  # what is read of a Blosc buffer to learn where its blocks are
    MIN_DIRECT = 16 * 1024  # a shorter run is read together with its neighbours, then copied
    READ_COST = 4096  # bytes that can be read in the time that a system call takes
    SPARSE_STRIDE = 16 * 1024  # gaps from which on a read of its own is cheaper than their bytes


cdef Status read_raw(
    const Input* source, const Box* box, const Item* item, Py_ssize_t offset, char* dst,
    Workspace* space,
) noexcept nogil:
    """Read the box that starts at byte ``offset`` of a raw chunk."""
    cdef Box part = box[0]
    cdef Py_ssize_t extent = source_extent(box, item, 0)
    cdef Py_ssize_t stride, inner, group, i, n
    cdef uint8_t* scratch
    cdef const uint8_t* data = NULL
    cdef Status status
    cdef int k
    cdef bint sparse
    if source.data != NULL:
        status = view_input(source, extent, offset, NULL, &data, &space.failure)
        if status == OK:
            copy_box(box, item, <const char*> data, dst)
        return status
    while part.ndim and part.count[0] == 1:
        part.ndim -= 1
        for k in range(part.ndim):
            part.count[k] = part.count[k + 1]
            part.src_stride[k] = part.src_stride[k + 1]
            part.dst_stride[k] = part.dst_stride[k + 1]
    stride = part.src_stride[0] if part.ndim else 0
    inner = source_extent(&part, item, 1) if part.ndim else extent
    sparse = stride >= SPARSE_STRIDE and 4 * inner < stride
    if extent >= MIN_DIRECT and is_one_run(&part, item):
        status = read_input(source, <uint8_t*> dst, extent, offset, &space.failure)
        if status == OK:
            swap_run(item, dst, extent // item.size)
        return status
    if part.ndim == 0 or (extent <= PIECE and not sparse):
        scratch = reserve(&space.chunk, extent)
        if scratch == NULL:
            return NO_MEMORY
        status = read_input(source, scratch, extent, offset, &space.failure)
        if status == OK:
            copy_box(&part, item, <const char*> scratch, dst)
        return status
    # Too much for one go: groups of rows, or what one row needs of itself.
    group = 1 if sparse else max(1, PIECE // stride)
    n = part.count[0]
    i = 0
    while i < n:
        part.count[0] = min(group, n - i)
        status = read_raw(source, &part, item, offset + i * stride,
                          dst + i * part.dst_stride[0], space)
        if status != OK:
            return status
        i += group
    return OK


cdef Status read_raw_scattered(
    const Input* source, const Item* item, const Region* region, Workspace* space,
) noexcept nogil:
    """Read scattered boxes of a raw chunk: all bytes from first to last, or those in between not.

    Boxes that follow each other in the file are read in one go.
    """
    cdef Py_ssize_t span = region.high - region.low
    cdef Py_ssize_t extent = source_extent(&region.box, item, 0)
    cdef const uint8_t* data = NULL
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t k, low, high
    cdef Status status = OK
    if source.data != NULL or span <= PIECE or region.n >= min(
        span // READ_COST, span // extent
    ):
        status = view_input(source, span, region.low, &space.chunk, &data, &space.failure)
        if status == OK:  # where byte 0 would be, whether it was read or not
            copy_out(region, item, <const char*> (<size_t> data - <size_t> region.low))
        return status
    while i < region.n and status == OK:
        low = region.offsets[i]
        high = low + extent
        k = i + 1
        while (
            k < region.n and low <= region.offsets[k] <= high + SPARSE_STRIDE
            and region.offsets[k] + extent - low <= PIECE
        ):
            high = max(high, region.offsets[k] + extent)
            k += 1
        status = view_input(source, high - low, low, &space.chunk, &data, &space.failure)
        while i < k and status == OK:
            copy_box(&region.box, item, <const char*> data + (region.offsets[i] - low),
                     region.data + region.array_offsets[i])
            i += 1
    return status


cdef Status read_blosc_scattered(
    Source* source, const ChainSpec* chain, const Item* item, Workspace* space,
) noexcept nogil:
    """Decode those pieces of an open Blosc chunk that hold some of the scattered boxes."""
    cdef const Region* region = &source.region
    cdef Py_ssize_t extent = source_extent(&region.box, item, 0)
    cdef Py_ssize_t size = source.group * source.index.blocksize
    cdef Py_ssize_t last = source.n_pieces - 1
    cdef Py_ssize_t i, k, first, stop
    cdef uint8_t* chunk = reserve(&space.chunk, region.nbytes)
    cdef char* wanted = <char*> calloc(source.n_pieces, 1)
    cdef Status status = OK
    if chunk == NULL or wanted == NULL:
        free(wanted)
        return NO_MEMORY
    for i in range(region.n):
        first = min(region.offsets[i] // size, last)
        stop = min((region.offsets[i] + extent - 1) // size, last)
        for k in range(first, stop + 1):
            wanted[k] = 1
    for k in range(source.n_pieces):
        if wanted[k] and status == OK:
            blosc_window(source, k, &first, &stop)
            status = _decode_blocks(source, chain, first, stop,
                                    chunk + first * source.index.blocksize, space)
    free(wanted)
    if status == OK:
        copy_out(region, item, <const char*> chunk)
    return status


cdef void close_source(Source* source) noexcept nogil:
    """Close an open chunk and forget about its blocks."""
    if source.owns_input:
        close_input(&source.input)
    free(source.head)
    free(source.extents)
    free(source.checksums)
    source.head = NULL
    source.extents = NULL
    source.checksums = NULL


cdef Status open_blosc(Source* source, int64_t nbytes, Failure* failure) noexcept nogil:
    """Learn where the blocks of an open chunk are."""
    cdef Py_ssize_t size = source.input.size
    cdef Py_ssize_t n = min(size, <Py_ssize_t> HEAD)
    cdef Py_ssize_t table
    cdef uint8_t* longer
    cdef Status status
    failure.stage = THE_FILE
    source.head = <uint8_t*> malloc(max(n, <Py_ssize_t> 1))
    if source.head == NULL:
        return NO_MEMORY
    status = read_input(&source.input, source.head, n, 0, failure)
    source.head_size = n
    if status == OK:
        failure.stage = 0
        status = read_header(source.head, size, nbytes, &source.index, failure)
    if status == OK:
        status = check_size(nbytes, source.index.nbytes, failure)
    if status != OK or source.index.stored:
        return status
    table = HEADER_SIZE + 4 * source.index.n_blocks
    if table > n:
        longer = <uint8_t*> malloc(table)
        if longer == NULL:
            return NO_MEMORY
        free(source.head)
        source.head = longer
        source.head_size = table
        failure.stage = THE_FILE
        status = read_input(&source.input, longer, table, 0, failure)
        if status != OK:
            return status
    failure.stage = 0
    source.extents = <Extent*> malloc(source.index.n_blocks * sizeof(Extent))
    if source.extents == NULL:
        return NO_MEMORY
    return read_extents(source.head, &source.index, source.extents, failure)


cdef Py_ssize_t _blocks_a_piece(const BlockIndex* index, const Item* item) noexcept nogil:
    # As many blocks as it takes for no item to cross the end of a piece; all of them, if need be.
    cdef Py_ssize_t group = max(1, PIECE // index.blocksize)
    cdef Py_ssize_t k
    for k in range(1, 65):
        if (k * group * index.blocksize) % item.size == 0:
            return min(k * group, index.n_blocks)
    return index.n_blocks


cdef void blosc_window(
    const Source* source, Py_ssize_t number, Py_ssize_t* first, Py_ssize_t* stop,
) noexcept nogil:
    """The blocks of a piece; a short last block never stands alone."""
    first[0] = number * source.group
    stop[0] = first[0] + source.group
    if number == source.n_pieces - 1:
        stop[0] = source.index.n_blocks


cdef Py_ssize_t cut_blosc(Source* source, const Item* item) noexcept nogil:
    """Cut an open Blosc chunk into groups of blocks; return how many pieces."""
    source.group = _blocks_a_piece(&source.index, item)
    # Full blocks only count: what is left of the chunk belongs to the last piece.
    return max(1, (source.index.nbytes // source.index.blocksize) // source.group)


cdef Status _decode_blocks(
    const Source* source, const ChainSpec* chain, Py_ssize_t first, Py_ssize_t stop,
    uint8_t* target, Workspace* space,
) noexcept nogil:
    # Reads and decodes some blocks that follow each other.
    cdef const Stage* stage = &chain.stages[0]
    cdef const BlockIndex* index = &source.index
    cdef Py_ssize_t low = first * index.blocksize
    cdef Py_ssize_t high = min(stop * index.blocksize, index.nbytes)
    cdef Py_ssize_t b, run_start, run_stop, position
    cdef uint8_t* part
    cdef size_t written
    cdef Status status = OK
    space.failure.stage = THE_FILE
    if index.stored:
        return read_input(&source.input, target, high - low, HEADER_SIZE + low, &space.failure)
    position = HEADER_SIZE + 4 * (stop - first)
    for b in range(first, stop):
        position += source.extents[b].stop - source.extents[b].start
    part = reserve(&space.file, position)
    if part == NULL:
        return NO_MEMORY
    make_part_header(source.head, index, source.extents, first, stop, part)
    position = HEADER_SIZE + 4 * (stop - first)
    b = first
    while b < stop and status == OK:
        # Blocks that follow each other in the file are read together.
        run_start = source.extents[b].start
        run_stop = source.extents[b].stop
        b += 1
        while b < stop and source.extents[b].start == run_stop:
            run_stop = source.extents[b].stop
            b += 1
        if run_stop <= source.head_size:
            memcpy(part + position, source.head + run_start, run_stop - run_start)
        else:
            status = read_input(&source.input, part + position, run_stop - run_start,
                                run_start, &space.failure)
        position += run_stop - run_start
    if status != OK:
        return status
    space.failure.stage = 0
    return stage.codec.decode(&stage.params, &space.decoders[stage.slot], part, position,
                              target, high - low, &written, &space.failure)


cdef Status run_blosc_piece(
    const Source* source, Py_ssize_t number, const ChainSpec* chain, const Item* item,
    const Region* region, Workspace* space,
) noexcept nogil:
    """Read one piece of an open Blosc chunk and copy what is needed of it."""
    cdef const Box* box = &region.box
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t stop = 0
    cdef Py_ssize_t low, high
    cdef uint8_t* target
    cdef bint direct
    cdef Status status
    blosc_window(source, number, &first, &stop)
    low = first * source.index.blocksize
    high = min(stop * source.index.blocksize, source.index.nbytes)
    direct = region.low <= low and high <= region.high and is_one_run(box, item)
    if direct:
        target = <uint8_t*> region.data + (low - region.offset)
    else:
        target = reserve(&space.chunk, high - low)
        if target == NULL:
            return NO_MEMORY
    status = _decode_blocks(source, chain, first, stop, target, space)
    if status != OK:
        return status
    if direct:
        swap_run(item, <char*> target, (high - low) // item.size)
    else:
        copy_window(box, item, region.offset, <const char*> target, low, high, region.data)
    return OK


cdef Py_ssize_t cut_raw(Source* source, const Box* box) noexcept nogil:
    """Cut a raw chunk along its first axis with more than one row; return how many pieces."""
    source.axis = 0
    while source.axis < box.ndim and box.count[source.axis] == 1:
        source.axis += 1
    if source.axis == box.ndim:
        return 1
    source.group = max(1, PIECE // box.src_stride[source.axis])
    return (box.count[source.axis] + source.group - 1) // source.group


cdef Status run_raw_piece(
    const Source* source, Py_ssize_t number, const Item* item, const Region* region,
    Workspace* space,
) noexcept nogil:
    """Read one piece of an open raw chunk."""
    cdef Box part = region.box
    cdef int k = source.axis
    cdef Py_ssize_t first = number * source.group
    cdef char* dst = region.data
    space.failure.stage = THE_FILE
    if k < part.ndim:
        part.count[k] = min(source.group, part.count[k] - first)
        dst += first * part.dst_stride[k]
        first *= part.src_stride[k]
    return read_raw(&source.input, &part, item, region.offset + first, dst, space)


cdef bint wants_blosc_piece(
    const Source* source, Py_ssize_t number, const Item* item, const Region* region,
) noexcept nogil:
    """Whether anything of a piece is needed."""
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t stop = 0
    blosc_window(source, number, &first, &stop)
    return touches_window(&region.box, item, region.offset, first * source.index.blocksize,
                          min(stop * source.index.blocksize, source.index.nbytes))
