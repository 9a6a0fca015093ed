"""What several scripts take on their command lines, and how they say that it is wrong."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .implementations import Implementation


def stop(message: str) -> NoReturn:
    """End the script because it was called wrongly."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from None


def add_directory(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--dir", type=Path, help="where to put the data (default: the system's temporary files)")
    add("--keep", action="store_true", help="leave the data there, for who measures again soon")


def check_directory(directory: Path | None) -> None:
    if directory and not directory.is_dir():
        stop(f"no directory {directory}")


@contextlib.contextmanager
def scratch(args: argparse.Namespace, prefix: str) -> Iterator[Path]:
    """Make a directory for the data, and delete it unless it is to be kept."""
    directory = Path(tempfile.mkdtemp(prefix=f"zarrs-{prefix}-", dir=args.dir))
    try:
        yield directory
    finally:
        if not args.keep:
            shutil.rmtree(directory)


def choose(known: Sequence[Implementation], names: str | None) -> list[Implementation]:
    """Take the implementations named (all, if None); one that is named must be there."""
    by_name = {impl.name: impl for impl in known}
    wanted = names.split(",") if names else list(by_name)
    chosen = []
    for name in wanted:
        if name not in by_name:
            stop(f"no implementation {name!r}; there are: {', '.join(by_name)}")
        reason = by_name[name].missing()
        if reason is None:
            chosen.append(by_name[name])
        elif names:
            stop(f"{name} cannot be measured: {reason}")
        else:
            print(f"not measured: {name} ({reason})", file=sys.stderr)
    return chosen


def recorded(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that say how was measured; where files are is nobody else's matter."""
    arguments = {k: v for k, v in vars(args).items() if k not in ("dir", "json", "keep", "file")}
    return arguments | {"case": args.case.pattern, "op": args.op.pattern}
