"""Chunks of more than a mebibyte, which are taken apart, entered in the middle or stopped early.

And what a hostile look at the code found, each a test.
"""

import gzip
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, chunk_file, ours_open, run_child, stock_read
from numcodecs import Zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

import zarrs
from zarrs.runtime import _threads

pytestmark = pytest.mark.usefixtures("access")

SHAPE, CHUNKS = (97, 130, 150), (64, 96, 128)  # 3 MiB of float32 a chunk
SELECTIONS: list[Any] = [
    (...,),
    (slice(10, 90), slice(20, 110), slice(5, 140)),
    (slice(None), slice(None), 77),
    (slice(None), 100, slice(None)),
    (70,),
    (slice(1, 95, 3), slice(None, None, 5), slice(2, None, 7)),
    (slice(None, None, 2**56), slice(None), slice(3, 9, 2**60)),
    (63, 95, 127),
    (slice(60, 68), slice(90, 100), slice(None)),
]
CHAINS: dict[str, dict[str, Any]] = {
    "raw": {"compressors": None},
    "crc32c": {"compressors": [Crc32cCodec()]},
    "blosc": {"compressors": [BloscCodec(cname="lz4", typesize=4)]},
    "blosc-stored": {"compressors": [BloscCodec(clevel=0, typesize=4)]},
    "blosc-odd-blocks": {"compressors": [BloscCodec(typesize=4, blocksize=30_012)]},
    "zstd": {"compressors": [ZstdCodec()]},
    "gzip": {"compressors": [GzipCodec(level=1)]},
    "turned-big": {
        "filters": [TransposeCodec(order=(2, 0, 1))],
        "serializer": BytesCodec(endian="big"),
        "compressors": [BloscCodec(cname="zstd", clevel=1, typesize=4)],
    },
    "turned-crc32c": {
        "filters": [TransposeCodec(order=(2, 0, 1))],
        "serializer": BytesCodec(endian="big"),
        "compressors": [Crc32cCodec()],
    },
    "turned-raw": {"filters": [TransposeCodec(order=(1, 2, 0))], "compressors": None},
}


def _data(dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    size = np.dtype(dtype).itemsize
    # not random enough to be stored uncompressed, and not the same in any two rows
    raw = rng.integers(0, 40, (*SHAPE, size), dtype="u1")
    return raw.view(dtype).reshape(SHAPE)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", "V3"])
@pytest.mark.parametrize("name", CHAINS)
def test_selections(native: None, tmp_path: Path, name: str, dtype: str, order: Any) -> None:
    if "serializer" in CHAINS[name] and dtype == "V3":
        dtype = ">u2"
    data = _data(dtype)
    array = zarr.create_array(
        tmp_path,
        shape=SHAPE,
        chunks=CHUNKS,
        dtype=data.dtype,
        config={"order": order},
        **CHAINS[name],
    )
    array[...] = data
    for selection in SELECTIONS:
        assert_same(array[selection], data[selection], str(selection))
    for selection in SELECTIONS[1:]:
        array[selection] = value = np.roll(data[selection], 1)
        data[selection] = value
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path), data)
    # a missing chunk among the others is the fill value
    chunk_file(tmp_path, 3, 1, 0, 1).unlink()
    data[64:, :96, 128:] = np.zeros((), data.dtype)
    for selection in SELECTIONS:
        assert_same(array[selection], data[selection], str(selection))


@pytest.mark.parametrize("name", CHAINS)
def test_one_bad_chunk_among_good_ones(native: None, tmp_path: Path, name: str) -> None:
    """It is named, no descriptor stays open, and the others can still be read."""
    data = _data("<f4")
    array = zarr.create_array(tmp_path, shape=SHAPE, chunks=CHUNKS, dtype="<f4", **CHAINS[name])
    array[...] = data
    bad = chunk_file(tmp_path, 3, 0, 0, 0)
    bad.write_bytes(bad.read_bytes()[:-1000])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(zarrs.ChunkError, match="'c/0/0/0'"):
            array[...]
    assert len(os.listdir("/proc/self/fd")) == before
    assert_same(array[64:], data[64:])


@pytest.mark.parametrize("place", [0, 1_500_000, -5, -1])
def test_checksums_of_what_is_not_selected(native: None, tmp_path: Path, place: int) -> None:
    """A point of a big raw chunk is not returned before all of the chunk has been verified."""
    array = zarr.create_array(tmp_path, shape=SHAPE, chunks=SHAPE, dtype="<f4", **CHAINS["crc32c"])
    array[...] = data = _data("<f4")
    assert_same(array[50, 60, 70], data[50, 60, 70])
    file = chunk_file(tmp_path, 3, 0, 0, 0)
    encoded = bytearray(file.read_bytes())
    encoded[place] ^= 4
    file.write_bytes(encoded)
    for selection in ((50, 60, 70), (..., 5), ...):
        with pytest.raises(zarrs.ChunkError, match="checksum"):
            array[selection]
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        assert_same(ours_open(tmp_path)[50, 60, 70], data[50, 60, 70])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("endian", ["little", "big"])
def test_slices_with_a_checksum(
    native: None, tmp_path: Path, threads: int, in_memory: bool, endian: Any
) -> None:
    """Threads share a chunk whose checksum is of all of it: its slices' are joined."""
    with zarr.config.set({"threading.max_workers": threads}):
        array = zarr.create_array(
            {} if in_memory else tmp_path,
            shape=SHAPE,
            chunks=SHAPE,
            dtype="<f4",
            serializer=BytesCodec(endian=endian),
            compressors=[Crc32cCodec()],
        )
        array[...] = data = _data("<f4")
        for selection in SELECTIONS:
            assert_same(array[selection], data[selection], str(selection))


@pytest.mark.parametrize(
    ("name", "threads"), [("raw", 3), ("crc32c", 3), ("blosc", 3), ("zstd", 1)]
)
def test_threads_for_one_chunk(
    native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, threads: int
) -> None:
    """Raw, with or without a checksum, or in Blosc's blocks; everything else has one."""
    monkeypatch.setattr("zarrs._config.available_cpus", lambda: 64)
    with zarr.config.set({"threading.max_workers": 3}):
        array = zarr.create_array(tmp_path, shape=SHAPE, chunks=SHAPE, dtype="<f4", **CHAINS[name])
        array[...] = _data("<f4")
    claimed: list[int] = []
    claim = _threads.claim

    def recording(wanted: int, limit: int) -> int:
        claimed.append(wanted)
        return claim(wanted, limit)

    monkeypatch.setattr(_threads, "claim", recording)
    assert_same(array[:90], _data("<f4")[:90])
    assert claimed == [threads]


def test_blosc_written_by_several_threads(native: None, tmp_path: Path) -> None:
    """Blocks in any order, as Blosc's own threads leave them."""
    data = _data("<f4")
    with zarr.config.set({"threading.max_workers": 1}):
        array = zarr.create_array(
            tmp_path, shape=SHAPE, chunks=SHAPE, dtype="<f4", **CHAINS["blosc-odd-blocks"]
        )
        array[...] = data
    file = chunk_file(tmp_path, 3, 0, 0, 0)
    head, blocks = _take_apart(file.read_bytes())
    order = np.random.default_rng(0).permutation(len(blocks))
    starts = np.zeros(len(blocks), "<i4")
    position, body = 16 + 4 * len(blocks), b""
    for b in order:
        starts[b] = position + len(body)
        body += blocks[b]
    file.write_bytes(head + starts.tobytes() + body)
    for selection in SELECTIONS:
        assert_same(array[selection], data[selection], str(selection))


def _take_apart(buffer: bytes) -> tuple[bytes, list[bytes]]:
    nbytes, blocksize, _ = np.frombuffer(buffer, "<i4", 3, 4)
    n = -(-nbytes // blocksize)
    ends = [*np.frombuffer(buffer, "<i4", n, 16), len(buffer)]
    return buffer[:16], [buffer[a:b] for a, b in itertools.pairwise(ends)]


@pytest.mark.parametrize("codec", ["zstd", "gzip"])
def test_prefixes_of_many_frames(native: None, tmp_path: Path, codec: str) -> None:
    """Streams of several frames or members, with others' oddities between them."""
    data = _data("<f4")
    array = zarr.create_array(tmp_path, shape=SHAPE, chunks=SHAPE, dtype="<f4", **CHAINS[codec])
    array[0, 0, 0] = 1
    raw = data.tobytes()
    parts = [raw[i : i + 123_456] for i in range(0, len(raw), 123_456)]
    skippable = b"\x50\x2a\x4d\x18" + (1000).to_bytes(4, "little") + bytes(1000)
    encoded = [
        Zstd(level=1, checksum=True).encode(p) + skippable
        if codec == "zstd"
        else gzip.compress(p, 1) + bytes(i % 3)
        for i, p in enumerate(parts)
    ]
    chunk_file(tmp_path, 3, 0, 0, 0).write_bytes(b"".join(encoded))
    for selection in SELECTIONS:
        assert_same(array[selection], data[selection], str(selection))


@pytest.mark.parametrize(
    "codecs",
    [
        [Crc32cCodec(), ZstdCodec(), Crc32cCodec(), ZstdCodec()],
        [GzipCodec(), GzipCodec(), Crc32cCodec(), GzipCodec()],
        [Crc32cCodec(), GzipCodec(), Crc32cCodec(), GzipCodec(), Crc32cCodec()],
        [ZstdCodec(), BloscCodec(), Crc32cCodec(), Crc32cCodec(), ZstdCodec()],
    ],
)
def test_checksums_between_compressors(native: None, tmp_path: Path, codecs: list[Any]) -> None:
    array = zarr.create_array(
        tmp_path, shape=(90_000,), chunks=(90_000,), dtype="i8", compressors=codecs
    )
    data = np.random.default_rng(0).integers(0, 1000, 90_000)
    array[...] = data
    array[7] = data[7] = -1
    assert_same(array[...], data)
    assert_same(array[5:100:3], data[5:100:3])
    assert_same(stock_read(tmp_path), data)


def test_chunks_too_big_for_memory(tmp_path: Path) -> None:
    """zarr takes such metadata; nothing may be read or written out of bounds."""
    array = zarr.create_array(
        tmp_path / "missing",
        shape=(2**40, 2**40),
        chunks=(2**40, 2**40),
        dtype="u1",
        fill_value=7,
        compressors=None,
    )
    assert_same(array[:2, 5:7], np.full((2, 2), 7, "u1"))
    n = 7187772424459096327
    for outer in ([], [GzipCodec()], [ZstdCodec(), Crc32cCodec()]):
        path = tmp_path / str(len(outer))
        array = zarr.create_array(
            path, shape=(n,), chunks=(n,), dtype="u1", compressors=[GzipCodec(), *outer]
        )
        file = chunk_file(path, 3, 0)
        file.parent.mkdir()
        file.write_bytes(gzip.compress(os.urandom(100_000)))
        with pytest.raises((ValueError, RuntimeError, MemoryError, OSError)):
            array[:10]


def child_read_shared_blocks(path: str) -> None:
    """Report what reading raises, and the memory it took, in MiB."""
    import resource

    from helpers import emit

    array = ours_open(path)
    array[0]  # what the first read of all needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        array[:]
        raised = "nothing"
    except zarrs.ChunkError:
        raised = "ChunkError"
    emit([raised, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024])


def test_blosc_blocks_that_share_their_bytes(tmp_path: Path) -> None:
    """A small file cannot make a reader use memory that it has no right to."""
    n, blocksize = 1 << 20, 16
    array = zarr.create_array(
        tmp_path, shape=(2 * n,), chunks=(n,), dtype="u1", compressors=[BloscCodec(typesize=1)]
    )
    array[:] = 1
    n_blocks = n // blocksize
    body = bytes(1 << 16)
    size = 16 + 4 * n_blocks + len(body)
    header = b"\x02\x01\x20\x01" + b"".join(
        int(x).to_bytes(4, "little") for x in (n, blocksize, size)
    )
    starts = np.full(n_blocks, 16 + 4 * n_blocks, "<i4").tobytes()
    chunk_file(tmp_path, 3, 1).write_bytes(header + starts + body)
    raised, mebibytes = run_child(child_read_shared_blocks, str(tmp_path)).check()[-1]
    assert raised == "ChunkError"
    assert mebibytes < 64
