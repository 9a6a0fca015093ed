"""Codecs of format 2 and of format 3 that store the same bytes.

Format 2 has a list of filters and a compressor, in which any codec may be; format 3 has codecs of
arrays, one that makes bytes of items, and codecs of bytes. numcodecs' codecs are in both:
in format 3 those that the specification has under their names, others as ``numcodecs.NAME``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numcodecs
import numcodecs.abc
from numcodecs.vlen import VLenBytes, VLenUTF8
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec, BytesBytesCodec, Codec
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    TransposeCodec,
    VLenBytesCodec,
    VLenUTF8Codec,
    ZstdCodec,
)
from zarr.core.array import default_serializer_v3
from zarr.core.dtype.common import HasEndianness
from zarr.registry import get_codec_class

STRINGS = {VLenUTF8Codec: VLenUTF8, VLenBytesCodec: VLenBytes}
SHUFFLES: tuple[Any, ...] = ("noshuffle", "shuffle", "bitshuffle")  # by numcodecs' numbers


class FormatError(ValueError):
    """A codec has no counterpart in the other format; the message says what to pass."""


@dataclass(frozen=True)
class Codecs:
    """The codecs of a chunk, or of an inner chunk, as format 3 groups them.

    Attributes
    ----------
    filters : tuple of ArrayArrayCodec
    serializer : ArrayBytesCodec
    compressors : tuple of BytesBytesCodec
    """

    filters: tuple[Any, ...]
    serializer: Any
    compressors: tuple[Any, ...]

    @property
    def all(self) -> tuple[Any, ...]:
        """Return them in the order of encoding."""
        return (*self.filters, self.serializer, *self.compressors)

    @classmethod
    def of(cls, codecs: Any) -> Codecs:
        """Group codecs of format 3."""
        codecs = tuple(codecs)
        [serializer] = [one for one in codecs if isinstance(one, ArrayBytesCodec)]
        place = codecs.index(serializer)
        return cls(codecs[:place], serializer, codecs[place + 1 :])


# From format 2 to format 3.


def from_format_2(metadata: Any, *, filters: bool = True, compressor: bool = True) -> Codecs:
    """Return the codecs of format 3 that store what an array of format 2 stores.

    Parameters
    ----------
    metadata : ArrayV2Metadata
    filters, compressor : bool
        Whether its filters and its compressor are wanted; what makes bytes of strings always is.

    Raises
    ------
    FormatError
        If there are none.
    """
    before: list[Any] = []
    serializer: Any = None
    behind: list[Any] = []
    if metadata.order == "F" and len(metadata.shape) > 1:
        before.append(TransposeCodec(order=tuple(reversed(range(len(metadata.shape))))))
    wanted = [
        codec for codec in metadata.filters or () if filters or type(codec) in (VLenUTF8, VLenBytes)
    ]
    if compressor and metadata.compressor is not None:
        wanted.append(metadata.compressor)
    for codec in wanted:
        found = as_format_3(codec, metadata.dtype)
        if isinstance(found, BytesBytesCodec):
            behind.append(found)
        elif serializer is not None or behind:
            raise FormatError(
                f"format 3 has no place for the filter {codec.codec_id!r} behind one that makes "
                "bytes: pass other filters and compressors"
            )
        elif isinstance(found, ArrayArrayCodec):
            before.append(found)
        else:
            serializer = found
    if serializer is None:
        serializer = default_serializer(metadata.dtype)
    return Codecs(tuple(before), serializer, tuple(behind))


def default_serializer(dtype: Any) -> Any:
    """Return what makes bytes of items in the byte order of a data type."""
    if isinstance(dtype, HasEndianness):
        return BytesCodec(endian=dtype.endianness)
    return default_serializer_v3(dtype)


def as_format_3(codec: Any, dtype: Any) -> Codec:
    """Return a codec of format 3.

    Parameters
    ----------
    codec : object
        One of either format: itself, its name, or a dictionary as in metadata.
    dtype : ZDType
        Of the array.
    """
    if isinstance(codec, str):
        codec = {"name": codec}
    if isinstance(codec, dict) and "name" in codec:
        return _made(codec)
    codec = _numcodec(codec)
    if not isinstance(codec, numcodecs.abc.Codec):
        known: Codec = codec
        return known
    for kind, other in STRINGS.items():
        if type(codec) is other:
            return kind()
    config = codec.get_config()
    name = config.pop("id")
    itemsize = dtype.to_native_dtype().itemsize
    if type(codec) is numcodecs.Zstd:
        return ZstdCodec(level=codec.level, checksum=config.get("checksum", False))
    if type(codec) is numcodecs.GZip:
        return GzipCodec(level=codec.level)
    if type(codec) is numcodecs.Blosc:
        auto = numcodecs.Blosc.BITSHUFFLE if itemsize == 1 else numcodecs.Blosc.SHUFFLE
        shuffle = auto if codec.shuffle == numcodecs.Blosc.AUTOSHUFFLE else codec.shuffle
        return BloscCodec(
            typesize=itemsize or 1,
            cname=codec.cname,
            clevel=codec.clevel,
            shuffle=SHUFFLES[shuffle],
            blocksize=codec.blocksize,
        )
    if name == "crc32c" and config.get("location", "end") == "end":
        return Crc32cCodec()
    return _made({"name": f"numcodecs.{name}", "configuration": config})


def _made(document: dict[str, Any]) -> Codec:
    # A codec of format 3 from what metadata say of it.
    name = document["name"]
    try:
        kind = get_codec_class(name)
    except (KeyError, ValueError) as error:
        raise FormatError(
            f"format 3 has no codec {name!r}: pass other compressors (or filters, if it is one), "
            "or install the package that brings it"
        ) from error
    configuration = document.get("configuration", {})
    try:
        return kind.from_dict({"name": name, "configuration": configuration})
    except (TypeError, ValueError, KeyError) as error:
        raise FormatError(f"codec {name!r} does not take {configuration}: {error}") from error


# From format 3 to format 2.


def to_format_2(codecs: Codecs, dtype: Any) -> dict[str, Any]:
    """Return the parts of format 2 metadata that store what codecs of format 3 store.

    Raises
    ------
    FormatError
        If there are none.
    """
    order = "C"
    filters: list[Any] = []
    for i, codec in enumerate(codecs.filters):
        if not isinstance(codec, TransposeCodec):
            filters.append(as_format_2(codec))
        elif codec.order == tuple(range(len(codec.order))):
            continue
        elif codec.order == tuple(reversed(range(len(codec.order)))) and i == 0:
            order = "F"
        else:
            raise FormatError(
                f"format 2 stores axes in the order C or F only, not {codec.order}: pass filters "
                "without that codec"
            )
    if type(codecs.serializer) is BytesCodec:
        given: Any = codecs.serializer.endian
        endian = getattr(given, "value", given)
        if isinstance(dtype, HasEndianness) and endian is not None:
            dtype = with_endianness(dtype, endian)
    else:
        filters.append(as_format_2(codecs.serializer))
    filters += [as_format_2(one) for one in codecs.compressors]
    # All but the last are filters; what makes bytes of strings is no compressor.
    has_compressor = bool(codecs.compressors) or (
        bool(filters) and type(codecs.serializer) not in (BytesCodec, *STRINGS)
    )
    compressor = filters.pop() if has_compressor else None
    return {
        "dtype": dtype,
        "order": order,
        "filters": tuple(filters) or None,
        "compressor": compressor,
    }


def with_endianness(dtype: Any, endian: str) -> Any:
    """Return a data type in another byte order."""
    return replace(dtype, endianness=endian)


def as_format_2(codec: Any) -> numcodecs.abc.Codec:
    """Return a codec of format 2, of one of either format in any form."""
    if isinstance(codec, str):
        codec = {"name": codec}
    if isinstance(codec, dict) and "name" in codec:
        codec = _made(codec)
    codec = _numcodec(codec)
    if isinstance(codec, numcodecs.abc.Codec):
        return codec
    if type(codec) in STRINGS:
        return STRINGS[type(codec)]()
    if type(codec) is ZstdCodec:
        return numcodecs.Zstd(level=codec.level, checksum=codec.checksum)
    if type(codec) is GzipCodec:
        return numcodecs.GZip(level=codec.level)
    if type(codec) is BloscCodec:
        return _blosc(codec)
    if type(codec) is Crc32cCodec:
        checksum: numcodecs.abc.Codec = _numcodec({"id": "crc32c"})
        return checksum
    inner = getattr(codec, "_codec", None)  # of zarr's wrappers of numcodecs
    if isinstance(inner, numcodecs.abc.Codec):
        return inner
    document = codec.to_dict() if isinstance(codec, Codec) else codec
    raise FormatError(
        f"format 2 has no codec {document}: pass other compressors (or filters, if it is one)"
    )


def _blosc(codec: BloscCodec) -> numcodecs.abc.Codec:
    name = getattr(codec.cname, "value", codec.cname)
    shuffle = getattr(codec.shuffle, "value", codec.shuffle)
    return numcodecs.Blosc(name, codec.clevel, SHUFFLES.index(shuffle), codec.blocksize)


def _numcodec(codec: Any) -> Any:
    if not isinstance(codec, dict):
        return codec
    try:
        return numcodecs.get_codec(dict(codec))
    except Exception as error:  # of an unknown name, or of a codec whose package is missing
        raise FormatError(f"numcodecs makes no codec of {codec}: {error}") from error
