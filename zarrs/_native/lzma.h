/* liblzma's calls. What is declared by hand is fixed under the name liblzma.so.5; wheels are built
 * without its header.
 */
#ifndef ZARRS_LZMA_H
#define ZARRS_LZMA_H

#include "dynamic.h"

#ifdef ZARRS_LINKED
#include <lzma.h>
#else
#include <stdint.h>
typedef struct {
    const uint8_t *next_in;
    size_t avail_in;
    uint64_t total_in;
    uint8_t *next_out;
    size_t avail_out;
    uint64_t total_out;
    const void *allocator;
    void *internal;
    void *reserved_pointers[4];
    uint64_t seek_pos;
    uint64_t reserved_int;
    size_t reserved_sizes[2];
    int reserved_enums[2];
} lzma_stream;
/* It is only handed from call to call: there is room for what the library keeps in it, and more. */
typedef struct {
    uint64_t opaque[32];
} lzma_options_lzma;
typedef unsigned char lzma_bool;
typedef int lzma_ret;
typedef int lzma_action;
typedef int lzma_check;
#define LZMA_RUN 0
#define LZMA_FINISH 3
#define LZMA_OK 0
#define LZMA_STREAM_END 1
#define LZMA_MEM_ERROR 5
#define LZMA_MEMLIMIT_ERROR 6
#define LZMA_FORMAT_ERROR 7
#define LZMA_OPTIONS_ERROR 8
#define LZMA_DATA_ERROR 9
#define LZMA_BUF_ERROR 10
#define LZMA_CHECK_CRC64 4
#endif

#define ZARRS_LZMA_CALLS(CALL)                                                                    \
    CALL(lzma_ret, lzma_easy_encoder, (lzma_stream *, uint32_t preset, lzma_check))               \
    CALL(lzma_bool, lzma_lzma_preset, (lzma_options_lzma *, uint32_t preset))                     \
    CALL(lzma_ret, lzma_alone_encoder, (lzma_stream *, const lzma_options_lzma *))                \
    CALL(lzma_ret, lzma_stream_decoder, (lzma_stream *, uint64_t memory, uint32_t flags))         \
    CALL(lzma_ret, lzma_alone_decoder, (lzma_stream *, uint64_t memory))                          \
    CALL(lzma_ret, lzma_auto_decoder, (lzma_stream *, uint64_t memory, uint32_t flags))           \
    CALL(lzma_ret, lzma_code, (lzma_stream *, lzma_action))                                       \
    CALL(uint64_t, lzma_memusage, (const lzma_stream *))                                          \
    CALL(void, lzma_end, (lzma_stream *))                                                         \
    CALL(const char *, lzma_version_string, (void))

#ifdef __APPLE__
ZARRS_LIBRARY(ZARRS_LZMA_CALLS, "liblzma.5.dylib")
#else
ZARRS_LIBRARY(ZARRS_LZMA_CALLS, "liblzma.so.5")
#endif

#endif
