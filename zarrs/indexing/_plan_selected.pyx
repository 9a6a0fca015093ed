"""From what is selected of an array to a plan, chunk by chunk without a Python object."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from zarrs._core cimport MAX_NDIM, Axis, Shard, ShardSpec, Task
from zarrs.indexing._grid cimport chunk_size, chunk_start
from zarrs.indexing._plan cimport Plan, Target, see_array
from zarrs.indexing._selected cimport Piece, Selected


cdef class _Maker:
    """Makes a plan chunk by chunk; a step returns a reason why there is none, or None."""

    cdef Plan plan
    cdef Selected selected
    cdef Target target
    cdef const ShardSpec* shard  # NULL: chunks are no shards
    cdef bint keeps_overhang
    cdef bytes prefix  # of files; None: chunks are in memory
    cdef char* key
    cdef Py_ssize_t n_head
    cdef Py_ssize_t* offsets[MAX_NDIM]  # of the places of a list, in bytes
    cdef Py_ssize_t stride[MAX_NDIM]  # in the array, of one place

    def __cinit__(self, Plan plan, Selected selected, prefix):
        self.plan = plan
        self.selected = selected
        self.prefix = prefix
        self.n_head = len(selected.grid.head)
        self.key = <char*> malloc(self.n_head + selected.grid.key_size() + 1)
        if self.key == NULL:
            raise MemoryError("no memory for a chunk's key")
        memcpy(self.key, <const char*> selected.grid.head, self.n_head)

    def __dealloc__(self):
        free(self.key)

    cdef int see_axes(self) except -1:
        """Find where places of the result are in the array, in bytes."""
        cdef Selected selected = self.selected
        cdef Py_ssize_t i
        cdef Py_ssize_t* places
        cdef int k
        for k in range(self.plan.ndim):
            self.stride[k] = 0
            if selected.result_axis[k] >= 0 and not self.target.broadcast:
                self.stride[k] = self.target.stride[selected.result_axis[k]]
            if selected.n_listed[k] == 0:
                continue
            places = selected.lists[k] + selected.n_listed[k]
            self.offsets[k] = self.plan.add_list(selected.n_listed[k])
            for i in range(selected.n_listed[k]):
                self.offsets[k][i] = places[i] * self.stride[k]
        return 0

    cdef str add_chunk(self, Py_ssize_t i, const Py_ssize_t* at):
        """Make the task of the chunk that a piece of every axis is in; ``at`` are their numbers."""
        cdef int ndim = self.plan.ndim
        cdef Task* task = self.plan.tasks.items + i
        cdef Axis* axes = self.plan.axes + i * ndim
        cdef Axis* axis
        cdef const Piece* piece
        cdef Py_ssize_t numbers[MAX_NDIM]
        cdef int k, a
        task.select.axes = axes
        task.nbytes = self.plan.itemsize
        task.whole = task.covers = True
        for k in range(ndim):
            a = self.selected.grid.order[k]
            piece = &self.selected.pieces[a][at[a]]
            axis = &axes[k]
            numbers[a] = piece.chunk
            axis.size = piece.size
            axis.start = piece.start
            axis.step = piece.step
            axis.count = piece.count
            axis.origin = 0
            axis.chosen = piece.chosen
            axis.array_offsets = NULL
            axis.stride = 0
            if piece.chosen != NULL:
                task.select.has_lists = True
                axis.origin = chunk_start(&self.selected.grid.axes[a], piece.chunk)
                axis.array_offsets = self.offsets[a] + (piece.chosen - self.selected.lists[a])
            else:
                task.array_offset += piece.place * self.stride[a]
                if piece.count > 1:
                    axis.stride = piece.place_step * self.stride[a]
            task.nbytes *= piece.size
            task.whole = task.whole and piece.whole
            task.covers = task.covers and piece.chosen == NULL and piece.count == piece.size
        return self.add_task(task, numbers)

    cdef str add_points(self, Py_ssize_t i, Py_ssize_t* offsets):
        """Make the task of a chunk in which points are, with their ``offsets`` in the array."""
        cdef Selected selected = self.selected
        cdef int ndim = self.plan.ndim
        cdef Task* task = self.plan.tasks.items + i
        cdef Axis* axes = self.plan.axes + i * ndim
        cdef const Py_ssize_t* numbers = selected.chunks + i * ndim
        cdef Py_ssize_t first = selected.first_points[i]
        cdef int k, a
        task.select.axes = axes
        task.select.has_points = True
        task.select.n_points = selected.first_points[i + 1] - first
        task.select.points = selected.points + first
        task.select.array_offsets = offsets + first
        task.nbytes = self.plan.itemsize
        for k in range(ndim):
            a = selected.grid.order[k]
            memset(&axes[k], 0, sizeof(Axis))
            axes[k].size = chunk_size(&selected.grid.axes[a], numbers[a])
            axes[k].step = 1
            axes[k].count = task.select.n_points  # nothing but 0 matters
            task.nbytes *= axes[k].size
        return self.add_task(task, numbers)

    cdef str add_task(self, Task* task, const Py_ssize_t* numbers):
        """Say where a chunk is stored, and count it."""
        cdef str reason
        task.complete = task.whole and not self.keeps_overhang
        reason = self.add_key(task, numbers)
        return reason if reason is not None else self.plan.count(task, self.shard)

    cdef str add_chunks(self):
        """Make the tasks of all combinations of the axes' pieces, in C order."""
        cdef Py_ssize_t at[MAX_NDIM]
        cdef Py_ssize_t i
        cdef int k
        cdef str reason
        memset(at, 0, sizeof(at))
        self.see_axes()
        for i in range(self.plan.n_tasks):
            reason = self.add_chunk(i, at)
            if reason is not None:
                return reason
            for k in range(self.plan.ndim - 1, -1, -1):
                at[k] += 1
                if at[k] < self.selected.n[k]:
                    break
                at[k] = 0
        return None

    cdef str add_chunks_of_points(self):
        """Make the tasks of the chunks in which points are."""
        cdef Py_ssize_t stride = 0 if self.target.broadcast else self.target.stride[0]
        cdef Py_ssize_t n = self.selected.n_points
        cdef Py_ssize_t* offsets = self.plan.add_list(n)
        cdef Py_ssize_t i
        cdef str reason
        for i in range(n):
            offsets[i] = self.selected.point_places[i] * stride
        for i in range(self.plan.n_tasks):
            reason = self.add_points(i, offsets)
            if reason is not None:
                return reason
        return None

    cdef str add_key(self, Task* task, const Py_ssize_t* numbers):
        """Say where a chunk is stored."""
        cdef Py_ssize_t n
        if self.selected.grid.encode is not None:
            key = self.selected.grid.encode(
                tuple([numbers[k] for k in range(self.plan.ndim)]))
            if self.prefix is None:
                self.plan.named.append(key)
                return None
            try:
                name = key.encode()
            except UnicodeEncodeError:
                return "a chunk's key is no valid UTF-8"
            if b"\0" in name:
                return "a chunk's key holds a NUL character"
            self.plan.add_path(task, self.prefix, len(self.prefix), name, len(name))
            return None
        n = self.n_head + self.selected.grid.put_numbers(numbers, self.key + self.n_head)
        if self.prefix is None:
            self.plan.named.append(self.key[:n].decode())
        else:
            self.plan.add_path(task, self.prefix, len(self.prefix), self.key, n)
        return None


def plan_selected(
    Selected selected, object array, Py_ssize_t itemsize, bytes prefix, bint broadcast,
    Shard shard, bint keeps_overhang,
):
    """Plan a call.

    Parameters
    ----------
    selected : Selected
        What is selected, with the grid of the array's chunks.
    array : numpy.ndarray
        The result to fill or the values to write, of the selection's shape; kept alive by the plan.
    itemsize : int
        Bytes of one item.
    prefix : bytes or None
        What precedes the store's keys in names of files; None: chunks are fetched by their keys.
    broadcast : bool
        Whether ``array`` is a single item, the value of every selected one.
    shard : Shard or None
        What chunks are, if they are shards.
    keeps_overhang : bool
        Whether a write keeps what a chunk at the array's edge holds beyond it.

    Returns
    -------
    Plan or str
        The plan, or the reason why there is none.
    """
    cdef Plan plan = Plan(selected.n_chunks, selected.grid.ndim, array, itemsize)
    cdef _Maker maker = _Maker.__new__(_Maker, plan, selected, prefix)
    cdef str reason
    if not broadcast and array.shape != selected.shape:
        raise ValueError(f"expected an array of shape {selected.shape}, found {array.shape}")
    plan.kept.append(selected)
    plan.in_memory = prefix is None
    if plan.in_memory:
        plan.named = []
    maker.target = see_array(array, broadcast)
    maker.keeps_overhang = keeps_overhang
    if shard is not None:
        maker.shard = &shard.spec
    if selected.has_points:
        reason = maker.add_chunks_of_points()
    else:
        reason = maker.add_chunks()
    if reason is not None:
        return reason
    if not plan.in_memory:
        plan.paths_are_complete()
    return plan
