"""C-Blosc2: what decoding a Blosc buffer needs."""

from libc.stdint cimport int16_t, int32_t


cdef extern from "blosc2.h" nogil:
    ctypedef struct blosc2_dparams:
        int nthreads
    ctypedef struct blosc2_context:
        pass
    const blosc2_dparams BLOSC2_DPARAMS_DEFAULTS
    const char* BLOSC2_VERSION_STRING
    const char* print_error(int code)
    void blosc2_init()
    blosc2_context* blosc2_create_dctx(blosc2_dparams dparams)
    void blosc2_free_ctx(blosc2_context* context)
    int blosc2_decompress_ctx(
        blosc2_context* context, const void* src, int32_t srcsize, void* dest, int32_t destsize)
