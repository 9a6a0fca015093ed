"""Stores that are mocks, as tests of other projects have them: only what the class has is there."""

from unittest.mock import AsyncMock

import numpy as np
import zarr
from zarr.storage import MemoryStore, StorePath


def test_asked_through_a_mock(native: None) -> None:
    store = AsyncMock(wraps=MemoryStore(), spec=MemoryStore)
    array = zarr.create_array(StorePath(store), shape=(6,), chunks=(4,), dtype="i2", fill_value=7)
    array[1:6] = np.arange(5)
    np.testing.assert_array_equal(array[:], [7, 0, 1, 2, 3, 4])
    store.get.return_value = None
    np.testing.assert_array_equal(array[:], np.full(6, 7))
