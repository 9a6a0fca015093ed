"""Codecs that change items: byte for byte what numcodecs and zarr make of them, both ways."""

import asyncio
import contextlib
import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from chains import BytesChain
from helpers import ZARR_34, newer
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numcodecs.astype import AsType
from numcodecs.bitround import BitRound
from numcodecs.delta import Delta
from numcodecs.fixedscaleoffset import FixedScaleOffset
from numcodecs.packbits import PackBits
from numcodecs.quantize import Quantize
from numcodecs.shuffle import Shuffle
from zarr.core.array_spec import ArrayConfig, ArraySpec
from zarr.core.buffer import default_buffer_prototype
from zarr.dtype import parse_dtype

from zarrs.codecs._array_to_array import Filter, native_filter

EXAMPLES = settings(max_examples=100, deadline=None, database=None)
INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
FLOATS = ["f2", "f4", "f8"]
TYPES = INTEGERS + FLOATS
ORDERS = ["<", ">"]
ROUNDINGS = [
    "nearest-even",
    "towards-zero",
    "towards-positive",
    "towards-negative",
    "nearest-away",
]

if ZARR_34:
    import cast_value_rs  # noqa: F401  (without which these do nothing)

    CastValue = newer("zarr.codecs", "CastValue")
    ScaleOffset = newer("zarr.codecs", "ScaleOffset")
needs_cast_value = pytest.mark.skipif(not ZARR_34, reason="cast_value came with zarr 3.4")


# --------------------------------------------------------------------------- data and referees


def specials(dtype: np.dtype[Any]) -> list[Any]:
    """Numbers at which something changes."""
    if dtype.kind == "b":
        return [False, True]
    if dtype.kind != "f":
        info = np.iinfo(dtype)
        near = [0, 1, 2, 127, 128, 255, 256, 2049, 2**24 + 1, 2**53 + 1, 2**63 - 513, 2**63 - 1]
        near += [65503, 65504, 65519, 65520, 65535, 65536, 2**31, 2**63, 2**64 - 1024]
        return [n for n in {*near, *(-n for n in near), info.min, info.max} if n in range_of(dtype)]
    limits = np.finfo(dtype)
    numbers = [0.0, 0.1, 0.5, 1.0, 1.5, 2.5, 126.5, 127.49, 127.5, 128.5, 255.5, 1000.4999, 65504.0]
    numbers += [65520.0, 65536.0, 2.0**31, 2.0**53, 2.0**63, 2.0**64, 1.0 + 2.0**-11, 2.0**-25]
    numbers += [1 + 2.0**-24, 1 + 3 * 2.0**-24, 1 + 2.0**-11 + 2.0**-40, 3.4028235677973366e38]
    numbers += [0.49999999999999994, limits.tiny, limits.smallest_subnormal, limits.max, limits.eps]
    numbers += [np.nan, np.inf]
    with np.errstate(all="ignore"):
        return list(np.array([*numbers, *(-n for n in numbers)], dtype))


def range_of(dtype: np.dtype[Any]) -> range:
    info = np.iinfo(dtype)
    return range(int(info.min), int(info.max) + 1)


@st.composite
def items(draw: st.DrawFn, dtype: Any, least: int = 0) -> np.ndarray[Any, Any]:
    """Any bits and special numbers, repeated until they fill several blocks."""
    dtype = np.dtype(dtype)
    n = draw(st.sampled_from([1, 2, 63, 64, 65, 512, 513, 1030]) | st.integers(1, 200))
    some = draw(st.lists(st.sampled_from(specials(dtype)), min_size=1, max_size=12))
    values = np.array(some, dtype)
    if dtype.kind != "b":
        bits = draw(st.binary(min_size=8 * dtype.itemsize, max_size=8 * dtype.itemsize))
        values = np.concatenate([values, np.frombuffer(bits, dtype)])
    keep = draw(st.integers(1, len(values)))
    return np.resize(values[:keep], max(n, least)).astype(dtype, copy=False)


def fitting(array: np.ndarray[Any, Any], dtype: Any) -> np.ndarray[Any, Any]:
    """With 0 for what is not in the range of integers: NumPy gives no promise about those."""
    if array.dtype.kind != "f" or np.dtype(dtype).kind == "f":
        return array
    whole = range_of(np.dtype(dtype))
    fits = np.isfinite(array)
    wide = np.where(fits, array, 0).astype("f8")
    fits &= (wide > whole.start - 1.0) & (wide < float(whole.stop))
    fits &= (wide >= float(whole.start)) | (abs(whole.start) < 2**53)
    return np.where(fits, array, 0).astype(array.dtype)


def native_bytes(array: np.ndarray[Any, Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("=")).tobytes()


def quietly(function: Callable[..., Any], *args: Any) -> Any:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args)


def stage_of(codec: Any, dtype: Any) -> tuple[Filter, BytesChain]:
    stage = native_filter(codec, np.dtype(dtype))
    assert isinstance(stage, Filter), stage
    return stage, BytesChain([(stage.name, stage.params)])


def check_numcodecs(codec: Any, array: np.ndarray[Any, Any]) -> None:
    """Encode and decode, and damage what is between."""
    stage, chain = stage_of(codec, array.dtype)
    expected = quietly(codec.encode, array)
    if stage.name == "shuffle":
        data = array.tobytes()
    else:
        data = native_bytes(array)
        assert stage.source == array.dtype
        assert stage.target.itemsize == expected.dtype.itemsize
    encoded = chain.encode(data)
    assert encoded == native_bytes(expected)

    decoded = quietly(codec.decode, expected)
    plain = decoded.tobytes() if stage.name == "shuffle" else native_bytes(decoded)
    assert chain.decode(encoded, len(plain)) == plain
    check_damaged(chain, encoded, len(plain))


def check_damaged(chain: BytesChain, encoded: bytes, nbytes: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        chain.decode(encoded + b"\0", nbytes)
    if encoded:
        with pytest.raises(ValueError, match=r"."):
            chain.decode(encoded[:-1], nbytes)
    if nbytes:
        with pytest.raises(ValueError, match=r"."):
            chain.decode(encoded, nbytes - 1)


def with_zarr(codec: Any, way: str, array: Any, dtype: Any) -> Any:
    """What zarr's codec makes of a chunk of an array of this type; None if an error."""
    prototype = default_buffer_prototype()
    config = ArrayConfig.from_dict({})
    zdtype = parse_dtype(np.dtype(dtype), zarr_format=3)
    spec = ArraySpec(array.shape, zdtype, zdtype.default_scalar(), config, prototype)
    chunk = prototype.nd_buffer.from_ndarray_like(array)
    try:
        (result,) = asyncio.run(getattr(codec, way)([(chunk, spec)]))
    except ValueError:
        return None
    return np.asarray(result.as_ndarray_like())


def check_zarr(codec: Any, array: np.ndarray[Any, Any], encoded: np.ndarray[Any, Any]) -> None:
    """Encode the one and decode the other, which need not be of one another."""
    stage, chain = stage_of(codec, array.dtype)
    assert stage.target == encoded.dtype
    nbytes = encoded.size * array.itemsize
    ways: tuple[tuple[str, np.ndarray[Any, Any], Callable[[bytes], bytes]], ...] = (
        ("encode", array, lambda data: chain.encode(data)),
        ("decode", encoded, lambda data: chain.decode(data, nbytes)),
    )
    for way, given_, run in ways:
        expected = quietly(with_zarr, codec, way, given_, array.dtype)
        if expected is None:
            with pytest.raises(ValueError, match=r"."):
                run(given_.tobytes())
        else:
            assert run(given_.tobytes()) == expected.tobytes()


# --------------------------------------------------------------------------- numcodecs


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("astype", INTEGERS)
@pytest.mark.parametrize("dtype", INTEGERS)
@settings(EXAMPLES, max_examples=20)
@given(st.data())
def test_delta_of_integers(dtype: str, astype: str, order: str, data: st.DataObject) -> None:
    array = data.draw(items(order + dtype, least=1))
    codec = Delta(order + dtype, astype)
    if np.promote_types(dtype, astype).kind == "f":
        assert "as floats" in str(native_filter(codec, array.dtype))
    elif int(array[0]) in range_of(np.dtype(astype)):
        check_numcodecs(codec, array)
    else:  # so it is with numcodecs
        _, chain = stage_of(codec, array.dtype)
        with pytest.raises(ValueError, match=r"."):
            chain.encode(native_bytes(array))


@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4"])
@EXAMPLES
@given(st.data())
def test_delta_of_floats(dtype: str, data: st.DataObject) -> None:
    check_numcodecs(Delta(dtype), data.draw(items(dtype, least=1)))


@pytest.mark.parametrize(("dtype", "astype"), list(itertools.product(FLOATS, TYPES)))
@EXAMPLES
@given(st.data())
def test_fixedscaleoffset(dtype: str, astype: str, data: st.DataObject) -> None:
    numbers = st.sampled_from([0, 1, -3, 1000, 0.5, 0.1, -2.75, 1e-3])
    offset, scale = data.draw(numbers), data.draw(numbers.filter(bool))
    array = data.draw(items(dtype))
    codec = FixedScaleOffset(offset, scale, dtype, astype)
    with np.errstate(all="ignore"):
        scaled = np.around((array - offset) * scale)
        array = np.where(fitting(scaled, astype) == scaled, array, np.array(offset, dtype))
    if np.dtype(astype).kind != "f":  # what is 0 must have been so from the beginning
        array = np.where(np.isfinite(array), array, np.array(offset, dtype))
    array = array.astype(dtype)
    if np.isfinite(quietly(codec.decode, quietly(codec.encode, array))).all():
        check_numcodecs(codec, array)
    check_numcodecs(FixedScaleOffset(offset, scale, dtype), data.draw(items(dtype)))


@pytest.mark.parametrize("dtype", INTEGERS)
@EXAMPLES
@given(st.data())
def test_fixedscaleoffset_of_integers(dtype: str, data: st.DataObject) -> None:
    array = data.draw(items(dtype))
    astype = data.draw(st.sampled_from(FLOATS))
    codec = FixedScaleOffset(data.draw(st.sampled_from([0.0, 1.5, -100.25])), 0.125, dtype, astype)
    _, chain = stage_of(codec, dtype)
    expected = quietly(codec.encode, array)
    assert chain.encode(array.tobytes()) == expected.tobytes()
    small = np.clip(array, 0, 100).astype(dtype)
    if codec.offset >= 0:
        encoded = quietly(codec.encode, small)
        assert chain.decode(encoded.tobytes(), small.nbytes) == codec.decode(encoded).tobytes()


@pytest.mark.parametrize(("dtype", "astype"), list(itertools.product(FLOATS, FLOATS)))
@EXAMPLES
@given(st.data())
def test_quantize(dtype: str, astype: str, data: st.DataObject) -> None:
    digits = data.draw(st.integers(-3, 4))
    check_numcodecs(Quantize(digits, dtype, astype), data.draw(items(dtype)))
    check_numcodecs(Quantize(digits, ">" + dtype, astype), data.draw(items(">" + dtype)))


@pytest.mark.parametrize("dtype", FLOATS)
@EXAMPLES
@given(st.data())
def test_bitround(dtype: str, data: st.DataObject) -> None:
    keepbits = data.draw(st.integers(0, np.finfo(dtype).nmant))
    check_numcodecs(BitRound(keepbits), data.draw(items(dtype)))


@pytest.mark.parametrize(("dtype", "astype"), list(itertools.product(TYPES, TYPES)))
@settings(EXAMPLES, max_examples=30)
@given(st.data())
def test_astype(dtype: str, astype: str, data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(ORDERS))
    array = fitting(data.draw(items(order + dtype)), astype).astype(order + dtype)
    _, chain = stage_of(AsType(astype, order + dtype), order + dtype)
    encoded = quietly(array.astype, astype)
    assert chain.encode(native_bytes(array)) == encoded.tobytes()
    encoded = fitting(data.draw(items(astype)), dtype)
    plain = native_bytes(quietly(encoded.astype, dtype))
    assert chain.decode(encoded.tobytes(), len(plain)) == plain
    check_damaged(chain, encoded.tobytes(), len(plain))


@pytest.mark.parametrize(("dtype", "astype"), list(itertools.product(FLOATS, INTEGERS)))
@EXAMPLES
@given(st.data())
def test_astype_out_of_range(dtype: str, astype: str, data: st.DataObject) -> None:
    """Whatever comes of numbers out of range, the others are what they should be."""
    array = data.draw(items(dtype))
    fits = fitting(array, astype) == array
    _, chain = stage_of(AsType(astype, dtype), dtype)
    encoded = np.frombuffer(chain.encode(array.tobytes()), astype)
    np.testing.assert_array_equal(encoded[fits], array[fits].astype(astype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_astype_of_every_half(dtype: str) -> None:
    halves = np.arange(65536, dtype="u2").view("f2")
    _, chain = stage_of(AsType("f2", dtype), dtype)
    wide = quietly(halves.astype, dtype)
    assert chain.decode(halves.tobytes(), wide.nbytes) == wide.tobytes()
    assert chain.encode(wide.tobytes()) == halves.tobytes()
    if dtype != "f2":  # ties, and what is next to them
        ties = wide[:31743] / 2 + wide[1:31744] / 2
        below, above = np.nextafter(ties, 0), np.nextafter(ties, np.array(np.inf, dtype))
        for near in ties, below, above, -ties, -below, -above:
            assert chain.encode(near.tobytes()) == quietly(near.astype, "f2").tobytes()


@EXAMPLES
@given(items("bool"))
def test_packbits(array: np.ndarray[Any, Any]) -> None:
    check_numcodecs(PackBits(), array)


@EXAMPLES
@given(st.binary(max_size=40), st.integers(0, 400))
@example(b"", 0)
@example(b"\x01", 0)
@example(b"\x08\xff", 0)
@example(b"\xff" * 9, 0)
def test_packbits_damaged(stored: bytes, nbytes: int) -> None:
    _, chain = stage_of(PackBits(), "bool")
    padding = stored[0] if stored else 8
    if padding <= 7 and len(stored) > (padding > 0):
        expected = PackBits().decode(stored).tobytes()
        if expected:
            assert chain.decode(stored, len(expected)) == expected
        if len(expected) == nbytes:
            return
    with pytest.raises(ValueError, match=r"."):
        chain.decode(stored, nbytes)


@EXAMPLES
@given(st.binary(min_size=1, max_size=300))
def test_packbits_of_other_bytes(data: bytes) -> None:
    """Every byte that is not 0 is true."""
    _, chain = stage_of(PackBits(), "bool")
    expected = PackBits().encode(np.frombuffer(data, bool))
    assert chain.encode(data) == expected.tobytes()


@pytest.mark.parametrize("elementsize", [0, 1, 2, 3, 4, 5, 8, 16, 100])
@EXAMPLES
@given(st.data())
def test_shuffle(elementsize: int, data: st.DataObject) -> None:
    n = data.draw(st.sampled_from([1, 63, 64, 65, 130]) | st.integers(1, 300))
    size = max(elementsize, 1)
    array = np.random.default_rng(n).integers(0, 256, n * size, "u1")
    codec = Shuffle(elementsize)
    check_numcodecs(codec, array)
    if size > 1:
        _, chain = stage_of(codec, "u1")
        with pytest.raises(ValueError, match=r"."):
            chain.encode(bytes(n * size + 1))


@pytest.mark.parametrize("unit", [2, 4, 8])
@EXAMPLES
@given(data=st.data())
def test_swap(unit: int, data: st.DataObject) -> None:
    array = data.draw(items(f"u{unit}"))
    chain = BytesChain([("swap", (unit,))])
    swapped = array.byteswap().tobytes()
    assert chain.encode(array.tobytes()) == swapped
    assert chain.decode(swapped, array.nbytes) == array.tobytes()
    check_damaged(chain, swapped, array.nbytes)


@pytest.mark.parametrize(
    ("codec", "dtype"),
    [
        (Delta("i4", "i2"), "i4"),
        (FixedScaleOffset(1, 10, "f8", "i2"), "f8"),
        (Quantize(2, "f8", "f4"), "f8"),
        (BitRound(3), "f4"),
        (AsType("u1", "f8"), "f8"),
        (PackBits(), "bool"),
        (Shuffle(4), "i4"),
    ],
    ids=lambda value: getattr(value, "codec_id", value),
)
@settings(EXAMPLES, max_examples=300)
@given(stored=st.binary(max_size=300), nbytes=st.integers(0, 600))
def test_any_bytes(codec: Any, dtype: str, stored: bytes, nbytes: int) -> None:
    """Stored bytes are items, or an error."""
    _, chain = stage_of(codec, dtype)
    with contextlib.suppress(ValueError):
        assert len(chain.decode(stored, nbytes)) == nbytes


# --------------------------------------------------------------------------- zarr


@needs_cast_value
@pytest.mark.parametrize("out_of_range", [None, "clamp", "wrap"])
@pytest.mark.parametrize(("dtype", "target"), list(itertools.product(TYPES, TYPES)))
@settings(EXAMPLES, max_examples=30)
@given(st.data())
def test_cast_value(dtype: str, target: str, out_of_range: Any, data: st.DataObject) -> None:
    codec = CastValue(
        data_type=np.dtype(target).name,
        rounding=data.draw(st.sampled_from(ROUNDINGS)),
        out_of_range=out_of_range,
    )
    if codec.rounding == "nearest-away" and {dtype, target} == {"f2", "f8"}:
        assert "ties" in str(native_filter(codec, np.dtype(dtype)))
        return
    array, encoded = data.draw(items(dtype)), data.draw(items(target))
    if data.draw(st.booleans()):
        array, encoded = fitting(array, target), fitting(encoded, dtype)
    check_zarr(codec, array, encoded)


@needs_cast_value
@pytest.mark.parametrize(("dtype", "target"), list(itertools.product(TYPES, TYPES)))
@settings(EXAMPLES, max_examples=30)
@given(st.data())
def test_cast_value_with_scalar_map(dtype: str, target: str, data: st.DataObject) -> None:
    def entries(key: str, value: str) -> dict[Any, Any]:
        keys = [one.item() if isinstance(one, np.generic) else one for one in specials(kinds[key])]
        values = [
            one.item() if isinstance(one, np.generic) else one for one in specials(kinds[value])
        ]
        pairs = st.tuples(st.sampled_from(keys), st.sampled_from(values))
        return dict(data.draw(st.lists(pairs, max_size=4)))

    kinds = {name: np.dtype(name) for name in (dtype, target)}
    codec = CastValue(
        data_type=kinds[target].name,
        out_of_range="clamp",
        scalar_map={"encode": entries(dtype, target), "decode": entries(target, dtype)},
    )
    check_zarr(codec, data.draw(items(dtype)), data.draw(items(target)))


@needs_cast_value
@pytest.mark.parametrize("dtype", TYPES)
@EXAMPLES
@given(st.data())
def test_scale_offset(dtype: str, data: st.DataObject) -> None:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        numbers = st.sampled_from([0, 1, -3, 1000, 0.5, 0.1, -2.75, 1e-3])
    else:
        numbers = st.sampled_from(specials(kind)) | st.integers(0, 10)
    codec = ScaleOffset(offset=data.draw(numbers), scale=data.draw(numbers.filter(bool)))
    if dtype == "i8":
        assert "int64" in str(native_filter(codec, kind))
        return
    array = data.draw(items(dtype, least=1))
    encoded = data.draw(items(dtype, least=1))
    check_zarr(codec, array, encoded)
    if kind.kind != "f":
        with np.errstate(all="ignore"):
            few = array % 7 + np.array(codec.offset, dtype)
            check_zarr(codec, few, (array % 5) * np.array(codec.scale, dtype))


# --------------------------------------------------------------------------- what has no stage


class Derived(PackBits):  # type: ignore[misc]  # numcodecs has no annotations
    pass


REFUSED = [
    (Derived(), "bool", "no native counterpart"),
    (PackBits(), "u1", "it is for items"),
    (Delta("i4"), "u4", "it is for items"),
    (Delta("i4"), ">i4", "it is for items"),
    (Delta("f8", "f4"), "f8", "differences"),
    (Delta("f8", "i4"), "f8", "differences"),
    (Delta("i4", "f4"), "i4", "differences"),
    (Delta("f2"), "f2", "float16"),
    (Delta("c8"), "c8", "complex64"),
    (Delta("bool"), "bool", "bool"),
    (Delta("M8[s]"), "M8[s]", "datetime64"),
    (FixedScaleOffset(0, 10, "i4"), "i4", "other data types than the native codec"),
    (FixedScaleOffset(0, 2.5, "i4"), "i4", "other data types than the native codec"),
    (FixedScaleOffset(2**60, 1, "f8"), "f8", "not exact"),
    (FixedScaleOffset(1e39, 1, "f4"), "f4", "not finite"),
    (FixedScaleOffset(float("nan"), 1, "f4"), "f4", "not finite"),
    (FixedScaleOffset(0, 1, "f8", "c16"), "f8", "complex128"),
    (Quantize(6, "f2"), "f2", "not finite"),
    (BitRound(24), "f4", "bits to keep"),
    (BitRound(3), "i4", "only floats"),
    (BitRound(3), ">f4", "byte order"),
    (BitRound(3), np.longdouble, "only floats"),
    (AsType("f4", "f8"), "f4", "it is for items"),
    (AsType("c8", "f8"), "f8", "complex64"),
    (AsType("bool", "f8"), "f8", "bool"),
    (Shuffle(4), object, "fixed size"),
    (Shuffle("4"), "i4", "no size"),
]


@pytest.mark.parametrize(("codec", "dtype", "reason"), REFUSED, ids=str)
def test_refused(codec: Any, dtype: Any, reason: str) -> None:
    assert reason in str(native_filter(codec, np.dtype(dtype)))


@needs_cast_value
def test_refused_of_zarr() -> None:
    nan, many = float("nan"), dict.fromkeys(range(65), 0)
    cast: Any = CastValue  # with arguments that its annotations do not have
    for codec, dtype, reason in [
        (CastValue(data_type="int16"), ">f4", "byte order"),
        (CastValue(data_type="int16"), "c8", "complex64"),
        (cast(data_type="int16", rounding="up"), "f4", "rounding 'up'"),
        (CastValue(data_type="int16", scalar_map={"encode": {nan: 99999}}), "f4", "configuration"),
        (CastValue(data_type="int16", scalar_map={"encode": {0.1: 9}}), "f2", "between"),
        (cast(data_type="uint8", scalar_map={"decode": many}), "f4", "64"),
        (ScaleOffset(offset=1), "i8", "wraps"),
        (ScaleOffset(scale=0), "f4", "scale is 0"),
        (ScaleOffset(offset=1.5), "i4", "does not take its configuration"),
        (ScaleOffset(offset="NaN"), "f4", "not finite"),
    ]:
        assert reason in str(native_filter(codec, np.dtype(dtype))), codec
