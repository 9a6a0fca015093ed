"""Stages of a chain that run in Python: codecs that have no native form, a user's own among them.

The native loops call ``encode`` and ``decode`` of these objects for one chunk at a time, holding
the GIL; see ``codecs/_python.pyx``. Bytes arrive as a ``bytearray`` that belongs to the codec, so
it may keep or change them.
"""

from __future__ import annotations

import dis
import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.compat import ensure_bytes, ensure_ndarray_like
from zarr.abc.codec import ArrayArrayCodec, BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.core.sync import sync

if TYPE_CHECKING:
    from zarr.abc.codec import Codec
    from zarr.core.array_spec import ArraySpec

DType = np.dtype[Any]


class ZarrStage:
    """A codec of zarr's interface.

    Parameters
    ----------
    codec : zarr.abc.codec.Codec
    spec : ArraySpec
        What the codec is handed when it encodes.
    source : numpy.dtype
        The data type of the bytes that are handed over then, if it takes arrays.
    target : ArraySpec or None
        What an array-to-array codec makes of it.
    """

    def __init__(
        self, codec: Codec, spec: ArraySpec, source: DType, target: ArraySpec | None
    ) -> None:
        self._codec = codec
        self._spec = spec
        self._source = source
        self._target = target

    def encode(self, data: bytearray) -> Any:
        """Encode a chunk; None: there is nothing to store."""
        value: Any
        if isinstance(self._codec, BytesBytesCodec):
            value = self._buffer(data)
        else:
            value = self._array(data, self._spec, self._source)
        encoded = _call(self._codec, "encode", value, self._spec)
        if encoded is None:
            return None
        if self._target is None:
            return np.ascontiguousarray(encoded.as_numpy_array())
        return _items(encoded.as_ndarray_like(), self._target.dtype.to_native_dtype())

    def decode(self, data: bytearray) -> Any:
        """Decode a chunk."""
        value: Any
        if self._target is None:
            value = self._buffer(data)
        else:
            value = self._array(data, self._target, self._target.dtype.to_native_dtype())
        decoded = _call(self._codec, "decode", value, self._spec)
        if isinstance(self._codec, BytesBytesCodec):
            return np.ascontiguousarray(decoded.as_numpy_array())
        array = decoded.as_ndarray_like()
        if array.size != int(np.prod(self._spec.shape)):
            raise ValueError(f"expected items of shape {self._spec.shape}, found {array.shape}")
        return _items(array, self._source)

    def _buffer(self, data: bytearray) -> Any:
        return self._spec.prototype.buffer.from_array_like(np.frombuffer(data, np.uint8))

    def _array(self, data: bytearray, spec: ArraySpec, dtype: DType) -> Any:
        array: Any = np.frombuffer(data, dtype).reshape(spec.shape)
        return self._spec.prototype.nd_buffer.from_ndarray_like(array)


class NumcodecsStage:
    """Filters and compressors of format 2 that follow each other.

    Parameters
    ----------
    source : numpy.dtype or None
        The data type of the items handed over when encoding; None: bytes.
    shape : tuple of int or None
        The shape of the chunk, if these are the first codecs.
    order : {"C", "F"}
        The order of its items.

    Attributes
    ----------
    codecs : list of numcodecs.abc.Codec
        In the order of encoding.
    target : numpy.dtype
        The data type of the items handed over when decoding.
    """

    def __init__(self, source: DType | None, shape: tuple[int, ...] | None, order: str) -> None:
        self.codecs: list[Any] = []
        self.target: DType = np.dtype(np.uint8)
        self._source = source
        self._shape = shape
        self._order: Any = order

    def encode(self, data: bytearray) -> Any:
        """Encode a chunk."""
        value: Any = np.frombuffer(data, self._source or np.uint8)
        if self._shape is not None:
            value = value.reshape(self._shape, order=self._order)
        for codec in self.codecs:
            value = codec.encode(value)
        if ensure_ndarray_like(value).dtype == object:
            raise RuntimeError("cannot write object array without object codec")
        return ensure_bytes(value)

    def decode(self, data: bytearray) -> Any:
        """Decode a chunk."""
        value: Any = np.frombuffer(data, self.target)
        for codec in reversed(self.codecs):
            value = codec.decode(value)
        value = ensure_ndarray_like(value)
        if self._shape is None:
            return ensure_bytes(value)
        assert self._source is not None
        try:
            value = value.view(self._source)
        except TypeError:  # objects, for one
            value = np.array(value).astype(self._source)
        return np.ascontiguousarray(value.reshape(-1, order="A")).view(np.uint8)


def _items(array: Any, dtype: DType) -> Any:
    # The bytes of an array in C order, as the next stage takes them.
    array = np.asarray(array)
    if array.dtype != dtype:
        # A codec may give back numbers in another byte order, or bits under another name.
        same = array.dtype.newbyteorder("=") == dtype.newbyteorder("=")
        if not same and array.dtype.itemsize != dtype.itemsize:
            raise TypeError(f"expected items of data type {dtype}, found {array.dtype}")
        array = array.astype(dtype) if same else np.ascontiguousarray(array).view(dtype)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _call(codec: Any, name: str, value: Any, spec: ArraySpec) -> Any:
    # One chunk through a codec: right here where that can be, else in zarr's event loop, which
    # waits for nothing that this thread holds.
    kind: Any = type(codec)
    method = _method(kind, name)
    if method == f"_{name}_sync" and getattr(codec, "_sync_capable", True):
        return getattr(codec, method)(value, spec)
    if method == f"_{name}_single":
        return _run(getattr(codec, method)(value, spec))
    (result,) = sync(getattr(codec, name)([(value, spec)]))
    return result


@cache
def _method(kind: Any, name: str) -> str:
    # The most derived of a codec's methods, so that nothing that overrides another is bypassed; its
    # asynchronous ones are for the event loop, unless they never wait.
    if kind is ShardingCodec:  # so that its inner chunks come back to this package
        return name
    for base in kind.__mro__:
        if f"_{name}_sync" in vars(base):
            return f"_{name}_sync"
        if name in vars(base):
            return name
        if f"_{name}_single" in vars(base):
            single = vars(base)[f"_{name}_single"]
            return f"_{name}_single" if _never_waits(single) else name
    return name


def _never_waits(function: Any) -> bool:
    # Whether a coroutine function has nothing in it that it could be suspended at.
    if not inspect.iscoroutinefunction(function) or not hasattr(function, "__code__"):
        return False
    names = {one.opname for one in dis.get_instructions(function.__code__)}
    return names.isdisjoint(("GET_AWAITABLE", "GET_AITER"))


def _run(coroutine: Any) -> Any:
    # One that never waits is done with its first step.
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError(f"{coroutine} waits for something")


def python_stage(codec: Any, spec: ArraySpec, source: DType) -> tuple[ZarrStage, ArraySpec]:
    """Make a stage of a codec of zarr's; return it with what it leaves to the next codec."""
    if not isinstance(codec, ArrayArrayCodec):
        return ZarrStage(codec, spec, source, None), spec
    target = codec.resolve_metadata(spec)
    return ZarrStage(codec, spec, source, target), target
