"""The commands put together, and run: what they raise becomes a line and an exit code."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
import zarr
from typer.main import get_command

import zarrs
from zarrs.cli._bench import bench
from zarrs.cli._check import check
from zarrs.cli._copy import copy
from zarrs.cli._errors import ExitCode, report
from zarrs.cli._explain import explain
from zarrs.cli._info import info
from zarrs.cli._output import say, say_warning

HELP = "Look at, measure, copy and check Zarr arrays with zarrs-cython."

# Help and errors are plain text everywhere: panels with borders are in the way of grep.
app = typer.Typer(
    name="zarrs",
    help=HELP,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (info, explain, bench, copy, check):
    app.command()(_command)


@dataclass
class Settings:
    """What holds for every command."""

    debug: bool = False


def _show_version(is_asked_for: bool) -> None:
    if is_asked_for:
        say(f"zarrs-cython {zarrs.__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, too.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    context.obj.debug = debug
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run the command line in this process and return the exit code.

    Parameters
    ----------
    arguments : sequence of str
        What is typed after ``zarrs``.
    """
    with (
        warnings.catch_warnings(),
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}),
    ):
        warnings.showwarning = _show_warning
        try:
            return _run(list(arguments))
        except SystemExit:  # rich and typer raise it only when they cannot print any more
            return ExitCode.CLOSED_PIPE


def _run(arguments: list[str]) -> int:
    settings = Settings()
    command = get_command(app)
    try:
        code = command.main(arguments, prog_name="zarrs", standalone_mode=False, obj=settings)
    except Exception as error:
        return report(error, debug=settings.debug)
    return code or ExitCode.FINE


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    say_warning(str(message))
