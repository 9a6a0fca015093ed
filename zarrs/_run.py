"""A job is run on its store: from a coroutine, or in the calling thread without an event loop."""

from __future__ import annotations

import asyncio
import warnings
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from zarr.core.sync import sync
from zarr.storage import LocalStore

from zarrs._config import Options, read_concurrency
from zarrs.execution._job import Job
from zarrs.runtime import _threads
from zarrs.storage._client import StoreClient
from zarrs.storage._file_locks import lock_parts
from zarrs.storage._kept import writing
from zarrs.storage._key_locks import key_locks, lock_names
from zarrs.storage._store_reads import StoreReads, read_at_once
from zarrs.storage._store_writes import StoreWrites, write_at_once
from zarrs.storage._stores import (
    directory_at,
    innermost,
    is_immediate,
    is_synchronous,
    location,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from zarr.abc.store import Store

T = TypeVar("T")
Tasks: TypeAlias = range | None  # the numbers of chunks; None: all that are written


# From a coroutine.


async def read(job: Job, options: Options) -> None:
    """Read; raise what failed."""
    workers = options.max_workers
    if job.store is None or not job.plan.in_memory:
        if job.store is not None:
            await job.store._ensure_open()
        if job.is_tiny:
            job.run(1)
        else:
            await job.execute_elsewhere(workers)
    else:
        client = _client(job, job.store)
        if not is_immediate(job.store):
            await StoreReads(job, client, read_concurrency(), workers).run()
        elif job.is_tiny:
            read_at_once(job, client, workers)
        else:
            await job.call_elsewhere(read_at_once, job, client, workers)
    job.check()


async def write(job: Job, options: Options) -> None:
    """Write, holding the locks of all keys; raise what failed."""
    workers = options.max_workers
    if job.store is None:
        await job.execute_elsewhere(workers)
    else:
        await job.store._ensure_open()
        job.store._check_writable()
        where = location(job.store)
        if job.plan.in_memory:
            warn_of_store(job.store, options)
        async with key_locks().hold(lock_names(where, job.plan.keys)):
            with writing(job.store, job.plan.keys):
                for locks, tasks in write_parts(where, job.plan.keys, options):
                    async with locks:
                        await _write_part(job, job.store, options, tasks)
                    if job.plan.has_failed:
                        break
    job.check()


async def _write_part(job: Job, store: Store, options: Options, tasks: Tasks) -> None:
    workers = options.max_workers
    if not job.plan.in_memory:
        await job.execute_elsewhere(workers, fetched=_nothing_fetched(tasks))
        return
    client = _client(job, store)
    if is_immediate(store):
        await job.call_elsewhere(write_at_once, job, client, workers)
    else:
        await StoreWrites(job, client, read_concurrency(), workers, tasks).run()


# In the calling thread.


def read_now(job: Job, options: Options) -> None:
    """Read as `read` does; only stores that are neither files nor dictionaries need a loop."""
    store = _opened(job)
    if job.plan.has_cache and job.plan.in_memory:
        _call(job, job.execute_kept, options.max_workers)
        if job.plan.is_done or job.plan.has_failed:
            job.check()
            return
    if not job.plan.in_memory:
        if job.is_tiny:
            job.run(1)
        else:
            _call(job, job.execute, options.max_workers)
    elif is_immediate(store):
        _call(job, read_at_once, job, _client(job, store), options.max_workers)
    else:
        run_coroutine(read(job, options))
        return
    job.check()


def write_now(job: Job, options: Options) -> None:
    """Write as `write` does; only stores that are neither files nor dictionaries need a loop."""
    store = _opened(job)
    if job.plan.in_memory and not is_immediate(store):
        run_coroutine(write(job, options))
        return
    store._check_writable()
    where = location(store)
    workers = options.max_workers

    def work() -> None:
        with writing(store, job.plan.keys):
            if job.plan.in_memory:
                _call(job, write_at_once, job, _client(job, store), workers)
                return
            for locks, tasks in write_parts(where, job.plan.keys, options):
                with locks:
                    _call(job, partial(job.execute, fetched=_nothing_fetched(tasks)), workers)
                if job.plan.has_failed:
                    break

    key_locks().holding(lock_names(where, job.plan.keys), work)
    job.check()


def run_coroutine(work: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine that zarr's event loop runs, or another one if this is called there."""
    if not _is_in_zarr_loop():
        return sync(work)
    result: T = _threads.submit_alone(asyncio.run, work).result()
    return result


def refuse_zarr_loop(name: str) -> None:
    """Raise RuntimeError in zarr's event loop, for calls whose threads would wait for it."""
    if _is_in_zarr_loop():
        raise RuntimeError(
            f"zarrs.{name}() was called in zarr's event loop, which it would wait for for ever: "
            f"call it in another thread, as `await asyncio.to_thread(zarrs.{name}, ...)` does"
        )


def _is_in_zarr_loop() -> bool:
    from zarr.core.sync import loop

    try:
        return asyncio.get_running_loop() is loop[0]
    except RuntimeError:
        return False


def _call(job: Job, function: Callable[..., T], *args: Any) -> T:
    # What needs no other thread, needs no thread of the pool, whose team stays from call to call.
    if job.threads == 1:
        return function(*args)
    return job.call_and_wait(function, *args)


def _opened(job: Job) -> Store:
    store = job.store
    assert store is not None
    if not getattr(store, "_is_open", False):  # a user's mock may not know
        run_coroutine(store._ensure_open())
    return store


# Both.


def _client(job: Job, store: Store) -> StoreClient:
    return StoreClient(store, job.prototype, is_synchronous(store))


def write_parts(where: str, keys: Sequence[Any], options: Options) -> Iterator[tuple[Any, Tasks]]:
    """Share out the chunks of a write, if it locks files; else all are written at a time.

    Parameters
    ----------
    where : str
        The `location` of the store.
    keys : sequence of str
        Keys of the chunks.
    options : Options

    Yields
    ------
    (context manager, range or None)
        What to hold, and the numbers of the chunks to write meanwhile; None: all.
    """
    root = directory_at(where) if options.lock_files else None
    if root is None:
        yield nullcontext(), None
    else:
        yield from lock_parts(root, keys)


def _nothing_fetched(tasks: Tasks) -> list[Any] | None:
    # What `Job.execute` takes of chunks in files.
    return None if tasks is None else [(task, False, None) for task in tasks]


def warn_of_store(store: Any, options: Options) -> None:
    """Warn of options that chunks do not have which a store's own interface writes."""
    if options.lock_files and directory_at(location(store)) is None and not is_immediate(store):
        warnings.warn(
            f"codec_pipeline.lock_files is on, but {type(store).__name__} writes no local files: "
            "other processes are not kept from writing the same chunks, so let each chunk have one "
            "writer",
            stacklevel=2,
        )
    if options.fsync is True and isinstance(innermost(store), LocalStore):
        warnings.warn(
            "codec_pipeline.fsync is on, but zarr's own store writes these chunks: "
            "they are not synced; os.sync() does that afterwards",
            stacklevel=2,
        )
