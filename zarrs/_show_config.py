"""What this installation is made of, for bug reports and benchmarks."""

from __future__ import annotations

import importlib
import platform
from typing import Any, Literal, overload

from zarrs import _unavailable
from zarrs._version import __version__

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
    "blosc2": ": C-Blosc 1 is used",
    "libdeflate": ": zlib is used",
    "bz2": ": Python's module is used",
    "lzma": ": Python's module is used",
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

        ``"installation"``
            Whether zarrs can be used, and what the problem is if it cannot. Then other entries
            are ``None`` where they are unknown.
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
            was found at build time.
        ``"processor"``
            The widest instructions with which Blosc's shuffles and the checksum crc32c, which is
            zarrs' own, run on this processor; ``None`` where a library does not tell.
        ``"options"``
            The options that an array opened now gets, by their names in ``zarr.config``. If one of
            them makes no sense: what is set, and under ``"error"`` what is wrong with it.

    Raises
    ------
    ValueError
        If `mode` is none of these.

    Examples
    --------
    >>> import zarrs
    >>> zarrs.show_config()  # doctest: +ELLIPSIS
    installation:
      usable: yes
      problem: none
    packages:
      zarrs-cython: ...
    >>> zarrs.show_config("dicts")["packages"]["zarr"] >= "3.1"
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"mode must be 'stdout' or 'dicts', not {mode!r}")
    config = _collect()
    if mode == "dicts":
        return config
    print(_format(config))
    return None


def _collect() -> dict[str, dict[str, Any]]:
    build = _build_info()
    problem = None if _unavailable.reason is None else _unavailable.message()
    return {
        "installation": {"usable": problem is None, "problem": problem},
        "packages": {
            "zarrs-cython": __version__,
            "zarr": _unavailable.version_of("zarr"),
            "numpy": _unavailable.version_of("numpy"),
        },
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "platform": platform.platform(),
        },
        "build": {
            "compiler": build.get("COMPILER"),
            "cython": build.get("CYTHON"),
            "kind": build.get("BUILD"),
            "sanitize": build.get("SANITIZE") or None,
            "library_mode": build.get("LIBRARY_MODE"),
        },
        "openmp": {
            "built_with": build.get("OPENMP"),
            "threads_available": _threads_available() if build.get("OPENMP") else 1,
        },
        "libraries": {
            **{
                name: {
                    "running": _ask(module, "library_version"),
                    "built_with": build.get("LIBRARIES", {}).get(name),
                }
                for name, module in _MODULES.items()
            },
        },
        "processor": {
            "blosc shuffle": _ask("zarrs.codecs._blosc", "shuffles"),
            "blosc2 shuffle": _ask("zarrs.codecs._blosc2", "shuffles"),
            "crc32c": _ask("zarrs.codecs._crc32c", "instructions"),
        },
        "options": _options(),
    }


def _threads_available() -> int | None:
    """Return how many CPUs there are for this process; None in half an installation."""
    try:
        from zarrs.runtime._cpus import available_cpus
    except ImportError:
        return None
    return available_cpus()


def _options() -> dict[str, Any]:
    """Return the options in force; nothing where there is no zarr to ask."""
    try:
        from zarrs._config import options_in_force
    except Exception:  # whatever else is wrong has been told by then
        return {}
    return options_in_force()


def _build_info() -> dict[str, Any]:
    """Return what setup.py has written down; nothing in a source folder without a build."""
    try:
        return vars(importlib.import_module("zarrs._build_info"))
    except ImportError:
        return {}


def _ask(module: str, name: str) -> str | None:
    """Call a function of a module; None if that, or its library, is not there."""
    try:
        answer: str | None = getattr(importlib.import_module(module), name)()
    except Exception:  # without those that are not optional, nothing is usable: that is the problem
        return None
    return answer


def _format(config: dict[str, dict[str, Any]]) -> str:
    lines = []
    for section, entries in config.items():
        lines.append(f"{section}:")
        for name, value in entries.items():
            label = name if section == "options" else name.replace("_", " ")
            is_unknown = section == "processor" and value is None
            text = "not known" if is_unknown else _format_value(name, value)
            lines.append(f"  {label}: {text}")
    return "\n".join(lines)


def _format_value(name: str, value: Any) -> str:
    if isinstance(value, dict):
        if value["running"] is None:
            return f"not found{_OPTIONAL.get(name, '')}"
        origin = f" ({value['built_with']})" if value["built_with"] else ""
        return f"{value['running']}{origin}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
