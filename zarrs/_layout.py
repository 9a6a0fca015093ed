"""How items lie in chunks and in memory, and the fill value in the bytes of both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.core.buffer import cpu

from zarrs._core import MAX_SEGMENTS, FillKind, ItemKind, Layout
from zarrs.codecs._chain import Chain, Segment, foreign_order, swapped_segments

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec

# Size of a float -> what takes any NaN for empty.
FILL_KINDS = {2: FillKind.FILL_NAN2, 4: FillKind.FILL_NAN4, 8: FillKind.FILL_NAN8}


def make_layout(
    chain: Chain, spec: ArraySpec, array: Any, *, reading: bool
) -> tuple[Layout, np.ndarray[Any, Any]] | str:
    """Find out how items are copied between the chunks of an array and memory.

    Parameters
    ----------
    chain : Chain
    spec : ArraySpec
        Of a chunk.
    array : array-like
        The memory, of any shape: what is read into, or what is written.
    reading : bool

    Returns
    -------
    (Layout, numpy.ndarray) or str
        The layout, and the memory as the native code takes it; or why it cannot.
    """
    if chain.reason:
        return chain.reason
    if not isinstance(array, np.ndarray):
        return f"the array is a {type(array).__name__}, not a NumPy array"
    if not issubclass(spec.prototype.buffer, cpu.Buffer):
        return f"{spec.prototype.buffer.__name__} is no buffer in the memory of the CPU"
    array = np.asarray(array)  # a subclass's own idea of indexing does not matter here
    if chain.strings:
        return _string_layout(chain, spec, array, reading=reading)
    segments = swapped_segments(chain.stored, array.dtype)
    if segments is None:
        return f"items of {chain.stored} are not copied to or from items of {array.dtype}"
    if len(segments) > MAX_SEGMENTS:
        return f"data type {chain.dtype} has too many fields"
    target = array.dtype if reading else chain.stored
    fill_value = spec.fill_value
    if fill_value is None:
        fill_value = spec.dtype.default_scalar()
    fill = _make_item(fill_value, chain.dtype)
    swaps = None if fill is None else swapped_segments(fill.dtype, target)
    if fill is None or swaps is None:
        return f"the fill value {fill_value!r} is no {chain.dtype}"
    kind = FillKind.FILL_BITS
    if fill.dtype.kind in "fc" and np.isnan(fill):
        kind = FILL_KINDS.get(fill.dtype.itemsize // (2 if fill.dtype.kind == "c" else 1), kind)
    layout = Layout(
        chain.dtype.itemsize,
        segments,
        _swap_bytes(fill.tobytes(), swaps),
        kind,
        foreign_order(chain.stored),
    )
    return layout, array


def _make_item(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any] | None:
    # An array of one item, in any byte order; None: the value does not fit. NumPy is not asked to
    # change the byte order, as it leaves that of times with the generic unit as it is.
    native = dtype.newbyteorder("=")
    item = np.asarray(value)
    if item.shape == () and item.dtype.newbyteorder("=") == native:
        return item
    try:
        return np.array(value, dtype=native)
    except (TypeError, ValueError):
        return None


def _swap_bytes(item: bytes, segments: list[Segment]) -> bytes:
    swapped = bytearray(item)
    for offset, unit, count in segments:
        numbers = np.frombuffer(swapped, np.uint8, count * unit, offset).reshape(count, unit)
        numbers[...] = numbers[:, ::-1].copy()
    return bytes(swapped)


def _string_layout(
    chain: Chain, spec: ArraySpec, array: np.ndarray[Any, Any], *, reading: bool
) -> tuple[Layout, np.ndarray[Any, Any]] | str:
    # As `make_layout`, of arrays of str or bytes objects or of NumPy's strings.
    is_text = chain.dtype.kind == "T"
    if array.dtype.kind not in ("TO" if is_text else "O"):
        if reading:
            return f"items of {chain.dtype} are not copied to items of {array.dtype}"
        array = array.astype(chain.dtype)
    if hasattr(array.dtype, "na_object") and not reading:
        array = array.astype(object)  # what is stored of missing values is a matter of objects
    is_packed = array.dtype.kind == "T"
    fill = spec.fill_value
    if fill is None:
        fill = spec.dtype.default_scalar()
    if not isinstance(fill, str if is_text else bytes):
        return f"the fill value {fill!r} is no {chain.dtype}"
    layout = Layout(
        array.dtype.itemsize,
        (),
        fill.encode() if isinstance(fill, str) else fill,
        kind=(
            ItemKind.STRINGS
            if is_packed
            else ItemKind.TEXT_OBJECTS
            if is_text
            else ItemKind.BYTES_OBJECTS
        ),
        descriptor=array.dtype if is_packed else None,
    )
    return layout, array
