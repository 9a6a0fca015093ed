"""Every allocation of the native code fails once: MemoryError, no crash, no leak, old values.

A library in C (see ``faults.py``) lets the n-th allocation of the package's modules fail, and of
the libraries in them, or that one and all later ones. Every operation is walked through: n = 1, 2,
and so on, until it makes fewer allocations than n.
"""

import gc
import itertools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from codec_table import numcodec, wrapped, zarr_codec
from faults import FOR_EVER, Faults
from helpers import ZARR_34, emit, run_child
from native_library import compile_library, preloaded
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    VLenBytesCodec,
    VLenUTF8Codec,
    ZstdCodec,
)
from zarr.dtype import VariableLengthBytes, VariableLengthUTF8

import zarrs
from zarrs import _build_info, _planner

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the library is preloaded as Linux has it"),
    pytest.mark.skipif(bool(_build_info.SANITIZE), reason="sanitizers have their own malloc"),
]

SHAPE, CHUNKS, SHARDS = (24, 20), (12, 10), (24, 20)
GROUPS = 6  # children that share the cases


@dataclass(frozen=True)
class Case:
    """An array, and the operations to walk through.

    Attributes
    ----------
    name : str
    arguments : dict
        Of ``zarr.create_array``.
    operations : tuple of str
        Keys of READS and WRITES.
    options : dict
        Of zarr's configuration.
    dtype, shape
        Of the array.
    in_memory : bool
        Whether its store is a MemoryStore.
    waiting : int
        Threads that commit its files from the third one on.
    does_without : bool
        Some of the memory is not needed: a compressor that gets none stores what it was to
        compress, memory that cannot be given back stays as it is, what Blosc failed to decode is
        decoded again, what finds no room in a cache is not kept, and what cannot be handed over is
        committed by who made it.
    """

    name: str
    arguments: dict[str, Any] = field(repr=False)
    operations: tuple[str, ...] = ("write", "merge", "read", "part")
    options: dict[str, Any] = field(default_factory=dict)
    dtype: Any = "<i4"
    shape: tuple[int, ...] = SHAPE
    in_memory: bool = False
    waiting: int = 0
    does_without: bool = False


ROWS = np.array([1, 4, 5, 13, 22])
COLUMNS = np.array([0, 3, 4, 18])
POINTS = (np.array([23, 0, 4, 4, 17, 2]), np.array([0, 19, 3, 8, 18, 1]))
MASK = np.add.outer(np.arange(24), np.arange(20)) % 3 == 0


def middle(shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Part of every chunk."""
    return tuple(slice(n // 3, n - n // 4) for n in shape)


READS: dict[str, Callable[[Any], Any]] = {
    "read": lambda a: a[...],
    "part": lambda a: a[middle(a.shape)],
    "row": lambda a: a[1],
    "steps": lambda a: a[1::3, ::2],
    "oindex": lambda a: a.oindex[ROWS, COLUMNS],
    "vindex": lambda a: a.vindex[POINTS],
    "mask": lambda a: a.vindex[MASK],
}


def _write(a: Any, new: np.ndarray) -> None:
    a[...] = new


def _merge(a: Any, new: np.ndarray) -> None:
    a[middle(a.shape)] = new[middle(a.shape)]


def _write_steps(a: Any, new: np.ndarray) -> None:
    a[1::3, ::2] = new[1::3, ::2]


def _write_oindex(a: Any, new: np.ndarray) -> None:
    a.oindex[ROWS, COLUMNS] = new[np.ix_(ROWS, COLUMNS)]


def _write_vindex(a: Any, new: np.ndarray) -> None:
    a.vindex[POINTS] = new[POINTS]


def _write_mask(a: Any, new: np.ndarray) -> None:
    a.vindex[MASK] = new[MASK]


WRITES: dict[str, Callable[[Any, np.ndarray], None]] = {
    "write": _write,
    "merge": _merge,
    "write-steps": _write_steps,
    "write-oindex": _write_oindex,
    "write-vindex": _write_vindex,
    "write-mask": _write_mask,
}
ALL = (*READS, *WRITES)
READS["cached"] = lambda a: zarrs.direct(a, cache_bytes=2**20)[middle(a.shape)]


def v3(*compressors: Any, filters: Any = (), **kw: Any) -> dict[str, Any]:
    """Arguments of an array in format 3."""
    kw = {"serializer": BytesCodec(), "chunks": CHUNKS, **kw}
    return {"filters": list(filters), "compressors": list(compressors), **kw}


def v2(compressor: Any, *filters: Any, **kw: Any) -> dict[str, Any]:
    """Arguments of an array in format 2."""
    kw = {"chunks": CHUNKS, "zarr_format": 2, **kw}
    return {"filters": list(filters) or None, "compressors": compressor, **kw}


def sharding(*codecs: Any, shape: tuple[int, ...] = CHUNKS, **kw: Any) -> ShardingCodec:
    """A codec of shards."""
    return ShardingCodec(chunk_shape=shape, codecs=list(codecs), **kw)


def nested(*outer: Any, **kw: Any) -> dict[str, Any]:
    """Shards in a shard, with codecs around both."""
    inner = sharding(BytesCodec(), ZstdCodec(), Crc32cCodec(), shape=(6, 10), **kw)
    return v3(*outer, serializer=sharding(inner, GzipCodec(level=1), **kw), chunks=SHARDS)


def _compressors() -> Iterator[Case]:
    for cname in ("lz4", "lz4hc", "blosclz", "zstd", "zlib"):
        blosc = BloscCodec(cname=cname, shuffle="shuffle", typesize=4)
        without = cname in ("lz4hc", "zstd", "zlib")
        yield Case(f"blosc-{cname}", v3(blosc), does_without=without)
    for shuffle in ("shuffle", "bitshuffle"):
        blocks = BloscCodec(cname="lz4", blocksize=256, typesize=4, shuffle=shuffle)
        arguments, without = v3(blocks, chunks=(40, 40)), shuffle == "bitshuffle"
        name, operations = f"blosc-{shuffle}-blocks", ("merge", "part", "steps", "row")
        yield Case(name, arguments, operations, shape=(80, 40), does_without=without)
    parts = BloscCodec(cname="zstd", shuffle="bitshuffle", typesize=7)
    yield Case("blosc-bits-of-parts", v3(parts), does_without=True)
    yield Case("v2-blosc", v2(numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE)))
    yield Case("zstd", v3(ZstdCodec(level=3)), ALL)
    yield Case("zstd-checksum-crc32c", v3(ZstdCodec(checksum=True), Crc32cCodec()))
    yield Case("zstd-twice", v3(ZstdCodec(), ZstdCodec()), ("write", "read", "part"))
    yield Case("gzip", v3(GzipCodec(level=5)), ("write", "merge", "read", "part", "row"))
    for codec in ("zlib", "gzip", "lz4", "bz2"):
        yield Case(f"v2-{codec}", v2(numcodec(codec)))
    for container in (1, 2):  # .xz and .lzma
        lzma = numcodec("lzma", {"format": container, "preset": 0})
        yield Case(f"v2-lzma-{container}", v2(lzma), ("merge",))


def _filters() -> Iterator[Case]:
    yield Case("crc32c", v3(Crc32cCodec()), ("write", "merge", "read", "part", "row"))
    operations = ("write", "merge", "part")
    for codec in ("crc32", "adler32", "fletcher32", "jenkins_lookup3"):
        yield Case(f"v2-{codec}", v2(numcodec("zstd"), numcodec(codec)), operations)
    for codec, configuration in (
        ("delta", {"dtype": "<i4"}),
        ("fixedscaleoffset", {"dtype": "<i4", "astype": "<i8", "offset": 3, "scale": 1}),
        ("shuffle", {"elementsize": 4}),
        ("astype", {"encode_dtype": "<i8", "decode_dtype": "<i4"}),
    ):
        yield Case(f"v2-{codec}", v2(numcodec("zstd"), numcodec(codec, configuration)), operations)
    yield Case("v2-packbits", v2(None, numcodec("packbits")), operations, dtype="|b1")
    if ZARR_34:
        delta = wrapped("delta", {"dtype": "<i4"})
        yield Case("v3-delta", v3(ZstdCodec(), filters=[delta]), operations)
        cast = zarr_codec("cast_value", data_type="int64")
        scale = zarr_codec("scale_offset", offset=0, scale=2)
        yield Case("cast_value", v3(ZstdCodec(), filters=[scale, cast]), operations)
    for dtype, serializer, codec in (
        (VariableLengthUTF8(), VLenUTF8Codec(), "vlen-utf8"),
        (VariableLengthBytes(), VLenBytesCodec(), "vlen-bytes"),
    ):
        yield Case(codec, v3(ZstdCodec(), serializer=serializer), dtype=dtype)
        yield Case(f"{codec}-sharded", v3(serializer=serializer, shards=SHARDS), dtype=dtype)
        yield Case(f"v2-{codec}", v2(numcodec("zstd"), numcodec(codec)), operations, dtype=dtype)


def _shards() -> Iterator[Case]:
    yield Case("sharded", v3(ZstdCodec(), shards=SHARDS), ALL)
    yield Case("sharded-blosc", v3(BloscCodec(cname="lz4", typesize=4), shards=SHARDS))
    start = sharding(BytesCodec(), Crc32cCodec(), index_location="start")
    yield Case("sharded-start", v3(serializer=start, chunks=SHARDS))
    plain = sharding(BytesCodec(), index_codecs=[BytesCodec()])
    yield Case("sharded-plain-index", v3(serializer=plain, chunks=SHARDS))
    compressed = v3(ZstdCodec(), serializer=plain, chunks=SHARDS)
    yield Case("sharded-compressed", compressed, does_without=True)
    yield Case("nested", nested(), ("merge", "part", "write-mask", "vindex"), does_without=True)
    yield Case("nested-start", nested(index_location="start"), ("merge",), does_without=True)
    yield Case("nested-compressed", nested(ZstdCodec()), ("merge", "part"), does_without=True)


def _options() -> Iterator[Case]:
    blosc = BloscCodec(cname="lz4", typesize=4)
    yield Case("raw", v3(), ALL)
    yield Case("raw-transposed", v3(filters=[TransposeCodec(order=(1, 0))]))
    yield Case("raw-big", v3(serializer=BytesCodec(endian="big")), ("merge", "part"))
    yield Case("v2-F", v2(None, order="F"), ("write", "merge", "part"))
    two = {"threading.max_workers": 2, "codec_pipeline.chunk_concurrent_maximum": 2}
    for name, arguments in {
        "raw": v3(),
        "zstd": v3(ZstdCodec()),
        "blosc": v3(blosc),
        "sharded": v3(ZstdCodec(), shards=SHARDS),
    }.items():
        operations = ("write", "merge", "part", "vindex")
        yield Case(f"memory-{name}", arguments, operations, in_memory=True)
        yield Case(f"{name}-2-threads", arguments, ("write", "merge", "part"), two)
        for option, value in (("direct_io", True), ("file_handle_cache_size", 8)):
            options = {f"codec_pipeline.{option}": value}
            yield Case(f"{name}-{option}", arguments, ("write", "merge", "part"), options)
    for name, arguments in {"raw": v3(), "sharded": v3(ZstdCodec(), shards=SHARDS)}.items():
        name = f"{name}-handed-over"
        yield Case(name, arguments, ("write", "merge"), waiting=3, does_without=True)
    for name, arguments in {"zstd": v3(ZstdCodec()), "nested": nested(ZstdCodec())}.items():
        yield Case(f"cached-{name}", arguments, ("cached",), does_without=True)
    sharded = v3(ZstdCodec(), shards=SHARDS)
    yield Case("cached-sharded", sharded, ("cached",), in_memory=True, does_without=True)
    shape = (512, 512)
    for name, compressors in (("raw", ()), ("blosc", (blosc,))):
        arguments = v3(*compressors, chunks=(256, 512))
        yield Case(f"big-{name}", arguments, ("write", "merge", "read"), two, shape=shape)
    blocks = BloscCodec(cname="lz4", blocksize=2**16, typesize=4)
    yield Case("blosc-threads", v3(blocks, chunks=shape), ("write",), two, shape=shape)


CASES = {c.name: c for c in (*_compressors(), *_filters(), *_shards(), *_options())}


def values(case: Case, seed: int) -> np.ndarray:
    """Values of an array; with another seed, others in every place."""
    numbers = np.arange(np.prod(case.shape)).reshape(case.shape) % 30 + 1 + 40 * seed
    if case.dtype == "|b1":
        return np.asarray(numbers % 2 == seed)
    if isinstance(case.dtype, VariableLengthUTF8):
        return numbers.astype("U3").astype(case.dtype.to_native_dtype())
    if isinstance(case.dtype, VariableLengthBytes):
        return np.asarray(np.frompyfunc(lambda x: str(x).encode(), 1, 1)(numbers))
    return numbers.astype(case.dtype)


def report(value: Any) -> None:
    """Emit something; libraries write to standard output, too, and end no lines."""
    print()
    emit(value)


class Walker:
    """Walks through the allocations of operations, in a process that has the library loaded."""

    def __init__(self) -> None:
        """Something has to be written before: modules are loaded, and a workspace is idle."""
        self.faults = Faults()
        self.faults.count_allocations()
        (self.idle,) = (
            x
            for x in gc.get_objects()
            if type(x) is list and x and type(x[0]).__name__ == "_WorkspaceOwner"
        )
        gc.collect()
        gc.freeze()  # so that it can be asked often

    def alive(self) -> int:
        """How much is alive without the contexts and scratch that are kept for later calls."""
        self.idle.clear()
        gc.collect()
        return self.faults.alive()

    def comes_to(self, expected: int) -> bool:
        """Whether so much is alive; threads may still be at the end of their work."""
        for _ in range(100):
            if self.alive() == expected:
                return True
            time.sleep(0.01)
        return False

    def attempt(self, operate: Callable[[], Any], n: int, last: int) -> tuple[str, int]:
        """Fail from the n-th allocation on; return what was raised, and how many there were."""
        outcome = ""
        with self.faults.armed("allocate", n, last):
            try:
                operate()
            except Exception as error:
                outcome = "MemoryError" if type(error) is MemoryError else repr(error)
        return outcome, self.faults.count("allocate")

    @staticmethod
    def judge(
        case: Case, now: np.ndarray, old: np.ndarray, new: np.ndarray, outcome: str
    ) -> Iterator[str]:
        """Every chunk, or shard, holds what it did, or the new values; those if nothing failed."""
        rows, columns = case.arguments.get("shards", case.arguments["chunks"])
        starts = (range(0, n, step) for n, step in zip(now.shape, (rows, columns), strict=True))
        for i, k in itertools.product(*starts):
            chunk = np.s_[i : i + rows, k : k + columns]
            if not np.array_equal(now[chunk], new[chunk]) and not (
                outcome and np.array_equal(now[chunk], old[chunk])
            ):
                yield f"chunk at {(i, k)} is neither old nor new"

    def walk(self, case: Case, operation: str, path: str) -> None:
        """Emit what is wrong."""
        array = zarr.create_array(
            store=zarr.storage.MemoryStore() if case.in_memory else path,
            shape=case.shape,
            dtype=case.dtype,
            **case.arguments,
        )
        old, new = values(case, 0), values(case, 1)
        writes = operation in WRITES

        def operate() -> Any:
            return WRITES[operation](array, new) if writes else READS[operation](array)

        array[...] = old
        assert np.array_equal(array[...], old)
        result = operate()
        expected = np.asarray(array[...] if writes else result)
        assert not writes or (expected != old).any()
        time.sleep(0.01)
        kept = self.alive()
        for forever in (False, True):
            for n in itertools.count(1):
                if writes:
                    array[...] = old
                self.alive()
                outcome, count = self.attempt(operate, n, FOR_EVER if forever else n)
                wrong = []
                if outcome not in ("", "MemoryError"):
                    wrong.append(outcome)
                if not outcome and count >= n and not case.does_without:
                    wrong.append("no error")
                if writes:
                    wrong += self.judge(case, np.asarray(array[...]), old, expected, outcome)
                again = operate()
                if not np.array_equal(array[...] if writes else again, expected):
                    wrong.append("wrong afterwards")
                del again
                if not self.comes_to(kept):
                    kept, before = self.alive(), kept
                    if kept > before:  # less is kept when threads were idle, as on a busy machine
                        wrong.append(f"{kept - before} allocations left")
                if wrong:
                    report([case.name, operation, n, forever, wrong])
                if count < n:
                    break


def child_walk(path: str, group: int) -> None:
    """Walk through all operations of a group of cases."""
    options = {"codec_pipeline.strict": True, "threading.max_workers": 1}
    warnings.filterwarnings("ignore", message="Combining a `sharding_indexed` codec")
    with zarr.config.set(options):
        for codec in (ZstdCodec(), BloscCodec(), GzipCodec(), Crc32cCodec()):
            array = zarr.create_array(
                store={}, shape=(4,), chunks=(2,), dtype="i4", compressors=codec
            )
            array[...] = 1
    walker = Walker()
    _planner.PATIENCE = -1
    for case in list(CASES.values())[group::GROUPS]:
        with zarr.config.set(options | case.options), pytest.MonkeyPatch.context() as patch:
            patch.setattr(_planner.Planner, "_waiting_threads", lambda *_, of=case: of.waiting)
            for operation in case.operations:
                walker.walk(case, operation, f"{path}/{case.name}-{operation}")
    report("end")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The library of faults."""
    return compile_library("faults", tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("group", range(GROUPS))
def test_every_allocation_fails(tmp_path: Path, library: str, group: int) -> None:
    """One after the other: MemoryError; nothing is lost, not even memory; and on it goes."""
    child = run_child(child_walk, str(tmp_path), group, env=preloaded(library), timeout=600)
    assert child.check() == ["end"]
