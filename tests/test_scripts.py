"""The scripts for users, run small, in processes of their own as users run them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import zarr
from helpers import child_environment

ROOT = Path(__file__).resolve().parent.parent
QUICKSTART = ROOT / "examples" / "quickstart.py"
COMPARE = ROOT / "benchmarks" / "compare.py"
MEMORY = ROOT / "benchmarks" / "memory.py"
STORES = ROOT / "benchmarks" / "stores.py"
SCAN = Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"


def run(script: Path, *args: Any, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(script), *map(str, args)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a script into this process, to break something in it."""

    def load_script(script: Path) -> ModuleType:
        spec = importlib.util.spec_from_file_location(script.stem, script)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, script.stem, module)
        monkeypatch.setattr(sys, "path", sys.path.copy())
        spec.loader.exec_module(module)
        return module

    return load_script


# ------------------------------------------------------------------------------ quickstart


def test_quickstart(tmp_path: Path) -> None:
    plot, output = tmp_path / "times.png", tmp_path / "kept"
    done = run(QUICKSTART, "--repeat-volume", 2, "--rounds", 1, "--plot", plot, "--output", output)
    assert "128x96x24x2 int16, repeated 2 times" in done.stdout
    assert "everything read is equal" in done.stdout
    assert done.stdout.count("native in zarrs") == 6
    assert plot.read_bytes().startswith(b"\x89PNG")
    scan = np.asanyarray(nibabel.load(SCAN).dataobj)
    group = zarr.open_group(output, mode="r")
    assert group.attrs["source"] == SCAN.name
    arrays = dict(group.arrays())
    assert len(arrays) == 6
    for array in arrays.values():
        np.testing.assert_array_equal(array[...], np.concatenate([scan, scan]))


@pytest.mark.parametrize("kind", ["npy", "nii", "zarr"])
def test_quickstart_input(kind: str, tmp_path: Path) -> None:
    data = np.arange(6 * 7 * 8, dtype=">f4").reshape(6, 7, 8)
    path = tmp_path / f"data.{kind}"
    if kind == "npy":
        np.save(path, data)
    elif kind == "nii":
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    else:
        path = path / "group" / "array"
        zarr.create_array(path, data=data.astype("f4"), chunks=(4, 4, 4))
    done = run(QUICKSTART, "--input", path, "--rounds", 1)
    assert f"{path.name}: 6x7x8 float32: " in done.stdout
    assert "everything read is equal" in done.stdout


def test_quickstart_says_what_is_wrong_with_the_input(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no array")
    (tmp_path / "broken.npy").write_text("no array")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "scalar.npy", np.array(1))
    np.save(tmp_path / "fine.npy", np.arange(3))
    zarr.create_array(zarr.create_group(tmp_path / "group").store, name="a", data=np.arange(3))
    for name, message in {
        "absent.npy": "no such file",
        "notes.txt": "neither .npy, nor",
        "broken.npy": "cannot be read",
        "empty": "cannot be read",
        "text.npy": "is no number",
        "scalar.npy": "nothing to measure",
        "group": "name an array in it (it has: a)",
    }.items():
        done = run(QUICKSTART, "--input", tmp_path / name, code=2)
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
    done = run(QUICKSTART, "--input", tmp_path / "fine.npy", "--output", tmp_path / "empty", code=2)
    assert "exists already" in done.stderr


def test_quickstart_finds_what_is_not_equal(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart = load(QUICKSTART)
    open_array = quickstart.Bench.open

    def open_wrongly(self: Any, codec: str, pipeline: str) -> Any:
        array = open_array(self, codec, pipeline)
        if (codec, pipeline) == ("zstd", "zarrs"):
            return type("Wrong", (), {"__getitem__": lambda _, part: array[part] + 1})()
        return array

    monkeypatch.setattr(quickstart.Bench, "open", open_wrongly)
    monkeypatch.setattr(quickstart.Bench, "explain", lambda *_: "")
    np.save(tmp_path / "data.npy", np.arange(10))
    assert quickstart.main(["--input", str(tmp_path / "data.npy"), "--rounds", "1"]) == 1
    assert "NOT EQUAL to the NumPy array" in capsys.readouterr().out


# ---------------------------------------------------------------------------------- stores


def test_stores(tmp_path: Path) -> None:
    """Both places, TensorStore only over HTTP, and how fetching and decoding overlap."""
    done = run(
        *(STORES, "--small", "--rounds", 1, "--case", "zstd|shard", "--latency", 2),
        *("--impl", "default,tensorstore,zarrs", "--dir", tmp_path, "--markdown"),
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    names = ("zstd", "zstd-small", "shard", "shard-small")
    for name in names:
        for operation in ("read", "read-windows"):
            for place in ("memory", "http"):
                [row] = [row for row in rows if row.startswith(f"| {place}, {name}, {operation} |")]
                columns = [text.strip() for text in row.strip("|").split("|")]
                assert (columns[2] == "") == (place == "memory")
                assert float(columns[4].split()[0]) > 0
        [overlap] = [row for row in rows if row.startswith(f"| {name} |")]
        assert float(overlap.strip("| ").split("|")[-1]) > 0
    assert "2 ms before each answer" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_stores_says_what_is_wrong() -> None:
    done = run(STORES, "--case", "nothing", code=2)
    assert "nothing matches" in done.stderr


# --------------------------------------------------------------------------------- compare


def test_compare(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = run(
        *(COMPARE, "--small", "--rounds", 2, "--strict", "--markdown"),
        *("--impl", "default,tensorstore,zarrs", "--dir", tmp_path, "--json", file),
    )
    assert "TensorStore | zarrs | best peer / zarrs |" in done.stdout
    assert "geometric mean" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # nothing else is left

    report = json.loads(file.read_text())
    assert {"cpu", "cores", "python", "threads", "versions", "libraries"} <= set(
        report["environment"]
    )
    results = report["results"]
    assert len({(result["case"], result["operation"]) for result in results}) == 15 * 5
    for result in results:
        assert result["errors"] == {}
        able = {"default", "tensorstore", "zarrs"}
        if result["case"] in ("v2-lz4", "v2-filters"):  # which TensorStore has no codecs for
            able.remove("tensorstore")
        assert set(result["median"]) == able
        assert all(len(seconds) == 2 for seconds in result["seconds"].values())
        assert result["best_peer_over_ours"] > 0


def test_compare_chooses(tmp_path: Path) -> None:
    done = run(
        *(COMPARE, "--small", "--rounds", 1, "--threads", 1, "--dir", tmp_path),
        *("--impl", "default,zarrs", "--case", "^zstd$", "--op", "^read$"),
    )
    assert "threads: 1" in done.stdout
    rows = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("zstd")]
    assert rows == [["zstd", "read"]]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--case", "nosuch"], "nothing matches"),
        (["--case", "("], "not a regular expression"),
        (["--impl", "nosuch"], "no implementation 'nosuch'"),
        (["--dir", "/nosuch"], "no directory /nosuch"),
        (["--rounds", "0"], "must be at least 1"),
    ],
)
def test_compare_says_what_is_wrong(args: list[str], message: str) -> None:
    assert message in run(COMPARE, "--small", *args, code=2).stderr


@pytest.mark.parametrize("operation", ["read", "read-windows", "read-points", "write"])
def test_compare_times_nothing_that_is_wrong(load: Any, operation: str, tmp_path: Path) -> None:
    compare = load(COMPARE)
    good, *_, ours = compare.implementations()

    class BrokenTarget(compare.ZarrTarget):  # type: ignore[name-defined, misc]
        def read(self, selection: Any) -> Any:
            return np.asarray(super().read(selection)) + 1

        def write(self, selection: Any, value: Any) -> None:
            pass

    class Broken(compare.ZarrPipeline):  # type: ignore[name-defined, misc]
        def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Any:
            return BrokenTarget(super().open(path, zarr_format, writable=writable).array)

    broken = Broken(ours.name, ours.title, ours.path)
    case = next(case for case in compare.CASES if case.name == "raw").shrunk()
    chosen = next(each for each in compare.OPERATIONS if each.name == operation)
    data = case.create(tmp_path / "array")
    rng = compare.random.Random(0)
    cells = compare.measure(case, chosen, [good, broken], tmp_path / "array", data, 1, rng)
    assert [cell.error for cell in cells][1] == "WRONG RESULT"
    assert cells[1].seconds == []
    assert compare.ratio(cells) is None
    if not chosen.writes:
        assert cells[0].error is None
        assert len(cells[0].seconds) == 1


# ---------------------------------------------------------------------------------- memory


def test_memory(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    done = run(
        *(MEMORY, "--mib", 20, "--case", "raw|zstd", "--impl", "default,zarrs"),
        *("--dir", tmp_path, "--json", file),
    )
    assert "for an array of 20 MiB" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    results = json.loads(file.read_text())["results"]
    assert len(results) == 4 * 2 * 2  # with and without shards
    for result in results:
        assert "error" not in result
        assert result["peak_mib"] > 19  # the array itself is in it
        assert result["beyond_array_mib"] == result["peak_mib"] - 20


def test_memory_reports_a_failure(load: Any, tmp_path: Path) -> None:
    load(COMPARE)
    memory = load(MEMORY)
    result = memory.measure("read", "raw", "zarrs", tmp_path, 1, None)  # there is no array
    assert "error" in result
    assert memory.cell(result) == "failed"
