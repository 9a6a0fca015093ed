"""Threads: how many there may be, and the few that native calls are handed to.

A call runs its parallel loop in one of a few threads that belong to this package. OpenMP keeps a
team of threads for every thread that runs loops: here the first thread, the one that is asked
first, keeps its team from call to call, and the others, which are asked while it is busy, end
theirs with the call. So the process never has more than twice as many threads of ours as CPUs, and
a forked child, which has none of these threads, finds nothing of theirs to wait for.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zarrs import _core
from zarrs._openmp import may_spin

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """Count the CPUs that one call may use: those there are, or ``OMP_NUM_THREADS``, if less."""
    cpus = cpu_count()
    # A list is allowed there, one number for each level of nesting.
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        cpus = min(cpus, int(first))
    return cpus


def cpu_count() -> int:
    """Count the CPUs of this process's affinity mask, or those its control group pays for."""
    try:
        cpus = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cpus = os.cpu_count() or 1
    quota = cgroup_quota(CGROUP)
    if quota is not None:
        cpus = min(cpus, round(quota))
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

    @property
    def used(self) -> int:
        """Threads in use."""
        return self._used

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
    """The threads and the budget of one process."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.cpus = 1  # counted when the first thread is needed
        self.keeper: int | None = None  # the first thread, if it may keep its team
        self.kept = 1  # threads of that team, with itself
        self._first: ThreadPoolExecutor | None = None
        self._others: ThreadPoolExecutor | None = None
        self._first_is_busy = False
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., T], *args: Any, **named: Any) -> Future[T]:
        """Give a call to the first thread, or to another one if that is busy.

        If there can be none, it has been run when this returns: the interpreter is about to end, or
        the system has no more threads.
        """
        call: Future[T] = Future()
        first = threading.Lock()

        def run() -> None:
            if first.acquire(blocking=False):
                _run_here(call, function, *args, **named)

        try:
            self._submit(call, run)
        except RuntimeError:  # `run` may be in a queue all the same, and about to be taken from it
            run()
        return call

    def _submit(self, call: Future[T], run: Callable[[], None]) -> None:
        with self._lock:
            if self._first is None:
                self.cpus = cpu_count()
                self._first = ThreadPoolExecutor(1, "zarrs-first", self._keep_team)
            if not self._first_is_busy or self.cpus == 1:
                self._first_is_busy = True
                call.add_done_callback(self._first_is_idle)  # before anybody else learns of it
                self._first.submit(run)
                return
            if self._others is None:
                self._others = ThreadPoolExecutor(self.cpus - 1, "zarrs")
            self._others.submit(run)

    def _keep_team(self) -> None:
        if not may_spin:
            self.keeper = threading.get_ident()

    def _first_is_idle(self, _: Future[Any]) -> None:
        self._first_is_busy = False


_state = _State()


def _reset_after_fork() -> None:
    # A forked child has the parent's objects but none of its threads; locks may be held for ever.
    global _state
    _state = _State()


os.register_at_fork(after_in_child=_reset_after_fork)


def claim(wanted: int, limit: int) -> int:
    """Take threads for a loop from the budget; beside a team that is kept, no more than it leaves.

    They are given back with ``budget().release``.
    """
    state = _state
    if state.keeper not in (None, threading.get_ident()):
        limit = min(limit, state.cpus - (state.kept - 1))
    return state.budget.claim(wanted, limit)


def begin_loop(granted: int) -> None:
    """End the team that the first thread kept, if it has no use for it and others are at work."""
    state = _state
    if state.keeper != threading.get_ident():
        return
    if granted > 1:
        state.kept = granted
    elif state.budget.used + state.kept - 1 > state.cpus:
        _core.release_team()
        state.kept = 1


def end_loop() -> None:
    """End the calling thread's OpenMP team, unless this is the first thread."""
    if _state.keeper != threading.get_ident():
        _core.release_team()


def team_size(granted: int) -> int:
    """Return with how many threads a loop is run; see ``_openmp.may_spin``."""
    return granted + 1 if may_spin and granted == available_cpus() > 1 else granted


def submit(function: Callable[..., T], *args: Any, **named: Any) -> Future[T]:
    """Run a function in one of the threads for native calls, away from zarr's event loop."""
    return _state.submit(function, *args, **named)


def submit_alone(function: Callable[..., T], *args: Any, **named: Any) -> Future[T]:
    """Run a function in a thread of its own, so that what it waits for may need those of `submit`.

    A codec in Python can read other arrays.
    """
    call: Future[T] = Future()
    thread = threading.Thread(
        target=_run_here, args=(call, function, *args), kwargs=named, name="zarrs-alone"
    )
    thread.start()
    return call


def _run_here(call: Future[T], function: Callable[..., T], *args: Any, **named: Any) -> None:
    # Runs a function, unless the call was cancelled, and keeps with the call what it returns.
    if call.set_running_or_notify_cancel():
        try:
            call.set_result(function(*args, **named))
        except BaseException as error:
            call.set_exception(error)


def budget() -> Budget:
    """Return the process's budget of threads."""
    return _state.budget
