"""Inner chunks with codecs that zarr's own sharding hands to this pipeline."""

from pathlib import Path
from typing import Any

import pytest
import zarr
from helpers import assert_same, make_data, selections, stock_read
from shardings import DTYPE
from shards import INNER, SHAPE, SHARDING, create_sharded
from zarr.abc.codec import ArrayArrayCodec, BytesBytesCodec
from zarr.codecs import ShardingCodec
from zarr.core.buffer.cpu import Buffer, NDBuffer
from zarr.core.codec_pipeline import BatchedCodecPipeline

import zarrs

# zarr's own pipeline has something to say about codecs around shards
pytestmark = pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec")


class Xor(BytesBytesCodec):
    """A codec in Python that nobody knows: every byte changed."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> "Xor":
        return cls()

    def to_dict(self) -> Any:
        return {"name": "tests-xor", "configuration": {}}

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return Buffer.from_array_like(chunk_bytes.as_numpy_array().view("u1") ^ 0x55)

    async def _encode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        return await self._decode_single(chunk_bytes, chunk_spec)


class Negate(ArrayArrayCodec):
    """A codec in Python that nobody knows: every number changed."""

    is_fixed_size = True

    @classmethod
    def from_dict(cls, data: Any) -> "Negate":
        return cls()

    def to_dict(self) -> Any:
        return {"name": "tests-negate", "configuration": {}}

    def compute_encoded_size(self, input_byte_length: int, _chunk_spec: Any) -> int:
        return input_byte_length

    async def _decode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        return NDBuffer.from_numpy_array(~chunk_array.as_numpy_array())

    async def _encode_single(self, chunk_array: Any, chunk_spec: Any) -> Any:
        return await self._decode_single(chunk_array, chunk_spec)


# what stands around the shard, and whether the chain of the inner chunks has a stranger too
STRANGERS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "after": ({"compressors": [Xor()]}, []),
    "before": ({"filters": [Negate()]}, []),
    "both": ({"filters": [Negate()], "compressors": [Xor()]}, []),
    "inside": ({}, [Xor()]),
    "everywhere": ({"filters": [Negate()], "compressors": [Xor()]}, [Xor()]),
}


@pytest.fixture
def zarr_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of places that zarr's own pipeline reads from and writes to during the test."""
    zarr.registry.register_codec("tests-xor", Xor)
    zarr.registry.register_codec("tests-negate", Negate)
    seen: list[str] = []

    def spy(name: str) -> None:
        original = getattr(BatchedCodecPipeline, name)

        async def call(self: Any, batch_info: Any, *args: Any, **kw: Any) -> Any:
            batch = list(batch_info)
            seen.extend(type(entry[0]).__name__ for entry in batch)
            return await original(self, batch, *args, **kw)

        monkeypatch.setattr(BatchedCodecPipeline, name, call)

    spy("read")
    spy("write")
    return seen


@pytest.mark.parametrize("name", ["index-end-little-crc32c", "zstd-start", "inside-rotated-zstd"])
@pytest.mark.parametrize("where", STRANGERS)
def test_zarr_calls_from_inside(
    tmp_path: Path, zarr_calls: list[str], where: str, name: str
) -> None:
    """Codecs in Python before, inside or after a shard: all the rest stays here."""
    around, inside = STRANGERS[where]
    sharding = SHARDING[name]
    serializer = ShardingCodec(
        chunk_shape=INNER, codecs=[*sharding.inner(3), *inside], **sharding.layout.keywords
    )
    kw: dict[str, Any] = {**around, "serializer": serializer, "fill_value": 3}
    data = make_data(DTYPE, SHAPE)
    array = create_sharded(tmp_path, sharding, **kw)
    assert zarrs.explain(array).hybrid
    array[...] = data
    array[3:14, 5:9, 2:] = data[3:14, 5:9, 2:] = 8
    array[12:16] = data[12:16] = 3
    assert_same(array[...], data)
    for selection in selections(SHAPE, seed=4, count=0)[::5]:
        assert_same(array[selection], data[selection], f"read {selection}")
    called = set(zarr_calls)
    assert_same(stock_read(tmp_path), data, "zarr")
    assert called == set()
    assert zarr_calls  # the spy works


def test_sharding_in_memory(tmp_path: Path, zarr_calls: list[str]) -> None:
    """A store in memory makes zarr do the sharding, too."""
    store = zarr.storage.MemoryStore()
    array = create_sharded(store, SHARDING["zstd"], fill_value=3)
    data = make_data(DTYPE, SHAPE)
    array[...] = data
    array[3:14, 5:9, 2:] = data[3:14, 5:9, 2:] = 8
    assert_same(array[...], data)
    assert_same(array[4:27:5, 3], data[4:27:5, 3])
    assert set(zarr_calls) <= {"StorePath"}
