"""Arrays in stores that are about to fail, and what is asked of their errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from faulty_http import Request, ToldStore, fsspec_store, in_time, obstore_store
from helpers import assert_same
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import cpu
from zarr.core.buffer.core import Buffer
from zarr.storage import MemoryStore

import zarrs

FILL = -77
KEY = "c/0/0"
WIDE = (1024, 1024)  # 4 MiB: read in parts
INNER = (64, 1024)


@dataclass(frozen=True, eq=False)
class Case:
    """A way in which a chunk is fetched.

    Parameters
    ----------
    name : str
    arguments : callable
        Those of ``zarr.create_array``.
    rows : object
        What is selected, orthogonally, in an array of 2048 rows of which the first chunk has 1024.
    ranges : bool
        The store is asked for ranges.
    verified : bool
        Wrong bytes are found.
    """

    name: str
    arguments: Callable[[], dict[str, Any]] = field(repr=False)
    rows: slice | Sequence[int]
    ranges: bool = True
    verified: bool = True

    def __str__(self) -> str:
        return self.name

    def create(self, store: Any) -> zarr.Array[Any]:
        return zarr.create_array(
            store=store, shape=(2048, 1024), dtype="<i4", fill_value=FILL, **self.arguments()
        )

    def read(self, array: zarr.Array[Any]) -> np.ndarray:
        # into memory of which no value is right: what is forgotten is seen
        out = np.full(self.expected(np.empty((2048, 1024), "i1")).shape, -12345, "<i4")
        array.get_orthogonal_selection(self.places, out=cpu.NDBuffer.from_numpy_array(out))
        return out

    def expected(self, data: np.ndarray) -> np.ndarray:
        return np.asarray(data[self.places])

    @property
    def places(self) -> Any:
        return self.rows if isinstance(self.rows, slice) else list(self.rows)


def sharded(
    *codecs: Any, location: Literal["start", "end"] = "end"
) -> Callable[[], dict[str, Any]]:
    def arguments() -> dict[str, Any]:
        serializer = ShardingCodec(
            chunk_shape=INNER, codecs=[BytesCodec(), *codecs], index_location=location
        )
        return {"chunks": WIDE, "serializer": serializer, "compressors": [], "filters": []}

    return arguments


def plain(*codecs: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {"chunks": WIDE, "compressors": list(codecs), "filters": []}


FAR_APART = (3, 1000, 1100)  # too far to be fetched in one range
CASES = [
    Case("chunk", plain(ZstdCodec(), Crc32cCodec()), slice(1000, 1100), ranges=False),
    Case("raw-part", plain(), slice(10, 30), verified=False),
    Case("shard-one-range", sharded(Crc32cCodec()), slice(100, 140)),
    Case("shard-ranges", sharded(Crc32cCodec()), FAR_APART),
    Case("shard-index-at-start", sharded(ZstdCodec(), Crc32cCodec(), location="start"), FAR_APART),
]
CASE = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=str)


@cache
def values(seed: int = 0) -> np.ndarray:
    """Such that nothing gets smaller, and nothing is equal to what other seeds give."""
    data = np.random.default_rng(seed).integers(0, 2**24, (2048, 1024), dtype="<i4")
    return data * 64 + seed


@cache
def stored(case: Case, seed: int = 0) -> dict[str, bytes]:
    """What a store holds of the array of a case."""
    held: dict[str, Buffer] = {}
    case.create(MemoryStore(held))[...] = values(seed)
    return {key: value.to_bytes() for key, value in held.items()}


def told(case: Case, seed: int = 0) -> ToldStore:
    store = ToldStore()
    for key, value in stored(case, seed).items():
        store.put(key, value)
    return store


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


def assert_names(error: BaseException, store: Any, key: str = KEY) -> None:
    """The chunk is in the message, or the key and the store are in a note."""
    if isinstance(error, zarrs.ChunkError):
        assert key in str(error)
        assert "array" in str(error)
    else:
        assert repr(key) in notes(error), repr(error)
        assert type(store).__name__ in notes(error), repr(error)


def caught(call: Callable[..., Any]) -> Exception | None:
    """The exception that a call ends with in bounded time, if it does."""
    try:
        in_time(call)
    except Exception as error:
        return error
    return None


STORES = {"fsspec": fsspec_store, "obstore": obstore_store}


def cut(buffer: Any, n: int) -> Any:
    return cpu.Buffer.from_bytes(buffer.to_bytes()[:n])


def check_deleted_after_the_index(store: ToldStore) -> None:
    """What is deleted between the index of a shard and its inner chunks reads as the fill value."""
    case = CASE["shard-ranges"]
    array = zarr.open_array(store=store)

    async def hook(request: Request) -> Any:
        found = await request.go_on()
        store.put(KEY, None)
        return found

    store.hook = hook
    result = in_time(lambda: case.read(array))
    assert (result[:2] == FILL).all()
    assert_same(result[2], values()[1100])
