"""Arbitrary shapes, chunks, types, codecs, slices and values, against NumPy."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    CHAINS,
    DTYPES,
    ZARR_34,
    Chain,
    assert_same,
    create,
    make_data,
    ours_open,
    stock_read,
    stock_write,
    zarr_has,
)
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

EXAMPLES = settings(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Any]:
    """A shape with regular or, where zarr has them, rectilinear chunks."""
    ndim = draw(st.integers(0, 4))
    longest = (1, 60, 16, 9, 6)[ndim]
    shape = tuple(draw(st.integers(0, longest)) for _ in range(ndim))
    if ZARR_34 and ndim and all(shape) and draw(st.integers(0, 3)) == 0:
        return shape, [draw(cuts(n)) for n in shape]
    return shape, tuple(draw(st.integers(1, longest + 2)) for _ in range(ndim))


@st.composite
def cuts(draw: st.DrawFn, n: int) -> list[int]:
    """Positive integers whose sum is `n`."""
    if n == 1:
        return [1]
    ends = sorted({*draw(st.lists(st.integers(1, n - 1), max_size=4)), n})
    return [b - a for a, b in zip([0, *ends], ends, strict=False)]


def index(n: int) -> st.SearchStrategy[Any]:
    """One axis of a basic selection."""
    edge = st.none() | st.integers(-n - 2, n + 2)
    slices = st.builds(slice, edge, edge, st.none() | st.integers(1, n + 2))
    return slices | st.integers(-n, n - 1) if n else slices


@st.composite
def basic(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Slices and integers for some axes, an ellipsis for the rest."""
    axes = [draw(index(n)) for n in shape]
    keep = draw(st.integers(0, len(shape)))
    if keep == len(shape):
        return tuple(axes)
    hole = draw(st.integers(0, keep))
    tail = keep - hole
    return (*axes[:hole], ..., *axes[len(shape) - tail :])


@st.composite
def values(draw: st.DrawFn, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """An array of that shape in one of several memory layouts, or a scalar."""
    value = make_data(dtype, shape, seed=draw(st.integers(0, 5)))
    layout = draw(st.sampled_from(["c", "f", "flipped", "swapped", "read-only", "scalar"]))
    if layout == "scalar":
        return make_data(dtype, (1,), seed=draw(st.integers(0, 5))).reshape(())
    if layout == "f":
        return value.copy(order="F")
    if layout == "flipped" and value.ndim:
        return value[::-1]
    if layout == "swapped":
        return value.astype(dtype.newbyteorder("S")) if dtype.names is None else value
    value.flags.writeable = layout != "read-only"
    return value


@EXAMPLES
@given(
    data=st.data(),
    layout=layouts(),
    chain=st.sampled_from(CHAINS),
    dtype=st.sampled_from(DTYPES),
    order=st.sampled_from(["C", "F"]),
)
@pytest.mark.usefixtures("native")
def test_reads_and_writes(
    data: st.DataObject,
    layout: tuple[tuple[int, ...], Any],
    chain: Chain,
    dtype: np.dtype,
    order: str,
) -> None:
    """Any sequence of partial writes and reads leaves what it leaves in NumPy."""
    shape, chunks = layout
    if chain.zarr_format == 2 and isinstance(chunks, list):
        chunks = tuple(max(sizes) for sizes in chunks)
    if not zarr_has(dtype, chain.zarr_format):
        dtype = np.dtype("<i4")
    options = {
        "array.order": order,
        "array.rectilinear_chunks": isinstance(chunks, list),
        # to zarr a chunk of complex or struct -0.0 is as empty as one of 0.0
        "array.write_empty_chunks": dtype.kind in "cV",
    }
    with tempfile.TemporaryDirectory() as root, zarr.config.set(options):
        path = Path(root) / "array"
        array = create(path, chain, shape, chunks, dtype)
        expected = np.full(shape, array.fill_value, dtype)
        assert_same(array[...], expected, "empty")
        for _ in range(data.draw(st.integers(1, 4), label="writes")):
            selection = data.draw(basic(shape), label="selection")
            value = data.draw(values(dtype, np.shape(expected[selection])), label="value")
            if data.draw(st.integers(0, 4)) == 0:
                note("written by zarr")
                stock_write(path, selection, value)
            else:
                array[selection] = value
            expected[selection] = value
            part = data.draw(basic(shape), label="read")
            assert_same(array[part], expected[part], f"read {part}")
        assert_same(array[...], expected, "whole")
        assert_same(ours_open(path)[...], expected, "opened again")
        assert_same(stock_read(path), expected, "zarr")
