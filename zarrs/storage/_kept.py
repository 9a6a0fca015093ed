"""Caches of decoded chunks learn of what this package writes, from wherever it is reached."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zarrs.caching._chunk_cache import Section, living_sections
from zarrs.storage._stores import location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zarr.abc.store import Store


@contextmanager
def writing(store: Store, keys: Iterable[Any]) -> Iterator[None]:
    """Let caches have nothing to do with keys while they are written.

    Parameters
    ----------
    store : Store
    keys : iterable of str
    """
    begun: list[Section] = []
    try:
        for section, own in _concerned(store, keys):
            begun.append(section)
            section.begin_write()
            section.forget(own)
        yield
    finally:
        # Also those that were made meanwhile.
        for section, own in _concerned(store, keys):
            section.forget(own)
        for section in begun:
            section.end_write()


def forget_below(store: Store, path: str) -> None:
    """Drop what caches hold of a node that was deleted, or of which chunks were."""
    for section, own in _concerned(store, [f"{path}/" if path else ""]):
        for prefix in own:
            section.forget_below(prefix)


def _concerned(store: Store, keys: Iterable[Any]) -> list[tuple[Section, list[str]]]:
    # What caches hold of arrays of these keys, and what they call them. One store may begin further
    # down than another.
    sections = living_sections()
    if not sections:
        return []
    found = []
    writer = location(store)
    for section in sections:
        reader = location(section.store)
        own: list[str] = []
        if reader == writer:
            own = list(keys)
        elif writer.startswith(f"{reader}/"):
            head = writer[len(reader) + 1 :]
            own = [f"{head}/{key}" for key in keys]
        elif reader.startswith(f"{writer}/"):
            head = reader[len(writer) + 1 :] + "/"
            own = [key[len(head) :] for key in keys if key.startswith(head)]
            if not own and any(head.startswith(key) for key in keys):
                own = [""]  # all of it is below
        if own:
            found.append((section, own))
    return found
