"""Stable sorting of positions together with their places; see ``_sorting.pyx``."""


cdef int sort_positions(Py_ssize_t* positions, Py_ssize_t* places, Py_ssize_t n) except -1
