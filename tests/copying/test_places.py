"""From and to all kinds of places."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import assert_same, make_data, stock, stored_files
from stores import AsyncOnly, Services, each_kind, filled, theirs
from zarr.storage import FsspecStore, LocalStore, MemoryStore, StorePath, ZipStore

import zarrs

DATA = make_data("f4", (30, 20))


def fill(store: Any) -> None:
    zarr.create_array(store, shape=(30, 20), chunks=(7, 6), dtype="f4")[...] = DATA


@each_kind(
    "memory", "memory-mapping", "logging", "local-own-all", "async-only", "own-ranges",
    "fsspec-memory", "fsspec-local", "fsspec-s3", "obstore-memory", "obstore-local", "fsspec-http",
    "obstore-http", "fsspec-reference", "managed-memory", "icechunk",
)  # fmt: skip
@pytest.mark.parametrize("wishes", [{}, {"chunks": (5, 8)}], ids=["as stored", "chunks"])
def test_from_any_store(kind: Any, tmp_path: Path, services: Services, wishes: Any) -> None:
    store = filled(kind, tmp_path, services, fill)
    array = zarr.open_array(store, mode="r")
    zarrs.copy(array, tmp_path / "b", verify=True, **wishes)
    assert_same(theirs(LocalStore(tmp_path / "b", read_only=True))[...], DATA)


@each_kind(
    "memory", "memory-mapping", "logging", "local-own-all", "async-only", "own-ranges",
    "fsspec-memory", "fsspec-local", "fsspec-s3", "obstore-memory", "obstore-local",
    "managed-memory",
)  # fmt: skip
@pytest.mark.parametrize("wishes", [{}, {"chunks": (5, 8)}], ids=["as stored", "chunks"])
def test_to_any_store(kind: Any, tmp_path: Path, services: Services, wishes: Any) -> None:
    """And what is there is overwritten."""
    fill(LocalStore(tmp_path / "a"))
    store = kind.new(tmp_path, services)
    for overwrite in (False, True):
        zarrs.copy(tmp_path / "a", store, verify=True, overwrite=overwrite, **wishes)
        assert_same(theirs(store)[...], DATA)
        with pytest.raises(FileExistsError, match="something already"):
            zarrs.copy(tmp_path / "a", store, **wishes)


def test_to_a_place_further_down(tmp_path: Path) -> None:
    fill(LocalStore(tmp_path / "a"))
    zarr.create_group(tmp_path / "b").create_array("x", shape=(1,), dtype="i4")
    zarrs.copy(tmp_path / "a", StorePath(LocalStore(tmp_path / "b"), "y/z"), verify=True)
    zarrs.copy(tmp_path / "a", str(tmp_path / "b/w"), verify=True)
    group: Any = zarr.open_group(tmp_path / "b", mode="r")
    assert_same(group["w"][...], DATA)
    assert_same(group["y/z"][...], DATA)


@pytest.mark.parametrize("wishes", [{}, {"chunks": (5, 8)}], ids=["as stored", "chunks"])
def test_to_and_from_a_zip_file(tmp_path: Path, wishes: Any) -> None:
    group = zarr.create_group(tmp_path / "a", attributes={"k": 1})
    group.create_array("x/y", shape=(30, 20), chunks=(7, 6), dtype="f4")[...] = DATA
    report = zarrs.copy(group, tmp_path / "b.zip", verify=True, **wishes)
    assert not report.resumed
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert len(names) == len(set(names))
    assert not any("zarrs" in name for name in names)
    zarrs.copy(tmp_path / "b.zip", tmp_path / "c", verify=True)
    assert dict(zarr.open_group(tmp_path / "c", mode="r").attrs) == {"k": 1}
    if not wishes:
        assert stored_files(tmp_path / "c") == stored_files(tmp_path / "a")
    with pytest.raises(FileExistsError, match=r"b\.zip exists"):
        zarrs.copy(group, str(tmp_path / "b.zip"))
    zarrs.copy(group, str(tmp_path / "b.zip"), overwrite=True, verify=True)


def test_a_zip_file_is_there_when_it_is_whole(tmp_path: Path, monkeypatch: Any) -> None:
    """One that is replaced is there until then."""
    fill(LocalStore(tmp_path / "a"))
    zarrs.copy(tmp_path / "a", tmp_path / "b.zip")
    before = (tmp_path / "b.zip").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("zarrs.copying._copy.copy_region", lambda *_: 1 / 0)
        for name in ("b", "c"):
            with pytest.raises(ZeroDivisionError) as failure:
                zarrs.copy(tmp_path / "a", tmp_path / f"{name}.zip", overwrite=True)
            assert not hasattr(failure.value, "__notes__")  # it cannot be gone on with
    assert (tmp_path / "b.zip").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b.zip"}
    (tmp_path / "c.zip.partial").write_bytes(b"of a copy that was killed")
    zarrs.copy(tmp_path / "a", tmp_path / "c.zip", verify=True)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b.zip", "c.zip"}


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_zip_store_that_is_open(tmp_path: Path) -> None:
    fill(LocalStore(tmp_path / "a"))
    with ZipStore(tmp_path / "b.zip", mode="w") as store:
        zarrs.copy(tmp_path / "a", store, verify=True)
        with pytest.raises(FileExistsError, match="its store cannot delete what is there: choose"):
            zarrs.copy(tmp_path / "a", store, overwrite=True)


def test_urls_with_options(tmp_path: Path, services: Services) -> None:
    """From one object store to another."""
    from stores import BUCKET, S3_KEY, S3_REGION, S3_SECRET

    fill(LocalStore(tmp_path / "a"))
    options = {
        "endpoint_url": services.s3.url,
        "key": S3_KEY,
        "secret": S3_SECRET,
        "client_kwargs": {"region_name": S3_REGION},
    }
    url = f"s3://{BUCKET}/{tmp_path.name}"
    zarrs.copy(tmp_path / "a", f"{url}/a", target_storage_options=options, verify=True)
    zarrs.copy(f"{url}/a", f"{url}/b", storage_options=options, target_storage_options=options,
               chunks=(30, 5), verify=True)  # fmt: skip
    for name in "ab":
        store = services.tidy(FsspecStore.from_url(f"{url}/{name}", storage_options=options))
        assert_same(theirs(store)[...], DATA)


def test_only_what_is_stored_is_asked_for() -> None:
    """Of a store that can be listed."""
    store = AsyncOnly()
    array = zarr.create_array(store, shape=(1000,), chunks=(10,), dtype="i4")
    array[500:510] = 1
    asked: list[str] = []
    get = store.get

    async def watched(key: str, *args: Any, **kw: Any) -> Any:
        asked.append(key)
        return await get(key, *args, **kw)

    store.get = watched  # type: ignore[method-assign]
    ways: Any = ({}, {"chunks": 10, "compressors": None})
    for wishes in ways:
        target = MemoryStore()
        zarrs.copy(array, target, memory="4KiB", **wishes)
        assert [key for key in target._store_dict if key != "zarr.json"] == ["c/50"]
    assert len({key for key in asked if key != "zarr.json"}) <= 20


def test_any_pipeline(tmp_path: Path) -> None:
    """An array that was opened with zarr's own is read with this one all the same."""
    fill(LocalStore(tmp_path / "a"))
    with stock():
        array = zarr.open_array(tmp_path / "a", mode="r")
        zarrs.copy(array, tmp_path / "b", chunks=(5, 5), verify=True)
        zarrs.copy(str(tmp_path / "a"), tmp_path / "c", chunks=(5, 5), verify=True)
    assert stored_files(tmp_path / "b") == stored_files(tmp_path / "c")
    assert np.array_equal(array[...], DATA, equal_nan=True)
