"""The script behind the charts of docs/chunks.md runs, and the page shows what it draws."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT, child_environment

SCRIPT = ROOT / "benchmarks" / "layouts.py"
CHARTS = ("chunk-sizes.svg", "chunk-shapes.svg")


def test_the_script_measures_and_draws(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--edge", "128", "--rounds", "1", "--plot", tmp_path],
        capture_output=True,
        text=True,
        env=child_environment(TMPDIR=str(tmp_path)),
    )
    assert ran.returncode == 0, ran.stderr
    assert "| 16 x 16 x 16, 8 KiB | chunks in shards | 8 |" in ran.stdout
    for name in CHARTS:
        text = (tmp_path / name).read_text("utf-8")
        assert "#808080" in text, "the colour of text on bright and on dark pages"
        assert "fill: #ffffff" not in text, "the ground is the page's"


def test_what_was_read_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPT.parent)
    layouts = importlib.import_module(SCRIPT.stem)
    data = layouts.cube(128)
    row = layouts.store(tmp_path / "array", data, (32, 32, 32), None)
    with pytest.raises(SystemExit, match="what was read is not what was written"):
        layouts.measure([row], data + 1, {layouts.WHOLE: [...]}, rounds=1)
    assert not row.seconds


def test_the_page_shows_the_charts() -> None:
    page = (ROOT / "docs" / "chunks.md").read_text("utf-8")
    for name in CHARTS:
        assert f"(images/{name})" in page
        assert (ROOT / "docs" / "images" / name).is_file()


def test_an_edge_that_shards_cannot_divide_is_refused() -> None:
    ran = subprocess.run(
        [sys.executable, SCRIPT, "--edge", "100"],
        capture_output=True,
        text=True,
        env=child_environment(),
    )
    assert ran.returncode == 2
    assert "--edge must be a multiple of 128" in ran.stderr
