"""From what a native task reports to an exception that says what happened and where."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class ChunkError(ValueError, RuntimeError):
    """A stored chunk is damaged, or does not fit its array, or cannot be encoded.

    zarr's own pipelines raise ``ValueError`` for some of these faults and ``RuntimeError`` for
    others, depending on the codec; code that catches either catches this.
    """


class NotNativeError(RuntimeError):
    """``codec_pipeline.strict`` is on, and something would have run in zarr's own pipeline."""


class Status(IntEnum):
    """The outcomes of a task, as in ``_core.pxd``."""

    OK = 0
    MISSING = 1
    IO_ERROR = 2
    CORRUPT = 3
    WRONG_SIZE = 4
    BAD_CHECKSUM = 5
    NO_MEMORY = 6
    UNSUPPORTED = 7
    ENCODE_FAILED = 8
    BAD_INDEX = 9
    OUT_OF_RANGE = 10
    PYTHON_ERROR = 11
    BAD_STRINGS = 12
    NOT_SYNCED = 14


class IndexFault(IntEnum):
    """What is wrong with a shard's index, as in ``_core.pxd``."""

    TOO_SHORT = 0
    OUTSIDE = 1
    OVERLAP = 2


THE_INDEX = -2  # the stage of a failure that is neither a codec's nor the file's


class StringFault(IntEnum):
    """What is wrong with encoded strings, as in ``_strings.pxd``."""

    WRONG_COUNT = 0
    CUT_SHORT = 1
    NO_TEXT = 2


class Failure(NamedTuple):
    """What a failed task leaves behind; see ``_core.pxd`` for the fields."""

    task: int
    status: int
    stage: int
    depth: int
    inner: int
    code: int
    expected: int
    found: int


def split_key(key: str, ndim: int) -> tuple[str, str]:
    """Split a store key into the array's path and the chunk's key below it.

    The names of chunks depend on the array's chunk key encoding, which a pipeline is not told:
    "c/0/1" (v3), "0.1" or "0/1" (v2) are recognised by their numbers.

    Examples
    --------
    >>> split_key("a/b/c/0/1", 2)
    ('a/b', 'c/0/1')
    >>> split_key("a/b/0.1", 2)
    ('a/b', '0.1')
    """
    parts = key.split("/")
    n = 1 if ndim == 0 or not parts[-1].isdecimal() else ndim
    if len(parts) > n and ndim and parts[-n - 1] == "c":
        n += 1
    return "/".join(parts[:-n]), "/".join(parts[-n:])


def exception_of(
    failure: Failure,
    *,
    keys: Sequence[str | tuple[int, ...]],
    root: str | None,
    ndim: int,
    codecs: Sequence[Sequence[str]],
    items: str,
    grid: Sequence[int],
    writing: bool,
) -> Exception:
    """Make the exception for a failed task.

    Parameters
    ----------
    failure : Failure
    keys : sequence of str or tuple of int
        Store key of every task, or its place in its shard.
    root : str or None
        Directory of the store; None: it has no files.
    ndim : int
        Number of dimensions of the array.
    codecs : sequence of sequence of str
        Names of the codecs in the order of encoding: those of chunks, those of inner chunks, and
        so on.
    items : str
        Name of the codec between items and bytes.
    grid : sequence of int
        How many inner chunks the failed task has along every axis, if it is a shard.
    writing : bool
        Whether the call was a write.
    """
    key = keys[failure.task]
    path = None
    if isinstance(key, str):
        array, chunk = split_key(key, ndim)
        kind = "shard" if grid else "chunk"
        where = f"{kind} {chunk!r} of array {array or '/'!r}"
        if root is not None:
            path = os.path.join(root, key)
            where += f" (file {path!r})"
    else:
        where = f"inner chunk {key} of a shard"
    if failure.inner >= 0 and failure.depth > 0:
        where = f"inner chunk {_place(failure.inner, grid)} of {where}"
    doing = "writing" if writing else "reading"
    status = Status(failure.status)
    if status is Status.IO_ERROR:
        return OSError(failure.code, f"{os.strerror(failure.code)} while {doing} {where}", path)
    if status is Status.NOT_SYNCED:
        directory = os.path.abspath(path or "")
        for _ in range(failure.found):
            directory = os.path.dirname(directory)
        return OSError(
            failure.code,
            f"{os.strerror(failure.code)} while syncing directory {directory!r}: {where} has been "
            "changed as it should be, but that may not survive a power failure",
            path,
        )
    if status is Status.NO_MEMORY:
        return MemoryError(f"no memory left while {doing} {where}")
    if failure.stage == THE_INDEX:
        what = "the index of the shard is damaged"
    else:
        codec = codecs[failure.depth][failure.stage] if failure.stage >= 0 else items
        what = f"codec {codec!r} failed"
    advice = "; the chunk can be replaced by writing all of it" if not writing else ""
    return ChunkError(f"{what} while {doing} {where}: {_fault(failure, status, grid)}{advice}")


def _place(inner: int, grid: Sequence[int]) -> tuple[int, ...]:
    # From an inner chunk's number in the index to its place in the shard.
    place: list[int] = []
    for n in reversed(grid):
        place.insert(0, inner % n)
        inner //= n
    return tuple(place)


def _fault(failure: Failure, status: Status, grid: Sequence[int]) -> str:
    # What was expected and what was found.
    found = f"{failure.found} bytes" if failure.found >= 0 else "more"
    if status is Status.WRONG_SIZE:
        return f"expected {failure.expected} bytes, found {found}"
    if status is Status.BAD_CHECKSUM:
        return (
            "stored and computed checksum do not match: "
            f"expected {failure.expected:#010x}, found {failure.found:#010x}"
        )
    if status is Status.CORRUPT:
        return f"expected valid data, found damaged data (error code {failure.code})"
    if status is Status.UNSUPPORTED:
        text = "expected data within the limits of this codec, found data that exceed them"
        if failure.expected > 0:
            text += f": at most {failure.expected} bytes, found {found}"
        return text
    if status is Status.BAD_INDEX:
        return _index_fault(failure, grid)
    if status is Status.OUT_OF_RANGE:
        return (
            "expected items that its data type can represent, found one that it cannot: "
            f"number {failure.found} of the chunk"
        )
    if status is Status.BAD_STRINGS:
        return _string_fault(failure)
    if status is Status.PYTHON_ERROR:
        return "it raised an exception"
    return f"the encoder failed (error code {failure.code})"


def _string_fault(failure: Failure) -> str:
    fault = StringFault(failure.code)
    if fault is StringFault.WRONG_COUNT:
        return f"expected {failure.expected} strings, found {failure.found}"
    if fault is StringFault.CUT_SHORT:
        return f"expected {failure.expected} strings, found {failure.found} before the data end"
    return f"expected UTF-8, found something else in string {failure.found} of the chunk"


def _index_fault(failure: Failure, grid: Sequence[int]) -> str:
    fault = IndexFault(failure.code)
    if fault is IndexFault.TOO_SHORT:
        return (
            f"the stored shard is too short to hold its index: expected at least "
            f"{failure.expected} bytes, found {failure.found}"
        )
    if fault is IndexFault.OUTSIDE:
        offset, size = failure.found % 2**64, failure.expected % 2**64
        which = f" {_place(failure.inner, grid)}" if failure.depth == 0 else ""
        return (
            f"expected inner chunks inside of the shard, found inner chunk{which} at offset "
            f"{offset} with {size} bytes"
        )
    return f"expected inner chunks apart from each other, found two that overlap at {failure.found}"
