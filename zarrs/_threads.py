"""Threads: how many there may be, and the few that native calls are handed to.

A call runs its parallel loop in one thread of a small pool that belongs to this package. OpenMP
keeps a team of threads for every thread that runs loops: here one thread of the pool keeps its
team, the others end theirs with the call. So the process has at most twice as many threads of ours
as CPUs while none of many callers waits, and a forked child, which has none of these threads, finds
nothing of theirs to wait for.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zarrs import _core
from zarrs._openmp import may_spin

CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Count the CPUs this process may use.

    The least of: the CPUs of its affinity mask, those its control group's quota pays for, and
    ``OMP_NUM_THREADS``.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cpus = os.cpu_count() or 1
    quota = cgroup_quota(CGROUP)
    if quota is not None:
        cpus = min(cpus, max(1, round(quota)))
    # A list is allowed there, one number for each level of nesting.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        cpus = min(cpus, int(first))
    return max(1, cpus)


def cgroup_quota(root: Path) -> float | None:
    """Return how many CPUs a container's quota pays for, or None if there is no quota."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        if int(quota) > 0 and int(period) > 0:
            return int(quota) / int(period)
    except ValueError:  # "max"
        pass
    return None


def balance(workers: int, n_chunks: int, minimum: int, maximum: int) -> tuple[int, int]:
    """Split a budget of threads between chunks (outer) and codecs (inner).

    Parameters
    ----------
    workers : int
        The budget: the product of outer and inner stays within it.
    n_chunks : int
        Chunks there are.
    minimum, maximum : int
        Bounds for the outer number, as far as chunks and workers allow.

    Returns
    -------
    outer, inner : int
        The pair that leaves the fewest workers idle; of equal ones that with more chunks at once.

    Examples
    --------
    >>> balance(8, 100, 4, 8)
    (8, 1)
    >>> balance(8, 5, 4, 8)
    (4, 2)
    >>> balance(8, 1, 4, 8)
    (1, 8)
    """
    most = max(1, min(workers, n_chunks, maximum))
    least = min(most, max(1, minimum))
    outer = max(range(least, most + 1), key=lambda n: (n * (workers // n), n))
    return outer, workers // outer


class Budget:
    """Threads in use by the whole process, so that many callers do not add up to many threads.

    A call always gets one thread, and more only while the total stays within the CPUs.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = 0

    def claim(self, wanted: int, limit: int) -> int:
        """Take up to ``wanted`` threads, at least one; give them back with ``release``."""
        with self._lock:
            granted = max(1, min(wanted, limit - self._used))
            self._used += granted
            return granted

    def release(self, granted: int) -> None:
        """Give threads back."""
        with self._lock:
            self._used -= granted


class _State:
    """The pool and the budget of one process."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.keeper: int | None = None  # the thread that keeps its team
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(available_cpus(), thread_name_prefix="zarrs")
            return self._pool


_state = _State()


def _reset_after_fork() -> None:
    # A forked child has the parent's objects but none of its threads; locks may be held for ever.
    global _state
    _state = _State()


os.register_at_fork(after_in_child=_reset_after_fork)


def end_loop() -> None:
    """End the calling thread's OpenMP team, unless this is the thread that keeps it."""
    state, thread = _state, threading.get_ident()
    if state.keeper is None and not may_spin:
        state.keeper = thread
    if state.keeper != thread:
        _core.release_team()


def team_size(granted: int) -> int:
    """Return with how many threads a loop is run; see ``_openmp.may_spin``."""
    return granted + 1 if may_spin and granted == available_cpus() > 1 else granted


def pool() -> ThreadPoolExecutor:
    """Return the threads that native calls run in, away from zarr's event loop."""
    return _state.pool()


def budget() -> Budget:
    """Return the process's budget of threads."""
    return _state.budget
