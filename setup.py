"""Build the extension modules. Everything that can be said statically is in pyproject.toml.

Environment variables:

``ZARRS_USE_SYSTEM_LIBS=1``
    Take the C libraries from the system, through pkg-config, not from PyPI wheels. C-Blosc2 may be
    missing: C-Blosc 1 does all then.
``ZARRS_REQUIRE_OPENMP=1``
    Fail without OpenMP, where a build for one thread would come out. Set it for release wheels.
``ZARRS_BUILD=debug``
    No optimisation, debug symbols, bounds checks.
``ZARRS_SANITIZE=address,undefined``
    Add ``-fsanitize=...``. Run with the sanitizer's runtime in ``LD_PRELOAD``.
"""

import os
import re
import sys
from pathlib import Path

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent))  # a PEP 517 frontend leaves it out
from _build import libraries as found
from _build.environment import BUILD, DEBUG, REQUIRE_OPENMP, SANITIZE, SYSTEM

# The modules that link a library, one each (see _build/libraries.py for why only one).
LINKS = {
    "zarrs.arrays._recycled": "numpy",
    "zarrs.arrays._strings": "numpy",
    "zarrs.codecs._blosc": "blosc",
    "zarrs.codecs._blosc2": "blosc2",
    "zarrs.codecs._bz2": "bz2",
    "zarrs.codecs._libdeflate": "libdeflate",
    "zarrs.codecs._lz4": "lz4",
    "zarrs.codecs._lzma": "lzma",
    "zarrs.codecs._zlib": "zlib",
    "zarrs.codecs._zlib_checksums": "zlib",
    "zarrs.codecs._zstd": "zstd",
    "zarrs.indexing._plan": "numpy",
    "zarrs.runtime._loop": "openmp",
}


# Checks are on in debug builds. What would change the meaning of an expression is the same in both:
# with wraparound off, a negative index is an error in a debug build.
DIRECTIVES = {
    "language_level": 3,
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
DEPENDS = [
    "setup.py",
    "_build/environment.py",
    "_build/libraries.py",
    *map(str, Path("zarrs/_native").glob("*.h")),
]


class BuildExt(build_ext):
    """Look for libraries only when something is compiled; an sdist needs none."""

    def finalize_options(self) -> None:
        """Compile as many modules at a time as there are CPUs, unless told otherwise."""
        super().finalize_options()
        self.parallel = self.parallel or found.cpu_count()

    def build_extensions(self) -> None:
        """Compile everything, again if anything but the sources has changed."""
        found.check_compiler(self.compiler, self.include_dirs)
        libraries = self.find_libraries()
        info = self.build_info(libraries)
        stamp = Path(self.build_temp, "stamp.txt")
        state = f"{info}{self.compiler.compiler_so}{COMPILE_ARGS}"
        self.force = bool(self.force) or not stamp.is_file() or stamp.read_text() != state
        self.extensions = [e for e in self.extensions if self.is_wanted(e, libraries)]
        generated = cythonize(
            self.extensions,
            nthreads=self.parallel,
            build_dir="build/cython",
            compiler_directives=DIRECTIVES,
            force=self.force,
        )
        sources = {extension.name: extension.sources for extension in generated}
        for extension in self.extensions:
            self.configure(extension, libraries.get(LINKS.get(extension.name)))
            extension.sources = sources[extension.name]
        super().build_extensions()
        self.mkpath(f"{self.build_lib}/zarrs")
        Path(self.build_lib, "zarrs", "_build_info.py").write_text(info)
        stamp.write_text(state)

    def is_wanted(self, extension: Extension, libraries: dict[str, found.Library | None]) -> bool:
        """Whether the module is built: one of an optional library only where that is."""
        library = LINKS.get(extension.name)
        return library not in found.OPTIONAL or libraries[library] is not None

    def find_libraries(self) -> dict[str, found.Library | None]:
        """Find every library. OpenMP and those in found.DYNAMIC and OPTIONAL may be None."""
        libraries = {"openmp": self.find_openmp()}
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
        return libraries

    def find_openmp(self) -> found.Library | None:
        """Find OpenMP; say what to install if there is none."""
        library = found.find_openmp(self.compiler)
        if library is None:
            message = (
                "zarrs: this compiler has no OpenMP, without which all would run on one thread.\n"
                "Debian with clang: apt-get install libomp-dev; conda: install llvm-openmp or "
                "libgomp; macOS: brew install libomp, and set CPPFLAGS and LDFLAGS as it says."
            )
            if REQUIRE_OPENMP:
                raise SystemExit(message)
            print("*" * 79, message, "*" * 79, sep="\n", file=sys.stderr)
        return library

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
        if SYSTEM and LINKS.get(extension.name) == "zlib":
            extension.define_macros = [("ZARRS_SYSTEM_ZLIB", "1")]
        if LINKS.get(extension.name) in found.DYNAMIC:
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
        }
        lines = [f"{name} = {value!r}\n" for name, value in constants.items()]
        return '"""What this build was made with. Written by setup.py."""\n\n' + "".join(lines)

    def copy_extensions_to_source(self) -> None:
        """Leave _build_info.py beside extensions that are built in place."""
        super().copy_extensions_to_source()
        self.copy_file(Path(self.build_lib, "zarrs", "_build_info.py"), "zarrs/_build_info.py")


if sys.platform == "win32":
    raise SystemExit("zarrs: there is no support for Windows; use WSL.")


def extensions() -> list[Extension]:
    """Return one extension module for every .pyx file."""
    return [
        Extension(".".join(source.with_suffix("").parts), [str(source)], depends=DEPENDS)
        for source in sorted(Path("zarrs").rglob("*.pyx"))
    ]


def readme() -> str:
    """Return README.md for a package index, where links to other files lead nowhere."""
    text = Path("README.md").read_text()
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", text)


# What makes C of Cython code in parallel may import this file again.
if __name__ == "__main__":
    setup(
        cmdclass={"build_ext": BuildExt},
        ext_modules=extensions(),
        long_description=readme(),
        long_description_content_type="text/markdown",
    )
