"""The table behind the locks of keys; see ``_key_locks.py``.

It is compiled, since Python handles signals between its own instructions only: nothing here can be
interrupted between taking a lock and remembering that, or between giving back one and the next.
"""

import asyncio
import threading
from collections import deque

cdef object _Future = asyncio.Future
cdef object _current_loop = asyncio._get_running_loop
cdef object _new_lock = threading.Lock


cdef class LockTable:
    """Locks by name. Turns are futures of event loops, or locks that a thread waits for.

    Attributes
    ----------
    held : dict
        Of every name whose lock is held: who waits for it (a deque, or None).
    owners : dict
        The event loops on which locks are held.
    """

    cdef readonly dict held
    cdef readonly dict owners
    cdef object mutex

    def __cinit__(self):
        self.held = {}
        self.owners = {}
        self.mutex = threading.Lock()

    def take(self, str name, loop) -> object | None:
        """Take a lock for a coroutine of an event loop, or return the turn to wait for."""
        with self.mutex:
            if name in self.held:
                turn = loop.create_future()
                self._queue(name, turn)
                return turn
            self.held[name] = None
            self.owners[name] = loop
            return None

    def take_all(self, names, list taken) -> None:
        """Take the locks of sorted names, blocking the thread; ``taken`` has those that are held.

        Raises
        ------
        RuntimeError
            If the thread would wait for itself: its event loop has to run for a lock to be given.
        """
        loop = _current_loop()
        for name in names:
            with self.mutex:
                turn = None
                if name in self.held:
                    if loop is not None and self._needs(loop, name):
                        raise RuntimeError(
                            f"a coroutine of this thread's event loop writes {name!r}, and a write "
                            "that blocks the loop would wait for it for ever: await the methods of "
                            "array.async_array in coroutines"
                        )
                    turn = _new_lock()
                    turn.acquire()
                    self._queue(name, turn)
                else:
                    self.held[name] = None
            if turn is not None:
                try:
                    turn.acquire()  # until it is given; signals are handled meanwhile
                except BaseException:
                    self.leave(name, turn)
                    raise
            taken.append(name)

    cdef bint _needs(self, loop, name):
        # Whether a lock is held, or will be before it can be had, on this event loop.
        if self.owners.get(name) is loop:
            return True
        for turn in self.held[name] or ():
            if isinstance(turn, _Future) and turn.get_loop() is loop:
                return True
        return False

    cdef _queue(self, name, turn):
        waiting = self.held[name]
        if waiting is None:
            waiting = self.held[name] = deque()
        waiting.append(turn)

    def leave(self, name, turn) -> None:
        """Wait no longer; the turn may have come just now."""
        with self.mutex:
            waiting = self.held.get(name)
            if waiting is not None and turn in waiting:
                waiting.remove(turn)
                return
        self.give(name)

    def give_all(self, list taken) -> None:
        """Give back locks; what is raised meanwhile is raised when all of them are."""
        error = None
        while taken:
            try:
                self.give(taken.pop())
            except BaseException as one:
                error = one
        if error is not None:
            raise error

    def give(self, str name) -> None:
        """Give a lock to the one who has waited longest; on his loop it is still held meanwhile."""
        error = None
        while True:
            with self.mutex:
                self.owners.pop(name, None)
                waiting = self.held[name]
                if not waiting:
                    del self.held[name]
                    break
                turn = waiting.popleft()
                if isinstance(turn, _Future):
                    self.owners[name] = turn.get_loop()
            if not isinstance(turn, _Future):
                turn.release()
                break
            try:
                turn.get_loop().call_soon_threadsafe(_wake, turn)
                break
            except RuntimeError:  # the loop was closed, and no task waits in it
                continue
            except BaseException as one:  # a signal; to wake somebody twice does no harm
                error = one
                turn.get_loop().call_soon_threadsafe(_wake, turn)
                break
        if error is not None:
            raise error


def _wake(turn) -> None:
    if not turn.done():  # one that was cancelled gives the lock back itself
        turn.set_result(None)
