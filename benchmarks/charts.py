"""Draw the charts of docs/performance.md and write its tables, from what was measured.

    python3 benchmarks/charts.py                    # from benchmarks/results/ into docs/
    python3 benchmarks/charts.py --results DIR --docs DIR

It prints the table of README.md. ``benchmarks/run.py`` measures, and does this at its end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import charts
from harness.arguments import stop
from harness.page import blocks, filled
from harness.report import Report, markdown, workload_cases
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
RESULTS = ("compare", "threads", "limits", "memory", "batches")
README = ("read_all", "read_windows", "read_points", "create_all", "write_all", "write_window")


def load(directory: Path) -> dict[str, Report]:
    found = {}
    for name in RESULTS:
        file = directory / f"{name}.json"
        if not file.exists():
            stop(f"no {file}; benchmarks/run.py writes it")
        found[name] = json.loads(file.read_text())
    return found


def all_charts(found: dict[str, Report]) -> dict[str, Callable[[], Figure]]:
    """Return what draws each chart, by the names of their files."""
    return {
        "ratios": partial(charts.ratios, found["compare"]),
        "workloads": partial(charts.workloads, found["compare"]),
        "limits": partial(charts.limits, found["limits"]),
        "threads": partial(charts.threads, found["threads"]),
        "many-cores": partial(charts.many_cores, found["threads"]),
        "memory": partial(charts.memory, found["memory"]),
        "growth": partial(charts.growth, found["batches"]["results"]),
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--results", type=Path, default=HERE / "results", metavar="DIR", help="of run.py")
    add("--docs", type=Path, default=HERE.parent / "docs", metavar="DIR", help="what to renew")
    args = parser.parse_args(argv)
    page = args.docs / "performance.md"
    if not page.exists():
        stop(f"no {page}")
    found = load(args.results)
    page.write_text(filled(page.read_text(), blocks(found)))
    (args.docs / "images").mkdir(exist_ok=True)
    for name, chart in all_charts(found).items():
        charts.draw(chart, args.docs / "images" / f"{name}.svg")
    results = [each for each in found["compare"]["results"] if each["operation"] in README]
    shown = [each for each in results if each["case"] not in workload_cases(found["compare"])]
    print(markdown({**found["compare"], "results": shown}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
