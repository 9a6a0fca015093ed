"""Codecs such as users write: of every kind, in every style, with and without good manners."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import numcodecs
import numcodecs.abc
import numpy as np
import zarr
from numcodecs.compat import ensure_bytes
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec
from zarr.codecs import BytesCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.core.dtype import get_data_type_from_native_dtype
from zarr.registry import register_codec

STYLES = ("sync", "async", "sleeping", "threaded", "batch")

# What codecs were handed: their names, what they were asked for, and the specification.
handed: list[tuple[Any, ...]] = []


def note(name: str, doing: str, spec: Any) -> None:
    """Remember what a codec was handed."""
    dtype = spec.dtype.to_native_dtype()
    fill = np.asarray(spec.fill_value, dtype).tobytes()
    handed.append((name, doing, tuple(spec.shape), dtype.str, fill, spec.order))


class Named:
    """Metadata of a codec whose configuration is its fields."""

    name: ClassVar[str]
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**data.get("configuration", {}))

    def to_dict(self) -> dict[str, Any]:
        values = {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]
        return {"name": self.name, "configuration": values}

    def compute_encoded_size(self, input_byte_length: int, _spec: Any) -> int:
        raise NotImplementedError

    # What a kind of codec does with an array, or with bytes.

    def forward(self, data: Any, spec: Any) -> Any:
        raise NotImplementedError

    def backward(self, data: Any, spec: Any) -> Any:
        raise NotImplementedError


class Sync(Named):
    """Has the synchronous methods, and asynchronous ones that call them, as zarr's own have."""

    def _encode_sync(self, data: Any, spec: Any) -> Any:
        return self.forward(data, spec)

    def _decode_sync(self, data: Any, spec: Any) -> Any:
        return self.backward(data, spec)

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        return self._encode_sync(data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        return self._decode_sync(data, spec)


class Async(Named):
    """Has the asynchronous methods only."""

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        return self.forward(data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        return self.backward(data, spec)


class Sleeping(Named):
    """Waits for the event loop."""

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        await asyncio.sleep(0.0005)
        return self.forward(data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        await asyncio.sleep(0.0005)
        return self.backward(data, spec)


class Threaded(Named):
    """Works in the threads of the event loop."""

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        return await asyncio.to_thread(self.forward, data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        return await asyncio.to_thread(self.backward, data, spec)


class Batch(Named):
    """Overrides the methods that take many chunks."""

    async def encode(self, batch: Iterable[tuple[Any, Any]]) -> list[Any]:
        return [None if data is None else self.forward(data, spec) for data, spec in batch]

    async def decode(self, batch: Iterable[tuple[Any, Any]]) -> list[Any]:
        return [None if data is None else self.backward(data, spec) for data, spec in batch]


STYLE = dict(zip(STYLES, (Sync, Async, Sleeping, Threaded, Batch), strict=True))


def _array(data: Any) -> np.ndarray:
    return np.asarray(data.as_ndarray_like())


def _made(spec: Any, array: np.ndarray) -> Any:
    return spec.prototype.nd_buffer.from_ndarray_like(array)


def with_dtype(spec: Any, dtype: Any) -> Any:
    """A specification of chunks of another data type."""
    fill = np.asarray(spec.fill_value).astype(dtype)[()]
    return replace(spec, dtype=get_data_type_from_native_dtype(np.dtype(dtype)), fill_value=fill)


# ------------------------------------------------------------------------------ array to array


class Reverse:
    """The items from last to first; what comes out is a view with negative strides."""

    def forward(self, data: Any, spec: Any) -> Any:
        note(self.name, "encode", spec)  # type: ignore[attr-defined]
        array = _array(data)
        assert array.shape == tuple(spec.shape)
        return _made(spec, array[(slice(None, None, -1),) * array.ndim])

    def backward(self, data: Any, spec: Any) -> Any:
        note(self.name, "decode", spec)  # type: ignore[attr-defined]
        array = _array(data)
        assert array.shape == tuple(spec.shape)
        return _made(spec, array[(slice(None, None, -1),) * array.ndim])


class Widen:
    """The numbers as complex ones of 16 bytes."""

    def resolve_metadata(self, spec: Any) -> Any:
        return with_dtype(spec, "<c16")

    def forward(self, data: Any, spec: Any) -> Any:
        note(self.name, "encode", spec)  # type: ignore[attr-defined]
        return _made(spec, _array(data).astype("<c16"))

    def backward(self, data: Any, spec: Any) -> Any:
        note(self.name, "decode", spec)  # type: ignore[attr-defined]
        array = _array(data)
        assert array.dtype.newbyteorder("<") == "<c16"  # zarr 3.1: as it is stored
        return _made(spec, array.real.astype(spec.dtype.to_native_dtype()))


class Fold:
    """Every item twice, along one new last axis, in the order of Fortran."""

    def resolve_metadata(self, spec: Any) -> Any:
        return replace(spec, shape=(*spec.shape, 2))

    def forward(self, data: Any, spec: Any) -> Any:
        note(self.name, "encode", spec)  # type: ignore[attr-defined]
        array = _array(data)
        return _made(spec, np.asfortranarray(np.stack([array, array], -1)))

    def backward(self, data: Any, spec: Any) -> Any:
        note(self.name, "decode", spec)  # type: ignore[attr-defined]
        array = _array(data)
        assert array.shape == (*spec.shape, 2)
        assert array[..., 0].tobytes() == array[..., 1].tobytes()
        return _made(spec, array[..., 1])


# ------------------------------------------------------------------------------ array to bytes


class Text:
    """The numbers in decimal."""

    def forward(self, data: Any, spec: Any) -> Any:
        note(self.name, "encode", spec)  # type: ignore[attr-defined]
        array = _array(data)
        assert array.shape == tuple(spec.shape)
        text = json.dumps(array.reshape(-1).tolist())
        return spec.prototype.buffer.from_bytes(text.encode())

    def backward(self, data: Any, spec: Any) -> Any:
        note(self.name, "decode", spec)  # type: ignore[attr-defined]
        items = json.loads(data.to_bytes())
        return _made(spec, np.array(items, spec.dtype.to_native_dtype()).reshape(spec.shape))


# ------------------------------------------------------------------------------ bytes to bytes


class Xor:
    """Changes its own input and returns that."""

    def _flip(self, data: Any, spec: Any) -> Any:
        array = np.asarray(data.as_array_like())
        if not array.flags.writeable:  # that of a store, or of bytes
            array = array.copy()
        array ^= 0x5A
        return spec.prototype.buffer.from_array_like(array)

    def forward(self, data: Any, spec: Any) -> Any:
        note(self.name, "encode", spec)  # type: ignore[attr-defined]
        return self._flip(data, spec)

    def backward(self, data: Any, spec: Any) -> Any:
        note(self.name, "decode", spec)  # type: ignore[attr-defined]
        return self._flip(data, spec)


class Repeat:
    """The bytes many times."""

    TIMES = 10

    def forward(self, data: Any, spec: Any) -> Any:
        note(self.name, "encode", spec)  # type: ignore[attr-defined]
        return spec.prototype.buffer.from_bytes(data.to_bytes() * self.TIMES)

    def backward(self, data: Any, spec: Any) -> Any:
        note(self.name, "decode", spec)  # type: ignore[attr-defined]
        raw = data.to_bytes()
        n = len(raw) // self.TIMES
        assert raw == raw[:n] * self.TIMES
        return spec.prototype.buffer.from_bytes(raw[:n])


class RepeatMore(Repeat):
    """The bytes 100 times."""

    TIMES = 100


KINDS: dict[str, tuple[type, type]] = {
    "reverse": (Reverse, ArrayArrayCodec),
    "widen": (Widen, ArrayArrayCodec),
    "fold": (Fold, ArrayArrayCodec),
    "text": (Text, ArrayBytesCodec),
    "xor": (Xor, BytesBytesCodec),
    "repeat": (Repeat, BytesBytesCodec),
    "repeatmore": (RepeatMore, BytesBytesCodec),
}


def _registered(cls: Any) -> Any:
    """Make a codec known to zarr, and to pickle."""
    globals()[cls.__name__] = cls
    register_codec(cls.name, cls)
    return cls


CODEC: dict[tuple[str, str], Callable[[], Any]] = {}
for _kind, (_what, _base) in KINDS.items():
    for _style, _how in STYLE.items():
        _name = f"{_kind.capitalize()}{_style.capitalize()}"
        _space = {"name": f"own.{_kind}.{_style}", "__module__": __name__}
        _cls = type(_name, (_what, _how, _base), _space)
        CODEC[_kind, _style] = _registered(dataclass(frozen=True)(_cls))


def own(kind: str, style: str = "sync") -> Any:
    """A codec of one kind, in one style."""
    return CODEC[kind, style]()


# --------------------------------------------------------------------- subclasses of zarr's own


class MyZstd(ZstdCodec):
    """Zstandard behind a mark of its own."""

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "name": "own.zstd"}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**data["configuration"])

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        encoded = await super()._encode_single(data, spec)
        assert encoded is not None
        return spec.prototype.buffer.from_bytes(b"mine" + encoded.to_bytes())

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        raw = data.to_bytes()
        assert raw[:4] == b"mine"
        return await super()._decode_single(spec.prototype.buffer.from_bytes(raw[4:]), spec)


class MyBytes(BytesCodec):
    """The bytes in the order of the machine, and their number behind them."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": "own.bytes", "configuration": {"endian": "little"}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**data["configuration"])

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        encoded = await super()._encode_single(data, spec)
        assert encoded is not None
        raw = encoded.to_bytes()
        return spec.prototype.buffer.from_bytes(raw + len(raw).to_bytes(4, "big"))

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        raw = data.to_bytes()
        assert int.from_bytes(raw[-4:], "big") == len(raw) - 4
        return await super()._decode_single(spec.prototype.buffer.from_bytes(raw[:-4]), spec)


class MyTranspose(TransposeCodec):
    """A transpose with another name, and nothing else."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": "own.transpose", "configuration": {"order": tuple(self.order)}}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**data["configuration"])


class MySharding(ShardingCodec):
    """Shards behind a mark, which are read and written as a whole."""

    def to_dict(self) -> dict[str, Any]:
        return {**super().to_dict(), "name": "own.sharding"}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        return cls(**data["configuration"])


for _own, _as in (
    (MyZstd, "own.zstd"),
    (MyBytes, "own.bytes"),
    (MyTranspose, "own.transpose"),
    (MySharding, "own.sharding"),
):
    register_codec(_as, _own)


# ------------------------------------------------------------------------ codecs with a purpose


@dataclass(frozen=True)
class Hooked(Sync, BytesBytesCodec):
    """Calls whatever a test puts into `hooks` under its key; the results are what it returns.

    Without a hook, bytes are what they are.
    """

    name = "own.hooked"
    key: str = ""

    hooks: ClassVar[dict[str, Callable[[str, Any, Any], Any]]] = {}

    def forward(self, data: Any, spec: Any) -> Any:
        hook = self.hooks.get(self.key)
        return data if hook is None else hook("encode", data, spec)

    def backward(self, data: Any, spec: Any) -> Any:
        hook = self.hooks.get(self.key)
        return data if hook is None else hook("decode", data, spec)


@dataclass(frozen=True)
class HookedAsync(Named, BytesBytesCodec):
    """The same with hooks that are coroutine functions."""

    name = "own.hooked.async"
    key: str = ""

    hooks: ClassVar[dict[str, Callable[[str, Any, Any], Any]]] = {}

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        hook = self.hooks.get(self.key)
        return data if hook is None else await hook("encode", data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        hook = self.hooks.get(self.key)
        return data if hook is None else await hook("decode", data, spec)


@dataclass(frozen=True)
class HookedArray(Sync, ArrayArrayCodec):
    """The same for arrays."""

    name = "own.hooked.array"
    key: str = ""
    target: str = ""

    hooks: ClassVar[dict[str, Callable[[str, Any, Any], Any]]] = {}

    def resolve_metadata(self, spec: Any) -> Any:
        return with_dtype(spec, self.target) if self.target else spec

    def forward(self, data: Any, spec: Any) -> Any:
        hook = self.hooks.get(self.key)
        return data if hook is None else hook("encode", data, spec)

    def backward(self, data: Any, spec: Any) -> Any:
        hook = self.hooks.get(self.key)
        return data if hook is None else hook("decode", data, spec)


@dataclass(frozen=True)
class Relabel(Sync, BytesBytesCodec):
    """Leaves bytes as they are, and tells the codecs behind it of another shape."""

    name = "own.relabel"

    def resolve_metadata(self, spec: Any) -> Any:
        return replace(spec, shape=(99,))

    def forward(self, data: Any, spec: Any) -> Any:
        return data

    backward = forward


@dataclass(frozen=True)
class Difference(Sync, BytesBytesCodec):
    """What differs from the chunk of another array, which is read for that."""

    name = "own.difference"
    path: str = ""

    def _flip(self, data: Any, spec: Any) -> Any:
        other = zarr.open_array(self.path, mode="r")
        mask = int(np.asarray(other[...]).sum()) & 0xFF
        raw = np.frombuffer(data.to_bytes(), np.uint8) ^ np.uint8(mask)
        return spec.prototype.buffer.from_bytes(raw.tobytes())

    forward = _flip
    backward = _flip


@dataclass(frozen=True)
class DifferenceAsync(Named, BytesBytesCodec):
    """The same in a thread of the event loop's."""

    name = "own.difference.async"
    path: str = ""

    async def _encode_single(self, data: Any, spec: Any) -> Any:
        return await asyncio.to_thread(Difference(self.path)._flip, data, spec)

    async def _decode_single(self, data: Any, spec: Any) -> Any:
        return await asyncio.to_thread(Difference(self.path)._flip, data, spec)


for _one in (Hooked, HookedAsync, HookedArray, Relabel, Difference, DifferenceAsync):
    register_codec(_one.name, _one)


# ------------------------------------------------------------------------------------ numcodecs


class Negative(numcodecs.abc.Codec):  # type: ignore[misc]
    """The bits of the items turned over; a filter of format 2 that looks at the shape."""

    codec_id = "own-negative"
    shapes: ClassVar[set[tuple[int, ...]]] = set()
    lock = threading.Lock()

    def encode(self, buf: Any) -> Any:
        with self.lock:
            self.shapes.add(np.asarray(buf).shape)
        return ~np.asarray(buf)

    def decode(self, buf: Any, out: Any = None) -> Any:
        return ~np.frombuffer(ensure_bytes(buf), "<i4")


class Tail(numcodecs.abc.Codec):  # type: ignore[misc]
    """A compressor that does not compress."""

    codec_id = "own-tail"

    def encode(self, buf: Any) -> bytes:
        return bytes(ensure_bytes(buf)) + b"tail"

    def decode(self, buf: Any, out: Any = None) -> bytes:
        raw: bytes = ensure_bytes(buf)
        assert raw.endswith(b"tail")
        return raw[:-4]


class WantsBytes(numcodecs.abc.Codec):  # type: ignore[misc]
    """A filter that relies on `bytes` from a compressor such as Zstandard's, as zarr hands them."""

    codec_id = "own-wants-bytes"

    def encode(self, buf: Any) -> bytes:
        return np.ascontiguousarray(buf).tobytes().hex().encode()

    def decode(self, buf: Any, out: Any = None) -> bytes:
        return bytes.fromhex(buf.decode("ascii"))


for _codec in (Negative, Tail, WantsBytes):
    numcodecs.register_codec(_codec)
