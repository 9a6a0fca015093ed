"""Selections and values that do not fit, and memory and fields that the caller names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from helpers import (
    CHAIN,
    PIPELINE,
    STOCK,
    assert_same,
    bits,
    chain_arguments,
    make_data,
    root_of,
    stored_files,
)
from picks import ALL, CASES, PICKS, SHAPE, few_cases, make, mask_where, some_mask
from selections import Case, Pick
from zarr.core.buffer.cpu import NDBuffer

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]


# -------------------------------------------------------------------------------- bad input


SMALL = (6, 5)
BAD_READS: dict[str, Pick] = {
    "oindex-too-big": Pick("oindex", ([0, 6], ALL)),
    "oindex-too-negative": Pick("oindex", ([0, -7], ALL)),
    "oindex-integer-too-big": Pick("oindex", ([0, 1], 5)),
    "oindex-too-many": Pick("oindex", ([0], [1], [2])),
    "oindex-floats": Pick("oindex", ([0.0, 1.0], ALL)),
    "oindex-text": Pick("oindex", ("rows", ALL)),
    "oindex-2d": Pick("oindex", (np.zeros((2, 2), int), ALL)),
    "oindex-mask-short": Pick("oindex", (np.ones(5, bool), ALL)),
    "oindex-mask-long": Pick("oindex", (np.ones(7, bool), ALL)),
    "oindex-mask-2d": Pick("oindex", (np.ones(SMALL, bool), ALL)),
    "oindex-backward": Pick("oindex", (slice(None, None, -1), [0])),
    "oindex-two-ellipses": Pick("oindex", (..., ...)),
    "vindex-too-big": Pick("vindex", ([0, 6], [0, 0])),
    "vindex-too-negative": Pick("vindex", ([0, 0], [0, -6])),
    "vindex-too-few": Pick("vindex", ([0, 1],)),
    "vindex-too-many": Pick("vindex", ([0], [1], [2])),
    "vindex-lengths": Pick("vindex", ([0, 1, 2], [0, 1])),
    "vindex-slice": Pick("vindex", ([0, 1], ALL)),
    "vindex-floats": Pick("vindex", ([0.0], [1.0])),
    "vindex-empty-list": Pick("vindex", ([], [])),
    "mask-shape": Pick("mask", np.ones((5, 6), bool)),
    "mask-short": Pick("mask", np.ones((6, 4), bool)),
    "mask-1d": Pick("mask", np.ones(6, bool)),
    "fancy-too-big": Pick("fancy", ([0, 6], [0, 0])),
    "fancy-floats": Pick("fancy", np.array([0.5])),
    "fancy-mask": Pick("fancy", np.ones(6, bool)),
    "blocks-too-big": Pick("blocks", (9, 0)),
    "blocks-step": Pick("blocks", (slice(0, 1, 2), 0)),
    "blocks-array": Pick("blocks", ([0], 0)),
}
ROWS = Pick("oindex", ([4, 0, 1], [1, 3]))
DROPPED = Pick("oindex", ([4, 0, 1], 3))
POINTS = Pick("vindex", ([4, 0, 1], [1, 3, 4]))
GRID = Pick("vindex", ([[4], [0], [1]], [1, 3]))
MASKED = Pick("mask", mask_where(SMALL, (slice(1, 3), slice(2, 4))))
# without those that zarr broadcasts, crops or writes in part before it raises
BAD_WRITES: dict[str, tuple[Pick, Any]] = {
    "oindex-one-axis": (ROWS, np.arange(3)),
    "oindex-rows": (ROWS, np.ones((2, 2), int)),
    "oindex-columns": (ROWS, np.ones((3, 1), int)),
    "oindex-text": (ROWS, "text"),
    "oindex-array-of-text": (ROWS, np.full((3, 2), "text")),
    "oindex-object": (ROWS, np.full((3, 2), None, object)),
    "oindex-dropped": (DROPPED, np.ones((2,), int)),
    "vindex-long": (POINTS, np.ones(4, int)),
    "vindex-short": (POINTS, np.ones(2, int)),
    "vindex-one": (POINTS, np.ones(1, int)),
    "vindex-text": (POINTS, "text"),
    "vindex-array-of-text": (POINTS, np.full(3, "text")),
    "vindex-broadcast": (GRID, np.ones(2, int)),
    "vindex-object": (POINTS, np.full(3, None, object)),
    "mask-short": (MASKED, np.ones(3, int)),
    "mask-one": (MASKED, np.ones(1, int)),
    "mask-text": (MASKED, "text"),
}  # fmt: skip
SMALL_LAYOUTS: dict[str, dict[str, Any]] = {
    "one-chunk": {"chunks": SMALL, "compressors": None},
    "v2": {"chunks": SMALL, **chain_arguments(CHAIN["v2-zlib-F"], 2)},
    "one-shard": {"chunks": (3, 5), "shards": SMALL},
}
small_layouts = pytest.mark.parametrize("arguments", SMALL_LAYOUTS.values(), ids=SMALL_LAYOUTS)


def small(path: Path, arguments: dict[str, Any], name: str = PIPELINE) -> zarr.Array[Any]:
    """A filled array that uses the named pipeline."""
    with zarr.config.set({"codec_pipeline.path": name}):
        array = zarr.create_array(str(path), shape=SMALL, dtype="<i4", **arguments)
        array[...] = make_data("<i4", SMALL)
    return array


def outcome(work: Callable[..., Any]) -> Any:
    """What is returned, as bytes, or the type of what is raised."""
    try:
        result = np.asarray(work())
    except Exception as error:
        return type(error)
    return result.shape, result.dtype.str, bits(result)


def both(tmp_path: Path, arguments: dict[str, Any]) -> list[zarr.Array[Any]]:
    return [small(tmp_path / n.split(".")[0], arguments, n) for n in (PIPELINE, STOCK)]


@small_layouts
@pytest.mark.parametrize("name", BAD_READS)
def test_bad_selections(native: None, tmp_path: Path, arguments: dict[str, Any], name: str) -> None:
    """The errors are zarr's, for reads and writes, and nothing has happened."""
    pick = BAD_READS[name]
    ours, theirs = both(tmp_path, arguments)
    before = stored_files(root_of(ours))
    expected = outcome(lambda: pick.read(theirs))
    assert isinstance(expected, type), "zarr takes it"
    assert outcome(lambda: pick.read(ours)) is expected
    expected = outcome(lambda: pick.write(theirs, 1))
    assert isinstance(expected, type), "zarr takes it"
    assert outcome(lambda: pick.write(ours, 1)) is expected
    assert stored_files(root_of(ours)) == before
    assert_same(ours[...], make_data("<i4", SMALL))


@small_layouts
@pytest.mark.parametrize("name", BAD_WRITES)
def test_bad_values(tmp_path: Path, arguments: dict[str, Any], name: str) -> None:
    """The same type of error, or none, and the same array afterwards."""
    pick, value = BAD_WRITES[name]
    ours, theirs = both(tmp_path, arguments)
    expected = outcome(lambda: pick.write(theirs, value))
    assert outcome(lambda: pick.write(ours, value)) == expected
    assert_same(ours[...], theirs[...])
    if isinstance(expected, type):
        assert_same(ours[...], make_data("<i4", SMALL))


@small_layouts
def test_bad_values_raise_something(tmp_path: Path, arguments: dict[str, Any]) -> None:
    """At least these, so that the table above does not compare successes only."""
    array = small(tmp_path, arguments)
    for name in ("oindex-one-axis", "vindex-long", "vindex-broadcast", "mask-short", "mask-text"):
        pick, value = BAD_WRITES[name]
        with pytest.raises((ValueError, IndexError)):
            pick.write(array, value)
    assert_same(array[...], make_data("<i4", SMALL))


# ------------------------------------------------------------------------------------- out=


OUTS: dict[str, tuple[str, Any, Any]] = {
    "orthogonal": ("get_orthogonal_selection", PICKS["three-arrays"], (40, 9, 20)),
    "orthogonal-dropped": ("get_orthogonal_selection", PICKS["dropped-between"], (3, 3)),
    "orthogonal-mask": ("get_orthogonal_selection", PICKS["mask-axes"], None),
    "orthogonal-backward": ("get_orthogonal_selection", PICKS["descending"], SHAPE),
    "coordinate": ("get_coordinate_selection", PICKS["points"], (50,)),
    "coordinate-2d": ("get_coordinate_selection", PICKS["points-2d"], (12,)),  # flat in zarr
    "mask": ("get_mask_selection", PICKS["mask"], None),
    "block": ("get_block_selection", PICKS["blocks"], None),
    "basic": ("get_basic_selection", Pick("basic", (slice(3, 25, 4), 5, ALL)), None),
}


@few_cases
@pytest.mark.parametrize("memory", ["C", "F", "strided", "swapped"])
@pytest.mark.parametrize("name", OUTS)
def test_out(native: None, tmp_path: Path, case: Case, name: str, memory: str) -> None:
    """The result goes where it should, whatever that looks like, and nowhere else."""
    method, pick, shape = OUTS[name]
    data = make_data("<i4", SHAPE)
    data[:7, :5, :6] = 0
    array = make(tmp_path, case)
    array[...] = data  # a chunk of fill values is missing
    expected = data.reshape(-1)[pick.places(SHAPE, case.grid)]
    expected = expected.reshape(shape or expected.shape)
    dtype = ">i4" if memory == "swapped" else "<i4"
    around = np.full([2 * n + 3 for n in expected.shape], -1, dtype)
    out = np.full(expected.shape, -1, dtype, order="F" if memory == "F" else "C")
    inside = (slice(1, -2, 2),) * out.ndim
    if memory == "strided":
        out = around[inside]
    assert out.shape == expected.shape
    getattr(array, method)(pick.key, out=NDBuffer.from_numpy_array(out))
    assert np.array_equal(out, expected)
    around[inside] = -1
    assert (around == -1).all()


@pytest.mark.parametrize("name", [n for n in OUTS if n != "basic"])
def test_out_of_another_shape(tmp_path: Path, name: str) -> None:
    method, pick, _ = OUTS[name]
    array = make(tmp_path, CASES["raw"])
    with pytest.raises(ValueError, match="shape of out"):
        getattr(array, method)(pick.key, out=NDBuffer.from_numpy_array(np.zeros(7, "<i4")))


# ----------------------------------------------------------------------------------- fields=


# Any, since zarr's annotations know nothing of fields, nor of lists.
FIELDS: dict[str, Callable[[Any], Any]] = {
    "one": lambda a: a["a"],
    "one-of-rows": lambda a: a["b", 1:3],
    "orthogonal": lambda a: a.oindex["a", [4, 0], [1, 3]],
    "points": lambda a: a.vindex["a", [4, 0], [1, 3]],
    "all": lambda a: a["a", "b", "c"],
    "all-orthogonal": lambda a: a.oindex["a", "b", "c", [4, 0], [1, 3]],
    "all-points": lambda a: a.vindex["a", "b", "c", [4, 0], [1, 3]],
    "two": lambda a: a["a", "b"],
    "other-order": lambda a: a.get_basic_selection(..., fields=["c", "b", "a"]),
    "mask": lambda a: a.get_mask_selection(some_mask(SMALL, 0.5), fields=["a", "b", "c"]),
    "unknown": lambda a: a["z"],
    "set": lambda a: a.set_basic_selection(slice(2), 7, fields="a"),
    "set-rows": lambda a: a.set_orthogonal_selection(([3, 1], ALL), 7, fields="a"),
    "set-points": lambda a: (a.set_coordinate_selection(([3, 1], [0, 2]), 7, fields="b"), a[...])[
        1
    ],
    "set-two": lambda a: a.set_basic_selection(slice(2), 7, fields=["a", "b"]),
}


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fields(tmp_path: Path, zarr_format: Literal[2, 3], name: str) -> None:
    """zarr can do little with them since version 3; that little is the same, errors included."""
    dtype = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "<i4")])
    outcomes = []
    for which in (PIPELINE, STOCK):
        with zarr.config.set({"codec_pipeline.path": which}):
            array = zarr.create_array(
                str(tmp_path / which.split(".")[0]), shape=SMALL, chunks=(4, 3), dtype=dtype,
                zarr_format=zarr_format,
            )  # fmt: skip
            data = np.zeros(SMALL, dtype)
            data["a"] = np.arange(30).reshape(SMALL)
            data["b"], data["c"] = data["a"] / 2, data["a"] * 3
            array[...] = data
            first = outcome(lambda array=array: FIELDS[name](array))
            outcomes.append(first if isinstance(first, type) else (first, bits(array[...])))
    assert outcomes[0] == outcomes[1]
    if name in ("all", "all-orthogonal", "all-points", "mask", "set"):
        assert not isinstance(outcomes[0], type), "this works in zarr"


@pytest.mark.parametrize("name", ["all", "all-orthogonal", "all-points", "mask"])
def test_all_fields_natively(native: None, tmp_path: Path, name: str) -> None:
    """All fields in their order are the data type itself."""
    dtype = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "<i4")])
    array = zarr.create_array(str(tmp_path), shape=SMALL, chunks=(4, 3), dtype=dtype)
    array[...] = data = make_data(dtype, SMALL)
    places: dict[str, Any] = {
        "all-orthogonal": np.ix_([4, 0], [1, 3]),
        "all-points": ([4, 0], [1, 3]),
        "mask": some_mask(SMALL, 0.5),
    }
    assert_same(FIELDS[name](array), data[places.get(name, ...)])
