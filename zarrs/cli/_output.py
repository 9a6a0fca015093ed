"""What is printed: with colours in a terminal, plain elsewhere, one line a finding for grep."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 200  # columns, where there is no terminal to say how many there are


out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Print lines on stdout, without control characters of anybody's, line breaks among them."""
    for line in lines:
        out.print(printable(line))


def say_table(table: Table) -> None:
    """Print a table on stdout, a row a line where it does not go to a terminal."""
    if not out.is_terminal:
        out.width = WIDE
    out.print(table, soft_wrap=False)


def say_json(data: Any) -> None:
    """Print data as JSON on stdout."""
    say(*json.dumps(data, indent=2).split("\n"))


def say_error(message: str) -> None:
    """Print one line on stderr."""
    err.print(f"zarrs: {one_line(message)}")


def say_warning(message: str) -> None:
    """Print one line on stderr about what is no error."""
    say_error(f"warning: {message}")


def one_line(text: str) -> str:
    """Return text that may have been written by anybody on one line that is safe to print."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    r"""Return text with escapes for what is no letter, such as ``\x1b``, which moves the cursor."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def size_text(nbytes: int | None) -> str:
    """Return a number of bytes with its unit, in three digits.

    Examples
    --------
    >>> size_text(1536), size_text(100), size_text(None)
    ('1.5 KiB', '100 bytes', 'items of no fixed size')
    """
    if nbytes is None:
        return "items of no fixed size"
    size = float(nbytes)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1000 or unit == "PiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"


def milliseconds_text(seconds: float) -> str:
    """Return a time in milliseconds, in three digits or more.

    Examples
    --------
    >>> milliseconds_text(0.0123456), milliseconds_text(1.5)
    ('12.3', '1,500')
    """
    return f"{1e3 * seconds:,.0f}" if seconds >= 1 else f"{1e3 * seconds:.3g}"
