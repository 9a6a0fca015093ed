"""From the bytes-to-bytes codecs of zarr and numcodecs to native ones, or to the reason why not.

Only the exact classes known here are native: a subclass may do something else. Parameters that
the library would refuse are left to the codec itself, which raises what its users expect.
"""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING, Any

import numcodecs
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
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from zarrs.codecs import _blosc
from zarrs.codecs._registry import CODECS

if TYPE_CHECKING:
    from collections.abc import Callable

Stage = tuple[str, tuple[int, ...]]  # registered name and parameters of a native codec

SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
AUTOSHUFFLE = -1
MAX_BLOSC_TYPESIZE = 255
GZIP, ZLIB = 0, 1
NO_CHECK = (-1, lzma.CHECK_NONE)  # -1: the format's default
LZMA_CHECKS = {
    lzma.FORMAT_AUTO: NO_CHECK,
    lzma.FORMAT_XZ: (*NO_CHECK, lzma.CHECK_CRC32, lzma.CHECK_CRC64, lzma.CHECK_SHA256),
    lzma.FORMAT_ALONE: NO_CHECK,
}
COMPRESSORS = (BZ2, LZ4, LZMA, Blosc, GZip, Zlib, Zstd)  # of numcodecs: they decode to `bytes`
MAX_INT32 = 2**31 - 1
MAX_UINT32 = 2**32 - 1


def native_bytes_codec(codec: Any, itemsize: int, validate: bool) -> Stage | str:
    """Return what a codec of numcodecs is natively.

    Parameters
    ----------
    codec : numcodecs.abc.Codec
        The codec.
    itemsize : int
        Bytes an item, for codecs whose configuration does not say.
    validate : bool
        Whether checksums are verified.

    Returns
    -------
    tuple or str
        The registered name and the parameters, or why there is no native counterpart.
    """
    kind = type(codec)
    if kind in _NUMCODECS:
        return _available(_NUMCODECS[kind](codec, itemsize, validate))
    return _unknown(kind)


def native_zarr_codec(codec: Any, validate: bool) -> Stage | str:
    """Return what one of zarr's own bytes-to-bytes codecs is natively.

    Parameters
    ----------
    codec : zarr.abc.codec.BytesBytesCodec
        The codec, evolved for its array.
    validate : bool
        Whether checksums are verified.

    Returns
    -------
    tuple or str
        The registered name and the parameters, or why there is no native counterpart.
    """
    kind = type(codec)
    return _ZARR[kind](codec, validate) if kind in _ZARR else _unknown(kind)


def _unknown(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__} has no native counterpart"


def _available(stage: Stage | str) -> Stage | str:
    if not isinstance(stage, str) and stage[0] not in CODECS:
        return f"the library for {stage[0]} is not installed"
    return stage


def _is_between(low: int, value: Any, high: int) -> bool:
    return isinstance(value, int) and low <= value <= high


def _refused(**parameters: Any) -> str:
    what = ", ".join(f"{name} {value!r}" for name, value in parameters.items())
    return f"the native codec does not take {what}"


def _blosc_stage(
    cname: str, clevel: int, shuffle: int, typesize: int, blocksize: int
) -> Stage | str:
    if cname not in _blosc.COMPRESSORS:
        return f"the compressor {cname!r} is not built in"
    if not 0 <= clevel <= 9 or shuffle not in SHUFFLES.values() or blocksize < 0:
        return _refused(clevel=clevel, shuffle=shuffle, blocksize=blocksize)
    # The library's own rule for sizes that do not fit a byte.
    typesize = typesize if 0 < typesize <= MAX_BLOSC_TYPESIZE else 1
    compressor = _blosc.COMPRESSORS.index(cname)
    return "blosc", (compressor, clevel, shuffle, typesize, blocksize)


def _blosc_of_zarr(codec: BloscCodec, _validate: bool) -> Stage | str:
    return _blosc_stage(
        str(getattr(codec.cname, "value", codec.cname)),
        codec.clevel,
        SHUFFLES[str(getattr(codec.shuffle, "value", codec.shuffle))],
        codec.typesize,
        codec.blocksize,
    )


def _blosc_of_numcodecs(codec: Any, itemsize: int, _validate: bool) -> Stage | str:
    typesize = getattr(codec, "typesize", None) or itemsize
    shuffle = codec.shuffle
    if shuffle == AUTOSHUFFLE:
        shuffle = SHUFFLES["bitshuffle" if typesize == 1 else "shuffle"]
    return _blosc_stage(codec.cname, codec.clevel, shuffle, typesize, codec.blocksize)


def _zstd(codec: Any, _itemsize: int, _validate: bool) -> Stage | str:
    if not _is_between(-MAX_INT32, codec.level, MAX_INT32):
        return _refused(level=codec.level)
    return "zstd", (codec.level, int(getattr(codec, "checksum", False)))


def _lz4(codec: Any, _itemsize: int, _validate: bool) -> Stage | str:
    if not _is_between(-MAX_INT32, codec.acceleration, MAX_INT32):
        return _refused(acceleration=codec.acceleration)
    return "lz4", (codec.acceleration,)


def _gzip(codec: Any, _itemsize: int, _validate: bool) -> Stage | str:
    if not _is_between(0, codec.level, 9):
        return _refused(level=codec.level)
    return "deflate", (codec.level, GZIP)


def _zlib(codec: Any, _itemsize: int, _validate: bool) -> Stage | str:
    if not _is_between(-1, codec.level, 9):
        return _refused(level=codec.level)
    return "deflate", (codec.level, ZLIB)


def _bz2(codec: Any, _itemsize: int, _validate: bool) -> Stage | str:
    if not _is_between(1, codec.level, 9):
        return _refused(level=codec.level)
    return "bz2", (codec.level,)


def _lzma(codec: Any, _itemsize: int, _validate: bool) -> Stage | str:
    if codec.filters is not None:
        return "filters of its own have no native counterpart"
    if codec.check not in LZMA_CHECKS.get(codec.format, ()):
        return _refused(format=codec.format, check=codec.check)
    preset = lzma.PRESET_DEFAULT if codec.preset is None else codec.preset
    if not (_is_between(0, preset, MAX_UINT32) and preset & ~lzma.PRESET_EXTREME <= 9):
        return _refused(preset=preset)
    return "lzma", (codec.format, codec.check, preset)


def _checksum(name: str) -> Callable[[Any, int, bool], Stage | str]:
    def stage(codec: Any, _itemsize: int, validate: bool) -> Stage | str:
        location = getattr(codec, "location", None)
        if location not in ("start", "end"):
            return _refused(location=location)
        return name, (int(validate), int(location == "start"))

    return stage


def _fletcher32(_codec: Any, _itemsize: int, validate: bool) -> Stage | str:
    return "fletcher32", (int(validate), 0)


def _jenkins_lookup3(codec: Any, _itemsize: int, validate: bool) -> Stage | str:
    if codec.prefix is not None:
        return "a prefix has no native counterpart"
    if not _is_between(0, codec.initval, MAX_UINT32):
        return _refused(initval=codec.initval)
    return "jenkins_lookup3", (int(validate), 0, codec.initval)


_ZARR: dict[type, Callable[[Any, bool], Stage | str]] = {
    BloscCodec: _blosc_of_zarr,
    ZstdCodec: lambda codec, _: ("zstd", (codec.level, int(codec.checksum))),
    GzipCodec: lambda codec, _: ("deflate", (codec.level, GZIP)),
    Crc32cCodec: lambda _, validate: ("crc32c", (int(validate),)),
}
_NUMCODECS: dict[type, Callable[[Any, int, bool], Stage | str]] = {
    Adler32: _checksum("adler32"),
    BZ2: _bz2,
    Blosc: _blosc_of_numcodecs,
    CRC32: _checksum("crc32"),
    Fletcher32: _fletcher32,
    GZip: _gzip,
    JenkinsLookup3: _jenkins_lookup3,
    LZ4: _lz4,
    LZMA: _lzma,
    Zlib: _zlib,
    Zstd: _zstd,
}
if hasattr(numcodecs, "CRC32C"):  # numcodecs needs another package for it
    _NUMCODECS[numcodecs.CRC32C] = _checksum("crc32c")
