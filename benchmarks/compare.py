"""Measure Zarr implementations against each other on one machine, in one process and one run.

Each case is an array with one codec chain, each operation a way to read or write it. An operation
is first run once by every implementation and its result compared with NumPy, byte by byte; what
was written is read back by another implementation. Only then is it timed, in rounds: a round
times every implementation once, in shuffled order, so that a drift of the machine's speed hits
all of them alike. Files are in the page cache, and nobody waits for the disk (TensorStore calls
fsync after each chunk unless told not to; here it is told not to, since no other does).

    python3 benchmarks/compare.py                      # everything
    python3 benchmarks/compare.py --case zstd --op read
    python3 benchmarks/compare.py --markdown           # the table of README.md
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import random
import re
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, TextIO

import numpy as np
import numpy.typing as npt
import zarr
import zarr.core.codec_pipeline
from numcodecs import Delta, Shuffle
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Selection = Any  # what goes between the brackets of an array

OURS = "zarrs"
UNITS = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}

# ------------------------------------------------------------------------- implementations


class Target(Protocol):
    """An open array of one implementation."""

    def read(self, selection: Selection) -> Any: ...
    def write(self, selection: Selection, value: Array) -> None: ...


class Implementation(Protocol):
    """Something that can read and write Zarr arrays."""

    @property
    def name(self) -> str:
        """What ``--impl`` calls it."""

    @property
    def title(self) -> str:
        """What tables call it."""

    def missing(self) -> str | None:
        """Why it cannot be used here, or None if it can."""

    def active(self) -> contextlib.AbstractContextManager[object]:
        """Return the context that every use of it has to be in."""

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        """Open the array at `path`."""


class ZarrTarget:
    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array = array

    def read(self, selection: Selection) -> Any:
        return self.array[selection]

    def write(self, selection: Selection, value: Array) -> None:
        self.array[selection] = value


@dataclasses.dataclass(frozen=True)
class ZarrPipeline:
    """zarr-python with one of its codec pipelines."""

    name: str
    title: str
    path: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def missing(self) -> str | None:
        module, _, attribute = self.path.rpartition(".")
        try:
            found = hasattr(importlib.import_module(module), attribute)
        except ImportError as error:
            return str(error)
        return None if found else f"zarr {zarr.__version__} has no {self.path}"

    def active(self) -> contextlib.AbstractContextManager[object]:
        options = {"codec_pipeline.path": self.path, **self.options}
        context: contextlib.AbstractContextManager[object] = zarr.config.set(options)
        return context

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        mode = "r+" if writable else "r"
        return ZarrTarget(zarr.open_array(path, mode=mode, zarr_format=zarr_format))  # type: ignore[arg-type]


class TensorStoreTarget:
    def __init__(self, array: Any) -> None:
        self.array = array

    def read(self, selection: Selection) -> Any:
        return self.array[selection].read().result()

    def write(self, selection: Selection, value: Array) -> None:
        self.array[selection].write(value).result()


@dataclasses.dataclass(frozen=True)
class TensorStore:
    name: str
    title: str
    threads: int | None = None

    def missing(self) -> str | None:
        return None if importlib.util.find_spec("tensorstore") else "tensorstore is not installed"

    def active(self) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext()

    def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Target:
        tensorstore = importlib.import_module("tensorstore")
        context: dict[str, Any] = {"file_io_sync": False}
        if self.threads is not None:
            context["data_copy_concurrency"] = {"limit": self.threads}
            context["file_io_concurrency"] = {"limit": self.threads}
        spec = {
            "driver": "zarr" if zarr_format == 2 else "zarr3",
            "kvstore": {"driver": "file", "path": f"{path}/"},
            "context": context,
        }
        return TensorStoreTarget(tensorstore.open(spec, read=True, write=writable).result())


def implementations(threads: int | None = None, *, strict: bool = False) -> list[Implementation]:
    """All that are known, installed or not; zarr's default is the first."""
    options: dict[str, Any] = {"threading.max_workers": threads}
    module = "zarr.core.codec_pipeline"
    return [
        ZarrPipeline("default", "zarr default", f"{module}.BatchedCodecPipeline", options),
        ZarrPipeline(
            "fused",
            "zarr Fused",
            f"{module}.FusedCodecPipeline",
            options | {"codec_pipeline.max_workers": threads},
        ),
        TensorStore("tensorstore", "TensorStore", threads),
        ZarrPipeline(
            OURS, OURS, "zarrs.ZarrsCodecPipeline", options | {"codec_pipeline.strict": strict}
        ),
    ]


def stop(message: str) -> NoReturn:
    """End the script because it was called wrongly."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def choose(known: Sequence[Implementation], names: str | None) -> list[Implementation]:
    """Take the implementations named (all, if None); one that is named must be there."""
    by_name = {impl.name: impl for impl in known}
    wanted = names.split(",") if names else list(by_name)
    chosen = []
    for name in wanted:
        if name not in by_name:
            stop(f"no implementation {name!r}; there are: {', '.join(by_name)}")
        reason = by_name[name].missing()
        if reason is None:
            chosen.append(by_name[name])
        elif names:
            stop(f"{name} cannot be measured: {reason}")
        else:
            print(f"not measured: {name} ({reason})", file=sys.stderr)
    return chosen


# ----------------------------------------------------------------------------------- cases


def smooth_field(shape: Shape) -> Array:
    """Waves of another length along each axis: float32."""
    axes = np.meshgrid(
        *[np.linspace(0, 7 + 3 * axis, n, dtype="f4") for axis, n in enumerate(shape)],
        indexing="ij",
        sparse=True,
    )
    return np.asarray(sum(np.sin(values * (axis + 1)) for axis, values in enumerate(axes)))


@functools.cache
def waves(shape: Shape) -> Array:
    """A smooth field with a little noise, rounded to three decimals: float32."""
    noise = np.random.default_rng(0).standard_normal(shape, dtype="f4")
    rounded: Array = np.round(smooth_field(shape) + np.float32(1e-3) * noise, 3)
    return rounded


@functools.cache
def photons(shape: Shape) -> Array:
    """Photon counts around such a field, as a camera behind a microscope sees them: uint16."""
    rate = 20 + 15 * smooth_field(shape)
    counts: Array = np.random.default_rng(1).poisson(np.clip(rate, 0.1, None)).astype("u2")
    return counts


@dataclasses.dataclass(frozen=True)
class Case:
    """An array and how it is stored."""

    name: str
    title: str
    data: Callable[[Shape], Array]
    shape: Shape
    chunks: Shape
    options: Callable[[], dict[str, Any]]  # more arguments of zarr.create_array
    shards: Shape | None = None
    lacking: tuple[str, ...] = ()  # implementations without its codecs

    def shrunk(self) -> Case:
        """Make it small enough for a test."""
        return dataclasses.replace(
            self,
            shape=tuple(n // 8 for n in self.shape),
            chunks=tuple(max(1, n // 4) for n in self.chunks),
            shards=self.shards and tuple(n // 4 for n in self.shards),
        )

    @property
    def zarr_format(self) -> int:
        return int(self.options().get("zarr_format", 3))

    def describe(self) -> str:
        data = self.data(self.shape)
        parts = [shape for shape in (self.shards, self.chunks) if shape]
        sizes = [size(data.nbytes), *(size(math.prod(part) * data.itemsize) for part in parts)]
        return f"{self.title}; {' in '.join(sizes)}"

    def create(self, path: Path) -> Array:
        """Write the array to `path`, with zarr's default pipeline."""
        data = self.data(self.shape)
        with implementations()[0].active():
            array = zarr.create_array(
                path,
                shape=data.shape,
                dtype=data.dtype,
                chunks=self.chunks,
                shards=self.shards,
                **self.options(),
            )
            array[...] = data
        return data


CASES = [
    Case(
        "raw",
        "no compression",
        photons,
        (256, 512, 512),
        (128, 128, 128),
        lambda: {"compressors": None},
    ),
    Case(
        "blosc-lz4",
        "Blosc: LZ4, shuffle",
        waves,
        (128, 512, 512),
        (64, 128, 128),
        lambda: {"compressors": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4)},
    ),
    Case(
        "blosc-blosclz",
        "Blosc: BloscLZ, bitshuffle",
        photons,
        (256, 512, 512),
        (128, 128, 128),
        lambda: {
            "compressors": BloscCodec(cname="blosclz", clevel=9, shuffle="bitshuffle", typesize=2)
        },
    ),
    Case(
        "zstd",
        "Zstandard",
        waves,
        (128, 512, 512),
        (64, 128, 128),
        lambda: {"compressors": ZstdCodec(level=3)},
    ),
    Case(
        "gzip",
        "gzip",
        photons,
        (128, 256, 512),
        (64, 64, 64),
        lambda: {"compressors": GzipCodec(level=5)},
    ),
    Case(
        "zstd-small",
        "Zstandard, small chunks",
        waves,
        (256, 256, 128),
        (16, 16, 16),
        lambda: {"compressors": ZstdCodec(level=3)},
    ),
    Case(
        "big-endian",
        "big-endian, transposed, CRC-32C",
        waves,
        (128, 256, 512),
        (64, 128, 128),
        lambda: {
            "filters": TransposeCodec(order=(2, 0, 1)),
            "serializer": BytesCodec(endian="big"),
            "compressors": Crc32cCodec(),
        },
    ),
    Case(
        "shard",
        "shards; Blosc: BloscLZ, bitshuffle",
        photons,
        (256, 512, 512),
        (32, 32, 32),
        lambda: {
            "compressors": BloscCodec(cname="blosclz", clevel=9, shuffle="bitshuffle", typesize=2)
        },
        shards=(256, 256, 256),
    ),
    Case(
        "shard-small",
        "shards of small chunks; Zstandard, CRC-32C",
        waves,
        (256, 256, 128),
        (16, 16, 16),
        lambda: {"compressors": [ZstdCodec(level=3), Crc32cCodec()]},
        shards=(128, 128, 128),
    ),
    Case(
        "shard-rows",
        "shards of rows; Zstandard",
        waves,
        (10000, 256),
        (1, 256),
        lambda: {"compressors": ZstdCodec(level=3)},
        shards=(2500, 256),
    ),
    Case(
        "v2-blosc",
        "Zarr v2, Blosc: LZ4, shuffle",
        photons,
        (128, 512, 512),
        (64, 128, 128),
        lambda: {
            "zarr_format": 2,
            "compressors": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
        },
    ),
    Case(
        "v2-zlib",
        "Zarr v2, zlib",
        photons,
        (128, 256, 512),
        (64, 64, 64),
        lambda: {"zarr_format": 2, "compressors": {"id": "zlib", "level": 5}},
    ),
    Case(
        "v2-bz2",
        "Zarr v2, bzip2",
        photons,
        (128, 256, 256),
        (64, 64, 64),
        lambda: {"zarr_format": 2, "compressors": {"id": "bz2", "level": 5}},
    ),
    Case(
        "v2-lz4",
        "Zarr v2, LZ4",
        photons,
        (128, 512, 512),
        (64, 128, 128),
        lambda: {"zarr_format": 2, "compressors": {"id": "lz4", "acceleration": 1}},
        lacking=("tensorstore",),
    ),
    Case(
        "v2-filters",
        "Zarr v2, delta, shuffle, zlib",
        photons,
        (128, 256, 512),
        (64, 64, 64),
        lambda: {
            "zarr_format": 2,
            "filters": [Delta(dtype="<u2"), Shuffle(elementsize=2)],
            "compressors": {"id": "zlib", "level": 5},
        },
        lacking=("tensorstore",),
    ),
]


# ------------------------------------------------------------------------------ operations


@dataclasses.dataclass(frozen=True)
class Operation:
    """One or more selections, one after the other, that are read or written."""

    name: str
    title: str
    writes: bool
    selections: Callable[[Shape, np.random.Generator], list[Selection]]


def _whole(shape: Shape, rng: np.random.Generator) -> list[Selection]:
    return [(slice(None),) * len(shape)]


def _window(shape: Shape, rng: np.random.Generator) -> Selection:
    """Return a box with a quarter of each extent, anywhere."""
    starts = [int(rng.integers(0, n - n // 4)) for n in shape]
    return tuple(
        slice(start, start + max(1, n // 4)) for start, n in zip(starts, shape, strict=True)
    )


def _windows(shape: Shape, rng: np.random.Generator) -> list[Selection]:
    return [_window(shape, rng) for _ in range(8)]


def _one_window(shape: Shape, rng: np.random.Generator) -> list[Selection]:
    return [_window(shape, rng)]


def _points(shape: Shape, rng: np.random.Generator) -> list[Selection]:
    return [tuple(int(rng.integers(0, n)) for n in shape) for _ in range(50)]


OPERATIONS = [
    Operation("read", "read all", False, _whole),
    Operation("read-windows", "read 8 windows", False, _windows),
    Operation("read-points", "read 50 points", False, _points),
    Operation("write", "write all", True, _whole),
    Operation("write-window", "write 1 window", True, _one_window),
]


def same(got: Any, expected: Array) -> bool:
    """Tell whether shape, type and every byte agree, so that NaN and -0.0 count too."""
    found = np.asarray(got)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    one, other = (np.ascontiguousarray(array).reshape(-1) for array in (found, expected))
    return np.array_equal(one.view("u1"), other.view("u1"))


@dataclasses.dataclass(frozen=True)
class Reads:
    """What is timed when an array is read."""

    data: Array
    selections: list[Selection]

    def run(self, target: Target) -> Any:
        return [target.read(selection) for selection in self.selections]

    def is_right(self, results: Any, readback: Callable[[], Any]) -> bool:
        pairs = zip(results, self.selections, strict=True)
        return all(same(result, np.asarray(self.data[selection])) for result, selection in pairs)


class Writes:
    """What is timed when an array is written: other values of it, so that no write is idle."""

    def __init__(self, data: Array, selections: list[Selection]) -> None:
        self.work = [(s, np.ascontiguousarray(np.flip(data[s]))) for s in selections]
        self.expected = data.copy()
        for selection, value in self.work:
            self.expected[selection] = value

    def run(self, target: Target) -> Any:
        for selection, value in self.work:
            target.write(selection, value)

    def is_right(self, results: Any, readback: Callable[[], Any]) -> bool:
        return same(readback(), self.expected)


# ------------------------------------------------------------------------------- measuring


LACKING = "it has not all of the codecs"


@dataclasses.dataclass
class Cell:
    """What one implementation did in one operation on one case."""

    case: str
    operation: str
    implementation: str
    seconds: list[float] = dataclasses.field(default_factory=list)
    error: str | None = None

    @property
    def verdict(self) -> str:
        return "no" if self.error == LACKING else "failed"

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def best(self) -> float:
        return min(self.seconds)


@dataclasses.dataclass
class Entry:
    """An implementation at work: the array that it works on, and what came of it."""

    impl: Implementation
    cell: Cell
    path: Path
    target: Target = dataclasses.field(init=False)


def measure(
    case: Case,
    operation: Operation,
    impls: Sequence[Implementation],
    path: Path,
    data: Array,
    rounds: int,
    rng: random.Random,
) -> list[Cell]:
    """Verify, time and verify again one operation by every implementation."""
    selections = operation.selections(data.shape, np.random.default_rng(7))
    work = Writes(data, selections) if operation.writes else Reads(data, selections)
    entries: list[Entry] = []
    cells = {impl.name: Cell(case.name, operation.name, impl.name) for impl in impls}
    for name in case.lacking:
        if name in cells:
            cells[name].error = LACKING
    impls = [impl for impl in impls if cells[impl.name].error is None]
    for impl in impls:
        own = path.with_name(f"{path.name}.{impl.name}") if operation.writes else path
        entries.append(Entry(impl, cells[impl.name], own))
        if operation.writes:
            shutil.copytree(path, own)

    def verify(entry: Entry, result: Any) -> None:
        referee = next((impl for impl in impls if impl is not entry.impl), entry.impl)

        def readback() -> Any:
            with referee.active():
                everything = (slice(None),) * data.ndim
                return referee.open(entry.path, case.zarr_format).read(everything)

        if not work.is_right(result, readback):
            entry.cell.error = "WRONG RESULT"

    for entry in entries:
        with recorded(entry.cell):
            with entry.impl.active():
                entry.target = entry.impl.open(
                    entry.path, case.zarr_format, writable=operation.writes
                )
                result = work.run(entry.target)
            verify(entry, result)
    for _ in range(rounds):
        able = [entry for entry in entries if entry.cell.error is None]
        rng.shuffle(able)
        for entry in able:
            with recorded(entry.cell), entry.impl.active():
                start = time.perf_counter()
                result = work.run(entry.target)
                entry.cell.seconds.append(time.perf_counter() - start)
                del result  # giving its memory back is not on the clock
    if operation.writes:
        for entry in entries:
            if entry.cell.error is None:
                with recorded(entry.cell):
                    verify(entry, None)
            shutil.rmtree(entry.path)
    return list(cells.values())


@contextlib.contextmanager
def recorded(cell: Cell) -> Iterator[None]:
    """Keep an error as this cell's result: the others are still worth measuring."""
    try:
        yield
    except Exception as error:
        cell.error = f"{type(error).__name__}: {error}"


# ---------------------------------------------------------------------------------- report


def environment(impls: Sequence[Implementation], threads: int | None) -> dict[str, Any]:
    """Say what was measured, and on what."""
    packages = ["zarr", "numpy", "numcodecs", "zarrs-cython"]
    if any(isinstance(impl, TensorStore) for impl in impls):
        packages.append("tensorstore")
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    affinity = getattr(os, "sched_getaffinity", None)
    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
    }
    if any(impl.name == OURS for impl in impls):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # built in place
            config = importlib.import_module("zarrs").show_config("dicts")
            found["libraries"] = {k: v["running"] for k, v in config["libraries"].items()}
    return found


def cpu_model() -> str:
    """Return the name of the processor, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def describe(env: dict[str, Any]) -> list[str]:
    """Return the environment as lines of text."""
    packages = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    lines = [
        f"{env['cpu']}, {env['cores']} cores ({env['cores_usable']} usable), threads: "
        + ("each one's default" if env["threads"] is None else str(env["threads"])),
        f"Python {env['python']}, {packages}",
    ]
    if "libraries" in env:
        libraries = [f"{name} {version}" for name, version in env["libraries"].items() if version]
        lines.append(f"libraries in {OURS}: {', '.join(libraries)}")
    return lines


def ratio(cells: Sequence[Cell]) -> tuple[float, str] | None:
    """Return the best peer's median over ours (above 1, ours is faster), and the peer's name."""
    timed = {cell.implementation: cell.median for cell in cells if cell.error is None}
    ours = timed.pop(OURS, None)
    if ours is None or not timed:
        return None
    peer = min(timed, key=lambda name: timed[name])
    return timed[peer] / ours, peer


def summary(rows: Sequence[Sequence[Cell]]) -> str | None:
    """Return one sentence on all the ratios, losses included."""
    ratios = [found[0] for row in rows if (found := ratio(row)) is not None]
    if not ratios:
        return None
    mean = math.exp(statistics.fmean(math.log(value) for value in ratios))
    slower = sum(value < 1 for value in ratios)
    return (
        f"best peer's time over that of {OURS}: geometric mean {mean:.2f}, "
        f"lowest {min(ratios):.2f}, highest {max(ratios):.2f}; "
        f"{OURS} is slower than the best peer in {slower} of {len(ratios)} rows"
    )


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    return next(
        (f"{count / unit:.3g} {name}" for name, unit in UNITS.items() if count >= unit),
        f"{count} B",
    )


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def text_header(impls: Sequence[Implementation]) -> str:
    titles = "".join(f"{impl.title:>19}" for impl in impls)
    return f"{'median (best) in ms':29}{titles}  best peer / {OURS}"


def text_row(cells: Sequence[Cell]) -> str:
    line = f"{cells[0].case:15}{cells[0].operation:14}"
    for cell in cells:
        times = cell.verdict
        if cell.error is None:
            times = f"{milliseconds(cell.median)} ({milliseconds(cell.best)})"
        line += f"{times:>19}"
    found = ratio(cells)
    return line + (f"  {found[0]:.2f} ({found[1]})" if found else "")


def markdown(
    rows: Sequence[Sequence[Cell]],
    cases: Sequence[Case],
    impls: Sequence[Implementation],
    env: dict[str, Any],
) -> str:
    """Return the table of README.md."""
    described = {case.name: case.describe() for case in cases}
    operations = {operation.name: operation.title for operation in OPERATIONS}
    titles = [impl.title for impl in impls]
    lines = [
        "| array; its size in chunks of | operation | "
        + " | ".join(titles)
        + f" | best peer / {OURS} |",
        "|---|---|" + "--:|" * (len(titles) + 1),
    ]
    previous = None
    for cells in rows:
        case = cells[0].case
        times = [cell.verdict if cell.error else milliseconds(cell.median) for cell in cells]
        found = ratio(cells)
        columns = [
            described[case] if case != previous else "",
            operations[cells[0].operation],
            *times,
            f"{found[0]:.2f}" if found else "",
        ]
        lines.append("| " + " | ".join(columns) + " |")
        previous = case
    rounds = max((len(cell.seconds) for cells in rows for cell in cells), default=0)
    lines += ["", f"Medians in milliseconds; rounds: {rounds}."]
    total = summary(rows)
    lines += [f"In short: {total}."] if total else []
    lines += ["", *[f"- {line}" for line in describe(env)]]
    return "\n".join(lines)


def write_json(
    path: Path, rows: Sequence[Sequence[Cell]], env: dict[str, Any], arguments: dict[str, Any]
) -> None:
    results = []
    for cells in rows:
        found = ratio(cells)
        able = [cell for cell in cells if cell.error != LACKING]
        results.append(
            {
                "case": cells[0].case,
                "operation": cells[0].operation,
                "best_peer_over_ours": found[0] if found else None,
                "best_peer": found[1] if found else None,
                "seconds": {c.implementation: c.seconds for c in able},
                "median": {c.implementation: c.median for c in cells if c.error is None},
                "best": {c.implementation: c.best for c in cells if c.error is None},
                "errors": {c.implementation: c.error for c in able if c.error is not None},
            }
        )
    report = {"environment": env, "arguments": arguments, "results": results}
    path.write_text(json.dumps(report, indent=1, default=str) + "\n")


# ------------------------------------------------------------------------------------ main


def run(
    cases: Sequence[Case],
    operations: Sequence[Operation],
    impls: Sequence[Implementation],
    directory: Path,
    rounds: int,
    progress: TextIO,
) -> list[list[Cell]]:
    """Measure everything; print each row as soon as it is known."""
    rng = random.Random(0)
    rows = []
    print(text_header(impls), file=progress)
    for case in cases:
        path = directory / case.name
        data = case.create(path)
        for operation in operations:
            rows.append(measure(case, operation, impls, path, data, rounds, rng))
            print(text_row(rows[-1]), file=progress, flush=True)
        shutil.rmtree(path)
    return rows


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from None


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ",".join(impl.name for impl in implementations())
    add("--case", type=pattern, default="", metavar="REGEX", help="only cases that match")
    add("--op", type=pattern, default="", metavar="REGEX", help="only operations that match")
    add("--impl", metavar="NAMES", help=f"only these of {names} (default: all that are installed)")
    add("--rounds", type=positive, default=5, help="times that each is timed (default: 5)")
    add("--threads", type=positive, help="for every implementation (default: as each one likes)")
    add("--strict", action="store_true", help=f"fail where {OURS} would fall back to zarr's own")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add("--dir", type=Path, help="where to put the data (default: the system's temporary files)")
    add("--json", type=Path, metavar="FILE", help="also write everything measured to this file")
    add("--markdown", action="store_true", help="print the table of README.md")
    add("--list", action="store_true", help="print the names of cases and operations")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    cases = [case for case in CASES if args.case.search(case.name)]
    operations = [operation for operation in OPERATIONS if args.op.search(operation.name)]
    if args.list:
        print("cases:      " + " ".join(case.name for case in CASES))
        print("operations: " + " ".join(operation.name for operation in OPERATIONS))
        return 0
    if not cases or not operations:
        stop("nothing matches; --list prints what there is")
    if args.dir and not args.dir.is_dir():
        stop(f"no directory {args.dir}")
    impls = choose(implementations(args.threads, strict=args.strict), args.impl)
    if args.small:
        cases = [case.shrunk() for case in cases]

    progress = sys.stderr if args.markdown else sys.stdout
    env = environment(impls, args.threads)
    print("\n".join(describe(env)) + "\n", file=progress)
    with tempfile.TemporaryDirectory(prefix="zarrs-compare-", dir=args.dir) as directory:
        rows = run(cases, operations, impls, Path(directory), args.rounds, progress)

    if args.json:
        arguments = vars(args) | {"case": args.case.pattern, "op": args.op.pattern}
        write_json(args.json, rows, env, arguments)
    if args.markdown:
        print(markdown(rows, cases, impls, env))
    elif total := summary(rows):
        print("\n" + total)
    failed = [cell for cells in rows for cell in cells if cell.error not in (None, LACKING)]
    for cell in failed:
        where = f"{cell.case} {cell.operation} {cell.implementation}"
        print(f"failed: {where}: {cell.error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
