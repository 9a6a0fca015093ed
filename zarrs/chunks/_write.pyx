"""Making the bytes to store of one chunk or inner chunk."""

from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy

from zarrs._core cimport (
    CHECKSUM_SIZE,
    MISSING,
    NO_MEMORY,
    OK,
    PLAIN,
    THE_FILE,
    Box,
    ChainSpec,
    Input,
    Item,
    LayoutSpec,
    Region,
    Status,
    Task,
    Workspace,
    WriteOptions,
)
from zarrs.arrays._copy cimport all_fill, copy_in, fill_box, is_one_run
from zarrs.arrays._strings cimport pack_strings
from zarrs.codecs._chunk cimport check_stored, decode_chunk, decode_open, encode_chunk
from zarrs.runtime._workspace cimport reserve


cdef void _fill_run(const LayoutSpec* layout, uint8_t* chunk, int64_t nbytes) noexcept nogil:
    cdef Box box
    box.ndim = 1
    box.count[0] = nbytes // layout.item.size
    box.src_stride[0] = 0
    box.dst_stride[0] = layout.item.size
    fill_box(&box, &layout.item, layout.fill, <char*> chunk)


cdef Status _merge_strings(
    const Input* old, const ChainSpec* chain, const LayoutSpec* layout, const Region* region,
    const WriteOptions* options, Workspace* space, const uint8_t** data, size_t* n,
) noexcept nogil:
    cdef const uint8_t* before = NULL
    cdef size_t n_before = 0
    cdef Status status = OK
    if not region.covers and old != NULL:
        status = decode_open(old, chain, space, region.nbytes, &before, &n_before)
    if status == MISSING:  # says a codec
        before = NULL
    elif status != OK:
        return status
    space.failure.stage = THE_FILE
    return pack_strings(layout, region, before, n_before, options.keep_empty, space, data, n)


cdef Status _merge_items(
    const Input* old, const ChainSpec* chain, const LayoutSpec* layout, const Region* region,
    const WriteOptions* options, Workspace* space, const uint8_t** data, size_t* n,
) noexcept nogil:
    cdef const Item* item = &layout.item
    cdef const uint8_t* decoded = NULL
    cdef uint8_t* chunk
    cdef Status status = MISSING
    n[0] = region.nbytes
    data[0] = <const uint8_t*> region.data
    if not (
        region.covers and is_one_run(&region.box, item)
        and not item.swap_unit and not item.n_segments
    ):
        chunk = reserve(&space.chunk, n[0] + CHECKSUM_SIZE)  # which may be added in place
        if chunk == NULL:
            return NO_MEMORY
        if not region.covers and old != NULL:
            status = decode_chunk(old, chain, space, region.nbytes, chunk, &decoded)
            if status > MISSING:
                return status
        if not region.covers and status == MISSING:
            _fill_run(layout, chunk, region.nbytes)
        copy_in(region, item, <char*> chunk)
        data[0] = chunk
    space.failure.stage = THE_FILE
    if not options.keep_empty and all_fill(
        <const char*> data[0], region.nbytes // item.size, item.size, layout.fill,
        layout.fill_kind, layout.fill_swapped
    ):
        data[0] = NULL
    return OK


cdef Status encode_region(
    const Input* old, const ChainSpec* chain, const LayoutSpec* layout, const Region* region,
    const WriteOptions* options, Workspace* space, const uint8_t** data, size_t* n,
) noexcept nogil:
    """Merge what is written into a chunk and encode it.

    ``old`` is what is stored, NULL where nothing is or nothing survives. In the end ``data`` is in
    scratch, or in the array itself; NULL for a chunk that is not stored, being empty.
    """
    cdef Status status
    space.failure.stage = THE_FILE
    if old != NULL and not region.covers:
        status = check_stored(old, chain, region.nbytes, &space.failure)
        if status != OK:
            return status
    if layout.item.kind != PLAIN:
        status = _merge_strings(old, chain, layout, region, options, space, data, n)
    else:
        status = _merge_items(old, chain, layout, region, options, space, data, n)
    if status == OK and data[0] != NULL:
        status = encode_chunk(chain, space, data, n, options.inner_threads)
    return OK if status == MISSING else status  # a codec can say that there is nothing to store


cdef Status keep_encoded(Task* task, const uint8_t* data, size_t n) noexcept nogil:
    """Leave a copy of the bytes of a chunk that is stored in memory for the caller.

    Scratch stays where it is: it is in the cache, and fresh memory costs page faults.
    """
    task.encoded = <uint8_t*> malloc(max(n, <size_t> 1))
    if task.encoded == NULL:
        return NO_MEMORY
    memcpy(task.encoded, data, n)
    task.encoded_size = n
    return OK
