"""Groups whose members have direct access, and the ways to open and create."""

import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, make_data, stock_read

import zarrs
from zarrs import ZarrsCodecPipeline
from zarrs._direct import MEMBER_METHODS

DATA = make_data("<i4", (6, 5))


@pytest.fixture(params=[2, 3], ids="v{}".format)
def group(request: pytest.FixtureRequest, tmp_path: Path) -> zarrs.Group:
    """Arrays and groups, three deep."""
    root = zarr.open_group(str(tmp_path), mode="w", zarr_format=request.param)
    for path in ("top", "a/middle", "a/b/bottom"):
        root.create_array(path, shape=(6, 5), chunks=(4, 4), dtype="<i4")[...] = DATA
    return zarrs.open_group(str(tmp_path), mode="r+")


def is_ours(node: Any) -> bool:
    return type(node) in (zarrs.Array, zarrs.Group)


def test_members_at_any_depth(group: zarrs.Group) -> None:
    assert type(group) is zarrs.Group
    assert isinstance(group, zarr.Group)
    members: dict[str, Any] = dict(group.members(max_depth=None))
    assert set(members) == {"top", "a", "a/middle", "a/b", "a/b/bottom"}
    assert all(map(is_ours, members.values()))
    assert_same(members["a/b/bottom"][...], DATA)
    below: Any = group["a"]
    bottom = below["b"]["bottom"]
    assert_same(bottom[2:4, 1], DATA[2:4, 1])
    assert type(bottom) is zarrs.Array


def test_views_of_members(group: zarrs.Group) -> None:
    assert [(name, type(one)) for name, one in group.arrays()] == [("top", zarrs.Array)]
    assert [(name, type(one)) for name, one in group.groups()] == [("a", zarrs.Group)]
    assert list(map(type, group.array_values())) == [zarrs.Array]
    assert list(map(type, group.group_values())) == [zarrs.Group]
    assert is_ours(group.get("top"))
    assert group.get("nothing") is None
    assert group.get("nothing", 5) == 5
    assert sorted(group) == ["a", "top"]
    assert "a/b" in group


CREATE: dict[str, Callable[[Any], Any]] = {
    "create_array": lambda g: g.create_array("new", shape=(4,), dtype="i4"),
    "require_array": lambda g: g.require_array("new", shape=(4,), dtype="i4"),
    "require_existing": lambda g: g.require_array("top", shape=(6, 5), dtype="i4"),
    "create_group": lambda g: g.create_group("new"),
    "require_group": lambda g: g.require_group("a"),
    "empty": lambda g: g.empty(name="new", shape=(4,)),
    "zeros": lambda g: g.zeros(name="new", shape=(4,)),
    "ones": lambda g: g.ones(name="new", shape=(4,)),
    "full": lambda g: g.full(name="new", shape=(4,), fill_value=3),
    "zeros_like": lambda g: g.zeros_like(name="new", data=np.zeros(4)),
}


@pytest.mark.parametrize("create", CREATE.values(), ids=CREATE)
def test_what_is_created(group: zarrs.Group, create: Callable[[Any], Any]) -> None:
    assert is_ours(create(group))


def test_several_at_once(group: zarrs.Group) -> None:
    assert list(map(type, group.require_groups("a", "c"))) == [zarrs.Group] * 2


def test_every_method_that_returns_members_is_known() -> None:
    """By zarr's own annotations."""
    found = {
        name
        for name, method in inspect.getmembers(zarr.Group, inspect.isfunction)
        if not name.startswith("_") or name == "__getitem__"
        if any(
            kind in str(inspect.signature(method).return_annotation) for kind in ("Array", "Gro")
        )
    }
    # these return the group itself
    assert found - set(MEMBER_METHODS) <= {
        *("update_attributes", "update_attributes_async", "from_store", "open")
    }


def test_data_is_written_directly(
    group: zarrs.Group, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def fail(*args: Any) -> None:
        raise AssertionError("written by the pipeline")

    monkeypatch.setattr(ZarrsCodecPipeline, "write", fail)
    assert_same(group.create_array("new", data=DATA, chunks=(2, 2))[...], DATA)
    made = zarrs.create_array(str(tmp_path / "other"), data=DATA, chunks=(2, 2))
    assert type(made) is zarrs.Array
    assert_same(stock_read(tmp_path / "other"), DATA)
    empty = zarrs.create_array(str(tmp_path / "third"), data=DATA, write_data=False, fill_value=1)
    assert_same(empty[...], np.ones((6, 5), "<i4"))


def test_data_and_shape_are_too_much(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [{"data": DATA, "shape": (6, 5)}, {"data": DATA, "dtype": "i4"}, {}]
    for arguments in bad:
        with pytest.raises(ValueError, match="data"):
            zarrs.create_array(str(tmp_path), **arguments)


def test_ways_to_open(group: zarrs.Group) -> None:
    where: Any = group.store_path
    assert type(zarrs.open(where)) is zarrs.Group
    assert type(zarrs.open(where, path="top")) is zarrs.Array
    assert type(zarrs.open_array(where, path="a/middle")) is zarrs.Array
    assert type(zarrs.open_group(where, path="a")) is zarrs.Group
    assert type(zarrs.direct(zarr.open_group(where))) is zarrs.Group
    assert zarrs.direct(group) is group
    with pytest.raises(FileNotFoundError):
        zarrs.open_array(where, path="nothing", mode="r")


@pytest.mark.parametrize("name", ["open", "open_array", "open_group", "create_array"])
def test_signatures_are_those_of_zarr(name: str) -> None:
    mine = inspect.signature(getattr(zarrs, name))
    theirs = inspect.signature(getattr(zarr, name))
    others = [one for key, one in mine.parameters.items() if key != "cache_bytes"]
    assert others == list(theirs.parameters.values())
    assert mine.parameters["cache_bytes"].default == 0
    assert f"zarr.{name}" in getattr(zarrs, name).__doc__


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_consolidated_metadata(group: zarrs.Group) -> None:
    where: Any = group.store_path
    zarr.consolidate_metadata(where)
    again = zarrs.open_group(where, use_consolidated=True)
    assert all(is_ours(one) for _, one in again.members(max_depth=None))
    assert_same(again["a/b/bottom"][1:3], DATA[1:3])  # type: ignore[index]


def test_duplicates(group: zarrs.Group) -> None:
    other = pickle.loads(pickle.dumps(group))
    assert type(other) is zarrs.Group
    assert other == group
    assert is_ours(other["top"])
    assert type(group.update_attributes({"a": 1})) is zarrs.Group


def test_explanation_of_a_group(group: zarrs.Group) -> None:
    explanation = zarrs.explain(group)
    assert all(one.access is not None and one.access.native for one in explanation.arrays.values())
    assert "access zarrs.Array: native" in str(explanation)
    plain = zarrs.explain(zarr.open_group(group.store_path))
    assert all(one.access is None for one in plain.arrays.values())
