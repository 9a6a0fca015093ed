"""Where a layout is slow, and what would be faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarrs.cli._output import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarrs._explain import Explanation
    from zarrs.cli._layout import Layout

KIB, MIB = 2**10, 2**20

# The table in docs/command-line.md shows what the first four of these were measured with: one array
# in chunks of many sizes. What is at a limit is still fine.
SMALL_FILE = 64 * KIB  # below, opening a file takes longer than what is in it
SMALL_INNER_CHUNK = 4 * KIB  # below, the work for each inner chunk outweighs its items
LARGE_CHUNK = 16 * MIB  # above, a single item takes tens of milliseconds
LARGE_INDEX = MIB  # of a shard, 16 bytes an inner chunk; it is read before any of these
# A writer holds a shard in memory, and a part of it that is written stores all of it anew.
LARGE_SHARD = 512 * MIB
# A listing of an object store takes a request for each 1000, and each copy or removal a request.
MANY_FILES = 100_000
FEW_FILES = 100  # so few are no burden, however small they are
INDEX_ENTRY = 16
CHECKSUM = 4

# What zstd does better; measured, as docs/command-line.md says.
FASTER, MUCH_FASTER = (
    "zstd writes about twice as fast and reads as fast or faster",
    "zstd reads more than ten times as fast, though it may compress less",
)
SLOW_COMPRESSORS = {"gzip": FASTER, "zlib": FASTER, "bz2": MUCH_FASTER, "lzma": MUCH_FASTER}


def advice(layout: Layout, explanation: Explanation) -> Iterator[str]:
    """Give advice on an array, one sentence each; nothing if there is nothing to say."""
    yield from _on_files(layout)
    yield from _on_chunks(layout)
    if layout.shard:
        yield from _on_shards(layout)
    yield from _on_codecs(layout, explanation)


def _on_files(layout: Layout) -> Iterator[str]:
    size, shards = layout.file_bytes, "shards"
    if layout.zarr_format == 2:
        shards = "shards, which need format 3"
    if size is not None and size < SMALL_FILE and layout.files > FEW_FILES:
        yield (
            f"{layout.files:,} files of {size_text(size)} each, before compression: opening them "
            f"takes longer than reading them; use larger chunks, or {shards}"
        )
    elif layout.files > MANY_FILES:
        yield (
            f"{layout.files:,} files are slow to list, to copy and to remove; "
            f"use larger {'shards' if layout.shard else f'chunks, or {shards}'}"
        )


def _on_chunks(layout: Layout) -> Iterator[str]:
    size, whole = layout.chunk_bytes, layout.nbytes
    if size is None or not whole:
        return
    if size > LARGE_CHUNK:
        yield (
            f"chunks of {size_text(size)}: reading a single item may decode all of that; "
            f"use chunks of {size_text(MIB)} to {size_text(LARGE_CHUNK)}"
        )
    if layout.chunks * size > 2 * whole and layout.chunks * size > SMALL_FILE:
        percent = 100 - 100 * whole / (layout.chunks * size)
        yield (
            f"{percent:.0f}% of what its chunks hold lies beyond the edges of the array; "
            "use chunks that are not longer than the array, or that divide it"
        )


def _on_shards(layout: Layout) -> Iterator[str]:
    n, size = layout.chunks_in_shard, layout.chunk_bytes
    index = n * INDEX_ENTRY + CHECKSUM
    if n == 1:
        yield (
            "shards of one inner chunk: each has an index to be read and no use for it; "
            "use larger shards, or none"
        )
    if index > LARGE_INDEX:
        yield (
            f"{n:,} inner chunks in a shard: {size_text(index)} of index are read before any of "
            "them; use smaller shards, or larger inner chunks"
        )
    if size is not None and size < SMALL_INNER_CHUNK and n > 1:
        yield (
            f"inner chunks of {size_text(size)}: the work for each outweighs its items; "
            f"use inner chunks of at least {size_text(SMALL_INNER_CHUNK)}"
        )
    if layout.shard_bytes is not None and layout.shard_bytes > LARGE_SHARD:
        yield (
            f"shards of {size_text(layout.shard_bytes)}: writing a part of one stores all of it "
            f"anew; use shards of at most {size_text(LARGE_SHARD)}"
        )


def _on_codecs(layout: Layout, explanation: Explanation) -> Iterator[str]:
    for stage in explanation.stages:
        if not stage.native:
            where = "runs in Python" if stage.python else "puts all of the array in zarr's pipeline"
            reason = f" ({stage.reason})" if stage.reason else ""
            yield f"codec {stage.name} {where}{reason}; docs/codecs.md lists those that are native"
    for name, gain in SLOW_COMPRESSORS.items():
        if name in layout.codecs:
            yield f"compressed with {name}: {gain}"
