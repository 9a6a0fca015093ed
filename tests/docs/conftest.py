"""Fixtures for the tests of what is written for users."""

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import dask
import distributed  # noqa: F401  (adds its defaults to dask's configuration)
import pytest
import zarr
from helpers import PYPROJECT, STOCK, pretend_installed
from xarray.backends import refresh_engines


@pytest.fixture
def engine(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let xarray find the engine "zarrs", which is not registered where it is built in place."""
    site = tmp_path_factory.mktemp("site")
    group = "xarray.backends"
    entry_point = PYPROJECT["project"]["entry-points"][group]["zarrs"]
    pretend_installed(site, "zarrs-cython", "0.1.0", entry_point, group)
    monkeypatch.syspath_prepend(site)
    refresh_engines()
    yield
    refresh_engines()


@pytest.fixture
def fresh(
    pipeline: None, engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """An empty directory and settings as when Python has just started; all are put back."""
    monkeypatch.chdir(tmp_path)
    before = copy.deepcopy(zarr.config.config)
    zarr.config.set({"codec_pipeline.path": STOCK})
    with mock.patch.dict(os.environ), dask.config.set(copy.deepcopy(dask.config.config)):
        yield
    zarr.config.config.clear()
    zarr.config.config.update(before)
