"""Selections of slices and integers; see ``_basic.pyx``."""

from cpython.object cimport PyObject

from zarrs._core cimport Axis
from zarrs.indexing._plan cimport Target


cdef str plan_basic(
    PyObject* chunk_selection, PyObject* out_selection, Axis* axes, int ndim,
    const Target* target, Py_ssize_t* array_offset, bint* is_basic)
