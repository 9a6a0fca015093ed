"""Configuration in other processes: what configuration.md says of workers, and its recipes.

Clusters and pools live in a process of their own, which ends before the test does.
"""

import importlib
import multiprocessing
import os
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import psutil
import pytest
import xarray as xr
import zarr
from helpers import PIPELINE, ROOT, STOCK, emit, run_child, stock

import zarrs

LIMIT = 240  # seconds; 10 do on a quiet machine
OURS, THEIRS = [PIPELINE, False], [STOCK, None]  # not strict, which the workers are not told


def recipe(mark: str) -> str:
    """The code in configuration.md that has some word in it."""
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    found: str
    (found,) = [
        code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if mark in code
    ]
    return found


def pipeline_of(array: zarr.Array[Any]) -> list[Any]:
    """Its name, and whether it is strict, where this runs."""
    explanation = zarrs.explain(array)
    strict = explanation.options.strict if explanation.options else None
    return [explanation.pipeline.name, strict]


def opened_there(path: str) -> list[Any]:
    return pipeline_of(zarr.open_array(path))


reads: list[str] = []  # the calls of ours where this runs


def count_reads() -> None:
    original = zarrs.ZarrsCodecPipeline.read

    async def counted(self: Any, *args: Any, **kw: Any) -> Any:
        reads.append(repr(self))
        return await original(self, *args, **kw)

    zarrs.ZarrsCodecPipeline.read = counted  # type: ignore[method-assign]


def number_of_reads() -> int:
    return len(reads)


def threads_there() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


def make_array(path: str) -> zarr.Array[Any]:
    """An array of ours, and a configuration that workers do not have."""
    zarr.config.set({"codec_pipeline.strict": True})
    array = zarr.create_array(path, data=np.arange(6, dtype="<i4"), chunks=(2,), overwrite=True)
    assert pipeline_of(array) == [PIPELINE, True]
    return array


@contextmanager
def one_worker() -> Iterator[Any]:
    """A client of a cluster of one process."""
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as own,
        distributed.Client(own) as client,
    ):
        yield client


def more_workers(client: Any, number: int) -> None:
    client.cluster.scale(number)
    client.wait_for_workers(number, timeout=LIMIT)


def on_every_worker(client: Any, function: Any, *args: Any) -> list[Any]:
    workers = list(client.scheduler_info(n_workers=-1)["workers"])
    tasks = [client.submit(function, *args, workers=[one], pure=False) for one in workers]
    return list(client.gather(tasks))


def emit_what_is_left() -> None:
    """Processes of clusters and pools that do not end with them."""
    children = psutil.Process().children(recursive=True)
    _, alive = psutil.wait_procs([c for c in children if not is_pythons_own(c)], timeout=30)
    emit([process.name() for process in alive])


def is_pythons_own(process: psutil.Process) -> bool:
    """Whether it belongs to multiprocessing, and ends with this process."""
    try:
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # or a zombie
        return False
    return "resource_tracker" in command or "multiprocessing.forkserver" in command


# ---------------------------------------------------------------------------------------- dask


def child_plain_workers(path: str) -> None:
    """Workers that nobody told anything, and then some that `client.run` told."""
    array = make_array(path)
    with one_worker() as client:
        emit(
            [
                on_every_worker(client, opened_there, path)[0],
                client.submit(pipeline_of, array).result(),
            ]
        )
        client.run(switch_on)
        more_workers(client, 2)
        emit(sorted(on_every_worker(client, opened_there, path)))
    emit_what_is_left()


def switch_on() -> None:
    zarr.config.set({"codec_pipeline.path": PIPELINE})


def test_workers_do_not_have_the_configuration_of_the_client(tmp_path: Path) -> None:
    """Arrays that are sent keep their pipeline; `client.run` does not reach later workers."""
    untold, some_told, left = run_child(child_plain_workers, str(tmp_path), timeout=LIMIT).check()
    assert untold == [THEIRS, OURS]
    assert some_told == [THEIRS, OURS]
    assert left == []


def child_dataset(path: str) -> None:
    """Emit how many calls of ours a worker makes for a dataset that is opened here."""
    encoding = {"a": {"chunks": (2,)}}
    xr.Dataset({"a": ("x", np.arange(6))}).to_zarr(path, consolidated=False, encoding=encoding)
    with one_worker() as client:
        client.run(count_reads)
        data = xr.open_zarr(path, consolidated=False).a.data
        emit(client.compute(data).result().tolist())
        emit(list(client.run(number_of_reads).values()))
    emit_what_is_left()


def test_datasets_of_xarray_bring_their_pipeline(tmp_path: Path) -> None:
    data, calls, left = run_child(child_dataset, str(tmp_path), timeout=LIMIT).check()
    assert data == list(range(6))
    assert calls == [3]
    assert left == []


def child_dask_recipe(path: str, mark: str) -> None:
    """Follow a recipe before or after the workers start; emit what arrays opened there are."""
    array = make_array(path)
    names: dict[str, Any] = {"__name__": "__main__"}  # as in a program of a user's
    is_early = mark != "WorkerPlugin"
    if is_early:
        exec(recipe(mark), names)
    with one_worker() as names["client"]:
        if not is_early:
            exec(recipe(mark), names)
        more_workers(names["client"], 2)
        for function, argument in ((opened_there, path), (pipeline_of, array)):
            emit(on_every_worker(names["client"], function, argument))
        assert on_every_worker(names["client"], threads_there) == ["1", "1"]  # dask's own stay
    emit_what_is_left()


@pytest.mark.parametrize("mark", ["os.environ", "pre-spawn-environ", "WorkerPlugin"])
def test_recipes_for_dask(tmp_path: Path, mark: str) -> None:
    """The code of configuration.md, as it stands there, for all workers: now and later."""
    child = run_child(child_dask_recipe, str(tmp_path), mark, timeout=LIMIT)
    opened, sent, left = child.check()
    assert opened == sent == [OURS, OURS]
    assert left == []


# ---------------------------------------------------------------------------- pools of processes


def child_pool(path: str, method: str, how: str, folder: str) -> None:
    """Emit what an array is that is opened in a pool's process, and one that is sent to it."""
    array = make_array(path)
    multiprocessing.set_start_method(method)
    if how == "os.environ":
        exec(recipe("os.environ"))
    code = recipe("ProcessPoolExecutor")
    if how != "initializer":
        code = code.replace("initializer=switch_on_zarrs", "")
    Path(folder, "recipe.py").write_text(code)
    sys.path.insert(0, folder)
    with importlib.import_module("recipe").pool as pool:
        emit(pool.submit(opened_there, path).result(LIMIT))
        emit(pool.submit(pipeline_of, array).result(LIMIT))
    emit_what_is_left()


@pytest.mark.parametrize("how", ["nothing", "os.environ", "initializer"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_pools(tmp_path: Path, method: str, how: str) -> None:
    opened, sent, left = run_child(
        child_pool, str(tmp_path / "a"), method, how, str(tmp_path), timeout=LIMIT
    ).check()
    assert opened == (THEIRS if how == "nothing" else OURS)
    assert sent == OURS
    assert left == []


def test_forked_pools(tmp_path: Path) -> None:
    """They have all that their parent has."""
    opened, sent, _ = run_child(
        child_pool, str(tmp_path / "a"), "fork", "nothing", str(tmp_path), timeout=LIMIT
    ).check()
    assert opened == sent == [PIPELINE, True]


def test_what_was_opened_without_zarrs_stays_so(tmp_path: Path) -> None:
    """Sending an array changes nothing, wherever it goes."""
    with zarr.config.set({"codec_pipeline.strict": False}):  # which `make_array` changes
        make_array(str(tmp_path))
    with stock():
        blob = pickle.dumps(zarr.open_array(tmp_path))
    assert pipeline_of(pickle.loads(blob)) == THEIRS
