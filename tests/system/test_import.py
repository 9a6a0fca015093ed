"""Importing zarrs never fails and never breaks zarr: the reason comes when the pipeline is chosen.

Every case is a process of its own, since a package is imported once.
"""

import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from helpers import ENTRY_POINT, PIPELINE, STOCK, child_environment, pretend_installed

import zarrs

SOURCE = Path(zarrs.__file__).parent

# Somebody who never asked for zarrs.
BYSTANDER = """
import zarr
array = zarr.create_array({}, shape=(4,), dtype="i4")
array[:] = 7
assert array[1:3].tolist() == [7, 7]
"""

# Somebody who did. The reason is raised wherever a pipeline would be made.
CHOSEN = f"""
zarr.config.set({{"codec_pipeline.path": {PIPELINE!r}}})
chosen = []
for zarr_format in (2, 3):
    try:
        zarr.create_array({{}}, shape=(4,), dtype="i4", zarr_format=zarr_format)
    except ImportError as error:
        chosen.append(error)
for make in (lambda: array[:], lambda: zarr.registry.get_pipeline_class()()):
    try:
        zarr.registry.get_pipeline_class().from_codecs(())
        make()
    except ImportError as error:
        chosen.append(error)
assert len(chosen) == 4
zarr.config.set({{"codec_pipeline.path": {STOCK!r}, "ndbuffer": "zarrs.RecyclingNDBuffer"}})
try:
    array[:]
except ImportError as error:
    assert str(error) == str(chosen[0])
else:
    raise AssertionError
print(chosen[0])
print("cause:", repr(chosen[0].__cause__))
"""


def run(code: str, *options: str, path: Path | None = None) -> str:
    """Run code in a new process and return what it prints; its exit status must be 0."""
    environment = child_environment()
    if path is not None:
        others = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = f"{path}:{others}" if others else str(path)
    done = subprocess.run(
        [sys.executable, "-P", *options, "-c", code],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def broken(module: str, error: str) -> str:
    """Return code after which importing one module raises."""
    return f"""
import sys
class Breaks:
    def find_spec(name, *_):
        if name == {module!r}:
            raise {error}
sys.meta_path.insert(0, Breaks)
"""


@pytest.mark.parametrize(
    ("module", "error"),
    [
        ("zarrs._core", "ImportError('libgomp.so.1: cannot open shared object file')"),
        ("zarrs.codecs._zstd", "OSError(5, 'Input/output error')"),
        ("zarrs.indexing._plan", "AttributeError('no such thing')"),
        ("zarrs._explain", "SyntaxError('half a file')"),
        ("zarrs.pipeline", "RuntimeError('compiled against another ABI')"),
    ],
)
def test_what_goes_wrong_is_kept_and_raised(module: str, error: str) -> None:
    code = f"""
{broken(module, error)}
import zarrs
{BYSTANDER}
{CHOSEN}
zarrs.show_config()
config = zarrs.show_config("dicts")["installation"]
assert config["usable"] is False
assert config["problem"] == str(chosen[0])
assert zarrs.__version__
assert set(dir(zarrs)) >= {{"ZarrsCodecPipeline", "__version__", "show_config"}}
assert not hasattr(zarrs, "nonsense")
try:
    from zarrs import explain
except ImportError as error:
    assert str(error) == str(chosen[0])
else:
    raise AssertionError
import pydoc
pydoc.render_doc(zarrs)
"""
    printed = run(code, "-W", "error")
    kind, text = error.split("(", 1)
    text = text.split("'")[1]
    assert f"cause: {kind}(" in printed
    cause = printed.split("cause: ")[0]
    assert "zarrs cannot be used: " + kind in cause
    assert text in cause
    assert "python -m pip install" in cause
    assert printed.count(cause.strip()) == 2  # show_config has it too


def test_what_works() -> None:
    """The public names, and a configuration without a problem."""
    assert zarrs.show_config("dicts")["installation"] == {"usable": True, "problem": None}
    public = {name for name in dir(zarrs) if not name.startswith("__")}
    assert public == set(zarrs.__all__) - {"__version__"}
    assert all(hasattr(zarrs, name) for name in zarrs.__all__)
    assert zarrs.show_config("dicts")["packages"]["zarrs-cython"] == zarrs.__version__
    assert zarrs.__doc__
    for name in public:
        assert name in zarrs.__doc__


def test_an_unpickled_pipeline_raises_the_reason(tmp_path: Path) -> None:
    """A pipeline that comes from a process where zarrs works."""
    file = tmp_path / "pipeline"
    run(
        f"import pickle, zarr, zarrs; zarr.config.set({{'codec_pipeline.path': {PIPELINE!r}}})\n"
        "array = zarr.create_array({}, shape=(4,), dtype='i4')\n"
        f"open({str(file)!r}, 'wb').write(pickle.dumps(array._async_array.codec_pipeline))"
    )
    printed = run(
        f"{broken('zarrs._core', 'ImportError(str(1234))')}\n"
        f"import pickle\ntry: pickle.load(open({str(file)!r}, 'rb'))\n"
        "except ImportError as error: print(error)"
    )
    assert "zarrs cannot be used: ImportError: 1234" in printed


def copy_package(target: Path, *names: str) -> Path:
    """Copy modules of the package that need no compiler, all of them by default."""
    package = target / "zarrs"
    package.mkdir(parents=True)
    for file in sorted(SOURCE.rglob("*.py")):
        if (file.name in names or not names) and file.name != "_build_info.py":
            copy = package / file.relative_to(SOURCE)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(file, copy)
    return package


def test_a_source_folder_without_a_build(tmp_path: Path) -> None:
    """It shadows the zarrs that is installed when Python is started in it."""
    package = copy_package(tmp_path)
    (package / "_core.pyx").touch()
    printed = run(f"import zarrs; zarrs.show_config()\n{BYSTANDER}{CHOSEN}", path=tmp_path)
    assert f"{tmp_path} is the source folder" in printed
    assert f"python -m pip install -e {tmp_path}" in printed
    assert "cause: ModuleNotFoundError(\"No module named 'zarrs.runtime._loop'\")" in printed
    assert "libraries:\n  blosc: not found\n" in printed


def test_half_an_installation(tmp_path: Path) -> None:
    copy_package(tmp_path)
    printed = run(f"import zarrs\n{BYSTANDER}{CHOSEN}", path=tmp_path)
    assert "The installation is damaged; install it again: python -m pip install" in printed


def test_an_old_zarr(tmp_path: Path) -> None:
    """One without registries and pipelines."""
    (tmp_path / "zarr").mkdir()
    (tmp_path / "zarr" / "__init__.py").touch()
    pretend_installed(tmp_path, "zarr", "2.18.7")
    code = (
        "import zarrs\nzarrs.show_config()\ntry: zarrs.ZarrsCodecPipeline()\n"
        "except ImportError as error: print(error)"
    )
    printed = run(code, path=tmp_path)
    advice = "It needs zarr>=3.1, and this is zarr 2.18.7: python -m pip install 'zarr>=3.1'"
    assert printed.count(advice) == 2


def test_an_old_numpy(tmp_path: Path) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("raise AttributeError('_ARRAY_API')")
    pretend_installed(tmp_path, "numpy", "1.26.4")
    code = (
        "import zarrs\ntry: zarrs.explain\nexcept ImportError as error: print(error)\n"
        "assert zarrs.show_config('dicts')['packages']['numpy'] == '1.26.4'"
    )
    assert "It needs numpy>=2.0, and this is numpy 1.26.4" in run(code, path=tmp_path)


# Another package of the same name. Whichever was installed last has its files there.

THEIRS = "class ZarrsCodecPipeline:\n    from_codecs = classmethod(lambda cls, codecs: 1 / 0)\n"
WARNING = "UserWarning: two packages with the import name zarrs are installed"
ADVICE = "python -m pip uninstall zarrs zarrs-cython"
USED = f"zarr.config.set({{'codec_pipeline.path': {PIPELINE!r}}})\n{BYSTANDER}"


def both_installed(path: Path, *, theirs_last: bool) -> None:
    """Leave what pip leaves of two installations; the compiled modules are those under test."""
    pretend_installed(path, "zarrs", "0.2.3")
    pretend_installed(path, "zarrs-cython", "0.1.0", ENTRY_POINT)
    if theirs_last:
        package = copy_package(path, "_entry_point.py", "_overlay.py", "_unavailable.py")
        (package / "__init__.py").write_text(THEIRS)


@pytest.mark.parametrize("first", ["", "import zarrs"])
def test_another_zarrs_installed_before(tmp_path: Path, first: str) -> None:
    """Ours works, and a warning says what to do, once."""
    both_installed(tmp_path, theirs_last=False)
    printed = run(f"{first}\n{BYSTANDER}{USED}\nimport zarrs", "-W", "always", path=tmp_path)
    assert printed.count(WARNING) == 1
    assert ADVICE in printed


@pytest.mark.parametrize("first", ["", "import zarrs"])
def test_another_zarrs_installed_after(tmp_path: Path, first: str) -> None:
    """What remains of ours gives zarr their class, and warns."""
    both_installed(tmp_path, theirs_last=True)
    code = f"{first}\n{BYSTANDER}\nzarr.config.set({{'codec_pipeline.path': {PIPELINE!r}}})\n"
    code += "import zarrs\nassert zarr.registry.get_pipeline_class() is zarrs.ZarrsCodecPipeline"
    printed = run(code, "-W", "always", path=tmp_path)
    assert printed.count(WARNING) == 1
    assert ADVICE in printed


@pytest.mark.parametrize("theirs_last", [False, True])
def test_another_zarrs_where_warnings_are_errors(tmp_path: Path, theirs_last: bool) -> None:
    """Such a warning is the reason why zarrs cannot be used; zarr can."""
    both_installed(tmp_path, theirs_last=theirs_last)
    printed = run(f"{BYSTANDER}{CHOSEN}", "-W", "error", path=tmp_path)
    assert WARNING in printed
    assert ADVICE in printed


def test_another_zarrs_uninstalled(tmp_path: Path) -> None:
    """It took files of ours with it: a package without ``__init__.py`` and pipeline is left."""
    pretend_installed(tmp_path, "zarrs-cython", "0.1.0", ENTRY_POINT)
    copy_package(tmp_path, "_entry_point.py", "_overlay.py", "_unavailable.py")
    namespace = f"""
import sys, types
sys.modules["zarrs"] = types.ModuleType("zarrs")  # as Python makes one of such a folder
sys.modules["zarrs"].__path__ = [{str(tmp_path / "zarrs")!r}]
"""
    printed = run(f"{namespace}{BYSTANDER}{CHOSEN}", path=tmp_path)
    assert "cannot import name 'ZarrsCodecPipeline' from 'zarrs'" in printed
    assert "The installation is damaged; install it again" in printed


def test_alone_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(f"import zarrs\n{BYSTANDER}{USED}", "-W", "error")
