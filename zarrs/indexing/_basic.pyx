"""Selections of slices and integers, the usual ones: from tuples to ranges.

There are as many as a call has chunks, so nothing here makes a Python object.
"""

from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE

from zarrs._core cimport Axis
from zarrs.indexing._plan cimport Target

import numpy as np


cdef extern from "Python.h":
    bint PySlice_Check(PyObject*)
    int PySlice_Unpack(PyObject*, Py_ssize_t*, Py_ssize_t*, Py_ssize_t*) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t*, Py_ssize_t*, Py_ssize_t)
    Py_ssize_t PyLong_AsSsize_t(PyObject*) except? -1

cdef object _integer = np.integer

cdef str NO_MATCH = "the selections in chunk and array do not match"


cdef str _range_in_chunk(PyObject* selection, Axis* axis):
    cdef Py_ssize_t stop, step
    PySlice_Unpack(selection, &axis.start, &stop, &step)
    axis.count = PySlice_AdjustIndices(axis.size, &axis.start, &stop, step)
    if step < 1:
        return "the selection has a backward slice"
    if axis.count > 1:  # of one item the step is no distance
        axis.step = step
    return None


cdef str _range_in_array(
    PyObject* selection, const Target* target, int out_axis, Axis* axis, Py_ssize_t* array_offset,
):
    cdef Py_ssize_t start, stop, step
    PySlice_Unpack(selection, &start, &stop, &step)
    if step < 1 or axis.count != PySlice_AdjustIndices(
        target.shape[out_axis], &start, &stop, step
    ):
        return NO_MATCH
    array_offset[0] += start * target.stride[out_axis]
    if axis.count > 1:
        axis.stride = step * target.stride[out_axis]
    return None


cdef str plan_basic(
    PyObject* chunk_selection, PyObject* out_selection, Axis* axes, int ndim,
    const Target* target, Py_ssize_t* array_offset, bint* is_basic,
):
    """Analyse one chunk's selection; return a reason why it is not native, or None.

    ``is_basic`` is False if there is anything else than slices and integers. ``axes`` are in the
    order of the array, with their sizes.
    """
    cdef Py_ssize_t n_out
    cdef int out_axis = 0
    cdef int a
    cdef Axis* axis
    cdef PyObject* one
    cdef str reason
    is_basic[0] = (
        PyTuple_CheckExact(<object> chunk_selection) and PyTuple_CheckExact(<object> out_selection)
    )
    if not is_basic[0]:
        return None
    if PyTuple_GET_SIZE(<object> chunk_selection) != ndim:
        return "the selection does not name every axis of the chunk"
    n_out = PyTuple_GET_SIZE(<object> out_selection)
    for a in range(ndim):
        one = PyTuple_GET_ITEM(<object> chunk_selection, a)
        axis = &axes[a]
        axis.stride = 0
        axis.step = 1
        axis.chosen = NULL
        if PySlice_Check(one):
            reason = _range_in_chunk(one, axis)
            if reason is not None:
                return reason
            if out_axis >= n_out or (not target.broadcast and out_axis >= target.ndim):
                return NO_MATCH
            one = PyTuple_GET_ITEM(<object> out_selection, out_axis)
            if not PySlice_Check(one):
                is_basic[0] = False
                return None
            if not target.broadcast:
                reason = _range_in_array(one, target, out_axis, axis, array_offset)
                if reason is not None:
                    return reason
            out_axis += 1
        elif PyLong_CheckExact(<object> one) or isinstance(<object> one, _integer):
            axis.start = (
                PyLong_AsSsize_t(one) if PyLong_CheckExact(<object> one) else int(<object> one)
            )
            if axis.start < 0 or axis.start >= axis.size:
                return "the selection has an integer outside of the chunk"
            axis.count = 1
        else:
            is_basic[0] = False
            return None
    if out_axis != n_out or (not target.broadcast and out_axis != target.ndim):
        return NO_MATCH
    return None
