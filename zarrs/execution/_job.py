"""A planned call: how it is run, and what is said when it fails."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from zarr.storage import LocalStore

from zarrs._core import Status
from zarrs.codecs._registry import EXPLAIN
from zarrs.execution import _execute
from zarrs.filesystem._files import take_direct_refusal, take_overtaking
from zarrs.filesystem._sync import take_sync_refusal
from zarrs.runtime import _threads
from zarrs.runtime._blocking_call import BlockingCall
from zarrs.runtime._errors import CODEC_STATUSES, Failure, exception_of
from zarrs.runtime._task_group import all_done

if TYPE_CHECKING:
    from collections.abc import Callable

    from zarr.abc.store import Store
    from zarr.core.buffer import BufferPrototype

    from zarrs._core import Layout
    from zarrs.codecs._chain import Chain
    from zarrs.codecs._python_stages import Call
    from zarrs.indexing._plan import Plan

T = TypeVar("T")

# A call this small is done before another thread would have woken up: at most this many chunks
# and, of raw and Blosc chunks, this many bytes; of what takes longer to decode, a part of that.
INLINE_CHUNKS = 8
INLINE_BYTES = 512 * 1024
SLOW_PART = 4


def is_tiny(plan: Plan, chain: Chain, size: int) -> bool:
    """Whether to run a plan takes no longer than to have another thread do it.

    Parameters
    ----------
    plan : Plan
    chain : Chain
    size : int
        Bytes that are decoded or encoded.
    """
    most = INLINE_BYTES if chain.reader.supports_partial_decode else INLINE_BYTES // SLOW_PART
    # A stage in Python may need the event loop, which a call that runs here would hold up.
    return not chain.python and plan.n_units <= INLINE_CHUNKS and size <= most


@dataclass(slots=True)
class Job:
    """A planned call.

    Attributes
    ----------
    plan : Plan
    chain : Chain
    layout : Layout
    prototype : BufferPrototype
        Of the buffers that are asked of the store.
    store : Store or None
        Where the chunks are; None: they are inner chunks of zarr's own sharding codec.
    call : Call or None
        What its stages in Python have to know.
    threads : int
        As many as are useful.
    size : int
        Bytes that will be decoded or encoded.
    writing : bool
    inner_threads : int
        Of a write: threads inside a codec that can use them.
    waiting : int
        Of a write: threads beside those that commit new files where that blocks (if all threads
        are granted, so that other calls have none) ...
    patience : int
        ... for longer than this, in microseconds.
    keep_empty : bool
        Of a write: whether chunks of nothing but the fill value are stored.
    """

    plan: Plan
    chain: Chain
    layout: Layout
    prototype: BufferPrototype
    store: Store | None
    call: Call | None
    threads: int
    size: int
    writing: bool
    inner_threads: int = 1
    waiting: int = 0
    patience: int = 0
    keep_empty: bool = False

    @property
    def is_tiny(self) -> bool:
        """Whether to run this takes no longer than to have another thread do it."""
        return is_tiny(self.plan, self.chain, self.size)

    def run(self, threads: int, waiting: int = 0, **chosen: Any) -> None:
        """Run the native loop with a number of threads, the calling one among them.

        Of a write, files are committed by so many that wait, beside those.
        Keyword arguments say what was fetched, or what else is to be run, as for
        `zarrs.execution._execute.read`.
        """
        if self.writing:
            _execute.write(
                self.plan,
                self.chain.writer,
                self.layout,
                threads,
                self.inner_threads,
                self.keep_empty,
                waiting,
                self.patience,
                call=self.call,
                **chosen,
            )
        else:
            _execute.read(
                self.plan, self.chain.reader, self.layout, threads, call=self.call, **chosen
            )

    def execute(self, limit: int, **chosen: Any) -> None:
        """Run in the calling thread, with the threads the process's budget allows."""
        budget = _threads.budget()
        granted = _threads.claim(self.threads, limit)
        try:
            _threads.begin_loop(granted)
            waiting = self.waiting if granted == self.threads else 0
            self.run(_threads.team_size(granted), waiting, **chosen)
        finally:
            if granted > 1:
                _threads.end_loop()  # first, or else the next caller's team comes on top
            budget.release(granted)

    def execute_kept(self, limit: int) -> None:
        """Read what is in the cache, as `execute`; that is done, then, and the rest is not."""
        self.execute(limit, only_kept=True)

    async def execute_elsewhere(self, limit: int, **fetched: Any) -> None:
        """Run in a thread of the pool, off the event loop."""
        await self.call_elsewhere(self.execute, limit, **fetched)

    async def call_elsewhere(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call a function of this job in a thread of the pool.

        Who cancels this gets his way when the thread has stopped: it works in memory of the
        caller's.
        """
        submit = _threads.submit_alone if self.chain.python else _threads.submit
        call = submit(function, *args, **named)
        future = asyncio.wrap_future(call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.plan.cancel()
            if not call.cancel():
                await all_done([future])
            raise

    def call_and_wait(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function of this job in a thread of the pool, and wait.

        Who interrupts this gets his way when the thread has stopped, as with `call_elsewhere`.
        """
        call = BlockingCall()
        try:
            _threads.submit_blocking(call, function, *args)
            result: T = call.result()
            return result
        finally:
            if not call.done():
                self.plan.cancel()
                if not call.cancel():
                    call.wait()

    def check(self) -> None:
        """Raise the exception of the first failed chunk; warn of what was refused."""
        if take_direct_refusal():
            warnings.warn(
                "codec_pipeline.direct_io is on, but the file system does not take direct I/O: "
                "files are read and written through the page cache, so leave the option off here",
                stacklevel=2,
            )
        if take_sync_refusal():
            warnings.warn(
                "codec_pipeline.fsync is on, but the file system does not sync directories: "
                "after a power failure, names of new chunks may be missing",
                stacklevel=2,
            )
        if take_overtaking():
            warnings.warn(
                "another process writes the same chunks: one was replaced while it was being "
                "merged, and was merged once more. That does not always keep what both write: let "
                "each chunk have one writer, or set codec_pipeline.lock_files in all of them",
                stacklevel=2,
            )
        result = self.plan.failure()
        if result is None:
            return
        failure = Failure(*result)
        shard = self.chain.reader.shard
        shape = self.plan.shape(failure.task)
        raised = None
        if failure.status == Status.PYTHON_ERROR:
            assert self.call is not None
            raised = self.call.errors[failure.code]
            self.call.errors.clear()  # the others, lest they live as long as this one
        error = exception_of(
            failure,
            keys=self.plan.keys,
            root=None if self.plan.in_memory else str(self.store.root),  # type: ignore[union-attr]
            ndim=self.plan.ndim,
            codecs=self.chain.names,
            items=self.chain.items,
            grid=[n // m for n, m in zip(shape, shard.shape, strict=True)] if shard else (),
            writing=self.writing,
            overhangs=(
                self.writing and self.plan.is_whole(failure.task) and self.plan.merges(failure.task)
            ),
            store=str(self.store.root if isinstance(self.store, LocalStore) else self.store),
            meaning=self._meaning_of(failure),
            raised=raised,
        )
        try:
            raise error
        finally:
            del error, raised  # whose traceback leads here

    def _meaning_of(self, failure: Failure) -> str:
        # What the failure's code says, where that is a codec's own.
        if failure.stage < 0 or not failure.code or failure.status not in CODEC_STATUSES:
            return ""
        explain = EXPLAIN.get(self.chain.stages[failure.depth][failure.stage])
        return explain(failure.code) if explain is not None else ""
