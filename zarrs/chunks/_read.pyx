"""Reading of what a region needs of one chunk or inner chunk, in the cheapest way.

Raw chunks are read where they are needed, Blosc chunks block by block, streams up to the last item
that is needed, all others as a whole.
"""

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memset

from zarrs._core cimport (
    OK,
    PLAIN,
    THE_FILE,
    ChainSpec,
    Input,
    Item,
    LayoutSpec,
    Region,
    Status,
    Workspace,
)
from zarrs.arrays._copy cimport copy_out, fill_out, is_one_run, swap_run
from zarrs.arrays._strings cimport fill_strings, unpack_strings
from zarrs.chunks._checked cimport read_checked, wants_read_checked
from zarrs.chunks._partial cimport (
    PIECE,
    Source,
    close_source,
    cut_blosc,
    open_blosc,
    read_blosc_scattered,
    read_raw,
    read_raw_scattered,
    run_blosc_piece,
    wants_blosc_piece,
)
from zarrs.codecs._chunk cimport check_size, check_stored, decode_chunk, decode_open, decode_prefix

cdef enum:
    MIN_SAVED = 64 * 1024  # decoded bytes for whose sake a stream is stopped early


cdef Status _read_blocks(
    const Input* origin, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space, bint* done,
) noexcept nogil:
    # Reads the blocks that are needed of a Blosc chunk; one of a single block is left alone.
    cdef Source source
    cdef Py_ssize_t number
    cdef Status status
    memset(&source, 0, sizeof(Source))
    source.input = origin[0]
    status = open_blosc(&source, region.nbytes, &space.failure)
    done[0] = status != OK or source.index.n_blocks > 1
    if status == OK and done[0]:
        source.n_pieces = cut_blosc(&source, item)
        if region.is_scattered:
            source.region = region[0]
            status = read_blosc_scattered(&source, chain, item, space)
        else:
            for number in range(source.n_pieces):
                if status == OK and wants_blosc_piece(&source, number, item, region):
                    status = run_blosc_piece(&source, number, chain, item, region, space)
    close_source(&source)
    return status


cdef Status _read_strings(
    const Input* source, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space,
) noexcept nogil:
    cdef const uint8_t* payload = NULL
    cdef size_t n = 0
    cdef Status status = decode_open(source, chain, space, region.nbytes, &payload, &n)
    if status != OK:
        return status
    space.failure.stage = THE_FILE
    return unpack_strings(item, region, payload, n, space)


cdef Status read_region(
    const Input* source, const ChainSpec* chain, const Item* item, const Region* region,
    Workspace* space,
) noexcept nogil:
    """Read what is selected of a chunk to where it goes in the array."""
    cdef const uint8_t* decoded = NULL
    cdef bint direct = region.covers and is_one_run(&region.box, item)
    cdef bint done = False
    cdef Status status
    space.failure.stage = THE_FILE
    status = check_stored(source, chain, region.nbytes, &space.failure)
    if status != OK:
        return status
    if item.kind != PLAIN:
        return _read_strings(source, chain, item, region, space)
    if chain.is_raw:
        status = check_size(region.nbytes + chain.tail, source.size, &space.failure)
        if status != OK:
            return status
        if region.is_scattered:
            return read_raw_scattered(source, item, region, space)
        return read_raw(source, &region.box, item, region.offset, region.data, space)
    if chain.is_blosc and region.nbytes > PIECE // 4:
        status = _read_blocks(source, chain, item, region, space, &done)
        if done:
            return status
    if wants_read_checked(chain, item, region):
        return read_checked(source, chain, item, region, space)
    # A stream that can be stopped may be decoded more slowly than one that is decoded in one go.
    if chain.has_prefix and region.nbytes - region.high >= max(
        MIN_SAVED, region.nbytes // chain.stages[0].codec.feed_pays
    ):
        status = decode_prefix(source, chain, space, region.nbytes, region.high, &decoded)
    else:
        status = decode_chunk(source, chain, space, region.nbytes,
                              <uint8_t*> region.data if direct else NULL, &decoded)
    if status != OK:
        return status
    if direct:
        swap_run(item, region.data, region.nbytes // item.size)
    else:
        copy_out(region, item, <const char*> decoded)
    return OK


cdef Status decode_whole(
    const Input* source, const ChainSpec* chain, const Item* item, int64_t nbytes,
    Workspace* space, Decoded* decoded,
) noexcept nogil:
    """Decode all of a chunk, to be copied more than once; it lasts until the next one."""
    cdef Status status
    space.failure.stage = THE_FILE
    status = check_stored(source, chain, nbytes, &space.failure)
    if status == OK and item.kind != PLAIN:
        return decode_open(source, chain, space, nbytes, &decoded.bytes, &decoded.size)
    if status == OK:
        decoded.size = nbytes
        status = decode_chunk(source, chain, space, nbytes, NULL, &decoded.bytes)
    return status


cdef Status copy_decoded(
    const Decoded* decoded, const Item* item, const Region* region, Workspace* space,
) noexcept nogil:
    """Copy what is selected of a decoded chunk to where it goes in the array."""
    if item.kind != PLAIN:
        space.failure.stage = THE_FILE
        return unpack_strings(item, region, decoded.bytes, decoded.size, space)
    copy_out(region, item, <const char*> decoded.bytes)
    return OK


cdef Status fill_region(
    const LayoutSpec* layout, const Region* region, Workspace* space,
) noexcept nogil:
    """Put the fill value where a missing chunk would go."""
    if layout.item.kind != PLAIN:
        return fill_strings(layout, region, space)
    fill_out(region, &layout.item, layout.fill)
    return OK
