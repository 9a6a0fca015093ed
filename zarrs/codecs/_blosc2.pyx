"""Decoding of Blosc buffers with C-Blosc2, where that is there.

It reads the format of C-Blosc 1 (its README_CHUNK_FORMAT), keeps its scratch in a context and is
the faster decoder; writing, and what it does not decode, is the business of ``_blosc``.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport calloc, free

from zarrs._clib.blosc2 cimport (
    BLOSC2_DPARAMS_DEFAULTS,
    BLOSC2_VERSION_STRING,
    blosc2_context,
    blosc2_create_dctx,
    blosc2_decompress_ctx,
    blosc2_dparams,
    blosc2_free_ctx,
    blosc2_init,
    print_error,
)
from zarrs._core cimport (
    CORRUPT,
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
from zarrs.codecs._blosc_format cimport FLAG_BITSHUFFLE, BlockIndex, read_header

from zarrs.codecs import _blosc_format


cdef extern from "_native/shuffles.h":
    const char* zarrs_blosc2_shuffles()

cdef extern from *:
    "#define ZARRS_PREPARED_MALLOC"

cdef extern from "_native/prepared.h" nogil:
    bint zarrs_prepare(size_t n)
    bint zarrs_discard()

cdef enum:
    FORMAT_ZSTD = 4  # in the upper bits of the flags
    ZSTD_SIZE = 256 * 1024  # at least of zstd's context
    THREAD_SIZE = 256  # at least of what the library keeps of a thread
    ERROR_MEMORY = -4
    ERROR_SCRATCH = -26  # or of threads, of which there are none

blosc2_init()


cdef const Codec* _blosc


cdef struct Decoder:
    blosc2_context* context
    int64_t blocksize  # for which it has scratch; it makes all anew for another one. 0: unknown
    bint has_zstd  # and a context of zstd


cdef inline bint _is_zstd(const uint8_t* header) noexcept nogil:
    return header[2] >> 5 == FORMAT_ZSTD


cdef bint _prepare(
    const Decoder* decoder, const uint8_t* header, const BlockIndex* index,
) noexcept nogil:
    # Scratch is for four blocks, each with where its parts are.
    cdef size_t scratch = 4 * (<size_t> index.blocksize + 4 * <size_t> header[3])
    if decoder.blocksize != index.blocksize and not (
        zarrs_prepare(THREAD_SIZE) and zarrs_prepare(scratch)
    ):
        return False
    return decoder.has_zstd or not _is_zstd(header) or zarrs_prepare(ZSTD_SIZE)


cdef Status _decode_once(
    void** context, const uint8_t* src, const BlockIndex* index, uint8_t* dst, Failure* failure,
) noexcept nogil:
    cdef Decoder* decoder = <Decoder*> context[0]
    cdef blosc2_dparams dparams
    cdef int result = ERROR_MEMORY
    if decoder == NULL:
        context[0] = decoder = <Decoder*> calloc(1, sizeof(Decoder))
        if decoder == NULL:
            return NO_MEMORY
        dparams = BLOSC2_DPARAMS_DEFAULTS
        dparams.nthreads = 1
        decoder.context = blosc2_create_dctx(dparams)
    if decoder.context != NULL:
        if decoder.blocksize != index.blocksize:
            decoder.has_zstd = False
        if _prepare(decoder, src, index):
            result = blosc2_decompress_ctx(decoder.context, src, <int32_t> index.cbytes,
                                           dst, <int32_t> index.nbytes)
        if zarrs_discard():
            decoder.blocksize = index.blocksize
            decoder.has_zstd = decoder.has_zstd or _is_zstd(src)
        else:
            decoder.blocksize = 0
    if result == index.nbytes:
        return OK
    # What a failed call leaves in its context is not documented: start afresh.
    release_decoder(decoder)
    context[0] = NULL
    failure.code = result
    return NO_MEMORY if result == ERROR_MEMORY or result == ERROR_SCRATCH else CORRUPT


cdef Status decode(
    const Params* params, void** context, const uint8_t* src, size_t n,
    uint8_t* dst, size_t capacity, size_t* written, Failure* failure,
) noexcept nogil:
    # What C-Blosc 1 makes of bits of a part of an item, C-Blosc2 does not undo.
    cdef BlockIndex index
    cdef Status status = read_header(src, <int64_t> n, <int64_t> capacity, &index, failure)
    if status != OK:
        return status
    if src[2] & FLAG_BITSHUFFLE and index.nbytes % src[3] != 0:
        return _blosc.decode(params, context, src, n, dst, capacity, written, failure)
    status = _decode_once(context, src, &index, dst, failure)
    if status == CORRUPT:
        # The library reports a failed allocation in the same way; damage fails a second time.
        status = _decode_once(context, src, &index, dst, failure)
    if status == OK:
        written[0] = <size_t> index.nbytes
    return status


cdef void release_decoder(void* context) noexcept nogil:
    if (<Decoder*> context).context != NULL:
        blosc2_free_ctx((<Decoder*> context).context)
    free(context)


_blosc = codec_at(slot_of("blosc"))
cdef Codec _codec = _blosc[0]
_codec.decode = decode
_codec.release_decoder = release_decoder
register_codec(&_codec)


def explain(code: int) -> str:
    """What an error code means, in the library's words where it has some."""
    return print_error(<int> code).decode() if code < 0 else _blosc_format.explain(code)


def library_version() -> str:
    """The version of C-Blosc2 in use."""
    return BLOSC2_VERSION_STRING.decode()


def shuffles() -> str | None:
    """With which instructions C-Blosc2 shuffles here; None: it does not tell."""
    cdef const char* found = zarrs_blosc2_shuffles()
    return None if found == NULL else found.decode()
