"""What runs natively for an array, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        The codecs in the order of encoding.
    store : Part
        The store that holds the chunks.
    """

    stages: tuple[Part, ...]
    store: Part

    @property
    def native(self) -> bool:
        """Whether the array is read and written natively from end to end."""
        return self.store.native and all(stage.native for stage in self.stages)

    def __str__(self) -> str:
        """Return one line a part."""
        kinds = [("store", self.store), *(("codec", stage) for stage in self.stages)]
        return "\n".join(f"{kind} {part}" for kind, part in kinds)


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
    chain = make_chain(
        pipeline,
        metadata.dtype,
        len(metadata.shape),
        getattr(metadata, "order", "C"),
        validate_checksums=options.validate_checksums,
    )
    store = async_array.store_path.store
    prefix = file_prefix(store)
    how = "" if isinstance(prefix, bytes) else prefix or "bytes through its own interface"
    return Explanation(
        chain.parts, Part(type(store).__name__, native=not isinstance(prefix, str), reason=how)
    )
