"""Stages of a chain that run in Python: codecs that have no native form, a user's own among them.

The native loops call ``encode`` and ``decode`` of these objects for one chunk at a time, holding
the GIL; see ``codecs/_python.pyx``. Bytes arrive as a ``bytearray`` that belongs to the codec, so
it may keep or change them.
"""

from __future__ import annotations

import asyncio
import contextvars
import dis
import inspect
import math
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.compat import ensure_bytes, ensure_ndarray_like
from zarr.abc.codec import ArrayArrayCodec, BytesBytesCodec
from zarr.codecs import ShardingCodec

if TYPE_CHECKING:
    from zarr.abc.codec import Codec
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import BufferPrototype

DType = np.dtype[Any]


@dataclass(frozen=True)
class Call:
    """What codecs in Python have to know of the call that they run for.

    Attributes
    ----------
    prototype : BufferPrototype
        The buffers that the caller wants.
    loop : asyncio.AbstractEventLoop
        Where the caller is, and coroutines run.
    context : contextvars.Context
        The caller's.
    errors : list of BaseException
        What was raised on the way.
    """

    prototype: BufferPrototype
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    errors: list[BaseException] = field(default_factory=list)


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

    def encode(self, data: bytearray, call: Call) -> Any:
        """Encode a chunk; None: there is nothing to store."""
        spec = _for_call(self._spec, call)
        value: Any
        if isinstance(self._codec, BytesBytesCodec):
            value = _buffer(data, spec)
        else:
            value = _array(data, spec, self._source)
        encoded = _run(self._codec, "encode", value, spec, call)
        if encoded is None:
            return None
        if self._target is None:
            return np.ascontiguousarray(encoded.as_numpy_array())
        return _encoded_items(
            encoded.as_ndarray_like(), np.dtype(self._target.dtype.to_native_dtype())
        )

    def decode(self, data: bytearray, call: Call) -> Any:
        """Decode a chunk; None: it is as good as missing."""
        spec = _for_call(self._spec, call)
        value: Any
        if self._target is None:
            value = _buffer(data, spec)
        else:
            target = np.dtype(self._target.dtype.to_native_dtype())
            value = _array(data, _for_call(self._target, call), target)
        decoded = _run(self._codec, "decode", value, spec, call)
        if decoded is None:
            return None
        if isinstance(self._codec, BytesBytesCodec):
            return np.ascontiguousarray(decoded.as_numpy_array())
        array = np.asarray(decoded.as_ndarray_like())
        if array.size != math.prod(spec.shape):
            raise ValueError(f"expected items of shape {spec.shape}, found {array.shape}")
        # What a decoder gives back counts by its values, as it does when zarr assigns it.
        return _bytes_of(array.astype(self._source, copy=False))


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
    target : numpy.dtype or None
        The data type of the items handed over when decoding; None: ``bytes``, as compressors
        make them.
    """

    def __init__(self, source: DType | None, shape: tuple[int, ...] | None, order: str) -> None:
        self.codecs: list[Any] = []
        self.target: DType | None = None
        self._source = source
        self._shape = shape
        self._order: Any = order

    def encode(self, data: bytearray, call: Call) -> Any:
        """Encode a chunk."""
        return call.context.copy().run(self._encode, data)

    def decode(self, data: bytearray, call: Call) -> Any:
        """Decode a chunk."""
        return call.context.copy().run(self._decode, data)

    def _encode(self, data: bytearray) -> Any:
        value: Any = np.frombuffer(data, self._source or np.uint8)
        if self._shape is not None:
            value = value.reshape(self._shape, order=self._order)
        for codec in self.codecs:
            value = codec.encode(value)
        if ensure_ndarray_like(value).dtype == object:
            raise RuntimeError("cannot write object array without object codec")
        return ensure_bytes(value)

    def _decode(self, data: bytearray) -> Any:
        value: Any = bytes(data) if self.target is None else np.frombuffer(data, self.target)
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


def _for_call(spec: ArraySpec, call: Call) -> ArraySpec:
    return spec if spec.prototype is call.prototype else replace(spec, prototype=call.prototype)


def _buffer(data: bytearray, spec: ArraySpec) -> Any:
    return spec.prototype.buffer.from_array_like(np.frombuffer(data, np.uint8))


def _array(data: bytearray, spec: ArraySpec, dtype: DType) -> Any:
    array: Any = np.frombuffer(data, dtype).reshape(spec.shape)
    return spec.prototype.nd_buffer.from_ndarray_like(array)


def _encoded_items(array: Any, dtype: DType) -> Any:
    # The bytes that the next stage takes. Items of another data type count by their bits: that is
    # what is stored of them, and is taken for the right type when it is read.
    array = np.asarray(array)
    if array.dtype.newbyteorder("=") == dtype.newbyteorder("="):
        return _bytes_of(array.astype(dtype, copy=False))
    if array.dtype.itemsize != dtype.itemsize:
        raise TypeError(f"expected items of data type {dtype}, found {array.dtype}")
    return _bytes_of(array)


def _bytes_of(array: Any) -> Any:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _run(codec: Any, name: str, value: Any, spec: ArraySpec, call: Call) -> Any:
    # One chunk through a codec, in the context of the caller.
    return call.context.copy().run(_run_here, codec, name, value, spec, call.loop)


def _run_here(codec: Any, name: str, value: Any, spec: ArraySpec, loop: Any) -> Any:
    # Right here where that can be, else in the caller's event loop, which waits for nothing that
    # this thread holds.
    kind: Any = type(codec)
    method = _method(kind, name)
    if method == f"_{name}_sync" and getattr(codec, "_sync_capable", True):
        return getattr(codec, method)(value, spec)
    if method == f"_{name}_single":
        return _first_step(getattr(codec, method)(value, spec))
    done = asyncio.run_coroutine_threadsafe(getattr(codec, name)([(value, spec)]), loop)
    (result,) = done.result()
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


def _first_step(coroutine: Any) -> Any:
    # One that never waits is done with it.
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError(f"{coroutine} waits for something")


def python_stage(codec: Any, spec: ArraySpec, source: DType) -> tuple[ZarrStage, ArraySpec]:
    """Make a stage of a codec of zarr's; return it with what it leaves to the next codec."""
    target = codec.resolve_metadata(spec)
    is_filter = isinstance(codec, ArrayArrayCodec)
    return ZarrStage(codec, spec, source, target if is_filter else None), target
