"""Locks of keys that are written.

A call that writes holds the locks of its keys from before old bytes are read until after the new
ones are stored, so that several that write parts of one chunk lose nothing. Writes come from event
loops of several threads, none of which may block: who has to wait leaves a future behind. Writes
without an event loop come from threads, which may: they wait for an event.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    _Turn = asyncio.Future[None] | threading.Event  # what somebody waits for

_AnyTurn = TypeVar("_AnyTurn", "asyncio.Future[None]", threading.Event)


class KeyLocks:
    """Locks by name, for coroutines of any event loop and for threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held: dict[str, deque[_Turn] | None] = {}  # and who waits for it

    @asynccontextmanager
    async def hold(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of several names; all take them in the same order."""
        held = []
        try:
            for name in sorted(set(names)):
                await self._take(name)
                held.append(name)
            yield
        finally:
            for name in held:
                self._give(name)

    @contextmanager
    def hold_now(self, names: Iterable[str]) -> Iterator[None]:
        """Hold the locks of several names, as `hold` does, from a thread that may block."""
        held = []
        try:
            for name in sorted(set(names)):
                turn = self._take_or_queue(name, threading.Event)
                if turn is not None:
                    try:
                        turn.wait()
                    except BaseException:
                        self._leave(name, turn)
                        raise
                held.append(name)
            yield
        finally:
            for name in held:
                self._give(name)

    async def _take(self, name: str) -> None:
        turn = self._take_or_queue(name, asyncio.get_running_loop().create_future)
        if turn is not None:
            try:
                await turn
            except asyncio.CancelledError:
                self._leave(name, turn)
                raise

    def _take_or_queue(self, name: str, make_turn: Callable[[], _AnyTurn]) -> _AnyTurn | None:
        # None: the lock is taken. Otherwise it is when the turn comes.
        with self._mutex:
            if name not in self._held:
                self._held[name] = None
                return None
            turn = make_turn()
            waiting = self._held[name]
            if waiting is None:
                waiting = self._held[name] = deque()
            waiting.append(turn)
            return turn

    def _leave(self, name: str, turn: _Turn) -> None:
        # Of one who waits no longer; his turn may have come just now.
        with self._mutex:
            waiting = self._held[name]
            if waiting is not None and turn in waiting:
                waiting.remove(turn)
                return
        self._give(name)

    def _give(self, name: str) -> None:
        # To the one who has waited longest, on whose loop it is still held meanwhile.
        while True:
            with self._mutex:
                waiting = self._held[name]
                if not waiting:
                    del self._held[name]
                    return
                turn = waiting.popleft()
            if isinstance(turn, threading.Event):
                turn.set()
                return
            try:
                turn.get_loop().call_soon_threadsafe(_wake, turn)
            except RuntimeError:  # the loop was closed, and no task waits in it
                continue
            return


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():  # one that was cancelled gives the lock back itself
        turn.set_result(None)


_locks = KeyLocks()


def key_locks() -> KeyLocks:
    """Return the locks of this process."""
    return _locks


def _reset_after_fork() -> None:
    # Those who held or awaited locks are not in a forked child.
    global _locks
    _locks = KeyLocks()


os.register_at_fork(after_in_child=_reset_after_fork)
