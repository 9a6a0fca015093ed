"""Ways to arrays and groups without zarr's event loop: from zarr's own, by opening, by creating."""

from __future__ import annotations

from functools import partial, wraps
from inspect import Parameter, signature
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import zarr

from zarrs._array import Array, cache_of
from zarrs.storage._kept import forget_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from zarrs.caching._chunk_cache import ChunkCache

T = TypeVar("T")

# The methods of a group that return arrays or groups, in the versions of zarr that have them.
MEMBER_METHODS = (
    "__getitem__",
    "array",
    "array_values",
    "arrays",
    "create",
    "create_array",
    "create_dataset",
    "create_group",
    "create_hierarchy",
    "empty",
    "empty_like",
    "full",
    "full_like",
    "get",
    "get_array",
    "get_group",
    "group_values",
    "groups",
    "members",
    "ones",
    "ones_like",
    "require_array",
    "require_dataset",
    "require_group",
    "require_groups",
    "update_attributes",
    "zeros",
    "zeros_like",
)


class Group(zarr.Group):
    """A zarr group whose arrays, at any depth, are read and written in the calling thread.

    It is a ``zarr.Group`` in every respect; its members are `zarrs.Array` and `zarrs.Group`.
    `zarrs.direct` makes one of an open group.

    Examples
    --------
    >>> import zarrs
    >>> group = zarrs.open_group({}, mode="w")
    >>> array = group.create_array("a/b", shape=(4,), chunks=(2,), dtype="i4")
    >>> type(group["a"]).__name__, type(group["a/b"]).__name__
    ('Group', 'Array')
    """

    _cache: ChunkCache | None = None

    @property
    def cache(self) -> ChunkCache | None:
        """Where decoded chunks of all its arrays are kept; None: they are not."""
        return self._cache

    def __delitem__(self, key: str) -> None:
        """Delete a member; see ``zarr.Group.__delitem__``."""
        super().__delitem__(key)
        forget_below(self.store, f"{self.path}/{key}".lstrip("/"))


@overload
def direct(node: zarr.Array[Any], *, cache_bytes: int | ChunkCache = 0) -> Array: ...
@overload
def direct(node: zarr.Group, *, cache_bytes: int | ChunkCache = 0) -> Group: ...
def direct(
    node: zarr.Array[Any] | zarr.Group, *, cache_bytes: int | ChunkCache = 0
) -> Array | Group:
    """Turn an open array or group into one that is read and written in the calling thread.

    Parameters
    ----------
    node : zarr.Array or zarr.Group
        It shares its store with what is returned, and its metadata if it has this pipeline. If it
        has another one, each knows the shape and the attributes from when it was opened, and its
        own changes.
    cache_bytes : int or ChunkCache, default 0
        The most bytes in which decoded chunks, inner chunks and indexes of shards are kept from
        read to read; 0: none is asked for, and a node that has a cache keeps it. All arrays of a
        group share them, and so do all that are given the same `ChunkCache`. What this package
        writes in this process drops out; what others write is not seen, unless
        ``array.cache.clear()`` is called.

    Returns
    -------
    zarrs.Array or zarrs.Group
        The same, with direct access.

    Raises
    ------
    TypeError
        If `node` is neither.
    ValueError
        If `cache_bytes` is no number of bytes.

    Examples
    --------
    >>> import zarr, zarrs
    >>> array = zarr.create_array({}, shape=(4, 4), chunks=(2, 2), dtype="i4")
    >>> zarrs.direct(array)[1:3, 0].tolist()
    [0, 0]
    """
    ours: Array | Group = _with_cache(node, cache_of(cache_bytes))
    return ours


def _with_cache(node: Any, cache: ChunkCache | None) -> Any:
    if isinstance(node, Array | Group) and cache in (None, node.cache):
        return node
    if isinstance(node, zarr.Array):
        return Array(node.async_array, 0 if cache is None else cache)
    if isinstance(node, zarr.Group):
        group = Group(node._async_group)
        object.__setattr__(group, "_cache", cache)
        return group
    raise TypeError(
        f"direct() takes a zarr.Array or a zarr.Group, not {type(node).__name__}: "
        "pass what zarr.open(...) returns for the stored data"
    )


def _directly(value: Any, cache: ChunkCache | None) -> Any:
    # Whatever a function of zarr's returns: arrays and groups in it become ours.
    if isinstance(value, zarr.Array | zarr.Group):
        return _with_cache(value, cache)
    if isinstance(value, tuple):
        return tuple(_directly(one, cache) for one in value)
    if isinstance(value, GeneratorType):
        return (_directly(one, cache) for one in value)
    return value


def _member_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: Group, *args: Any, **kwargs: Any) -> Any:
        return _call(partial(method, self), method.__name__, args, kwargs, self._cache)

    return call


def _call(
    function: Callable[..., Any],
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    cache: ChunkCache | None,
) -> Any:
    # `data` to begin with is written by the array that is returned, if zarr would just write it.
    data = kwargs.get("data")
    if (
        name != "create_array"
        or not isinstance(data, np.ndarray)
        or kwargs.get("shape") is not None
        or kwargs.get("dtype") is not None
        or not kwargs.get("write_data", True)
    ):
        made = _directly(function(*args, **kwargs), cache)
        _forget_if_new(made, kwargs)
        return made
    created = function(*args, **{**kwargs, **_instead_of(data)})
    array: Array = _with_cache(created, cache)
    _forget_if_new(array, kwargs)
    array[...] = data
    return array


def _forget_if_new(node: Any, options: dict[str, Any]) -> None:
    # What was in the place of a node that has just been made.
    is_new = options.get("overwrite") or str(options.get("mode", "")).startswith("w")
    if is_new and isinstance(node, Array | Group):
        forget_below(node.store, node.path)


def _instead_of(data: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"data": None, "shape": data.shape, "dtype": data.dtype}


for _name in MEMBER_METHODS:
    if hasattr(zarr.Group, _name):
        setattr(Group, _name, _member_method(getattr(zarr.Group, _name)))


def _like(function: Callable[..., Any]) -> Callable[[T], T]:
    # Gives a function the parameters of one of zarr's, and `cache_bytes`.
    given = signature(function)
    last = [p for p in given.parameters.values() if p.kind is Parameter.VAR_KEYWORD]
    others = [p for p in given.parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
    own = Parameter("cache_bytes", Parameter.KEYWORD_ONLY, default=0, annotation="int | ChunkCache")

    def decorate(ours: T) -> T:
        changed: Any = ours
        changed.__signature__ = given.replace(
            parameters=[*others, own, *last], return_annotation=signature(changed).return_annotation
        )
        return ours

    return decorate


@_like(zarr.open)
def open(*args: Any, cache_bytes: int | ChunkCache = 0, **kwargs: Any) -> Array | Group:
    """Open an array or a group with direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.open``.
    cache_bytes : int or ChunkCache, default 0
        See `direct`.

    Returns
    -------
    zarrs.Array or zarrs.Group
        What is stored there.

    Raises
    ------
    ValueError
        If `cache_bytes` is no number of bytes.
    Exception
        What ``zarr.open`` raises.

    Examples
    --------
    >>> import numpy as np, zarr, zarrs
    >>> store = zarr.storage.MemoryStore()  # or a path, or an address
    >>> stored = zarr.create_array(store, data=np.arange(8), chunks=(4,))
    >>> zarrs.open(store, mode="r")[3:5].tolist()
    [3, 4]
    """
    cache = cache_of(cache_bytes)
    node: Array | Group = _with_cache(zarr.open(*args, **kwargs), cache)
    _forget_if_new(node, kwargs)
    return node


@_like(zarr.open_array)
def open_array(*args: Any, cache_bytes: int | ChunkCache = 0, **kwargs: Any) -> Array:
    """Open an array with direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.open_array``.
    cache_bytes : int or ChunkCache, default 0
        See `direct`.

    Returns
    -------
    zarrs.Array
        The array.

    Raises
    ------
    ValueError
        If `cache_bytes` is no number of bytes.
    Exception
        What ``zarr.open_array`` raises.

    Examples
    --------
    >>> import numpy as np, zarr, zarrs
    >>> store = zarr.storage.MemoryStore()  # or a path, or an address
    >>> stored = zarr.create_array(store, data=np.arange(8), chunks=(4,))
    >>> array = zarrs.open_array(store, mode="r", cache_bytes=2**20)
    >>> int(array[5] + array[6])
    11
    """
    cache = cache_of(cache_bytes)
    array: Array = _with_cache(zarr.open_array(*args, **kwargs), cache)
    _forget_if_new(array, kwargs)
    return array


@_like(zarr.open_group)
def open_group(*args: Any, cache_bytes: int | ChunkCache = 0, **kwargs: Any) -> Group:
    """Open a group whose arrays have direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.open_group``.
    cache_bytes : int or ChunkCache, default 0
        Of all arrays together; see `direct`.

    Returns
    -------
    zarrs.Group
        The group.

    Raises
    ------
    ValueError
        If `cache_bytes` is no number of bytes.
    Exception
        What ``zarr.open_group`` raises.

    Examples
    --------
    >>> import numpy as np, zarrs
    >>> group = zarrs.open_group({}, mode="w")
    >>> array = group.create_array("x", data=np.arange(8), chunks=(4,))
    >>> group["x"][:3].tolist()
    [0, 1, 2]
    """
    cache = cache_of(cache_bytes)
    group: Group = _with_cache(zarr.open_group(*args, **kwargs), cache)
    _forget_if_new(group, kwargs)
    return group


@_like(zarr.create_array)
def create_array(*args: Any, cache_bytes: int | ChunkCache = 0, **kwargs: Any) -> Array:
    """Create an array with direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.create_array``; a NumPy array as ``data`` is written with direct access.
    cache_bytes : int or ChunkCache, default 0
        See `direct`.

    Returns
    -------
    zarrs.Array
        The new array.

    Raises
    ------
    ValueError
        If `cache_bytes` is no number of bytes.
    Exception
        What ``zarr.create_array`` raises.

    Examples
    --------
    >>> import numpy as np, zarrs
    >>> array = zarrs.create_array({}, data=np.eye(4), chunks=(1, 4), shards=(4, 4))
    >>> array.read_many([1, 3]).sum()
    np.float64(2.0)
    """
    cache = cache_of(cache_bytes)
    array: Array = _call(zarr.create_array, "create_array", args, kwargs, cache)
    return array
