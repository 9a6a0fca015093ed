"""A read fetches the chunks, inner chunks and blocks that it needs, and no others."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import zarr
from helpers import CHAIN, assert_same, chunk_file, create, make_data
from picks import INNER, PICKS, PLAIN_GRID, SHAPE, SHARD, mask_where
from selections import Pick
from shards import SHARDING, Coords
from zarr.codecs import BloscCodec

import zarrs
from zarrs import _planner

# zarr's own pipeline has something to say about codecs around shards
pytestmark = [
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.usefixtures("access"),
]


NEEDED = ("dropped-between", "points-one", "points-repeated", "points-2d-grid", "mask-thin",
          "negative", "mask-axis-one", "one-each", "dropped-two", "fancy-points",
          "points-one-axis-integer", "points-in-a-row-backward")  # fmt: skip


def _cells(pick: Pick, shape: Coords, grid: Coords) -> set[Coords]:
    """The cells of a grid in which something is selected."""
    places = np.unravel_index(pick.places(shape, grid).reshape(-1), shape)
    cells = [p // g for p, g in zip(places, grid, strict=True)]
    return {tuple(map(int, c)) for c in zip(*cells, strict=True)}


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("how", ["raw", "rotated-big-zstd-crc32c", "v2-blosc"])
def test_only_needed_chunks(native: None, tmp_path: Path, how: str, name: str) -> None:
    """All others are damaged; a write leaves them as they are."""
    chain, pick, data = CHAIN[how], PICKS[name], make_data("<i4", SHAPE)
    array = create(tmp_path, chain, SHAPE, PLAIN_GRID, "<i4")
    array[...] = data
    needed = _cells(pick, SHAPE, PLAIN_GRID)
    others = set(np.ndindex(*(-(-n // g) for n, g in zip(SHAPE, PLAIN_GRID, strict=True)))) - needed
    assert needed
    assert others
    for index in others:
        chunk_file(tmp_path, chain.zarr_format, *index).write_bytes(b"damaged")
    where = pick.places(SHAPE)
    assert_same(pick.read(array), data.reshape(-1)[where])
    value = make_data("<i4", SHAPE, 5).reshape(-1)[where]
    pick.write(array, value)
    assert_same(pick.read(array), value)
    for index in others:
        assert chunk_file(tmp_path, chain.zarr_format, *index).read_bytes() == b"damaged"
    with pytest.raises(zarrs.ChunkError):
        array[...]


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("how", ["crc32c", "crc32c-start", "zstd-crc32c"])
def test_only_needed_inner_chunks(native: None, tmp_path: Path, how: str, name: str) -> None:
    """All other shards are cut off, and all other inner chunks are overwritten."""
    sharding, pick, data = SHARDING[how], PICKS[name], make_data("<i4", SHAPE)
    array = zarr.create_array(
        str(tmp_path), shape=SHAPE, dtype="<i4", **sharding.arguments(SHARD, INNER)
    )
    array[...] = data
    counts = tuple(s // i for s, i in zip(SHARD, INNER, strict=True))
    layout = sharding.layout.of(*counts)
    needed, damaged = _cells(pick, SHAPE, INNER), 0
    for shard in np.ndindex(*(-(-n // s) for n, s in zip(SHAPE, SHARD, strict=True))):
        file = chunk_file(tmp_path, 3, *shard)
        chunks = layout.split(file.read_bytes())
        keep = {
            c for c in chunks
            if tuple(s * n + i for s, n, i in zip(shard, counts, c, strict=True)) in needed
        }  # fmt: skip
        for c in set(chunks) - keep:
            chunks[c] = bytes(255 - b for b in chunks[c])
            damaged += 1
        file.write_bytes(layout.build(chunks) if keep else b"cut off")
    assert damaged
    assert_same(pick.read(array), data.reshape(-1)[pick.places(SHAPE)])
    with pytest.raises(zarrs.ChunkError):
        array[...]


BLOCK = 16 * 1024


@pytest.mark.parametrize(
    "pick",
    [
        Pick("vindex", [300_000]),
        Pick("vindex", ([300_001, 299_999, 300_000, 300_001],)),
        Pick("oindex", [300_011, 300_004]),
        Pick("mask", mask_where(2**19, [300_000, 300_007])),
        Pick("oindex", np.arange(300_000, 300_009)[::-1]),
    ],
    ids=["point", "points", "rows", "mask", "descending"],
)
def test_only_needed_blocks(native: None, tmp_path: Path, pick: Pick) -> None:
    """Of a Blosc chunk of 2 MiB the blocks before and after what is selected are damaged."""
    n = 2**19
    codec = BloscCodec(cname="lz4", typesize=4, blocksize=BLOCK)
    array = zarr.create_array(
        str(tmp_path), shape=(n,), chunks=(n,), dtype="<i4", compressors=[codec]
    )
    data = np.random.default_rng(0).integers(0, 40, n).astype("<i4")
    array[...] = data
    file = chunk_file(tmp_path, 3, 0)
    encoded = bytearray(file.read_bytes())
    nbytes, blocksize, _ = np.frombuffer(bytes(encoded), "<i4", 3, 4)
    assert nbytes == 4 * n
    starts = np.frombuffer(bytes(encoded), "<i4", -(-nbytes // blocksize), 16)
    # blocks are decoded in pieces of several
    near = _planner.PIECE // blocksize
    assert len(starts) > 3 * near
    # the blocks are in any order if several threads wrote them
    ends = {int(a): int(b) for a, b in itertools.pairwise([*sorted(starts), len(encoded)])}
    places = pick.places((n,)).reshape(-1) * 4 // blocksize
    for i, a in enumerate(map(int, starts)):
        if not places.min() - near <= i <= places.max() + near:
            # streams that are longer than the chunk
            encoded[a : ends[a]] = b"\x7f" * (ends[a] - a)
    file.write_bytes(encoded)
    for _ in range(2):  # the second time with what the first one left open
        assert_same(pick.read(array), data[pick.places((n,))])
    with pytest.raises(zarrs.ChunkError):
        array[...]
