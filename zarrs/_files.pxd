"""Files without the GIL: open, read at an offset, replace, remove; see ``_files.pyx``."""

from libc.stdint cimport uint8_t, uint64_t

from zarrs._core cimport Failure, Status


cdef Status open_file(
    const char* path, int* fd, Py_ssize_t* size, Failure* failure) noexcept nogil

cdef void close_file(int fd) noexcept nogil

cdef Status read_at(
    int fd, uint8_t* dst, Py_ssize_t n, Py_ssize_t offset, Failure* failure) noexcept nogil

cdef Status replace_file(
    const char* path, const uint8_t* data, size_t n, uint64_t nonce,
    Failure* failure) noexcept nogil

cdef Status remove_file(const char* path, Failure* failure) noexcept nogil
