"""Measure how reading and writing scale with threads, more of them than cores included.

Each number of threads is a process of its own, as some implementations fix theirs for good.

    python3 benchmarks/threads.py                # 1, 2, one a core, and four a core
    python3 benchmarks/threads.py --threads 1,2,3 --case zstd
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from harness.cases import CASES
from harness.implementations import implementations
from harness.machine import describe, environment, usable_cores
from harness.report import milliseconds, save

COMPARE = Path(__file__).resolve().with_name("compare.py")
NAMES = ("lz4", "zstd", "small", "shard")
OPERATIONS = ("read_all", "create_all")


def default_counts() -> list[int]:
    """Return how many threads are measured: 1 and 2, which the model needs, and more than cores."""
    return sorted({1, 2, usable_cores(), 4 * usable_cores()})


def counts(text: str) -> list[int]:
    return [positive(count) for count in text.split(",")]


def measure(count: int, names: Sequence[str], root: Path, args: argparse.Namespace) -> Any:
    """Compare all with so many threads; return the results."""
    file = root / f"{count}.json"
    command = [
        *(sys.executable, "-W", "ignore", str(COMPARE), "--threads", str(count), "--keep"),
        *("--case", f"^({'|'.join(names)})$", "--op", f"^({'|'.join(OPERATIONS)})$"),
        *("--impl", args.impl, "--rounds", str(args.rounds), "--dir", str(root)),
        *("--json", str(file), *(["--small"] if args.small else [])),
    ]
    environ = os.environ | {"RAYON_NUM_THREADS": str(count)}
    done = subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        stop(f"compare.py fails with {count} threads")
    return json.loads(file.read_text())["results"]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = ",".join(impl.name for impl in implementations())
    add("--threads", type=counts, metavar="NUMBERS", help="how many, with commas between")
    add("--case", type=pattern, default="", metavar="REGEX", help=f"of {', '.join(NAMES)}")
    add("--impl", metavar="NAMES", help=f"only these of {names} (default: all that are installed)")
    add("--rounds", type=positive, default=5, help="times that each is timed (default: 5)")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add_directory(parser)
    add("--json", type=Path, metavar="FILE", help="also write everything measured to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    names = [case.name for case in CASES if case.name in NAMES and args.case.search(case.name)]
    if not names:
        stop(f"nothing matches; there are: {', '.join(NAMES)}")
    check_directory(args.dir)
    impls = choose(implementations(), args.impl)
    args.impl = ",".join(impl.name for impl in impls)
    env = environment(impls, None, args.dir)
    print("\n".join(describe(env)) + "\n")
    print(f"{'medians in ms':36}" + "".join(f"{impl.title:>16}" for impl in impls))
    results = []
    with scratch(args, "threads") as root:
        for count in args.threads or default_counts():
            for found in measure(count, names, root, args):
                results.append({"threads": count, **found})
                line = f"{count:3} threads  {found['case']:12}{found['operation']:12}"
                times = (milliseconds(found["median"][name]) for name in found["median"])
                print(line + "".join(f"{time:>16}" for time in times), flush=True)
    if args.json:
        save(args.json, {"environment": env, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
