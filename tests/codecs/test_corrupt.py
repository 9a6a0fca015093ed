"""Damaged chunks: a clear error or the right data, and never a crash, a hang or stray memory.

Everything hostile is read in one child process per kind of damage; a child that dies is a failing
test, and the last line it reported says where.
"""

import gzip
import re
import resource
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
import zstandard
from helpers import (
    CHAIN,
    CHAINS,
    CORE_CHAINS,
    Chain,
    assert_same,
    bits,
    chain_arguments,
    chunk_file,
    create,
    emit,
    make_data,
    ours_open,
    run_child,
    stock_write,
)
from numcodecs import LZ4, Blosc
from zarr.codecs import ZstdCodec

import zarrs

SHAPE, DTYPE = (40, 30), "<i4"
SIZE = 40 * 30 * 4
DAMAGED = CORE_CHAINS + [
    CHAIN[name]
    for name in (
        *("blosc-level0", "blosc-level9-blocks", "blosc-blosclz-bitshuffle", "blosc-zlib-shuffle"),
        *("blosc-lz4hc-noshuffle", "zstd-0-checksum", "gzip-0", "crc32c-zstd", "zstd-crc32c"),
        *("crc32c-twice", "blosc-gzip", "gzip-zstd", "v2-gzip-F", "v2-lz4", "v2-zstd-checksum"),
    )
]


def sample() -> np.ndarray:
    """Half compressible, so that every format has both kinds of blocks."""
    data = make_data(DTYPE, SHAPE)
    data[10:30] = np.arange(30)
    return data


def compressed(chain: Chain) -> bool:
    return bool(chain_arguments(chain, 2)["compressors"])


def has_crc32c(chain: Chain) -> bool:
    return "crc32c" in chain.name


# ---------------------------------------------------------------------- inside the children


def outcome(read: Callable[..., Any], expected: np.ndarray) -> str:
    """One word for what a read did; anything unexpected is spelled out."""
    try:
        result = np.asarray(read())
    except zarrs.ChunkError:
        return "error"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if result.shape != expected.shape or result.dtype != expected.dtype:
        return f"shape {result.shape}, type {result.dtype}"
    return "right" if bits(result) == bits(expected) else "other"


def prepare(root: str, name: str) -> tuple[zarr.Array[Any], np.ndarray, Path, bytes]:
    """An array of one good chunk: the array, its data, the chunk's file and what is in it."""
    path, chain, data = Path(root) / name, CHAIN[name], sample()
    array = create(path, chain, SHAPE, SHAPE, DTYPE)
    stock_write(path, ..., data)
    file = chunk_file(path, chain.zarr_format, 0, 0)
    return array, data, file, file.read_bytes()


def read_damaged(
    root: str, names: list[str], damage: Callable[[bytes], Iterator[bytes]], parts: int = 4
) -> None:
    """Read each damaged form whole, and every `parts`-th in part; emit the outcomes."""
    for name in names:
        emit({"chain": name})
        array, data, file, good = prepare(root, name)
        whole: Counter[str] = Counter()
        part: Counter[str] = Counter()
        for i, bad in enumerate(damage(good)):
            file.write_bytes(bad)
            whole[outcome(lambda a=array: a[...], data)] += 1
            if i % parts == 0:
                for selection in ((slice(3, 5), slice(2, 9)), (39, 29), (slice(None), 4)):
                    expected = np.asarray(data[selection])
                    part[outcome(lambda a=array, s=selection: a[s], expected)] += 1
        file.write_bytes(good)
        assert_same(array[...], data, "after the damage was undone")
        emit({"chain": name, "whole": whole, "part": part})


def cut_off(good: bytes) -> Iterator[bytes]:
    n = len(good)
    lengths = {*range(1, min(n, 40)), *range(40, n, max(1, n // 60)), *range(max(n - 9, 1), n)}
    return (good[:k] for k in sorted(lengths))


def flipped(good: bytes) -> Iterator[bytes]:
    n = len(good)
    places = {*range(min(n, 48)), *range(48, n, max(1, n // 70)), *range(max(n - 12, 0), n)}
    for place in sorted(places):
        for mask in (0x01, 0xFF):
            bad = bytearray(good)
            bad[place] ^= mask
            yield bytes(bad)


def shuffled_about(good: bytes) -> Iterator[bytes]:
    """Runs of zeros, of ones, of noise and of the file's other half."""
    rng = np.random.default_rng(len(good))
    n = len(good)
    for i in range(40):
        start = int(rng.integers(0, n))
        length = int(rng.integers(1, 64))
        filler = (bytes(length), b"\xff" * length, rng.bytes(length), good[n // 2 :][:length])[
            i % 4
        ]
        yield (good[:start] + filler + good[start + length :])[:n]


def lengthened(good: bytes) -> Iterator[bytes]:
    for tail in (b"\0", b"\1", b"x" * 100, good):
        yield good + tail


def emptied(good: bytes) -> Iterator[bytes]:
    yield b""


DAMAGE = {f.__name__: f for f in (cut_off, flipped, shuffled_about, lengthened, emptied)}


def child_damage(root: str, kind: str, names: list[str]) -> None:
    read_damaged(root, names, DAMAGE[kind], parts=1 if kind in ("emptied", "lengthened") else 4)


def child_sizes(root: str, names: list[str]) -> None:
    """Chunks that decode well, into another number of bytes."""
    for name in names:
        emit({"chain": name})
        array, data, file, good = prepare(root, name)
        whole: Counter[str] = Counter()
        for i, shape in enumerate([(1, 1), (39, 30), (40, 29), (41, 30), (40, 31), (120, 90)]):
            other = Path(root) / "others" / f"{name}-{i}"
            create(other, CHAIN[name], shape, shape, DTYPE)
            stock_write(other, ..., make_data(DTYPE, shape, seed=1))
            shutil.copy(chunk_file(other, CHAIN[name].zarr_format, 0, 0), file)
            whole[outcome(lambda a=array: a[...], data)] += 1
        file.write_bytes(good)
        emit({"chain": name, "whole": whole, "part": {}})


# ------------------------------------------------------------------------------- the results


def outcomes(child: Callable[..., None], *arguments: Any) -> Iterator[tuple[Chain, Any, Any]]:
    """Each chain with the outcomes of whole and of partial reads; one child reads all of them.

    So a kind of damage is one test: of several, xdist would start a child in each process.
    """
    result = run_child(child, *arguments, [chain.name for chain in DAMAGED], timeout=100)
    found = {line["chain"]: line for line in result.check() if "whole" in line}
    assert found.keys() == {chain.name for chain in DAMAGED}
    for chain in DAMAGED:
        yield chain, found[chain.name]["whole"], found[chain.name]["part"]


def test_cut_off(tmp_path: Path) -> None:
    """Every truncation is an error; a part may be right if all of it is there."""
    for chain, whole, part in outcomes(child_damage, str(tmp_path), "cut_off"):
        assert set(whole) == {"error"}, chain
        assert set(part) <= {"error", "right"}, chain


def test_empty_file(tmp_path: Path) -> None:
    for chain, whole, part in outcomes(child_damage, str(tmp_path), "emptied"):
        assert set(whole) == set(part) == {"error"}, chain


@pytest.mark.parametrize("kind", ["flipped", "shuffled_about"])
def test_changed_bytes(tmp_path: Path, kind: str) -> None:
    """Where the chain has a checksum no other data comes out."""
    allowed = {"error", "right"}
    for chain, whole, part in outcomes(child_damage, str(tmp_path), kind):
        assert set(whole) <= (allowed if chain.verified else {*allowed, "other"}), chain
        assert set(part) <= (allowed if has_crc32c(chain) else {*allowed, "other"}), chain
        if chain.verified:
            assert whole["error"] > sum(whole.values()) // 2, chain


def test_bytes_after_the_end(tmp_path: Path) -> None:
    """A raw chunk that is too long is an error; some formats ignore what follows them."""
    for chain, whole, part in outcomes(child_damage, str(tmp_path), "lengthened"):
        if compressed(chain) and chain.name not in ("crc32c", "crc32c-twice"):
            assert set(whole) <= {"error", "right"}, chain
        else:
            assert set(whole) == {"error"}, chain
        assert set(part) <= {"error", "right"}, chain


def test_other_decoded_size(tmp_path: Path) -> None:
    """A good chunk of another array is too small or too large, and says so."""
    for chain, whole, _ in outcomes(child_sizes, str(tmp_path)):
        assert set(whole) == {"error"}, chain


# ------------------------------------------------------------------------------ lying headers

NUMBERS = (0, 1, 2, 7, 255, SIZE - 4, SIZE + 4, 2**16, 2**31 - 1, 2**31, 2**32 - 1)


def blosc_lies(good: bytes) -> Iterator[bytes]:
    """Every field of the header, then the first block starts, set to hostile numbers."""
    for place in range(4):
        for value in (0, 1, 2, 3, 8, 64, 127, 128, 255):
            yield good[:place] + bytes([value]) + good[place + 1 :]
    cbytes = len(good)
    for place in (4, 8, 12, 16, 20, 24, 28):
        for value in (*NUMBERS, cbytes - 1, cbytes + 1, cbytes - 4, 16, 17):
            yield good[:place] + struct.pack("<I", value) + good[place + 4 :]
    for nbytes, blocksize in ((SIZE, 1), (SIZE, 3), (SIZE, SIZE + 1), (SIZE, 2**31 - 1)):
        yield good[:4] + struct.pack("<II", nbytes, blocksize) + good[12:]
    for keep in range(4, 33, 4):  # a header alone, with a plausible length
        yield good[:12] + struct.pack("<I", keep) + good[16:keep]
    if len(good) > 200:  # sizes inside the blocks
        for place in range(36, 200, 4):
            for value in (0, 2**31 - 1, 2**31, 2**32 - 1):
                yield good[:place] + struct.pack("<I", value) + good[place + 4 :]


def blosc_sizes(good: bytes) -> Iterator[bytes]:
    """The decoded size, which is known, and an encoded size past the end of the file."""
    for value in NUMBERS:
        yield good[:4] + struct.pack("<I", value) + good[8:]
    for value in (len(good) + 1, 2**31 - 1, 2**31, 2**32 - 1, 0, 15):
        yield good[:12] + struct.pack("<I", value) + good[16:]


def lz4_sizes(good: bytes) -> Iterator[bytes]:
    for value in NUMBERS:
        yield struct.pack("<I", value) + good[4:]


def gzip_trailers(good: bytes) -> Iterator[bytes]:
    for value in NUMBERS:
        yield good[:-4] + struct.pack("<I", value)
        yield good[:-8] + struct.pack("<I", value) + good[-4:]


def zlib_trailers(good: bytes) -> Iterator[bytes]:
    for value in NUMBERS:
        yield good[:-4] + struct.pack(">I", value)


def zstd_frames(good: bytes) -> Iterator[bytes]:
    """Frames that say another content size, or hold another one than they say."""
    raw = zstandard.ZstdDecompressor().decompress(good)
    for n in (0, 1, SIZE // 2, SIZE - 1):
        yield zstandard.ZstdCompressor().compress(raw[:n])
        yield zstandard.ZstdCompressor(write_content_size=False).compress(raw[:n])
    for more in (raw + b"\0", raw * 2, raw * 100):
        yield zstandard.ZstdCompressor().compress(more)
        yield zstandard.ZstdCompressor(write_content_size=False).compress(more)
    first, second = (zstandard.ZstdCompressor().compress(x) for x in (raw, b"more"))
    yield first + second
    yield first + first
    yield b"\x50\x2a\x4d\x18" + struct.pack("<I", 2**32 - 1) + first


MUST_FAIL: dict[str, tuple[str, Callable[[bytes], Iterator[bytes]]]] = {
    **{
        f"blosc-sizes {n}": (n, blosc_sizes)
        for n in ("blosc-lz4-shuffle", "blosc-level0", "blosc-level9-blocks", "v2-blosc")
    },
    "lz4-sizes": ("v2-lz4", lz4_sizes),
    "gzip-trailers": ("gzip", gzip_trailers),
    "zlib-trailers": ("v2-zlib-9", zlib_trailers),
    "zstd-frames": ("zstd", zstd_frames),
}
MUST_SURVIVE = [c.name for c in CHAINS if c.name.startswith(("blosc-", "v2-blosc"))]
MUST_SURVIVE.remove("blosc-gzip")


def child_lies(root: str) -> None:
    for key, (name, damage) in MUST_FAIL.items():
        emit({"lie": key})
        array, data, file, good = prepare(f"{root}/{key.split()[0]}", name)
        found: Counter[str] = Counter()
        for bad in damage(good):
            if bad != good:
                file.write_bytes(bad)
                found[outcome(lambda a=array: a[...], data)] += 1
        emit({"lie": key, "found": found})


def child_survive(root: str) -> None:
    read_damaged(root, MUST_SURVIVE, blosc_lies, parts=3)


def test_sizes_that_lie(tmp_path: Path) -> None:
    """Sizes are checked against the chunk's and the file's real ones, checksums always."""
    lines = run_child(child_lies, str(tmp_path)).check()
    found = {line["lie"]: set(line["found"]) for line in lines if "found" in line}
    assert found == {key: {"error"} for key in MUST_FAIL}


def test_blosc_headers_that_lie(tmp_path: Path) -> None:
    """Blosc has no checksum: any data of the right shape, or an error, but nothing else."""
    lines = [line for line in run_child(child_survive, str(tmp_path)).check() if "whole" in line]
    assert [line["chain"] for line in lines] == MUST_SURVIVE
    for line in lines:
        assert set(line["whole"]) <= {"error", "right", "other"}, line
        assert set(line["part"]) <= {"error", "right", "other"}, line


def child_bombs(root: str) -> None:
    """Files that decode to far more than the chunk; report how much memory that took."""
    zeros = bytes(1 << 20)
    count = 192

    def deflated(wbits: int) -> bytes:
        z = zlib.compressobj(1, zlib.DEFLATED, wbits)
        return b"".join(z.compress(zeros) for _ in range(count)) + z.flush()

    writer = zstandard.ZstdCompressor(level=1).compressobj()
    zstd = b"".join(writer.compress(zeros) for _ in range(count)) + writer.flush()
    bombs = {
        "zstd": zstd,
        "gzip": deflated(31),
        "v2-zlib-9": deflated(15),
        "gzip-0": gzip.compress(b"") * 1000 + deflated(31),
    }
    for name, bomb in bombs.items():
        array, data, file, _ = prepare(root, name)
        file.write_bytes(bomb)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = outcome(lambda a=array: a[...], data)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        emit({"chain": name, "found": found, "megabytes": grown // 1024})


def test_decompression_bombs(tmp_path: Path) -> None:
    """Decoding stops at the size of the chunk."""
    lines = run_child(child_bombs, str(tmp_path)).check()
    assert len(lines) == 4
    for line in lines:
        assert line["found"] == "error", line
        assert line["megabytes"] < 64, line


def test_bombs_where_nobody_knows_the_size(native: None, tmp_path: Path) -> None:
    """Strings may be of any length; they decode to 2 GiB and no more."""
    text: Any = zarr.dtype.VariableLengthUTF8()
    array = zarr.create_array(tmp_path, shape=(4,), dtype=text, compressors=ZstdCodec())
    frame = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 25))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0").write_bytes(frame * 65)
    with pytest.raises(zarrs.ChunkError, match="at most 2147483647 bytes, found more"):
        array[...]


def test_chunks_past_two_gibibytes(native: None, tmp_path: Path) -> None:
    """No allocation of what the metadata claims before the file's own size is known to fit."""
    count = 2**31 + 16
    array = create(tmp_path, CHAIN["blosc-level0"], (count,), (count,), "u1")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0").write_bytes(bytes(Blosc().encode(bytes(500))))
    for selection in (5, slice(7, 9), -1):
        with pytest.raises(zarrs.ChunkError):
            array[selection]
    with pytest.raises(zarrs.ChunkError):
        array[5] = 1


# ------------------------------------------------------------------------------- checksums


@pytest.mark.parametrize("name", ["crc32c", "rotated-big-zstd-crc32c", "crc32c-zstd"])
def test_crc32c_on_and_off(native: None, tmp_path: Path, name: str) -> None:
    """A checksum that does not fit is an error, unless the user says not to look."""
    data = sample()
    array = create(tmp_path, CHAIN[name], SHAPE, SHAPE, DTYPE)
    array[...] = data
    file = chunk_file(tmp_path, 3, 0, 0)
    good = file.read_bytes()
    if name == "crc32c-zstd":
        inner = zstandard.ZstdDecompressor().decompress(good)
        wrong = inner[:-1] + bytes([inner[-1] ^ 1])
        file.write_bytes(zstandard.ZstdCompressor().compress(wrong))
    else:
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    for selection in (..., (slice(2, 4), 3)):
        with pytest.raises(zarrs.ChunkError, match="crc32c"):
            array[selection]
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        lax = ours_open(tmp_path)
        assert_same(lax[...], data)
        assert_same(lax[2:4, 3], data[2:4, 3])


def test_without_validation_the_rest_is_still_checked(native: None, tmp_path: Path) -> None:
    with zarr.config.set({"codec_pipeline.validate_checksums": False}):
        array = create(tmp_path, CHAIN["crc32c"], SHAPE, SHAPE, DTYPE)
        data = sample()
        array[...] = data
        file = chunk_file(tmp_path, 3, 0, 0)
        good = file.read_bytes()
        file.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        data[0, 0] ^= 1
        assert_same(array[...], data)
        for bad in (b"", good[:3], good[:4], good[:-1], good + b"\0"):
            file.write_bytes(bad)
            with pytest.raises(zarrs.ChunkError):
                array[...]


# ------------------------------------------------------------------------------- the message


def _short(good: bytes) -> bytes:
    return good[: len(good) - 8]


def _long(good: bytes) -> bytes:
    return good + b"12345678"


def _flip_last(good: bytes) -> bytes:
    return good[:-1] + bytes([good[-1] ^ 1])


MESSAGES: list[tuple[str, str, Callable[[bytes], bytes], list[int]]] = [
    ("raw", "bytes", _short, [SIZE, SIZE - 8]),
    ("raw", "bytes", _long, [SIZE, SIZE + 8]),
    ("raw", "bytes", lambda good: b"", [SIZE, 0]),
    ("reversed", "bytes", _short, [SIZE, SIZE - 8]),
    ("v2-raw-F", "", _short, [SIZE, SIZE - 8]),
    ("crc32c", "crc32c", _flip_last, []),
    ("zstd", "zstd", _short, []),
    ("zstd", "zstd", lambda good: zstandard.compress(b"short"), [SIZE, 5]),
    ("gzip", "gzip", _short, []),
    ("gzip", "gzip", lambda good: gzip.compress(b"short"), [SIZE, 5]),
    ("gzip", "gzip", _flip_last, []),
    ("blosc-lz4-shuffle", "blosc", _short, []),
    ("blosc-lz4-shuffle", "blosc", lambda good: good[:7], []),
    ("blosc-lz4-shuffle", "blosc", lambda good: bytes(Blosc().encode(b"short")), [SIZE, 5]),
    ("v2-zlib-F", "zlib", lambda good: zlib.compress(b"short"), [SIZE, 5]),
    ("v2-lz4", "lz4", lambda good: bytes(LZ4().encode(b"short")), [SIZE, 5]),
]


@pytest.mark.parametrize("where", ["grp/arr", ""])
@pytest.mark.parametrize(
    ("name", "codec", "damage", "numbers"),
    MESSAGES,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(MESSAGES)],
)
def test_message(
    native: None,
    tmp_path: Path,
    name: str,
    codec: str,
    damage: Callable[[bytes], bytes],
    numbers: list[int],
    where: str,
) -> None:
    """It names the array, the chunk's key, the codec, and what was expected and found."""
    chain = CHAIN[name]
    array = create(tmp_path, chain, (80, 90), SHAPE, DTYPE, name=where or None)
    array[...] = np.tile(sample(), (2, 3))
    key = "1.2" if chain.zarr_format == 2 else "c/1/2"
    file = tmp_path / where / key
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(zarrs.ChunkError) as caught:
        array[...]
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, RuntimeError)
    message = str(caught.value)
    assert key in message
    assert where in message if where else str(tmp_path) in message
    assert codec in message
    assert "expected" in message.lower()
    assert "found" in message.lower()
    for number in numbers:
        assert re.search(rf"\b{number}\b", message.replace(",", "").replace("_", "")), number


@pytest.mark.parametrize("name", ["raw", "zstd", "blosc-lz4-shuffle", "v2-zlib-F"])
def test_the_first_bad_chunk_is_named(native: None, tmp_path: Path, name: str) -> None:
    """Whatever order threads work in, the error is the same, and no work is left behind."""
    chain = CHAIN[name]
    array = create(tmp_path, chain, (1600,), (50,), DTYPE)
    array[...] = data = make_data(DTYPE, (1600,))
    for index in (5, 6, 17, 31):
        chunk_file(tmp_path, chain.zarr_format, index).write_bytes(b"bad")
    prefix = "c/" if chain.zarr_format == 3 else ""
    for _ in range(20):
        with pytest.raises(zarrs.ChunkError, match=rf"\b{prefix}5\b"):
            array[...]
        assert_same(array[:250], data[:250])
        assert_same(array[900:1550], data[900:1550])


@pytest.mark.parametrize("name", ["raw", "crc32c", "zstd", "gzip", "blosc-lz4-shuffle", "v2-lz4"])
def test_partial_write_into_a_bad_chunk(native: None, tmp_path: Path, name: str) -> None:
    """Merging needs the old data: an error, and the file stays as it is."""
    chain = CHAIN[name]
    array = create(tmp_path, chain, SHAPE, SHAPE, DTYPE)
    array[...] = sample()
    file = chunk_file(tmp_path, chain.zarr_format, 0, 0)
    bad = file.read_bytes()[:-5]
    file.write_bytes(bad)
    with pytest.raises(zarrs.ChunkError):
        array[3:5] = 1
    assert file.read_bytes() == bad
    assert [p.name for p in file.parent.iterdir() if "partial" in p.name] == []
    array[...] = 1
    assert (np.asarray(array[...]) == 1).all()
