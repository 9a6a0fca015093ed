"""The workers of a dask.distributed cluster copy."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import distributed
import numpy as np
import pytest
import zarr
from clusters import cluster
from helpers import assert_same, child_environment, make_data, stock_read, stored_files
from zarr.storage import LocalStore, MemoryStore, StorePath

import zarrs
from zarrs.copying import _run
from zarrs.copying._transfer import Pair

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
DATA = make_data("f4", (200, 150))


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Two workers in processes of their own, in which nothing is switched on.

    Who starts workers has their environment afterwards, such as their number of threads.
    """
    with mock.patch.dict(os.environ), cluster(processes=True) as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> zarr.Group:
    group = zarr.create_group(tmp_path / "a")
    array = group.create_array("x/y", shape=DATA.shape, chunks=(30, 20), dtype="f4")
    array[...] = DATA
    group.create_array("s", shape=(4,), chunks=(2,), dtype=str)[...] = np.array(list("abcd"), "O")
    return group


@pytest.mark.parametrize("wishes", [{}, {"chunks": (8, 8), "shards": (16, 48)}, {"zarr_format": 2,
                         "compressors": None}], ids=str)  # fmt: skip
def test_workers_copy_what_this_process_would(
    processes: Any, source: zarr.Group, tmp_path: Path, wishes: Any
) -> None:
    """Byte for byte."""
    address = processes.scheduler_address
    options = {"memory": "200KiB", "verify": True, **wishes}
    report = zarrs.copy(source, tmp_path / "b", scheduler=address, **options)
    assert report.verified
    zarrs.copy(source, tmp_path / "c", **options)
    assert stored_files(tmp_path / "b") == stored_files(tmp_path / "c")
    assert_same(stock_read(tmp_path / "b/x/y"), DATA)


def test_a_copy_goes_on_elsewhere(processes: Any, source: zarr.Group, tmp_path: Path) -> None:
    """Begun here, it goes on there, and the other way round."""
    (tmp_path / "a/x/y/c/5/5").write_bytes(b"damaged")
    options: Any = {"chunks": (16, 16), "memory": "200KiB"}
    for first, second in ((None, processes.scheduler_address), (processes.scheduler_address, None)):
        target = tmp_path / f"from {first is None}"
        with pytest.raises(zarrs.ChunkError, match="'c/5/5' of array 'x/y'"):
            zarrs.copy(source, target, scheduler=first, **options)
        done = json.loads((target / ".zarrs.copy").read_text())["arrays"]["s"]["done"]
        assert done
        with pytest.raises(zarrs.ChunkError, match="'c/5/5' of array 'x/y'"):
            zarrs.copy(source, target, scheduler=second, **options)
    array: Any = source["x/y"]
    array[...] = DATA
    for target in tmp_path.glob("from *"):
        assert zarrs.copy(source, target, scheduler=processes.scheduler_address, **options).resumed
        assert_same(stock_read(target / "x/y"), DATA)


@pytest.mark.parametrize("missing", ["source", "target"])
def test_workers_that_see_other_files(source: zarr.Group, tmp_path: Path, missing: str) -> None:
    """What only they see is taken for neither: all would be missing, or written elsewhere."""
    array: Any = source["x/y"]
    root = StorePath(LocalStore(tmp_path / "b"))
    pair = Pair("x/y", array.async_array, array.async_array, False, 4, 1)
    (tmp_path / "b").mkdir()
    if missing == "source":
        (tmp_path / "b/.zarrs.copy").touch()
        (tmp_path / "a/x/y/zarr.json").unlink()
    with pytest.raises(FileNotFoundError, match="a worker of the cluster sees another"):
        _run.on_worker(lambda _: None, root, pair)


def test_what_workers_cannot_reach(processes: Any, source: zarr.Group, tmp_path: Path) -> None:
    address = processes.scheduler_address
    for target in (MemoryStore(), tmp_path / "b.zip"):
        with pytest.raises(ValueError, match="workers of a cluster cannot share"):
            zarrs.copy(source, target, scheduler=address)
    assert not list(tmp_path.glob("b*"))


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
def test_no_scheduler(source: zarr.Group, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(_run, "TIMEOUT", 0.5)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        zarrs.copy(source, tmp_path / "b", scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "b").exists()


def test_no_workers(source: zarr.Group, tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(OSError, match="has no workers: start some"),
    ):
        zarrs.copy(source, tmp_path / "b", scheduler=empty.scheduler_address)
    assert not (tmp_path / "b").exists()


def test_distributed_is_missing(source: zarr.Group, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match="needs the package distributed: python -m pip install"):
        zarrs.copy(source, tmp_path / "b", scheduler="tcp://127.0.0.1:1")
    assert not (tmp_path / "b").exists()


def test_nothing_is_imported_without_need() -> None:
    code = (
        "import sys, zarr, zarrs; zarrs.copy(zarr.create_array({}, shape=(4,), dtype='i4'), {})\n"
        "assert not {'distributed', 'rich.progress'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=child_environment())
