"""An engine for xarray: its own engine for zarr, with arrays that need no event loop."""

from __future__ import annotations

from inspect import signature
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import xarray

import zarrs
from zarrs._array import cache_of

try:
    from xarray.backends import ZarrBackendEntrypoint, ZarrStore
    from xarray.backends.common import _normalize_path
except ImportError as error:
    raise ImportError(
        f"the engine 'zarrs' does not know xarray {xarray.__version__}: {error}; "
        "use engine='zarr', or another version of xarray"
    ) from error

if TYPE_CHECKING:
    import zarr

    from zarrs.caching._chunk_cache import ChunkCache

# What says how a store is opened, in the versions of xarray that have it. All else is decoding.
STORE_OPTIONS = {
    "cache_members",
    "chunk_store",
    "mode",
    "storage_options",
    "synchronizer",
    "zarr_format",
    "zarr_version",
}


class DirectStore(ZarrStore):
    """xarray's view of a zarr group, with arrays that are read in the calling thread.

    Parameters
    ----------
    zarr_group : zarr.Group
        The group.
    *args, **kwargs
        As for ``xarray.backends.ZarrStore``.
    """

    __slots__ = ()

    def __init__(self, zarr_group: zarr.Group, *args: Any, **kwargs: Any) -> None:
        super().__init__(zarrs.direct(zarr_group), *args, **kwargs)

    def use_cache(self, cache: ChunkCache) -> None:
        """Keep decoded chunks of all arrays in a cache."""
        self.zarr_group = zarrs.direct(self.zarr_group, cache_bytes=cache)
        self._members = {
            name: zarrs.direct(one, cache_bytes=cache) for name, one in self._members.items()
        }


class ZarrsBackendEntrypoint(ZarrBackendEntrypoint):
    """The engine "zarrs" of ``xarray.open_dataset``, ``open_datatree``, ``open_groups``, ...

    It takes the options of the engine "zarr", and ``cache_bytes``, and gives the same datasets, on
    `zarrs.Array`, whatever pipeline zarr is configured for. It is used only where it is named.
    ``open_zarr`` names "zarr"; ``open_dataset(path, engine="zarrs", chunks={})`` does the same with
    this one.

    Engines of xarray only read: ``to_zarr`` has no ``engine``, and writes with zarr's arrays, in
    the pipeline that zarr is configured for. ``load_async`` needs an event loop, and reads through
    this package's pipeline.
    """

    _cache: ChunkCache | None = None  # of all groups of a tree
    description = "Open zarr stores with arrays of zarrs"
    open_dataset_parameters = (
        *tuple(signature(ZarrBackendEntrypoint.open_dataset).parameters)[1:],
        "cache_bytes",
    )

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Leave everything that names no engine to the engine "zarr"."""
        return False

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        group: str | None = None,
        consolidated: bool | None = None,
        store: Any = None,
        cache_bytes: int | ChunkCache = 0,
        **options: Any,
    ) -> xarray.Dataset:
        """Open a group as a dataset; see ``xarray.open_dataset``, and `zarrs.direct`."""
        cache = cache_of(cache_bytes)
        opening = {name: options.pop(name) for name in STORE_OPTIONS & options.keys()}
        if not store:
            store = DirectStore.open_group(
                _normalize_path(filename_or_obj), group=group, consolidated=consolidated, **opening
            )
            if cache is not None:
                store.use_cache(cache)
        return super().open_dataset(filename_or_obj, store=store, **options)

    def open_datatree(
        self, filename_or_obj: Any, *, cache_bytes: int | ChunkCache = 0, **options: Any
    ) -> xarray.DataTree:
        """Open a group and those in it as a tree; see ``xarray.open_datatree``."""
        opener = type(self)()
        opener._cache = cache_of(cache_bytes)
        return super(ZarrsBackendEntrypoint, opener).open_datatree(filename_or_obj, **options)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        group: str | None = None,
        consolidated: bool | None = None,
        cache_bytes: int | ChunkCache = 0,
        **options: Any,
    ) -> dict[str, xarray.Dataset]:
        """Open a group and those in it as datasets; see ``xarray.open_groups``."""
        cache = cache_of(cache_bytes) if self._cache is None else self._cache
        opening = {name: options.pop(name) for name in STORE_OPTIONS & options.keys()}
        root = PurePosixPath("/", group or "")
        stores = DirectStore.open_store(
            _normalize_path(filename_or_obj), group=str(root), consolidated=consolidated, **opening
        )
        datasets = {}
        for path, store in stores.items():
            if cache is not None:
                store.use_cache(cache)
            name = str(PurePosixPath(path).relative_to(root)) if group else path
            datasets[name] = super().open_dataset(filename_or_obj, store=store, **options)
        return datasets
