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


class Failure(NamedTuple):
    """What a failed task leaves behind; see ``_core.pxd`` for the fields."""

    task: int
    status: int
    stage: int
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
    keys: Sequence[str],
    root: str,
    ndim: int,
    codecs: Sequence[str],
    writing: bool,
) -> Exception:
    """Make the exception for a failed task.

    Parameters
    ----------
    failure : Failure
    keys : sequence of str
        Store key of every task.
    root : str
        Directory of the store.
    ndim : int
        Number of dimensions of the array.
    codecs : sequence of str
        Names of the bytes-to-bytes codecs in the order of encoding.
    writing : bool
        Whether the call was a write.
    """
    key = keys[failure.task]
    array, chunk = split_key(key, ndim)
    where = f"chunk {chunk!r} of array {array or '/'!r} (file {os.path.join(root, key)!r})"
    doing = "writing" if writing else "reading"
    codec = codecs[failure.stage] if failure.stage >= 0 else "bytes"
    status = Status(failure.status)
    if status is Status.IO_ERROR:
        text = f"{os.strerror(failure.code)} while {doing} {where}"
        return OSError(failure.code, text, os.path.join(root, key))
    if status is Status.NO_MEMORY:
        return MemoryError(f"no memory left while {doing} {where}, codec {codec!r}")
    if status is Status.WRONG_SIZE:
        found = f"{failure.found} bytes" if failure.found >= 0 else "more"
        text = f"expected {failure.expected} bytes, found {found}"
    elif status is Status.BAD_CHECKSUM:
        text = (
            "stored and computed checksum do not match: "
            f"expected {failure.expected:#010x}, found {failure.found:#010x}"
        )
    elif status is Status.CORRUPT:
        text = f"expected valid {codec} data, found damaged data (error code {failure.code})"
    elif status is Status.UNSUPPORTED:
        text = "expected data within the limits of this codec, found data that exceed them"
        if failure.expected:
            text += f": at most {failure.expected} bytes, found {failure.found}"
    else:
        text = f"the encoder failed (error code {failure.code})"
    advice = "; the chunk can be replaced by writing all of it" if not writing else ""
    return ChunkError(f"codec {codec!r} failed while {doing} {where}: {text}{advice}")
