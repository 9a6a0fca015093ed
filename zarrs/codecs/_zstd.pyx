"""Zstandard frames (RFC 8878).

libzstd may have been built with decoders of the formats before that one. They are kept from hostile
bytes: they have no owner, and when streams are decoded they get as much memory as a header
asks for.

Params: level (0: the library's default), checksum flag.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from zarrs._clib.zstd cimport (
    ZSTD_c_blockSplitterLevel,
    ZSTD_c_checksumFlag,
    ZSTD_c_compressionLevel,
    ZSTD_CCtx,
    ZSTD_CCtx_setParameter,
    ZSTD_compress2,
    ZSTD_compressBound,
    ZSTD_createCCtx,
    ZSTD_createDCtx,
    ZSTD_d_stableOutBuffer,
    ZSTD_d_windowLogMax,
    ZSTD_DCtx,
    ZSTD_DCtx_reset,
    ZSTD_DCtx_setParameter,
    ZSTD_decompressDCtx,
    ZSTD_decompressStream,
    ZSTD_error_dstSize_tooSmall,
    ZSTD_error_memory_allocation,
    ZSTD_error_srcSize_wrong,
    ZSTD_findFrameCompressedSize,
    ZSTD_freeCCtx,
    ZSTD_freeDCtx,
    ZSTD_getErrorCode,
    ZSTD_getErrorString,
    ZSTD_inBuffer,
    ZSTD_isError,
    ZSTD_outBuffer,
    ZSTD_reset_session_only,
    ZSTD_versionNumber,
    ZSTD_versionString,
)
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


cdef enum:
    FEED_STEP = 8 * 1024
    # First bytes of frames and of skippable frames; those of the old formats are 0x1e and 0x22 on.
    FRAME = 0x28
    SKIPPABLE = 0x50
    SKIPPABLE_MASK = 0xF0
    NO_FRAME = -1  # an error code that the library does not have
    # What the library's parameter takes: its own choice by level, or blocks of the full 128 KiB.
    OWN_CHOICE = 0
    NO_SPLITTING = 1

cdef struct Decoder:
    ZSTD_DCtx* library
    bint inside  # a frame


cdef inline bint _is_frame(const uint8_t* src) noexcept nogil:
    return src[0] == FRAME or (src[0] & SKIPPABLE_MASK) == SKIPPABLE


cdef Status _decode_error(size_t result, size_t capacity, Failure* failure) noexcept nogil:
    cdef int code = ZSTD_getErrorCode(result)
    failure.code = code
    if code == ZSTD_error_memory_allocation:
        return NO_MEMORY
    if code == ZSTD_error_dstSize_tooSmall:
        failure.expected = capacity
        failure.found = -1  # more than that
        return WRONG_SIZE
    return CORRUPT


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t result
    cdef size_t first = 0
    if begin(params, context, failure) != OK:
        return NO_MEMORY
    if n == 0:  # libzstd takes no bytes for no frames
        failure.code = ZSTD_error_srcSize_wrong
        return CORRUPT
    while first < n:
        if not _is_frame(src + first):
            failure.code = NO_FRAME
            return CORRUPT
        result = ZSTD_findFrameCompressedSize(src + first, n - first)
        if ZSTD_isError(result):
            return _decode_error(result, capacity, failure)
        first += result
    result = ZSTD_decompressDCtx((<Decoder*> context[0]).library, dst, capacity, src, n)
    if ZSTD_isError(result):
        return _decode_error(result, capacity, failure)
    written[0] = result
    return OK


cdef Status begin(const Params* params, void** context, Failure* failure) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    if decoder == NULL:
        context[0] = decoder = <Decoder*> calloc(1, sizeof(Decoder))
        if decoder == NULL:
            return NO_MEMORY
    if decoder.library == NULL:
        decoder.library = ZSTD_createDCtx()
        if decoder.library == NULL:
            return NO_MEMORY
        # Streams decode straight into the chunk: no window is buffered, so its size is no danger.
        ZSTD_DCtx_setParameter(decoder.library, ZSTD_d_stableOutBuffer, 1)
        ZSTD_DCtx_setParameter(decoder.library, ZSTD_d_windowLogMax,
                               31 if sizeof(size_t) > 4 else 30)
    decoder.inside = False
    ZSTD_DCtx_reset(decoder.library, ZSTD_reset_session_only)
    return OK


cdef Status feed(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t need, size_t* position, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    cdef ZSTD_inBuffer source
    cdef ZSTD_outBuffer out
    cdef size_t result
    source.src = src
    source.size = 0
    source.pos = 0
    out.dst = dst
    out.size = capacity
    out.pos = position[0]
    while out.pos < need and (source.pos < source.size or source.size < n):
        if source.pos == source.size:
            # In small steps: a call decodes as many blocks as its input holds.
            source.size = min(n, source.size + FEED_STEP)
        if not decoder.inside and not _is_frame(src + source.pos):
            failure.code = NO_FRAME
            return CORRUPT
        result = ZSTD_decompressStream(decoder.library, &out, &source)
        if ZSTD_isError(result):
            return _decode_error(result, capacity, failure)
        decoder.inside = result != 0
    position[0] = out.pos
    return OK


# Earlier versions do not split so; later ones may give an experimental number to something else.
cdef bint _knows_splitting = 10507 <= ZSTD_versionNumber() < 10600


cdef inline int _splitting(int level) noexcept nogil:
    """How to look for places at which blocks are better split.

    The levels 3 (which 0 stands for) and 4 do since 1.5.7, with samples of bytes. Those of items
    that have more than one differ anyway: the many small blocks take up to 1.8 times as long, and
    are rarely smaller, and then by less than 1 %.
    """
    return NO_SPLITTING if level == 0 or level == 3 or level == 4 else OWN_CHOICE


cdef Status encode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    cdef size_t result
    if context[0] == NULL:
        context[0] = ZSTD_createCCtx()
        if context[0] == NULL:
            return NO_MEMORY
    result = ZSTD_CCtx_setParameter(
        <ZSTD_CCtx*> context[0], ZSTD_c_compressionLevel, <int> params.v[0])
    if not ZSTD_isError(result):
        result = ZSTD_CCtx_setParameter(
            <ZSTD_CCtx*> context[0], ZSTD_c_checksumFlag, <int> params.v[1])
    if not ZSTD_isError(result) and _knows_splitting:
        result = ZSTD_CCtx_setParameter(
            <ZSTD_CCtx*> context[0], ZSTD_c_blockSplitterLevel, _splitting(<int> params.v[0]))
    if not ZSTD_isError(result):
        result = ZSTD_compress2(<ZSTD_CCtx*> context[0], dst, capacity, src, n)
    if ZSTD_isError(result):
        failure.code = ZSTD_getErrorCode(result)
        return NO_MEMORY if failure.code == ZSTD_error_memory_allocation else ENCODE_FAILED
    written[0] = result
    return OK


cdef size_t bound(const Params* params, size_t n) noexcept nogil:
    return ZSTD_compressBound(n)


cdef void release_decoder(void* context) noexcept nogil:
    ZSTD_freeDCtx((<Decoder*> context).library)
    free(context)


cdef void release_encoder(void* context) noexcept nogil:
    ZSTD_freeCCtx(<ZSTD_CCtx*> context)


cdef Codec _codec
memset(&_codec, 0, sizeof(Codec))
_codec.name = b"zstd"
_codec.kind = TRANSFORM
_codec.decode = decode
_codec.encode = encode
_codec.bound = bound
_codec.begin = begin
_codec.feed = feed
_codec.feed_pays = 8
_codec.release_decoder = release_decoder
_codec.release_encoder = release_encoder
register_codec(&_codec)


def explain(code: int) -> str:
    """What an error code means, in the library's words where it has some."""
    if code == NO_FRAME:
        return "no Zstandard frame begins where one should"
    text = ZSTD_getErrorString(code).decode()
    return f"{text}: the chunk is truncated" if code == ZSTD_error_srcSize_wrong else text


def library_version() -> str:
    """The version of libzstd in use."""
    return ZSTD_versionString().decode()
