"""What runs natively for an array, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from textwrap import indent
from typing import TYPE_CHECKING, Any, overload

import zarr
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.config import config

from zarrs._access import NoAccessError
from zarrs._array import Array, access_to
from zarrs.codecs._chain import Part, make_chain
from zarrs.pipeline import ZarrsCodecPipeline
from zarrs.storage._stores import file_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zarr.abc.codec import CodecPipeline
    from zarr.abc.store import Store

    from zarrs._config import Options

PIPELINE = "zarrs.ZarrsCodecPipeline"


@dataclass(frozen=True, repr=False)
class Explanation:
    """What this package runs for an array.

    Attributes
    ----------
    stages : tuple of Part
        The codecs in the order of encoding, each with what runs it. If the array has another
        pipeline: with what would run it in zarrs.
    store : Part
        The store that holds the chunks; if the array has another pipeline, in the same way.
    pipeline : Part
        The pipeline that the array was opened with; if it is another one, with what to do.
    options : Options, optional
        The options in force, if the pipeline is zarrs.
    access : Part, optional
        Of a `zarrs.Array`: whether selections go directly to the native code, or why they go
        through zarr's event loop and the pipeline.

    Examples
    --------
    >>> import zarrs
    >>> array = zarrs.create_array({}, shape=(4,), chunks=(2,), dtype="i4")
    >>> explanation = zarrs.explain(array)
    >>> explanation.native, explanation.hybrid
    (True, False)
    >>> print(explanation.store)
    MemoryStore: native, bytes through its own interface
    """

    stages: tuple[Part, ...]
    store: Part
    pipeline: Part
    options: Options | None
    access: Part | None = None

    @property
    def native(self) -> bool:
        """Whether the array is read and written natively from end to end."""
        return all(part.native for part in (self.pipeline, self.store, *self.stages))

    @property
    def hybrid(self) -> bool:
        """Whether some stages run in Python, and everything else natively."""
        return (
            not self.native
            and self.pipeline.native
            and self.store.native
            and all(stage.native or stage.python for stage in self.stages)
        )

    def __str__(self) -> str:
        """Return one line a part, and one of the options."""
        kinds = [("store", self.store), *(("codec", stage) for stage in self.stages)]
        parts = "\n".join(f"{kind} {part}" for kind, part in kinds)
        if self.options is None:
            return f"pipeline {self.pipeline}\nwith zarrs it would be:\n{indent(parts, '  ')}"
        if self.access is not None:
            parts = f"access {self.access}\n{parts}"
        return f"pipeline {self.pipeline}\n{parts}\noptions: {self.options}"

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class GroupExplanation:
    """What this package runs for the arrays of a group.

    Attributes
    ----------
    arrays : mapping of str to Explanation
        What it runs for each array in the group and the groups below, by path.

    Examples
    --------
    >>> import zarrs
    >>> group = zarrs.open_group({}, mode="w")
    >>> array = group.create_array("a/b", shape=(4,), chunks=(2,), dtype="i4")
    >>> explanation = zarrs.explain(group)
    >>> explanation.native, list(explanation.arrays)
    (True, ['a/b'])
    """

    arrays: Mapping[str, Explanation]

    @property
    def native(self) -> bool:
        """Whether all arrays are read and written natively from end to end."""
        return all(explanation.native for explanation in self.arrays.values())

    def __str__(self) -> str:
        """Return the path of every array, and below it its explanation."""
        arrays = [f"{path}\n{indent(str(one), '  ')}" for path, one in self.arrays.items()]
        return "\n".join(arrays) or "no arrays"

    __repr__ = __str__


@overload
def explain(array: zarr.Array[Any] | zarr.AsyncArray[Any]) -> Explanation: ...
@overload
def explain(array: zarr.Group | zarr.AsyncGroup) -> GroupExplanation: ...
def explain(
    array: zarr.Array[Any] | zarr.AsyncArray[Any] | zarr.Group | zarr.AsyncGroup,
) -> Explanation | GroupExplanation:
    """Say what of an array's reading and writing runs natively, and why the rest does not.

    Parameters
    ----------
    array : zarr.Array, zarr.AsyncArray, zarr.Group or zarr.AsyncGroup
        The array; or a group, whose arrays at any depth are opened for it.

    Returns
    -------
    Explanation or GroupExplanation
        It prints as a text of some lines.

    Raises
    ------
    TypeError
        If `array` is none of these.

    Examples
    --------
    >>> import zarr, zarrs
    >>> with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
    ...     array = zarr.create_array({}, shape=(4, 4), chunks=(2, 2), dtype="i4")
    >>> print(zarrs.explain(array))  # doctest: +ELLIPSIS
    pipeline zarrs.ZarrsCodecPipeline: native
    store MemoryStore: native, bytes through its own interface
    codec bytes: native
    codec zstd: native
    options: threading.max_workers=...; all others as by default
    """
    if isinstance(array, zarr.AsyncGroup):
        array = zarr.Group(array)
    if isinstance(array, zarr.Group):
        members = sorted(array.members(max_depth=None))
        return GroupExplanation(
            {path: explain(member) for path, member in members if isinstance(member, zarr.Array)}
        )
    if isinstance(array, Array):
        return replace(_explain(array.async_array), access=_explain_access(array))
    if isinstance(array, zarr.Array):
        array = array.async_array
    if not isinstance(array, zarr.AsyncArray):
        kind = _name(type(array)).removeprefix("builtins.")
        raise TypeError(
            f"explain() takes a zarr.Array or a zarr.Group, not {kind}: "
            "pass what zarr.open(...) returns for the stored data"
        )
    return _explain(array)


def _explain(array: Any) -> Explanation:
    metadata = array.metadata
    pipeline = array.codec_pipeline
    spec = ArraySpec(
        shape=_chunk_shape(array),
        dtype=metadata.dtype,
        fill_value=metadata.fill_value,
        config=array.config,
        prototype=default_buffer_prototype(),
    )
    return Explanation(
        # What is verified does not matter here.
        stages=make_chain(pipeline, spec, validate_checksums=True).parts,
        store=_explain_store(array.store_path.store),
        pipeline=_explain_pipeline(pipeline),
        options=pipeline.options if isinstance(pipeline, ZarrsCodecPipeline) else None,
    )


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _chunk_shape(array: Any) -> tuple[int, ...]:
    try:
        return array.shards or array.chunks  # type: ignore[no-any-return]
    except NotImplementedError:  # the chunks have more shapes than one
        return tuple(max(sizes, default=1) for sizes in array.write_chunk_sizes)


def _explain_access(array: Array) -> Part:
    try:
        access_to(array.async_array, array.metadata)
    except NoAccessError as reason:
        return Part("zarrs.Array", False, f"zarr's event loop, {reason}")
    cache = array.cache
    kept = "" if cache is None else f"decoded chunks are kept in {cache.limit:,} bytes"
    return Part("zarrs.Array", True, kept)


def _explain_store(store: Store) -> Part:
    prefix = file_prefix(store)
    how = "" if isinstance(prefix, bytes) else prefix or "bytes through its own interface"
    return Part(type(store).__name__, native=not isinstance(prefix, str), reason=how)


def _explain_pipeline(pipeline: CodecPipeline) -> Part:
    name = _name(type(pipeline))
    if isinstance(pipeline, ZarrsCodecPipeline):
        return Part(name, True, "" if name == PIPELINE else f"a subclass of {PIPELINE}")
    if config.get("codec_pipeline.path", None) == PIPELINE:
        to_do = "the array was opened before that was set, so open it again"
    else:
        to_do = f'run zarr.config.set({{"codec_pipeline.path": "{PIPELINE}"}}), then open it again'
    return Part(name, False, f"not zarrs; {to_do}")
