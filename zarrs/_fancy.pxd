"""Selections with index arrays; see ``_fancy.pyx``."""

from zarrs._core cimport Axis, Selection
from zarrs._plan cimport Plan


cdef struct Target:
    # The array that a chunk is copied to or from.
    int ndim
    bint broadcast  # a single item, the value of every selected one
    const Py_ssize_t* shape
    const Py_ssize_t* stride


cdef str plan_fancy(
    Plan plan, Selection* select, Axis* axes, int ndim, const int* order,
    object chunk_selection, object out_selection, tuple drop_axes, const Target* target,
    Py_ssize_t* array_offset)
