"""From a selection of an array to what is selected in its chunks.

Every axis is cut by itself: what is selected along it becomes one piece for each chunk that it
touches. All combinations of the axes' pieces are the chunks of the selection, so a selection in a
million chunks is described by some hundred pieces. Points are sorted by chunk instead.

Only what is plain is taken: integers and slices that step forward, arrays and lists of integers,
masks of one axis, all within the array. Of anything else, `None` says that zarr's own indexing
decides what it means, or which exception it deserves.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.long cimport PyLong_CheckExact
from cpython.tuple cimport PyTuple_CheckExact
from libc.stdlib cimport free, malloc

from zarrs._core cimport MAX_NDIM, MAX_SIZE
from zarrs.indexing._grid cimport Grid, GridAxis, chunk_size, chunk_start, chunk_with
from zarrs.indexing._sorting cimport sort_positions

import numpy as np


cdef extern from "Python.h":
    bint PySlice_Check(object)
    int PySlice_Unpack(object, Py_ssize_t*, Py_ssize_t*, Py_ssize_t*) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t, Py_ssize_t*, Py_ssize_t*, Py_ssize_t)
    Py_ssize_t PyLong_AsSsize_t(object) except? -1

cdef object _ndarray = np.ndarray
cdef object _integer = np.integer
cdef object _most = np.iinfo(np.intp).max


cdef enum Kind:
    ITEM  # of ``array[selection]``: basic, or what zarr takes for orthogonal
    BASIC
    ORTHOGONAL


cdef void* _allocate(Py_ssize_t n, size_t size) except NULL:
    cdef void* memory = NULL
    if <size_t> n <= MAX_SIZE // size:
        memory = malloc(max(n, 1) * size)
    if memory == NULL:
        raise MemoryError(f"no memory for a selection of {n} parts")
    return memory


cdef class Selected:
    """What is selected of an array, cut at the borders of chunks.

    Attributes
    ----------
    shape : tuple of int
        Of the result; of points, as many as there are.
    is_scalar : bool
        Whether zarr returns a scalar.
    n_chunks : int
        Chunks in which something is selected.
    """

    def __cinit__(self, Grid grid):
        self.grid = grid
        self.n_chunks = 1

    def __dealloc__(self):
        cdef int k
        for k in range(MAX_NDIM):
            free(self.pieces[k])
            free(self.lists[k])
        free(self.points)
        free(self.point_places)
        free(self.chunks)
        free(self.first_points)

    cdef int count_chunks(self, Py_ssize_t n) except -1:
        if n > 0 and <size_t> self.n_chunks > MAX_SIZE // <size_t> n:
            raise MemoryError("the selection is in too many chunks")
        self.n_chunks *= n
        return 0

    cdef int add_range(
        self, int k, Py_ssize_t start, Py_ssize_t step, Py_ssize_t count,
    ) except -1:
        """Cut a range of positions, all of them in the array."""
        cdef const GridAxis* axis = &self.grid.axes[k]
        cdef Py_ssize_t most = 0
        cdef Py_ssize_t n = 0
        cdef Py_ssize_t done = 0
        cdef Py_ssize_t begin, end
        cdef Piece* piece
        if count < 2:
            step = 1
        if count > 0:
            most = chunk_with(axis, start + (count - 1) * step) - chunk_with(axis, start) + 1
        self.pieces[k] = <Piece*> _allocate(min(most, count), sizeof(Piece))
        while done < count:
            piece = &self.pieces[k][n]
            piece.chunk = chunk_with(axis, start)
            begin = chunk_start(axis, piece.chunk)
            piece.size = chunk_size(axis, piece.chunk)
            end = min(begin + piece.size, axis.extent)
            piece.start = start - begin
            piece.count = min((end - 1 - start) // step + 1, count - done)
            piece.step = step if piece.count > 1 else 1
            piece.whole = piece.count == end - begin
            piece.place = done
            piece.place_step = 1
            piece.chosen = NULL
            start += piece.count * step
            done += piece.count
            n += 1
        self.n[k] = n
        return self.count_chunks(n)

    cdef bint add_list(self, int k, object array) except -1:
        """Cut a list of positions; return whether all of them are in the array."""
        cdef const GridAxis* axis = &self.grid.axes[k]
        cdef Py_ssize_t n = len(array)
        cdef Py_ssize_t* positions = <Py_ssize_t*> _allocate(n, 2 * sizeof(Py_ssize_t))
        cdef Py_ssize_t* places = positions + n
        cdef bint rises = True
        cdef Py_ssize_t i
        self.lists[k] = positions
        if not _load(array, axis.extent, positions, n):
            return False
        for i in range(n):
            places[i] = i
            rises = rises and (i == 0 or positions[i - 1] <= positions[i])
        if not rises:
            sort_positions(positions, places, n)
        self.cut_list(k, n)
        return True

    cdef int cut_list(self, int k, Py_ssize_t n) except -1:
        cdef const GridAxis* axis = &self.grid.axes[k]
        cdef const Py_ssize_t* positions = self.lists[k]
        cdef Py_ssize_t first = 0
        cdef Py_ssize_t m = 0
        cdef Py_ssize_t end
        while first < n:
            end = chunk_start(axis, chunk_with(axis, positions[first]) + 1)
            while first < n and positions[first] < end:
                first += 1
            m += 1
        self.pieces[k] = <Piece*> _allocate(m, sizeof(Piece))
        self.n[k] = m
        self.n_listed[k] = n
        first = 0
        for m in range(self.n[k]):
            first = _cut_run(axis, positions, positions + n, n, first, &self.pieces[k][m])
        return self.count_chunks(self.n[k])


cdef Py_ssize_t _cut_run(
    const GridAxis* axis, const Py_ssize_t* positions, const Py_ssize_t* places, Py_ssize_t n,
    Py_ssize_t first, Piece* piece,
) noexcept:
    # The positions from `first` on that are in one chunk; returns where the next ones begin. Those
    # that are really a range become one.
    cdef Py_ssize_t begin, last
    cdef bint even
    piece.chunk = chunk_with(axis, positions[first])
    begin = chunk_start(axis, piece.chunk)
    piece.size = chunk_size(axis, piece.chunk)
    piece.step = 1
    piece.place = places[first]
    piece.place_step = 1
    last = first + 1
    if last < n and positions[last] < begin + piece.size:
        piece.step = positions[last] - positions[first]
        piece.place_step = places[last] - places[first]
    even = piece.step > 0
    while last < n and positions[last] < begin + piece.size:
        even = even and positions[last] - positions[last - 1] == piece.step and (
            places[last] - places[last - 1] == piece.place_step)
        last += 1
    piece.count = last - first
    piece.start = positions[first] - begin
    piece.whole = False  # as in zarr, which then merges
    piece.chosen = NULL
    if not even:
        piece.start = 0
        piece.step = 1
        piece.chosen = positions + first
    return last


cdef bint _load(
    object array, Py_ssize_t extent, Py_ssize_t* positions, Py_ssize_t n,
) except -1:
    # Copies ``n`` positions, those from the end made to count from the start; returns whether all
    # are in range(extent).
    cdef Py_buffer view
    cdef const Py_ssize_t* src
    cdef Py_ssize_t i, position
    cdef bint inside = True
    PyObject_GetBuffer(array, &view, PyBUF_SIMPLE)
    src = <const Py_ssize_t*> view.buf
    if view.len != n * <Py_ssize_t> sizeof(Py_ssize_t):
        PyBuffer_Release(&view)
        raise ValueError(f"expected {n} positions, found {view.len} bytes")
    with nogil:
        for i in range(n):
            position = src[i] + extent if src[i] < 0 else src[i]
            inside = inside and 0 <= position < extent
            positions[i] = position
    PyBuffer_Release(&view)
    return inside


cdef object _integers(object item):
    # A list or an array of integers as one of C order; None if it is neither.
    if not isinstance(item, (list, _ndarray)):
        return None
    item = np.asarray(item)  # no subclass, which may have its own idea of what it holds
    if item.dtype.kind not in "iu" or (
        item.dtype.kind == "u" and item.size > 0 and item.max() > _most
    ):
        return None
    return np.ascontiguousarray(item, dtype=np.intp) if item.ndim else item.astype(np.intp)


cdef struct Range:
    # What is selected along an axis, before it is cut.
    Py_ssize_t start
    Py_ssize_t step
    Py_ssize_t count
    bint is_list  # which is cut already


cdef bint _add_item(
    Selected selected, int k, object item, Kind kind, Range* range_, bint* kept, bint* is_basic,
) except -1:
    # One axis: a range, or a list that is cut at once; returns whether it is plain.
    cdef Py_ssize_t extent = selected.grid.axes[k].extent
    cdef Py_ssize_t stop
    kept[0] = True
    range_.is_list = False
    if PySlice_Check(item):
        PySlice_Unpack(item, &range_.start, &stop, &range_.step)
        if range_.step < 1:
            return False
        range_.count = PySlice_AdjustIndices(extent, &range_.start, &stop, range_.step)
        return True
    if PyLong_CheckExact(item) or isinstance(item, _integer):
        is_basic[0] = is_basic[0] or not PyLong_CheckExact(item)
        range_.start = PyLong_AsSsize_t(item if PyLong_CheckExact(item) else int(item))
        if range_.start < 0:
            range_.start += extent
        range_.step = range_.count = 1
        kept[0] = False
        return 0 <= range_.start < extent
    if kind != ORTHOGONAL:
        return False
    if not isinstance(item, (list, _ndarray)):
        return False
    item = np.asarray(item)
    if item.ndim != 1:
        return False
    if item.dtype.kind == "b":
        if len(item) != extent or extent == 0:
            return False
        item = np.flatnonzero(item)
    item = _integers(item)
    range_.is_list = True
    if item is None:
        return False
    range_.count = len(item)
    return selected.add_list(k, item)


cdef Selected _select(Grid grid, object selection, Kind kind):
    cdef Selected selected = Selected.__new__(Selected, grid)
    cdef tuple items = selection if PyTuple_CheckExact(selection) else (selection,)
    cdef bint is_basic = kind == BASIC or (kind == ITEM and grid.ndim == 0)
    cdef bint has_ellipsis = False
    cdef Py_ssize_t n = len(items)
    cdef bint kept = True
    cdef bint is_empty = False
    cdef int k = 0
    cdef int last = 0
    cdef list shape = []
    cdef Range ranges[MAX_NDIM]
    for item in items:
        if item is Ellipsis:
            if has_ellipsis:
                return None
            has_ellipsis = is_basic = True
    if n - has_ellipsis > grid.ndim:
        return None
    if not has_ellipsis:
        items += (Ellipsis,)
        n += 1
    for item in items:
        last = k + 1 if item is not Ellipsis else k + grid.ndim - <int> (n - 1)
        while k < last:
            if item is Ellipsis:
                kept = True
                ranges[k] = Range(0, 1, grid.axes[k].extent, False)
            elif not _add_item(selected, k, item, kind, &ranges[k], &kept, &is_basic):
                return None
            is_empty = is_empty or ranges[k].count == 0
            selected.result_axis[k] = -1
            if kept:
                selected.result_axis[k] = <int> len(shape)
                shape.append(ranges[k].count)
            k += 1
    if is_empty:
        selected.n_chunks = 0
    else:
        for k in range(grid.ndim):
            if not ranges[k].is_list:
                selected.add_range(k, ranges[k].start, ranges[k].step, ranges[k].count)
    selected.shape = tuple(shape)
    selected.is_scalar = is_basic and kind != ORTHOGONAL and not shape
    return selected


cdef Selected _select_plain(Grid grid, object selection, Kind kind):
    # None also of what cannot be understood: zarr raises what it deserves.
    try:
        return _select(grid, selection, kind)
    except (TypeError, OverflowError, ValueError):
        return None


def select_item(Grid grid, object selection) -> Selected | None:
    """What ``array[selection]`` means, if it is made of integers, slices and an ellipsis."""
    return _select_plain(grid, selection, ITEM)


def select_basic(Grid grid, object selection) -> Selected | None:
    """What a basic selection means: integers, slices and an ellipsis."""
    return _select_plain(grid, selection, BASIC)


def select_orthogonal(Grid grid, object selection) -> Selected | None:
    """What an orthogonal selection means, which can have lists and masks of one axis, too."""
    return _select_plain(grid, selection, ORTHOGONAL)


# ---------------------------------------------------------------------------------------------
# Points

cdef void _number_points(
    const GridAxis* axes, const int* order, int ndim, Py_ssize_t n, Py_ssize_t** positions,
    Py_ssize_t* chunks, Py_ssize_t* items,
) noexcept nogil:
    # Of every point the number of its chunk among all, and its own among the items of the chunk.
    cdef Py_ssize_t i, position, chunk
    cdef Py_ssize_t at[MAX_NDIM]
    cdef Py_ssize_t size[MAX_NDIM]
    cdef int k
    for i in range(n):
        chunks[i] = 0
        items[i] = 0
        for k in range(ndim):
            position = positions[k][i]
            chunk = chunk_with(&axes[k], position)
            at[k] = position - chunk_start(&axes[k], chunk)
            size[k] = chunk_size(&axes[k], chunk)
            chunks[i] = chunks[i] * axes[k].n + chunk
        for k in range(ndim):
            items[i] = items[i] * size[order[k]] + at[order[k]]


cdef int _group_points(Selected selected, Py_ssize_t* chunks) except -1:
    # Finds the runs of equal numbers of chunks.
    cdef Grid grid = selected.grid
    cdef Py_ssize_t n = selected.n_points
    cdef Py_ssize_t m = 0
    cdef Py_ssize_t i, number
    cdef int k
    for i in range(n):
        m += i == 0 or chunks[i] != chunks[i - 1]
    selected.n_chunks = m
    selected.chunks = <Py_ssize_t*> _allocate(m, max(grid.ndim, 1) * sizeof(Py_ssize_t))
    selected.first_points = <Py_ssize_t*> _allocate(m + 1, sizeof(Py_ssize_t))
    m = 0
    for i in range(n):
        if i > 0 and chunks[i] == chunks[i - 1]:
            continue
        selected.first_points[m] = i
        number = chunks[i]
        for k in range(grid.ndim - 1, -1, -1):
            selected.chunks[m * grid.ndim + k] = number % grid.axes[k].n
            number //= grid.axes[k].n
        m += 1
    selected.first_points[m] = n
    return 0


cdef int _sort_points(Selected selected, Py_ssize_t* chunks) except -1:
    # By chunk; the points of one stay in their order.
    cdef Py_ssize_t n = selected.n_points
    cdef Py_ssize_t* places = <Py_ssize_t*> _allocate(n, sizeof(Py_ssize_t))
    cdef Py_ssize_t* items = selected.points
    cdef bint rises = True
    cdef Py_ssize_t i
    selected.point_places = places
    for i in range(n):
        places[i] = i
        rises = rises and (i == 0 or chunks[i - 1] <= chunks[i])
    if rises:
        return 0
    sort_positions(chunks, places, n)
    selected.points = <Py_ssize_t*> malloc(n * sizeof(Py_ssize_t))
    if selected.points == NULL:
        selected.points = items
        raise MemoryError(f"no memory for {n} points")
    for i in range(n):
        selected.points[i] = items[places[i]]
    free(items)
    return 0


cdef tuple _point_arrays(Grid grid, tuple selection):
    # The positions of points, an array an axis, all of one shape; None: they are not plain.
    cdef list arrays = []
    if grid.ndim == 0 or len(selection) != grid.ndim:
        return None
    for item in selection:
        if PyLong_CheckExact(item) or isinstance(item, _integer):
            item = np.asarray([item], dtype=np.intp)
        item = _integers(item)
        if item is None:
            return None
        arrays.append(item)
    arrays = list(np.broadcast_arrays(*arrays))
    # Of no points zarr still looks whether what was broadcast is in the array.
    return tuple(arrays) if arrays[0].size > 0 else None


cdef Selected _select_points(Grid grid, tuple arrays):
    cdef Selected selected = Selected.__new__(Selected, grid)
    cdef Py_ssize_t* positions[MAX_NDIM]
    cdef Py_ssize_t* chunks = NULL
    cdef Py_ssize_t total = 1
    cdef Py_ssize_t n = arrays[0].size
    cdef bint inside = True
    cdef int k
    selected.has_points = True
    selected.n_points = n
    selected.shape = (n,)
    for k in range(grid.ndim):
        if n > 0 and <size_t> grid.axes[k].n > MAX_SIZE // <size_t> total:
            return None  # the chunks have no numbers
        total *= max(grid.axes[k].n, 1)
        array = np.ascontiguousarray(arrays[k]).reshape(-1)
        selected.lists[k] = positions[k] = <Py_ssize_t*> _allocate(n, sizeof(Py_ssize_t))
        inside = inside and _load(array, grid.axes[k].extent, positions[k], n)
    if not inside:
        return None
    selected.points = <Py_ssize_t*> _allocate(n, sizeof(Py_ssize_t))
    try:
        chunks = <Py_ssize_t*> _allocate(n, sizeof(Py_ssize_t))
        with nogil:
            _number_points(grid.axes, grid.order, grid.ndim, n, positions, chunks, selected.points)
        _sort_points(selected, chunks)
        _group_points(selected, chunks)
    finally:
        free(chunks)
    for k in range(grid.ndim):
        free(selected.lists[k])
        selected.lists[k] = NULL
    return selected


def select_points(Grid grid, object selection) -> tuple[Selected, tuple[int, ...]] | None:
    """What points mean, one list or array of integers an axis; and the shape of the result."""
    if not PyTuple_CheckExact(selection):
        selection = (selection,)
    try:
        arrays = _point_arrays(grid, selection)
        selected = None if arrays is None else _select_points(grid, arrays)
    except (TypeError, OverflowError, ValueError):
        return None
    return None if selected is None else (selected, arrays[0].shape or (1,))
