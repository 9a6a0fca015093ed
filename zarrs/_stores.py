"""Where the bytes of chunks are: which stores the native loops can reach."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

if TYPE_CHECKING:
    from zarr.abc.store import Store


def file_prefix(store: Store) -> bytes | str:
    """Return what precedes a store's keys in file names, as bytes; or why there are no files.

    Asked anew for every call: a store can move, and so can the working directory. A subclass may
    have its own idea of where bytes are, so only ``LocalStore`` itself qualifies.
    """
    if type(store) is not LocalStore:
        return f"{type(store).__name__} is read and written through zarr's store interface"
    return os.fsencode(os.path.join(os.getcwd(), store.root)) + b"/"
