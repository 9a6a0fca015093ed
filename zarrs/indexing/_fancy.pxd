"""Selections with index arrays; see ``_fancy.pyx``."""

from zarrs._core cimport Axis, Selection
from zarrs.indexing._plan cimport Plan, Target


cdef str plan_fancy(
    Plan plan, Selection* select, Axis* axes, int ndim, const int* order,
    object chunk_selection, object out_selection, tuple drop_axes, const Target* target,
    Py_ssize_t* array_offset)
