"""Selections with index arrays: what zarr's indexers make of ``oindex``, ``vindex`` and masks.

Two kinds. Orthogonal: every axis has a range, an index array or an integer of its own; zarr shapes
the arrays as ``numpy.ix_`` does, or leaves a single one as it is. Points: one array an axis, all of
one length. An array that is really a range becomes one; any other is sorted together with the
places in the result, values for the same item staying in their order.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer

from zarrs._core cimport Axis, Selection
from zarrs.indexing._plan cimport Plan, Target
from zarrs.indexing._sorting cimport sort_positions

import numpy as np

cdef object _ndarray = np.ndarray
cdef object _integer = np.integer

cdef str NO_MATCH = "the selections in chunk and array do not match"
cdef str UNKNOWN = "the selection is not made of slices, integers and index arrays"


cdef object _integers(object array):
    # An index array or mask of one axis as integers in C order; None if it is neither.
    if array.dtype.kind == "b":
        array = np.flatnonzero(array) if array.ndim == 1 else None
    elif array.dtype.kind not in "iu":
        array = None
    return array if array is None else np.ascontiguousarray(array, dtype=np.intp)


cdef int _load(object array, Py_ssize_t* dst, Py_ssize_t size, Py_ssize_t factor) except -1:
    # Copies a contiguous index array, times `factor`; returns whether all are in range(size).
    cdef Py_buffer view
    cdef const Py_ssize_t* src
    cdef Py_ssize_t i
    cdef bint inside = True
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    src = <const Py_ssize_t*> view.buf
    for i in range(view.len // <Py_ssize_t> sizeof(Py_ssize_t)):
        inside = inside and 0 <= src[i] < size
        dst[i] = src[i] * factor
    PyBuffer_Release(&view)
    return inside


cdef bint _is_own_axis(object array, Py_ssize_t axis, Py_ssize_t ndim, bint alone):
    # Whether an index array is meant for this axis: shaped by numpy.ix_, or the only one.
    cdef Py_ssize_t k
    if array.ndim == 1:
        return ndim == 1 or alone
    if array.ndim != ndim or array.dtype.kind == "b":
        return False
    for k in range(ndim):
        if k != axis and array.shape[k] != 1:
            return False
    return True


cdef inline Py_ssize_t _count_arrays(tuple selection):
    cdef Py_ssize_t n = 0
    for one in selection:
        n += isinstance(one, _ndarray)
    return n


cdef str _positions_in_chunk(
    Plan plan, Axis* axis, object selection, bint is_own_axis, bint dropped,
    Py_ssize_t** positions,
):
    # One axis of a chunk's selection; index arrays become `positions`, with room for as many
    # offsets in the array behind them.
    cdef Py_ssize_t start, stop, step
    positions[0] = NULL
    axis.step = 1
    axis.stride = 0
    axis.origin = 0
    axis.chosen = NULL
    if isinstance(selection, slice):
        start, stop, step = selection.indices(axis.size)
        if step < 1:
            return "the selection has a backward slice"
        axis.start = start
        axis.count = len(range(start, stop, step))
        axis.step = step if axis.count > 1 else 1
        return None
    if isinstance(selection, _ndarray):
        if not is_own_axis:
            return UNKNOWN
        if selection.dtype.kind == "b" and len(selection) != axis.size:
            return NO_MATCH
        selection = _integers(selection)
        if selection is None:
            return UNKNOWN
        axis.count = selection.size
        if axis.count:
            positions[0] = plan.add_list(2 * axis.count)
            if not _load(selection, positions[0], axis.size, 1):
                return "the selection has an index outside of the chunk"
        return None
    if dropped and isinstance(selection, (int, _integer)):
        axis.start = selection
        axis.count = 1
        if axis.start < 0 or axis.start >= axis.size:
            return "the selection has an integer outside of the chunk"
        return None
    return UNKNOWN


cdef str _offsets_in_array(
    Plan plan, Axis* axis, object out, const Target* target, int out_axis,
    Py_ssize_t* positions, Py_ssize_t* array_offset, bint* has_lists,
):
    # Where the items of one axis are in the array; `out` is a slice, an array of integers, or
    # None for an axis that the array does not have.
    cdef Py_ssize_t start = 0
    cdef Py_ssize_t step = 0
    cdef Py_ssize_t stop, i
    cdef Py_ssize_t* array_offsets
    if isinstance(out, slice):
        if not target.broadcast:
            start, stop, step = out.indices(target.shape[out_axis])
            if step < 1 or len(range(start, stop, step)) != axis.count:
                return NO_MATCH
            start *= target.stride[out_axis]
            step *= target.stride[out_axis]
        out = None
    elif out is not None:
        out = _integers(out)
        if out is None:
            return UNKNOWN
        if out.size != axis.count:
            return NO_MATCH
        if target.broadcast:
            out = None
    if positions == NULL and out is None:
        array_offset[0] += start
        axis.stride = step if axis.count > 1 else 0
        return None
    if positions == NULL:
        positions = plan.add_list(2 * axis.count)
        for i in range(axis.count):
            positions[i] = axis.start + i * axis.step
    array_offsets = positions + axis.count
    if out is None:
        for i in range(axis.count):
            array_offsets[i] = start + i * step
    elif not _load(out, array_offsets, target.shape[out_axis], target.stride[out_axis]):
        return NO_MATCH
    _choose(axis, positions, array_offsets, array_offset, has_lists)
    return None


cdef int _choose(
    Axis* axis, Py_ssize_t* positions, Py_ssize_t* array_offsets, Py_ssize_t* array_offset,
    bint* has_lists,
) except -1:
    # Sorts positions; those that are really a range become one.
    cdef bint rises = True
    cdef bint even
    cdef Py_ssize_t i
    for i in range(1, axis.count):
        rises = rises and positions[i - 1] <= positions[i]
    if not rises:
        sort_positions(positions, array_offsets, axis.count)
    even = axis.count == 1 or positions[1] > positions[0]
    for i in range(2, axis.count):
        even = (
            even and positions[i] - positions[i - 1] == positions[1] - positions[0]
            and array_offsets[i] - array_offsets[i - 1] == array_offsets[1] - array_offsets[0]
        )
    if even:
        axis.start = positions[0]
        axis.step = positions[1] - positions[0] if axis.count > 1 else 1
        axis.stride = array_offsets[1] - array_offsets[0] if axis.count > 1 else 0
        array_offset[0] += array_offsets[0]
        return 0
    axis.start = 0
    axis.step = 1
    axis.chosen = positions
    axis.array_offsets = array_offsets
    has_lists[0] = True
    return 0


cdef str _orthogonal(
    Plan plan, Selection* select, Axis* axes, int ndim, tuple chunk_selection,
    tuple out_selection, tuple drop_axes, const Target* target, Py_ssize_t* array_offset,
):
    cdef Py_ssize_t n_out = len(out_selection)
    cdef bint chunk_alone = _count_arrays(chunk_selection) == 1
    cdef bint out_alone = _count_arrays(out_selection) == 1
    cdef int out_axis = 0
    cdef int mine, a
    cdef Py_ssize_t* positions
    cdef bint is_own_axis, dropped
    cdef str reason
    for a in range(ndim):
        one = chunk_selection[a]
        dropped = a in drop_axes
        is_own_axis = isinstance(one, _ndarray) and _is_own_axis(one, a, ndim, chunk_alone)
        reason = _positions_in_chunk(plan, &axes[a], one, is_own_axis, dropped, &positions)
        if reason is not None:
            return reason
        mine = out_axis
        out = None
        if dropped:
            if axes[a].count != 1:
                return NO_MATCH
        elif out_axis >= n_out or (not target.broadcast and out_axis >= target.ndim):
            return NO_MATCH
        else:
            out = out_selection[out_axis]
            out_axis += 1
        if axes[a].count == 0:
            continue
        if out is not None and not isinstance(out, slice) and not (
            isinstance(out, _ndarray) and _is_own_axis(out, mine, n_out, out_alone)
        ):
            return UNKNOWN
        reason = _offsets_in_array(plan, &axes[a], out, target, mine, positions, array_offset,
                                   &select.has_lists)
        if reason is not None:
            return reason
    if out_axis != n_out or (not target.broadcast and out_axis != target.ndim):
        return NO_MATCH
    return None


cdef str _points(
    Plan plan, Selection* select, Axis* axes, int ndim, const int* order, tuple chunk_selection,
    object out, const Target* target,
):
    cdef Py_ssize_t n = -1
    cdef Py_ssize_t i, start, stop, step
    cdef Py_ssize_t* points
    cdef Py_ssize_t* array_offsets
    cdef Py_ssize_t* scratch
    cdef int k
    cdef list arrays = []
    for sel in chunk_selection:
        if not isinstance(sel, _ndarray) or sel.ndim != 1:
            return UNKNOWN
        if sel.dtype.kind == "b" and len(sel) != axes[len(arrays)].size:
            return NO_MATCH
        sel = _integers(sel)
        if sel is None:
            return UNKNOWN
        if n < 0:
            n = sel.size
        if sel.size != n:
            return NO_MATCH
        arrays.append(sel)
    if not target.broadcast and target.ndim != 1:
        return NO_MATCH
    for k in range(ndim):
        axes[k].count = n  # nothing but 0 matters
        axes[k].start = axes[k].stride = 0
        axes[k].step = 1
    if n == 0:
        return None
    points = plan.add_list(3 * n)
    array_offsets = points + n
    scratch = array_offsets + n
    for i in range(n):
        points[i] = 0
        array_offsets[i] = 0
    for k in range(ndim):  # in stored order
        if not _load(arrays[order[k]], scratch, axes[order[k]].size, 1):
            return "the selection has an index outside of the chunk"
        for i in range(n):
            points[i] = points[i] * axes[order[k]].size + scratch[i]
    if not target.broadcast and isinstance(out, slice):
        start, stop, step = out.indices(target.shape[0])
        if step < 1 or len(range(start, stop, step)) != n:
            return NO_MATCH
        for i in range(n):
            array_offsets[i] = (start + i * step) * target.stride[0]
    elif not target.broadcast:
        if not isinstance(out, _ndarray) or out.ndim != 1:
            return UNKNOWN
        out = _integers(out)
        if out is None:
            return UNKNOWN
        if out.size != n or not _load(out, array_offsets, target.shape[0], target.stride[0]):
            return NO_MATCH
    select.has_points = True
    select.n_points = n
    select.points = points
    select.array_offsets = array_offsets
    return None


cdef str plan_fancy(
    Plan plan, Selection* select, Axis* axes, int ndim, const int* order,
    object chunk_selection, object out_selection, tuple drop_axes, const Target* target,
    Py_ssize_t* array_offset,
):
    """Analyse one chunk's selection; return a reason why it is not native, or None.

    ``axes`` are in the order of the array, with their sizes; ``order`` lists them as stored.
    """
    if not isinstance(chunk_selection, tuple):
        chunk_selection = (chunk_selection,)
    if not isinstance(out_selection, tuple):
        out_selection = (out_selection,)
    if len(chunk_selection) != ndim:
        return "the selection does not name every axis of the chunk"
    if ndim > 1 and len(out_selection) == 1 and not drop_axes and (
        _count_arrays(chunk_selection) == ndim
    ):
        return _points(plan, select, axes, ndim, order, chunk_selection, out_selection[0], target)
    return _orthogonal(plan, select, axes, ndim, chunk_selection, out_selection, drop_axes,
                       target, array_offset)
