"""Sees another distribution that installs into the same folder as this one.

PyPI's ``zarrs``, the bindings of the Rust library, has the same import name. pip lets the files of
the one replace those of the other without a word, and removes them with either.
"""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

MESSAGE = (
    "two packages with the import name zarrs are installed, zarrs-cython and PyPI's zarrs (the "
    "bindings of the Rust library): each overwrites files of the other, and uninstalling one "
    "breaks the other. Uninstall both, python -m pip uninstall zarrs zarrs-cython, and install "
    "the one that you want again"
)


@cache
def warn_of_overlay() -> None:
    """Warn, once, if the other package is installed too."""
    try:
        distribution("zarrs")
    except PackageNotFoundError:
        return
    warnings.warn(MESSAGE, stacklevel=3)
