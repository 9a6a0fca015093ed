"""The tables of docs/performance.md, and where they stand."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence

from .arguments import stop
from .implementations import OURS
from .machine import describe
from .model import MODELLED, models
from .report import (
    TITLES,
    Report,
    by_key,
    markdown,
    milliseconds,
    ordered,
    ordered_pairs,
    reasons,
    summary,
    workload_cases,
)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """Return a table of Markdown, its first columns texts and the others numbers."""
    lines = [titles, ["---"] * texts + ["--:"] * (len(titles) - texts), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def losses(found: Report) -> str:
    """Return every row in which one of ours is slower than the best peer."""
    rows = []
    for each in found["results"]:
        over = each["best_peer_over"]
        if any(value < 1 for value in over.values()):
            told = [f"{over[name]:.2f}" if name in over else "" for name in OURS]
            rows.append([each["case"], each["operation"], TITLES[each["best_peer"]], *told])
    titles = ["array", "operation", "best peer", *(TITLES[name] for name in OURS)]
    return table(titles, rows, texts=3) if rows else "There is none."


def parts_table(found: Report) -> str:
    """Return the parts of every whole read and write with direct access, and ours."""
    columns = ("codec", "faults", "copy", "files", "sum", "ours")
    rows = []
    pairs = by_key(found["results"], "case", "operation", "way")
    for case, operation in ordered_pairs(pairs):
        direct, pipeline = (pairs[case, operation, way]["best"] for way in ("direct", "pipeline"))
        times = [f"{direct.get(column, 0) * 1e3:.2f}" for column in columns]
        ratios = [f"{direct['ratio']:.2f}", f"{pipeline['ratio']:.2f}"]
        rows.append([case, operation, *times, *ratios])
    titles = ["array", "operation", *columns, "direct / sum", "pipeline / its sum"]
    return table(titles, rows, texts=2)


WHOLE = {"read": "read_all", "create": "create_all", "write": "write_all"}


def headroom(limits: Report, compared: Report) -> str:
    """Return what whole reads and writes would be beside the best peer if they took their sum.

    Both were measured at different times, so that is what they are, times how far they are from it.
    """
    of = by_key(compared["results"], "case", "operation")
    rows = []
    for operation, title in WHOLE.items():
        for way, name in zip(("pipeline", "direct"), OURS, strict=True):
            pairs = [
                (each["median"]["ratio"], of[each["case"], title]["best_peer_over"][name])
                for each in limits["results"]
                if (each["operation"], each["way"]) == (operation, way)
                and (each["case"], title) in of
            ]
            over, ratio = map(statistics.geometric_mean, zip(*pairs, strict=True))
            told = [f"{value:.2f}" for value in (over, ratio, over * ratio)]
            rows.append([title, TITLES[name], str(len(pairs)), *told])
    titles = ["operation", "", "arrays", "ours / sum", "best peer / ours", "best peer / sum"]
    return table(titles, rows, texts=2)


def models_table(found: Report) -> str:
    """Return what the models are made of, and what they say."""
    rows = [
        [
            f"{TITLES[name]}, {operation}",
            case,
            milliseconds(model.serial),
            milliseconds(model.parallel),
            *(milliseconds(model.seconds(count)) for count in MODELLED),
        ]
        for (operation, name, case), model in models(found).items()
    ]
    titles = ["", "array", "serial", "parallel", *(f"{count} threads" for count in MODELLED)]
    return table(titles, rows, texts=2)


def memory_table(found: Report) -> str:
    """Return the peaks beyond the array."""
    implementations = ordered(each["implementation"] for each in found["results"])
    of = by_key(found["results"], "case", "operation", "implementation")

    def cell(each: Report) -> str:
        return f"{each['beyond_array_mib']:.0f}" if "beyond_array_mib" in each else "failed"

    rows = [
        [f"{case}, {operation}", *(cell(of[case, operation, name]) for name in implementations)]
        for case, operation in ordered_pairs(of)
    ]
    return table(["array", *(TITLES[name] for name in implementations)], rows)


def blocks(found: dict[str, Report]) -> dict[str, str]:
    """Return what stands between the markers of docs/performance.md, by name."""
    compared = found["compare"]
    results = compared["results"]
    workload = [each for each in results if each["case"] in workload_cases(compared)]
    totals = filter(None, (summary(results, name) for name in OURS))
    return {
        "machine": bullets(describe(compared["environment"])),
        "summary": bullets([*totals, *reasons(results)]),
        "losses": losses(compared),
        "all": markdown(
            {**compared, "results": [each for each in results if each not in workload]},
            notes=False,
        ),
        "workloads": markdown({**compared, "results": workload}, notes=False),
        "headroom": headroom(found["limits"], compared),
        "limits": parts_table(found["limits"]),
        "models": models_table(found["threads"]),
        "memory": memory_table(found["memory"]),
    }


def filled(text: str, found: dict[str, str]) -> str:
    """Return a page with other blocks between its markers."""
    for name, block in found.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        pattern = f"(?s){re.escape(begin)}.*?{re.escape(end)}"
        new = f"{begin}\n\n{block}\n\n{end}"
        parts = re.split(pattern, text)
        if len(parts) != 2:
            stop(f"the page has no place for {name!r}: {begin} ... {end}")
        text = new.join(parts)
    return text
