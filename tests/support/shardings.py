"""What the tests of shards have in common: the arrays, and how they are checked."""

from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, selections
from shards import LAYOUTS, SHARDING

DTYPE = "<i4"
each_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=str)
DEFAULT = SHARDING["index-end-little-crc32c"]


def shardings(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sharding", [SHARDING[n] for n in names], ids=str)


CORE = (
    *("index-end-little-crc32c", "blosc-zstd-bit", "crc32c-start", "inside-rotated-zstd"),
    *("before-rotated", "before-and-after", "after-zstd", "nested-end-start", "nested-rotated"),
    "nested-twice-mixed",
)


def check_reads(array: zarr.Array[Any], data: np.ndarray, seed: int = 0) -> None:
    """Every selection gives what NumPy gives."""
    for selection in selections(data.shape, seed):
        assert_same(array[selection], data[selection], f"read {selection}")


READS: dict[str, Any] = {
    "whole": ...,
    "all-slices": (slice(None),) * 3,
    "inside-inner": (slice(1, 3), slice(2, 9), slice(1, 5)),
    "inner": (slice(4, 8), slice(0, 12), slice(6, 12)),
    "across-inner": (slice(2, 11), slice(3, 8), slice(4, 9)),
    "shard": (slice(12, 24), slice(0, 12), slice(0, 12)),
    "across-shards": (slice(10, 26), slice(5, 15), slice(3, 13)),
    "step-1": (slice(1, 28, 1), slice(None), slice(None)),
    "step-2": (slice(1, None, 2), slice(None, None, 2), slice(None)),
    "step-3": (slice(None, None, 3), slice(2, None, 3), slice(1, None, 3)),
    "step-above-inner": (slice(1, None, 5), slice(None), slice(None, None, 7)),
    "step-above-shard": (slice(2, None, 13), slice(1, None, 14), slice(None)),
    "steps-on-the-last": (..., slice(5, None, 100)),
    "point": (28, 16, 12),
    "first": (0, 0, 0),
    "negative": (-1, -17, -13),
    "plane-0": 13,
    "plane-1": (slice(None), 11),
    "plane-2": (..., 6),
    "line": (7, slice(None), 3),
    "empty": slice(5, 5),
    "empty-last": (..., slice(13, None)),
    "edge": (slice(24, None), slice(12, None), slice(12, None)),
    "ellipsis": (slice(3, 9), ..., slice(0, 1)),
}
