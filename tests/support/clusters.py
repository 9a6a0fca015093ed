"""Arrays for dask, xarray and distributed, and clusters that read and write them."""

import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import numpy as np
import psutil
import pytest
import xarray as xr
import zarr
from helpers import CHAIN, PIPELINE, Chain, create
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore

import zarrs
from zarrs.runtime._cpus import available_cpus

SHAPE = (96, 64)
CHUNKS = (24, 16)
SHARDS = (48, 32)
MISALIGNED = (17, 23)  # shares no border with chunks or shards but those of the array
LIMIT = 60  # seconds that nothing here takes unless it hangs

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"chain": CHAIN["blosc-lz4-shuffle"]},
    "sharded": {"chain": CHAIN["zstd"], "shards": SHARDS},
    "v2": {"chain": CHAIN["v2-zlib-F"]},
}
STORES: dict[str, Callable[[Path], Any]] = {
    "local": lambda path: LocalStore(path),
    "memory": lambda path: MemoryStore(),
    "fsspec": lambda path: FsspecStore.from_url(
        f"file://{path}", storage_options={"auto_mkdir": True}
    ),
    "logging": lambda path: LoggingStore(LocalStore(path), log_level="ERROR"),
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS)


def new_array(store: Any, layout: str, **kw: Any) -> zarr.Array[Any]:
    """An array of the usual shape that holds nothing yet."""
    arguments = {"dtype": "<f8"} | LAYOUTS[layout] | kw
    chain: Chain = arguments.pop("chain")
    return create(store, chain, SHAPE, CHUNKS, arguments.pop("dtype"), **arguments)


def write_chunks(array: zarr.Array[Any]) -> tuple[int, ...]:
    """What one writer should have for himself."""
    return array.shards or array.chunks


def describe(array: zarr.Array[Any]) -> dict[str, Any]:
    """What an array is where this runs."""
    pipeline: Any = array._async_array.codec_pipeline
    options = getattr(pipeline, "options", None)
    return {
        "pid": os.getpid(),
        "ours": type(pipeline) is zarrs.ZarrsCodecPipeline,
        "strict": getattr(options, "strict", None),
        "max_workers": getattr(options, "max_workers", None),
        "cpus": available_cpus(),
        "path": zarr.config.get("codec_pipeline.path"),
    }


def describe_opened(path: str) -> dict[str, Any]:
    """As `describe`, of an array that is opened here."""
    return describe(zarr.open_array(path))


# ------------------------------------------------------------------------------ native threads


def threads_of_ours() -> int:
    """Threads that Python does not know, and those of it that bear our name."""
    system = psutil.Process().num_threads()  # first, so that one that starts now is not native
    python = threading.enumerate()
    return int(system) - len(python) + sum(t.name.startswith("zarrs") for t in python)


def most_threads(array: zarr.Array[Any], callers: int) -> dict[str, Any]:
    """Read an array from many threads of dask's and see how many of ours that takes."""
    before = threads_of_ours()
    samples: list[int] = []
    lazy = da.from_zarr(array, chunks=(240, 600))
    # A thread that ends is gone for Python before it is for the system, so none may end.
    with ThreadPoolExecutor(callers) as crowd, ThreadPoolExecutor(1) as conductor:
        read = functools.partial(lazy.compute, scheduler="threads", pool=crowd)
        total = conductor.submit(lambda: [float(read().sum()) for _ in range(8)])
        while not total.done():
            samples.append(threads_of_ours())
            time.sleep(0.0005)
        sums = total.result()
        idle = threads_of_ours()
    # Threads that have been told to end need the processor once more for it, which takes time
    # on a busy machine: what counts is how many there are for 10 samples, 5 ms or more.
    runs = [samples[i : i + 10] for i in range(max(1, len(samples) - 9))]
    return {
        "before": before,
        "most": max(min(run) for run in runs),
        "peak": max(samples),
        "idle": idle,
        "cpus": available_cpus(),
        "sums": sums,
        "pid": os.getpid(),
    }


def check_threads(found: dict[str, Any], array: zarr.Array[Any]) -> None:
    """What `zarrs.runtime._threads` promises."""
    assert found["sums"] == [float(np.asarray(array[...]).sum())] * 8
    bound = 2 * found["cpus"]
    # From 0: in a worker there may be some from before.
    assert 1 <= found["most"] <= found["before"] + bound, found
    assert found["idle"] - found["before"] <= bound, found


# ----------------------------------------------------------------------- the processes scheduler

STRICT = {"ZARR_CODEC_PIPELINE__STRICT": "True"}
SWITCHED_ON = STRICT | {"ZARR_CODEC_PIPELINE__PATH": PIPELINE}


# ---------------------------------------------------------------------------------- distributed


def cluster(processes: bool) -> Any:
    """A cluster on this machine without a dashboard."""
    return distributed.LocalCluster(
        n_workers=2 if processes else 1,
        threads_per_worker=2 if processes else 4,
        processes=processes,
        dashboard_address=":0",  # with None it asks for one port, and warns when that is taken
    )


def result(client: Any, lazy: Any) -> Any:
    """Compute on a cluster, in finite time."""
    return client.compute(lazy).result(timeout=LIMIT)


def on_every_worker(client: Any, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a function once in each worker, as a task."""
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    futures = [client.submit(function, *args, workers=[w], pure=False) for w in workers]
    return [future.result(timeout=LIMIT) for future in futures]


def set_config(options: dict[str, Any]) -> dict[str, Any]:
    """Set options of zarr's and say what they were."""
    before = {name: zarr.config.get(name, None) for name in options}
    zarr.config.set(options)
    return before


def configure(client: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Set options in all workers, as a user does."""
    return next(iter(client.run(set_config, options).values()))


def read_all(array: zarr.Array[Any]) -> np.ndarray:
    return np.asarray(array[...])


def write_rows(path: str, first: int, rows: int) -> None:
    """Write some rows of a data set, as one of many jobs does."""
    part = xr.Dataset({"v": (("time", "x"), np.full((rows, 8), float(first)))})
    part.to_zarr(path, region={"time": slice(first, first + rows), "x": slice(0, 8)},
                 safe_chunks=False, consolidated=False)  # fmt: skip
