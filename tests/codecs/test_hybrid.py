"""Chains that mix native stages and codecs in Python: the same values and bytes as zarr's."""

import contextlib
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import stores
import zarr
from helpers import assert_same, make_data, ours_open, stock, stock_read, stored_files
from hybrid import (
    CHAIN,
    CHAINS,
    CHUNK,
    DATA,
    FEW,
    SELECTIONS,
    SHAPE,
    Hybrid,
    chains,
    hooked,
    start,
    steps,
)
from own_codecs import STYLES, Hooked, own
from stores import Kind, Services, each_kind, ours, theirs
from zarr.codecs import GzipCodec, ZstdCodec
from zarr.storage import MemoryStore

import zarrs

pytestmark = [
    # zarr's own pipeline has something to say about codecs around shards
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
]

each_chain = pytest.mark.parametrize("chain", CHAINS, ids=str)


# ------------------------------------------------------------------- the same values as zarr's


@each_chain
def test_there_and_back(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Whole and in parts, written here and read by zarr, and the other way round."""
    data = start(chain)
    array = chain.create(tmp_path / "ours")
    array[...] = data
    assert_same(stock_read(tmp_path / "ours"), data, "zarr")
    array = ours_open(tmp_path / "ours")
    for selection in SELECTIONS:
        assert_same(array[selection], data[selection], str(selection))
    with stock():
        other = chain.create(tmp_path / "theirs")
        other[...] = data
    assert_same(ours_open(tmp_path / "theirs")[...], data, "what zarr wrote")
    expected = steps(array, data)
    with stock():
        steps(other, data)
    for name in ("ours", "theirs"):
        assert_same(stock_read(tmp_path / name), expected, name)
        assert_same(ours_open(tmp_path / name)[...], expected, name)
    assert list(stored_files(tmp_path / "ours")) == list(stored_files(tmp_path / "theirs"))
    steps(ours_open(tmp_path / "theirs"), data)  # merges with what zarr stored
    assert_same(stock_read(tmp_path / "theirs"), expected, "zarr's, merged")


@each_chain
def test_explain(tmp_path: Path, chain: Hybrid) -> None:
    """What runs in Python says so, and everything else is native."""
    explanation = zarrs.explain(chain.create(tmp_path))
    assert explanation.hybrid, str(explanation)
    assert not explanation.native
    in_python = [part for part in explanation.stages if part.python]
    assert len(in_python) == chain.python, str(explanation)
    for part in in_python:
        assert part.reason
        assert not part.native
        assert "in Python" in str(part)


def test_explain_by_stage(tmp_path: Path) -> None:
    found = zarrs.explain(CHAIN["turn-shards-xor-zstd"].create(tmp_path)).stages
    kinds = ["Python" if part.python else "native" for part in found]
    assert [part.name for part in found] == [
        *("transpose", "sharding_indexed", "sharding_indexed > bytes", "own.xor.threaded", "zstd")
    ]
    assert kinds == ["native", "native", "native", "Python", "native"]


@chains(*FEW)
@each_kind("memory", "fsspec-memory", "async-only", "own-ranges", "sync-spy", "local-own-all")
def test_stores(
    native: None, tmp_path: Path, services: Services, kind: Kind, chain: Hybrid
) -> None:
    store = kind.new(tmp_path, services)
    data = start(chain)
    array = chain.create(store)
    array[...] = data
    assert_same(theirs(store)[...], data, "zarr")
    expected = steps(array, data)
    assert_same(theirs(store)[...], expected, "zarr, after merges")
    for selection in SELECTIONS:
        assert_same(ours(store)[selection], expected[selection], str(selection))


@chains(*FEW, "reverse-shards", "my-sharding", "v2-tail-C")
def test_missing_and_empty(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """Missing chunks are fill values; empty ones are not stored, unless that is asked for."""
    array = chain.create(tmp_path / "a", fill_value=5)
    assert_same(array[...], np.full(SHAPE, 5, chain.dtype))
    array[...] = 5
    assert not stored_files(tmp_path / "a")
    array[1, 1] = 6
    assert len(stored_files(tmp_path / "a")) == 1
    array[1, 1] = 5
    assert not stored_files(tmp_path / "a")
    keep = {"write_empty_chunks": True}
    kept = chain.create(tmp_path / "b", fill_value=5, config=keep)
    kept[...] = 5
    with stock():
        chain.create(tmp_path / "c", fill_value=5, config=keep)[...] = 5
    assert list(stored_files(tmp_path / "b")) == list(stored_files(tmp_path / "c"))
    assert_same(stock_read(tmp_path / "b"), np.full(SHAPE, 5, chain.dtype))


@pytest.mark.parametrize("style", STYLES)
def test_0d(native: None, tmp_path: Path, style: str) -> None:
    codecs = [own("xor", style), ZstdCodec()]
    how = {"filters": [own("fold", style)], "serializer": own("text", style), "compressors": codecs}
    array = zarr.create_array(tmp_path, shape=(), dtype="f8", **how)
    assert array[...] == 0
    array[...] = 2.5
    assert array[()] == 2.5
    assert stock_read(tmp_path) == 2.5


@chains("xor-async-zstd-crc32c", "reverse-sync", "many", "v2-negative-F")
def test_dtypes_of_edges(native: None, tmp_path: Path, chain: Hybrid) -> None:
    """No items at all, and one chunk that is bigger than the array."""
    empty = chain.create(tmp_path / "a", (0, 4))
    empty[...] = 1
    assert np.asarray(empty[...]).shape == (0, 4)
    big = chain.create(tmp_path / "b", (3, 2), chunks=(8, 6))
    big[...] = np.arange(6).reshape(3, 2)
    assert_same(stock_read(tmp_path / "b"), np.arange(6, dtype=chain.dtype).reshape(3, 2))
    assert_same(big[1:, 1], np.array([3, 5], chain.dtype))


CATEGORIES = numcodecs.Categorize(["red", "green", "blue"], dtype="<U5", astype="u1")


@pytest.mark.parametrize("order", "CF")
def test_categorize(native: None, tmp_path: Path, order: Any) -> None:
    data = np.array(["red", "green", "blue", ""] * 5, "<U5").reshape(4, 5)
    array = zarr.create_array(
        tmp_path, shape=(4, 5), chunks=(3, 2), dtype="<U5", zarr_format=2, order=order,
        filters=[CATEGORIES], compressors=numcodecs.Zstd(1), fill_value="",
    )  # fmt: skip
    array[...] = data
    array[1:3, 1] = "red"
    data[1:3, 1] = "red"
    assert_same(array[...], data, "ours")
    assert_same(stock_read(tmp_path), data, "zarr")


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("codec", [numcodecs.JSON(), numcodecs.MsgPack()], ids=str)
@pytest.mark.parametrize("compressor", [None, numcodecs.Zstd(1), numcodecs.BZ2(1)], ids=str)
def test_object_codecs_of_numbers(native: None, codec: Any, compressor: Any, order: Any) -> None:
    """Arrays that zarr makes but does not open again; of order F it does not get back its own."""
    found = []
    for pipeline in (contextlib.nullcontext, stock):
        with pipeline():
            array = zarr.create_array(
                MemoryStore(), shape=SHAPE, chunks=CHUNK, dtype="i4", zarr_format=2, order=order,
                filters=[codec], compressors=compressor,
            )  # fmt: skip
            array[...] = (data := make_data("i4", SHAPE))
            whole = array[...]
            array[3:9, 2:7] = 5
            array[0, 0] = 6
            found.append((stores.stored(array.store), whole, array[...], array[2:9:3, 1]))
    if order == "C":
        assert_same(found[0][1], data)
    assert found[0][0] == found[1][0]
    for mine, of_zarr in zip(found[0][1:], found[1][1:], strict=True):
        assert_same(mine, of_zarr)


def test_pickled(native: None, tmp_path: Path) -> None:
    array = CHAIN["many"].create(tmp_path)
    again = pickle.loads(pickle.dumps(array))
    again[...] = (data := start(CHAIN["many"]))
    assert_same(pickle.loads(pickle.dumps(again))[2:9], data[2:9])
    assert_same(array[...], data)


# ------------------------------------------------------------------------- sizes, and calls


@pytest.mark.parametrize("times", [1, 10, 100])
@pytest.mark.parametrize("n", [16, 1000, 10000])
def test_expansion(native: None, tmp_path: Path, times: int, n: int) -> None:
    """Chunks that grow a lot on their way, and shrink again."""
    kind = {1: "xor", 10: "repeat", 100: "repeatmore"}[times]
    codecs = [own(kind, "async"), GzipCodec(level=1), own("repeat"), ZstdCodec()]
    array = zarr.create_array(tmp_path, shape=(2 * n,), chunks=(n,), dtype="i4", compressors=codecs)
    array[...] = (data := np.arange(2 * n, dtype="i4"))
    array[n - 2 : n + 2] = data[n - 2 : n + 2]
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)


def test_every_chunk_once(native: None, tmp_path: Path) -> None:
    """However much they expand, chunks are encoded once, and decoded once."""
    calls: Counter[str] = Counter()

    def hook(now: str, data: Any, spec: Any) -> Any:
        calls[now] += 1
        return data

    Hooked.hooks["k"] = hook
    codecs = [own("repeatmore"), own("repeatmore"), Hooked("k"), ZstdCodec()]
    array = zarr.create_array(tmp_path, shape=(256,), chunks=(64,), dtype="i4", compressors=codecs)
    array[...] = np.arange(256)
    assert calls == {"encode": 4}
    calls.clear()
    assert_same(array[...], np.arange(256, dtype="i4"))
    assert calls == {"decode": 4}


def test_encoder_is_called_once(native: None) -> None:
    """An encoder that expands need not return the same twice."""
    calls = []

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            return spec.prototype.buffer.from_bytes(data.to_bytes()[:64])
        calls.append(now)
        tail = bytes(200_000 * len(calls))
        return spec.prototype.buffer.from_bytes(data.to_bytes() + tail)

    array = hooked(hook, compressors=[Hooked("k")])
    array[:4, :4] = DATA[:4, :4]
    assert_same(array[:4, :4], DATA[:4, :4])
    assert len(calls) == 1


@pytest.mark.parametrize("n", [12, 15, 18])
def test_many_stages(native: None, tmp_path: Path, n: int) -> None:
    """As many as one likes, with chunks of a megabyte."""
    with zarr.config.set({"codec_pipeline.strict": n <= 16}):  # more have no native form
        array = zarr.create_array(
            tmp_path, shape=(2**20,), chunks=(2**20,), dtype="u1", compressors=[own("xor")] * n
        )
        array[...] = 3
        assert_same(array[:5], np.full(5, 3, "u1"))
