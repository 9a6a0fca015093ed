"""Measure batches of selections, a cache of decoded chunks, and how costs grow with the work.

    python3 benchmarks/batches.py                          # all parts
    python3 benchmarks/batches.py --part crops --rounds 9
    python3 benchmarks/batches.py --part chunks --part points --plot docs/images/growth.svg

Parts:

rows
    1,024 random rows a batch of a sharded array of (50000, 256) items. TensorStore begins all reads
    before it awaits one; zarr's Fused pipeline reads row by row.
crops
    256 random boxes of 64 by 64 by 8 items a batch, in some layouts of ``compare.py``.
windows
    Windows that overlap by nine tenths, one after the other, with ``cache_bytes`` and without.
chunks
    Whole reads of 10 to 100,000 chunks of 512 bytes, in files and in shards: the time of a chunk.
points
    Reads of 1 to 10,000,000 random points in one call: the time of a point.

Every result is compared with NumPy before anything is timed. Rounds time all implementations once,
in shuffled order; what is told is the median. Ratios of one run count, absolute times do not.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

import zarrs

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.arguments import add_directory, check_directory, positive, scratch, stop
from harness.cases import CASES
from harness.data import Array, waves
from harness.implementations import OURS, implementations
from harness.machine import environment
from harness.report import TITLES, save

FUSED, TENSORSTORE = TITLES["fused"], TITLES["tensorstore"]
MEASURED = ("fused", "tensorstore", *OURS)
READ_MANY, ONE_BY_ONE = "read_many", "one by one"
CACHED, UNCACHED = "with a cache", "without"
PIPELINE, DIRECT = TITLES["zarrs"], TITLES["direct"]
LAYOUTS = ("raw", "blosclz", "shard", "small", "smallshard")
COUNTS = (10, 100, 1000, 10_000, 100_000)
POINTS = (1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)
TOO_LONG = 10.0  # seconds: what takes longer is not asked for more

Work = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Line:
    """What was measured of one thing.

    Attributes
    ----------
    part, name : str
    count : int
        Chunks, points, or selections of a batch.
    seconds : dict of str to float
        The median, by implementation.
    """

    part: str
    name: str
    count: int
    seconds: dict[str, float]

    def __str__(self) -> str:
        told = "".join(f"{name} {value * 1e3:10.2f} ms   " for name, value in self.seconds.items())
        return f"{self.part:8}{self.name:15}{self.count:>11,}   {told}"


def timed(works: dict[str, Work], rounds: int) -> dict[str, float]:
    """Time some works in turn; return the median of each."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name in random.sample(list(works), len(works)):
            begin = time.perf_counter()
            works[name]()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def check(works: dict[str, Work], expected: Any, what: str) -> None:
    """End the script if an implementation reads something else than NumPy."""
    for name, work in works.items():
        if not np.array_equal(np.asarray(work()), expected):
            raise SystemExit(f"{name} reads {what} wrongly")


# --------------------------------------------------------------------------------- arrays


class Opened:
    """An array, opened by everybody."""

    def __init__(self, path: Path, zarr_format: int = 3) -> None:
        known = {one.name: one for one in implementations()}
        self.direct: zarrs.Array = zarrs.open_array(path, mode="r")
        self.by_name: dict[str, Any] = {}
        for title, name in ((FUSED, "fused"), (PIPELINE, "zarrs")):
            if known[name].missing() is None:
                with known[name].active():
                    self.by_name[title] = zarr.open_array(path, mode="r")
        self.tensorstore: Any = None
        if known["tensorstore"].missing() is None:
            target: Any = known["tensorstore"].open(path, zarr_format)
            self.tensorstore = target.array

    def batches(self, selections: Sequence[Any]) -> dict[str, Work]:
        """Return the ways to read a batch."""
        works: dict[str, Work] = {
            READ_MANY: lambda: self.direct.read_many(selections),
            ONE_BY_ONE: lambda: [self.direct[one] for one in selections],
        }
        if self.tensorstore is not None:

            def begin_all() -> list[Any]:
                reads = [self.tensorstore[one].read() for one in selections]
                return [read.result() for read in reads]

            works[TENSORSTORE] = begin_all
        if FUSED in self.by_name:
            works[FUSED] = lambda: [self.by_name[FUSED][one] for one in selections]
        return works


def crops(shape: Sequence[int], size: Sequence[int], count: int) -> list[tuple[slice, ...]]:
    """Return boxes of one size, anywhere."""
    rng = np.random.default_rng(3)
    corners = zip(
        *(rng.integers(0, n - m + 1, count) for n, m in zip(shape, size, strict=True)), strict=True
    )
    return [
        tuple(slice(int(c), int(c) + m) for c, m in zip(corner, size, strict=True))
        for corner in corners
    ]


def rows_of_shards(path: Path, small: bool) -> Array:
    """Write the sharded array of rows."""
    data = waves((50_000 // (25 if small else 1), 256))
    zarrs.create_array(
        path, data=data, chunks=(1, 256), shards=(len(data) // 10, 256), compressors=ZstdCodec()
    )
    return data


# ---------------------------------------------------------------------------------- parts


def rows(root: Path, rounds: int, small: bool) -> Iterator[Line]:
    """Measure batches of rows."""
    data = rows_of_shards(root / "rows", small)
    count = 64 if small else 1024
    wanted = [int(i) for i in np.random.default_rng(2).integers(0, len(data), count)]
    works = Opened(root / "rows").batches(wanted)
    check(works, data[wanted], "rows")
    yield Line("rows", "shards of rows", count, timed(works, rounds))


def crops_of_layouts(root: Path, rounds: int, small: bool) -> Iterator[Line]:
    """Measure batches of crops."""
    for case in CASES:
        if case.name not in LAYOUTS:
            continue
        case = case.shrunk() if small else case
        path = root / case.name
        data = case.create(path)
        size = (16, 16, 8) if small else (64, 64, 8)
        wanted = crops(data.shape, size, 16 if small else 256)
        works = Opened(path).batches(wanted)
        check(works, np.stack([data[one] for one in wanted]), case.name)
        yield Line("crops", case.name, len(wanted), timed(works, rounds))


def read_all(path: Path, wanted: Sequence[Any], cache_bytes: int) -> list[Any]:
    """Open an array and read some selections, one after the other."""
    array = zarrs.open_array(path, mode="r", cache_bytes=cache_bytes)
    return [array[one] for one in wanted]


def windows(root: Path, rounds: int, small: bool) -> Iterator[Line]:
    """Measure windows that overlap, with a cache that begins empty and without one."""
    for case in CASES:
        if case.name not in LAYOUTS:
            continue
        case = case.shrunk() if small else case
        path = root / case.name
        data = case.create(path) if not path.exists() else case.data(case.shape)
        edge = min(data.shape) // 2
        step = max(1, edge // 10)
        wanted = [
            np.s_[start : start + edge, :edge, :edge]
            for start in range(0, data.shape[0] - edge, step)
        ]
        works: dict[str, Work] = {
            CACHED: partial(read_all, path, wanted, 2 * data.nbytes),
            UNCACHED: partial(read_all, path, wanted, 0),
        }
        check(works, np.stack([data[one] for one in wanted]), case.name)
        yield Line("windows", case.name, len(wanted), timed(works, rounds))


def growing(
    part: str,
    name: str,
    counts: Sequence[int],
    works_of: Callable[[int], dict[str, Work]],
    expected: Callable[[int], Any],
    rounds: int,
) -> Iterator[Line]:
    """Measure ever more of the same; who takes too long is asked no more."""
    tired: set[str] = set()
    for count in counts:
        works = {k: work for k, work in works_of(count).items() if k not in tired}
        check(works, expected(count), f"{count} {part}")
        line = Line(part, name, count, timed(works, rounds if count > 100 else 5 * rounds))
        tired |= {k for k, seconds in line.seconds.items() if 10 * seconds > TOO_LONG}
        yield line


def finished(read: Any) -> Any:
    """Wait, if that is what has to be done."""
    return read.read().result() if hasattr(read, "read") else read


def readers(opened: Opened, read: Callable[[Any], Any]) -> dict[str, Work]:
    """Return how everybody does one read."""
    works: dict[str, Work] = {DIRECT: lambda: read(opened.direct)}
    for name, array in opened.by_name.items():
        works[name] = partial(read, array)
    if opened.tensorstore is not None:
        works[TENSORSTORE] = lambda: finished(read(opened.tensorstore))
    return works


def chunks(root: Path, rounds: int, small: bool) -> Iterator[Line]:
    """Measure what a chunk costs, from few to many."""
    counts = COUNTS[:3] if small else COUNTS
    data = np.arange(counts[-1] * 256).astype("<u2").reshape(-1, 256)
    layouts: dict[str, dict[str, Any]] = {
        "files": {"chunks": (1, 256)},
        "shards": {"chunks": (1, 256), "shards": (min(10_000, counts[-1]), 256)},
    }
    for name, layout in layouts.items():
        path = root / f"chunks-{name}"
        zarrs.create_array(path, data=data, compressors=ZstdCodec(), **layout)
        opened = Opened(path)

        def works_of(n: int, opened: Opened = opened) -> dict[str, Work]:
            return readers(opened, lambda array: array[:n])

        yield from growing("chunks", name, counts, works_of, lambda n: data[:n], rounds)


def points(root: Path, rounds: int, small: bool) -> Iterator[Line]:
    """Measure what a point costs, from few to many."""
    counts = POINTS[:4] if small else POINTS
    data = waves((512, 512) if small else (4096, 4096))
    zarrs.create_array(root / "points", data=data, chunks=(256, 256), compressors=ZstdCodec())
    opened = Opened(root / "points")
    rng = np.random.default_rng(4)
    where = tuple(rng.integers(0, n, counts[-1]) for n in data.shape)

    def of(n: int) -> tuple[Any, ...]:
        return tuple(one[:n] for one in where)

    def works_of(n: int) -> dict[str, Work]:
        return readers(opened, lambda array: array.vindex[of(n)])

    yield from growing("points", "zstd", counts, works_of, lambda n: data[of(n)], rounds)


PARTS: dict[str, Callable[[Path, int, bool], Iterator[Line]]] = {
    "rows": rows,
    "crops": crops_of_layouts,
    "windows": windows,
    "chunks": chunks,
    "points": points,
}

# ----------------------------------------------------------------------------------- main


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--small", action="store_true", help="little data, to see that it runs")
    add_directory(parser)
    parser.add_argument("--json", type=Path, help="also write the figures here, in seconds")
    parser.add_argument("--plot", type=Path, help="chart the parts chunks and points here")
    asked = parser.parse_args()
    parts = asked.part or list(PARTS)
    if asked.plot and not {"chunks", "points"} & set(parts):
        stop("--plot charts the parts chunks and points")
    if asked.plot and importlib.util.find_spec("matplotlib") is None:
        stop("to draw: python3 -m pip install '.[examples]'")
    check_directory(asked.dir)
    lines: list[Line] = []
    with scratch(asked, "batches") as directory:
        for part in parts:
            for line in PARTS[part](directory, asked.rounds, asked.small):
                lines.append(line)
                print(line, flush=True)
    if asked.json:
        known = [impl for impl in implementations() if impl.name in MEASURED]
        env = environment([impl for impl in known if impl.missing() is None], None, asked.dir)
        results = [dataclasses.asdict(line) for line in lines]
        save(asked.json, {"environment": env, "results": results})
    if asked.plot:
        from harness import charts

        charts.draw(
            partial(charts.growth, [dataclasses.asdict(line) for line in lines]), asked.plot
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
