"""``zarrs info``: what this installation is made of."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from typing import Annotated

import typer

from zarrs._show_config import show_config
from zarrs.cli._errors import ExitCode
from zarrs.cli._output import say, say_json


def info(
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show what this installation is made of: versions, build, libraries, CPU, threads, options."""
    config = show_config("dicts")
    if as_json:
        say_json(config)
    else:
        with redirect_stdout(StringIO()) as text:
            show_config()
        say(*text.getvalue().splitlines())
    if not config["installation"]["usable"]:
        raise typer.Exit(ExitCode.FOUND)
