"""Every expected error is one line on stderr, which says what to do, and an exit code."""

from __future__ import annotations

import logging
import sys
import traceback
from enum import IntEnum

import typer

from zarrs.cli._output import say_error


class ExitCode(IntEnum):
    """What the process ends with; docs/command-line.md has them for users."""

    FINE = 0
    FOUND = 1  # damage, or results that differ
    USAGE = 2
    NOT_OPENED = 3
    MISSING_PACKAGE = 4
    FAILED = 5
    INTERRUPTED = 130  # as shells number a process that Ctrl-C has ended
    CLOSED_PIPE = 141  # and one whose reader has gone


class CommandError(Exception):
    """A command cannot go on; the message says what happened and what to do."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.code = code


def report(error: Exception, *, debug: bool) -> ExitCode:
    """Tell an error on stderr, with its traceback if asked for; return the exit code."""
    if debug:
        traceback.print_exception(error)
    message, code = _told(error)
    say_error(message)
    return code


def _told(error: Exception) -> tuple[str, ExitCode]:
    if isinstance(error, CommandError):
        return str(error), error.code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "zarrs"
        message = error.format_message().rstrip(".")
        return f"{message} (see {command} --help)", ExitCode.USAGE
    if isinstance(error, MemoryError):
        return f"not enough memory{f': {error}' if str(error) else ''}", ExitCode.FAILED
    if isinstance(error, ImportError):
        return str(error), ExitCode.MISSING_PACKAGE
    return described(error), ExitCode.FAILED


def described(error: BaseException) -> str:
    """Return an error that another package has raised, in words."""
    name = type(error).__name__
    return f"{name}: {error}" if str(error) else name


def silence_leftovers() -> None:
    """Keep requests that nobody waits for any more from telling their errors as the process ends.

    What they would say, with tracebacks, is what the one line has said.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = lambda _: None
