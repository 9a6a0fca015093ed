"""Selections in chunks and inner chunks: which bytes, and which inner chunks of a shard.

A selection is a range with a step along every axis. What it selects in an inner chunk is again one
such range an axis, found by arithmetic: there are no lists of inner chunks, however many a shard
has.
"""

from libc.stdint cimport int64_t

from zarrs._core cimport MAX_NDIM, Axis, Region, ShardSpec, Task, Tasks


cdef void make_region(
    const Axis* axes, int ndim, Py_ssize_t itemsize, char* data, bint writing, Region* region,
) noexcept nogil:
    """From items to bytes; ``axes`` are in the order in which the chunk is stored."""
    cdef Py_ssize_t* chunk_stride = region.box.src_stride
    cdef Py_ssize_t* array_stride = region.box.dst_stride
    cdef int64_t stride = itemsize
    cdef int k
    if writing:
        chunk_stride, array_stride = array_stride, chunk_stride
    region.box.ndim = ndim
    region.data = data
    region.offset = 0
    region.covers = True
    for k in range(ndim - 1, -1, -1):
        region.box.count[k] = axes[k].count
        chunk_stride[k] = axes[k].step * stride
        array_stride[k] = axes[k].stride
        region.offset += axes[k].start * stride
        region.covers = region.covers and axes[k].count == axes[k].size
        stride *= axes[k].size
    region.nbytes = stride


cdef void task_region(
    const Tasks* tasks, const Task* task, bint writing, Region* region,
) noexcept nogil:
    """What a call selects in one of its chunks."""
    make_region(task.axes, tasks.ndim, tasks.layout.item.size, tasks.data + task.array_offset,
                writing, region)


cdef Py_ssize_t n_touched(const Axis* axis, Py_ssize_t inner) noexcept nogil:
    """In how many inner chunks along an axis something is selected."""
    if axis.step > inner or axis.count == 0:
        return axis.count
    return (axis.start + (axis.count - 1) * axis.step) // inner - axis.start // inner + 1


cdef Py_ssize_t touched_inner_chunks(const ShardSpec* shard, const Axis* axes) noexcept nogil:
    """In how many inner chunks of a shard something is selected."""
    cdef Py_ssize_t n = 1
    cdef int k
    for k in range(shard.ndim):
        n *= n_touched(&axes[k], shard.inner[k])
    return n


cdef inline Py_ssize_t _inner_axis(
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
    part.size = inner
    part.start = axis.start + first[0] * axis.step - chunk * inner
    part.count = stop - first[0]
    part.step = axis.step if part.count > 1 else 1
    part.stride = axis.stride if part.count > 1 else 0
    return chunk


cdef Py_ssize_t inner_axes(
    const ShardSpec* shard, const Axis* axes, Py_ssize_t number, Axis* parts, char** data,
) noexcept nogil:
    """What is selected in the ``number``-th touched inner chunk of a shard; return its index.

    ``parts`` are in the order in which the inner chunk is stored. ``data`` moves from the array's
    first item selected in the shard to the first in the inner chunk.
    """
    cdef Axis part[MAX_NDIM]
    cdef Py_ssize_t index = 0
    cdef Py_ssize_t stride = 1  # in the index, whose entries are in C order
    cdef Py_ssize_t first = 0
    cdef Py_ssize_t n
    cdef int k
    for k in range(shard.ndim - 1, -1, -1):
        n = n_touched(&axes[k], shard.inner[k])
        index += stride * _inner_axis(&axes[k], shard.inner[k], number % n, &part[k], &first)
        data[0] += first * axes[k].stride
        number //= n
        stride *= axes[k].size // shard.inner[k]
    for k in range(shard.ndim):
        parts[k] = part[shard.order[k]]
    return index
