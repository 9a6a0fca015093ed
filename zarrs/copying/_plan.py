"""How one array is copied: in which regions, and which of them hold something."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrs._access import chunks_of
from zarrs.checking._stored import StoredArray
from zarrs.copying._memory import Limit
from zarrs.copying._regions import Numbers, Regions, axes_of, make_regions
from zarrs.copying._transfer import Pair

if TYPE_CHECKING:
    import zarr
    from zarr.storage import StorePath

    from zarrs.copying._nodes import Copied

ANY_BYTES = 2**62  # no limit: chunks that are copied as they are need no memory for their items
STRING_BYTES = 128  # of a string or bytes of variable length in memory, about


@dataclass
class Plan:
    """How one array is copied.

    Attributes
    ----------
    path : str
    pair : Pair
    regions : Regions
    todo : numpy.ndarray of int
        All regions that hold something.
    chunks : numpy.ndarray of int, optional
        The numbers of the source's chunks that are stored; None: that is not known.
    n_bytes : int
        Of the items of these regions.
    """

    path: str
    pair: Pair
    regions: Regions
    todo: Numbers
    chunks: Numbers | None
    n_bytes: int

    @property
    def reads(self) -> float:
        """How often a source chunk is read, on average."""
        return 1.0 if self.pair.is_stored_alike else self.regions.reads

    def chunks_in(self, region: int) -> list[int]:
        """Return the chunks of a region that may be stored, if they are copied as they are."""
        if not self.pair.is_stored_alike:
            return []
        found = self.regions.chunks(region)
        if self.chunks is not None:
            found = np.intersect1d(found, self.chunks, assume_unique=True)
        numbers: list[int] = found.tolist()
        return numbers


def make_plan(node: Copied, root: StorePath, limit: Limit) -> Plan:
    """Find out how an array is copied.

    Raises
    ------
    RegionError
        If there is too little memory for a single chunk or shard.
    """
    array: Any = node.source
    sizes = chunks_of(array.metadata)
    is_alike = node.is_stored_alike
    is_inner = array.shards is not None and not is_alike
    itemsize = STRING_BYTES if array.dtype.kind in "TO" else array.dtype.itemsize
    regions = make_regions(
        node.name,
        array.shape,
        itemsize,
        array.chunks if is_inner else sizes,
        chunks_of(node.metadata),
        limit if limit.is_compared or not is_alike else replace(limit, n_bytes=ANY_BYTES),
    )
    most_bytes = limit.n_bytes // regions.under_way
    target = node.target(root)
    pair = Pair(node.name, array.async_array, target, is_alike, itemsize, most_bytes)
    chunks, todo = _holding(array, regions)
    n_bytes = sum(regions.n_bytes(number) for number in todo.tolist())
    return Plan(node.path, pair, regions, todo, chunks, n_bytes)


def _holding(array: zarr.Array[Any], regions: Regions) -> tuple[Numbers | None, Numbers]:
    # The chunks that are stored, if that is known, and the regions that hold something of them.
    numbers, _ = StoredArray(array).listed()
    if isinstance(numbers, range):
        return None, np.arange(len(regions))
    chunks = np.array(numbers, np.int64)
    return chunks, regions.touched(chunks, axes_of(chunks_of(array.metadata), array.shape))
