"""Arrays of strings and of byte strings, and the values they are tested with."""

import contextlib
import struct
from pathlib import Path
from typing import Any, ClassVar

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from helpers import chunk_file, stock
from numpy.dtypes import StringDType
from zarr.codecs import (
    BloscCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    VLenBytesCodec,
    VLenUTF8Codec,
    ZstdCodec,
)
from zarr.core.buffer import default_buffer_prototype
from zarr.core.dtype import VariableLengthBytes
from zarr.storage import MemoryStore

SHAPE, CHUNK, SHARD = (13, 9), (4, 3), (8, 6)
TEXT = StringDType()
ALPHABET = [
    *("", "a", "\u00e9t\u00e9", "\u4e2d\u6587", "\U0001f600", "nul\0in\0it", "\0"),
    *("x" * 15, "y" * 16, "z" * 300, " blank ", "line\nline"),
    "\u07ff\u0800\uffff\U00010000\U0010ffff",
]


def texts(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Strings of many kinds."""
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    flat = [ALPHABET[rng.integers(len(ALPHABET))] * int(rng.integers(1, 3)) for _ in range(n)]
    return np.array(flat, TEXT).reshape(shape)


def blobs(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Bytes of many kinds, as objects; not all of them are text."""
    rng = np.random.default_rng(seed)
    out = np.empty(shape, object)
    flat = out.reshape(-1)
    for i in range(flat.size):
        flat[i] = bytes(rng.integers(0, 256, rng.integers(0, 20), dtype=np.uint8)) + b"\xff\0"
    return out


def same(actual: Any, expected: Any, what: str = "") -> None:
    """The same shape, and the same items of the same types."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, what
    mine, theirs = actual.astype(object).tolist(), expected.astype(object).tolist()
    assert mine == theirs, what


class Kinds:
    """The two kinds of items, and what belongs to them."""

    DTYPE: ClassVar[dict[str, Any]] = {"text": str, "bytes": VariableLengthBytes()}
    MAKE: ClassVar[dict[str, Any]] = {"text": texts, "bytes": blobs}
    FILL: ClassVar[dict[str, Any]] = {"text": "", "bytes": b""}
    OTHER: ClassVar[dict[str, Any]] = {"text": "n\u00e9ant", "bytes": b"\xfe\0nothing"}
    NUMCODEC: ClassVar[dict[str, Any]] = {
        "text": numcodecs.VLenUTF8(),
        "bytes": numcodecs.VLenBytes(),
    }
    SERIALIZER: ClassVar[dict[str, Any]] = {"text": VLenUTF8Codec(), "bytes": VLenBytesCodec()}


each_kind_of_item = pytest.mark.parametrize("items", ["text", "bytes"])

TURN = TransposeCodec(order=(1, 0))


def nested(items: str, *codecs: Any) -> ShardingCodec:
    inner = ShardingCodec(chunk_shape=(2, 3), codecs=[Kinds.SERIALIZER[items], *codecs])
    return ShardingCodec(chunk_shape=(4, 3), codecs=[inner, *codecs], index_location="start")


CHAINS: dict[str, Any] = {
    "raw": lambda items: {"compressors": []},
    "zstd": lambda items: {"compressors": [ZstdCodec()]},
    "gzip": lambda items: {"compressors": [GzipCodec(level=1)]},
    "blosc-crc32c": lambda items: {"compressors": [BloscCodec(), Crc32cCodec()]},
    "turn-zstd": lambda items: {"filters": [TURN], "compressors": [ZstdCodec()]},
    "shards": lambda items: {"shards": SHARD, "compressors": []},
    "shards-zstd": lambda items: {"shards": SHARD, "compressors": [ZstdCodec(), Crc32cCodec()]},
    "shards-turned": lambda items: {"shards": SHARD, "filters": [TURN], "compressors": []},
    "around-shards": lambda items: {
        "chunks": SHARD,
        "serializer": ShardingCodec(chunk_shape=CHUNK, codecs=[Kinds.SERIALIZER[items]]),
        "compressors": [GzipCodec(level=1)],
    },
    "nested": lambda items: {
        "chunks": SHARD,
        "serializer": nested(items, ZstdCodec()),
        "compressors": [],
    },
    "v2": lambda items: {"zarr_format": 2, "compressors": None},
    "v2-F": lambda items: {"zarr_format": 2, "compressors": None, "order": "F"},
    "v2-zstd": lambda items: {"zarr_format": 2, "compressors": numcodecs.Zstd(1)},
    "v2-blosc-F": lambda items: {
        "zarr_format": 2,
        "compressors": numcodecs.Blosc("lz4"),
        "order": "F",
    },
    "v2-lz4": lambda items: {"zarr_format": 2, "compressors": numcodecs.LZ4()},
    "v2-zlib": lambda items: {"zarr_format": 2, "compressors": numcodecs.Zlib(1)},
}
some_chains = pytest.mark.parametrize("chain", ["raw", "shards-zstd", "nested", "v2-blosc-F"])


def create(
    where: Any, items: str, chain: str = "raw", shape: tuple[int, ...] = SHAPE, **kw: Any
) -> zarr.Array[Any]:
    """An array of one kind of items."""
    arguments: dict[str, Any] = {"chunks": CHUNK, "fill_value": Kinds.FILL[items]}
    arguments |= CHAINS[chain](items) | kw
    store = str(where) if isinstance(where, Path) else where
    return zarr.create_array(store, shape=shape, dtype=Kinds.DTYPE[items], **arguments)


def flat(where: Any = None, items: str = "text", n: int = 6, **kw: Any) -> zarr.Array[Any]:
    """A row of items in chunks of three."""
    store = MemoryStore() if where is None else where
    return create(store, items, "raw", (n,), **{"chunks": (3,), **kw})


# --------------------------------------------------------------------------- kinds of values


def written(value: Any, selection: Any, items: str = "text") -> list[Any]:
    """What two pipelines make of a value: the items that are read then, or the exception's type."""
    found: list[Any] = []
    for pipeline in (contextlib.nullcontext, stock):
        with pipeline():
            array = flat(items=items)
            array[...] = np.array(["q"] * 6, TEXT) if items == "text" else np.array([b"q"] * 6, "O")
            try:
                array[selection] = value
            except Exception as error:
                found.append(type(error))
            else:
                found.append(np.asarray(array[...]).astype(object).tolist())
    return found


def objects(*values: Any) -> np.ndarray:
    out = np.empty(len(values), object)
    out[:] = values
    return out


# ------------------------------------------------------------------------------ given arrays


def into(array: zarr.Array[Any], out: Any, selection: Any = ...) -> Any:
    """Read into an array of the caller's."""
    buffer = default_buffer_prototype().nd_buffer.from_ndarray_like(out)
    array.get_basic_selection(selection, out=buffer)
    return out


# ---------------------------------------------------------------------------------- payloads


def encoded(*values: bytes, count: int | None = None) -> bytes:
    """The encoded form, made by hand."""
    out = struct.pack("<I", len(values) if count is None else count)
    return out + b"".join(struct.pack("<I", len(value)) + value for value in values)


GOOD = (b"a", b"bb", b"")


def stored_as(tmp_path: Path, items: str, payload: bytes, sharded: bool = False) -> zarr.Array[Any]:
    """A chunk of three items with other bytes in it."""
    array = flat(tmp_path / "a", items, 3)
    if sharded:
        array = zarr.create_array(
            tmp_path / "a", shape=(3,), chunks=(3,), shards=(3,), dtype=Kinds.DTYPE[items],
            fill_value=Kinds.FILL[items], compressors=[], overwrite=True,
        )  # fmt: skip
        payload += struct.pack("<QQ", 0, len(payload))
        payload += google_crc32c.value(payload[-16:]).to_bytes(4, "little")
    file = chunk_file(tmp_path / "a", 3, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(payload)
    return array
