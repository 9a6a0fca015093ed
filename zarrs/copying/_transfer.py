"""One region is copied: decoded and encoded, or chunk by chunk as it is stored."""

from __future__ import annotations

import asyncio
import copy
import math
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.core.buffer.cpu import buffer_prototype
from zarr.storage import LocalStore

from zarrs._access import chunks_of, largest
from zarrs._array import Array, with_pipeline
from zarrs._config import read_concurrency
from zarrs._grid import place_of
from zarrs._run import run_coroutine
from zarrs.copying._regions import axes_of

if TYPE_CHECKING:
    from zarr.core.array import AsyncArray

    from zarrs._grid import Box
    from zarrs.pipeline import ZarrsCodecPipeline


@dataclass
class Pair:
    """An array and its copy; it can be sent to other processes.

    Attributes
    ----------
    name : str
    source, target : AsyncArray
    is_stored_alike : bool
        Whether chunks are copied as they are stored.
    itemsize : int
        Bytes of an item in memory.
    most_bytes : int
        What chunks that are copied as they are may take, all those under way together.
    """

    name: str
    source: AsyncArray[Any]
    target: AsyncArray[Any]
    is_stored_alike: bool
    itemsize: int
    most_bytes: int

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("reader", "writer")}

    @cached_property
    def reader(self) -> Array:
        """The source, as regions are read from it."""
        return prepared(self.source)

    @cached_property
    def writer(self) -> Array:
        """The target, as regions are written to it."""
        return prepared(self.target)


def prepared(array: AsyncArray[Any]) -> Array:
    """Return an array with direct access, and the options that a copy needs.

    Chunks of nothing but the fill value are not stored, missing ones are read as that, and nobody
    else writes.
    """
    ours: Any = copy.copy(with_pipeline(array))
    pipeline: ZarrsCodecPipeline = ours.codec_pipeline
    options = {"store_empty_chunks": False, "strict": False, "lock_files": False}
    config = replace(ours.config, write_empty_chunks=False)
    if hasattr(config, "read_missing_chunks"):  # zarr 3.4
        config = replace(config, read_missing_chunks=True)
    object.__setattr__(ours, "codec_pipeline", pipeline.with_options(**options))
    object.__setattr__(ours, "config", config)
    return Array(ours)


def copy_region(pair: Pair, box: Box, chunks: Sequence[int]) -> None:
    """Copy a region.

    Parameters
    ----------
    pair : Pair
    box : tuple of slice
    chunks : sequence of int
        The numbers of the chunks in it that may be stored, if they are copied as they are.
    """
    if pair.is_stored_alike:
        _copy_chunks(pair, chunks)
    else:
        pair.writer[box] = pair.reader[box]


def _copy_chunks(pair: Pair, chunks: Sequence[int]) -> None:
    grid = tuple(
        axis.n_chunks for axis in axes_of(chunks_of(pair.source.metadata), pair.source.shape)
    )
    names = [_names(pair, place_of(number, grid)) for number in chunks]
    source, target = pair.source.store_path, pair.target.store_path
    if type(source.store) is type(target.store) is LocalStore:
        for one, other in names:
            _copy_file(
                source.store.root / source.path / one, target.store.root / target.path / other
            )
    else:
        run_coroutine(_copy_keys(pair, names))


def _names(pair: Pair, place: tuple[int, ...]) -> tuple[str, str]:
    return (
        pair.source.metadata.encode_chunk_key(place),
        pair.target.metadata.encode_chunk_key(place),
    )


def _copy_file(source: Path, target: Path) -> None:
    # In one step, as all writers of chunks here; the name is what they give unfinished files.
    unfinished = target.with_name(f"{target.name}.{secrets.token_hex(8)}.partial")
    try:
        try:
            shutil.copyfile(source, unfinished)
        except FileNotFoundError:
            if not source.exists():
                return
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, unfinished)
        os.replace(unfinished, target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


async def _copy_keys(pair: Pair, names: Sequence[tuple[str, str]]) -> None:
    sizes = chunks_of(pair.source.metadata)
    n_items = math.prod(largest(sizes))
    at_a_time = max(1, min(read_concurrency(), pair.most_bytes // max(1, n_items * pair.itemsize)))
    turns = asyncio.Semaphore(at_a_time)

    async def copy_key(one: str, other: str) -> None:
        async with turns:
            value = await (pair.source.store_path / one).get(buffer_prototype)
            if value is not None:
                await (pair.target.store_path / other).set(value)

    async with asyncio.TaskGroup() as tasks:
        for one, other in names:
            tasks.create_task(copy_key(one, other))
