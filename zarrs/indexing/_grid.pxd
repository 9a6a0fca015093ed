"""How an array is cut into chunks, and what these are called; see ``_grid.pyx``."""

from zarrs._core cimport MAX_NDIM


cdef struct GridAxis:
    # One axis of an array.
    Py_ssize_t extent
    Py_ssize_t size  # of every chunk; 0: they differ
    Py_ssize_t n  # chunks in which the array has items
    const Py_ssize_t* ends  # where each ends, if they differ


cdef inline Py_ssize_t chunk_start(const GridAxis* axis, Py_ssize_t chunk) noexcept nogil:
    """Where a chunk begins."""
    if axis.size > 0:
        return chunk * axis.size
    return axis.ends[chunk - 1] if chunk > 0 else 0


cdef inline Py_ssize_t chunk_size(const GridAxis* axis, Py_ssize_t chunk) noexcept nogil:
    """How long a chunk is; the last one may go beyond the array."""
    return axis.size if axis.size > 0 else axis.ends[chunk] - chunk_start(axis, chunk)


cdef inline Py_ssize_t chunk_with(const GridAxis* axis, Py_ssize_t position) noexcept nogil:
    """In which chunk a position of the array is."""
    cdef Py_ssize_t low = 0
    cdef Py_ssize_t high = axis.n - 1
    cdef Py_ssize_t middle
    if axis.size > 0:
        return position // axis.size
    while low < high:  # the first that ends after it
        middle = (low + high) // 2
        if axis.ends[middle] > position:
            high = middle
        else:
            low = middle + 1
    return low


cdef class Grid:
    cdef readonly int ndim
    cdef readonly Py_ssize_t largest  # items of the largest chunk
    cdef GridAxis axes[MAX_NDIM]
    cdef int order[MAX_NDIM]  # the axes in the order in which chunks are stored
    cdef list kept  # keeps the memory alive in which chunks end
    cdef bytes head  # what all keys begin with
    cdef bint leads  # whether a separator precedes the first number
    cdef char separator
    cdef object encode  # makes a key of a chunk's numbers; None: head, separators and numbers do

    cdef Py_ssize_t add_axis(self, GridAxis* axis, Py_ssize_t extent, object sizes) except -1

    cdef Py_ssize_t key_size(self) noexcept

    cdef Py_ssize_t put_numbers(self, const Py_ssize_t* numbers, char* key) noexcept
