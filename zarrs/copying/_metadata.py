"""The metadata of a copy, from those of an array and from what is asked for."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import ShardingCodec
from zarr.core.dtype.common import HasEndianness
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

from zarrs._access import chunks_of
from zarrs.copying._formats import (
    Codecs,
    FormatError,
    as_format_2,
    as_format_3,
    from_format_2,
    to_format_2,
    with_endianness,
)

Keep = Literal["keep"]
KEEP: Keep = "keep"
DIMENSIONS = "_ARRAY_DIMENSIONS"  # the attribute in which xarray has them in format 2
# What says how items are stored, and nothing else.
STORED = {
    2: ("shape", "chunks", "dtype", "fill_value", "order", "filters", "compressor"),
    3: ("shape", "data_type", "chunk_grid", "fill_value", "codecs", "storage_transformers"),
}


class LayoutError(ValueError):
    """An array cannot be stored as it is asked for; the message says which, and why."""


@dataclass(frozen=True)
class Wishes:
    """How the copies are to be stored; "keep": as the source is.

    Attributes
    ----------
    chunks : tuple of int, int or "auto"
        Of arrays with as many axes; of one number, of all arrays.
    shards : tuple of int, int or None
    filters, compressors : sequence of codecs, or None
    serializer : codec
    zarr_format : int, optional
        None: that of the source.
    """

    chunks: Any = KEEP
    shards: Any = KEEP
    filters: Any = KEEP
    serializer: Any = KEEP
    compressors: Any = KEEP
    zarr_format: Literal[2, 3] | None = None

    def __post_init__(self) -> None:
        """Refuse a format that there is not."""
        if self.zarr_format not in (None, 2, 3):
            raise LayoutError(f"zarr_format must be 2, 3 or None, not {self.zarr_format!r}")

    def fits(self, ndim: int) -> bool:
        """Whether chunks and shards can be meant for arrays with so many axes."""
        lengths = [len(one) for one in (self.chunks, self.shards) if isinstance(one, tuple)]
        return all(length == ndim for length in lengths)

    @property
    def shown(self) -> str:
        """Chunks and shards in an error."""
        pairs = ("chunks", self.chunks), ("shards", self.shards)
        return ", ".join(f"{name} {one}" for name, one in pairs if isinstance(one, tuple))

    def for_array(self, ndim: int) -> Wishes:
        """Return what is asked of an array with so many axes."""
        return self if self.fits(ndim) else replace(self, chunks=KEEP, shards=KEEP)

    @property
    def keeps_codecs(self) -> bool:
        """Whether nothing is said of codecs."""
        return all(_is_keep(one) for one in (self.filters, self.serializer, self.compressors))

    @property
    def keeps_layout(self) -> bool:
        """Whether nothing is said of chunks, shards and codecs."""
        return self.keeps_codecs and _is_keep(self.chunks) and _is_keep(self.shards)


def _is_keep(wish: Any) -> bool:
    return isinstance(wish, str) and wish == KEEP


def array_metadata(source: Any, wishes: Wishes, name: str) -> Any:
    """Return the metadata of an array's copy.

    Parameters
    ----------
    source : ArrayV2Metadata or ArrayV3Metadata
    wishes : Wishes
    name : str
        The array's, for errors.

    Raises
    ------
    LayoutError
        If there can be none.
    """
    wishes = wishes.for_array(len(source.shape))
    zarr_format = wishes.zarr_format or source.zarr_format
    if wishes.keeps_layout and zarr_format == source.zarr_format:
        return source
    try:
        made: Any = (_format_2 if zarr_format == 2 else _format_3)(source, wishes)
        # What zarr writes it cannot always read: fields in fields in format 2, before 3.4.
        type(made).from_dict(json.loads(json.dumps(made.to_dict(), default=_as_json)))
    except (FormatError, ValueError, TypeError, NotImplementedError) as error:
        text = str(error) if isinstance(error, FormatError) else f"{type(error).__name__}: {error}"
        raise LayoutError(f"array {name!r} cannot be stored as asked for: {text}") from error
    return made


def _as_json(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)


def group_metadata(source: GroupMetadata, zarr_format: Literal[2, 3] | None) -> GroupMetadata:
    """Return the metadata of a group's copy, not consolidated."""
    return GroupMetadata(
        attributes=source.attributes, zarr_format=zarr_format or source.zarr_format
    )


def are_stored_alike(source: Any, target: Any) -> bool:
    """Whether chunks of one array are, byte for byte, those of its copy."""
    if source.zarr_format != target.zarr_format:
        try:
            if not _is_plain(source):
                return False
            source = array_metadata(source, Wishes(zarr_format=target.zarr_format), "")
        except (FormatError, LayoutError):
            return False
    return _stored(source) == _stored(target)


def _stored(metadata: Any) -> str:
    document = metadata.to_dict()
    return json.dumps([document.get(key) for key in STORED[metadata.zarr_format]], default=repr)


def _is_plain(metadata: Any) -> bool:
    # Whether both formats have the same idea of what the codecs see: not of fields, and of numbers
    # that filters compute with not in every byte order.
    dtype = metadata.dtype.to_native_dtype()
    if dtype.names is not None:
        return False
    codecs = from_format_2(metadata) if metadata.zarr_format == 2 else Codecs.of(metadata.codecs)
    names = [type(one).__name__ for one in codecs.filters]
    return names in ([], ["TransposeCodec"]) and not (names and dtype.kind in "TO")


# The grid: chunks, and shards around them.


@dataclass(frozen=True)
class _Grid:
    outer: Any  # the shape of a chunk or a shard; None: the source's own grid, with several sizes
    inner: tuple[int, ...] | None  # the shape of an inner chunk; None: there are no shards
    index_location: str = "end"


def _shape(wish: Any, ndim: int) -> tuple[int, ...]:
    shape = (wish,) * ndim if isinstance(wish, int | np.integer) else wish
    if not (isinstance(shape, tuple) and all(isinstance(n, int | np.integer) for n in shape)):
        raise FormatError(f"chunks and shards are numbers, one for every axis, not {wish!r}")
    if any(n < 1 for n in shape):
        raise FormatError(f"chunks and shards are at least 1 along every axis, not {wish}")
    return tuple(map(int, shape))


def _grid(metadata: Any, codecs: tuple[Any, ...], wishes: Wishes) -> _Grid:
    ndim = len(metadata.shape)
    sizes = chunks_of(metadata)
    outer: Any = sizes if all(isinstance(one, int) for one in sizes) else None
    inner: Any = None
    location = "end"
    if codecs and type(codecs[0]) is ShardingCodec:
        inner = tuple(codecs[0].chunk_shape)
        place: Any = codecs[0].index_location
        location = getattr(place, "value", place)
    has_shards = inner is not None if _is_keep(wishes.shards) else wishes.shards is not None
    chunks = outer if inner is None else inner
    if isinstance(wishes.chunks, str) and wishes.chunks == "auto":
        chunks = _auto(metadata, has_shards)
    elif not _is_keep(wishes.chunks):
        chunks = _shape(wishes.chunks, ndim)
    if not has_shards:
        return _Grid(chunks, None)
    shards = outer if _is_keep(wishes.shards) else _shape(wishes.shards, ndim)
    if chunks is None:
        raise FormatError(
            "its chunks have several sizes, which shards cannot hold: pass chunks of one size"
        )
    if shards is not None and any(n % m for n, m in zip(shards, chunks, strict=True)):
        raise FormatError(
            f"shards of {shards} cannot be cut into chunks of {chunks}: pass shards that are "
            "multiples, or none"
        )
    return _Grid(shards, chunks, location)


def _auto(metadata: Any, has_shards: bool) -> tuple[int, ...]:
    # As zarr chooses them.
    shards: Any = {"shards": "auto"} if has_shards else {}
    made = zarr.create_array({}, shape=metadata.shape, dtype=metadata.dtype, **shards)
    return tuple(made.chunks)


# The formats.


def _in_format_3(metadata: Any, wishes: Wishes) -> tuple[tuple[Any, ...], Codecs]:
    # The outermost codecs, and those of what is cut out of shards, if there are any. For what is
    # replaced anyway no counterpart is needed.
    if metadata.zarr_format == 2:
        codecs = from_format_2(
            metadata, filters=_is_keep(wishes.filters), compressor=_is_keep(wishes.compressors)
        )
        return codecs.all, codecs
    outermost = tuple(metadata.codecs)
    inner = outermost[0].codecs if type(outermost[0]) is ShardingCodec else outermost
    return outermost, Codecs.of(inner)


def _refuse_odd_shards(outermost: tuple[Any, ...], codecs: Codecs) -> None:
    # Of these it is not clear which chunks and which codecs are meant.
    behind = outermost[1:] if type(outermost[0]) is ShardingCodec else outermost
    if any(isinstance(one, ShardingCodec) for one in (*behind, *codecs.all)):
        raise FormatError(
            "it has shards in shards, or codecs around its shards, which can be copied as they "
            "are only: leave chunks, shards, codecs and format as they are"
        )


def _wished(codecs: Codecs, wishes: Wishes, dtype: Any) -> Codecs:
    # With those that are asked for in the place of the source's.
    filters, serializer, compressors = codecs.filters, codecs.serializer, codecs.compressors
    if not _is_keep(wishes.filters):
        filters = tuple(as_format_3(one, dtype) for one in wishes.filters or ())
    if not _is_keep(wishes.serializer):
        serializer = as_format_3(wishes.serializer, dtype)
    if not _is_keep(wishes.compressors):
        compressors = tuple(as_format_3(one, dtype) for one in wishes.compressors or ())
    return Codecs(filters, serializer, compressors)


def _format_3(source: Any, wishes: Wishes) -> ArrayV3Metadata:
    outermost, codecs = _in_format_3(source, wishes)
    _refuse_odd_shards(outermost, codecs)
    grid = _grid(source, outermost, wishes)
    codecs = _wished(codecs, wishes, source.dtype)
    all_codecs = codecs.all
    if grid.inner is not None:
        location: Any = grid.index_location
        if wishes.keeps_codecs and type(outermost[0]) is ShardingCodec:
            all_codecs = (replace(outermost[0], chunk_shape=grid.inner),)
        else:
            all_codecs = (ShardingCodec(chunk_shape=grid.inner, codecs=codecs.all,
                                        index_location=location),)  # fmt: skip
    if source.zarr_format == 3:
        document = source.to_dict() | {"codecs": tuple(one.to_dict() for one in all_codecs)}
    else:
        document = _document_from_format_2(source, all_codecs)
    if grid.outer is not None:
        shape = {"chunk_shape": grid.outer}
        document["chunk_grid"] = {"name": "regular", "configuration": shape}
    return ArrayV3Metadata.from_dict(document)


def _document_from_format_2(source: Any, codecs: tuple[Any, ...]) -> dict[str, Any]:
    dtype = source.dtype
    if isinstance(dtype, HasEndianness):
        dtype = with_endianness(dtype, sys.byteorder)
    fill = dtype.default_scalar() if source.fill_value is None else source.fill_value
    attributes = dict(source.attributes)
    names = attributes.get(DIMENSIONS)
    is_named = isinstance(names, list) and len(names) == len(source.shape)
    if is_named:
        del attributes[DIMENSIONS]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": source.shape,
        "data_type": dtype.to_json(zarr_format=3),
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": dtype.to_json_scalar(fill, zarr_format=3),
        "codecs": tuple(one.to_dict() for one in codecs),
        "attributes": attributes,
        "dimension_names": names if is_named else None,
    }


def _format_2(source: Any, wishes: Wishes) -> ArrayV2Metadata:
    if source.zarr_format == 2:
        outermost: tuple[Any, ...] = ()
        parts = _changed_format_2(source, wishes)
        separator = source.dimension_separator
    else:
        outermost, codecs = _in_format_3(source, wishes)
        _refuse_odd_shards(outermost, codecs)
        parts = to_format_2(_wished(codecs, wishes, source.dtype), source.dtype)
        separator = "."
    grid = _grid(source, outermost, wishes)
    if grid.inner is not None:
        raise FormatError(
            "format 2 has no shards: pass shards=None (on the command line --shards none); its "
            f"chunks of {grid.inner} are files then"
        )
    if grid.outer is None:
        raise FormatError("format 2 has no chunks of several sizes: pass chunks of one size")
    return ArrayV2Metadata(
        shape=source.shape,
        chunks=grid.outer,
        fill_value=source.fill_value,
        dimension_separator=separator,
        attributes=_attributes_with_names(source),
        **parts,
    )


def _changed_format_2(source: Any, wishes: Wishes) -> dict[str, Any]:
    if not _is_keep(wishes.serializer):
        raise FormatError("format 2 has no serializer: pass filters and compressors in its place")
    filters = list(source.filters or ())
    compressors = [] if source.compressor is None else [source.compressor]
    if not _is_keep(wishes.filters):
        # What makes bytes of strings stays: without it nothing can be stored.
        kept = filters[:1] if source.dtype.to_native_dtype().kind in "TO" else []
        filters = [*kept, *(as_format_2(one) for one in wishes.filters or ())]
    if not _is_keep(wishes.compressors):
        compressors = [as_format_2(one) for one in wishes.compressors or ()]
    filters += compressors[:-1]
    return {
        "dtype": source.dtype,
        "order": source.order,
        "filters": tuple(filters) or None,
        "compressor": compressors[-1] if compressors else None,
    }


def _attributes_with_names(source: Any) -> dict[str, Any]:
    # In format 2 the names of dimensions are an attribute, if anywhere.
    names = getattr(source, "dimension_names", None)
    attributes = dict(source.attributes)
    if names is None or all(name is None for name in names):
        return attributes
    if any(name is None for name in names):
        raise FormatError(
            f"format 2 has names of all dimensions or of none, not {names}: name the others in the "
            "source first"
        )
    return attributes | {DIMENSIONS: list(names)}
