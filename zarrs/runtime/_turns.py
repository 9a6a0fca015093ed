"""Turns of the event loop: calls that never wait let others run.

A small read is done without a suspension, so a coroutine that does nothing but small reads would
keep its event loop from everything else: timeouts, cancellation, other tasks. So each call asks
whether others are ready to run, and whether the loop has had its turn within a millisecond: a timer
is ready only after that. A callback that the loop runs on its next turn says that it had one.
"""

from __future__ import annotations

import asyncio
import threading
import time

LONGEST = 0.001  # seconds that calls may keep an event loop from its next turn


class _Watch(threading.local):
    # Of the thread's event loop, since its last turn.
    loop: asyncio.AbstractEventLoop | None = None  # None: there was no call since then
    since = 0.0  # when the first call was


_watch = _Watch()


def is_loop_waiting() -> bool:
    """Whether others wait for the running event loop's turn, or calls have kept it for too long.

    Whoever learns that awaits ``asyncio.sleep(0)``. Which callbacks are ready only asyncio's own
    loops tell, in an attribute that is not public; with other loops the time alone decides.
    """
    loop = asyncio.get_running_loop()
    is_watched = _watch.loop is loop
    if len(getattr(loop, "_ready", ())) > is_watched:  # `_has_turned` is one of them
        return True
    if is_watched:
        return time.perf_counter() - _watch.since > LONGEST
    _watch.loop = loop
    _watch.since = time.perf_counter()
    loop.call_soon(_has_turned)
    return False


def _has_turned() -> None:
    _watch.loop = None
