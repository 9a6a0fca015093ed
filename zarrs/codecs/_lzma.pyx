"""LZMA in .xz and .lzma files, with liblzma; decoded as Python's ``lzma`` does it.

Where the library is not installed this module cannot be imported. Params: format, check and preset
with the values that they have in ``lzma``; the check may be -1 (what the format has by default).
AUTO can only be decoded.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from zarrs._core cimport (
    CORRUPT,
    ENCODE_FAILED,
    NO_MEMORY,
    OK,
    TRANSFORM,
    UNSUPPORTED,
    Codec,
    Failure,
    Params,
    Status,
    register_codec,
)
from zarrs.codecs._streams cimport Streams, feed_streams


cdef extern from "_native/lzma.h" nogil:
    ctypedef struct lzma_stream:
        const uint8_t* next_in
        size_t avail_in
        uint8_t* next_out
        size_t avail_out
    ctypedef struct lzma_options_lzma:
        pass
    ctypedef int lzma_ret
    ctypedef int lzma_check
    bint zarrs_load_library()
    lzma_ret zarrs_lzma_easy_encoder(lzma_stream*, uint32_t preset, lzma_check)
    bint zarrs_lzma_lzma_preset(lzma_options_lzma*, uint32_t preset)
    lzma_ret zarrs_lzma_alone_encoder(lzma_stream*, const lzma_options_lzma*)
    lzma_ret zarrs_lzma_stream_decoder(lzma_stream*, uint64_t memory, uint32_t flags)
    lzma_ret zarrs_lzma_alone_decoder(lzma_stream*, uint64_t memory)
    lzma_ret zarrs_lzma_auto_decoder(lzma_stream*, uint64_t memory, uint32_t flags)
    lzma_ret zarrs_lzma_code(lzma_stream*, int action)
    uint64_t zarrs_lzma_memusage(const lzma_stream*)
    void zarrs_lzma_end(lzma_stream*)
    const char* zarrs_lzma_version_string()
    const int LZMA_RUN, LZMA_FINISH
    const int LZMA_OK, LZMA_STREAM_END, LZMA_MEM_ERROR, LZMA_MEMLIMIT_ERROR, LZMA_FORMAT_ERROR
    const int LZMA_OPTIONS_ERROR, LZMA_DATA_ERROR, LZMA_BUF_ERROR
    const int LZMA_CHECK_CRC64

if not zarrs_load_library():
    raise ImportError("liblzma is not installed")

cdef enum Format:
    AUTO = 0
    XZ = 1
    ALONE = 2

#: What the library's error codes mean.
ERRORS = {
    LZMA_MEMLIMIT_ERROR: "to decode it takes more memory than data of this size should",
    LZMA_FORMAT_ERROR: "no stream of the format that this codec is for",
    LZMA_OPTIONS_ERROR: "options that the library does not have",
    LZMA_DATA_ERROR: "no valid stream, or its checksum does not match",
    LZMA_BUF_ERROR: "the stream ends too early: the chunk is truncated",
}

cdef enum:
    DEFAULT_CHECK = -1
    MIN_MEMORY = 128 * 1024 * 1024  # for decoding; preset 9 needs 65 MiB
    KEEP = 16 * 1024 * 1024  # memory of a decoder that is kept from call to call

cdef enum:
    ALONE_HEADER = 13  # properties, size of the dictionary, decoded size
    MIN_DICTIONARY = 4096

cdef struct Decoder:
    Streams streams
    lzma_stream stream
    size_t dictionary  # the longest there is a use for in a stream of ALONE that begins; or 0


cdef Status _status(lzma_ret result, Status otherwise, Failure* failure) noexcept nogil:
    if result == LZMA_OK or result == LZMA_STREAM_END:
        return OK
    failure.code = result
    return NO_MEMORY if result == LZMA_MEM_ERROR else otherwise


cdef Status _start(
    Streams* streams, const Params* params, size_t capacity, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> streams
    cdef lzma_stream* stream = &decoder.stream
    # The stream says how much memory its dictionary takes. There is no use for one that is longer
    # than the data but as a preset has it; what is left over is for sizes that are rounded up.
    cdef uint64_t memory = MIN_MEMORY + 2 * <uint64_t> capacity
    cdef lzma_ret result
    decoder.dictionary = max(capacity, <size_t> MIN_DICTIONARY) if params.v[0] == ALONE else 0
    if params.v[0] == XZ:
        result = zarrs_lzma_stream_decoder(stream, memory, 0)
    elif params.v[0] == ALONE:
        result = zarrs_lzma_alone_decoder(stream, memory)
    else:
        result = zarrs_lzma_auto_decoder(stream, memory, 0)
    return _status(result, UNSUPPORTED, failure)


cdef lzma_ret _read_alone_header(Decoder* decoder, const uint8_t* src) noexcept nogil:
    # Nothing in it is checked, so that it can ask for memory as it likes.
    cdef uint8_t header[ALONE_HEADER]
    cdef uint8_t spare  # the library does nothing without room for output
    cdef uint32_t size
    cdef int k
    memcpy(header, src, ALONE_HEADER)
    size = (<uint32_t> header[1] | <uint32_t> header[2] << 8
            | <uint32_t> header[3] << 16 | <uint32_t> header[4] << 24)
    if size > decoder.dictionary:
        for k in range(4):
            header[1 + k] = <uint8_t> (decoder.dictionary >> (8 * k))
    decoder.dictionary = 0
    decoder.stream.next_in = header
    decoder.stream.avail_in = ALONE_HEADER
    decoder.stream.next_out = &spare
    decoder.stream.avail_out = 1
    return zarrs_lzma_code(&decoder.stream, LZMA_RUN)


cdef Status _step(
    Streams* streams, const uint8_t** src, size_t n, uint8_t** dst, size_t room, bint* ended,
    Failure* failure,
) noexcept nogil:
    cdef lzma_stream* stream = &(<Decoder*> streams).stream
    cdef lzma_ret result
    if (<Decoder*> streams).dictionary and n >= ALONE_HEADER:
        result = _read_alone_header(<Decoder*> streams, src[0])
        if result != LZMA_OK:
            return _status(result, CORRUPT, failure)
        src[0] += ALONE_HEADER
        n -= ALONE_HEADER
    stream.next_in = src[0]
    stream.avail_in = n
    stream.next_out = dst[0]
    stream.avail_out = room
    result = zarrs_lzma_code(stream, LZMA_RUN)
    src[0] = stream.next_in
    dst[0] = stream.next_out
    ended[0] = result == LZMA_STREAM_END
    if result == LZMA_BUF_ERROR and n == 0:
        return OK  # it asks for more input
    return _status(result, CORRUPT, failure)


cdef Status begin(const Params* params, void** context, Failure* failure) noexcept nogil:
    if context[0] == NULL:
        context[0] = calloc(1, sizeof(Decoder))
        return OK if context[0] != NULL else NO_MEMORY
    memset(&(<Decoder*> context[0]).streams, 0, sizeof(Streams))
    return OK


cdef Status feed(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t need, size_t* position, Failure* failure,
) noexcept nogil:
    return feed_streams(<Streams*> context[0], _start, _step, params, src, n, dst, capacity, need,
                        position, failure)


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder
    cdef Status status = begin(params, context, failure)
    if status != OK:
        return status
    written[0] = 0
    status = feed(params, context, src, n, dst, capacity, capacity, written, failure)
    decoder = <Decoder*> context[0]
    if status == OK and (decoder.streams.inside or decoder.streams.complete == 0):
        failure.code = LZMA_BUF_ERROR  # the stream is cut short
        status = CORRUPT
    if zarrs_lzma_memusage(&decoder.stream) > KEEP:
        zarrs_lzma_end(&decoder.stream)
    return status


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    # An encoder takes up to 700 MiB and little time to make: it is not kept.
    cdef lzma_stream stream
    cdef lzma_options_lzma options
    cdef uint32_t preset = <uint32_t> params.v[2]
    cdef lzma_check check = <lzma_check> params.v[1]
    cdef lzma_ret result
    memset(&stream, 0, sizeof(lzma_stream))
    if params.v[0] == XZ:
        if params.v[1] == DEFAULT_CHECK:
            check = LZMA_CHECK_CRC64
        result = zarrs_lzma_easy_encoder(&stream, preset, check)
    elif params.v[0] != ALONE:
        return UNSUPPORTED
    elif zarrs_lzma_lzma_preset(&options, preset):
        result = LZMA_OPTIONS_ERROR
    else:
        result = zarrs_lzma_alone_encoder(&stream, &options)
    if result == LZMA_OK:
        stream.next_in = src
        stream.avail_in = n
        stream.next_out = dst
        stream.avail_out = capacity
        result = zarrs_lzma_code(&stream, LZMA_FINISH)
        written[0] = capacity - stream.avail_out
        if result == LZMA_OK:
            result = LZMA_BUF_ERROR  # the output is full
    zarrs_lzma_end(&stream)
    return _status(result, ENCODE_FAILED, failure)


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    # LZMA2 stores what does not compress; in .lzma files such data grow by some percent.
    return n + n // 8 + 1024


cdef void release_decoder(void* context) noexcept nogil:
    zarrs_lzma_end(&(<Decoder*> context).stream)
    free(context)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"lzma"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
_codec.begin = begin
_codec.feed = feed
_codec.feed_pays = 8
_codec.release_decoder = release_decoder
register_codec(&_codec)


def explain(code: int) -> str:
    """What an error code means."""
    return ERRORS.get(code, "")


def library_version() -> str:
    """The version of liblzma in use."""
    return zarrs_lzma_version_string().decode()
