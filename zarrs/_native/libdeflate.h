/* libdeflate's calls.
 *
 * The shared library is on most systems (image libraries bring it) while its header seldom is. Its
 * interface is small, and fixed under the name libdeflate.so.0: it is declared by hand.
 */
#ifndef ZARRS_LIBDEFLATE_H
#define ZARRS_LIBDEFLATE_H

#include "dynamic.h"

#ifdef ZARRS_LINKED
#include <libdeflate.h>
#define ZARRS_LIBDEFLATE_VERSION LIBDEFLATE_VERSION_STRING
#else
#define ZARRS_LIBDEFLATE_VERSION "0 (found at run time)"
struct libdeflate_compressor;
struct libdeflate_decompressor;
enum libdeflate_result {
    LIBDEFLATE_SUCCESS = 0,
    LIBDEFLATE_BAD_DATA = 1,
    LIBDEFLATE_SHORT_OUTPUT = 2,
    LIBDEFLATE_INSUFFICIENT_SPACE = 3
};
#endif

#define ZARRS_LIBDEFLATE_COMPRESS                                                                 \
    (struct libdeflate_compressor *, const void *, size_t, void *, size_t)
#define ZARRS_LIBDEFLATE_DECOMPRESS                                                               \
    (struct libdeflate_decompressor *, const void *, size_t, void *, size_t, size_t *, size_t *)
#define ZARRS_LIBDEFLATE_CALLS(CALL)                                                              \
    CALL(struct libdeflate_compressor *, libdeflate_alloc_compressor, (int))                      \
    CALL(void, libdeflate_free_compressor, (struct libdeflate_compressor *))                      \
    CALL(size_t, libdeflate_gzip_compress, ZARRS_LIBDEFLATE_COMPRESS)                             \
    CALL(size_t, libdeflate_zlib_compress, ZARRS_LIBDEFLATE_COMPRESS)                             \
    CALL(struct libdeflate_decompressor *, libdeflate_alloc_decompressor, (void))                 \
    CALL(void, libdeflate_free_decompressor, (struct libdeflate_decompressor *))                  \
    CALL(enum libdeflate_result, libdeflate_gzip_decompress_ex, ZARRS_LIBDEFLATE_DECOMPRESS)      \
    CALL(enum libdeflate_result, libdeflate_zlib_decompress_ex, ZARRS_LIBDEFLATE_DECOMPRESS)

#ifdef __APPLE__
ZARRS_LIBRARY(ZARRS_LIBDEFLATE_CALLS, "libdeflate.0.dylib")
#else
ZARRS_LIBRARY(ZARRS_LIBDEFLATE_CALLS, "libdeflate.so.0")
#endif

#endif
