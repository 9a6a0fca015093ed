"""N-dimensional copies between chunks and arrays; see ``_copy.pyx``."""

from zarrs._core cimport Box, FillKind, Item, Region


cdef void copy_box(const Box* box, const Item* item, const char* src, char* dst) noexcept nogil

cdef void copy_window(
    const Box* box, const Item* item, Py_ssize_t src_offset,
    const char* window, Py_ssize_t low, Py_ssize_t high, char* dst) noexcept nogil

cdef bint touches_window(
    const Box* box, const Item* item, Py_ssize_t src_offset,
    Py_ssize_t low, Py_ssize_t high) noexcept nogil

cdef Py_ssize_t source_extent(const Box* box, const Item* item, int axis) noexcept nogil

cdef bint is_one_run(const Box* box, const Item* item) noexcept nogil

cdef void swap_run(const Item* item, char* data, Py_ssize_t n_items) noexcept nogil

cdef void fill_box(
    const Box* box, const Item* item, const char* fill, char* dst) noexcept nogil

cdef void copy_out(const Region* region, const Item* item, const char* chunk) noexcept nogil

cdef void copy_in(const Region* region, const Item* item, char* chunk) noexcept nogil

cdef void fill_out(const Region* region, const Item* item, const char* fill) noexcept nogil

cdef bint all_fill(
    const char* data, Py_ssize_t n_items, Py_ssize_t itemsize,
    const char* fill, FillKind kind, bint swapped) noexcept nogil
