"""Ways to shard, and shards taken apart and put together with NumPy and google_crc32c alone."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
import zarr
from helpers import ZARR_34, TensorStore, assert_same, stock_read
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

EMPTY = 2**64 - 1  # both numbers of an inner chunk that is not stored
Coords = tuple[int, ...]


# ------------------------------------------------------------------------------ shard files


@dataclass(frozen=True)
class Layout:
    """Where the index of a shard is, and how it is encoded.

    Parameters
    ----------
    counts : tuple of int
        Inner chunks per shard.
    location : {"end", "start"}
    endian : {"little", "big"}
    checksum : bool
        Whether crc32c follows.
    """

    counts: Coords
    location: Literal["start", "end"] = "end"
    endian: Literal["little", "big"] = "little"
    checksum: bool = True

    def __str__(self) -> str:
        return f"{self.location}-{self.endian}-{'crc32c' if self.checksum else 'bare'}"

    def of(self, *counts: int) -> "Layout":
        """The same for shards of so many inner chunks."""
        return replace(self, counts=counts)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype("<u8" if self.endian == "little" else ">u8")

    @property
    def size(self) -> int:
        """Bytes of the encoded index."""
        return 16 * math.prod(self.counts) + 4 * self.checksum

    @property
    def codecs(self) -> list[Any]:
        """The index codecs for zarr."""
        return [BytesCodec(endian=self.endian), *([Crc32cCodec()] if self.checksum else [])]

    @property
    def keywords(self) -> dict[str, Any]:
        """The arguments of ``ShardingCodec``."""
        return {"index_codecs": self.codecs, "index_location": self.location}

    def place(self, blob: bytes) -> slice:
        """The bytes of the index in a shard."""
        if self.location == "start":
            return slice(0, self.size)
        return slice(len(blob) - self.size, len(blob))

    def index(self, blob: bytes) -> np.ndarray:
        """Offsets and lengths, of shape ``(*counts, 2)``; a wrong checksum raises."""
        encoded = blob[self.place(blob)]
        assert len(encoded) == self.size, "the shard is shorter than its index"
        if self.checksum:
            stored = int.from_bytes(encoded[-4:], "little")
            assert google_crc32c.value(encoded[:-4]) == stored, "checksum of the index"
            encoded = encoded[:-4]
        return np.frombuffer(encoded, self.dtype).astype("u8").reshape(*self.counts, 2)

    def encode(self, index: np.ndarray) -> bytes:
        """An index as bytes, with its checksum."""
        encoded = index.astype(self.dtype).tobytes()
        if self.checksum:
            encoded += google_crc32c.value(encoded).to_bytes(4, "little")
        return encoded

    def with_index(self, blob: bytes, index: np.ndarray) -> bytes:
        """The shard with another index, whose checksum is right."""
        place = self.place(blob)
        return blob[: place.start] + self.encode(index) + blob[place.stop :]

    def split(self, blob: bytes) -> dict[Coords, bytes]:
        """The encoded inner chunks that are stored."""
        index = self.index(blob)
        chunks: dict[Coords, bytes] = {}
        for coords in np.ndindex(*self.counts):
            offset, length = (int(n) for n in index[coords])
            if (offset, length) != (EMPTY, EMPTY):
                assert offset + length <= len(blob)
                chunks[coords] = blob[offset : offset + length]
                assert len(chunks[coords]) == length
        return chunks

    def order(self, blob: bytes) -> list[Coords]:
        """The coordinates of the stored inner chunks by their place in the file."""
        index = self.index(blob)
        return sorted(self.split(blob), key=lambda coords: int(index[coords][0]))

    def build(
        self, chunks: Mapping[Coords, bytes], order: Sequence[Coords] = (), gap: bytes = b""
    ) -> bytes:
        """A shard of encoded inner chunks, in `order`, with `gap` before each and at the end."""
        index = np.full((*self.counts, 2), EMPTY, "u8")
        body = b""
        start = self.size if self.location == "start" else 0
        for coords in order or list(chunks):
            body += gap
            index[coords] = start + len(body), len(chunks[coords])
            body += chunks[coords]
        body += gap
        encoded = self.encode(index)
        return encoded + body if self.location == "start" else body + encoded


# ---------------------------------------------------------------------------- ways to shard

LAYOUTS = [
    Layout((), location, endian, checksum)
    for location in ("end", "start")
    for endian in ("little", "big")
    for checksum in (True, False)
]


def rotated(ndim: int) -> tuple[int, ...]:
    """An order that is not its own inverse from three dimensions on."""
    return (*range(1, ndim), 0) if ndim else ()


def reversed_(ndim: int) -> tuple[int, ...]:
    return tuple(range(ndim))[::-1]


Order = Callable[[int], tuple[int, ...]]


@dataclass(frozen=True)
class Sharding:
    """One way to shard.

    Parameters
    ----------
    name : str
        Shown in test ids.
    layout : Layout
        Of the (outermost) index; the counts are filled in for each array.
    inner : callable
        From the number of dimensions to the codecs of the (innermost) chunks.
    before, after : sequence
        Orders of transposes before the sharding; codecs after it.
    between : sequence
        Orders of transposes between the levels of nested shards.
    outer : sequence of Layout
        One layout for each further level of sharding around the innermost one, outwards.
    write_order : str
        The ``subchunk_write_order``, if it is not the default.
    deterministic : bool
        Every writer makes the same bytes.
    """

    name: str
    layout: Layout = LAYOUTS[0]
    inner: Callable[[int], list[Any]] = field(default=lambda ndim: [BytesCodec()], repr=False)
    before: Sequence[Order] = ()
    after: Sequence[Any] = ()
    between: Sequence[Order] = ()
    outer: Sequence[Layout] = ()
    write_order: str = ""
    deterministic: bool = False

    def __str__(self) -> str:
        return self.name

    def shard_shape(self, shard: Coords) -> Coords:
        """The outermost shard: each further level doubles an axis of `shard`."""
        out = list(shard)
        for level in range(len(self.outer)):
            if out:
                out[level % len(out)] *= 2
        return tuple(out)

    def arguments(self, shard: Coords, inner: Coords) -> dict[str, Any]:
        """Keyword arguments of ``zarr.create_array``.

        Parameters
        ----------
        shard : tuple of int
            Shape of the innermost shards, as the array sees them.
        inner : tuple of int
            Shape of the innermost chunks, as the array sees them.
        """
        ndim = len(shard)
        filters = [TransposeCodec(order=f(ndim)) for f in self.before if ndim]
        shapes = [inner, shard]
        for level in range(len(self.outer) - 1):
            wider = list(shapes[-1])
            if wider:
                wider[level % ndim] *= 2
            shapes.append(tuple(wider))
        for transpose in filters:
            shapes = [tuple(s[i] for i in transpose.order) for s in shapes]
        layouts = [self.layout, *self.outer]
        order: dict[str, Any] = (
            {"subchunk_write_order": self.write_order} if self.write_order else {}
        )
        codecs = self.inner(ndim)
        sharding = None
        for level, layout in enumerate(layouts):
            shape = shapes[level]
            if sharding is not None:
                codecs = [sharding]
                if ndim:
                    transposes = [TransposeCodec(order=f(ndim)) for f in self.between]
                    codecs = [*transposes, sharding]
            # the innermost levels see what the transposes between the levels leave them
            for f in self.between if ndim else ():
                for _ in range(len(layouts) - 1 - level):
                    shape = tuple(shape[i] for i in f(ndim))
            sharding = ShardingCodec(chunk_shape=shape, codecs=codecs, **layout.keywords, **order)
        return {
            "chunks": self.shard_shape(shard),
            "filters": filters,
            "serializer": sharding,
            "compressors": list(self.after),
        }


def _codecs(
    *compressors: Any, endian: Literal["little", "big"] = "little", order: Sequence[Order] = ()
) -> Any:
    def codecs(ndim: int) -> list[Any]:
        transposes = [TransposeCodec(order=f(ndim)) for f in order if ndim]
        return [*transposes, BytesCodec(endian=endian), *compressors]

    return codecs


END, START = LAYOUTS[0], Layout((), "start")
BIG = Layout((), "end", "big", False)
BARE_START = Layout((), "start", "little", False)

SHARDINGS = [
    *(Sharding(f"index-{x}", x, deterministic=True) for x in LAYOUTS),
    # codecs of the inner chunks
    Sharding("raw-big", inner=_codecs(endian="big"), deterministic=True),
    Sharding("blosc", inner=_codecs(BloscCodec(cname="lz4", shuffle="shuffle", typesize=4))),
    Sharding("blosc-zstd-bit", START,
             inner=_codecs(BloscCodec(cname="zstd", shuffle="bitshuffle", typesize=4))),
    Sharding("zstd", inner=_codecs(ZstdCodec(level=3))),
    Sharding("zstd-start", START, inner=_codecs(ZstdCodec(level=1))),
    Sharding("gzip", inner=_codecs(GzipCodec(level=5))),
    Sharding("crc32c", inner=_codecs(Crc32cCodec()), deterministic=True),
    Sharding("crc32c-start", START, inner=_codecs(Crc32cCodec()), deterministic=True),
    Sharding("zstd-crc32c", inner=_codecs(ZstdCodec(), Crc32cCodec())),
    Sharding("crc32c-gzip", inner=_codecs(Crc32cCodec(), GzipCodec(level=1))),
    Sharding("inside-rotated", inner=_codecs(order=[rotated]), deterministic=True),
    Sharding("inside-twice", inner=_codecs(order=[rotated, reversed_], endian="big"),
             deterministic=True),
    Sharding("inside-rotated-zstd", BIG, inner=_codecs(ZstdCodec(), order=[rotated])),
    Sharding("inside-rotated-blosc-crc32c", START,
             inner=_codecs(BloscCodec(cname="lz4", typesize=4), Crc32cCodec(),
                           order=[rotated, rotated], endian="big")),
    # codecs around the shard
    Sharding("before-rotated", before=[rotated], deterministic=True),
    Sharding("before-reversed", START, before=[reversed_], inner=_codecs(ZstdCodec())),
    Sharding("before-twice", before=[rotated, reversed_], deterministic=True),
    Sharding("before-and-inside", before=[rotated], inner=_codecs(ZstdCodec(), order=[rotated])),
    Sharding("after-gzip", after=[GzipCodec(level=1)]),
    Sharding("after-crc32c", after=[Crc32cCodec()], deterministic=True),
    Sharding("after-zstd", START, after=[ZstdCodec()], inner=_codecs(Crc32cCodec())),
    Sharding("before-and-after", before=[rotated], after=[ZstdCodec(), Crc32cCodec()],
             inner=_codecs(GzipCodec(level=1))),
    # shards in shards
    Sharding("nested", outer=[END], deterministic=True),
    Sharding("nested-zstd", outer=[END], inner=_codecs(ZstdCodec())),
    Sharding("nested-start-end", START, outer=[END], inner=_codecs(Crc32cCodec()),
             deterministic=True),
    Sharding("nested-end-start", END, outer=[BARE_START], inner=_codecs(GzipCodec(level=1))),
    Sharding("nested-big", BIG, outer=[START], deterministic=True),
    Sharding("nested-rotated", outer=[END], between=[rotated], inner=_codecs(ZstdCodec())),
    Sharding("nested-before-after", START, outer=[END], before=[rotated], after=[Crc32cCodec()],
             deterministic=True),
    Sharding("nested-twice", outer=[END, END], deterministic=True),
    Sharding("nested-twice-mixed", BIG, outer=[START, END], inner=_codecs(ZstdCodec(),
             order=[rotated])),
]  # fmt: skip
if ZARR_34:
    SHARDINGS += [
        Sharding(f"order-{order}", layout, write_order=order, deterministic=order != "unordered")
        for order, layout in (
            ("morton", START),
            ("lexicographic", END),
            ("colexicographic", END),
            ("unordered", END),
        )
    ]
    SHARDINGS.append(
        Sharding("order-nested", START, outer=[END], write_order="colexicographic",
                 inner=_codecs(Crc32cCodec()), deterministic=True)
    )  # fmt: skip
SHARDING = {s.name: s for s in SHARDINGS}

# The geometry of most tests. Every inner edge divides every edge of the shard, because zarr checks
# that before it looks at transposes; counts are [3, 1, 2].
SHAPE, SHARD, INNER = (29, 17, 13), (12, 12, 12), (4, 12, 6)
COUNTS = (3, 1, 2)


def create_sharded(
    path: Any,
    sharding: Sharding,
    shape: Coords = SHAPE,
    dtype: Any = "<i4",
    shard: Coords = SHARD,
    inner: Coords = INNER,
    **kw: Any,
) -> zarr.Array[Any]:
    """A new array, sharded, with the configured pipeline."""
    arguments = sharding.arguments(shard, inner) | kw
    store = str(path) if isinstance(path, Path) else path
    return zarr.create_array(store=store, shape=shape, dtype=dtype, **arguments)


def tensorstore_has(sharding: Sharding, dtype: Any) -> bool:
    """Whether TensorStore knows the type, and the codecs: it has none after the sharding."""
    dtype = np.dtype(dtype)
    return not sharding.after and dtype.names is None and dtype.kind in "biufc"


def assert_stored(
    path: Any, sharding: Sharding, expected: np.ndarray, zarr_too: bool = True
) -> None:
    """The pipeline under test, zarr's own and TensorStore read what is expected."""
    assert_same(zarr.open_array(str(path))[...], expected, "ours, opened again")
    if zarr_too:
        assert_same(stock_read(path), expected, "zarr")
    if tensorstore_has(sharding, expected.dtype):
        assert_same(TensorStore(path, 3).read(), expected, "TensorStore")


# --------------------------------------------------------------------------------- threads


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(i)`` in `count` threads, and raise what the first of them raised."""
    errors: list[BaseException] = []
    gate = threading.Barrier(count)

    def run(i: int) -> None:
        try:
            gate.wait()
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
