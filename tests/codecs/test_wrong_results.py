"""What codecs in Python return that is not what they should: as zarr's default takes it or not.

Each place of a codec in a chain, each direction, each kind of codec, and each of the results in
``wrong_results.py`` are compared with ``BatchedCodecPipeline``. What that takes is taken, with the
same values; what it refuses is refused by an exception that names the codec and the chunk, and
after a write that failed everything is as it was. The exceptions are in `DIFFERENCES`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pytest
import zarr
from helpers import ZARR_34, assert_same, newer, stock
from numcodecs import Zlib
from stores import ours, stored, theirs
from wrong_results import (
    CODEC,
    OF_ARRAYS,
    OF_BYTES,
    OF_NUMCODECS,
    STYLES,
    NumCompressor,
    NumFilter,
    wrong,
)
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec, ZstdCodec
from zarr.codecs import numcodecs as wrapped
from zarr.storage import MemoryStore

SHAPE, CHUNKS = (8, 12), (4, 6)
DATA = np.arange(100, 196, dtype="<i4").reshape(SHAPE)
SELECTIONS: dict[str, Callable[[Any], Any]] = {
    "whole": lambda a: a[...],
    "window": lambda a: a[1:6, 2:9],
    "chunk": lambda a: a[:4, 6:],
    "row": lambda a: a[2],
    "item": lambda a: a[5, 7],
    "steps": lambda a: a[::3, 1::4],
    "points": lambda a: a.vindex[[0, 7, 3, 3], [11, 0, 5, 6]],
    "lists": lambda a: a.oindex[[1, 6], [0, 5, 8]],
}

WRITES: dict[str, Any] = {"whole": ..., "window": (slice(1, 6), slice(2, 9))}


@dataclass(frozen=True)
class Case:
    """A chain, the place in it of the codec that is wrong, and what that may return."""

    place: str
    arguments: Callable[[Callable[[str], Any]], dict[str, Any]]
    zarr_format: Literal[2, 3] = 3


def _inner(**how: Any) -> dict[str, Any]:
    # What is said of chunks, said of inner chunks.
    return {**how, "shards": (4, 12)}


def _around(**how: Any) -> dict[str, Any]:
    codecs: list[Any] = [BytesCodec(), ZstdCodec()]
    return {**how, "serializer": ShardingCodec(chunk_shape=(2, 3), codecs=codecs)}


NONE: dict[str, Any] = {"filters": [], "compressors": []}
CASES = {
    "filter": Case("filter", lambda c: NONE | {"filters": [c("filter")]}),
    "filter, zstd": Case(
        "filter", lambda c: {"filters": [c("filter")], "compressors": [ZstdCodec()]}
    ),
    "transpose, filter": Case(
        "filter", lambda c: NONE | {"filters": [TransposeCodec(order=(1, 0)), c("filter")]}
    ),
    "filter, transpose": Case(
        "filter", lambda c: NONE | {"filters": [c("filter"), TransposeCodec(order=(1, 0))]}
    ),
    "filter, serializer": Case(
        "filter", lambda c: NONE | {"filters": [c("filter")], "serializer": c("serializer")}
    ),
    "delta, filter": Case(
        "filter", lambda c: NONE | {"filters": [wrapped.Delta(dtype="<i4"), c("filter")]}
    ),
    "filter, delta": Case(
        "filter", lambda c: NONE | {"filters": [c("filter"), wrapped.Delta(dtype="<i4")]}
    ),
    "serializer": Case("serializer", lambda c: NONE | {"serializer": c("serializer")}),
    "serializer, zstd": Case(
        "serializer",
        lambda c: {"filters": [], "serializer": c("serializer"), "compressors": [ZstdCodec()]},
    ),
    "transpose, serializer": Case(
        "serializer",
        lambda c: NONE | {"filters": [TransposeCodec(order=(1, 0))], "serializer": c("serializer")},
    ),
    "behind a filter": Case(
        "serializer", lambda c: NONE | {"filters": [c("filter")], "serializer": c("serializer")}
    ),
    "before a compressor": Case(
        "serializer",
        lambda c: {"filters": [], "serializer": c("serializer"), "compressors": [c("compressor")]},
    ),
    "compressor": Case("compressor", lambda c: NONE | {"compressors": [c("compressor")]}),
    "compressor, crc32c": Case(
        "compressor", lambda c: NONE | {"compressors": [c("compressor"), Crc32cCodec()]}
    ),
    "compressor, zstd": Case(
        "compressor", lambda c: NONE | {"compressors": [c("compressor"), ZstdCodec()]}
    ),
    "zstd, compressor": Case(
        "compressor", lambda c: NONE | {"compressors": [ZstdCodec(), c("compressor")]}
    ),
    "behind a serializer": Case(
        "compressor",
        lambda c: {"filters": [], "serializer": c("serializer"), "compressors": [c("compressor")]},
    ),
    "filter in shards": Case("filter", lambda c: _inner(**NONE | {"filters": [c("filter")]})),
    "serializer in shards": Case(
        "serializer", lambda c: _inner(**NONE | {"serializer": c("serializer")})
    ),
    "compressor in shards": Case(
        "compressor", lambda c: _inner(**NONE | {"compressors": [c("compressor")]})
    ),
    "filter around shards": Case("filter", lambda c: _around(**NONE | {"filters": [c("filter")]})),
    "compressor around shards": Case(
        "compressor", lambda c: _around(**NONE | {"compressors": [c("compressor")]})
    ),
    "filter of format 2": Case(
        "filter", lambda c: {"filters": [NumFilter()], "compressors": None}, 2
    ),
    "filter of format 2, zlib": Case(
        "filter", lambda c: {"filters": [NumFilter()], "compressors": Zlib()}, 2
    ),
    "compressor of format 2": Case(
        "compressor", lambda c: {"filters": None, "compressors": NumCompressor()}, 2
    ),
    "both of format 2": Case(
        "filter", lambda c: {"filters": [NumFilter()], "compressors": NumCompressor()}, 2
    ),
    "compressor of format 2 behind a filter": Case(
        "compressor", lambda c: {"filters": [NumFilter()], "compressors": NumCompressor()}, 2
    ),
}
if ZARR_34:
    CastValue = newer("zarr.codecs", "CastValue")

    CASES["cast, filter"] = Case(
        "filter", lambda c: NONE | {"filters": [CastValue(data_type="int32"), c("filter")]}
    )
    CASES["filter, cast"] = Case(
        "filter", lambda c: NONE | {"filters": [c("filter"), CastValue(data_type="int16")]}
    )


def results(case: Case, direction: str) -> dict[str, Callable[[Any, Any], Any]]:
    """What the codec may return."""
    if case.zarr_format == 2:
        return OF_NUMCODECS
    if case.place == "compressor" or (case.place == "serializer" and direction == "encode"):
        return OF_BYTES
    return OF_ARRAYS


@pytest.fixture(autouse=True)
def all_right() -> Iterator[None]:
    """No codec is wrong before and after a test."""
    wrong.clear()
    yield
    wrong.clear()


@cache
def _filled(name: str, style: str) -> MemoryStore:
    case = CASES[name]
    store = MemoryStore()
    with stock():
        array = zarr.create_array(
            store, shape=SHAPE, chunks=CHUNKS, dtype="<i4", zarr_format=case.zarr_format,
            fill_value=3, **case.arguments(lambda place: CODEC[place, style]()),
        )  # fmt: skip
        array[...] = DATA
    return store


def make(name: str, style: str) -> Any:
    """An array of right data."""
    wrong.clear()
    return MemoryStore(dict(_filled(name, style)._store_dict))


def outcome(act: Callable[[], Any]) -> Any:
    """What comes of it: a value or an exception."""
    try:
        return act()
    except Exception as error:
        return error


def same(one: Any, other: Any) -> bool:
    """Whether both are values, and the same."""
    return not isinstance(one, Exception) and np.array_equal(one, other)


def said(error: Exception) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


# What zarr takes for some selections, of which some get other items or one item many times: arrays
# that are no chunk. They are refused for all.
OTHER_SHAPES = ("turned", "one more axis", "short", "narrow", "one row", "one column", "one item")

# What zarr's own codecs stumble over, but which leaves no doubt about what is meant.
STRIDED = ("strided buffer", "array buffer of two axes")

# Items of another size. zarr stores them, and nobody can read that.
OTHER_SIZES = ("int16", "int64", "float64", "text")

# Of format 2, what zlib does not take as it is not contiguous in memory.
STRIDED_ARRAYS = ("bare, strided", "bare, negative", "bare, narrow", "bare, one column")


# Neighbours of codecs that look at the memory, or the data type, of the array that they are handed.
# What zarr's make of it can be anything. Ours may be right where they are wrong.
PARTICULAR = [case for name, case in CASES.items() if "delta" in name or "cast" in name]


def may_differ(case: Case, direction: str, what: str, *, refused: bool) -> bool:
    """Whether this is refused where zarr takes it, or taken where zarr refuses it."""
    if direction == "decode":
        if refused:
            if what == "memoryview":  # zarr takes single items of it, and nothing else
                return True
            if case in PARTICULAR and what in ("buffer, long", "buffer, wide"):
                return True  # zarr's codec takes them all
            return case.zarr_format == 3 and what.partition(", ")[2] in OTHER_SHAPES
        return what in STRIDED
    if refused:
        return case.zarr_format == 3 and what.partition(", ")[2] in OTHER_SIZES
    return what in STRIDED or (case.zarr_format == 2 and what in STRIDED_ARRAYS)


def check_refusal(case: Case, error: Exception) -> None:
    """It says which codec and which chunk."""
    assert isinstance(error, TypeError | ValueError | AttributeError | IndexError | RuntimeError)
    names = r"wrong[.-]\w+|zstd|transpose|sharding_indexed"
    key = r"'c/\d/\d'" if case.zarr_format == 3 else r"'\d\.\d'"
    pattern = (
        rf"(codec '({names})[.\w]*' failed|index of the shard is damaged) while "
        rf"(reading|writing) (inner chunk \(\d, \d\) of )?(chunk|shard) {key} of array 'memory://"
    )
    assert re.search(pattern, said(error)), said(error)


def after_write(
    name: str, style: str, direction: str, change: Any, selection: Any, value: Any
) -> list[tuple[Any, Any]]:
    """What comes of a write with zarr's pipeline and with ours: of it, and of a read after it."""
    found = []
    for one in (theirs, ours):
        store = make(name, style)
        before = stored(store)
        wrong[CASES[name].place] = (direction, change)
        with stock() if one is theirs else nullcontext():
            error = outcome(partial(one(store).__setitem__, selection, value))
        wrong.clear()
        if isinstance(error, Exception) and one is ours:
            assert stored(store) == before, repr(error)
        with stock():
            found.append((error, outcome(partial(theirs(store).__getitem__, ...))))
    return found


# Other styles than the synchronous one, and all selections, where they can make a difference.
IN_ALL_STYLES = ("filter", "serializer", "compressor", "filter, serializer", "filter in shards")


def chosen(selections: dict[str, Any], name: str, style: str) -> dict[str, Any]:
    """All selections, or the first ones, for a case."""
    if name in IN_ALL_STYLES and style == "sync":
        return selections
    return {key: selections[key] for key in ("whole", "window")[: len(selections) - 1]}


PARAMETERS = pytest.mark.parametrize(
    ("name", "style"),
    [(name, style) for name in CASES for style in STYLES[: None if name in IN_ALL_STYLES else 1]],
)
IGNORED = (
    "ignore:Combining a `sharding_indexed` codec:zarr.errors.ZarrUserWarning",
    "ignore:Numcodecs codecs are not in the Zarr:UserWarning",
)


def all_cases(test: Any) -> Any:
    """Run a test for each case in each style."""
    for message in IGNORED:
        test = pytest.mark.filterwarnings(message)(test)
    return PARAMETERS(test)


@all_cases
def test_decode(native: None, name: str, style: str) -> None:
    case = CASES[name]
    store = make(name, style)
    for what, change in results(case, "decode").items():
        wrong[case.place] = ("decode", change)
        for selection, act in chosen(SELECTIONS, name, style).items():
            with stock():
                expected = outcome(partial(act, theirs(store)))
            found = outcome(partial(act, ours(store)))
            where = f"{what}, {selection}: {expected!r}, {found!r}"
            if case in PARTICULAR:
                wrong.clear()
                right = act(theirs(store))
                wrong[case.place] = ("decode", change)
                is_refused = isinstance(found, Exception)
                if same(found, right) or (is_refused and not same(expected, right)):
                    continue
            if isinstance(found, Exception):
                if not isinstance(expected, Exception):
                    assert may_differ(case, "decode", what, refused=True), where
                check_refusal(case, found)
            elif isinstance(expected, Exception):
                assert may_differ(case, "decode", what, refused=False), where
                wrong.clear()
                assert_same(found, act(theirs(store)), where)
                wrong[case.place] = ("decode", change)
            else:
                assert_same(found, expected, where)


@all_cases
def test_merge(native: None, name: str, style: str) -> None:
    """What decodes to other items than it should is merged by value, if it is read at all.

    zarr stores what it gets in the data type and the shape that it has.
    """
    case = CASES[name]
    selection = (1, slice(2, 9))
    merged = DATA.copy()
    merged[selection] = 7
    for what, change in results(case, "decode").items():
        (_, theirs_after), (found, ours_after) = after_write(
            name, style, "decode", change, selection, 7
        )
        if isinstance(found, Exception):
            check_refusal(case, found)
        elif not np.array_equal(ours_after, merged):
            assert_same(ours_after, theirs_after, what)


@all_cases
def test_encode(name: str, style: str) -> None:
    case = CASES[name]
    for what, change in results(case, "encode").items():
        for selection in chosen(WRITES, name, style).values():
            (expected, theirs_after), (found, ours_after) = after_write(
                name, style, "encode", change, selection, DATA[selection] + 1
            )
            where = f"{what}, {selection}: {expected!r}, {found!r}"
            if case in PARTICULAR:
                right = DATA.copy()
                right[selection] += 1
                if same(ours_after, right) or not same(theirs_after, right):
                    continue
            if isinstance(found, Exception):
                if not isinstance(expected, Exception):
                    assert may_differ(case, "encode", what, refused=True), where
                    assert isinstance(theirs_after, Exception), where
                check_refusal(case, found)
            elif isinstance(expected, Exception):
                assert may_differ(case, "encode", what, refused=False), where
            elif "empty" in what and "in shards" in name:
                # zarr leaves inner chunks of no bytes out, as if they were of the fill value.
                assert isinstance(ours_after, Exception), where
            elif isinstance(theirs_after, Exception):
                assert isinstance(ours_after, Exception), where
            else:
                assert_same(ours_after, theirs_after, where)
