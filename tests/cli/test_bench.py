"""``zarrs bench``: all implementations read the same, and what they took is told."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from commands import Typed, files_of
from helpers import ZARR_34
from own_codecs import own

from zarrs.cli._bench import parse_size
from zarrs.cli._layout import layout_of
from zarrs.cli._measure import is_same
from zarrs.cli._operations import MAX_CHUNKS, operations_on

NAMES = ["zarr default", *(["zarr Fused"] if ZARR_34 else []), "zarrs pipeline", "zarrs direct"]


def test_the_largest_array_of_a_group(typed: Typed, group: Path) -> None:
    before = files_of(group)
    said = typed("bench", group, "--rounds", 2)
    assert (said.code, said.err) == (0, "")
    assert said.lines[0].startswith(f"{group} air/temperature: float32 (60, 80), 18.8 KiB")
    assert said.lines[2].split()[0] == "operation"
    rows = [line.split("  ")[0].strip() for line in said.lines[3:8]]
    assert rows == ["whole", "windows", "planes", "random rows", "points"]
    assert said.lines[-1] == "all results are equal"
    assert files_of(group) == before


def test_an_array_by_name(typed: Typed, group: Path) -> None:
    for name in ("small", "/small/"):
        assert f"{group} small: int32" in typed("bench", group, "--array", name, "--rounds", 1).out
    assert f"{group / 'small'}: int32" in typed("bench", group / "small", "--rounds", 1).out


def test_as_json(typed: Typed, group: Path, tmp_path: Path) -> None:
    said = typed("bench", group, "--json", "-", "--rounds", 3)
    results = said.json()
    assert (results["array"], results["rounds"]) == ("air/temperature", 3)
    for one in results["operations"]:
        assert list(one["seconds"]) == sorted(one["seconds"], key=list(one["seconds"]).index)
        assert set(one["seconds"]) == set(NAMES)
        assert all(len(times) == 3 and min(times) > 0 for times in one["seconds"].values())
        assert one["problems"] == {}
        assert one["gain"] > 0
    said = typed("bench", group, "--json", tmp_path / "out.json", "--rounds", 1)
    assert "all results are equal" in said.lines
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["operations"][0]["nbytes"] == 19200


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_chart(typed: Typed, group: Path, tmp_path: Path, suffix: str) -> None:
    chart = tmp_path / f"chart.{suffix}"
    assert typed("bench", group, "--plot", chart, "--rounds", 1).code == 0
    assert chart.stat().st_size > 10_000
    if suffix == "svg":
        assert chart.read_text().startswith("<?xml")


@pytest.mark.parametrize("format_", [2, 3])
@pytest.mark.parametrize("shape", [(), (7,), (6, 5), (4, 3, 5), (2, 3, 2, 3)])
def test_arrays_of_any_number_of_dimensions(
    typed: Typed, tmp_path: Path, format_: Any, shape: tuple[int, ...]
) -> None:
    array = zarr.create_array(
        tmp_path / "x", shape=shape, dtype="i2", chunks=(2,) * len(shape), zarr_format=format_
    )
    array[...] = 5
    said = typed("bench", tmp_path / "x", "--rounds", 1)
    assert (said.code, said.err) == (0, "")


def test_codecs_in_python(typed: Typed, tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "x", shape=(40,), dtype="i4", compressors=own("xor"))
    array[:] = range(40)
    assert typed("bench", tmp_path / "x", "--rounds", 1).lines[-1] == "all results are equal"


def test_results_that_differ_are_an_error(
    typed: Typed, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zarrs._array.Array.oindex", property(lambda self: Wrong(self)))
    said = typed("bench", group, "--array", "small", "--rounds", 1)
    assert said.code == 1
    assert said.error.startswith(
        "random rows: zarrs direct: reads something else than zarr default at ("
    )
    assert "all results are equal" not in said.lines
    [row] = [line for line in said.lines if line.startswith("random rows")]
    assert "failed" in row


class Wrong:
    def __init__(self, array: Any) -> None:
        self.array = array

    def __getitem__(self, selection: Any) -> Any:
        return np.asarray(zarr.Array.oindex.__get__(self.array)[selection]) + 1


def test_what_one_implementation_cannot_read(
    typed: Typed, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr("zarrs._array.Array.__getitem__", fail)
    said = typed("bench", group, "--rounds", 1)
    assert said.code == 1
    assert "zarrs: whole: zarrs direct: RuntimeError: out of order" in said.err.splitlines()
    assert said.lines[3].split()[-2] == "failed"


def test_what_nobody_can_read(typed: Typed, group: Path) -> None:
    (group / "small/c/0/0").write_bytes(b"no gzip")
    said = typed("bench", group / "small")
    assert (said.code, said.out) == (5, "")
    assert said.error.startswith("neither zarr nor zarrs can read it (whole), and zarrs check")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--array", "none"), "no array 'none' in it: there are air/temperature, nothing, small"),
        (("--array", "nothing"), "array 'nothing' of shape (0, 3) has no items to read"),
        (("--size", "0"), "'0' is no size such as 256MiB"),
        (("--size", "big"), "'big' is no size such as 256MiB"),
        (("--rounds", "0"), "'--rounds'"),
        (("--rounds", "x"), "'--rounds'"),
        (
            ("--json", "none/x.json"),
            "--json none/x.json cannot be written: there is no directory none",
        ),
        (("--json", "."), "--json . cannot be written: it is a directory"),
        (("--plot", "none/x.svg"), "--plot none/x.svg cannot be written: there is no directory"),
        (("--plot", "x.txt"), "the name has to end in one of .avif"),
        (("--plot", "x"), "the name has to end in one of .avif"),
    ],
)
def test_bad_options_are_one_line(
    typed: Typed, group: Path, arguments: tuple[str, ...], message: str
) -> None:
    said = typed("bench", group, *arguments)
    assert (said.code, said.out) == (2, "")
    assert message.replace(".avif", ".") in said.error


def test_array_of_an_array(typed: Typed, group: Path) -> None:
    said = typed("bench", group / "small", "--array", "x")
    assert (said.code, said.error) == (
        2,
        f"{group / 'small'}: no array 'x' in it: it is an array itself, so leave --array out",
    )


def test_large_chunks_are_warned_of(typed: Typed, group: Path) -> None:
    said = typed("bench", group, "--size", "500", "--rounds", 1)
    assert said.error == "warning: whatever is read of a chunk may decode all of its 800 bytes"


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("10k", 10240),
        ("1.5 KiB", 1536),
        ("2MB", 2**21),
        ("1GiB", 2**30),
        ("1t", 2**40),
        (12, 12),
    ],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("shape", [(1,), (50,), (40, 30), (7, 9, 11), (1, 1, 100, 3)])
@pytest.mark.parametrize("limit", [1, 8, 100, 1000, 10**6])
def test_no_operation_reads_more_than_the_limit(shape: tuple[int, ...], limit: int) -> None:
    array = zarr.create_array({}, shape=shape, dtype="f8", chunks=(3,) * len(shape))
    for operation in operations_on(layout_of(array), limit):
        results = [np.asarray(one) for one in operation.read(array)]
        nbytes = sum(one.nbytes for one in results)
        assert nbytes <= max(limit, 8 * 64)  # an item of each of so many selections
        assert nbytes > 0


@pytest.mark.parametrize("shape", [(2**40,), (2**20, 2**20), (3, 2**30), (2**30, 3)])
def test_no_operation_reads_millions_of_chunks(shape: tuple[int, ...]) -> None:
    chunks = (2,) * len(shape)
    array = zarr.create_array({}, shape=shape, dtype="i1", chunks=chunks)
    for operation in operations_on(layout_of(array), 2**27):
        places = [
            [_n_places(part) / (2 if isinstance(part, slice) else 1) for part in selection]
            for selection in operation.selections
        ]
        assert sum(math.prod(place) for place in places) <= 2 * MAX_CHUNKS


def _n_places(part: Any) -> int:
    if isinstance(part, slice):
        return int(part.stop - part.start)
    return len(part) if isinstance(part, list) else 1


def test_the_beginning_ends_with_a_chunk() -> None:
    array = zarr.create_array({}, shape=(100, 10), dtype="f8", chunks=(7, 10))
    whole, *_ = operations_on(layout_of(array), 2000)
    assert (whole.name, whole.selections) == ("beginning", ((slice(0, 21), slice(0, 10)),))
    assert math.prod((21, 10)) * 8 <= 2000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (np.array([1.0, np.nan]), np.array([1.0, np.nan]), True),
        (np.array([0.0]), np.array([-0.0]), False),
        (np.array([1], "i4"), np.array([1], "i8"), False),
        (np.array([1, 2]), np.array([[1, 2]]), False),
        (np.array(3), np.array(3), True),
        (np.array(["a", "b"], "T"), np.array(["a", "b"], "T"), True),
        (np.array(["a", "b"], "T"), np.array(["a", "c"], "T"), False),
        (np.array([(1, 2.0)], "i4,f8"), np.array([(1, 2.0)], "i4,f8"), True),
        (np.arange(6).reshape(2, 3).T, np.arange(6).reshape(2, 3).T.copy(), True),
    ],
)
def test_same(one: Any, other: Any, same: bool) -> None:
    assert is_same(one, other) is same
