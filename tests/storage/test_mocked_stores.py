"""Stores that are mocks, as tests of other projects have them: only what the class has is there."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import AsyncMock

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore, StorePath, WrapperStore, ZipStore

import zarrs


def open_zip(path: Path) -> ZipStore:
    store = ZipStore(path / "a.zip", mode="w")
    store._sync_open()  # a mock does not
    return store


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda path: MemoryStore(),
    "local": LocalStore,
    "wrapped": lambda path: WrapperStore(LocalStore(path)),
    "zip": open_zip,
}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("direct", [False, True], ids=["pipeline", "direct"])
def test_asked_through_a_mock(native: None, tmp_path: Path, kind: str, direct: bool) -> None:
    inner = STORES[kind](tmp_path)
    store = AsyncMock(wraps=inner, spec=type(inner))
    array = zarr.create_array(StorePath(store), shape=(6,), chunks=(4,), dtype="i2", fill_value=7)
    if direct:
        array = zarrs.direct(array, cache_bytes=1000)
    array[1:6] = np.arange(5)
    np.testing.assert_array_equal(array[:], [7, 0, 1, 2, 3, 4])
    store.get.return_value = None
    if not direct:  # what is in the cache stays there
        np.testing.assert_array_equal(array[:], np.full(6, 7))
    inner.close()
