"""Decoding of compressed streams that follow one another, as Python's ``bz2`` and ``lzma`` do it.

What follows a complete stream and turns out to be none is ignored, with all that came of it; a
stream that is cut short is an error. One thing differs: a later stream that makes the data too
long is an error at once. Python would go on, and ignore it if it turned out to be broken.
"""

from libc.stdint cimport uint8_t

from zarrs._core cimport CORRUPT, OK, WRONG_SIZE, Failure, Params, Status


cdef enum:
    MAX_TRANSFER = 1 << 30  # lengths in some libraries' streams are 32 bits wide


# How far a sequence of streams is decoded. A codec's decoder begins with this.
cdef struct Streams:
    size_t complete  # streams
    size_t origin  # how much was decoded before the current stream
    bint inside  # a stream
    bint ignore  # all that follows


# Prepares for the first or the next stream.
ctypedef Status (*StartFn)(
    Streams* decoder, const Params* params, size_t capacity, Failure* failure) noexcept nogil

# Decodes something, and moves both pointers past what was used and written. CORRUPT: the stream is
# broken, or is none.
ctypedef Status (*StepFn)(
    Streams* decoder, const uint8_t** src, size_t n, uint8_t** dst, size_t room, bint* ended,
    Failure* failure) noexcept nogil


cdef inline Status feed_streams(
    Streams* decoder, StartFn start, StepFn step, const Params* params,
    const uint8_t* src, size_t n, uint8_t* dst, size_t capacity, size_t need, size_t* position,
    Failure* failure,
) noexcept nogil:
    """The FeedFn of a codec with these streams."""
    cdef const uint8_t* end = src + n
    cdef uint8_t spare
    cdef uint8_t* out
    cdef size_t room
    cdef size_t got
    cdef bint full, ended
    cdef Status status
    while not decoder.ignore:
        full = position[0] == capacity
        if position[0] >= need and not full:
            break
        if not decoder.inside:
            if src == end:
                break
            status = start(decoder, params, capacity, failure)
            if status != OK:
                return status
            decoder.inside = True
            decoder.origin = position[0]
        # Past the last expected byte there is room for one more: it shows data that are too long.
        out = &spare if full else dst + position[0]
        room = 1 if full else min(need - position[0], <size_t> MAX_TRANSFER)
        ended = False
        status = step(decoder, &src, min(<size_t> (end - src), <size_t> MAX_TRANSFER), &out, room,
                      &ended, failure)
        if status == CORRUPT and decoder.complete > 0:
            position[0] = decoder.origin
            decoder.inside = False
            decoder.ignore = True
            break
        if status != OK:
            return status
        got = out - (&spare if full else dst + position[0])
        if full and got > 0:
            failure.expected = capacity
            failure.found = -1
            return WRONG_SIZE
        position[0] += got
        if ended:
            decoder.inside = False
            decoder.complete += 1
        elif src == end and got < room:
            break  # all input is used up
    return OK
