"""The limit of memory: what is typed, and what a region takes."""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS = {"": 1, "B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", 1)
    for suffix, base in (("iB", 1024), ("B", 1000), ("", 1024))
}
AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*")


def parse_memory(amount: int | str) -> int:
    """Return a number of bytes from one, or from a text with a unit.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> parse_memory("512MiB"), parse_memory("1.5 GB"), parse_memory(4096)
    (536870912, 1500000000, 4096)
    """
    found = AMOUNT.fullmatch(str(amount)) if not isinstance(amount, bool) else None
    units = {name.upper(): size for name, size in UNITS.items()}
    if found is None or found[2].upper() not in units or not float(found[1]):
        raise ValueError(
            f"memory must be a number of bytes, such as '512MiB' or '2GB', not {amount!r}"
        )
    return int(float(found[1]) * units[found[2].upper()])


def show_memory(n_bytes: int) -> str:
    """Return a number of bytes in words, rounded up.

    Examples
    --------
    >>> show_memory(1000), show_memory(512 * 1024**2)
    ('1000B', '512MiB')
    """
    for name in ("B", "KiB", "MiB", "GiB", "TiB"):
        if n_bytes < 10_000 or name == "TiB":
            break
        n_bytes = -(-n_bytes // 1024)
    return f"{n_bytes}{name}"


@dataclass(frozen=True)
class Limit:
    """How much memory there is for regions that are under way at the same time.

    Attributes
    ----------
    n_bytes : int
        For all of them together.
    under_way : int
        Regions at the same time, at most.
    threads : int
        Threads that decode at the same time, at most.
    is_compared : bool
        Whether the items of both sides are in memory at the same time.
    """

    n_bytes: int
    under_way: int
    threads: int
    is_compared: bool = False

    def cost(self, region: int, source_chunk: int, n_chunks: int, under_way: int) -> int:
        """Return the bytes that regions take.

        Parameters
        ----------
        region : int
            Decoded bytes of one.
        source_chunk : int
            Decoded bytes of a source chunk.
        n_chunks : int
            Source chunks that a region touches, about.
        under_way : int
            How many regions there are at the same time.
        """
        # Each holds its items, and beside them as many bytes that are encoded, at most, when it
        # is read as when it is written. A thread that decodes holds a chunk, in both forms.
        decoding = min(self.threads + under_way - 1, under_way * n_chunks)
        cost = under_way * 2 * region + decoding * 2 * source_chunk
        return cost * 3 // 2 if self.is_compared else cost

    def fits(self, region: int, source_chunk: int, n_chunks: int, under_way: int) -> bool:
        """Whether there is as much."""
        return self.cost(region, source_chunk, n_chunks, under_way) <= self.n_bytes
