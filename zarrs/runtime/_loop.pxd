"""The parallel loop; see ``_loop.pyx``."""

from zarrs._core cimport Team, Workspace

# One step of a loop: whose, which, and with which thread's workspace.
ctypedef void (*StepFn)(void* context, Py_ssize_t i, Workspace* space) noexcept nogil

cdef void run_loop(
    StepFn step, void* context, Py_ssize_t n, Py_ssize_t together, const Team* team) noexcept nogil
