"""Writing through a store's interface: some chunks are encoded while others are being stored."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from zarrs.runtime._task_group import TaskGroup
from zarrs.storage._client import StoreClient

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from zarr.core.buffer import Buffer

    from zarrs.execution._job import Job
    from zarrs.indexing._plan import Encoded

BATCH_BYTES = 8 * 1024 * 1024  # decoded, that are encoded together ...
BATCH_TASKS = 4  # ... or this many chunks a thread, ...
MAX_BATCH_BYTES = 64 * 1024 * 1024  # ... unless they are as big as this
MAX_ENCODED = 64 * 1024 * 1024  # bytes that wait to be stored; then nothing is encoded
MAX_OLD = 256 * 1024 * 1024  # decoded bytes of chunks that are fetched to be merged; or one chunk

Old = tuple[int, bool, "Buffer | None"]


class Batches:
    """The chunks of one call, those that are ready, in batches that are encoded together.

    Parameters
    ----------
    job : Job
    tasks : container of int, optional
        The numbers of the chunks to write. Default: all.
    """

    def __init__(self, job: Job, tasks: Container[int] | None = None) -> None:
        to_run = job.plan.to_run()
        if tasks is not None:
            to_run = [i for i in to_run if i in tasks]
        self._job = job
        self.to_merge: Iterator[int] = (i for i in to_run if job.plan.merges(i))
        self._others: Iterator[int] = (i for i in to_run if not job.plan.merges(i))
        self._ready: deque[Old] = deque()

    def add(self, task: int, old: Buffer | None) -> None:
        """Add a chunk, and what is stored of it, that is to be merged."""
        self._ready.append((task, False, old))

    def take(self) -> list[Old]:
        """Return the next batch; empty: there is none, or none that is ready."""
        batch: list[Old] = []
        size = 0
        while size < MAX_BATCH_BYTES and (
            size < BATCH_BYTES or len(batch) < BATCH_TASKS * self._job.threads
        ):
            if self._ready:
                batch.append(self._ready.popleft())
            elif (task := next(self._others, None)) is not None:
                batch.append((task, False, None))
            else:
                break
            size += self._job.plan.nbytes(batch[-1][0])
        return batch


def write_at_once(job: Job, client: StoreClient, limit: int) -> None:
    """Write to a store that answers immediately, in the calling thread."""
    keys: Any = job.plan.keys
    batches = Batches(job)
    for task in batches.to_merge:
        batches.add(task, client.get_now(keys[task]))
    while not job.plan.has_failed and (batch := batches.take()):
        job.execute(limit, fetched=batch)
        if not job.plan.has_failed:
            for task, *_ in batch:
                client.put_now(keys[task], job.plan.take_encoded(task))


class StoreWrites:
    """One call that writes through a store's interface; the caller holds the locks of its keys.

    Parameters
    ----------
    job : Job
    client : StoreClient
    concurrency : int
        Requests under way at a time.
    workers : int
        Threads that encode.
    tasks : container of int, optional
        The numbers of the chunks to write. Default: all.
    """

    def __init__(
        self,
        job: Job,
        client: StoreClient,
        concurrency: int,
        workers: int,
        tasks: Container[int] | None = None,
    ) -> None:
        self._job = job
        self._keys: Any = job.plan.keys
        self._client = client
        self._workers = workers
        self._requests = TaskGroup(concurrency, self._begin)
        self._batches = Batches(job, tasks)
        self._encoded: deque[tuple[int, Encoded | None]] = deque()
        self._encoded_bytes = 0  # of these, and of those that are being stored
        self._old_bytes = 0  # of chunks that are fetched, or were and are not merged yet

    async def run(self) -> None:
        """Write everything; what failed natively is in the plan."""
        try:
            self._begin()
            while not self._job.plan.has_failed:
                if self._encoded_bytes < MAX_ENCODED and (batch := self._batches.take()):
                    await self._encode(batch)
                    self._begin()
                    self._requests.check()
                elif self._requests:
                    await self._requests.news()
                else:
                    break
        finally:
            # A request that stores is not cancelled: what is stored would be unknown then.
            await self._requests.drain(cancel=False)
            del self._requests  # its error leads to this: no cycle

    async def _encode(self, batch: list[Old]) -> None:
        await self._job.execute_elsewhere(self._workers, fetched=batch)
        if self._job.plan.has_failed:
            return
        for task, *_ in batch:
            encoded = self._job.plan.take_encoded(task)
            self._encoded.append((task, encoded))
            self._encoded_bytes += 0 if encoded is None else len(encoded)
            if self._job.plan.merges(task):
                self._old_bytes -= self._job.plan.nbytes(task)

    def _begin(self) -> None:
        # As many requests as may be under way; what can be stored is not kept waiting.
        while not (self._requests.is_full or self._job.plan.has_failed):
            if self._encoded:
                self._requests.begin(self._store(*self._encoded.popleft()))
            elif self._old_bytes < MAX_OLD:
                task = next(self._batches.to_merge, None)
                if task is None:
                    return
                self._old_bytes += self._job.plan.nbytes(task)
                self._requests.begin(self._fetch(task))
            else:
                return

    async def _fetch(self, task: int) -> None:
        [old] = await self._client.get([(self._keys[task], None)])
        self._batches.add(task, old)

    async def _store(self, task: int, encoded: Encoded | None) -> None:
        await self._client.put(self._keys[task], encoded)
        self._encoded_bytes -= 0 if encoded is None else len(encoded)
