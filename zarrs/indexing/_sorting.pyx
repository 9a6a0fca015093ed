"""Sorting of positions together with their places, values for the same one staying in their order.

Few are sorted by comparing them. Many are sorted digit by digit, which takes the same time for each
however many they are.
"""

from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy, memset


cdef enum:
    FEW = 1024
    DIGIT = 11  # bits
    N_DIGITS = 2048


cdef struct Pair:
    Py_ssize_t position
    Py_ssize_t place
    Py_ssize_t number


cdef int _by_position(const void* a, const void* b) noexcept nogil:
    cdef const Pair* x = <const Pair*> a
    cdef const Pair* y = <const Pair*> b
    if x.position != y.position:
        return (x.position > y.position) - (x.position < y.position)
    return (x.number > y.number) - (x.number < y.number)


cdef void _sort_few(
    Py_ssize_t* positions, Py_ssize_t* places, Py_ssize_t n, Pair* pairs,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        pairs[i].position = positions[i]
        pairs[i].place = places[i]
        pairs[i].number = i
    qsort(pairs, n, sizeof(Pair), _by_position)
    for i in range(n):
        positions[i] = pairs[i].position
        places[i] = pairs[i].place


cdef void _sort_many(
    Py_ssize_t* positions, Py_ssize_t* places, Py_ssize_t n, Py_ssize_t* other_positions,
    Py_ssize_t* other_places,
) noexcept nogil:
    # From the lowest digit to the highest, back and forth between two places in memory.
    cdef Py_ssize_t begins[N_DIGITS]
    cdef Py_ssize_t* src = positions
    cdef Py_ssize_t* src_places = places
    cdef Py_ssize_t* dst = other_positions
    cdef Py_ssize_t* dst_places = other_places
    cdef Py_ssize_t low = positions[0]
    cdef Py_ssize_t high = positions[0]
    cdef Py_ssize_t i, digit, count, at
    cdef int shift = 0
    for i in range(n):
        low = min(low, positions[i])
        high = max(high, positions[i])
    while shift < 63 and (high - low) >> shift > 0:
        memset(begins, 0, sizeof(begins))
        for i in range(n):
            begins[((src[i] - low) >> shift) & (N_DIGITS - 1)] += 1
        at = 0
        for digit in range(N_DIGITS):
            count = begins[digit]
            begins[digit] = at
            at += count
        for i in range(n):
            digit = ((src[i] - low) >> shift) & (N_DIGITS - 1)
            at = begins[digit]
            begins[digit] += 1
            dst[at] = src[i]
            dst_places[at] = src_places[i]
        src, dst = dst, src
        src_places, dst_places = dst_places, src_places
        shift += DIGIT
    if src != positions:
        memcpy(positions, src, n * sizeof(Py_ssize_t))
        memcpy(places, src_places, n * sizeof(Py_ssize_t))


cdef int sort_positions(Py_ssize_t* positions, Py_ssize_t* places, Py_ssize_t n) except -1:
    """Sort positions, none of which is negative, and their places with them."""
    cdef bint is_few = n <= FEW
    cdef void* scratch = malloc(n * (sizeof(Pair) if is_few else 2 * sizeof(Py_ssize_t)))
    if scratch == NULL:
        raise MemoryError(f"no memory to sort {n} indices")
    with nogil:
        if is_few:
            _sort_few(positions, places, n, <Pair*> scratch)
        else:
            _sort_many(positions, places, n, <Py_ssize_t*> scratch, <Py_ssize_t*> scratch + n)
    free(scratch)
    return 0
