"""From zarr's codecs and data types to native chains, or to the reason why not.

Only the exact classes known here are native: a subclass, or a class registered in place of one of
them, may do something else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.gzip import GZip
from numcodecs.lz4 import LZ4
from numcodecs.zlib import Zlib
from numcodecs.zstd import Zstd
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.codecs._v2 import V2Codec
from zarr.core.dtype.common import HasEndianness

from zarrs import _core
from zarrs.codecs import _blosc, _registry  # noqa: F401  (registers the native codecs)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Stage = tuple[str, tuple[int, ...]]  # registered name and parameters of a native codec
Segment = tuple[int, int, int]  # offset, unit and count of numbers in an item

SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}
AUTOSHUFFLE = -1
GZIP, ZLIB = 0, 1
MAX_BLOSC_TYPESIZE = 255
THREADED = ("blosc",)  # encoders that can use several threads for one chunk


@dataclass(frozen=True)
class Part:
    """One stage of a chain, or a store: what runs it.

    Attributes
    ----------
    name : str
        The codec or store, with its configuration where that matters.
    native : bool
        Whether this package runs it.
    reason : str
        Why not; empty if it is native.
    """

    name: str
    native: bool
    reason: str = ""


@dataclass(frozen=True)
class Chain:
    """The chain of one array, prepared.

    Attributes
    ----------
    parts : tuple of Part
        All stages in the order of encoding.
    reason : str
        Why the chain is not native; empty if it is. The other attributes need it to be empty.
    dtype : numpy.dtype
        The array's data type.
    stored : numpy.dtype
        The data type as it lies in a decoded chunk.
    order : tuple of int
        The array's axes in the order in which chunks are stored.
    names : tuple of str
        The bytes-to-bytes codecs in the order of encoding.
    reader, writer : _core.Chain
    """

    parts: tuple[Part, ...]
    reason: str
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    order: tuple[int, ...]
    names: tuple[str, ...]
    reader: _core.Chain
    writer: _core.Chain

    @property
    def threaded(self) -> bool:
        """Whether some encoder can use several threads for one chunk."""
        return any(name in THREADED for name in self.names)


def make_chain(
    codecs: Iterable[Any], zdtype: Any, ndim: int, order: str, *, validate_checksums: bool
) -> Chain:
    """Prepare the chain of an array.

    Parameters
    ----------
    codecs : iterable of zarr.abc.codec.Codec
        All codecs, in the order of encoding, evolved for the array.
    zdtype : zarr.core.dtype.ZDType
        The array's data type.
    ndim : int
        Number of dimensions.
    order : {"C", "F"}
        Memory order in the array's specification; it counts for format 2 only.
    validate_checksums : bool
        Whether checksums are verified.
    """
    dtype = np.dtype(zdtype.to_native_dtype())
    stored = dtype
    axes = tuple(range(ndim))
    parts: list[Part] = []
    stages: list[Stage] = []
    problem = _dtype_problem(dtype)

    def add(name: str, stage: Stage | str | None) -> None:
        # A stage, a reason, or nothing: codecs that are but a layout leave no stage.
        reason = stage if isinstance(stage, str) else ""
        parts.append(Part(name, not reason, reason))
        if stage is not None and not isinstance(stage, str):
            stages.append(stage)

    for codec in codecs:
        kind = type(codec)
        if kind is TransposeCodec:
            axes = tuple(axes[k] for k in codec.order)
            add("transpose", None)
        elif kind is BytesCodec:
            stored = _stored_dtype(zdtype, dtype, codec)
            add("bytes", problem or None)
        elif kind is V2Codec:
            axes = axes[::-1] if order == "F" else axes
            add(f"order {order}", problem or None)
            for filter_ in codec.filters or ():
                add(_name_of(filter_), "v2 filters run in zarr's pipeline")
            if codec.compressor is not None:
                compressor = codec.compressor
                add(_name_of(compressor), _v2_stage(compressor, dtype))
        else:
            make = STAGES.get(kind)
            unknown = f"{kind.__module__}.{kind.__qualname__} has no native counterpart"
            add(_name_of(codec), make(codec, validate_checksums) if make else unknown)

    reason = "; ".join(f"{part.name}: {part.reason}" for part in parts if not part.native)
    return Chain(
        parts=tuple(parts),
        reason=reason,
        dtype=dtype,
        stored=stored,
        order=axes,
        names=tuple(name for name, _ in stages),
        reader=_reader(stages if not reason else []),
        writer=_core.Chain(stages if not reason else []),
    )


def _reader(stages: Sequence[Stage]) -> _core.Chain:
    # Checksums that nobody verifies are bytes at the end, and leave raw chunks what they are.
    if stages and all(name == "crc32c" and not params[0] for name, params in stages):
        return _core.Chain([], 4 * len(stages))
    return _core.Chain(stages)


def _name_of(codec: Any) -> str:
    name = getattr(codec, "codec_id", None)
    if name is None:
        try:
            name = codec.to_dict()["name"]
        except Exception:
            name = type(codec).__name__
    return str(name)


def _dtype_problem(dtype: np.dtype[Any]) -> str:
    if dtype.hasobject or dtype.kind == "T":
        return f"items of data type {dtype} have no fixed size"
    if dtype.itemsize == 0:
        return f"items of data type {dtype} have no bytes"
    return ""


def _stored_dtype(zdtype: Any, dtype: np.dtype[Any], codec: Any) -> np.dtype[Any]:
    # What zarr's own codec makes of it: the byte order of numbers is the codec's.
    endian = getattr(codec.endian, "value", codec.endian)
    if isinstance(zdtype, HasEndianness):
        stored: Any = replace(zdtype, endianness=endian)
        native: np.dtype[Any] = stored.to_native_dtype()
        return native
    if endian is not None and dtype.fields:
        return dtype.newbyteorder(endian)
    return dtype


def _blosc_stage(codec: BloscCodec, _validate: bool) -> Stage | str:
    return _blosc_params(
        str(getattr(codec.cname, "value", codec.cname)),
        codec.clevel,
        SHUFFLES[str(getattr(codec.shuffle, "value", codec.shuffle))],
        codec.typesize,
        codec.blocksize,
    )


def _blosc_params(
    cname: str, clevel: int, shuffle: int, typesize: int, blocksize: int
) -> Stage | str:
    if cname not in _blosc.COMPRESSORS:
        return f"the compressor {cname!r} is not built in"
    if not 0 <= clevel <= 9 or shuffle not in SHUFFLES.values() or blocksize < 0:
        return f"clevel {clevel}, shuffle {shuffle}, blocksize {blocksize} are for zarr to judge"
    # The library's own rule for sizes that do not fit a byte.
    typesize = typesize if 0 < typesize <= MAX_BLOSC_TYPESIZE else 1
    compressor = _blosc.COMPRESSORS.index(cname)
    return "blosc", (compressor, clevel, shuffle, typesize, blocksize)


STAGES: dict[type, Callable[[Any, bool], Stage | str]] = {
    BloscCodec: _blosc_stage,
    ZstdCodec: lambda codec, _: ("zstd", (codec.level, int(codec.checksum))),
    GzipCodec: lambda codec, _: ("deflate", (codec.level, GZIP)),
    Crc32cCodec: lambda _, validate: ("crc32c", (int(validate),)),
}


def _v2_stage(compressor: Any, dtype: np.dtype[Any]) -> Stage | str:
    kind = type(compressor)
    if kind is Blosc:
        typesize = getattr(compressor, "typesize", None) or dtype.itemsize
        shuffle = compressor.shuffle
        if shuffle == AUTOSHUFFLE:
            shuffle = SHUFFLES["bitshuffle" if typesize == 1 else "shuffle"]
        return _blosc_params(
            compressor.cname, compressor.clevel, shuffle, typesize, compressor.blocksize
        )
    if kind is Zstd:
        return "zstd", (compressor.level, int(getattr(compressor, "checksum", False)))
    if kind is GZip and 0 <= compressor.level <= 9:
        return "deflate", (compressor.level, GZIP)
    if kind is Zlib and -1 <= compressor.level <= 9:
        return "deflate", (compressor.level, ZLIB)
    if kind is LZ4:
        return "lz4", (compressor.acceleration,)
    return f"{kind.__module__}.{kind.__qualname__} has no native counterpart"


def swapped_segments(a: np.dtype[Any], b: np.dtype[Any]) -> list[Segment] | None:
    """Return where the items of two data types differ in byte order; None if in anything else.

    Examples
    --------
    >>> swapped_segments(np.dtype("<i4"), np.dtype(">i4"))
    [(0, 4, 1)]
    >>> swapped_segments(np.dtype("<i4"), np.dtype("<f4")) is None
    True
    """
    if a == b:
        return []
    if a.newbyteorder("=") != b.newbyteorder("="):
        return None
    if a.subdtype is not None and b.subdtype is not None:
        inner = swapped_segments(a.subdtype[0], b.subdtype[0])
        size = a.subdtype[0].itemsize
        repeats = range(a.itemsize // size)
        return inner and [(r * size + o, u, n) for r in repeats for o, u, n in inner]
    if a.fields is not None and b.fields is not None:
        segments: list[Segment] = []
        for name, field in a.fields.items():
            inner = swapped_segments(field[0], b.fields[name][0])
            if inner is None or field[1] != b.fields[name][1]:
                return None
            segments += [(field[1] + o, u, n) for o, u, n in inner]
        return segments
    unit = {"c": a.itemsize // 2, "U": 4}.get(a.kind, a.itemsize)
    return [(0, unit, a.itemsize // unit)]


def foreign_order(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this type are not in the byte order of the machine."""
    return dtype.byteorder == (">" if sys.byteorder == "little" else "<")
