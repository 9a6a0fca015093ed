"""What runs natively for an array, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import default_buffer_prototype

from zarrs._chain import Part, make_chain
from zarrs._stores import file_prefix
from zarrs.pipeline import ZarrsCodecPipeline

if TYPE_CHECKING:
    import zarr


@dataclass(frozen=True)
class Explanation:
    """What this package runs for an array.

    Attributes
    ----------
    stages : tuple of Part
        The codecs in the order of encoding, each with what runs it.
    store : Part
        The store that holds the chunks.
    """

    stages: tuple[Part, ...]
    store: Part

    @property
    def native(self) -> bool:
        """Whether the array is read and written natively from end to end."""
        return self.store.native and all(stage.native for stage in self.stages)

    @property
    def hybrid(self) -> bool:
        """Whether some stages run in Python, and everything else natively."""
        return (
            not self.native
            and self.store.native
            and all(stage.native or stage.python for stage in self.stages)
        )

    def __str__(self) -> str:
        """Return one line a part."""
        kinds = [("store", self.store), *(("codec", stage) for stage in self.stages)]
        return "\n".join(f"{kind} {part}" for kind, part in kinds)


def _chunk_shape(array: Any) -> tuple[int, ...]:
    try:
        return array.shards or array.chunks  # type: ignore[no-any-return]
    except NotImplementedError:  # the chunks have more shapes than one
        return tuple(max(sizes, default=1) for sizes in array.write_chunk_sizes)


def explain(array: zarr.Array[Any] | zarr.AsyncArray[Any]) -> Explanation:
    """Say what of an array's reading and writing runs natively, and why the rest does not.

    Parameters
    ----------
    array : zarr.Array or zarr.AsyncArray
        The array; which pipeline it was opened with does not matter.

    Returns
    -------
    Explanation
    """
    async_array: Any = getattr(array, "_async_array", array)
    metadata = async_array.metadata
    pipeline = async_array.codec_pipeline
    options = ZarrsCodecPipeline.from_codecs(pipeline).options
    spec = ArraySpec(
        shape=_chunk_shape(async_array),
        dtype=metadata.dtype,
        fill_value=metadata.fill_value,
        config=async_array.config,
        prototype=default_buffer_prototype(),
    )
    chain = make_chain(pipeline, spec, validate_checksums=options.validate_checksums)
    store = async_array.store_path.store
    prefix = file_prefix(store)
    how = "" if isinstance(prefix, bytes) else prefix or "bytes through its own interface"
    return Explanation(
        chain.parts, Part(type(store).__name__, native=not isinstance(prefix, str), reason=how)
    )
