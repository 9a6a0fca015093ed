"""Feed a trainer: worker processes read batches of random crops out of one sharded array.

    python3 examples/crop_loader.py                            # makes an array of 256 MiB first
    python3 examples/crop_loader.py --array data.zarr --crop 64 64 64 --batch 8
    python3 examples/crop_loader.py --torch                    # with torch's DataLoader

`Crops` is all that a trainer needs: a map-style dataset, as ``torch.utils.data.DataLoader`` takes
it. A worker gets the numbers of a whole batch (``__getitems__``) and reads it in one call,
`zarrs.Array.read_many`, which fetches and decodes what the crops share only once. Workers may be
forked after the parent has read.

The same is measured with zarr's own arrays, crop by crop, and with TensorStore, whose reads are all
begun before one is awaited. Every crop is compared with what the parent has read.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import ZstdCodec

import zarrs

Crop = tuple[slice, ...]
READERS = ("zarrs", "zarr", "tensorstore")
METHODS = ("fork", "spawn")


class Crops:
    """Random crops of an array.

    Parameters
    ----------
    path : str
        Where the array is.
    shape, size : sequence of int
        Of the array, and of a crop.
    count : int
        Crops of an epoch.
    reader : {"zarrs", "zarr", "tensorstore"}
        What reads them.
    """

    def __init__(
        self, path: str, shape: Sequence[int], size: Sequence[int], count: int, reader: str
    ) -> None:
        rng = np.random.default_rng(0)
        self.corners = np.stack(
            [rng.integers(0, n - m + 1, count) for n, m in zip(shape, size, strict=True)], axis=1
        )
        self.path, self.size, self.reader = path, tuple(size), reader
        self._array: Any = None  # opened by each worker for itself

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, i: int) -> Any:
        return self.__getitems__([i])[0]

    def __getitems__(self, numbers: Sequence[int]) -> Any:
        """Read a batch: an array of shape ``(len(numbers), *size)``."""
        if self._array is None:
            self._array = open_with(self.reader, self.path)
        crops = [self.crop(i) for i in numbers]
        if self.reader == "zarrs":
            return self._array.read_many(crops)
        if self.reader == "zarr":
            return np.stack([self._array[crop] for crop in crops])
        reads = [self._array[crop].read() for crop in crops]
        return np.stack([read.result() for read in reads])

    def crop(self, i: int) -> Crop:
        """Return the i-th crop."""
        corner = map(int, self.corners[i])
        return tuple(slice(c, c + m) for c, m in zip(corner, self.size, strict=True))


def open_with(reader: str, path: str) -> Any:
    """Open the array as one of the readers does."""
    if reader == "zarrs":
        return zarrs.open_array(path, mode="r")
    if reader == "zarr":
        return zarr.open_array(path, mode="r")
    import tensorstore

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
    return tensorstore.open(spec, read=True).result()


# --------------------------------------------------------------------- the loader, without torch

_dataset: Crops | None = None


def _begin(dataset: Crops) -> None:
    global _dataset
    _dataset = dataset


def _load(numbers: Sequence[int]) -> tuple[Sequence[int], Any]:
    assert _dataset is not None
    return numbers, _dataset.__getitems__(numbers)


def load(
    dataset: Crops, batch: int, workers: int, method: str
) -> Iterator[tuple[Sequence[int], Any]]:
    """Yield the numbers and the crops of all batches, as workers deliver them."""
    batches = [range(i, min(i + batch, len(dataset))) for i in range(0, len(dataset), batch)]
    context = multiprocessing.get_context(method)
    with context.Pool(workers, _begin, (dataset,)) as pool:
        pool.map(_load, [batches[0][:1]] * workers, chunksize=1)  # they have started
        yield [], None
        yield from pool.imap_unordered(_load, batches)


def _with_numbers(pairs: Any) -> Any:
    return pairs


def load_with_torch(
    dataset: Crops, batch: int, workers: int, method: str
) -> Iterator[tuple[Sequence[int], Any]]:
    """Do the same with torch's DataLoader, which delivers tensors in order."""
    loader = importlib.import_module("torch.utils.data").DataLoader(
        dataset,
        batch_size=batch,
        num_workers=workers,
        multiprocessing_context=method,
        collate_fn=_with_numbers,
    )
    batches = iter(loader)
    yield [], None
    for number, crops in enumerate(batches):
        first = number * batch
        yield range(first, first + len(crops)), crops


# ---------------------------------------------------------------------------------------- main


def make(path: str, edge: int) -> None:
    """Make an array of ``edge`` cubed counts of photons, in shards."""
    rng = np.random.default_rng(1)
    axes = np.meshgrid(*[np.linspace(0, 7, edge, dtype="f4")] * 3, indexing="ij", sparse=True)
    data = rng.poisson(np.clip(20 + 15 * sum(map(np.sin, axes)), 0.1, None)).astype("u2")
    chunk, shard = max(edge // 16, 1), max(edge // 4, 1)
    zarrs.create_array(
        path, data=data, chunks=(chunk,) * 3, shards=(shard,) * 3, compressors=ZstdCodec(level=1)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--array", help="a sharded array of format 3; default: one is made")
    parser.add_argument("--edge", type=int, default=512, help="of the array that is made")
    parser.add_argument("--crop", type=int, nargs="+", default=[64, 64, 64])
    parser.add_argument("--batch", type=int, default=16, help="crops of a batch")
    parser.add_argument("--batches", type=int, default=32, help="batches of an epoch")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--torch", action="store_true", help="use torch's DataLoader")
    asked = parser.parse_args(argv)
    if asked.torch and importlib.util.find_spec("torch") is None:
        parser.error("torch is not installed: python3 -m pip install torch")
    if min(asked.edge, asked.batch, asked.batches, asked.workers, *asked.crop) < 1:
        parser.error("all numbers must be at least 1")
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    with tempfile.TemporaryDirectory(prefix="crop_loader-") as directory:
        path = asked.array or str(Path(directory) / "crops.zarr")
        if not asked.array:
            make(path, asked.edge)
        return measure(asked, path, parser)


def measure(asked: argparse.Namespace, path: str, parser: argparse.ArgumentParser) -> int:
    """Run an epoch with each reader and method; return the exit status."""
    data = zarrs.open_array(path, mode="r")[...]  # so that the parent has read before it forks
    if len(asked.crop) != data.ndim or any(
        m > n for m, n in zip(asked.crop, data.shape, strict=False)
    ):
        parser.error(f"crops of {asked.crop} do not fit an array of shape {data.shape}")
    count = asked.batch * asked.batches
    loader = load_with_torch if asked.torch else load
    for method in METHODS:
        speeds = {}
        for reader in READERS:
            if reader == "tensorstore" and importlib.util.find_spec("tensorstore") is None:
                continue
            dataset = Crops(path, data.shape, asked.crop, count, reader)
            begin, seen, wrong = 0.0, 0, 0
            for numbers, crops in loader(dataset, asked.batch, asked.workers, method):
                begin = begin or time.perf_counter()
                seen += len(numbers)
                wrong += sum(
                    not np.array_equal(crop, data[dataset.crop(i)])
                    for i, crop in zip(numbers, () if crops is None else crops, strict=True)
                )
            speeds[reader] = seen / (time.perf_counter() - begin)
            if wrong or seen != count:
                print(f"{reader} with {method}: {wrong} of {seen} crops are wrong", file=sys.stderr)
                return 1
        told = "   ".join(f"{reader} {speed:8,.0f} crops/s" for reader, speed in speeds.items())
        print(f"{asked.workers} workers, {method:6} {told}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
