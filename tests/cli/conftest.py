"""Fixtures for the tests of the command line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from commands import Said, Typed
from zarr.codecs import GzipCodec

from zarrs.cli._app import run


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Typed:
    """Run the command line in this process, with what is typed after ``zarrs``."""

    def run_typed(*arguments: Any) -> Said:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        return Said(code, *capfd.readouterr())

    return run_typed


@pytest.fixture
def group(tmp_path: Path) -> Path:
    """A group of arrays with shards, with small chunks, and with nothing in it."""
    root = zarr.open_group(tmp_path / "data.zarr", mode="w", zarr_format=3)
    sharded = root.create_array(
        "air/temperature", shape=(60, 80), chunks=(10, 20), shards=(30, 40), dtype="f4"
    )
    sharded[:30] = np.arange(2400.0).reshape(30, 80)
    small = root.create_array(
        "small", shape=(24, 2), chunks=(2, 2), dtype="i4", compressors=GzipCodec()
    )
    small[...] = np.arange(48).reshape(24, 2)
    root.create_array("nothing", shape=(0, 3), chunks=(1, 3), dtype="f8")
    return tmp_path / "data.zarr"
