"""What the behaviour tests share: the pipeline under test, tables, data and referees.

A referee is something independent that reads and writes the same array: NumPy for values,
zarr's default pipeline (``stock``) and TensorStore for stored bytes.
"""

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import zarr
from packaging.version import Version
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec
from zarr.errors import UnstableSpecificationWarning
from zarr.storage import LocalStore

import zarrs

PIPELINE = "zarrs.ZarrsCodecPipeline"
STOCK = "zarr.core.codec_pipeline.BatchedCodecPipeline"
ZARR_34 = Version(zarr.__version__) >= Version("3.4")
SUPPORT = Path(__file__).resolve().parent
ROOT = SUPPORT.parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY_POINT = PYPROJECT["project"]["entry-points"]["zarr.codec_pipeline"]["zarrs"]


# --------------------------------------------------------------------------- codec chains


@dataclass(frozen=True)
class Chain:
    """One way to encode a chunk, and what is known about it.

    Parameters
    ----------
    name : str
        Shown in test ids.
    arguments : callable
        From the number of dimensions to the keyword arguments of ``zarr.create_array``.
    zarr_format : int
        2 or 3.
    verified : bool
        Every change of the stored bytes that changes the data is found by a full read.
    tensorstore : bool
        TensorStore has this chain.
    """

    name: str
    arguments: Callable[[int], dict[str, Any]] = field(repr=False)
    zarr_format: int = 3
    verified: bool = False
    tensorstore: bool = True

    def __str__(self) -> str:
        return self.name


def newer(module: str, name: str) -> Any:
    """What only newer versions of zarr or Python have; types are checked with all of them."""
    return getattr(importlib.import_module(module), name)


def _v3(
    name: str,
    *compressors: Any,
    endian: Literal["little", "big"] = "little",
    order: Any = None,
    **kw: Any,
) -> Chain:
    """A format 3 chain; `order` lists functions from ndim to a transpose order."""

    def arguments(ndim: int) -> dict[str, Any]:
        filters = [TransposeCodec(order=tuple(f(ndim))) for f in order or ()]
        return {
            "filters": filters if ndim else [],
            "serializer": BytesCodec(endian=endian),
            "compressors": list(compressors),
        }

    return Chain(name, arguments, **kw)


def _v2(name: str, compressor: Any, order: str = "C", **kw: Any) -> Chain:
    def arguments(ndim: int) -> dict[str, Any]:
        return {"filters": None, "compressors": compressor, "order": order}

    return Chain(name, arguments, zarr_format=2, **kw)


def _reversed(ndim: int) -> Sequence[int]:
    return range(ndim)[::-1]


def _rotated(ndim: int) -> Sequence[int]:
    """An order that is not its own inverse from three dimensions on."""
    return [*range(1, ndim), 0]


BLOSC_NAMES: Any = ("lz4", "lz4hc", "blosclz", "zstd", "zlib")
BLOSC_SHUFFLES: Any = ("noshuffle", "shuffle", "bitshuffle")

CORE_CHAINS = [
    _v3("raw"),
    _v3("raw-big", endian="big"),
    _v3("blosc-lz4-shuffle", BloscCodec(cname="lz4", shuffle="shuffle")),
    _v3("zstd", ZstdCodec(level=3)),
    _v3("gzip", GzipCodec(level=5), verified=True),
    _v3("crc32c", Crc32cCodec(), verified=True),
    _v3("rotated-big-zstd-crc32c", ZstdCodec(), Crc32cCodec(), endian="big", order=[_rotated],
        verified=True),
    _v2("v2-raw", None),
    _v2("v2-raw-F", None, order="F"),
    _v2("v2-blosc", numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE)),
    _v2("v2-zlib-F", numcodecs.Zlib(1), order="F", verified=True),
]  # fmt: skip

MORE_CHAINS = [
    *(
        _v3(f"blosc-{cname}-{shuffle}", BloscCodec(cname=cname, shuffle=shuffle, clevel=7))
        for cname in BLOSC_NAMES
        for shuffle in BLOSC_SHUFFLES
        if (cname, shuffle) != ("lz4", "shuffle")
    ),
    _v3("blosc-level0", BloscCodec(cname="lz4", clevel=0)),
    _v3("blosc-level9-blocks", BloscCodec(cname="zstd", clevel=9, blocksize=256)),
    _v3("blosc-typesize-other", BloscCodec(cname="lz4", typesize=7, shuffle="shuffle")),
    _v3("zstd-fast", ZstdCodec(level=-5)),
    _v3("zstd-0-checksum", ZstdCodec(level=0, checksum=True), verified=True),
    _v3("zstd-22", ZstdCodec(level=22)),
    _v3("gzip-0", GzipCodec(level=0), verified=True),
    _v3("gzip-9", GzipCodec(level=9), verified=True),
    _v3("crc32c-zstd", Crc32cCodec(), ZstdCodec(), verified=True),
    _v3("zstd-crc32c", ZstdCodec(), Crc32cCodec(), verified=True),
    _v3("crc32c-twice", Crc32cCodec(), Crc32cCodec(), verified=True),
    _v3("blosc-gzip", BloscCodec(cname="lz4"), GzipCodec(level=1), verified=True),
    _v3("gzip-zstd", GzipCodec(level=1), ZstdCodec(), verified=True),
    _v3("reversed", order=[_reversed]),
    _v3("rotated-blosc", BloscCodec(cname="lz4"), order=[_rotated]),
    _v3("rotated-twice-big", endian="big", order=[_rotated, _rotated]),
    _v3("rotated-reversed-gzip", GzipCodec(level=1), order=[_rotated, _reversed], verified=True),
    _v2("v2-zlib-9", numcodecs.Zlib(9), verified=True),
    _v2("v2-gzip", numcodecs.GZip(1), verified=True),
    _v2("v2-gzip-F", numcodecs.GZip(6), order="F", verified=True),
    _v2("v2-zstd", numcodecs.Zstd(3)),
    _v2("v2-zstd-checksum", numcodecs.Zstd(1, checksum=True), verified=True, tensorstore=False),
    _v2("v2-lz4", numcodecs.LZ4(), tensorstore=False),
    _v2("v2-lz4-F", numcodecs.LZ4(10), order="F", tensorstore=False),
    _v2("v2-blosc-bit-F", numcodecs.Blosc("zstd", 9, numcodecs.Blosc.BITSHUFFLE), order="F"),
    _v2("v2-blosc-auto", numcodecs.Blosc("blosclz", 5, numcodecs.Blosc.AUTOSHUFFLE)),
    _v2("v2-blosc-level0", numcodecs.Blosc("lz4", 0, numcodecs.Blosc.NOSHUFFLE)),
]  # fmt: skip

CHAINS = CORE_CHAINS + MORE_CHAINS
CHAIN = {c.name: c for c in CHAINS}


def chain_arguments(chain: Chain, ndim: int) -> dict[str, Any]:
    """Keyword arguments of ``zarr.create_array`` for a chain."""
    return {"zarr_format": chain.zarr_format, **chain.arguments(ndim)}


# ----------------------------------------------------------------------------- data types

CORE_DTYPES = [
    np.dtype(d)
    for d in ("bool", "u1", "<i2", "<f4", "<f8", "<c16", "<M8[ns]", "<U3", "V5")
]  # fmt: skip
STRUCT = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "S3")])
MIXED_STRUCT = np.dtype([("a", "<i2"), ("b", ">f8"), ("c", "u1")])
NESTED_STRUCT = np.dtype([("p", "<i4"), ("q", [("x", "<f4"), ("y", "u1")])])
BYTE_STRUCT = np.dtype([("a", "u1"), ("b", "i1")])
MORE_DTYPES = [
    *(
        np.dtype(d)
        for d in (
            *("i1", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<c8"),
            *("<M8[D]", "<m8[s]", "<m8[10us]", "<U1", "<U5", "S1", "S3", "S5", "S12"),
            *("V1", "V3", "V12", "V300", ">i4", ">f2", ">f8", ">c8", ">U3", ">M8[s]"),
        )
    ),
    STRUCT,
    MIXED_STRUCT,
    NESTED_STRUCT,
    BYTE_STRUCT,
]
DTYPES = CORE_DTYPES + MORE_DTYPES


def dtype_id(dtype: Any) -> str:
    """Short name of a data type for a test id."""
    if not isinstance(dtype, np.dtype):
        return str(dtype)
    return dtype.str if dtype.names is None else "struct-" + "".join(dtype.names)


def zarr_has(dtype: np.dtype, zarr_format: int) -> bool:
    """Whether this zarr-python stores the type without losing something.

    Before 3.4 format 3 forgets the byte order of fields and format 2 has no nested fields.
    """
    if ZARR_34:
        return True
    if zarr_format == 3:
        return dtype != MIXED_STRUCT
    return dtype != NESTED_STRUCT


SPECIAL_FLOATS = (np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0)


def make_data(dtype: Any, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """Repeatable values of any data type, special values included."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(seed)
    shape = tuple(shape)
    if dtype.names is not None:
        out = np.empty(shape, dtype)
        for i, name in enumerate(dtype.names):
            out[name] = make_data(dtype[name], shape, seed + i + 1)
        return out
    if dtype.kind == "b":
        return np.array(rng.integers(0, 2, shape), dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(info.min, -(10**6)), min(info.max, 10**6)
        out = np.array(rng.integers(low, high, shape, endpoint=True), dtype)
        return _sprinkle(out, (info.min, info.max), rng)
    if dtype.kind == "f":
        out = np.array(np.round(rng.normal(0, 100, shape), 1), dtype)
        return _sprinkle(out, SPECIAL_FLOATS, rng)
    if dtype.kind == "c":
        part = np.dtype(f"f{dtype.itemsize // 2}")
        out = np.empty(shape, dtype)
        out.real, out.imag = make_data(part, shape, seed + 1), make_data(part, shape, seed + 2)
        return out
    if dtype.kind in "mM":
        out = np.array(rng.integers(-(10**9), 10**9, shape)).astype(dtype)
        return _sprinkle(out, (np.array("NaT", dtype),), rng)
    if dtype.kind == "U":
        letters = np.array(list("abcdefgh\u00e9\u4e2d\U0001f600"))
        width = dtype.itemsize // 4
        flat = ["".join(rng.choice(letters, i % (width + 1))) for i in range(int(np.prod(shape)))]
        return np.array(flat, dtype).reshape(shape)
    if dtype.kind in "SV":
        size = int(np.prod(shape)) * dtype.itemsize
        return np.asarray(rng.integers(1, 8, size, dtype=np.uint8).view(dtype).reshape(shape))
    raise TypeError(f"no data for {dtype}")


def _sprinkle(out: np.ndarray, values: Sequence[Any], rng: np.random.Generator) -> np.ndarray:
    """Put each of `values` somewhere, in about a tenth of the places."""
    flat = out.reshape(-1)
    if flat.size:
        for value in values:
            flat[rng.integers(0, flat.size, max(1, flat.size // 60))] = value
    return out


def bits(array: Any) -> bytes:
    """The values as bytes in native byte order, so that NaN, NaT and -0.0 compare."""
    array = np.asarray(array)
    return bytes(array.astype(array.dtype.newbyteorder("=")).tobytes())


def assert_same(actual: Any, expected: Any, what: str = "") -> None:
    """Same type (byte order aside), same shape, same bits."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.ndim == 0 and actual.dtype.kind in "US":  # NumPy's scalars forget their width
        actual = actual.astype(dtype := np.result_type(actual, expected))
        expected = expected.astype(dtype)
    assert actual.dtype.newbyteorder("=") == expected.dtype.newbyteorder("="), what
    assert actual.shape == expected.shape, what
    if bits(actual) != bits(expected):
        raise AssertionError(f"{what}: values differ\n{actual!r}\n{expected!r}")


def selections(shape: Sequence[int], seed: int = 0, count: int = 12) -> list[Any]:
    """Basic selections of an array: every kind of slice and integer on every axis."""
    ndim = len(shape)
    if ndim == 0:
        return [(), ...]
    axes = []
    for n in shape:
        axis: list[Any] = [
            slice(None),
            slice(n // 3, n - n // 3),
            slice(None, None, 2),
            slice(1, None, 3),
            slice(-2, None),
            slice(None, -1),
            slice(n // 2, n // 2),
            slice(n, None),
            slice(n - 1, 1),
            slice(None, None, n + 5),
            slice(0, n + 1000),
            slice(0, 1),
            slice(2, -1, 4),
        ]
        if n:
            axis += [0, -1, n // 2, np.int64(n - 1), -n]
        axes.append(axis)
    rng = np.random.default_rng([seed, *shape])
    out: list[Any] = [..., slice(None), (slice(None),) * ndim, axes[0][2]]
    if ndim > 1:
        out += [(..., axes[-1][3]), (axes[0][5], ...), (axes[0][1], ..., axes[-1][2])]
    if all(shape):
        out += [(0,) * ndim, (-1,) * ndim, 0, (..., -1)]
        out += [(*(n // 2 for n in shape[:-1]), slice(None))]
    # each kind once on each axis, in random company
    for i in range(ndim):
        for kind in axes[i]:
            pick = [a[int(rng.integers(len(a)))] for a in axes]
            pick[i] = kind
            out.append(tuple(pick))
    for _ in range(count):
        out.append(tuple(a[int(rng.integers(len(a)))] for a in axes))
    return out


# ----------------------------------------------------------------- arrays and their referees


def create(
    path: Any, chain: Chain, shape: Sequence[int], chunks: Any, dtype: Any, **kw: Any
) -> zarr.Array[Any]:
    """A new array with the codecs of `chain` and the configured pipeline."""
    arguments = chain_arguments(chain, len(shape)) | kw
    store = str(path) if isinstance(path, Path) else path
    return zarr.create_array(
        store=store, shape=tuple(shape), chunks=chunks, dtype=dtype, **arguments
    )


@contextlib.contextmanager
def stock() -> Iterator[None]:
    """Arrays opened and used inside go through zarr's default pipeline."""
    with zarr.config.set({"codec_pipeline.path": STOCK}):
        yield


def stock_open(path: Any, **kw: Any) -> zarr.Array[Any]:
    """The array at `path`, bound to zarr's default pipeline."""
    with stock():
        return zarr.open_array(str(path), **kw)


def stock_read(path: Any, selection: Any = ...) -> Any:
    """Read through zarr's default pipeline."""
    with stock():
        return zarr.open_array(str(path), mode="r")[selection]


def stock_write(path: Any, selection: Any, value: Any) -> None:
    """Write through zarr's default pipeline."""
    with stock():
        zarr.open_array(str(path), mode="r+")[selection] = value


def ours_open(path: Any, **kw: Any) -> zarr.Array[Any]:
    """The array at `path`, freshly opened with the pipeline under test."""
    return zarr.open_array(str(path), **kw)


def directly(function: Callable[..., zarr.Array[Any]]) -> Callable[..., zarr.Array[Any]]:
    """Give the arrays that a function returns direct access, unless they are a referee's."""

    def call(*args: Any, **kwargs: Any) -> zarr.Array[Any]:
        array = function(*args, **kwargs)
        return zarrs.direct(array) if zarr.config.get("codec_pipeline.path") == PIPELINE else array

    return call


class TensorStore:
    """An array as TensorStore sees it."""

    def __init__(self, path: Any, zarr_format: int) -> None:
        import tensorstore

        driver = "zarr3" if zarr_format == 3 else "zarr"
        kvstore = {"driver": "file", "path": str(path)}
        self._store = tensorstore.open({"driver": driver, "kvstore": kvstore}, open=True).result()

    @staticmethod
    def has(chain: Chain, dtype: np.dtype) -> bool:
        """Whether TensorStore knows this chain and this type."""
        return chain.tensorstore and dtype.names is None and dtype.kind in "biufc"

    def read(self) -> np.ndarray:
        return np.asarray(self._store.read().result())

    def write(self, value: np.ndarray) -> None:
        self._store.write(value.astype(value.dtype.newbyteorder("="))).result()


def root_of(array: zarr.Array[Any]) -> Path:
    """The folder of an array in local files."""
    assert isinstance(array.store, LocalStore)
    return array.store.root


def stored_files(path: Any) -> dict[str, bytes]:
    """Everything below `path` except metadata, by relative name."""
    root = Path(path)
    skip = {"zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"}
    return {
        p.relative_to(root).as_posix(): p.read_bytes()
        for p in sorted(root.rglob("*"))
        if p.is_file() and p.name not in skip
    }


def chunk_file(path: Any, zarr_format: int, *index: int) -> Path:
    """Where the default chunk key encodings of zarr put a chunk."""
    if zarr_format == 2:
        return Path(path) / (".".join(map(str, index)) or "0")
    return Path(path).joinpath("c", *map(str, index))


# ------------------------------------------------------------------------------ subprocesses


MARK = "=> "  # begins the lines that a child reports


@dataclass
class ChildResult:
    """What a child said, one JSON value a line, and how it ended."""

    lines: list[Any]
    returncode: int
    stderr: str
    stdout: str

    def check(self) -> list[Any]:
        """The lines, provided that the child ended well."""
        last, err = self.lines[-1:], self.stderr[-4000:]
        assert self.returncode == 0, f"child ended with {self.returncode} after {last}\n{err}"
        return self.lines


def child_command(func: Callable[..., Any], *args: Any) -> list[str]:
    """The command that runs a top-level function of a test module in a new interpreter."""
    run = "import sys, helpers; helpers.child_main(*sys.argv[1:])"
    return [
        *(sys.executable, "-P", "-X", "faulthandler", "-c", run),
        *(func.__code__.co_filename, func.__name__, json.dumps(args)),
    ]


def pretend_installed(
    target: Path,
    name: str,
    version: str,
    entry_point: str = "",
    group: str = "zarr.codec_pipeline",
) -> None:
    """Write what pip leaves of a distribution beside its modules."""
    info = target / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n")
    if entry_point:
        (info / "entry_points.txt").write_text(f"[{group}]\nzarrs = {entry_point}\n")


def child_environment(**extra: str) -> dict[str, str]:
    """The environment in which a child imports the same packages as this process."""
    package = str(Path(zarrs.__file__).resolve().parent.parent)
    paths = [str(SUPPORT), package, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p), **extra}


def run_child(
    func: Callable[..., Any],
    *args: Any,
    timeout: float = 120,
    prefix: Sequence[str] = (),
    env: dict[str, str] | None = None,
) -> ChildResult:
    """Run a test module's function in a new interpreter, so that it may crash or hang.

    The function reports with `emit`; `prefix` goes before the command.
    """
    command = [*prefix, *child_command(func, *args)]
    environment = child_environment(**(env or {}))
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout
        )
        out, err, code = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as exc:
        out = (exc.stdout or b"").decode(errors="replace")
        err, code = f"no end after {timeout} s\n{(exc.stderr or b'').decode()}", -1
    said = [json.loads(x.removeprefix(MARK)) for x in out.splitlines() if x.startswith(MARK)]
    return ChildResult(said, code, err, out)


def emit(value: Any) -> None:
    """Report one JSON value from a child."""
    print(MARK + json.dumps(value), flush=True)


def child_main(file: str, name: str, arguments: str) -> None:
    """Entry point of a child: the same settings as in the tests, then the function."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=UnstableSpecificationWarning)
    zarr.config.set({"codec_pipeline.path": PIPELINE})
    sys.path.insert(0, str(Path(file).parent))
    getattr(__import__(Path(file).stem), name)(*json.loads(arguments))
