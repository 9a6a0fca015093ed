"""Shards laid out by hand: any order, with gaps, and taken apart by code that is not ours."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from helpers import assert_same, make_data, selections, stock_read, stored_files
from shardings import DEFAULT, DTYPE, each_layout
from shards import COUNTS, INNER, SHAPE, SHARD, SHARDING, Layout, create_sharded
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")


def padded_inner_chunks(
    data: np.ndarray, fill: Any
) -> dict[str, dict[tuple[int, ...], np.ndarray]]:
    """By the key of the shard and the coordinates in it: what has to be stored in 3-D."""
    counts = [-(-n // s) for n, s in zip(data.shape, SHARD, strict=True)]
    whole = np.full([c * s for c, s in zip(counts, SHARD, strict=True)], fill, data.dtype)
    whole[tuple(map(slice, data.shape))] = data
    out: dict[str, dict[tuple[int, ...], np.ndarray]] = {}
    for shard in np.ndindex(*counts):
        chunks = out.setdefault("c/" + "/".join(map(str, shard)), {})
        for coords in np.ndindex(*COUNTS):
            start = [s * n + c * i for s, n, c, i in zip(shard, SHARD, coords, INNER, strict=True)]
            if all(a < n for a, n in zip(start, data.shape, strict=True)):
                chunks[coords] = whole[
                    tuple(slice(a, a + i) for a, i in zip(start, INNER, strict=True))
                ]
    return out


def _crc32c(raw: bytes) -> bytes:
    return raw + int(google_crc32c.value(raw)).to_bytes(4, "little")


# codecs for zarr; how NumPy and others encode an inner chunk
BY_HAND: dict[str, tuple[list[Any], Callable[[np.ndarray], bytes]]] = {
    "raw": ([BytesCodec()], lambda x: x.tobytes()),
    "raw-big": ([BytesCodec(endian="big")], lambda x: x.astype(">i4").tobytes()),
    "crc32c": ([BytesCodec(), Crc32cCodec()], lambda x: _crc32c(x.tobytes())),
    "transposed": (
        [*SHARDING["inside-rotated"].inner(3)],
        lambda x: x.transpose(1, 2, 0).tobytes(),
    ),
}


@each_layout
@pytest.mark.parametrize("how", BY_HAND)
def test_files_by_hand(native: None, tmp_path: Path, how: str, layout: Layout) -> None:
    """Each inner chunk is where the index says, as NumPy encodes it, and nothing else is there."""
    codecs, encode = BY_HAND[how]
    layout = layout.of(*COUNTS)
    serializer = ShardingCodec(chunk_shape=INNER, codecs=codecs, **layout.keywords)
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, DEFAULT, serializer=serializer, fill_value=9)
    array[...] = data
    expected = padded_inner_chunks(data, 9)
    files = stored_files(tmp_path)
    assert set(files) == set(expected)
    for name, blob in files.items():
        chunks = layout.split(blob)
        assert chunks == {coords: encode(x) for coords, x in expected[name].items()}
        assert len(blob) == layout.size + sum(map(len, chunks.values()))


def _members(raw: bytes) -> bytes:
    """Gzip that no encoder of ours makes: two members, a time stamp, little compression."""
    return gzip.compress(raw[:100], 1, mtime=1234) + gzip.compress(raw[100:], 9, mtime=5678)


def handmade(layout: Layout, data: np.ndarray, seed: int, gap: bytes) -> dict[str, bytes]:
    """Shards of gzip in any order, with room between the inner chunks."""
    rng = np.random.default_rng(seed)
    out = {}
    for name, chunks in padded_inner_chunks(data, 0).items():
        encoded = {coords: _members(x.tobytes()) for coords, x in chunks.items()}
        order = [list(encoded)[i] for i in rng.permutation(len(encoded))]
        out[name] = layout.build(encoded, order, gap)
    return out


@each_layout
@pytest.mark.parametrize("gap", [b"", b"room"], ids=["dense", "gaps"])
def test_shards_of_another_writer(native: None, tmp_path: Path, layout: Layout, gap: bytes) -> None:
    """Any order, unused space anywhere; a merge takes what it does not touch byte by byte."""
    layout = layout.of(*COUNTS)
    codecs: list[Any] = [BytesCodec(), GzipCodec()]
    serializer = ShardingCodec(chunk_shape=INNER, codecs=codecs, **layout.keywords)
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, DEFAULT, serializer=serializer)
    made = handmade(layout, data, seed=3, gap=gap)
    for name, blob in made.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(blob)
    assert_same(array[...], data)
    for selection in selections(SHAPE, seed=2, count=0)[::6]:
        assert_same(array[selection], data[selection], f"read {selection}")
    array[5:7, 3:5, 2:9] = data[5:7, 3:5, 2:9] = 77  # inner chunks (1, 0, 0) and (1, 0, 1)
    assert_same(array[...], data)
    after = stored_files(tmp_path)
    for name, blob in after.items():
        if name != "c/0/0/0":
            assert blob == made[name]
    before, now = layout.split(made["c/0/0/0"]), layout.split(after["c/0/0/0"])
    assert set(now) == set(before)
    assert {c for c in now if now[c] != before[c]} == {(1, 0, 0), (1, 0, 1)}
    assert_same(stock_read(tmp_path), data, "zarr")


def test_nested_shards_keep_what_is_not_touched(native: None, tmp_path: Path) -> None:
    """In the inner shard that is touched too."""
    sharding, data = SHARDING["nested-end-start"], make_data(DTYPE, (24, 12, 12))
    outer, inner = sharding.outer[0].of(2, 1, 1), sharding.layout.of(*COUNTS)
    array = create_sharded(tmp_path, sharding, (24, 12, 12))
    weird: dict[tuple[int, ...], bytes] = {}
    for number in range(2):
        part = padded_inner_chunks(data[number * 12 : number * 12 + 12], 0)["c/0/0/0"]
        chunks = {coords: _members(x.tobytes()) for coords, x in part.items()}
        weird[number, 0, 0] = inner.build(chunks, list(chunks)[::-1])
    file = tmp_path / "c/0/0/0"
    file.parent.mkdir(parents=True)
    file.write_bytes(outer.build(weird))
    assert_same(array[...], data)
    array[13, 2, 3] = data[13, 2, 3] = 77  # in inner shard 1, chunk (0, 0, 0)
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)
    now = outer.split(file.read_bytes())
    assert now[0, 0, 0] == weird[0, 0, 0]
    old, new = inner.split(weird[1, 0, 0]), inner.split(now[1, 0, 0])
    assert {c for c in new if new[c] != old[c]} == {(0, 0, 0)}
