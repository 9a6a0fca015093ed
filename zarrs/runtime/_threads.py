"""Threads: how many there may be, and the few that native calls are handed to.

A call runs its parallel loop in one of a few threads that belong to this package. OpenMP keeps a
team of threads for every thread that runs loops: here the first thread, the one that is asked
first, keeps its team from call to call, and the others, which are asked while it is busy, end
theirs with the call. So the process never has more than twice as many threads of ours as CPUs
(beside at most eight that wait for files, see ``filesystem/_commits.pyx``), and a forked child,
which has none of these threads, finds nothing of theirs to wait for.

The threads end when none has been needed for a second, or with the event loop that needed one last.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from zarrs.runtime import _loop
from zarrs.runtime._blocking_call import BlockingCall
from zarrs.runtime._cpus import available_cpus, cpu_count
from zarrs.runtime._openmp import may_spin

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

IDLE = 1.0  # seconds after which an idle thread ends


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


def _no_loop() -> None:
    return None


class _OneThread(ThreadPoolExecutor):
    """A pool of one thread, which looks for no idle one.

    It would do so with a lock that a signal can leave held.
    """

    def _adjust_thread_count(self) -> None:
        if not self._threads:
            super()._adjust_thread_count()


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
        self._calls: set[Future[Any] | BlockingCall] = set()  # that have not ended
        self._last_end = 0.0  # of a call
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()  # loops with whose end threads end
        self._loop: Callable[[], Any] = _no_loop  # a weak reference: which one looks after idleness
        self._watcher: threading.Thread | None = None  # does it where there is no loop
        # Whatever runs while it is held can end a loop, whose end takes it again.
        self._lock = threading.RLock()

    def submit(
        self, call: Future[T] | BlockingCall, function: Callable[..., T], *args: Any, **named: Any
    ) -> None:
        """Give a call to the first thread, or to another one if that is busy.

        If there can be none, it has been run when this returns: the interpreter is about to end, or
        the system has no more threads.
        """
        first = threading.Lock()

        def run() -> None:
            if first.acquire(blocking=False):
                _run_here(call, function, *args, **named)

        try:
            self._submit(call, run)
        except RuntimeError:  # `run` may be in a queue all the same, and about to be taken from it
            run()
        except BaseException:  # a signal
            if call.cancel():
                self._calls.discard(call)
                self._first_is_busy = False
            raise

    def _submit(self, call: Future[T] | BlockingCall, run: Callable[[], None]) -> None:
        with self._lock:
            self._calls.add(call)
            call.add_done_callback(self._has_ended)
            self._end_later()
            if self._first is None:
                self.cpus = cpu_count()
                self._first = _OneThread(1, "zarrs-first", self._keep_team)
            if not self._first_is_busy or self.cpus == 1:
                call.add_done_callback(self._first_is_idle)  # before anybody else learns of it
                self._first_is_busy = True
                self._first.submit(run)
                return
            if self._others is None:
                self._others = ThreadPoolExecutor(self.cpus - 1, "zarrs")
            self._others.submit(run)

    def _keep_team(self) -> None:
        if not may_spin:
            self.keeper = threading.get_ident()

    def _first_is_idle(self, _: Future[Any] | BlockingCall) -> None:
        self._first_is_busy = False

    def _has_ended(self, call: Future[Any] | BlockingCall) -> None:
        with self._lock:
            self._last_end = time.monotonic()
            self._calls.discard(call)

    def _end_later(self) -> None:
        # The caller's event loop looks after some time whether the threads are idle; a thread does
        # for callers that have none.
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if self._watcher is None:
                watcher = threading.Thread(
                    target=self._watch,
                    name="zarrs-idle",
                    daemon=True,  # the interpreter's end does not wait for it
                )
                watcher.start()
                self._watcher = watcher
            return
        if loop not in self._known:
            self._known.add(loop)
            weakref.finalize(loop, self._end_if_idle).atexit = False
        if self._loop() is not loop:
            self._loop = weakref.ref(loop)
            loop.call_later(IDLE, self._end_or_wait, loop)

    def _watch(self) -> None:
        while True:
            with self._lock:
                rest = self._rest()
                if rest <= 0:
                    self._watcher = None
                    self._end_if_idle()
                    return
            time.sleep(rest)

    def _rest(self) -> float:
        # Seconds until the threads have been idle for long enough.
        return IDLE if self._calls else self._last_end + IDLE - time.monotonic()

    def _end_or_wait(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = self._rest()
        if self._loop() is not loop:
            return
        if rest > 0:
            loop.call_later(rest, self._end_or_wait, loop)
            return
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self is not _state:  # but that of the process this one was forked from
            return
        with self._lock:
            if self._calls:
                return
            ended = [pool for pool in (self._first, self._others) if pool is not None]
            self._first = self._others = self.keeper = None
            self._first_is_busy = False
            self.kept = 1
            self._loop = _no_loop
        for pool in ended:
            pool.shutdown(wait=False)


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
        _loop.release_team()
        state.kept = 1


def end_loop() -> None:
    """End the calling thread's OpenMP team, unless this is the first thread."""
    if _state.keeper != threading.get_ident():
        _loop.release_team()


def team_size(granted: int) -> int:
    """Return with how many threads a loop is run; see ``_openmp.may_spin``."""
    return granted + 1 if may_spin and granted == available_cpus() > 1 else granted


def submit(function: Callable[..., T], *args: Any, **named: Any) -> Future[T]:
    """Run a function in one of the threads for native calls, away from zarr's event loop."""
    call: Future[T] = Future()
    _state.submit(call, function, *args, **named)
    return call


def submit_blocking(call: BlockingCall, function: Callable[..., Any], *args: Any) -> None:
    """Run a function in one of the threads for native calls, for a thread that waits for it.

    The call is the caller's, who has to cancel it, or to wait, whatever is raised here or later.
    """
    _state.submit(call, function, *args)


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


def _run_here(
    call: Future[T] | BlockingCall, function: Callable[..., T], *args: Any, **named: Any
) -> None:
    # Runs a function, unless the call was cancelled, and keeps with the call what it returns.
    if call.set_running_or_notify_cancel():
        try:
            call.set_result(function(*args, **named))
        except BaseException as error:
            call.set_exception(error)


def budget() -> Budget:
    """Return the process's budget of threads."""
    return _state.budget
