"""What errors say, and which attributes they have: which array, key and codec, what was expected
and found, and what to do."""

import bz2
import copy
import gzip
import inspect
import lzma
import pickle
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import (
    ZARR_34,
    assert_same,
    chunk_file,
    emit,
    newer,
    ours_open,
    run_child,
    stock_write,
    stored_files,
)
from numcodecs import BZ2, LZ4, LZMA, PackBits, Zlib
from own_codecs import Hooked, HookedArray
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore, MemoryStore, ZipStore

import zarrs

DATA = np.arange(64, dtype="<i4").reshape(8, 8)
ATTRIBUTES = ("array", "key", "filename", "codec", "inner_chunk")


def attributes(error: Any) -> tuple[Any, ...]:
    return tuple(getattr(error, name) for name in ATTRIBUTES)


def create(store: Any, name: str = "", **how: Any) -> zarr.Array[Any]:
    """Four chunks, or two shards of two inner chunks each, that are filled."""
    how = {"compressors": [ZstdCodec()], "chunks": (4, 4), "dtype": "<i4"} | how
    array = zarr.create_array(store, name=name or None, shape=(8, 8), **how)
    array[...] = DATA
    return array


def caught(act: Callable[[], Any]) -> Any:
    with pytest.raises(zarrs.ChunkError) as info:
        act()
    return info.value


# ------------------------------------------------------------------------------------ attributes


def test_what_is_damage(tmp_path: Path) -> None:
    """What nobody can read; not what a codec in Python or this package is at fault for."""
    array = create(tmp_path, compressors=[Crc32cCodec()])
    (tmp_path / "c/0/0").write_bytes(bytes(68))
    error = caught(lambda: array[:4, :4])
    assert error.is_damage
    assert pickle.loads(pickle.dumps(error)).is_damage
    assert not zarrs.ChunkError("of somebody's own").is_damage


def test_attributes_of_chunks(native: None, tmp_path: Path) -> None:
    array = create(tmp_path, "a/b")
    file = tmp_path / "a/b/c/1/0"
    file.write_bytes(b"junk")
    for act in (lambda: array[...], lambda: array[5, 2], lambda: array.__setitem__((5, 2), 1)):
        error = caught(act)
        assert attributes(error) == ("a/b", "a/b/c/1/0", str(file), "zstd", None)
        assert "chunk 'c/1/0' of array 'a/b'" in str(error)
        assert str(error).count(str(file)) == 1


def test_attributes_of_format_2(native: None, tmp_path: Path) -> None:
    array = create(tmp_path, "old", zarr_format=2, compressors=Zlib())
    file = tmp_path / "old" / "1.1"
    file.write_bytes(b"junk")
    error = caught(lambda: array[...])
    assert attributes(error) == ("old", "old/1.1", str(file), "zlib", None)


def test_attributes_in_other_stores(native: None) -> None:
    store = MemoryStore()
    array = create(store, "a", compressors=[])
    store._store_dict["a/c/0/1"] = store._store_dict["a/c/0/1"][:-1]
    error = caught(lambda: array[...])
    assert attributes(error) == ("a", "a/c/0/1", None, "bytes", None)
    assert "expected 64 bytes, found 63 bytes" in str(error)


def damage_inner(file: Path, number: int) -> None:
    """Make junk of an inner chunk of a shard whose index is at the end."""
    raw = bytearray(file.read_bytes())
    index = np.frombuffer(raw[-4 - 32 : -4], "<u8").reshape(2, 2)
    offset, size = (int(x) for x in index[number])
    raw[offset : offset + size] = b"\x01" * size
    file.write_bytes(raw)


@pytest.mark.parametrize("in_memory", [False, True])
def test_attributes_of_inner_chunks(native: None, tmp_path: Path, in_memory: bool) -> None:
    create(tmp_path, "a", shards=(4, 8))
    file = tmp_path / "a/c/1/0"
    damage_inner(file, 1)
    store: Any = LocalStore(tmp_path)
    if in_memory:
        kept = stored_files(tmp_path) | {"a/zarr.json": (tmp_path / "a/zarr.json").read_bytes()}
        as_buffer = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes
        store = MemoryStore({key: as_buffer(value) for key, value in kept.items()})
    array = zarr.open_array(store, path="a")
    for act in (lambda: array[...], lambda: array[6, 5], lambda: array.__setitem__((6, 5), 1)):
        error = caught(act)
        filename = None if in_memory else str(file)
        assert attributes(error) == ("a", "a/c/1/0", filename, "zstd", (0, 1))
        assert "inner chunk (0, 1) of shard 'c/1/0' of array 'a'" in str(error)


def test_attributes_of_an_index(native: None, tmp_path: Path) -> None:
    array = create(tmp_path, shards=(4, 8))
    file = chunk_file(tmp_path, 3, 0, 0)
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(raw)
    for act in (lambda: array[...], lambda: array.__setitem__((1, 1), 1)):
        error = caught(act)
        assert attributes(error) == ("", "c/0/0", str(file), None, None)


def test_attributes_in_shards_of_shards(native: None, tmp_path: Path) -> None:
    """The inner chunk is that of the outermost shard."""
    inner = ShardingCodec(chunk_shape=(2, 2), codecs=[BytesCodec(), Crc32cCodec()])
    array = create(
        tmp_path, chunks=(8, 8), compressors=[],
        serializer=ShardingCodec(chunk_shape=(4, 4), codecs=[inner]),
    )  # fmt: skip
    file = chunk_file(tmp_path, 3, 0, 0)
    raw = bytearray(file.read_bytes())
    raw[0] ^= 1  # of the first inner chunk in the order of Morton
    file.write_bytes(raw)
    error = caught(lambda: array[...])
    assert attributes(error) == ("", "c/0/0", str(file), "crc32c", (0, 0))


AROUND_SHARDS = pytest.mark.filterwarnings(
    "ignore:Combining a `sharding_indexed` codec:zarr.errors.ZarrUserWarning"
)


@AROUND_SHARDS
def test_attributes_in_shards_behind_a_codec_in_python(native: None, tmp_path: Path) -> None:
    """Which zarr's own sharding codec reads, and inner chunks with our pipeline."""
    HookedArray.hooks["k"] = lambda now, data, spec: data
    serializer = ShardingCodec(chunk_shape=(4, 4), codecs=[BytesCodec(), Crc32cCodec()])
    array = create(
        tmp_path, "a", chunks=(8, 8), serializer=serializer, filters=[HookedArray("k")],
        compressors=[],
    )  # fmt: skip
    file = tmp_path / "a/c/0/0"
    raw = bytearray(file.read_bytes())
    raw[0] ^= 1
    file.write_bytes(raw)
    error = caught(lambda: array[...])
    assert attributes(error) == ("a", "a/c/0/0", str(file), "crc32c", (0, 0))
    [note] = error.__notes__
    assert "codec 'sharding_indexed' failed while reading chunk 'c/0/0' of array 'a'" in note


def test_attributes_of_what_codecs_in_python_return(native: None, tmp_path: Path) -> None:
    Hooked.hooks["k"] = lambda now, data, spec: data[:-1] if now == "decode" else data
    array = create(tmp_path, compressors=[Hooked("k"), ZstdCodec()])
    error = caught(lambda: array[...])
    file = chunk_file(tmp_path, 3, 0, 0)
    assert attributes(error) == ("", "c/0/0", str(file), "own.hooked", None)


def test_attributes_are_documented() -> None:
    text = inspect.getdoc(zarrs.ChunkError) or ""
    assert re.findall(r"^(\w+) : ", text, re.MULTILINE) == [*ATTRIBUTES, "is_damage"]
    assert attributes(zarrs.ChunkError("without")) == (None,) * 5


def child_error(path: str) -> None:
    emit(pickle.dumps(caught(lambda: ours_open(path)[...])).hex())


def test_copies(native: None, tmp_path: Path) -> None:
    """Also from another process, with notes."""
    create(tmp_path, shards=(4, 8))
    damage_inner(chunk_file(tmp_path, 3, 1, 0), 0)
    error = caught(lambda: ours_open(tmp_path)[...])
    error.add_note("a note")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is zarrs.ChunkError
        assert str(again) == str(error)
        assert attributes(again) == attributes(error)
        assert again.__notes__ == ["a note"]
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert attributes(again) == attributes(error)
    (line,) = run_child(child_error, str(tmp_path)).check()
    sent = pickle.loads(bytes.fromhex(line))
    assert attributes(sent) == attributes(error)
    assert str(sent) == str(error)


# ------------------------------------------------------------------------------- names of arrays


def test_an_array_opened_by_its_own_path(native: None, tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    create(path)
    chunk_file(path, 3, 0, 0).write_bytes(b"junk")
    error = caught(lambda: zarr.open_array(str(path))[...])
    assert f"of array {str(path)!r} (file " in str(error)
    assert error.array == ""
    error = caught(lambda: zarr.open_group(tmp_path, mode="a")["x.zarr"][...])  # type: ignore[index]
    assert "of array 'x.zarr' (file " in str(error)
    assert error.array == "x.zarr"


def test_an_array_that_is_a_whole_store(native: None, tmp_path: Path) -> None:
    memory = MemoryStore()
    packed = ZipStore(tmp_path / "x.zip", mode="w")
    for store in (memory, packed):
        array = create(store, compressors=[Crc32cCodec()])
        del array
    memory._store_dict["c/0/0"] = memory._store_dict["c/0/0"][:-1]
    error = caught(lambda: zarr.open_array(memory)[...])
    assert f"of array {str(memory)!r}:" in str(error)
    packed.close()


# --------------------------------------------------------------------------------------- OSError


@pytest.mark.parametrize("doing", ["reading", "writing"])
def test_an_oserror_says_its_path_once(native: None, tmp_path: Path, doing: str) -> None:
    array = create(tmp_path, "a")
    file = tmp_path / "a/c/0/1"
    file.unlink()
    if doing == "reading":
        file.symlink_to(file)
    else:
        file.mkdir()
        (file / "in the way").touch()
    with pytest.raises(OSError, match=r"^\[Errno ") as info:
        array[...] if doing == "reading" else array.__setitem__(..., 1)
    error = info.value
    assert error.filename == str(file)
    assert str(error).count(str(file)) == 1
    assert str(error).endswith(f"while {doing} chunk 'c/0/1' of array 'a': {str(file)!r}")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.filename) == (str(error), error.filename)


# ------------------------------------------------------------------------------ words of libraries


def _cut(raw: bytes) -> bytes:
    return raw[:-3]


def _turned(position: int) -> Callable[[bytes], bytes]:
    def turn(raw: bytes) -> bytes:
        changed = bytearray(raw)
        changed[position] ^= 0xFF
        return bytes(changed)

    return turn


def _junk(raw: bytes) -> bytes:
    return b"\x07" * len(raw)


TRUNCATED = "the chunk is truncated"
INVALID = "no valid stream, or its checksum does not match"
WORDS: dict[str, tuple[Any, Callable[[bytes], bytes], str]] = {
    "zstd, cut": (ZstdCodec(), _cut, rf"Src size is incorrect: {TRUNCATED} \(error code 72\)"),
    "zstd, checksum": (ZstdCodec(checksum=True), _turned(-1), r"checksum .*\(error code 22\)"),
    "zstd, junk": (ZstdCodec(), _junk, "no Zstandard frame begins where one should"),
    "gzip, cut": (GzipCodec(), _cut, rf"{TRUNCATED} \(error code -5\)"),
    "gzip, checksum": (GzipCodec(), _turned(-6), rf"{INVALID} \(error code -3\)"),
    "gzip, junk": (GzipCodec(), _junk, INVALID),
    "blosc, cut": (BloscCodec(cname="lz4"), _cut, r"expected \d+ bytes, found \d+ bytes"),
    "blosc, junk": (BloscCodec(), _junk, "a buffer of another format"),
    "blosc, sizes": (BloscCodec(), _turned(9), "sizes in its header that do not go together"),
    "blosc, starts": (BloscCodec(), _turned(17), r"Invalid data \(error code -3\)"),
    "blosc, zstd": (BloscCodec(cname="zstd"), _turned(24), r"\w[\w ]+ \(error code -\d+\)"),
    "zlib, cut": (Zlib(), _cut, rf"{TRUNCATED} \(error code -5\)"),
    "zlib, checksum": (Zlib(), _turned(-1), rf"{INVALID} \(error code -3\)"),
    "bz2, cut": (BZ2(), _cut, rf"{TRUNCATED} \(error code -7\)"),
    "bz2, checksum": (BZ2(), _turned(-6), rf"{INVALID} \(error code -4\)"),
    "bz2, junk": (BZ2(), _junk, r"no bzip2 stream begins where one should \(error code -5\)"),
    "lzma, cut": (LZMA(), _cut, rf"{TRUNCATED} \(error code 10\)"),
    "lzma, checksum": (LZMA(), _turned(-6), rf"{INVALID} \(error code 9\)"),
    "lzma, junk": (LZMA(), _junk, "no stream of the format that this codec is for"),
    "lz4, cut": (LZ4(), _cut, r"the block is damaged at about byte \d+ \(error code -\d+\)"),
    "lz4, size": (LZ4(), _turned(1), r"expected \d+ bytes, found \d+ bytes|not what its header"),
}


def damaged(path: Path, codec: Any, damage: Callable[[bytes], bytes]) -> Path:
    """An array of one codec whose first chunk is damaged; the file of that."""
    data = np.random.default_rng(0).integers(0, 9, (8, 8)).astype("<i4")
    zarr_format: Any = 2 if isinstance(codec, numcodecs.abc.Codec) else 3
    compressors = codec if zarr_format == 2 else [codec]
    array = create(path, compressors=compressors, zarr_format=zarr_format, chunks=(8, 8))
    array[...] = data
    file = chunk_file(path, zarr_format, 0, 0)
    file.write_bytes(damage(file.read_bytes()))
    return file


@pytest.mark.parametrize("case", WORDS)
def test_words_of_libraries(native: None, tmp_path: Path, case: str) -> None:
    codec, damage, words = WORDS[case]
    damaged(tmp_path, codec, damage)
    array = ours_open(tmp_path)
    for act in (lambda: array[...], lambda: array.__setitem__((1, 1), 1)):
        error = caught(act)
        assert re.search(words, str(error)), str(error)
        assert str(error).endswith("; the chunk can be replaced by writing all of it")
        assert error.codec == case.partition(",")[0]
    array[...] = DATA
    assert_same(array[...], DATA)


def test_words_of_blocks(native: None, tmp_path: Path) -> None:
    """Of a Blosc buffer that is decoded block by block."""
    array = zarr.create_array(
        tmp_path, shape=(2**17,), chunks=(2**17,), dtype="i4",
        compressors=[BloscCodec(cname="lz4", blocksize=2**16)],
    )  # fmt: skip
    array[...] = np.random.default_rng(0).integers(0, 9, 2**17)
    file = chunk_file(tmp_path, 3, 0)
    file.write_bytes(_turned(19)(file.read_bytes()))
    error = caught(lambda: array[5:7])
    assert "damaged data: blocks of it outside of the buffer, or on top" in str(error)


def test_words_of_bits(native: None, tmp_path: Path) -> None:
    array = zarr.create_array(
        tmp_path, shape=(9,), chunks=(9,), dtype=bool, zarr_format=2,
        filters=[PackBits()], compressors=None,
    )  # fmt: skip
    array[...] = True
    chunk_file(tmp_path, 2, 0).write_bytes(b"\x09\0\0")
    assert "found damaged data: 9 bits of padding in its first byte" in str(
        caught(lambda: array[...])
    )


@pytest.mark.parametrize(
    ("codec", "decode"),
    [
        (GzipCodec(), gzip.decompress),
        (Zlib(), zlib.decompress),
        (BZ2(), bz2.decompress),
        (LZMA(), lzma.decompress),
    ],
)
def test_what_is_called_truncated_is_that(
    native: None, tmp_path: Path, codec: Any, decode: Callable[[bytes], bytes]
) -> None:
    """At whatever byte a stream is cut, and no other damage."""
    file = damaged(tmp_path, codec, lambda raw: raw)
    raw = file.read_bytes()
    assert len(decode(raw)) == DATA.nbytes
    for n in range(len(raw) - 1, len(raw) // 2, -3):
        file.write_bytes(raw[:n])
        assert TRUNCATED in str(caught(lambda: ours_open(tmp_path)[...])), n
    file.write_bytes(_junk(raw))
    assert TRUNCATED not in str(caught(lambda: ours_open(tmp_path)[...]))


# ---------------------------------------------------------------------------------- empty chunks


EMPTY: dict[str, tuple[dict[str, Any], str]] = {
    "raw": ({"compressors": []}, "expected 64 bytes, found 0 bytes"),
    "big": ({"compressors": [], "chunks": (1024, 1024)}, "expected 4194304 bytes, found 0 bytes"),
    "zstd": ({}, "expected data of 'zstd', found 0 bytes"),
    "gzip": ({"compressors": [GzipCodec()]}, "expected data of 'gzip', found 0 bytes"),
    "blosc": ({"compressors": [BloscCodec()]}, "expected data of 'blosc', found 0 bytes"),
    "big blosc": (
        {"compressors": [BloscCodec()], "chunks": (1024, 1024)},
        "expected data of 'blosc', found 0 bytes",
    ),
    "crc32c": (
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        "expected data of 'crc32c', found 0 bytes",
    ),
    "lz4": ({"compressors": LZ4(), "zarr_format": 2}, "expected data of 'lz4', found 0 bytes"),
}


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("case", EMPTY)
def test_an_empty_chunk_is_called_empty(
    native: None, tmp_path: Path, case: str, in_memory: bool
) -> None:
    how, words = EMPTY[case]
    store: Any = MemoryStore() if in_memory else tmp_path
    array = create(store, **how)
    if in_memory:
        key = "0.0" if how.get("zarr_format") == 2 else "c/0/0"
        store._store_dict[key] = store._store_dict[key][:0]
    else:
        chunk_file(tmp_path, how.get("zarr_format", 3), 0, 0).write_bytes(b"")
    for act in (lambda: array[...], lambda: array[0, 0], lambda: array.__setitem__((0, 1), 1)):
        error = caught(act)
        text = f": the chunk is empty: {words}; the chunk can be replaced by writing all of it"
        assert str(error).endswith(text), str(error)


def test_an_empty_chunk_of_strings(native: None, tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path, shape=(4,), chunks=(4,), dtype=str, compressors=[])
    array[...] = "text"
    chunk_file(tmp_path, 3, 0).write_bytes(b"")
    assert "the chunk is empty: expected data of 'vlen-utf8'" in str(caught(lambda: array[...]))


@AROUND_SHARDS
@pytest.mark.parametrize("around", [False, True])
def test_an_empty_shard(native: None, tmp_path: Path, around: bool) -> None:
    serializer = ShardingCodec(chunk_shape=(4, 4), codecs=[BytesCodec()])
    array = create(
        tmp_path, chunks=(8, 8), serializer=serializer, compressors=[ZstdCodec()] * around
    )
    chunk_file(tmp_path, 3, 0, 0).write_bytes(b"")
    fault = (
        "expected data of 'zstd', found 0 bytes"
        if around
        else "the stored shard is too short to hold its index: expected at least 68 bytes, found 0"
    )
    text = f": the shard is empty: {fault}; the shard can be replaced"
    for act in (lambda: array[...], lambda: array.__setitem__((1, 1), 1)):
        assert text in str(caught(act))


def test_nothing_can_be_what_codecs_make_of_a_chunk(native: None, tmp_path: Path) -> None:
    """Then a codec in Python is asked."""

    def hook(now: str, data: Any, spec: Any) -> Any:
        made = spec.prototype.buffer.from_bytes
        return made(b"" if now == "encode" else DATA[:4, :4].tobytes())

    Hooked.hooks["k"] = hook
    array = create(tmp_path, compressors=[Hooked("k")])
    assert set(stored_files(tmp_path).values()) == {b""}
    assert_same(array[:4, 4:], DATA[:4, :4])


# ---------------------------------------------------------------------------------------- advice


def test_a_damaged_index(native: None, tmp_path: Path) -> None:
    """A shard can be replaced by writing all of it, and by nothing less."""
    array = create(tmp_path, shards=(4, 8))
    file = chunk_file(tmp_path, 3, 0, 0)
    raw = file.read_bytes()
    for change in (_turned(-1), _turned(-20), lambda raw: raw[-20:]):
        file.write_bytes(change(raw))
        for act in (lambda: array[...], lambda: array.__setitem__((slice(4), slice(4)), 1)):
            error = caught(act)
            assert str(error).endswith("; the shard can be replaced by writing all of it")
            assert file.read_bytes() == change(raw)
        array[:4] = DATA[:4] + 1
        assert_same(array[:4], DATA[:4] + 1)


def test_a_damaged_inner_chunk(native: None, tmp_path: Path) -> None:
    """It can be replaced by writing all of it, without the rest of its shard."""
    array = create(tmp_path, shards=(4, 8))
    damage_inner(chunk_file(tmp_path, 3, 0, 0), 1)
    for act in (lambda: array[...], lambda: array.__setitem__((1, 5), 1)):
        error = caught(act)
        assert str(error).endswith("; the inner chunk can be replaced by writing all of it")
    array[0, :4] = 7  # what is well can be written
    array[:4, 4:] = 1
    expected = DATA.copy()
    expected[0, :4] = 7
    expected[:4, 4:] = 1
    assert_same(array[...], expected)


@AROUND_SHARDS
def test_codecs_around_a_shard(native: None, tmp_path: Path) -> None:
    serializer = ShardingCodec(chunk_shape=(4, 4), codecs=[BytesCodec()])
    array = create(tmp_path, chunks=(8, 8), serializer=serializer)
    file = chunk_file(tmp_path, 3, 0, 0)
    file.write_bytes(b"junk")
    error = caught(lambda: array.__setitem__((slice(4), slice(4)), 1))
    assert str(error).endswith("; the shard can be replaced by writing all of it")
    array[...] = DATA
    assert_same(array[...], DATA)


# ------------------------------------------------------------------------- numbers that do not fit


if ZARR_34:
    CastValue = newer("zarr.codecs", "CastValue")
    ScaleOffset = newer("zarr.codecs", "ScaleOffset")

    def out_of_range(fault: str, dtype: str) -> str:
        limits: Any = np.finfo(dtype) if dtype[0] == "f" else np.iinfo(dtype)
        return rf"{fault} dtype {dtype} \[{limits.min}, {limits.max}\]".replace("+", r"\+")

    OUTSIDE = "a value outside the range of"
    NUMBERS: dict[str, tuple[str, Any, list[Any], str]] = {
        "int8": (
            "int8", ScaleOffset(offset=0, scale=100), [0, 1, 2],
            rf"{OUTSIDE} dtype int8 \[-128, 127\]; it comes of item 2 of the chunk, 2;",
        ),
        "uint8": (
            "uint8", ScaleOffset(offset=10, scale=1), [10, 5, 20],
            rf"{OUTSIDE} dtype uint8 \[0, 255\]; it comes of item 1 of the chunk, 5;",
        ),
        "uint64": (
            "uint64", ScaleOffset(offset=100, scale=1), [100, 2**63, 50],
            rf"{OUTSIDE} dtype uint64 \[0, {2**64 - 1}\]; it comes of item 2 of the chunk, 50;",
        ),
        "big-endian": (
            ">u2", ScaleOffset(offset=0, scale=256), [1, 255, 256],
            rf"{OUTSIDE} dtype uint16 \[0, 65535\]; it comes of item 2 of the chunk, 256;",
        ),
        "cast": (
            "int32", CastValue(data_type="int8"), [1, -128, 300],
            rf"{OUTSIDE} dtype int8 \[-128, 127\]; it comes of item 2 of the chunk, 300;",
        ),
        "cast of NaN": (
            "float64", CastValue(data_type="uint8"), [1.0, np.nan, 2.0],
            rf"{OUTSIDE} dtype uint8 \[0, 255\]; it comes of item 1 of the chunk, nan;",
        ),
        "cast to floats": (
            "float64", CastValue(data_type="float32"), [1.0, 2.0, 1e300],
            rf"{OUTSIDE} dtype float32 \[-3.4\d*e\+38, 3.4\d*e\+38\]; it comes of item 2 of the "
            r"chunk, 1e\+300;",
        ),
    }  # fmt: skip

    @pytest.mark.parametrize("case", NUMBERS)
    def test_numbers_out_of_range(native: None, tmp_path: Path, case: str) -> None:
        dtype, codec, numbers, words = NUMBERS[case]
        array = zarr.create_array(
            tmp_path, shape=(3,), chunks=(3,), dtype=dtype, filters=[codec], compressors=[],
            fill_value=numbers[0],
        )  # fmt: skip
        array[...] = numbers[0]
        array[1] = numbers[0] if dtype == "uint64" else numbers[1] if case == "cast" else numbers[0]
        before = stored_files(tmp_path)
        error = caught(lambda: array.__setitem__(..., np.array(numbers, dtype)))
        assert re.search(words, str(error)), str(error)
        assert str(error).endswith("; what is stored stays as it was")
        assert "expected results that its data type can represent" in str(error)
        assert error.codec in ("scale_offset", "cast_value")
        assert stored_files(tmp_path) == before

    @pytest.mark.parametrize("dtype", ["int8", ">i4", "uint64"])
    def test_remainders(native: None, tmp_path: Path, dtype: str) -> None:
        scale = 2 if dtype != "uint64" else 2**63
        array = zarr.create_array(
            tmp_path, shape=(3,), chunks=(3,), dtype=dtype,
            filters=[ScaleOffset(offset=0, scale=scale)], compressors=[], fill_value=0,
        )  # fmt: skip
        raw = np.array([0, scale, 3], dtype.replace(">", "<"))
        file = chunk_file(tmp_path, 3, 0)
        file.parent.mkdir()
        file.write_bytes(raw.tobytes())
        error = caught(lambda: array[...])
        assert f"a non-zero remainder, which dtype {np.dtype(dtype).name} cannot" in str(error)
        assert "it comes of item 2 of the chunk, 3;" in str(error)
        assert str(error).endswith("; the chunk can be replaced by writing all of it")


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr:UserWarning")
def test_items_that_are_not_whole(native: None, tmp_path: Path) -> None:
    """Between a codec in Python and a native one that needs whole items."""

    def hook(now: str, data: Any, spec: Any) -> Any:
        return data[:-1] if now == "encode" else data

    Hooked.hooks["k"] = lambda now, data, spec: data
    codecs = [Hooked("k"), zarr.codecs.numcodecs.Shuffle(elementsize=4)]
    array = create(tmp_path, compressors=codecs)
    before = stored_files(tmp_path)
    Hooked.hooks["k"] = hook
    error = caught(lambda: array.__setitem__(..., DATA + 1))
    assert "expected whole items, 60 bytes of them, found 63 bytes" in str(error)
    assert str(error).endswith("; what is stored stays as it was")
    assert stored_files(tmp_path) == before


def test_what_is_damaged_before_a_write(native: None, tmp_path: Path) -> None:
    """zarr's pipeline writes what ours reads, and the other way round, after a refusal."""
    array = create(tmp_path)
    chunk_file(tmp_path, 3, 0, 0).write_bytes(b"junk")
    caught(lambda: array.__setitem__((0, 0), 1))
    stock_write(tmp_path, (slice(4), slice(4)), DATA[:4, :4])
    assert_same(array[...], DATA)
