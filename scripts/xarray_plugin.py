"""What `scripts/downstream_tests` puts into the pytest that runs xarray's tests a second time.

Tests with zarrs that open something with xarray's engine "zarr", or let xarray find it, get zarrs'
engine.
"""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """File zarrs' engine under the other one's name."""
    if not config.option.zarrs:
        return
    from xarray.backends import ZarrBackendEntrypoint
    from xarray.backends.common import BACKEND_ENTRYPOINTS

    from zarrs._xarray import ZarrsBackendEntrypoint

    class Engine(ZarrsBackendEntrypoint):
        guess_can_open = ZarrBackendEntrypoint.guess_can_open

    BACKEND_ENTRYPOINTS["zarr"] = ("zarr", Engine)
