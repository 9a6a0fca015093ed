"""C-Blosc 1.21: the thread-safe calls of ``blosc.h``."""


cdef extern from "blosc.h" nogil:
    const int BLOSC_MAX_OVERHEAD
    const int BLOSC_MAX_BUFFERSIZE
    int blosc_compress_ctx(
        int clevel, int doshuffle, size_t typesize, size_t nbytes, const void* src, void* dest,
        size_t destsize, const char* compressor, size_t blocksize, int numinternalthreads)
    int blosc_decompress_ctx(
        const void* src, void* dest, size_t destsize, int numinternalthreads)
    const char* blosc_get_version_string()
