"""Every data type that zarr knows, with arrays and fill values to try it with."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import zarr
from codec_table import (
    CHUNKS,
    SHAPE,
    SHARDS,
    ZARR_VERSION,
    Data,
    blobs,
    numcodec,
    records,
    special,
    text,
    zarr_dtype,
)
from packaging.version import Version
from zarr.codecs import BytesCodec


@dataclass(frozen=True)
class DtypeRow:
    """A data type of zarr's in all its forms.

    Attributes
    ----------
    name : str
        In zarr's registry of data types.
    dtypes : tuple
        NumPy's names of its forms. Those in foreign byte order are for format 2; in format 3 the
        byte order is the codec's.
    fills : tuple
        Fill values to try with each.
    data : callable
    formats : tuple of int
    has_endian : bool
        Whether format 3 can store it in either byte order.
    tensorstore : tuple of int
        The formats in which TensorStore reads it.
    zarr2 : bool
        zarr-python 2.18 has it.
    """

    name: str
    dtypes: tuple[Any, ...]
    fills: tuple[Any, ...]
    data: Data = special
    formats: tuple[Literal[2, 3], ...] = (2, 3)
    has_endian: bool = True
    tensorstore: tuple[int, ...] = (2, 3)
    zarr2: bool = True


STRUCT = [("a", "<i2"), ("b", "<f8"), ("c", "S3"), ("d", "<U2")]
MIXED = [("a", "<i2"), ("b", ">f8"), ("c", "u1")]
NESTED = [("p", "<i4"), ("q", [("x", "<f4"), ("y", "u1")])]


def _number(name: str, code: str, *fills: Any) -> DtypeRow:
    if code.endswith("1"):
        return DtypeRow(name, (f"|{code}",), fills, has_endian=False)
    return DtypeRow(name, (f"<{code}", f">{code}"), fills)


DTYPES: tuple[DtypeRow, ...] = (
    DtypeRow("bool", ("|b1",), (False, True), has_endian=False),
    *(_number(f"int{8 * n}", f"i{n}", 0, -1, -(2 ** (8 * n - 1))) for n in (1, 2, 4, 8)),
    *(_number(f"uint{8 * n}", f"u{n}", 0, 7, 2 ** (8 * n) - 1) for n in (1, 2, 4, 8)),
    *(
        _number(f"float{8 * n}", f"f{n}", 0.0, -0.0, 1.5, np.nan, np.inf, -np.inf)
        for n in (2, 4, 8)
    ),
    *(_number(f"complex{8 * n}", f"c{n}", 0, 1.5 - 2j, complex(np.nan, np.inf)) for n in (8, 16)),
    DtypeRow("fixed_length_utf32", ("<U1", "<U5", ">U3"), ("", "\u00e9"), text, tensorstore=()),
    DtypeRow(
        "null_terminated_bytes",
        ("|S1", "|S5", "|S12"),
        (b"", b"a"),
        records,
        has_endian=False,
        tensorstore=(),
    ),
    DtypeRow(
        "raw_bytes",
        ("|V1", "|V2", "|V3", "|V8", "|V300"),
        (None, b"\0", b"a"),
        records,
        has_endian=False,
        tensorstore=(2, 3),
    ),
    DtypeRow(
        "numpy.datetime64",
        ("<M8[ns]", "<M8[D]", "<M8[5h]", "<M8[Y]", ">M8[s]"),
        ("NaT", 0, 12345),
        tensorstore=(),
    ),
    DtypeRow(
        "numpy.timedelta64",
        ("<m8[ns]", "<m8[s]", "<m8[10us]", ">m8[ms]"),
        ("NaT", 0, -7),
        tensorstore=(),
    ),
    DtypeRow("struct", (STRUCT, MIXED, NESTED), (None,), records, tensorstore=()),
    DtypeRow("string", ("T",), ("", "\u4e2d"), text, has_endian=False, tensorstore=()),
    DtypeRow(
        "variable_length_bytes", ("bytes",), (b"", b"\0a"), blobs, has_endian=False, tensorstore=()
    ),
)

# Names of a data type in other releases of zarr.
ALIASES = {"structured": "struct"}

# What zarr has no data type for: those of the package ml_dtypes among others.
NO_DTYPES: tuple[str, ...] = (
    *("bfloat16", "float8_e4m3fn", "float8_e5m2", "float6_e2m3fn", "float4_e2m1fn"),
    *("int2", "int4", "uint2", "uint4"),
    *("longdouble", "clongdouble", "object"),
)


@dataclass(frozen=True)
class DtypeCase:
    """A data type as one format stores it; `endian` is empty where that is not for the codec."""

    row: DtypeRow
    dtype: Any
    zarr_format: Literal[2, 3]
    endian: Literal["little", "big", ""]

    @property
    def name(self) -> str:
        """For test ids: unique."""
        dtype = self.dtype if isinstance(self.dtype, str) else "".join(f[0] for f in self.dtype)
        parts = (f"v{self.zarr_format}", self.row.name, dtype, self.endian)
        return "-".join(filter(None, parts))

    def newer_zarr(self) -> str:
        """Which zarr has it; empty if this one does."""
        # It loses the byte order of fields; it has no fields in fields.
        dtype = NESTED if self.zarr_format == 2 else MIXED
        return "zarr 3.4 or newer" if Version("3.4") > ZARR_VERSION and self.dtype is dtype else ""

    def arguments(self, fill: Any) -> dict[str, Any]:
        """Return what `zarr.create_array` takes for one whose chunks are not compressed."""
        dtype = zarr_dtype(self.dtype)
        out: dict[str, Any] = {"dtype": dtype, "compressors": None}
        is_open = self.row.name in ("string", "variable_length_bytes")
        if self.zarr_format == 3 and not is_open:
            out["serializer"] = BytesCodec(endian=self.endian or None)
        elif self.zarr_format == 2:
            kind = "vlen-utf8" if self.row.name == "string" else "vlen-bytes"
            out["filters"] = [numcodec(kind)] if is_open else None
        if fill is not None:
            if self.row.name == "raw_bytes":
                fill = np.frombuffer(fill * dtype.itemsize, dtype)[0]
            elif isinstance(dtype, np.dtype) and dtype.kind in "mM":
                fill = np.array(fill, dtype if fill == "NaT" else "i8").astype(dtype)[()]
            out["fill_value"] = fill
        return out

    def make_array(self, path: str, fill: Any, sharded: bool = False) -> zarr.Array[Any]:
        """Make a new array."""
        arguments = self.arguments(fill) | ({"shards": SHARDS} if sharded else {})
        return zarr.create_array(
            store=path, shape=SHAPE, chunks=CHUNKS, zarr_format=self.zarr_format, **arguments
        )


def _dtype_cases() -> Iterator[DtypeCase]:
    for row in DTYPES:
        for dtype, zarr_format in itertools.product(row.dtypes, row.formats):
            known = zarr_dtype(dtype)
            if zarr_format == 3 and getattr(known, "byteorder", "") == ">":
                continue
            has_endian = row.has_endian and zarr_format == 3
            for endian in ("little", "big") if has_endian else ("",):
                yield DtypeCase(row, dtype, zarr_format, endian)


DTYPE_CASES: tuple[DtypeCase, ...] = tuple(_dtype_cases())
