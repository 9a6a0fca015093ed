"""Ways to arrays and groups without zarr's event loop: from zarr's own, by opening, by creating."""

from __future__ import annotations

from functools import wraps
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import zarr

from zarrs._array import Array

if TYPE_CHECKING:
    from collections.abc import Callable

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
    "zeros",
    "zeros_like",
)


class Group(zarr.Group):
    """A zarr group whose arrays, at any depth, are read and written in the calling thread.

    It is a ``zarr.Group`` in every respect; its members are `zarrs.Array` and `zarrs.Group`.
    `zarrs.direct` makes one of an open group.
    """


@overload
def direct(node: zarr.Array[Any]) -> Array: ...
@overload
def direct(node: zarr.Group) -> Group: ...
def direct(node: zarr.Array[Any] | zarr.Group) -> Array | Group:
    """Turn an open array or group into one that is read and written in the calling thread.

    Parameters
    ----------
    node : zarr.Array or zarr.Group
        It shares its store with what is returned, and its metadata if it has this pipeline. If it
        has another one, each knows the shape and the attributes from when it was opened, and its
        own changes.

    Returns
    -------
    zarrs.Array or zarrs.Group

    Raises
    ------
    TypeError
        If `node` is neither.

    Examples
    --------
    >>> import zarr, zarrs
    >>> array = zarr.create_array({}, shape=(4, 4), chunks=(2, 2), dtype="i4")
    >>> zarrs.direct(array)[1:3, 0].tolist()
    [0, 0]
    """
    if isinstance(node, Array | Group):
        return node
    if isinstance(node, zarr.Array):
        return Array(node.async_array)
    if isinstance(node, zarr.Group):
        return Group(node._async_group)
    raise TypeError(
        f"direct() takes a zarr.Array or a zarr.Group, not {type(node).__name__}: "
        "pass what zarr.open(...) returns for the stored data"
    )


def _directly(value: Any) -> Any:
    # Whatever a function of zarr's returns: arrays and groups in it become ours.
    if isinstance(value, zarr.Array | zarr.Group):
        return direct(value)
    if isinstance(value, tuple):
        return tuple(map(_directly, value))
    if isinstance(value, GeneratorType):
        return (_directly(one) for one in value)
    return value


def _returning_ours(function: Callable[..., Any]) -> Callable[..., Any]:
    # `data` to begin with is written by the array that is returned, if zarr would just write it.
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        data = kwargs.get("data")
        if (
            function.__name__ != "create_array"
            or not isinstance(data, np.ndarray)
            or kwargs.get("shape") is not None
            or kwargs.get("dtype") is not None
            or not kwargs.get("write_data", True)
        ):
            return _directly(function(*args, **kwargs))
        created = function(*args, **{**kwargs, **_instead_of(data)})
        array = direct(created)
        array[...] = data
        return array

    return call


def _instead_of(data: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"data": None, "shape": data.shape, "dtype": data.dtype}


for _name in MEMBER_METHODS:
    if hasattr(zarr.Group, _name):
        setattr(Group, _name, _returning_ours(getattr(zarr.Group, _name)))


def _signature_of(function: Callable[..., Any]) -> Callable[[T], T]:
    # Keeps a function's own documentation, unlike `functools.wraps` alone.
    return wraps(function, assigned=("__annotations__",), updated=())  # type: ignore[return-value]


@_signature_of(zarr.open)
def open(*args: Any, **kwargs: Any) -> Array | Group:
    """Open an array or a group with direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.open``.

    Returns
    -------
    zarrs.Array or zarrs.Group

    Raises
    ------
    Exception
        What ``zarr.open`` raises.
    """
    node: zarr.Array[Any] | zarr.Group = zarr.open(*args, **kwargs)
    return direct(node)


@_signature_of(zarr.open_array)
def open_array(*args: Any, **kwargs: Any) -> Array:
    """Open an array with direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.open_array``.

    Returns
    -------
    zarrs.Array

    Raises
    ------
    Exception
        What ``zarr.open_array`` raises.
    """
    return direct(zarr.open_array(*args, **kwargs))


@_signature_of(zarr.open_group)
def open_group(*args: Any, **kwargs: Any) -> Group:
    """Open a group whose arrays have direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.open_group``.

    Returns
    -------
    zarrs.Group

    Raises
    ------
    Exception
        What ``zarr.open_group`` raises.
    """
    return direct(zarr.open_group(*args, **kwargs))


@_signature_of(zarr.create_array)
def create_array(*args: Any, **kwargs: Any) -> Array:
    """Create an array with direct access.

    Parameters
    ----------
    *args, **kwargs
        As for ``zarr.create_array``; a NumPy array as ``data`` is written with direct access.

    Returns
    -------
    zarrs.Array

    Raises
    ------
    Exception
        What ``zarr.create_array`` raises.
    """
    array: Array = _returning_ours(zarr.create_array)(*args, **kwargs)
    return array
