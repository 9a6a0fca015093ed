"""Decoding and encoding of whole chunks, or of a prefix, through all stages of a chain."""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcpy

from zarrs._core cimport (
    CHECKSUM,
    MAX_SIZE,
    MAX_STAGES,
    NO_MEMORY,
    OK,
    WRONG_SIZE,
    ChainSpec,
    Failure,
    Params,
    Stage,
    Status,
    Workspace,
)
from zarrs._files cimport read_at
from zarrs._workspace cimport reserve

cdef enum:
    ENCODED_PIECE = 128 * 1024  # bytes of a file read at once where work is done on the way
    THREADS_PARAM = 5  # the parameter of codecs that can work with several threads


cdef Status _undo_outer_stages(
    const ChainSpec* chain, int n_stages, Workspace* space, int64_t nbytes, const uint8_t** src,
    size_t* n, Failure* failure,
) noexcept nogil:
    # Decodes `n_stages` stages but the first (in encoding order); src and n become its input.
    cdef size_t bounds[MAX_STAGES]
    cdef const Stage* stage
    cdef Status status
    cdef uint8_t* dst
    cdef size_t capacity, written
    cdef int turn = 0  # which of the two buffers is free
    cdef int k
    if n_stages < 2:
        return OK
    bounds[0] = nbytes
    for k in range(1, n_stages):
        stage = &chain.stages[k - 1]
        bounds[k] = stage.codec.bound(&stage.params, bounds[k - 1])
        if bounds[k] < bounds[k - 1] or bounds[k] > MAX_SIZE:
            return NO_MEMORY
    for k in range(n_stages - 1, 0, -1):
        stage = &chain.stages[k]
        failure.stage = k
        dst = NULL
        # Other writers' encodings of the same bytes may be longer than ours would be.
        capacity = 2 * bounds[k] + 65536
        if stage.codec.kind != CHECKSUM:
            dst = reserve(&space.stages[turn], capacity)
            if dst == NULL:
                return NO_MEMORY
            turn = 1 - turn
        status = stage.codec.decode(&stage.params, &space.decoders[stage.slot], src[0], n[0],
                                    dst, capacity, &written, failure)
        if status != OK:
            return status
        if dst != NULL:
            src[0] = dst
        n[0] = written
    return OK


cdef Status check_size(int64_t expected, int64_t found, Failure* failure) noexcept nogil:
    """WRONG_SIZE unless both are the same."""
    if expected == found:
        return OK
    failure.expected = expected
    failure.found = found
    return WRONG_SIZE


cdef Status _read_encoded(
    int fd, Py_ssize_t size, const ChainSpec* chain, Workspace* space, const uint8_t** src,
    size_t* n, int* n_stages, Failure* failure,
) noexcept nogil:
    # Reads a file. A checksum around everything is verified on the way, piece by piece while they
    # are in the cache; `n_stages` says how many stages are left.
    cdef const Stage* last = &chain.stages[chain.n_stages - 1]
    cdef uint8_t* data = reserve(&space.file, size)
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t step
    cdef uint32_t checksum = 0
    cdef Status status = OK
    failure.stage = -1
    if data == NULL:
        return NO_MEMORY
    src[0] = data
    n[0] = size
    n_stages[0] = chain.n_stages
    if last.codec.extend == NULL or not last.params.v[0] or size < last.codec.trailer:
        return read_at(fd, data, size, 0, failure)
    size -= last.codec.trailer
    while offset < size and status == OK:
        step = min(size - offset, <Py_ssize_t> ENCODED_PIECE)
        status = read_at(fd, data + offset, step, offset, failure)
        if status == OK:
            checksum = last.codec.extend(checksum, data + offset, step)
        offset += step
    if status == OK:
        status = read_at(fd, data + size, last.codec.trailer, size, failure)
    if status == OK:
        failure.stage = chain.n_stages - 1
        status = last.codec.compare(checksum, data + size, failure)
    n[0] = size
    n_stages[0] -= 1
    return status


cdef Status decode_chunk(
    int fd, Py_ssize_t size, const ChainSpec* chain, Workspace* space, int64_t nbytes,
    uint8_t* dst, const uint8_t** decoded, Failure* failure,
) noexcept nogil:
    """Decode all of an open file.

    Into ``dst``; or, if that is NULL, into scratch, unless the bytes can stay where they are.
    ``decoded`` points to them in the end.
    """
    cdef const uint8_t* src = NULL
    cdef size_t n = size
    cdef size_t written = 0
    cdef const Stage* stage = &chain.stages[0]
    cdef int n_stages = 0
    cdef Status status
    if chain.n_stages == 0:
        failure.stage = -1
        status = check_size(nbytes + chain.tail, size, failure)
        if status == OK and dst == NULL:
            dst = reserve(&space.chunk, nbytes)
            if dst == NULL:
                return NO_MEMORY
        if status == OK:
            decoded[0] = dst
            status = read_at(fd, dst, nbytes, 0, failure)
        return status
    status = _read_encoded(fd, size, chain, space, &src, &n, &n_stages, failure)
    if status == OK:
        status = _undo_outer_stages(chain, n_stages, space, nbytes, &src, &n, failure)
    if status != OK:
        return status
    failure.stage = 0
    if stage.codec.kind == CHECKSUM:
        if n_stages > 0:
            status = stage.codec.decode(&stage.params, NULL, src, n, NULL, 0, &n, failure)
        if status == OK:
            status = check_size(nbytes, n, failure)
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
                                dst, nbytes, &written, failure)
    if status == OK:
        status = check_size(nbytes, written, failure)
    return status


cdef Status decode_prefix(
    int fd, Py_ssize_t size, const ChainSpec* chain, Workspace* space, int64_t nbytes, int64_t need,
    const uint8_t** decoded, Failure* failure,
) noexcept nogil:
    """Decode at least the first ``need`` bytes of an open file into scratch."""
    cdef const Stage* stage = &chain.stages[0]
    cdef void** context = &space.decoders[stage.slot]
    cdef const uint8_t* src = NULL
    cdef size_t n = size
    cdef size_t position = 0
    cdef Py_ssize_t offset = 0
    cdef Py_ssize_t step
    cdef int n_stages = 0
    cdef uint8_t* piece
    cdef uint8_t* dst
    cdef Status status = OK
    if chain.n_stages > 1:
        status = _read_encoded(fd, size, chain, space, &src, &n, &n_stages, failure)
        if status == OK:
            status = _undo_outer_stages(chain, n_stages, space, nbytes, &src, &n, failure)
        if status != OK:
            return status
    failure.stage = 0
    dst = reserve(&space.chunk, nbytes)
    if dst == NULL:
        return NO_MEMORY
    status = stage.codec.begin(&stage.params, context, failure)
    if chain.n_stages > 1:
        if status == OK:
            status = stage.codec.feed(&stage.params, context, src, n, dst, nbytes, need,
                                      &position, failure)
    else:
        piece = reserve(&space.file, ENCODED_PIECE)
        if piece == NULL:
            return NO_MEMORY
        while status == OK and <int64_t> position < need and offset < size:
            step = min(size - offset, <Py_ssize_t> ENCODED_PIECE)
            failure.stage = -1
            status = read_at(fd, piece, step, offset, failure)
            if status == OK:
                failure.stage = 0
                status = stage.codec.feed(&stage.params, context, piece, step, dst, nbytes, need,
                                          &position, failure)
            offset += step
    if status == OK and <int64_t> position < need:
        failure.expected = nbytes
        failure.found = position
        status = WRONG_SIZE
    decoded[0] = dst
    return status


cdef Status encode_chunk(
    const ChainSpec* chain, Workspace* space, const uint8_t** data, size_t* n, int inner_threads,
    Failure* failure,
) noexcept nogil:
    """Encode ``data`` stage by stage; in the end it points to the bytes to store."""
    cdef const Stage* stage
    cdef uint8_t* dst
    cdef size_t capacity, written
    cdef Params params
    cdef Status status
    cdef int k
    for k in range(chain.n_stages):
        stage = &chain.stages[k]
        failure.stage = k
        params = stage.params
        params.v[THREADS_PARAM] = inner_threads
        capacity = stage.codec.bound(&params, n[0])
        dst = reserve(&space.stages[k & 1], capacity)
        if dst == NULL:
            return NO_MEMORY
        status = stage.codec.encode(&params, &space.encoders[stage.slot], data[0], n[0],
                                    dst, capacity, &written, failure)
        if status != OK:
            return status
        data[0] = dst
        n[0] = written
    return OK
