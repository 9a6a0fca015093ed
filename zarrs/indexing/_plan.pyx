"""The plan of one call: tasks, as integers that have been checked.

A task says where the bytes of a chunk are, and axis by axis what is selected in it. Its axes are in
the order in which the chunk is stored. What runs without the GIL needs to check nothing.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT,
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset, strlen

from zarrs._core cimport (
    MAX_INNER_CHUNKS,
    MISSING,
    Axis,
    Failure,
    NativeChain,
    Selection,
    ShardSpec,
    Task,
    Tasks,
)
from zarrs.caching._chunk_cache cimport Section, hash_key
from zarrs.indexing._region cimport touched_by_all

import numpy as np
from zarr.core.buffer.cpu import Buffer


cdef extern from "_native/atomics.h" nogil:
    Py_ssize_t zarrs_load(const Py_ssize_t* p)
    void zarrs_lower(Py_ssize_t* p, Py_ssize_t x)
    void zarrs_store(Py_ssize_t* p, Py_ssize_t x)

cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
    #define NPY_TARGET_VERSION NPY_2_0_API_VERSION
    #include <numpy/arrayobject.h>
    #define ZARRS_IS_ARRAY(a) PyArray_Check(a)
    #define ZARRS_DATA(a) ((char *) PyArray_DATA((PyArrayObject *) (a)))
    #define ZARRS_NDIM(a) PyArray_NDIM((PyArrayObject *) (a))
    #define ZARRS_SHAPE(a) ((const Py_ssize_t *) PyArray_DIMS((PyArrayObject *) (a)))
    #define ZARRS_STRIDES(a) ((const Py_ssize_t *) PyArray_STRIDES((PyArrayObject *) (a)))
    """
    int _import_array() except -1
    bint is_array "ZARRS_IS_ARRAY"(object)
    char* data_of "ZARRS_DATA"(object)
    int ndim_of "ZARRS_NDIM"(object)
    const Py_ssize_t* shape_of "ZARRS_SHAPE"(object)
    const Py_ssize_t* strides_of "ZARRS_STRIDES"(object)

_import_array()

cdef object _Buffer = Buffer


cdef class Encoded:
    """The bytes of an encoded chunk, to be stored; a read-only buffer."""

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


cdef class Settings:
    """How files are read and written.

    Parameters
    ----------
    cached_files : int
        How many are kept open from call to call.
    direct : bool
        Whether to use direct I/O where the file system takes it.
    sync : bool
        Whether a write ends when everything is on the disk.
    exchange : bool
        Whether new files change names with old ones, which no file system syncs.
    max_gap, max_span : int
        The most bytes between two inner chunks of a shard that are read in one go, and the
        most bytes that are read in one go.
    """

    def __cinit__(
        self, *, int cached_files, bint direct, bint sync, bint exchange, Py_ssize_t max_gap,
        Py_ssize_t max_span,
    ):
        self.cached_files = cached_files
        self.direct = direct
        self.sync = sync
        self.exchange = exchange
        self.max_gap = max_gap
        self.max_span = max_span


cdef class Plan:
    """All tasks of one call.

    Attributes
    ----------
    n_tasks : int
        Number of chunks.
    n_units : int
        Number of chunks, or of inner chunks, in which something is selected.
    in_memory : bool
        Whether what is stored of chunks is handed over in memory: in a ``TaskSet`` or, inner chunks
        of zarr's own sharding codec, by their getters. A write then ends with ``take_encoded``.
    keys : list
        The store key of every chunk (str); of an inner chunk that zarr's own sharding codec holds,
        its place in its shard (tuple of int). Those of files are made of their names when somebody
        asks.
    is_simple : bool
        Whether every chunk's selection is one box.
    touched_bytes, prefix_bytes, chunk_bytes : int
        Bytes of decoded chunks: from the first to the last that is needed, up to the last that is
        needed, and altogether. Of shards, the inner chunks that are needed count.
    """

    def __cinit__(self, Py_ssize_t n, int ndim, object array, Py_ssize_t itemsize):
        if not is_array(array):
            raise TypeError(f"expected a NumPy array, found {type(array).__name__}")
        self.n_tasks = n
        self.ndim = ndim
        self.itemsize = itemsize
        self.array = array
        self.kept = []
        self.is_simple = True
        self.first_failed = n
        self.axes = <Axis*> malloc(max(n * ndim, 1) * sizeof(Axis))
        self.tasks = <Tasks*> calloc(1, sizeof(Tasks))
        if self.tasks == NULL or self.axes == NULL:
            raise MemoryError(f"no memory for a plan of {n} chunks")
        self.tasks.ndim = ndim
        self.tasks.n = n
        self.tasks.first_failed = &self.first_failed
        self.tasks.data = data_of(array)
        self.tasks.items = <Task*> calloc(max(n, 1), sizeof(Task))
        if self.tasks.items == NULL:
            raise MemoryError(f"no memory for a plan of {n} chunks")

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

    @property
    def keys(self) -> list[object]:
        cdef Py_ssize_t i
        if self.named is None:
            self.named = [
                self.tasks.items[i].path[self.n_root:].decode() for i in range(self.n_tasks)
            ]
        return self.named

    def cancel(self) -> None:
        """Let a running call skip the tasks that it has not begun."""
        zarrs_store(&self.first_failed, -1)

    def configure(self, Settings settings) -> None:
        """Set how files are read and written."""
        self.tasks.files.cache_size = settings.cached_files
        self.tasks.files.direct = settings.direct
        self.tasks.files.top = &self.top if settings.sync else NULL
        self.tasks.files.exchange = settings.exchange
        self.tasks.max_gap = settings.max_gap
        self.tasks.max_span = settings.max_span

    def use_cache(self, Section section not None) -> None:
        """Let a read that begins now use a cache, if all keys can be names there."""
        cdef Task* task
        cdef Py_ssize_t i, size
        for i in range(self.n_tasks):
            task = &self.tasks.items[i]
            if self.in_memory:
                try:
                    task.key = PyUnicode_AsUTF8AndSize(self.named[i], &size)
                except UnicodeEncodeError:
                    return
                if <Py_ssize_t> strlen(task.key) != size:
                    return
            else:
                task.key = task.path + self.n_root
            task.key_hash = hash_key(task.key)
        self.kept.append(section)
        section.lend(self.tasks)

    @property
    def has_cache(self) -> bool:
        """Whether a read uses a cache."""
        return self.tasks.cache != NULL

    @property
    def is_done(self) -> bool:
        """Whether no task is left to run."""
        cdef Py_ssize_t i
        for i in range(self.n_tasks):
            if not self.tasks.items[i].empty:
                return False
        return True

    def failure(self) -> tuple[int, int, int, int, int, int, int, int] | None:
        """Index, status, stage, depth, inner, code, expected, found of the first failed task."""
        cdef Py_ssize_t i
        cdef Failure* f
        for i in range(self.n_tasks):
            f = &self.tasks.items[i].failure
            if f.status > MISSING:
                return i, f.status, f.stage, f.depth, f.inner, f.code, f.expected, f.found
        return None

    def retract(self, Py_ssize_t i) -> None:
        """Forget that a task has failed, while no loop runs; what is left of the call can go on."""
        cdef Py_ssize_t k
        memset(&self.task(i).failure, 0, sizeof(Failure))
        if zarrs_load(&self.first_failed) < 0:  # cancelled
            return
        zarrs_store(&self.first_failed, self.n_tasks)
        for k in range(self.n_tasks):
            if self.tasks.items[k].failure.status > MISSING:
                zarrs_lower(&self.first_failed, k)

    def bytes_to_decode(self, NativeChain chain) -> int:
        """How many bytes a read with this chain decodes."""
        if chain.supports_partial_decode:
            return self.touched_bytes
        return self.prefix_bytes if chain.has_prefix else self.chunk_bytes

    @property
    def has_failed(self) -> bool:
        """Whether a task has failed, or the call was cancelled."""
        return zarrs_load(&self.first_failed) < self.n_tasks

    def to_run(self) -> list[int]:
        """The tasks in which something is selected that has not been read from a cache."""
        cdef Py_ssize_t i
        return [i for i in range(self.n_tasks) if not self.tasks.items[i].empty]

    def merges(self, Py_ssize_t i) -> bool:
        """Whether a write of this task needs what is stored."""
        cdef const Task* task = self.task(i)
        return not (task.complete or task.covers)

    def is_whole(self, Py_ssize_t i) -> bool:
        """Whether all is selected that the array has of a task's chunk."""
        return self.task(i).whole

    def shape(self, Py_ssize_t i) -> list[int]:
        """The shape of a task's chunk, its axes in the order in which it is stored."""
        return _shape(self.task(i), self.ndim)

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
        cdef const Task* task = self.task(i)
        cdef Py_ssize_t first, last, k
        needed_items(&task.select, self.ndim, low, high)
        for k in range(task.n_shares):
            needed_items(&task.shares[k].select, self.ndim, &first, &last)
            low[0] = min(low[0], first)
            high[0] = max(high[0], last)
        low[0] *= self.itemsize
        high[0] *= self.itemsize
        return 0

    def results(self, present: object, missing: object) -> tuple[object, ...]:
        """For every task of a read, one object or the other."""
        cdef Py_ssize_t i
        cdef Task* items = self.tasks.items
        return tuple([
            missing if items[i].failure.status == MISSING else present for i in range(self.n_tasks)
        ])

    def has_missing(self) -> bool:
        """Whether some chunk of a read is not stored."""
        cdef Py_ssize_t i
        for i in range(self.n_tasks):
            if self.tasks.items[i].failure.status == MISSING:
                return True
        return False

    cdef str count(self, const Task* task, const ShardSpec* shard):
        """Add to what a call touches what a task does; return a reason why it cannot be planned."""
        cdef const Axis* axes = task.select.axes
        cdef Py_ssize_t low = 0
        cdef Py_ssize_t high = 1
        cdef Py_ssize_t n = 1
        cdef int64_t nbytes
        cdef int k
        self.is_simple = self.is_simple and not (
            task.select.has_lists or task.select.has_points or task.n_shares > 0)
        if shard == NULL:
            if task.n_shares == 0:
                needed_items(&task.select, self.ndim, &low, &high)
            else:
                high = task.nbytes // max(self.itemsize, 1)
            self.n_units += 1
            self.touched_bytes += (high - low) * self.itemsize
            self.prefix_bytes += high * self.itemsize
            self.chunk_bytes += task.nbytes
            return None
        for k in range(self.ndim):
            if shard.inner[k] < 1 or axes[k].size % shard.inner[k]:
                return f"shards of shape {_shape(task, self.ndim)} do not hold whole inner chunks"
            if n > MAX_INNER_CHUNKS // max(axes[k].size // shard.inner[k], 1):
                return f"shards of shape {_shape(task, self.ndim)} hold too many inner chunks"
            n *= axes[k].size // shard.inner[k]
        n = touched_by_all(shard, task, n)
        nbytes = n * shard.inner_nbytes
        self.n_units += n
        self.touched_bytes += nbytes
        self.prefix_bytes += nbytes
        self.chunk_bytes += nbytes
        return None

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

    cdef int add_path(
        self, Task* task, const char* root, Py_ssize_t n_root, const char* key, Py_ssize_t n_key,
    ) except -1:
        """Say in which file a chunk is; ``paths_are_complete`` follows the last one.

        Paths lie in one piece of memory, which may move: they are offsets until then.
        """
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
        self.n_root = n_root
        self.paths_size = needed
        return 0

    cdef void paths_are_complete(self) noexcept:
        cdef Py_ssize_t i
        for i in range(self.n_tasks):
            self.tasks.items[i].path = self.paths + <size_t> self.tasks.items[i].path


cdef class TaskSet:
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
        if is_part:
            self.plan.needed_bytes(number, &task.part_low, &task.part_high)
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


cdef char* data_of_array(object array):
    """Return where an array's first item is."""
    return data_of(array)


cdef Target see_array(object array, bint broadcast):
    """Return the shape and the strides of an array, whose memory they are."""
    cdef Target target
    target.broadcast = broadcast
    target.ndim = 0 if broadcast else ndim_of(array)
    target.shape = shape_of(array)
    target.stride = strides_of(array)
    return target


cdef list _shape(const Task* task, int ndim):
    cdef int k
    return [task.select.axes[k].size for k in range(ndim)]


cdef void needed_items(
    const Selection* select, int ndim, Py_ssize_t* low, Py_ssize_t* high,
) noexcept:
    """From which to which item of a decoded chunk something is needed."""
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
            low[0] += (axis.chosen[0] - axis.origin) * stride
            high[0] += (axis.chosen[axis.count - 1] - axis.origin) * stride
        else:
            low[0] += axis.start * stride
            high[0] += (axis.start + (axis.count - 1) * axis.step) * stride
        stride *= axis.size


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
