"""What reads and writes cannot avoid, each part alone in worker processes; for limits.py.

Processes share no interpreter lock, so what Python does between two calls of C is all that is not
of the part itself: about half a microsecond a chunk, and about two a file.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import importlib.util
import itertools
import math
import mmap
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import google_crc32c._crc32c
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.data import Array
from harness.files import chunk_files

Work = Callable[[], Any]

PIECE = 2**20  # bytes that stay in the processor's cache
NOT_STORED = 2**64 - 1
DEFLATE = ctypes.util.find_library("deflate")

# Parameters of libzstd; the second one is refused, without harm, by those that do not split blocks.
COMPRESSION_LEVEL, BLOCK_SPLITTER_LEVEL = 100, 1017
NO_SPLITTING = 1

# --------------------------------------------------------------------------------- codecs


class Stage(Protocol):
    """A codec; each method returns a call and the memory in which its result is after that."""

    def decode(self, source: Array, target: Array) -> tuple[Work, Array]: ...
    def encode(self, source: Array, target: Array) -> tuple[Work, Array]: ...


def function(library: str, name: str, result: Any = ctypes.c_ssize_t) -> Any:
    """Find a function, also in what the library is linked with."""
    found = ctypes.CDLL(library)[name]
    found.restype = result
    return found


@functools.cache
def zstd_library() -> tuple[int, str]:
    """Return version and file of the newest Zstandard: numcodecs', or that in the wheel blosc2."""
    wheel = importlib.util.find_spec("blosc2")
    found = Path(str(wheel.origin)).parent.rglob("libblosc2.so") if wheel else ()
    known = [numcodecs.zstd.__file__, *map(str, found)]
    return max((function(library, "ZSTD_versionNumber")(), library) for library in known)


def context(library: str, name: str, *arguments: Any) -> ctypes.c_void_p:
    """Make what a library keeps from call to call."""
    return ctypes.c_void_p(function(library, name, ctypes.c_void_p)(*arguments))


def where(buffer: Array) -> tuple[ctypes.c_void_p, ctypes.c_size_t]:
    """Return address (which keeps the memory alive) and size as C functions take them."""
    return buffer.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(buffer.nbytes)


class Native:
    """Two functions in C, which get address and size of source and target."""

    def __init__(self, decompress: Callable[..., Work], compress: Callable[..., Work]) -> None:
        self.decompress, self.compress = decompress, compress

    def decode(self, source: Array, target: Array) -> tuple[Work, Array]:
        return self.decompress(*where(source), *where(target)), target

    def encode(self, source: Array, target: Array) -> tuple[Work, Array]:
        work = self.compress(*where(source), *where(target))
        return work, target[: work()]


def blosc(config: dict[str, Any], item: int) -> Native:
    library = numcodecs.blosc.__file__
    decompress = function(library, "blosc_decompress_ctx", ctypes.c_int)
    compress = function(library, "blosc_compress_ctx", ctypes.c_int)
    shuffle = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}.get(config["shuffle"])
    before = config["clevel"], config["shuffle"] if shuffle is None else shuffle
    typesize, blocksize = map(
        ctypes.c_size_t, (config.get("typesize") or item, config["blocksize"])
    )
    after = config["cname"].encode(), blocksize, 1
    return Native(
        lambda source, size, target, room: partial(decompress, source, target, room, 1),
        lambda source, size, *target: partial(
            compress, *before, typesize, size, source, *target, *after
        ),
    )


def zstd(config: dict[str, Any], item: int) -> Native:
    (_, library), level = zstd_library(), config["level"]
    decompress = partial(
        function(library, "ZSTD_decompressDCtx"), context(library, "ZSTD_createDCtx")
    )
    encoder = context(library, "ZSTD_createCCtx")
    parameters = {COMPRESSION_LEVEL: level}
    if level in {0, 3, 4}:  # as zarrs asks for
        parameters[BLOCK_SPLITTER_LEVEL] = NO_SPLITTING
    for parameter, value in parameters.items():
        function(library, "ZSTD_CCtx_setParameter")(encoder, parameter, value)
    compress = partial(function(library, "ZSTD_compress2"), encoder)
    return Native(
        lambda source, size, *target: partial(decompress, *target, source, size),
        lambda source, size, *target: partial(compress, *target, source, size),
    )


def deflate(config: dict[str, Any], item: int) -> Native:
    library, kind = str(DEFLATE), f"libdeflate_{config['id']}"
    decoder = context(library, "libdeflate_alloc_decompressor")
    level = config["level"]
    if 5 <= level <= 8:  # as zarrs asks for
        level -= 1
    encoder = context(library, "libdeflate_alloc_compressor", level)
    decompress = partial(function(library, f"{kind}_decompress"), decoder)
    compress = partial(function(library, f"{kind}_compress"), encoder)
    return Native(
        lambda *buffers: partial(decompress, *buffers, None),
        lambda *buffers: partial(compress, *buffers),
    )


class Checksum:
    def __init__(self, config: dict[str, Any], item: int) -> None:
        self.sum = function(google_crc32c._crc32c.__file__, "crc32c_value", ctypes.c_uint32)

    def decode(self, source: Array, target: Array) -> tuple[Work, Array]:
        return partial(self.sum, *where(source[:-4])), source[:-4]

    def encode(self, source: Array, target: Array) -> tuple[Work, Array]:
        work = partial(self.sum, *where(source))
        return work, np.concatenate([source, np.array([work()], "<u4").view("u1")])


class Numcodecs:
    """Any other codec."""

    def __init__(self, config: dict[str, Any], item: int) -> None:
        self.codec = numcodecs.get_codec(config)

    def decode(self, source: Array, target: Array) -> tuple[Work, Array]:
        return partial(self.codec.decode, source, target), target

    def encode(self, source: Array, target: Array) -> tuple[Work, Array]:
        work = partial(self.codec.encode, source)
        return work, np.frombuffer(work(), "u1")


STAGES: dict[str, Callable[[dict[str, Any], int], Stage]] = {
    "blosc": blosc,
    "zstd": zstd,
    "crc32c": Checksum,
}
if DEFLATE:
    STAGES |= {"gzip": deflate, "zlib": deflate}


class Chain:
    """The codecs of an array, and how its items lie in a chunk."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        metadata: Any = array.metadata
        self.order = tuple(range(array.ndim))
        self.dtype = array.dtype
        if array.metadata.zarr_format == 2:
            codecs = [*(metadata.filters or ()), metadata.compressor]
            configs = [codec.get_config() for codec in codecs if codec is not None]
        else:
            codecs = metadata.codecs[0].codecs if array.shards else metadata.codecs
            made = [codec.to_dict() for codec in codecs]
            configs = [{"id": each["name"], **each.get("configuration", {})} for each in made]
        self.stages: list[Stage] = []
        for config in configs:
            if config["id"] == "transpose":
                self.order = tuple(config["order"])
            elif config["id"] == "bytes":
                self.dtype = self.dtype.newbyteorder(">" if config.get("endian") == "big" else "<")
            else:
                make = STAGES.get(config["id"], Numcodecs)
                self.stages.append(make(config, self.dtype.itemsize))
        names = {config["id"] for config in configs} - {"transpose", "bytes", "crc32c"}
        self.joins = names == {"zstd"}  # its frames can follow each other

    def stored(self, chunk: Array) -> Array:
        """Return the items of a chunk as bytes, in the order in which they are stored."""
        turned = np.ascontiguousarray(chunk.transpose(self.order), self.dtype)
        return turned.reshape(-1).view("u1")

    def decoding(
        self, sources: list[Array], buffers: Sequence[Array]
    ) -> tuple[list[Work], list[Array]]:
        """Return the calls that decode some chunks, and where these are after them."""
        works = []
        for stage, buffer in zip(reversed(self.stages), itertools.cycle(buffers), strict=False):
            if len(sources) > 1 and not isinstance(stage, Checksum):
                sources = [np.concatenate(sources)]
            made = [stage.decode(source, buffer) for source in sources]
            works += [work for work, _ in made]
            sources = [result for _, result in made]
        return works, sources

    def encoding(self, source: Array, buffer: Array) -> tuple[list[Work], Array]:
        """Return the calls that encode a chunk, and where it is after them."""
        works = []
        for stage in self.stages:
            work, source = stage.encode(source, buffer)
            works.append(work)
        return works, source


# -------------------------------------------------------------------------------- workers


def box(corner: Iterable[int], chunk: Iterable[int]) -> tuple[slice, ...]:
    return tuple(slice(i * n, (i + 1) * n) for i, n in zip(corner, chunk, strict=True))


def grid(shape: Iterable[int], chunk: Iterable[int]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(-(-n // m)) for n, m in zip(shape, chunk, strict=True)))


def stored_chunks(array: zarr.Array[Any], path: Path) -> Iterator[tuple[tuple[slice, ...], Array]]:
    """Return where each chunk, or inner chunk, lies in the array, and its stored bytes."""
    outer = array.shards or array.chunks
    for corner in grid(array.shape, outer):
        found = np.fromfile(path / array.metadata.encode_chunk_key(corner), "u1")
        if not array.shards:
            yield box(corner, outer), found
            continue
        inner = list(grid(outer, array.chunks))
        index = found[-16 * len(inner) - 4 : -4].view("<u8").reshape(-1, 2)
        for place, (offset, length) in zip(inner, index.tolist(), strict=True):
            if length != NOT_STORED:
                first = [
                    i * (m // n) + j
                    for i, j, m, n in zip(corner, place, outer, array.chunks, strict=True)
                ]
                yield box(first, array.chunks), found[offset : offset + length]


def rows(array: Array) -> Array:
    """See each row as one item, which NumPy copies faster."""
    return array.view(np.dtype((np.void, array.shape[-1] * array.itemsize)))


def read_file(path: str, memory: Array) -> None:
    file = os.open(path, os.O_RDONLY)
    size, done = os.fstat(file).st_size, 0
    while done < size:
        done += os.preadv(file, [memory.data], done)
    os.close(file)


def write_file(path: str, size: int, memory: Array) -> None:
    temporary = path + ".partial"
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    while size > 0:
        size -= os.write(file, memory[:size].data)
    os.close(file)
    os.rename(temporary, path)


def sizes(path: Path) -> list[tuple[Path, int]]:
    return [(file, (path / file).stat().st_size) for file in chunk_files(path)]


def give_memory_back() -> None:
    """Let the GNU allocator return what is free, so that the next result is of fresh memory."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Share:
    """What one of the workers has to do: every n-th chunk and file of an array.

    Attributes
    ----------
    works : dict of str to list of callable
        The calls of each part that needs no directory.
    """

    def __init__(self, path: Path, values: Path, number: int, count: int, reads: bool) -> None:
        array = zarr.open_array(path, mode="r")
        self.path, self.number, self.count = path, number, count
        self.data = np.load(values, mmap_mode="r")
        self.chunks = list(itertools.islice(stored_chunks(array, path), number, None, count))
        self.chunk_shape, self.chain = array.chunks, Chain(array)
        self.wanted = [self.chain.stored(self.padded(region)) for region, _ in self.chunks]
        self.chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
        self.files = sizes(path)
        self.piece = np.ones(PIECE, "u1")
        self.fresh: Array | None = None
        self.works = {
            "codec": list(self.decode() if reads else self.encode()),
            "copy": list(self.copy(reads)),
            "faults": [self.touch],
        }

    def padded(self, region: tuple[slice, ...]) -> Array:
        """Return a chunk of the array, with what it has beyond the array."""
        part = self.data[region]
        chunk = np.zeros(self.chunk_shape, self.data.dtype)
        chunk[tuple(map(slice, part.shape))] = part
        return chunk

    def checked(self, works: list[Work], results: list[Array], wanted: Array) -> None:
        for work in works:
            work()
        if not np.array_equal(np.concatenate(results), wanted):
            raise ValueError("a part decodes wrongly")

    def decode(self) -> Iterator[Work]:
        together = max(1, PIECE // self.chunk_bytes) if self.chain.joins else 1
        buffers = [np.ones(self.chunk_bytes * together, "u1") for _ in range(2)]
        for first in range(0, len(self.chunks), together):
            some = slice(first, first + together)
            wanted = np.concatenate(self.wanted[some])
            sources = [source for _, source in self.chunks[some]]
            works, results = self.chain.decoding(sources, [b[: wanted.nbytes] for b in buffers])
            self.checked(works, results, wanted)
            yield from works

    def encode(self) -> Iterator[Work]:
        encoded = np.ones(2 * self.chunk_bytes + PIECE, "u1")
        buffers = [np.ones(self.chunk_bytes, "u1") for _ in range(2)]
        for wanted in self.wanted:
            works, result = self.chain.encoding(wanted, encoded)
            self.checked(*self.chain.decoding([result], buffers), wanted)
            yield from works

    def copy(self, reads: bool) -> Iterator[Work]:
        whole = np.empty_like(self.data, subok=False)
        chunk = np.ones(self.chunk_shape, whole.dtype)
        for region, _ in self.chunks:
            part = whole[region]
            part[...] = self.data[region]
            if not part.flags.c_contiguous or part.shape != self.chunk_shape:
                pair = rows(part), rows(chunk[tuple(map(slice, part.shape))])
                yield partial(np.copyto, *(pair if reads else pair[::-1]))

    def touch(self) -> None:
        self.fresh = np.empty(self.data.nbytes, "u1")
        size = -(-self.fresh.nbytes // self.count)
        self.fresh[self.number * size : (self.number + 1) * size : mmap.PAGESIZE] = 0

    def file_works(self, part: str, root: Path) -> list[Work]:
        """Return the calls that read, make directories for, or write files below `root`."""
        if part == "directories":
            folders = sorted({str(root / file.parent) for file, _ in self.files})
            mine = folders[self.number :: self.count]
            return [partial(os.makedirs, folder, exist_ok=True) for folder in mine]
        files = self.files[self.number :: self.count]
        if part == "read":
            return [partial(read_file, str(root / file), self.piece) for file, _ in files]
        return [partial(write_file, str(root / file), size, self.piece) for file, size in files]

    def seconds(self, part: str, barrier: Any, root: Path | None) -> float:
        works = self.works[part] if root is None else self.file_works(part, root)
        give_memory_back()
        barrier.wait(timeout=600)
        begin = time.perf_counter()
        for work in works:
            work()
        taken = time.perf_counter() - begin
        self.fresh = None  # giving memory back is not on the clock
        return taken


class Worker:
    """What a worker process remembers between two calls."""

    barrier: Any
    share: Share


def start(barrier: Any) -> None:
    Worker.barrier = barrier


def prepare(*what: Any) -> None:
    Worker.share = Share(*what)


def measure_part(part: str, root: Path | None) -> float:
    return Worker.share.seconds(part, Worker.barrier, root)


class Workers:
    """Processes that do the parts at the same time."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(count)
        self.pools = [ProcessPoolExecutor(1, context, start, (barrier,)) for _ in range(count)]

    def prepare(self, path: Path, values: Path, reads: bool) -> None:
        count = len(self.pools)
        futures = [
            pool.submit(prepare, path, values, number, count, reads)
            for number, pool in enumerate(self.pools)
        ]
        for future in futures:
            future.result()

    def seconds(self, part: str, root: Path | None = None) -> float:
        futures = [pool.submit(measure_part, part, root) for pool in self.pools]
        return statistics.fmean(future.result() for future in futures)

    def close(self) -> None:
        for pool in self.pools:
            pool.shutdown()
