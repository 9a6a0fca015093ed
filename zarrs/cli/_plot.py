"""The chart of ``zarrs bench``: a panel for each operation, a bar for each implementation."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from zarrs.cli._errors import CommandError, ExitCode
from zarrs.cli._measure import DEFAULT
from zarrs.cli._output import milliseconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from zarrs.cli._measure import Measured

# Of Okabe and Ito, which the colour-blind can tell apart too; each bar has its name as well.
COLOURS = {
    DEFAULT: "#999999",
    "zarr Fused": "#e69f00",
    "zarrs pipeline": "#0072b2",
    "zarrs direct": "#56b4e9",
}
TITLE_WIDTH = 100  # characters


def refuse_bad_plot(path: Path) -> None:
    """Raise `CommandError` if no chart could be drawn to a file, before anything is measured."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise CommandError(
            f"--plot needs the package matplotlib ({error}): python3 -m pip install matplotlib",
            ExitCode.MISSING_PACKAGE,
        ) from error
    formats = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise CommandError(
            f"--plot {path}: the name has to end in one of .{', .'.join(sorted(formats))}",
            ExitCode.USAGE,
        )


def plot(path: Path, title: str, measured: Sequence[Measured]) -> None:
    """Draw times to a file.

    Parameters
    ----------
    path : Path
    title : str
        Of one line or more.
    measured : sequence of Measured
    """
    from matplotlib.figure import Figure

    drawn = [one for one in measured if one.seconds]
    bars = sum(len(one.seconds) for one in drawn)
    figure = Figure(figsize=(9, 1.5 + 0.33 * bars + 0.4 * len(drawn)), layout="constrained")
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, TITLE_WIDTH)]
    figure.suptitle("\n".join(lines), fontsize=11, parse_math=False)
    ratios = [len(one.seconds) + 1 for one in drawn]
    grid = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=ratios)
    for axes, one in zip(grid[:, 0], drawn, strict=True):
        _draw(axes, one)
    grid[-1, 0].set_xlabel(
        "milliseconds: medians, and lines from the fastest to the slowest round; "
        f"times as fast as {DEFAULT}",
        fontsize=9,
    )
    figure.savefig(path)


def _draw(axes: Axes, one: Measured) -> None:
    names = [name for name in COLOURS if name in one.seconds]
    times = [sorted(1e3 * second for second in one.seconds[name]) for name in names]
    medians = [1e3 * (one.median(name) or 0) for name in names]
    spans = [
        [median - spread[0] for median, spread in zip(medians, times, strict=True)],
        [spread[-1] - median for median, spread in zip(medians, times, strict=True)],
    ]
    axes.set_title(one.operation.name, loc="left", fontsize=10, fontweight="bold")
    axes.barh(
        names,
        medians,
        0.75,
        color=[COLOURS[name] for name in names],
        xerr=spans,
        error_kw={"ecolor": "#333333", "elinewidth": 1, "capsize": 2},
    )
    default = one.median(DEFAULT)
    for name, median, spread in zip(names, medians, times, strict=True):
        gain = f" ({1e3 * default / median:.3g}x)" if default and name != DEFAULT else ""
        axes.annotate(
            f"{milliseconds_text(median / 1e3)} ms{gain}",
            (spread[-1], name),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_xlim(0, 1.25 * max(spread[-1] for spread in times))
    axes.invert_yaxis()
    axes.tick_params(labelsize=9)
    axes.spines[["top", "right"]].set_visible(False)
