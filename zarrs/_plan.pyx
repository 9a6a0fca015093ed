"""From zarr's description of a call to integers.

Zarr hands a pipeline one tuple a chunk: where its bytes are, its specification, the selection in
the chunk and the selection in the array. Here these become tasks: a path or bytes in memory, and
axis by axis what is selected, all checked against the shapes, so that what runs without the GIL
needs to check nothing. The axes of a task are in the order in which the chunk is stored.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy

from zarrs._core cimport (
    MAX_INNER_CHUNKS,
    MAX_NDIM,
    Axis,
    Failure,
    Selection,
    ShardSpec,
    Task,
    Tasks,
)
from zarrs._fancy cimport Target, plan_fancy
from zarrs._region cimport most_touched

import numpy as np
from zarr.codecs.sharding import _ShardingByteGetter, _ShardingByteSetter
from zarr.core.buffer.cpu import Buffer
from zarr.storage import StorePath


cdef extern from "Python.h":
    bint PySlice_Check(PyObject*)
    int PySlice_Unpack(PyObject*, Py_ssize_t*, Py_ssize_t*, Py_ssize_t*) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t*, Py_ssize_t*, Py_ssize_t)
    Py_ssize_t PyLong_AsSsize_t(PyObject*) except? -1
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    void zarrs_store(Py_ssize_t* p, Py_ssize_t x)

cdef object _StorePath = StorePath
cdef object _InnerGetter = _ShardingByteGetter
cdef object _InnerSetter = _ShardingByteSetter
cdef object _Buffer = Buffer
cdef object _integer = np.integer


cdef class Encoded:
    """The bytes of an encoded chunk, for whoever stores them; a read-only buffer."""

    cdef uint8_t* data
    cdef Py_ssize_t size

    def __dealloc__(self):
        free(self.data)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* view, int flags):
        # PyBuffer_FillInfo would forget the reference to None that Cython has put there.
        if flags & PyBUF_WRITABLE == PyBUF_WRITABLE:
            raise BufferError("the bytes of an encoded chunk are read-only")
        view.buf = self.data
        view.obj = self
        view.len = self.size
        view.itemsize = 1
        view.readonly = True
        view.ndim = 1
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b"B"
        view.shape = &self.size
        view.strides = &view.itemsize
        view.suboffsets = NULL
        view.internal = NULL


cdef class Plan:
    """All tasks of one call.

    Attributes
    ----------
    n_tasks : int
        Number of chunks.
    n_units : int
        Number of chunks, or of inner chunks, in which something is selected.
    in_memory : bool
        Whether what is stored of chunks is handed over in memory: in a ``Batch`` or, inner chunks
        of zarr's own sharding codec, by their getters. A write then ends with ``take_encoded``.
    keys : list
        The store key of every chunk (str); of an inner chunk that zarr's own sharding codec holds,
        its place in its shard (tuple of int).
    is_simple : bool
        Whether every chunk's selection is one box.
    touched_bytes, prefix_bytes, chunk_bytes : int
        Bytes of decoded chunks: from the first to the last that is needed, up to the last that is
        needed, and altogether. Of shards, the inner chunks that are needed count.
    """

    def __cinit__(self):
        self.tasks = NULL
        self.axes = NULL
        self.paths = NULL

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.tasks != NULL and self.tasks.items != NULL:
            for i in range(self.n_tasks):
                free(self.tasks.items[i].encoded)
            free(self.tasks.items)
        free(self.tasks)
        free(self.axes)
        for i in range(self.n_blocks):
            free(self.blocks[i])
        free(self.blocks)
        free(self.paths)

    def cancel(self) -> None:
        """Let a running call skip the tasks that it has not begun."""
        zarrs_store(&self.first_failed, -1)

    def configure(
        self, *, cached_files: int, direct: bool, sync: bool, max_gap: int, max_span: int,
    ) -> None:
        """Set how files are read and written.

        Parameters
        ----------
        cached_files : int
            How many are kept open from call to call.
        direct : bool
            Whether to use direct I/O where the file system takes it.
        sync : bool
            Whether a write ends when everything is on the disk.
        max_gap, max_span : int
            Inner chunks of a shard are read in one go if at most so many bytes are between them,
            and if it is at most so many bytes in all.
        """
        self.tasks.files.cache_size = cached_files
        self.tasks.files.direct = direct
        self.tasks.files.top = &self.top if sync else NULL
        self.tasks.max_gap = max_gap
        self.tasks.max_span = max_span

    def failure(self) -> tuple[int, int, int, int, int, int, int, int] | None:
        """Index, status, stage, depth, inner, code, expected, found of the first failed task."""
        cdef Py_ssize_t i
        cdef Failure* f
        for i in range(self.n_tasks):
            f = &self.tasks.items[i].failure
            if f.status > 1:
                return i, f.status, f.stage, f.depth, f.inner, f.code, f.expected, f.found
        return None

    @property
    def has_failed(self) -> bool:
        """Whether a task has failed, or the call was cancelled."""
        return zarrs_load(&self.first_failed) < self.n_tasks

    def to_run(self) -> list[int]:
        """The tasks in which something is selected."""
        cdef Py_ssize_t i
        return [i for i in range(self.n_tasks) if not self.tasks.items[i].empty]

    def merges(self, Py_ssize_t i) -> bool:
        """Whether a write of this task needs what is stored."""
        cdef const Task* task = self.task(i)
        return not (task.complete or task.covers)

    def nbytes(self, Py_ssize_t i) -> int:
        """The size of a decoded chunk."""
        return self.task(i).nbytes

    cdef Task* task(self, Py_ssize_t i) except NULL:
        if not 0 <= i < self.n_tasks:
            raise IndexError(f"there is no task {i} of {self.n_tasks}")
        return &self.tasks.items[i]

    def take_encoded(self, Py_ssize_t i) -> Encoded | None:
        """The bytes that a task which was run wants stored; None: the chunk is to be deleted."""
        cdef Task* task = self.task(i)
        cdef Encoded taken
        if task.encoded == NULL:
            return None
        taken = Encoded.__new__(Encoded)
        taken.data = task.encoded
        taken.size = task.encoded_size
        task.encoded = NULL
        return taken

    cdef int needed_bytes(
        self, Py_ssize_t i, Py_ssize_t* low, Py_ssize_t* high,
    ) except -1:
        """From which to which byte of a decoded chunk something is needed."""
        _needed(&self.task(i).select, self.ndim, low, high)
        low[0] *= self.itemsize
        high[0] *= self.itemsize
        return 0

    def results(self, present: object, missing: object) -> tuple[object, ...]:
        """For every task of a read, one object or the other."""
        cdef Py_ssize_t i
        cdef Task* items = self.tasks.items
        return tuple([
            missing if items[i].failure.status == 1 else present for i in range(self.n_tasks)
        ])

    cdef Py_ssize_t* add_list(self, Py_ssize_t n) except NULL:
        """Memory for ``n`` numbers that lives as long as the plan."""
        cdef void* block = malloc(max(n, 1) * sizeof(Py_ssize_t))
        cdef void** blocks = self.blocks
        if self.n_blocks & (self.n_blocks - 1) == 0:  # full: twice as many
            blocks = <void**> realloc(blocks, max(2 * self.n_blocks, 1) * sizeof(void*))
            if blocks != NULL:
                self.blocks = blocks
        if blocks == NULL or block == NULL:
            free(block)
            raise MemoryError(f"no memory for {n} indices")
        self.blocks[self.n_blocks] = block
        self.n_blocks += 1
        return <Py_ssize_t*> block

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
        self.top = n_root - 1
        self.paths_size = needed
        return 0


cdef class Batch:
    """Tasks of a plan that a loop runs over, with what was fetched of them.

    Several batches of a plan can run at the same time, each task in one of them.

    Parameters
    ----------
    plan : Plan
    fetched : list of (int, bool, Buffer or None), optional
        For every task its number; whether the bytes are, of a raw chunk, only those from the first
        to the last that is needed; and the bytes, None if nothing is stored. Default: all tasks.
    """

    def __cinit__(self, Plan plan, list fetched=None):
        self.plan = plan
        self.kept = []
        self.tasks = <Tasks*> malloc(sizeof(Tasks))
        if self.tasks == NULL:
            raise MemoryError("no memory for a plan")
        self.tasks[0] = plan.tasks[0]
        if fetched is not None:
            self.tasks.n = 0
            self.numbers = <Py_ssize_t*> malloc(max(len(fetched), 1) * sizeof(Py_ssize_t))
            self.tasks.chosen = self.numbers
            if self.numbers == NULL:
                raise MemoryError(f"no memory for a plan of {len(fetched)} chunks")
            for number, is_part, buffer in fetched:
                self.add(number, is_part, buffer)

    cdef int add(self, Py_ssize_t number, bint is_part, object buffer) except -1:
        cdef Task* task = self.plan.task(number)
        task.is_part = is_part
        if buffer is not None:
            self.kept.append(see_buffer(buffer, &task.stored, &task.stored_size))
        self.numbers[self.tasks.n] = number
        self.tasks.n += 1
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t k
        if self.numbers != NULL and self.plan is not None:
            for k in range(self.tasks.n):  # what was fetched is kept no longer
                self.plan.tasks.items[self.numbers[k]].stored = NULL
        free(self.numbers)
        free(self.tasks)


cdef object see_buffer(object buffer, const uint8_t** data, Py_ssize_t* size):
    """Find the bytes of one of zarr's buffers; the array that is returned keeps them."""
    cdef Py_buffer view
    if not isinstance(buffer, _Buffer):
        raise TypeError(f"expected a buffer of the CPU's memory, found {type(buffer).__name__}")
    array = np.ascontiguousarray(buffer.as_numpy_array())
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    data[0] = <const uint8_t*> view.buf
    size[0] = view.len
    PyBuffer_Release(&view)
    return array


cdef inline object _add_stored(Plan plan, Task* task, object getter):
    # An inner chunk that zarr's own sharding codec holds in memory; returns a reason why not.
    cdef object stored = getter.shard_dict.get(getter.chunk_coords)
    plan.keys.append(getter.chunk_coords)
    if stored is None:
        return None
    if not isinstance(stored, _Buffer):
        return f"a chunk is in a {type(stored).__name__}, not in a buffer of the CPU"
    plan.kept.append(see_buffer(stored, &task.stored, &task.stored_size))
    return None


cdef str _plan_basic(
    PyObject* chunk_selection, PyObject* out_selection, Axis* axes, int ndim,
    const Target* target, Py_ssize_t* array_offset, bint* is_basic,
):
    # Slices and integers, the usual case: from tuples to ranges without making Python objects.
    # Returns a reason why not, or None; `is_basic` is False if there is anything else.
    cdef Py_ssize_t start, stop, by
    cdef Py_ssize_t n_out
    cdef int out_axis = 0
    cdef int a
    cdef Axis* axis
    cdef PyObject* sel
    is_basic[0] = (
        PyTuple_CheckExact(<object> chunk_selection) and PyTuple_CheckExact(<object> out_selection)
    )
    if not is_basic[0]:
        return None
    if PyTuple_GET_SIZE(<object> chunk_selection) != ndim:
        return "the selection does not name every axis of the chunk"
    n_out = PyTuple_GET_SIZE(<object> out_selection)
    for a in range(ndim):
        sel = PyTuple_GET_ITEM(<object> chunk_selection, a)
        axis = &axes[a]
        axis.stride = 0
        axis.step = 1
        axis.chosen = NULL
        if PySlice_Check(sel):
            PySlice_Unpack(sel, &axis.start, &stop, &by)
            axis.count = PySlice_AdjustIndices(axis.size, &axis.start, &stop, by)
            if by < 1:
                return "the selection has a backward slice"
            if axis.count > 1:  # of one item the step is no distance
                axis.step = by
            if out_axis >= n_out or (not target.broadcast and out_axis >= target.ndim):
                return "the selections in chunk and array do not match"
            sel = PyTuple_GET_ITEM(<object> out_selection, out_axis)
            if not PySlice_Check(sel):
                is_basic[0] = False
                return None
            if not target.broadcast:
                PySlice_Unpack(sel, &start, &stop, &by)
                if by < 1 or axis.count != PySlice_AdjustIndices(
                    target.shape[out_axis], &start, &stop, by
                ):
                    return "the selections in chunk and array do not match"
                array_offset[0] += start * target.stride[out_axis]
                if axis.count > 1:
                    axis.stride = by * target.stride[out_axis]
            out_axis += 1
        elif PyLong_CheckExact(<object> sel) or isinstance(<object> sel, _integer):
            axis.start = (
                PyLong_AsSsize_t(sel) if PyLong_CheckExact(<object> sel) else int(<object> sel)
            )
            if axis.start < 0 or axis.start >= axis.size:
                return "the selection has an integer outside of the chunk"
            axis.count = 1
        else:
            is_basic[0] = False
            return None
    if out_axis != n_out or (not target.broadcast and out_axis != target.ndim):
        return "the selections in chunk and array do not match"
    return None


cdef void _needed(
    const Selection* select, int ndim, Py_ssize_t* low, Py_ssize_t* high,
) noexcept:
    # From which to which item of a decoded chunk something is needed.
    cdef const Axis* axis
    cdef Py_ssize_t stride = 1
    cdef Py_ssize_t i
    cdef int k
    low[0] = 0
    high[0] = 1
    if select.has_points:
        low[0] = high[0] = select.points[0]
        for i in range(select.n_points):
            low[0] = min(low[0], select.points[i])
            high[0] = max(high[0], select.points[i])
        high[0] += 1
        return
    for k in range(ndim - 1, -1, -1):
        axis = &select.axes[k]
        if axis.chosen != NULL:
            low[0] += axis.chosen[0] * stride
            high[0] += axis.chosen[axis.count - 1] * stride
        else:
            low[0] += axis.start * stride
            high[0] += (axis.start + (axis.count - 1) * axis.step) * stride
        stride *= axis.size


def make_plan(
    list batch,
    object array,
    tuple order,
    Py_ssize_t itemsize,
    object locate,
    object describe,
    bint broadcast,
    tuple drop_axes=(),
    object shard=None,
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
        Maps the store to the file name prefix of its keys, as bytes; or to None, if chunks are
        fetched through its interface; or to a reason (str) why there is no plan.
    describe : callable
        Maps an ``ArraySpec`` to the shape of its chunk and its size in bytes, or to a reason.
    broadcast : bool
        Whether ``array`` is a single item, the value of every selected one.
    drop_axes : tuple of int
        Axes of one item that chunks have and ``array`` has not.
    shard : zarrs._core.Shard, optional
        What chunks are, if they are shards.

    Returns
    -------
    Plan or str
        The plan, or the reason why there is none.
    """
    cdef int ndim = <int> len(order)
    cdef Py_ssize_t n = len(batch)
    cdef Plan plan = Plan.__new__(Plan)
    cdef int axis_of[MAX_NDIM]
    cdef Py_ssize_t chunk_shape[MAX_NDIM]
    cdef Py_ssize_t array_shape[MAX_NDIM]
    cdef Py_ssize_t array_stride[MAX_NDIM]
    cdef const ShardSpec* inner = NULL
    cdef Axis axis[MAX_NDIM]
    cdef Target target
    cdef Py_ssize_t i, low, high, n_root, n_key, units
    cdef int64_t nbytes = 0
    cdef bint is_inner
    cdef bint is_basic = False
    cdef int a, k
    cdef const char* root
    cdef const char* key
    cdef Task* task
    cdef Axis* axes
    cdef tuple item
    cdef object getter, path
    cdef object store = None
    cdef object spec = None
    cdef bytes prefix = None

    if ndim > MAX_NDIM:
        return f"arrays of {ndim} dimensions are not planned natively"
    plan.n_tasks = n
    plan.ndim = ndim
    plan.itemsize = itemsize
    plan.array = array
    plan.keys = []
    plan.kept = []
    plan.is_simple = True
    plan.tasks = <Tasks*> calloc(1, sizeof(Tasks))
    if plan.tasks == NULL:
        raise MemoryError("no memory for a plan")
    plan.tasks.ndim = ndim
    plan.tasks.n = n
    plan.first_failed = n
    plan.tasks.first_failed = &plan.first_failed
    plan.tasks.data = <char*> <size_t> array.__array_interface__["data"][0]
    plan.tasks.items = <Task*> calloc(max(n, 1), sizeof(Task))
    plan.axes = <Axis*> malloc(max(n * ndim, 1) * sizeof(Axis))
    if plan.tasks.items == NULL or plan.axes == NULL:
        raise MemoryError(f"no memory for a plan of {n} chunks")
    for k in range(ndim):
        axis_of[k] = order[k]
    if shard is not None:
        inner = <const ShardSpec*> <size_t> shard.address
    target.broadcast = broadcast
    target.ndim = 0 if broadcast else <int> array.ndim
    target.shape = array_shape
    target.stride = array_stride
    for k in range(target.ndim):
        array_shape[k] = array.shape[k]
        array_stride[k] = array.strides[k]

    for i in range(n):
        item = batch[i]
        task = plan.tasks.items + i
        axes = plan.axes + i * ndim
        task.select.axes = axes
        getter = item[0]
        is_inner = type(getter) is _InnerGetter or type(getter) is _InnerSetter
        if not (is_inner or type(getter) is _StorePath) or (i > 0 and is_inner != (store is None)):
            return f"chunks come from {type(getter).__name__}, not from a store"
        if not is_inner and getter.store is not store:
            if store is not None:
                return "the chunks of one call are in several stores"
            store = getter.store
            located = locate(store)
            if isinstance(located, str):
                return located
            prefix = located
        if i == 0:
            plan.in_memory = prefix is None or is_inner
        if item[1] is not spec:
            spec = item[1]
            described = describe(spec)
            if isinstance(described, str):
                return described
            shape, size = described
            nbytes = size
            for a in range(ndim):
                chunk_shape[a] = shape[a]

        if is_inner:
            reason = _add_stored(plan, task, getter)
            if reason is not None:
                return reason
        elif plan.in_memory:
            plan.keys.append(getter.path)
        else:
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

        task.nbytes = nbytes
        task.complete = bool(item[4])
        task.array_offset = 0
        for a in range(ndim):
            axis[a].size = chunk_shape[a]
        reason = None
        if not drop_axes:
            reason = _plan_basic(PyTuple_GET_ITEM(item, 2), PyTuple_GET_ITEM(item, 3), axis, ndim,
                                 &target, &task.array_offset, &is_basic)
        if reason is None and not is_basic:
            task.array_offset = 0
            reason = plan_fancy(plan, &task.select, axis, ndim, axis_of, item[2], item[3],
                                drop_axes, &target, &task.array_offset)
        if reason is not None:
            return reason
        task.covers = not (task.select.has_lists or task.select.has_points)
        for k in range(ndim):
            axes[k] = axis[axis_of[k]]
            task.covers = task.covers and axes[k].count == axes[k].size
            task.empty = task.empty or axes[k].count == 0
        if task.empty:
            continue
        plan.is_simple = plan.is_simple and not (
            task.select.has_lists or task.select.has_points)
        if inner != NULL:
            units = 1
            for k in range(ndim):
                if inner.inner[k] < 1 or axes[k].size % inner.inner[k]:
                    return f"shards of shape {shape} do not hold whole inner chunks"
                if units > MAX_INNER_CHUNKS // max(axes[k].size // inner.inner[k], 1):
                    return f"shards of shape {shape} hold too many inner chunks"
                units *= axes[k].size // inner.inner[k]
            units = most_touched(inner, &task.select, units)
            plan.n_units += units
            plan.touched_bytes += units * inner.inner_nbytes
            plan.prefix_bytes += units * inner.inner_nbytes
            plan.chunk_bytes += units * inner.inner_nbytes
            continue
        _needed(&task.select, ndim, &low, &high)
        plan.n_units += 1
        plan.touched_bytes += (high - low) * itemsize
        plan.prefix_bytes += high * itemsize
        plan.chunk_bytes += nbytes

    if not plan.in_memory:
        for i in range(n):
            plan.tasks.items[i].path = plan.paths + <size_t> plan.tasks.items[i].path
    return plan
