"""The index of a shard: reading, checking and making it.

Format: Zarr v3 codec ``sharding_indexed``, version 1.0, binary shard format. Offset and size of
every inner chunk, in C order of their grid, as unsigned 64-bit numbers; at the start or at the end
of the shard; then, if the index codecs say so, the CRC-32C of that.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, memset

from zarrs._core cimport (
    BAD_INDEX,
    CHECKSUM_SIZE,
    MAX_SIZE,
    MISSING,
    NO_MEMORY,
    OK,
    OUTSIDE,
    OVERLAP,
    THE_INDEX,
    TOO_SHORT,
    Axis,
    ChainSpec,
    Failure,
    FileStamp,
    Input,
    Item,
    ShardSpec,
    Status,
    Workspace,
)
from zarrs.arrays._copy cimport swap_run
from zarrs.codecs._checksum_stage cimport compare_checksum, store_checksum
from zarrs.codecs._chunk cimport decode_shard, encoded_bound
from zarrs.filesystem._files cimport close_input, read_input

cdef enum:
    FEW = 16  # up to this many entries are compared with all others, more are sorted


cdef struct Range:
    uint64_t start
    uint64_t stop
    Py_ssize_t number
    bint wanted


cdef bint is_absent(const Entry* entry) noexcept nogil:
    """Whether the shard does not hold this inner chunk."""
    return entry.offset == <uint64_t> -1 and entry.size == <uint64_t> -1


cdef Py_ssize_t count_inner_chunks(const ShardSpec* shard, const Axis* axes) noexcept nogil:
    """How many inner chunks a shard has; ``axes`` give its shape."""
    cdef Py_ssize_t n = 1
    cdef int k
    for k in range(shard.ndim):
        n *= axes[k].size // shard.inner[k]
    return n


cdef Py_ssize_t index_size(const ShardSpec* shard, Py_ssize_t n) noexcept nogil:
    """Bytes of the index of ``n`` inner chunks."""
    return n * <Py_ssize_t> sizeof(Entry) + (0 if shard.checksum == NULL else CHECKSUM_SIZE)


cdef size_t shard_bound(const ShardSpec* shard, Py_ssize_t n) noexcept nogil:
    """The most bytes of a shard that this package writes; 0: too many to count."""
    cdef size_t inner = shard.inner_nbytes
    if shard.chain.shard != NULL:
        inner = shard_bound(shard.chain.shard, shard.inner_n)
    if inner:
        inner = encoded_bound(shard.chain, inner)
    if inner == 0 or <size_t> n > (MAX_SIZE - index_size(shard, n)) // inner:
        return 0
    return n * inner + index_size(shard, n)


cdef Status unwrap_shard(
    const ChainSpec* chain, Py_ssize_t n, bint owned, Input* source, uint8_t** decoded,
    Workspace* space,
) noexcept nogil:
    """Undo the codecs around a shard of ``n`` inner chunks; ``source`` becomes the shard's bytes.

    If there are codecs, these bytes are in memory that the caller frees, and the file, if it is
    ``owned``, is closed.
    """
    cdef size_t bound
    cdef Py_ssize_t size = 0
    cdef FileStamp stamp = source.stamp
    cdef Status status
    if chain.n_stages == 0:
        source.size = max(source.size - chain.tail, <Py_ssize_t> 0)
        return OK
    bound = shard_bound(chain.shard, n)
    if bound == 0:
        return NO_MEMORY
    status = decode_shard(source, chain, space, bound, decoded, &size)
    if owned:
        close_input(source)
    memset(source, 0, sizeof(Input))
    source.fd = -1
    source.data = decoded[0]
    source.size = size
    source.stamp = stamp
    return status


cdef void narrow_input(Input* source, Py_ssize_t offset, Py_ssize_t size) noexcept nogil:
    """From a shard's bytes to those of an inner chunk, which have been checked to be inside."""
    source.handle = NULL
    if source.data != NULL:
        source.data += offset
    else:
        source.offset += offset
    source.size = size


cdef void _swap(Entry* index, Py_ssize_t n) noexcept nogil:
    cdef Item number
    number.size = 8
    number.swap_unit = 8
    number.n_segments = 0
    swap_run(&number, <char*> index, 2 * n)


cdef Status read_index(
    const Input* source, const ShardSpec* shard, Py_ssize_t n, Entry** index, Failure* failure,
) noexcept nogil:
    """Read the index of a shard, into memory that the caller frees. Its entries may be anything."""
    cdef Py_ssize_t size = index_size(shard, n)
    cdef Status status
    cdef uint8_t* data
    failure.stage = THE_INDEX
    index[0] = NULL
    if source.size < size:
        failure.code = TOO_SHORT
        failure.expected = size
        failure.found = source.size
        return BAD_INDEX
    data = <uint8_t*> malloc(max(size, <Py_ssize_t> 1))
    if data == NULL:
        return NO_MEMORY
    status = read_input(source, data, size, 0 if shard.index_at_start else source.size - size,
                        failure)
    if status == OK and shard.checksum != NULL and shard.verify:
        size -= CHECKSUM_SIZE
        status = compare_checksum(shard.checksum.extend(NULL, shard.checksum.first, data, size),
                                  data + size, failure)
    if status != OK:
        free(data)
        return status
    index[0] = <Entry*> data
    if shard.index_swapped:
        _swap(index[0], n)
    return OK


cdef Status check_entry(
    const Entry* entry, const Input* source, const ShardSpec* shard, Py_ssize_t n,
    Failure* failure,
) noexcept nogil:
    """OK, MISSING, or BAD_INDEX if an entry does not point to a shard's inner chunks."""
    cdef uint64_t size = index_size(shard, n)
    cdef uint64_t start = size if shard.index_at_start else 0
    cdef uint64_t stop = source.size if shard.index_at_start else source.size - size
    if is_absent(entry):
        return MISSING
    if entry.offset >= start and entry.offset <= stop and entry.size <= stop - entry.offset:
        return OK
    failure.stage = THE_INDEX
    failure.code = OUTSIDE
    failure.expected = <Py_ssize_t> entry.size
    failure.found = <Py_ssize_t> entry.offset
    return BAD_INDEX


cdef Status _overlap(Py_ssize_t number, uint64_t at, Failure* failure) noexcept nogil:
    failure.stage = THE_INDEX
    failure.code = OVERLAP
    failure.expected = number
    failure.found = <Py_ssize_t> at
    return BAD_INDEX


cdef inline bint _is_plausible(const Entry* entry) noexcept nogil:
    # Entries that are not wanted have not been checked; one without bytes overlaps nothing, and an
    # absent one is too big.
    return 0 < entry.size < (<uint64_t> 1 << 63) and entry.offset < (<uint64_t> 1 << 63)


cdef int _by_start(const void* a, const void* b) noexcept nogil:
    cdef uint64_t x = (<const Range*> a).start
    cdef uint64_t y = (<const Range*> b).start
    return (x > y) - (x < y)


cdef Status check_overlaps(
    const Entry* index, Py_ssize_t n, const Py_ssize_t* wanted, Py_ssize_t n_wanted,
    Failure* failure,
) noexcept nogil:
    """BAD_INDEX if an inner chunk that is wanted shares bytes with another one.

    The wanted entries (NULL: all) that are present have passed ``check_entry``.
    """
    cdef const Entry* one
    cdef Range* ranges
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t longest = 0
    cdef Py_ssize_t i, k
    cdef bint sorted_already = True
    cdef Status status = OK
    if wanted != NULL and n_wanted <= FEW:
        for k in range(n_wanted):
            one = &index[wanted[k]]
            if not _is_plausible(one):  # absent, or empty
                continue
            for i in range(n):
                if (
                    index[i].offset < one.offset + one.size
                    and one.offset < index[i].offset + index[i].size
                    and _is_plausible(&index[i]) and i != wanted[k]
                ):
                    return _overlap(i, max(one.offset, index[i].offset), failure)
        return OK
    ranges = <Range*> calloc(n, sizeof(Range))
    if ranges == NULL:
        return NO_MEMORY
    for k in range(n_wanted):
        ranges[k if wanted == NULL else wanted[k]].wanted = True
    for i in range(n):
        # Never ahead of `i`: what is overwritten has been moved already.
        if _is_plausible(&index[i]):
            ranges[count].wanted = ranges[i].wanted
            ranges[count].start = index[i].offset
            ranges[count].stop = index[i].offset + index[i].size
            ranges[count].number = i
            if count and ranges[count].start < ranges[count - 1].start:
                sorted_already = False
            count += 1
    if not sorted_already:
        qsort(ranges, count, sizeof(Range), _by_start)
    # Of those before, the one that reaches farthest overlaps the next one, if any does.
    for i in range(1, count):
        if ranges[i].start < ranges[longest].stop and (
            ranges[i].wanted or ranges[longest].wanted
        ):
            status = _overlap(ranges[longest].number, ranges[i].start, failure)
            break
        if ranges[i].stop > ranges[longest].stop:
            longest = i
    free(ranges)
    return status


cdef void encode_index(
    const ShardSpec* shard, Entry* index, Py_ssize_t n, uint8_t* dst,
) noexcept nogil:
    """Write the index as it is stored to ``dst``, of ``index_size`` bytes; ``index`` is used up."""
    cdef Py_ssize_t size = n * <Py_ssize_t> sizeof(Entry)
    if shard.index_swapped:
        _swap(index, n)
    memcpy(dst, index, size)
    if shard.checksum != NULL:
        store_checksum(shard.checksum.extend(NULL, shard.checksum.first, dst, size), dst + size)
