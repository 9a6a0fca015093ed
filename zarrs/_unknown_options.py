"""A warning of options in ``zarr.config`` that no package reads: most likely they are misspelt."""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import zarr
from zarr.core.config import config

if TYPE_CHECKING:
    from collections.abc import Set

# Other sections belong to other packages, or, as `codecs`, are open to every name.
SECTIONS = ("codec_pipeline", "threading", "array", "async")
# In these every unknown name is reported. In the others, what is near to no name may be an
# option of a newer zarr.
CLOSED = ("codec_pipeline", "threading")
TOP = ""  # stands for the section of what is in no section

# By section, the keys that have been looked at in this process: so a pipeline costs little, and an
# option one warning.
_examined: dict[str, set[Any]] = {section: set() for section in (TOP, *SECTIONS)}


def warn_of_unknown_options(ours: Set[str]) -> None:
    """Warn, once a process, of each option that neither zarr nor zarrs knows.

    Parameters
    ----------
    ours : set of str
        The options that zarrs has besides zarr's.
    """
    for section, examined in list(_examined.items()):
        options = config.config.get(section) if section else config.config
        if isinstance(options, dict) and not options.keys() <= examined:
            _examine(section, options, ours)


def _examine(section: str, options: dict[Any, Any], ours: Set[str]) -> None:
    known = _names_of_zarr() | ours
    examined = _examined.setdefault(section, set())
    for key, value in list(options.items()):  # a copy: another thread may set options meanwhile
        name = f"{section}.{key}" if section else str(key)
        if key not in examined and name.replace("-", "_") not in known:
            if section == TOP and isinstance(value, dict):
                if get_close_matches(name, SECTIONS, n=1):
                    _examine(name, value, ours)
            else:
                _warn(section, name, known)
        examined.add(key)  # not before: a warning that is an error stays one


def _names_of_zarr() -> set[str]:
    # Of its sections and options; other packages may have added some of their own.
    names: set[str] = set()
    for defaults in config.defaults:
        for section, options in defaults.items():
            names.add(section)
            if isinstance(options, dict):
                names.update(f"{section}.{key}" for key in options)
    return names


def _warn(section: str, name: str, known: Set[str]) -> None:
    nearest = _nearest(section, name.removeprefix(f"{section}.").replace("-", "_"), known)
    if nearest:
        variable = f"ZARR_{nearest.upper().replace('.', '__')}"
        hint = f"; did you mean {nearest!r} (in the environment {variable})?"
    elif section in CLOSED:
        hint = ""
    else:
        return
    warnings.warn(
        f"zarr.config option {name!r} has no effect: neither zarr {zarr.__version__} nor zarrs "
        f"knows it{hint}",
        stacklevel=2,
    )


def _nearest(section: str, key: str, known: Set[str]) -> str | None:
    # The option that was meant, if one is near: first of the section, then of all others.
    options = [name.split(".") for name in sorted(known) if name.partition(".")[0] in SECTIONS]
    options = [option for option in options if len(option) == 2]
    if section == TOP:  # in the environment, one underscore where there should be two
        candidates = {"_".join(option): option for option in options}
    else:
        meant = get_close_matches(section, SECTIONS, n=1)
        candidates = {k: [s, k] for s, k in options if section in SECTIONS}
        candidates |= {k: [s, k] for s, k in options if s in meant}
    found = get_close_matches(key, candidates, n=1, cutoff=0.9 if section == TOP else 0.6)
    return ".".join(candidates[found[0]]) if found else None
