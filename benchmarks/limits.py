"""Measure whole reads and writes beside the sum of what nobody can avoid on as many threads.

    python3 benchmarks/limits.py                             # every case that is written
    python3 benchmarks/limits.py --case zstd --op read --rounds 9

Parts, each measured alone, in worker processes that begin together (parts.py):

codec
    Decode or encode the stored chunks, inner chunks of shards each, checksums included. Blosc and
    Zstandard are the C libraries inside numcodecs (or a newer Zstandard in the wheel blosc2)
    without its wrappers, gzip and zlib are libdeflate where there is one, CRC-32C is
    google-crc32c, all else is numcodecs. Zstandard and libdeflate compress as zarrs asks them to.
    Memory is warm. Small Zstandard frames are decoded many in one call.
faults
    Touch every page of fresh memory as big as the result. (Results of ours are of fresh memory,
    too: before a read is timed, GNU's allocator gives back what is free.)
copy
    Copy every chunk that is not contiguous in the array between it and memory that is in the
    processor's cache. That items are transposed or their bytes swapped is not in it.
files
    Open, ask for the size, read and close; or make the directories, then open, write, close and
    rename. Bytes move between the page cache and memory that is in the processor's cache.
zarr
    zarr's API in front of a pipeline that does nothing. There is none with direct access.

A part takes the mean time of the workers, as if the work were always spread evenly. What runs at
the same time as something else in ours is so counted by its share of the threads. A ratio below 1
says that ours does the parts better together than these do one after the other.

Ours are ``zarrs.direct`` and zarr's API with the pipeline: ``read`` reads all, ``create`` writes a
new array, ``write`` one that is there. Rounds do everything once, in shuffled order. Arrays that
were written are emptied, and deleted at the end: ext4 is slow to create files soon after deletions.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.core.codec_pipeline import BatchedCodecPipeline

import zarrs

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.arguments import (
    add_directory,
    check_directory,
    pattern,
    positive,
    recorded,
    scratch,
    stop,
)
from harness.cases import CASES, Case
from harness.files import copy_metadata, empty
from harness.implementations import OURS, PIPELINE, implementations
from harness.machine import describe, environment, usable_cores
from harness.operations import same
from harness.report import save
from parts import DEFLATE, Workers, give_memory_back, sizes, zstd_library

OPERATIONS = {
    "read": ("codec", "faults", "copy", "files", "zarr"),
    "create": ("codec", "copy", "files", "zarr"),
    "write": ("codec", "copy", "files", "zarr"),
}
PARTS = OPERATIONS["read"]
WAYS = ("direct", "pipeline")


class Idle(BatchedCodecPipeline):
    """A pipeline that does nothing."""

    async def read(self, batch_info: Any, out: Any, drop_axes: Any = ()) -> Any:
        return tuple({"status": "present"} for _ in batch_info)

    async def write(self, batch_info: Any, value: Any, drop_axes: Any = ()) -> None:
        for _ in batch_info:
            pass


@dataclasses.dataclass(frozen=True)
class Line:
    """What was measured of one operation on one case in one way.

    Attributes
    ----------
    case, operation, way : str
    parts : dict of str to list of float
        Seconds of each part, by round.
    ours : list of float
        Seconds of ours, by round.
    """

    case: str
    operation: str
    way: str
    parts: dict[str, list[float]]
    ours: list[float]

    def figures(self, one: Callable[[list[float]], float] = statistics.median) -> dict[str, float]:
        """Return the parts, their sum, ours, and ours over the sum."""
        parts = {part: one(seconds) for part, seconds in self.parts.items()}
        total, ours = sum(parts.values()), one(self.ours)
        return {**parts, "sum": total, "ours": ours, "ratio": ours / total}

    def __str__(self) -> str:
        found = self.figures()
        columns = (*PARTS, "sum", "ours")
        times = "".join(f"{found[name] * 1e3 if name in found else 0:9.2f}" for name in columns)
        ratios = f"{found['ratio']:9.2f}{self.figures(min)['ratio']:9.2f}"
        return f"{self.case:15}{self.operation:8}{self.way:9}{times}{ratios}"


HEADER = f"{'medians in ms':32}" + "".join(
    f"{name:>9}" for name in (*PARTS, "sum", "ours", "ours/sum", "of best")
)


class Bench:
    """An array in its case, and everything that is done to it.

    Parameters
    ----------
    case : Case
    operation : str
    root : Path
        Where the arrays of the case are, and new ones are made.
    workers : Workers
    """

    def __init__(self, case: Case, operation: str, root: Path, workers: Workers) -> None:
        self.case, self.operation, self.root, self.workers = case, operation, root, workers
        self.path, self.other, values = root / "array", root / "other", root / "values.npy"
        known: dict[str, Any] = {one.name: one for one in implementations(len(workers.pools))}
        self.ours = known[PIPELINE]
        self.idle = dataclasses.replace(self.ours, path=f"{Idle.__module__}.{Idle.__qualname__}")
        able = known["fused"].missing() is None
        self.referee = known["fused" if able else "default"]
        self.data = case.data(case.shape)
        self.everything = (slice(None),) * self.data.ndim
        if not self.path.exists():
            root.mkdir()
            case.create(self.path)
            np.save(values, self.data)
            shutil.copytree(self.path, self.other)
            with self.ours.active():
                target = self.ours.open(self.other, case.zarr_format, writable=True)
                target.write(self.everything, np.ascontiguousarray(np.flip(self.data)))
        workers.prepare(self.path, values, operation == "read")

    def place(self) -> Path:
        """Return the array to read, or a new one to write."""
        if self.operation == "read":
            return self.path
        place = Path(tempfile.mkdtemp(dir=self.root))
        if self.operation == "write":
            shutil.copytree(self.other, place, dirs_exist_ok=True)
        else:
            copy_metadata(self.path, place)
        return place

    def give_up(self, place: Path) -> None:
        """Give the space of a written array back."""
        if place != self.path:
            empty(place)

    def files(self) -> float:
        place = self.place()
        taken = self.workers.seconds("directories", place) if self.operation == "create" else 0.0
        taken += self.workers.seconds(self.operation, place)
        if sizes(place) != sizes(self.path):
            raise ValueError("a part writes wrongly")
        self.give_up(place)
        return taken

    def call(self, way: str) -> float:
        """Time one of ours, or zarr with the pipeline that does nothing."""
        impl = self.idle if way == "zarr" else self.ours
        place = self.path if way == "zarr" else self.place()
        with impl.active():
            array = impl.open(place, self.case.zarr_format, writable=self.operation != "read").array
            array = zarrs.direct(array) if way == "direct" else array
            result = None
            if self.operation == "read":
                give_memory_back()
            begin = time.perf_counter()
            if self.operation == "read":
                result = array[...]
            else:
                array[...] = self.data
            taken = time.perf_counter() - begin
        if way != "zarr":
            if result is None:
                with self.referee.active():
                    result = self.referee.open(place, self.case.zarr_format).read(self.everything)
            if not same(result, self.data):
                raise ValueError(f"{way} does {self.operation} {self.case.name} wrongly")
        self.give_up(place)
        return taken

    def lines(self, rounds: int) -> list[Line]:
        """Do everything once to get warm, then in rounds."""
        works: dict[str, Callable[[], float]] = {
            part: partial(self.workers.seconds, part) for part in OPERATIONS[self.operation]
        }
        works |= {name: partial(self.call, name) for name in ("zarr", *WAYS)}
        works["files"] = self.files
        seconds: dict[str, list[float]] = {name: [] for name in works}
        for number in range(rounds + 1):
            for name in random.sample(list(works), len(works)):
                taken = works[name]()
                if number > 0:
                    seconds[name].append(taken)
        parts = {part: seconds[part] for part in OPERATIONS[self.operation]}
        alone = {part: values for part, values in parts.items() if part != "zarr"}
        return [
            Line(self.case.name, self.operation, way, of, seconds[way])
            for way, of in zip(WAYS, (alone, parts), strict=True)
        ]


# ----------------------------------------------------------------------------------- main


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--case", type=pattern, default="", metavar="REGEX", help="only cases that match")
    add("--op", type=pattern, default="", metavar="REGEX", help="of read, create, write")
    add("--rounds", type=positive, default=5, help="times that each is timed (default: 5)")
    add("--threads", type=positive, help="default: as many as there are usable cores")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add_directory(parser)
    add("--json", type=Path, metavar="FILE", help="also write everything measured to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    written = [case for case in CASES if "write_all" in case.operations]
    cases = [case for case in written if args.case.search(case.name)]
    operations = [name for name in OPERATIONS if args.op.search(name)]
    if not cases or not operations:
        stop("nothing matches")
    check_directory(args.dir)
    if args.small:
        cases = [case.shrunk() for case in cases]
    threads = args.threads or usable_cores()
    ours = [impl for impl in implementations(threads) if impl.name in OURS]
    env = environment(ours, threads, args.dir)
    env["parts"] = {"libdeflate": DEFLATE, "zstd": zstd_library()[0]}
    print("\n".join(describe(env)))
    print(f"libraries in the parts: zstd {zstd_library()[0]}, {DEFLATE or 'zlib'}\n\n{HEADER}")
    zarr.registry.register_pipeline(Idle)
    lines = []
    with scratch(args, "limits") as root:
        workers = Workers(threads)
        # Operation by operation: files that `write` replaces would make `create` slow.
        for operation, case in itertools.product(operations, cases):
            for line in Bench(case, operation, root / case.name, workers).lines(args.rounds):
                lines.append(line)
                print(line, flush=True)
        workers.close()
    if args.json:
        results = [
            dataclasses.asdict(line) | {"median": line.figures(), "best": line.figures(min)}
            for line in lines
        ]
        save(args.json, {"environment": env, "arguments": recorded(args), "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
