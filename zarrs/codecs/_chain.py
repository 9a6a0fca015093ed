"""From zarr's codecs and data types to chains of stages, native ones and others.

Only the exact classes known here are native: a subclass, or a class registered in place of one of
them, may do something else. Whatever has no native form runs in Python, for its stage only. What
not even that can be done with is left to zarr's pipeline, with the reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.blosc import Blosc
from numcodecs.vlen import VLenBytes, VLenUTF8
from zarr.abc.codec import ArrayArrayCodec, ArrayBytesCodec
from zarr.codecs import (
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    TransposeCodec,
    VLenBytesCodec,
    VLenUTF8Codec,
)
from zarr.codecs import numcodecs as wrapped
from zarr.codecs._v2 import V2Codec
from zarr.core.dtype.common import HasEndianness

from zarrs import _core
from zarrs.codecs import _registry  # noqa: F401  (registers the native codecs)
from zarrs.codecs._array_to_array import FILTERS, native_filter
from zarrs.codecs._bytes_to_bytes import COMPRESSORS, native_bytes_codec, native_zarr_codec
from zarrs.codecs._python_stages import NumcodecsStage, Step, ZarrStage, name_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zarr.core.array_spec import ArraySpec

Stage = tuple[str, tuple[int, ...]]  # registered name and parameters
Segment = tuple[int, int, int]  # offset, unit and count of numbers in an item
DType = np.dtype[Any]

THREADED = ("blosc",)  # encoders that can use several threads for one chunk
WRITE_ORDERS = {
    "lexicographic": _core.WriteOrder.LEXICOGRAPHIC,
    "unordered": _core.WriteOrder.LEXICOGRAPHIC,
    "colexicographic": _core.WriteOrder.COLEXICOGRAPHIC,
    "morton": _core.WriteOrder.MORTON,
}
MAX_DEPTH = 8  # of shards in shards
BYTES = np.dtype(np.uint8)
NUMBERS = "iufcMm"  # kinds of data types whose items are one number, or two

# zarr's wrappers of numcodecs for format 3.
WRAPPERS = tuple(getattr(wrapped, name) for name in wrapped.__all__ if not name.startswith("_"))
STRING_CODECS = {VLenUTF8Codec: "T", VLenUTF8: "T", VLenBytesCodec: "O", VLenBytes: "O"}


@dataclass(frozen=True)
class Part:
    """One stage of a chain, or a store: what runs it.

    Attributes
    ----------
    name : str
        The codec or store, with its configuration where that matters.
    native : bool
        Whether native code runs it.
    reason : str
        Why not; or, of a store, how its bytes are reached if not as files.
    python : bool
        Whether it runs in Python, for this stage only: all others are what they are. If it is
        neither this nor native, zarr's own pipeline takes the whole chain.

    Examples
    --------
    >>> import zarrs
    >>> array = zarrs.create_array({}, shape=(4,), chunks=(2,), dtype="i4")
    >>> for stage in zarrs.explain(array).stages:
    ...     print(stage.name, stage.native)
    bytes True
    zstd True
    """

    name: str
    native: bool
    reason: str = ""
    python: bool = False

    def __str__(self) -> str:
        """Return this on one line."""
        kind = ["native"] if self.native else ["in Python"] if self.python else []
        return f"{self.name}: {', '.join([*kind, *filter(None, [self.reason])])}"


@dataclass(frozen=True)
class Chain:
    """The chain of one array, prepared.

    Attributes
    ----------
    parts : tuple of Part
        All codecs in the order of encoding.
    reason : str
        Why zarr's pipeline takes all of it; empty if it does not. The other attributes need it to
        be empty.
    dtype : numpy.dtype
        The array's data type.
    stored : numpy.dtype
        The data type in a decoded chunk.
    order : tuple of int
        The array's axes in the order in which chunks are stored.
    items : str
        The name of the codec that makes bytes of items.
    names : tuple of tuple of str
        The codecs of the stages in the order of encoding: those of a chunk; if that is a shard,
        those of its inner chunks; and so on.
    stages : tuple of tuple of str
        What these stages are registered as.
    reader, writer : _core.NativeChain
    python : bool
        Whether some stage runs in Python.
    by_shape : bool
        Whether this holds for chunks of one shape only.
    strings : bool
        Whether items are strings, or bytes, of variable length.
    threaded : bool
        Whether some encoder can use several threads for one chunk.
    """

    parts: tuple[Part, ...]
    reason: str
    dtype: DType
    stored: DType
    order: tuple[int, ...]
    items: str
    names: tuple[tuple[str, ...], ...]
    stages: tuple[tuple[str, ...], ...]
    reader: _core.NativeChain
    writer: _core.NativeChain
    python: bool
    by_shape: bool
    strings: bool
    threaded: bool


def make_chain(
    codecs: Iterable[Any], spec: ArraySpec, *, validate_checksums: bool, depth: int = 0
) -> Chain:
    """Prepare the chain of an array.

    Parameters
    ----------
    codecs : iterable of zarr.abc.codec.Codec
        All codecs, in the order of encoding, evolved for the array.
    spec : zarr.core.array_spec.ArraySpec
        Of its chunks; if the chain is not ``by_shape``, that of one stands for all.
    validate_checksums : bool
        Whether checksums are verified.
    depth : int
        In how many shards these chunks are.
    """
    builder = _Builder(spec, validate_checksums, depth)
    for codec in codecs:
        builder.add(codec)
    return builder.finish()


class _Builder:
    # A chain on its way, codec by codec in the order of encoding.

    def __init__(self, spec: ArraySpec, validate: bool, depth: int) -> None:
        self.spec = spec  # what the next codec is handed
        self.validate = validate
        self.depth = depth
        self.dtype: DType = np.dtype(spec.dtype.to_native_dtype())
        self.data: DType | None = self.dtype  # what it is made of; None: unknown
        self.stored = self.dtype
        self.axes = tuple(range(len(spec.shape)))
        self.is_array = True  # not bytes yet
        self.is_serialized = False  # the last codec has made bytes of arrays
        self.group: ZarrStage | None = None  # a Python stage that the next codec may join
        self.in_order = False  # some stage sees where in the chunk an item is
        self.by_shape = False
        self.strings = False
        self.items = "bytes"
        self.parts: list[Part] = []
        self.stages: list[Stage] = []
        self.names: list[str] = []
        self.kept: list[Any] = []
        self.inner: Chain | None = None
        self.sharding: Any = None

    # Parts and stages

    def native(self, name: str, *stages: Stage) -> None:
        self.group = None
        self.parts.append(Part(name, native=True))
        for stage in stages:
            self.push(name, stage)

    def push(self, name: str, stage: Stage) -> None:
        self.stages.append(stage)
        self.names.append(name)

    def refuse(self, name: str, reason: str) -> None:
        self.parts.append(Part(name, native=False, reason=reason))

    def in_python(self, name: str, reason: str, stage: Any) -> None:
        self.parts.append(Part(name, native=False, reason=reason, python=True))
        self.push(name, ("python", (id(stage),)))
        self.kept.append(stage)
        self.in_order = True
        self.by_shape = True

    def swap(self, name: str, dtype: DType) -> None:
        # Between foreign numbers and those of the machine.
        if foreign_order(dtype):
            unit = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
            self.push(name, ("swap", (unit,)))

    # Codecs

    def add(self, codec: Any) -> None:
        kind = type(codec)
        name = name_of(codec)
        was_array = self.is_array
        if kind is TransposeCodec and not self.in_order:
            self.axes = tuple(self.axes[k] for k in codec.order)
            self.spec = codec.resolve_metadata(self.spec)
            self.native(name)
        elif kind in STRING_CODECS:
            self.add_strings(codec, name)
        elif kind is BytesCodec:
            self.add_bytes(codec, name)
        elif kind is ShardingCodec and not self.stages:
            self.add_shards(codec)
        elif kind is V2Codec:
            self.add_format_2(codec)
        elif isinstance(codec, ArrayArrayCodec):
            self.add_filter(codec, name)
        elif self.is_array:
            behind = "it comes after a codec that changes items" if kind is ShardingCodec else ""
            self.add_zarr_stage(codec, name, behind or _unknown(codec))
        else:
            self.add_bytes_codec(codec, name)
        self.is_serialized = was_array and not self.is_array and kind is not ShardingCodec

    def add_bytes(self, codec: BytesCodec, name: str) -> None:
        self.is_array = False
        problem = _dtype_problem(self.dtype)
        if problem:
            self.refuse(name, problem)
            return
        assert self.data is not None
        stored = _stored_dtype(self.spec.dtype, self.data, codec)
        if not self.stages:
            self.stored = stored
            self.native(name)
        elif stored == self.data:
            self.native(name)
        elif stored.kind in NUMBERS:
            self.native(name)
            self.swap(name, stored if foreign_order(stored) else self.data)
        else:
            self.add_zarr_stage(codec, name, f"items of {self.data} come from another codec")
        self.data = BYTES

    def add_filter(self, codec: Any, name: str) -> None:
        problem = _dtype_problem(self.dtype)
        if problem:
            self.refuse(name, problem)
            return
        found: Any = _unknown(codec)
        assert self.data is not None
        if type(codec) in WRAPPERS:
            # Numbers are what their data type says; numcodecs looks at their bytes.
            foreign = foreign_order(self.data) or foreign_order(self.dtype)
            found = "its numbers are not in the byte order of the machine" if foreign else None
            found = found or native_filter(codec._codec, self.data)
        elif type(codec).__module__.startswith("zarr.codecs."):
            found = native_filter(codec, self.data)
        if isinstance(found, str):
            self.add_zarr_stage(codec, name, found)
            return
        self.spec = codec.resolve_metadata(self.spec)
        if self.group is not None and type(codec) not in WRAPPERS:
            self.group.by_value = True
        self.push_filter(name, found)

    def push_filter(self, name: str, found: Any) -> None:
        # The stage itself works in the byte order of the machine, unless it takes any bytes.
        if not self.stages and found.source != BYTES:
            self.stored = found.source.newbyteorder("=")
        elif self.stages:
            self.swap(name, found.source)
        self.native(name, (found.name, found.params))
        self.swap(name, found.target)
        self.kept.append(found.keep)
        self.data = found.target
        self.in_order = self.in_order or not found.elementwise

    def add_zarr_stage(self, codec: Any, name: str, reason: str) -> None:
        problem = _dtype_problem(self.dtype) if isinstance(codec, ArrayBytesCodec) else ""
        if problem or (self.is_array and self.data is None):
            self.refuse(name, problem or reason)
            return
        try:
            target = codec.resolve_metadata(self.spec)
        except Exception as error:  # so that zarr raises it where it would have
            self.refuse(name, f"{reason}; {type(error).__name__}: {error}")
            return
        if self.group is None:
            self.group = ZarrStage(
                self.data if self.data is not None else BYTES,
                is_outermost=not self.stages,
                is_serialized=self.is_serialized,
            )
            self.in_python(name, reason, self.group)
        else:
            self.parts.append(Part(name, native=False, reason=reason, python=True))
        self.group.steps.append(Step(codec, name, self.spec))
        self.spec = target
        self.group.target = target if isinstance(codec, ArrayArrayCodec) else None
        if isinstance(codec, ArrayArrayCodec):
            self.data = np.dtype(self.spec.dtype.to_native_dtype())
        else:
            if isinstance(codec, ArrayBytesCodec):
                self.items = name
            self.is_array = False
            self.data = BYTES

    def add_bytes_codec(self, codec: Any, name: str) -> None:
        if type(codec) in WRAPPERS:
            found = self.native_numcodec(codec._codec, name)
        else:
            stage = native_zarr_codec(codec, self.validate)
            found = stage if isinstance(stage, str) else None
            if not isinstance(stage, str):
                self.native(name, stage)
        if found is not None:
            self.add_zarr_stage(codec, name, found)

    def add_strings(self, codec: Any, name: str) -> None:
        self.is_array = False
        self.items = name
        self.data = BYTES
        if self.stages or self.dtype.kind != STRING_CODECS[type(codec)]:
            self.refuse(name, f"items of data type {self.dtype} come to it")
            return
        self.strings = True
        self.native(name)

    def add_shards(self, codec: Any) -> None:
        name = "sharding_indexed"
        problem = _sharding_problem(codec, len(self.spec.shape), self.depth)
        self.sharding = codec
        self.is_array = False
        self.data = BYTES
        if self.depth == MAX_DEPTH or len(codec.chunk_shape) != len(self.spec.shape):
            self.refuse(name, problem)
            return
        inner = make_chain(
            codec.codecs,
            replace(self.spec, shape=tuple(codec.chunk_shape)),
            validate_checksums=self.validate,
            depth=self.depth + 1,
        )
        self.inner = inner
        self.stored = inner.stored
        self.items = inner.items
        self.strings = inner.strings
        self.parts.append(Part(name, native=True))
        if not problem:
            problem = _division_problem(codec, inner)
        if problem:
            self.parts[-1] = Part(name, native=False, reason=problem)
        self.parts += [replace(part, name=f"{name} > {part.name}") for part in inner.parts]

    def add_format_2(self, codec: V2Codec) -> None:
        if self.spec.order == "F":
            self.axes = self.axes[::-1]
        filters = list(codec.filters or ())
        codecs = [*filters, *([] if codec.compressor is None else [codec.compressor])]
        if filters and type(filters[0]) in STRING_CODECS:
            self.add_strings(filters[0], name_of(filters[0]))
            del codecs[0]
        else:
            problem = _dtype_problem(self.dtype)
            if problem:
                self.refuse(f"order {self.spec.order}", problem)
            else:
                self.native(f"order {self.spec.order}")
        waiting: NumcodecsStage | None = None  # a Python stage that others may join
        for one in codecs:
            name = name_of(one)
            if getattr(one, "codec_id", None) == "pickle":
                self.refuse(name, "zarr decides whether pickles may be read")
                continue
            found = self.native_numcodec(one, name)
            if not isinstance(found, str):
                if waiting is not None and type(one) not in COMPRESSORS:
                    waiting.target = getattr(one, "dtype", BYTES)
                waiting = None
                continue
            waiting = self.add_numcodecs_stage(one, name, found, waiting)
        if waiting is not None:
            waiting.target = BYTES
            waiting.is_stored = True
        self.is_array = False

    def add_numcodecs_stage(
        self, codec: Any, name: str, reason: str, waiting: NumcodecsStage | None
    ) -> NumcodecsStage:
        if waiting is None:
            shape = None if self.stages or self.strings else self.spec.shape
            waiting = NumcodecsStage(self.data, shape, self.spec.order)
            self.in_python(name, reason, waiting)
        else:
            self.parts.append(Part(name, native=False, reason=reason, python=True))
        waiting.codecs.append(codec)
        self.data = None
        return waiting

    def native_numcodec(self, codec: Any, name: str) -> str | None:
        # Adds a native stage; or returns the reason why there is none.
        if self.data is None:
            known = BYTES
            if type(codec) is Blosc and not getattr(codec, "typesize", None):
                return "the size of the items that it is handed is not known"
        else:
            known = self.data
        stage = native_bytes_codec(codec, known.itemsize, self.validate)
        if not isinstance(stage, str):
            self.native(name, stage)
            self.data = BYTES
            return None
        found = native_filter(codec, known)
        if isinstance(found, str):
            return found if type(codec) in FILTERS else stage
        self.push_filter(name, found)
        return None

    # The end

    def finish(self) -> Chain:
        reason = "; ".join(
            f"{part.name}: {part.reason}" for part in self.parts if not (part.native or part.python)
        )
        inner = self.inner
        if self.group is not None:
            self.group.is_stored = True
        if len(self.stages) > _core.MAX_STAGES:
            reason = reason or f"more than {_core.MAX_STAGES} stages"
        if reason:
            self.stages, self.names, inner = [], [], None
        names: tuple[tuple[str, ...], ...] = (tuple(self.names),)
        stages: tuple[tuple[str, ...], ...] = (tuple(name for name, _ in self.stages),)
        reader_shard = writer_shard = None
        if inner is not None:
            names += inner.names
            stages += inner.stages
            reader_shard = _shard(self.sharding, inner, inner.reader, self.validate)
            writer_shard = _shard(self.sharding, inner, inner.writer, self.validate)
        strings = self.strings and inner is None
        return Chain(
            parts=tuple(self.parts),
            reason=reason,
            dtype=self.dtype,
            stored=self.stored,
            order=self.axes,
            items=self.items,
            names=names,
            stages=stages,
            reader=_reader(self.stages, reader_shard, strings, self.kept),
            writer=_core.NativeChain(
                self.stages, shard=writer_shard, strings=strings, keep=self.kept
            ),
            python=any(part.python for part in self.parts),
            by_shape=self.by_shape,
            strings=self.strings,
            threaded=(
                inner.threaded if inner else any(name in THREADED for name, _ in self.stages)
            ),
        )


def _reader(
    stages: Sequence[Stage], shard: _core.Shard | None, strings: bool, kept: Sequence[Any]
) -> _core.NativeChain:
    # Checksums that are not verified are bytes at the end, and leave raw chunks what they are.
    if stages and all(name == "crc32c" and not any(params) for name, params in stages):
        return _core.NativeChain([], 4 * len(stages), shard, strings)
    return _core.NativeChain(stages, shard=shard, strings=strings, keep=kept)


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
    if inner.reader.shard is None:
        return ""
    shape = [codec.chunk_shape[k] for k in inner.order]
    if all(m > 0 and n % m == 0 for n, m in zip(shape, inner.reader.shard.shape, strict=True)):
        return ""
    return f"shards of shape {tuple(shape)} do not hold whole inner chunks"


def _shard(codec: Any, inner: Chain, chain: _core.NativeChain, validate: bool) -> _core.Shard:
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


def _unknown(codec: Any) -> str:
    return f"{type(codec).__module__}.{type(codec).__qualname__} has no native counterpart"


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
