"""Charts of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from .cases import WORKLOADS
from .implementations import DIRECT, OURS, PIPELINE
from .model import MODELLED, models
from .report import (
    OPERATION_TITLES,
    TITLES,
    Key,
    Report,
    by_key,
    ordered,
    ordered_pairs,
    workload_cases,
)

# Okabe and Ito's colours, which the colour-blind tell apart; markers differ, too.
GREY, ORANGE, VERMILION, GREEN = "#767676", "#E69F00", "#D55E00", "#009E73"
PURPLE, SKY, BLUE, BLACK = "#CC79A7", "#56B4E9", "#0072B2", "#000000"
STYLES = {
    "default": (GREY, "s"),
    "fused": (ORANGE, "^"),
    "rust": (VERMILION, "v"),
    "tensorstore": (GREEN, "D"),
    "zarrista": (PURPLE, "P"),
    PIPELINE: (SKY, "o"),
    DIRECT: (BLUE, "o"),
}
CASE_STYLES = [(BLUE, "o"), (VERMILION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v")]
WELL, BADLY = BLUE, VERMILION
# Text stays text, and nothing in a file depends on when it was made. The background is white in
# dark pages as well, as black text needs it.
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "zarrs",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.titlesize": 10,
    "legend.frameon": False,
}


def panels(
    count: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return a figure, and so many of its axes."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * size[0], rows * size[1]), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options).flat
    found = list(axes)
    for spare in found[count:]:
        spare.set_axis_off()
    return figure, found[:count]


def legend(figure: Figure, title: str, styles: dict[str, tuple[str, str]]) -> None:
    """Say below a figure what its axis is, and what its colours and markers mean."""
    handles = [
        Line2D([], [], color=color, marker=marker, linestyle="", label=label)
        for label, (color, marker) in styles.items()
    ]
    place(figure, title, handles)


def place(figure: Figure, title: str, handles: list[Line2D]) -> None:
    figure.legend(
        handles=handles, title=title, loc="outside lower center", ncols=len(handles), fontsize=9
    )


def names(axes: Axes, labels: Sequence[str]) -> None:
    """Write names along the vertical axis, the first at the top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)


def styles_of(implementations: Iterable[str]) -> dict[str, tuple[str, str]]:
    return {TITLES[name]: STYLES[name] for name in implementations}


def dot(axes: Axes, value: float, row: int, name: str) -> None:
    """Mark what one implementation needs; that of our pipeline is a ring, to see what is below."""
    color, marker = STYLES[name]
    face = "white" if name == PIPELINE else color
    axes.plot(value, row, marker, color=color, markerfacecolor=face, alpha=0.9)


def two_ways(axes: Axes, row: int, values: dict[str, float], well: Callable[[float], bool]) -> None:
    """Mark a value of the pipeline, a ring, and one of direct access, a dot."""
    for name, value in values.items():
        color = WELL if well(value) else BADLY
        face = color if name == DIRECT else "white"
        marker = "o" if well(value) else "D"
        axes.plot(value, row, marker, color=color, markerfacecolor=face, markersize=5)


def legend_of_two_ways(figure: Figure, title: str, well: str, badly: str) -> None:
    handles = [
        Line2D(
            *([], []),
            color=color,
            marker=marker,
            linestyle="",
            markerfacecolor=color if name == DIRECT else "white",
            label=f"{TITLES[name]}, {meaning}",
        )
        for color, marker, meaning in ((WELL, "o", well), (BADLY, "D", badly))
        for name in OURS
    ]
    place(figure, title, handles)


# ---------------------------------------------------------------------------------- charts


def ratios(found: Report) -> Figure:
    """Chart the best peer's time over ours, one panel an operation, but for the workloads."""
    left_out = workload_cases(found)
    results = [
        each for each in found["results"] if each["best_peer_over"] and each["case"] not in left_out
    ]
    operations = ordered(
        name for name in OPERATION_TITLES if name in {each["operation"] for each in results}
    )
    cases = ordered(each["case"] for each in results)
    figure, axes = panels(len(operations), 4, (2.9, 0.19 * len(cases) + 0.7), sharey=True)
    for one, operation in zip(axes, operations, strict=True):
        for each in results:
            if each["operation"] == operation:
                row = cases.index(each["case"])
                two_ways(one, row, each["best_peer_over"], lambda value: value >= 1)
        one.axvline(1, color=BLACK, linewidth=0.8)
        logarithmic(one)
        one.set_title(OPERATION_TITLES[operation])
        names(one, cases)
    title = "time of the best peer over ours: to the right of 1, ours is faster"
    legend_of_two_ways(figure, title, "faster", "slower")
    return figure


def logarithmic(axes: Axes) -> None:
    """Let an axis of ratios be logarithmic, with plain numbers."""
    axes.set_xscale("log", base=2)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.45), max(high, 2.2))
    axes.xaxis.set_major_formatter("{x:g}")


def plain_logarithms(scale: Callable[[str], None], axis: Axis) -> None:
    """Let an axis be logarithmic, with plain numbers at 1, 2 and 5 times the powers of ten."""
    scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def limits(found: Report) -> Figure:
    """Chart ours over the sum of what cannot be avoided."""
    results = found["results"]
    titles = {"read": "read all", "create": "write a new array", "write": "overwrite all"}
    operations = [name for name in titles if name in {each["operation"] for each in results}]
    cases = ordered(each["case"] for each in results)
    figure, axes = panels(
        len(operations), 3, (3.6, 0.22 * len(cases) + 1), sharex=True, sharey=True
    )
    for one, operation in zip(axes, operations, strict=True):
        for row, case in enumerate(cases):
            values = {
                {"pipeline": PIPELINE, "direct": DIRECT}[each["way"]]: each["best"]["ratio"]
                for each in results
                if (each["case"], each["operation"]) == (case, operation)
            }
            two_ways(one, row, values, lambda value: value <= 1.15)
        one.axvline(1, color=BLACK, linewidth=0.8)
        one.axvline(1.15, color=BLACK, linewidth=0.8, linestyle=":")
        one.set_title(titles[operation])
        names(one, cases)
    for one in axes:
        logarithmic(one)
    title = "ours over the sum of its parts, fastest rounds; dotted: 1.15"
    legend_of_two_ways(figure, title, "up to 1.15", "above")
    return figure


def threads(found: Report) -> Figure:
    """Chart times by the number of threads."""
    of = by_key(found["results"], "case", "operation", "threads")
    pairs = sorted({key[:2] for key in of}, key=lambda pair: pair[::-1])
    implementations = ordered(name for each in of.values() for name in each["median"])
    figure, axes = panels(len(pairs), max(1, len(pairs) // 2), (2.9, 2.5))
    for one, (case, operation) in zip(axes, pairs, strict=True):
        counts = sorted(key[2] for key in of if key[:2] == (case, operation))
        for name in implementations:
            color, marker = STYLES[name]
            seen = [n for n in counts if name in of[case, operation, n]["median"]]
            one.plot(
                seen,
                [of[case, operation, n]["median"][name] * 1e3 for n in seen],
                color=color,
                marker=marker,
                markersize=4,
            )
        one.set_xscale("log", base=2)
        one.set_xticks(counts, [str(count) for count in counts])
        plain_logarithms(one.set_yscale, one.yaxis)
        one.set_title(f"{case}: {OPERATION_TITLES[operation]}")
    title = (
        f"milliseconds by the number of threads, on {found['environment']['cores_usable']} cores"
    )
    legend(figure, title, styles_of(implementations))
    return figure


def many_cores(found: Report) -> Figure:
    """Chart what the models say of more threads than this machine has cores."""
    made = models(found)
    groups = ordered_pairs({key: {} for key in made})
    cases = ordered(case for *_, case in made)
    figure, axes = panels(len(groups), 4, (2.9, 2.7), sharey=True)
    for axis, (operation, name) in zip(axes, groups, strict=True):
        for case, (color, marker) in zip(cases, CASE_STYLES, strict=False):
            if (operation, name, case) not in made:
                continue
            model = made[operation, name, case]
            faster = [model.one / model.seconds(count) for count in MODELLED]
            measured = [1, model.one / model.two]
            axis.plot((2, *MODELLED), [measured[1], *faster], ":", color=color)
            axis.plot((1, 2), measured, "-", marker=marker, color=color)
            axis.plot(MODELLED, faster, marker, color=color, markerfacecolor="white", markersize=4)
        counts = (1, 2, *MODELLED)
        axis.plot(counts, counts, color=GREY, linewidth=0.6)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set_yticks(counts, [str(count) for count in counts])
        axis.set_title(f"{TITLES[name]}: {OPERATION_TITLES[operation]}")
    title = (
        "times as fast as 1 thread, by the number of threads; filled: measured, hollow: the model"
    )
    legend(figure, title, dict(zip(cases, CASE_STYLES, strict=False)))
    return figure


def memory(found: Report) -> Figure:
    """Chart the peak of memory beyond the array."""
    results = [each for each in found["results"] if "beyond_array_mib" in each]
    cases = ordered(each["case"] for each in results)
    operations = ordered(each["operation"] for each in results)
    figure, axes = panels(
        len(operations), 2, (5, 0.45 * len(cases) + 1.1), sharex=True, sharey=True
    )
    for one, operation in zip(axes, operations, strict=True):
        for each in results:
            if each["operation"] == operation:
                beyond = max(each["beyond_array_mib"], 0)
                dot(one, beyond, cases.index(each["case"]), each["implementation"])
        one.set_xscale("symlog", linthresh=4, base=2)
        one.set_xlim(-0.3, 1.4 * max(4, *(each["beyond_array_mib"] for each in results)))
        one.xaxis.set_major_formatter("{x:g}")
        one.set_title(operation)
        names(one, cases)
    title = f"MiB beyond the array of {found['mib']} MiB, at the peak"
    legend(figure, title, styles_of(ordered(each["implementation"] for each in results)))
    return figure


def workloads(found: Report) -> Figure:
    """Chart the three workloads of LDeakin/zarr_benchmarks."""
    cases = workload_cases(found)
    results = by_key(found["results"], "operation", "case")
    figure, axes = panels(len(WORKLOADS), 3, (3.8, 0.45 * len(cases) + 1.1), sharey=True)
    for one, operation in zip(axes, WORKLOADS, strict=True):
        for row, case in enumerate(cases):
            for name, seconds in results[operation, case]["median"].items():
                dot(one, seconds * 1e3, row, name)
        plain_logarithms(one.set_xscale, one.xaxis)
        one.set_title(OPERATION_TITLES[operation])
        names(one, cases)
    legend(figure, "milliseconds", styles_of(found["implementations"]))
    return figure


def growth(lines: Sequence[Report]) -> Figure:
    """Chart what a chunk and a point cost."""
    colors = {TITLES[name]: style for name, style in STYLES.items()}
    grown: dict[Key, list[Report]] = {}
    for line in lines:
        if line["part"] in ("chunks", "points"):
            grown.setdefault((line["part"], line["name"]), []).append(line)
    figure, axes = panels(len(grown), len(grown), (3.8, 3.6))
    implementations = ordered(
        who for of in grown.values() for line in of for who in line["seconds"]
    )
    for one, ((part, name), of) in zip(axes, grown.items(), strict=True):
        for who in implementations:
            color, marker = colors[who]
            seen = [line for line in of if who in line["seconds"]]
            one.plot(
                [line["count"] for line in seen],
                [line["seconds"][who] / line["count"] * 1e6 for line in seen],
                color=color,
                marker=marker,
                markersize=4,
            )
        one.set_xscale("log")
        plain_logarithms(one.set_yscale, one.yaxis)
        one.set_xlabel(f"{part} a call")
        one.set_title(f"microseconds a {part[:-1]}, {name}")
    legend(figure, "fewer are better", {who: colors[who] for who in implementations})
    return figure


def draw(chart: Callable[[], Figure], path: Path) -> None:
    """Write a chart, the same bytes every time."""
    with mpl.rc_context(SETTINGS):
        chart().savefig(path, metadata={"Date": None, "Creator": None})
