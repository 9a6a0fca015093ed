"""Fixtures for the tests of the whole system."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import zarr
from clusters import LIMIT, SWITCHED_ON, cluster
from helpers import CHAIN, create


@pytest.fixture
def alarm() -> Iterator[None]:
    """What hangs in this process fails, where Python lets us interrupt it."""

    def ring(*_: Any) -> None:
        raise TimeoutError(f"no end after {2 * LIMIT} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(2 * LIMIT)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def many_chunks(tmp_path: Path) -> zarr.Array[Any]:
    """Chunks enough that a call has use for every thread there is."""
    array = create(tmp_path / "many", CHAIN["zstd"], (1920, 600), (20, 30), "<f8",
                   shards=(480, 600))  # fmt: skip
    array[...] = np.arange(1152000.0).reshape(1920, 600)
    return array


@pytest.fixture(scope="module")
def worker_processes() -> Iterator[Any]:
    """Workers for which the environment switches our pipeline on, strictly."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SWITCHED_ON.items():
            patch.setenv(name, value)
        running = cluster(processes=True)
    # Not the default client, or else every other test would use it.
    with running, distributed.Client(running, set_as_default=False) as client:
        yield client


@pytest.fixture(scope="module")
def worker_threads() -> Iterator[Any]:
    """Workers in this process."""
    with (
        cluster(processes=False) as running,
        distributed.Client(running, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Any:
    """A client of each kind of cluster."""
    return request.getfixturevalue(f"worker_{request.param}")
