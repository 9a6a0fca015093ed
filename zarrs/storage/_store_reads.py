"""Reading through a store's interface: some chunks are decoded while others are being fetched."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from zlib import crc32

from zarrs.execution import _execute
from zarrs.runtime._task_group import TaskGroup
from zarrs.storage._client import Range, StoreClient, length
from zarrs.storage._stores import has_own_ranges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zarr.core.buffer import Buffer

    from zarrs.execution._job import Job
    from zarrs.sharding._open_shard import OpenShard

T = TypeVar("T")

MAX_HELD = 256 * 1024 * 1024  # bytes under way or waiting to be decoded; or one chunk
THREAD_KEYS = 16  # keys that a thread asks a blocking store for in one go ...
THREAD_BYTES = 4 * 1024 * 1024  # ... unless they are as big as this
SMALL_INDEX = 64 * 1024  # bytes of an index that is read on the event loop
MAX_ATTEMPTS = 10  # to read a shard that is replaced meanwhile, each with the index as it is now
ALL_PARTS = -1


Fetched = tuple[int, bool, "Buffer | None"]  # as `_execute.read` takes them
Part = tuple["OpenShard", int, "Buffer | None"]


def _size(fetched: Sequence[Any]) -> int:
    return sum(len(buffer) for *_, buffer in fetched if buffer is not None)


def _split(fetched: list[T], keep: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    return [one for one in fetched if keep(one)], [one for one in fetched if not keep(one)]


def _checksum(index: Buffer) -> int:
    return crc32(index.as_numpy_array().data)


class Wanted(NamedTuple):
    """What one request is for: bytes of a chunk, or of an open shard."""

    task: int
    range: Range = None
    shard: OpenShard | None = None
    part: int = 0
    round: int = 0


def read_at_once(job: Job, client: StoreClient, limit: int) -> None:
    """Read from a store that answers immediately, in the calling thread."""
    keys: Any = job.plan.keys
    fetched = [(i, False, client.get_now(keys[i])) for i in job.plan.to_run()]
    if job.is_tiny:
        job.run(1, fetched=fetched)
    else:
        job.execute(limit, fetched=fetched)


class StoreReads:
    """One call that reads through a store's interface.

    Parameters
    ----------
    job : Job
    client : StoreClient
    concurrency : int
        Requests under way at a time.
    workers : int
        Threads that decode.
    """

    def __init__(self, job: Job, client: StoreClient, concurrency: int, workers: int) -> None:
        self._job = job
        self._keys: Any = job.plan.keys
        self._chain = job.chain.reader
        self._client = client
        self._workers = workers
        self._concurrency = concurrency
        news = asyncio.Event()
        self._requests = TaskGroup(concurrency, self._begin, news)
        # Chunks that threads cannot share are decoded in batches of one thread each.
        self._lanes = 1 if self._chain.shard or self._chain.supports_partial_decode else job.threads
        self._batches = TaskGroup(self._lanes, self._begin, news)
        self._tasks: Iterator[int] = iter(job.plan.to_run())
        self._next: list[Wanted] = []  # taken before another task is begun
        self._has_ranges = True
        # Of shards that are fetched in ranges, what is read; None: all of it is fetched after all.
        self._open: dict[int, OpenShard | None] = {}
        self._indexes: dict[int, int] = {}  # from which they were opened, by checksums
        self._rounds: Counter[int] = Counter()  # how often chunks were begun anew
        self._attempts: Counter[int] = Counter()
        self._suspects: set[int] = set()  # damaged though their index is the same as before
        self._doubts: list[tuple[Wanted, Exception]] = []  # ranges that the store did not like
        self._fetched: list[Fetched] = []
        self._parts: list[Part] = []
        self._held = 0
        self._extra = 0  # requests of `get_ranges` besides the first of each

    async def run(self) -> None:
        """Read everything; what failed natively is in the plan."""
        try:
            self._begin()
            await self._work()
            while self._is_in_doubt and await self._was_replaced():
                await self._work()
        finally:
            try:
                await self._requests.drain(cancel=True)
            finally:
                await self._batches.drain(cancel=True)
                del self._requests, self._batches  # their errors lead to this: no cycles

    @property
    def _is_in_doubt(self) -> bool:
        return self._job.plan.has_failed or bool(self._doubts)

    async def _work(self) -> None:
        # Until all is done, or something has failed.
        while not self._is_in_doubt:
            if (self._fetched or self._parts) and not self._batches.is_full:
                self._batches.begin(self._decode(*self._take()))
            elif self._requests or self._batches:
                await self._news()
            else:
                break
        self._check()

    async def _news(self) -> None:
        await self._requests.news()
        self._check()

    def _check(self) -> None:
        self._requests.check()
        self._batches.check()

    async def _was_replaced(self) -> bool:
        # Whether what failed is a shard that was replaced between the fetch of its index and that
        # of its inner chunks: then nothing is damaged, and it is begun anew.
        while self._batches:
            await self._news()
        if not self._doubts:
            failure = self._job.plan.failure()
            return failure is not None and await self._begin_if_replaced(failure[0], once_more=True)
        wanted, error = self._doubts.pop()
        if self._open[wanted.task] is wanted.shard and not await self._begin_if_replaced(
            wanted.task
        ):
            raise error
        return True

    async def _begin_if_replaced(self, task: int, *, once_more: bool = False) -> bool:
        # Also `once_more` with the same index, as another version may have come and gone meanwhile:
        # what is damaged fails again.
        before = self._indexes.get(task)
        if before is None or self._attempts[task] == MAX_ATTEMPTS:
            return False
        self._attempts[task] += 1
        part = _execute.part_to_fetch(self._job.plan, self._chain, task)
        try:
            [index] = await self._get([Wanted(task, part)])
        except Exception:  # what failed before says more
            return False
        if index is None or _checksum(index) != before:
            self._suspects.discard(task)
        elif once_more and task not in self._suspects:
            self._suspects.add(task)
        else:
            return False
        self._job.plan.retract(task)
        self._drop(task)
        await self._arrive(Wanted(task, part, round=self._rounds[task]), index)
        self._begin()
        return True

    def _take(self) -> tuple[list[Fetched], list[Part]]:
        # The next batch of what has arrived; something is left for the other threads.
        n = -(-len(self._fetched) // self._lanes)
        fetched, self._fetched = self._fetched[:n], self._fetched[n:]
        parts, self._parts = self._parts, []
        return fetched, parts

    async def _decode(self, fetched: list[Fetched], parts: list[Part]) -> None:
        # Meanwhile other bytes arrive.
        if self._job.is_tiny:
            self._job.run(1, fetched=fetched, parts=parts)
        else:
            limit = 1 if self._lanes > 1 else self._workers
            await self._job.execute_elsewhere(limit, fetched=fetched, parts=parts)
        if self._job.plan.has_failed:  # some of it was skipped, then
            self._fetched += fetched
            self._parts += parts
            self._keep_wanted()
        else:
            self._held -= _size(fetched) + _size(parts)

    # Fetching.

    def _begin(self) -> None:
        # As many requests as may be under way.
        while not self._requests.is_full and (
            len(self._requests) + self._extra < self._concurrency
        ):
            group: list[Wanted] = []
            cost = 0
            while len(group) < (THREAD_KEYS if self._client.synchronous else 1):
                wanted = self._peek()
                if wanted is None:
                    break
                size = self._cost(wanted)
                if group and (wanted.part == ALL_PARTS or cost + size > THREAD_BYTES):
                    break
                if (group or self._is_busy) and self._held + cost + size > MAX_HELD:
                    break
                self._next.pop()
                group.append(wanted)
                cost += size
                if wanted.part == ALL_PARTS:
                    break
            if not group:
                return
            self._held += cost
            self._requests.begin(self._fetch(group, cost))

    @property
    def _is_busy(self) -> bool:
        return bool(self._requests or self._batches or self._fetched or self._parts)

    def _peek(self) -> Wanted | None:
        # The next thing to fetch, which stays the next one.
        while not self._next:
            task = next(self._tasks, None)
            if task is None:
                return None
            part = _execute.part_to_fetch(self._job.plan, self._chain, task)
            if part is None or not self._has_ranges:
                self._next.append(Wanted(task))
            elif not self._begin_with_kept_index(task):
                self._next.append(Wanted(task, part))
        return self._next[-1]

    def _begin_with_kept_index(self, task: int) -> bool:
        # Of a shard the inner chunks come next, if its index is in a cache.
        plan = self._job.plan
        if self._chain.shard is None or not plan.has_cache:
            return False
        shard = _execute.open_shard(plan, self._chain, task, None)
        if shard is not None:
            self._want_ranges(task, shard)
        return shard is not None

    def _cost(self, wanted: Wanted) -> int:
        # The most bytes that will arrive, if encoded chunks are not longer than decoded ones.
        if wanted.range is None:
            return self._job.plan.nbytes(wanted.task)
        return length(wanted.range)

    async def _fetch(self, group: list[Wanted], cost: int) -> None:
        try:
            if group[0].part == ALL_PARTS:
                await self._fetch_ranges(group[0])
                return
            for wanted, buffer in zip(group, await self._get(group), strict=True):
                await self._arrive(wanted, buffer)
        except Exception as error:
            if len(group) > 1 or group[0].shard is None:
                raise
            self._doubts.append((group[0], error))
        finally:
            self._held -= cost

    async def _get(self, group: list[Wanted]) -> list[Buffer | None]:
        return await self._client.get([(self._keys[one.task], one.range) for one in group])

    async def _fetch_ranges(self, wanted: Wanted) -> None:
        shard = wanted.shard
        assert shard is not None
        missing = set(range(len(shard.ranges)))
        under_way = max(1, len(self._requests))
        left = self._concurrency - under_way - self._extra
        share = max(1, min(self._concurrency // under_way, left + 1))
        self._extra += share - 1
        try:
            async for part, buffer in self._client.get_ranges(
                self._keys[wanted.task], shard.ranges, share
            ):
                if part in missing:
                    missing.remove(part)
                    self._arrive_part(Wanted(wanted.task, shard.ranges[part], shard, part), buffer)
        except* FileNotFoundError:
            pass
        finally:
            self._extra -= share - 1
        # Whatever the store means by that; or nobody asks any more.
        if missing and self._open[wanted.task] is shard:
            self._begin_anew(wanted.task)

    # What has arrived.

    async def _arrive(self, wanted: Wanted, buffer: Buffer | None) -> None:
        if wanted.shard is not None:
            self._arrive_part(wanted, buffer)
        elif wanted.round != self._rounds[wanted.task]:  # it has been begun anew
            pass
        elif wanted.range is None or buffer is None:
            self._keep(self._fetched, wanted.task, False, buffer)
        elif len(buffer) > length(wanted.range):  # the store has no ranges and sent all of it
            self._has_ranges = False
            self._begin_anew(wanted.task)
        elif self._chain.shard is None:
            self._keep(self._fetched, wanted.task, True, buffer)
        else:
            await self._open_shard(wanted.task, buffer)

    def _arrive_part(self, wanted: Wanted, buffer: Buffer | None) -> None:
        assert wanted.range is not None
        if self._open[wanted.task] is not wanted.shard:  # which has been begun anew
            return
        if buffer is None or len(buffer) > length(wanted.range):  # replaced since, or no ranges
            self._begin_anew(wanted.task)
        else:
            self._keep(self._parts, wanted.shard, wanted.part, buffer)

    def _keep(self, where: list[Any], what: Any, part: Any, buffer: Buffer | None) -> None:
        where.append((what, part, buffer))
        if buffer is not None:
            self._held += len(buffer)

    def _begin_anew(self, task: int) -> None:
        # Ranges did not do: fetch all of it.
        self._drop(task)
        self._next.append(Wanted(task, round=self._rounds[task]))

    def _drop(self, task: int) -> None:
        # What has arrived of a chunk, or will yet, is not wanted any more.
        self._rounds[task] += 1
        self._open[task] = None
        self._next = [wanted for wanted in self._next if wanted.task != task]
        self._fetched, dropped = _split(self._fetched, lambda one: one[0] != task)
        self._held -= _size(dropped)
        self._keep_wanted()

    def _keep_wanted(self) -> None:
        self._parts, dropped = _split(self._parts, lambda one: self._open[one[0].task] is one[0])
        self._held -= _size(dropped)

    async def _open_shard(self, task: int, index: Buffer) -> None:
        # From the index to the requests for what it says is needed.
        self._indexes[task] = _checksum(index)
        if len(index) <= SMALL_INDEX:
            shard = _execute.open_shard(self._job.plan, self._chain, task, index)
        else:
            shard = await self._job.call_elsewhere(
                _execute.open_shard, self._job.plan, self._chain, task, index
            )
        if shard is not None:  # or else the plan knows why
            self._want_ranges(task, shard)

    def _want_ranges(self, task: int, shard: OpenShard) -> None:
        self._open[task] = shard
        if shard.has_absent:
            self._keep(self._parts, shard, -1, None)
        if len(shard.ranges) > 1 and has_own_ranges(self._client.store):
            total = sum(length(one) for one in shard.ranges)
            self._next.append(Wanted(task, (0, total), shard, ALL_PARTS))
            return
        for part in reversed(range(len(shard.ranges))):  # the last to be added is the next
            start, stop = shard.ranges[part]
            if start < stop:
                self._next.append(Wanted(task, (start, stop), shard, part))
            else:
                nothing = self._client.prototype.buffer.from_bytes(b"")
                self._keep(self._parts, shard, part, nothing)
