"""How other projects' tests are run and compared: scripts/suites.py, its plugin and lists."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from helpers import ROOT

SCRIPTS = ROOT / "scripts"

SAMPLE = """
import fsspec
import numpy as np
import pytest
import zarr
from zarr.storage import LocalStore, MemoryStore

DEFAULT = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@pytest.fixture
def breaks_afterwards():
    yield
    assert zarr.config.get("codec_pipeline.path") == DEFAULT


def knows_the_class():
    return zarr.registry.get_pipeline_class().__name__ == "BatchedCodecPipeline"


def test_passes():
    pass


def test_class():
    assert knows_the_class()


def test_named_class():
    with zarr.config.set({"codec_pipeline.path": DEFAULT}):
        assert knows_the_class()


def test_teardown(breaks_afterwards):
    pass


def test_skipped_with_one():
    if not knows_the_class():
        pytest.skip("nothing for this one")


def test_fails_with_both():
    raise AssertionError


@pytest.mark.xfail
def test_fails_as_expected_with_both():
    raise AssertionError


@pytest.mark.skip
def test_skipped_with_both():
    pass


@pytest.mark.parametrize("n", range(4))
def test_file_system(n):
    earlier_or_new = fsspec.filesystem("http", asynchronous=True)
    assert not hasattr(earlier_or_new, "number")
    earlier_or_new.number = n


@pytest.mark.parametrize("name", ["a[0]-'b'", "None"])
def test_store(name):
    array = zarr.create_array({}, data=np.arange(4), chunks=2)
    assert np.array_equal(array[:], np.arange(4))
    assert type(array.store) is LocalStore or not knows_the_class()


def test_look_into_memory():
    store = MemoryStore()
    zarr.create_array(store, data=np.arange(4), chunks=2)
    assert len(store._store_dict) == 3
    assert bytes(store._store_dict["c/1"].to_bytes())
    store._store_dict["c/1"] = store._store_dict["c/0"]
    del store._store_dict["c/0"]
    assert np.array_equal(zarr.open_array(store, mode="r")[:], [0, 0, 0, 1])
    assert type(store) is LocalStore or not knows_the_class()
"""

ONE = "sample_test.py::test_store[a[0]-'b']"
OTHER = "sample_test.py::test_store[None]"
INTO = "sample_test.py::test_look_into_memory"


def load(name: str) -> ModuleType:
    """Import a script."""
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    loader.exec_module(module)
    return module


@pytest.fixture
def suites(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    import suites

    return suites


def test_compare(suites: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sample_test.py").write_text(SAMPLE)
    (tmp_path / "broken_test.py").write_text("import no_such_module")
    paths = [path for path in sys.path if path and Path(path) != SCRIPTS]
    python = suites.layered_environment(tmp_path / "venv", paths)
    suite = suites.Suite(tmp_path, python, tmp_path)

    everything = suite.compare(["sample_test.py", "broken_test.py"])
    differences = everything.differences()
    assert differences == {
        "sample_test.py::test_class": ("passed", "failed"),
        "sample_test.py::test_named_class": ("passed", "failed"),
        "sample_test.py::test_teardown": ("passed", "failed"),
        "sample_test.py::test_skipped_with_one": ("passed", "skipped"),
    }
    outcomes = {test: result["outcome"] for test, result in everything.ours.items()}
    assert outcomes.pop("broken_test.py") == "failed"
    assert outcomes.pop("sample_test.py::test_fails_with_both") == "failed"
    assert outcomes.pop("sample_test.py::test_fails_as_expected_with_both") == "skipped"
    assert outcomes.pop("sample_test.py::test_skipped_with_both") == "skipped"
    assert {test for test, outcome in outcomes.items() if outcome == "passed"} == {
        "sample_test.py::test_passes",
        *(f"sample_test.py::test_file_system[{n}]" for n in range(4)),
        *(ONE, OTHER, INTO),
    }
    assert "AssertionError" in everything.ours["sample_test.py::test_class"]["details"]
    assert everything.passed() == (12, 8)

    with pytest.raises(SystemExit):
        suite.run(["sample_test.py", "-k", "no_such_test"], zarrs=True)
    assert "no tests ran" in capsys.readouterr().out

    zarr_tests = load("zarr_tests")
    again = list(zarr_tests.for_files(everything.ours))
    assert set(again) == {ONE, OTHER, INTO} == set(zarr_tests.for_direct(everything.ours))
    in_files = suite.run([*suite.only(again), "--memory-in-files"])
    assert {test: result["outcome"] for test, result in in_files.items()} == dict.fromkeys(
        again, "passed"
    )
    for options in ["--direct"], ["--direct", "--memory-in-files"]:
        directly = suite.run([*suite.only(again), *options], zarrs=True)
        assert {test: (result["outcome"], result["used"]) for test, result in directly.items()} == {
            test: ("passed", ["direct", "memory"]) for test in again
        }


def test_for_direct(suites: Any) -> None:
    outcomes = {
        "a": {"used": ["memory", "selections", "zarrs"]},
        "b": {"used": ["selections"]},
        "c": {"used": ["zarrs"]},
        "d": {"used": ["memory"]},
    }
    assert list(load("zarr_tests").for_direct(outcomes)) == ["a", "b", "c"]


def test_for_files(suites: Any) -> None:
    for_files = load("zarr_tests").for_files
    outcomes = {
        "a": {"used": ["memory", "zarrs"]},
        "b": {"used": ["memory"]},
        "c": {"used": ["zarrs"]},
        "d[memory-1]": {"used": ["memory", "zarrs"]},
        "d[local-1]": {"used": ["zarrs"]},
        "e[memory-1]": {"used": ["memory", "zarrs"]},
    }
    assert list(for_files(outcomes)) == ["a", "e[memory-1]"]


def test_expected_for_versions(suites: Any, tmp_path: Path) -> None:
    path = tmp_path / "expected.toml"
    path.write_text('[one]\na = "1"\n["one<2"]\nb = "2"\n["one>=2"]\nc = "3"\n[two]\nd = "4"\n')
    assert suites.read_expected(path, {"one": "2.1rc1"}) == {"a": "1", "c": "3"}
    assert suites.read_expected(path, {"one": "1.9"}) == {"a": "1", "b": "2"}
    assert suites.read_expected(path, {"one": "2.1", "two": "1"}) == {"a": "1", "c": "3", "d": "4"}


@pytest.mark.parametrize(
    ("pattern", "test", "expected"),
    [
        ("t.py::test_a", "t.py::test_a", True),
        ("t.py::test_a", "t.py::test_ab", False),
        ("t.py::test_a", "t_py::test_a", False),
        ("t.py::test_a[*]", "t.py::test_a[x-[1]\n]", True),
        ("t.py::test_a[*]", "t.py::test_ax", False),
        ("t.py::test_a[x]", "t.py::test_ax", False),
    ],
)
def test_matches(suites: Any, pattern: str, test: str, expected: bool) -> None:
    assert suites.matches(pattern, test) == expected


def comparison(suites: Any, **tests: tuple[str, str]) -> Any:
    """Outcomes of tests, by default and with zarrs."""
    ours = {
        test: {"outcome": after, "details": f"why {test}"} for test, (_, after) in tests.items()
    }
    default = {
        test: {"outcome": before} for test, (before, after) in tests.items() if after != "passed"
    }
    return suites.Comparison(ours, default)


@pytest.mark.parametrize(
    ("expected", "complete", "faults", "words"),
    [
        ({"bad": "reason", "new*": "reason 2"}, True, 0, ["expected, reason 2"]),
        ({"bad": "reason"}, True, 1, ["NOT EXPECTED\nwhy new_skip"]),
        ({"*": "reason"}, True, 0, []),
        ({"bad": "r", "new*": "r", "same": "r"}, True, 1, ["NO LONGER TRUE", "same"]),
        ({"bad": "r", "new*": "r", "good": "r"}, True, 1, ["NO LONGER TRUE", "good"]),
        ({"bad": "r", "new*": "r", "gone": "r"}, True, 1, ["NO LONGER TRUE", "gone"]),
        ({"bad": "r", "new*": "r", "gone": "r"}, False, 0, []),
        ({}, False, 2, []),
    ],
)
def test_report(
    suites: Any,
    capsys: pytest.CaptureFixture[str],
    expected: dict[str, str],
    complete: bool,
    faults: int,
    words: list[str],
) -> None:
    runs = [
        comparison(suites, good=("passed", "passed"), bad=("passed", "failed")),
        comparison(suites, same=("failed", "failed"), new_skip=("passed", "skipped")),
    ]
    assert suites.report("these", runs, expected, complete) == faults
    out = capsys.readouterr().out
    assert all(word in out for word in words), out
    assert "these: of 4 tests 3 pass by default, 1 with zarrs" in out


@pytest.mark.parametrize("name", ["zarr_tests", "downstream_tests"])
def test_lists_are_readable(suites: Any, name: str) -> None:
    installed = {"zarr": "3.4.2", "xarray": "1", "dask": "1", "anndata": "1"}
    for pattern, reason in suites.read_expected(SCRIPTS / f"{name}.toml", installed).items():
        assert "::" in pattern
        assert reason


def test_processes_have_ports_of_their_own(suites: Any) -> None:
    """A server at one port, which two processes start, would keep the second one waiting."""
    import suites_plugin

    served = SimpleNamespace(port=5555, endpoint_url="http://127.0.0.1:5555/")
    other = SimpleNamespace(port="a name")
    suites_plugin.move_ports([served, other, None], 3)
    assert (served.port, served.endpoint_url) == (5558, "http://127.0.0.1:5558/")
    assert other.port == "a name"
