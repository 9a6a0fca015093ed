"""Decoding and encoding of whole chunks, or of a prefix, through all stages of a chain."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from zarrs._core cimport (
    AT_START,
    CHECKSUM,
    CHECKSUM_SIZE,
    EMPTY,
    MAX_SIZE,
    MAX_STAGES,
    NO_MEMORY,
    NO_ROOM,
    OK,
    THE_FILE,
    UNSUPPORTED,
    VERIFY,
    WRONG_SIZE,
    Buffer,
    ChainSpec,
    Failure,
    Input,
    Params,
    Stage,
    Status,
    Workspace,
)
from zarrs.codecs._checksum_stage cimport add_checksum, compare_checksum, strip_checksum
from zarrs.filesystem._files cimport read_input, view_input
from zarrs.runtime._workspace cimport reserve

cdef enum:
    ENCODED_PIECE = 128 * 1024  # bytes of a file read at once where work is done on the way
    THREADS_PARAM = 5  # the parameter of codecs that can work with several threads
    UNKNOWN = 4096  # bytes that a codec without a bound may add before it has to ask for room
    GROWTH = 4  # growth factor of the buffer after a failed decode, for codecs without a bound
    MAX_GROWTH = 64  # the most it grows in all, or ...

cdef extern from *:
    """
    /* ... to this many bytes, if that is more: what C-Blosc and LZ4 can hold. zstd packs as much
     * into 64 KiB. */
    #define ZARRS_MAX_OPEN ((size_t)INT32_MAX)
    """
    const size_t MAX_OPEN "ZARRS_MAX_OPEN"


cdef inline size_t _longest(size_t bound) noexcept nogil:
    # Other writers' encodings of the same bytes may be longer than ours would be.
    return 2 * bound + 65536


cdef size_t _stage_bound(const Stage* stage, size_t n) noexcept nogil:
    # The most encoded bytes that decode to `n`; for a codec without a bound, a guess. 0: too many.
    cdef size_t bound
    if n > MAX_SIZE:
        return 0
    if stage.codec.kind == CHECKSUM:
        bound = n + CHECKSUM_SIZE
    elif stage.codec.bound != NULL:
        bound = stage.codec.bound(&stage.params, n)
    else:
        bound = n + n // 8 + UNKNOWN
    return bound if bound <= MAX_SIZE else 0


cdef void _give_up(const Stage* stage, void** context, Failure* failure) noexcept nogil:
    # After NO_ROOM, if there is none.
    cdef size_t written = 0
    stage.codec.decode(&stage.params, context, NULL, 0, NULL, 0, &written, failure)


cdef Status _undo_stage(
    const Stage* stage, Workspace* space, Buffer* target, size_t capacity, bint may_grow,
    const uint8_t** src, size_t* n, bint* moved,
) noexcept nogil:
    # Decodes one stage, into `target` unless the bytes can stay where they are.
    cdef Status status = OK
    cdef uint8_t* dst = NULL
    cdef size_t written = 0
    cdef size_t most = max(MAX_GROWTH * capacity, MAX_OPEN) if may_grow else capacity
    moved[0] = stage.codec.kind != CHECKSUM
    if not moved[0]:
        return strip_checksum(stage, src, n, &space.failure)
    while True:
        dst = reserve(target, capacity)
        if dst == NULL:
            if status == NO_ROOM:
                _give_up(stage, &space.decoders[stage.slot], &space.failure)
            return NO_MEMORY
        space.failure.expected = -1
        space.failure.found = -1
        status = stage.codec.decode(&stage.params, &space.decoders[stage.slot], src[0], n[0],
                                    dst, capacity, &written, &space.failure)
        if status == NO_ROOM:
            capacity = written
        elif status != WRONG_SIZE or not may_grow or space.failure.expected != <int64_t> capacity:
            break
        elif capacity < most and space.failure.found <= <int64_t> most:
            capacity = min(GROWTH * capacity, most)
        else:
            space.failure.expected = most
            status = UNSUPPORTED
            break
    if status == OK:
        src[0] = dst
        n[0] = written
    return status


cdef Status _undo_stages(
    const ChainSpec* chain, int first, int n_stages, Workspace* space, int64_t nbytes,
    const uint8_t** src, size_t* n,
) noexcept nogil:
    # Decodes stages `n_stages` - 1 to `first`; src and n become their result, in scratch.
    cdef size_t bounds[MAX_STAGES]
    cdef Status status
    cdef bint moved = False
    cdef int turn = 0  # which of the two buffers is free
    cdef int k
    bounds[0] = nbytes
    for k in range(1, n_stages):
        bounds[k] = _stage_bound(&chain.stages[k - 1], bounds[k - 1])
        if bounds[k] == 0 and bounds[k - 1] > 0:
            return NO_MEMORY
    for k in range(n_stages - 1, first - 1, -1):
        space.failure.stage = k
        status = _undo_stage(&chain.stages[k], space, &space.stages[turn], _longest(bounds[k]),
                             chain.is_open, src, n, &moved)
        if status != OK:
            return status
        if moved:
            turn = 1 - turn
    return OK


cdef Status check_size(int64_t expected, int64_t found, Failure* failure) noexcept nogil:
    """WRONG_SIZE unless both are the same."""
    if expected == found:
        return OK
    failure.expected = expected
    failure.found = found
    return WRONG_SIZE


cdef Status check_stored(
    const Input* source, const ChainSpec* chain, int64_t nbytes, Failure* failure,
) noexcept nogil:
    """EMPTY if nothing is stored, unless nothing is what codecs can make of a chunk."""
    cdef const Stage* last = &chain.stages[max(chain.n_stages, 1) - 1]
    if source.size > 0:
        return OK
    if chain.is_open and chain.n_stages > 0 and last.codec.kind != CHECKSUM and (
        last.codec.bound == NULL or last.codec.bound(&last.params, 0) == 0
    ):
        return OK
    failure.stage = chain.n_stages - 1
    failure.expected = nbytes + chain.tail if chain.is_raw else -1
    failure.found = 0
    return EMPTY


cdef Status _read_encoded(
    const Input* source, const ChainSpec* chain, Workspace* space, const uint8_t** src,
    size_t* n, int* n_stages,
) noexcept nogil:
    # Reads a file. A checksum around everything is verified on the way, piece by piece while they
    # are in the cache; `n_stages` says how many stages are left.
    cdef const Stage* last = &chain.stages[max(chain.n_stages, 1) - 1]
    cdef uint8_t* data
    cdef Py_ssize_t size = source.size
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t step
    cdef uint32_t checksum = 0
    cdef Status status = OK
    space.failure.stage = THE_FILE
    n[0] = size
    n_stages[0] = chain.n_stages
    if (
        source.data != NULL or chain.n_stages == 0 or last.codec.kind != CHECKSUM
        or not last.codec.piecewise or not last.params.v[VERIFY] or last.params.v[AT_START]
        or size < CHECKSUM_SIZE
    ):
        return view_input(source, size, 0, &space.file, src, &space.failure)
    data = reserve(&space.file, size)
    if data == NULL:
        return NO_MEMORY
    src[0] = data
    size -= CHECKSUM_SIZE
    checksum = last.codec.first
    while offset < size and status == OK:
        step = min(size - offset, <Py_ssize_t> ENCODED_PIECE)
        status = read_input(source, data + offset, step, offset, &space.failure)
        if status == OK:
            checksum = last.codec.extend(&last.params, checksum, data + offset, step)
        offset += step
    if status == OK:
        status = read_input(source, data + size, CHECKSUM_SIZE, size, &space.failure)
    if status == OK:
        space.failure.stage = chain.n_stages - 1
        status = compare_checksum(checksum, data + size, &space.failure)
    n[0] = size
    n_stages[0] -= 1
    return status


cdef Status decode_chunk(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t nbytes,
    uint8_t* dst, const uint8_t** decoded,
) noexcept nogil:
    """Decode all of a chunk.

    Into ``dst``; or, if that is NULL, into scratch, unless the bytes can stay where they are.
    ``decoded`` points to them in the end.
    """
    cdef const uint8_t* src = NULL
    cdef size_t n = 0
    cdef size_t written = 0
    cdef const Stage* stage = &chain.stages[0]
    cdef int n_stages = 0
    cdef Status status
    if chain.n_stages == 0:
        space.failure.stage = THE_FILE
        status = check_size(nbytes + chain.tail, source.size, &space.failure)
        if status != OK:
            return status
        if dst == NULL:
            return view_input(source, nbytes, 0, &space.chunk, decoded, &space.failure)
        decoded[0] = dst
        return read_input(source, dst, nbytes, 0, &space.failure)
    status = _read_encoded(source, chain, space, &src, &n, &n_stages)
    if status == OK:
        status = _undo_stages(chain, 1, n_stages, space, nbytes, &src, &n)
    if status != OK:
        return status
    space.failure.stage = 0
    if stage.codec.kind == CHECKSUM:
        if n_stages > 0:
            status = strip_checksum(stage, &src, &n, &space.failure)
        if status == OK:
            status = check_size(nbytes, n, &space.failure)
        if status == OK:
            decoded[0] = src
            if dst != NULL:
                memcpy(dst, src, nbytes)
                decoded[0] = dst
        return status
    if dst == NULL:
        dst = reserve(&space.chunk, nbytes)
        if dst == NULL:
            return NO_MEMORY
    decoded[0] = dst
    status = stage.codec.decode(&stage.params, &space.decoders[stage.slot], src, n,
                                dst, nbytes, &written, &space.failure)
    if status == NO_ROOM:
        _give_up(stage, &space.decoders[stage.slot], &space.failure)
    if status == OK or status == NO_ROOM:
        status = check_size(nbytes, written, &space.failure)
    return status


cdef Status decode_open(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t nbytes,
    const uint8_t** decoded, size_t* n,
) noexcept nogil:
    """Decode a chunk that may be of any size into scratch; ``nbytes`` is a guess."""
    cdef int n_stages = 0
    cdef Status status = _read_encoded(source, chain, space, decoded, n, &n_stages)
    if status == OK:
        status = _undo_stages(chain, 0, n_stages, space, nbytes, decoded, n)
    return status


cdef Status _decode_shard(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t bound,
    uint8_t** data, Py_ssize_t* size,
) noexcept nogil:
    cdef const Stage* stage = &chain.stages[0]
    cdef const uint8_t* src = NULL
    cdef size_t n = 0
    cdef int n_stages = 0
    cdef bint moved = False
    cdef uint8_t* shrunk
    cdef Buffer target
    cdef Status status = check_stored(source, chain, bound, &space.failure)
    target.data = NULL
    target.capacity = 0
    if status == OK:
        status = _read_encoded(source, chain, space, &src, &n, &n_stages)
    if status == OK:
        status = _undo_stages(chain, 1, n_stages, space, bound, &src, &n)
    if status == OK and n_stages > 0:
        space.failure.stage = 0
        status = _undo_stage(stage, space, &target, _longest(bound), chain.is_open, &src, &n,
                             &moved)
    data[0] = target.data
    if status != OK:
        return status
    if moved:
        shrunk = <uint8_t*> realloc(data[0], max(n, <size_t> 1))
    else:
        shrunk = <uint8_t*> malloc(max(n, <size_t> 1))
        if shrunk == NULL:
            return NO_MEMORY
        memcpy(shrunk, src, n)
    if shrunk != NULL:
        data[0] = shrunk
    size[0] = n
    return OK


cdef Status decode_shard(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t bound,
    uint8_t** data, Py_ssize_t* size,
) noexcept nogil:
    """Undo the codecs around a shard, into memory that the caller frees.

    How long a shard is only its decoder knows; ``bound`` is what this package would make of it.
    Shards of other writers may be some times as long: there can be unused bytes in them.
    """
    cdef Status status = _decode_shard(source, chain, space, bound, data, size)
    if status == WRONG_SIZE and bound <= <int64_t> (MAX_SIZE // DEAD_SPACE):
        free(data[0])
        data[0] = NULL
        bound = max(DEAD_SPACE * bound, <int64_t> MIN_DEAD_SPACE)
        status = _decode_shard(source, chain, space, bound, data, size)
    return status


cdef Status decode_prefix(
    const Input* source, const ChainSpec* chain, Workspace* space, int64_t nbytes, int64_t need,
    const uint8_t** decoded,
) noexcept nogil:
    """Decode at least the first ``need`` bytes of a chunk into scratch."""
    cdef const Stage* stage = &chain.stages[0]
    cdef void** context = &space.decoders[stage.slot]
    cdef const uint8_t* src = NULL
    cdef size_t n = source.size
    cdef size_t position = 0
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t step
    cdef int n_stages = 0
    cdef uint8_t* dst
    cdef Status status = OK
    if chain.n_stages > 1:
        status = _read_encoded(source, chain, space, &src, &n, &n_stages)
        if status == OK:
            status = _undo_stages(chain, 1, n_stages, space, nbytes, &src, &n)
        if status != OK:
            return status
    space.failure.stage = 0
    dst = reserve(&space.chunk, nbytes)
    if dst == NULL:
        return NO_MEMORY
    status = stage.codec.begin(&stage.params, context, &space.failure)
    if chain.n_stages > 1:
        if status == OK:
            status = stage.codec.feed(&stage.params, context, src, n, dst, nbytes, need,
                                      &position, &space.failure)
    else:
        while status == OK and <int64_t> position < need and offset < source.size:
            step = min(source.size - offset, <Py_ssize_t> ENCODED_PIECE)
            space.failure.stage = THE_FILE
            status = view_input(source, step, offset, &space.file, &src, &space.failure)
            if status == OK:
                space.failure.stage = 0
                status = stage.codec.feed(&stage.params, context, src, step, dst, nbytes, need,
                                          &position, &space.failure)
            offset += step
    if status == OK and <int64_t> position < need:
        space.failure.expected = nbytes
        space.failure.found = position
        status = WRONG_SIZE
    decoded[0] = dst
    return status


cdef size_t encoded_bound(const ChainSpec* chain, size_t n) noexcept nogil:
    """The most encoded bytes that this package makes of ``n``; 0: too many to count.

    If the chain is open, it is a guess.
    """
    cdef int k
    for k in range(chain.n_stages):
        if n > 0:
            n = _stage_bound(&chain.stages[k], n)
    return n + chain.tail if n > 0 else 0


cdef uint8_t* _with_room_after(
    Workspace* space, const uint8_t* data, size_t n,
) noexcept nogil:
    # The scratch that begins with `data`, if a checksum has room in it after them; else NULL.
    cdef Buffer* buffer = &space.chunk
    cdef int k
    for k in range(2):
        if buffer.data != data:
            buffer = &space.stages[k]
    return buffer.data if buffer.data == data and n + CHECKSUM_SIZE <= buffer.capacity else NULL


cdef Status _add_checksum(
    const Stage* stage, Workspace* space, Buffer* target, const uint8_t** data, size_t* n,
) noexcept nogil:
    # The bytes stay where they are, if that can be.
    cdef uint8_t* dst = NULL
    if not stage.params.v[AT_START]:
        dst = _with_room_after(space, data[0], n[0])
    if dst == NULL:
        dst = reserve(target, n[0] + CHECKSUM_SIZE)
    if dst == NULL:
        return NO_MEMORY
    add_checksum(stage, data[0], n[0], dst)
    data[0] = dst
    n[0] += CHECKSUM_SIZE
    return OK


cdef Status _encode_stage(
    const Stage* stage, Workspace* space, Buffer* target, int inner_threads,
    const uint8_t** data, size_t* n,
) noexcept nogil:
    cdef size_t capacity = _stage_bound(stage, n[0])
    cdef size_t written = 0
    cdef uint8_t* dst
    cdef Params params = stage.params
    cdef Status status = OK
    if capacity == 0 and n[0] > 0:
        return NO_MEMORY
    if stage.codec.kind == CHECKSUM:
        return _add_checksum(stage, space, target, data, n)
    dst = reserve(target, capacity)
    if dst == NULL:
        return NO_MEMORY
    params.v[THREADS_PARAM] = inner_threads
    status = stage.codec.encode(&params, &space.encoders[stage.slot], data[0], n[0],
                                dst, capacity, &written, &space.failure)
    if status == NO_ROOM:
        capacity = written
        dst = reserve(target, capacity)
        if dst == NULL:
            _give_up(stage, &space.encoders[stage.slot], &space.failure)
            return NO_MEMORY
        status = stage.codec.encode(&params, &space.encoders[stage.slot], data[0], n[0],
                                    dst, capacity, &written, &space.failure)
    data[0] = dst
    n[0] = written
    return status


cdef Status encode_chunk(
    const ChainSpec* chain, Workspace* space, const uint8_t** data, size_t* n, int inner_threads,
) noexcept nogil:
    """Encode ``data`` stage by stage; in the end it points to the bytes to store.

    MISSING if a codec says that there is nothing to store.
    """
    cdef Status status = OK
    cdef Buffer* target
    cdef int k
    for k in range(chain.n_stages):
        space.failure.stage = k
        target = &space.stages[1 if data[0] == space.stages[0].data else 0]
        status = _encode_stage(&chain.stages[k], space, target, inner_threads, data, n)
        if status != OK:
            data[0] = NULL
            break
    return status
