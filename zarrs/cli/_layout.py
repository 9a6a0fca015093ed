"""How an array is cut into chunks, shards and files, and how much of it is stored."""

from __future__ import annotations

import math
import os
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ZipStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import zarr

METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
# Of these a listing would be a walk through web pages, one request each, without sizes.
UNLISTED = ("http", "https")


@dataclass(frozen=True)
class Layout:
    """How an array is cut.

    Attributes
    ----------
    zarr_format : int
    dtype : str
    shape : tuple of int
    nbytes : int or None
        Of all items; None here and below: items have no fixed size.
    chunk : tuple of int
        The shape of a chunk, of an inner chunk if there are shards; the largest if they differ.
    chunk_bytes : int or None
    chunks : int
        How many chunks the whole array has.
    shard : tuple of int or None
    shard_bytes : int or None
    chunks_in_shard : int
        0: there are no shards.
    files : int
        How many files, or objects, the whole array has: shards, or else chunks.
    codecs : tuple of str
        The names of all codecs, also inside of shards, as format 3 has them without "numcodecs.".
    """

    zarr_format: int
    dtype: str
    shape: tuple[int, ...]
    nbytes: int | None
    chunk: tuple[int, ...]
    chunk_bytes: int | None
    chunks: int
    shard: tuple[int, ...] | None
    shard_bytes: int | None
    chunks_in_shard: int
    files: int
    codecs: tuple[str, ...]

    @property
    def file_bytes(self) -> int | None:
        """The decoded size of what is in one file."""
        return self.chunk_bytes if self.shard is None else self.shard_bytes


@dataclass(frozen=True)
class Stored:
    """What is stored of the chunks or shards of an array: how many there are, and their bytes."""

    files: int
    nbytes: int


def layout_of(array: zarr.Array[Any]) -> Layout:
    """Return how an array is cut."""
    shape, itemsize = array.shape, _itemsize(array)
    try:
        chunk, shard = array.chunks, array.shards
        counts = [_ceil(n, m) for n, m in zip(shape, shard or chunk, strict=True)]
    except NotImplementedError:  # the chunks have more shapes than one
        any_array: Any = array  # zarr before 3.4 has only chunks of one shape
        sizes = any_array.write_chunk_sizes
        chunk, shard = tuple(max(along, default=1) for along in sizes), None
        counts = [len(along) for along in sizes]
    in_shard = math.prod(n // m for n, m in zip(shard, chunk, strict=True)) if shard else 0

    def nbytes(of: tuple[int, ...]) -> int | None:
        return None if itemsize is None else math.prod(of) * itemsize

    return Layout(
        zarr_format=array.metadata.zarr_format,
        dtype=str(array.dtype),
        shape=shape,
        nbytes=nbytes(shape),
        chunk=chunk,
        chunk_bytes=nbytes(chunk),
        chunks=math.prod(_ceil(n, m) for n, m in zip(shape, chunk, strict=True))
        if shard
        else math.prod(counts),
        shard=shard,
        shard_bytes=nbytes(shard) if shard else None,
        chunks_in_shard=in_shard,
        files=math.prod(counts),
        codecs=tuple(_codecs(array.metadata.to_dict())),
    )


def _itemsize(array: zarr.Array[Any]) -> int | None:
    dtype = array.dtype
    return None if dtype.kind in ("O", "T") else dtype.itemsize  # objects and strings of any length


def _ceil(n: int, m: int) -> int:
    return -(-n // m) if m else 0


def _codecs(metadata: dict[str, Any]) -> Iterator[str]:
    # Of a chain of either format, or of what is inside of a shard.
    filters = metadata.get("filters") or ()
    compressor = metadata.get("compressor")
    for codec in (*metadata.get("codecs", ()), *filters, *([compressor] if compressor else [])):
        described = codec if isinstance(codec, dict) else codec.get_config()
        name = described.get("name") or described.get("id")
        yield str(name).removeprefix("numcodecs.")
        yield from _codecs(described.get("configuration") or {})


def stored_of(array: zarr.Array[Any]) -> Stored | None:
    """Count what is stored of an array, where one listing tells; None where it does not.

    A local directory is walked through, a zip file has a directory, and object stores tell the
    sizes with the names, 1000 or so a request.
    """
    store, prefix = array.store_path.store, array.store_path.path
    sizes: Iterable[tuple[str, int | None]]
    if isinstance(store, LocalStore):
        sizes = _in_directory(store.root / prefix)
    elif isinstance(store, ZipStore):
        sizes = _in_archive(str(store.path), prefix)
    elif isinstance(store, FsspecStore) and not _is_unlisted(store):
        sizes = _in_file_system(store, prefix)
    else:
        return None
    chunks = [
        size
        for name, size in sizes
        if os.path.basename(name) not in METADATA and not name.endswith(".partial")
    ]
    if any(size is None for size in chunks):
        return None
    return Stored(len(chunks), sum(size or 0 for size in chunks))


def _in_directory(root: os.PathLike[str]) -> Iterator[tuple[str, int | None]]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            with suppress(FileNotFoundError):  # it has been replaced or removed meanwhile
                yield path, os.stat(path).st_size


def _in_archive(path: str, prefix: str) -> Iterator[tuple[str, int | None]]:
    head = f"{prefix}/" if prefix else ""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename.startswith(head) and not info.is_dir():
                yield info.filename, info.file_size


def _in_file_system(store: FsspecStore, prefix: str) -> Iterator[tuple[str, int | None]]:
    root = f"{store.path}/{prefix}".rstrip("/")
    found: dict[str, dict[str, Any]] = sync(store.fs._find(root, detail=True))
    for name, detail in found.items():
        yield name, detail.get("size")


def _is_unlisted(store: FsspecStore) -> bool:
    protocol = store.fs.protocol
    names = (protocol,) if isinstance(protocol, str) else protocol
    return any(name in UNLISTED for name in names)
