"""One region is compared: what was copied with what it was copied from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zarrs._grid import Box
    from zarrs.copying._transfer import Pair

PIECE = 2**20  # bytes that are compared in one go
MAX_SHOWN = 5  # differences of a region that are kept


@dataclass(frozen=True)
class Difference:
    """An item of a copy that is not what it is in the source.

    Attributes
    ----------
    array : str
    index : tuple of int
    source, target : str
        What it is.
    """

    array: str
    index: tuple[int, ...]
    source: str
    target: str

    def __str__(self) -> str:
        """Return this on one line."""
        return f"{self.array}[{', '.join(map(str, self.index))}]: {self.target}, not {self.source}"


class VerificationError(RuntimeError):
    """A copy is not what was copied.

    Attributes
    ----------
    differences : list of Difference
        The first of them.
    count : int
        How many items differ, in the regions that were compared until then.

    Examples
    --------
    A codec of the copy may change values; this one keeps one digit:

    >>> import numcodecs, numpy as np, zarr, zarrs
    >>> source = zarr.create_array({}, data=np.array([0.5, 2.0001]), zarr_format=2)
    >>> rounded = numcodecs.Quantize(digits=1, dtype="f8")
    >>> try:
    ...     zarrs.copy(source, {}, filters=[rounded], verify=True)
    ... except zarrs.VerificationError as error:
    ...     print(error.count, error.differences[0].index)
    1 (1,)
    """

    def __init__(self, differences: Sequence[Difference], count: int) -> None:
        super().__init__(differences, count)
        self.differences = list(differences)
        self.count = count

    def __str__(self) -> str:
        """Return the first differences, and what to do."""
        first = "; ".join(map(str, self.differences[:MAX_SHOWN]))
        items = "1 item differs" if self.count == 1 else f"{self.count:,} items differ"
        return (
            f"{items} from the source: {first}. The copy is left unfinished. If the source has "
            "been written to meanwhile, or a codec of the target changes values, copy again with "
            "overwrite, or other codecs"
        )


def compare_region(pair: Pair, box: Box) -> tuple[int, list[Difference]]:
    """Compare a region; return how many items differ, and the first of them."""
    source, target = np.asarray(pair.reader[box]), np.asarray(pair.writer[box])
    differs = differing(source, target)
    count = int(np.count_nonzero(differs))
    if not count:
        return 0, []
    first = np.argwhere(differs)[:MAX_SHOWN] if differs.ndim else np.zeros((1, 0), int)
    return count, [
        Difference(
            pair.name,
            tuple(int(i) + part.start for i, part in zip(place, box, strict=True)),
            str(source[tuple(place)]),
            str(target[tuple(place)]),
        )
        for place in first
    ]


def differing(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where two arrays of the same data type differ, byte order aside.

    Bits count, except that any two NaN are equal: one that is the fill value stands for all.
    """
    if one.dtype.kind in "TO":
        return np.asarray(one != other, bool)
    one, other = (np.asarray(a, a.dtype.newbyteorder("="), order="C") for a in (one, other))
    size = one.dtype.itemsize
    if size == 0 or _have_same_bytes(one, other):
        return np.zeros(one.shape, bool)
    words = [a.reshape(-1).view(np.uint8).reshape(*a.shape, -1) for a in (one, other)]
    differs: np.ndarray[Any, Any] = (words[0] != words[1]).any(-1)
    if one.dtype.kind in "fc" and differs.any():
        differs &= ~(np.isnan(one) & np.isnan(other))
    return differs


def _have_same_bytes(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    # In pieces, so that this takes no memory worth mentioning.
    ours, theirs = one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8)
    pieces = [slice(start, start + PIECE) for start in range(0, len(ours), PIECE)]
    return all(np.array_equal(ours[piece], theirs[piece]) for piece in pieces)
