"""The arrays and groups of a source, and what the metadata of their copies are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any

import zarr
from zarr.core.array import AsyncArray
from zarr.core.buffer.cpu import buffer_prototype
from zarr.core.group import ConsolidatedMetadata, GroupMetadata
from zarr.storage import StorePath

from zarrs.copying._metadata import (
    LayoutError,
    Wishes,
    are_stored_alike,
    array_metadata,
    group_metadata,
)

Node = zarr.Array[Any] | zarr.Group
EMPTY = {"kind": "inline", "must_understand": False, "metadata": {}}


@dataclass(frozen=True)
class Copied:
    """A node of the source, and its copy.

    Attributes
    ----------
    path : str
        Below what is copied; "" is that itself.
    source : zarr.Array or zarr.Group
    metadata : ArrayMetadata or GroupMetadata
        Of the copy.
    """

    path: str
    source: Node
    metadata: Any

    @property
    def is_array(self) -> bool:
        """Whether it is no group."""
        return isinstance(self.source, zarr.Array)

    @property
    def name(self) -> str:
        """What errors call it."""
        return self.path or self.source.path or str(self.source.store)

    @property
    def is_stored_alike(self) -> bool:
        """Whether the stored bytes of the chunks are those of the copy."""
        return are_stored_alike(self.source.metadata, self.metadata)

    def target(self, root: StorePath) -> AsyncArray[Any]:
        """Return the copy of an array, whose metadata need not be stored yet."""
        return AsyncArray(metadata=self.metadata, store_path=root / self.path)


def nodes_of(source: Node, wishes: Wishes) -> list[Copied]:
    """Return all nodes, parents before children.

    Raises
    ------
    LayoutError
        If an array cannot be stored as asked for, or chunks or shards are asked for that fit none.
    """
    found: dict[str, Node] = {"": source}
    if isinstance(source, zarr.Group):
        found |= _members(source)
    arrays = [node for node in found.values() if isinstance(node, zarr.Array)]
    if arrays and not any(wishes.fits(array.ndim) for array in arrays):
        numbers = " or ".join(map(str, sorted({array.ndim for array in arrays})))
        raise LayoutError(
            f"chunks and shards need a number for every axis: expected {numbers}, found "
            f"{wishes.shown}"
        )
    return [_copied(path, found[path], wishes) for path in sorted(found)]


def _members(group: zarr.Group) -> dict[str, Node]:
    try:
        return dict(group.members(max_depth=None))
    except Exception as error:  # whatever zarr says of metadata that are damaged
        raise LayoutError(
            f"a member of {group.store_path} cannot be opened, so mend or delete it, or copy the "
            f"others one by one: {type(error).__name__}: {error}"
        ) from error


def _copied(path: str, node: Node, wishes: Wishes) -> Copied:
    if isinstance(node, zarr.Group):
        return Copied(path, node, group_metadata(node.metadata, wishes.zarr_format))
    name = path or node.path or str(node.store)
    return Copied(path, node, array_metadata(node.metadata, wishes, name))


def consolidated(nodes: list[Copied]) -> list[Copied]:
    """Return the nodes with consolidated metadata in the groups whose sources have these."""
    result: list[Copied] = []
    above: list[str] = []  # groups that have them
    for node in nodes:
        metadata = node.source.metadata
        has_own = isinstance(metadata, GroupMetadata) and metadata.consolidated_metadata is not None
        if has_own and not any(_is_below(node.path, path) for path in above):
            above.append(node.path)
            head = f"{node.path}/" if node.path else ""
            members = {
                one.path.removeprefix(head): _document(one.metadata)
                for one in nodes
                if one is not node and _is_below(one.path, node.path)
            }
            document: Any = EMPTY | {"metadata": members}
            found = ConsolidatedMetadata.from_dict(document)
            node = replace(node, metadata=replace(node.metadata, consolidated_metadata=found))
        result.append(node)
    return result


def _is_below(path: str, group: str) -> bool:
    return not group or path == group or path.startswith(f"{group}/")


def _document(metadata: Any) -> dict[str, Any]:
    document: dict[str, Any] = metadata.to_dict()
    is_group = isinstance(metadata, GroupMetadata)
    return document | {"consolidated_metadata": EMPTY} if is_group else document


def stored_metadata(node: Copied) -> dict[str, Any]:
    """Return what is to be stored of the metadata of a copy, by key below the node."""
    return dict(node.metadata.to_buffer_dict(buffer_prototype))


def fingerprint(documents: dict[str, Any]) -> str:
    """Return what differs if any of some metadata, by path, do."""
    made = {path: metadata.to_dict() for path, metadata in documents.items()}
    text = json.dumps(made, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
