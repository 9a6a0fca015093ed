"""What is selected of an array, cut at the borders of chunks; see ``_selected.pyx``."""

from zarrs._core cimport MAX_NDIM
from zarrs.indexing._grid cimport Grid


cdef struct Piece:
    # What is selected along one axis in one chunk: a range, or a list of positions that rise.
    Py_ssize_t chunk
    Py_ssize_t size  # of the chunk
    Py_ssize_t start  # in the chunk
    Py_ssize_t step
    Py_ssize_t count
    bint whole  # all that the array has of the chunk
    Py_ssize_t place  # of the first among all that is selected along the axis ...
    Py_ssize_t place_step  # ... and from one to the next
    const Py_ssize_t* chosen  # the positions in the array; NULL: a range


cdef class Selected:
    cdef readonly Grid grid
    cdef readonly tuple shape
    cdef readonly bint is_scalar
    cdef readonly Py_ssize_t n_chunks
    cdef Piece* pieces[MAX_NDIM]
    cdef Py_ssize_t n[MAX_NDIM]
    cdef Py_ssize_t* lists[MAX_NDIM]  # positions; behind them the place of each, as for a piece
    cdef Py_ssize_t n_listed[MAX_NDIM]
    cdef int result_axis[MAX_NDIM]  # -1: the result does not have it
    # Points, sorted by chunk: of each its number among the chunk's items as they are stored, and
    # its place in the result.
    cdef bint has_points
    cdef Py_ssize_t n_points
    cdef Py_ssize_t* points
    cdef Py_ssize_t* point_places
    cdef Py_ssize_t* chunks  # `ndim` numbers of every chunk that has points ...
    cdef Py_ssize_t* first_points  # ... and which is its first

    cdef int count_chunks(self, Py_ssize_t n) except -1

    cdef int add_range(
        self, int k, Py_ssize_t start, Py_ssize_t step, Py_ssize_t count) except -1

    cdef bint add_list(self, int k, object array) except -1

    cdef int cut_list(self, int k, Py_ssize_t n) except -1
