"""Measure reading through stores: from memory, over HTTP, and over HTTP that takes its time.

The HTTP server is a process of its own on this machine, so it takes some of its CPU time; with
``--latency`` it waits so many milliseconds before each answer. Every implementation reads each
array once and is compared with NumPy before it is timed, as in compare.py. After that comes, for
every array, how well fetching and decoding overlap: fetching alone is all keys with zarr's
``async.concurrency``, decoding alone the same bytes read from memory, and the ratio is the time of
both together over the longer of the two.

    python3 benchmarks/compare_stores.py
    python3 benchmarks/compare_stores.py --case zstd --place http --latency 20
    python3 benchmarks/compare_stores.py --markdown            # the table of docs/stores.md
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import zarr
from aiohttp import web
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.common import concurrent_map
from zarr.core.sync import sync
from zarr.storage import FsspecStore, MemoryStore

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.arguments import (
    add_directory,
    check_directory,
    choose,
    pattern,
    positive,
    scratch,
    stop,
)
from harness.cases import CASES, Case
from harness.implementations import (
    PIPELINE,
    Implementation,
    Target,
    TensorStore,
    TensorStoreTarget,
    ZarrPipeline,
    ZarrTarget,
    implementations,
)
from harness.machine import describe, environment
from harness.measuring import Cell, Contest, measure
from harness.operations import OPERATIONS
from harness.report import milliseconds, result

NAMES = ("lz4", "zstd", "small", "shard", "smallshard")
READS = ("read_all", "read_windows")
ABLE = ("default", "fused", "tensorstore", PIPELINE)  # those that read from other stores
PLACES = ("memory", "http")

# --------------------------------------------------------------------------------- stores


def in_memory(path: Path) -> MemoryStore:
    """Copy a directory into memory."""
    files = (file for file in path.rglob("*") if file.is_file())
    return MemoryStore(
        {
            file.relative_to(path).as_posix(): cpu.Buffer.from_bytes(file.read_bytes())
            for file in files
        }
    )


def over_http(base: str, path: Path) -> FsspecStore:
    """Reach a directory through the server."""
    return FsspecStore.from_url(f"{base}/{path.name}", read_only=True)


def serve(root: str, latency: float, ready: Connection) -> None:
    """Serve a directory; what this is called in is a process of its own."""

    @web.middleware
    async def wait(request: web.Request, handler: Any) -> web.StreamResponse:
        if latency:
            await asyncio.sleep(latency)
        response: web.StreamResponse = await handler(request)
        return response

    async def main() -> None:
        app = web.Application(middlewares=[wait])
        app.router.add_static("/", root)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ready.send(runner.addresses[0][1])
        await asyncio.Event().wait()

    asyncio.run(main())


@contextmanager
def server(root: Path, latency: float) -> Iterator[str]:
    """Run a server; yields the address of the directory."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(str(root), latency, there), daemon=True)
    process.start()
    try:
        if not here.poll(60):
            raise TimeoutError("the HTTP server does not start")
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


# ------------------------------------------------------------------------ implementations


@dataclasses.dataclass(frozen=True)
class InStore(ZarrPipeline):
    """zarr-python with one of its pipelines, on a store made of the path."""

    store: Callable[[Path], Any] = in_memory

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        store = self.store(path)
        return ZarrTarget(zarr.open_array(store, mode="r", zarr_format=zarr_format))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class TensorStoreOverHttp(TensorStore):
    base: str = ""

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        tensorstore = importlib.import_module("tensorstore")
        spec = {
            "driver": "zarr" if zarr_format == 2 else "zarr3",
            "kvstore": f"{self.base}/{path.name}/",
        }
        return TensorStoreTarget(tensorstore.open(spec, read=True).result())


def in_place(impl: Implementation, place: str, base: str) -> Implementation | None:
    """Let an implementation read from a place; None: it cannot."""
    if isinstance(impl, ZarrPipeline):
        store = in_memory if place == "memory" else partial(over_http, base)
        return InStore(impl.name, impl.title, impl.path, impl.options, store)
    if place == "http" and isinstance(impl, TensorStore):
        return TensorStoreOverHttp(impl.name, impl.title, impl.threads, base)
    return None


# -------------------------------------------------------------------------------- overlap


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Seconds of fetching alone, of decoding alone, and of both at the same time."""

    case: str
    fetching: float
    decoding: float
    together: float

    @property
    def ratio(self) -> float:
        return self.together / max(self.fetching, self.decoding)

    def row(self) -> list[str]:
        times = (self.fetching, self.decoding, self.together)
        return [self.case, *map(milliseconds, times), f"{self.ratio:.2f}"]


async def fetch_all(store: Any, keys: Sequence[str]) -> None:
    """Fetch values as zarr does, so many at a time."""
    prototype = default_buffer_prototype()

    async def get(key: str) -> None:
        await store.get(key, prototype)

    await concurrent_map([(key,) for key in keys], get, zarr.config.get("async.concurrency"))


def measure_overlap(
    case: Case, ours: Implementation, path: Path, base: str, rounds: int
) -> Overlap:
    store = over_http(base, path)
    keys = [file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()]
    chunks = [key for key in keys if not key.rpartition("/")[2].startswith(("zarr.json", ".z"))]
    whole = (slice(None),) * len(case.shape)
    targets = []
    for place in PLACES:
        impl = in_place(ours, place, base)
        assert impl is not None
        with impl.active():
            targets.append(impl.open(path, case.zarr_format))
    work: list[Callable[[], object]] = [
        lambda: sync(fetch_all(store, chunks)),
        lambda: targets[0].read(whole),
        lambda: targets[1].read(whole),
    ]
    seconds: list[list[float]] = [[] for _ in work]
    with ours.active():
        for _ in range(rounds + 1):  # the first does not count
            for times, function in zip(seconds, work, strict=True):
                start = time.perf_counter()
                function()
                times.append(time.perf_counter() - start)
    return Overlap(case.name, *(statistics.median(times[1:]) for times in seconds))


# ------------------------------------------------------------------------------------ main


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Return rows as text, or as a table of a Markdown file."""
    if markdown:
        lines = [titles, ["---"] + ["--:"] * (len(titles) - 1), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n".join("".join(f"{text:<19}" for text in line) for line in [titles, *rows])


def row_of(place: str, cells: Sequence[Cell], names: Sequence[str]) -> list[str]:
    times = {
        cell.implementation: "failed" if cell.error else milliseconds(cell.median) for cell in cells
    }
    found = result(cells)
    ratios = found["best_peer_over"].values()
    ratio = "".join(f"{value:.2f} ({found['best_peer']})" for value in ratios)
    return [
        f"{place}, {cells[0].case}, {cells[0].operation}",
        *(times.get(name, "") for name in names),
        ratio,
    ]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ",".join(ABLE)
    add("--case", type=pattern, default="", metavar="REGEX", help="only arrays that match")
    add("--place", choices=PLACES, help="only from memory, or only over HTTP")
    add("--impl", metavar="NAMES", help=f"only these of {names} (default: all that are installed)")
    add("--latency", type=float, default=0, metavar="MS", help="of every answer over HTTP")
    add("--rounds", type=positive, default=5, help="times each is timed (default: 5)")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add_directory(parser)
    add("--markdown", action="store_true", help="print tables for Markdown")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    cases = [case for case in CASES if case.name in NAMES and args.case.search(case.name)]
    if not cases:
        stop(f"nothing matches; there are: {', '.join(NAMES)}")
    if args.small:
        cases = [case.shrunk() for case in cases]
    check_directory(args.dir)
    operations = [one for one in OPERATIONS if one.name in READS]
    able = [impl for impl in implementations(strict=True) if impl.name in ABLE]
    impls = choose(able, args.impl)
    ours = next((impl for impl in impls if impl.name == PIPELINE), None)
    rng = random.Random(0)
    rows: list[list[Cell]] = []
    lines: list[list[str]] = []
    overlaps: list[Overlap] = []
    with scratch(args, "stores") as root, server(root, args.latency / 1000) as base:
        for case in cases:
            path = root / case.name
            data = case.create(path)
            for place in PLACES if args.place is None else [args.place]:
                here = [one for impl in impls if (one := in_place(impl, place, base))]
                for operation in operations:
                    contest = Contest(case, operation, here, path, data)
                    cells = measure(contest, args.rounds, rng)
                    rows.append(cells)
                    lines.append(row_of(place, cells, [impl.name for impl in impls]))
            if ours is not None and args.place != "memory":
                overlaps.append(measure_overlap(case, ours, path, base, args.rounds))
    print("\n".join(describe(environment(impls, None, args.dir))))
    print(f"HTTP: {args.latency:g} ms before each answer; medians in ms\n")
    titles = ["", *(impl.title for impl in impls), f"best peer / {PIPELINE}"]
    print(table(titles, lines, markdown=args.markdown))
    if overlaps:
        titles = [f"{PIPELINE} over HTTP", "fetching", "decoding", "together", "ratio"]
        print("\n" + table(titles, [one.row() for one in overlaps], markdown=args.markdown))
    failed = [cell for cells in rows for cell in cells if cell.error is not None]
    for cell in failed:
        where = f"{cell.case} {cell.operation} {cell.implementation}"
        print(f"failed: {where}: {cell.error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
