/* libbz2's calls. Its interface has not changed since 2000; it is declared by hand, because wheels
 * are built without its header.
 */
#ifndef ZARRS_BZ2_H
#define ZARRS_BZ2_H

#include "dynamic.h"

#ifdef ZARRS_LINKED
#include <bzlib.h>
#else
typedef struct {
    char *next_in;
    unsigned avail_in;
    unsigned total_in_lo32;
    unsigned total_in_hi32;
    char *next_out;
    unsigned avail_out;
    unsigned total_out_lo32;
    unsigned total_out_hi32;
    void *state;
    void *(*bzalloc)(void *opaque, int items, int size);
    void (*bzfree)(void *opaque, void *address);
    void *opaque;
} bz_stream;
#define BZ_RUN 0
#define BZ_FINISH 2
#define BZ_OK 0
#define BZ_STREAM_END 4
#define BZ_MEM_ERROR (-3)
#define BZ_DATA_ERROR (-4)
#define BZ_DATA_ERROR_MAGIC (-5)
#define BZ_UNEXPECTED_EOF (-7)
#endif

#define ZARRS_BZ2_CALLS(CALL)                                                                     \
    CALL(int, BZ2_bzCompressInit, (bz_stream *, int level, int verbosity, int work_factor))       \
    CALL(int, BZ2_bzCompress, (bz_stream *, int action))                                          \
    CALL(int, BZ2_bzCompressEnd, (bz_stream *))                                                   \
    CALL(int, BZ2_bzDecompressInit, (bz_stream *, int verbosity, int small))                      \
    CALL(int, BZ2_bzDecompress, (bz_stream *))                                                    \
    CALL(int, BZ2_bzDecompressEnd, (bz_stream *))                                                 \
    CALL(const char *, BZ2_bzlibVersion, (void))

#ifdef __APPLE__
ZARRS_LIBRARY(ZARRS_BZ2_CALLS, "libbz2.1.0.dylib", "libbz2.dylib")
#else
ZARRS_LIBRARY(ZARRS_BZ2_CALLS, "libbz2.so.1.0", "libbz2.so.1")
#endif

#endif
