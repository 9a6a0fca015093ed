"""From codecs that change items to native stages, or to the reason why not.

A stage gives, byte for byte, what the codec gives. Where that takes more than a loop over numbers,
or where the codec itself fails, there is no stage, and the codec is left to speak for itself.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr.codecs
from numcodecs.astype import AsType
from numcodecs.bitround import BitRound
from numcodecs.delta import Delta
from numcodecs.fixedscaleoffset import FixedScaleOffset
from numcodecs.packbits import PackBits
from numcodecs.quantize import Quantize
from numcodecs.shuffle import Shuffle

from zarrs._core import NUMBER_TYPES
from zarrs.codecs._filters import OUT_OF_RANGES, ROUNDINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BYTE = np.dtype("uint8")
SIGNIFICANDS = {2: 10, 4: 23, 8: 52}  # bits of a float's significand by its size
EXACT = 2**53  # up to here integers are doubles
MAX_MAP = 64  # pairs of a scalar map


@dataclass(frozen=True)
class Filter:
    """A native stage that changes items.

    Attributes
    ----------
    name : str
        What it is registered as.
    params : tuple of int
        Its parameters.
    source : numpy.dtype
        What it takes when it encodes, and gives when it decodes. The stage itself wants the byte
        order of the machine; in the other the items have to be swapped around it. It is uint8 if
        the stage takes bytes as they are, whatever they mean.
    target : numpy.dtype
        What it gives when it encodes, and takes when it decodes; the same goes for it.
    elementwise : bool
        Whether each item is treated on its own, so that their order is of no account.
    keep : object
        What has to stay alive as long as the parameters are in use.
    """

    name: str
    params: tuple[int, ...]
    source: np.dtype[Any]
    target: np.dtype[Any]
    elementwise: bool
    keep: object = None


def native_filter(codec: Any, dtype: np.dtype[Any]) -> Filter | str:
    """Return the native stage of a codec, or the reason why it has none.

    Parameters
    ----------
    codec : object
        A codec of numcodecs, or an array-to-array codec of zarr.
    dtype : numpy.dtype
        The data type of the items that it encodes.
    """
    kind = type(codec)
    make = FILTERS.get(kind)
    if make is None:
        return f"{kind.__module__}.{kind.__qualname__} has no native counterpart"
    try:
        return make(codec, dtype)
    except Exception as error:  # configurations are taken as they come
        return f"the native codec does not take its configuration ({error})"


def _delta(codec: Delta, dtype: np.dtype[Any]) -> Filter | str:
    types = _types(codec.dtype, codec.astype)
    if isinstance(types, str) or codec.dtype != dtype:
        return types if isinstance(types, str) else _mismatch(codec.dtype, dtype)
    floats = [one for one in (codec.dtype, codec.astype) if one.kind == "f"]
    if floats and codec.dtype.newbyteorder("=") != codec.astype.newbyteorder("="):
        return f"differences of {codec.dtype} as {codec.astype} have no native counterpart"
    if dtype.itemsize == 2 and floats:
        return "differences of float16 have no native counterpart"
    if not floats and np.promote_types(codec.dtype, codec.astype).kind == "f":
        return f"NumPy adds {codec.astype} to {codec.dtype} as floats"
    return Filter("delta", (types,), codec.dtype, codec.astype, elementwise=False)


def _fixedscaleoffset(codec: FixedScaleOffset, dtype: np.dtype[Any]) -> Filter | str:
    types = _types(codec.dtype, codec.astype)
    if isinstance(types, str) or codec.dtype != dtype:
        return types if isinstance(types, str) else _mismatch(codec.dtype, dtype)
    encoding, decoding = _computed_in(codec.dtype), _computed_in(codec.astype)
    # What NumPy computes in depends on its version and on the scalars.
    item, encoded = np.zeros(1, codec.dtype), np.zeros(1, codec.astype)
    with np.errstate(all="ignore"):
        shifted, unscaled = item - codec.offset, encoded / codec.scale
        steps = [shifted, shifted * codec.scale, unscaled, unscaled + codec.offset]
    if [step.dtype for step in steps] != [encoding, encoding, decoding, decoding]:
        return "NumPy computes it in other data types than the native codec"
    for number in codec.offset, codec.scale:
        problem = _number_problem(number, encoding) or _number_problem(number, decoding)
        if problem:
            return problem
    params = types, _bits(float(codec.offset)), _bits(float(codec.scale))
    return Filter("fixedscaleoffset", params, codec.dtype, codec.astype, elementwise=True)


def _quantize(codec: Quantize, dtype: np.dtype[Any]) -> Filter | str:
    types = _types(codec.dtype, codec.astype)
    if isinstance(types, str) or codec.dtype != dtype:
        return types if isinstance(types, str) else _mismatch(codec.dtype, dtype)
    # The power of two next to 10**digits, by the steps of the codec.
    exponent = math.log10(10.0**-codec.digits)
    exponent = math.floor(exponent) if exponent < 0 else math.ceil(exponent)
    scale = 2.0 ** math.ceil(math.log2(10.0**-exponent))
    problem = _number_problem(scale, _computed_in(codec.dtype))
    if problem:
        return problem
    params = types, _bits(scale)
    return Filter("quantize", params, codec.dtype, codec.astype, elementwise=True)


def _bitround(codec: BitRound, dtype: np.dtype[Any]) -> Filter | str:
    if dtype.kind != "f" or dtype.itemsize not in SIGNIFICANDS:
        return f"only floats of up to 64 bits can be rounded, not {dtype}"
    if not dtype.isnative:
        return "it knows the byte order of the machine only"
    drop = SIGNIFICANDS[dtype.itemsize] - codec.keepbits
    if not isinstance(codec.keepbits, int) or drop < 0:
        return f"{dtype} has no {codec.keepbits} bits to keep"
    return Filter("bitround", (dtype.itemsize, drop), dtype, dtype, elementwise=True)


def _astype(codec: AsType, dtype: np.dtype[Any]) -> Filter | str:
    types = _types(codec.decode_dtype, codec.encode_dtype)
    if isinstance(types, str) or codec.decode_dtype != dtype:
        return types if isinstance(types, str) else _mismatch(codec.decode_dtype, dtype)
    return Filter("astype", (types,), dtype, codec.encode_dtype, elementwise=True)


def _packbits(_: PackBits, dtype: np.dtype[Any]) -> Filter | str:
    if dtype != np.dtype(bool):
        return _mismatch(np.dtype(bool), dtype)
    return Filter("packbits", (), dtype, BYTE, elementwise=False)


def _shuffle(codec: Shuffle, dtype: np.dtype[Any]) -> Filter | str:
    if dtype.hasobject:
        return f"items of data type {dtype} have no fixed size"
    if not isinstance(codec.elementsize, int) or codec.elementsize >= 2**31:
        return f"{codec.elementsize} is no size of an element"
    return Filter("shuffle", (max(codec.elementsize, 1),), BYTE, BYTE, elementwise=False)


def _cast_value(codec: Any, dtype: np.dtype[Any]) -> Filter | str:
    target = codec.dtype.to_native_dtype()
    types = _types(dtype, target)
    if isinstance(types, str):
        return types
    if not (dtype.isnative and target.isnative):
        return "it knows the byte order of the machine only"
    if codec.rounding not in ROUNDINGS or codec.out_of_range not in OUT_OF_RANGES:
        return (
            f"rounding {codec.rounding!r} with out_of_range {codec.out_of_range!r} has no native "
            "counterpart"
        )
    if codec.rounding == "nearest-away" and {dtype.name, target.name} == {"float64", "float16"}:
        return "ties of float64 between two numbers of float16 are rounded in a way of its own"
    maps = codec.scalar_map or {}
    encoding = _scalar_map(codec, maps.get("encode"), dtype, target)
    decoding = _scalar_map(codec, maps.get("decode"), target, dtype)
    if isinstance(encoding, str) or isinstance(decoding, str):
        return str(encoding if isinstance(encoding, str) else decoding)
    how = ROUNDINGS.index(codec.rounding) | OUT_OF_RANGES.index(codec.out_of_range) << 8
    addresses = encoding.ctypes.data, decoding.ctypes.data
    params = (types, how, *addresses, len(encoding) | len(decoding) << 32)
    return Filter("cast_value", params, dtype, target, elementwise=True, keep=(encoding, decoding))


def _scalar_map(
    codec: Any,
    entries: Mapping[Any, Any] | None,
    source: np.dtype[Any],
    target: np.dtype[Any],
) -> Any:
    # Pairs, or a reason. What the keys become is asked of the codec, which has rules of its own for
    # values that are not exact, and for keys that are the same.
    entries = entries or {}
    if len(entries) > MAX_MAP:
        return f"a scalar map has more than {MAX_MAP} entries"
    key = np.dtype("float64") if source.kind == "f" else source
    pair: Any = {
        "names": ["key", "result"],
        "formats": [key, target],
        "offsets": [0, 8],
        "itemsize": 16,
    }
    pairs: Any = np.zeros(len(entries), np.dtype(pair))
    if not entries:
        return pairs
    numbers = np.array([(float if source.kind == "f" else int)(one) for one in entries], key)
    with np.errstate(all="ignore"):
        keys = numbers.astype(source)
    pairs["key"] = keys
    exact = np.array_equal(pairs["key"], numbers, equal_nan=key.kind == "f")
    if source.itemsize == 2 and not exact:
        return "a key of a scalar map is between two numbers of float16"
    pairs["result"] = codec._do_cast(keys, target_dtype=target, scalar_map=entries)
    return pairs


def _scale_offset(codec: Any, dtype: np.dtype[Any]) -> Filter | str:
    from zarr.dtype import parse_dtype

    types = _types(dtype, dtype)
    if isinstance(types, str):
        return types
    zdtype = parse_dtype(dtype, zarr_format=3)
    offset = zdtype.from_json_scalar(codec.offset, zarr_format=3)
    scale = zdtype.from_json_scalar(codec.scale, zarr_format=3)
    if scale == 0:
        return "its scale is 0"
    if dtype.kind == "f":
        problem = _number_problem(float(offset), dtype) or _number_problem(float(scale), dtype)
        if problem:
            return problem
        params = types, _bits(float(offset)), _bits(float(scale))
    elif dtype.kind == "i" and dtype.itemsize == 8:
        return "int64 that overflows wraps around in zarr"
    else:
        params = types, _signed(int(offset)), _signed(int(scale))
    return Filter("scale_offset", params, dtype, dtype, elementwise=True)


FILTERS: dict[type, Callable[[Any, np.dtype[Any]], Filter | str]] = {
    AsType: _astype,
    BitRound: _bitround,
    Delta: _delta,
    FixedScaleOffset: _fixedscaleoffset,
    PackBits: _packbits,
    Quantize: _quantize,
    Shuffle: _shuffle,
}
for name, make in ("CastValue", _cast_value), ("ScaleOffset", _scale_offset):
    if hasattr(zarr.codecs, name):  # zarr 3.1 has neither
        FILTERS[getattr(zarr.codecs, name)] = make


def _types(source: np.dtype[Any], target: np.dtype[Any]) -> int | str:
    # The parameter that says what is encoded as what.
    for dtype in source, target:
        if dtype.name not in NUMBER_TYPES:
            return f"items of data type {dtype} have no native counterpart"
    return NUMBER_TYPES.index(source.name) | NUMBER_TYPES.index(target.name) << 8


def _mismatch(expected: np.dtype[Any], dtype: np.dtype[Any]) -> str:
    return f"it is for items of data type {expected}, not {dtype}"


def _computed_in(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # With Python's floats, as the native stages do.
    return dtype.newbyteorder("=") if dtype.kind == "f" else np.dtype("float64")


def _number_problem(number: Any, dtype: np.dtype[Any]) -> str:
    if not isinstance(number, int | float):
        return f"{number!r} is not a number of Python's"
    if isinstance(number, int) and abs(number) > EXACT:
        return f"{number} is not exact as a float"
    with np.errstate(all="ignore"):
        finite = bool(np.isfinite(dtype.type(number)))
    return "" if finite else f"{number} is not finite as {dtype}"


def _bits(number: float) -> int:
    return int.from_bytes(struct.pack("=d", number), sys.byteorder, signed=True)


def _signed(number: int) -> int:
    # The bits of an unsigned number as a signed one.
    return number - 2**64 if number >= 2**63 else number
