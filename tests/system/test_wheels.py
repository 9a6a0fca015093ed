"""What a release is made of: scripts/check_wheel finds faults, licences and versions agree."""

import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT

import zarrs

LIBRARIES = (ROOT / "licenses" / "libraries.md").read_text()
NEEDS_ELF = pytest.mark.skipif(sys.platform != "linux", reason="the modules are not ELF files")


def script(name: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def wheel(path: Path, **changed: str | bytes | None) -> Path:
    """Pack what scripts/check_wheel finds good, but for what is changed."""
    files: dict[str, str | bytes | None] = {}
    for source in ROOT.glob("zarrs/**/*.pyx"):
        files[f"{source.relative_to(ROOT).with_suffix('')}.so"] = b"not looked into"
    texts = ["LICENSE", *(f"licenses/{file.name}" for file in (ROOT / "licenses").glob("*.*"))]
    info = "zarrs_cython-0.dist-info"
    files |= {
        "zarrs/_build_info.py": (
            "LIBRARIES = {'libdeflate': '1.26'}\nOPENMP = True\nBUILD = 'release'\nSANITIZE = ''\n"
        ),
        f"{info}/METADATA": (
            "Metadata-Version: 2.4\nName: zarrs-cython\nVersion: 0\nLicense-Expression: MIT\n"
            + "".join(f"License-File: {text}\n" for text in texts)
            + "\nA readme.\n"
        ),
        f"{info}/WHEEL": (
            "Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: cp311-cp311-manylinux_2_28_x86_64\n"
        ),
        f"{info}/RECORD": "",
        **{f"{info}/licenses/{text}": "a text" for text in texts},
    }
    files |= {name.replace("INFO", info): content for name, content in changed.items()}
    with zipfile.ZipFile(path / "zarrs_cython-0-cp311-cp311-manylinux_2_28_x86_64.whl", "w") as out:
        for name, content in files.items():
            if content is not None:
                out.writestr(name, content)
    return Path(str(out.filename))


def test_a_good_wheel(tmp_path: Path) -> None:
    done = script("check_wheel", wheel(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "zarrs_cython-0-cp311-cp311-manylinux_2_28_x86_64.whl: good\n"


INFO = "LIBRARIES = {}\nOPENMP = {}\nBUILD = {!r}\nSANITIZE = {!r}\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("zarrs/_core.pyx", "", "zarrs/_core.pyx: has no place in a wheel"),
        ("zarrs/_native/atomics.h", "", "zarrs/_native/atomics.h: has no place in a wheel"),
        ("zarrs/_core.so", None, "zarrs/_core: is missing"),
        ("INFO/licenses/licenses/LZ4.txt", None, "licenses/LZ4.txt: is missing"),
        (
            "zarrs_cython.libs/libgomp-1.so",
            "",
            "licenses/grafted/libgomp.txt: is not named as a licence file\n"
            "licenses/grafted/libgomp.txt: is missing",
        ),
        (
            "INFO/WHEEL",
            "Tag: cp311-cp311-linux_x86_64\n",
            "cp311-cp311-linux_x86_64: it was not repaired, for these systems there is no index",
        ),
        (
            "zarrs/_build_info.py",
            INFO.format({"libdeflate": None}, False, "debug", "address"),
            "libdeflate is not inside: see scripts/libdeflate\n"
            "OpenMP is missing: all would run on one thread\n"
            "not a release build, but debug address",
        ),
    ],
)
def test_a_fault_of_a_wheel_is_found(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    done = script("check_wheel", wheel(tmp_path, **{name: content}))
    assert (done.returncode, done.stdout) == (1, said + "\n"), done.stderr


@NEEDS_ELF
def test_what_a_module_exports_and_needs(tmp_path: Path) -> None:
    package = Path(zarrs.__file__).parent
    module = next(package.glob("_core.*.so")).read_bytes()
    done = script("check_wheel", wheel(tmp_path, **{"zarrs/_core.so": module}))
    assert "exports" not in done.stdout
    done = script("check_wheel", wheel(tmp_path, **{"zarrs/_other.so": module}))
    assert "zarrs/_other.so: exports PyInit__core\n" in done.stdout
    module = next(package.glob("runtime/_loop.*.so")).read_bytes()
    done = script("check_wheel", wheel(tmp_path, **{"zarrs/runtime/_loop.so": module}))
    assert re.search(r"^zarrs/runtime/_loop\.so: needs lib\w*omp\S*, which is not inside$",
                     done.stdout, re.MULTILINE)  # fmt: skip


def test_licences_of_grafted_libraries(tmp_path: Path) -> None:
    path = wheel(tmp_path, **{"zarrs_cython.libs/libgomp-d22c30c5.so.1.0.0": ""})
    namespace = runpy.run_path(str(ROOT / "scripts" / "license_grafted"))
    folder = tmp_path / "unpacked"
    zipfile.ZipFile(path).extractall(folder)
    for _ in range(2):  # the second time there is nothing to do
        namespace["name_licences"](folder)
        about = (folder / "zarrs_cython-0.dist-info" / "METADATA").read_text()
        expression = "MIT AND GPL-3.0-or-later WITH GCC-exception-3.1"
        assert f"\nLicense-Expression: {expression}\n" in about
        assert about.count("License-File: licenses/grafted/libgomp.txt\n") == 1
        assert about.endswith("\n\nA readme.\n")
    text = folder / "zarrs_cython-0.dist-info" / "licenses" / "licenses/grafted/libgomp.txt"
    assert "GCC RUNTIME LIBRARY EXCEPTION" in text.read_text()
    (folder / "zarrs_cython.libs" / "libfoo.so.1").touch()
    with pytest.raises(SystemExit, match="libfoo was copied into the wheel"):
        namespace["name_licences"](folder)


def test_grafted_licences_are_listed() -> None:
    licences = runpy.run_path(str(ROOT / "scripts" / "license_grafted"))["LICENCES"]
    rows = re.findall(r"^\| (\w+), .* \| (\S+ WITH \S+) \| `(\S+)` \|$", LIBRARIES, re.MULTILINE)
    assert {name: kind for name, kind, _ in rows} == licences
    for name, _, text in rows:
        assert text == f"grafted/{name}.txt"
        assert (ROOT / "licenses" / text).is_file()


def test_what_is_linked_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every module that links one of the C libraries stands in the list, and no other."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    inside = set(setup["found"].WHEELS) | {"libdeflate"}
    linking = {module for module, library in setup["LINKS"].items() if library in inside}
    listed = {f"zarrs.codecs.{name}" for name in re.findall(r"`codecs/(\w+)`", LIBRARIES)}
    assert listed == linking


def test_no_flag_names_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    setup = runpy.run_path(str(ROOT / "setup.py"), run_name="setup")
    assert not [flag for flag in setup["COMPILE_ARGS"] if flag.startswith("-m")]


def test_versions_agree() -> None:
    for file in ("CITATION.cff", "recipe/recipe.yaml"):
        named = re.findall(
            r'^ *version: "?([0-9.a-z]+)"?$', (ROOT / file).read_text(), re.MULTILINE
        )
        assert named == [zarrs.__version__], file
