"""From what the user typed, a path or a URL and options, to an open store, array or group."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

import typer
import zarr
from zarr.core.sync import sync
from zarr.errors import ArrayNotFoundError, GroupNotFoundError
from zarr.storage import LocalStore, StorePath, ZipStore

from zarrs.cli._errors import CommandError, ExitCode, described

Node = zarr.Array[Any] | zarr.Group
Mode = Literal["r", "r+", "a", "w-"]

PathArgument = Annotated[
    str, typer.Argument(metavar="PATH", help="An array or a group: a path, a zip file or a URL.")
]
StorageOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--storage-option",
        metavar="KEY=VALUE",
        help="An option for the URL's file system, such as anon=true; may be repeated.",
        show_default=False,
    ),
]


def parse_options(
    options: list[str] | None, option_name: str = "--storage-option"
) -> dict[str, Any]:
    """Return storage options from ``KEY=VALUE``; a value that is JSON is that, others are text.

    Examples
    --------
    >>> parse_options(["anon=true", "region=eu-west-1", 'key="0815"'])
    {'anon': True, 'region': 'eu-west-1', 'key': '0815'}
    """
    found: dict[str, Any] = {}
    for option in options or ():
        key, equals, value = option.partition("=")
        if not key.strip() or not equals:
            raise CommandError(
                f"{option_name} takes KEY=VALUE, such as anon=true, not {option!r}",
                ExitCode.USAGE,
            )
        found[key.strip()] = _value(value)
    return found


def _value(text: str) -> Any:
    word = text.strip()
    try:
        return json.loads(word.lower() if word in ("True", "False") else word)
    except ValueError:
        return text


def open_store(path: str, options: list[str] | None = None, *, mode: Mode = "r") -> StorePath:
    """Return the place in a store that a path or a URL names, opened as zarr would.

    Parameters
    ----------
    path : str
        A directory, a zip file (or a path inside of one), or a URL of fsspec.
    options : list of str, optional
        Storage options, each ``KEY=VALUE``, for a URL.
    mode : {"r", "r+", "a", "w-"}, default "r"
        As for ``zarr.open``; with "r" nothing can be written.
    """
    if not path:
        raise CommandError("PATH is empty: name an array or a group", ExitCode.USAGE)
    given = parse_options(options)
    local = _local(path)
    if local is not None and given:
        raise CommandError(
            f"--storage-option is for URLs, and {path} is a local path: leave it out",
            ExitCode.USAGE,
        )
    try:
        if local is not None:
            return _open_local(local, mode)
        return _open_url(path, given, mode)
    except CommandError:
        raise
    except Exception as error:
        raise _not_opened(path, given, error) from error


def open_node(path: str, options: list[str] | None = None, *, mode: Mode = "r") -> Node:
    """Return the array or the group that a path or a URL names."""
    store = open_store(path, options, mode=mode)
    try:
        return zarr.open(store, mode=mode)
    except (ArrayNotFoundError, GroupNotFoundError) as error:
        raise CommandError(
            f"{path}: no zarr array or group: it has no zarr.json, .zarray or .zgroup",
            ExitCode.NOT_OPENED,
        ) from error
    except Exception as error:
        raise _not_opened(path, options, error) from error


def _local(path: str) -> Path | None:
    # None: it is a URL. "file:" is what zarr takes for a path, too.
    if "::" in path:  # a chain of file systems
        return None
    if "://" not in path:
        return Path(path)
    parts = urlsplit(path)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _open_local(path: Path, mode: Mode) -> StorePath:
    archive = next((one for one in (path, *path.parents) if one.is_file()), None)
    if archive is None and path.suffix == ".zip" and mode in ("a", "w-") and not path.exists():
        archive = path
    if archive is not None and archive.suffix == ".zip":
        access: Literal["r", "a"] = "r" if mode == "r" else "a"
        store = sync(ZipStore.open(archive, mode=access, read_only=mode == "r"))
        return StorePath(store, path.relative_to(archive).as_posix().removeprefix("."))
    if archive is not None:
        raise CommandError(
            f"{archive}: a file, neither a directory nor a zip file (whose name ends in .zip)",
            ExitCode.NOT_OPENED,
        )
    if mode in ("r", "r+") and not path.is_dir():
        raise CommandError(f"{path}: there is nothing of that name", ExitCode.NOT_OPENED)
    return StorePath(LocalStore(path, read_only=mode == "r"))


def _open_url(url: str, options: dict[str, Any], mode: Mode) -> StorePath:
    try:
        from zarr.storage import FsspecStore

        return StorePath(FsspecStore.from_url(url, options, read_only=mode == "r"))
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise CommandError(
            f"{url}: a package for {scheme}:// is missing: {described(error)}",
            ExitCode.MISSING_PACKAGE,
        ) from error


def _not_opened(path: str, options: Collection[str] | None, error: Exception) -> CommandError:
    if options and isinstance(error, TypeError):
        return CommandError(
            f"{path}: its file system does not know a --storage-option: {described(error)}",
            ExitCode.USAGE,
        )
    return CommandError(f"{path}: cannot be opened: {described(error)}", ExitCode.NOT_OPENED)


def arrays_of(node: Node, path: str) -> dict[str, zarr.Array[Any]]:
    """Return the arrays of a group at any depth, by name; of an array, itself under ``""``."""
    if isinstance(node, zarr.Array):
        return {"": node}
    try:
        members = sorted(node.members(max_depth=None), key=lambda member: member[0])
    except Exception as error:
        raise CommandError(
            f"{path}: a member of this group cannot be opened, name an array: {described(error)}",
            ExitCode.NOT_OPENED,
        ) from error
    arrays = {name: member for name, member in members if isinstance(member, zarr.Array)}
    if not arrays:
        raise CommandError(
            f"{path}: no array is found in this group; in a store that cannot list what it has, "
            "such as a web server, name an array",
            ExitCode.NOT_OPENED,
        )
    return arrays
