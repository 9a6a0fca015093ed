"""``zarrs copy``: an array or a group with other chunks, shards, codecs, or in the other format."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any, Literal, cast

import typer

from zarrs.cli._errors import CommandError, ExitCode, described
from zarrs.cli._output import err, one_line, say, say_json, say_warning
from zarrs.cli._paths import StorageOptions, open_node, parse_options
from zarrs.copying._copy import GOES_ON
from zarrs.copying._copy import copy as copy_node
from zarrs.copying._verify import VerificationError
from zarrs.runtime._errors import ChunkError

KEEP = "keep"
NONE = "none"
AGAIN = "the same command goes on where this one stopped"


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="An array or a group: a path, a zip file or a URL.")
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="DST", help="Where there is nothing yet: a path, NAME.zip or a URL."
        ),
    ],
    chunks: Annotated[
        str, typer.Option(metavar="N,N,...", help="Chunks, or inner chunks of shards; or auto.")
    ] = KEEP,
    shards: Annotated[str, typer.Option(metavar="N,N,...", help="Shards; or none.")] = KEEP,
    compressors: Annotated[
        list[str] | None,
        typer.Option(
            "--compressor",
            "--codec",
            metavar="CODEC",
            help="zstd, zstd:level=5, a JSON object or none; may be repeated, in order.",
            show_default=False,
        ),
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            metavar="CODEC",
            help="A codec of items, before they are bytes; or none.",
            show_default=False,
        ),
    ] = None,
    zarr_format: Annotated[
        Literal["2", "3"] | None,
        typer.Option("--format", help="The Zarr format, if another.", show_default=False),
    ] = None,
    storage_options: StorageOptions = None,
    target_storage_options: Annotated[
        list[str] | None,
        typer.Option(
            "--target-storage-option",
            metavar="KEY=VALUE",
            help="An option for the file system of DST, if it is a URL; may be repeated.",
            show_default=False,
        ),
    ] = None,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="Memory for what is under way.")
    ] = "512MiB",
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything again from both, and compare.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete an array or a group at DST first.")
    ] = False,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Copy on the workers of this dask.distributed cluster.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Copy an array or a group: other chunks, shards, codecs, the other format.

    A copy that was interrupted, killed or failed goes on with the same command. Until it has ended
    DST cannot be opened. The exit code is 1 if --verify finds a difference.
    """
    node = open_node(source, storage_options)
    try:
        report = copy_node(
            node,
            target,
            chunks=_sizes("--chunks", chunks, "auto"),
            shards=_sizes("--shards", shards, NONE),
            compressors=_codecs("--compressor", compressors),
            filters=_codecs("--filter", filters),
            zarr_format=cast("Literal[2, 3] | None", int(zarr_format) if zarr_format else None),
            target_storage_options=parse_options(target_storage_options, "--target-storage-option")
            or None,
            memory=memory,
            verify=verify,
            overwrite=overwrite,
            scheduler=scheduler,
            progress=err.is_terminal,
        )
    except VerificationError as error:
        raise CommandError(str(error), ExitCode.FOUND) from error
    except (ChunkError, OSError) as error:
        if isinstance(error, FileExistsError):
            raise CommandError(str(error), ExitCode.USAGE) from error
        raise CommandError(_with_advice(described(error), error)) from error
    except ValueError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    except KeyboardInterrupt as error:
        raise CommandError(_with_advice("interrupted", error), ExitCode.INTERRUPTED) from None
    if as_json:
        say_json(asdict(report))
        return
    say(one_line(str(report)))
    if report.most_reads > 1.5:
        say_warning(
            f"each source chunk was read {report.most_reads:.1f} times on average, as --memory "
            f"{memory} held no more: with a larger one it is faster"
        )


def _with_advice(text: str, error: BaseException) -> str:
    return f"{text}; {AGAIN}" if GOES_ON in getattr(error, "__notes__", ()) else text


def _sizes(option: str, text: str, word: str) -> Any:
    # Numbers, or what else the option takes.
    if text in (KEEP, word):
        return None if text == NONE else text
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise CommandError(
            f"{option} takes numbers, such as 100,100,10, or {word}, not {text!r}", ExitCode.USAGE
        )
    return sizes


def _codecs(option: str, texts: list[str] | None) -> Any:
    if not texts:
        return KEEP
    if texts == [NONE]:
        return None
    return [_codec(option, text) for text in texts]


def _codec(option: str, text: str) -> dict[str, Any]:
    # As metadata have it: of either format as JSON, or NAME:KEY=VALUE,KEY=VALUE.
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except ValueError as error:
            raise CommandError(f"{option} {text} is no JSON: {error}", ExitCode.USAGE) from error
        if not ("name" in document or "id" in document):
            raise CommandError(
                f'{option} {text} has no name: it needs a "name", or an "id" as in format 2',
                ExitCode.USAGE,
            )
        return cast("dict[str, Any]", document)
    name, _, rest = text.partition(":")
    configuration: dict[str, Any] = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not key or not equals:
            raise CommandError(
                f"{option} takes a codec such as zstd:level=5, not {text!r}", ExitCode.USAGE
            )
        try:
            configuration[key] = json.loads(value)
        except ValueError:
            configuration[key] = value
    return {"name": name, "configuration": configuration} if configuration else {"name": name}
