"""What a copy has done."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CopyReport:
    """What `copy` has done.

    Attributes
    ----------
    arrays, groups : int
        How many there are.
    arrays_as_stored : int
        Of how many arrays the stored bytes were copied, as both sides store them alike; all others
        were decoded and encoded.
    n_bytes : int
        Of all items, as they are in memory, of the regions that hold something.
    n_bytes_copied : int
        Of these, what this call has copied; what was there from a copy that did not end is left.
    resumed : bool
        Whether there was such a copy.
    verified : bool
        Whether everything was read again and compared.
    seconds : float
    most_reads : float
        How often a source chunk was read, on average, of the array where that was most; above 1 if
        regions share source chunks, which more memory can change.

    Examples
    --------
    >>> import numpy as np, zarr, zarrs
    >>> source = zarr.create_array({}, data=np.arange(12), chunks=(4,))
    >>> report = zarrs.copy(source, {})
    >>> print(report)  # doctest: +ELLIPSIS
    copied 1 array, as stored: 96 bytes in ... s
    """

    arrays: int
    groups: int
    arrays_as_stored: int
    n_bytes: int
    n_bytes_copied: int
    resumed: bool
    verified: bool
    seconds: float
    most_reads: float

    def __str__(self) -> str:
        """Return this on one line."""
        arrays = "1 array" if self.arrays == 1 else f"{self.arrays:,} arrays"
        how = f", {self.arrays_as_stored:,} of them as stored" if self.arrays_as_stored else ""
        if self.arrays == self.arrays_as_stored == 1:
            how = ", as stored"
        before = self.n_bytes - self.n_bytes_copied
        rest = f", {before:,} bytes of them before" if self.resumed else ""
        verified = ", verified" if self.verified else ""
        return (
            f"copied {arrays}{how}: {self.n_bytes:,} bytes{rest} in {self.seconds:.1f} s{verified}"
        )
