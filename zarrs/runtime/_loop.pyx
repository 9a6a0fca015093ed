"""The parallel loop. No other module knows of OpenMP."""

from cython.parallel cimport prange, threadid


cdef extern from "_native/openmp.h" nogil:
    void zarrs_release_team()
    int zarrs_start_openmp()

zarrs_start_openmp()


cdef void run_loop(
    StepFn step, void* context, Py_ssize_t n, Py_ssize_t together, const Team* team,
) noexcept nogil:
    """Call ``step`` for all numbers below ``n``, a thread taking ``together`` of them at a time."""
    cdef Py_ssize_t i
    if team.threads == 1 or n <= 1:
        for i in range(n):
            step(context, i, team.spaces[0])
    else:
        for i in prange(n, num_threads=team.threads, schedule="dynamic", chunksize=together):
            step(context, i, team.spaces[threadid()])


def release_team() -> None:
    """End the threads that OpenMP keeps for the calling thread."""
    with nogil:
        zarrs_release_team()
