"""Where setup.py finds the C libraries, OpenMP, and what it can say about the compiler.

By default the libraries are the static archives inside the PyPI wheels ``blosc`` (C-Blosc 1) and
``blosc2`` (C-Blosc2, with zstd, LZ4 and zlib-ng inside), which ``backend.py`` requires, so that pip
alone builds everything. The two archives hold different versions of zstd and LZ4 under the same
names: never link both into one module. With ``ZARRS_USE_SYSTEM_LIBS=1`` pkg-config is asked
instead.
"""

from __future__ import annotations

import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MACOS = sys.platform == "darwin"


@dataclass(frozen=True)
class Library:
    """A library that was found: what to call it, and what it adds to the command lines."""

    found: str
    compile_args: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    link_args: list[str] = field(default_factory=list)


class System(NamedTuple):
    """What pkg-config has to know of a library, and the packages that bring it."""

    module: str
    minimum: str
    debian: str
    conda: str


SYSTEM = {
    "blosc": System("blosc", "1.21", "libblosc-dev", "blosc"),
    "blosc2": System("blosc2", "2.4", "libblosc2-dev", "c-blosc2"),
    "zstd": System("libzstd", "1.5.0", "libzstd-dev", "zstd"),
    "zlib": System("zlib", "1.2.11", "zlib1g-dev", "zlib"),
    "lz4": System("liblz4", "1.9", "liblz4-dev", "lz4-c"),
    "libdeflate": System("libdeflate", "1.10", "libdeflate-dev", "libdeflate"),
    "bz2": System("bzip2", "1.0", "libbz2-dev", "bzip2"),
    "lzma": System("liblzma", "5.2", "liblzma-dev", "xz"),
}

# A library without which C-Blosc 1 does all, where the system has none.
OPTIONAL = ("blosc2",)

# Libraries that are looked up at run time where they are not linked; see zarrs/_native/dynamic.h.
DYNAMIC = ("bz2", "libdeflate", "lzma")


class Probe(NamedTuple):
    """How to find a library that pkg-config may not know of."""

    flag: str
    program: str
    version: str  # the preprocessor makes it of the last line


# bzip2's own build writes no .pc file, and Debian's packages follow it.
PROBES = {
    "bz2": Probe(
        "-lbz2",
        "#include <bzlib.h>\nint main(void) { return *BZ2_bzlibVersion() == 0; }",
        "unknown version",
    ),
    "libdeflate": Probe(
        "-ldeflate",
        """
            #include <libdeflate.h>
            #if LIBDEFLATE_VERSION_MAJOR == 1 && LIBDEFLATE_VERSION_MINOR < 10
            #error too old
            #endif
            int main(void) {
                libdeflate_free_decompressor(libdeflate_alloc_decompressor());
                return 0;
            }
        """,
        "#include <libdeflate.h>\nLIBDEFLATE_VERSION_STRING",
    ),
}

# Per library: the wheel, the archive in it that holds the library, and a header that lies beside
# the ones we need. The headers of zstd, zlib-ng and LZ4 are not there: zarrs/_clib declares them.
WHEELS = {
    "blosc": ("blosc", "libblosc.a", "blosc.h"),
    "blosc2": ("blosc2", "libblosc2.a", "blosc2.h"),
    "zstd": ("blosc2", "libblosc2.a", "blosc2.h"),
    "zlib": ("blosc2", "libblosc2.a", "blosc2.h"),
    "lz4": ("blosc2", "libblosc2.a", "blosc2.h"),
}


def from_wheels() -> dict[str, Library]:
    """Find the static archives in the wheels that pip installed to build with."""
    return {name: _from_wheel(*where) for name, where in WHEELS.items()}


def _from_wheel(distribution: str, archive: str, header: str) -> Library:
    try:
        wheel = importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise SystemExit(
            f"zarrs: {distribution!r} is not installed. Without build isolation, install what "
            "[build-system] in pyproject.toml requires and its group of dependencies 'libraries', "
            "or set ZARRS_USE_SYSTEM_LIBS=1."
        ) from None
    paths = {
        file.name: os.path.realpath(str(file.locate()))
        for file in wheel.files or ()
        if file.name in (archive, header)
    }
    missing = [name for name in (archive, header) if not os.path.isfile(paths.get(name, ""))]
    if missing:
        raise SystemExit(
            f"zarrs: the installed {distribution} {wheel.version} does not contain "
            f"{' and '.join(missing)}; its wheels for Linux and macOS do. On another platform "
            "set ZARRS_USE_SYSTEM_LIBS=1."
        )
    return Library(
        found=f"wheel {distribution} {wheel.version}",
        compile_args=["-I" + os.path.dirname(paths[header])],
        objects=[paths[archive]],
        link_args=["-lm"] if MACOS else ["-lm", "-ldl", "-lpthread"],
    )


def from_system(compiler: Any) -> dict[str, Library | None]:
    """Find every library in the system; one error names all that are missing or too old."""
    if not shutil.which(_pkg_config()):
        raise SystemExit(
            "zarrs: ZARRS_USE_SYSTEM_LIBS=1 needs pkg-config (Debian: apt-get install pkg-config; "
            "conda: pkg-config; or name it in PKG_CONFIG)."
        )
    libraries = {
        name: find_linkable(name, compiler) if name in PROBES else _from_pkg_config(system)
        for name, system in SYSTEM.items()
    }
    for name in OPTIONAL:
        if libraries[name] is None:
            print(f"zarrs: {_complaint(SYSTEM[name])}; C-Blosc 1 does all", file=sys.stderr)
    wrong = [
        SYSTEM[name]
        for name, library in libraries.items()
        if library is None and name not in OPTIONAL
    ]
    if wrong:
        raise SystemExit(
            "zarrs: ZARRS_USE_SYSTEM_LIBS=1, but these libraries are not usable:\n"
            + "".join(f"  {_complaint(system)}\n" for system in wrong)
            + f"Debian:      apt-get install {' '.join(system.debian for system in wrong)}\n"
            + f"conda-forge: conda install {' '.join(system.conda for system in wrong)}\n"
            + "Elsewhere, add the directories of their .pc files to PKG_CONFIG_PATH, or unset\n"
            + "ZARRS_USE_SYSTEM_LIBS to use the libraries inside the wheels blosc and blosc2."
        )
    return libraries


def _complaint(system: System) -> str:
    version = _ask("--modversion", system.module)
    if version is None:
        have = "missing"
    elif _ask(f"--atleast-version={system.minimum}", system.module) is None:
        have = f"too old, this is {version}"
    else:
        have = "here, but nothing can be compiled or linked with it"
    return f"{system.module} >= {system.minimum}: {have}"


def _from_pkg_config(system: System) -> Library | None:
    if _ask(f"--atleast-version={system.minimum}", system.module) is None:
        return None
    return Library(
        found=_ask("--modversion", system.module) or "",
        compile_args=shlex.split(_ask("--cflags", system.module) or ""),
        link_args=shlex.split(_ask("--libs", system.module) or ""),
    )


def _pkg_config() -> str:
    return os.environ.get("PKG_CONFIG") or "pkg-config"


def _ask(*question: str) -> str | None:
    """Return pkg-config's answer, or None if that is "no"."""
    try:
        answer = subprocess.run([_pkg_config(), *question], capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def find_linkable(name: str, compiler: Any) -> Library | None:
    """Find one of PROBES, through pkg-config or just by trying."""
    probe = PROBES[name]
    guesses = [_from_pkg_config(SYSTEM[name]), Library("", link_args=[probe.flag])]
    for guess in filter(None, guesses):
        if _links(compiler, probe.program, *guess.compile_args, *guess.link_args):
            version = guess.found or _expand(compiler, probe.version)
            return Library(version, guess.compile_args, link_args=guess.link_args)
    return None


def find_numpy() -> Library:
    """Find NumPy's headers, which are a build requirement."""
    import numpy

    return Library(numpy.__version__, ["-isystem", numpy.get_include()])


def find_openmp(compiler: Any) -> Library | None:
    """Find the flags with which a program that uses OpenMP compiles and links."""
    guesses = [Library("", ["-fopenmp"], link_args=["-fopenmp"])]
    if MACOS:  # Apple's clang knows OpenMP, but neither the usual flag nor where libomp is
        guesses.insert(0, Library("", ["-Xpreprocessor", "-fopenmp"], link_args=["-lomp"]))
    source = """
        #include <omp.h>
        int main(void) {
            int n = 0;
            #pragma omp parallel reduction(+ : n)
            n += omp_get_num_threads();
            return n < 1;
        }
    """
    for guess in guesses:
        if _links(compiler, source, *guess.compile_args, *guess.link_args):
            return guess
    return None


def check_compiler(compiler: Any, include_dirs: list[str]) -> None:
    """End, with what to install, if there is no compiler or if Python's headers are missing."""
    command = compiler.compiler[0]
    if shutil.which(command) is None:
        raise SystemExit(
            f"zarrs: there is no C compiler {command!r}, which building needs.\n"
            "Debian: apt-get install gcc; Fedora: dnf install gcc; conda: conda install "
            "c-compiler; macOS: xcode-select --install; or name another one in CC."
        )
    if not any(Path(directory, "Python.h").is_file() for directory in include_dirs):
        raise SystemExit(
            "zarrs: Python.h is missing, the header for building against this Python.\n"
            "Debian: apt-get install python3-dev; Fedora: dnf install python3-devel."
        )


def cpu_count() -> int:
    """Count the CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def compiler_version(compiler: Any) -> str:
    """Return the compiler's name and version. It holds no path."""
    macros = "#ifdef __clang__\nclang __clang_version__\n#else\ngcc __VERSION__\n#endif"
    return _expand(compiler, macros)


def _links(compiler: Any, source: str, *flags: str) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory, "probe.c")
        program.write_text(source)
        command = [*compiler.compiler, str(program), "-o", str(program.with_suffix("")), *flags]
        command += shlex.split(os.environ.get("LDFLAGS", ""))
        return subprocess.run(command, capture_output=True).returncode == 0


def _expand(compiler: Any, macros: str) -> str:
    """Return what the preprocessor makes of the last line of `macros`."""
    command = [*compiler.compiler, "-E", "-P", "-x", "c", "-"]
    text = subprocess.run(command, input=macros, capture_output=True, text=True, check=True).stdout
    return " ".join(text.strip().splitlines()[-1].replace('"', "").split())
