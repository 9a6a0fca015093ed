"""Paths, zip files and URLs; and what is said where there is no array."""

import uuid
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import Typed, files_of
from faulty_http import FaultyServer

from zarrs.cli._errors import CommandError, ExitCode, report
from zarrs.cli._paths import open_node, open_store, parse_options


@pytest.mark.parametrize(
    ("typed_value", "value"),
    [
        ("true", True),
        ("True", True),
        ("False", False),
        ("null", None),
        ("12", 12),
        ("0.5", 0.5),
        ('{"region": "north"}', {"region": "north"}),
        ("eu-west-1", "eu-west-1"),
        ("0815", "0815"),
        ('"12"', "12"),
        ("a=b", "a=b"),
        ("", ""),
        (" spaced ", " spaced "),
    ],
)
def test_values_of_storage_options(typed_value: str, value: object) -> None:
    assert parse_options([f"key={typed_value}"]) == {"key": value}


def test_the_last_of_two_equal_options_holds() -> None:
    assert parse_options(["a=1", "b=2", "a=3"]) == {"a": 3, "b": 2}


@pytest.mark.parametrize("option", ["anon", "=true", " =1", ""])
def test_storage_options_without_key_or_value_are_refused(typed: Typed, option: str) -> None:
    said = typed("explain", "memory://x", "--storage-option", option)
    assert said.code == 2
    assert said.error == f"--storage-option takes KEY=VALUE, such as anon=true, not {option!r}"


def test_storage_options_of_a_path_are_refused(typed: Typed, group: Path) -> None:
    said = typed("explain", group, "--storage-option", "anon=true")
    assert said.code == 2
    assert "is for URLs" in said.error


def test_a_storage_option_that_the_file_system_does_not_know(typed: Typed) -> None:
    with FaultyServer({}) as server:
        said = typed("explain", f"{server.url}x", "--storage-option", "nonsense=1")
    assert said.code == 2
    assert "nonsense" in said.error


def test_nothing_there(typed: Typed, tmp_path: Path) -> None:
    said = typed("explain", tmp_path / "none")
    assert (said.code, said.out) == (3, "")
    assert said.error == f"{tmp_path / 'none'}: there is nothing of that name"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("file", "text", "a file, neither a directory nor a zip file"),
        ("broken.zip", "text", "BadZipFile: File is not a zip file"),
        ("empty/readme", "text", "no zarr array or group"),
        ("cut/zarr.json", "{", "JSONDecodeError"),
        ("wrong/zarr.json", '{"zarr_format": 3, "node_type": "array"}', "cannot be opened"),
        ("old/.zarray", "[]", "cannot be opened"),
    ],
)
def test_what_is_no_zarr_is_one_line(
    typed: Typed, tmp_path: Path, name: str, content: str, message: str
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    path = file if file.parent == tmp_path else file.parent
    for command in ("explain", "check", "bench"):
        said = typed(command, path)
        assert (said.code, said.out) == (3, "")
        assert said.error.startswith(f"{path}: ")
        assert message in said.error


@pytest.mark.parametrize("path", ["", "\0", "x" * 5000, "://", "nosuch://x", "http://", "a::b"])
def test_nonsense_for_a_path_is_one_line(typed: Typed, path: str) -> None:
    said = typed("explain", path)
    assert said.code in (2, 3)
    assert said.error


def test_a_package_for_the_scheme_is_missing(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ImportError("Install gcsfs to access Google Storage")

    monkeypatch.setattr(zarr.storage.FsspecStore, "from_url", refuse)
    said = typed("explain", "gs://bucket/x")
    assert said.code == 4
    assert said.error.startswith("gs://bucket/x: a package for gs:// is missing")
    assert "gcsfs" in said.error


def test_zip_files_and_arrays_inside(typed: Typed, group: Path, tmp_path: Path) -> None:
    with zarr.storage.ZipStore(tmp_path / "data.zip", mode="w") as store:
        root = zarr.open_group(store, mode="w")
        root.create_array("a/b", data=np.arange(10), chunks=(5,))
    said = typed("explain", tmp_path / "data.zip", "--json").json()["arrays"]["a/b"]
    assert said["stored"]["files"] == 2
    inside = typed("explain", tmp_path / "data.zip/a/b", "--json").json()["arrays"][""]
    assert inside == said
    assert typed("check", tmp_path / "data.zip/a").code == 0
    assert typed("explain", tmp_path / "data.zip/c").code == 3


def test_url_in_memory(typed: Typed) -> None:
    url = f"memory://{uuid.uuid4()}/x"
    array = zarr.create_array(url, shape=(10,), chunks=(5,), dtype="i4", compressors=None)
    array[:5] = 1
    [said] = typed("explain", url, "--json").json()["arrays"].values()
    assert said["runs"] == "native"
    assert said["stored"] == {"files": 1, "nbytes": 20}
    assert typed("check", url).lines == ["1 of 2 chunks stored in 1 array: 20 bytes", "sound"]
    assert typed("bench", url, "--rounds", 1).code == 0


def test_url_of_a_file(typed: Typed, group: Path) -> None:
    assert typed("explain", f"{group.as_uri()}/small").code == 0


def test_url_of_a_web_server(typed: Typed, group: Path) -> None:
    with FaultyServer(files_of(group)) as server:
        said = typed("explain", f"{server.url}small", "--json").json()["arrays"][""]
        assert (said["runs"], said["stored"]) == ("native", None)
        assert "is not known" in typed("explain", f"{server.url}small").out
        assert typed("check", f"{server.url}air/temperature").code == 0
        assert typed("bench", f"{server.url}small", "--rounds", 1).code == 0
        assert typed("explain", f"{server.url}none").code == 3


def test_a_web_server_that_refuses(typed: Typed) -> None:
    said = typed("explain", "http://127.0.0.1:9/x")
    assert said.code == 3
    assert "Cannot connect" in said.error


def test_a_group_without_arrays(typed: Typed, tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "g", mode="w")
    for command in ("explain", "check", "bench"):
        said = typed(command, tmp_path / "g")
        assert said.code == 3
        assert "no array is found in this group" in said.error


def test_a_group_with_a_member_that_cannot_be_opened(typed: Typed, group: Path) -> None:
    (group / "nothing/zarr.json").write_text("{")
    for command in ("explain", "check", "bench"):
        said = typed(command, group)
        assert said.code == 3
        assert "a member of this group cannot be opened, name an array" in said.error
    assert typed("explain", group / "small").code == 0


def test_reading_is_the_default(group: Path) -> None:
    array = open_node(f"{group}/small")
    assert array.read_only
    assert not open_node(f"{group}/small", mode="r+").read_only
    with pytest.raises(CommandError, match="nothing of that name"):
        open_store(f"{group}/none", mode="r+")


def test_a_new_place_can_be_opened_to_be_written(tmp_path: Path) -> None:
    for name in ("new.zarr", "new.zip"):
        place = open_store(str(tmp_path / name), mode="a")
        zarr.create_array(place, data=np.arange(3))
        place.store.close()
        array = open_node(str(tmp_path / name))
        assert isinstance(array, zarr.Array)
        assert np.asarray(array[:]).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "not enough memory"), ("no memory left", "not enough memory: no memory left")],
)
def test_too_little_memory(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where Python has no memory for words."""
    assert report(MemoryError(text), debug=False) == ExitCode.FAILED
    assert capsys.readouterr().err == f"zarrs: {said}\n"
