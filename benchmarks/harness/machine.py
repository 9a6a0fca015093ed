"""What was measured, and on what."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from .implementations import OURS, Implementation

# Where a version is told, by implementation.
PACKAGES = {"tensorstore": "tensorstore", "zarrista": "zarrista"}


def environment(
    impls: Sequence[Implementation], threads: int | None, directory: Path | None = None
) -> dict[str, Any]:
    """Return versions, machine and file system (that of a directory) as JSON takes them."""
    names = [impl.name for impl in impls]
    packages = ["zarr", "numpy", "numcodecs", "zarrs-cython"]
    packages += [package for name, package in PACKAGES.items() if name in names]
    versions = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    if "rust" in names:
        versions["zarrs (Rust)"] = importlib.import_module("zarrs_rust").__version__
    found: dict[str, Any] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "memory": psutil.virtual_memory().total,
        "threads": threads,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "kernel": platform.release(),
        "file_system": file_system(directory or Path(tempfile.gettempdir())),
        "versions": versions,
    }
    if set(OURS) & set(names):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # built in place
            config = importlib.import_module("zarrs").show_config("dicts")
            found["libraries"] = {k: v["running"] for k, v in config["libraries"].items()}
    return found


def usable_cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def cpu_model() -> str:
    """Return the name of the processor, as far as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def file_system(directory: Path) -> str:
    """Return the type of the file system that a directory is in."""
    where = directory.resolve()
    mounts = [
        part for part in psutil.disk_partitions(all=True) if where.is_relative_to(part.mountpoint)
    ]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def describe(env: dict[str, Any]) -> list[str]:
    """Return the environment as lines of text."""
    packages = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    lines = [
        f"{env['cpu']}, {env['cores']} cores ({env['cores_usable']} usable), threads: "
        + ("each one's default" if env["threads"] is None else str(env["threads"])),
        f"{env['memory'] / 2**30:.0f} GiB of memory, {env['file_system']}, {env['platform']}",
        f"Python {env['python']}, {packages}",
    ]
    if "libraries" in env:
        libraries = [f"{name} {version}" for name, version in env["libraries"].items() if version]
        lines.append(f"libraries in zarrs: {', '.join(libraries)}")
    return lines
