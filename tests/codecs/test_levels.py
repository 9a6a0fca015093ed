"""What a level of compression means: how small chunks get, and what is done for it."""

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
import zstandard
from zarr.abc.codec import BytesBytesCodec
from zarr.codecs import GzipCodec, ZstdCodec

import zarrs

BLOCK = 128 * 1024  # the most that a block of Zstandard holds


def stored(data: npt.NDArray[np.generic], codec: BytesBytesCodec, store: Path) -> bytes:
    """Return the one chunk of an array."""
    array = zarr.create_array(
        store, shape=data.shape, chunks=data.shape, dtype=data.dtype, compressors=codec
    )
    array[...] = data
    return (store / "c" / "/".join("0" * data.ndim)).read_bytes()


def block_count(frame: bytes) -> int:
    """Return how many blocks a Zstandard frame has, by the headers of RFC 8878, 3.1.1.2."""
    position = zstandard.frame_header_size(frame)
    count, is_last = 0, False
    while not is_last:
        header = int.from_bytes(frame[position : position + 3], "little")
        is_last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == 1 else size)  # one byte, many times; else as it says
        count += 1
    return count


@pytest.mark.parametrize("level", [0, 3, 4])
def test_blocks_are_not_split(level: int, tmp_path: Path) -> None:
    z, y, x = np.ogrid[:64, :128, :128]
    data = (x + y**2 // 32 + z**3).astype("u2")
    whole = -(-data.nbytes // BLOCK)

    frame = stored(data, ZstdCodec(level=level), tmp_path / "chunk")
    assert block_count(frame) == whole
    assert zstandard.decompress(frame) == data.tobytes()
    if zstandard.ZSTD_VERSION >= (1, 5, 7):  # what the library does by itself, and to what end
        split = zstandard.compress(data.tobytes(), level)
        assert block_count(split) > whole
        assert len(frame) < len(split)


def test_other_levels_of_zstd_are_the_library_s(tmp_path: Path) -> None:
    data = np.random.default_rng(0).poisson(np.linspace(1, 99, 300_000)).astype("u2")
    for level in 1, 7, 12, 4, 19:  # one after another, with the same context
        frame = stored(data, ZstdCodec(level=level), tmp_path / str(level))
        assert zstandard.decompress(frame) == data.tobytes()
        if level != 4 and zarrs_zstd() == zstandard.ZSTD_VERSION:
            assert frame == zstandard.ZstdCompressor(level).compress(data.tobytes())


def zarrs_zstd() -> tuple[int, ...]:
    """Return the version of libzstd in use."""
    version = zarrs.show_config(mode="dicts")["libraries"]["zstd"]["running"]
    return tuple(map(int, version.split(".")))


@pytest.mark.skipif(
    zarrs.show_config(mode="dicts")["libraries"]["libdeflate"]["running"] is None,
    reason="zlib-ng has sizes of its own",
)
def test_gzip_is_as_small_as_zlib_at_that_level(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    axis = np.linspace(0, 30, 512)
    field = np.sin(axis[:, None]) + np.sin(axis * 2)
    arrays = [
        rng.poisson(20 + 9 * field).astype("u2"),
        np.round(field + 1e-3 * rng.standard_normal(field.shape), 3).astype("f4"),
        rng.integers(0, 50, field.shape, dtype="i4"),
    ]
    sizes = {}
    for level in range(1, 10):
        chunks = [
            stored(data, GzipCodec(level=level), tmp_path / f"{level}" / f"{n}")
            for n, data in enumerate(arrays)
        ]
        for chunk, data in zip(chunks, arrays, strict=True):
            assert zlib.decompress(chunk, 31) == data.tobytes()
        sizes[level] = sum(map(len, chunks))
        assert sizes[level] <= 1.01 * sum(len(zlib.compress(a.tobytes(), level)) for a in arrays)
    assert sizes[5] == sizes[4] != sizes[6]
