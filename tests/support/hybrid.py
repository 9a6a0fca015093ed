"""Arrays whose codec chains mix native stages and codecs in Python."""

import lzma
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_data
from own_codecs import STYLES, Hooked, MyBytes, MySharding, MyTranspose, MyZstd, Negative, Tail, own
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import MemoryStore

SHAPE, CHUNK, SHARD = (13, 10), (4, 3), (8, 6)


@dataclass(frozen=True)
class Hybrid:
    """A chain with stages in Python.

    Parameters
    ----------
    name : str
    arguments : callable
        Makes keyword arguments for ``zarr.create_array``.
    python : int
        How many of its parts run in Python.
    dtype : str
    """

    name: str
    arguments: Callable[[], dict[str, Any]] = field(repr=False)
    python: int = 1
    dtype: str = "<i4"

    def __str__(self) -> str:
        return self.name

    def create(self, store: Any, shape: tuple[int, ...] = SHAPE, **kw: Any) -> zarr.Array[Any]:
        where = str(store) if isinstance(store, Path) else store
        arguments = {"chunks": CHUNK, "dtype": self.dtype, **self.arguments(), **kw}
        return zarr.create_array(where, shape=shape, **arguments)


def v3(
    name: str, filters: Any = (), serializer: Any = None, compressors: Any = (), **kw: Any
) -> Hybrid:
    arguments = {
        "filters": list(filters),
        "serializer": serializer or BytesCodec(endian="little"),
        "compressors": list(compressors),
    }
    shards = kw.pop("shards", None)
    return Hybrid(name, lambda: {**arguments, "shards": shards}, **kw)


def v2(name: str, filters: Any, compressor: Any, order: str = "C", **kw: Any) -> Hybrid:
    arguments = {
        "zarr_format": 2,
        "filters": filters,
        "compressors": compressor,
        "order": order,
        "fill_value": kw.pop("fill_value", 0),
    }
    return Hybrid(name, lambda: arguments, **kw)


def sharding(*codecs: Any, chunk: tuple[int, ...] = CHUNK, kind: Any = ShardingCodec) -> Any:
    return kind(chunk_shape=chunk, codecs=list(codecs))


def wrapped(name: str, **configuration: Any) -> Any:
    """One of numcodecs' codecs for format 3; zarr 3.1 warns of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(zarr.codecs.numcodecs, name)(**configuration)


# Raw, as its filters are, LZMA has no native form.
RAW_LZMA: Any = {"format": lzma.FORMAT_RAW, "filters": [{"id": lzma.FILTER_LZMA2, "preset": 1}]}
TURN = TransposeCodec(order=(1, 0))
LITTLE = BytesCodec(endian="little")
AROUND = {"chunks": SHARD}


def around(name: str, *, python: int = 1, **kw: Any) -> Hybrid:
    """Shards with codecs around them."""
    made = v3(name, **kw)
    return Hybrid(name, lambda: {**made.arguments(), **AROUND}, python=python)


BY_STYLE = [
    chain
    for style in STYLES
    for chain in (
        v3(f"xor-{style}-zstd-crc32c", (), None, [own("xor", style), ZstdCodec(), Crc32cCodec()]),
        v3(f"zstd-xor-{style}-gzip", (), None, [ZstdCodec(), own("xor", style), GzipCodec()]),
        v3(f"reverse-{style}", [own("reverse", style)]),
        v3(f"widen-{style}-blosc", [own("widen", style)], None, [BloscCodec()]),
        v3(f"turn-fold-{style}-zstd", [TURN, own("fold", style)], None, [ZstdCodec()]),
        v3(f"text-{style}-zstd", (), own("text", style), [ZstdCodec()]),
        v3(f"shards-of-xor-{style}", (), None, [own("xor", style), ZstdCodec()], shards=SHARD),
    )
]
OTHERS = [
    # To transpose what comes from a codec in Python is no matter of strides.
    v3("big-reverse-turn", [own("reverse"), TURN], BytesCodec(endian="big"), [ZstdCodec()],
       python=2),
    v3("widen-big", [own("widen")], BytesCodec(endian="big")),
    v3("foreign-reverse", [own("reverse")], BytesCodec(endian="big"), dtype=">i4"),
    v3("foreign-text", (), own("text"), dtype=">f8"),
    v3("repeat-zstd", (), None, [own("repeat"), ZstdCodec()]),
    v3(
        "repeatmore-repeat-crc32c",
        compressors=[own("repeatmore"), own("repeat"), Crc32cCodec()],
        python=2,
    ),
    v3(
        "many",
        [TURN, own("reverse"), TURN, own("fold", "sleeping")],
        own("text", "threaded"),
        [ZstdCodec(), own("xor"), BloscCodec(), own("repeat", "batch"), GzipCodec(), Crc32cCodec()],
        python=6,  # transposes behind other filters run there, too
    ),
    v3("my-zstd", (), None, [MyZstd(), Crc32cCodec()]),
    v3("my-bytes", (), MyBytes(endian="little"), [ZstdCodec()]),
    v3("my-transpose", [MyTranspose(order=(1, 0))], None, [ZstdCodec()]),
    v3("wrapped-lzma", (), None, [wrapped("LZMA", **RAW_LZMA)]),
    v3("wrapped-lzma-zstd", (), None, [wrapped("LZMA", **RAW_LZMA), ZstdCodec()]),
    v3("shards-of-reverse", [own("reverse", "async")], None, [GzipCodec()], shards=SHARD),
    v3("shards-of-text-xor", (), own("text"), [own("xor", "sleeping")], shards=SHARD, python=2),
    v3("shards-of-fold", [own("fold")], shards=SHARD),
    around("xor-around-shards", serializer=sharding(LITTLE), compressors=[own("xor")]),
    around(
        "turn-shards-xor-zstd",
        filters=[TURN],
        serializer=sharding(LITTLE, chunk=(2, 2)),
        compressors=[own("xor", "threaded"), ZstdCodec()],
    ),
    around("reverse-shards", filters=[own("reverse")], serializer=sharding(LITTLE), python=2),
    around(
        "xor-in-and-around",
        serializer=sharding(LITTLE, own("xor"), ZstdCodec()),
        compressors=[own("repeat", "async")],
        python=2,
    ),
    around("my-sharding", serializer=sharding(LITTLE, own("xor"), kind=MySharding)),
    around(
        "nested-xor",
        serializer=sharding(sharding(LITTLE, own("xor"), chunk=(2, 3)), chunk=(4, 6)),
    ),
    around(
        "nested-xor-between",
        serializer=sharding(
            sharding(own("reverse"), LITTLE, chunk=(2, 3)), own("xor", "sleeping"), chunk=(4, 6)
        ),
        compressors=[GzipCodec()],
        python=2,
    ),
    *(
        chain
        for order in "CF"
        for chain in (
            v2(f"v2-base64-blosc-{order}", [numcodecs.Base64()], numcodecs.Blosc("lz4"), order,
               python=2),  # nobody knows the size of the items that Blosc gets
            v2(f"v2-base64-zstd-{order}", [numcodecs.Base64()], numcodecs.Zstd(1), order),
            v2(f"v2-negative-{order}", [Negative()], numcodecs.Zlib(1), order),
            v2(f"v2-negative-base64-tail-{order}", [Negative(), numcodecs.Base64()], Tail(), order,
               python=3),
            v2(f"v2-lzma-{order}", None, numcodecs.LZMA(**RAW_LZMA), order),
            v2(f"v2-tail-{order}", None, Tail(), order),
        )
    ),
    v2("v2-foreign-base64", [numcodecs.Base64()], Tail(), dtype=">i4", python=2),
    v2("v2-lzma", None, numcodecs.LZMA(**RAW_LZMA), dtype="<f8"),
]  # fmt: skip
CHAINS = [*BY_STYLE, *OTHERS]
CHAIN = {chain.name: chain for chain in CHAINS}


def chains(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("chain", [CHAIN[name] for name in names], ids=str)


FEW = (
    *("xor-sync-zstd-crc32c", "turn-fold-sleeping-zstd", "text-threaded-zstd", "many"),
    *(
        "shards-of-xor-batch",
        "turn-shards-xor-zstd",
        "nested-xor-between",
        "v2-negative-base64-tail-F",
    ),
)

SELECTIONS: list[Any] = [
    ...,
    (0, 0),
    (slice(None), 3),
    slice(2, 11, 3),
    (slice(5, 7), slice(1, 9, 2)),
    (-1, slice(None, -1)),
    slice(6, 6),
]
STEPS: list[tuple[Any, Any]] = [
    ((slice(2, 11), slice(1, 7)), None),  # merges, on some edges
    ((slice(None, None, 5), slice(None)), 9),
    ((7, 8), 3),
    (slice(0, 8), 0),  # chunks go
    ((slice(8, 12), slice(0, 3)), 0),
]


def steps(array: Any, expected: np.ndarray) -> np.ndarray:
    """Partial writes of many kinds; what comes out of them."""
    expected = expected.copy()
    for selection, value in STEPS:
        new = make_data(expected.dtype, expected[selection].shape, 7) if value is None else value
        if value is None and expected.dtype.kind == "f":
            new = np.nan_to_num(new)
        array[selection] = new
        expected[selection] = new
    return expected


def start(chain: Hybrid, seed: int = 0) -> np.ndarray:
    """Data that the codecs of any chain can represent."""
    data = make_data(chain.dtype, SHAPE, seed)
    return np.nan_to_num(data, posinf=1, neginf=2) + 0 if data.dtype.kind == "f" else data


def hooked(hook: Callable[[str, Any, Any], Any], store: Any = None, **kw: Any) -> zarr.Array[Any]:
    """The same with a bytes-to-bytes codec."""
    Hooked.hooks["k"] = hook
    how: dict[str, Any] = {"compressors": [Hooked("k"), ZstdCodec()], "filters": [], **kw}
    where = MemoryStore() if store is None else store
    return zarr.create_array(where, shape=(8, 8), chunks=(4, 4), dtype="i4", **how)


DATA = np.arange(64, dtype="i4").reshape(8, 8)
