"""The scripts for users, run small, in processes of their own as users run them."""

import importlib.util
import io
import itertools
import json
import pickle
import random
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest
import zarr
from helpers import ROOT, child_environment

QUICKSTART = ROOT / "examples" / "quickstart.py"
COMPARE = ROOT / "benchmarks" / "compare.py"
MEMORY = ROOT / "benchmarks" / "memory.py"
BATCHES = ROOT / "benchmarks" / "batches.py"
CROP_LOADER = ROOT / "examples" / "crop_loader.py"
LIMITS = ROOT / "benchmarks" / "limits.py"
PARTS = ROOT / "benchmarks" / "parts.py"
CHARTS = ROOT / "benchmarks" / "charts.py"
RUN = ROOT / "benchmarks" / "run.py"
THREADS = ROOT / "benchmarks" / "threads.py"
COMPARE_STORES = ROOT / "benchmarks" / "compare_stores.py"
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
    lines = done.stdout.splitlines()
    [versions] = [line for line in lines if "Python" in line]
    assert f"zarr {zarr.__version__}" in versions
    assert "zarrs-cython" in versions
    last = r"zarrs: reads [\d.]+( \(slower\))?, writes [\d.]+( \(slower\))? times as fast as "
    assert re.fullmatch(last + "zarr's default, geometric mean of 30 and 6 rows", lines[-1])
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"times.png", "kept"}
    image: Any = nibabel.load(SCAN)
    scan = np.asanyarray(image.dataobj)
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
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "scalar.npy", np.array(1))
    np.save(tmp_path / "fine.npy", np.arange(3))
    zarr.create_array(zarr.create_group(tmp_path / "group").store, name="a", data=np.arange(3))
    for name, message in {
        "absent.npy": "no such file",
        "notes.txt": "neither .npy, nor",
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

    def open_wrongly(self: Any, path: Path, pipeline: str) -> Any:
        array = open_array(self, path, pipeline)
        if (path.name, pipeline) == ("zstd", "zarrs"):
            return type("Wrong", (), {"__getitem__": lambda _, part: array[part] + 1})()
        return array

    monkeypatch.setattr(quickstart.Bench, "open", open_wrongly)
    monkeypatch.setattr(quickstart.Bench, "explain", lambda *_: "")
    np.save(tmp_path / "data.npy", np.arange(10))
    plot = tmp_path / "times.png"
    args = ["--input", str(tmp_path / "data.npy"), "--rounds", "1", "--plot", str(plot)]
    assert quickstart.main(args) == 1
    out = capsys.readouterr().out
    assert "NOT EQUAL to the NumPy array: 5 of 36 rows" in out.splitlines()[-1]
    assert "times as fast as zarr's" not in out
    assert plot.exists()


def test_quickstart_says_what_a_file_called_npy_is(tmp_path: Path, load: Any) -> None:
    quickstart = load(QUICKSTART)
    fine = tmp_path / "fine.npy"
    np.save(fine, np.arange(100))
    zipped = io.BytesIO()
    np.savez(zipped, np.arange(3))
    objects = io.BytesIO()
    np.save(objects, np.array([{}]), allow_pickle=True)
    for content, message in {
        b"": "no .npy file: it is empty",
        b"1 2 3\n": "no .npy file: it is text",
        # The last of the bytes that are looked at is the first of two of one character.
        b"x" * 255 + "\u00e4".encode(): "no .npy file: it is text",
        zipped.getvalue(): "no .npy file: it is a .npz",
        pickle.dumps([1]): "no .npy file: it is a pickle",
        b"\x80": "no .npy file: it does not begin as one does",
        b"a\0b": "no .npy file: it does not begin as one does",
        fine.read_bytes()[:4]: "no .npy file: it does not begin as one does",
        fine.read_bytes()[:20]: "cut short or damaged",
        fine.read_bytes()[:-9]: "cut short or damaged",
        objects.getvalue(): "its elements are Python objects",
    }.items():
        path = tmp_path / "named.npy"
        path.write_bytes(content)
        with pytest.raises(quickstart.InputError, match=message) as caught:
            quickstart.load(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(quickstart.load(fine), np.arange(100))
    path.write_text("1 2 3")
    assert "it is text" in run(QUICKSTART, "--input", path, code=2).stderr


def test_quickstart_looks_at_the_plot_first(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "directory.png").mkdir()
    old = tmp_path / "old.what"
    old.write_text("old")
    for name, message in {
        "absent/times.png": "No such file or directory",
        "directory.png": "Is a directory",
        "old.what/times.png": "Not a directory",
        "times": "no format",
        "times.what": "not supported",
        "old.what": "not supported",
    }.items():
        done = run(QUICKSTART, "--plot", tmp_path / name, code=2)
        assert done.stderr.startswith(f"error: {tmp_path / name}: ")
        assert message in done.stderr
        assert done.stdout == ""  # so that nothing was measured
    assert {path.name for path in tmp_path.iterdir()} == {"directory.png", "old.what"}
    assert old.read_text() == "old"

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert load(QUICKSTART).main(["--plot", str(tmp_path / "times.png")]) == 2
    out, err = capsys.readouterr()
    assert "pip install '.[examples]'" in err
    assert out == ""


def test_quickstart_says_where_it_cannot_write(tmp_path: Path) -> None:
    done = run(QUICKSTART, "--output", tmp_path / "absent" / "kept", code=2)
    assert done.stderr.startswith("error: cannot make a directory in ")


def test_quickstart_writes_new_arrays_only(load: Any, tmp_path: Path) -> None:
    """Files that are deleted between rounds would make the next ones slow to create."""
    quickstart = load(QUICKSTART)
    volume = np.arange(60).reshape(4, 3, 5)
    pipelines = quickstart.available_pipelines()
    bench = quickstart.Bench(volume, (2, 3, 5), tmp_path, pipelines, 4)
    row = bench.write("zstd")
    assert all(len(seconds) == 4 for seconds in row.seconds.values())
    others = list((tmp_path / "others").iterdir())
    assert len(others) == 4 * len(pipelines) - 1
    for other in others:
        sizes = [path.stat().st_size for path in other.rglob("*") if path.is_file()]
        assert sizes == [0, 0, 0]  # the metadata and two chunks, on a disk that does not fill up
    kept = zarr.open_array(tmp_path / "quickstart.zarr" / "zstd", mode="r")
    np.testing.assert_array_equal(kept[...], volume)


PIPELINES = ("zarr default", "zarr Fused", "zarrs")


def rows_of(quickstart: ModuleType, pipelines: tuple[str, ...] = PIPELINES) -> list[Any]:
    """Rows whose medians are 40, 20 and 10 ms; writing with zstd takes zarrs 80 ms."""
    rows = []
    for codec in quickstart.CODECS:
        for operation in ("write all", *quickstart.selections((3, 3))):
            row = quickstart.Row.empty(codec, operation, pipelines)
            for name, middle in zip(PIPELINES, (0.04, 0.02, 0.01), strict=True):
                if name in pipelines:
                    slow = (codec, operation, name) == ("zstd", "write all", "zarrs")
                    middle = 0.08 if slow else middle
                    row.seconds[name] = [middle * 1.5, middle, middle * 0.9]
            rows.append(row)
    return rows


def test_quickstart_tells_spread_and_speedups(load: Any) -> None:
    quickstart = load(QUICKSTART)
    rows = rows_of(quickstart)
    header = quickstart.table_header(list(PIPELINES), 3).splitlines()
    line = quickstart.table_row(rows[0])
    assert " ".join(line.split()) == "write all 40 (36-60) 20 (18-30) 10 (9-15) 4.0 2.0"
    assert " ".join(header[-1].split()) == "zarr default zarr Fused zarrs default Fused"
    assert len(line) == len(header[-1]) < 80
    rows[0].unequal.add("zarr Fused")
    line = quickstart.table_row(rows[0])
    assert " ".join(line.split()) == "write all 40 (36-60) NOT EQUAL 10 (9-15) 4.0 -"
    rows[0].unequal.clear()

    # Writing is 4 times as fast with five codecs, and half as fast with one.
    assert quickstart.summary(rows, "zarr default") == [
        "zarrs is slower than zarr's default in 1 of 36 rows: write all of zstd (0.50)",
        "zarrs: reads 4.0, writes 2.8 times as fast as zarr's default, "
        "geometric mean of 30 and 6 rows",
    ]
    for row in rows:
        if row.operation == "write all":
            row.seconds["zarrs"] = [0.05]
    last = quickstart.summary(rows, "zarr default")[-1]
    assert "reads 4.0, writes 0.80 (slower) times as fast as" in last
    texts = [quickstart.times(factor) for factor in (0.994, 0.996, 1.24, 9.96)]
    assert texts == ["0.99", "1.0", "1.2", "10"]


@pytest.mark.parametrize("pipelines", [PIPELINES, ("zarr default", "zarrs")])
@pytest.mark.parametrize("shape", [(50,), (50, 40), (9, 8, 7, 6)])
def test_quickstart_draws_what_can_be_read(
    load: Any, pipelines: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    """Speedups stand inside their panel, the legend beside all of them, and nothing overlaps."""
    quickstart = load(QUICKSTART)
    rows = rows_of(quickstart, pipelines)
    rows[0].unequal.add("zarrs")
    rows[1].seconds["zarrs"] = [0.0001]
    data = np.random.default_rng(0).normal(size=shape)
    figure = quickstart.picture(data, rows, ["data", "a machine, versions", "so much faster"])
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.get_title() in {row.operation for row in rows}]
    assert len(panels) == 6
    for axes in panels:
        assert axes.get_xscale() == "log"
        texts = [text for text in axes.texts if text.get_text()]
        assert len(texts) == 6 * (len(pipelines) - 1)
        boxes = [text.get_window_extent() for text in texts]
        frame = axes.get_window_extent()
        assert all(frame.x0 < box.x0 and box.x1 < frame.x1 for box in boxes)
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    labels = {text.get_text() for axes in panels for text in axes.texts}
    expected = {"", "wrong", "400x", "4.0x", "0.50x"}
    assert labels == expected | ({"2.0x"} if "zarr Fused" in pipelines else set())
    [legend] = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert {text.get_text() for text in legend.get_texts()} == set(pipelines)
    beside = legend.get_window_extent()
    assert not any(beside.overlaps(axes.get_tightbbox()) for axes in panels)
    assert figure.get_suptitle() == "data\na machine, versions\nso much faster"


# ---------------------------------------------------------------------------------- stores


def test_stores(tmp_path: Path) -> None:
    """Both places, TensorStore only over HTTP, and how fetching and decoding overlap."""
    done = run(
        *(COMPARE_STORES, "--small", "--rounds", 1, "--case", "zstd|shard", "--latency", 2),
        *("--impl", "default,tensorstore,zarrs", "--dir", tmp_path, "--markdown"),
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    names = ("zstd", "shard", "smallshard")
    for name in names:
        for operation in ("read_all", "read_windows"):
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
    done = run(COMPARE_STORES, "--case", "nothing", code=2)
    assert "nothing matches" in done.stderr


# --------------------------------------------------------------------------------- batches


def test_batches(tmp_path: Path) -> None:
    """Every part, with all implementations that are installed, and a chart."""
    file, chart = tmp_path / "results.json", tmp_path / "chart.svg"
    done = run(BATCHES, "--small", "--rounds", 1, "--json", file, "--plot", chart)
    lines = json.loads(file.read_text())["results"]
    assert len(done.stdout.splitlines()) == len(lines) == 1 + 5 + 5 + 3 + 3 + 4
    several = {
        "rows": {"read_many", "one by one", "TensorStore"},
        "crops": {"read_many", "one by one", "TensorStore"},
        "windows": {"with a cache", "without"},
        "chunks": {"zarrs direct", "zarrs pipeline", "TensorStore"},
        "points": {"zarrs direct", "zarrs pipeline", "TensorStore"},
    }
    for line in lines:
        assert line["seconds"].keys() - {"zarr Fused"} == several[line["part"]]
        assert all(seconds > 0 for seconds in line["seconds"].values())
    assert "<svg" in chart.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rounds", 0), "at least 1"),
        (("--part", "rows", "--plot", "chart.svg"), "--plot charts the parts chunks and points"),
        (("--part", "nothing"), "invalid choice"),
    ],
)
def test_batches_says_what_is_wrong(arguments: tuple[Any, ...], said: str) -> None:
    assert said in run(BATCHES, *arguments, code=2).stderr


def test_batches_finds_what_is_not_equal(load: Any) -> None:
    batches = load(BATCHES)
    with pytest.raises(SystemExit, match="somebody reads it wrongly"):
        batches.check({"somebody": lambda: np.arange(3)}, np.zeros(3), "it")


# ---------------------------------------------------------------------------------- limits


def test_limits(tmp_path: Path) -> None:
    """Every case and operation, each part of it, and ours."""
    file = tmp_path / "results.json"
    done = run(
        *(LIMITS, "--small", "--rounds", 2, "--threads", 2),
        *("--dir", tmp_path, "--json", file),
    )
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    report = json.loads(file.read_text())
    assert report["environment"]["threads"] == 2
    results = report["results"]
    assert len(results) == 16 * 3 * 2
    assert len(done.stdout.splitlines()) == 7 + len(results)
    for result in results:
        reads, pipeline = result["operation"] == "read", result["way"] == "pipeline"
        expected = {"codec", "copy", "files"}
        expected |= ({"faults"} if reads else set()) | ({"zarr"} if pipeline else set())
        assert result["parts"].keys() == expected
        assert all(len(seconds) == 2 for seconds in [*result["parts"].values(), result["ours"]])
        for figures in (result["median"], result["best"]):
            assert figures["sum"] == pytest.approx(sum(figures[part] for part in expected))
            assert figures["ratio"] == pytest.approx(figures["ours"] / figures["sum"])
            assert figures["files"] > 0


def test_limits_says_what_is_wrong() -> None:
    assert "nothing matches" in run(LIMITS, "--case", "nothing", code=2).stderr


@pytest.mark.parametrize("case", ["raw", "endianT", "shard", "smallshard", "v2-filters"])
def test_limits_finds_what_decodes_wrongly(load: Any, case: str, tmp_path: Path) -> None:
    """A share of the work is refused if the values are others than what is stored."""
    compare, parts = load(COMPARE), load(PARTS)
    [small] = [each.shrunk() for each in compare.CASES if each.name == case]
    data = small.create(tmp_path / "array")
    np.save(tmp_path / "values.npy", data)
    share = parts.Share(tmp_path / "array", tmp_path / "values.npy", 0, 1, True)
    assert (share.works["codec"] == []) == (case == "raw")
    np.save(tmp_path / "values.npy", data + data.dtype.type(1))
    with pytest.raises(ValueError, match="decodes wrongly"):
        parts.Share(tmp_path / "array", tmp_path / "values.npy", 0, 1, True)


# ----------------------------------------------------------------------------- crop loader


def test_crop_loader() -> None:
    done = run(CROP_LOADER, "--edge", 64, "--crop", 9, 5, 7, "--batch", 3, "--batches", 3)
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [["4", "workers,", m] for m in ("fork", "spawn")]
    for line in lines:
        for reader in ("zarrs", "zarr", "tensorstore"):
            assert re.search(rf"\b{reader} +[\d,]+ crops/s", line)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--batch", 0), "at least 1"),
        (("--edge", 16, "--crop", 17, 2, 2), "do not fit"),
        (("--edge", 16, "--crop", 2), "do not fit"),
    ],
)
def test_crop_loader_says_what_is_wrong(arguments: tuple[Any, ...], said: str) -> None:
    assert said in run(CROP_LOADER, *arguments, code=2).stderr


def test_crops_in_a_process_of_ones_own(load: Any, tmp_path: Path) -> None:
    """All readers give the same, one crop or a batch, and those of another array are wrong."""
    loader = load(CROP_LOADER)
    loader.make(str(tmp_path), 32)
    data = np.asarray(zarr.open_array(tmp_path)[...])
    for reader in loader.READERS:
        crops = loader.Crops(str(tmp_path), data.shape, (5, 6, 7), 9, reader)
        assert len(crops) == 9
        assert np.array_equal(crops[4], data[crops.crop(4)])
        batch = crops.__getitems__([8, 0, 0])
        assert np.array_equal(batch, [data[crops.crop(i)] for i in (8, 0, 0)])


# --------------------------------------------------------------------------------- compare


def test_compare(tmp_path: Path) -> None:
    """Every case and operation, by who has all codecs and by who has not."""
    file = tmp_path / "results.json"
    done = run(
        *(COMPARE, "--small", "--rounds", 2, "--patience", 600, "--strict", "--markdown"),
        *("--impl", "tensorstore,zarrs,direct", "--dir", tmp_path, "--json", file),
    )
    titles = "TensorStore | zarrs pipeline | zarrs direct | "
    assert titles + "best peer / zarrs pipeline | best peer / zarrs direct |" in done.stdout
    assert done.stdout.count("geometric mean") == 2
    assert "- TensorStore: it has no filters of format 2" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # nothing else is left

    report = json.loads(file.read_text())
    told = {"cpu", "cores", "kernel", "file_system", "memory", "python", "threads", "versions"}
    assert {*told, "libraries"} <= set(report["environment"])
    results = report["results"]
    assert len({(result["case"], result["operation"]) for result in results}) == 161
    for result in results:
        assert result["errors"] == {}
        able = {"tensorstore", "zarrs", "direct"}
        if result["case"] in ("v2-lz4", "v2-filters"):  # which TensorStore has no codecs for
            able.remove("tensorstore")
            assert result["best_peer_over"] == {}
        else:
            assert set(result["best_peer_over"]) == {"zarrs", "direct"}
        assert set(result["lacks"]) == {"tensorstore", "zarrs", "direct"} - able
        assert set(result["median"]) == set(result["best"]) == able
        assert all(len(seconds) == 2 for seconds in result["seconds"].values())

    told_again = run(COMPARE, "--from", file, "--case", "^mri$", "--op", "^write", "--markdown")
    rows = [line for line in told_again.stdout.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 4
    assert rows[1].startswith("| MRI; ")


def test_compare_chooses(tmp_path: Path) -> None:
    done = run(
        *(COMPARE, "--small", "--rounds", 1, "--threads", 1, "--dir", tmp_path),
        *("--impl", "default,zarrs", "--case", "^zstd$", "--op", "^read_all$", "--keep"),
    )
    assert "threads: 1" in done.stdout
    [kept] = tmp_path.iterdir()
    assert [path.name for path in kept.iterdir()] == ["zstd"]
    rows = [line.split()[:2] for line in done.stdout.splitlines() if line.startswith("zstd")]
    assert rows == [["zstd", "read_all"]]


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


def chosen(script: ModuleType, case: str, operation: str) -> tuple[Any, Any]:
    """Return a case, made small, and an operation."""
    [small] = [each.shrunk() for each in script.CASES if each.name == case]
    [one] = [each for each in script.OPERATIONS if each.name == operation]
    return small, one


@pytest.mark.parametrize(
    "operation",
    [
        *("read_all", "read_chunks", "read_windows", "read_oindex", "read_vindex"),
        *("create_all", "round_trip", "write_all", "write_vindex"),
    ],
)
def test_compare_times_nothing_that_is_wrong(load: Any, operation: str, tmp_path: Path) -> None:
    compare = load(COMPARE)
    by_name = {impl.name: impl for impl in compare.implementations()}
    good, ours = by_name["default"], by_name["zarrs"]
    harness: Any = importlib.import_module("harness.implementations")

    class BrokenTarget(harness.ZarrTarget):  # type: ignore[misc]
        def read(self, selection: Any, way: Any = "basic") -> Any:
            return np.asarray(super().read(selection, way)) + 1

        def write(self, selection: Any, value: Any, way: Any = "basic") -> None:
            pass

    class Broken(harness.ZarrPipeline):  # type: ignore[misc]
        def open(self, path: Path, zarr_format: int, *, writable: bool = False) -> Any:
            return BrokenTarget(super().open(path, zarr_format, writable=writable).array)

    broken = Broken(ours.name, ours.title, ours.path)
    case, one = chosen(compare, "raw", operation)
    data = case.create(tmp_path / "array")
    contest = compare.Contest(case, one, [good, broken], tmp_path / "array", data)
    cells = compare.measure(contest, 1, random.Random(0))
    assert cells[1].error == "WRONG RESULT"
    assert cells[1].seconds == []
    harness = importlib.import_module("harness.report")
    assert harness.result(cells)["best_peer_over"] == {}
    if one.kind == "read":
        assert cells[0].error is None
        assert len(cells[0].seconds) == 1


def test_compare_loses_patience(load: Any, tmp_path: Path) -> None:
    """Who is slow is timed once, not in every round."""
    compare = load(COMPARE)
    case, one = chosen(compare, "lz4", "read_all")
    data = case.create(tmp_path / "array")
    contest = compare.Contest(case, one, compare.implementations()[:1], tmp_path / "array", data)
    [cell] = compare.measure(contest, 5, random.Random(0), patience=1e-9)
    assert len(cell.seconds) == 1


@pytest.mark.parametrize("operation", ["create_all", "write_all", "round_trip"])
def test_compare_deletes_nothing_while_it_measures(
    load: Any, operation: str, tmp_path: Path
) -> None:
    """Files of every round are there at the end, and empty."""
    compare = load(COMPARE)
    case, one = chosen(compare, "raw", operation)
    data = case.create(tmp_path / "array")
    impls = [impl for impl in compare.implementations() if impl.name in ("default", "zarrs")]
    compare.measure(
        compare.Contest(case, one, impls, tmp_path / "array", data), 3, random.Random(0)
    )
    copies = [path for path in tmp_path.iterdir() if path.name != "array"]
    assert len(copies) == 2 * (1 if operation == "write_all" else 1 + 3)
    for copy in copies:
        sizes = [file.stat().st_size for file in (copy / "c").rglob("*") if file.is_file()]
        assert len(sizes) == len([f for f in (tmp_path / "array" / "c").rglob("*") if f.is_file()])
        assert set(sizes) == {0}


@pytest.mark.parametrize(
    ("case", "operation", "reason"),
    [
        ("raw", "read_all", None),
        ("raw", "read_strided", "steps"),
        ("raw", "write_oindex", "index arrays"),
        ("v2-zlib", "read_all", "zlib"),
    ],
)
def test_zarrista_lacks_some(load: Any, case: str, operation: str, reason: str | None) -> None:
    compare = load(COMPARE)
    [zarrista] = [impl for impl in compare.implementations() if impl.name == "zarrista"]
    found = zarrista.lacks(*chosen(compare, case, operation))
    assert found is None if reason is None else reason in found


def test_operations_select_what_they_say(load: Any) -> None:
    compare = load(COMPARE)
    for name in ("raw", "compressed-sharded", "rows", "mri"):
        case, one = chosen(compare, name, "read_chunks")
        seen = np.zeros(case.shape, int)
        for selection in one.selections(case, np.random.default_rng(0)):
            seen[selection] += 1
        assert (seen == 1).all()
        case, one = chosen(compare, name, "write_vindex")
        [points] = one.selections(case, np.random.default_rng(0))
        assert len(set(zip(*map(np.ndarray.tolist, points), strict=True))) == len(points[0])


def test_data_are_what_they_say(load: Any) -> None:
    load(COMPARE)
    data: Any = importlib.import_module("harness.data")
    z, y, x = 40, 300, 5
    assert data.polynomial((41, 301, 6))[z, y, x] == int(x + y**2 / 32 + z**3) % 65536
    image: Any = nibabel.load(SCAN)
    scan = np.asanyarray(image.dataobj)
    repeated = data.scan((2 * len(scan), 96, 24, 1))
    assert np.array_equal(repeated, np.concatenate([scan, scan])[..., :1])


def test_ratios_are_over_the_best_peer(load: Any) -> None:
    compare = load(COMPARE)
    report: Any = importlib.import_module("harness.report")
    times = {"default": 3.0, "rust": 1.0, "zarrs": 2.0, "direct": 0.5}
    cells = [compare.Cell("a", "read_all", name, [time]) for name, time in times.items()]
    found = report.result(cells)
    assert found["best_peer"] == "rust"
    assert found["best_peer_over"] == {"zarrs": 0.5, "direct": 2.0}
    assert "geometric mean 0.50, lowest 0.50, highest 0.50" in compare.summary([found], "zarrs")
    assert "slower than the best peer in 1 of 1 rows" in compare.summary([found], "zarrs")


# --------------------------------------------------------------------------------- threads


def test_threads_says_what_is_wrong() -> None:
    assert "nothing matches" in run(THREADS, "--case", "nosuch", code=2).stderr
    assert "at least 1" in run(THREADS, "--threads", "1,0", code=2).stderr


# ------------------------------------------------------------------------- run, and charts


def test_charts(tmp_path: Path) -> None:
    """What the scripts measure becomes charts and tables, the same ones every time."""
    results, docs = tmp_path / "results", tmp_path / "docs"
    results.mkdir()
    docs.mkdir()
    page = docs / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    small = ("--small", "--rounds", 1)
    by_three = ("--impl", "tensorstore,zarrs,direct")
    for script, arguments in {
        COMPARE: (*small, *by_three, "--case", "^(zstd|v2-lz4|uncompressed)$"),
        THREADS: (*small, *by_three, "--threads", "1,2", "--case", "zstd"),
        LIMITS: (*small, "--case", "^zstd$"),
        MEMORY: ("--mib", 4, "--case", "^raw$", "--impl", "tensorstore,zarrs"),
        BATCHES: (*small, "--part", "chunks", "--part", "points"),
    }.items():
        run(script, *arguments, "--dir", tmp_path, "--json", results / f"{script.stem}.json")
    assert {path.name for path in tmp_path.iterdir()} == {"results", "docs"}

    chart = (RUN, "--only", "charts", "--python", sys.executable)
    done = run(*chart, "--results", results, "--docs", docs)
    assert "| Zarr v2, LZ4; " in done.stdout
    assert "read 2,000 points" not in done.stdout  # README's table is short
    drawn = {path.stem: path.read_bytes() for path in (docs / "images").iterdir()}
    charts = {"ratios", "workloads", "limits", "threads", "many-cores", "memory", "growth"}
    assert drawn.keys() == charts
    assert all(b"<svg" in content for content in drawn.values())
    text = page.read_text(encoding="utf-8")
    assert charts <= set(re.findall(r"\(images/([\w-]+)\.svg\)", text))
    assert text.count("best peer / zarrs direct |") == 2  # all times, and the workloads
    assert "read 2,000 points" in text
    assert "TensorStore: it has no compressor lz4 of format 2" in text
    assert "| zarrs direct, read_all | zstd |" in text  # the model

    run(*chart, "--results", results, "--docs", docs)
    assert page.read_text(encoding="utf-8") == text
    assert {path.stem: path.read_bytes() for path in (docs / "images").iterdir()} == drawn

    page.write_text(text.replace("<!-- end losses -->", ""))
    refused = run(CHARTS, "--results", results, "--docs", docs, code=2)
    assert "no place for 'losses'" in refused.stderr
    (results / "memory.json").unlink()
    assert "memory.json" in run(CHARTS, "--results", results, "--docs", docs, code=2).stderr


@pytest.mark.parametrize(
    ("one", "two", "serial", "four"),
    [(4.0, 2.0, 0.0, 1.0), (4.0, 3.0, 2.0, 2.5), (4.0, 5.0, 4.0, 4.0), (4.0, 1.0, 0.0, 1.0)],
)
def test_models(load: Any, one: float, two: float, serial: float, four: float) -> None:
    """Half the time with 2 threads is all parallel; no gain, or a loss, is all serial."""
    load(COMPARE)
    made: Any = importlib.import_module("harness.model")
    model = made.Model(one, two)
    assert (model.serial, model.seconds(4)) == (serial, four)
    assert model.seconds(1) == one


def test_run_rests_before_files_are_created(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = load(RUN)
    said: list[Any] = []
    monkeypatch.setattr(script.time, "sleep", said.append)
    monkeypatch.setattr(script, "run", lambda python, name, *arguments: said.append(name))
    arguments = ["--python", sys.executable, "--results", str(tmp_path)]
    assert script.main(arguments) == 0
    assert said == [60, "compare", 60, "threads", "limits", "memory", "batches", "charts"]
    said.clear()
    script.main([*arguments, "--small", "--only", "compare"])
    assert said == ["compare"]


def test_run_makes_an_environment(
    load: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The Rust package gets another name, inside of its files too, and is installed once."""
    load(RUN)
    peers: Any = importlib.import_module("harness.peers")
    installed: list[tuple[str, ...]] = []
    packages = tmp_path / "venv" / "lib" / "python3" / "site-packages"

    def create(directory: Path, with_pip: bool) -> None:
        packages.mkdir(parents=True)
        (directory / "bin").mkdir()
        (directory / "bin" / "python").touch()

    def pip(python: Path, *arguments: str) -> None:
        installed.append(arguments)
        if "--target" in arguments:
            package = Path(arguments[arguments.index("--target") + 1]) / "zarrs"
            package.mkdir()
            (package / "__init__.py").write_text("from zarrs._internal import x\nimport zarrs\n")
            (package / "other.py").write_text("import zarr\nname = 'from zarrs'\n")

    monkeypatch.setattr(peers.venv, "create", create)
    monkeypatch.setattr(peers, "pip", pip)
    for _ in range(2):
        assert peers.make_environment(tmp_path / "venv") == tmp_path / "venv" / "bin" / "python"
    assert [("--target" in arguments) for arguments in installed] == [False, True, False]
    assert str(ROOT) in installed[0]
    package = packages / "zarrs_rust"
    first = "from zarrs_rust._internal import x\nimport zarrs_rust\n"
    assert (package / "__init__.py").read_text() == first
    assert (package / "other.py").read_text() == "import zarr\nname = 'from zarrs'\n"


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
