"""The table of codecs: what tests walk through and docs/codecs.md is made of.

It needs zarr and numcodecs, but not this package, so that others can be asked with the same rows in
environments of their own.
"""

import functools
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numcodecs
import numpy as np
import zarr
from packaging.version import Version
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
from zarr.registry import get_codec_class

if TYPE_CHECKING:
    from dtype_table import DtypeRow

# What runs the codec: native code; Python code, for this stage only; zarr's own pipeline, for all.
NATIVE, PYTHON, ZARR = "native", "python", "zarr"

ZARR_VERSION = Version(zarr.__version__)
SHAPE, CHUNKS, SHARDS = (13, 11), (5, 4), (10, 8)

Data = Callable[[Any, Sequence[int]], np.ndarray]
Arguments = Callable[[str], dict[str, Any]]  # from a data type to arguments of create_array

# ------------------------------------------------------------------------------------- data


def plain(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Small numbers, some of them alike; with halves if they can be."""
    dtype = np.dtype(dtype)
    rng = np.random.default_rng(7)
    low = 0 if dtype.kind in "bu" else -50
    values = rng.integers(low, 2 if dtype.kind == "b" else 51, tuple(shape))
    if dtype.kind == "f":
        return np.asarray(values / 2, dtype)
    if dtype.kind == "c":
        return np.asarray(values / 2 + 1j * values[::-1], dtype)
    return np.asarray(values).astype(dtype)


def special(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """The same with extremes; NaN, infinities, and zeros of both signs; NaT."""
    out = plain(dtype, shape)
    kind = out.dtype.kind
    if kind == "c":
        part = np.dtype(f"{out.dtype.byteorder}f{out.dtype.itemsize // 2}")
        out.real, out.imag = special(part, shape), special(part, shape)[::-1]
        return out
    values: tuple[Any, ...] = ()
    if kind in "iu":
        values = (np.iinfo(out.dtype).min, np.iinfo(out.dtype).max)
    elif kind == "f":
        values = (np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, np.finfo(out.dtype).tiny)
    elif kind in "mM":
        values = (
            np.array("NaT", out.dtype),
            np.array(2**62, "i8").view(out.dtype.newbyteorder("=")),
        )
    flat = out.reshape(-1)
    for i, value in enumerate(values * 3):
        flat[(i * 19 + 3) % flat.size] = value
    return out


def wide(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Numbers outside of what a byte holds, with fractions if they can be."""
    return np.asarray(plain(dtype, shape).astype("f8") * 37.25).astype(dtype)


def ties(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Numbers that have to be rounded, half of them in the middle between two."""
    return np.asarray(plain(dtype, shape) + np.where(np.arange(shape[-1]) % 2, 0.25, 0), dtype)


def fine(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Numbers that single precision has to round."""
    return np.asarray(plain(dtype, shape) * (1 + 2**-24 + 2**-40), dtype)


def with_nan(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Whole numbers and NaN."""
    out: np.ndarray = np.trunc(plain(dtype, shape)) + 0.0  # no negative zeros
    out[..., ::3] = np.nan
    return out


def even(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Even numbers that single precision has to round."""
    dtype = np.dtype(dtype)
    top = 2**62
    return (top - 2 * plain("u1", shape).astype(dtype)).astype(dtype)


ALPHABET = ("", "a", "bc", "d\u00e9f", "\u4e2d\u6587", "\U0001f600!", "a longer one")


def text(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Strings, some of them empty, in four scripts."""
    picks = plain("u1", shape) % len(ALPHABET)
    width = np.dtype(dtype).itemsize // 4 if np.dtype(dtype).kind == "U" else None
    return np.array([ALPHABET[k][:width] for k in picks.ravel()], dtype).reshape(tuple(shape))


def labels(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Strings out of three."""
    picks = plain("u1", shape) % 3
    return np.asarray(np.array(["no", "yes", "maybe"], dtype)[picks])


def blobs(_: Any, shape: Sequence[int]) -> np.ndarray:
    """Bytes objects, some of them empty, zeros included."""
    out = np.empty(tuple(shape), object)
    for i, k in enumerate(plain("u1", shape).ravel()):
        out.reshape(-1)[i] = bytes(range(k % 5)) * (k % 3)
    return out


def records(dtype: Any, shape: Sequence[int]) -> np.ndarray:
    """Any bytes for raw types; each field by its type for records."""
    dtype = np.dtype(dtype)
    if dtype.names is not None:
        out = np.zeros(tuple(shape), dtype)
        for name in dtype.names:
            field = dtype[name]
            make = special if field.kind in "biufcmM" else text if field.kind == "U" else records
            out[name] = make(field, shape)
        return out
    count = int(np.prod(shape)) * dtype.itemsize
    values = np.random.default_rng(3).integers(0, 256, count, dtype=np.uint8)
    if dtype.kind == "S":
        values[::3] = 0
    return np.asarray(values.view(dtype).reshape(tuple(shape)))


# ------------------------------------------------------------------------------------ codecs


@dataclass(frozen=True)
class CodecRow:
    """A codec in one configuration.

    Attributes
    ----------
    codec : str
        Its name in ``zarr.json``, or its id in ``.zarray``.
    label : str
        Its configuration.
    zarr_format : int
    dtypes : tuple of str
        The data types it is tried with.
    arguments : callable
        From a data type to what it takes to create such an array.
    data : callable
    ours : str
        What runs this codec here: `NATIVE`, `PYTHON` or `ZARR`.
    lossless : bool
        What is read is what was written, to the bit.
    same_bytes : bool
        The format fixes the encoded bytes, or the same library makes them.
    tensorstore : bool
        TensorStore reads it.
    zarr2 : bool
        zarr-python 2.18 has it.
    needs : tuple of str
        Python modules that it needs besides zarr's own.
    since : str
        The release of zarr that has it, or has it right.
    fill_value : object
    """

    codec: str
    label: str
    zarr_format: Literal[2, 3]
    dtypes: tuple[str, ...]
    arguments: Arguments
    data: Data = special
    ours: str = NATIVE
    lossless: bool = True
    same_bytes: bool = True
    tensorstore: bool = False
    zarr2: bool = True
    needs: tuple[str, ...] = ()
    since: str = "3.1"
    fill_value: Any = 0

    @property
    def name(self) -> str:
        """For test ids: unique."""
        return "-".join(filter(None, [f"v{self.zarr_format}", self.codec, self.label]))

    def newer_zarr(self) -> str:
        """Which zarr has this codec; empty if this one does."""
        return f"zarr {self.since} or newer" if Version(self.since) > ZARR_VERSION else ""

    def missing(self) -> str:
        """Why zarr cannot have this codec here; empty if it can."""
        if self.newer_zarr():
            return self.newer_zarr()
        absent = [module for module in self.needs if importlib.util.find_spec(module) is None]
        return f"the Python packages for {', '.join(absent)}" if absent else ""


DTYPE = "{dtype}"  # in a configuration: the data type of the array


def _filled(configuration: dict[str, Any], dtype: str) -> dict[str, Any]:
    return {k: dtype if v == DTYPE else v for k, v in configuration.items()}


def numcodec(codec_id: str, configuration: dict[str, Any] | None = None, dtype: str = "") -> Any:
    """Make a codec of numcodecs, for format 2."""
    return numcodecs.get_codec({"id": codec_id, **_filled(configuration or {}, dtype)})


def wrapped(codec_id: str, configuration: dict[str, Any] | None = None, dtype: str = "") -> Any:
    """Make zarr's wrapper of it, for format 3."""
    make: Any = get_codec_class(f"numcodecs.{codec_id}")
    return make(**_filled(configuration or {}, dtype))


def zarr_codec(name: str, **configuration: Any) -> Any:
    """Make a codec of zarr's that not all releases have."""
    make: Any = get_codec_class(name)
    return make(**configuration)


def _label(configuration: dict[str, Any]) -> str:
    def short(value: Any) -> str:
        return value.strip("<") if isinstance(value, str) else str(value)

    return ",".join(f"{k}={short(v)}" for k, v in configuration.items() if v != DTYPE)


NUMBERS = ("<i4", "<f8")
AGAIN = ("<i4",)


def _both(
    codec_id: str,
    configuration: dict[str, Any] | None = None,
    dtypes: Sequence[str] = NUMBERS,
    *,
    kind: str = "bytes",  # or: filter, serializer
    label: str | None = None,
    tensorstore: bool = False,
    foreign: Sequence[str] = (),  # data types for format 2 only
    formats: Sequence[int] = (2, 3),
    **kw: Any,
) -> Iterator[CodecRow]:
    # A codec of numcodecs: alone, in either format.
    configuration = configuration or {}
    label = _label(configuration) if label is None else label

    def format_2(dtype: str) -> dict[str, Any]:
        codec = numcodec(codec_id, configuration, dtype)
        if kind == "filter":
            return {"filters": [codec], "compressors": None}
        return {"filters": None, "compressors": codec}

    def format_3(dtype: str) -> dict[str, Any]:
        codec = wrapped(codec_id, configuration, dtype)
        return {
            "filters": [codec] if kind == "filter" else [],
            "serializer": codec if kind == "serializer" else BytesCodec(endian="little"),
            "compressors": [codec] if kind == "bytes" else [],
        }

    if 2 in formats:
        yield CodecRow(
            codec_id, label, 2, (*dtypes, *foreign), format_2, tensorstore=tensorstore, **kw
        )
    if 3 in formats:
        yield CodecRow(f"numcodecs.{codec_id}", label, 3, tuple(dtypes), format_3, **kw)


def _chain_2(
    label: str, *codecs: tuple[str, dict[str, Any]], dtypes: Sequence[str], **kw: Any
) -> CodecRow:
    # Filters and a compressor, the last one, of format 2.
    def arguments(dtype: str) -> dict[str, Any]:
        made = [numcodec(codec_id, configuration, dtype) for codec_id, configuration in codecs]
        return {"filters": made[:-1], "compressors": made[-1]}

    return CodecRow(codecs[0][0], label, 2, tuple(dtypes), arguments, **kw)


def _v3(
    codec: str,
    label: str,
    *,
    filters: Callable[[str], list[Any]] = lambda _: [],
    serializer: Callable[[str], Any] = lambda _: BytesCodec(endian="little"),
    compressors: Callable[..., list[Any]] = list,
    sharded: bool = False,
    dtypes: Sequence[str] = NUMBERS,
    **kw: Any,
) -> CodecRow:
    # A chain of format 3, in shards or not.
    def arguments(dtype: str) -> dict[str, Any]:
        out = {
            "filters": filters(dtype),
            "serializer": serializer(dtype),
            "compressors": compressors(),
        }
        return out | ({"shards": SHARDS} if sharded else {})

    return CodecRow(codec, label, 3, tuple(dtypes), arguments, **kw)


COMPRESSED: dict[str, Any] = {"same_bytes": False}


def _compressors() -> Iterator[CodecRow]:
    wide_and_narrow: dict[str, Any] = {"dtypes": ("<f8", "u1"), "foreign": (">i2",)}
    for name, levels in (("zlib", (1, 0, 9)), ("gzip", (1, 0, 9)), ("zstd", (3, -5, 0))):
        for level in levels:
            dtypes = NUMBERS if level == levels[0] else AGAIN
            yield from _both(name, {"level": level}, dtypes, tensorstore=True, **COMPRESSED)
    yield from _both("zstd", {"level": 1, "checksum": True}, AGAIN, **COMPRESSED)
    for acceleration in (1, 20):
        yield from _both("lz4", {"acceleration": acceleration}, AGAIN, **COMPRESSED)
    for shuffle in (-1, 0, 1, 2):
        configuration = {"cname": "lz4", "clevel": 5, "shuffle": shuffle}
        yield from _both("blosc", configuration, tensorstore=True, **wide_and_narrow, **COMPRESSED)
    for cname in ("lz4hc", "blosclz", "zstd", "zlib"):
        configuration = {"cname": cname, "clevel": 5, "shuffle": 1}
        yield from _both("blosc", configuration, ("<f8",), tensorstore=True, **COMPRESSED)
    yield from _both("bz2", {"level": 1}, tensorstore=True, **wide_and_narrow)
    yield from _both("bz2", {"level": 9}, AGAIN, tensorstore=True)
    yield from _both("lzma", {"preset": None}, **wide_and_narrow)
    for preset in (0, 6):
        yield from _both("lzma", {"preset": preset}, AGAIN)
    yield from _both("lzma", {"preset": 9}, ("|u1",), formats=(2,))  # slow, for its memory
    for check in (0, 1, 4, 10):
        yield from _both("lzma", {"format": 1, "check": check}, AGAIN)
    yield from _both("lzma", {"format": 2}, AGAIN)
    lzma2 = {"id": 33, "preset": 1}
    # (numcodecs cannot decode what it encodes with filters in any other format.)
    yield from _both(
        "lzma", {"format": 3, "filters": [lzma2]}, AGAIN, label="format=3,lzma2", ours=PYTHON
    )
    lzma_delta = [{"id": 3, "dist": 4}, lzma2]
    yield from _both(
        "lzma",
        {"format": 3, "filters": lzma_delta},
        AGAIN,
        label="format=3,delta+lzma2",
        ours=PYTHON,
    )
    for size in (0, 1, 2, 4, 8):
        yield from _both("shuffle", {"elementsize": size}, AGAIN)
    for name in ("crc32", "crc32c", "adler32", "jenkins_lookup3"):
        yield from _both(name, {}, **wide_and_narrow)
        if name != "jenkins_lookup3":
            for location in ("start", "end"):
                yield from _both(name, {"location": location}, AGAIN)
    yield from _both("jenkins_lookup3", {"initval": 5}, AGAIN)
    yield from _both("fletcher32", {}, **wide_and_narrow)
    yield from _both("base64", {}, AGAIN, formats=(2,), ours=PYTHON)


def _filters() -> Iterator[CodecRow]:
    filters = functools.partial(_both, kind="filter")
    integers = ("|u1", "<i2", "<u4", "<i8")
    floats = ("<f4", "<f8")
    yield from filters("delta", {"dtype": DTYPE}, integers, foreign=(">i4",))
    yield from filters(
        "delta", {"dtype": DTYPE}, floats, data=plain, foreign=(">f4",), label="floats"
    )
    yield from filters("delta", {"dtype": DTYPE, "astype": "<i2"}, ("<i4", "<i8"), data=plain)
    yield from filters(
        "delta", {"dtype": DTYPE, "astype": "<f4"}, ("<f8",), data=plain, ours=PYTHON
    )
    yield from filters(
        "fixedscaleoffset",
        {"offset": -100, "scale": 4, "dtype": DTYPE, "astype": "<u2"},
        floats,
        data=ties,
        foreign=(">f8",),
    )
    yield from filters(
        "fixedscaleoffset",
        {"offset": 0, "scale": 1.5, "dtype": DTYPE, "astype": "|i1"},
        ("<f4",),
        data=plain,
        lossless=False,
    )
    yield from filters(
        "fixedscaleoffset",
        {"offset": 3, "scale": 10, "dtype": DTYPE},
        floats,
        data=plain,
        label="same type",
    )
    yield from filters(
        "fixedscaleoffset",
        {"offset": 10, "scale": 2, "dtype": DTYPE, "astype": "<i4"},
        ("<i2", "<i8"),
        data=plain,
        ours=PYTHON,  # NumPy computes it in wider types
    )
    for digits in (0, 1, 3):
        yield from filters(
            "quantize", {"digits": digits, "dtype": DTYPE}, floats, data=fine, lossless=False
        )
    yield from filters(
        "quantize",
        {"digits": 2, "dtype": DTYPE, "astype": "<f4"},
        ("<f8",),
        data=fine,
        lossless=False,
        formats=(2,),  # zarr's wrapper does not know of it
    )
    for keepbits in (1, 6, 10):
        yield from filters(
            "bitround", {"keepbits": keepbits}, ("<f2", *floats), data=fine, lossless=False
        )
    yield from filters("bitround", {"keepbits": 23}, floats, data=fine, lossless=False)
    for encoded, decoded, data in (
        ("<i2", "<i4", plain),
        ("<i8", "<i4", special),
        ("<f4", "<f8", ties),
        ("<f8", "<f4", special),
        ("<f4", "<i2", special),
    ):
        configuration = {"encode_dtype": encoded, "decode_dtype": decoded}
        yield from filters("astype", configuration, (decoded,), data=data)
    yield from filters(
        "astype",
        {"encode_dtype": "<i4", "decode_dtype": "<f8"},
        ("<f8",),
        data=ties,
        lossless=False,
    )
    yield from filters("packbits", {}, ("|b1",), fill_value=False)
    yield from filters(
        "categorize",
        {"labels": ["no", "yes", "maybe"], "dtype": DTYPE, "astype": "u1"},
        ("<U5",),
        data=labels,
        label="three labels",
        formats=(2,),
        ours=PYTHON,
        fill_value="",
    )
    yield from _both(
        "pcodec", {"level": 3}, NUMBERS, kind="serializer", ours=PYTHON, needs=("pcodec",)
    )
    zfp = functools.partial(_both, "zfpy", kind="serializer", ours=PYTHON, needs=("zfpy",))
    yield from zfp({}, floats, data=plain, label="default")
    yield from zfp({"mode": 4, "tolerance": 0.01}, floats, data=fine, lossless=False)


def _chains_2() -> Iterator[CodecRow]:
    chain = _chain_2
    delta = ("delta", {"dtype": DTYPE})
    zlib = ("zlib", {"level": 1})
    yield chain("then zlib", delta, zlib, dtypes=("<i4", ">i2"), same_bytes=False)
    yield chain(
        "then shuffle,bz2", delta, ("shuffle", {"elementsize": 4}), ("bz2", {}), dtypes=AGAIN
    )
    yield chain(
        "then delta,lzma",
        ("fixedscaleoffset", {"offset": 0, "scale": 2, "dtype": DTYPE, "astype": "<i4"}),
        ("delta", {"dtype": "<i4"}),
        ("lzma", {"preset": 1}),
        dtypes=("<f8",),
        data=plain,
    )
    yield chain("then crc32", ("bz2", {}), ("crc32", {}), dtypes=AGAIN)
    yield chain(
        "then zstd",
        ("packbits", {}),
        ("zstd", {}),
        dtypes=("|b1",),
        same_bytes=False,
        fill_value=False,
    )
    yield chain("then base64", delta, ("base64", {}), dtypes=AGAIN, ours=PYTHON)
    yield chain("then blosc", delta, ("blosc", {"shuffle": 1}), dtypes=AGAIN, same_bytes=False)
    for order in "CF":
        yield CodecRow(
            "delta",
            f"order={order}",
            2,
            AGAIN,
            lambda dtype, order=order: {  # type: ignore[misc]
                "filters": [numcodec("delta", {"dtype": dtype})],
                "compressors": None,
                "order": order,
            },
        )
    yield CodecRow(
        "bz2",
        "order=F",
        2,
        AGAIN,
        lambda _: {"filters": None, "compressors": numcodec("bz2"), "order": "F"},
        tensorstore=True,
    )


def _strings() -> Iterator[CodecRow]:
    # Text and bytes of variable length.
    for kind, dtype, data, fill in (("utf8", "T", text, ""), ("bytes", "bytes", blobs, b"")):
        yield CodecRow(
            f"vlen-{kind}",
            "",
            2,
            (dtype,),
            lambda _, kind=kind: {"filters": [numcodec(f"vlen-{kind}")], "compressors": None},  # type: ignore[misc]
            data=data,
            fill_value=fill,
        )
        yield CodecRow(
            f"vlen-{kind}",
            "then zlib",
            2,
            (dtype,),
            lambda _, kind=kind: {  # type: ignore[misc]
                "filters": [numcodec(f"vlen-{kind}")],
                "compressors": numcodec("zlib"),
            },
            data=data,
            fill_value=fill,
            same_bytes=False,
        )
        codec: Any = VLenUTF8Codec if kind == "utf8" else VLenBytesCodec
        string: dict[str, Any] = {
            "dtypes": (dtype,),
            "data": data,
            "fill_value": fill,
            "serializer": lambda _, codec=codec: codec(),
        }
        yield _v3(f"vlen-{kind}", "", **string)
        yield _v3(
            f"vlen-{kind}",
            "then bz2,crc32c",
            **string,
            compressors=lambda: [wrapped("bz2"), Crc32cCodec()],
        )
        yield _v3(f"vlen-{kind}", "in shards", **string, sharded=True)
    # zarr takes other codecs of objects for bytes only.
    for codec_id, needs in (("json2", ()), ("msgpack2", ("msgpack",))):
        yield CodecRow(
            codec_id,
            "behind vlen-utf8",
            2,
            ("T",),
            lambda _, codec_id=codec_id: {  # type: ignore[misc]
                "filters": [numcodec("vlen-utf8")],
                "compressors": numcodec(codec_id),
            },
            data=text,
            fill_value="",
            ours=PYTHON,
            needs=needs,
        )
    # It takes the codec of strings anywhere.
    yield CodecRow(
        "vlen-utf8",
        "as compressor",
        2,
        ("T",),
        lambda _: {"filters": None, "compressors": numcodec("vlen-utf8")},
        data=text,
        fill_value="",
        ours=ZARR,
        zarr2=False,
    )


def _big(_: str) -> Any:
    return BytesCodec(endian="big")


def _of_zarr() -> Iterator[CodecRow]:
    # zarr's own codecs.
    numbers = ("|b1", "<i2", "<f4", "<c16")
    yield _v3("bytes", "endian=little", dtypes=numbers, tensorstore=True)
    yield _v3("bytes", "endian=big", dtypes=numbers, serializer=_big, tensorstore=True)
    yield _v3(
        "transpose", "order=1,0", filters=lambda _: [TransposeCodec(order=(1, 0))], tensorstore=True
    )
    yield _v3("crc32c", "", compressors=lambda: [Crc32cCodec()], tensorstore=True)
    for level in (-3, 0, 9):
        yield _v3(
            "zstd",
            f"level={level}",
            compressors=lambda level=level: [ZstdCodec(level=level)],
            tensorstore=True,
            **COMPRESSED,
        )
    yield _v3(
        "zstd",
        "checksum",
        compressors=lambda: [ZstdCodec(checksum=True)],
        tensorstore=True,
        **COMPRESSED,
    )
    for level in (0, 6):
        yield _v3(
            "gzip",
            f"level={level}",
            compressors=lambda level=level: [GzipCodec(level=level)],
            tensorstore=True,
            **COMPRESSED,
        )
    kinds: Any = (
        *itertools.product(("lz4", "zstd"), ("noshuffle", "shuffle", "bitshuffle")),
        *itertools.product(("lz4hc", "blosclz", "zlib"), ("shuffle",)),
    )
    for cname, shuffle in kinds:
        make = functools.partial(BloscCodec, cname=cname, shuffle=shuffle)
        yield _v3(
            "blosc",
            f"cname={cname},shuffle={shuffle}",
            compressors=lambda make=make: [make()],
            tensorstore=True,
            **COMPRESSED,
        )
    yield _v3("crc32c", "behind bz2", compressors=lambda: [wrapped("bz2"), Crc32cCodec()])
    filters: dict[str, Any] = {
        "delta": ({"dtype": DTYPE}, AGAIN),
        "bitround": ({"keepbits": 4}, ("<f4",)),
    }
    for name, (configuration, dtypes) in filters.items():

        def make_filter(
            dtype: str, name: str = name, configuration: dict[str, Any] = configuration
        ) -> list[Any]:
            return [wrapped(name, configuration, dtype)]

        def transposed(dtype: str, make: Any = make_filter) -> list[Any]:
            return [TransposeCodec(order=(1, 0)), *make(dtype)]

        lossless = name == "delta"
        yield _v3(
            f"numcodecs.{name}",
            "then endian=big",
            dtypes=dtypes,
            filters=make_filter,
            serializer=_big,
            lossless=lossless,
            data=plain,
            since="3.4",
        )
        yield _v3(
            f"numcodecs.{name}",
            "behind transpose",
            dtypes=dtypes,
            filters=transposed,
            lossless=lossless,
            data=plain,
            since="3.4",
        )


def _of_zarr_34() -> Iterator[CodecRow]:
    row = functools.partial(_cast, "cast_value")
    roundings = (
        "nearest-even",
        "towards-zero",
        "towards-positive",
        "towards-negative",
        "nearest-away",
    )
    for rounding in roundings:
        to = {"rounding": rounding}
        yield row("<f8", "int16", to, data=ties, lossless=False)
        yield row("<f8", "float32", to, data=fine, lossless=False)
        yield row("<i8", "float32", to, data=even, lossless=False)
    clamp, wrap = {"out_of_range": "clamp"}, {"out_of_range": "wrap"}
    yield row("<f4", "uint8", clamp, data=wide, lossless=False)
    yield row("<f8", "int8", {"rounding": "towards-zero", **clamp}, data=wide, lossless=False)
    yield row("<i4", "int8", clamp, data=wide, lossless=False)
    yield row("<i8", "uint16", clamp, data=special, lossless=False)
    yield row("<f8", "float16", clamp, data=wide, lossless=False)
    yield row("<i4", "int8", wrap, data=wide, lossless=False)
    yield row("<u2", "int8", wrap, data=special, lossless=False)
    yield row("<i8", "uint32", wrap, data=special, lossless=False)
    yield row("<f8", "int16", wrap, data=wide, lossless=False)
    yield row("<i2", "int64", {}, data=special)
    yield row("<u8", "uint64", {}, data=special)
    yield row("|u1", "float16", {}, data=special)
    yield row("<f4", "float64", {}, data=special)
    yield row(
        "<f4",
        "int16",
        {"scalar_map": {"encode": [("NaN", -999)], "decode": [(-999, "NaN")]}},
        data=with_nan,
        label="float32 to int16,NaN=-999",
    )
    yield row(
        "<i2",
        "uint8",
        {"scalar_map": {"encode": [(-5, 255), (-6, 254)]}, **clamp},
        data=plain,
        lossless=False,
        label="int16 to uint8,-5=255,clamp",
    )
    for dtype, offset, scale, data, lossless in (
        ("<f4", 5, 0.1, plain, False),
        ("<f8", -3.5, 2, plain, True),
        ("<f2", 1, 0.5, plain, True),
        ("|i1", 1, 2, plain, True),
        ("<i2", -7, 3, plain, True),
        ("<u4", 0, 4, plain, True),
        ("<i4", 10, -2, plain, True),
        ("<i8", 10, 2, plain, True),
        ("<u8", 0, 2, plain, True),
    ):

        def make(_: str, offset: float = offset, scale: float = scale) -> list[Any]:
            return [zarr_codec("scale_offset", offset=offset, scale=scale)]

        yield _v3(
            "scale_offset",
            f"offset={offset},scale={scale},{np.dtype(dtype).name}",
            filters=make,
            dtypes=(dtype,),
            data=data,
            lossless=lossless,
            ours=PYTHON if dtype == "<i8" else NATIVE,  # zarr lets it wrap around
            since="3.4",
            fill_value=offset if data is plain else 0,
        )

    def packed(_: str) -> list[Any]:
        return [
            zarr_codec("scale_offset", offset=-25, scale=4),
            zarr_codec("cast_value", data_type="uint8"),
        ]

    kw: dict[str, Any] = {
        "dtypes": ("<f8",),
        "filters": packed,
        "data": plain,
        "since": "3.4",
        "needs": ("cast_value_rs",),
    }
    yield _v3("scale_offset", "then cast_value", **kw)
    yield _v3(
        "scale_offset",
        "then cast_value,in shards",
        **kw,
        sharded=True,
        compressors=lambda: [ZstdCodec()],
        same_bytes=False,
    )


def _cast(
    codec: str, dtype: str, to: str, configuration: dict[str, Any], *, label: str = "", **kw: Any
) -> CodecRow:
    label = label or ",".join(
        [f"{np.dtype(dtype).name} to {to}", *map(str, configuration.values())]
    )
    return _v3(
        codec,
        label,
        filters=lambda _: [zarr_codec(codec, data_type=to, **configuration)],
        dtypes=(dtype,),
        since="3.4",
        needs=("cast_value_rs",),
        **kw,
    )


def _shards() -> Iterator[CodecRow]:
    little = BytesCodec(endian="little")

    def sharding(*codecs: Any, **kw: Any) -> Callable[[str], Any]:
        return lambda _: ShardingCodec(chunk_shape=CHUNKS, codecs=[little, *codecs], **kw)

    name = "sharding_indexed"
    yield _v3(name, "bytes", sharded=True, tensorstore=True)
    yield _v3(
        name,
        "zstd,crc32c",
        sharded=True,
        tensorstore=True,
        same_bytes=False,
        compressors=lambda: [ZstdCodec(), Crc32cCodec()],
    )
    for location in ("start", "end"):
        # Shards are the chunks of these.
        yield CodecRow(
            name,
            f"index_location={location}",
            3,
            NUMBERS,
            lambda dtype, location=location: {  # type: ignore[misc]
                "filters": [],
                "compressors": [],
                "chunks": SHARDS,
                "serializer": sharding(Crc32cCodec(), index_location=location)(dtype),
            },
            tensorstore=True,
        )
    yield CodecRow(
        name,
        "nested",
        3,
        AGAIN,
        lambda dtype: {
            "filters": [],
            "compressors": [],
            "chunks": (20, 16),
            "serializer": ShardingCodec(
                chunk_shape=SHARDS, codecs=[sharding(Crc32cCodec())(dtype)]
            ),
        },
        tensorstore=True,
    )
    inner: dict[str, tuple[dict[str, Any], Sequence[str]]] = {
        "delta": ({"dtype": DTYPE}, AGAIN),
        "packbits": ({}, ("|b1",)),
        "quantize": ({"digits": 1, "dtype": DTYPE}, ("<f4",)),
    }
    for codec_id, (configuration, dtypes) in inner.items():

        def make(
            dtype: str, codec_id: str = codec_id, configuration: dict[str, Any] = configuration
        ) -> list[Any]:
            return [wrapped(codec_id, configuration, dtype)]

        yield _v3(
            name,
            f"numcodecs.{codec_id}",
            sharded=True,
            filters=make,
            dtypes=dtypes,
            data=plain,
            lossless=codec_id != "quantize",
            fill_value=False if codec_id == "packbits" else 0,
        )
    for codec_id in ("bz2", "lzma", "crc32", "adler32", "fletcher32", "jenkins_lookup3", "shuffle"):
        yield _v3(
            name,
            f"numcodecs.{codec_id}",
            sharded=True,
            dtypes=AGAIN,
            compressors=lambda codec_id=codec_id: [wrapped(codec_id)],
        )
    yield _v3(
        name,
        "cast_value",
        sharded=True,
        dtypes=("<f4",),
        data=plain,
        lossless=False,
        filters=lambda _: [zarr_codec("cast_value", data_type="int8")],
        since="3.4",
        needs=("cast_value_rs",),
    )
    yield _v3(
        name,
        "numcodecs.pcodec",
        sharded=True,
        dtypes=AGAIN,
        ours=PYTHON,
        serializer=lambda _: wrapped("pcodec"),
        needs=("pcodec",),
    )


def zarr_dtype(dtype: Any) -> Any:
    """Return what zarr takes for a data type of the table."""
    if dtype == "bytes":
        return VariableLengthBytes()
    return VariableLengthUTF8() if dtype == "T" else np.dtype(dtype)


def make_array(store: Any, row: CodecRow, dtype: str) -> zarr.Array[Any]:
    """Make a new array with the codec of `row`."""
    arguments = {"chunks": CHUNKS, "fill_value": row.fill_value, **row.arguments(dtype)}
    return zarr.create_array(
        store=store, shape=SHAPE, dtype=zarr_dtype(dtype), zarr_format=row.zarr_format, **arguments
    )


def make_data(row: "CodecRow | DtypeRow", dtype: Any) -> np.ndarray:
    """Make what to write into it."""
    return row.data("O" if dtype == "bytes" else dtype, SHAPE)


CODECS: tuple[CodecRow, ...] = (
    *_of_zarr(),
    *_of_zarr_34(),
    *_shards(),
    *_compressors(),
    *_filters(),
    *_chains_2(),
    *_strings(),
)

# Registered, but zarr itself makes no array of it: (format, name), and why.
CANNOT = {
    (3, "endian"): "the old name of `bytes`; zarr knows it, but its class does not take it",
    **{
        (2, name): "zarr 3 has no data type of objects in this form"
        for name in ("pickle", "vlen-array")
    },
}
