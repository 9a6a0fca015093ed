"""Zstandard (libzstd >= 1.5), declared by hand: the archive comes without its header."""


cdef extern from * nogil:
    """
    #include <stddef.h>
    typedef struct ZSTD_CCtx_s ZSTD_CCtx;
    typedef struct ZSTD_DCtx_s ZSTD_DCtx;
    typedef struct { const void *src; size_t size; size_t pos; } ZSTD_inBuffer;
    typedef struct { void *dst; size_t size; size_t pos; } ZSTD_outBuffer;
    unsigned ZSTD_versionNumber(void);
    const char *ZSTD_versionString(void);
    unsigned ZSTD_isError(size_t code);
    int ZSTD_getErrorCode(size_t code);
    const char *ZSTD_getErrorString(int code);
    size_t ZSTD_compressBound(size_t size);
    ZSTD_CCtx *ZSTD_createCCtx(void);
    size_t ZSTD_freeCCtx(ZSTD_CCtx *context);
    size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *context, int parameter, int value);
    size_t ZSTD_compress2(ZSTD_CCtx *context, void *dst, size_t capacity,
                          const void *src, size_t size);
    ZSTD_DCtx *ZSTD_createDCtx(void);
    size_t ZSTD_freeDCtx(ZSTD_DCtx *context);
    size_t ZSTD_DCtx_reset(ZSTD_DCtx *context, int directive);
    size_t ZSTD_DCtx_setParameter(ZSTD_DCtx *context, int parameter, int value);
    size_t ZSTD_decompressDCtx(ZSTD_DCtx *context, void *dst, size_t capacity,
                               const void *src, size_t size);
    size_t ZSTD_findFrameCompressedSize(const void *src, size_t size);
    size_t ZSTD_decompressStream(ZSTD_DCtx *context, ZSTD_outBuffer *out, ZSTD_inBuffer *in);
    """
    ctypedef struct ZSTD_CCtx:
        pass
    ctypedef struct ZSTD_DCtx:
        pass
    ctypedef struct ZSTD_inBuffer:
        const void* src
        size_t size
        size_t pos
    ctypedef struct ZSTD_outBuffer:
        void* dst
        size_t size
        size_t pos
    unsigned ZSTD_versionNumber()
    const char* ZSTD_versionString()
    unsigned ZSTD_isError(size_t)
    int ZSTD_getErrorCode(size_t)
    const char* ZSTD_getErrorString(int)
    size_t ZSTD_compressBound(size_t)
    ZSTD_CCtx* ZSTD_createCCtx()
    size_t ZSTD_freeCCtx(ZSTD_CCtx*)
    size_t ZSTD_CCtx_setParameter(ZSTD_CCtx*, int, int)
    size_t ZSTD_compress2(ZSTD_CCtx*, void*, size_t, const void*, size_t)
    ZSTD_DCtx* ZSTD_createDCtx()
    size_t ZSTD_freeDCtx(ZSTD_DCtx*)
    size_t ZSTD_DCtx_reset(ZSTD_DCtx*, int)
    size_t ZSTD_DCtx_setParameter(ZSTD_DCtx*, int, int)
    size_t ZSTD_decompressDCtx(ZSTD_DCtx*, void*, size_t, const void*, size_t)
    size_t ZSTD_findFrameCompressedSize(const void*, size_t)
    size_t ZSTD_decompressStream(ZSTD_DCtx*, ZSTD_outBuffer*, ZSTD_inBuffer*)


cdef enum:
    # enum values of zstd.h; fixed parts of its interface
    ZSTD_c_compressionLevel = 100
    ZSTD_c_checksumFlag = 201
    ZSTD_reset_session_only = 1
    ZSTD_d_windowLogMax = 100
    ZSTD_d_stableOutBuffer = 1001
    # experimental, since 1.5.7
    ZSTD_c_blockSplitterLevel = 1017
    ZSTD_error_dstSize_tooSmall = 70
    ZSTD_error_memory_allocation = 64
    ZSTD_error_srcSize_wrong = 72
