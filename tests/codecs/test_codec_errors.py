"""Errors of codecs in Python, and of native codecs behind them."""

import asyncio
import gc
import resource
import struct
import threading
import weakref
from pathlib import Path
from typing import Any

import numcodecs
import pytest
import zarr
from helpers import assert_same, chunk_file, emit, ours_open, run_child, stored_files
from hybrid import CHAIN, DATA, start
from own_codecs import Hooked, HookedAsync, Tail, own
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.core.buffer import cpu
from zarr.storage import MemoryStore

pytestmark = [
    # zarr's own pipeline has something to say about codecs around shards
    pytest.mark.filterwarnings("ignore:Combining a .sharding_indexed. codec"),
    pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3"),
]


class OwnError(Exception):
    """Not known to anybody."""


class OwnBaseError(BaseException):
    """Not even an exception."""


ERRORS = [ValueError, KeyError, TypeError, OSError, MemoryError, OwnError, OwnBaseError]


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_exceptions(
    native: None, tmp_path: Path, kind: type[BaseException], asynchronous: bool, sharded: bool
) -> None:
    """They come as they are, with a note of the chunk and the codec; old chunks stay."""
    failing = ""

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == failing and data.to_bytes()[:4] == b"\x07\0\0\0":
            raise kind("said so")
        return data

    async def later(now: str, data: Any, spec: Any) -> Any:
        await asyncio.sleep(0)
        return hook(now, data, spec)

    Hooked.hooks["k"], HookedAsync.hooks["k"] = hook, later
    codec: Any = (HookedAsync if asynchronous else Hooked)("k")
    shards: dict[str, Any] = {"shards": (8, 4)} if sharded else {}
    array = zarr.create_array(
        tmp_path, shape=(8, 8), chunks=(4, 4), dtype="i4", compressors=[codec], **shards
    )
    data = DATA + 100
    data[:4, 4:] = 7
    chunk = "c/0/1"
    array[...] = data
    before = stored_files(tmp_path)
    for stage, doing, act in (
        ("decode", "reading", lambda: array[...]),
        ("decode", "reading", lambda: array[1:3, 5]),
        ("decode", "writing", lambda: array.set_basic_selection((3, 5), 1)),
        ("encode", "writing", lambda: array.set_basic_selection((..., slice(4, 8)), data[:, 4:])),
    ):
        failing = stage
        with pytest.raises(kind, match="said so") as caught:
            act()
        assert type(caught.value) is kind
        [text] = caught.value.__notes__
        assert chunk in text
        assert codec.name in text
        assert f"{codec.name!r} failed while {doing}" in text
        if sharded:
            assert "inner chunk (0, 0)" in text
        assert any(entry.name == "hook" for entry in caught.traceback)
    assert stored_files(tmp_path) == before
    failing = ""
    assert_same(array[...], data)


@pytest.mark.parametrize("inner", [False, True])
def test_exceptions_are_let_go(native: None, tmp_path: Path, inner: bool) -> None:
    """Of many that are raised one is reported; the others do not live on, nor their chunks."""
    raised: list[weakref.ref[OwnError]] = []
    gate = threading.Barrier(2)

    def hook(now: str, data: Any, spec: Any) -> Any:
        if now == "decode":
            try:
                gate.wait(0.2)  # two at the same time, if there are two threads
            except threading.BrokenBarrierError:
                gate.reset()
            error = OwnError("one of many")
            raised.append(weakref.ref(error))
            raise error
        return data

    Hooked.hooks["k"] = hook
    shards: dict[str, Any] = {"shards": (128, 64)} if inner else {}
    array = zarr.create_array(
        tmp_path, shape=(128, 64), chunks=(4, 4), dtype="i4", compressors=[Hooked("k")], **shards
    )
    array[...] = 7
    with zarr.config.set({"threading.max_workers": 2}):
        array = ours_open(tmp_path)
    for _ in range(3):
        try:
            array[...]
        except OwnError:
            pass
        else:
            pytest.fail("nothing was raised")
    gc.collect()
    assert raised
    assert not [ref for ref in raised if ref() is not None]


def test_native_errors_behind_python(native: None, tmp_path: Path) -> None:
    """Damage around a stage in Python is told of as ever."""
    array = CHAIN["xor-sync-zstd-crc32c"].create(tmp_path)
    array[...] = start(CHAIN["xor-sync-zstd-crc32c"])
    file = chunk_file(tmp_path, 3, 1, 1)
    raw = bytearray(file.read_bytes())
    raw[5] ^= 1
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=r"'crc32c' failed while reading chunk 'c/1/1'"):
        array[...]
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="c/1/1"):
        array[...]


def claims_of_petabytes() -> dict[str, bytes]:
    """Tiny chunks whose headers promise a lot."""
    promise = struct.pack("<Q", 2**50)
    return {
        "zstd": b"\x28\xb5\x2f\xfd\xe0" + promise + b"\1\0\0",
        "zstd-window": b"\x28\xb5\x2f\xfd\xc0\xff" + promise + b"\1\0\0",
        "zstd-unknown": b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + b"\1\0\0",
        "blosc": struct.pack("<4B3I", 2, 1, 0x21, 1, 0x7FFFFF00, 65536, 64) + bytes(48),
        "blosc-too-big": struct.pack("<4B3I", 2, 1, 0x21, 1, 0xFFFFFFFF, 65536, 64) + bytes(48),
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\x03\x00" + bytes(4) + b"\xff\xff\xff\x7f",
        "lz4": struct.pack("<I", 0x7E000000) + b"\x10a",
        "lz4-too-big": b"\xff\xff\xff\xff\x10a",
    }


def child_hostile() -> None:
    """Read them behind a stage in Python, and as strings; what memory that took."""
    native_codecs: dict[str, Any] = {
        "zstd": ZstdCodec(),
        "blosc": BloscCodec(),
        "gzip": GzipCodec(),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, payload in claims_of_petabytes().items():
        kind = name.split("-")[0]
        for strings in (False, True):
            store = MemoryStore()
            how: dict[str, Any] = {"dtype": str if strings else "i4"}
            how["fill_value"] = "" if strings else 0
            if kind == "lz4":
                how |= {"zarr_format": 2, "compressors": numcodecs.LZ4()}
                if not strings:
                    how["filters"] = [Tail()]
            else:
                codecs = [native_codecs[kind]]
                how["compressors"] = codecs if strings else [own("xor"), *codecs]
            array = zarr.create_array(store, shape=(4,), chunks=(4,), **how)
            key = "0" if kind == "lz4" else "c/0"
            store._store_dict[key] = cpu.Buffer.from_bytes(payload)
            try:
                array[...]
            except (ValueError, RuntimeError, AssertionError) as error:
                emit([name, strings, type(error).__name__])
    emit(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def test_claims_of_petabytes() -> None:
    """What the size of is open is not believed either."""
    *failures, grown = run_child(child_hostile).check()
    assert len(failures) == 2 * len(claims_of_petabytes()), failures
    assert grown < 64 * 1024, f"{grown} KiB"
