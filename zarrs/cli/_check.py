"""``zarrs check``: what of arrays is missing, damaged or left over in their store."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zarrs.checking._check import check_arrays
from zarrs.cli._errors import CommandError, ExitCode
from zarrs.cli._output import err, one_line, say, say_json
from zarrs.cli._paths import PathArgument, StorageOptions, arrays_of, open_node

if TYPE_CHECKING:
    from zarrs.checking._findings import CheckReport


def check(
    path: PathArgument,
    storage_options: StorageOptions = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Delete chunks that are damaged, so that they read as the fill value."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Decode everything that is stored, and list what is damaged, too long or left over.

    Nothing is changed without --repair. The exit code is 1 if there is a fault, repaired or not.
    """
    node = open_node(path, storage_options, mode="r+" if repair else "r")
    arrays = arrays_of(node, path).values()
    try:
        report = check_arrays(arrays, repair=repair, progress=err.is_terminal)
    except ValueError as error:
        if not repair:
            raise
        raise CommandError(f"{path}: {error}", ExitCode.USAGE) from error
    if as_json:
        say_json(_as_dict(report))
    else:
        counts, verdict, *_ = str(report).split("\n")
        for line in (counts, verdict, *map(str, report.findings)):
            say(one_line(line))
        if report.deleted:
            say(f"deleted {len(report.deleted):,} of these")
    if not report.is_sound:
        raise typer.Exit(ExitCode.FOUND)


def _as_dict(report: CheckReport) -> dict[str, Any]:
    return {
        "is_sound": report.is_sound,
        "arrays": report.arrays,
        "chunks": report.chunks,
        "stored_chunks": report.stored_chunks,
        "inner_chunks": report.inner_chunks,
        "stored_inner_chunks": report.stored_inner_chunks,
        "bytes_stored": report.bytes_stored,
        "missing": len(report.missing),
        "findings": [asdict(finding) for finding in report.findings],
        "deleted": [asdict(finding) for finding in report.deleted],
    }
