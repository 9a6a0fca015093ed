"""Locks of keys that are written.

A call that writes holds the locks of its keys from before old bytes are read until after the new
ones are stored, so that several that write parts of one chunk lose nothing. Writes come from event
loops of several threads, none of which may block: who has to wait leaves a future behind.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


class KeyLocks:
    """Locks by name, for coroutines of any event loop."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held: dict[str, deque[asyncio.Future[None]] | None] = {}  # and who waits for it

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

    async def _take(self, name: str) -> None:
        with self._mutex:
            if name not in self._held:
                self._held[name] = None
                return
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._held[name]
            if waiting is None:
                waiting = self._held[name] = deque()
            waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            with self._mutex:
                had_turn = turn not in waiting
                if not had_turn:
                    waiting.remove(turn)
            if had_turn:
                self._give(name)
            raise

    def _give(self, name: str) -> None:
        # To the one who has waited longest, on whose loop it is still held meanwhile.
        while True:
            with self._mutex:
                waiting = self._held[name]
                if not waiting:
                    del self._held[name]
                    return
                turn = waiting.popleft()
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
