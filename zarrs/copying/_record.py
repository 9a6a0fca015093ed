"""What of a copy is done, stored at its target until all is: what makes it go on after a kill.

The regions that are written are recorded, not found out from the chunks that are there: chunks of
nothing but the fill value are not stored, so that their regions would be copied again and again.
The record is written once in a while, so a kill costs the regions since then and those under way.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr
from zarr.storage import LocalStore, StorePath

from zarrs.checking._stored import TEMPORARY
from zarrs.copying._places import (
    ELSEWHERE,
    clear,
    delete,
    is_empty,
    is_node,
    place_of_node,
    read,
    refuse_fixed,
    write,
)

if TYPE_CHECKING:
    from zarrs.copying._regions import Regions

KEY = ".zarrs.copy"  # where it is, below the target
VERSION = 1
INTERVAL = 1.0  # seconds between writes


@dataclass(frozen=True)
class Identity:
    """What has to be the same for an unfinished copy to be gone on with.

    Attributes
    ----------
    source : str
        Where it is.
    source_metadata, target_metadata : str
        Fingerprints.
    """

    source: str
    source_metadata: str
    target_metadata: str


@dataclass
class Record:
    """The record of one copy.

    Attributes
    ----------
    target : StorePath
    identity : Identity
    resumed : bool
        Whether it was there before.
    runs : dict of str to tuple of int
        By the path of an array, how many target chunks are in its regions along every axis.
    done : dict of str to set of int
        By the path of an array, the numbers of the regions that are written.
    is_stored : bool
        Whether it is; not where nothing can be deleted.
    is_clearing : bool
        Whether what was at the target is being deleted.
    """

    target: StorePath
    identity: Identity
    resumed: bool = False
    runs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    done: dict[str, set[int]] = field(default_factory=dict)
    is_stored: bool = True
    is_clearing: bool = False
    _written: float = 0.0

    def add(self, path: str, region: int) -> None:
        """Tell of a region that is written, at the next occasion."""
        self.done[path].add(region)
        if time.monotonic() - self._written > INTERVAL:
            self.write()

    def write(self) -> None:
        """Store it."""
        if not self.is_stored:
            return
        if zarr.config.get("codec_pipeline.fsync", False) is True and _is_local(self.target):
            os.sync()  # what it says must not be older than what it is about
        document = {
            "zarrs_copy": VERSION,
            "is": "a copy that has not ended: the same command goes on with it",
            **vars(self.identity),
            "clearing": self.is_clearing,
            "arrays": {
                path: {"runs": self.runs[path], "done": _ranges(regions)}
                for path, regions in self.done.items()
            },
        }
        write(self.target, KEY, json.dumps(document).encode())
        self._written = time.monotonic()

    def delete(self) -> None:
        """Remove it: the copy has ended."""
        if self.is_stored:
            delete(self.target, KEY)

    def regions_done(self, path: str, regions: Regions, before: Regions | None) -> set[int]:
        """Begin with an array; return the regions that are written already.

        Parameters
        ----------
        path : str
        regions : Regions
            Those of this call.
        before : Regions, optional
            Those that are recorded, if they are others.
        """
        found = self.done.get(path, set())
        if before is not None and found:
            found = {
                number
                for number in range(len(regions))
                if all(one in found for one in before.overlapping(regions.box(number)))
            }
        self.runs[path], self.done[path] = regions.runs, found
        return set(found)


def begin(target: StorePath, identity: Identity, *, overwrite: bool) -> Record:
    """Find out what is at the target, and make or find the record.

    Raises
    ------
    FileExistsError
        If there is something else than an unfinished copy of the same.
    PermissionError
        If nothing can be written.
    """
    refuse_fixed(target)
    is_stored = target.store.supports_deletes
    found = read(target, KEY) if is_stored else None
    record = Record(target, identity, is_stored=is_stored)
    problem = "" if found is None else _take_up(record, found)
    if found is not None and not problem:
        if record.is_clearing:
            _clear(record)
        _delete_temporary(target)
        record.resumed = True
        return record
    if not is_empty(target):
        problem = problem or "there is something already"
        if not overwrite:
            raise FileExistsError(f"{target}: {problem}; {ELSEWHERE}")
        if found is None and not is_node(target):
            raise FileExistsError(
                f"{target}: what is there is no array or group, so it is not overwritten: choose "
                "another target, or delete it"
            )
        if not is_stored:
            raise FileExistsError(
                f"{target}: its store cannot delete what is there: choose another target"
            )
        _clear(record)
    record.write()
    return record


def _clear(record: Record) -> None:
    # The record says so meanwhile: half of what was there must not be taken for a copy.
    record.is_clearing = True
    record.write()
    clear(record.target, KEY)
    record.is_clearing = False
    record.write()


def _take_up(record: Record, found: bytes) -> str:
    # Why an unfinished copy is not gone on with; empty: it is.
    try:
        document = json.loads(found)
        version, arrays = document["zarrs_copy"], document["arrays"]
        is_clearing = document["clearing"]
        before = Identity(**{name: document[name] for name in vars(record.identity)})
        runs = {path: tuple(one["runs"]) for path, one in arrays.items()}
        done = {path: _numbers(one["done"]) for path, one in arrays.items()}
    except (ValueError, KeyError, TypeError):
        return f"the record of an unfinished copy there, {KEY}, is damaged"
    if version != VERSION:
        return (
            "there is an unfinished copy of another version of zarrs, whose record has the version "
            f"{version!r}, not {VERSION}"
        )
    now = record.identity
    if before.source != now.source:
        return f"there is an unfinished copy of another source, {before.source}"
    if before.source_metadata != now.source_metadata:
        return (
            "there is an unfinished copy, and the source's metadata have changed since it was begun"
        )
    if before.target_metadata != now.target_metadata:
        return (
            "there is an unfinished copy with other chunks, shards, codecs or format: ask for the "
            "same to go on with it"
        )
    record.runs, record.done, record.is_clearing = runs, done, is_clearing
    return ""


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1][1] = number + 1
        else:
            found.append([number, number + 1])
    return found


def _numbers(ranges: Any) -> set[int]:
    return {number for start, stop in ranges for number in range(start, stop)}


def _is_local(target: StorePath) -> bool:
    return type(target.store) is LocalStore


def _delete_temporary(target: StorePath) -> None:
    # What the writers that were killed have left.
    if type(target.store) is LocalStore:
        for directory, _, names in os.walk(target.store.root / target.path):
            for name in names:
                if TEMPORARY.search(name):
                    Path(directory, name).unlink(missing_ok=True)


def describe(source: Any) -> str:
    """Return what the record calls a source."""
    return place_of_node(source.store_path)
