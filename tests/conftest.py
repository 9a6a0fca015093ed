"""Settings for every test: the pipeline under test is switched on, Hypothesis keeps out."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zarr
from hypothesis.configuration import set_hypothesis_home_dir

sys.path.insert(0, str(Path(__file__).resolve().parent))

from helpers import PIPELINE

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis-zarrs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """zarr warns of every data type that the specification does not have yet."""
    ignore = "ignore::zarr.errors.UnstableSpecificationWarning"
    for item in items:
        item.add_marker(pytest.mark.filterwarnings(ignore))


@pytest.fixture(autouse=True)
def pipeline() -> Iterator[None]:
    """Select the pipeline under test, as a user does."""
    with zarr.config.set({"codec_pipeline.path": PIPELINE}):
        yield


@pytest.fixture
def native(pipeline: None) -> Iterator[None]:
    """Anything that would fall back to zarr's own pipeline raises."""
    with zarr.config.set({"codec_pipeline.strict": True}):
        yield
