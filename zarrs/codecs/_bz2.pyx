"""bzip2 streams, with libbz2; decoded as Python's ``bz2`` does it.

Where the library is not installed this module cannot be imported. Params: level (1 to 9).
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
    Codec,
    Failure,
    Params,
    Status,
    register_codec,
)
from zarrs.codecs._streams cimport MAX_TRANSFER, Streams, feed_streams


cdef extern from "_native/bz2.h" nogil:
    ctypedef struct bz_stream:
        char* next_in
        unsigned avail_in
        char* next_out
        unsigned avail_out
        void* state
    bint zarrs_load_library()
    int zarrs_BZ2_bzCompressInit(bz_stream*, int level, int verbosity, int work_factor)
    int zarrs_BZ2_bzCompress(bz_stream*, int action)
    int zarrs_BZ2_bzCompressEnd(bz_stream*)
    int zarrs_BZ2_bzDecompressInit(bz_stream*, int verbosity, int small)
    int zarrs_BZ2_bzDecompress(bz_stream*)
    int zarrs_BZ2_bzDecompressEnd(bz_stream*)
    const char* zarrs_BZ2_bzlibVersion()
    const int BZ_RUN, BZ_FINISH
    const int BZ_OK, BZ_STREAM_END, BZ_MEM_ERROR, BZ_DATA_ERROR, BZ_DATA_ERROR_MAGIC
    const int BZ_UNEXPECTED_EOF

if not zarrs_load_library():
    raise ImportError("libbz2 is not installed")

#: What the library's error codes mean.
ERRORS = {
    BZ_DATA_ERROR: "no valid stream, or its checksum does not match",
    BZ_DATA_ERROR_MAGIC: "no bzip2 stream begins where one should",
    BZ_UNEXPECTED_EOF: "the stream ends too early: the chunk is truncated",
}

cdef struct Decoder:
    Streams streams
    bz_stream stream  # it cannot be reset, and is there only while a stream is decoded


cdef void _end(Decoder* decoder) noexcept nogil:
    if decoder.stream.state != NULL:
        zarrs_BZ2_bzDecompressEnd(&decoder.stream)


cdef Status _start(
    Streams* streams, const Params* params, size_t capacity, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> streams
    memset(&decoder.stream, 0, sizeof(bz_stream))
    return OK if zarrs_BZ2_bzDecompressInit(&decoder.stream, 0, 0) == BZ_OK else NO_MEMORY


cdef Status _step(
    Streams* streams, const uint8_t** src, size_t n, uint8_t** dst, size_t room, bint* ended,
    Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> streams
    cdef int result
    decoder.stream.next_in = <char*> src[0]
    decoder.stream.avail_in = <unsigned> n
    decoder.stream.next_out = <char*> dst[0]
    decoder.stream.avail_out = <unsigned> room
    result = zarrs_BZ2_bzDecompress(&decoder.stream)
    src[0] = <const uint8_t*> decoder.stream.next_in
    dst[0] = <uint8_t*> decoder.stream.next_out
    if result == BZ_OK:
        return OK
    _end(decoder)
    if result == BZ_STREAM_END:
        ended[0] = True
        return OK
    failure.code = result
    return NO_MEMORY if result == BZ_MEM_ERROR else CORRUPT


cdef Status begin(const Params* params, void** context, Failure* failure) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    if decoder == NULL:
        context[0] = calloc(1, sizeof(Decoder))
        return OK if context[0] != NULL else NO_MEMORY
    _end(decoder)
    memset(decoder, 0, sizeof(Decoder))
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
    if status == OK and decoder.streams.inside:
        failure.code = BZ_UNEXPECTED_EOF
        status = CORRUPT
    _end(decoder)
    return status


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef bz_stream stream
    cdef const uint8_t* end = src + n
    cdef uint8_t* limit = dst + capacity
    cdef int result
    memset(&stream, 0, sizeof(bz_stream))
    result = zarrs_BZ2_bzCompressInit(&stream, <int> params.v[0], 0, 0)
    if result == BZ_OK:
        stream.next_in = <char*> src
        stream.next_out = <char*> dst
        while result >= 0 and result != BZ_STREAM_END:
            if stream.avail_in == 0:
                stream.avail_in = <unsigned> min(
                    end - <const uint8_t*> stream.next_in, <Py_ssize_t> MAX_TRANSFER)
            stream.avail_out = <unsigned> min(
                limit - <uint8_t*> stream.next_out, <Py_ssize_t> MAX_TRANSFER)
            # The action turns to BZ_FINISH with the last piece, and stays that.
            result = zarrs_BZ2_bzCompress(
                &stream,
                BZ_FINISH if <const uint8_t*> stream.next_in + stream.avail_in == end else BZ_RUN)
        written[0] = <uint8_t*> stream.next_out - dst
        zarrs_BZ2_bzCompressEnd(&stream)
    if result == BZ_STREAM_END:
        return OK
    failure.code = result
    return NO_MEMORY if result == BZ_MEM_ERROR else ENCODE_FAILED


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    # The manual says 1% and 600 bytes.
    return n + n // 64 + 1024


cdef void release_decoder(void* context) noexcept nogil:
    _end(<Decoder*> context)
    free(context)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"bz2"
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
    """The version of libbz2 in use."""
    return zarrs_BZ2_bzlibVersion().decode().partition(",")[0]
