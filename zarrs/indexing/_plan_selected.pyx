"""From what is selected of an array to a plan, chunk by chunk without a Python object."""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from zarrs._core cimport MAX_NDIM, Axis, Selection, Shard, ShardSpec, Task
from zarrs.indexing._grid cimport Grid, chunk_size, chunk_start
from zarrs.indexing._plan cimport Plan, Target, see_array
from zarrs.indexing._selected cimport Piece, Selected


cdef class KeyMaker:
    """Says where the chunks of a plan are stored.

    Parameters
    ----------
    plan : Plan
    grid : Grid
    prefix : bytes or None
        What precedes the store's keys in names of files; None: chunks are fetched by their keys.
    """

    def __cinit__(self, Plan plan, Grid grid, bytes prefix):
        self.plan = plan
        self.grid = grid
        self.prefix = prefix
        plan.in_memory = prefix is None
        if plan.in_memory:
            plan.named = []
        self.n_head = len(grid.head)
        self.key = <char*> malloc(self.n_head + grid.key_size() + 1)
        if self.key == NULL:
            raise MemoryError("no memory for a chunk's key")
        memcpy(self.key, <const char*> grid.head, self.n_head)

    def __dealloc__(self):
        free(self.key)

    cdef str add(self, Task* task, const Py_ssize_t* numbers):
        """Add the key of the next chunk, or return the reason why there can be none."""
        cdef Py_ssize_t n
        if self.grid.encode is not None:
            return self.add_encoded(task, self.grid.encode(
                tuple([numbers[k] for k in range(self.grid.ndim)])))
        n = self.n_head + self.grid.put_numbers(numbers, self.key + self.n_head)
        if self.prefix is None:
            self.plan.named.append(self.key[:n].decode())
        else:
            self.plan.add_path(task, self.prefix, len(self.prefix), self.key, n)
        return None

    cdef str add_encoded(self, Task* task, str key):
        """Add a key that somebody else has made."""
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


cdef int find_places(
    Plan plan, Selected selected, const Target* target, Places* places,
) except -1:
    """Find where the places of a selection are in the array."""
    cdef Py_ssize_t i
    cdef const Py_ssize_t* listed
    cdef int k
    for k in range(plan.ndim):
        places.stride[k] = 0
        places.offsets[k] = NULL
        if selected.result_axis[k] >= 0 and not target.broadcast:
            places.stride[k] = target.stride[selected.result_axis[k]]
        if selected.n_listed[k] == 0:
            continue
        listed = selected.lists[k] + selected.n_listed[k]
        places.offsets[k] = plan.add_list(selected.n_listed[k])
        for i in range(selected.n_listed[k]):
            places.offsets[k][i] = listed[i] * places.stride[k]
    return 0


cdef void put_chunk(
    Selected selected, const Places* places, const Py_ssize_t* at, Axis* axes, Selection* select,
    Py_ssize_t* array_offset, Py_ssize_t* numbers,
) noexcept:
    """Say what is selected in the chunk that a piece of every axis is in, and where that goes.

    ``at`` are the numbers of the pieces; ``numbers`` become those of the chunk.
    """
    cdef Axis* axis
    cdef const Piece* piece
    cdef int k, a
    memset(select, 0, sizeof(Selection))
    select.axes = axes
    array_offset[0] = 0
    for k in range(selected.grid.ndim):
        a = selected.grid.order[k]
        piece = &selected.pieces[a][at[a]]
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
            select.has_lists = True
            axis.origin = chunk_start(&selected.grid.axes[a], piece.chunk)
            axis.array_offsets = places.offsets[a] + (piece.chosen - selected.lists[a])
        else:
            array_offset[0] += piece.place * places.stride[a]
            if piece.count > 1:
                axis.stride = piece.place_step * places.stride[a]


cdef bint next_chunk(Selected selected, Py_ssize_t* at) noexcept:
    """Go to the next combination of the axes' pieces, in C order; return whether there is one."""
    cdef int k
    for k in range(selected.grid.ndim - 1, -1, -1):
        at[k] += 1
        if at[k] < selected.n[k]:
            return True
        at[k] = 0
    return False


cdef class _Maker:
    """Makes a plan chunk by chunk; a step returns a reason why there is none, or None."""

    cdef Plan plan
    cdef Selected selected
    cdef KeyMaker keys
    cdef Target target
    cdef const ShardSpec* shard  # NULL: chunks are no shards
    cdef bint keeps_overhang

    cdef str add_chunks(self):
        """Make the tasks of all combinations of the axes' pieces."""
        cdef Py_ssize_t at[MAX_NDIM]
        cdef Py_ssize_t i
        cdef str reason
        cdef Places places
        memset(at, 0, sizeof(at))
        find_places(self.plan, self.selected, &self.target, &places)
        for i in range(self.plan.n_tasks):
            reason = self.add_chunk(i, at, &places)
            if reason is not None:
                return reason
            next_chunk(self.selected, at)
        return None

    cdef str add_chunk(self, Py_ssize_t i, const Py_ssize_t* at, const Places* places):
        """Make the task of the chunk that a piece of every axis is in."""
        cdef int ndim = self.plan.ndim
        cdef Task* task = self.plan.tasks.items + i
        cdef Axis* axes = self.plan.axes + i * ndim
        cdef Py_ssize_t numbers[MAX_NDIM]
        cdef int k
        put_chunk(self.selected, places, at, axes, &task.select, &task.array_offset, numbers)
        task.whole = True
        task.covers = not task.select.has_lists
        for k in range(ndim):
            task.whole = task.whole and self.selected.pieces[k][at[k]].whole
            task.covers = task.covers and axes[k].count == axes[k].size
        return self.add_task(task, numbers)

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
        for k in range(ndim):
            a = selected.grid.order[k]
            memset(&axes[k], 0, sizeof(Axis))
            axes[k].size = chunk_size(&selected.grid.axes[a], numbers[a])
            axes[k].step = 1
            axes[k].count = task.select.n_points  # nothing but 0 matters
        return self.add_task(task, numbers)

    cdef str add_task(self, Task* task, const Py_ssize_t* numbers):
        """Say where a chunk is stored, and count it."""
        cdef str reason
        cdef int k
        task.complete = task.whole and not self.keeps_overhang
        task.nbytes = self.plan.itemsize
        for k in range(self.plan.ndim):
            task.nbytes *= task.select.axes[k].size
        reason = self.keys.add(task, numbers)
        return reason if reason is not None else self.plan.count(task, self.shard)


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
    cdef _Maker maker = _Maker.__new__(_Maker)
    cdef str reason
    if not broadcast and array.shape != selected.shape:
        raise ValueError(f"expected an array of shape {selected.shape}, found {array.shape}")
    plan.kept.append(selected)
    maker.plan = plan
    maker.selected = selected
    maker.keys = KeyMaker(plan, selected.grid, prefix)
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
