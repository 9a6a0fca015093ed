"""Selections in chunks and inner chunks: which bytes, and which inner chunks of a shard.

A selection is, along every axis, a range with a step or a list of positions; or it is a list of
points. What a range selects in an inner chunk is again a range, found by arithmetic: there are no
lists of inner chunks, however many a shard has. Lists rise, so that what belongs to one inner chunk
is a run of them; points are sorted by inner chunk, those of one staying in their order.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memset

from zarrs._core cimport (
    MAX_NDIM,
    MAX_SIZE,
    NO_MEMORY,
    OK,
    Axis,
    Box,
    Buffer,
    Item,
    Region,
    Selection,
    ShardSpec,
    Share,
    Status,
    Task,
    Tasks,
)
from zarrs.runtime._workspace cimport reserve


cdef enum:
    TURNED = 16  # items of a box from which on it matters how it is copied


# ---------------------------------------------------------------------------------------------
# From items to bytes

cdef void _list_offsets(
    const Axis* axes, int ndim, int last, const bint* scattered, const Py_ssize_t* stride,
    Py_ssize_t n, Py_ssize_t* offsets, Py_ssize_t* array_offsets,
) noexcept nogil:
    # Of every scattered box its first item, in the decoded chunk and in the array; `last` is the
    # last axis that is a list.
    cdef Py_ssize_t at[MAX_NDIM]
    cdef Py_ssize_t m = 0
    cdef Py_ssize_t offset, array_offset, i
    cdef int k
    memset(at, 0, ndim * sizeof(Py_ssize_t))
    while m < n:
        # All axes but the last list stand still ...
        offset = 0
        array_offset = 0
        for k in range(ndim):
            if axes[k].chosen == NULL:
                offset += (axes[k].start + at[k] * axes[k].step) * stride[k]
                array_offset += at[k] * axes[k].stride
            elif k != last:
                offset += (axes[k].chosen[at[k]] - axes[k].origin) * stride[k]
                array_offset += axes[k].array_offsets[at[k]]
        # ... while that is run through.
        for i in range(axes[last].count):
            offsets[m] = offset + (axes[last].chosen[i] - axes[last].origin) * stride[last]
            array_offsets[m] = array_offset + axes[last].array_offsets[i]
            m += 1
        for k in range(last - 1, -1, -1):
            if not scattered[k]:
                continue
            at[k] += 1
            if at[k] < axes[k].count:
                break
            at[k] = 0


cdef Status _scatter(
    const Selection* select, int ndim, const Item* item, Buffer* pairs, Region* region,
) noexcept nogil:
    # The axes up to the last list make the offsets, those after it are the shape of the boxes. But
    # where the copy of a box turns its axes around, ranges are better left to the boxes.
    cdef const Axis* axes = select.axes
    cdef Py_ssize_t stride[MAX_NDIM]
    cdef bint scattered[MAX_NDIM]  # which axes make the offsets
    cdef Py_ssize_t step = item.size
    cdef Py_ssize_t n = select.n_points if select.has_points else 1
    cdef Py_ssize_t tail = 1
    cdef Py_ssize_t i
    cdef Py_ssize_t* offsets
    cdef Py_ssize_t* array_offsets
    cdef int last = ndim
    cdef bint turned
    cdef int k
    for k in range(ndim - 1, -1, -1):
        stride[k] = step
        step *= axes[k].size
        if axes[k].chosen != NULL and last == ndim:
            last = k
        if last == ndim:
            tail *= axes[k].count
    turned = tail >= TURNED and axes[ndim - 1].stride != item.size
    for k in range(ndim):
        scattered[k] = select.has_points or axes[k].chosen != NULL or (k < last and not turned)
        if scattered[k] and not select.has_points:
            n *= axes[k].count
    if <size_t> n > MAX_SIZE // (2 * sizeof(Py_ssize_t)):
        return NO_MEMORY
    offsets = <Py_ssize_t*> reserve(pairs, 2 * n * sizeof(Py_ssize_t))
    if offsets == NULL:
        return NO_MEMORY
    array_offsets = offsets + n
    region.is_scattered = True
    region.n = n
    region.offsets = offsets
    region.array_offsets = array_offsets
    region.offset = 0
    region.covers = False
    _keep_axes(&region.box, scattered)
    if select.has_points:
        for i in range(n):
            offsets[i] = select.points[i] * item.size
            array_offsets[i] = select.array_offsets[i]
    else:
        _list_offsets(axes, ndim, last, scattered, stride, n, offsets, array_offsets)
    region.low = offsets[0]
    region.high = offsets[0]
    for i in range(1, n):
        if offsets[i] < region.low:
            region.low = offsets[i]
        elif offsets[i] > region.high:
            region.high = offsets[i]
    return OK


cdef void _keep_axes(Box* box, const bint* dropped) noexcept nogil:
    # Closes the gaps that the dropped axes leave.
    cdef int n = 0
    cdef int k
    for k in range(box.ndim):
        if not dropped[k]:
            box.count[n] = box.count[k]
            box.src_stride[n] = box.src_stride[k]
            box.dst_stride[n] = box.dst_stride[k]
            n += 1
    box.ndim = n


cdef Status make_region(
    const Selection* select, int ndim, const Item* item, char* data, bint writing,
    Buffer* pairs, Region* region,
) noexcept nogil:
    """From items to bytes. The offsets of scattered boxes go to ``pairs``."""
    cdef const Axis* axes = select.axes
    cdef Py_ssize_t* chunk_stride = region.box.src_stride
    cdef Py_ssize_t* array_stride = region.box.dst_stride
    cdef int64_t stride = item.size
    cdef Py_ssize_t extent = item.size
    cdef Status status
    cdef int k
    if writing:
        chunk_stride, array_stride = array_stride, chunk_stride
    region.box.ndim = ndim
    region.data = data
    region.offset = 0
    region.covers = True
    region.is_scattered = False
    for k in range(ndim - 1, -1, -1):
        region.box.count[k] = axes[k].count
        chunk_stride[k] = axes[k].step * stride
        array_stride[k] = axes[k].stride
        region.offset += axes[k].start * stride
        region.covers = region.covers and axes[k].count == axes[k].size
        stride *= axes[k].size
    region.nbytes = stride
    if select.has_lists or select.has_points:
        status = _scatter(select, ndim, item, pairs, region)
        if status != OK:
            return status
    else:
        region.low = region.high = region.offset
    for k in range(region.box.ndim):
        extent += (region.box.count[k] - 1) * (
            region.box.dst_stride[k] if writing else region.box.src_stride[k])
    region.high += extent
    return OK


cdef Status task_region(
    const Tasks* tasks, const Task* task, bint writing, Buffer* pairs, Region* region,
) noexcept nogil:
    """What a call selects in one of its chunks, or in the part of it that is there."""
    cdef Status status = make_region(&task.select, tasks.ndim, &tasks.layout.item,
                                     tasks.data + task.array_offset, writing, pairs, region)
    if status == OK and task.is_part:
        _narrow_region(region, task)
    return status


cdef Status share_region(
    const Tasks* tasks, const Task* task, Py_ssize_t number, Buffer* pairs, Region* region,
) noexcept nogil:
    """What one of a chunk's selections is; -1: that of the task itself."""
    cdef const Share* share
    cdef Status status
    if number < 0:
        return task_region(tasks, task, False, pairs, region)
    share = &task.shares[number]
    status = make_region(&share.select, tasks.ndim, &tasks.layout.item,
                         tasks.data + share.array_offset, False, pairs, region)
    if status == OK and task.is_part:
        _narrow_region(region, task)
    return status


cdef void _narrow_region(Region* region, const Task* task) noexcept nogil:
    # What is needed of a chunk becomes the whole of it.
    cdef Py_ssize_t* offsets = <Py_ssize_t*> region.offsets
    cdef Py_ssize_t i
    if region.is_scattered:
        for i in range(region.n):
            offsets[i] -= task.part_low
    else:
        region.offset -= task.part_low
    region.high -= task.part_low
    region.low -= task.part_low
    region.nbytes = task.part_high - task.part_low


cdef const char* first_place(const Selection* select, int ndim, const char* data) noexcept nogil:
    """Where in the array the first selected item is."""
    cdef int k
    if select.has_points:
        return data + select.array_offsets[0]
    if select.has_lists:
        for k in range(ndim):
            if select.axes[k].chosen != NULL:
                data += select.axes[k].array_offsets[0]
    return data


# ---------------------------------------------------------------------------------------------
# Inner chunks

cdef inline bint _begins_run(const Axis* axis, Py_ssize_t inner, Py_ssize_t i) noexcept nogil:
    # Whether the i-th position of a list is the first one in its inner chunk.
    return i == 0 or (axis.chosen[i] - axis.origin) // inner != (
        axis.chosen[i - 1] - axis.origin) // inner


cdef Py_ssize_t n_touched(const Axis* axis, Py_ssize_t inner) noexcept nogil:
    """In how many inner chunks along an axis something is selected."""
    cdef Py_ssize_t n = 0
    cdef Py_ssize_t i
    if axis.chosen != NULL:
        for i in range(axis.count):
            n += _begins_run(axis, inner, i)
        return n
    if axis.step > inner or axis.count == 0:
        return axis.count
    return (axis.start + (axis.count - 1) * axis.step) // inner - axis.start // inner + 1


cdef Py_ssize_t touched_by_all(
    const ShardSpec* shard, const Task* task, Py_ssize_t n,
) noexcept nogil:
    """In how many of the ``n`` inner chunks of a shard a call selects something, at most."""
    cdef Py_ssize_t touched = most_touched(shard, &task.select, n)
    cdef Py_ssize_t i
    for i in range(task.n_shares):
        if touched < n:
            touched += most_touched(shard, &task.shares[i].select, n)
    return min(touched, n)


cdef Py_ssize_t most_touched(
    const ShardSpec* shard, const Selection* select, Py_ssize_t n,
) noexcept nogil:
    """In how many of the ``n`` inner chunks of a shard one selection is, at most."""
    cdef Py_ssize_t touched = 1
    cdef int k
    if select.has_points:
        return min(n, select.n_points)
    for k in range(shard.ndim):
        touched *= n_touched(&select.axes[k], shard.inner[k])
    return touched


cdef struct Numbered:
    Py_ssize_t index  # of the inner chunk
    Py_ssize_t point
    Py_ssize_t item  # within the inner chunk


cdef int _by_index(const void* a, const void* b) noexcept nogil:
    cdef const Numbered* x = <const Numbered*> a
    cdef const Numbered* y = <const Numbered*> b
    if x.index != y.index:
        return (x.index > y.index) - (x.index < y.index)
    return (x.point > y.point) - (x.point < y.point)


cdef Status _split_points(
    const ShardSpec* shard, const Selection* select, Split* split,
) noexcept nogil:
    cdef Py_ssize_t n = select.n_points
    cdef Py_ssize_t rest[MAX_NDIM]
    cdef Numbered* numbered = <Numbered*> malloc(n * sizeof(Numbered))
    cdef Py_ssize_t i, at, index, stride, number
    cdef bint is_sorted = True
    cdef int k
    split.groups = <Py_ssize_t*> malloc((n + 1) * sizeof(Py_ssize_t))
    split.indexes = <Py_ssize_t*> malloc(n * sizeof(Py_ssize_t))
    split.points = <Py_ssize_t*> malloc(n * sizeof(Py_ssize_t))
    split.array_offsets = <Py_ssize_t*> malloc(n * sizeof(Py_ssize_t))
    if numbered == NULL or split.groups == NULL or split.indexes == NULL or (
        split.points == NULL or split.array_offsets == NULL
    ):
        free(numbered)
        return NO_MEMORY
    for i in range(n):
        number = select.points[i]
        index = 0
        stride = 1
        for k in range(shard.ndim - 1, -1, -1):
            at = number % select.axes[k].size
            number //= select.axes[k].size
            index += at // shard.inner[k] * stride
            stride *= select.axes[k].size // shard.inner[k]
            rest[k] = at % shard.inner[k]
        numbered[i].index = index
        numbered[i].point = i
        numbered[i].item = 0
        for k in range(shard.ndim):
            numbered[i].item = numbered[i].item * shard.inner[shard.order[k]] + (
                rest[shard.order[k]])
        is_sorted = is_sorted and (i == 0 or numbered[i - 1].index <= index)
    if not is_sorted:
        qsort(numbered, n, sizeof(Numbered), _by_index)
    for i in range(n):
        if i == 0 or numbered[i].index != numbered[i - 1].index:
            split.groups[split.n] = i
            split.indexes[split.n] = numbered[i].index
            split.n += 1
        split.points[i] = numbered[i].item
        split.array_offsets[i] = select.array_offsets[numbered[i].point]
    split.groups[split.n] = n
    free(numbered)
    return OK


cdef Status split_selection(
    const ShardSpec* shard, const Selection* select, Split* split,
) noexcept nogil:
    """Find out in which inner chunks something is selected; ``free_split`` in any case."""
    cdef const Axis* axis
    cdef Py_ssize_t i, m
    cdef int k
    memset(split, 0, sizeof(Split))
    if select.has_points:
        return _split_points(shard, select, split)
    split.n = 1
    for k in range(shard.ndim):
        axis = &select.axes[k]
        split.touched[k] = n_touched(axis, shard.inner[k])
        split.n *= split.touched[k]
        if axis.chosen == NULL:
            continue
        split.runs[k] = <Py_ssize_t*> malloc((split.touched[k] + 1) * sizeof(Py_ssize_t))
        if split.runs[k] == NULL:
            return NO_MEMORY
        m = 0
        for i in range(axis.count):
            if _begins_run(axis, shard.inner[k], i):
                split.runs[k][m] = i
                m += 1
        split.runs[k][m] = axis.count
    return OK


cdef void free_split(Split* split) noexcept nogil:
    """Free what ``split_selection`` made; a split of zeros is fine."""
    cdef int k
    for k in range(MAX_NDIM):
        free(split.runs[k])
    free(split.groups)
    free(split.indexes)
    free(split.points)
    free(split.array_offsets)
    memset(split, 0, sizeof(Split))


cdef inline Py_ssize_t _inner_range(
    const Axis* axis, Py_ssize_t inner, Py_ssize_t i, Axis* part, Py_ssize_t* first,
) noexcept nogil:
    # The i-th touched inner chunk of an axis: its index, what is selected in it, and the number of
    # the first item selected in it among all that are.
    cdef Py_ssize_t chunk, stop
    if axis.step > inner:
        first[0] = i
        stop = i + 1
        chunk = (axis.start + i * axis.step) // inner
    else:
        chunk = axis.start // inner + i
        first[0] = 0
        if i > 0:
            first[0] = (chunk * inner - axis.start + axis.step - 1) // axis.step
        stop = (chunk * inner + inner - axis.start + axis.step - 1) // axis.step
        stop = min(stop, axis.count)
    part.start = axis.start + first[0] * axis.step - chunk * inner
    part.count = stop - first[0]
    part.step = axis.step if part.count > 1 else 1
    part.stride = axis.stride if part.count > 1 else 0
    part.chosen = NULL
    return chunk


cdef inline Py_ssize_t _inner_list(
    const Axis* axis, Py_ssize_t inner, const Py_ssize_t* run, Axis* part, char** data,
) noexcept nogil:
    # The same for a list; one of one item is a range again, and moves `data`.
    cdef Py_ssize_t chunk = (axis.chosen[run[0]] - axis.origin) // inner
    part.count = run[1] - run[0]
    part.step = 1
    part.stride = 0
    part.origin = axis.origin + chunk * inner
    part.chosen = axis.chosen + run[0]
    part.array_offsets = axis.array_offsets + run[0]
    part.start = 0
    if part.count == 1:
        part.start = part.chosen[0] - part.origin
        data[0] += part.array_offsets[0]
        part.chosen = NULL
    return chunk


cdef Py_ssize_t inner_selection(
    const ShardSpec* shard, const Selection* select, const Split* split, Py_ssize_t number,
    Axis* parts, Selection* inner, char** data,
) noexcept nogil:
    """What is selected in the ``number``-th touched inner chunk of a shard; return its index.

    ``parts``, the axes of ``inner``, are in the order in which the inner chunk is stored. ``data``
    moves from where the shard's first selected item goes to where the inner chunk's goes.
    """
    cdef Axis part[MAX_NDIM]
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t stride = 1  # in the index, whose entries are in C order
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t rest = number
    cdef Py_ssize_t i
    cdef const Axis* axis
    cdef int k
    inner.axes = parts
    inner.has_lists = False
    inner.has_points = select.has_points
    if select.has_points:
        for k in range(shard.ndim):
            memset(&parts[k], 0, sizeof(Axis))
            parts[k].size = shard.inner[shard.order[k]]
        inner.n_points = split.groups[number + 1] - split.groups[number]
        inner.points = split.points + split.groups[number]
        inner.array_offsets = split.array_offsets + split.groups[number]
        return split.indexes[number]
    for k in range(shard.ndim - 1, -1, -1):
        axis = &select.axes[k]
        i = rest % split.touched[k]
        rest //= split.touched[k]
        if axis.chosen == NULL:
            index += stride * _inner_range(axis, shard.inner[k], i, &part[k], &first)
            data[0] += first * axis.stride
        else:
            index += stride * _inner_list(axis, shard.inner[k], split.runs[k] + i, &part[k], data)
            inner.has_lists = inner.has_lists or part[k].chosen != NULL
        part[k].size = shard.inner[k]
        stride *= axis.size // shard.inner[k]
    for k in range(shard.ndim):
        parts[k] = part[shard.order[k]]
    return index
