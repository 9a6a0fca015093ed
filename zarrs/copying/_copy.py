"""Copy an array or a group: what is to be done is found out, then refused or done."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from zarr.storage import StorePath

from zarrs._config import read_options
from zarrs._run import refuse_zarr_loop
from zarrs.copying._bar import progress_bar
from zarrs.copying._memory import Limit, parse_memory
from zarrs.copying._metadata import Wishes
from zarrs.copying._nodes import Copied, Node, consolidated, fingerprint, nodes_of, stored_metadata
from zarrs.copying._places import open_source, open_target, refuse_overlap, write
from zarrs.copying._plan import Plan, make_plan
from zarrs.copying._record import Identity, Record, begin, describe
from zarrs.copying._report import CopyReport
from zarrs.copying._run import (
    Workers,
    cluster,
    on_worker,
    refuse_local_stores,
    run_all,
    threads,
)
from zarrs.copying._transfer import copy_region
from zarrs.copying._verify import Difference, VerificationError, compare_region

if TYPE_CHECKING:
    from zarrs.copying._bar import Begin

GOES_ON = "what has been copied stays, and the same call goes on with it"


def copy(
    source: Any,
    target: Any,
    *,
    chunks: Any = "keep",
    shards: Any = "keep",
    filters: Any = "keep",
    serializer: Any = "keep",
    compressors: Any = "keep",
    zarr_format: Literal[2, 3] | None = None,
    storage_options: dict[str, Any] | None = None,
    target_storage_options: dict[str, Any] | None = None,
    memory: int | str = "512MiB",
    verify: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: bool = False,
) -> CopyReport:
    """Copy an array or a group, with other chunks, shards, codecs or another format if asked for.

    Attributes, dimension names, fill values, and consolidated metadata of groups that have some are
    copied as well. Chunks that are not stored, and those that hold nothing but the fill value, are
    not stored in the copy. Arrays that both sides store alike are copied chunk by chunk as they
    are, without being decoded.

    A copy that was interrupted, killed or failed goes on when the same is asked for again. Until it
    has ended its target cannot be opened.

    Parameters
    ----------
    source : zarr.Array, zarr.Group, str, path or store
        What is copied; of a group, all that is below it.
    target : str, path, store or StorePath
        Where there must be nothing yet. A path that ends in ``.zip`` becomes a zip file.
    chunks : tuple of int, int or "auto", default "keep"
        Of inner chunks, where there are shards. A tuple holds for arrays with as many axes, and
        others keep their chunks and shards.
    shards : tuple of int, int or None, default "keep"
        None: none.
    filters, compressors : sequence of codecs or None, default "keep"
        As for ``zarr.create_array``. Those of one format are translated for the other.
    serializer : codec, default "keep"
        What makes bytes of items, in format 3.
    zarr_format : {2, 3}, optional
        None: that of the source.
    storage_options, target_storage_options : dict, optional
        For URLs.
    memory : int or str, default "512MiB"
        What regions under way may take, all together; with a scheduler, in each worker.
    verify : bool, default False
        Read everything again, from both, and compare.
    overwrite : bool, default False
        Delete an array or a group at the target first, or a copy of something else that has not
        ended.
    scheduler : str, optional
        The address of the scheduler of a dask.distributed cluster, whose workers copy then.
    progress : bool, default False
        Show a progress bar on stderr; it needs the package rich.

    Returns
    -------
    CopyReport
        It prints as a line of text.

    Raises
    ------
    FileNotFoundError
        If there is no source.
    FileExistsError
        If there is something at the target.
    ValueError
        If source and target are the same or one is inside of the other, an array cannot be stored
        as asked for, or there is too little memory for a single chunk or shard.
    PermissionError
        If the target is read-only.
    ChunkError, OSError
        If a chunk is damaged, or cannot be read or written; the same call goes on afterwards.
    VerificationError
        If items differ.
    ImportError
        If a package is missing that was asked for.
    RuntimeError
        In zarr's own event loop.

    Examples
    --------
    >>> import numpy as np, zarr, zarrs
    >>> source = zarr.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(1, 4))
    >>> target = {}
    >>> report = zarrs.copy(source, target, chunks=(3, 2), zarr_format=2, verify=True)
    >>> report.arrays, report.n_bytes_copied
    (1, 96)
    >>> zarr.open_array(target, mode="r").chunks
    (3, 2)
    """
    refuse_zarr_loop("copy")
    started = time.monotonic()
    n_bytes = parse_memory(memory)
    wishes = Wishes(_plain(chunks), _plain(shards), filters, serializer, compressors, zarr_format)
    node = open_source(source, storage_options)
    nodes = consolidated(nodes_of(node, wishes))
    with ExitStack() as stack:
        root = stack.enter_context(open_target(target, target_storage_options, overwrite=overwrite))
        refuse_overlap(node, root)
        bar = stack.enter_context(progress_bar(progress))
        if scheduler is None:
            workers = stack.enter_context(threads())
        else:
            refuse_local_stores(node.store_path, root)
            workers = stack.enter_context(cluster(scheduler))
        limit = Limit(n_bytes, workers.at_a_time, read_options().max_workers, is_compared=verify)
        plans = [make_plan(one, root, limit) for one in nodes if one.is_array]
        record = begin(root, _identity(node, nodes), overwrite=overwrite)
        run = _Run(root, plans, record, workers, bar, is_remote=scheduler is not None)
        copied = run.copy()
        if verify:
            run.verify()
        _finish(root, nodes, record)
    return CopyReport(
        arrays=len(plans),
        groups=len(nodes) - len(plans),
        arrays_as_stored=sum(plan.pair.is_stored_alike for plan in plans),
        n_bytes=sum(plan.n_bytes for plan in plans),
        n_bytes_copied=copied,
        resumed=record.resumed,
        verified=verify,
        seconds=time.monotonic() - started,
        most_reads=max((plan.reads for plan in plans), default=1.0),
    )


def _plain(wish: Any) -> Any:
    # So that a list is as good as a tuple.
    return tuple(wish) if isinstance(wish, list | np.ndarray) else wish


def _identity(node: Node, nodes: list[Copied]) -> Identity:
    return Identity(
        describe(node),
        fingerprint({one.path: one.source.metadata for one in nodes}),
        fingerprint({one.path: one.metadata for one in nodes}),
    )


class _Run:
    # All regions of all arrays.

    def __init__(
        self,
        root: StorePath,
        plans: list[Plan],
        record: Record,
        workers: Workers,
        bar: Begin,
        *,
        is_remote: bool,
    ) -> None:
        self.root = root
        self.plans = plans
        self.record = record
        self.workers = workers
        self.bar = bar
        self.is_remote = is_remote

    def copy(self) -> int:
        """Copy what is not yet; return how many bytes that was."""
        copied = 0
        total = sum(plan.n_bytes for plan in self.plans)
        before = {plan.path: self._done_before(plan) for plan in self.plans}
        n_bytes_before = sum(
            plan.regions.n_bytes(number)
            for plan in self.plans
            for number in before[plan.path].intersection(plan.todo.tolist())
        )
        advance = self.bar("copying", total, n_bytes_before)

        def done(name: tuple[Plan, int], _: None) -> None:
            nonlocal copied
            plan, number = name
            self.record.add(plan.path, number)
            n_bytes = plan.regions.n_bytes(number)
            copied += n_bytes
            advance(n_bytes)

        try:
            for plan in self.plans:
                tasks = (
                    self._task((plan, n), copy_region, plan.regions.box(n), plan.chunks_in(n))
                    for n in plan.todo.tolist()
                    if n not in before[plan.path]
                )
                run_all(self.workers, self._at_a_time(plan), tasks, done)
        except BaseException as error:
            with suppress(OSError):  # a disk that is full has no room for it either
                self.record.write()
            if self.record.is_stored:
                error.add_note(GOES_ON)
            raise
        self.record.write()
        return copied

    def verify(self) -> None:
        """Compare everything that was copied, now or before."""
        found: list[Difference] = []
        count = 0
        advance = self.bar("verifying", sum(plan.n_bytes for plan in self.plans), 0)

        def done(name: tuple[Plan, int], result: tuple[int, list[Difference]]) -> None:
            nonlocal count
            plan, number = name
            count += result[0]
            found.extend(result[1])
            advance(plan.regions.n_bytes(number))

        for plan in self.plans:
            tasks = (
                self._task((plan, n), compare_region, plan.regions.box(n))
                for n in plan.todo.tolist()
            )
            run_all(self.workers, self._at_a_time(plan), tasks, done)
            if found:
                raise VerificationError(sorted(found, key=lambda one: one.index), count)

    def _task(
        self, name: tuple[Plan, int], function: Callable[..., Any], *args: Any
    ) -> tuple[Any, Callable[..., Any], tuple[Any, ...]]:
        pair = name[0].pair
        if self.is_remote:
            return name, on_worker, (function, self.root, pair, *args)
        return name, function, (pair, *args)

    def _at_a_time(self, plan: Plan) -> int:
        # Some wait, so that workers need not, unless there is memory for few of them only.
        if plan.regions.under_way == self.workers.at_a_time:
            return self.workers.waiting
        return plan.regions.under_way

    def _done_before(self, plan: Plan) -> set[int]:
        runs = self.record.runs.get(plan.path)
        before = None
        if runs is not None and runs != plan.regions.runs:
            cuts = zip(plan.regions.cuts, runs, strict=True)
            changed = tuple(replace(cut, run=run) for cut, run in cuts)
            before = replace(plan.regions, cuts=changed)
        return self.record.regions_done(plan.path, plan.regions, before)


def _finish(root: StorePath, nodes: list[Copied], record: Record) -> None:
    # The metadata make it an array or a group, the topmost last.
    for node in reversed(nodes):
        for key, value in stored_metadata(node).items():
            write(root / node.path, key, value.to_bytes())
    record.delete()
