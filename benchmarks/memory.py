"""Measure the peak memory of reading and writing a large array, in a fresh process per case.

The table shows by how much the resident memory of a process grew at its peak, in MiB, and how
much of that is beyond the array itself. Not counted is what the interpreter takes with everything
imported, after it has written and read a tiny array. The array is counted in a write, too.

    python3 benchmarks/memory.py             # an array of 1 GiB
    python3 benchmarks/memory.py --mib 64    # a smaller one
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

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
from harness.data import Array
from harness.implementations import implementations
from harness.machine import describe, environment
from harness.operations import same
from harness.report import save

MIB = 2**20
PLANE = (512, 512)  # 1 MiB of float32
SLAB = 16  # planes that are made, and stored, together

COMPRESSORS: dict[str, Callable[[], Any]] = {
    "raw": lambda: None,
    "blosc": lambda: BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4),
    "zstd": lambda: ZstdCodec(level=3),
    "shard-raw": lambda: None,
    "shard-zstd": lambda: ZstdCodec(level=3),
}
OPERATIONS = ("read", "write")

# ------------------------------------------------------------------------------------ data


class Data:
    """An array of `mib` MiB, known without holding it: each slab is the first one plus its number.

    It repeats from slab to slab, but no chunk sees that.
    """

    def __init__(self, mib: int) -> None:
        self.shape = (mib, *PLANE)
        self.chunks = (min(mib, SLAB), PLANE[0] // 2, PLANE[1] // 2)
        noise = np.random.default_rng(0).standard_normal((SLAB, *PLANE), dtype="f4")
        wave = np.sin(np.linspace(0, 7, PLANE[1], dtype="f4"))
        self.first = np.round(wave + np.float32(1e-3) * noise, 3)

    def slabs(self) -> range:
        return range(0, self.shape[0], SLAB)

    def slab(self, start: int) -> Array:
        slab: Array = self.first[: self.shape[0] - start] + np.float32(start)
        return slab

    def whole(self) -> Array:
        array = np.empty(self.shape, dtype="f4")
        for start in self.slabs():
            target = array[start : start + SLAB]
            np.add(self.first[: len(target)], np.float32(start), out=target)
        return array

    def create(self, path: Path, case: str) -> zarr.Array[Any]:
        """Make the array in the store, still empty."""
        sharded = case.startswith("shard")  # in shards of 64 MiB
        return zarr.create_array(
            path,
            shape=self.shape,
            dtype="f4",
            chunks=(self.chunks[0], 64, 64) if sharded else self.chunks,
            shards=(4 * self.chunks[0], *PLANE) if sharded else None,
            compressors=COMPRESSORS[case](),
            overwrite=True,
        )

    def equals(self, read: Callable[[slice], Any]) -> bool:
        """Compare, slab by slab, with what `read` returns for some of the planes."""
        return all(same(read(slice(n, n + SLAB)), self.slab(n)) for n in self.slabs())


# ------------------------------------------------------------------------- one fresh process


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes."""
    # On Linux, ru_maxrss is at least what the parent had when it started us.
    with contextlib.suppress(OSError):
        found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let the peak start again from what is resident now, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def child(operation: str, case: str, impl: str, path: str, mib: int, threads: int | None) -> int:
    """Do one thing, check it, and return by how many bytes the memory grew at its peak."""
    known = {each.name: each for each in implementations(threads)}
    tested, default = known[impl], known["default"]
    tested.missing()  # imports it
    where, tiny = Path(path), Path(path).with_name("tiny")
    data = Data(mib)
    with default.active():
        Data(1).create(tiny, case)
        if operation == "write":
            data.create(where, case)
    with tested.active():
        warm = tested.open(tiny, 3, writable=True)
        warm.write(..., Data(1).whole())
        warm.read(...)
        target = tested.open(where, 3, writable=operation == "write")
        forget_peak()
        before = peak_memory()
        if operation == "write":
            target.write(..., data.whole())
        else:
            result = np.asarray(target.read(...))
        grown = peak_memory() - before
    with default.active():
        right = data.equals(
            result.__getitem__ if operation == "read" else default.open(where, 3).read
        )
    if not right:
        raise ValueError("WRONG RESULT")
    return grown


def in_fresh_process(**arguments: Any) -> int:
    """Run `child` in another interpreter."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last_line = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeError(last_line or f"the process ended with {done.returncode}")
    return int(done.stdout)


# ------------------------------------------------------------------------------------ main


def create_filled(path: Path, case: str, mib: int) -> None:
    """Store the array that is going to be read."""
    data = Data(mib)
    with implementations()[0].active():
        array = data.create(path, case)
        for start in data.slabs():
            array[start : start + SLAB] = data.slab(start)


def measure(
    operation: str, case: str, impl: str, directory: Path, mib: int, threads: int | None
) -> dict[str, Any]:
    """Return one result: the peak, or the error."""
    result: dict[str, Any] = {"case": case, "operation": operation, "implementation": impl}
    path = str(directory / (case if operation == "read" else "written"))
    try:
        grown = in_fresh_process(
            operation=operation, case=case, impl=impl, path=path, mib=mib, threads=threads
        )
    except RuntimeError as error:
        return result | {"error": str(error)}
    return result | {"peak_mib": grown / MIB, "beyond_array_mib": grown / MIB - mib}


def cell(result: dict[str, Any]) -> str:
    if "error" in result:
        return "failed"
    return f"{result['peak_mib']:.0f} ({result['beyond_array_mib']:+.0f})"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ",".join(impl.name for impl in implementations())
    add("--mib", type=positive, default=1024, help="size of the array (default: 1024)")
    add("--case", type=pattern, default="", metavar="REGEX", help=f"of {', '.join(COMPRESSORS)}")
    add("--impl", metavar="NAMES", help=f"only these of {names} (default: all that are installed)")
    add("--threads", type=positive, help="for every implementation (default: as each one likes)")
    add_directory(parser)
    add("--json", type=Path, metavar="FILE", help="also write everything measured to this file")
    add("--child", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.child:
        print(child(**json.loads(args.child)))
        return 0
    cases = [case for case in COMPRESSORS if args.case.search(case)]
    if not cases:
        stop(f"nothing matches; there are: {', '.join(COMPRESSORS)}")
    check_directory(args.dir)
    impls = choose(implementations(args.threads), args.impl)

    env = environment(impls, args.threads, args.dir)
    print("\n".join(describe(env)) + "\n")
    print(f"Peak memory in MiB (beyond the array) for an array of {args.mib} MiB")
    print(f"{'':20}" + "".join(f"{impl.title:>19}" for impl in impls))
    results = []
    with scratch(args, "memory") as directory:
        for case in cases:
            create_filled(directory / case, case, args.mib)
            for operation in OPERATIONS:
                row = [
                    measure(operation, case, impl.name, directory, args.mib, args.threads)
                    for impl in impls
                ]
                line = "".join(f"{cell(result):>19}" for result in row)
                print(f"{case:10}{operation:10}{line}", flush=True)
                results += row

    if args.json:
        save(args.json, {"environment": env, "mib": args.mib, "results": results})
    failed = [result for result in results if "error" in result]
    for result in failed:
        where = f"{result['case']} {result['operation']} {result['implementation']}"
        print(f"failed: {where}: {result['error']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
