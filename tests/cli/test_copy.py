"""``zarrs copy``, as it is typed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from commands import Typed, child, in_terminal
from helpers import stored_files


def test_a_copy_is_told_on_one_line(typed: Typed, group: Path, tmp_path: Path) -> None:
    said = typed("copy", group, tmp_path / "b")
    assert said.code == 0
    assert said.out.startswith("copied 3 arrays, 3 of them as stored: ")
    assert said.out.count("\n") == 1
    assert said.err == ""
    assert stored_files(tmp_path / "b") == stored_files(group)


def test_everything_that_can_be_asked_for(typed: Typed, group: Path, tmp_path: Path) -> None:
    """Chunks of two numbers are for all arrays here, as all have two axes."""
    said = typed(
        *(
            "copy",
            group / "air/temperature",
            tmp_path / "b",
            "--chunks",
            "5,5",
            "--shards",
            "20,10",
        ),
        *("--compressor", "blosc:cname=lz4,clevel=3", "--filter", "none", "--memory", "1MiB"),
        *("--codec", '{"name": "crc32c"}', "--verify", "--json"),
    )
    assert said.code == 0, said.err
    report = json.loads(said.out)
    assert report["verified"]
    assert report["arrays"] == 1
    assert report["n_bytes_copied"] == report["n_bytes"] > 0
    copy: Any = zarr.open_array(tmp_path / "b", mode="r")
    assert (copy.chunks, copy.shards) == ((5, 5), (20, 10))
    assert [type(one).__name__ for one in copy.compressors] == ["BloscCodec", "Crc32cCodec"]
    assert copy.compressors[0].clevel == 3
    assert (copy[:30] == np.arange(2400.0).reshape(30, 80)).all()


def test_to_format_2_and_back(typed: Typed, group: Path, tmp_path: Path) -> None:
    said = typed("copy", group, tmp_path / "b", "--format", "2", "--shards", "none", "--verify")
    assert said.code == 0, said.err
    assert (tmp_path / "b/air/temperature/.zarray").exists()
    said = typed("copy", tmp_path / "b", tmp_path / "c", "--format", "3", "--compressor", "none")
    assert said.code == 0, said.err
    assert zarr.open_array(tmp_path / "c/small", mode="r").compressors == ()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--chunks", "five"], 2, "--chunks takes numbers, such as 100,100,10, or auto, not 'five'"),  # noqa: E501
        (["--shards", "0,5"], 2, "--shards takes numbers"),
        (["--chunks", "1,2,3"], 2, "for every axis: expected 2, found chunks (1, 2, 3)"),
        (["--compressor", "zstd:5"], 2, "--compressor takes a codec such as zstd:level=5"),
        (["--compressor", "{"], 2, "--compressor { is no JSON: "),
        (["--compressor", "{}"], 2, '--compressor {} has no name: it needs a "name"'),
        (["--compressor", "snappy"], 2, "format 3 has no codec 'snappy'"),
        (["--format", "4"], 2, "'4' is not one of '2', '3'"),
        (["--format", "2"], 2, "'air/temperature' cannot be stored as asked for: format 2 has no"),
        (["--memory", "lots"], 2, "memory must be a number of bytes, such as '512MiB'"),
        (["--memory", "100", "--codec", "gzip:level=9"], 2, "allow as much"),
        (["--target-storage-option", "a=b"], 2, "storage options are for URLs"),
        (["--target-storage-option", "a"], 2, "--target-storage-option takes KEY=VALUE"),
        (["--scheduler", "nonsense://here:1"], 2, "nonsense"),
    ],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense(
    typed: Typed, group: Path, tmp_path: Path, arguments: Any, code: int, message: str
) -> None:
    said = typed("copy", group, tmp_path / "b", *arguments)
    assert said.code == code
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "b").exists()


def test_places_that_make_no_sense(typed: Typed, group: Path, tmp_path: Path) -> None:
    for source, target, code, message in (
        (tmp_path / "nothing", tmp_path / "b", 3, "there is nothing of that name"),
        (group, group, 2, "source and target are the same"),
        (group, group / "copy", 2, "the target is inside of the source"),
        (group / "small", group, 2, "the source is inside of the target"),
        (group, group / "small", 2, "the target is inside of the source"),
    ):
        said = typed("copy", source, target)
        assert said.code == code
        assert message in said.err
        assert said.err.count("\n") == 1
    zarr.create_array(tmp_path / "b", shape=(1,), dtype="i4")
    said = typed("copy", group, tmp_path / "b")
    assert said.code == 2
    assert (
        "there is something already; choose another target, or overwrite it (overwrite=True, --over"
        in said.err
    )
    assert typed("copy", group, tmp_path / "b", "--overwrite", "--verify").code == 0


def test_a_difference_is_exit_code_1(
    typed: Typed, group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zarrs.copying import _transfer

    copy_region = _transfer.copy_region

    def wrong(pair: Any, box: Any, chunks: Any) -> None:
        copy_region(pair, box, chunks)
        pair.writer[0, 1] = 77

    monkeypatch.setattr("zarrs.copying._copy.copy_region", wrong)
    said = typed("copy", group / "small", tmp_path / "b", "--verify")
    assert said.code == 1
    assert "1 item differs from the source" in said.err
    assert "small[0, 1]: 77, not 1" in said.err


def test_a_damaged_chunk(typed: Typed, group: Path, tmp_path: Path) -> None:
    (group / "small/c/3/0").write_bytes(b"damaged")
    said = typed("copy", group, tmp_path / "b", "--compressor", "zstd")
    assert said.code == 5
    assert "'c/3/0' of array 'small'" in said.err
    assert "the same command goes on where this one stopped" in said.err
    assert said.err.count("\n") == 1


def test_reading_chunks_again_and_again_is_told(typed: Typed, tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(64, 4096), chunks=(1, 4096), dtype="f8")
    array[...] = 1
    said = typed("copy", tmp_path / "a", tmp_path / "b", "--chunks", "64,8", "--memory", "400KiB")
    assert said.code == 0
    assert "times on average, as --memory 400KiB held no more: with a larger one" in said.err
    said = typed("copy", tmp_path / "a", tmp_path / "c", "--chunks", "64,8")
    assert said.err == ""


INTERRUPT = """
import os, signal
import zarrs.copying._copy as engine
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
copy_region, seen = engine.copy_region, []
def interrupting(*args):
    copy_region(*args)
    seen.append(args)
    if len(seen) == 2:
        os.kill(os.getpid(), signal.SIGINT)
engine.copy_region = interrupting
"""


def test_ctrl_c_and_the_same_command(group: Path, tmp_path: Path) -> None:
    """In a process of its own."""
    words = "copy", group, tmp_path / "b", "--chunks", "3,3", "--shards", "none", "--memory", "4KiB"
    said = child(*words, before=INTERRUPT)
    assert said.code == 130
    assert said.error == "interrupted; the same command goes on where this one stopped"
    said = child(*words)
    assert said.code == 0
    assert "bytes of them before" in said.out


def test_a_bar_in_a_terminal(group: Path, tmp_path: Path) -> None:
    code, text = in_terminal("copy", group, tmp_path / "b", "--chunks", "3,3", "--shards", "none")
    assert code == 0
    assert "copying" in text
    assert "copied 3 arrays" in text
