"""Measure Zarr implementations against each other on one machine, in one process and one run.

Each case is an array with one codec chain, each operation a way to read or write it. An operation
is first run once by every implementation and its result compared with NumPy, byte by byte; what
was written is read back by another implementation. Only then is it timed, in rounds: a round
times every implementation once, in shuffled order, so that a drift of the machine's speed hits
all of them alike. Who is slow is timed less often. Files are in the page cache, and nobody waits
for the disk (TensorStore calls fsync after each chunk unless told not to; here it is told not to,
since no other does).

Writes are measured into a new array (``create_all``), over what is there (``write_all``) and of
parts. Nothing is deleted before the end: ext4 is slow to create files soon after deletions.

    python3 benchmarks/compare.py                      # everything
    python3 benchmarks/compare.py --case zstd --op read
    python3 benchmarks/compare.py --markdown           # as a table for Markdown
    python3 benchmarks/compare.py --from benchmarks/results/compare.json --markdown

``benchmarks/run.py`` makes an environment with all implementations and runs this and more in it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness.arguments import (
    add_directory,
    check_directory,
    choose,
    pattern,
    positive,
    recorded,
    scratch,
    stop,
)
from harness.cases import CASES, Case
from harness.implementations import OURS, Implementation, implementations
from harness.machine import describe, environment
from harness.measuring import Cell, Contest, measure
from harness.operations import OPERATIONS, Operation
from harness.report import Report, markdown, report, save, summary, text_header, text_row

Pair = tuple[Case, Operation]


def pairs(cases: Sequence[Case], operations: Sequence[Operation]) -> list[Pair]:
    """Return what is measured, operation by operation."""
    return [
        (case, operation)
        for operation, case in itertools.product(operations, cases)
        if operation.name in case.operations
    ]


def run(
    chosen: Sequence[Pair],
    impls: Sequence[Implementation],
    directory: Path,
    rounds: int,
    patience: float,
    progress: TextIO,
) -> list[list[Cell]]:
    """Measure everything; print each row as soon as it is known. Return rows case by case."""
    rng = random.Random(0)
    rows = []
    print(text_header(impls), file=progress)
    for case, operation in chosen:
        path = directory / case.name
        data = case.data(case.shape) if path.exists() else case.create(path)
        rows.append(measure(Contest(case, operation, impls, path, data), rounds, rng, patience))
        print(text_row(rows[-1]), file=progress, flush=True)
    order = [case.name for case in CASES]
    return sorted(rows, key=lambda cells: order.index(cells[0].case))


def narrowed(found: Report, args: argparse.Namespace) -> Report:
    """Return what was measured before, of the cases and operations that are asked for."""
    results = [
        each
        for each in found["results"]
        if args.case.search(each["case"]) and args.op.search(each["operation"])
    ]
    if not results:
        stop("nothing matches")
    return {**found, "results": results}


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
    add(
        "--patience",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="who has been timed for so long in one row is not timed again (default: 0.5)",
    )
    add("--threads", type=positive, help="for every implementation (default: as each one likes)")
    add("--strict", action="store_true", help="fail where zarrs would fall back to zarr's own")
    add("--small", action="store_true", help="tiny arrays, to see that everything works")
    add_directory(parser)
    add("--json", type=Path, metavar="FILE", help="also write everything measured to this file")
    add("--from", type=Path, metavar="FILE", dest="file", help="measure nothing: tell of this file")
    add("--markdown", action="store_true", help="print a table for Markdown")
    add("--list", action="store_true", help="print the names of cases and operations")
    return parser.parse_args(argv)


def tell(found: Report, *, as_markdown: bool) -> int:
    """Print what came of it; return the exit status."""
    if as_markdown:
        print(markdown(found))
    else:
        for total in filter(None, (summary(found["results"], name) for name in OURS)):
            print("\n" + total)
    failed = False
    for each in found["results"]:
        for name, error in each["errors"].items():
            failed = True
            where = f"{each['case']} {each['operation']} {name}"
            print(f"failed: {where}: {error}", file=sys.stderr)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    if args.list:
        print("cases:      " + " ".join(case.name for case in CASES))
        print("operations: " + " ".join(operation.name for operation in OPERATIONS))
        return 0
    if args.file:
        return tell(narrowed(json.loads(args.file.read_text()), args), as_markdown=args.markdown)
    chosen = pairs(
        [case for case in CASES if args.case.search(case.name)],
        [operation for operation in OPERATIONS if args.op.search(operation.name)],
    )
    if not chosen:
        stop("nothing matches; --list prints what there is")
    check_directory(args.dir)
    impls = choose(implementations(args.threads, strict=args.strict), args.impl)
    if args.small:
        chosen = [(case.shrunk(), operation) for case, operation in chosen]

    progress = sys.stderr if args.markdown else sys.stdout
    env = environment(impls, args.threads, args.dir)
    print("\n".join(describe(env)) + "\n", file=progress)
    with scratch(args, "compare") as directory:
        rows = run(chosen, impls, directory, args.rounds, args.patience, progress)

    cases = list({case.name: case for case, _ in chosen}.values())
    found = report(rows, cases, impls, env, recorded(args))
    if args.json:
        save(args.json, found)
    return tell(found, as_markdown=args.markdown)


if __name__ == "__main__":
    sys.exit(main())
