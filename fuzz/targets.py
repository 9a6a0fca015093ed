"""What is fuzzed: every codec of tests/support/codec_table.py that is native, shards among them.

A target is a codec. It has a number of cases, which are reads of one chunk as users have them: of
the table's rows, of chunks small and big, whole and in part. Input is four bytes that say which
read it is for, and what is stored in the place of the chunk.
"""

from __future__ import annotations

import bz2
import itertools
import lzma
import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
import codec_table as table

if TYPE_CHECKING:
    from collections.abc import Iterator

PIPELINE = "zarrs.ZarrsCodecPipeline"
SHARDING, RANGES = "sharding_indexed", "sharding_indexed-ranges"
# Codecs that can be asked for a part of a chunk, if that is worth while.
PARTIAL = ("blosc", "crc32c", "gzip", "zlib", "zstd")
DTYPES_OF_ROW = 2

BIG_SHAPE = (128, 512)
RANGED_SHAPE = (1024, 512)
RANGED_CHUNKS = (128, 128)

# What is selected of a chunk of h times w items; lists are what `oindex` takes.
WINDOWS: dict[str, Callable[[int, int], Any]] = {
    "whole": lambda h, w: np.s_[:h, :w],
    "window": lambda h, w: np.s_[h // 4 : h // 2 + 1, w // 4 : w // 2 + 1],
    "item": lambda h, w: np.s_[h // 2, w // 2],
    "strided": lambda h, w: np.s_[:h:2, w // 4 : w : 3],
    "lists": lambda h, w: ([0, h // 2, h - 1], [w // 4, w - 1]),
}
# What is worth a way of its own: to stop early, and to look up single blocks.
BIG_WINDOWS: dict[str, Callable[[int, int], Any]] = {
    "whole": WINDOWS["whole"],
    "start": lambda h, w: np.s_[: h // 32, :w],
    "rows": lambda h, w: np.s_[h // 2 : h // 2 + 4, 3 : w // 2],
    "lists": WINDOWS["lists"],
}


@dataclass(frozen=True)
class Case:
    """A read of one chunk.

    Attributes
    ----------
    name : str
    make : callable
        Makes the array, with what is in it, in a store.
    window : callable
        What is selected of the first chunk; see `WINDOWS`.
    verify : bool
        Whether checksums are verified.
    """

    name: str
    make: Callable[[MemoryStore], zarr.Array[Any]]
    window: Callable[[int, int], Any]
    verify: bool

    @property
    def selector(self) -> bytes:
        """What input for this case begins with, whatever other cases there are."""
        return zlib.crc32(self.name.encode()).to_bytes(4, "little")

    @cached_property
    def array(self) -> zarr.Array[Any]:
        """The array, which this package reads and nothing else."""
        options = {
            "codec_pipeline.path": PIPELINE,
            "codec_pipeline.strict": True,
            "codec_pipeline.validate_checksums": self.verify,
        }
        with zarr.config.set(options):
            return self.make(MemoryStore())

    @cached_property
    def key(self) -> str:
        """Where the first chunk is stored."""
        return self.array.metadata.encode_chunk_key((0,) * self.array.ndim)

    @property
    def stored(self) -> MutableMapping[str, Any]:
        """The buffers in the store, by key."""
        store = self.array.store
        assert isinstance(store, MemoryStore)
        return store._store_dict

    @property
    def seed(self) -> bytes:
        """Input that is read without an error."""
        return self.selector + _lighter(self.stored[self.key].to_bytes())

    def read(self, out: Any = None) -> Any:
        """Read the selection."""
        metadata: Any = self.array.metadata
        chunks = metadata.chunks if metadata.zarr_format == 2 else metadata.chunk_grid.chunk_shape
        selection = self.window(*map(min, chunks, self.array.shape))
        if isinstance(selection[0], list):
            return self.array.get_orthogonal_selection(selection, out=out)
        return self.array.get_basic_selection(selection, out=out)

    def read_stored(self, stored: bytes) -> Any:
        """Read the selection with other bytes in the place of the chunk."""
        kept = self.stored[self.key]
        self.stored[self.key] = default_buffer_prototype().buffer.from_bytes(stored)
        try:
            return self.read()
        finally:
            self.stored[self.key] = kept


def _lighter(stored: bytes) -> bytes:
    # The same, if it is a stream of lzma or bz2, in a form for which their decoders do not get
    # megabytes, which takes them a hundred times as long as the rest.
    kinds: dict[bytes, tuple[Any, Callable[[bytes], bytes]]] = {
        b"\xfd7zXZ": (
            lzma.LZMADecompressor(),
            lambda data: lzma.compress(data, check=stored[7], preset=0),
        ),
        b"]\0\0": (
            lzma.LZMADecompressor(),
            lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
        ),
        b"BZh": (bz2.BZ2Decompressor(), lambda data: bz2.compress(data, 1)),
    }
    for magic, (decoder, encode) in kinds.items():
        if stored.startswith(magic):
            data = decoder.decompress(stored)
            if decoder.eof and not decoder.unused_data:  # or else there is something behind it
                return encode(data)
    return stored


def _make_small(row: table.CodecRow, dtype: str, store: MemoryStore) -> zarr.Array[Any]:
    array: zarr.Array[Any] = table.make_array(store, row, dtype)
    array[...] = table.make_data(row, dtype)
    return array


def _steps(shape: tuple[int, int]) -> np.ndarray:
    # What is worth compressing, for small seeds.
    return (np.arange(shape[0] * shape[1]) // 3000 % 100).reshape(shape)


def _make_big(row: table.CodecRow, dtype: str, store: MemoryStore) -> zarr.Array[Any]:
    array = zarr.create_array(
        store,
        shape=BIG_SHAPE,
        chunks=BIG_SHAPE,
        dtype=dtype,
        zarr_format=row.zarr_format,
        **row.arguments(dtype),
    )
    array[...] = _steps(BIG_SHAPE)
    return array


def _small_cases(row: table.CodecRow, dtype: str) -> Iterator[Case]:
    for verify in (True, False):
        for label, window in WINDOWS.items():
            name = f"{row.name}-{dtype}-{label}-{verify}"
            yield Case(name, partial(_make_small, row, dtype), window, verify)


def _big_cases(row: table.CodecRow, dtype: str) -> Iterator[Case]:
    for label, window in BIG_WINDOWS.items():
        name = f"{row.name}-{dtype}-big-{label}"
        yield Case(name, partial(_make_big, row, dtype), window, True)


def _make_ranged(codecs: list[Any], store: MemoryStore) -> zarr.Array[Any]:
    # Of a shard that is this big only the index and what is needed are fetched.
    array = zarr.create_array(
        store,
        shape=RANGED_SHAPE,
        shards=RANGED_SHAPE,
        chunks=RANGED_CHUNKS,
        dtype="<f4",
        compressors=codecs,
    )
    array[...] = _steps(RANGED_SHAPE)
    return array


def _ranged_cases() -> Iterator[Case]:
    chains: dict[str, list[Any]] = {"zstd": [ZstdCodec()], "crc32c": [ZstdCodec(), Crc32cCodec()]}
    for (chain, codecs), verify in itertools.product(chains.items(), (True, False)):
        for label in ("window", "item", "lists"):
            name = f"ranges-{chain}-{label}-{verify}"
            yield Case(name, partial(_make_ranged, codecs), WINDOWS[label], verify)


def all_targets() -> dict[str, list[Case]]:
    """Every native decoder, and what is read with it."""
    targets: dict[str, list[Case]] = defaultdict(list)
    for row in table.CODECS:
        if row.ours != table.NATIVE or row.missing():
            continue
        target = targets[row.codec.removeprefix("numcodecs.")]
        for dtype in row.dtypes[:DTYPES_OF_ROW]:
            target.extend(_small_cases(row, dtype))
            if row.codec.removeprefix("numcodecs.") in PARTIAL and dtype in table.NUMBERS:
                target.extend(_big_cases(row, dtype))
    targets[RANGES].extend(_ranged_cases())
    for name, cases in targets.items():
        selectors = [case.selector for case in cases]
        assert len(set(selectors)) == len(selectors), f"{name}: two cases have one selector"
    return dict(sorted(targets.items()))
