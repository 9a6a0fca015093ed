"""Settings for every test: the pipeline under test is switched on, Hypothesis keeps out."""

import copy
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zarr
from hypothesis.configuration import set_hypothesis_home_dir

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

from helpers import PIPELINE, directly
from stores import Services

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis-zarrs")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """zarr warns of every data type that the specification does not have yet."""
    ignore = "ignore::zarr.errors.UnstableSpecificationWarning"
    for item in items:
        item.add_marker(pytest.mark.filterwarnings(ignore))


@pytest.fixture(autouse=True)
def pipeline() -> Iterator[None]:
    """Select the pipeline under test, as a user does; fail a test that leaves a setting behind."""
    before = copy.deepcopy(zarr.config.config)
    with zarr.config.set({"codec_pipeline.path": PIPELINE}):
        yield
    after = copy.deepcopy(zarr.config.config)
    zarr.config.config.clear()
    zarr.config.config.update(before)
    assert after == before


@pytest.fixture
def native(pipeline: None) -> Iterator[None]:
    """Anything that would fall back to zarr's own pipeline raises."""
    with zarr.config.set({"codec_pipeline.strict": True}):
        yield


@pytest.fixture(params=["pipeline", "direct"])
def access(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test twice: with zarr's arrays, and with those that need no event loop."""
    way: str = request.param
    if way == "direct":
        for name in ("create_array", "open_array"):
            monkeypatch.setattr(zarr, name, directly(getattr(zarr, name)))
    return way


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Servers on the loopback, for all tests of a process."""
    running = Services()
    yield running
    running.close()
