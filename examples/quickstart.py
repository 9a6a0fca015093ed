"""Store a brain scan as Zarr and read it back, with zarr's own codec pipelines and with zarrs.

The scan is a real one (MRI, 4-D) that the package nibabel ships for its tests. It is small, so it
is repeated along its first axis to make times mean something; the output says so. It is written
with several codecs and read in several ways, everything is compared with the NumPy array, and the
times of the pipelines are shown side by side.

    python3 examples/quickstart.py
    python3 examples/quickstart.py --plot times.png
    python3 examples/quickstart.py --input scan.nii.gz

All that a program of yours needs in order to use zarrs is:

    import zarr, zarrs
    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
import zarr.core.codec_pipeline
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, TransposeCodec, ZstdCodec

Array = npt.NDArray[Any]

CHUNK_BYTES = 2**20  # chunks are at most this large
DEFAULT_REPEAT = 32  # of the scan that nibabel ships

OURS = "zarrs"
PIPELINES = {
    "zarr default": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarr Fused": "zarr.core.codec_pipeline.FusedCodecPipeline",
    OURS: "zarrs.ZarrsCodecPipeline",
}

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
            array = np.load(path, allow_pickle=False)
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
    """Return the ways to read an array: name -> selections, one after the other."""
    rng = np.random.default_rng(0)
    middle = shape[0] // 2
    return {
        "read all": [...],
        "read slab": [slice(middle, middle + max(1, shape[0] // 8))],
        "read window": [tuple(slice(n // 3, n // 3 + max(1, n // 4)) for n in shape)],
        "read 20 points": [tuple(int(rng.integers(n)) for n in shape) for _ in range(20)],
        "read every 3rd": [(slice(None, None, 3),) * len(shape)],
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


class Bench:
    """Writes and reads one volume with several pipelines, in a Zarr group.

    Parameters
    ----------
    volume : numpy.ndarray
        What is stored.
    chunks : tuple of int
        The shape of its chunks.
    group : Path
        The directory of the Zarr group.
    pipelines : list of str
        Names of those to compare; what the last one writes is what stays.
    rounds : int
        How often each is timed.
    """

    def __init__(
        self,
        volume: Array,
        chunks: tuple[int, ...],
        group: Path,
        pipelines: list[str],
        rounds: int,
    ) -> None:
        self.volume = volume
        self.chunks = chunks
        self.group = group
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
        """Time writing the volume to a new array; another pipeline reads what was written."""
        row = Row.empty(codec, "write all", self.pipelines)
        for number in range(self.rounds):
            last = number == self.rounds - 1
            for name in self.pipelines if last else self.shuffled():
                with using(name):
                    array = self.create(codec)
                    start = time.perf_counter()
                    array[...] = self.volume
                    row.seconds[name].append(time.perf_counter() - start)
                reader = next((other for other in self.pipelines if other != name), name)
                if not equal(self.open(codec, reader)[...], self.volume):
                    row.unequal.add(name)
        return row

    def read(self, codec: str, operation: str, parts: list[Any]) -> Row:
        """Time reading parts of the array, and compare them with the volume."""
        row = Row.empty(codec, operation, self.pipelines)
        arrays = {name: self.open(codec, name) for name in self.pipelines}
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

    def create(self, codec: str) -> zarr.Array[Any]:
        """Create the array, or empty it."""
        return zarr.create_array(
            self.group,
            name=codec,
            shape=self.volume.shape,
            dtype=self.volume.dtype,
            chunks=self.chunks,
            overwrite=True,
            **CODECS[codec](self.volume.ndim),
        )

    def open(self, codec: str, pipeline: str) -> zarr.Array[Any]:
        """Open the array for reading."""
        with using(pipeline):
            return zarr.open_array(self.group, path=codec, mode="r")

    def explain(self, codec: str) -> str:
        """Say whether zarrs runs the codec itself."""
        import zarrs

        explanation = zarrs.explain(self.open(codec, OURS))
        return f"native in {OURS}" if explanation.native else str(explanation).replace("\n", "; ")

    def stored_bytes(self, codec: str) -> int:
        """Return the size of the files of the array."""
        return sum(f.stat().st_size for f in (self.group / codec).rglob("*") if f.is_file())


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


# ---------------------------------------------------------------------------------- output


def machine() -> str:
    """Say what is measured, and on what."""
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    versions = [f"Python {platform.python_version()}"]
    for package in ("zarrs-cython", "zarr", "numpy", "numcodecs"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"{', '.join(versions)}\n{cpu}, {os.cpu_count()} cores"


def size(count: int) -> str:
    """Return a number of bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def milliseconds(seconds: float) -> str:
    """Return a time in milliseconds, with three digits or more."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table_header(pipelines: list[str]) -> str:
    """Return the line above the rows."""
    return f"{'best / median in ms':24}" + "".join(f"{name:>18}" for name in pipelines)


def table_row(row: Row) -> str:
    """Return one line of the table."""
    line = f"  {row.operation:22}"
    for name, seconds in row.seconds.items():
        times = f"{milliseconds(min(seconds))} / {milliseconds(statistics.median(seconds))}"
        line += f"{'NOT EQUAL' if name in row.unequal else times:>18}"
    return line


def draw(path: Path, volume: Array, rows: list[Row], title: str) -> None:
    """Draw a slice of the volume beside the best times."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pipelines = list(rows[0].seconds)
    operations = list(dict.fromkeys(row.operation for row in rows))
    figure = pyplot.figure(figsize=(16, 9), layout="constrained")
    figure.suptitle(title)
    grid = figure.add_gridspec(2, 4)

    image = figure.add_subplot(grid[:, 0])
    image.imshow(middle_slice(volume), cmap="gray")
    image.set_title("a slice of the data")
    image.set_axis_off()

    for number, operation in enumerate(operations):
        axes = figure.add_subplot(grid[number // 3, 1 + number % 3])
        shown = [row for row in rows if row.operation == operation]
        height = 0.8 / len(pipelines)
        for place, name in enumerate(pipelines):
            axes.barh(
                [y + (place - (len(pipelines) - 1) / 2) * height for y in range(len(shown))],
                [min(row.seconds[name]) * 1e3 for row in shown],
                height,
                label=name,
            )
        axes.set_yticks(range(len(shown)), [row.codec.replace("-", "\n") for row in shown])
        axes.tick_params(labelleft=number % 3 == 0)
        axes.invert_yaxis()
        axes.set_title(operation)
        axes.set_xlabel("best time in ms")
    figure.legend(*axes.get_legend_handles_labels(), loc="lower left")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def middle_slice(volume: Array) -> Array:
    """Return two dimensions to look at: the first two, in the middle of the others."""
    if volume.ndim == 1:
        volume = volume[:, np.newaxis]
    plane = volume[(slice(None), slice(None), *(n // 2 for n in volume.shape[2:]))]
    return np.abs(plane).T[::-1]


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
    add("--rounds", type=positive, default=3, help="times that each is timed (default: 3)")
    add("--plot", type=Path, metavar="FILE", help="draw the times and a slice of the data")
    add(
        "--output",
        type=Path,
        metavar="DIR",
        help="new directory to keep the Zarr arrays in (default: none are kept)",
    )
    return parser.parse_args(argv)


def compare(args: argparse.Namespace, group: Path) -> int:
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
    print(title)
    print(f"in chunks of {'x'.join(map(str, chunks))}")
    print(machine() + "\n")
    print(table_header(pipelines))

    zarr.create_group(group, attributes={"source": source.name, "repeated": repeat})
    bench = Bench(volume, chunks, group, pipelines, args.rounds)
    rows: list[Row] = []
    for codec in CODECS:
        measured = bench.run(codec)
        print(f"{codec}: {size(bench.stored_bytes(codec))} stored, {bench.explain(codec)}")
        print("\n".join(map(table_row, measured)), flush=True)
        rows += measured

    if args.plot:
        draw(args.plot, scan, rows, title)
        print(f"\ndrawn: {args.plot}")
    if args.output:
        print(f"\nkept: {args.output}")
    unequal = [row for row in rows if row.unequal]
    if unequal:
        print(f"\nNOT EQUAL to the NumPy array: {len(unequal)} of {len(rows)} rows")
        return 1
    print(f"\neverything read is equal to the NumPy array, byte by byte: {len(rows)} rows")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the script; return the exit code."""
    args = parse(argv)
    try:
        import zarrs  # noqa: F401
    except ImportError as error:
        print(f"error: {error}; python3 -m pip install '.[examples]'", file=sys.stderr)
        return 2
    try:
        if args.output is not None:
            if args.output.exists():
                raise InputError(f"{args.output} exists already")
            return compare(args, args.output)
        with tempfile.TemporaryDirectory(prefix="zarrs-quickstart-") as directory:
            return compare(args, Path(directory) / "quickstart.zarr")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
