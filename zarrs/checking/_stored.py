"""An array as it is stored: which chunks there are, and what is wrong with each.

Chunks are read as any reader reads them, but as a whole, with all checksums. What is stored comes
from a listing, so that the work grows with that and not with the grid.
"""

from __future__ import annotations

import copy
import errno
import math
import os
import re
import stat
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numcodecs
from zarr.abc.store import RangeByteRequest
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec
from zarr.codecs import numcodecs as wrapped
from zarr.core.buffer.cpu import buffer_prototype
from zarr.core.chunk_grids import ChunkGrid
from zarr.core.chunk_key_encodings import DefaultChunkKeyEncoding, V2ChunkKeyEncoding

from zarrs._access import chunks_of
from zarrs._array import Array, with_pipeline
from zarrs._config import read_concurrency
from zarrs._grid import Axis, halves_of, number_of, place_of, shape_of, size_of
from zarrs._run import run_coroutine, write_parts
from zarrs.checking._findings import Finding
from zarrs.checking._inner_chunks import inner_sizes_of, levels_of
from zarrs.pipeline import ZarrsCodecPipeline
from zarrs.runtime._errors import ChunkError
from zarrs.storage._key_locks import key_locks, lock_names
from zarrs.storage._stores import file_prefix, is_immediate, location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import zarr
    from zarr.abc.store import Store

    from zarrs._grid import Box, Coordinates
    from zarrs.checking._inner_chunks import Sizes

MAX_PIECE = 64 * 1024 * 1024  # bytes that a thread decodes in one go, if there are inner chunks
MAX_REQUESTS = 32  # threads that wait for a store
# How the names of files end that are not complete: those of this package, and of zarr.
TEMPORARY = re.compile(r"\.([0-9a-f]{16}|[0-9a-f]{32})\.partial$")
DIGITS = re.compile(r"\d+")
METADATA = ("zarr.json", ".zarray")
USUAL_NAMES = (DefaultChunkKeyEncoding, V2ChunkKeyEncoding)
GONE = (FileNotFoundError, NotADirectoryError)
FIXED_SIZE = (TransposeCodec, BytesCodec, Crc32cCodec)
CHECKSUM_SIZE = 4
BLOSC = (BloscCodec, wrapped.Blosc, numcodecs.Blosc)
BLOSC_HEADER = 16  # bytes, the last four of which say how many there are of all


@dataclass
class Fault:
    """A part of a chunk that is not as it should be.

    Attributes
    ----------
    box : tuple of slice
        What would have to be replaced.
    findings : list of Finding
        One for each inner chunk; or one for all of it.
    """

    box: Box
    findings: list[Finding]

    @property
    def is_damage(self) -> bool:
        """Whether nothing of it can be read."""
        return all(finding.kind == "damaged" for finding in self.findings)


@dataclass
class StoredChunk:
    """A chunk, or shard, that is stored.

    Attributes
    ----------
    number : int
        Its place in the grid, in C order.
    key : str
    box : tuple of slice
    size : int
        Bytes that are stored.
    units : tuple of tuple of int
        The shapes of what can be read by itself, from the largest to the smallest.
    inner_sizes : numpy.ndarray, optional
        Bytes of every inner chunk by its place; negative: it is not stored. None: there are none,
        or it is not known.
    faults : list of Fault
    """

    number: int
    key: str
    box: Box
    size: int = 0
    units: tuple[Coordinates, ...] = ()
    inner_sizes: Sizes | None = None
    faults: list[Fault] = field(default_factory=list)


class StoredArray:
    """What is stored of one array.

    Parameters
    ----------
    array : zarr.Array
        With any pipeline.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.path = array.path
        self.metadata: Any = array.metadata
        self._axes = [
            Axis.of(size, extent)
            for size, extent in zip(chunks_of(self.metadata), array.shape, strict=True)
        ]
        self.grid = tuple(axis.n_chunks for axis in self._axes)
        self._array = _of_whole_chunks(array.async_array, tuple(axis.extent for axis in self._axes))
        self._store = array.store
        prefix = file_prefix(self._store)
        self._root = os.fsdecode(prefix) if isinstance(prefix, bytes) else None
        self._head = f"{self.path}/" if self.path else ""
        codecs = _codecs_of(self.metadata)
        self._is_blosc = any(type(codec) in BLOSC for codec in codecs[-1:])
        self._levels, codecs = levels_of(codecs, len(self.grid))
        self._has_fixed_size = all(type(codec) in FIXED_SIZE for codec in codecs)
        self._tail = CHECKSUM_SIZE * sum(type(codec) is Crc32cCodec for codec in codecs)
        # Of other ways to shard it is not known which inner chunks there are to be spared.
        self._has_other_shards = any(isinstance(codec, ShardingCodec) for codec in codecs)

    @property
    def threads(self) -> int:
        """How many chunks are to be looked at at a time."""
        pipeline: Any = self._array.async_array.codec_pipeline
        workers: int = pipeline.options.max_workers
        if self._root is not None or is_immediate(self._store):
            return workers
        return max(workers, min(read_concurrency(), MAX_REQUESTS))

    def refuse_if_fixed(self) -> None:
        """Raise ValueError if nothing can be deleted."""
        name = f"array {self.path or str(self._store)!r}"
        if self._store.read_only:
            raise ValueError(
                f"{name} cannot be repaired: its store is read-only, so open it with mode='r+'"
            )
        if not self._store.supports_deletes:
            raise ValueError(
                f"{name} cannot be repaired: its store cannot delete, so copy it to another one"
            )

    # Which chunks there are.

    def listed(self) -> tuple[Sequence[int], list[Finding]]:
        """Return the numbers of the chunks that may be stored, and the temporary files."""
        numbers: set[int] = set()
        temporary: list[Finding] = []
        is_complete = False
        with suppress(Exception):  # what a store cannot list is looked for
            for name in self._names():
                # A listing that lacks what the array was opened with is none.
                is_complete = is_complete or name in METADATA
                number = self._number(name)
                if number is not None:
                    numbers.add(number)
                elif TEMPORARY.search(name):
                    temporary += self._temporary(name)
            if is_complete and _has_usual_names(self.metadata):
                return sorted(numbers), temporary
        return range(size_of(self.grid)), temporary

    def _names(self) -> Iterable[str]:
        # Of all that is stored below the array.
        if self._root is None:
            return run_coroutine(_list(self._store, self._head))
        depth = self.metadata.encode_chunk_key((0,) * len(self.grid)).count("/")
        return _files(self._root + self.path, depth)

    def _number(self, name: str) -> int | None:
        # Of the chunk that is stored under a name; None: it is no chunk's.
        n = len(self.grid)
        place = tuple(int(digits) for digits in DIGITS.findall(name)[-n:] if n)
        if len(place) != n or self.metadata.encode_chunk_key(place) != name:
            return None
        is_inside = all(i < count for i, count in zip(place, self.grid, strict=True))
        return number_of(place, self.grid) if is_inside else None

    def _temporary(self, name: str) -> Iterator[Finding]:
        key = self._head + name
        with suppress(Exception):  # it is complete by now, or no file
            yield Finding("temporary", self.path, key, size=self._size(key))

    # Their bytes.

    def _size(self, key: str) -> int:
        if self._root is None:
            return run_coroutine(self._store.getsize(key))
        status = os.stat(self._root + key)
        if not stat.S_ISREG(status.st_mode):
            found = "a directory" if stat.S_ISDIR(status.st_mode) else "neither file nor directory"
            raise OSError(errno.EINVAL, f"expected a file, found {found}", key)
        return status.st_size

    def _part(self, key: str, start: int, stop: int) -> bytes:
        # Less, if there is no more.
        if self._root is not None:
            with open(self._root + key, "rb") as file:
                file.seek(start)
                return file.read(stop - start)
        wanted = RangeByteRequest(start, stop)
        found = run_coroutine(self._store.get(key, buffer_prototype, wanted))
        if found is None:
            raise FileNotFoundError(key)
        data = found.to_bytes()
        # There are stores that know of no ranges.
        return data if len(data) <= stop - start else data[start:stop]

    # What is wrong with a chunk.

    def look(self, number: int) -> StoredChunk | None:
        """Look at a chunk; None: it is not stored."""
        place = place_of(number, self.grid)
        key = self._head + self.metadata.encode_chunk_key(place)
        box = tuple(axis.span(i) for axis, i in zip(self._axes, place, strict=True))
        chunk = StoredChunk(number, key, box)
        try:
            self._look(chunk)
        except GONE:
            return None
        except Exception as error:
            chunk.faults = [self._fault(chunk, box, error)]
        return chunk

    def _look(self, chunk: StoredChunk) -> None:
        chunk.size = self._size(chunk.key)
        chunk.units = tuple(level.shape for level in self._levels)
        if self._levels and self._levels[0].is_bare:
            part = partial(self._part, chunk.key)
            chunk.inner_sizes = inner_sizes_of(part, chunk.size, shape_of(chunk.box), self._levels)
            if chunk.inner_sizes is None and self._has_no_index(chunk):
                chunk.units = ()  # it is in one piece
        chunk.faults = self._faults(chunk, chunk.box)
        if self._is_blosc and not chunk.faults:
            chunk.faults = list(self._excess(chunk))

    def _has_no_index(self, chunk: StoredChunk) -> bool:
        # Readers have to agree, as there are stores that do not know how long a shard is.
        pairs = zip(chunk.box, chunk.units[-1], strict=True)
        try:
            self._array[tuple(slice(part.start, part.start + n) for part, n in pairs)]
        except ChunkError as error:
            return error.codec is None
        except Exception:
            pass  # it will be told of the inner chunk
        return False

    def _faults(self, chunk: StoredChunk, box: Box) -> list[Fault]:
        # A box that cannot be read is halved until what is left are single inner chunks.
        halves = halves_of(box, chunk.units)
        if not halves or self._nbytes(box) <= MAX_PIECE:
            try:
                self._array[box]
            except Exception as error:
                if not halves:
                    return [self._fault(chunk, box, error)]
            else:
                return []
        faults = [fault for half in halves for fault in self._faults(chunk, half)]
        if [fault.box for fault in faults] == halves and all(one.is_damage for one in faults):
            return [Fault(box, [finding for fault in faults for finding in fault.findings])]
        return faults

    def _fault(self, chunk: StoredChunk, box: Box, error: Exception) -> Fault:
        inner: Coordinates | None = None
        size, expected = chunk.size, None if self._levels else self._encoded_size(box)
        if chunk.units:
            inner = tuple(
                (part.start - whole.start) // n
                for part, whole, n in zip(box, chunk.box, chunk.units[-1], strict=True)
            )
            size, expected = 0, self._encoded_size(box)
            if chunk.inner_sizes is not None:
                size = max(0, int(chunk.inner_sizes[inner]))
        kind = "unreadable"
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, ChunkError):
            message = str(error)
            if error.is_damage and error.key == chunk.key:
                is_long = error.codec is not None and expected is not None and size > expected
                kind = "too long" if is_long else "damaged"
        return Fault(box, [Finding(kind, self.path, chunk.key, inner, size, expected, message)])

    def _excess(self, chunk: StoredChunk) -> Iterator[Fault]:
        # Readers take a Blosc chunk for what its header says, whatever there is behind it.
        if chunk.size <= _blosc_size(self._part(chunk.key, 0, BLOSC_HEADER)):
            return
        # Once more all at once, as it may have been replaced meanwhile.
        stored = self._part(chunk.key, 0, chunk.size)
        size, expected = len(stored), _blosc_size(stored)
        if size > expected:
            message = f"{size - expected:,} bytes behind the end of the chunk, which can be read"
            finding = Finding("too long", self.path, chunk.key, None, size, expected, message)
            yield Fault(chunk.box, [finding])

    def _nbytes(self, box: Box) -> int:
        return math.prod(shape_of(box)) * self._array.dtype.itemsize

    def _encoded_size(self, box: Box) -> int | None:
        # Of a chunk or an inner chunk; None: it is not known.
        return self._nbytes(box) + self._tail if self._has_fixed_size else None

    # What is done about it.

    def repair(self, chunk: StoredChunk) -> list[Finding]:
        """Delete what is damaged of a chunk, and still is; return what was deleted."""
        deleted: list[Finding] = []
        if not self._has_other_shards and any(fault.is_damage for fault in chunk.faults):
            names = lock_names(location(self._store), [chunk.key])
            key_locks().owning(names, lambda: deleted.extend(self._delete_locked(chunk)))
        return deleted

    def _delete_locked(self, chunk: StoredChunk) -> Iterator[Finding]:
        pipeline: Any = self._array.async_array.codec_pipeline
        [(locks, _)] = write_parts(location(self._store), [chunk.key], pipeline.options)
        with locks as held, held.owned() if held else nullcontext():
            yield from self._delete(chunk)

    def _delete(self, chunk: StoredChunk) -> Iterator[Finding]:
        again = self.look(chunk.number)
        boxes = [fault.box for fault in again.faults if fault.is_damage] if again else []
        for fault in chunk.faults:
            if fault.is_damage and fault.box in boxes:
                try:
                    # Chunks of nothing but the fill value are not stored.
                    self._array[fault.box] = self._fill_value()
                except Exception as error:
                    fault.findings = [
                        replace(one, message=f"{one.message}; it could not be deleted: {error}")
                        for one in fault.findings
                    ]
                else:
                    yield from fault.findings

    def _fill_value(self) -> Any:
        value = self.metadata.fill_value
        return self.metadata.dtype.default_scalar() if value is None else value


def _of_whole_chunks(array: zarr.AsyncArray[Any], shape: Coordinates) -> Array:
    # The same array as far as its chunks reach, read with all checksums. Nothing of it is stored.
    ours: Any = copy.copy(with_pipeline(array))
    pipeline: ZarrsCodecPipeline = ours.codec_pipeline
    metadata = replace(ours.metadata, shape=shape)
    changed = {
        "metadata": metadata,
        "config": replace(ours.config, write_empty_chunks=False),
        "codec_pipeline": pipeline.with_options(
            validate_checksums=True,
            store_empty_chunks=False,
            strict=False,
            file_handle_cache_size=0,
        ),
    }
    grid_of: Any = getattr(ChunkGrid, "from_metadata", None)
    if grid_of is not None:  # zarr before 3.4 asks the metadata
        changed["_chunk_grid"] = grid_of(metadata)
    for name, value in changed.items():
        object.__setattr__(ours, name, value)
    return Array(ours)


def _codecs_of(metadata: Any) -> list[Any]:
    # In the order of encoding; of format 2 with the one that makes bytes of items.
    if metadata.zarr_format == 3:
        return list(metadata.codecs)
    filters = metadata.filters or ()
    first = () if metadata.dtype.to_native_dtype().hasobject else (BytesCodec(),)
    return [*first, *filters, *([] if metadata.compressor is None else [metadata.compressor])]


def _has_usual_names(metadata: Any) -> bool:
    # Others might not be recognised.
    encoding = getattr(metadata, "chunk_key_encoding", None)
    return metadata.zarr_format == 2 or type(encoding) in USUAL_NAMES


async def _list(store: Store, head: str) -> list[str]:
    return [key.removeprefix(head) async for key in store.list_prefix(head)]


def _files(directory: str, depth: int, head: str = "") -> Iterator[str]:
    # All names, also those of directories, down to some depth; links are followed, as readers do.
    with os.scandir(directory) as entries:
        for entry in entries:
            yield head + entry.name
            if depth > 0 and entry.is_dir():
                yield from _files(entry.path, depth - 1, f"{head}{entry.name}/")


def _blosc_size(header: bytes) -> int:
    return int.from_bytes(header[BLOSC_HEADER - 4 : BLOSC_HEADER], "little")
