"""zarr's arrays without zarr's event loop."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs._v2 import V2Codec
from zarr.core.indexing import BlockIndexer

from zarrs._access import Access, NoAccessError, maker_of_results
from zarrs._many import allocate_many, put_many
from zarrs.caching._chunk_cache import ChunkCache
from zarrs.indexing._selected import (
    select_basic,
    select_item,
    select_orthogonal,
    select_points,
)
from zarrs.pipeline import ZarrsCodecPipeline
from zarrs.storage._kept import forget_below

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zarr.core.buffer import BufferPrototype, NDBuffer

    from zarrs.indexing._grid import Grid
    from zarrs.indexing._selected import Selected


class Array(zarr.Array[Any]):
    """A zarr array whose selections are read and written in the calling thread.

    It is a ``zarr.Array`` in every respect: results, errors, options and everything that has
    nothing to do with chunks are zarr's. `zarrs.direct` makes one of an open array.

    What cannot be read or written directly is done by zarr's own methods with this package's
    pipeline; `zarrs.explain` says why. The metadata are those from when the array was opened, as
    with zarr.

    Parameters
    ----------
    async_array : zarr.AsyncArray
        The array. If it was opened with another pipeline, a copy of it with this one is used.
    cache_bytes : int or ChunkCache, default 0
        See `zarrs.direct`.

    Raises
    ------
    ValueError
        If `cache_bytes` is no number of bytes.

    Examples
    --------
    >>> import numpy as np, zarrs
    >>> array = zarrs.create_array({}, data=np.arange(12).reshape(3, 4), chunks=(2, 2))
    >>> array[1:, 2].tolist()
    [6, 10]
    >>> array.vindex[[0, 2], [1, 3]].tolist()
    [1, 11]
    """

    def __init__(
        self, async_array: zarr.AsyncArray[Any], cache_bytes: int | ChunkCache = 0
    ) -> None:
        super().__init__(with_pipeline(async_array))
        self._cache = cache_of(cache_bytes)
        # Some metadata, and the direct access to the array that has them; None: there is none.
        self._found: tuple[Any, Access | None] = (None, None)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found": (None, None)}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, zarr.Array):
            return NotImplemented
        mine, its = self._async_array, other._async_array
        return bool(
            (mine.metadata, mine.store_path, mine.config)
            == (its.metadata, its.store_path, its.config)
        )

    __hash__ = None  # type: ignore[assignment]  # as of zarr's, which can be changed

    @property
    def cache(self) -> ChunkCache | None:
        """Where decoded chunks are kept; None: they are not."""
        return self._cache

    # Of what zarr makes of an array, another one of the same chunks.

    def with_config(self, config: Any) -> Array:
        """Return the array with other settings; see ``zarr.Array.with_config``."""
        return self._again(self._async_array.with_config(config))

    def update_attributes(self, new_attributes: dict[str, Any]) -> Array:
        """Change attributes; see ``zarr.Array.update_attributes``."""
        return self._again(super().update_attributes(new_attributes).async_array)

    def resize(self, new_shape: Any) -> None:
        """Change the shape; see ``zarr.Array.resize``."""
        try:
            super().resize(new_shape)
        finally:
            forget_below(self.store, self.path)

    def _again(self, array: zarr.AsyncArray[Any]) -> Array:
        return Array(array, 0 if self._cache is None else self._cache)

    # Reading.

    def __getitem__(self, selection: Any) -> Any:
        """Read a selection; see ``zarr.Array.__getitem__``."""
        result = self._read(select_item, selection)
        return super().__getitem__(selection) if result is NotImplemented else result

    def get_basic_selection(
        self,
        selection: Any = Ellipsis,
        *,
        out: NDBuffer | None = None,
        prototype: BufferPrototype | None = None,
        fields: Any = None,
    ) -> Any:
        """Read integers and slices; see ``zarr.Array.get_basic_selection``."""
        result = self._read(select_basic, selection, out, fields, prototype)
        if result is not NotImplemented:
            return result
        return super().get_basic_selection(selection, out=out, prototype=prototype, fields=fields)

    def get_orthogonal_selection(
        self,
        selection: Any,
        *,
        out: NDBuffer | None = None,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> Any:
        """Read a selection of each axis; see ``zarr.Array.get_orthogonal_selection``."""
        result = self._read(select_orthogonal, selection, out, fields, prototype)
        if result is not NotImplemented:
            return result
        return super().get_orthogonal_selection(
            selection, out=out, fields=fields, prototype=prototype
        )

    def get_coordinate_selection(
        self,
        selection: Any,
        *,
        out: NDBuffer | None = None,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> Any:
        """Read points; see ``zarr.Array.get_coordinate_selection``."""
        access = None if fields else self._access()
        points = None if access is None else select_points(access.grid, selection)
        if access is not None and points is not None:
            selected, shape = points
            result = access.read(selected, out, prototype)
            if result is not NotImplemented:
                return (np.asarray if out is None else np.array)(result).reshape(shape)
        return super().get_coordinate_selection(
            selection, out=out, fields=fields, prototype=prototype
        )

    def get_mask_selection(
        self,
        mask: Any,
        *,
        out: NDBuffer | None = None,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> Any:
        """Read where a mask is true; see ``zarr.Array.get_mask_selection``."""
        result = self._read(self._select_masked, mask, out, fields, prototype)
        if result is not NotImplemented:
            return result
        return super().get_mask_selection(mask, out=out, fields=fields, prototype=prototype)

    def get_block_selection(
        self,
        selection: Any,
        *,
        out: NDBuffer | None = None,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> Any:
        """Read whole chunks; see ``zarr.Array.get_block_selection``."""
        result = self._read(self._select_blocks, selection, out, fields, prototype)
        if result is not NotImplemented:
            return result
        return super().get_block_selection(selection, out=out, fields=fields, prototype=prototype)

    def read_many(self, selections: Iterable[Any], out: Any = None) -> Any:
        """Read several selections in one parallel call.

        Chunks and inner chunks that several selections share are fetched and decoded once. This is
        meant for batches: crops for training, rows of a matrix, runs of a sparse one
        (``[slice(a, b) for a, b in zip(indptr, indptr[1:])]``).

        Parameters
        ----------
        selections : iterable
            Of each what stands in ``array.oindex[...]``: integers, slices, an ellipsis, lists and
            masks of one axis.
        out : array-like or sequence of array-like, optional
            What to read into: one array of shape ``(number of selections, *shape of each)``, or one
            array for each selection. It has the array's data type and memory of the CPU that NumPy
            can use, as that of PyTorch's tensors.

        Returns
        -------
        numpy.ndarray or list of numpy.ndarray
            One array if all selections have the same shape: what belongs to the i-th is its i-th
            item. Otherwise, or of no selections, a list. If `out` is given: that.

        Raises
        ------
        IndexError
            As zarr's own indexing, if a selection is bad.
        ValueError
            If `out` has another shape or is read-only.
        TypeError
            If `out` has another data type or no memory that NumPy can use.
        ChunkError, OSError
            If a chunk is damaged or cannot be read.

        Examples
        --------
        >>> import numpy as np, zarr, zarrs
        >>> array = zarrs.create_array({}, data=np.arange(12).reshape(6, 2), chunks=(2, 2))
        >>> array.read_many([slice(0, 2), slice(3, 5)]).shape
        (2, 2, 2)
        >>> [run.tolist() for run in array.read_many([(slice(0, 1), 1), (slice(2, 5), 1)])]
        [[1], [5, 7, 9]]
        """
        wanted = list(selections)
        access = self._access()
        selected: list[Any] = []
        if access is not None:
            selected = [select_orthogonal(access.grid, one) for one in wanted]
        if access is None or None in selected:
            return put_many([self.oindex[one] for one in wanted], out)
        shapes = [one.shape for one in selected]
        result, parts = allocate_many(shapes, self.dtype, out, maker_of_results() or np.empty)
        if parts and not access.read_many(selected, parts):
            return put_many([self.oindex[one] for one in wanted], out)
        return result

    # Writing.

    def __setitem__(self, selection: Any, value: Any) -> None:
        """Write to a selection; see ``zarr.Array.__setitem__``."""
        if isinstance(value, zarr.Array):
            value = np.asarray(value)
        if not self._write(select_item, selection, value):
            super().__setitem__(selection, value)

    def set_basic_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> None:
        """Write to integers and slices; see ``zarr.Array.set_basic_selection``."""
        if not self._write(select_basic, selection, value, fields, prototype):
            super().set_basic_selection(selection, value, fields=fields, prototype=prototype)

    def set_orthogonal_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> None:
        """Write to a selection of each axis; see ``zarr.Array.set_orthogonal_selection``."""
        if not self._write(select_orthogonal, selection, value, fields, prototype):
            super().set_orthogonal_selection(selection, value, fields=fields, prototype=prototype)

    def set_coordinate_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> None:
        """Write to points; see ``zarr.Array.set_coordinate_selection``."""
        flat = _flat(value, self.dtype)
        if not self._write(_select_points, selection, flat, fields, prototype):
            super().set_coordinate_selection(selection, value, fields=fields, prototype=prototype)

    def set_mask_selection(
        self,
        mask: Any,
        value: Any,
        *,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> None:
        """Write where a mask is true; see ``zarr.Array.set_mask_selection``."""
        if not self._write(self._select_masked, mask, value, fields, prototype):
            super().set_mask_selection(mask, value, fields=fields, prototype=prototype)

    def set_block_selection(
        self,
        selection: Any,
        value: Any,
        *,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> None:
        """Write whole chunks; see ``zarr.Array.set_block_selection``."""
        if not self._write(self._select_blocks, selection, value, fields, prototype):
            super().set_block_selection(selection, value, fields=fields, prototype=prototype)

    # How.

    def _access(self) -> Access | None:
        # None: there is none. It is made anew when the metadata have changed, as in a resize.
        metadata = self._async_array.metadata
        known, access = self._found
        if known is not metadata:
            try:
                access = access_to(self._async_array, metadata, self._cache)
            except NoAccessError:
                access = None
            self._found = metadata, access  # at once: other threads read
        return access

    def _read(
        self,
        select: Callable[[Grid, Any], Selected | None],
        selection: Any,
        out: Any = None,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> Any:
        # NotImplemented: zarr's own method has to do it.
        access = None if fields else self._access()
        selected = None if access is None else select(access.grid, selection)
        if access is None or selected is None:
            return NotImplemented
        return access.read(selected, out, prototype)

    def _write(
        self,
        select: Callable[[Grid, Any], Selected | None],
        selection: Any,
        value: Any,
        fields: Any = None,
        prototype: BufferPrototype | None = None,
    ) -> bool:
        # False: zarr's own method has to do it.
        access = None if fields else self._access()
        selected = None if access is None else select(access.grid, selection)
        if access is None or selected is None:
            return False
        return access.write(selected, value, prototype)

    def _select_masked(self, grid: Grid, mask: Any) -> Selected | None:
        mask = mask[0] if isinstance(mask, tuple) and len(mask) == 1 else mask
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != self.shape:
            return None
        return _select_points(grid, np.nonzero(mask)) if mask.ndim else None

    def _select_blocks(self, grid: Grid, selection: Any) -> Selected | None:
        blocks: Any = getattr(self._async_array, "_chunk_grid", None)
        if blocks is None:  # zarr 3.1
            blocks = self.metadata.chunk_grid
        axes = BlockIndexer(selection, self.shape, blocks).dim_indexers
        return select_orthogonal(grid, tuple(slice(a.start, a.stop, a.step) for a in axes))


def _select_points(grid: Grid, selection: Any) -> Selected | None:
    points = select_points(grid, selection)
    return None if points is None else points[0]


def _flat(value: Any, dtype: np.dtype[Any]) -> Any:
    # Of points the values are a list, whatever the points' shape. (A tuple can be one item.)
    if isinstance(value, list) or (isinstance(value, tuple) and dtype.names is None):
        value = np.array(value)
    return value.reshape(-1) if isinstance(value, np.ndarray) and value.ndim > 1 else value


def cache_of(cache_bytes: Any) -> ChunkCache | None:
    """Return the cache that is asked for; None: none is.

    Raises
    ------
    ValueError
        If `cache_bytes` is no number of bytes.
    """
    if isinstance(cache_bytes, ChunkCache):
        return cache_bytes
    is_number = isinstance(cache_bytes, int | np.integer) and not isinstance(cache_bytes, bool)
    return None if is_number and cache_bytes == 0 else ChunkCache(cache_bytes)


def access_to(
    array: zarr.AsyncArray[Any], metadata: Any, cache: ChunkCache | None = None
) -> Access:
    """Return direct access to an array that has these metadata.

    Raises
    ------
    NoAccessError
        If there is none.
    """
    pipeline = array.codec_pipeline
    if type(pipeline) is not ZarrsCodecPipeline:
        raise NoAccessError(f"the array has another pipeline, {type(pipeline).__name__}")
    return Access(array, metadata, pipeline.planner, cache)


def with_pipeline(array: zarr.AsyncArray[Any]) -> zarr.AsyncArray[Any]:
    """Return an array itself if it has this pipeline, else one like it that has."""
    if isinstance(array.codec_pipeline, ZarrsCodecPipeline):
        return array
    metadata = array.metadata
    codecs: Any = (
        [V2Codec(filters=metadata.filters, compressor=metadata.compressor)]
        if metadata.zarr_format == 2
        else metadata.codecs  # as they are for this array
    )
    ours = copy.copy(array)
    object.__setattr__(ours, "codec_pipeline", ZarrsCodecPipeline.from_codecs(codecs))
    return ours
