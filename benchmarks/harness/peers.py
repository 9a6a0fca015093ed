"""Makes the environment in which implementations are compared.

Nothing but Python itself is needed to import this.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "build" / "peers"

# What is compared with, and what the measurements and charts need besides.
PACKAGES = ["zarr", "tensorstore", "zarrista"]
TOOLS = ["blosc2", "google-crc32c", "matplotlib", "nibabel", "psutil"]
RUST = "zarrs==0.2.3"  # PyPI's package of the Rust library


def pip(python: Path, *arguments: str) -> None:
    """Run an environment's pip, or leave."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    if subprocess.run(command, check=False).returncode:
        sys.exit(2)


def make_environment(directory: Path = ENVIRONMENT) -> Path:
    """Make the environment, or bring one up to date with this checkout; return its Python."""
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
    pip(python, "install", *PACKAGES, *TOOLS, str(ROOT))
    (packages,) = (directory / "lib").glob("python*/site-packages")
    if not (packages / "zarrs_rust").exists():
        install_renamed(python, packages)
    return python


def install_renamed(python: Path, packages: Path) -> None:
    """Install the Rust package as ``zarrs_rust``, since its own name is that of ours."""
    with tempfile.TemporaryDirectory(dir=packages.parent) as temporary:
        pip(python, "install", "--no-deps", "--target", temporary, RUST)
        package = Path(temporary) / "zarrs"
        for file in package.glob("**/*.py"):
            file.write_text(renamed(file.read_text(encoding="utf-8")), encoding="utf-8")
        shutil.move(package, packages / "zarrs_rust")


def renamed(source: str) -> str:
    """Let what imports ``zarrs`` by its full name import ``zarrs_rust``."""
    return re.sub(r"^(\s*(?:from|import)) zarrs\b", r"\1 zarrs_rust", source, flags=re.MULTILINE)
