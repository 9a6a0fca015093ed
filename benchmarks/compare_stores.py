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
import tempfile
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

import compare
from compare import Case, Cell, Implementation, Target

CASES = ("blosc-lz4", "zstd", "zstd-small", "shard", "shard-small")
OPERATIONS = ("read", "read-windows")
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
class InStore(compare.ZarrPipeline):
    """zarr-python with one of its pipelines, on a store made of the path."""

    store: Callable[[Path], Any] = in_memory

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        store = self.store(path)
        return compare.ZarrTarget(zarr.open_array(store, mode="r", zarr_format=zarr_format))  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True)
class TensorStoreOverHttp(compare.TensorStore):
    base: str = ""

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        tensorstore = importlib.import_module("tensorstore")
        spec = {
            "driver": "zarr" if zarr_format == 2 else "zarr3",
            "kvstore": f"{self.base}/{path.name}/",
        }
        return compare.TensorStoreTarget(tensorstore.open(spec, read=True).result())


def in_place(impl: Implementation, place: str, base: str) -> Implementation | None:
    """Let an implementation read from a place; None: it cannot."""
    if isinstance(impl, compare.ZarrPipeline):
        store = in_memory if place == "memory" else partial(over_http, base)
        return InStore(impl.name, impl.title, impl.path, impl.options, store)
    if place == "http" and isinstance(impl, compare.TensorStore):
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
        return [self.case, *map(compare.milliseconds, times), f"{self.ratio:.2f}"]


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
        cell.implementation: "failed" if cell.error else compare.milliseconds(cell.median)
        for cell in cells
    }
    found = compare.ratio(cells)
    ratio = f"{found[0]:.2f} ({found[1]})" if found else ""
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
    names = ",".join(impl.name for impl in compare.implementations())
    add("--case", type=compare.pattern, default="", metavar="REGEX", help="only arrays that match")
    add("--place", choices=PLACES, help="only from memory, or only over HTTP")
    add("--impl", metavar="NAMES", help=f"only these of {names} (default: all that are installed)")
    add("--latency", type=float, default=0, metavar="MS", help="of every answer over HTTP")
    add("--rounds", type=compare.positive, default=5, help="times each is timed (default: 5)")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add("--dir", type=Path, help="where to put the data (default: the system's temporary files)")
    add("--markdown", action="store_true", help="print tables for Markdown")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    cases = [c for c in compare.CASES if c.name in CASES and args.case.search(c.name)]
    if not cases:
        compare.stop(f"nothing matches; there are: {', '.join(CASES)}")
    if args.small:
        cases = [case.shrunk() for case in cases]
    operations = [one for one in compare.OPERATIONS if one.name in OPERATIONS]
    impls = compare.choose(compare.implementations(strict=True), args.impl)
    ours = next((impl for impl in impls if impl.name == compare.OURS), None)
    rng = random.Random(0)
    rows: list[list[Cell]] = []
    lines: list[list[str]] = []
    overlaps: list[Overlap] = []
    with tempfile.TemporaryDirectory(prefix="zarrs-stores-", dir=args.dir) as directory:
        root = Path(directory)
        with server(root, args.latency / 1000) as base:
            for case in cases:
                path = root / case.name
                data = case.create(path)
                for place in PLACES if args.place is None else [args.place]:
                    here = [one for impl in impls if (one := in_place(impl, place, base))]
                    for operation in operations:
                        cells = compare.measure(case, operation, here, path, data, args.rounds, rng)
                        rows.append(cells)
                        lines.append(row_of(place, cells, [impl.name for impl in impls]))
                if ours is not None and args.place != "memory":
                    overlaps.append(measure_overlap(case, ours, path, base, args.rounds))
    print("\n".join(compare.describe(compare.environment(impls, None))))
    print(f"HTTP: {args.latency:g} ms before each answer; medians in ms\n")
    titles = ["", *(impl.title for impl in impls), f"best peer / {compare.OURS}"]
    print(table(titles, lines, markdown=args.markdown))
    if overlaps:
        titles = [f"{compare.OURS} over HTTP", "fetching", "decoding", "together", "ratio"]
        print("\n" + table(titles, [one.row() for one in overlaps], markdown=args.markdown))
    failed = [cell for cells in rows for cell in cells if cell.error is not None]
    for cell in failed:
        where = f"{cell.case} {cell.operation} {cell.implementation}"
        print(f"failed: {where}: {cell.error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
