"""Reading of big chunks in pieces that threads share; see ``_pieces.pyx``."""

from zarrs._core cimport ChainSpec, Failure, Status, Tasks, Team
from zarrs.chunks._partial cimport Source


cdef enum:
    WAVE = 128  # chunks that are taken apart at the same time


cdef Status open_source(
    Source* source, const Tasks* tasks, const ChainSpec* chain, Failure* failure) noexcept nogil

cdef int read_pieces(
    Tasks* tasks, const ChainSpec* chain, Source* sources, Py_ssize_t n_sources,
    const Team* team) except -1
