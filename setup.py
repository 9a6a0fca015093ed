"""Build the extension modules. Everything that can be said statically is in pyproject.toml.

Environment variables:

``ZARRS_USE_SYSTEM_LIBS=1``
    Take the C libraries from the system, through pkg-config, not from PyPI wheels.
``ZARRS_REQUIRE_OPENMP=1``
    Fail without OpenMP, where a build for one thread would come out. Set it for release wheels.
``ZARRS_BUILD=debug``
    No optimisation, debug symbols, bounds checks.
``ZARRS_SANITIZE=address,undefined``
    Add ``-fsanitize=...``. Run with the sanitizer's runtime in ``LD_PRELOAD``.
"""

import os
import sys
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))  # a PEP 517 frontend leaves it out
from _build import libraries as found

# Module -> the one library it links (see _build/libraries.py for why only one).
MODULES = {
    "zarrs._core": "openmp",
    "zarrs._chunk": None,
    "zarrs._copy": None,
    "zarrs._failures": None,
    "zarrs._fancy": None,
    "zarrs._files": None,
    "zarrs._handles": None,
    "zarrs._open_shard": None,
    "zarrs._partial": None,
    "zarrs._pieces": "openmp",
    "zarrs._plan": None,
    "zarrs._read": None,
    "zarrs._read_chunks": "openmp",
    "zarrs._read_inner": "openmp",
    "zarrs._read_shards": None,
    "zarrs._region": None,
    "zarrs._shard_index": None,
    "zarrs._strings": "numpy",
    "zarrs._sync": None,
    "zarrs._workspace": None,
    "zarrs._write": None,
    "zarrs._write_chunks": "openmp",
    "zarrs._write_shards": "openmp",
    "zarrs.codecs._checksums": None,
    "zarrs.codecs._crc32c": None,
    "zarrs.codecs._blosc": "blosc",
    "zarrs.codecs._blosc2": "blosc2",
    "zarrs.codecs._zstd": "zstd",
    "zarrs.codecs._zlib": "zlib",
    "zarrs.codecs._zlib_checksums": "zlib",
    "zarrs.codecs._lz4": "lz4",
    "zarrs.codecs._bz2": "bz2",
    "zarrs.codecs._filters": None,
    "zarrs.codecs._libdeflate": "libdeflate",
    "zarrs.codecs._lzma": "lzma",
    "zarrs.codecs._python": None,
}


def switch(name: str) -> bool:
    """Return whether the environment variable is 1; anything but 1, 0 and nothing is an error."""
    value = os.environ.get(name, "")
    if value not in ("", "0", "1"):
        raise SystemExit(f"zarrs: {name} must be 0 or 1, not {value!r}")
    return value == "1"


SYSTEM = switch("ZARRS_USE_SYSTEM_LIBS")
REQUIRE_OPENMP = switch("ZARRS_REQUIRE_OPENMP")
BUILD = os.environ.get("ZARRS_BUILD") or "release"
SANITIZE = os.environ.get("ZARRS_SANITIZE", "")
if BUILD not in ("release", "debug"):
    raise SystemExit(f"zarrs: ZARRS_BUILD must be release or debug, not {BUILD!r}")
DEBUG = BUILD == "debug"

# Checks are on in debug builds. What would change the meaning of an expression is the same in both:
# with wraparound off, a negative index is an error in a debug build.
DIRECTIVES = {
    "language_level": 3,
    "binding": False,
    "wraparound": False,
    "cdivision": True,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
}
# Fused multiply-add would round filters' results in another way than NumPy does.
COMPILE_ARGS = ["-Izarrs", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
if DEBUG:  # Cython's own code for a failed check in prange draws the warning that is off here
    COMPILE_ARGS += ["-g", "-UNDEBUG", "-Wno-maybe-uninitialized"]
if SANITIZE:  # what sanitizers add is unbearable without, and lines are hard to tell with more
    COMPILE_ARGS += ["-O1"]
else:
    COMPILE_ARGS += ["-O0" if DEBUG else "-O3"]
if not (DEBUG or SANITIZE or "-g" in os.environ.get("CFLAGS", "")):
    COMPILE_ARGS += ["-g0"]  # Python's own flags say -g, which makes modules several times as big
LINK_ARGS = []
if SANITIZE:  # Python's own flags say -fwrapv, with which signed overflow goes unseen
    COMPILE_ARGS += ["-g", f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-fno-wrapv"]
    COMPILE_ARGS += ["-fno-sanitize-recover=all"]  # a report ends the process, a test's child, too
    LINK_ARGS += [f"-fsanitize={SANITIZE}"]
# Changed headers and flags have to rebuild; changed .pyx and .pxd files do so through Cython.
DEPENDS = ["setup.py", "_build/libraries.py", *map(str, Path("zarrs/_native").glob("*.h"))]


class BuildExt(build_ext):
    """Look for libraries only when something is compiled; an sdist needs none."""

    def build_extensions(self) -> None:
        """Compile everything, again if anything but the sources has changed."""
        libraries = self.find_libraries()
        info = self.build_info(libraries)
        stamp = Path(self.build_temp, "stamp.txt")
        state = f"{info}{self.compiler.compiler_so}{COMPILE_ARGS}"
        self.force = bool(self.force) or not stamp.is_file() or stamp.read_text() != state
        generated = cythonize(
            self.extensions,
            build_dir="build/cython",
            compiler_directives=DIRECTIVES,
            force=self.force,
        )
        sources = {extension.name: extension.sources for extension in generated}
        for extension in self.extensions:
            self.configure(extension, libraries.get(MODULES[extension.name]))
            extension.sources = sources[extension.name]
        super().build_extensions()
        self.mkpath(f"{self.build_lib}/zarrs")
        Path(self.build_lib, "zarrs", "_build_info.py").write_text(info)
        stamp.write_text(state)

    def find_libraries(self) -> dict[str, found.Library | None]:
        """Find every library. Only OpenMP and those in found.DYNAMIC may be None."""
        libraries: dict[str, found.Library | None] = {}
        if SYSTEM:
            libraries.update(found.from_system(self.compiler))
        else:
            libraries.update(found.from_wheels())
            # A wheel that links a system's libbz2 or liblzma would not load where there is none.
            libraries.update(dict.fromkeys(found.DYNAMIC))
            libraries["libdeflate"] = found.find_linkable("libdeflate", self.compiler)
            if libraries["libdeflate"] is None:
                print("zarrs: no libdeflate here: it is looked for at run time", file=sys.stderr)
        libraries["numpy"] = found.find_numpy()
        libraries["openmp"] = found.find_openmp(self.compiler)
        if libraries["openmp"] is None:
            message = (
                "zarrs: THIS COMPILER CANNOT BUILD WITH OPENMP: all will run on one thread.\n"
                "Debian with clang: apt-get install libomp-dev. conda: install llvm-openmp or\n"
                "libgomp. macOS: brew install libomp, and set CPPFLAGS and LDFLAGS as it says."
            )
            if REQUIRE_OPENMP:
                raise SystemExit(message + "\nZARRS_REQUIRE_OPENMP=1 makes this an error.")
            print("*" * 79, message, "*" * 79, sep="\n", file=sys.stderr)
        return libraries

    def configure(self, extension: Extension, library: found.Library | None) -> None:
        """Set the flags of one module. It exports nothing but its init function."""
        extension.extra_compile_args = [*COMPILE_ARGS]
        extension.extra_link_args = [*LINK_ARGS]
        if found.MACOS:
            init = "_PyInit_" + extension.name.rpartition(".")[2]
            extension.extra_link_args += ["-Wl,-dead_strip", f"-Wl,-exported_symbol,{init}"]
        else:
            extension.extra_link_args += ["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections"]
        if library is not None:
            extension.extra_compile_args += library.compile_args
            extension.extra_objects = library.objects
            extension.extra_link_args += library.link_args
        if SYSTEM and MODULES[extension.name] == "zlib":
            extension.define_macros = [("ZARRS_SYSTEM_ZLIB", "1")]
        if MODULES[extension.name] in found.DYNAMIC:
            if library is not None:
                extension.define_macros = [("ZARRS_LINKED", "1")]
            elif not found.MACOS:
                extension.extra_link_args += ["-ldl"]

    def build_info(self, libraries: dict[str, found.Library | None]) -> str:
        """Return the module zarrs._build_info; zarrs/_build_info.pyi says what is in it."""
        versions = {n: None if lib is None else lib.found for n, lib in libraries.items()}
        del versions["openmp"], versions["numpy"]
        constants = {
            "BUILD": BUILD,
            "COMPILER": found.compiler_version(self.compiler),
            "CYTHON": Cython.__version__,
            "LIBRARIES": versions,
            "LIBRARY_MODE": "system" if SYSTEM else "wheels",
            "OPENMP": libraries["openmp"] is not None,
            "SANITIZE": SANITIZE,
            "VERSION": self.distribution.get_version(),
        }
        lines = [f"{name} = {value!r}\n" for name, value in constants.items()]
        return '"""What this build was made with. Written by setup.py."""\n\n' + "".join(lines)

    def copy_extensions_to_source(self) -> None:
        """Leave _build_info.py beside extensions that are built in place."""
        super().copy_extensions_to_source()
        self.copy_file(Path(self.build_lib, "zarrs", "_build_info.py"), "zarrs/_build_info.py")


if sys.platform == "win32":
    raise SystemExit("zarrs: there is no support for Windows; use WSL.")

setup(
    cmdclass={"build_ext": BuildExt},
    ext_modules=[Extension(m, [f"{m.replace('.', '/')}.pyx"], depends=DEPENDS) for m in MODULES],
)
