"""The calls that run a plan, or a part of it: functions on tasks, with nothing of zarr in them."""

import os

from zarrs.caching._chunk_cache cimport can_keep
from zarrs._core cimport MIN_SHARE, MIN_SPLIT, NativeChain, Layout, Tasks, WriteOptions
from zarrs.chunks._read_chunks cimport read_chunks
from zarrs.chunks._write_chunks cimport write_chunks
from zarrs.filesystem._sync cimport sync_directories
from zarrs.indexing._plan cimport TaskSet, Plan
from zarrs.runtime._workspace cimport Workspaces
from zarrs.sharding._open_shard cimport open_fetched, part_of_task, read_parts
from zarrs.sharding._read_shards cimport read_shards
from zarrs.sharding._write_order cimport prepare_inner_order
from zarrs.sharding._write_shards cimport write_shards


def part_to_fetch(Plan plan, NativeChain chain, Py_ssize_t task) -> tuple[int, int] | None:
    """What to fetch first of a chunk.

    Returns
    -------
    (int, int) or None
        From which to which byte: what is needed of a raw chunk, or the index of a shard, which
        starts at -size if it is at the end. None: all of it.
    """
    return part_of_task(plan, &chain.spec, task)


def open_shard(Plan plan, NativeChain chain, Py_ssize_t task, object index) -> object | None:
    """Read the index of a shard, a ``Buffer``; None if it is damaged, which the plan knows.

    Without a buffer the index is taken from the cache; None if it is not there.
    """
    return open_fetched(plan, &chain.spec, task, index)


cdef bint _can_split(Plan plan, NativeChain chain, int threads):
    # Whether chunks are big enough to be taken apart. Those with a checksum are read as a whole in
    # any case, so that it only pays if there are fewer of them than threads.
    if chain.supports_partial_decode:
        return plan.touched_bytes >= plan.n_tasks * MIN_SPLIT
    return (
        chain.supports_shared_decode and plan.n_tasks < threads
        and plan.chunk_bytes >= 2 * plan.n_tasks * MIN_SHARE
    )


def read(
    Plan plan, NativeChain chain, Layout layout, int threads, list fetched=None, list parts=None,
    call=None, bint only_kept=False,
) -> None:
    """Read chunks of a plan into its array; the outcome is in the plan.

    Parameters
    ----------
    fetched : list of (int, bool, Buffer or None), optional
        The tasks to run and what was fetched of them; see ``TaskSet``. Default: all tasks.
    parts : list of (OpenShard, int, Buffer or None), optional
        Ranges of shards to read besides.
    call : Call, optional
        For stages in Python, and for strings.
    only_kept : bool
        Read the chunks that are in the plan's cache, which are done then, and no others. (A shard
        is if all its inner chunks are that are wanted; one of shards never.)
    """
    cdef TaskSet chosen = TaskSet(plan, fetched)
    cdef Workspaces workspaces = Workspaces(threads)
    cdef Tasks* tasks = chosen.tasks
    tasks.chain = &chain.spec
    tasks.layout = &layout.spec
    tasks.only_kept = only_kept
    workspaces.bind(call)
    try:
        if tasks.n > 0 and chain.spec.shard != NULL:
            read_shards(tasks, &workspaces.team)
        elif tasks.n > 0:
            read_chunks(tasks, &workspaces.team,
                        plan.is_simple and not can_keep(tasks, tasks.items[0].nbytes)
                        and _can_split(plan, chain, threads))
        if parts:
            read_parts(tasks, parts, &workspaces.team)
    finally:
        workspaces.release()


def write(
    Plan plan, NativeChain chain, Layout layout, int threads, int inner_threads, bint keep_empty,
    int waiting=0, Py_ssize_t patience=0, list fetched=None, call=None,
) -> None:
    """Write a plan's array into its chunks; the outcome is in the plan.

    Parameters
    ----------
    threads, inner_threads : int
        Chunks encoded at the same time, and threads inside a codec that can use them.
    keep_empty : bool
        Whether chunks of nothing but the fill value are stored.
    waiting : int, optional
        Threads beside those that commit new files, which are started if that blocks ...
    patience : int, optional
        ... for longer than this, in microseconds.
    fetched : list of (int, bool, Buffer or None), optional
        As for `read`: the tasks to run and what is stored of those that are merged.
    call : Call, optional
        As for `read`.
    """
    cdef TaskSet chosen = TaskSet(plan, fetched)
    cdef Workspaces workspaces = Workspaces(threads)
    cdef Tasks* tasks = chosen.tasks
    cdef WriteOptions options
    options.keep_empty = keep_empty
    options.inner_threads = inner_threads
    options.waiting = waiting
    options.patience = patience
    options.seed = int.from_bytes(os.urandom(8), "little")
    if chain.shard is not None:
        prepare_inner_order(chain.shard)
    tasks.chain = &chain.spec
    tasks.layout = &layout.spec
    workspaces.bind(call)
    try:
        if chain.spec.shard != NULL:
            write_shards(tasks, &options, &workspaces.team)
        else:
            write_chunks(tasks, &options, &workspaces.team)
        if tasks.files.top != NULL:
            with nogil:
                sync_directories(tasks)
    finally:
        workspaces.release()
