"""A class of buffers whose results are made of memory that earlier results have left."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from zarr.core.buffer import cpu

from zarrs._config import read_recycled_bytes
from zarrs.arrays import _recycled

if TYPE_CHECKING:
    import numpy.typing as npt


class RecyclingNDBuffer(cpu.NDBuffer):
    """zarr's buffers in memory, which take over the memory of results that nobody uses any more.

    A third of the time of reading uncompressed data into a new array is the kernel clearing fresh
    pages. Programs that read again and again, and let go what they have read before, save that::

        zarr.config.set({"ndbuffer": "zarrs.RecyclingNDBuffer"})

    Results are ordinary NumPy arrays, of any pipeline's. Their memory is taken over only when
    neither they nor any view of them are left. Of memory that nobody uses, at most
    ``codec_pipeline.recycled_bytes`` are kept, and none when no result has been read in five
    seconds. Results below one MiB and those of Python objects are made as usual.

    Raises
    ------
    MemoryError
        If there is not enough memory for a result.

    Examples
    --------
    >>> import numpy as np, zarr, zarrs
    >>> array = zarrs.create_array({}, data=np.arange(1_000_000))
    >>> with zarr.config.set({"ndbuffer": "zarrs.RecyclingNDBuffer"}):
    ...     totals = {int(array[:].sum()) for _ in range(10)}
    >>> totals
    {499999500000}
    """

    @classmethod
    def empty(
        cls, shape: tuple[int, ...], dtype: npt.DTypeLike, order: Literal["C", "F"] = "C"
    ) -> Self:
        """Return a buffer of arbitrary values."""
        wanted = np.dtype(dtype)
        array: Any = empty_recycled(tuple(shape), wanted, order)
        if wanted.kind in "mM":
            array = array.view(wanted)  # NumPy drops what a generic unit of time is multiplied by
        return cls(array)


def empty_recycled(
    shape: tuple[int, ...], dtype: np.dtype[Any], order: Literal["C", "F"] = "C"
) -> np.ndarray[Any, Any]:
    """Return an array as ``numpy.empty`` does, in memory of earlier results if there is any."""
    return _recycled.empty(shape, dtype, order, read_recycled_bytes())
