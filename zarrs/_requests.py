"""Requests to a store: a few at a time, and none left behind."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

Range = tuple[int, int] | None  # start and stop; (-n, 0): the last n bytes; None: all


def byte_request(wanted: Range) -> ByteRequest | None:
    """Return what zarr's stores call a range."""
    if wanted is None:
        return None
    start, stop = wanted
    return RangeByteRequest(start, stop) if start >= 0 else SuffixByteRequest(-start)


def length(wanted: tuple[int, int]) -> int:
    """Return how many bytes there are in a range."""
    return wanted[1] - wanted[0]


@dataclass(frozen=True)
class Interface:
    """A store's methods, asynchronous or called in another thread; errors say what was asked.

    Attributes
    ----------
    store : Store
    prototype : BufferPrototype
        Of the buffers that it returns.
    synchronous : bool
        Use the methods that block.
    """

    store: Store
    prototype: BufferPrototype
    synchronous: bool

    def get_now(self, key: str, wanted: Range = None) -> Buffer | None:
        """Fetch bytes with a method that blocks."""
        store: Any = self.store
        try:
            return _checked(
                store.get_sync(key, prototype=self.prototype, byte_range=byte_request(wanted))
            )
        except Exception as error:
            self._explain(error, "reading", key)
            raise

    def put_now(self, key: str, value: Any) -> None:
        """Store bytes, or delete a key if there are none, with a method that blocks."""
        store: Any = self.store
        try:
            if value is None:
                store.delete_sync(key)
            else:
                store.set_sync(key, self.prototype.buffer.from_bytes(value))
        except Exception as error:
            self._explain(error, "writing", key)
            raise

    async def get(self, wanted: Sequence[tuple[str, Range]]) -> list[Buffer | None]:
        """Fetch bytes of several keys, one after the other."""
        if self.synchronous:
            found: list[Buffer | None] = await in_thread(
                lambda: [self.get_now(key, part) for key, part in wanted]
            )
            return found
        return [await self._get(key, part) for key, part in wanted]

    async def put(self, key: str, value: Any) -> None:
        """Store bytes, or delete a key if there are none."""
        if self.synchronous:
            await in_thread(lambda: self.put_now(key, value))
            return
        try:
            if value is None:
                await self.store.delete(key)
            else:
                await self.store.set(key, self.prototype.buffer.from_bytes(value))
        except Exception as error:
            self._explain(error, "writing", key)
            raise

    async def get_ranges(
        self, key: str, ranges: Sequence[tuple[int, int]], concurrency: int
    ) -> AsyncIterator[tuple[int, Buffer | None]]:
        """Fetch ranges of one key in the store's own way; each with its number, as they come."""
        store: Any = self.store
        requests = [byte_request(wanted) for wanted in ranges]
        try:
            async for group in store.get_ranges(
                key,
                requests,
                prototype=self.prototype,
                max_concurrency=concurrency,
                max_gap_bytes=0,  # those that are close to each other are one range already
            ):
                for part, found in group:
                    yield part, _checked(found)
        except Exception as error:
            self._explain(error, "reading", key)
            raise

    async def _get(self, key: str, wanted: Range) -> Buffer | None:
        try:
            return _checked(
                await self.store.get(key, prototype=self.prototype, byte_range=byte_request(wanted))
            )
        except Exception as error:
            self._explain(error, "reading", key)
            raise

    def _explain(self, error: Exception, doing: str, key: str) -> None:
        error.add_note(f"while {doing} key {key!r} of {type(self.store).__name__}")


def _checked(found: Buffer | None) -> Buffer | None:
    if found is None or isinstance(found, cpu.Buffer):
        return found
    raise TypeError(f"expected a buffer of the CPU's memory, found {type(found).__name__}")


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
    for future in everything:  # or else the event loop complains that nobody asked
        if not future.cancelled():
            future.exception()
    if cancelled is not None:
        raise cancelled


def _nothing() -> None:
    pass


class Ongoing:
    """What of one call is under way on the event loop, so much at a time, and how it ends.

    Parameters
    ----------
    limit : int
        So many at a time.
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
        except Exception as failure:  # nobody else would hear of it
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
