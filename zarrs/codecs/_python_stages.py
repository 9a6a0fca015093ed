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
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numcodecs.compat import ensure_bytes, ensure_ndarray_like
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.core.buffer import Buffer, NDBuffer

from zarrs.runtime._errors import ChunkError, CodecRaised, WrongResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zarr.abc.codec import Codec
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import BufferPrototype

DType = np.dtype[Any]


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@dataclass(frozen=True)
class Call:
    """What codecs in Python have to know of the call that they run for.

    Attributes
    ----------
    prototype : BufferPrototype
        The buffers that the caller wants.
    loop : asyncio.AbstractEventLoop or None
        Where the caller is, and coroutines run. None: there is none, and no codec in Python.
    context : contextvars.Context
        The caller's.
    errors : list of BaseException
        What was raised on the way.
    """

    prototype: BufferPrototype
    loop: asyncio.AbstractEventLoop | None = field(default_factory=_running_loop)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    errors: list[BaseException] = field(default_factory=list)


@contextmanager
def blame(codec: str, note: str = "") -> Iterator[None]:
    """Say which codec it was that an exception came from."""
    try:
        yield
    except BaseException as error:
        if note:
            error.add_note(note)
        raise CodecRaised(codec) from error


def name_of(codec: Any) -> str:
    """Return the name that a codec has in metadata."""
    name = getattr(codec, "codec_id", None)
    if name is None:
        try:
            name = codec.to_dict()["name"]
        except Exception:  # of a user's codec, anything; the name is for messages only
            name = type(codec).__name__
    return str(name)


class Step(NamedTuple):
    """A codec of zarr's interface, the name it goes by, and the chunks that it encodes."""

    codec: Codec
    name: str
    spec: ArraySpec


class ZarrStage:
    """Codecs of zarr's interface that follow each other.

    What one returns is what the next is handed, whatever it is, as in zarr's own pipeline. What
    comes out in the end has to be what zarr's own codecs, or the array, or the store, would take.

    Parameters
    ----------
    source : numpy.dtype
        The data type of the bytes that are handed over when encoding, if the first codec takes
        arrays.
    is_outermost : bool
        Whether what is decoded goes into the array, not to another codec.
    is_serialized : bool
        Whether what is decoded goes to a codec that makes arrays of bytes.

    Attributes
    ----------
    steps : list of Step
        In the order of encoding.
    target : ArraySpec or None
        What the last codec makes when it encodes, if that is an array.
    is_stored : bool
        Whether what is encoded is stored, not handed to another codec.
    by_value : bool
        Whether what is encoded goes to a codec that computes with its items.
    """

    def __init__(self, source: DType, *, is_outermost: bool, is_serialized: bool) -> None:
        self.steps: list[Step] = []
        self.target: ArraySpec | None = None
        self.is_stored = False
        self.by_value = False
        self._source = source
        self._is_outermost = is_outermost
        self._is_serialized = is_serialized

    def encode(self, data: bytearray, call: Call) -> Any:
        """Encode a chunk; None: there is nothing to store."""
        first = self.steps[0]
        spec = _for_call(first.spec, call)
        value: Any
        if isinstance(first.codec, BytesBytesCodec):
            value = _buffer(data, spec)
        else:
            value = _array(data, spec, self._source)
        value, culprit = _run_all(self.steps, "encode", value, call)
        if value is None:
            return None
        with blame(culprit):
            if self.target is None:
                return _bytes_of_buffer(value, flat=self.is_stored)
            return self._encoded_items(value, np.dtype(self.target.dtype.to_native_dtype()))

    def decode(self, data: bytearray, call: Call) -> Any:
        """Decode a chunk; None: it is as good as missing."""
        value: Any
        if self.target is None:
            value = _buffer(data, _for_call(self.steps[-1].spec, call))
        else:
            target = np.dtype(self.target.dtype.to_native_dtype())
            value = _array(data, _for_call(self.target, call), target)
        value, culprit = _run_all(self.steps[::-1], "decode", value, call)
        if value is None:
            return None
        first = self.steps[0]
        with blame(culprit):
            if isinstance(first.codec, BytesBytesCodec):
                return _bytes_of_buffer(value, flat=self._is_serialized)
            return self._decoded_items(value, first.spec.shape)

    def _encoded_items(self, value: Any, dtype: DType) -> Any:
        # Items of another data type count by their bits: that is what is stored of them, and is
        # taken for the right type when it is read. A codec that computes needs their values.
        if not hasattr(value, "as_ndarray_like"):
            raise WrongResult("an NDBuffer", value)
        array = np.asarray(value.as_ndarray_like())
        if array.dtype.newbyteorder("=") == dtype.newbyteorder("="):
            return _bytes_of(array.astype(dtype, copy=False))
        if self.by_value:
            with np.errstate(all="ignore"):
                converted = array.astype(dtype)
            if np.array_equal(converted, array):
                return _bytes_of(converted)
        if self.by_value or array.dtype.itemsize != dtype.itemsize:
            raise WrongResult(f"items of data type {dtype}", found=str(array.dtype))
        return _bytes_of(array)

    def _decoded_items(self, value: Any, shape: tuple[int, ...]) -> Any:
        # zarr indexes what it takes for the array, which can be anything that is indexed like one
        # and may be longer than a chunk.
        if hasattr(value, "as_ndarray_like"):
            array = np.asarray(value.as_ndarray_like())
        elif self._is_outermost and hasattr(value, "__array__"):
            array = np.asarray(value)
        else:
            raise WrongResult("an NDBuffer", value)
        found = array.shape
        if self._is_outermost and len(found) == len(shape):
            array = array[tuple(slice(n) for n in shape)]
        fits = array.shape == shape if self._is_outermost else array.size == math.prod(shape)
        if not fits:
            raise WrongResult(f"items of shape {shape}", found=str(found), kind=ChunkError)
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
    is_stored : bool
        Whether what is encoded is stored, not handed to another codec.
    """

    def __init__(self, source: DType | None, shape: tuple[int, ...] | None, order: str) -> None:
        self.codecs: list[Any] = []
        self.target: DType | None = None
        self.is_stored = False
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
            with blame(name_of(codec)):
                value = codec.encode(value)
        with blame(name_of(self.codecs[-1])):
            array = _bytes_or_array(value)
            if array.dtype == object:
                raise RuntimeError("cannot write object array without object codec")
            # zarr stores the values of an array, while codecs look at its memory.
            return ensure_bytes(value) if self.is_stored else _bytes_of(array, "A")

    def _decode(self, data: bytearray) -> Any:
        value: Any = bytes(data) if self.target is None else np.frombuffer(data, self.target)
        for codec in reversed(self.codecs):
            with blame(name_of(codec)):
                value = codec.decode(value)
        with blame(name_of(self.codecs[0])):
            value = _bytes_or_array(value)
            if self._shape is None:
                return ensure_bytes(value)
            assert self._source is not None
            try:
                value = value.view(self._source)
            except TypeError:  # objects, for one
                value = np.array(value).astype(self._source)
            return _bytes_of(value, "A")


def _for_call(spec: ArraySpec, call: Call) -> ArraySpec:
    return spec if spec.prototype is call.prototype else replace(spec, prototype=call.prototype)


def _buffer(data: bytearray, spec: ArraySpec) -> Any:
    return spec.prototype.buffer.from_array_like(np.frombuffer(data, np.uint8))


def _array(data: bytearray, spec: ArraySpec, dtype: DType) -> Any:
    array: Any = np.frombuffer(data, dtype).reshape(spec.shape)
    return spec.prototype.nd_buffer.from_ndarray_like(array)


def _bytes_of_buffer(value: Any, *, flat: bool) -> Any:
    # zarr's own codecs of bytes take arrays, too, as they lie in memory; others do not.
    if not isinstance(value, Buffer) and (flat or not isinstance(value, NDBuffer)):
        raise WrongResult("a Buffer", value)
    return _bytes_of(value.as_numpy_array(), "A")


def _bytes_or_array(value: Any) -> Any:
    try:
        return ensure_ndarray_like(value)
    except TypeError:
        raise WrongResult("bytes or an array", value) from None


def _bytes_of(array: Any, order: Literal["C", "A"] = "C") -> Any:
    # Of the items as they are counted, or as they lie in memory.
    return np.ascontiguousarray(np.asarray(array).reshape(-1, order=order)).view(np.uint8)


def _run_all(steps: Sequence[Step], name: str, value: Any, call: Call) -> tuple[Any, str]:
    # One chunk through codecs that follow each other; and who is to blame if the result is wrong.
    handed = culprit = ""
    was_buffer = True
    for codec, codec_name, spec in steps:
        with blame(codec_name, handed):
            value = _run(codec, name, value, _for_call(spec, call), call)
        if value is None:
            break
        is_buffer = isinstance(value, Buffer | NDBuffer)
        if is_buffer or was_buffer:
            culprit = codec_name
        was_buffer = is_buffer
        handed = f"codec {codec_name!r} had handed {_description(value)} to it"
    return value, culprit


def _description(value: Any) -> str:
    kind = type(value).__name__
    if isinstance(value, Buffer):
        return f"a {kind} of {len(value)} bytes"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"a {kind} of shape {value.shape} and data type {value.dtype}"
    return f"a {kind}"


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
