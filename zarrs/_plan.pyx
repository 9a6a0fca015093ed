"""From zarr's description of a call to integers.

Zarr hands a pipeline one tuple a chunk: where its bytes are, its specification, the selection in
the chunk and the selection in the array. Here these become tasks: a path, byte offsets, counts and
byte strides, all checked against the shapes, so that what runs without the GIL needs to check
nothing. The axes of a task are in the order in which the chunk is stored: its byte strides fall.
"""

from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy

from zarrs._core cimport MAX_NDIM, Box, Failure, Task, Tasks

import numpy as np
from zarr.storage import StorePath


cdef extern from "Python.h":
    bint PySlice_Check(PyObject*)
    int PySlice_Unpack(PyObject*, Py_ssize_t*, Py_ssize_t*, Py_ssize_t*) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t*, Py_ssize_t*, Py_ssize_t)
    Py_ssize_t PyLong_AsSsize_t(PyObject*) except? -1
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from "_native/atomics.h" nogil:
    void zarrs_store(Py_ssize_t* p, Py_ssize_t x)

cdef object _StorePath = StorePath
cdef object _integer = np.integer


cdef class Plan:
    """All tasks of one call.

    Attributes
    ----------
    n_tasks : int
        Number of chunks.
    keys : list of str
        The store key of every chunk.
    touched_bytes, prefix_bytes, chunk_bytes : int
        Bytes of decoded chunks: from the first to the last that is needed, up to the last that is
        needed, and altogether.
    """

    def __cinit__(self):
        self.tasks = NULL
        self.boxes = NULL
        self.paths = NULL

    def __dealloc__(self):
        if self.tasks != NULL:
            free(self.tasks.items)
        free(self.tasks)
        free(self.boxes)
        free(self.paths)

    def cancel(self) -> None:
        """Let a running call skip the tasks that it has not begun."""
        zarrs_store(&self.tasks.first_failed, -1)

    def failure(self) -> tuple[int, int, int, int, int, int] | None:
        """Index, status, stage, code, expected and found of the first failed task."""
        cdef Py_ssize_t i
        cdef Failure* f
        for i in range(self.n_tasks):
            f = &self.tasks.items[i].failure
            if f.status > 1:
                return i, f.status, f.stage, f.code, f.expected, f.found
        return None

    def results(self, present: object, missing: object) -> tuple[object, ...]:
        """For every task of a read, one object or the other."""
        cdef Py_ssize_t i
        cdef Task* items = self.tasks.items
        return tuple([
            missing if items[i].failure.status == 1 else present for i in range(self.n_tasks)
        ])

    cdef int add_path(self, Task* task, const char* root, Py_ssize_t n_root,
                      const char* key, Py_ssize_t n_key) except -1:
        # Paths lie in one piece of memory, which may move: offsets until all are there.
        cdef size_t needed = self.paths_size + n_root + n_key + 1
        cdef char* moved
        if needed > self.paths_capacity:
            moved = <char*> realloc(self.paths, 2 * needed)
            if moved == NULL:
                raise MemoryError("no memory for the paths of a call")
            self.paths = moved
            self.paths_capacity = 2 * needed
        memcpy(self.paths + self.paths_size, root, n_root)
        memcpy(self.paths + self.paths_size + n_root, key, n_key)
        self.paths[needed - 1] = 0
        task.path = <const char*> self.paths_size
        self.paths_size = needed
        return 0


cdef void _load_box(const Tasks* tasks, const Task* task, Box* box,
                    Py_ssize_t* chunk_stride, Py_ssize_t* array_stride) noexcept nogil:
    cdef int k
    box.ndim = tasks.ndim
    for k in range(tasks.ndim):
        box.count[k] = task.box[k]
        chunk_stride[k] = task.box[tasks.ndim + k]
        array_stride[k] = task.box[2 * tasks.ndim + k]


cdef void read_box(const Tasks* tasks, const Task* task, Box* box) noexcept nogil:
    """The task's box, from chunk to array."""
    _load_box(tasks, task, box, box.src_stride, box.dst_stride)


cdef void write_box(const Tasks* tasks, const Task* task, Box* box) noexcept nogil:
    """The task's box, from array to chunk."""
    _load_box(tasks, task, box, box.dst_stride, box.src_stride)


def make_plan(
    list batch,
    object array,
    tuple order,
    Py_ssize_t itemsize,
    object locate,
    object describe,
    bint broadcast,
):
    """Plan a call.

    Parameters
    ----------
    batch : list of tuple
        What zarr hands a pipeline.
    array : numpy.ndarray
        The result to fill or the values to write; kept alive by the plan.
    order : tuple of int
        The array's axes in the order in which chunks are stored.
    itemsize : int
        Bytes of one item.
    locate : callable
        Maps the store to the file name prefix of its keys, as bytes, or to a reason (str) why its
        files cannot be used.
    describe : callable
        Maps an ``ArraySpec`` to the shape of its chunk and its size in bytes, or to a reason.
    broadcast : bool
        Whether ``array`` is a single item, the value of every selected one.

    Returns
    -------
    Plan or str
        The plan, or the reason why there is none.
    """
    cdef int ndim = <int> len(order)
    cdef Py_ssize_t n = len(batch)
    cdef Plan plan = Plan.__new__(Plan)
    cdef Py_ssize_t axis_of[MAX_NDIM]
    cdef Py_ssize_t chunk_shape[MAX_NDIM]
    cdef Py_ssize_t chunk_stride[MAX_NDIM]
    cdef Py_ssize_t array_shape[MAX_NDIM]
    cdef Py_ssize_t array_stride[MAX_NDIM]
    cdef Py_ssize_t count[MAX_NDIM]
    cdef Py_ssize_t step[MAX_NDIM]
    cdef Py_ssize_t stride[MAX_NDIM]
    cdef Py_ssize_t i, start, stop, by, stored, extent, n_root, n_key
    cdef int64_t nbytes = 0
    cdef int a, k, out_axis, array_ndim
    cdef const char* root
    cdef const char* key
    cdef PyObject* sel
    cdef PyObject* chunk_sel
    cdef PyObject* out_sel
    cdef Task* task
    cdef Py_ssize_t* box
    cdef tuple item
    cdef object getter, path
    cdef object store = None
    cdef object spec = None
    cdef bytes prefix = b""

    if ndim > MAX_NDIM:
        return f"arrays of {ndim} dimensions are not planned natively"
    plan.n_tasks = n
    plan.ndim = ndim
    plan.array = array
    plan.keys = []
    plan.tasks = <Tasks*> calloc(1, sizeof(Tasks))
    if plan.tasks == NULL:
        raise MemoryError("no memory for a plan")
    plan.tasks.ndim = ndim
    plan.tasks.first_failed = n
    plan.tasks.data = <char*> <size_t> array.__array_interface__["data"][0]
    plan.tasks.items = <Task*> calloc(max(n, 1), sizeof(Task))
    plan.boxes = <Py_ssize_t*> malloc(max(n * 3 * ndim, 1) * sizeof(Py_ssize_t))
    if plan.tasks.items == NULL or plan.boxes == NULL:
        raise MemoryError(f"no memory for a plan of {n} chunks")
    for k in range(ndim):
        axis_of[k] = order[k]
    array_ndim = 0 if broadcast else <int> array.ndim
    for k in range(array_ndim):
        array_shape[k] = array.shape[k]
        array_stride[k] = array.strides[k]

    for i in range(n):
        item = batch[i]
        task = plan.tasks.items + i
        box = plan.boxes + i * 3 * ndim
        task.box = box
        getter = item[0]
        if type(getter) is not _StorePath:
            return f"chunks come from {type(getter).__name__}, not from a store"
        if getter.store is not store:
            store = getter.store
            located = locate(store)
            if isinstance(located, str):
                return located
            prefix = located
        if item[1] is not spec:
            spec = item[1]
            described = describe(spec)
            if isinstance(described, str):
                return described
            shape, size = described
            nbytes = size
            for a in range(ndim):
                chunk_shape[a] = shape[a]
            stored = itemsize
            for k in range(ndim - 1, -1, -1):
                chunk_stride[axis_of[k]] = stored
                stored *= chunk_shape[axis_of[k]]

        path = getter.path
        root = prefix
        n_root = len(prefix)
        try:
            key = PyUnicode_AsUTF8AndSize(path, &n_key)
        except UnicodeEncodeError:
            return "a chunk's key is no valid UTF-8"
        if memchr(key, 0, n_key) != NULL:
            return "a chunk's key holds a NUL character"
        plan.add_path(task, root, n_root, key, n_key)
        plan.keys.append(path)

        chunk_sel = PyTuple_GET_ITEM(item, 2)
        out_sel = PyTuple_GET_ITEM(item, 3)
        if not PyTuple_CheckExact(<object> chunk_sel) or not PyTuple_CheckExact(<object> out_sel):
            return "the selection is not made of slices and integers"
        if PyTuple_GET_SIZE(<object> chunk_sel) != ndim:
            return "the selection does not name every axis of the chunk"
        task.nbytes = nbytes
        task.complete = bool(item[4])
        task.covers = True
        task.chunk_offset = 0
        task.array_offset = 0
        out_axis = 0
        for a in range(ndim):
            sel = PyTuple_GET_ITEM(<object> chunk_sel, a)
            stride[a] = 0
            if PySlice_Check(sel):
                PySlice_Unpack(sel, &start, &stop, &by)
                count[a] = PySlice_AdjustIndices(chunk_shape[a], &start, &stop, by)
                if by < 1:
                    return "the selection has a backward slice"
                if count[a] == 0:
                    task.empty = True
                step[a] = by if count[a] > 1 else 1  # of one item the step is no distance
                task.chunk_offset += start * chunk_stride[a]
                if out_axis >= PyTuple_GET_SIZE(<object> out_sel):
                    return "the selections in chunk and array do not match"
                sel = PyTuple_GET_ITEM(<object> out_sel, out_axis)
                if not PySlice_Check(sel):
                    return "the selection is not made of slices and integers"
                if not broadcast:
                    if out_axis >= array_ndim:
                        return "the selections in chunk and array do not match"
                    PySlice_Unpack(sel, &start, &stop, &by)
                    if by < 1 or count[a] != PySlice_AdjustIndices(
                        array_shape[out_axis], &start, &stop, by
                    ):
                        return "the selections in chunk and array do not match"
                    task.array_offset += start * array_stride[out_axis]
                    if count[a] > 1:
                        stride[a] = by * array_stride[out_axis]
                out_axis += 1
            else:
                if not PyLong_CheckExact(<object> sel) and not isinstance(<object> sel, _integer):
                    return "the selection is not made of slices and integers"
                start = (
                    PyLong_AsSsize_t(sel) if PyLong_CheckExact(<object> sel) else int(<object> sel)
                )
                if start < 0 or start >= chunk_shape[a]:
                    return "the selection has an integer outside of the chunk"
                count[a] = 1
                step[a] = 1
                task.chunk_offset += start * chunk_stride[a]
            if count[a] != chunk_shape[a]:
                task.covers = False
        if out_axis != PyTuple_GET_SIZE(<object> out_sel) or (
            not broadcast and out_axis != array_ndim
        ):
            return "the selections in chunk and array do not match"
        if task.empty:
            continue
        extent = itemsize
        for k in range(ndim):
            a = <int> axis_of[k]
            box[k] = count[a]
            box[ndim + k] = chunk_stride[a] * step[a]
            box[2 * ndim + k] = stride[a]
            extent += (count[a] - 1) * chunk_stride[a] * step[a]
        plan.touched_bytes += extent
        plan.prefix_bytes += task.chunk_offset + extent
        plan.chunk_bytes += nbytes

    for i in range(n):
        plan.tasks.items[i].path = plan.paths + <size_t> plan.tasks.items[i].path
    return plan
