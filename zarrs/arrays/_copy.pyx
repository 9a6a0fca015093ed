"""N-dimensional copies between chunks and arrays.

A box (see ``_core.pxd``) is reduced to its essence first: axes of one item vanish, axes that follow
each other in memory on both sides merge. What is left is walked plane by plane, and the planes are
the business of ``_native/copy_kernels.h``.
"""

from libc.math cimport isnan
from libc.stdint cimport uint16_t
from libc.string cimport memcmp, memcpy

from zarrs._core cimport FILL_BITS, FILL_NAN2, FILL_NAN4, MAX_NDIM, Box, FillKind, Item, Region


cdef extern from "_native/copy_kernels.h" nogil:
    ctypedef void (*PlaneFn "zarrs_plane_fn")(
        const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
        Py_ssize_t, Py_ssize_t) noexcept nogil
    void zarrs_copy1(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_copy2(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_copy4(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_copy8(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_copy16(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                      Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_swap2(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_swap4(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_swap8(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                     Py_ssize_t, Py_ssize_t) noexcept
    void zarrs_copy_any(const char*, Py_ssize_t, Py_ssize_t, char*, Py_ssize_t, Py_ssize_t,
                        Py_ssize_t, Py_ssize_t, size_t) noexcept
    bint zarrs_copy_scattered(const char*, const Py_ssize_t*, char*, const Py_ssize_t*,
                              Py_ssize_t, size_t, bint) noexcept
    void zarrs_reverse_units(char*, size_t, size_t) noexcept


cdef inline Py_ssize_t _min(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef inline Py_ssize_t _max(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a > b else b


cdef int _reduce(const Box* box, const Item* item, Box* out) noexcept nogil:
    # Drops axes of one item and merges neighbours; returns the size of what is copied as one item.
    cdef int k
    cdef int n = 0
    cdef int size = <int> item.size
    for k in range(box.ndim):
        if box.count[k] == 1:
            continue
        out.count[n] = box.count[k]
        out.src_stride[n] = box.src_stride[k]
        out.dst_stride[n] = box.dst_stride[k]
        n += 1
    if item.swap_unit and item.swap_unit != item.size:
        # A complex number or a string is a short row of the numbers that are swapped.
        size = item.swap_unit
        out.count[n] = item.size // item.swap_unit
        out.src_stride[n] = size
        out.dst_stride[n] = size
        n += 1
    k = n - 2
    while k >= 0:
        if (
            out.src_stride[k] == out.src_stride[k + 1] * out.count[k + 1]
            and out.dst_stride[k] == out.dst_stride[k + 1] * out.count[k + 1]
        ):
            out.src_stride[k] = out.src_stride[k + 1]
            out.dst_stride[k] = out.dst_stride[k + 1]
            out.count[k] *= out.count[k + 1]
            n -= 1
            _remove_axis(out, k + 1, n)
        k -= 1
    while n < 2:  # a plane always has two axes
        for k in range(n, 0, -1):
            out.count[k] = out.count[k - 1]
            out.src_stride[k] = out.src_stride[k - 1]
            out.dst_stride[k] = out.dst_stride[k - 1]
        out.count[0] = 1
        out.src_stride[0] = 0
        out.dst_stride[0] = 0
        if n == 0:
            out.src_stride[0] = size
            out.dst_stride[0] = size
        n += 1
    out.ndim = n
    return size


cdef void _remove_axis(Box* box, int axis, int n) noexcept nogil:
    # Closes the gap that `axis` leaves; `n` axes remain.
    cdef int k
    for k in range(axis, n):
        box.count[k] = box.count[k + 1]
        box.src_stride[k] = box.src_stride[k + 1]
        box.dst_stride[k] = box.dst_stride[k + 1]


cdef int _axis_of_stride(const Py_ssize_t* stride, int n, Py_ssize_t size) noexcept nogil:
    cdef int k
    for k in range(n - 1, -1, -1):
        if stride[k] == size:
            return k
    return n - 1


cdef void _move_axis_last(Box* box, int axis) noexcept nogil:
    cdef Py_ssize_t count = box.count[axis]
    cdef Py_ssize_t src_stride = box.src_stride[axis]
    cdef Py_ssize_t dst_stride = box.dst_stride[axis]
    cdef int last = box.ndim - 1
    _remove_axis(box, axis, last)
    box.count[last] = count
    box.src_stride[last] = src_stride
    box.dst_stride[last] = dst_stride


cdef void copy_box(const Box* box, const Item* item, const char* src, char* dst) noexcept nogil:
    """Copy a box of items, swapping bytes as ``item`` says; every count is at least 1."""
    cdef Box b
    cdef int size = _reduce(box, item, &b)
    cdef PlaneFn plane = NULL
    cdef Py_ssize_t run = 0
    cdef int k, n, a, z
    cdef Py_ssize_t index[MAX_NDIM]
    cdef Py_ssize_t i
    n = b.ndim
    if item.swap_unit:
        if size == 2:
            plane = zarrs_swap2
        elif size == 4:
            plane = zarrs_swap4
        else:
            plane = zarrs_swap8
    elif b.src_stride[n - 1] == size and b.dst_stride[n - 1] == size:
        run = b.count[n - 1] * size
    elif size == 1:
        plane = zarrs_copy1
    elif size == 2:
        plane = zarrs_copy2
    elif size == 4:
        plane = zarrs_copy4
    elif size == 8:
        plane = zarrs_copy8
    elif size == 16:
        plane = zarrs_copy16
    if not run:
        # The plane to copy holds the axis that is contiguous in src and the one in dst.
        a = _axis_of_stride(b.src_stride, n, size)
        z = _axis_of_stride(b.dst_stride, n, size)
        if a != z:
            if a < z:
                _move_axis_last(&b, a)
                _move_axis_last(&b, z - 1)
            else:
                _move_axis_last(&b, a)
                _move_axis_last(&b, z)
        elif a != n - 1:
            _move_axis_last(&b, a)
    for k in range(n - 2):
        index[k] = 0
    while True:
        if run:
            for i in range(b.count[n - 2]):
                memcpy(dst + i * b.dst_stride[n - 2], src + i * b.src_stride[n - 2], run)
        elif plane != NULL:
            plane(src, b.src_stride[n - 2], b.src_stride[n - 1],
                  dst, b.dst_stride[n - 2], b.dst_stride[n - 1], b.count[n - 2], b.count[n - 1])
        else:
            zarrs_copy_any(src, b.src_stride[n - 2], b.src_stride[n - 1],
                           dst, b.dst_stride[n - 2], b.dst_stride[n - 1],
                           b.count[n - 2], b.count[n - 1], size)
        if item.n_segments:
            _swap_segments(item, dst, b.dst_stride[n - 2], b.dst_stride[n - 1],
                           b.count[n - 2], b.count[n - 1])
        k = n - 3
        while k >= 0:
            index[k] += 1
            src += b.src_stride[k]
            dst += b.dst_stride[k]
            if index[k] < b.count[k]:
                break
            src -= b.src_stride[k] * b.count[k]
            dst -= b.dst_stride[k] * b.count[k]
            index[k] = 0
            k -= 1
        if k < 0:
            return


cdef void _swap_segments(
    const Item* item, char* dst, Py_ssize_t d0, Py_ssize_t d1, Py_ssize_t n0, Py_ssize_t n1,
) noexcept nogil:
    cdef Py_ssize_t i, j
    cdef int s
    for i in range(n0):
        for j in range(n1):
            for s in range(item.n_segments):
                zarrs_reverse_units(dst + i * d0 + j * d1 + item.segments[s].offset,
                                    item.segments[s].unit, item.segments[s].count)


cdef void swap_run(const Item* item, char* data, Py_ssize_t n_items) noexcept nogil:
    """Swap, in place, items that follow each other in memory."""
    cdef Py_ssize_t count
    if item.swap_unit:
        count = n_items * (item.size // item.swap_unit)
        if item.swap_unit == 2:
            zarrs_swap2(data, 0, 2, data, 0, 2, 1, count)
        elif item.swap_unit == 4:
            zarrs_swap4(data, 0, 4, data, 0, 4, 1, count)
        else:
            zarrs_swap8(data, 0, 8, data, 0, 8, 1, count)
    elif item.n_segments:
        _swap_segments(item, data, 0, item.size, 1, n_items)


cdef Py_ssize_t source_extent(const Box* box, const Item* item, int axis) noexcept nogil:
    """Bytes from the first to past the last item of the sub-box made of ``axis`` and later axes."""
    cdef Py_ssize_t extent = item.size
    cdef int k
    for k in range(axis, box.ndim):
        extent += (box.count[k] - 1) * box.src_stride[k]
    return extent


cdef bint is_one_run(const Box* box, const Item* item) noexcept nogil:
    """Whether both sides are one run of memory in the same order."""
    cdef Py_ssize_t stride = item.size
    cdef int k
    for k in range(box.ndim - 1, -1, -1):
        if box.count[k] == 1:
            continue
        if box.src_stride[k] != stride or box.dst_stride[k] != stride:
            return False
        stride *= box.count[k]
    return True


cdef void _tail(const Box* box, int axis, Box* out) noexcept nogil:
    # The sub-box made of `axis` and later axes.
    cdef int k
    out.ndim = box.ndim - axis
    for k in range(axis, box.ndim):
        out.count[k - axis] = box.count[k]
        out.src_stride[k - axis] = box.src_stride[k]
        out.dst_stride[k - axis] = box.dst_stride[k]


cdef void copy_window(
    const Box* box, const Item* item, Py_ssize_t src_offset,
    const char* window, Py_ssize_t low, Py_ssize_t high, char* dst,
) noexcept nogil:
    """Copy those items of a box that lie in bytes ``low`` to ``high`` of the decoded chunk.

    ``window`` points to byte ``low``; the box starts at byte ``src_offset``. Source strides fall
    from axis to axis without overlap, and no item crosses an end of the window.
    """
    cdef Box rest
    cdef Py_ssize_t extent = source_extent(box, item, 0)
    cdef Py_ssize_t stride, inner, first, stop, full_first, full_stop, i
    if src_offset >= high or src_offset + extent <= low:
        return
    if src_offset >= low and src_offset + extent <= high:
        copy_box(box, item, window + (src_offset - low), dst)
        return
    # The box has an axis, for a single item cannot cross an end.
    stride = box.src_stride[0]
    inner = source_extent(box, item, 1)
    first = 0
    if low - src_offset - inner >= 0:
        first = (low - src_offset - inner) // stride + 1
    stop = _min(box.count[0], (high - src_offset + stride - 1) // stride)
    if first >= stop:
        return
    full_first = first
    if src_offset + first * stride < low:
        full_first += 1
    full_stop = stop
    if src_offset + (stop - 1) * stride + inner > high:
        full_stop -= 1
    _tail(box, 1, &rest)
    if first < full_first:
        copy_window(&rest, item, src_offset + first * stride, window, low, high,
                    dst + first * box.dst_stride[0])
    if full_first < full_stop:
        _tail(box, 0, &rest)
        rest.count[0] = full_stop - full_first
        copy_box(&rest, item, window + (src_offset + full_first * stride - low),
                 dst + full_first * box.dst_stride[0])
        _tail(box, 1, &rest)
    i = _max(full_stop, full_first)
    while i < stop:
        copy_window(&rest, item, src_offset + i * stride, window, low, high,
                    dst + i * box.dst_stride[0])
        i += 1


cdef bint touches_window(
    const Box* box, const Item* item, Py_ssize_t src_offset, Py_ssize_t low, Py_ssize_t high,
) noexcept nogil:
    """Whether any item of the box lies in bytes ``low`` to ``high`` of the decoded chunk."""
    cdef Box rest
    cdef Py_ssize_t extent = source_extent(box, item, 0)
    cdef Py_ssize_t stride, inner, first, stop
    if src_offset >= high or src_offset + extent <= low:
        return False
    if box.ndim == 0 or (src_offset >= low and src_offset + extent <= high):
        return True
    stride = box.src_stride[0]
    inner = source_extent(box, item, 1)
    first = 0
    if low - src_offset - inner >= 0:
        first = (low - src_offset - inner) // stride + 1
    stop = _min(box.count[0], (high - src_offset + stride - 1) // stride)
    if stop - first > 2:
        return True  # the middle one lies inside
    _tail(box, 1, &rest)
    while first < stop:
        if touches_window(&rest, item, src_offset + first * stride, low, high):
            return True
        first += 1
    return False


cdef void fill_box(
    const Box* box, const Item* item, const char* fill, char* dst,
) noexcept nogil:
    """Set every item on the destination side of a box to the bytes of ``fill``."""
    cdef Box b
    cdef Item plain
    cdef int k
    _tail(box, 0, &b)
    for k in range(b.ndim):
        b.src_stride[k] = 0
    plain.size = item.size
    plain.swap_unit = 0
    plain.n_segments = 0
    copy_box(&b, &plain, fill, dst)


# ---------------------------------------------------------------------------------------------
# Regions: one box, or many of one shape

cdef bint _copy_items(
    const Region* region, const Item* item, const char* src, const Py_ssize_t* src_at, char* dst,
    const Py_ssize_t* dst_at,
) noexcept nogil:
    # Scattered single items of a usual size; returns whether that is what they were.
    if region.box.ndim or item.n_segments or (item.swap_unit and item.swap_unit != item.size):
        return False
    return zarrs_copy_scattered(src, src_at, dst, dst_at, region.n, item.size,
                                item.swap_unit != 0)


cdef void copy_out(const Region* region, const Item* item, const char* chunk) noexcept nogil:
    """Copy what is selected of a decoded chunk to the array; regions of a read."""
    cdef Py_ssize_t i
    if not region.is_scattered:
        copy_box(&region.box, item, chunk + region.offset, region.data)
    elif not _copy_items(region, item, chunk, region.offsets, region.data, region.array_offsets):
        for i in range(region.n):
            copy_box(&region.box, item, chunk + region.offsets[i],
                     region.data + region.array_offsets[i])


cdef void copy_in(const Region* region, const Item* item, char* chunk) noexcept nogil:
    """Copy what is selected from the array to a decoded chunk; regions of a write.

    Of several values for one item the last one stays.
    """
    cdef Py_ssize_t i
    if not region.is_scattered:
        copy_box(&region.box, item, region.data, chunk + region.offset)
    elif not _copy_items(region, item, region.data, region.array_offsets, chunk, region.offsets):
        for i in range(region.n):
            copy_box(&region.box, item, region.data + region.array_offsets[i],
                     chunk + region.offsets[i])


cdef void fill_out(const Region* region, const Item* item, const char* fill) noexcept nogil:
    """Put the bytes of ``fill`` wherever the items of a missing chunk would go in the array."""
    cdef Item plain
    cdef Py_ssize_t i
    if not region.is_scattered:
        fill_box(&region.box, item, fill, region.data)
        return
    plain.size = item.size
    plain.swap_unit = 0
    plain.n_segments = 0
    if not _copy_items(region, &plain, fill, NULL, region.data, region.array_offsets):
        for i in range(region.n):
            fill_box(&region.box, item, fill, region.data + region.array_offsets[i])


cdef inline bint _is_nan2(uint16_t x) noexcept nogil:
    return (x & 0x7C00) == 0x7C00 and (x & 0x03FF) != 0


cdef bint all_fill(
    const char* data, Py_ssize_t n_items, Py_ssize_t itemsize,
    const char* fill, FillKind kind, bint swapped,
) noexcept nogil:
    """Whether all items equal the fill value; ``swapped``: their bytes are in foreign order."""
    cdef Py_ssize_t i, k
    cdef Py_ssize_t unit
    cdef uint16_t half
    cdef float single
    cdef double double_
    cdef char item[16]
    cdef bint found
    if kind == FILL_BITS:
        if memcmp(data, fill, itemsize):
            return False
        # Every item equals its neighbour, and so the first.
        return n_items == 1 or memcmp(data, data + itemsize, (n_items - 1) * itemsize) == 0
    unit = 2 if kind == FILL_NAN2 else 4 if kind == FILL_NAN4 else 8
    for i in range(n_items):
        found = False
        for k in range(itemsize // unit):  # a complex number is NaN when either part is
            memcpy(item, data + i * itemsize + k * unit, unit)
            if swapped:
                zarrs_reverse_units(item, unit, 1)
            if kind == FILL_NAN2:
                memcpy(&half, item, 2)
                found = found or _is_nan2(half)
            elif kind == FILL_NAN4:
                memcpy(&single, item, 4)
                found = found or isnan(single)
            else:
                memcpy(&double_, item, 8)
                found = found or isnan(double_)
        if not found:
            return False
    return True
