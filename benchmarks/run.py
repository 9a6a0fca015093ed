"""Measure everything, in an environment with all implementations that it makes first.

    python3 benchmarks/run.py                    # about 20 minutes, on an idle machine
    python3 benchmarks/run.py --only compare     # one of the steps
    python3 benchmarks/run.py --small            # tiny arrays, to see that everything works

The environment is below ``build/`` and kept; this package is built for it from the checkout, and
PyPI's package of the Rust library, which has the same import name, is installed as ``zarrs_rust``.
What the steps measure goes as JSON into ``benchmarks/results/``. The last step draws the charts of
docs/performance.md, writes its tables, and prints the table of README.md.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.peers import ENVIRONMENT, make_environment

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
REST = 60  # seconds for which ext4 remembers what was deleted


@dataclass(frozen=True)
class Step:
    """A script that is run.

    Attributes
    ----------
    name : str
        Of the script, and of the file with what it measured.
    arguments : tuple of str
        What it is told.
    small : tuple of str
        What it is told if everything is to be tiny.
    rests : bool
        Whether it creates files on the clock, and files have been deleted or replaced shortly
        before.
    """

    name: str
    arguments: tuple[str, ...] = ()
    small: tuple[str, ...] = ("--small", "--rounds", "1")
    rests: bool = False


STEPS = [
    Step("compare", rests=True),
    Step("threads", ("--rounds", "3"), rests=True),
    Step("limits", ("--rounds", "3")),
    Step("memory", ("--mib", "128"), ("--mib", "20")),
    Step("batches", ("--part", "chunks", "--part", "points", "--rounds", "3")),
]
CHARTS = "charts"


def run(python: Path, script: str, *arguments: str) -> None:
    """Run one of the scripts in the environment, or leave."""
    command = [str(python), "-W", "ignore", str(HERE / f"{script}.py"), *arguments]
    print(f"+ {shlex.join(command)}", flush=True)
    begin = time.monotonic()
    code = subprocess.run(command, check=False).returncode
    print(f"  took {time.monotonic() - begin:.0f} s\n", flush=True)
    if code:
        sys.exit(code)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    names = [*(step.name for step in STEPS), CHARTS]
    add("--only", action="append", choices=names, help="default: all steps")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON goes")
    add("--docs", type=Path, default=HERE.parent / "docs", metavar="DIR", help="where charts go")
    add("--dir", type=Path, help="where to put the data (default: the system's temporary files)")
    add(
        "--python", type=Path, help=f"of an environment that is there (default: make {ENVIRONMENT})"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    chosen = args.only or [*(step.name for step in STEPS), CHARTS]
    python = args.python or make_environment()
    args.results.mkdir(parents=True, exist_ok=True)
    # What the steps leave is deleted at the end, and not under those that follow.
    with tempfile.TemporaryDirectory(prefix="zarrs-run-", dir=args.dir) as directory:
        for step in STEPS:
            if step.name not in chosen:
                continue
            if step.rests and not args.small:
                print(f"resting for {REST} s, since files may have been deleted", flush=True)
                time.sleep(REST)
            arguments = step.small if args.small else step.arguments
            file = args.results / f"{step.name}.json"
            where = ("--dir", directory, "--keep", "--json", str(file))
            run(python, step.name, *arguments, *where)
    if CHARTS in chosen:
        run(python, CHARTS, "--results", str(args.results), "--docs", str(args.docs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
