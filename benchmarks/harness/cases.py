"""The arrays that are measured: which data each holds, and how it is stored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zarr
from numcodecs import Delta, Shuffle
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from .data import Array, Shape, photons, polynomial, scan, waves
from .implementations import implementations

UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}


@dataclasses.dataclass(frozen=True)
class Case:
    """An array and how it is stored.

    Attributes
    ----------
    name, title : str
        What the command line and tables call it.
    data : callable
        Makes the data set in a shape.
    shape, chunks, shards : tuple of int
        Of the array, its chunks (inner chunks of shards) and its shards.
    options : callable
        Returns what else ``zarr.create_array`` is told.
    lacking : dict of str to str
        Implementations that cannot have it, and why.
    operations : tuple of str
        The names of those that are measured.
    """

    name: str
    title: str
    data: Callable[[Shape], Array]
    shape: Shape
    chunks: Shape
    options: Callable[[], dict[str, Any]]
    shards: Shape | None = None
    lacking: dict[str, str] = dataclasses.field(default_factory=dict)
    operations: tuple[str, ...] = ()

    def shrunk(self) -> Case:
        """Make it small enough for a test."""
        return dataclasses.replace(
            self,
            shape=tuple(max(2, n // 8) for n in self.shape),
            chunks=tuple(max(1, n // 4) for n in self.chunks),
            shards=self.shards and tuple(max(1, n // 4) for n in self.shards),
        )

    @property
    def zarr_format(self) -> int:
        return int(self.options().get("zarr_format", 3))

    @property
    def stored_together(self) -> Shape:
        """The shape of what one file holds."""
        return self.shards or self.chunks

    def describe(self) -> str:
        data = self.data(self.shape)
        parts = [shape for shape in (self.shards, self.chunks) if shape]
        sizes = [size(data.nbytes), *(size(math.prod(part) * data.itemsize) for part in parts)]
        return f"{self.title}; {' in '.join(sizes)}"

    def create(self, path: Path) -> Array:
        """Write the array to `path`, with the fastest of zarr's own pipelines."""
        data = self.data(self.shape)
        by_name = {impl.name: impl for impl in implementations()}
        able = by_name["fused"].missing() is None
        with by_name["fused" if able else "default"].active():
            array = zarr.create_array(
                path,
                shape=data.shape,
                dtype=data.dtype,
                chunks=self.chunks,
                shards=self.shards,
                **self.options(),
            )
            array[...] = data
        return data


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    return next(
        (f"{count / unit:.3g} {name}" for name, unit in UNITS.items() if count >= unit),
        f"{count} B",
    )


def bitshuffled() -> dict[str, Any]:
    codec = BloscCodec(cname="blosclz", clevel=9, shuffle="bitshuffle", typesize=2)
    return {"compressors": codec}


def old(compressor: dict[str, Any], **options: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"zarr_format": 2, "compressors": compressor, **options}


ALL = (
    *("read_all", "read_windows", "read_plane", "read_points", "read_strided"),
    *("read_oindex", "read_vindex"),
    *("create_all", "write_all", "write_window", "write_oindex", "write_vindex"),
)
WHOLE = ("read_all", "write_all")
WORKLOADS = ("read_all", "read_chunks", "round_trip")  # of LDeakin/zarr_benchmarks

CASES = [
    Case(
        "raw",
        "no compression",
        polynomial,
        (256, 512, 512),
        (128, 128, 128),
        lambda: {"compressors": None},
        operations=ALL,
    ),
    Case(
        "lz4",
        "Blosc: LZ4, shuffle",
        waves,
        (128, 512, 512),
        (64, 128, 128),
        lambda: {"compressors": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4)},
        operations=ALL,
    ),
    Case(
        "blosclz",
        "Blosc: BloscLZ, bitshuffle",
        polynomial,
        (256, 512, 512),
        (128, 128, 128),
        bitshuffled,
        operations=ALL,
    ),
    Case(
        "zstd",
        "Zstandard",
        waves,
        (128, 512, 512),
        (64, 128, 128),
        lambda: {"compressors": ZstdCodec(level=3)},
        operations=ALL,
    ),
    Case(
        "gzip",
        "gzip",
        photons,
        (128, 256, 512),
        (64, 64, 64),
        lambda: {"compressors": GzipCodec(level=5)},
        operations=ALL,
    ),
    Case(
        "mri",
        "MRI; Blosc: Zstandard, bitshuffle",
        scan,
        (4096, 96, 24, 2),
        (256, 96, 24, 1),
        lambda: {
            "compressors": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle", typesize=2)
        },
        operations=ALL,
    ),
    Case(
        "small",
        "Zstandard, small chunks",
        waves,
        (256, 256, 128),
        (16, 16, 16),
        lambda: {"compressors": ZstdCodec(level=3)},
        operations=ALL,
    ),
    Case(
        "endianT",
        "big-endian, transposed, CRC-32C",
        waves,
        (128, 256, 512),
        (64, 128, 128),
        lambda: {
            "filters": TransposeCodec(order=(2, 0, 1)),
            "serializer": BytesCodec(endian="big"),
            "compressors": Crc32cCodec(),
        },
        operations=ALL,
    ),
    Case(
        "shard",
        "shards; Blosc: BloscLZ, bitshuffle",
        polynomial,
        (256, 512, 512),
        (32, 32, 32),
        bitshuffled,
        shards=(256, 256, 256),
        operations=ALL,
    ),
    Case(
        "smallshard",
        "shards of small chunks; Zstandard, CRC-32C",
        waves,
        (256, 256, 128),
        (16, 16, 16),
        lambda: {"compressors": [ZstdCodec(level=3), Crc32cCodec()]},
        shards=(128, 128, 128),
        operations=ALL,
    ),
    Case(
        "rows",
        "shards of rows; Zstandard",
        waves,
        (10000, 256),
        (1, 256),
        lambda: {"compressors": ZstdCodec(level=3)},
        shards=(2500, 256),
        operations=ALL,
    ),
    Case(
        "v2",
        "Zarr v2, Blosc: LZ4, shuffle",
        photons,
        (128, 512, 512),
        (64, 128, 128),
        old({"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}),
        operations=ALL,
    ),
    Case(
        "v2-zlib",
        "Zarr v2, zlib",
        photons,
        (128, 256, 512),
        (64, 64, 64),
        old({"id": "zlib", "level": 5}),
        lacking={"zarrista": "it has no compressor zlib of format 2"},
        operations=WHOLE,
    ),
    Case(
        "v2-bz2",
        "Zarr v2, bzip2",
        photons,
        (128, 256, 256),
        (64, 64, 64),
        old({"id": "bz2", "level": 5}),
        lacking={"zarrista": "it has no compressor bz2 of format 2"},
        operations=WHOLE,
    ),
    Case(
        "v2-lz4",
        "Zarr v2, LZ4",
        photons,
        (128, 512, 512),
        (64, 128, 128),
        old({"id": "lz4", "acceleration": 1}),
        lacking={
            "tensorstore": "it has no compressor lz4 of format 2",
            "zarrista": "it has no compressor lz4 of format 2",
        },
        operations=WHOLE,
    ),
    Case(
        "v2-filters",
        "Zarr v2, delta, shuffle, zlib",
        photons,
        (128, 256, 512),
        (64, 64, 64),
        old({"id": "zlib", "level": 5}, filters=[Delta(dtype="<u2"), Shuffle(elementsize=2)]),
        lacking={
            "tensorstore": "it has no filters of format 2",
            "zarrista": "it has no filters of format 2",
        },
        operations=WHOLE,
    ),
    # The arrays of LDeakin/zarr_benchmarks, an eighth as big.
    Case(
        "uncompressed",
        "zarr_benchmarks: uncompressed",
        polynomial,
        (512, 512, 512),
        (256, 256, 256),
        lambda: {"compressors": None},
        operations=WORKLOADS,
    ),
    Case(
        "compressed",
        "zarr_benchmarks: compressed",
        polynomial,
        (512, 512, 512),
        (256, 256, 256),
        lambda: {"compressors": ZstdCodec(level=0)},
        operations=WORKLOADS,
    ),
    Case(
        "compressed-sharded",
        "zarr_benchmarks: compressed and sharded",
        polynomial,
        (512, 512, 512),
        (64, 64, 64),
        lambda: {"compressors": ZstdCodec(level=0)},
        shards=(256, 256, 256),
        operations=WORKLOADS,
    ),
]
