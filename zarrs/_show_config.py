"""What this installation is made of, for bug reports and benchmarks."""

from __future__ import annotations

import importlib
import platform
from importlib.metadata import version
from typing import Any, Literal, overload

from zarrs import _build_info
from zarrs._threads import available_cpus

# Library -> the extension module that it is linked into.
_MODULES = {
    "blosc": "zarrs.codecs._blosc",
    "blosc2": "zarrs.codecs._blosc2",
    "zstd": "zarrs.codecs._zstd",
    "zlib": "zarrs.codecs._zlib",
    "lz4": "zarrs.codecs._lz4",
    "libdeflate": "zarrs.codecs._libdeflate",
    "bz2": "zarrs.codecs._bz2",
    "lzma": "zarrs.codecs._lzma",
}

# Libraries that may not be there, and what takes their place.
_OPTIONAL = {
    "libdeflate": "zlib-ng is used",
    "bz2": "Python's module is used",
    "lzma": "Python's module is used",
}


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, dict[str, Any]]: ...
def show_config(
    mode: Literal["stdout", "dicts"] = "stdout",
) -> dict[str, dict[str, Any]] | None:
    """Show which versions and libraries this installation of zarrs is made of.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default: "stdout"
        Print the configuration, or return it.

    Returns
    -------
    dict of dict, optional
        With ``mode="dicts"``, the configuration by section:

        ``"packages"``
            The versions of zarrs-cython, zarr and NumPy.
        ``"python"``
            Version, implementation and platform of the running interpreter.
        ``"build"``
            The compiler, the version of Cython, the kind of build, and where the C libraries came
            from: ``"wheels"`` from PyPI or the ``"system"``.
        ``"openmp"``
            Whether zarrs was built with OpenMP, and how many threads are available to it: one for
            each CPU that this process may use, or 1 without OpenMP.
        ``"libraries"``
            For each C library the version that is running, ``None`` if it is not there, and what
            was found at build time. The checksum crc32c is zarrs' own: ``"software"`` or the
            instruction set that this processor has for it.

    Raises
    ------
    ValueError
        If `mode` is none of these.

    Examples
    --------
    >>> import zarrs
    >>> zarrs.show_config("dicts")["build"]["library_mode"]
    'wheels'
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', not {mode!r}")
    config = _collect()
    if mode == "dicts":
        return config
    print(_format(config))
    return None


def _collect() -> dict[str, dict[str, Any]]:
    return {
        "packages": {
            "zarrs-cython": _build_info.VERSION,
            "zarr": version("zarr"),
            "numpy": version("numpy"),
        },
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "platform": platform.platform(),
        },
        "build": {
            "compiler": _build_info.COMPILER,
            "cython": _build_info.CYTHON,
            "kind": _build_info.BUILD,
            "sanitize": _build_info.SANITIZE or None,
            "library_mode": _build_info.LIBRARY_MODE,
        },
        "openmp": {
            "built_with": _build_info.OPENMP,
            "threads_available": available_cpus() if _build_info.OPENMP else 1,
        },
        "libraries": {
            **{
                name: {
                    "running": _library_version(module, optional=name in _OPTIONAL),
                    "built_with": _build_info.LIBRARIES.get(name),
                }
                for name, module in _MODULES.items()
            },
            "crc32c": {"running": _library_version("zarrs.codecs._crc32c"), "built_with": None},
        },
    }


def _library_version(module: str, optional: bool = False) -> str | None:
    """Ask the module for the version of its library; None if that is optional and not there."""
    try:
        return str(importlib.import_module(module).library_version())
    except ImportError:
        if not optional:
            raise
        return None


def _format(config: dict[str, dict[str, Any]]) -> str:
    lines = []
    for section, entries in config.items():
        lines.append(f"{section}:")
        for name, value in entries.items():
            lines.append(f"  {name.replace('_', ' ')}: {_format_value(name, value)}")
    return "\n".join(lines)


def _format_value(name: str, value: Any) -> str:
    if isinstance(value, dict):
        if value["running"] is None:
            return f"not found: {_OPTIONAL[name]}"
        origin = f" ({value['built_with']})" if value["built_with"] else ""
        return f"{value['running']}{origin}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
