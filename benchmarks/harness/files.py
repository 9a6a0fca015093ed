"""The files of a stored array."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

METADATA = ("zarr.json", ".zarray", ".zattrs")


def chunk_files(path: Path) -> list[Path]:
    """Return where the chunks are, below the path of their array."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in METADATA)
    return sorted(file.relative_to(path) for file in files)


def copy_metadata(path: Path, to: Path) -> None:
    """Make an array of the same kind that has no chunks yet, in a directory that is there."""
    for name in METADATA:
        if (path / name).exists():
            shutil.copy(path / name, to)


def empty(path: Path) -> None:
    """Give the space of an array back, and leave its files.

    ext4 takes long to create files when others have been deleted within the last minute.
    """
    for file in chunk_files(path):
        os.truncate(path / file, 0)
