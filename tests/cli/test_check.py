"""``zarrs check``: what zarrs.check finds, as lines, as JSON and as an exit code."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from commands import Typed, files_of
from zarr.storage import LocalStore


@pytest.fixture
def damaged(group: Path) -> Path:
    """The same group, with a chunk and an inner chunk that cannot be read."""
    (group / "small/c/3/0").write_bytes(b"no gzip")
    shard = group / "air/temperature/c/0/1"
    shard.write_bytes(b"...." + shard.read_bytes()[4:])
    return group


def test_sound(typed: Typed, group: Path) -> None:
    said = typed("check", group)
    assert said.code == 0
    assert said.lines[0].startswith("14 of 16 chunks stored in 3 arrays, with 12 of 12 inner")
    assert said.lines[1:] == ["sound"]
    assert said.err == ""


def test_damage(typed: Typed, damaged: Path) -> None:
    before = files_of(damaged)
    said = typed("check", damaged)
    assert said.code == 1
    _, verdict, *findings = said.lines
    assert verdict == "not sound: 2 damaged"
    assert findings[0].startswith("damaged: air/temperature/c/0/1, inner chunk (0, 0) (")
    assert findings[1].startswith("damaged: small/c/3/0 (7 bytes): codec 'gzip' failed")
    assert files_of(damaged) == before


def test_all_findings_are_told(typed: Typed, group: Path) -> None:
    for number in range(12):
        (group / f"small/c/{number}/0").write_bytes(b"")
    assert sum(line.startswith("damaged: ") for line in typed("check", group).lines) == 12


def test_damage_as_json(typed: Typed, damaged: Path) -> None:
    said = typed("check", damaged, "--json")
    assert said.code == 1
    report = said.json()
    assert (report["is_sound"], report["missing"], report["deleted"]) == (False, 2, [])
    assert [(one["kind"], one["key"], one["inner_chunk"]) for one in report["findings"]] == [
        ("damaged", "air/temperature/c/0/1", [0, 0]),
        ("damaged", "small/c/3/0", None),
    ]


def test_repair(typed: Typed, damaged: Path) -> None:
    said = typed("check", damaged, "--repair")
    assert said.code == 1
    assert said.lines[-1] == "deleted 2 of these"
    assert typed("check", damaged).code == 0
    array = zarr.open_group(damaged, mode="r")["small"]
    assert isinstance(array, zarr.Array)
    expected = np.arange(48).reshape(24, 2)
    expected[6:8] = 0
    assert np.array_equal(array[:], expected)


def test_a_group_is_listed_once(typed: Typed, group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes requests, in the store of a cloud."""
    listed: list[str] = []
    list_dir = LocalStore.list_dir

    def counting(store: LocalStore, prefix: str) -> Any:
        listed.append(prefix)
        return list_dir(store, prefix)

    monkeypatch.setattr(LocalStore, "list_dir", counting)
    assert typed("check", group).lines[1:] == ["sound"]
    assert sorted(listed) == ["", "air"]


def test_repair_of_what_cannot_be_changed(typed: Typed, tmp_path: Path) -> None:
    with zarr.storage.ZipStore(tmp_path / "x.zip", mode="w") as store:
        zarr.create_array(store, data=np.arange(10), chunks=(5,))
    before = files_of(tmp_path)
    said = typed("check", tmp_path / "x.zip", "--repair")
    assert said.code == 2
    assert "cannot delete" in said.error
    assert files_of(tmp_path) == before


def test_temporary_files_are_told_and_are_no_fault(typed: Typed, group: Path) -> None:
    (group / "small/c/0" / f"0.{'0' * 16}.partial").write_bytes(b"begun")
    said = typed("check", group)
    assert said.code == 0
    assert said.lines[1] == "sound: 1 temporary"
