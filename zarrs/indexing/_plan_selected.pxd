"""Steps from what is selected to tasks; see ``_plan_selected.pyx``."""

from zarrs._core cimport MAX_NDIM, Axis, Selection, Task
from zarrs.indexing._grid cimport Grid
from zarrs.indexing._plan cimport Plan, Target
from zarrs.indexing._selected cimport Selected


cdef struct Places:
    # Where the places of a selection are in the array, in bytes.
    Py_ssize_t stride[MAX_NDIM]  # from one to the next
    Py_ssize_t* offsets[MAX_NDIM]  # of those of a list


cdef int find_places(
    Plan plan, Selected selected, const Target* target, Places* places) except -1

cdef void put_chunk(
    Selected selected, const Places* places, const Py_ssize_t* at, Axis* axes,
    Selection* select, Py_ssize_t* array_offset, Py_ssize_t* numbers) noexcept

cdef bint next_chunk(Selected selected, Py_ssize_t* at) noexcept


cdef class KeyMaker:
    cdef Plan plan
    cdef Grid grid
    cdef bytes prefix
    cdef char* key
    cdef Py_ssize_t n_head

    cdef str add(self, Task* task, const Py_ssize_t* numbers)

    cdef str add_encoded(self, Task* task, str key)
