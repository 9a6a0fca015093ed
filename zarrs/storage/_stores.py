"""Where the bytes of chunks are, and by which of a store's methods they are reached.

Files of a ``LocalStore`` are read and written by the native loops. Everything else goes through the
store's own interface: what a wrapper or a subclass does with bytes, it does here too.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from zarr import storage
from zarr.storage import (
    FsspecStore,
    GpuMemoryStore,
    LocalStore,
    MemoryStore,
    ObjectStore,
    WrapperStore,
    ZipStore,
)

if TYPE_CHECKING:
    from zarr.abc.store import Store

DICTIONARIES = {MemoryStore, getattr(storage, "ManagedMemoryStore", MemoryStore)}

SYNCHRONOUS = ("get", "set", "delete")  # each has a counterpart that ends in _sync


def file_prefix(store: Store) -> bytes | str | None:
    """Return what precedes a store's keys in file names, as bytes.

    Asked anew for every call: a store can move, and so can the working directory. A subclass may
    have its own idea of where bytes are, so only ``LocalStore`` itself qualifies.

    Returns
    -------
    bytes, str or None
        None if bytes go through the store's interface; a reason (str) if they cannot.
    """
    if type(store) is LocalStore:
        return os.fsencode(os.path.join(os.getcwd(), store.root)) + b"/"
    if isinstance(innermost(store), GpuMemoryStore):
        return f"{type(store).__name__} keeps chunks in the memory of a GPU"
    return None


def innermost(store: Store) -> Store:
    """Return the store inside of all wrappers."""
    inner: Any = store
    while issubclass(type(inner), WrapperStore):  # not its __class__, which a mock borrows
        inner = inner._store
    found: Store = inner
    return found


def is_immediate(store: Store) -> bool:
    """Whether a store is a dictionary: to ask it is quicker than to have a thread ask."""
    return (
        type(store) in DICTIONARIES
        and isinstance(vars(store).get("_store_dict"), dict)  # and not a mapping of a user's own
        and is_synchronous(store)
    )


def is_synchronous(store: Store) -> bool:
    """Whether a store can be asked from any thread, by methods that do what its others do.

    A subclass that overrides ``get`` and knows nothing of ``get_sync`` must not be bypassed.
    """
    while True:
        if not (_has_own_synchronous_methods(type(store)) and _is_unpatched(store)):
            return False
        if not getattr(store, "_supports_sync_io", True):
            return False
        if not isinstance(store, WrapperStore):
            return True
        store = store._store


def has_own_ranges(store: Store) -> bool:
    """Whether a store has its own way of reading many ranges, not just zarr's of many reads."""
    return _is_as_derived(type(store), "get_ranges", "get") and not isinstance(store, WrapperStore)


def location(store: Store) -> str:
    """Return what, with "/" and a key behind it, is the name of what a store holds.

    It is the same for the same bytes, as far as stores tell, also if one store begins further down
    than another. Two stores may have one name that are different: that must do no harm.
    """
    inner: Any = innermost(store)
    kind = type(inner)  # not its __class__, as above
    if issubclass(kind, LocalStore):
        return _place(inner.root)
    if issubclass(kind, ZipStore) and inner.path is not None:
        return f"zip {_place(inner.path)}"
    if issubclass(kind, FsspecStore):
        protocol = inner.fs.protocol
        first = protocol if isinstance(protocol, str) else next(iter(protocol), "")
        if first in ("file", "local"):
            return _place(inner.path)
        return f"{first}:/{inner.path.strip('/')}".rstrip("/")
    if issubclass(kind, ObjectStore) and hasattr(inner.store, "prefix"):
        client, prefix = type(inner.store).__name__, str(inner.store.prefix or "")
        if client == "LocalStore":
            return _place(f"/{prefix}")
        config = sorted(getattr(inner.store, "config", {}).items())  # may hold secrets
        return f"{client} {hash(repr(config)):x}:/{prefix.strip('/')}".rstrip("/")
    return f"{kind.__name__} {inner}"


def directory_at(where: str) -> str | None:
    """Return the directory that a `location` names; None if there are no local files."""
    kind, _, path = where.partition(" ")
    return (path or "/") if kind == "file" else None


def _place(path: Any) -> str:
    return f"file {os.path.realpath(path).rstrip('/')}"


def _has_own_synchronous_methods(kind: Any) -> bool:
    return all(_is_as_derived(kind, f"{name}_sync", name) for name in SYNCHRONOUS)


def _is_unpatched(store: Store) -> bool:
    return getattr(store, "__dict__", {}).keys().isdisjoint(SYNCHRONOUS)


@cache
def _is_as_derived(kind: Any, one: str, other: str) -> bool:
    # Whether a method was defined by the same class as another, or by a more derived one; by the
    # base of all stores is by none.
    for base in kind.__mro__:
        if base.__module__ == "zarr.abc.store":
            return False
        if one in vars(base):
            return True
        if other in vars(base):
            return False
    return False
