"""The order in which a new shard holds its inner chunks: an option of zarr's sharding codec."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport malloc
from libc.string cimport memset

from zarrs._core cimport COLEXICOGRAPHIC, LEXICOGRAPHIC, MAX_NDIM, Axis, Shard, ShardSpec


cdef void _colexicographic(
    const Py_ssize_t* grid, int ndim, Py_ssize_t n, Py_ssize_t* order,
) noexcept nogil:
    cdef Py_ssize_t i, rest, index, stride
    cdef int k
    for i in range(n):
        rest = i
        index = 0
        stride = n
        for k in range(ndim):  # the first axis moves fastest
            stride //= grid[k]
            index += rest % grid[k] * stride
            rest //= grid[k]
        order[i] = index


cdef void _morton(
    const Py_ssize_t* grid, int ndim, Py_ssize_t n, Py_ssize_t* order,
) noexcept nogil:
    # Counts up the code whose lowest bit is the first axis's, the next one the second's, ...; an
    # axis out of bits drops out. Codes outside of the grid are skipped.
    cdef int axis_of[64]
    cdef Py_ssize_t stride[MAX_NDIM]
    cdef Py_ssize_t at[MAX_NDIM]
    cdef int bits = 0
    cdef int k, bit
    cdef Py_ssize_t step = 1
    cdef Py_ssize_t i = 0
    cdef uint64_t code = 0
    cdef bint inside
    for k in range(ndim - 1, -1, -1):
        stride[k] = step
        step *= grid[k]
    for bit in range(63):
        for k in range(ndim):
            if (grid[k] - 1) >> bit and bits < 64:
                axis_of[bits] = k
                bits += 1
    while i < n:
        memset(at, 0, ndim * sizeof(Py_ssize_t))
        for bit in range(bits - 1, -1, -1):
            at[axis_of[bit]] = 2 * at[axis_of[bit]] + ((code >> bit) & 1)
        inside = True
        order[i] = 0
        for k in range(ndim):
            inside = inside and at[k] < grid[k]
            order[i] += at[k] * stride[k]
        i += inside
        code += 1


cdef Py_ssize_t* make_write_order(
    const ShardSpec* shard, const Axis* axes, Py_ssize_t n,
) noexcept nogil:
    """The inner chunks of a new shard in the order in which it holds them; the caller frees it.

    NULL means that there is no memory for it.
    """
    cdef Py_ssize_t grid[MAX_NDIM]
    cdef Py_ssize_t* order = <Py_ssize_t*> malloc(max(n, <Py_ssize_t> 1) * sizeof(Py_ssize_t))
    cdef Py_ssize_t i
    cdef int k
    if order == NULL:
        return NULL
    for k in range(shard.ndim):
        grid[k] = axes[k].size // shard.inner[k]
    if shard.write_order == LEXICOGRAPHIC:
        for i in range(n):
            order[i] = i
    elif shard.write_order == COLEXICOGRAPHIC:
        _colexicographic(grid, shard.ndim, n, order)
    else:
        _morton(grid, shard.ndim, n, order)
    return order


cdef int prepare_inner_order(Shard shard) except -1:
    """Put the inner chunks of shards inside of a shard in order, once."""
    cdef const ShardSpec* inner = shard.spec.chain.shard
    cdef Axis axes[MAX_NDIM]
    cdef int k
    if inner == NULL:
        return 0
    prepare_inner_order(shard.chain.shard)
    if shard.inner_order != NULL:
        return 0
    for k in range(shard.spec.ndim):
        axes[k].size = shard.spec.inner[shard.spec.order[k]]
    shard.inner_order = make_write_order(inner, axes, shard.spec.inner_n)
    if shard.inner_order == NULL:
        raise MemoryError("no memory for the order of inner chunks")
    shard.spec.inner_order = shard.inner_order
    return 0
