"""Selections by hand, and the arrays they are tried on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import CHAIN, chain_arguments
from selections import Case, Pick
from shards import SHARDING

SHAPE = (29, 17, 13)
PLAIN_GRID = (7, 5, 6)
SHARD, INNER = (12, 12, 12), (4, 12, 6)


def sharded_case(name: str) -> Case:
    sharding = SHARDING[name]
    return Case(SHAPE, sharding.shard_shape(SHARD), sharding.arguments(SHARD, INNER), name)


def plain_case(name: str) -> Case:
    arguments = {"chunks": PLAIN_GRID, **chain_arguments(CHAIN[name], 3)}
    return Case(SHAPE, PLAIN_GRID, arguments, name)


CASES = {
    c.name: c
    for c in (
        *map(plain_case, ("raw", "blosc-lz4-shuffle", "rotated-big-zstd-crc32c", "v2-zlib-F")),
        *map(sharded_case, ("index-end-little-crc32c", "inside-rotated-zstd", "before-rotated")),
        *map(sharded_case, ("after-zstd", "nested-rotated", "nested-twice-mixed")),
    )
}
FEW_CASES = ("raw", "rotated-big-zstd-crc32c", "index-end-little-crc32c", "nested-rotated")


def some(n: int, count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-n, n, count)


def some_mask(n: Any, share: float, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).random(n) < share)


def mask_where(shape: Any, *on: Any) -> np.ndarray:
    out = np.zeros(shape, bool)
    for one in on:
        out[one] = True
    return out


EMPTY = np.zeros(0, int)
ALL = slice(None)
X, Y, Z = SHAPE
PICKS: dict[str, Pick] = {
    "sorted": Pick("oindex", ([0, 3, 4, 20, 28], ALL, ALL)),
    "unsorted": Pick("oindex", ([20, 3, 28, 0, 4], ALL, ALL)),
    "repeated": Pick("oindex", ([5, 5, 28, 5, 0, 0], ALL, [3, 3])),
    "negative": Pick("oindex", ([-1, -29, 3, -4], [-17, -1], ALL)),
    "empty-array": Pick("oindex", (EMPTY, ALL, [1])),
    "all-empty": Pick("oindex", (EMPTY, EMPTY, EMPTY)),
    "one-each": Pick("oindex", ([7], [-1], [12])),
    "one-and-slices": Pick("oindex", (ALL, [4], slice(1, None, 5))),
    "last-axis-only": Pick("oindex", (..., [2, 11, 0])),
    "first-axis-only": Pick("oindex", ([2, 11, 0],)),
    "dropped-between": Pick("oindex", ([4, 1, 28], 2, [0, 12, 5])),
    "dropped-first": Pick("oindex", (-1, [4, 1, 16], [0, 12, 5])),
    "dropped-last": Pick("oindex", ([4, 1, 16], [0, 12, 5], 3)),
    "dropped-two": Pick("oindex", (5, [3, 1], -1)),
    "dropped-all": Pick("oindex", (5, 3, -1)),
    "dropped-by-slice": Pick("oindex", (3, slice(2, None, 4), [9, 2])),
    "three-arrays": Pick("oindex", (some(X, 40), some(Y, 9, 1), some(Z, 20, 2))),
    "many-repeats": Pick("oindex", (some(X, 300), 3, ALL)),
    "descending": Pick("oindex", (np.arange(X)[::-1], np.arange(Y)[::-1], np.arange(Z)[::-1])),
    "descending-one": Pick("oindex", (ALL, np.arange(Y)[::-1], ALL)),
    "descending-by-3": Pick("oindex", (np.arange(X)[::-3], ALL, 4)),
    "ascending-by-3": Pick("oindex", (np.arange(X)[1::3], np.arange(Y)[::5], np.arange(Z)[::2])),
    "everything-as-arrays": Pick("oindex", (np.arange(X), np.arange(Y), np.arange(Z))),
    "steps-above-the-chunk": Pick("oindex", (slice(None, None, 15), [8, 0], slice(1, None, 9))),
    "mask-axis": Pick("oindex", (some_mask(X, 0.4), ALL, ALL)),
    "mask-axes": Pick("oindex", (some_mask(X, 0.4), some_mask(Y, 0.5, 1), some_mask(Z, 0.6, 2))),
    "mask-and-array": Pick("oindex", (some_mask(X, 0.1), [5, 2], 7)),
    "mask-axis-none": Pick("oindex", (np.zeros(X, bool), ALL, ALL)),
    "mask-axis-all": Pick("oindex", (ALL, np.ones(Y, bool), ALL)),
    "mask-axis-one": Pick("oindex", (mask_where(X, 28), ALL, [0, 1])),
    "mask-axis-is-a-slice": Pick("oindex", (mask_where(X, slice(3, 22)), ALL, ALL)),
    "mask-axis-is-a-strided-slice": Pick("oindex", (ALL, ALL, mask_where(Z, slice(1, 12, 2)))),
    "mask-axis-is-nearly-a-slice": Pick("oindex", (mask_where(X, slice(3, 9), 10), ALL, ALL)),
    "small-integers": Pick("oindex", (np.array([3, 1, 28], "u1"), ALL, np.array([-1, 2], "i1"))),
    "lists": Pick("oindex", ([3, 1], [True, False] * 8 + [True], [2])),
    "strided-index": Pick("oindex", (np.arange(2 * X)[:X:2][::-1], ALL, 0)),
    "points": Pick("vindex", (some(X, 50), some(Y, 50, 1), some(Z, 50, 2))),
    "points-repeated": Pick("vindex", ([3, 3, 28, 3, 3], [1, 1, 0, 1, 2], [5, 5, -1, 5, 5])),
    "points-empty": Pick("vindex", (EMPTY, EMPTY, EMPTY)),
    "points-one": Pick("vindex", ([7], [-1], [12])),
    "points-integer": Pick("vindex", (7, -1, 12)),
    "points-one-axis-integer": Pick("vindex", (7, [-1, 4, 5], 12)),
    "points-in-a-row": Pick("vindex", ([7] * Z, [3] * Z, np.arange(Z))),
    "points-in-a-row-backward": Pick("vindex", ([7] * Z, [3] * Z, np.arange(Z)[::-1])),
    "points-diagonal": Pick("vindex", (np.arange(13), np.arange(13), np.arange(13))),
    "points-2d": Pick(
        "vindex",
        (some(X, 12).reshape(3, 4), some(Y, 4), some(Z, 3)[:, None]),
    ),
    "points-3d": Pick("vindex", (some(X, 24).reshape(2, 3, 4), [[2], [4], [1]], [0, 1, 2, -1])),
    "points-2d-grid": Pick("vindex", ([[4], [28], [4]], [[0, 16, 3, 3]], 2)),
    "points-2d-empty": Pick("vindex", (np.zeros((2, 0), int), np.zeros((1, 0), int), 0)),
    "points-everywhere": Pick("vindex", tuple(i.reshape(-1) for i in np.indices(SHAPE))),
    "points-everywhere-shuffled": Pick(
        "vindex", np.unravel_index(np.random.default_rng(0).permutation(X * Y * Z), SHAPE)
    ),
    "mask": Pick("mask", some_mask(SHAPE, 0.3)),
    "mask-thin": Pick("mask", some_mask(SHAPE, 0.002)),
    "mask-none": Pick("mask", np.zeros(SHAPE, bool)),
    "mask-all": Pick("mask", np.ones(SHAPE, bool)),
    "mask-one": Pick("mask", mask_where(SHAPE, (28, 16, 12))),
    "mask-is-a-box": Pick("mask", mask_where(SHAPE, (slice(3, 22), slice(5, 12), slice(2, 9)))),
    "mask-is-rows": Pick("mask", mask_where(SHAPE, slice(6, 9))),
    "mask-is-strided": Pick(
        "mask", mask_where(SHAPE, (slice(1, None, 3), ALL, slice(None, None, 2)))
    ),
    "mask-is-nearly-a-box": Pick("mask", mask_where(SHAPE, (slice(3, 9), slice(5, 9)), (9, 5, 1))),
    "mask-fortran": Pick("mask", np.asfortranarray(some_mask(SHAPE, 0.3))),
    "blocks": Pick("blocks", (slice(1, 3), 0, ALL)),
    "blocks-last": Pick("blocks", (-1, -1, -1)),
    "blocks-first-axis": Pick("blocks", 1),
    "fancy-array": Pick("fancy", [4, 28, 0, -1]),
    "fancy-array-and-slices": Pick("fancy", (ALL, [4, -1, 0], slice(1, 9, 3))),
    "fancy-integer-slice-array": Pick("fancy", (3, slice(2, 9), [4, 1, 0])),
    "fancy-points": Pick("fancy", ([4, 28, 0], [1, -1, 1], [0, 3, 7])),
    "fancy-points-2d": Pick("fancy", (np.array([[4], [28]]), np.array([1, -1, 1]), 5)),
    "fancy-mask": Pick("fancy", (some_mask(X, 0.3), ALL, ALL)),
    "fancy-masks": Pick("fancy", (some_mask(X, 0.3), some_mask(Y, 0.3), some_mask(Z, 0.3))),
}
few_cases = pytest.mark.parametrize("case", [CASES[n] for n in FEW_CASES], ids=FEW_CASES)


def make(path: Path, case: Case, dtype: Any = "<i4", **kw: Any) -> zarr.Array[Any]:
    return zarr.create_array(str(path), shape=case.shape, dtype=dtype, **case.arguments, **kw)
