"""Directories on the disk; see ``_sync.pyx``."""

from zarrs._core cimport Tasks


cdef void sync_directories(Tasks* tasks) noexcept nogil
