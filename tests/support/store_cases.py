"""Arrays that are tried in every kind of store."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import CHAIN, ZARR_34, chain_arguments, make_data, stock
from selections import Case
from shards import SHARDING, Coords
from stores import AsyncOnly, Spy
from zarr.abc.store import Store
from zarr.codecs import BytesCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.core.buffer import Buffer, BufferPrototype

from zarrs import _planner

# --------------------------------------------------------------------- the same in every store


def plain_case(name: str, shape: Coords, grid: Coords) -> Case:
    arguments = {"chunks": grid, **chain_arguments(CHAIN[name], len(shape))}
    return Case(shape, grid, arguments, name)


def sharded_case(
    name: str,
    shape: Coords = (29, 17, 13),
    shard: Coords = (12, 12, 12),
    inner: Coords = (4, 12, 6),
) -> Case:
    how = SHARDING[name]
    return Case(shape, how.shard_shape(shard), how.arguments(shard, inner), f"shards-{name}")


CASES = [
    plain_case("raw", (23, 17), (7, 5)),
    plain_case("zstd", (101,), (13,)),
    plain_case("rotated-big-zstd-crc32c", (7, 11, 5), (3, 6, 2)),
    plain_case("v2-blosc", (3, 4, 5, 7), (2, 3, 2, 4)),
    plain_case("v2-zlib-F", (13, 11), (6, 4)),
    plain_case("gzip", (), ()),
    sharded_case("zstd"),
    sharded_case("crc32c-start"),
    sharded_case("nested-start-end", (37, 29), (12, 12), (4, 6)),
    sharded_case("after-gzip", (31, 23), (12, 12), (4, 6)),
]
CASE = {case.name: case for case in CASES}


def make(store: Store, case: Case, dtype: Any = "<i4", **kw: Any) -> zarr.Array[Any]:
    """A new array in a store, with the configured pipeline."""
    return zarr.create_array(store, shape=case.shape, dtype=dtype, **case.arguments, **kw)


# --------------------------------------------------------------- parts of what is big, anywhere


def big_case(location: str) -> Case:
    # 1.5 MiB a shard of raw inner chunks of 12 KiB, one shard after the other.
    how = SHARDING["index-start-little-crc32c" if location == "start" else "zstd"]
    arguments = how.arguments((384, 1024), (48, 64))
    return Case((512, 1030), (384, 1024), arguments, f"big-{location}")


BIG = [
    big_case("end"),
    big_case("start"),
    plain_case("raw", (1030, 600), (515, 512)),
]


# ------------------------------------------------------------------- only what is needed, asked


RAW_END, RAW_START = SHARDING["index-end-little-crc32c"], SHARDING["index-start-little-crc32c"]
BIG_SHAPE, BIG_SHARD, BIG_INNER = (768, 1024), (384, 1024), (48, 64)  # 1.5 MiB and 12 KiB
MIB = 1024 * 1024


@contextmanager
def coalescing(gap: int = MIB, span: int = 16 * MIB) -> Iterator[None]:
    """zarr's options for arrays that are opened inside; before 3.4 there are none."""
    if ZARR_34:
        prefix = "array.sharding_coalesce_max"
        with zarr.config.set({f"{prefix}_gap_bytes": gap, f"{prefix}_bytes": span}):
            yield
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_planner, "MAX_STORE_GAP", gap)
            patch.setattr(_planner, "MAX_STORE_SPAN", span)
            yield


def big_shards(store: Store, location: str = "end") -> np.ndarray:
    """Two shards of raw inner chunks, written by zarr; return what is in them."""
    data = make_data("<i4", BIG_SHAPE)
    how = RAW_START if location == "start" else RAW_END
    case = Case(BIG_SHAPE, BIG_SHARD, how.arguments(BIG_SHARD, BIG_INNER), "")
    with stock():
        make(store, case)[...] = data
    return data


WINDOWS: dict[str, tuple[Any, range, range]] = {  # a key in the first shard, and what it touches
    "one": ((slice(50, 60), slice(70, 80)), range(1, 2), range(1, 2)),
    "corner": ((slice(40, 50), slice(60, 70)), range(2), range(2)),
    "far-apart": ((slice(5, 350, 343), slice(0, 1024, 1000)), range(0, 8, 7), range(0, 16, 15)),
    "rows": ((7, slice(None)), range(1), range(16)),
    "column": ((slice(0, 384), slice(640, 645)), range(8), range(10, 11)),
}


NESTED = Case(
    (700, 650),
    (576, 576),
    {
        "chunks": (576, 576),  # 1.3 MiB, of 16 shards, of 81 inner chunks
        "filters": [],
        "serializer": ShardingCodec(
            chunk_shape=(144, 144),
            codecs=[
                TransposeCodec(order=(1, 0)),
                ShardingCodec(
                    chunk_shape=(16, 16),
                    codecs=[BytesCodec(endian="big"), ZstdCodec()],
                    index_location="start",
                ),
            ],
        ),
        "compressors": [],
    },
    "nested",
)


def merged_at_edges(array: zarr.Array[Any], case: Case) -> int:
    """How many shards overhang the array, so that a write of all of it merges them."""
    if not array._async_array.codec_pipeline.supports_partial_encode:
        return 0
    counts = [(-(-n // g), n // g) for n, g in zip(case.shape, case.grid, strict=True)]
    return math.prod(n for n, _ in counts) - math.prod(n for _, n in counts)


class NoRanges(Spy):
    """Sends all of a chunk, whatever is asked for."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: Any = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        return found and await AsyncOnly.get(self, key, prototype)
