/* One name for the stream interface of zlib-ng (the default) and of a system's zlib.
 *
 * zlib-ng's own header is not in the archive that wheels ship: what is needed is declared by hand.
 */
#ifndef ZARRS_DEFLATE_STREAM_H
#define ZARRS_DEFLATE_STREAM_H

#ifdef ZARRS_SYSTEM_ZLIB
#define ZLIB_CONST
#include <zlib.h>
typedef z_stream zarrs_stream;
#define zarrs_inflateInit2 inflateInit2
#define zarrs_inflateReset2 inflateReset2
#define zarrs_inflate inflate
#define zarrs_inflateEnd inflateEnd
#define zarrs_deflateInit2 deflateInit2
#define zarrs_deflateReset deflateReset
#define zarrs_deflate deflate
#define zarrs_deflateEnd deflateEnd
#define zarrs_deflateBound deflateBound
#define zarrs_zlib_version zlibVersion
#define zarrs_crc32 crc32_z
#define zarrs_adler32 adler32_z
#else
#include <stddef.h>
#include <stdint.h>
typedef struct {
    const uint8_t *next_in;
    uint32_t avail_in;
    size_t total_in;
    uint8_t *next_out;
    uint32_t avail_out;
    size_t total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *opaque, unsigned items, unsigned size);
    void (*zfree)(void *opaque, void *address);
    void *opaque;
    int data_type;
    uint32_t adler;
    unsigned long reserved;
} zarrs_stream;
int zng_inflateInit2(zarrs_stream *stream, int window_bits);
int zng_inflateReset2(zarrs_stream *stream, int window_bits);
int zng_inflate(zarrs_stream *stream, int flush);
int zng_inflateEnd(zarrs_stream *stream);
int zng_deflateInit2(zarrs_stream *stream, int level, int method, int window_bits, int mem_level,
                     int strategy);
int zng_deflateReset(zarrs_stream *stream);
int zng_deflate(zarrs_stream *stream, int flush);
int zng_deflateEnd(zarrs_stream *stream);
size_t zng_deflateBound(zarrs_stream *stream, size_t n);
const char *zlibng_version(void);
uint32_t zng_crc32_z(uint32_t crc, const uint8_t *src, size_t n);
uint32_t zng_adler32_z(uint32_t adler, const uint8_t *src, size_t n);
#define zarrs_inflateInit2 zng_inflateInit2
#define zarrs_inflateReset2 zng_inflateReset2
#define zarrs_inflate zng_inflate
#define zarrs_inflateEnd zng_inflateEnd
#define zarrs_deflateInit2 zng_deflateInit2
#define zarrs_deflateReset zng_deflateReset
#define zarrs_deflate zng_deflate
#define zarrs_deflateEnd zng_deflateEnd
#define zarrs_deflateBound zng_deflateBound
#define zarrs_zlib_version zlibng_version
#define zarrs_crc32 zng_crc32_z
#define zarrs_adler32 zng_adler32_z
#define Z_OK 0
#define Z_STREAM_END 1
#define Z_NEED_DICT 2
#define Z_DATA_ERROR (-3)
#define Z_BUF_ERROR (-5)
#define Z_MEM_ERROR (-4)
#define Z_NO_FLUSH 0
#define Z_FINISH 4
#define Z_DEFLATED 8
#define Z_DEFAULT_STRATEGY 0
#endif

#endif
