"""Ratios, tables and JSON of what was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .cases import Case
from .implementations import OURS, Implementation, implementations
from .machine import describe
from .measuring import Cell
from .operations import OPERATIONS

Report = dict[str, Any]
Key = tuple[Any, ...]
TITLES = {impl.name: impl.title for impl in implementations()}
OPERATION_TITLES = {operation.name: operation.title for operation in OPERATIONS}


def ratios(median: dict[str, float]) -> tuple[str | None, dict[str, float]]:
    """Return the best peer and its time over each of ours: above 1, ours is faster."""
    peers = {name: seconds for name, seconds in median.items() if name not in OURS}
    if not peers:
        return None, {}
    best = min(peers, key=lambda name: peers[name])
    return best, {name: peers[best] / median[name] for name in OURS if name in median}


def result(cells: Sequence[Cell]) -> Report:
    """Return one operation on one case as JSON takes it."""
    able = [cell for cell in cells if cell.able]
    median = {cell.implementation: cell.median for cell in able}
    best_peer, found = ratios(median)
    return {
        "case": cells[0].case,
        "operation": cells[0].operation,
        "best_peer": best_peer,
        "best_peer_over": found,
        "median": median,
        "best": {cell.implementation: cell.best for cell in able},
        "seconds": {cell.implementation: cell.seconds for cell in able},
        "lacks": {cell.implementation: cell.lacks for cell in cells if cell.lacks},
        "errors": {cell.implementation: cell.error for cell in cells if cell.error},
    }


def report(
    rows: Sequence[Sequence[Cell]],
    cases: Sequence[Case],
    impls: Sequence[Implementation],
    env: Report,
    arguments: Report,
) -> Report:
    """Return all that was measured."""
    return {
        "environment": env,
        "arguments": arguments,
        "implementations": [impl.name for impl in impls],
        "cases": {case.name: case.describe() for case in cases},
        "results": [result(cells) for cells in rows],
    }


def save(path: Path, found: Report) -> None:
    path.write_text(json.dumps(found, indent=1, default=str) + "\n")


def summary(results: Sequence[Report], ours: str) -> str | None:
    """Return one sentence on all the ratios, losses included."""
    found = [each["best_peer_over"][ours] for each in results if ours in each["best_peer_over"]]
    if not found:
        return None
    mean = statistics.geometric_mean(found)
    slower = sum(value < 1 for value in found)
    return (
        f"best peer's time over that of {TITLES[ours]}: geometric mean {mean:.2f}, "
        f"lowest {min(found):.2f}, highest {max(found):.2f}; "
        f"{TITLES[ours]} is slower than the best peer in {slower} of {len(found)} rows"
    )


def reasons(results: Sequence[Report]) -> list[str]:
    """Return who could not do something, and why, and what failed."""
    lacks = [
        f"{TITLES[name]}: {reason}" for each in results for name, reason in each["lacks"].items()
    ]
    failed = [
        f"{TITLES[name]}, {each['case']}, {each['operation']}: {reason}"
        for each in results
        for name, reason in each["errors"].items()
    ]
    return list(dict.fromkeys([*lacks, *failed]))


# --------------------------------------------------------------------------- looking things up


def by_key(results: Iterable[Report], *keys: str) -> dict[Key, Report]:
    return {tuple(each[key] for key in keys): each for each in results}


def ordered(values: Iterable[str]) -> list[str]:
    """Return each value once, in the order in which they come."""
    return list(dict.fromkeys(values))


def ordered_pairs(of: dict[Key, Report]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((key[0], key[1]) for key in of))


def workload_cases(found: Report) -> list[str]:
    """Return the arrays of the workloads: only they are read chunk by chunk."""
    return ordered(each["case"] for each in found["results"] if each["operation"] == "read_chunks")


# ------------------------------------------------------------------------------------ text


def milliseconds(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def verdict(found: Report, name: str) -> str | None:
    """Return what stands in a table in the place of a time, if there is none."""
    if name in found["lacks"]:
        return "no"
    return "failed" if name in found["errors"] else None


def text_header(impls: Sequence[Implementation]) -> str:
    titles = "".join(f"{impl.title:>16}" for impl in impls)
    return f"{'median (best) in ms':34}{titles}  best peer over ours"


def text_row(cells: Sequence[Cell]) -> str:
    found = result(cells)
    line = f"{found['case']:20}{found['operation']:14}"
    for cell in cells:
        times = verdict(found, cell.implementation)
        if times is None:
            times = f"{milliseconds(cell.median)} ({milliseconds(cell.best)})"
        line += f"{times:>16}"
    told = ", ".join(f"{name} {value:.2f}" for name, value in found["best_peer_over"].items())
    return f"{line}  {told} ({found['best_peer']})" if told else line


# -------------------------------------------------------------------------------- Markdown


def markdown(found: Report, *, notes: bool = True) -> str:
    """Return a table of what was measured, and what is to be said of it."""
    names = found["implementations"]
    ours = [name for name in OURS if name in names]
    titles = [TITLES[name] for name in names] + [f"best peer / {TITLES[name]}" for name in ours]
    lines = [
        "| array; its size in chunks of | operation | " + " | ".join(titles) + " |",
        "|---|---|" + "--:|" * len(titles),
    ]
    previous = None
    for each in found["results"]:
        case = each["case"]
        times = [verdict(each, name) or milliseconds(each["median"][name]) for name in names]
        told = each["best_peer_over"]
        columns = [
            found["cases"][case] if case != previous else "",
            OPERATION_TITLES[each["operation"]],
            *times,
            *(f"{told[name]:.2f}" if name in told else "" for name in ours),
        ]
        lines.append("| " + " | ".join(columns) + " |")
        previous = case
    if notes:
        said = [total for name in ours if (total := summary(found["results"], name))]
        said += reasons(found["results"])
        lines += ["", *[f"- {line}" for line in [*said, *describe(found["environment"])]]]
    return "\n".join(lines)
