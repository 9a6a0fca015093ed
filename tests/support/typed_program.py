"""A program as users write it, for type checkers: what the public names return is known to them.

`scripts/check` has it checked by mypy and by pyright, both strict; test_types.py runs it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import zarr

import zarrs


def use_arrays(path: Path) -> None:
    created = zarrs.create_array(path / "a", data=np.arange(12).reshape(3, 4), chunks=(2, 2))
    assert_type(created, zarrs.Array)
    opened = zarrs.open_array(path / "a", mode="r", cache_bytes=2**20)
    assert_type(opened, zarrs.Array)
    assert_type(
        zarrs.direct(zarr.open_array(path / "a"), cache_bytes=opened.cache or 0), zarrs.Array
    )
    assert_type(opened.cache, zarrs.ChunkCache | None)
    takes_any_array(opened)
    first: np.ndarray[Any, Any] = opened.read_many([0, 2])
    assert first.shape == (2, 4)
    if opened.cache is not None:
        assert_type(opened.cache.hits, int)
        opened.cache.clear()


def takes_any_array(array: zarr.Array[Any]) -> None:
    assert array.shape == (3, 4)


def use_groups(path: Path) -> None:
    group = zarrs.open_group(path, mode="r")
    assert_type(group, zarrs.Group)
    assert_type(zarrs.direct(group), zarrs.Group)
    assert_type(zarrs.open(path / "a"), zarrs.Array | zarrs.Group)


def ask(array: zarr.Array[Any], group: zarr.Group) -> None:
    explanation = zarrs.explain(array)
    assert_type(explanation, zarrs.Explanation)
    assert_type(explanation.native, bool)
    assert_type(explanation.stages, tuple[zarrs.Part, ...])
    assert_type(zarrs.explain(group), zarrs.GroupExplanation)
    report = zarrs.check(array)
    assert_type(report, zarrs.CheckReport)
    assert_type(report.by_kind("damaged"), Collection[zarrs.Finding])
    assert_type(zarrs.show_config("dicts"), dict[str, dict[str, Any]])


def catch(array: zarr.Array[Any]) -> str | None:
    try:
        array[...]
    except zarrs.ChunkError as error:
        assert_type(error.inner_chunk, tuple[int, ...] | None)
        return error.key
    except zarrs.NotNativeError as error:
        return str(error)
    return None


def main(path: Path) -> None:
    zarr.create_group(path)
    use_arrays(path)
    use_groups(path)
    array = zarr.open_array(path / "a")
    ask(array, zarr.open_group(path))
    assert catch(array) is None
