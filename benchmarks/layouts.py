"""Measure what the sizes and shapes of chunks and shards cost, for the page on choosing them.

    python3 benchmarks/layouts.py                       # tables, in about two minutes
    python3 benchmarks/layouts.py --plot docs/images    # and the charts of docs/chunks.md
    python3 benchmarks/layouts.py --edge 128            # little data, to see that it runs

sizes
    A cube of 16-bit numbers, Zstandard, in cubic chunks from small to big, each once in a file of
    its own and once in eight shards: whole reads, windows, rows, writes of windows, and the number
    of files.
shapes
    The same cube in chunks that are all equally big but of different shapes: planes along each
    axis.

All is read and written with direct access, from the page cache; every result is compared with
NumPy. The fastest of the rounds counts: ratios of one run mean something, absolute times do not.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from zarr.codecs import ZstdCodec

import zarrs

COUNT = 10  # windows, rows and planes of a round
WHOLE, WINDOWS, ROWS, WRITES = "read all", "read a window", "read a row", "write a window"
PLANES = ("array[i]", "array[:, i]", "array[:, :, i]")
ORDER = (WHOLE, WINDOWS, ROWS, WRITES, *PLANES)
FILES, SHARDS = "a file for each chunk", "chunks in shards"
# Okabe and Ito's colours, which most kinds of colour blindness can tell apart.
COLORS = {FILES: "#E69F00", SHARDS: "#0072B2"}
AXIS_COLORS = ("#E69F00", "#56B4E9", "#009E73")
TEXT = "#808080"  # can be read on white and on black

Chunks = tuple[int, int, int]
Selections = list[Any]


@dataclass
class Row:
    """One layout of the cube, and the best times in seconds that were measured, by operation."""

    chunks: Chunks
    layout: str
    array: zarrs.Array
    n_files: int
    seconds: dict[str, float] = field(default_factory=dict)


def cube(edge: int) -> np.ndarray[Any, Any]:
    """Return smooth numbers with some noise, which compress as measured data do."""
    rng = np.random.default_rng(0)
    x, y, z = np.meshgrid(*[np.linspace(0, 9, edge, dtype="f4")] * 3, indexing="ij", sparse=True)
    smooth = 2000 + 900 * (np.sin(x) + np.cos(y) * np.sin(z))
    return np.asarray(smooth + rng.integers(0, 64, (edge,) * 3), dtype="u2")


def store(path: Path, data: np.ndarray[Any, Any], chunks: Chunks, shards: Chunks | None) -> Row:
    """Store the cube in one layout."""
    array = zarrs.create_array(
        path, data=data, chunks=chunks, shards=shards, compressors=ZstdCodec(level=1)
    )
    files = sum(file.is_file() for file in (path / "c").rglob("*"))
    return Row(chunks, FILES if shards is None else SHARDS, array, files)


def sizes(directory: Path, data: np.ndarray[Any, Any], rounds: int) -> list[Row]:
    """Measure cubic chunks of several sizes, in files and in shards."""
    edge = data.shape[0]
    rows = [
        store(directory / f"sizes-{size}-{shards}", data, (size,) * 3, shards)
        for size in (edge // 32, edge // 16, edge // 8, edge // 4, edge // 2)
        if size >= 8  # thousands of tiny files take long, and nobody has such
        for shards in (None, (edge // 2,) * 3)
    ]
    rng = np.random.default_rng(1)
    window = edge // 8
    corners = rng.integers(0, edge - window + 1, (COUNT, 3)).tolist()
    windows = [tuple(slice(c, c + window) for c in corner) for corner in corners]
    lines = [(int(y), int(x)) for y, x in rng.integers(0, edge, (COUNT, 2))]
    operations: dict[str, Selections] = {
        WHOLE: [...],
        WINDOWS: windows,
        ROWS: lines,
        WRITES: windows[: COUNT // 2],
    }
    measure(rows, data, operations, rounds)
    return rows


def shapes(directory: Path, data: np.ndarray[Any, Any], rounds: int) -> list[Row]:
    """Measure planes along each axis, of chunks with several shapes."""
    edge = data.shape[0]
    planes = (edge // 128, edge, edge // 2)
    blocks = (edge // 8, edge // 8, edge // 4)
    columns = (edge // 2, edge // 16, edge // 8)
    rows = [
        store(directory / f"shapes-{shape(chunks)}", data, chunks, None)
        for chunks in (planes, blocks, columns)
    ]
    places = np.random.default_rng(2).integers(0, edge, COUNT).tolist()
    operations = {
        name: [(*[slice(None)] * axis, i) for i in places] for axis, name in enumerate(PLANES)
    }
    measure(rows, data, operations, rounds)
    return rows


def measure(
    rows: Sequence[Row],
    data: np.ndarray[Any, Any],
    operations: dict[str, Selections],
    rounds: int,
) -> None:
    """Compare everything with NumPy, then time it; each round does all, in shuffled order."""
    work = [(row, name) for row in rows for name in operations]
    for row, name in work:
        if not all(np.array_equal(row.array[part], data[part]) for part in operations[name]):
            sys.exit(f"{row.array}: {name}: what was read is not what was written")
    for _ in range(rounds):
        for row, name in random.sample(work, len(work)):
            begin = time.perf_counter()
            for part in operations[name]:
                if name == WRITES:
                    row.array[part] = data[part]
                else:
                    row.array[part]
            seconds = (time.perf_counter() - begin) / len(operations[name])
            row.seconds[name] = min(seconds, row.seconds.get(name, seconds))


# --------------------------------------------------------------------------------- telling


def size(chunks: Chunks) -> str:
    """Return the bytes of a chunk in words."""
    count = 2 * int(np.prod(chunks))
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"


def shape(chunks: Chunks) -> str:
    """Return the shape of a chunk in words."""
    return " x ".join(map(str, chunks))


def table(rows: Sequence[Row]) -> str:
    """Return a table in Markdown, in milliseconds."""
    names = sorted(rows[0].seconds, key=ORDER.index)
    lines = [f"| chunks | | files | {' | '.join(names)} |", f"|---|---|--:|{'--:|' * len(names)}"]
    for row in rows:
        times = " | ".join(f"{row.seconds[name] * 1e3:.3g}" for name in names)
        chunks = f"{shape(row.chunks)}, {size(row.chunks)}"
        lines.append(f"| {chunks} | {row.layout} | {row.n_files:,} | {times} |")
    return "\n".join(lines)


def new_figure(width: float, height: float) -> Any:
    """Return a figure that can be read on a bright and on a dark page."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams.update({"text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT})
    rcParams.update({"xtick.color": TEXT, "ytick.color": TEXT, "axes.titlesize": 13})
    rcParams.update({"font.size": 12, "svg.hashsalt": "zarrs"})
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, path: Path) -> None:
    """Write a chart without its date, so that the same figures make the same file."""
    figure.savefig(path, transparent=True, metadata={"Date": None})
    print(f"drawn: {path}")


def draw_sizes(rows: Sequence[Row], path: Path) -> None:
    """Chart times and files over the size of chunks."""
    figure = new_figure(8, 9)
    panels = [*figure.subplots(3, 2).flat]
    told: dict[str, Callable[[Row], float]] = {
        WHOLE: lambda row: row.seconds[WHOLE] * 1e3,
        WINDOWS: lambda row: row.seconds[WINDOWS] * 1e3,
        ROWS: lambda row: row.seconds[ROWS] * 1e3,
        WRITES: lambda row: row.seconds[WRITES] * 1e3,
        "files": lambda row: row.n_files,
    }
    for axes, (name, value) in zip(panels, told.items(), strict=False):
        for layout, marker in ((FILES, "o"), (SHARDS, "s")):
            of = [row for row in rows if row.layout == layout]
            axes.plot(
                [size(row.chunks).replace(" ", "\n") for row in of],
                [value(row) for row in of],
                color=COLORS[layout],
                marker=marker,
                linewidth=2,
                label=layout,
            )
        if name == WHOLE:  # these are all of one size
            axes.set_ylim(0)
        else:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter("")
        axes.set_title("number of files" if name == "files" else f"{name}, ms")
        axes.grid(alpha=0.35, color=TEXT)
        axes.yaxis.set_major_formatter("{x:,g}")
    panels[5].set_axis_off()
    panels[5].legend(*panels[0].get_legend_handles_labels(), loc="center", frameon=False)
    panels[5].text(0.5, 0.25, "over the size of a chunk", ha="center")
    save(figure, path)


def draw_shapes(rows: Sequence[Row], path: Path) -> None:
    """Chart the time of planes along each axis."""
    figure = new_figure(8.5, 3.6)
    axes = figure.subplots()
    height = 0.26
    for place, name in enumerate(PLANES):
        middles = np.arange(len(rows)) + (place - 1) * height
        times = [row.seconds[name] * 1e3 for row in rows]
        axes.barh(middles, times, height * 0.9, color=AXIS_COLORS[place], label=name)
        for x, y in zip(times, middles, strict=True):
            axes.annotate(
                f"{x:.0f}" if x >= 10 else f"{x:.1f}",
                (x, y),
                (5, 0),
                textcoords="offset points",
                va="center",
                fontsize=11,
            )
    axes.set_yticks(range(len(rows)), [f"chunks of\n{shape(row.chunks)}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("ms a plane")
    axes.margins(x=0.1)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    save(figure, path)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--edge", type=int, default=512, help="of the cube, a multiple of 128")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the charts into DIR")
    asked = parser.parse_args()
    if asked.edge < 128 or asked.edge % 128 or asked.rounds < 1:
        parser.error("--edge must be a multiple of 128, and --rounds at least 1")
    data = cube(asked.edge)
    with tempfile.TemporaryDirectory(prefix="layouts-") as directory:
        by_size = sizes(Path(directory), data, asked.rounds)
        by_shape = shapes(Path(directory), data, asked.rounds)
    print(table(by_size), table(by_shape), sep="\n\n")
    if asked.plot:
        draw_sizes(by_size, asked.plot / "chunk-sizes.svg")
        draw_shapes(by_shape, asked.plot / "chunk-shapes.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
