"""``zarrs bench``: how fast the user's own array is read, by zarr and by zarrs."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
import zarr
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

import zarrs
from zarrs.cli._errors import CommandError, ExitCode
from zarrs.cli._layout import layout_of
from zarrs.cli._measure import PEERS, ZARRS, implementations, measure
from zarrs.cli._operations import operations_on
from zarrs.cli._output import (
    err,
    milliseconds_text,
    printable,
    say,
    say_error,
    say_json,
    say_table,
    say_warning,
    size_text,
)
from zarrs.cli._paths import PathArgument, StorageOptions, arrays_of, open_node
from zarrs.cli._plot import plot, refuse_bad_plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zarrs.cli._layout import Layout
    from zarrs.cli._measure import Measured
    from zarrs.cli._operations import Operation

UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE | re.ASCII)


def parse_size(text: str | int) -> int:
    """Return a number of bytes from ``256MiB``, ``256M`` or ``268435456``."""
    found = SIZE.fullmatch(str(text))
    size = int(float(found[1]) * UNITS[found[2].lower()]) if found else 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size such as 256MiB")
    return size


def bench(
    path: PathArgument,
    storage_options: StorageOptions = None,
    name: Annotated[
        str | None,
        typer.Option("--array", metavar="NAME", help="Which of a group; else its largest array."),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            parser=parse_size, metavar="SIZE", help="The most that an operation reads, in memory."
        ),
    ] = parse_size("128MiB"),
    rounds: Annotated[int, typer.Option(min=1, help="How often each is timed.")] = 5,
    json_file: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write it as JSON; -: in the table's place."),
    ] = None,
    chart: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw it: .svg, .png or .pdf."),
    ] = None,
) -> None:
    """Read an array of yours with zarr and with zarrs, compare the results and the times.

    Nothing is written to it. Operations: the whole array (or its beginning, as much as --size
    allows), windows, planes, random rows and single points. The exit code is 1 if results differ.
    """
    for file, option in ((json_file, "--json"), (chart, "--plot")):
        _refuse_bad_file(file, option)
    if chart is not None:
        refuse_bad_plot(chart)
    name, layout = _chosen(arrays_of(open_node(path, storage_options), path), name, path)
    if (layout.chunk_bytes or 0) > size:
        say_warning(
            f"whatever is read of a chunk may decode all of its {size_text(layout.chunk_bytes)}"
        )
    arrays = implementations(lambda: _opened(path, storage_options, name))
    measured = _measure_all(operations_on(layout, size), arrays, rounds)

    heading = f"{path}{f' {name}' if name else ''}: {_described(layout)}"
    results = _as_dict(path, name, layout, rounds, measured)
    if json_file == "-":
        say_json(results)
    else:
        _show(heading, list(arrays), measured, rounds)
    if json_file not in (None, "-"):
        Path(json_file).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    if chart is not None:
        plot(chart, f"{printable(heading)}\n{_machine_line()}", measured)
    problems = [
        f"{one.operation.name}: {which}: {problem}"
        for one in measured
        for which, problem in one.problems.items()
    ]
    for problem in problems:
        say_error(problem)
    if problems:
        raise typer.Exit(ExitCode.FOUND)


def _refuse_bad_file(file: str | Path | None, option: str) -> None:
    # Before minutes of measuring are lost.
    if file is None or str(file) == "-":
        return
    path = Path(file)
    target = path if path.exists() else path.parent
    if path.is_dir():
        problem = "it is a directory, so name a file in it"
    elif not target.exists():
        problem = f"there is no directory {target}"
    elif not os.access(target, os.W_OK):
        problem = f"you have no right to write to {target}"
    else:
        return
    raise CommandError(f"{option} {path} cannot be written: {problem}", ExitCode.USAGE)


def _chosen(arrays: dict[str, zarr.Array[Any]], name: str | None, path: str) -> tuple[str, Layout]:
    layouts = {each: layout_of(array) for each, array in arrays.items()}
    if name is None:
        name = max(layouts, key=lambda each: layouts[each].nbytes or 0)
    name = name.strip("/")
    if name not in layouts:
        there = f"there are {', '.join(layouts)}"
        if "" in layouts:
            there = "it is an array itself, so leave --array out"
        raise CommandError(f"{path}: no array {name!r} in it: {there}", ExitCode.USAGE)
    if 0 in layouts[name].shape:
        raise CommandError(
            f"{path}: array {name or path!r} of shape {layouts[name].shape} has no items to read",
            ExitCode.USAGE,
        )
    return name, layouts[name]


def _opened(path: str, storage_options: list[str] | None, name: str) -> zarr.Array[Any]:
    # Anew, with the pipeline that is chosen now.
    return arrays_of(open_node(path, storage_options), path)[name]


def _measure_all(
    operations: Sequence[Operation], arrays: dict[str, zarr.Array[Any]], rounds: int
) -> list[Measured]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    measured = []
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        steps = len(arrays) * (1 + rounds)
        task = bar.add_task("", total=len(operations) * steps)
        for number, operation in enumerate(operations):
            bar.update(task, description=operation.name, completed=number * steps)
            one = measure(operation, arrays, rounds, lambda: bar.advance(task))
            if len(one.problems) == len(arrays):
                raise CommandError(
                    f"neither zarr nor zarrs can read it ({operation.name}), and zarrs check tells "
                    f"what is damaged: {next(iter(one.problems.values()))}"
                )
            measured.append(one)
    return measured


def _described(layout: Layout) -> str:
    shards = f" in shards of {layout.shard}" if layout.shard else ""
    codecs = ", ".join(layout.codecs)
    return (
        f"{layout.dtype} {layout.shape}, {size_text(layout.nbytes)}, "
        f"chunks of {layout.chunk}{shards}; {codecs}"
    )


def _show(heading: str, names: Sequence[str], measured: Sequence[Measured], rounds: int) -> None:
    say(heading)
    say(f"{_machine_line()}; milliseconds, medians of {rounds} rounds")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("operation")
    for title in ("size", *names, "gain"):
        table.add_column(title, justify="right")
    for one in measured:
        times = [one.median(name) for name in names]
        cells = ["failed" if time is None else milliseconds_text(time) for time in times]
        gain = "" if one.gain is None else f"{one.gain:.2f}"
        table.add_row(one.operation.name, size_text(one.nbytes), *cells, gain)
    say_table(table)
    gains = [one.gain for one in measured if one.gain is not None]
    if gains:
        mean = statistics.geometric_mean(gains)
        say(f"gain is the best of zarr's times / the best of zarrs': {mean:.2f} on geometric mean")
    if not any(one.problems for one in measured):
        say("all results are equal")


def _machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "zarr": zarr.__version__,
        "numpy": np.__version__,
        "zarrs-cython": zarrs.__version__,
        "platform": platform.platform(),
        "cpus": zarrs.show_config("dicts")["openmp"]["threads_available"],
    }


def _machine_line() -> str:
    machine = _machine()
    return (
        f"zarrs-cython {machine['zarrs-cython']}, zarr {machine['zarr']}, "
        f"NumPy {machine['numpy']}, Python {machine['python']}, {machine['cpus']} CPUs"
    )


def _as_dict(
    path: str, name: str, layout: Layout, rounds: int, measured: Sequence[Measured]
) -> dict[str, Any]:
    return {
        "path": path,
        "array": name,
        "layout": asdict(layout),
        "machine": _machine(),
        "rounds": rounds,
        "implementations": PEERS | ZARRS,
        "operations": [
            {
                "name": one.operation.name,
                "selections": len(one.operation.selections),
                "nbytes": one.nbytes,
                "seconds": one.seconds,
                "gain": one.gain,
                "problems": one.problems,
            }
            for one in measured
        ],
    }
