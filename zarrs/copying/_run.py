"""Several regions at a time, in threads of this process or on a cluster of dask's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from zarr.storage import MemoryStore, StorePath, ZipStore

from zarrs.copying._places import NODES, read
from zarrs.copying._record import KEY
from zarrs.copying._transfer import Pair
from zarrs.storage._stores import innermost

T = TypeVar("T")
TIMEOUT = 20  # seconds in which a scheduler answers
UNDER_WAY = 3  # regions in one process: one is read, one is written, one is about to be


@dataclass(frozen=True)
class Workers:
    """Where regions are copied.

    Attributes
    ----------
    executor : Executor
    at_a_time : int
        Regions in one process at the same time.
    waiting : int
        Tasks that are handed over, at most.
    """

    executor: Executor
    at_a_time: int
    waiting: int


@contextmanager
def threads() -> Iterator[Workers]:
    """Copy in threads of this process; what decodes and encodes is zarrs' own threads."""
    executor = ThreadPoolExecutor(UNDER_WAY, "zarrs-copy")
    try:
        yield Workers(executor, UNDER_WAY, 2 * UNDER_WAY)
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def cluster(address: str) -> Iterator[Workers]:
    """Copy on the workers of a running cluster.

    Raises
    ------
    ImportError
        If distributed is not installed.
    OSError
        If there is no scheduler at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError(
            "a scheduler needs the package distributed: python -m pip install distributed"
        ) from error
    with Client(address, timeout=TIMEOUT, set_as_default=False) as client:
        n_threads = client.nthreads().values()
        if not n_threads:
            raise OSError(f"the cluster at {address} has no workers: start some, then copy again")
        executor = client.get_executor(pure=False)
        yield Workers(executor, max(n_threads), 2 * sum(n_threads))


def refuse_local_stores(*places: StorePath) -> None:
    """Raise ValueError if workers in other processes cannot reach a place."""
    for place in places:
        if isinstance(innermost(place.store), MemoryStore | ZipStore):
            raise ValueError(
                f"workers of a cluster cannot share {place}: copy from and to directories or URLs, "
                "or without a scheduler"
            )


def on_worker(function: Callable[..., T], root: StorePath, pair: Pair, *args: Any) -> T:
    """Call a function in a worker, if source and target are there what they are elsewhere."""
    if read(root, KEY) is None or all(read(pair.source.store_path, key) is None for key in NODES):
        raise FileNotFoundError(
            f"a worker of the cluster sees another {pair.source.store_path} or {root} than the "
            "process that copies: it needs the same files under the same names"
        )
    return function(pair, *args)


def run_all(
    workers: Workers,
    at_a_time: int,
    tasks: Iterable[tuple[Any, Callable[..., T], tuple[Any, ...]]],
    done: Callable[[Any, T], None],
) -> None:
    """Run tasks; after the first that fails none begins, and those under way are awaited.

    Parameters
    ----------
    workers : Workers
    at_a_time : int
        Tasks that are handed over at the same time, at most.
    tasks : iterable of (object, callable, tuple)
        What each is called here, and what is called with which arguments.
    done : callable
        Called in this thread with the name and the result of each that has ended.
    """
    running: dict[Future[T], Any] = {}
    todo = iter(tasks)
    try:
        while True:
            for name, function, args in todo:
                running[workers.executor.submit(function, *args)] = name
                if len(running) >= at_a_time:
                    break
            if not running:
                return
            _collect(running, done)
    except BaseException:
        for future in running:
            future.cancel()
        while running:
            with suppress(Exception):  # the first error is the one to be told
                _collect(running, done)
        raise


def _collect(running: dict[Future[T], Any], done: Callable[[Any, T], None]) -> None:
    # Takes out what has ended; raises what failed.
    ended, _ = wait(running, return_when=FIRST_COMPLETED)
    names = [(future, running.pop(future)) for future in ended]
    failed: BaseException | None = None
    for future, name in names:
        if future.cancelled():
            continue
        error = future.exception()
        if error is None:
            done(name, future.result())
        failed = failed or error
    if failed is not None:
        raise failed
