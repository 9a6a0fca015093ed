"""Store a brain scan as Zarr and read it back, with zarr's own codec pipelines and with zarrs.

The scan is a real one (MRI, 4-D) that the package nibabel ships for its tests. It is small, so it
is repeated along its first axis to make times mean something; the output says so. It is written
with several codecs and read in several ways, everything is compared with the NumPy array, and the
times of the pipelines are shown side by side, with how many times as fast zarrs is.

    python3 examples/quickstart.py
    python3 examples/quickstart.py --plot times.png
    python3 examples/quickstart.py --input scan.nii.gz

All that a program of yours needs in order to use zarrs is:

    import zarr, zarrs
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import importlib.metadata
import io
import os
import platform
import random
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
import zarr.core.codec_pipeline
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

CHUNK_BYTES = 2**20  # chunks are at most this large
DEFAULT_REPEAT = 32  # of the scan that nibabel ships

OURS, DEFAULT = "zarrs", "zarr default"
PIPELINES = {
    DEFAULT: "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr Fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    OURS: "zarrs.ZarrsCodecPipeline",
}

COLORS = {DEFAULT: "#999999", "zarr Fused": "#e69f00", OURS: "#0072b2"}

# Name -> from the number of dimensions to the arguments of zarr.create_array.
CODECS: dict[str, Callable[[int], dict[str, Any]]] = {
    "raw": lambda ndim: {"compressors": None},
    "blosc-lz4-shuffle": lambda ndim: {
        "compressors": BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
    },
    "blosc-zstd-bitshuffle": lambda ndim: {
        "compressors": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")
    },
    "zstd": lambda ndim: {"compressors": ZstdCodec(level=3)},
    "gzip": lambda ndim: {"compressors": GzipCodec(level=5)},
    "transpose-bigendian-crc32c": lambda ndim: {
        "filters": TransposeCodec(order=tuple(range(ndim))[::-1]),
        "serializer": BytesCodec(endian="big"),
        "compressors": Crc32cCodec(),
    },
}


class InputError(Exception):
    """The input cannot be used; the message says why."""


# ----------------------------------------------------------------------------------- input


def shipped_scan() -> Path:
    """Return the path of the scan inside the installed nibabel."""
    try:
        import nibabel
    except ImportError:
        raise InputError(
            "the example scan is in nibabel: python3 -m pip install '.[examples]', or use --input"
        ) from None
    path = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
    if not path.is_file():
        raise InputError(f"this nibabel does not ship its example scan {path.name}; use --input")
    return path


def load(path: Path) -> Array:
    """Read an array of numbers from a .npy file, a NIfTI file or a Zarr array.

    Parameters
    ----------
    path : Path
        The file; of Zarr, the directory of the array, which may be a member of a group.

    Returns
    -------
    numpy.ndarray
        C-contiguous, in the machine's byte order.

    Raises
    ------
    InputError
        If there is nothing to read, or nothing that this script can use.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        if path.is_dir():
            array = load_zarr(path)
        elif path.name.endswith((".nii", ".nii.gz")):
            array = load_nifti(path)
        elif path.suffix == ".npy":
            array = load_npy(path)
        else:
            raise InputError(f"{path}: neither .npy, nor .nii, nor .nii.gz, nor a Zarr array")
    except InputError:
        raise
    except Exception as error:  # each library has its own
        raise InputError(f"{path}: cannot be read: {error}") from error
    if array.dtype.kind not in "biufc":
        raise InputError(f"{path}: the data type {array.dtype} is no number")
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{path}: the shape {array.shape} leaves nothing to measure")
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def load_npy(path: Path) -> Array:
    """Read a .npy file; of a file that only bears the name, say what it is instead."""
    with path.open("rb") as file:
        start = file.read(256)
    if not start.startswith(np.lib.format.MAGIC_PREFIX):
        raise InputError(f"{path}: no .npy file: {kind_of_file(start)}")
    try:
        array: Array = np.load(path, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise InputError(
                f"{path}: its elements are Python objects, which only unpickling can read, and "
                "that can run any code; save it with a numeric data type"
            ) from None
        raise InputError(f"{path}: the .npy file is cut short or damaged: {error}") from None
    return array


def kind_of_file(start: bytes) -> str:
    """Say what a file that begins in this way is."""
    if not start:
        return "it is empty"
    if start.startswith(b"PK"):
        return "it is a .npz or another zip archive; save the array in it with numpy.save"
    if start[:2] in {bytes([0x80, protocol]) for protocol in range(2, 6)}:
        return "it is a pickle"
    with contextlib.suppress(UnicodeDecodeError):
        # The last character may be cut: an incremental decoder waits for the rest of it.
        if "\0" not in codecs.getincrementaldecoder("utf-8")().decode(start):
            return "it is text; if it holds numbers, numpy.loadtxt reads them"
    return "it does not begin as one does"


def load_nifti(path: Path) -> Array:
    """Read the voxels, scaled as the header says."""
    try:
        import nibabel
    except ImportError:
        raise InputError("to read NIfTI: python3 -m pip install '.[examples]'") from None
    image: Any = nibabel.load(path)
    return np.asanyarray(image.dataobj)


def load_zarr(path: Path) -> Array:
    """Read a Zarr array."""
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Group):
        arrays = ", ".join(sorted(node.array_keys())) or "none"
        raise InputError(f"{path} is a Zarr group; name an array in it (it has: {arrays})")
    return np.asarray(node[...])


def chunk_shape(array: Array) -> tuple[int, ...]:
    """Halve the longest axis until a chunk is small enough."""
    chunks = list(array.shape)
    while np.prod(chunks) * array.itemsize > CHUNK_BYTES and max(chunks) > 1:
        longest = chunks.index(max(chunks))
        chunks[longest] = (chunks[longest] + 1) // 2
    return tuple(chunks)


# ------------------------------------------------------------------------------- measuring


def selections(shape: tuple[int, ...]) -> dict[str, list[Any]]:
    """Return the ways to read an array: name -> selections, one after the other.

    They are everything, an eighth of the first axis, a quarter of each axis, 20 points, and every
    third index of each axis.
    """
    rng = np.random.default_rng(0)
    middle = shape[0] // 2
    return {
        "read all": [...],
        "read slab": [slice(middle, middle + max(1, shape[0] // 8))],
        "read window": [tuple(slice(n // 3, n // 3 + max(1, n // 4)) for n in shape)],
        "read points": [tuple(int(rng.integers(n)) for n in shape) for _ in range(20)],
        "read strided": [(slice(None, None, 3),) * len(shape)],
    }


def equal(got: Any, expected: Any) -> bool:
    """Tell whether shape, type and every byte agree, so that NaN and -0.0 count too."""
    one, other = np.asarray(got), np.asarray(expected)
    return (one.shape, one.dtype) == (other.shape, other.dtype) and one.tobytes() == other.tobytes()


@dataclass
class Row:
    """The times of one codec and operation: pipeline -> seconds."""

    codec: str
    operation: str
    seconds: dict[str, list[float]]
    unequal: set[str] = field(default_factory=set)

    @classmethod
    def empty(cls, codec: str, operation: str, pipelines: Sequence[str]) -> Row:
        """Return a row without times."""
        return cls(codec, operation, {name: [] for name in pipelines})

    def median(self, name: str) -> float:
        """Return the seconds in the middle."""
        return statistics.median(self.seconds[name])

    def speedup(self, name: str, over: str) -> float | None:
        """Return how many times as fast a pipeline is, or None if either gives wrong values."""
        if self.unequal & {name, over}:
            return None
        return self.median(over) / self.median(name)


class Bench:
    """Writes and reads one volume with several pipelines.

    Each time that the volume is written, it becomes a new array. Nothing is deleted in between,
    since ext4 takes longer to create files after others were deleted. Arrays that are not needed
    any more have their files emptied, so that the disk does not fill up.

    Parameters
    ----------
    volume : numpy.ndarray
        What is stored.
    chunks : tuple of int
        The shape of its chunks.
    directory : Path
        An empty directory for everything that is written.
    pipelines : list of str
        Names of those to compare.
    rounds : int
        How often each is timed.

    Attributes
    ----------
    group : Path
        The Zarr group with one array for each codec, as zarrs wrote it.
    """

    def __init__(
        self,
        volume: Array,
        chunks: tuple[int, ...],
        directory: Path,
        pipelines: list[str],
        rounds: int,
    ) -> None:
        self.volume = volume
        self.chunks = chunks
        self.group = directory / "quickstart.zarr"
        self.others = directory / "others"
        self.pipelines = pipelines
        self.rounds = rounds
        self.random = random.Random(0)

    def run(self, codec: str) -> list[Row]:
        """Measure everything for one codec."""
        rows = [self.write(codec)]
        for operation, parts in selections(self.volume.shape).items():
            rows.append(self.read(codec, operation, parts))
        return rows

    def write(self, codec: str) -> Row:
        """Time writing the volume to new arrays; another pipeline reads what was written."""
        row = Row.empty(codec, "write all", self.pipelines)
        for number in range(self.rounds):
            for name in self.shuffled():
                stays = name == OURS and number == self.rounds - 1
                path = self.group / codec if stays else self.others / f"{codec} {number} {name}"
                with using(name):
                    array = self.create(path, codec)
                    start = time.perf_counter()
                    array[...] = self.volume
                    row.seconds[name].append(time.perf_counter() - start)
                reader = next((other for other in self.pipelines if other != name), name)
                if not equal(self.open(path, reader)[...], self.volume):
                    row.unequal.add(name)
                if not stays:
                    empty_files(path)
        return row

    def read(self, codec: str, operation: str, parts: list[Any]) -> Row:
        """Time reading parts of the array, and compare them with the volume."""
        row = Row.empty(codec, operation, self.pipelines)
        arrays = {name: self.open(self.group / codec, name) for name in self.pipelines}
        expected = [self.volume[part] for part in parts]
        for _ in range(self.rounds):
            for name in self.shuffled():
                with using(name):
                    start = time.perf_counter()
                    got = [arrays[name][part] for part in parts]
                    row.seconds[name].append(time.perf_counter() - start)
                if not all(map(equal, got, expected)):
                    row.unequal.add(name)
        return row

    def shuffled(self) -> list[str]:
        """Return the pipelines in another order each time, so that none has the best place."""
        return self.random.sample(self.pipelines, len(self.pipelines))

    def create(self, path: Path, codec: str) -> zarr.Array[Any]:
        """Create a new array."""
        return zarr.create_array(
            path,
            shape=self.volume.shape,
            dtype=self.volume.dtype,
            chunks=self.chunks,
            **CODECS[codec](self.volume.ndim),
        )

    def open(self, path: Path, pipeline: str) -> zarr.Array[Any]:
        """Open an array for reading."""
        with using(pipeline):
            return zarr.open_array(path, mode="r")

    def explain(self, codec: str) -> str:
        """Say whether zarrs runs the codec itself."""
        import zarrs

        explanation = zarrs.explain(self.open(self.group / codec, OURS))
        return f"native in {OURS}" if explanation.native else str(explanation).replace("\n", "; ")

    def stored_bytes(self, codec: str) -> int:
        """Return the size of the files of the array."""
        return sum(file.stat().st_size for file in files_in(self.group / codec))


def files_in(directory: Path) -> Iterable[Path]:
    """Return all files below a directory."""
    return (path for path in directory.rglob("*") if path.is_file())


def empty_files(directory: Path) -> None:
    """Free the space of all files below a directory, but delete none."""
    for path in files_in(directory):
        os.truncate(path, 0)


def using(pipeline: str) -> contextlib.AbstractContextManager[Any]:
    """Select a pipeline, as a user does."""
    context: contextlib.AbstractContextManager[Any] = zarr.config.set(
        {"codec_pipeline.path": PIPELINES[pipeline]}
    )
    return context


def available_pipelines() -> list[str]:
    """Return the pipelines that are installed; zarr's Fused one is not in older versions."""
    names = list(PIPELINES)
    if not hasattr(zarr.core.codec_pipeline, "FusedCodecPipeline"):
        names.remove("zarr Fused")
    return names


# ----------------------------------------------------------------------------------- table


def machine() -> str:
    """Say on what is measured, in one line."""
    import zarrs

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    versions = zarrs.show_config("dicts")["packages"]
    versions["numcodecs"] = importlib.metadata.version("numcodecs")
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"


def size(count: int) -> str:
    """Return a number of bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, with two digits or more."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def slower(factor: float) -> bool:
    """Tell whether a speedup, rounded to two digits, is none."""
    return factor < 0.995


def times(factor: float) -> str:
    """Return how many times as fast something is, with two digits."""
    digits = 2 if slower(factor) else 1 if factor < 9.95 else 0
    return f"{factor:.{digits}f}"


def short(pipeline: str) -> str:
    """Return the name of one of zarr's pipelines without zarr."""
    return pipeline.removeprefix("zarr ")


def table_header(pipelines: list[str], rounds: int) -> str:
    """Return the lines above the rows."""
    names = " " * 14 + "".join(f"{name:>17}" for name in pipelines)
    factors = "".join(f" {short(name)}" for name in pipelines if name != OURS)
    above = "zarrs is x times as fast as"
    return (
        f"median (fastest-slowest) of {rounds} rounds in ms\n"
        f"{above:>{len(names + factors)}}\n{names}{factors}"
    )


def table_row(row: Row) -> str:
    """Return one line of the table."""
    line = f"  {row.operation:12}"
    for name, seconds in row.seconds.items():
        spread = f"({milliseconds(min(seconds))}-{milliseconds(max(seconds))})"
        text = f"{milliseconds(row.median(name))} {spread}"
        line += f" {'NOT EQUAL' if name in row.unequal else text:>16}"
    for name in row.seconds:
        if name != OURS:
            factor = row.speedup(OURS, name)
            line += f" {'-' if factor is None else times(factor):>{len(short(name))}}"
    return line


def summary(rows: list[Row], peer: str) -> list[str]:
    """Say where zarrs is slower than another pipeline, and how fast it is over all rows."""
    factors = [(row, row.median(peer) / row.median(OURS)) for row in rows]
    kinds = {
        kind: [factor for row, factor in factors if row.operation.startswith(kind)]
        for kind in ("read", "write")
    }
    means = {kind: statistics.geometric_mean(each) for kind, each in kinds.items()}
    told = [
        f"{kind}s {times(mean)}{' (slower)' if slower(mean) else ''}"
        for kind, mean in means.items()
    ]
    counts = " and ".join(str(len(each)) for each in kinds.values())
    where = [f"{row.operation} of {row.codec} ({times(x)})" for row, x in factors if slower(x)]
    name = f"zarr's {short(peer)}"
    lines = []
    if where:
        listed = f"zarrs is slower than {name} in {len(where)} of {len(rows)} rows: "
        lines += textwrap.wrap(listed + ", ".join(where), 90)
    means_line = (
        f"{OURS}: {', '.join(told)} times as fast as {name}, geometric mean of {counts} rows"
    )
    return [*lines, means_line]


# --------------------------------------------------------------------------------- picture


def check_picture(path: Path) -> None:
    """Raise InputError unless a picture can be written there, before time is spent on it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError(f"to draw: python3 -m pip install '.[examples]' ({error})") from None
    if not path.suffix:
        raise InputError(f"{path}: the name says no format; end it in .png, .svg or .pdf")
    new = not path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    if new:
        path.unlink()
    try:
        Figure().savefig(io.BytesIO(), format=path.suffix[1:])
    except Exception as error:  # each format has its own
        raise InputError(f"{path}: cannot be drawn: {error}") from None


def picture(data: Array, rows: list[Row], lines: Sequence[str]) -> Figure:
    """Draw the data beside the times: a panel for each operation, a bar for each median."""
    from matplotlib.figure import Figure

    operations = list(dict.fromkeys(row.operation for row in rows))
    figure = Figure(figsize=(17, 11), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=14, parse_math=False)
    columns = 1 + (len(operations) + 1) // 2
    grid = figure.add_gridspec(2, columns)

    draw_data(figure.add_subplot(grid[0, 0]), data)
    for number, operation in enumerate(operations):
        row, column = divmod(number, columns - 1)
        axes = figure.add_subplot(grid[row, 1 + column])
        axes.set_title(operation, fontsize=15)
        draw_bars(axes, [row for row in rows if row.operation == operation])
        axes.tick_params(labelleft=column == 0)

    beside = figure.add_subplot(grid[1, 0])
    beside.set_axis_off()
    beside.legend(
        *axes.get_legend_handles_labels(),
        loc="upper center",
        fontsize=14,
        title="bars: medians in ms, logarithmic\nlines: from fastest to slowest\n"
        "2.4x: 2.4 times as fast\n          as zarr's default\n",
        title_fontsize=13,
    )
    return figure


def draw_data(axes: Axes, data: Array) -> None:
    """Draw a line of one dimension, or two dimensions in the middle of the others."""
    axes.set_title("the data" if data.ndim < 3 else "a slice of the data", fontsize=15)
    plane = data[(slice(None), slice(None), *(n // 2 for n in data.shape[2:]))[: data.ndim]]
    steps = [1 + n // 2000 for n in plane.shape]  # more than can be seen
    plane = plane[tuple(slice(None, None, step) for step in steps)]
    shown = np.asarray(np.abs(plane) if np.iscomplexobj(plane) else plane, dtype=float)
    if shown.ndim == 1:
        axes.plot(np.arange(shown.size) * steps[0], shown)
    else:
        axes.imshow(shown.T[::-1], cmap="gray")
        axes.set_axis_off()


def bar_label(row: Row, name: str) -> str:
    """Return what stands beside a bar."""
    if name in row.unequal:
        return "wrong"
    factor = row.speedup(name, DEFAULT)
    return "" if name == DEFAULT or factor is None else f"{times(factor)}x"


def draw_bars(axes: Axes, rows: list[Row]) -> None:
    """Draw the times of one operation: for each codec one bar a pipeline, with its speedup."""
    from matplotlib.ticker import LogLocator

    pipelines = list(rows[0].seconds)
    height = 0.84 / len(pipelines)
    for place, name in enumerate(pipelines):
        medians = np.array([row.median(name) for row in rows]) * 1e3
        fastest = np.array([min(row.seconds[name]) for row in rows]) * 1e3
        slowest = np.array([max(row.seconds[name]) for row in rows]) * 1e3
        middles = np.arange(len(rows)) + (place - (len(pipelines) - 1) / 2) * height
        axes.barh(
            middles,
            medians,
            height,
            xerr=(medians - fastest, slowest - medians),
            error_kw={"ecolor": "black", "elinewidth": 1},
            color=COLORS[name],
            label=name,
        )
        for row, x, y in zip(rows, slowest, middles, strict=True):
            text = bar_label(row, name)
            axes.annotate(
                text, (x, y), (5, 0), textcoords="offset points", va="center", fontsize=11
            )
    seconds = [second for row in rows for each in row.seconds.values() for second in each]
    least, most = min(seconds) * 1e3, max(seconds) * 1e3
    span = max(most / least, 2)
    axes.set_xscale("log")
    axes.set_xlim(least / span**0.2, most * span**0.3)  # a part of the width, for the speedups
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if span < 50 else (1, 3)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.invert_yaxis()
    axes.tick_params(labelsize=12)
    axes.set_yticks(range(len(rows)), [row.codec.replace("-", "\n") for row in rows])


# ------------------------------------------------------------------------------------ main


def positive(text: str) -> int:
    """Read a number that is at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        metavar="PATH",
        help=".npy, .nii, .nii.gz or Zarr array (default: the scan that nibabel ships)",
    )
    add(
        "--repeat-volume",
        type=positive,
        metavar="N",
        help=f"repeat it N times along its first axis (default: {DEFAULT_REPEAT}; 1 with --input)",
    )
    add("--rounds", type=positive, default=5, help="times that each is timed (default: 5)")
    add("--plot", type=Path, metavar="FILE", help="draw the times and a slice of the data")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="new directory to keep the Zarr arrays in (default: none are kept)",
    )
    return parser.parse_args(argv)


def compare(args: argparse.Namespace, directory: Path) -> int:
    """Measure, print and draw; return the exit code."""
    source = args.input or shipped_scan()
    scan = load(source)
    repeat = args.repeat_volume or (1 if args.input else DEFAULT_REPEAT)
    volume = np.concatenate([scan] * repeat)
    chunks = chunk_shape(scan)
    pipelines = available_pipelines()

    shape = "x".join(map(str, scan.shape))
    repeated = f", repeated {repeat} times along the first axis" if repeat > 1 else ""
    title = f"{source.name}: {shape} {scan.dtype}{repeated}: {size(volume.nbytes)}"
    title += f" in chunks of {'x'.join(map(str, chunks))}"
    print(f"{title}\n{machine()}\n\n{table_header(pipelines, args.rounds)}")

    bench = Bench(volume, chunks, directory, pipelines, args.rounds)
    zarr.create_group(bench.group, attributes={"source": source.name, "repeated": repeat})
    rows: list[Row] = []
    for codec in CODECS:
        measured = bench.run(codec)
        print(f"{codec}: {size(bench.stored_bytes(codec))} stored, {bench.explain(codec)}")
        print("\n".join(map(table_row, measured)), flush=True)
        rows += measured
        if not args.output:
            empty_files(bench.group / codec)

    unequal = [row for row in rows if row.unequal]
    if unequal:
        verdict = [f"NOT EQUAL to the NumPy array: {len(unequal)} of {len(rows)} rows"]
    else:
        verdict = [f"everything read is equal to the NumPy array, byte by byte: {len(rows)} rows"]
        for peer in reversed(pipelines[:-1]):
            verdict += summary(rows, peer)
    if args.plot:
        picture(scan, rows, [title, machine(), verdict[-1]]).savefig(args.plot, dpi=110)
        print(f"\ndrawn: {args.plot}")
    if args.output:
        bench.group.rename(args.output)
        print(f"\nkept: {args.output}")
    print("\n" + "\n".join(verdict))
    return 1 if unequal else 0


def scratch(output: Path | None) -> tempfile.TemporaryDirectory[str]:
    """Return a directory to measure in: beside the output, so that renaming moves it there."""
    near = output.parent if output else None
    try:
        return tempfile.TemporaryDirectory(prefix="zarrs-quickstart-", dir=near)
    except OSError as error:
        raise InputError(f"cannot make a directory in {near}: {error.strerror}") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    args = parse(argv)
    try:
        import zarrs  # noqa: F401
    except ImportError as error:
        print(f"error: {error}; python3 -m pip install '.[examples]'", file=sys.stderr)
        return 2
    try:
        if args.plot:
            check_picture(args.plot)
        if args.output and args.output.exists():
            raise InputError(f"{args.output} exists already")
        with scratch(args.output) as directory:
            return compare(args, Path(directory))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
