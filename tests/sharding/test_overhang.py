"""Chunks and shards at the array's edge: what they hold beyond it, when it shrinks and grows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.abc.store import Store
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore

import zarrs

BATCHED = "zarr.core.codec_pipeline.BatchedCodecPipeline"
INNER = 2  # along every axis
SHARD = 4

# zarr warns of codecs around shards.
pytestmark = [
    pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning"),
    pytest.mark.usefixtures("access"),
]


def sharding(size: int, *codecs: Any, **kw: Any) -> Callable[[int], ShardingCodec]:
    return lambda ndim: ShardingCodec(
        chunk_shape=(size,) * ndim,
        codecs=[codec(ndim) if callable(codec) else codec for codec in codecs],
        **kw,
    )


# Name -> filters, serializer, compressors, by the number of dimensions.
LAYOUTS: dict[str, tuple[list[Any], Any, list[Any]]] = {
    "plain": ([], lambda ndim: BytesCodec(), []),
    "plain-zstd": ([], lambda ndim: BytesCodec(), [ZstdCodec()]),
    "shards": ([], sharding(INNER, BytesCodec()), []),
    "shards-start-crc32c": (
        [],
        sharding(INNER, BytesCodec(), Crc32cCodec(), index_location="start"),
        [],
    ),
    "shards-of-one": ([], sharding(SHARD, BytesCodec(), Crc32cCodec()), []),
    "nested": ([], sharding(INNER, sharding(1, BytesCodec())), []),
    "nested-gzip": ([], sharding(INNER, sharding(1, BytesCodec()), GzipCodec()), []),
    "around": ([], sharding(INNER, BytesCodec()), [GzipCodec()]),
    "behind": (
        [lambda ndim: TransposeCodec(order=tuple(range(ndim))[::-1])],
        sharding(INNER, BytesCodec()),
        [],
    ),
}


def create(store: Store, layout: str, shape: tuple[int, ...]) -> zarr.Array[Any]:
    filters, serializer, compressors = LAYOUTS[layout]
    ndim = len(shape)
    return zarr.create_array(
        store,
        shape=shape,
        chunks=(SHARD,) * ndim,
        dtype="<i2",
        fill_value=-1,
        filters=[one(ndim) for one in filters],
        serializer=serializer(ndim),
        compressors=compressors,
    )


def twins(
    kind: str, path: Path, layout: str, shape: tuple[int, ...]
) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """Return an array of this pipeline, and one of zarr's own."""
    made: list[zarr.Array[Any]] = []
    for pipeline in ("zarrs.ZarrsCodecPipeline", BATCHED):
        store = MemoryStore() if kind == "memory" else LocalStore(path / str(len(made)))
        with zarr.config.set({"codec_pipeline.path": pipeline}):
            made.append(create(store, layout, shape))
    return made[0], made[1]


@pytest.mark.parametrize("kind", ["local", "memory"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_shrink_write_grow(native: None, tmp_path: Path, layout: str, kind: str) -> None:
    """Shards keep what is beyond the array, chunk by inner chunk; other chunks do not."""
    keeps = layout.startswith(("shards", "nested"))
    for size, value in ((2, 9), (3, 9), (1, 9), (3, -1)):  # -1: the fill value
        ours, theirs = twins(kind, tmp_path / f"{size}{value}", layout, (4,))
        for array in (ours, theirs):
            array[...] = [1, 2, 3, 4]
            array.resize((size,))
            array[...] = value
            array.resize((4,))
        expected = [value] * size + ([1, 2, 3, 4] if keeps else [-1] * 4)[size:]
        assert np.asarray(ours[...]).tolist() == expected
        assert np.asarray(theirs[...]).tolist() == expected


@st.composite
def steps(draw: st.DrawFn) -> tuple[int, list[tuple[tuple[int, ...], Any]]]:
    """The number of dimensions; then shapes, and what is written after resizing to each."""
    ndim = draw(st.integers(1, 3))
    sequence = []
    for _ in range(draw(st.integers(2, 4))):
        shape = tuple(draw(st.integers(1, 7 if ndim < 3 else 6)) for _ in range(ndim))
        whole = draw(st.booleans())
        selection: Any = ...
        if not whole:
            starts = [draw(st.integers(0, n - 1)) for n in shape]
            stops = [draw(st.integers(a + 1, n)) for a, n in zip(starts, shape, strict=True)]
            selection = tuple(map(slice, starts, stops))
        sequence.append((shape, selection))
    return ndim, sequence


@pytest.mark.parametrize("layout", LAYOUTS)
@given(case=steps())
@settings(max_examples=40, deadline=None)
def test_any_sequence(layout: str, case: tuple[int, list[tuple[tuple[int, ...], Any]]]) -> None:
    """Resized and written again and again, an array is what zarr's own pipeline makes of it."""
    ndim, sequence = case
    ours, theirs = twins("memory", Path(), layout, (7,) * ndim)
    for array in (ours, theirs):
        array[...] = np.arange(7**ndim).reshape((7,) * ndim)
    for number, (shape, selection) in enumerate(sequence):
        for array in (ours, theirs):
            array.resize(shape)
            array[selection] = -1 if number % 3 == 2 else 1000 + number
        np.testing.assert_array_equal(ours[...], theirs[...])
    for array in (ours, theirs):
        array.resize((8,) * ndim)
    np.testing.assert_array_equal(ours[...], theirs[...])
    np.testing.assert_array_equal(zarr.open_array(ours.store, mode="r")[...], theirs[...])


def test_inner_chunks_beyond_are_copied_as_they_are(native: None, tmp_path: Path) -> None:
    """What is beyond the array is not decoded: damage in it stays where it is."""
    array = create(LocalStore(tmp_path), "shards-start-crc32c", (4,))
    array[...] = [1, 2, 3, 4]
    array.resize((2,))
    file = tmp_path / "c" / "0"
    blob = bytearray(file.read_bytes())
    blob[-1] ^= 0xFF  # of the inner chunk that is stored last: [3, 4]
    file.write_bytes(blob)
    array[...] = 9
    assert np.asarray(array[...]).tolist() == [9, 9]
    assert file.read_bytes()[-1] == blob[-1]
    array.resize((4,))
    with pytest.raises(zarrs.ChunkError, match=r"inner chunk \(1,\)"):
        array[...]


def test_a_torn_shard_at_the_edge_is_not_replaced(native: None, tmp_path: Path) -> None:
    """Nobody can tell what it holds beyond the array; as with zarr, the write fails."""
    for pipeline in ("zarrs.ZarrsCodecPipeline", BATCHED):
        path = tmp_path / pipeline
        with zarr.config.set({"codec_pipeline.path": pipeline, "codec_pipeline.strict": False}):
            array = create(LocalStore(path), "shards", (6,))
        array[...] = 1
        file = path / "c" / "1"
        file.write_bytes(b"torn")
        with pytest.raises(ValueError, match=r"short|checksum") as caught:
            array[...] = 2
        if isinstance(caught.value, zarrs.ChunkError):
            assert str(caught.value).endswith("delete its key, then write again")
        else:
            assert pipeline == BATCHED
        assert file.read_bytes() == b"torn"
        file.unlink()
        array[...] = 2
        assert np.asarray(array[...]).tolist() == [2] * 6


def test_an_absent_shard_at_the_edge_costs_one_request(native: None) -> None:
    asked: list[str] = []

    class Counting(MemoryStore):
        async def get(self, key: str, *args: Any, **kw: Any) -> Any:
            asked.append(key)
            return await super().get(key, *args, **kw)

    array = create(Counting(), "shards", (10,))
    asked.clear()
    array[...] = 1
    assert asked == ["c/2"]
    assert np.asarray(array[...]).tolist() == [1] * 10
