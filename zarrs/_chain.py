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
    ShardingCodec,
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
WRITE_ORDERS = {"lexicographic": 0, "unordered": 0, "colexicographic": 1, "morton": 2}
MAX_DEPTH = 8  # of shards in shards


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
        Why not; or, of a store, how its bytes are reached if not as files.
    """

    name: str
    native: bool
    reason: str = ""

    def __str__(self) -> str:
        """Return this on one line."""
        kind = ["native"] if self.native else []
        return f"{self.name}: {', '.join([*kind, *filter(None, [self.reason])])}"


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
    names : tuple of tuple of str
        The bytes-to-bytes codecs in the order of encoding: those of a chunk; if that is a shard,
        those of its inner chunks; and so on.
    reader, writer : _core.Chain
    """

    parts: tuple[Part, ...]
    reason: str
    dtype: np.dtype[Any]
    stored: np.dtype[Any]
    order: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]
    reader: _core.Chain
    writer: _core.Chain

    @property
    def threaded(self) -> bool:
        """Whether some encoder can use several threads for one chunk."""
        return any(name in THREADED for name in self.names[-1])


def make_chain(
    codecs: Iterable[Any],
    zdtype: Any,
    ndim: int,
    order: str,
    *,
    validate_checksums: bool,
    depth: int = 0,
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
    depth : int
        In how many shards these chunks are.
    """
    dtype = np.dtype(zdtype.to_native_dtype())
    stored = dtype
    axes = tuple(range(ndim))
    parts: list[Part] = []
    stages: list[Stage] = []
    problem = _dtype_problem(dtype)
    inner: Chain | None = None
    sharding: Any = None

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
        elif kind is ShardingCodec:
            sharding = codec
            add("sharding_indexed", _sharding_problem(codec, ndim, depth) or None)
            if depth == MAX_DEPTH:
                continue
            inner = make_chain(
                codec.codecs,
                zdtype,
                ndim,
                order,
                validate_checksums=validate_checksums,
                depth=depth + 1,
            )
            stored = inner.stored
            problem_inside = _division_problem(codec, inner)
            if problem_inside:
                parts[-1] = Part("sharding_indexed", False, problem_inside)
            parts += [replace(part, name=f"sharding_indexed > {part.name}") for part in inner.parts]
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
    if reason:
        stages, inner = [], None
    names: tuple[tuple[str, ...], ...] = (tuple(name for name, _ in stages),)
    reader_shard = writer_shard = None
    if inner is not None:
        names += inner.names
        reader_shard = _shard(sharding, inner, inner.reader, validate_checksums)
        writer_shard = _shard(sharding, inner, inner.writer, validate_checksums)
    return Chain(
        parts=tuple(parts),
        reason=reason,
        dtype=dtype,
        stored=stored,
        order=axes,
        names=names,
        reader=_reader(stages, reader_shard),
        writer=_core.Chain(stages, shard=writer_shard),
    )


def _reader(stages: Sequence[Stage], shard: _core.Shard | None) -> _core.Chain:
    # Checksums that nobody verifies are bytes at the end, and leave raw chunks what they are.
    if stages and all(name == "crc32c" and not params[0] for name, params in stages):
        return _core.Chain([], 4 * len(stages), shard)
    return _core.Chain(stages, shard=shard)


def _sharding_problem(codec: ShardingCodec, ndim: int, depth: int) -> str:
    kinds = [type(one) for one in codec.index_codecs]
    if kinds not in ([BytesCodec], [BytesCodec, Crc32cCodec]):
        names = ", ".join(kind.__name__ for kind in kinds)
        return f"an index with the codecs {names} has no native counterpart"
    if _endian_of(codec.index_codecs[0]) not in ("little", "big"):
        return "the byte order of the index is not given"
    if len(codec.chunk_shape) != ndim:
        return f"inner chunks have {len(codec.chunk_shape)} dimensions, the array has {ndim}"
    return f"more than {MAX_DEPTH} shards in shards" if depth == MAX_DEPTH else ""


def _division_problem(codec: ShardingCodec, inner: Chain) -> str:
    # zarr 3.1 checks that inner chunks fit their shard for the outermost shards only.
    if inner.reader.shard is None or len(codec.chunk_shape) != len(inner.order):
        return ""
    shape = [codec.chunk_shape[k] for k in inner.order]
    if all(m > 0 and n % m == 0 for n, m in zip(shape, inner.reader.shard.shape, strict=True)):
        return ""
    return f"shards of shape {tuple(shape)} do not hold whole inner chunks"


def _shard(codec: Any, inner: Chain, chain: _core.Chain, validate: bool) -> _core.Shard:
    return _core.Shard(
        codec.chunk_shape,
        inner.order,
        inner.dtype.itemsize,
        chain,
        index_at_start=getattr(codec.index_location, "value", codec.index_location) == "start",
        index_swapped=_endian_of(codec.index_codecs[0]) != sys.byteorder,
        index_checksum=len(codec.index_codecs) == 2,
        verify=validate,
        write_order=WRITE_ORDERS[getattr(codec, "subchunk_write_order", "morton")],
    )


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


def _endian_of(codec: Any) -> Any:
    return getattr(codec.endian, "value", codec.endian)


def _stored_dtype(zdtype: Any, dtype: np.dtype[Any], codec: Any) -> np.dtype[Any]:
    # What zarr's own codec makes of it: the byte order of numbers is the codec's.
    endian = _endian_of(codec)
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
