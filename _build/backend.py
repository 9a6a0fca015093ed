"""The build backend: setuptools, and the wheels whose static libraries are linked.

Those are needed to build only, and only if the libraries are not the system's, which pyproject.toml
cannot say.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

from _build.environment import SYSTEM

Settings = dict[str, Any] | None


def libraries() -> list[str]:
    """Return the requirements that bring the static libraries."""
    if SYSTEM:
        return []
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    wheels: list[str] = tomllib.loads(pyproject.read_text())["dependency-groups"]["libraries"]
    return wheels


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    """Return what is needed to build a wheel."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *libraries()]


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    """Return what is needed to build in place."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *libraries()]
