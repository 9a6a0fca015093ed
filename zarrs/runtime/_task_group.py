"""Tasks of one call on the event loop: a limited number at a time, and none is left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable


async def in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of the event loop's; it has ended when this has."""
    future = asyncio.get_running_loop().run_in_executor(None, function)
    return await until_done(future)


async def until_done(work: Awaitable[Any]) -> Any:
    """Wait for what cannot be interrupted; who cancels this gets his way after its end."""
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await all_done([future])
        raise


async def all_done(work: Iterable[asyncio.Future[Any]]) -> None:
    """Wait until all have ended, however often this is cancelled; then say that it was."""
    everything = list(work)
    left = {future for future in everything if not future.done()}
    cancelled: asyncio.CancelledError | None = None
    while left:
        try:
            await asyncio.wait(left)
        except asyncio.CancelledError as error:
            cancelled = error
        left = {future for future in left if not future.done()}
    for future in everything:  # or else the loop warns of exceptions never retrieved
        if not future.cancelled():
            future.exception()
    if cancelled is not None:
        raise cancelled


def _nothing() -> None:
    pass


class TaskGroup:
    """The tasks of one call on the event loop, a limited number at a time, and how they end.

    Parameters
    ----------
    limit : int
        How many tasks run at a time.
    go_on : callable
        Called when one has ended well, to begin others.
    news : asyncio.Event, optional
        Set when one has ended; others may set it too.
    """

    def __init__(
        self, limit: int, go_on: Callable[[], None], news: asyncio.Event | None = None
    ) -> None:
        self._limit = limit
        self._go_on = go_on
        self._under_way: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event() if news is None else news
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether no other may be begun."""
        return len(self._under_way) >= self._limit or self._error is not None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin one."""
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        try:
            if error is None:
                self._go_on()
        except Exception as failure:  # it would be lost otherwise
            error = failure
        self._error = self._error or error
        self._news.set()

    async def news(self) -> None:
        """Wait until one has ended; raise the first exception that one ended with."""
        await self._news.wait()
        self._news.clear()
        self.check()

    def check(self) -> None:
        """Raise the first exception that one ended with."""
        if self._error is not None:
            raise self._error

    async def drain(self, *, cancel: bool) -> None:
        """Begin no other, wait for those under way or cancel them; their errors do not matter."""
        self._error = self._error or asyncio.CancelledError()
        self._go_on = _nothing  # its owner has this: in a cycle they would outlive the call
        under_way = list(self._under_way)
        if cancel:
            for task in under_way:
                task.cancel()
        await all_done(under_way)
