"""The cache of open files; see ``_handles.pyx``. A handle is known to others as a ``void*``."""

cdef Py_ssize_t handle_generation() noexcept nogil

cdef void* acquire_handle(const char* path, bint direct, int* fd) noexcept nogil

cdef void* insert_handle(
    const char* path, bint direct, int fd, int capacity, Py_ssize_t generation) noexcept nogil

cdef void release_handle(void* handle) noexcept nogil

cdef void invalidate_handle(const char* path) noexcept nogil
