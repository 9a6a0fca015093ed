"""Locks of keys that are written.

A call that writes holds the locks of its keys from before old bytes are read until after the new
ones are stored, so that several that write parts of one chunk lose nothing. Writes come from event
loops of several threads, none of which may block: who has to wait leaves a future behind. Writes
without an event loop come from threads, which may. A thread that looks at something before it
writes to it holds the lock for both.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from zarrs.storage._lock_table import LockTable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

# The locks that the caller holds for what it calls; coroutines that it waits for inherit this.
_own: ContextVar[frozenset[str]] = ContextVar("own", default=frozenset())


class KeyLocks:
    """Locks by name, for coroutines of any event loop and for threads."""

    def __init__(self) -> None:
        self._table = LockTable()

    @property
    def is_free(self) -> bool:
        """Whether no lock is held."""
        return not self._table.held

    @asynccontextmanager
    async def hold(self, names: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of several names; all take them in the same order."""
        held = []
        try:
            for name in sorted(set(names) - _own.get()):
                await self._take(name)
                held.append(name)
            yield
        finally:
            for name in held:
                self._table.give(name)

    async def _take(self, name: str) -> None:
        turn = self._table.take(name, asyncio.get_running_loop())
        if turn is not None:
            try:
                await turn
            except asyncio.CancelledError:
                self._table.leave(name, turn)
                raise

    def holding(self, names: Iterable[str], work: Callable[[], None]) -> None:
        """Do some work holding the locks of several names, in a thread that may block.

        Raises
        ------
        RuntimeError
            If the event loop that runs in this thread has to go on for the locks to be had.
        """
        taken: list[str] = []
        wanted = sorted(set(names) - _own.get())
        try:
            self._table.take_all(wanted, taken)
            work()
        finally:
            self._table.give_all(taken)

    def owning(self, names: Iterable[str], work: Callable[[], None]) -> None:
        """Do some work as `holding` does; what it calls may write to these names."""
        names = frozenset(names)

        def work_as_owner() -> None:
            before = _own.set(_own.get() | names)
            try:
                work()
            finally:
                _own.reset(before)

        self.holding(names, work_as_owner)


_locks = KeyLocks()


def key_locks() -> KeyLocks:
    """Return the locks of this process."""
    return _locks


def lock_names(where: str, keys: Iterable[Any]) -> list[str]:
    """Return the names of the locks of a store's keys; `where` is the store's `location`."""
    return [f"{where}/{key}" for key in keys]


def _reset_after_fork() -> None:
    # Those who held or awaited locks are not in a forked child.
    global _locks
    _locks = KeyLocks()
    _own.set(frozenset())


os.register_at_fork(after_in_child=_reset_after_fork)
