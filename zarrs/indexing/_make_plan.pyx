"""From zarr's description of a call to a plan.

zarr hands a pipeline one tuple a chunk: where its bytes are, its specification, the selection in
the chunk and the selection in the array. Here these become tasks, checked against the shapes.
"""

from cpython.tuple cimport PyTuple_GET_ITEM
from libc.stdint cimport int64_t
from libc.string cimport memchr

from zarrs._core cimport MAX_NDIM, Axis, Shard, ShardSpec, Task
from zarrs.indexing._basic cimport plan_basic
from zarrs.indexing._fancy cimport plan_fancy
from zarrs.indexing._plan cimport Plan, Target, see_array, see_buffer

from zarr.codecs.sharding import _ShardingByteGetter, _ShardingByteSetter
from zarr.core.buffer.cpu import Buffer
from zarr.storage import StorePath


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

cdef object _StorePath = StorePath
cdef object _InnerGetter = _ShardingByteGetter
cdef object _InnerSetter = _ShardingByteSetter
cdef object _Buffer = Buffer


cdef class _Maker:
    """Makes a plan chunk by chunk; every step returns a reason why there is none, or None."""

    cdef Plan plan
    cdef object locate
    cdef object describe
    cdef tuple drop_axes
    cdef bint keeps_overhang
    cdef int order[MAX_NDIM]
    cdef Target target
    cdef const ShardSpec* shard  # NULL: chunks are no shards
    # What the chunk before had, which usually holds for the next one.
    cdef object store
    cdef bytes prefix
    cdef object spec
    cdef tuple shape
    cdef Py_ssize_t chunk_shape[MAX_NDIM]
    cdef int64_t nbytes

    cdef str add(self, Py_ssize_t i, tuple item):
        """Make the task of one chunk."""
        cdef Task* task = self.plan.tasks.items + i
        reason = self.see_source(i, item[0], task)
        if reason is None and item[1] is not self.spec:
            reason = self.see_spec(item[1])
        if reason is not None:
            return reason
        task.nbytes = self.nbytes
        task.whole = bool(item[4])
        task.complete = task.whole and not self.keeps_overhang
        reason = self.see_selection(i, item, task)
        if reason is not None or task.empty:
            return reason
        return self.plan.count(task, self.shard)

    cdef str see_source(self, Py_ssize_t i, object source, Task* task):
        """Find where the bytes are: in a file, or handed over in memory."""
        cdef Plan plan = self.plan
        cdef bint is_inner = type(source) is _InnerGetter or type(source) is _InnerSetter
        cdef Py_ssize_t n
        cdef const char* key
        if not (is_inner or type(source) is _StorePath) or (
            i > 0 and is_inner != (self.store is None)
        ):
            return f"chunks come from {type(source).__name__}, not from a store"
        if not is_inner and source.store is not self.store:
            if self.store is not None:
                return "the chunks of one call are in several stores"
            self.store = source.store
            located = self.locate(self.store)
            if isinstance(located, str):
                return located
            self.prefix = located
        if i == 0:
            plan.in_memory = self.prefix is None or is_inner
        if is_inner:
            return self.see_stored(source, task)
        path = source.path
        if not plan.in_memory:
            try:
                key = PyUnicode_AsUTF8AndSize(path, &n)
            except UnicodeEncodeError:
                return "a chunk's key is no valid UTF-8"
            if memchr(key, 0, n) != NULL:
                return "a chunk's key holds a NUL character"
            plan.add_path(task, self.prefix, len(self.prefix), key, n)
        plan.named.append(path)
        return None

    cdef str see_stored(self, object source, Task* task):
        """Find an inner chunk that zarr's own sharding codec holds in memory."""
        cdef object stored = source.shard_dict.get(source.chunk_coords)
        self.plan.named.append(source.chunk_coords)
        if stored is None:
            return None
        if not isinstance(stored, _Buffer):
            return f"a chunk is in a {type(stored).__name__}, not in a buffer of the CPU"
        self.plan.kept.append(see_buffer(stored, &task.stored, &task.stored_size))
        return None

    cdef str see_spec(self, object spec):
        """Note the shape and the size of chunks."""
        cdef int a
        described = self.describe(spec)
        if isinstance(described, str):
            return described
        self.spec = spec
        self.shape, self.nbytes = described
        for a in range(self.plan.ndim):
            self.chunk_shape[a] = self.shape[a]
        return None

    cdef str see_selection(self, Py_ssize_t i, tuple item, Task* task):
        """Put what is selected into the task, its axes in stored order."""
        cdef int ndim = self.plan.ndim
        cdef Axis* axes = self.plan.axes + i * ndim
        cdef Axis axis[MAX_NDIM]
        cdef bint is_basic = False
        cdef int k
        cdef str reason = None
        task.select.axes = axes
        for k in range(ndim):
            axis[k].size = self.chunk_shape[k]
        if not self.drop_axes:
            reason = plan_basic(PyTuple_GET_ITEM(item, 2), PyTuple_GET_ITEM(item, 3), axis, ndim,
                                &self.target, &task.array_offset, &is_basic)
        if reason is None and not is_basic:
            task.array_offset = 0
            reason = plan_fancy(self.plan, &task.select, axis, ndim, self.order, item[2], item[3],
                                self.drop_axes, &self.target, &task.array_offset)
        if reason is not None:
            return reason
        task.covers = not (task.select.has_lists or task.select.has_points)
        for k in range(ndim):
            axes[k] = axis[self.order[k]]
            task.covers = task.covers and axes[k].count == axes[k].size
            task.empty = task.empty or axes[k].count == 0
        return None


def make_plan(
    list batch,
    object array,
    tuple order,
    Py_ssize_t itemsize,
    object locate,
    object describe,
    bint broadcast,
    tuple drop_axes=(),
    Shard shard=None,
    bint keeps_overhang=False,
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
    shard : Shard, optional
        What chunks are, if they are shards.
    keeps_overhang : bool
        Whether a write keeps what a chunk at the array's edge holds beyond it. If it does not, a
        chunk is complete when zarr says so.

    Returns
    -------
    Plan or str
        The plan, or the reason why there is none.
    """
    cdef Py_ssize_t n = len(batch)
    cdef Py_ssize_t i
    cdef _Maker maker
    cdef str reason
    if len(order) > MAX_NDIM:
        return f"arrays of {len(order)} dimensions are not planned natively"
    maker = _Maker.__new__(_Maker)
    maker.plan = Plan(n, len(order), array, itemsize)
    maker.plan.named = []
    maker.locate = locate
    maker.describe = describe
    maker.drop_axes = drop_axes
    maker.keeps_overhang = keeps_overhang
    maker.target = see_array(array, broadcast)
    for i in range(len(order)):
        maker.order[i] = order[i]
    if shard is not None:
        maker.shard = &shard.spec
    for i in range(n):
        reason = maker.add(i, batch[i])
        if reason is not None:
            return reason
    if not maker.plan.in_memory:
        maker.plan.paths_are_complete()
    return maker.plan
