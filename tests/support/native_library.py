"""The libraries in ``tests/support/native``: compiled for a test, and loaded into its children."""

import os
import shlex
import subprocess
import sysconfig
from pathlib import Path

SOURCES = Path(__file__).resolve().parent / "native"


def compile_library(name: str, directory: Path, *flags: str) -> str:
    """Compile one of the sources; return where the library is."""
    library = directory / f"{name}.so"
    # A compiler that Python was built with may bring flags that are not for a library like this.
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    always = ["-std=gnu11", "-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]
    source = SOURCES / f"{name}.c"
    subprocess.run([*compiler, *always, *flags, "-o", library, source, "-ldl"], check=True)
    return str(library)


def preloaded(library: str) -> dict[str, str]:
    """What the environment of a child needs to have it loaded, behind a sanitizer's runtime."""
    before = os.environ.get("LD_PRELOAD", "")
    return {"LD_PRELOAD": f"{before} {library}".strip()}
