"""Source and target: they are opened, and refused where one would overwrite the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import zarr
from zarr.abc.store import Store
from zarr.core.buffer.cpu import buffer_prototype
from zarr.errors import ArrayNotFoundError, GroupNotFoundError
from zarr.storage import LocalStore, StorePath, ZipStore
from zarr.storage._common import make_store_path

from zarrs._run import run_coroutine
from zarrs.copying._nodes import Node
from zarrs.storage._stores import location

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
NODES = METADATA[:3]  # one of these makes a node
ELSEWHERE = "choose another target, or overwrite it (overwrite=True, --overwrite)"


def open_source(source: Any, storage_options: dict[str, Any] | None) -> Node:
    """Return an array or a group, opened if it is not yet.

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if isinstance(source, zarr.Array | zarr.Group):
        return source
    path = _local_path(source)
    store: Any = source
    if path is not None and path.suffix == ".zip" and path.is_file():
        store = ZipStore(path, mode="r")
    try:
        return zarr.open(store, mode="r", storage_options=storage_options)
    except (ArrayNotFoundError, GroupNotFoundError, FileNotFoundError) as error:
        raise FileNotFoundError(
            f"there is no array or group to be copied at {source}: it has no zarr.json, .zarray or "
            ".zgroup"
        ) from error


@contextmanager
def open_target(
    target: Any, storage_options: dict[str, Any] | None, *, overwrite: bool
) -> Iterator[StorePath]:
    """Open the place of a copy, and close it.

    A zip file is made under another name, and gets its own when all has been written.
    """
    path = _local_path(target)
    if isinstance(target, Store):
        if not target.read_only:  # others are refused before they are used
            run_coroutine(target._ensure_open())
        yield StorePath(target)
        return
    if path is None:
        yield run_coroutine(make_store_path(target, mode="a", storage_options=storage_options))
        return
    if storage_options:
        raise ValueError(
            f"storage options are for URLs, and the target {target} is a local path: leave them out"
        )
    if path.suffix != ".zip":
        yield StorePath(LocalStore(path))  # which makes no directory as long as nothing is written
        return
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: {ELSEWHERE}")
    unfinished = path.with_name(f"{path.name}.partial")
    unfinished.unlink(missing_ok=True)
    store: Any = run_coroutine(ZipStore.open(unfinished, mode="w"))
    try:
        yield StorePath(store)
    except BaseException:
        store.close()
        unfinished.unlink(missing_ok=True)
        raise
    store.close()
    os.replace(unfinished, path)


def _local_path(place: Any) -> Path | None:
    # None: a URL, or a store.
    if isinstance(place, str) and place.startswith("file://") and "::" not in place:
        return Path(unquote(urlsplit(place).path))
    is_local = isinstance(place, str) and "://" not in place and "::" not in place
    return Path(place) if is_local or type(place) is type(Path()) else None


def place_of_node(store_path: Any) -> str:
    """Return what a place is called, the same for all ways to get there."""
    where = f"{location(store_path.store)}/{store_path.path}".rstrip("/")
    return where.removeprefix("zip ")


def refuse_overlap(source: Node, target: StorePath) -> None:
    """Raise ValueError if source and target are one, or one is inside of the other."""
    one, other = place_of_node(source.store_path), place_of_node(target)
    if one == other:
        raise ValueError(f"source and target are the same, {one}: choose another target")
    if f"{other}/".startswith(f"{one}/"):
        raise ValueError(
            f"the target is inside of the source, {other} in {one}: choose another target"
        )
    if f"{one}/".startswith(f"{other}/"):
        raise ValueError(
            f"the source is inside of the target, {one} in {other}: choose another target"
        )


def refuse_fixed(target: StorePath) -> None:
    """Raise an error if nothing can be written to the target."""
    if target.store.read_only or not target.store.supports_writes:
        raise PermissionError(
            f"the target {target} cannot be written to, as its store is read-only: open that for "
            "writing, or choose another target"
        )


def is_node(place: StorePath) -> bool:
    """Whether there is an array or a group."""
    return any(read(place, key) is not None for key in NODES)


def is_empty(place: StorePath) -> bool:
    """Whether there is nothing."""
    if place.store.supports_listing:
        return run_coroutine(_is_empty(place))
    return not is_node(place)


async def _is_empty(place: StorePath) -> bool:
    head = f"{place.path}/" if place.path else ""
    async for _ in place.store.list_prefix(head):
        return False
    return True


def read(place: StorePath, key: str) -> bytes | None:
    """Return what is stored under a key."""
    found: Any = run_coroutine((place / key).get(buffer_prototype))
    return None if found is None else found.to_bytes()


def write(place: StorePath, key: str, value: bytes) -> None:
    """Store something under a key."""
    run_coroutine((place / key).set(buffer_prototype.buffer.from_bytes(value)))


def delete(place: StorePath, key: str) -> None:
    """Delete a key."""
    run_coroutine((place / key).delete())


def clear(place: StorePath, kept: str) -> None:
    """Delete everything but one key, metadata first: what is left if this is killed is no node."""
    run_coroutine(_clear(place, kept))


async def _clear(place: StorePath, kept: str) -> None:
    store = place.store
    head = f"{place.path}/" if place.path else ""
    metadata: list[str] = []
    names: set[str] = set()  # of keys right here
    async for key in store.list_prefix(head):
        if _name(key) in METADATA:
            metadata.append(key)
        elif "/" not in key.removeprefix(head):
            names.add(key.removeprefix(head))
    for key in metadata:
        await store.delete(key)
    for name in [name async for name in store.list_dir(place.path)]:
        if name not in names:
            await store.delete_dir(head + name)
        elif name != kept:
            await store.delete(head + name)


def _name(key: str) -> str:
    return key.rpartition("/")[2]
