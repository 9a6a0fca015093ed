"""Chunk files made and read by other libraries: zstandard, gzip, zlib, numcodecs, google_crc32c."""

import gzip
import json
import struct
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
import zstandard
from helpers import (
    BLOSC_NAMES,
    BLOSC_SHUFFLES,
    CHAIN,
    ZARR_34,
    assert_same,
    chunk_file,
    create,
    make_data,
    ours_open,
    selections,
    stock,
    stored_files,
)
from numcodecs import Blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec

import zarrs

pytestmark = pytest.mark.usefixtures("access")

SHAPE, CHUNKS, DTYPE = (100, 40), (64, 40), np.dtype("<i4")
NO_SERIALIZER = {"serializer": "auto"}  # what format 2 asks for
Code = Callable[..., bytes]  # of bytes


def sample(dtype: Any = DTYPE) -> np.ndarray:
    """Values that compress, with some that do not."""
    data = make_data(dtype, SHAPE)
    data[20:50] = data[0]
    data[5:9, 3:30] = data[0, 0]
    return data


def raw_chunks(data: np.ndarray) -> list[bytes]:
    """The two chunks of `data`, the second one padded, as raw bytes in C order."""
    padded = np.zeros((128, 40), data.dtype)
    padded[:100] = data
    return [padded[:64].tobytes(), padded[64:].tobytes()]


def check_reads_files(
    tmp_path: Path, encode: Code, arguments: dict[str, Any], dtype: Any = DTYPE
) -> None:
    """Put chunk files made by `encode` where they belong, and read them whole and in part."""
    data = sample(dtype)
    array = create(tmp_path, CHAIN["raw"], SHAPE, CHUNKS, dtype, **arguments)
    for i, raw in enumerate(raw_chunks(data)):
        file = chunk_file(tmp_path, arguments.get("zarr_format", 3), i, 0)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(raw))
    assert_same(array[...], data)
    for selection in selections(SHAPE, seed=2, count=0)[::3]:
        assert_same(array[selection], data[selection], f"read {selection}")
    array[3:70, 2:9] = data[3:70, 2:9] = 5  # merge into what the other library wrote
    assert_same(ours_open(tmp_path)[...], data)


def check_written_files(
    tmp_path: Path, decode: Code, arguments: dict[str, Any], dtype: Any = DTYPE
) -> list[bytes]:
    """Write, then let another library decode the files; return the files."""
    data = sample(dtype)
    array = create(tmp_path, CHAIN["raw"], SHAPE, CHUNKS, dtype, **arguments)
    array[...] = data
    files = list(stored_files(tmp_path).values())
    assert [bytes(decode(f)) for f in files] == raw_chunks(data)
    return files


# ------------------------------------------------------------------------------------ zstd


def _zstd(**kw: Any) -> Code:
    return lambda raw: zstandard.ZstdCompressor(**kw).compress(raw)


def _pieces(one: Code, count: int = 3, between: bytes = b"") -> Code:
    """Encode in `count` unequal pieces, one frame or member after the other."""

    def encode(raw: bytes) -> bytes:
        cuts = [0, *sorted({len(raw) * i // count + i for i in range(1, count)}), len(raw)]
        return between.join(one(raw[a:b]) for a, b in pairwise(cuts))

    return encode


def _zstd_streamed(raw: bytes) -> bytes:
    """As a streaming writer does: flushed blocks, no content size, a checksum."""
    writer = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    out = b"".join(
        writer.compress(raw[i : i + 700]) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for i in range(0, len(raw), 700)
    )
    return out + writer.flush()


def _then(encode: Code, tail: bytes) -> Code:
    return lambda raw: encode(raw) + tail


SKIPPABLE = b"\x50\x2a\x4d\x18" + struct.pack("<I", 5) + b"hello"
ZSTD_WRITERS: dict[str, Code] = {
    **{f"level{n}": _zstd(level=n) for n in (-50, -5, 1, 3, 12, 22)},
    "checksum": _zstd(write_checksum=True),
    "no-content-size": _zstd(write_content_size=False),
    "no-size-checksum": _zstd(write_content_size=False, write_checksum=True),
    "frames": _pieces(_zstd()),
    "frames-no-size": _pieces(_zstd(write_content_size=False)),
    "many-frames": _pieces(_zstd(level=1), 60),
    "skippable": _pieces(_zstd(), 2, SKIPPABLE),
    "skippable-first": lambda raw: SKIPPABLE + _zstd()(raw),
    "empty-frame-last": _then(_zstd(), _zstd()(b"")),
    "streamed": _zstd_streamed,
}


@pytest.mark.parametrize("dtype", ["<i4", "u1"])
@pytest.mark.parametrize("name", ZSTD_WRITERS)
def test_reads_zstd(native: None, tmp_path: Path, name: str, dtype: str) -> None:
    check_reads_files(tmp_path, ZSTD_WRITERS[name], {"compressors": [ZstdCodec()]}, dtype)


@pytest.mark.parametrize("name", ["level3", "no-content-size", "frames"])
def test_reads_zstd_of_format_2(native: None, tmp_path: Path, name: str) -> None:
    arguments = {"zarr_format": 2, "compressors": numcodecs.Zstd(), "filters": None}
    check_reads_files(tmp_path, ZSTD_WRITERS[name], arguments | NO_SERIALIZER)


@pytest.mark.parametrize("magic", [0x1E, *range(0x22, 0x28)])
@pytest.mark.parametrize("rows", [64, 1])
def test_old_formats_of_zstd_are_refused(
    native: None, tmp_path: Path, magic: int, rows: int
) -> None:
    """libzstd's decoders of them get as much memory as a header says."""
    array = create(tmp_path, CHAIN["zstd"], (64, 4096), (64, 4096), "<f4")
    array[...] = 1
    file = tmp_path / "c" / "0" / "0"
    old = bytes([magic]) + b"\xb5\x2f\xfd\0\x84\1\0\0R"
    for stored in (old, _zstd()(bytes(4096)) + old):
        file.write_bytes(stored)
        with pytest.raises(zarrs.ChunkError, match="damaged"):
            array[:rows]


@pytest.mark.parametrize("checksum", [False, True])
@pytest.mark.parametrize("level", [-131072, -7, 0, 1, 3, 19, 22])
def test_writes_zstd(native: None, tmp_path: Path, level: int, checksum: bool) -> None:
    """One frame with its content size, and with the checksum if it was asked for."""
    arguments = {"compressors": [ZstdCodec(level=level, checksum=checksum)]}
    decode = zstandard.ZstdDecompressor().decompress
    for file in check_written_files(tmp_path, decode, arguments):
        frame = zstandard.get_frame_parameters(file)
        assert frame.content_size == 64 * 40 * 4
        assert frame.has_checksum == checksum


def test_zstd_level_is_obeyed(native: None, tmp_path: Path) -> None:
    sizes = []
    for level in (-20, 1, 19):
        arguments = {"compressors": [ZstdCodec(level=level)]}
        where = tmp_path / str(level)
        files = check_written_files(where, zstandard.ZstdDecompressor().decompress, arguments)
        sizes.append(sum(map(len, files)))
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3


# --------------------------------------------------------------------------- gzip and zlib


def _deflate(level: int, wbits: int, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> Code:
    def encode(raw: bytes) -> bytes:
        z = zlib.compressobj(level, zlib.DEFLATED, wbits, 9, strategy)
        return z.compress(raw) + z.flush()

    return encode


def _gzip_full_header(raw: bytes) -> bytes:
    """A member with every optional field: extra, name, comment, header CRC."""
    head = b"\x1f\x8b\x08" + bytes([0x1E]) + b"\1\2\3\4\0\3"
    head += struct.pack("<H", 6) + b"AB\2\0xy" + b"name.bin\0" + b"a comment\0"
    head += struct.pack("<H", zlib.crc32(head) & 0xFFFF)
    return head + _deflate(6, -15)(raw) + struct.pack("<II", zlib.crc32(raw), len(raw))


def _flushed(raw: bytes) -> bytes:
    z = zlib.compressobj(6, zlib.DEFLATED, 31)
    parts = [
        z.compress(raw[i : i + 900]) + z.flush(zlib.Z_FULL_FLUSH) for i in range(0, len(raw), 900)
    ]
    return b"".join(parts) + z.flush()


GZIP_WRITERS: dict[str, Code] = {
    **{f"level{n}": lambda raw, n=n: gzip.compress(raw, n) for n in (0, 1, 6, 9)},
    "mtime": lambda raw: gzip.compress(raw, mtime=12345),
    "fixed-huffman": _deflate(6, 31, zlib.Z_FIXED),
    "rle": _deflate(6, 31, zlib.Z_RLE),
    "flushed": _flushed,
    "members": _pieces(gzip.compress),
    "many-members": _pieces(gzip.compress, 60),
    "stored-members": _pieces(lambda raw: gzip.compress(raw, 0), 2),
    "empty-member-first": lambda raw: gzip.compress(b"") + gzip.compress(raw),
    "empty-member-last": _then(gzip.compress, gzip.compress(b"")),
    "trailing-zeros": _then(gzip.compress, bytes(13)),
    "members-trailing-zeros": _then(_pieces(gzip.compress), bytes(512)),
    "full-header": _gzip_full_header,
    "small-window": _deflate(6, 16 + 9),
}


@pytest.mark.parametrize("name", GZIP_WRITERS)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_reads_gzip(native: None, tmp_path: Path, name: str, zarr_format: int) -> None:
    arguments: dict[str, Any] = {"compressors": [GzipCodec()]}
    if zarr_format == 2:
        arguments = {"zarr_format": 2, "compressors": numcodecs.GZip(), **NO_SERIALIZER}
    check_reads_files(tmp_path, GZIP_WRITERS[name], arguments)


@pytest.mark.parametrize("level", range(10))
def test_writes_gzip(native: None, tmp_path: Path, level: int) -> None:
    """Level 0 stores, the others compress."""
    arguments = {"compressors": [GzipCodec(level=level)]}
    files = check_written_files(tmp_path, gzip.decompress, arguments)
    smaller = [len(f) < 64 * 40 * 4 for f in files]
    assert smaller == [level > 0] * 2


@pytest.mark.parametrize("level", [0, 1, 9])
def test_writes_incompressible_gzip_and_zlib(native: None, tmp_path: Path, level: int) -> None:
    """Bounds: random bytes grow a little."""
    data = np.random.default_rng(0).integers(0, 256, (64, 40), dtype="u1")
    for name, decode, kw in (
        ("gzip", gzip.decompress, {"compressors": [GzipCodec(level=level)]}),
        ("zlib", zlib.decompress, {"zarr_format": 2, "compressors": numcodecs.Zlib(level)}),
    ):
        arguments = kw | (NO_SERIALIZER if name == "zlib" else {})
        array = create(tmp_path / name, CHAIN["raw"], (64, 40), (64, 40), "u1", **arguments)
        array[...] = data
        (file,) = stored_files(tmp_path / name).values()
        assert decode(file) == data.tobytes()


ZLIB_WRITERS: dict[str, Code] = {
    **{f"level{n}": lambda raw, n=n: zlib.compress(raw, n) for n in (0, 1, 6, 9)},
    **{f"window{n}": _deflate(6, n) for n in (9, 12, 15)},
}


@pytest.mark.parametrize("name", ZLIB_WRITERS)
def test_reads_zlib(native: None, tmp_path: Path, name: str) -> None:
    arguments = {"zarr_format": 2, "compressors": numcodecs.Zlib(), **NO_SERIALIZER}
    check_reads_files(tmp_path, ZLIB_WRITERS[name], arguments)


@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_writes_zlib(native: None, tmp_path: Path, level: int) -> None:
    arguments = {"zarr_format": 2, "compressors": numcodecs.Zlib(level), **NO_SERIALIZER}
    check_written_files(tmp_path, zlib.decompress, arguments)


# ----------------------------------------------------------------------------------- Blosc

SHUFFLE = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def blosc_encode(
    cname: str = "lz4",
    clevel: int = 5,
    shuffle: str = "shuffle",
    blocksize: int = 0,
    view: str = "<i4",
    tail: bytes = b"",
) -> Code:
    """c-blosc through numcodecs; the item size of `view` becomes the typesize."""

    def encode(raw: bytes) -> bytes:
        codec = Blosc(cname, clevel, SHUFFLE[shuffle], blocksize)
        usable = len(raw) - len(raw) % np.dtype(view).itemsize
        if usable != len(raw):
            return bytes(Blosc(cname, clevel, SHUFFLE[shuffle], blocksize).encode(raw)) + tail
        return bytes(codec.encode(np.frombuffer(raw, view))) + tail

    return encode


BLOSC_WRITERS: dict[str, Code] = {
    **{
        f"{cname}-{shuffle}": blosc_encode(cname, 5, shuffle)
        for cname in BLOSC_NAMES
        for shuffle in BLOSC_SHUFFLES
    },
    **{f"{cname}-level0": blosc_encode(cname, 0) for cname in ("lz4", "zstd")},
    **{f"{cname}-level9": blosc_encode(cname, 9) for cname in BLOSC_NAMES},
    **{
        f"blocksize{size}-{shuffle}": blosc_encode("lz4", 5, shuffle, size)
        for size in (100, 128, 1000, 4096, 10239, 10240, 99999)
        for shuffle in BLOSC_SHUFFLES
    },
    **{f"typesize{np.dtype(v).itemsize}": blosc_encode(view=v) for v in ("u1", "<u2", "<f8")},
    **{
        f"odd-typesize{size}": blosc_encode("zstd", 5, "shuffle", 999, f"V{size}")
        for size in (5, 10, 20, 80, 160, 640)
    },
    "trailing-bytes": blosc_encode(tail=b"beyond"),
    "trailing-bytes-level0": blosc_encode(clevel=0, tail=bytes(100)),
    "blosclz-small-blocks": blosc_encode("blosclz", 9, "bitshuffle", 256),
}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", BLOSC_WRITERS)
def test_reads_blosc(native: None, tmp_path: Path, name: str, zarr_format: int) -> None:
    """Whatever the writer chose, its own header counts, not the metadata."""
    arguments: dict[str, Any] = {"compressors": [BloscCodec(cname="zlib")]}
    if zarr_format == 2:
        arguments = {"zarr_format": 2, "compressors": Blosc("zlib"), **NO_SERIALIZER}
    check_reads_files(tmp_path, BLOSC_WRITERS[name], arguments)


def blosc_header(file: bytes) -> dict[str, int]:
    names = ("version", "versionlz", "flags", "typesize", "nbytes", "blocksize", "cbytes")
    return dict(zip(names, struct.unpack("<BBBBIII", file[:16]), strict=True))


@pytest.mark.parametrize("blocksize", [0, 256, 1000])
@pytest.mark.parametrize("clevel", [0, 1, 9])
@pytest.mark.parametrize("shuffle", BLOSC_SHUFFLES)
@pytest.mark.parametrize("cname", BLOSC_NAMES)
def test_writes_blosc(
    native: None, tmp_path: Path, cname: str, shuffle: str, clevel: int, blocksize: int
) -> None:
    """c-blosc 1 decodes it, and the header says what the metadata says."""
    codec = BloscCodec(cname=cname, shuffle=shuffle, clevel=clevel, blocksize=blocksize)  # type: ignore[arg-type]
    files = check_written_files(tmp_path, Blosc().decode, {"compressors": [codec]})
    for file in files:
        header = blosc_header(file)
        assert header["version"] == 2
        assert header["typesize"] == 4
        assert header["nbytes"] == 64 * 40 * 4
        assert header["cbytes"] == len(file)
        assert bool(header["flags"] & 1) == (shuffle == "shuffle")
        assert bool(header["flags"] & 4) == (shuffle == "bitshuffle")
        if not header["flags"] & 2:  # compressed
            family = {"blosclz": 0, "lz4": 1, "lz4hc": 1, "zlib": 3, "zstd": 4}[cname]
            assert header["flags"] >> 5 == family
        if blocksize:
            theirs = Blosc(cname, clevel, SHUFFLE[shuffle], blocksize).encode(sample()[:64])
            assert header["blocksize"] == blosc_header(theirs)["blocksize"]


@pytest.mark.parametrize("typesize", [1, 3, 7, 8, 255])
def test_writes_blosc_typesize(native: None, tmp_path: Path, typesize: int) -> None:
    """A typesize that does not divide the chunk."""
    codec = BloscCodec(cname="lz4", shuffle="shuffle", typesize=typesize)
    files = check_written_files(tmp_path, Blosc().decode, {"compressors": [codec]})
    assert {blosc_header(f)["typesize"] for f in files} == {typesize}


@pytest.mark.parametrize("dtype", ["V255", "V256", "V300", "S1000"])
@pytest.mark.parametrize("shuffle", BLOSC_SHUFFLES)
def test_blosc_of_large_items(native: None, tmp_path: Path, dtype: str, shuffle: str) -> None:
    """Items above 255 bytes: the header has one byte for the typesize."""
    data = make_data(dtype, (40,))
    codec = BloscCodec(cname="zstd", shuffle=shuffle)  # type: ignore[arg-type]
    array = create(tmp_path, CHAIN["raw"], (40,), (25,), dtype, compressors=[codec])
    array[...] = data
    assert_same(array[...], data)
    assert_same(array[3:30:4], data[3:30:4])
    (first, _) = stored_files(tmp_path).values()
    assert bytes(Blosc().decode(first)) == data[:25].tobytes()


@pytest.mark.parametrize("shuffle", [-1, 0, 1, 2])
@pytest.mark.parametrize("dtype", ["u1", "<i4", "<f8"])
def test_blosc_of_format_2(native: None, tmp_path: Path, dtype: str, shuffle: int) -> None:
    """A configuration without typesize; shuffle -1 chooses by item size."""
    arguments: dict[str, Any] = {
        "zarr_format": 2,
        "compressors": Blosc("zstd", 5, shuffle, 512),
        **NO_SERIALIZER,
    }
    for file in check_written_files(tmp_path, Blosc().decode, arguments, dtype):
        header = blosc_header(file)
        itemsize = np.dtype(dtype).itemsize
        expected = shuffle if shuffle >= 0 else (2 if itemsize == 1 else 1)
        assert header["flags"] & 5 == {0: 0, 1: 1, 2: 4}[expected]
        assert header["typesize"] == itemsize
    metadata = json.loads((tmp_path / ".zarray").read_text())
    metadata["compressor"].pop("typesize", None)
    (tmp_path / ".zarray").write_text(json.dumps(metadata))
    assert_same(ours_open(tmp_path)[...], sample(dtype))


# -------------------------------------------------------------------------- LZ4 and crc32c


@pytest.mark.parametrize("acceleration", [1, 10, 1000])
def test_lz4(native: None, tmp_path: Path, acceleration: int) -> None:
    """numcodecs' framing: four bytes of size, then one LZ4 block."""
    codec = numcodecs.LZ4(acceleration)
    arguments = {"zarr_format": 2, "compressors": codec, **NO_SERIALIZER}
    check_reads_files(tmp_path / "read", lambda raw: bytes(codec.encode(raw)), arguments)
    files = check_written_files(tmp_path / "write", numcodecs.LZ4().decode, arguments)
    assert {struct.unpack("<I", f[:4])[0] for f in files} == {64 * 40 * 4}


def crc32c(raw: bytes) -> bytes:
    return raw + struct.pack("<I", google_crc32c.value(raw))


def check_and_strip(file: bytes) -> bytes:
    assert crc32c(file[:-4]) == file
    return file[:-4]


CRC_CHAINS: dict[str, tuple[list[Any], Code, Code]] = {
    "alone": ([Crc32cCodec()], crc32c, check_and_strip),
    "after-zstd": (
        [ZstdCodec(), Crc32cCodec()],
        lambda raw: crc32c(_zstd()(raw)),
        lambda file: zstandard.ZstdDecompressor().decompress(check_and_strip(file)),
    ),
    "before-gzip": (
        [Crc32cCodec(), GzipCodec()],
        lambda raw: gzip.compress(crc32c(raw)),
        lambda file: check_and_strip(gzip.decompress(file)),
    ),
    "before-blosc": (
        [Crc32cCodec(), BloscCodec(typesize=4)],
        lambda raw: blosc_encode(view="u1")(crc32c(raw)),
        lambda file: check_and_strip(bytes(Blosc().decode(file))),
    ),
    "twice": (
        [Crc32cCodec(), Crc32cCodec()],
        lambda raw: crc32c(crc32c(raw)),
        lambda file: check_and_strip(check_and_strip(file)),
    ),
}


@pytest.mark.parametrize("name", CRC_CHAINS)
def test_crc32c(native: None, tmp_path: Path, name: str) -> None:
    codecs, encode, decode = CRC_CHAINS[name]
    check_reads_files(tmp_path / "read", encode, {"compressors": codecs})
    check_written_files(tmp_path / "write", decode, {"compressors": codecs})


@pytest.mark.parametrize("size", [0, 1, 3, 7, 8, 9, 63, 64, 65, 1000, 4095, 4096, 8193, 100_003])
def test_crc32c_of_any_length(native: None, tmp_path: Path, size: int) -> None:
    """Every tail of an unrolled or table-driven loop."""
    data = make_data("u1", (size + 1,))
    array = create(tmp_path, CHAIN["crc32c"], data.shape, data.shape, "u1")
    array[...] = data
    (file,) = stored_files(tmp_path).values()
    assert check_and_strip(file) == data.tobytes()
    assert_same(array[...], data)


# ----------------------------------------------------------------------------- bytes, order


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", ["<u2", "<f4", "<f8", "<c8", "<c16", "<M8[s]", "<U2", "<f2"])
def test_byte_order_in_files(native: None, tmp_path: Path, dtype: str, endian: Any) -> None:
    """The bytes codec swaps each number, each part of a complex, each character."""
    data = make_data(dtype, SHAPE)
    arguments = {"serializer": BytesCodec(endian=endian), "fill_value": None}
    array = create(tmp_path, CHAIN["raw"], (64, 40), CHUNKS, dtype, **arguments)
    array[...] = data[:64]
    (file,) = stored_files(tmp_path).values()
    stored = np.dtype(dtype).newbyteorder("<" if endian == "little" else ">")
    assert file == data[:64].astype(stored).tobytes()
    assert_same(ours_open(tmp_path)[7:9, ::3], data[7:9, ::3])


@pytest.mark.skipif(not ZARR_34, reason="structs follow the bytes codec since zarr 3.4")
@pytest.mark.parametrize("endian", ["little", "big"])
def test_byte_order_of_fields(native: None, tmp_path: Path, endian: Any) -> None:
    """In format 3 every field has the byte order of the bytes codec."""
    dtype = np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3"), ("d", "<c8"), ("e", ">U1")])
    data = make_data(dtype, (6,))
    array = create(tmp_path, CHAIN["raw"], (6,), (6,), dtype, serializer=BytesCodec(endian=endian))
    array[...] = data
    (file,) = stored_files(tmp_path).values()
    stored = dtype.newbyteorder("<" if endian == "little" else ">")
    assert file == data.astype(stored).tobytes()
    assert_same(array[...], data)


def test_transpose_in_files(native: None, tmp_path: Path) -> None:
    """The order that is not its own inverse, and format 2's order F."""
    data = make_data("<i4", (3, 4, 5))
    rotated = CHAIN["rotated-twice-big"]
    create(tmp_path / "3", rotated, data.shape, data.shape, "<i4")[...] = data
    (file,) = stored_files(tmp_path / "3").values()
    assert file == data.transpose(1, 2, 0).transpose(1, 2, 0).astype(">i4").tobytes()
    create(tmp_path / "2", CHAIN["v2-raw-F"], data.shape, data.shape, "<i4")[...] = data
    (file,) = stored_files(tmp_path / "2").values()
    assert file == data.tobytes(order="F")


# -------------------------------------------------------------------------------- metadata


def _edit(path: Path, **changes: Any) -> None:
    metadata = json.loads(path.read_text())
    path.write_text(json.dumps(metadata | changes))


@pytest.mark.filterwarnings("ignore:Found an empty list of filters")
def test_format_2_with_empty_filters(native: None, tmp_path: Path) -> None:
    """``filters: []`` means the same as null."""
    create(tmp_path, CHAIN["v2-blosc"], (6, 5), (4, 3), "<i4")[...] = data = make_data(
        "<i4", (6, 5)
    )
    _edit(tmp_path / ".zarray", filters=[])
    array = ours_open(tmp_path)
    assert_same(array[...], data)
    array[2:5, 1] = data[2:5, 1] = 3
    assert_same(ours_open(tmp_path)[...], data)


@pytest.mark.parametrize("dtype", ["u1", "bool", "V3", "S5"])
def test_bytes_codec_without_configuration(native: None, tmp_path: Path, dtype: str) -> None:
    """No endian is needed where nothing can be swapped."""
    data = make_data(dtype, (6, 5))
    create(tmp_path, CHAIN["crc32c"], (6, 5), (4, 3), dtype)[...] = data
    _edit(tmp_path / "zarr.json", codecs=[{"name": "bytes"}, {"name": "crc32c"}])
    assert_same(ours_open(tmp_path)[...], data)


def test_codecs_as_bare_names(native: None, tmp_path: Path) -> None:
    """Names without a dictionary are legal; this zarr-python refuses them before any pipeline."""
    data = make_data("u1", (6, 5))
    create(tmp_path, CHAIN["crc32c"], (6, 5), (4, 3), "u1")[...] = data
    _edit(tmp_path / "zarr.json", codecs=["bytes", "crc32c"])
    try:
        with stock():
            zarr.open_array(str(tmp_path))
    except TypeError:  # zarr 3.1.6 and 3.4.2
        with pytest.raises(TypeError, match="Expected dict"):
            ours_open(tmp_path)
    else:
        assert_same(ours_open(tmp_path)[...], data)


@pytest.mark.parametrize("shuffle", ["bitshuffle", "shuffle"])
@pytest.mark.parametrize("typesize", [2, 3, 7, 8])
def test_blosc_of_parts_of_items(native: None, tmp_path: Path, typesize: int, shuffle: Any) -> None:
    """Items of another size than Blosc thinks: the last one is a part, alone in its block or not.

    C-Blosc2 does not undo what C-Blosc 1 does to its bits.
    """
    for size in (1, 5, 31, 100, 1000, 5003, 70_001):
        for checked in (False, True):
            codec = BloscCodec(
                cname="lz4", shuffle=shuffle, typesize=typesize, blocksize=256 if size > 100 else 0
            )
            path = tmp_path / f"{size}-{checked}"
            compressors = [Crc32cCodec(), codec] if checked else [codec]
            values = np.zeros(size, "u1")
            values[::7] = np.arange(len(values[::7])) % 251
            values[-1] = 77
            with stock():
                array = zarr.create_array(
                    path, shape=(size,), chunks=(size,), dtype="u1", compressors=compressors
                )
                array[...] = values
            array = zarr.open_array(path)
            for key in (..., slice(size // 2, None), slice(-1, None), slice(0, size // 3)):
                assert np.array_equal(array[key], values[key]), (size, checked, key)
            array[...] = values[::-1]
            with stock():
                assert np.array_equal(zarr.open_array(path)[...], values[::-1])
