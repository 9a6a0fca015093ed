/* libdeflate's calls: linked where the build found the library, else looked up when it is needed.
 *
 * The shared library is on most systems (image libraries bring it) while its header seldom is. Its
 * interface is small, and fixed under the name libdeflate.so.0: it is declared by hand.
 */
#ifndef ZARRS_LIBDEFLATE_H
#define ZARRS_LIBDEFLATE_H

#include <stddef.h>

#ifdef ZARRS_LINK_LIBDEFLATE
#include <libdeflate.h>
#define ZARRS_LIBDEFLATE_VERSION LIBDEFLATE_VERSION_STRING
#define zarrs_libdeflate_call(name) libdeflate_##name
static inline int zarrs_load_libdeflate(void) { return 1; }
#else
#include <dlfcn.h>

#define ZARRS_LIBDEFLATE_VERSION "0 (found at run time)"
struct libdeflate_compressor;
struct libdeflate_decompressor;
enum libdeflate_result {
    LIBDEFLATE_SUCCESS = 0,
    LIBDEFLATE_BAD_DATA = 1,
    LIBDEFLATE_SHORT_OUTPUT = 2,
    LIBDEFLATE_INSUFFICIENT_SPACE = 3
};

typedef size_t (*zarrs_compress_fn)(struct libdeflate_compressor *, const void *, size_t, void *,
                                    size_t);
typedef enum libdeflate_result (*zarrs_decompress_fn)(struct libdeflate_decompressor *,
                                                      const void *, size_t, void *, size_t,
                                                      size_t *, size_t *);

static struct {
    struct libdeflate_compressor *(*alloc_compressor)(int);
    void (*free_compressor)(struct libdeflate_compressor *);
    zarrs_compress_fn gzip_compress;
    zarrs_compress_fn zlib_compress;
    struct libdeflate_decompressor *(*alloc_decompressor)(void);
    void (*free_decompressor)(struct libdeflate_decompressor *);
    zarrs_decompress_fn gzip_decompress_ex;
    zarrs_decompress_fn zlib_decompress_ex;
} zarrs_libdeflate;
#define zarrs_libdeflate_call(name) zarrs_libdeflate.name

/* Returns whether the library and all of its calls are there. */
static int zarrs_load_libdeflate(void)
{
#ifdef __APPLE__
    void *library = dlopen("libdeflate.0.dylib", RTLD_NOW | RTLD_LOCAL);
#else
    void *library = dlopen("libdeflate.so.0", RTLD_NOW | RTLD_LOCAL);
#endif
    if (!library)
        return 0;
/* ISO C knows no conversion from object to function pointers; POSIX requires this one to work. */
#define ZARRS_FIND(name)                                                                          \
    *(void **)&zarrs_libdeflate.name = dlsym(library, "libdeflate_" #name);                       \
    if (!zarrs_libdeflate.name)                                                                   \
        return 0;
    ZARRS_FIND(alloc_compressor)
    ZARRS_FIND(free_compressor)
    ZARRS_FIND(gzip_compress)
    ZARRS_FIND(zlib_compress)
    ZARRS_FIND(alloc_decompressor)
    ZARRS_FIND(free_decompressor)
    ZARRS_FIND(gzip_decompress_ex)
    ZARRS_FIND(zlib_decompress_ex)
    return 1;
}
#endif

#define zarrs_alloc_compressor zarrs_libdeflate_call(alloc_compressor)
#define zarrs_free_compressor zarrs_libdeflate_call(free_compressor)
#define zarrs_gzip_compress zarrs_libdeflate_call(gzip_compress)
#define zarrs_zlib_compress zarrs_libdeflate_call(zlib_compress)
#define zarrs_alloc_decompressor zarrs_libdeflate_call(alloc_decompressor)
#define zarrs_free_decompressor zarrs_libdeflate_call(free_decompressor)
#define zarrs_gzip_decompress_ex zarrs_libdeflate_call(gzip_decompress_ex)
#define zarrs_zlib_decompress_ex zarrs_libdeflate_call(zlib_decompress_ex)

#endif
