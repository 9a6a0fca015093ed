"""Deflate streams in a gzip (RFC 1952) or zlib (RFC 1950) wrapper, with zlib-ng or zlib.

Params: level (-1 to 9), wrapper (GZIP or ZLIB).
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from zarrs._core cimport (
    CORRUPT,
    ENCODE_FAILED,
    NO_MEMORY,
    OK,
    TRANSFORM,
    WRONG_SIZE,
    Codec,
    Failure,
    Params,
    Status,
    register_codec,
)


cdef extern from "_native/deflate_stream.h" nogil:
    ctypedef struct zarrs_stream:
        const uint8_t* next_in
        unsigned avail_in
        uint8_t* next_out
        unsigned avail_out
    int zarrs_inflateInit2(zarrs_stream*, int)
    int zarrs_inflateReset2(zarrs_stream*, int)
    int zarrs_inflate(zarrs_stream*, int)
    int zarrs_inflateEnd(zarrs_stream*)
    int zarrs_deflateInit2(zarrs_stream*, int, int, int, int, int)
    int zarrs_deflateReset(zarrs_stream*)
    int zarrs_deflate(zarrs_stream*, int)
    int zarrs_deflateEnd(zarrs_stream*)
    size_t zarrs_deflateBound(zarrs_stream*, size_t)
    const char* zarrs_zlib_version()
    const int Z_OK, Z_STREAM_END, Z_NEED_DICT, Z_BUF_ERROR, Z_DATA_ERROR, Z_MEM_ERROR
    const int Z_NO_FLUSH, Z_FINISH
    const int Z_DEFLATED, Z_DEFAULT_STRATEGY

cdef enum Wrapper:
    GZIP = 0
    ZLIB = 1

cdef enum:
    WINDOW_BITS = 15
    GZIP_BITS = 16  # added to WINDOW_BITS
    MEMORY_LEVEL = 8
    MAX_TRANSFER = 1 << 30  # lengths in a stream are 32 bits wide
    LIBDEFLATE_BAD_DATA = 1

#: What the library's error codes mean; and that of libdeflate, which has one for everything.
ERRORS = {
    Z_NEED_DICT: "a dictionary is needed that is not in the data",
    Z_DATA_ERROR: "no valid stream, or its checksum does not match",
    Z_BUF_ERROR: "the stream ends too early: the chunk is truncated",
    LIBDEFLATE_BAD_DATA: "no valid stream, or its checksum does not match",
}

cdef struct Decoder:
    zarrs_stream stream
    bint at_end  # the current member is complete

cdef struct Encoder:
    zarrs_stream stream
    int level
    int window_bits


cdef inline int _window_bits(const Params* params) noexcept nogil:
    return WINDOW_BITS + (GZIP_BITS if params.v[1] == GZIP else 0)


cdef Status begin(const Params* params, void** context, Failure* failure) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    if decoder == NULL:
        decoder = <Decoder*> calloc(1, sizeof(Decoder))
        if decoder == NULL:
            return NO_MEMORY
        if zarrs_inflateInit2(&decoder.stream, _window_bits(params)) != Z_OK:
            free(decoder)
            return NO_MEMORY
        context[0] = decoder
    else:
        zarrs_inflateReset2(&decoder.stream, _window_bits(params))
    decoder.at_end = False
    return OK


cdef Status feed(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t need, size_t* position, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    cdef zarrs_stream* stream = &decoder.stream
    cdef const uint8_t* end = src + n
    cdef uint8_t spare
    cdef bint overflow
    cdef size_t before
    cdef int result
    stream.next_in = src
    stream.avail_in = 0
    while True:
        stream.avail_in = <unsigned> min(end - stream.next_in, <Py_ssize_t> MAX_TRANSFER)
        if decoder.at_end:
            if stream.avail_in == 0:
                return OK
            if params.v[1] == ZLIB:
                return OK  # what follows a zlib stream is ignored, as Python's zlib does
            if stream.next_in[0] == 0:
                stream.next_in += 1  # padding
                continue
            zarrs_inflateReset2(stream, _window_bits(params))
            decoder.at_end = False
        # Past the last expected byte there is room for one more: it shows data that are too long.
        overflow = position[0] == capacity
        if not overflow and position[0] >= need:
            return OK
        if overflow:
            stream.next_out = &spare
            stream.avail_out = 1
        else:
            stream.next_out = dst + position[0]
            stream.avail_out = <unsigned> min(need - position[0], <size_t> MAX_TRANSFER)
        before = stream.avail_out
        result = zarrs_inflate(stream, Z_NO_FLUSH)
        if overflow and stream.avail_out == 0:
            failure.expected = capacity
            failure.found = -1
            return WRONG_SIZE
        if not overflow:
            position[0] += before - stream.avail_out
        if result == Z_STREAM_END:
            decoder.at_end = True
        elif result == Z_MEM_ERROR:
            return NO_MEMORY
        elif result != Z_OK and result != Z_BUF_ERROR:
            failure.code = result
            return CORRUPT
        elif stream.next_in == end and (overflow or stream.avail_out > 0):
            return OK  # all input is used up


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t position = 0
    cdef Status status = begin(params, context, failure)
    if status != OK:
        return status
    status = feed(params, context, src, n, dst, capacity, capacity, &position, failure)
    if status != OK:
        return status
    if not (<Decoder*> context[0]).at_end:
        failure.code = Z_BUF_ERROR  # the stream is cut short
        return CORRUPT
    written[0] = position
    return OK


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Encoder* encoder = <Encoder*> context[0]
    cdef int window_bits = _window_bits(params)
    cdef size_t used = 0
    cdef size_t done = 0
    cdef size_t before_in, before_out
    cdef int result
    if encoder != NULL and (
        encoder.level != params.v[0] or encoder.window_bits != window_bits
    ):
        release_encoder(encoder)
        context[0] = encoder = NULL
    if encoder == NULL:
        encoder = <Encoder*> calloc(1, sizeof(Encoder))
        if encoder == NULL:
            return NO_MEMORY
        encoder.level = <int> params.v[0]
        encoder.window_bits = window_bits
        if zarrs_deflateInit2(&encoder.stream, encoder.level, Z_DEFLATED, window_bits,
                              MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK:
            free(encoder)
            return NO_MEMORY
        context[0] = encoder
    else:
        zarrs_deflateReset(&encoder.stream)
    while True:
        encoder.stream.next_in = src + used
        encoder.stream.avail_in = <unsigned> min(n - used, <size_t> MAX_TRANSFER)
        encoder.stream.next_out = dst + done
        encoder.stream.avail_out = <unsigned> min(capacity - done, <size_t> MAX_TRANSFER)
        before_in = encoder.stream.avail_in
        before_out = encoder.stream.avail_out
        result = zarrs_deflate(&encoder.stream,
                               Z_FINISH if used + before_in == n else Z_NO_FLUSH)
        used += before_in - encoder.stream.avail_in
        done += before_out - encoder.stream.avail_out
        if result == Z_STREAM_END:
            written[0] = done
            return OK
        if result != Z_OK or done == capacity:
            failure.code = result
            return ENCODE_FAILED


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    # Levels and strategies differ; stored blocks of 16 KiB with 5 bytes each and zlib-ng's quick
    # strategy (9 bits a literal) are the worst of them.
    return n + (n >> 3) + (n >> 6) + 64


cdef void release_decoder(void* context) noexcept nogil:
    zarrs_inflateEnd(&(<Decoder*> context).stream)
    free(context)


cdef void release_encoder(void* context) noexcept nogil:
    zarrs_deflateEnd(&(<Encoder*> context).stream)
    free(context)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"deflate"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
_codec.begin = begin
_codec.feed = feed
_codec.feed_pays = 4
_codec.release_decoder = release_decoder
_codec.release_encoder = release_encoder
register_codec(&_codec)


def explain(code: int) -> str:
    """What an error code means."""
    return ERRORS.get(code, "")


def library_version() -> str:
    """The version of zlib-ng or zlib in use."""
    return zarrs_zlib_version().decode()
