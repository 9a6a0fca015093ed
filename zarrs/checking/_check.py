"""All that is stored of arrays is looked at, and deleted if asked for and nobody can read it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import zarr

from zarrs._grid import size_of
from zarrs._run import refuse_zarr_loop
from zarrs.checking._findings import Absent, CheckReport, Finding, Missing
from zarrs.checking._stored import StoredArray

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from zarrs._grid import Coordinates
    from zarrs.checking._stored import StoredChunk

# From the name of an array and its number of chunks to what is called after each of these.
Begin = Callable[[str, int], Callable[[], object]]
T = TypeVar("T")
R = TypeVar("R")


def check(
    node: zarr.Array[Any] | zarr.Group, *, repair: bool = False, progress: bool = False
) -> CheckReport:
    """Look at everything that is stored of an array, or of all arrays of a group.

    Every chunk is decoded as a whole, also beyond the array's edges, and all checksums are
    verified. Where a shard is at fault, each of its inner chunks is looked at by itself. What is
    stored is not changed, unless `repair` is set.

    Parameters
    ----------
    node : zarr.Array or zarr.Group
        With any pipeline, on any store; of a group, the arrays at any depth.
    repair : bool, default False
        Delete chunks and inner chunks that are damaged, so that they read as the fill value. Each
        is looked at once more right before that. What is too long, temporary, missing or unreadable
        is left.
    progress : bool, default False
        Show a progress bar on stderr; it needs the package rich.

    Returns
    -------
    CheckReport
        It prints as a text of some lines.

    Raises
    ------
    TypeError
        If `node` is neither an array nor a group.
    ValueError
        If `repair` is set and the store is read-only, or cannot delete.
    RuntimeError
        In zarr's own event loop.
    ImportError
        If `progress` is set and rich is not installed.

    Examples
    --------
    >>> import zarr, zarrs
    >>> array = zarr.create_array({}, shape=(4, 4), chunks=(2, 2), dtype="i4", compressors=None)
    >>> array[:2] = 1
    >>> print(zarrs.check(array))
    2 of 4 chunks stored in 1 array: 32 bytes
    sound
    """
    refuse_zarr_loop("check")
    return check_arrays(_arrays_of(node), repair=repair, progress=progress)


def check_arrays(arrays: Iterable[zarr.Array[Any]], *, repair: bool, progress: bool) -> CheckReport:
    """Look at everything that is stored of some arrays, as `check` does."""
    stored = [StoredArray(array) for array in arrays]
    if repair:
        for array in stored:
            array.refuse_if_fixed()
    with _progress_bar(progress) as begin:
        seen = [_look_at(array, repair, begin) for array in stored]
    return CheckReport(
        findings=tuple(finding for one in seen for finding in one.findings()),
        missing=Missing(tuple(one.absent for one in seen)),
        deleted=tuple(finding for one in seen for finding in one.deleted),
        arrays=len(seen),
        chunks=sum(size_of(one.absent.grid) for one in seen),
        stored_chunks=sum(len(one.absent.stored) for one in seen),
        inner_chunks=sum(one.inner_chunks for one in seen),
        stored_inner_chunks=sum(one.stored_inner_chunks for one in seen),
        bytes_stored=sum(one.bytes_stored for one in seen),
    )


def _arrays_of(node: Any) -> list[zarr.Array[Any]]:
    if isinstance(node, zarr.Array):
        return [node]
    if isinstance(node, zarr.Group):
        members = dict(node.members(max_depth=None))  # a store may list a name twice
        return [one for _, one in sorted(members.items()) if isinstance(one, zarr.Array)]
    raise TypeError(
        f"check() takes a zarr.Array or a zarr.Group, not {type(node).__name__}: "
        "pass what zarr.open(...) returns for the stored data"
    )


@dataclass
class _Seen:
    # What was seen of one array.
    array: StoredArray
    temporary: list[Finding]
    stored: list[int] = field(default_factory=list)
    inner: dict[int, tuple[Coordinates, bytes]] = field(default_factory=dict)
    faulty: list[StoredChunk] = field(default_factory=list)
    deleted: list[Finding] = field(default_factory=list)
    inner_chunks: int = 0
    stored_inner_chunks: int = 0
    bytes_stored: int = 0

    @property
    def absent(self) -> Absent:
        array = self.array
        return Absent(array.path, array.metadata, array.grid, self.stored, self.inner)

    def findings(self) -> Iterator[Finding]:
        yield from self.temporary
        for chunk in self.faulty:
            for fault in chunk.faults:
                yield from fault.findings

    def add(self, chunk: StoredChunk) -> None:
        self.stored.append(chunk.number)
        self.bytes_stored += chunk.size
        if chunk.faults:
            self.faulty.append(chunk)
        if chunk.inner_sizes is not None:
            is_absent = chunk.inner_sizes < 0
            n_absent = int(is_absent.sum())
            self.inner_chunks += is_absent.size
            self.stored_inner_chunks += is_absent.size - n_absent
            if n_absent:
                self.inner[chunk.number] = is_absent.shape, np.packbits(is_absent).tobytes()


def _look_at(array: StoredArray, repair: bool, begin: Begin) -> _Seen:
    numbers, temporary = array.listed()
    seen = _Seen(array, temporary)
    step = begin(array.path, len(numbers))
    with closing(_in_threads(array.look, numbers, array.threads)) as chunks:
        for chunk in chunks:
            if chunk is not None:
                seen.add(chunk)
            step()
    for chunk in seen.faulty if repair else ():
        seen.deleted += array.repair(chunk)
    return seen


def _in_threads(
    function: Callable[[T], R], items: Iterable[T], threads: int
) -> Generator[R, None, None]:
    # The results in the order of the items. Few wait, and nothing goes on when this has ended.
    executor = ThreadPoolExecutor(threads, "zarrs-check")
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) > 4 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _progress_bar(is_shown: bool) -> Iterator[Begin]:
    if not is_shown:
        yield lambda name, count: lambda: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError as error:
        raise ImportError(
            "a progress bar needs the package rich: python -m pip install 'zarrs-cython[cli]'"
        ) from error
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=0)
        total = 0

        def begin(name: str, count: int) -> Callable[[], object]:
            nonlocal total
            total += count
            bar.update(task, description=f"checking {name}".rstrip(), total=total)
            return lambda: bar.advance(task)

        yield begin
