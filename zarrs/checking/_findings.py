"""What `check` has found in arrays, and how it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from zarrs._grid import place_of, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zarrs._grid import Coordinates

FAULTS = ("damaged", "too long", "unreadable")
KINDS = (*FAULTS, "temporary", "missing")
MAX_SHOWN = 10  # findings in a text


@dataclass(frozen=True)
class Finding:
    """A chunk, an inner chunk or a file that is not as it should be.

    Attributes
    ----------
    kind : {"missing", "damaged", "too long", "temporary", "unreadable"}
        Missing: it is not stored and reads as the fill value, which is no fault. Damaged: what is
        stored cannot be decoded. Too long: it holds more bytes than the chunk needs. Temporary: a
        file that a writer has left behind, or is writing. Unreadable: a store or a codec in Python
        raised something, so what is stored could not be found out.
    array : str
        The path of the array in its store.
    key : str
        The key of the chunk, of the shard or of the temporary file in the store.
    inner_chunk : tuple of int or None
        The place of the inner chunk in its shard, along the axes of the array; of shards in shards,
        that of the innermost chunk in the outermost shard. None: it is all of the key.
    size : int
        Bytes that are stored of it; 0: none, or it is not known.
    expected : int or None
        How many there should be, if that is known.
    message : str
        What reading it raised, or what else is to be said.

    Examples
    --------
    >>> import zarr, zarrs
    >>> array = zarr.create_array({}, shape=(4,), chunks=(2,), dtype="i4")
    >>> array[:2] = 1
    >>> finding = next(iter(zarrs.check(array).missing))
    >>> finding.kind, finding.key
    ('missing', 'c/1')
    """

    kind: str
    array: str
    key: str
    inner_chunk: Coordinates | None = None
    size: int = 0
    expected: int | None = None
    message: str = ""

    def __str__(self) -> str:
        """Return this on one line."""
        where = "" if self.inner_chunk is None else f", inner chunk {self.inner_chunk}"
        what = "" if not self.message else f": {self.message}"
        return f"{self.kind}: {self.key}{where} ({self.size:,} bytes){what}"


@dataclass(frozen=True)
class Absent:
    """What is missing of one array, in little memory.

    Attributes
    ----------
    path : str
    metadata : ArrayMetadata
    grid : tuple of int
        How many chunks there are along every axis.
    stored : sequence of int
        The numbers of the chunks that are stored, ascending.
    inner : mapping of int to tuple
        Of stored shards that do not hold all inner chunks, by number: how many there are along
        every axis, and one bit for each, in C order, that is set if it is not there.
    """

    path: str
    metadata: Any
    grid: Coordinates
    stored: Sequence[int]
    inner: Mapping[int, tuple[Coordinates, bytes]]

    def key(self, number: int) -> str:
        """Return the key of a chunk in the store."""
        name = self.metadata.encode_chunk_key(place_of(number, self.grid))
        return f"{self.path}/{name}" if self.path else str(name)

    def __iter__(self) -> Iterator[Finding]:
        n_chunks = size_of(self.grid)
        for last, following in pairwise([-1, *self.stored, n_chunks]):
            for number in range(last + 1, following):
                yield Finding("missing", self.path, self.key(number))
            if following in self.inner:
                yield from self._inner_chunks(following)

    def _inner_chunks(self, number: int) -> Iterator[Finding]:
        counts, bits = self.inner[number]
        key = self.key(number)
        for inner in np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8))).tolist():
            yield Finding("missing", self.path, key, place_of(inner, counts))

    def count(self) -> int:
        """Return how many chunks and inner chunks are missing."""
        inner = sum(int.from_bytes(bits).bit_count() for _, bits in self.inner.values())
        return size_of(self.grid) - len(self.stored) + inner


@dataclass(frozen=True, repr=False)
class Missing(Collection[Finding]):
    """Chunks and inner chunks that are not stored; each finding is made when it is asked for.

    Attributes
    ----------
    arrays : tuple of Absent
    """

    arrays: tuple[Absent, ...]

    def __iter__(self) -> Iterator[Finding]:
        for array in self.arrays:
            yield from array

    def __len__(self) -> int:
        return sum(array.count() for array in self.arrays)

    def __contains__(self, finding: object) -> bool:
        return any(finding == one for one in self)

    def __repr__(self) -> str:
        return f"<{len(self)} missing>"


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What `check` has seen.

    Attributes
    ----------
    findings : tuple of Finding
        All but what is missing, in the order of arrays and chunks.
    missing : Missing
        What is not stored: iterable, with a length. It takes no memory worth mentioning, however
        sparse the arrays are.
    deleted : tuple of Finding
        Those of the findings that are no more, as a repair was asked for.
    arrays, chunks, stored_chunks : int
        How many arrays have been looked at, how many chunks they have, and how many of these are
        stored. A shard is one chunk.
    inner_chunks, stored_inner_chunks : int
        How many inner chunks the stored shards have, and how many of these are stored; of shards
        whose index can be read.
    bytes_stored : int
        Of all stored chunks, as they are stored.

    Examples
    --------
    >>> import zarr, zarrs
    >>> chunks = {}
    >>> array = zarr.create_array(chunks, shape=(4,), chunks=(2,), dtype="i4", compressors=None)
    >>> array[:] = 1
    >>> chunks["c/1"] = chunks["c/1"][:5]  # three bytes are lost
    >>> report = zarrs.check(array)
    >>> report.is_sound
    False
    >>> [(finding.kind, finding.key, finding.size) for finding in report.findings]
    [('damaged', 'c/1', 5)]
    """

    findings: tuple[Finding, ...]
    missing: Missing
    deleted: tuple[Finding, ...]
    arrays: int
    chunks: int
    stored_chunks: int
    inner_chunks: int
    stored_inner_chunks: int
    bytes_stored: int

    @property
    def is_sound(self) -> bool:
        """Whether nothing was damaged, too long or unreadable when it was looked at."""
        return not any(finding.kind in FAULTS for finding in self.findings)

    def by_kind(self, kind: str) -> Collection[Finding]:
        """Return the findings of one kind.

        Raises
        ------
        ValueError
            If there is no such kind.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, not {kind!r}")
        if kind == "missing":
            return self.missing
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def __str__(self) -> str:
        """Return what was seen, a verdict, and the first of the findings, on some lines."""
        lines = [self._counts(), self._verdict(), *_shortened(self.findings)]
        if self.deleted:
            lines += [f"deleted {len(self.deleted):,} of these"]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<CheckReport: {self._counts()}; {self._verdict()}>"

    def _counts(self) -> str:
        arrays = "1 array" if self.arrays == 1 else f"{self.arrays:,} arrays"
        chunks = f"{self.stored_chunks:,} of {self.chunks:,} chunks stored in {arrays}"
        inner = f", with {self.stored_inner_chunks:,} of {self.inner_chunks:,} inner chunks"
        return f"{chunks}{inner if self.inner_chunks else ''}: {self.bytes_stored:,} bytes"

    def _verdict(self) -> str:
        numbers = Counter(finding.kind for finding in self.findings)
        found = ", ".join(f"{number:,} {kind}" for kind, number in sorted(numbers.items()))
        verdict = "sound" if self.is_sound else "not sound"
        return f"{verdict}: {found}" if found else verdict


def _shortened(findings: Sequence[Finding]) -> list[str]:
    lines = [str(finding) for finding in findings[:MAX_SHOWN]]
    if len(findings) > MAX_SHOWN:
        lines.append(f"and {len(findings) - MAX_SHOWN:,} more in .findings")
    return lines
