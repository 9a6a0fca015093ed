"""``zarrs explain``: what runs natively, how an array is cut, and advice."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from commands import Typed
from own_codecs import own

from zarrs.cli._advice import advice
from zarrs.cli._explain import Explained
from zarrs.cli._layout import layout_of
from zarrs.cli._output import printable, size_text


def test_each_array_of_a_group(typed: Typed, group: Path) -> None:
    said = typed("explain", group)
    assert said.code == 0
    heads = [line for line in said.lines if not line.startswith(" ")]
    assert heads == ["air/temperature: native", "nothing: native", "small: native"]
    at = said.lines.index("air/temperature: native")
    assert [line.strip() for line in said.lines[at + 1 : at + 9]] == [
        "float32 (60, 80), 18.8 KiB, format 3",
        "chunk (10, 20): 800 bytes; 24 in all",
        "shard (30, 40): 4.69 KiB, 6 chunks in each",
        said.lines[at + 4].strip(),
        "store LocalStore: native",
        "codec sharding_indexed: native",
        "codec sharding_indexed > bytes: native",
        "codec sharding_indexed > zstd: native",
    ]
    assert "files: 4, of which 2 exist: " in said.lines[at + 4]


def test_as_json(typed: Typed, group: Path) -> None:
    said = typed("explain", group, "--json").json()
    one = said["arrays"]["air/temperature"]
    assert said["path"] == str(group)
    assert one["runs"] == "native"
    assert one["layout"] | {"codecs": None} == {
        "zarr_format": 3,
        "dtype": "float32",
        "shape": [60, 80],
        "nbytes": 19200,
        "chunk": [10, 20],
        "chunk_bytes": 800,
        "chunks": 24,
        "shard": [30, 40],
        "shard_bytes": 4800,
        "chunks_in_shard": 6,
        "files": 4,
        "codecs": None,
    }
    assert one["layout"]["codecs"] == ["sharding_indexed", "bytes", "zstd"]
    files = list(Path(group, "air/temperature/c").rglob("*/*"))
    stored = sum(file.stat().st_size for file in files if file.is_file())
    assert one["stored"] == {"files": 2, "nbytes": stored}
    assert one["compression_ratio"] == pytest.approx(9600 / stored)


def test_format_2(typed: Typed, tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "two", mode="w", zarr_format=2)
    array = root.create_array("x", shape=(9,), chunks=(4,), dtype="<i2")
    array[...] = 1
    said = typed("explain", tmp_path / "two", "--json").json()["arrays"]["x"]
    assert (said["runs"], said["layout"]["zarr_format"]) == ("native", 2)
    assert (said["layout"]["chunks"], said["stored"]["files"]) == (3, 3)


def test_a_codec_that_runs_in_python(typed: Typed, tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "x", shape=(4,), dtype="i4", compressors=own("xor"))
    said = typed("explain", tmp_path / "x")
    assert said.lines[0] == f"{tmp_path / 'x'}: hybrid"
    assert any("advice: codec" in line and "runs in Python" in line for line in said.lines)


def test_scalars_strings_and_empty_arrays(typed: Typed, tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "g", mode="w")
    root.create_array("scalar", shape=(), dtype="f4")
    root.create_array("empty", shape=(0, 3), chunks=(2, 3), dtype="f4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.create_array("words", shape=(4,), chunks=(2,), dtype="str")[:] = "a"
        said = typed("explain", tmp_path / "g", "--json").json()["arrays"]
    assert (said["scalar"]["layout"]["files"], said["scalar"]["layout"]["nbytes"]) == (1, 4)
    assert (said["empty"]["layout"]["files"], said["empty"]["advice"]) == (0, [])
    assert (said["words"]["layout"]["nbytes"], said["words"]["compression_ratio"]) == (None, None)


def test_names_cannot_move_the_cursor(typed: Typed, tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path / "g", mode="w")
    root.create_array("a\x1b[2Jb\nc", shape=(1,), dtype="i4")
    said = typed("explain", tmp_path / "g")
    assert said.lines[0] == "a\\x1b[2Jb\\nc: native"
    assert printable("plain ünï \udcff") == "plain ünï \\udcff"


def told(**how: Any) -> str:
    # What is said of an array of which nothing is stored.
    array = zarr.create_array({}, **{"dtype": "f4", "compressors": None, **how})
    return "\n".join(advice(layout_of(array), Explained.of(array).explanation))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"shape": (1000, 1000), "chunks": (100, 10)}, "1,000 files of 3.91 KiB each"),
        (
            {"shape": (1000, 1000), "chunks": (100, 10), "zarr_format": 2},
            "shards, which need format 3",
        ),
        ({"shape": (10**9,), "chunks": (2000,)}, "500,000 files of 7.81 KiB each"),
        ({"shape": (2 * 10**10,), "chunks": (10**5,)}, "200,000 files are slow to list"),
        ({"shape": (10**8,), "chunks": (10**7,)}, "chunks of 38.1 MiB"),
        ({"shape": (1000,), "chunks": (100_000,)}, "99% of what its chunks hold lies beyond"),
        ({"shape": (8192,), "chunks": (4096,), "shards": (4096,)}, "shards of one inner chunk"),
        ({"shape": (2**21,), "chunks": (16,), "shards": (2**21,)}, "131,072 inner chunks in a"),
        ({"shape": (2**18,), "chunks": (16,), "shards": (2**18,)}, "inner chunks of 64 bytes"),
        ({"shape": (2**28,), "chunks": (2**20,), "shards": (2**28,)}, "shards of 1 GiB"),
        ({"shape": (100,), "compressors": {"name": "gzip", "configuration": {"level": 1}}}, "gzip"),
        (
            {
                "shape": (2**12,),
                "chunks": (2**11,),
                "shards": (2**12,),
                "compressors": {"name": "gzip", "configuration": {"level": 1}},
            },
            "compressed with gzip: zstd",
        ),
    ],
)
def test_advice(how: dict[str, Any], said: str) -> None:
    assert said in told(**how)


@pytest.mark.parametrize(
    "how",
    [
        {"shape": (100, 100), "chunks": (10, 100)},  # few files
        {"shape": (2**14, 2**14), "chunks": (128, 128), "dtype": "u1", "shards": (2**10, 2**10)},
        {"shape": (2**14, 2**14), "chunks": (2**11, 2**11)},
        {"shape": (), "chunks": ()},
        {"shape": (0,), "chunks": (10**8,)},
    ],
)
def test_no_advice_where_there_is_none_to_give(how: dict[str, Any]) -> None:
    assert told(**how) == ""


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "0.977 KiB"),
        (2**20, "1 MiB"),
        (2**62, "4.1e+03 PiB"),
    ],
)
def test_sizes(nbytes: int, text: str) -> None:
    assert size_text(nbytes) == text


def test_what_vanishes_while_it_is_counted(
    typed: Typed, group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[tuple[str, list[str], list[str]]] = [(str(group), [], ["c", "gone"])]
    monkeypatch.setattr("os.walk", lambda root: walked)
    assert typed("explain", group / "small", "--json").json()["arrays"][""]["stored"]["files"] == 0


def test_rectilinear_chunks(typed: Typed, tmp_path: Path) -> None:
    try:
        context = zarr.config.set({"array.rectilinear_chunks": True})
        with context:
            chunks: Any = [[2, 3, 5]]
            array = zarr.create_array(tmp_path / "x", shape=(10,), chunks=chunks, dtype="i4")
            array[:] = np.arange(10)
            said = typed("explain", tmp_path / "x", "--json").json()["arrays"][""]
    except (TypeError, ValueError):
        pytest.skip("this zarr has no rectilinear chunks")
    assert (said["layout"]["files"], said["layout"]["chunk"]) == (3, [5])
