"""Files without the GIL: read at an offset, replace in one step, remove; see ``_files.pyx``."""

from libc.stdint cimport uint8_t, uint64_t

from zarrs._core cimport Buffer, Failure, FileOptions, Input, Status


cdef enum:
    MAX_MERGES = 100  # of one chunk, each time with what another writer has put there


cdef struct NewFile:
    # A file being written beside the one whose place it takes.
    int fd
    char* temporary  # its name
    size_t base  # how much of it is the old file's
    bint direct
    bint sync  # before it takes the other's place
    bint exchange  # see FileOptions
    uint8_t* block  # bytes that wait to be written; aligned for O_DIRECT
    size_t filled
    size_t size  # of all that was appended


cdef Status open_input(
    const char* path, const FileOptions* options, Input* source, Failure* failure) noexcept nogil

cdef void close_input(Input* source) noexcept nogil

cdef Status read_input(
    const Input* source, uint8_t* dst, Py_ssize_t n, Py_ssize_t offset,
    Failure* failure) noexcept nogil

cdef Status view_input(
    const Input* source, Py_ssize_t n, Py_ssize_t offset, Buffer* scratch,
    const uint8_t** bytes, Failure* failure) noexcept nogil

cdef Status create_file(
    const char* path, const FileOptions* options, uint64_t nonce, NewFile* file,
    Failure* failure) noexcept nogil

cdef Status append_file(
    NewFile* file, const uint8_t* data, size_t n, Failure* failure) noexcept nogil

cdef Status patch_file(
    NewFile* file, const uint8_t* data, size_t n, Failure* failure) noexcept nogil

cdef Status commit_file(
    NewFile* file, const char* path, const Input* old, Failure* failure) noexcept nogil

cdef void abandon_file(NewFile* file) noexcept nogil

cdef Status write_file(
    const char* path, const FileOptions* options, const uint8_t* data, size_t n, uint64_t nonce,
    NewFile* file, Failure* failure) noexcept nogil

cdef Status remove_file(
    const char* path, const Input* old, Failure* failure) noexcept nogil

cdef void wait_for_others(int attempt, uint64_t nonce) noexcept nogil
