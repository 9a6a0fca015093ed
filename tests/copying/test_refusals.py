"""What cannot be copied is refused before anything is written, and says why."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import assert_same, emit, run_child, stock_read, stored_files
from zarr.codecs import BytesCodec, GzipCodec, TransposeCodec
from zarr.codecs import numcodecs as wrapped
from zarr.core.sync import _get_loop
from zarr.storage import LocalStore, MemoryStore, StorePath

import zarrs

pytestmark = pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")


@pytest.fixture
def source(tmp_path: Path) -> zarr.Array[Any]:
    array = zarr.create_array(tmp_path / "a", shape=(12, 12), chunks=(3, 3), dtype="i4")
    array[...] = np.arange(144).reshape(12, 12)
    return array


def refuse(message: str, source: Any, target: Any, error: Any = ValueError, **wishes: Any) -> None:
    """It does not begin, and leaves what is there, if anything, as it is."""
    there = isinstance(target, Path) and target.exists()
    before = stored_files(target) if there else None
    with pytest.raises(error, match=message):
        zarrs.copy(source, target, **wishes)
    if isinstance(target, Path):
        assert target.exists() == there
        assert not there or stored_files(target) == before


# -------------------------------------------------------------------------- source and target


def test_inside_of_event_loops(source: Any, tmp_path: Path) -> None:
    """Threads of zarr's own loop would wait for it; any other is just blocked meanwhile."""

    async def work() -> Any:
        refuse(
            r"zarrs\.copy\(\) was called in zarr's event loop", source, tmp_path / "b", RuntimeError
        )

    asyncio.run_coroutine_threadsafe(work(), _get_loop()).result(60)

    async def other() -> Any:
        return zarrs.copy(source, tmp_path / "b")

    assert asyncio.run(other()).arrays == 1


def test_no_source(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", str(tmp_path)):
        refuse("no array or group to be copied at .*it has no zarr.json", path, tmp_path / "b",
               FileNotFoundError)  # fmt: skip


def test_no_source_in_memory() -> None:
    with pytest.raises(FileNotFoundError, match="no array or group"):
        zarrs.copy(MemoryStore(), {})


@pytest.mark.parametrize("how", ["path", "text", "link", "store", "url"])
def test_the_same_place(source: Any, tmp_path: Path, how: str) -> None:
    """By whatever name."""
    target: Any = tmp_path / "a"
    if how == "link":
        (tmp_path / "link").symlink_to("a")
        target = tmp_path / "link"
    elif how == "store":
        target = StorePath(LocalStore(tmp_path), "a")
    elif how == "url":
        target = (tmp_path / "a").as_uri()
    for overwrite in (False, True):
        refuse(
            "source and target are the same, file .*: choose another target",
            source,
            target,
            overwrite=overwrite,
        )
        refuse("source and target are the same, ", str(tmp_path / "a"), str(target) if how in (
            "path", "text", "link") else target, overwrite=overwrite)  # fmt: skip
    assert (source[...] == np.arange(144).reshape(12, 12)).all()


def test_one_inside_of_the_other(tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "root")
    inner: Any = root.create_array("x/inner", shape=(4,), chunks=(2,), dtype="i4")
    inner[...] = 1
    refuse("the target is inside of the source", root, tmp_path / "root/copy")
    refuse("the target is inside of the source", root, tmp_path / "root/out.zip")
    refuse("the source is inside of the target", inner, tmp_path / "root", overwrite=True)
    refuse("the source is inside of the target", inner, tmp_path / "root/x", overwrite=True)
    assert inner[...].tolist() == [1] * 4
    zarrs.copy(inner, tmp_path / "root/x/inner2")  # beside it, and its name begins alike
    store = MemoryStore()
    group = zarr.create_group(store, path="g")
    refuse("the target is inside of the source", group, StorePath(store, "g/h"))


@pytest.mark.parametrize("what", ["array", "group", "file", "directory"])
def test_a_target_that_is_there(source: Any, tmp_path: Path, what: str) -> None:
    target = tmp_path / "b"
    if what == "array":
        zarr.create_array(target, shape=(1,), dtype="i4")
    elif what == "group":
        zarr.create_group(target)
    else:
        target.mkdir()
        (target / ("thesis.txt" if what == "file" else "years")).write_text("of work")
    refuse(r"something already; choose another target, or overwrite it \(overwrite=True, --over",
           source, target, FileExistsError)  # fmt: skip
    if what in ("file", "directory"):
        refuse("what is there is no array or group, so it is not overwritten", source, target,
               FileExistsError, overwrite=True)  # fmt: skip
    else:
        zarrs.copy(source, target, overwrite=True, verify=True)


def test_an_empty_directory_is_nothing(source: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    zarrs.copy(source, tmp_path / "b", verify=True)


def test_targets_that_cannot_be_written_to(source: Any, tmp_path: Path) -> None:
    refuse("^the target file://.*/b cannot be written to, as its store is read-only", source,
           LocalStore(tmp_path / "b", read_only=True), PermissionError)  # fmt: skip
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(OSError, match="file"):
        zarrs.copy(source, tmp_path / "file/b")
    assert (tmp_path / "file").read_text() == "no directory"


def child_without_rights(directory: str) -> None:
    source = zarr.create_array({}, data=np.arange(6), chunks=(2,))
    zarrs.copy(source, f"{directory}/open/a", chunks=3)  # all is loaded that must be, ...
    if os.getuid() == 0:
        os.setuid(65534)  # ... which this one may not read
    for name in ("fixed", "open"):
        try:
            zarrs.copy(source, f"{directory}/{name}/b", chunks=3)
        except PermissionError as error:
            emit(str(error.filename))


def test_no_right_to_write() -> None:
    """Root, who may do anything, becomes somebody else for that."""
    directory = Path(tempfile.mkdtemp(dir="/tmp"))  # pytest's own are not for others
    try:
        directory.chmod(0o755)
        for name, mode in (("fixed", 0o555), ("open", 0o777)):
            (directory / name).mkdir()
            (directory / name).chmod(mode)
        said = run_child(child_without_rights, str(directory)).check()
        assert said == [str(directory / "fixed/b")]
        assert list((directory / "fixed").iterdir()) == []
        assert_same(stock_read(directory / "open/b"), np.arange(6))
    finally:
        shutil.rmtree(directory)


def test_storage_options_for_a_path(source: Any, tmp_path: Path) -> None:
    refuse("storage options are for URLs, and the target .* is a local path: leave them out",
           source, tmp_path / "b", target_storage_options={"anon": True})  # fmt: skip


def test_members_that_cannot_be_opened(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a")
    group.create_array("x", shape=(3,), dtype="i4")
    (tmp_path / "a/x/zarr.json").write_text("{")
    refuse(
        "a member of .*a cannot be opened, so mend or delete it, .*: JSONDecodeError",
        group,
        tmp_path / "b",
    )


# ------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"chunks": (3, 3, 3)}, r"number for every axis: expected 2, found chunks \(3, 3, 3\)"),
        ({"chunks": "big"}, "are numbers, one for every axis, not 'big'"),
        ({"shards": 2.5}, "are numbers, one for every axis, not 2.5"),
        ({"zarr_format": 4}, "zarr_format must be 2, 3 or None, not 4"),
        ({"chunks": (5, 5), "shards": (12, 10)}, r"shards of \(12, 10\) cannot be cut into chunks"),
        ({"chunks": (0, 3)}, r"array .*a' cannot .*at least 1 along every axis, not \(0, 3\)"),
        ({"compressors": ["nonsense"]}, "format 3 has no codec 'nonsense': pass other compressors"),
        ({"compressors": [{"id": "nonsense"}]}, "numcodecs makes no codec of {'id': 'nonsense'}"),
        ({"compressors": [{"name": "gzip", "configuration": {"level": 77}}]}, "'gzip' does not"),
        ({"compressors": [{"name": "gzip", "configuration": {"lvl": 7}}]}, "'gzip' does not take"),
        ({"shards": (6, 6), "zarr_format": 2}, "has no shards: pass shards=None .*--shards none"),
        ({"filters": [TransposeCodec(order=(0, 1, 2))]}, "cannot be stored as asked for"),
        ({"serializer": BytesCodec(), "zarr_format": 2, "compressors": [object()]},
         "has no codec .*: pass other"),
        ({"memory": "1KiB", "chunks": 12}, "memory is 1024B: allow as much .memory="),
        ({"memory": "much"}, "memory must be a number of bytes"),
    ],
)  # fmt: skip
def test_layouts_that_cannot_be(source: Any, tmp_path: Path, wishes: Any, message: str) -> None:
    refuse(message, source, tmp_path / "b", **wishes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shards": (6, 6)}, "has no shards: pass shards=None"),
        ({"filters": [TransposeCodec(order=(0, 2, 1))], "shape": (4, 4, 4)},
         r"in the order C or F only, not \(0, 2, 1\): pass filters"),
        ({"dimension_names": ["x", None]},
         r"names of all dimensions or of none, not \('x', None\): name the others"),
    ],
)  # fmt: skip
def test_what_format_2_has_not(tmp_path: Path, arguments: Any, message: str) -> None:
    """And of a group, which array it is."""
    group = zarr.create_group(tmp_path / "a")
    group.create_array("fine", shape=(3,), dtype="i4")
    group.create_array("x/odd", **{"shape": (6, 6), "chunks": (3,) * len(
        arguments.get("shape", (6, 6))), "dtype": "i4"} | arguments)  # fmt: skip
    refuse(f"array 'x/odd' cannot be stored as asked for: .*{message}", group, tmp_path / "b",
           zarr_format=2)  # fmt: skip


def test_what_format_3_has_not(tmp_path: Path) -> None:
    behind = zarr.create_array({}, shape=(4,), dtype="i4", zarr_format=2, compressors=None,
                               filters=[numcodecs.Zlib(), numcodecs.Delta("u1")])  # fmt: skip
    refuse("no place for the filter 'delta' behind one that makes bytes: pass other", behind,
           tmp_path / "b", zarr_format=3)  # fmt: skip
    quantized = zarr.create_array({}, shape=(4,), dtype="i4", zarr_format=2,
                                  compressors=numcodecs.Base64())  # fmt: skip
    refuse("format 3 has no codec 'numcodecs.base64': pass other compressors", quantized,
           tmp_path / "b", zarr_format=3)  # fmt: skip
    for wishes in ({"compressors": ["zstd"]}, {"compressors": None}):
        zarrs.copy(quantized, {}, zarr_format=3, **wishes)


def test_nothing_is_written_if_one_array_of_many_cannot_be(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a")
    for i in range(3):
        array = group.create_array(f"a{i}", shape=(600,), chunks=(300 if i == 2 else 3,),
                                   dtype="f4", filters=[wrapped.BitRound(keepbits=9)],
                                   compressors=[GzipCodec()])  # fmt: skip
        array[...] = 1
    refuse(r"array 'a2' needs .* and memory is", group, tmp_path / "b", memory=2000,
           compressors=None)  # fmt: skip
    zarrs.copy(group, tmp_path / "b", verify=True, zarr_format=2)


# -------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("is_sharded", [False, True])
def test_damaged_chunks_stop_a_copy(tmp_path: Path, is_sharded: bool) -> None:
    """They are named, and the copy goes on when they are mended."""
    group = zarr.create_group(tmp_path / "a")
    shards: Any = {"shards": (6, 6)} if is_sharded else {}
    array = group.create_array("x/y", shape=(12, 12), chunks=(3, 3), dtype="i4", **shards)
    array[...] = data = np.arange(144).reshape(12, 12)
    file = tmp_path / "a/x/y/c/1/1"
    sound = file.read_bytes()
    file.write_bytes(b"\0" * (len(sound) - 1))
    with pytest.raises(zarrs.ChunkError, match="'c/1/1' of array 'x/y'") as failure:
        zarrs.copy(group, tmp_path / "b", chunks=(4, 4), shards=None, memory="4KiB")
    assert failure.value.key == "x/y/c/1/1"
    assert not (tmp_path / "b/zarr.json").exists()
    file.write_bytes(sound)
    assert zarrs.copy(group, tmp_path / "b", chunks=(4, 4), shards=None).resumed
    assert_same(stock_read(tmp_path / "b/x/y"), data.astype("i4"))


def test_damage_in_what_is_copied_as_it_is(source: Any, tmp_path: Path) -> None:
    """It is copied unless it is looked at."""
    (tmp_path / "a/c/1/1").write_bytes(b"nothing of use")
    zarrs.copy(source, tmp_path / "b")
    assert (tmp_path / "b/c/1/1").read_bytes() == b"nothing of use"
    with pytest.raises(zarrs.ChunkError, match="c/1/1"):
        zarrs.copy(source, tmp_path / "c", verify=True)
    assert not (tmp_path / "c/zarr.json").exists()


# ------------------------------------------------------------------------------------ progress


def test_progress_without_rich(source: Any, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("rich", "rich.console", "rich.progress"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    refuse(r"needs the package rich.*zarrs-cython\[cli\]", source, tmp_path / "b", ImportError,
           progress=True)  # fmt: skip
    zarrs.copy(source, tmp_path / "b")


def test_progress(source: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    zarrs.copy(source, tmp_path / "b", progress=True, verify=True, chunks=4)
    out, err = capfd.readouterr()
    assert out == ""
    assert "copying" in err
    assert "verifying" in err
    assert "576/576 bytes" in err
