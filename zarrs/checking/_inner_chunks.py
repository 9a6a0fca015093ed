"""Shards as they are stored: which inner chunks there are, and their sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.codecs import ShardingCodec, TransposeCodec
from zarr.core.buffer.cpu import buffer_prototype

from zarrs._run import run_coroutine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zarrs._grid import Coordinates

Part = Callable[[int, int], bytes]  # the bytes between two places of what is stored
Sizes = np.ndarray[Any, np.dtype[np.int64]]  # of encoded inner chunks; negative: not stored

NOT_STORED = 2**64 - 1  # offset and size of an inner chunk in the index


@dataclass(frozen=True)
class Level:
    """One level of shards.

    Attributes
    ----------
    codec : ShardingCodec
    order : tuple of int
        The array's axes in the order of the index.
    shape : tuple of int
        Of the inner chunks, along the array's axes.
    is_bare : bool
        Whether the shard is stored as it is, with no codec around it.
    """

    codec: ShardingCodec
    order: Coordinates
    shape: Coordinates
    is_bare: bool


def levels_of(codecs: Sequence[Any], ndim: int) -> tuple[list[Level], list[Any]]:
    """Return the levels of shards that can be told apart, and the codecs of what they hold."""
    order = tuple(range(ndim))
    levels: list[Level] = []
    rest = list(codecs)
    i = 0
    while i < len(rest) and type(rest[i]) in (TransposeCodec, ShardingCodec):
        codec = rest[i]
        i += 1
        if type(codec) is TransposeCodec:
            order = tuple(order[k] for k in codec.order)
        else:
            shape = dict(zip(order, codec.chunk_shape, strict=True))
            inner = tuple(shape[axis] for axis in range(ndim))
            levels.append(Level(codec, order, inner, is_bare=i == len(rest)))
            rest, i = list(codec.codecs), 0
    return levels, rest


def inner_sizes_of(part: Part, size: int, shape: Coordinates, levels: list[Level]) -> Sizes | None:
    """Return the bytes of the innermost chunks by their places along the array's axes.

    -1: it is not stored, 0: it is not known. None: the index cannot be read.
    """
    level, *inner = levels
    entries = _index(part, size, shape, level)
    if entries is None:
        return None
    offsets, lengths = entries[..., 0], entries[..., 1]
    is_absent = (offsets == NOT_STORED) & (lengths == NOT_STORED)
    if not inner:
        return np.where(is_absent, -1, np.minimum(lengths, size).astype(np.int64))
    ratio = tuple(n // m for n, m in zip(level.shape, inner[-1].shape, strict=True))
    sizes = np.where(is_absent, -1, 0)
    for axis, n in enumerate(ratio):
        sizes = sizes.repeat(n, axis)
    for place in map(tuple, np.argwhere(~is_absent).tolist()):
        start, length = int(offsets[place]), int(lengths[place])
        if inner[0].is_bare and start + length <= size:
            found = inner_sizes_of(partial(_from, part, start), length, level.shape, inner)
            if found is not None:
                sizes[tuple(slice(i * n, i * n + n) for i, n in zip(place, ratio, strict=True))] = (
                    found
                )
    return sizes


def _from(part: Part, first: int, start: int, stop: int) -> bytes:
    return part(first + start, first + stop)


def _index(part: Part, size: int, shape: Coordinates, level: Level) -> Any:
    # Offset and size of every inner chunk along the array's axes; None: that is damaged.
    codec = level.codec
    counts = tuple(shape[axis] // level.shape[axis] for axis in level.order)
    length = codec._shard_index_size(counts)
    is_first = getattr(codec.index_location, "value", codec.index_location) == "start"
    start = 0 if is_first else max(0, size - length)
    encoded = buffer_prototype.buffer.from_bytes(part(start, start + length))
    try:
        index = run_coroutine(codec._decode_shard_index(encoded, counts))
    except Exception:  # whatever its codecs raise: a reader will say what is wrong
        return None
    axes = *(level.order.index(axis) for axis in range(len(shape))), len(shape)
    return index.offsets_and_lengths.transpose(axes)
