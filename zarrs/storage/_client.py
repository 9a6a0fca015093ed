"""A store as the loops need it: bytes of keys, whole or in ranges, by methods of either kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import cpu

from zarrs.runtime._task_group import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

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
class StoreClient:
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
