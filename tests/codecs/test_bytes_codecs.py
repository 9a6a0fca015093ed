"""Bytes-to-bytes codecs of numcodecs, byte for byte against Python's and numcodecs' own."""

import bz2
import lzma
import random
import struct
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numcodecs
import pytest
from chains import BytesChain
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numcodecs import (
    BZ2,
    CRC32,
    LZ4,
    LZMA,
    Adler32,
    Blosc,
    Fletcher32,
    GZip,
    JenkinsLookup3,
    Zlib,
    Zstd,
)
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

from zarrs.codecs._bytes_to_bytes import native_bytes_codec, native_zarr_codec
from zarrs.codecs._registry import CODECS

EXAMPLES = settings(max_examples=200, deadline=None, database=None)
MIB = 1024 * 1024
EXTREME = lzma.PRESET_EXTREME
XZ, ALONE = lzma.FORMAT_XZ, lzma.FORMAT_ALONE

COMPRESSORS = [
    *(BZ2(level) for level in (1, 5, 9)),
    *(LZMA(preset=preset) for preset in (None, 0, 3, 9, EXTREME, 6 | EXTREME)),
    *(LZMA(check=check, preset=0) for check in (-1, 0, 1, 4, 10)),
    *(LZMA(ALONE, check, preset) for check in (-1, 0) for preset in (None, 0, 9)),
]
CHECKSUMS = [
    Fletcher32(),
    *(JenkinsLookup3(initval) for initval in (0, 1, 0x12345678, 2**32 - 1)),
    *(kind(location) for kind in (CRC32, Adler32) for location in (None, "start", "end")),
]
if hasattr(numcodecs, "CRC32C"):
    CHECKSUMS += [numcodecs.CRC32C(location) for location in (None, "start", "end")]
each_compressor = pytest.mark.parametrize("codec", COMPRESSORS, ids=str)
each_checksum = pytest.mark.parametrize(
    "codec", CHECKSUMS, ids=lambda codec: f"{codec} {getattr(codec, 'location', '')}"
)


def chain(*codecs: Any, validate: bool = True) -> Any:
    stages = [native_bytes_codec(codec, 1, validate) for codec in codecs]
    assert not [stage for stage in stages if isinstance(stage, str)]
    return BytesChain([stage for stage in stages if not isinstance(stage, str)])


def check_refused(call: Callable[..., bytes], *arguments: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (what it says is tested elsewhere)
        call(*arguments)


def noise(n: int) -> bytes:
    return random.Random(n).randbytes(n)


def mixed(n: int) -> bytes:
    """Data of which some parts compress well, some a little, some not at all."""
    part = n // 4
    few = bytes(value & 3 for value in noise(part))
    return (noise(part) + few + bytes(part) + b"0123456789" * n)[:n]


SAMPLES = {
    "a byte": b"\x07",
    "two bytes": b"BZ",
    "zeros": bytes(100_000),
    "ones": b"\xff" * 100_001,
    "noise": noise(300_000),
    "mixed": mixed(200_000),
}
each_sample = pytest.mark.parametrize("data", SAMPLES.values(), ids=SAMPLES)


# ---------------------------------------------------------------------- compressors


@each_sample
@each_compressor
def test_compressors(codec: Any, data: bytes) -> None:
    native = chain(codec)
    encoded = codec.encode(data)
    assert native.encode(data) == encoded
    assert native.decode(encoded, len(data)) == data
    for wrong in {len(data) + 1, max(len(data) - 1, 0)} - {len(data)}:
        check_refused(native.decode, encoded, wrong)


@pytest.mark.parametrize("codec", [BZ2(1), BZ2(9), LZMA(preset=0), LZMA(ALONE, preset=0)], ids=str)
def test_megabytes(codec: Any) -> None:
    data = mixed(8 * MIB + 3)
    native = chain(codec)
    encoded = native.encode(data)
    assert encoded == codec.encode(data)
    assert native.decode(encoded, len(data)) == data


def test_auto_reads_both() -> None:
    data, native = mixed(50_000), chain(LZMA(lzma.FORMAT_AUTO))
    for format in (XZ, ALONE):
        assert native.decode(lzma.compress(data, format), len(data)) == data
    check_refused(native.encode, data)


def decompress_lzma(format: int) -> Callable[[bytes], bytes]:
    # Dictionaries may not be much bigger than the data, but as the presets have them; how big one
    # of ALONE says that it is plays no part.
    limit = None if format == ALONE else 128 * MIB
    return lambda data: lzma.decompress(data, format, memlimit=limit)


def decompressor(name: str) -> Any:
    """One that takes its input in pieces."""
    codec, _, _ = READERS[name]
    return bz2.BZ2Decompressor() if name == "bz2" else lzma.LZMADecompressor(codec.format)


READERS: dict[str, tuple[Any, Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "bz2": (BZ2(1), bz2.compress, bz2.decompress),
    "xz": (LZMA(XZ), lzma.compress, decompress_lzma(XZ)),
    "alone": (LZMA(ALONE), lambda data: lzma.compress(data, ALONE), decompress_lzma(ALONE)),
    "auto": (LZMA(lzma.FORMAT_AUTO), lzma.compress, decompress_lzma(lzma.FORMAT_AUTO)),
}
each_reader = pytest.mark.parametrize("name", READERS)


def yields_more(name: str, encoded: bytes, n: int) -> bool:
    """Whether streams yield more than `n` bytes before something about them is wrong."""
    try:
        while encoded:
            current = decompressor(name)
            n -= len(current.decompress(encoded, 1))
            while n >= 0 and not (current.eof or current.needs_input):
                n -= len(current.decompress(b"", 1))
            encoded = current.unused_data
    except (OSError, lzma.LZMAError):
        pass
    return n < 0


def check_reader(name: str, encoded: bytes, sizes: Iterable[int] = ()) -> None:
    """Whatever Python makes of it: the same data, or an error too.

    Python ignores all of a second stream that turns out to be broken; what is too long by then
    is an error here.
    """
    codec, _, decompress = READERS[name]
    native = chain(codec)
    try:
        expected = decompress(encoded)
    except (OSError, ValueError, EOFError, lzma.LZMAError):
        expected = None
    if expected:
        try:
            assert native.decode(encoded, len(expected)) == expected
        except ValueError:
            assert yields_more(name, encoded, len(expected))
    for size in sizes:
        if expected is None or size != len(expected):
            check_refused(native.decode, encoded, size)


@each_reader
@pytest.mark.parametrize("follows", [b"", b"\0", b"\0" * 4, b"garbage" * 9, b"B", b"BZh9", b"\xfd"])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_streams_and_what_follows(name: str, n: int, follows: bytes) -> None:
    _, compress, _ = READERS[name]
    streams = b"".join(compress(mixed(1000 * k)) for k in range(n))
    check_reader(name, streams + follows, (0, 1000, 3000))
    check_reader(name, streams + follows + compress(b"more"), (3000, 3004))


@each_reader
def test_broken_stream_after_a_whole_one(name: str) -> None:
    _, compress, _ = READERS[name]
    first, second = compress(b"first"), bytearray(compress(noise(500)))
    second[len(second) // 2] ^= 1
    check_reader(name, first + bytes(second), (4, 6))


@each_reader
def test_cut_short(name: str) -> None:
    _, compress, _ = READERS[name]
    encoded = compress(mixed(400))
    for n in range(len(encoded)):
        check_reader(name, encoded[:n], (0, 400))


@each_reader
def test_flipped_bits(name: str) -> None:
    # .lzma files have no checksum: then the data are what Python makes of them.
    _, compress, _ = READERS[name]
    encoded = compress(mixed(300))
    for k in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[k // 8] ^= 1 << k % 8
        check_reader(name, bytes(damaged))


@each_reader
@EXAMPLES
@given(data=st.data())
def test_arbitrary_streams(name: str, data: st.DataObject) -> None:
    _, compress, _ = READERS[name]
    pieces = data.draw(st.lists(st.binary(max_size=60).map(compress) | st.binary(max_size=9)))
    encoded = bytearray(b"".join(pieces))
    for _ in range(data.draw(st.integers(0, 2)) if encoded else 0):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    check_reader(name, bytes(encoded))


def xz_with_dictionary(bits: int) -> bytes:
    """An .xz file whose block header asks for a dictionary of that size code, and no more."""
    flags = b"\0\x04"
    header = bytes([2, 0, 0x21, 1, bits, 0, 0, 0])
    return (
        b"\xfd7zXZ\0"
        + flags
        + struct.pack("<I", zlib.crc32(flags))
        + header
        + struct.pack("<I", zlib.crc32(header))
        + bytes(64)
    )


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("xz", xz_with_dictionary(40)),
        ("xz", xz_with_dictionary(37)),
        ("auto", xz_with_dictionary(40)),
        ("alone", b"\x5d" + b"\xff" * 12 + noise(99)),
        ("alone", b"\x5d" + struct.pack("<IQ", 2**31, 2**63) + noise(99)),
        ("alone", b"\xff" * 99),
        ("xz", b"\xfd7zXZ\0" + noise(99)),
        ("bz2", b"BZh0" + noise(99)),
        ("bz2", b"BZh9\x31\x41\x59\x26\x53\x59" + b"\xff" * 99),
        ("bz2", b"BZh9\x17\x72\x45\x38\x50\x90" + b"\xff" * 4),
    ],
)
def test_hostile_headers(name: str, encoded: bytes) -> None:
    for size in (1, 100, 100_000):
        check_refused(chain(READERS[name][0]).decode, encoded, size)


@each_reader
def test_bombs_stop_early(name: str) -> None:
    codec, compress, _ = READERS[name]
    bomb = compress(bytes(50 * MIB))
    for streams in (bomb, compress(b"first") + bomb):
        check_refused(chain(codec).decode, streams, 100)


def test_a_dictionary_as_big_as_the_data() -> None:
    data = bytes(200 * MIB)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 256 * MIB}]
    encoded = lzma.compress(data, filters=filters)
    assert chain(LZMA()).decode(encoded, len(data)) == data


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 2**31, 2**32 - 1])
def test_dictionaries_of_lzma_files(size: int) -> None:
    """What the header asks for is got only as far as there is a use for it."""
    data = noise(5000) * 3
    encoded = bytearray(lzma.compress(data, ALONE, preset=0))
    encoded[1:5] = struct.pack("<I", size)
    codec = chain(LZMA(ALONE))
    if size >= 4096 * 2:
        assert codec.decode(bytes(encoded), len(data)) == data
    else:  # too short a one for what the data refer to
        check_refused(codec.decode, bytes(encoded), len(data))


@EXAMPLES
@given(data=st.binary(min_size=1, max_size=3000), level=st.integers(1, 9))
def test_bz2_hypothesis(data: bytes, level: int) -> None:
    native = chain(BZ2(level))
    assert native.encode(data) == bz2.compress(data, level)
    assert native.decode(native.encode(data), len(data)) == data


@settings(EXAMPLES, max_examples=50)
@given(
    data=st.binary(min_size=1, max_size=3000),
    preset=st.builds(lambda level, extreme: level | extreme, st.integers(0, 4), st.just(EXTREME)),
    format=st.sampled_from([XZ, ALONE]),
)
def test_lzma_hypothesis(data: bytes, preset: int, format: int) -> None:
    native = chain(LZMA(format, preset=preset))
    assert native.encode(data) == lzma.compress(data, format, preset=preset)
    assert native.decode(native.encode(data), len(data)) == data


# ---------------------------------------------------------------------- checksums


@each_checksum
def test_checksums_of_all_lengths(codec: Any) -> None:
    native, source = chain(codec), noise(5000)
    for n in range(1, 5001):
        encoded = bytes(codec.encode(source[:n]))
        assert native.encode(source[:n]) == encoded
        assert native.decode(encoded, n) == source[:n]


@each_sample
@each_checksum
def test_checksums(codec: Any, data: bytes) -> None:
    assert chain(codec).encode(data) == bytes(codec.encode(data))


@each_checksum
@EXAMPLES
@given(
    words=st.lists(st.sampled_from([b"\xff\xff", b"\0\0", b"\0\1", b"\xff\xfe"]), max_size=800),
    last=st.binary(min_size=1, max_size=12),
)
@example(words=[b"\xff\xff"] * 359, last=b"\xff" * 12)
def test_checksums_hypothesis(codec: Any, words: list[bytes], last: bytes) -> None:
    data = b"".join(words) + last
    encoded = bytes(codec.encode(data))
    assert chain(codec).encode(data) == encoded
    assert chain(codec).decode(encoded, len(data)) == data


@each_checksum
def test_wrong_checksums(codec: Any) -> None:
    data = noise(1001)
    encoded = chain(codec).encode(data)
    stage: Any = native_bytes_codec(codec, 1, True)
    start = 4 * stage[1][1]  # JenkinsLookup3.location is not true
    for k in range(0, 8 * len(encoded), 5):
        damaged = bytearray(encoded)
        damaged[k // 8] ^= 1 << k % 8
        check_refused(chain(codec).decode, bytes(damaged), len(data))
        unchecked = chain(codec, validate=False).decode(bytes(damaged), len(data))
        assert unchecked == damaged[start:][: len(data)]
    for n in range(4):
        check_refused(chain(codec).decode, encoded[:n], 1)


# ---------------------------------------------------------------------- together


def test_chains() -> None:
    codecs = [Fletcher32(), BZ2(3), JenkinsLookup3(7), LZMA(preset=1), Adler32("end"), CRC32()]
    data = expected = mixed(100_001)
    for codec in codecs:
        expected = bytes(codec.encode(expected))
    assert chain(*codecs).encode(data) == expected
    assert chain(*codecs).decode(expected, len(data)) == data


def test_threads() -> None:
    """One chain for all threads, levels and formats by turns, with failures in between."""
    jobs = [(codec, chain(codec), mixed(20_000 + k)) for k, codec in enumerate(COMPRESSORS)]

    def run(k: int) -> None:
        codec, native, data = jobs[k % len(jobs)]
        encoded = native.encode(data)
        assert encoded == codec.encode(data)
        assert native.decode(encoded, len(data)) == data
        check_refused(native.decode, encoded[: k % len(encoded)], len(data))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8 * len(jobs))))


# ---------------------------------------------------------------------- what is native


@pytest.mark.parametrize(
    ("codec", "stage"),
    [
        (BZ2(), ("bz2", (1,))),
        (LZMA(), ("lzma", (1, -1, 6))),
        (LZMA(ALONE, 0, 9 | EXTREME), ("lzma", (2, 0, 9 | EXTREME))),
        (CRC32(), ("crc32", (1, 1))),
        (CRC32("end"), ("crc32", (1, 0))),
        (Adler32(), ("adler32", (1, 1))),
        (Fletcher32(), ("fletcher32", (1, 0))),
        (JenkinsLookup3(5), ("jenkins_lookup3", (1, 0, 5))),
        (GZip(9), ("deflate", (9, 0))),
        (Zlib(-1), ("deflate", (-1, 1))),
        (Zstd(-5), ("zstd", (-5, 0))),
        (LZ4(3), ("lz4", (3,))),
        (Blosc("lz4", 3, Blosc.AUTOSHUFFLE, 0), ("blosc", (1, 3, 1, 8, 0))),
    ],
    ids=str,
)
def test_native(codec: Any, stage: tuple[str, tuple[int, ...]]) -> None:
    assert native_bytes_codec(codec, 8, True) == stage


def test_unverified() -> None:
    for codec in CHECKSUMS:
        verified, unverified = (native_bytes_codec(codec, 1, how) for how in (True, False))
        assert isinstance(unverified, tuple)
        assert (unverified[0], unverified[1][0]) == (verified[0], 0)


class OwnBZ2(BZ2):  # type: ignore[misc]  # numcodecs has no annotations
    """It may do anything."""


@pytest.mark.parametrize(
    "codec",
    [
        OwnBZ2(1),
        numcodecs.Delta("<i4"),
        *(BZ2(level) for level in (0, 10, -1, None, "1")),
        *(LZMA(preset=preset) for preset in (10, -1, 1 << 31 | 10, 1 << 30, 1 << 32, "6")),
        *(LZMA(check=check) for check in (2, 3, 16, -2)),
        LZMA(ALONE, 4),
        LZMA(lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}]),
        LZMA(lzma.FORMAT_RAW),
        LZMA(filters=[{"id": lzma.FILTER_LZMA2, "preset": 1}]),
        *(GZip(level) for level in (-1, 10)),
        *(Zlib(level) for level in (-2, 10)),
        *(JenkinsLookup3(initval) for initval in (-1, 2**32)),
        JenkinsLookup3(prefix=b"ab"),
        Zstd(2**40),
        Blosc("snappy"),
    ],
    ids=str,
)
def test_not_native(codec: Any) -> None:
    reason = native_bytes_codec(codec, 1, True)
    assert isinstance(reason, str)
    assert reason


def test_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    for codec, name in ((BZ2(), "bz2"), (LZMA(), "lzma")):
        monkeypatch.setattr("zarrs.codecs._bytes_to_bytes.CODECS", CODECS - {name})
        assert native_bytes_codec(codec, 1, True) == f"the library for {name} is not installed"


@pytest.mark.parametrize(
    ("codec", "stage"),
    [
        (BloscCodec(cname="zstd", clevel=2, shuffle="shuffle", typesize=4), (4, 2, 1, 4, 0)),
        (ZstdCodec(level=3, checksum=True), (3, 1)),
        (GzipCodec(level=7), (7, 0)),
        (Crc32cCodec(), (1,)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_native_zarr(codec: Any, stage: tuple[int, ...]) -> None:
    name = "deflate" if type(codec) is GzipCodec else codec.to_dict()["name"]
    assert native_zarr_codec(codec, True) == (name, stage)


def test_not_native_zarr() -> None:
    assert "TransposeCodec" in native_zarr_codec(TransposeCodec(order=(0,)), True)
