"""From many selections of an array to one plan, in which every chunk is there once.

All that is selected is cut at the borders of chunks, sorted by chunk, and each chunk becomes a
task with a share for everybody who wants something of it.
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memset

from zarrs._core cimport MAX_NDIM, MAX_SIZE, Axis, Shard, Share, ShardSpec, Task
from zarrs.indexing._grid cimport Grid
from zarrs.indexing._plan cimport Plan, Target, data_of_array, see_array
from zarrs.indexing._plan_selected cimport KeyMaker, Places, find_places, next_chunk, put_chunk
from zarrs.indexing._selected cimport Selected
from zarrs.indexing._sorting cimport sort_positions


cdef class _Shares:
    """What all selections want of their chunks, and in which order these are."""

    cdef Py_ssize_t n
    cdef int ndim
    cdef Py_ssize_t* chunks  # of each the number of its chunk, rising
    cdef Py_ssize_t* order  # and which of the shares it is
    cdef Share* items
    cdef Share* sorted
    cdef Axis* axes
    cdef Py_ssize_t* numbers  # of chunks along the axes

    def __cinit__(self, Py_ssize_t n, int ndim):
        cdef size_t axes = n * max(ndim, 1)
        self.n = n
        self.ndim = ndim
        self.chunks = <Py_ssize_t*> malloc(max(n, 1) * sizeof(Py_ssize_t))
        self.order = <Py_ssize_t*> malloc(max(n, 1) * sizeof(Py_ssize_t))
        self.items = <Share*> malloc(max(n, 1) * sizeof(Share))
        self.sorted = <Share*> malloc(max(n, 1) * sizeof(Share))
        self.axes = <Axis*> malloc(max(axes, <size_t> 1) * sizeof(Axis))
        self.numbers = <Py_ssize_t*> malloc(max(axes, <size_t> 1) * sizeof(Py_ssize_t))
        if (
            self.chunks == NULL or self.order == NULL or self.items == NULL
            or self.sorted == NULL or self.axes == NULL or self.numbers == NULL
        ):
            raise MemoryError(f"no memory for a selection in {n} chunks")

    def __dealloc__(self):
        free(self.chunks)
        free(self.order)
        free(self.items)
        free(self.sorted)
        free(self.axes)
        free(self.numbers)

    cdef Py_ssize_t count_chunks(self) noexcept:
        """Return how many different chunks there are."""
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t i
        for i in range(self.n):
            n += i == 0 or self.chunks[i] != self.chunks[i - 1]
        return n


cdef int _number_chunks(list selections, _Shares shares) except -1:
    # In C order of the grid.
    cdef Py_ssize_t at[MAX_NDIM]
    cdef Selected selected
    cdef Grid grid
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t number, _i
    cdef int k
    for selected in selections:
        grid = selected.grid
        memset(at, 0, sizeof(at))
        for _i in range(selected.n_chunks):
            number = 0
            for k in range(grid.ndim):
                number = number * grid.axes[k].n + selected.pieces[k][at[k]].chunk
            shares.chunks[n] = number
            shares.order[n] = n
            n += 1
            next_chunk(selected, at)
    sort_positions(shares.chunks, shares.order, shares.n)
    return 0


cdef int _put_shares(Plan plan, list selections, list arrays, _Shares shares) except -1:
    cdef const char* first = data_of_array(plan.array)
    cdef Py_ssize_t at[MAX_NDIM]
    cdef Selected selected
    cdef Target target
    cdef Places places
    cdef Share* share
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i, _i
    for selected, array in zip(selections, arrays):
        if array.shape != selected.shape:
            raise ValueError(f"expected an array of shape {selected.shape}, found {array.shape}")
        target = see_array(array, False)
        find_places(plan, selected, &target, &places)
        memset(at, 0, sizeof(at))
        for _i in range(selected.n_chunks):
            share = &shares.items[n]
            put_chunk(selected, &places, at, shares.axes + n * shares.ndim, &share.select,
                      &share.array_offset, shares.numbers + n * shares.ndim)
            share.array_offset += data_of_array(array) - first
            n += 1
            next_chunk(selected, at)
    for i in range(shares.n):
        shares.sorted[i] = shares.items[shares.order[i]]
    return 0


cdef str _add_tasks(Plan plan, _Shares shares, KeyMaker keys, const ShardSpec* shard):
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t i, stop
    cdef Task* task
    cdef str reason
    cdef int k
    for i in range(plan.n_tasks):
        task = plan.tasks.items + i
        stop = first + 1
        while stop < shares.n and shares.chunks[stop] == shares.chunks[first]:
            stop += 1
        task.select = shares.sorted[first].select
        task.array_offset = shares.sorted[first].array_offset
        task.shares = shares.sorted + first + 1
        task.n_shares = stop - first - 1
        task.nbytes = plan.itemsize
        for k in range(plan.ndim):
            task.nbytes *= task.select.axes[k].size
        reason = keys.add(task, shares.numbers + shares.order[first] * shares.ndim)
        if reason is None:
            reason = plan.count(task, shard)
        if reason is not None:
            return reason
        first = stop
    return None


def plan_many(list selections, list arrays, Py_ssize_t itemsize, bytes prefix, Shard shard):
    """Plan a read of several selections.

    Parameters
    ----------
    selections : list of Selected
        Not of points, and all of one grid; at least one.
    arrays : list of numpy.ndarray
        The results to fill, one for each, all of one data type.
    itemsize, prefix, shard
        As for ``plan_selected``.

    Returns
    -------
    Plan, str or None
        The plan, or the reason why there is none; None if nothing is selected.
    """
    cdef Selected selected = selections[0]
    cdef Grid grid = selected.grid
    cdef size_t total = 1
    cdef Py_ssize_t n = 0
    cdef _Shares shares
    cdef Plan plan
    cdef str reason
    cdef int k
    for k in range(grid.ndim):
        if <size_t> grid.axes[k].n > MAX_SIZE // total:
            return "there are too many chunks"
        total *= max(grid.axes[k].n, 1)
    for selected in selections:
        n += selected.n_chunks
    if n == 0:
        return None
    shares = _Shares(n, grid.ndim)
    _number_chunks(selections, shares)
    plan = Plan(shares.count_chunks(), grid.ndim, arrays[0], itemsize)
    plan.kept += [shares, selections, arrays]
    keys = KeyMaker(plan, grid, prefix)
    _put_shares(plan, selections, arrays, shares)
    reason = _add_tasks(plan, shares, keys, NULL if shard is None else &shard.spec)
    if reason is not None:
        return reason
    if not plan.in_memory:
        plan.paths_are_complete()
    return plan
