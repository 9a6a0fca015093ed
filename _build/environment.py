"""The environment variables that setup.py lists, checked."""

from __future__ import annotations

import os


def switch(name: str) -> bool:
    """Return whether the environment variable is 1; anything but 1, 0 and nothing is an error."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"zarrs: {name} must be 0 or 1, not {value!r}")
    return value == "1"


SYSTEM = switch("ZARRS_USE_SYSTEM_LIBS")
REQUIRE_OPENMP = switch("ZARRS_REQUIRE_OPENMP")
SANITIZE = os.environ.get("ZARRS_SANITIZE", "")
BUILD = os.environ.get("ZARRS_BUILD") or "release"
if BUILD not in ("release", "debug"):
    raise SystemExit(f"zarrs: ZARRS_BUILD must be release or debug, not {BUILD!r}")
DEBUG = BUILD == "debug"
