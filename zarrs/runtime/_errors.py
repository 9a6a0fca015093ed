"""From what a native task reports to an exception that says what happened and where."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zarrs._core import (
    NUMBER_TYPES,
    IndexFault,
    NoStage,
    NumberFault,
    Status,
    StringFault,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class ChunkError(ValueError, RuntimeError):
    """A stored chunk is damaged, or does not fit its array, or cannot be encoded.

    zarr's own pipelines raise ``ValueError`` for some of these faults and ``RuntimeError`` for
    others, depending on the codec; code that catches either catches this. It can be pickled, with
    its attributes.

    Attributes
    ----------
    array : str or None
        The path of the array in its store; empty if the store is the array. None: it is not known,
        as the chunk is one that zarr's own sharding codec holds.
    key : str or None
        The key of the chunk, or of the shard, in the store; None as above.
    filename : str or None
        The file of the chunk or shard; None if the store has no files.
    codec : str or None
        The name of the codec that failed; None if it was a shard's index.
    inner_chunk : tuple of int or None
        The place of the inner chunk in its shard; None if it was no inner chunk that failed.
    is_damage : bool
        Whether the stored bytes are at fault, and nobody can read them. False: a codec in Python
        has returned something wrong, a limit of this package is exceeded, or inner chunks share
        bytes.

    Examples
    --------
    >>> import zarrs
    >>> chunks = {}
    >>> array = zarrs.create_array(chunks, shape=(4,), chunks=(2,), dtype="i4", compressors=None)
    >>> array[:] = 1
    >>> chunks["c/1"] = chunks["c/1"][:5]  # three bytes are lost
    >>> try:
    ...     array[:]
    ... except zarrs.ChunkError as error:
    ...     print(error.key, error.codec, error.is_damage)
    c/1 bytes True
    """

    array: str | None = None
    key: str | None = None
    filename: str | None = None
    codec: str | None = None
    inner_chunk: tuple[int, ...] | None = None
    is_damage: bool = False


class CodecRaised(Exception):  # noqa: N818
    """What a codec in Python raised is the cause of this, which says which codec it was."""

    @property
    def codec(self) -> str:
        """The name of the codec."""
        return str(self.args[0])


class WrongResult(Exception):  # noqa: N818
    """A codec in Python has returned what it must not.

    Parameters
    ----------
    expected : str
    value : object
        What it returned; its type is named.
    found : str, optional
        What to say of it instead.
    kind : type of Exception
        What it is to be for the caller.
    """

    def __init__(
        self,
        expected: str,
        value: object = None,
        *,
        found: str = "",
        kind: type[Exception] = TypeError,
    ) -> None:
        super().__init__(f"expected {expected}, found {found or type(value).__name__}")
        self.kind = kind


class NotNativeError(RuntimeError):
    """``codec_pipeline.strict`` is on, and something would have run in zarr's own pipeline.

    Examples
    --------
    >>> import zarr, zarrs
    >>> options = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}
    >>> with zarr.config.set(options):
    ...     array = zarr.create_array({}, shape=(4,), chunks=(2,), dtype=[("a", "i4"), ("b", "f4")])
    >>> try:  # doctest: +ELLIPSIS
    ...     array["a"]
    ... except zarrs.NotNativeError as error:
    ...     print(error)
    reading chunk 'c/0' of array '...' is not native: ... but codec_pipeline.strict is on
    """


# Of these the code of a failure is a codec's own.
CODEC_STATUSES = (Status.CORRUPT, Status.UNSUPPORTED, Status.ENCODE_FAILED)

# What a write meets only where it merges something into what is stored.
DAMAGES = (
    Status.CORRUPT,
    Status.WRONG_SIZE,
    Status.BAD_CHECKSUM,
    Status.BAD_INDEX,
    Status.BAD_STRINGS,
    Status.EMPTY,
)


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


class Place(NamedTuple):
    """Where something failed; see `ChunkError` for the attributes.

    Attributes
    ----------
    what : str
        Chunk, inner chunk or shard.
    text : str
        All of it but the file.
    """

    array: str | None
    key: str | None
    filename: str | None
    inner_chunk: tuple[int, ...] | None
    what: str
    text: str


def place_of(
    failure: Failure,
    key: str | tuple[int, ...],
    *,
    root: str | None,
    store: str,
    ndim: int,
    grid: Sequence[int],
) -> Place:
    """Find out where a task failed; see `exception_of` for the parameters."""
    array = name = filename = inner_chunk = None
    what = "shard" if grid else "chunk"
    if isinstance(key, str):
        array, chunk = split_key(key, ndim)
        name = key
        text = f"{what} {chunk!r} of array {array or store or '/'!r}"
        if root is not None:
            filename = os.path.join(root, key)
    else:
        inner_chunk = key
        what = "inner chunk"
        text = f"inner chunk {key} of a shard"
    if failure.inner >= 0 and failure.depth > 0:
        inner = _place(failure.inner, grid)
        inner_chunk = inner_chunk or inner
        what = "inner chunk"
        text = f"inner chunk {inner} of {text}"
    return Place(array, name, filename, inner_chunk, what, text)


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
    overhangs: bool = False,
    store: str = "",
    meaning: str = "",
    raised: BaseException | None = None,
) -> BaseException:
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
    overhangs : bool
        Whether it writes all of a shard inside of the array, and has to keep what is beyond.
    store : str
        What an array is called that has no path in its store.
    meaning : str
        What the failure's code means to the codec.
    raised : BaseException, optional
        What Python raised; `CodecRaised` if it says which codec that was. It is what is returned,
        with a note, unless it says that a codec has returned something wrong.
    """
    place = place_of(failure, keys[failure.task], root=root, store=store, ndim=ndim, grid=grid)
    doing = "writing" if writing else "reading"
    status = Status(failure.status)
    if status is Status.IO_ERROR:
        text = f"{os.strerror(failure.code)} while {doing} {place.text}"
        return OSError(failure.code, text, place.filename)
    if status is Status.NOT_SYNCED:
        return _sync_error(failure, place)
    if status is Status.OVERTAKEN:
        return _overtaken_error(place)
    where = place.text if place.filename is None else f"{place.text} (file {place.filename!r})"
    if status is Status.NO_MEMORY:
        return MemoryError(f"no memory left while {doing} {where}")
    codec, cause = _blame(failure, codecs, items, raised)
    what = "the index of the shard is damaged" if codec is None else f"codec {codec!r} failed"
    kind: type[Exception] = ChunkError
    if isinstance(cause, WrongResult):
        kind, fault = cause.kind, str(cause)
    else:
        fault = _fault(failure, status, grid, place.what, codec, meaning)
    is_damage = status in DAMAGES or (status is Status.UNSUPPORTED and bool(meaning))
    advice = _advice(status, place.what, is_damage=is_damage, writing=writing, overhangs=overhangs)
    text = f"{what} while {doing} {where}: {fault}{advice}"
    if isinstance(cause, ChunkError) and cause.key is None:  # it comes of a shard within
        cause.array, cause.key, cause.filename, *_ = place
    if cause is not None and not isinstance(cause, WrongResult):
        if text not in getattr(cause, "__notes__", ()):
            cause.add_note(text)
        return cause
    error = kind(text)
    if isinstance(error, ChunkError):
        error.array, error.key, error.filename, error.inner_chunk, *_ = place
        error.codec = codec
        error.is_damage = is_damage and not (
            status is Status.BAD_INDEX and failure.code == IndexFault.OVERLAP
        )
    return error


def _blame(
    failure: Failure,
    codecs: Sequence[Sequence[str]],
    items: str,
    raised: BaseException | None,
) -> tuple[str | None, BaseException | None]:
    # Which codec failed, None: it is the index of a shard; and what that raised, if it is Python's.
    if failure.stage == NoStage.THE_INDEX:
        return None, raised
    if isinstance(raised, CodecRaised):
        return raised.codec, raised.__cause__
    return codecs[failure.depth][failure.stage] if failure.stage >= 0 else items, raised


def _sync_error(failure: Failure, place: Place) -> OSError:
    # Of a directory: what is in it has been written already.
    directory = os.path.abspath(place.filename or "")
    for _ in range(failure.found):
        directory = os.path.dirname(directory)
    return OSError(
        failure.code,
        f"{os.strerror(failure.code)} while syncing directory {directory!r}: {place.text} has "
        "been changed as it should be, but that may not survive a power failure",
        place.filename,
    )


def _overtaken_error(place: Place) -> OSError:
    return OSError(
        errno.EBUSY,
        f"other processes kept replacing {place.text} while something was merged into it; what is "
        "stored is theirs: let each chunk have one writer, or set codec_pipeline.lock_files in all "
        "of them",
        place.filename,
    )


def _advice(status: Status, what: str, *, is_damage: bool, writing: bool, overhangs: bool) -> str:
    # What can be done about it, or what became of what is stored.
    if is_damage and overhangs and what == "shard":
        return "; what it holds beyond the array would be lost: delete its key, then write again"
    if status is Status.UNSUPPORTED and not (is_damage or writing):
        return "; zarr's own pipeline may be able to read it"
    if is_damage or not (writing or status is Status.PYTHON_ERROR):
        return f"; the {what} can be replaced by writing all of it"
    return "; what is stored stays as it was" if writing else ""


def _place(inner: int, grid: Sequence[int]) -> tuple[int, ...]:
    # From an inner chunk's number in the index to its place in the shard.
    place: list[int] = []
    for n in reversed(grid):
        place.insert(0, inner % n)
        inner //= n
    return tuple(place)


def _fault(
    failure: Failure,
    status: Status,
    grid: Sequence[int],
    what: str,
    codec: str | None,
    meaning: str,
) -> str:
    # What was expected and what was found.
    found = f"{failure.found} bytes" if failure.found >= 0 else "more"
    code = f"error code {failure.code}"
    code = f": {meaning} ({code})" if meaning else f" ({code})" if failure.code else ""
    if status is Status.EMPTY:
        expected = f"{failure.expected} bytes" if failure.expected >= 0 else f"data of {codec!r}"
        return f"the {what} is empty: expected {expected}, found 0 bytes"
    if status is Status.WRONG_SIZE:
        return f"expected {failure.expected} bytes, found {found}"
    if status is Status.BAD_CHECKSUM:
        return (
            "stored and computed checksum do not match: "
            f"expected {failure.expected:#010x}, found {failure.found:#010x}"
        )
    if status is Status.CORRUPT:
        return f"expected valid data, found damaged data{code}"
    if status is Status.UNSUPPORTED:
        text = "expected data within the limits of this codec, found data that exceed them"
        if failure.expected > 0:
            text += f": at most {failure.expected} bytes, found {found}"
        elif meaning:
            text = f"expected data that this codec can decode, found other data{code}"
        return text
    if status is Status.BAD_INDEX:
        return _index_fault(failure, grid)
    if status is Status.OUT_OF_RANGE:
        return _number_fault(failure)
    if status is Status.BAD_STRINGS:
        return _string_fault(failure)
    if status is Status.PYTHON_ERROR:
        return "it raised an exception"
    if failure.expected < failure.found:
        return f"expected whole items, {failure.expected} bytes of them, found {found}"
    return f"the encoder failed{code}"


def _number_fault(failure: Failure) -> str:
    fault, source, target = (failure.code >> shift & 0xFF for shift in (0, 8, 16))
    dtype = np.dtype(NUMBER_TYPES[target])
    item = np.frombuffer(struct.pack("=q", failure.expected), NUMBER_TYPES[source])[0]
    if NumberFault(fault) is NumberFault.REMAINDER:
        problem = f"a non-zero remainder, which dtype {dtype} cannot represent"
    else:
        limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        problem = f"a value outside the range of dtype {dtype} [{limits.min}, {limits.max}]"
    return (
        f"expected results that its data type can represent, found {problem}; it comes of item "
        f"{failure.found} of the chunk, {item}"
    )


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
        text = (
            f"the stored shard is too short to hold its index: expected at least "
            f"{failure.expected} bytes, found {failure.found}"
        )
        return f"the shard is empty: {text}" if failure.found == 0 else text
    if fault is IndexFault.OUTSIDE:
        offset, size = failure.found % 2**64, failure.expected % 2**64
        which = f" {_place(failure.inner, grid)}" if failure.depth == 0 else ""
        return (
            f"expected inner chunks inside of the shard, found inner chunk{which} at offset "
            f"{offset} with {size} bytes"
        )
    return (
        "expected inner chunks apart from each other, found two that overlap at byte "
        f"{failure.found}"
    )
