"""Deflate in a gzip (RFC 1952) or zlib (RFC 1950) wrapper, in one shot, with libdeflate.

It replaces the one-shot calls of ``_zlib`` where the library is installed; elsewhere this module
cannot be imported. libdeflate has no streams, so the decoding of prefixes stays there. Params: as
for ``_zlib``.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

from zarrs._core cimport (
    CORRUPT,
    ENCODE_FAILED,
    NO_MEMORY,
    OK,
    Codec,
    Failure,
    Params,
    Status,
    codec_at,
    register_codec,
    slot_of,
)


cdef extern from "_native/libdeflate.h" nogil:
    """
    typedef struct libdeflate_compressor libdeflate_compressor;
    typedef struct libdeflate_decompressor libdeflate_decompressor;
    typedef enum libdeflate_result libdeflate_result;
    """
    const char* ZARRS_LIBDEFLATE_VERSION
    bint zarrs_load_library()
    ctypedef struct libdeflate_compressor:
        pass
    ctypedef struct libdeflate_decompressor:
        pass
    ctypedef enum libdeflate_result:
        LIBDEFLATE_SUCCESS
    libdeflate_compressor* zarrs_libdeflate_alloc_compressor(int level)
    void zarrs_libdeflate_free_compressor(libdeflate_compressor*)
    size_t zarrs_libdeflate_gzip_compress(
        libdeflate_compressor*, const void*, size_t, void*, size_t)
    size_t zarrs_libdeflate_zlib_compress(
        libdeflate_compressor*, const void*, size_t, void*, size_t)
    libdeflate_decompressor* zarrs_libdeflate_alloc_decompressor()
    void zarrs_libdeflate_free_decompressor(libdeflate_decompressor*)
    libdeflate_result zarrs_libdeflate_gzip_decompress_ex(
        libdeflate_decompressor*, const void*, size_t, void*, size_t, size_t*, size_t*)
    libdeflate_result zarrs_libdeflate_zlib_decompress_ex(
        libdeflate_decompressor*, const void*, size_t, void*, size_t, size_t*, size_t*)

if not zarrs_load_library():
    raise ImportError("libdeflate is not installed")

cdef enum:
    GZIP = 0
    DEFAULT_LEVEL = 6
    # From the first of these levels to the last, libdeflate takes longer than at the one before for
    # chunks as small as zlib's: both give the same sizes one level apart. zarr's default is 5.
    FIRST_STRONGER = 5
    LAST_STRONGER = 8

# A decoder context is shared with the streams of `_zlib`, which own the one given to `begin`:
# both live in this pair.
cdef struct Decoder:
    void* stream
    libdeflate_decompressor* whole

cdef struct Encoder:
    libdeflate_compressor* compressor
    int level

cdef const Codec* _streams = NULL


cdef Decoder* _decoder(void** context) noexcept nogil:
    if context[0] == NULL:
        context[0] = calloc(1, sizeof(Decoder))
    return <Decoder*> context[0]


cdef Status begin(const Params* params, void** context, Failure* failure) noexcept nogil:
    cdef Decoder* decoder = _decoder(context)
    if decoder == NULL:
        return NO_MEMORY
    return _streams.begin(params, &decoder.stream, failure)


cdef Status feed(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t need, size_t* position, Failure* failure,
) noexcept nogil:
    return _streams.feed(params, &(<Decoder*> context[0]).stream, src, n, dst, capacity, need,
                         position, failure)


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = _decoder(context)
    cdef libdeflate_result result
    cdef Status status
    cdef size_t used, got
    cdef size_t done = 0
    cdef const uint8_t* first = src
    cdef const uint8_t* end = src + n
    if decoder == NULL:
        return NO_MEMORY
    if decoder.whole == NULL:
        decoder.whole = zarrs_libdeflate_alloc_decompressor()
        if decoder.whole == NULL:
            return NO_MEMORY
    while True:
        if params.v[1] == GZIP:
            result = zarrs_libdeflate_gzip_decompress_ex(
                decoder.whole, src, end - src, dst + done, capacity - done, &used, &got)
        else:
            result = zarrs_libdeflate_zlib_decompress_ex(
                decoder.whole, src, end - src, dst + done, capacity - done, &used, &got)
        if result != LIBDEFLATE_SUCCESS:
            # It takes bytes that are not there for zeros, and says little. The streams know why.
            failure.code = <int> result
            status = _streams.decode(params, &decoder.stream, first, n, dst, capacity, &used,
                                     failure)
            return status if status != OK else CORRUPT
        src += used
        done += got
        if params.v[1] != GZIP:
            break
        while src < end and src[0] == 0:  # padding after a member
            src += 1
        if src == end:
            break
    written[0] = done
    return OK


cdef inline int _level(int level) noexcept nogil:
    """The level of libdeflate that compresses as zlib does at a level."""
    if level < 0:
        level = DEFAULT_LEVEL
    return level - 1 if FIRST_STRONGER <= level <= LAST_STRONGER else level


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef Encoder* encoder = <Encoder*> context[0]
    cdef int level = _level(<int> params.v[0])
    if encoder == NULL:
        encoder = <Encoder*> calloc(1, sizeof(Encoder))
        if encoder == NULL:
            return NO_MEMORY
        context[0] = encoder
    if encoder.compressor != NULL and encoder.level != level:
        zarrs_libdeflate_free_compressor(encoder.compressor)
        encoder.compressor = NULL
    if encoder.compressor == NULL:
        encoder.compressor = zarrs_libdeflate_alloc_compressor(level)
        if encoder.compressor == NULL:
            return NO_MEMORY
        encoder.level = level
    if params.v[1] == GZIP:
        written[0] = zarrs_libdeflate_gzip_compress(encoder.compressor, src, n, dst, capacity)
    else:
        written[0] = zarrs_libdeflate_zlib_compress(encoder.compressor, src, n, dst, capacity)
    return OK if written[0] else ENCODE_FAILED


cdef void release_decoder(void* context) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context
    if decoder.stream != NULL:
        _streams.release_decoder(decoder.stream)
    if decoder.whole != NULL:
        zarrs_libdeflate_free_decompressor(decoder.whole)
    free(decoder)


cdef void release_encoder(void* context) noexcept nogil:
    if (<Encoder*> context).compressor != NULL:
        zarrs_libdeflate_free_compressor((<Encoder*> context).compressor)
    free(context)


_streams = codec_at(slot_of("deflate"))
cdef Codec _codec = _streams[0]
_codec.decode = decode
_codec.encode = encode
_codec.begin = begin
_codec.feed = feed
_codec.feed_pays = 4
_codec.release_decoder = release_decoder
_codec.release_encoder = release_encoder
register_codec(&_codec)


def library_version() -> str:
    """The version of libdeflate in use."""
    return ZARRS_LIBDEFLATE_VERSION.decode()
