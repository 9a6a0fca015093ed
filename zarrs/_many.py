"""The results of many selections: one array if all have one shape, otherwise a list."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NumPyArray = np.ndarray[Any, Any]

MAX_SHOWN = 3  # shapes in an error


def allocate_many(
    shapes: Sequence[tuple[int, ...]],
    dtype: np.dtype[Any],
    out: Any = None,
    empty: Callable[..., NumPyArray] = np.empty,
) -> tuple[Any, list[NumPyArray]]:
    """Return the result of several selections, and in it the part of each.

    Parameters
    ----------
    shapes : sequence of tuple of int
        Of the parts.
    dtype : numpy.dtype
    out : array-like or sequence of array-like, optional
        A result that is there already.
    empty : callable
        What makes one array, as ``numpy.empty``.

    Raises
    ------
    ValueError
        If `out` has another shape or is read-only.
    TypeError
        If `out` has another data type or no memory that NumPy can use.
    """
    are_equal = len(set(shapes)) == 1
    if out is None:
        if not are_equal:
            parts = _allocate(shapes, dtype)
            return parts, parts
        result = empty((len(shapes), *shapes[0]), dtype)
        return result, [result[i, ...] for i in range(len(shapes))]
    if isinstance(out, list | tuple):
        if len(out) != len(shapes):
            raise ValueError(
                f"expected {len(shapes)} arrays in out, one for each selection, found {len(out)}"
            )
        pairs = enumerate(zip(out, shapes, strict=True))
        return out, [_memory_of(one, shape, dtype, f"out[{i}]") for i, (one, shape) in pairs]
    if not are_equal:
        found = ", ".join(map(str, list(dict.fromkeys(shapes))[:MAX_SHOWN]))
        raise ValueError(
            "out must be a list of arrays, one for each selection, as these have no shape in "
            f"common: {found or 'there are none'}"
        )
    array = _memory_of(out, (len(shapes), *shapes[0]), dtype, "out")
    return out, [array[i, ...] for i in range(len(shapes))]


def _allocate(shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> list[NumPyArray]:
    if dtype.kind != "T":
        return [np.empty(shape, dtype) for shape in shapes]
    # NumPy's strings are in the memory of their array's data type: one for all.
    sizes = [math.prod(shape) for shape in shapes]
    everything = np.empty(sum(sizes), dtype)
    ends = accumulate(sizes)
    return [
        everything[end - size : end].reshape(shape)
        for shape, size, end in zip(shapes, sizes, ends, strict=True)
    ]


def put_many(parts: list[Any], out: Any = None) -> Any:
    """Return parts that have been read as the result of `allocate_many`."""
    arrays = [np.asarray(part) for part in parts]
    dtype = arrays[0].dtype if arrays else np.dtype(float)
    result, places = allocate_many([array.shape for array in arrays], dtype, out)
    for place, array in zip(places, arrays, strict=True):
        place[...] = array
    return result


def _memory_of(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> NumPyArray:
    array = np.asarray(out)
    if array.size > 0 and not np.may_share_memory(array, np.asarray(out)):
        raise TypeError(
            f"{name} is a {type(out).__name__}, whose memory NumPy cannot use: pass a NumPy array"
        )
    if array.dtype != dtype:
        raise TypeError(f"expected {name} of data type {dtype}, found {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"expected {name} of shape {shape}, found {array.shape}")
    if not array.flags.writeable:
        raise ValueError(f"{name} is read-only: pass an array that can be written to")
    return array
