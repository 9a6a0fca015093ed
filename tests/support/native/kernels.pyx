"""The C functions of some rooms as Python functions, for ``native_kernels.py``.

Memory is handed over as addresses (int), a box as ``(counts, src_strides, dst_strides)``. Axes are
tuples of the fields of ``Axis``, in that order, with lists or None in the place of pointers; points
are None or ``(points, array_offsets)``. What a function says of a failure is ``(stage, code,
expected, found)``, each of them ``UNTOUCHED`` before the call.
"""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from zarrs._core cimport (
    MAX_NDIM,
    MAX_SIZE,
    OK,
    Axis,
    Box,
    Buffer,
    Failure,
    FillKind,
    Input,
    Layout,
    NativeChain,
    Region,
    Selection,
    Shard,
    Status,
    Task,
    Tasks,
    Workspace,
)
from zarrs.arrays cimport _copy
from zarrs.indexing cimport _region
from zarrs.indexing._plan cimport Plan, needed_items
from zarrs.runtime._workspace cimport Workspaces
from zarrs.sharding cimport _index
from zarrs.sharding._index cimport Entry

UNTOUCHED = -77
MOST_BYTES = MAX_SIZE


# ---------------------------------------------------------------------------------------------
# From Python to C, and back

cdef class Numbers:
    """Numbers in C's memory."""

    cdef Py_ssize_t* data

    def __cinit__(self, values):
        cdef Py_ssize_t i
        self.data = <Py_ssize_t*> malloc(max(len(values), 1) * sizeof(Py_ssize_t))
        if self.data == NULL:
            raise MemoryError(f"no memory for {len(values)} numbers")
        for i in range(len(values)):
            self.data[i] = values[i]

    def __dealloc__(self):
        free(self.data)


cdef list _listed(const Py_ssize_t* data, Py_ssize_t n):
    cdef Py_ssize_t i
    return [data[i] for i in range(n)]


cdef class Selected:
    """A selection in C's memory."""

    cdef Axis axes[MAX_NDIM]
    cdef Selection select
    cdef int ndim
    cdef list kept

    def __cinit__(self, axes, points):
        cdef Axis* axis
        cdef int k
        self.kept = []
        self.ndim = len(axes)
        memset(&self.select, 0, sizeof(Selection))
        self.select.axes = self.axes
        for k in range(self.ndim):
            axis = &self.axes[k]
            (axis.size, axis.start, axis.step, axis.count, axis.stride, chosen, array_offsets,
             axis.origin) = axes[k]
            axis.chosen = axis.array_offsets = NULL
            if chosen is not None:
                axis.chosen = self.keep(chosen)
                axis.array_offsets = self.keep(array_offsets)
                self.select.has_lists = True
        if points is not None:
            self.select.has_points = True
            self.select.n_points = len(points[0])
            self.select.points = self.keep(points[0])
            self.select.array_offsets = self.keep(points[1])

    cdef Py_ssize_t* keep(self, values) except NULL:
        numbers = Numbers(values)
        self.kept.append(numbers)
        return (<Numbers> numbers).data


cdef tuple _described(const Selection* select, int ndim):
    cdef const Axis* axis
    cdef int k
    cdef list axes = []
    for k in range(ndim):
        axis = &select.axes[k]
        chosen = array_offsets = None
        if axis.chosen != NULL and not select.has_points:
            chosen = _listed(axis.chosen, axis.count)
            array_offsets = _listed(axis.array_offsets, axis.count)
        axes.append((axis.size, axis.start, axis.step, axis.count, axis.stride, chosen,
                     array_offsets, axis.origin if chosen is not None else 0))
    points = None
    if select.has_points:
        points = (_listed(select.points, select.n_points),
                  _listed(select.array_offsets, select.n_points))
    return axes, points


cdef int _fill(Box* box, sides) except -1:
    cdef int k
    memset(box, 0xAB, sizeof(Box))
    box.ndim = len(sides[0])
    for k in range(box.ndim):
        box.count[k], box.src_stride[k], box.dst_stride[k] = (side[k] for side in sides)
    return 0


cdef void _forget(Failure* failure) noexcept:
    failure.stage = failure.code = failure.expected = failure.found = UNTOUCHED


cdef tuple _said(const Failure* failure):
    return failure.stage, failure.code, failure.expected, failure.found


# ---------------------------------------------------------------------------------------------
# arrays/_copy

def copy_box(sides, Layout layout, size_t src, size_t dst):
    cdef Box box
    _fill(&box, sides)
    _copy.copy_box(&box, &layout.spec.item, <char*> src, <char*> dst)


def copy_window(sides, Layout layout, Py_ssize_t src_offset, size_t window, Py_ssize_t low,
                Py_ssize_t high, size_t dst):
    cdef Box box
    _fill(&box, sides)
    _copy.copy_window(&box, &layout.spec.item, src_offset, <char*> window, low, high, <char*> dst)


def touches_window(sides, Layout layout, Py_ssize_t src_offset, Py_ssize_t low, Py_ssize_t high):
    cdef Box box
    _fill(&box, sides)
    return bool(_copy.touches_window(&box, &layout.spec.item, src_offset, low, high))


def source_extent(sides, Layout layout, int axis):
    cdef Box box
    _fill(&box, sides)
    return _copy.source_extent(&box, &layout.spec.item, axis)


def is_one_run(sides, Layout layout):
    cdef Box box
    _fill(&box, sides)
    return bool(_copy.is_one_run(&box, &layout.spec.item))


def swap_run(Layout layout, size_t data, Py_ssize_t n):
    _copy.swap_run(&layout.spec.item, <char*> data, n)


def fill_box(sides, Layout layout, const uint8_t* fill, size_t dst):
    cdef Box box
    _fill(&box, sides)
    _copy.fill_box(&box, &layout.spec.item, <const char*> fill, <char*> dst)


def all_fill(size_t data, Py_ssize_t n, Py_ssize_t itemsize, const uint8_t* fill, int kind,
             bint swapped):
    return bool(_copy.all_fill(<char*> data, n, itemsize, <const char*> fill, <FillKind> kind,
                               swapped))


cdef class Described:
    """A region in C's memory: a box, where it begins on both sides, and offsets or None."""

    cdef Region region
    cdef Numbers offsets, array_offsets

    def __cinit__(self, sides, Py_ssize_t offset, size_t data, offsets, array_offsets):
        _fill(&self.region.box, sides)
        self.region.offset = offset
        self.region.data = <char*> data
        self.region.is_scattered = offsets is not None
        if offsets is not None:
            self.offsets = Numbers(offsets)
            self.array_offsets = Numbers(array_offsets)
            self.region.n = len(offsets)
            self.region.offsets = self.offsets.data
            self.region.array_offsets = self.array_offsets.data


def copy_out(region, Layout layout, size_t chunk):
    cdef Described described = Described(*region)
    _copy.copy_out(&described.region, &layout.spec.item, <char*> chunk)


def copy_in(region, Layout layout, size_t chunk):
    cdef Described described = Described(*region)
    _copy.copy_in(&described.region, &layout.spec.item, <char*> chunk)


def fill_out(region, Layout layout, const uint8_t* fill):
    cdef Described described = Described(*region)
    _copy.fill_out(&described.region, &layout.spec.item, <const char*> fill)


# ---------------------------------------------------------------------------------------------
# indexing/_region and indexing/_plan

def make_region(axes, points, Layout layout, bint writing, part=None):
    """What becomes of a selection; ``part``: by ``task_region``, with that ``is_part``."""
    cdef Selected selected = Selected(axes, points)
    cdef Buffer pairs
    cdef Region region
    cdef Task task
    cdef Tasks tasks
    cdef Status status
    cdef char* base = <char*> &tasks  # any address will do
    memset(&pairs, 0, sizeof(Buffer))
    memset(&region, 0xAB, sizeof(Region))
    if part is None:
        status = _region.make_region(&selected.select, selected.ndim, &layout.spec.item, base,
                                     writing, &pairs, &region)
    else:
        tasks.ndim = selected.ndim
        tasks.data = base - 40
        tasks.layout = &layout.spec
        task.select = selected.select
        task.array_offset = 40
        task.is_part = part
        _region.make_region(&selected.select, selected.ndim, &layout.spec.item, base, writing,
                            &pairs, &region)
        task.part_low = region.low
        task.part_high = region.high
        status = _region.task_region(&tasks, &task, writing, &pairs, &region)
    try:
        if status != OK:
            return status, None
        return status, {
            "sides": (
                _listed(region.box.count, region.box.ndim),
                _listed(region.box.src_stride, region.box.ndim),
                _listed(region.box.dst_stride, region.box.ndim),
            ),
            "data": region.data - base,
            "nbytes": region.nbytes,
            "covers": bool(region.covers),
            "low": region.low,
            "high": region.high,
            "offset": region.offset,
            "offsets": _listed(region.offsets, region.n) if region.is_scattered else None,
            "array_offsets": (
                _listed(region.array_offsets, region.n) if region.is_scattered else None
            ),
        }
    finally:
        free(pairs.data)


def n_touched(axis, Py_ssize_t inner):
    cdef Selected selected = Selected([axis], None)
    return _region.n_touched(selected.axes, inner)


def most_touched(Shard shard, axes, points, Py_ssize_t n):
    cdef Selected selected = Selected(axes, points)
    return _region.most_touched(&shard.spec, &selected.select, n)


def first_place(axes, points):
    cdef Selected selected = Selected(axes, points)
    cdef const char* base = <char*> &selected.axes
    return _region.first_place(&selected.select, selected.ndim, base) - base


def split_selection(Shard shard, axes, points, Py_ssize_t data):
    """Of every inner chunk in which something is selected its index, axes, points, and data."""
    cdef Selected selected = Selected(axes, points)
    cdef Axis parts[MAX_NDIM]
    cdef Selection inner
    cdef _region.Split split
    cdef char* base = <char*> &inner
    cdef char* place
    cdef Py_ssize_t i, index
    cdef Status status
    cdef list found = []
    memset(&split, 0xAB, sizeof(split))
    status = _region.split_selection(&shard.spec, &selected.select, &split)
    try:
        for i in range(split.n if status == OK else 0):
            memset(parts, 0xAB, sizeof(parts))
            memset(&inner, 0xAB, sizeof(inner))
            place = base + data
            index = _region.inner_selection(&shard.spec, &selected.select, &split, i, parts,
                                            &inner, &place)
            found.append((index, *_described(&inner, shard.spec.ndim), place - base,
                          bool(inner.has_lists)))
        return status, found
    finally:
        _region.free_split(&split)
        _region.free_split(&split)  # of zeros is fine


def task_of(Plan plan, Py_ssize_t i):
    """A task's axes and points, and the rest of what planning decides."""
    cdef Task* task = plan.task(i)
    axes, points = _described(&task.select, plan.ndim)
    return axes, points, {
        "array_offset": task.array_offset,
        "nbytes": task.nbytes,
        "complete": bool(task.complete),
        "covers": bool(task.covers),
        "empty": bool(task.empty),
        "has_lists": bool(task.select.has_lists),
    }


def needed(axes, points):
    cdef Selected selected = Selected(axes, points)
    cdef Py_ssize_t low, high
    needed_items(&selected.select, selected.ndim, &low, &high)
    return low, high


include "kernels_index.pxi"
