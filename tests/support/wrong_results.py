"""Codecs in Python that return something else than they should, and what that may be."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numcodecs
import numcodecs.abc
import numpy as np
from numcodecs.compat import ensure_bytes
from own_codecs import Async, Sync
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.core.buffer import cpu
from zarr.registry import register_codec

STYLES = ("sync", "async", "waiting")

# What a codec does, by its place: which direction is wrong, and what is made of the right result.
wrong: dict[str, tuple[str, Callable[[Any, Any], Any]]] = {}


class _Buffers:
    # What is right, as the buffer that it should be in; or what is wrong.
    place: ClassVar[str]

    def _array(self, doing: str, array: np.ndarray, spec: Any) -> Any:
        if wrong.get(self.place, ("",))[0] == doing:
            return wrong[self.place][1](array, spec)
        return spec.prototype.nd_buffer.from_ndarray_like(array)

    def _bytes(self, doing: str, raw: bytes, spec: Any) -> Any:
        if wrong.get(self.place, ("",))[0] == doing:
            return wrong[self.place][1](raw, spec)
        return spec.prototype.buffer.from_bytes(raw)


class Filter(_Buffers):
    """The bits of items turned over."""

    place = "filter"
    is_fixed_size = True

    def compute_encoded_size(self, input_byte_length: int, _spec: Any) -> int:
        return input_byte_length

    def forward(self, data: Any, spec: Any) -> Any:
        return self._array("encode", ~data.as_numpy_array(), spec)

    def backward(self, data: Any, spec: Any) -> Any:
        return self._array("decode", ~data.as_numpy_array(), spec)


class Serializer(_Buffers):
    """The items as bytes, from last to first."""

    place = "serializer"

    def forward(self, data: Any, spec: Any) -> Any:
        return self._bytes("encode", data.as_numpy_array().tobytes()[::-1], spec)

    def backward(self, data: Any, spec: Any) -> Any:
        dtype = spec.dtype.to_native_dtype()
        array = np.frombuffer(data.to_bytes()[::-1], dtype).reshape(spec.shape)
        return self._array("decode", array, spec)


class Compressor(_Buffers):
    """The bytes from last to first."""

    place = "compressor"

    def forward(self, data: Any, spec: Any) -> Any:
        return self._bytes("encode", data.to_bytes()[::-1], spec)

    def backward(self, data: Any, spec: Any) -> Any:
        return self._bytes("decode", data.to_bytes()[::-1], spec)


class Waiting(Async):
    """Waits for the event loop before it returns."""

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        await asyncio.sleep(0)
        return self.forward(data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        await asyncio.sleep(0)
        return self.backward(data, spec)


CODEC: dict[tuple[str, str], Any] = {}
for _what, _base in (
    (Filter, ArrayArrayCodec),
    (Serializer, ArrayBytesCodec),
    (Compressor, BytesBytesCodec),
):
    for _style, _how in zip(STYLES, (Sync, Async, Waiting), strict=True):
        _name = f"wrong.{_what.place}.{_style}"
        _space = {"name": _name, "__module__": __name__}
        _cls: Any = dataclass(frozen=True)(
            type(f"{_what.__name__}{_style.capitalize()}", (_what, _how, _base), _space)
        )
        register_codec(_name, _cls)
        CODEC[_what.place, _style] = _cls


class NumFilter(numcodecs.abc.Codec):  # type: ignore[misc]
    """A filter of format 2: the bits of items turned over."""

    codec_id = "wrong-filter"

    def encode(self, buf: Any) -> Any:
        return _numcodec("filter", "encode", ~np.asarray(buf))

    def decode(self, buf: Any, out: Any = None) -> Any:
        return _numcodec("filter", "decode", ~np.frombuffer(ensure_bytes(buf), "<i4"))


class NumCompressor(numcodecs.abc.Codec):  # type: ignore[misc]
    """A compressor of format 2: the bytes from last to first."""

    codec_id = "wrong-compressor"

    def encode(self, buf: Any) -> Any:
        return _numcodec("compressor", "encode", ensure_bytes(buf)[::-1])

    def decode(self, buf: Any, out: Any = None) -> Any:
        return _numcodec("compressor", "decode", ensure_bytes(buf)[::-1])


def _numcodec(place: str, doing: str, right: Any) -> Any:
    if wrong.get(place, ("",))[0] == doing:
        return wrong[place][1](right, None)
    return right


for _codec in (NumFilter, NumCompressor):
    numcodecs.register_codec(_codec)


# ------------------------------------------------------------------------------ what is returned


class OwnBuffer(cpu.Buffer):
    """A subclass of zarr's."""


class OwnNDBuffer(cpu.NDBuffer):
    """A subclass of zarr's."""


def _strided(array: np.ndarray) -> np.ndarray:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


def _longer(array: np.ndarray, axis: int) -> np.ndarray:
    return np.concatenate([array, array[:1] if axis == 0 else array[..., :1]], axis)


# Arrays, bare or in a buffer.
SHAPED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "right": lambda a: a,
    "read-only": _read_only,
    "fortran": np.asfortranarray,
    "strided": _strided,
    "negative": lambda a: a[::-1].copy()[::-1],
    "broadcast": lambda a: np.broadcast_to(a, a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "uint32": lambda a: a.astype("u4"),
    "float32": lambda a: a.astype("f4"),
    "int16": lambda a: a.astype("i2"),
    "int64": lambda a: a.astype("i8"),
    "float64": lambda a: a.astype("f8"),
    "object": lambda a: a.astype(object),
    "text": lambda a: a.astype("U11"),
    "flat": lambda a: a.reshape(-1),
    "turned": lambda a: a.reshape(a.shape[::-1]),
    "one more axis": lambda a: a[None],
    "short": lambda a: a[:-1],
    "narrow": lambda a: a[..., :-1],
    "one row": lambda a: a[:1],
    "one column": lambda a: a[..., :1],
    "one item": lambda a: a[:1, :1] if a.ndim == 2 else a[:1],
    "no axes": lambda a: np.array(a.flat[0]),
    "empty": lambda a: a[:0],
    "long": lambda a: _longer(a, 0),
    "wide": lambda a: _longer(a, -1),
}

# What goes for an array; the first argument is the right one.
OF_ARRAYS: dict[str, Callable[..., Any]] = {
    **{
        f"buffer, {name}": lambda a, spec, how=how: spec.prototype.nd_buffer.from_ndarray_like(
            how(a)
        )
        for name, how in SHAPED.items()
    },
    **{f"bare, {name}": lambda a, spec, how=how: how(a) for name, how in SHAPED.items()},
    "own buffer": lambda a, spec: OwnNDBuffer.from_ndarray_like(a),
    "masked": lambda a, spec: np.ma.masked_less(a, 0),
    "bytes buffer": lambda a, spec: spec.prototype.buffer.from_bytes(a.tobytes()),
    "bytes": lambda a, spec: a.tobytes(),
    "bytearray": lambda a, spec: bytearray(a.tobytes()),
    "memoryview": lambda a, spec: np.ascontiguousarray(a).data,
    "list": lambda a, spec: a.tolist(),
    "scalar": lambda a, spec: a.flat[0],
    "integer": lambda a, spec: 7,
    "str": lambda a, spec: "array",
    "None": lambda a, spec: None,
    "dictionary": lambda a, spec: {"array": a},
}

# What goes for bytes.
OF_BYTES: dict[str, Callable[[Any, Any], Any]] = {
    "buffer": lambda b, spec: spec.prototype.buffer.from_bytes(b),
    "writable buffer": lambda b, spec: spec.prototype.buffer.from_bytes(bytearray(b)),
    "strided buffer": lambda b, spec: spec.prototype.buffer.from_array_like(
        _strided(np.frombuffer(b, "u1"))
    ),
    "own buffer": lambda b, spec: OwnBuffer.from_bytes(b),
    "short buffer": lambda b, spec: spec.prototype.buffer.from_bytes(b[:-1]),
    "long buffer": lambda b, spec: spec.prototype.buffer.from_bytes(b + b"\0"),
    "double buffer": lambda b, spec: spec.prototype.buffer.from_bytes(b + b),
    "empty buffer": lambda b, spec: spec.prototype.buffer.from_bytes(b""),
    "array buffer": lambda b, spec: spec.prototype.nd_buffer.from_ndarray_like(
        np.frombuffer(b, "u1")
    ),
    "array buffer of two axes": lambda b, spec: spec.prototype.nd_buffer.from_ndarray_like(
        np.frombuffer(b, "u1").reshape(2, -1)
    ),
    "array": lambda b, spec: np.frombuffer(b, "u1"),
    "bytes": lambda b, spec: b,
    "bytearray": lambda b, spec: bytearray(b),
    "memoryview": lambda b, spec: memoryview(b),
    "list": lambda b, spec: list(b),
    "scalar": lambda b, spec: np.uint8(b[0]),
    "integer": lambda b, spec: 7,
    "str": lambda b, spec: "bytes",
    "None": lambda b, spec: None,
}

# What codecs of numcodecs return for one or the other.
_BARE = {name: OF_ARRAYS[name] for name in OF_ARRAYS if "buffer" not in name}
OF_NUMCODECS = {
    **_BARE,
    "empty bytes": lambda a, spec: b"",
    "short bytes": lambda a, spec: ensure_bytes(a)[:-1],
    "long bytes": lambda a, spec: ensure_bytes(a) + b"\0",
    "double bytes": lambda a, spec: ensure_bytes(a) * 2,
}
