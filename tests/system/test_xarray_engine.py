"""xarray's datasets through the engine "zarrs"; xarray's own engine "zarr" is the referee."""

import asyncio
import importlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, NoReturn

import fsspec
import numpy as np
import pytest
import xarray as xr
import zarr
from clusters import result
from helpers import PIPELINE, PYPROJECT, STOCK, child_environment, pretend_installed, stock
from xarray.backends.zarr import ZarrArrayWrapper
from xarray_data import dataset, encoding
from zarr.storage import FsspecStore, LocalStore, LoggingStore, MemoryStore, ZipStore

import zarrs
from zarrs._xarray import ZarrsBackendEntrypoint as Engine

pytestmark = [
    pytest.mark.usefixtures("referee", "alarm"),
    pytest.mark.filterwarnings(
        "ignore:Consolidated metadata is currently not part in the Zarr format 3 specification"
    ),
]

GROUP = "xarray.backends"
ENTRY_POINT = EntryPoint("zarrs", PYPROJECT["project"]["entry-points"][GROUP]["zarrs"], GROUP)
LAZY = {"t", "n", "packed", "mask", "stamp", "scalar"}  # not what xarray has in memory as an index


@pytest.fixture
def referee(native: None) -> Iterator[None]:
    """Configure zarr for its own pipeline, which the engine does not care for."""
    with stock():
        yield


def write(store: Any, zarr_format: int) -> None:
    """Write datasets as a tree, with strings at its root and consolidated metadata."""
    words = [f"item {'x' * i}" for i in range(14)]
    root = dataset().assign_coords(
        label=("x", np.array(words, object)),
        fixed=("x", np.array(words)),
        raw=("x", np.array(words, "S")),
    )
    groups = {None: root, "inner": dataset(seed=1), "inner/most": dataset(seed=2)}
    for group, data in groups.items():
        data.to_zarr(store, group=group, mode="a", consolidated=False, zarr_format=zarr_format,
                     encoding=encoding(zarr_format))  # fmt: skip
    zarr.consolidate_metadata(store)


@pytest.fixture(scope="module", params=[2, 3], ids=["v2", "v3"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a tree of datasets."""
    path = str(tmp_path_factory.mktemp("stored") / "tree.zarr")
    write(path, request.param)
    return path


@pytest.fixture
def no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks a pipeline, and so needs zarr's event loop, fails."""

    def read(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("the pipeline was asked")

    monkeypatch.setattr(zarrs.ZarrsCodecPipeline, "read", read)


def arrays_below(data: Any) -> dict[str, zarr.Array[Any]]:
    """Return the zarr arrays of those variables of a dataset that are lazy."""
    found = {}
    for name, variable in data.variables.items():
        layer = variable._data
        while hasattr(layer, "array"):
            layer = layer.array
        if isinstance(layer, ZarrArrayWrapper):
            found[name] = layer.get_array()
    return found


def check_ours(data: Any) -> None:
    """No variable has an array of zarr's own."""
    arrays = arrays_below(data)
    assert arrays.keys() >= LAZY
    assert {type(array) for array in arrays.values()} == {zarrs.Array}


def check_same(mine: Any, theirs: Any) -> None:
    """Two datasets are the same, also in what their variables are made of."""
    assert mine.encoding == theirs.encoding
    assert mine.variables.keys() == theirs.variables.keys()
    for name, expected in theirs.variables.items():
        found = mine.variables[name]
        assert found.dtype == expected.dtype, name
        assert found.chunks == expected.chunks, name
        assert type(found._data) is type(expected._data), name
        assert repr(found.encoding) == repr(expected.encoding), name  # NaN is not equal to itself
    xr.testing.assert_identical(mine, theirs)


def check_dataset(place: Any, **options: Any) -> None:
    """Open a dataset with both engines."""
    with (
        xr.open_dataset(place, engine=Engine, **options) as mine,
        xr.open_dataset(place, engine="zarr", **options) as theirs,
    ):
        check_ours(mine)
        check_same(mine, theirs)


@pytest.mark.parametrize("consolidated", [None, True, False])
@pytest.mark.parametrize("group", [None, "inner", "/inner/most"])
def test_dataset(stored: str, consolidated: bool | None, group: str | None) -> None:
    check_dataset(stored, group=group, consolidated=consolidated)


@pytest.mark.parametrize("options", [
    {"decode_cf": False},
    {"mask_and_scale": False, "use_zarr_fill_value_as_mask": True},
    {"decode_times": False, "drop_variables": ["area"]},
    {"decode_coords": "all", "create_default_indexes": False},
    {"mode": "r+", "cache": False, "cache_members": False},
], ids=lambda options: next(iter(options)))  # fmt: skip
def test_options(stored: str, options: dict[str, Any]) -> None:
    check_dataset(stored, **options)


@pytest.mark.parametrize("consolidated", [None, True, False])
@pytest.mark.parametrize("group", [None, "/", "inner", "/inner/most"])
def test_tree(stored: str, consolidated: bool | None, group: str | None) -> None:
    options: dict[str, Any] = {"group": group, "consolidated": consolidated}
    with (
        xr.open_datatree(stored, engine=Engine, **options) as mine,
        xr.open_datatree(stored, engine="zarr", **options) as theirs,
    ):
        assert mine.groups == theirs.groups
        for path in theirs.groups:
            check_ours(mine[path])
            check_same(mine[path].to_dataset(), theirs[path].to_dataset())


@pytest.mark.parametrize("group", [None, "/", "inner"])
def test_groups(stored: str, group: str | None) -> None:
    mine = xr.open_groups(stored, engine=Engine, group=group)
    theirs = xr.open_groups(stored, engine="zarr", group=group)
    assert list(mine) == list(theirs)
    for name, data in theirs.items():
        check_same(mine[name], data)


# ------------------------------------------------------------------------------------- stores


def test_paths(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(stored)
    monkeypatch.chdir(path.parent)
    for place in (path, path.name, f"{path}/"):
        check_dataset(place)
    check_dataset(
        f"simplecache::file://{path}", storage_options={"file": {"skip_instance_cache": True}}
    )


STORES: dict[str, Callable[[str], Any]] = {
    "local": lambda path: LocalStore(path),
    "logging": lambda path: LoggingStore(LocalStore(path), log_level="ERROR"),
    "fsspec": lambda path: FsspecStore.from_url(f"file://{path}"),
    "mapper": lambda path: fsspec.get_mapper(f"file://{path}"),
}


@pytest.mark.parametrize("kind", STORES)
def test_stores(stored: str, kind: str) -> None:
    check_dataset(STORES[kind](stored))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_memory(zarr_format: int, no_pipeline: None) -> None:
    store: Any = MemoryStore()
    write(store, zarr_format)
    with xr.open_dataset(store, engine=Engine, zarr_format=zarr_format) as mine:
        check_ours(mine)
        check_same(mine, xr.open_dataset(store, engine="zarr"))


def test_memory_of_fsspec() -> None:
    url = "memory://test_xarray_engine/tree.zarr"
    try:
        write(url, 3)
        check_dataset(url)
    finally:
        fsspec.filesystem("memory").rm("/test_xarray_engine", recursive=True)


def test_zip(stored: str, tmp_path: Path) -> None:
    with ZipStore(shutil.make_archive(str(tmp_path / "tree"), "zip", stored)) as store:
        check_dataset(store)


# -------------------------------------------------------------------------------------- reads

POINTS = {"x": xr.Variable("p", [0, 13, 5]), "y": xr.Variable("p", [9, 0, 9])}


@pytest.mark.parametrize("selection", [
    {},
    {"time": 3, "x": -1},
    {"time": slice(1, 9, 3), "y": slice(None, None, -1)},
    {"time": [7, 1, 1], "x": [0, 13]},
    {"time": slice(2, 2)},
    {"x": np.arange(14) % 3 == 0, "time": 5},
    POINTS,
    {"time": slice(1, 4), **POINTS},
    {"x": xr.Variable(("p", "q"), [[0, 1], [12, 12]])},
], ids=str)  # fmt: skip
def test_lazy_indexing(stored: str, selection: dict[str, Any], no_pipeline: None) -> None:
    """A selection is read alone, in the calling thread."""
    with xr.open_dataset(stored, engine=Engine) as mine:
        found = mine.isel(selection)
        if selection:
            assert arrays_below(found)
        found.load()
    with xr.open_dataset(stored, engine="zarr") as theirs:
        xr.testing.assert_identical(found, theirs.isel(selection).load())


@pytest.mark.parametrize("path", [STOCK, PIPELINE])
def test_pipeline(stored: str, path: str, no_pipeline: None) -> None:
    """It is ours whatever zarr is configured for, and needed only by `load_async`."""
    with (
        zarr.config.set({"codec_pipeline.path": path}),
        xr.open_dataset(stored, engine=Engine) as mine,
    ):
        arrays = arrays_below(mine).values()
        pipelines = {type(array.async_array.codec_pipeline) for array in arrays}
        assert pipelines == {zarrs.ZarrsCodecPipeline}
        mine.load()


@pytest.mark.parametrize("chunks", [{}, {"time": -1, "y": -1, "x": -1}], ids=str)
def test_dask(stored: str, chunks: dict[str, int], no_pipeline: None) -> None:
    with (
        xr.open_dataset(stored, engine="zarr", chunks=chunks) as theirs,
        xr.open_dataset(stored, engine=Engine, chunks=chunks) as mine,
    ):
        check_same(mine, theirs)
        assert int(mine.n.sum()) == int(theirs.n.sum())


def test_cluster(client: Any, stored: str) -> None:
    with xr.open_dataset(stored, engine=Engine, chunks={}) as mine:
        found = result(client, mine)
    with xr.open_dataset(stored, engine="zarr") as theirs:
        xr.testing.assert_identical(found, theirs.load())


def test_several_files(stored: str) -> None:
    inner = [f"{stored}/inner", f"{stored}/inner/most"]
    options: dict[str, Any] = {"combine": "nested", "concat_dim": "run", "consolidated": False}
    options |= {"data_vars": "all", "coords": "minimal", "compat": "override", "join": "outer"}
    with (
        xr.open_mfdataset(inner, engine=Engine, **options) as mine,
        xr.open_mfdataset(inner, engine="zarr", **options) as theirs,
    ):
        xr.testing.assert_identical(mine.compute(), theirs.compute())


def test_pickle(stored: str) -> None:
    """What is lazy stays so, and ours."""
    with xr.open_dataset(stored, engine=Engine) as mine:
        copy = pickle.loads(pickle.dumps(mine))
        check_ours(copy)
        part = pickle.loads(pickle.dumps(mine.isel(x=[3, 1])))
        assert arrays_below(part)
        xr.testing.assert_identical(part, mine.isel(x=[3, 1]))
        xr.testing.assert_identical(copy, mine)


@pytest.mark.skipif(not hasattr(xr.Dataset, "load_async"), reason="xarray is older")
@pytest.mark.parametrize("selection", [{}, {"x": slice(1, 5)}, {"x": [3, 1]}, POINTS], ids=str)
def test_load_async(stored: str, selection: dict[str, Any]) -> None:
    with xr.open_dataset(stored, engine=Engine) as mine:
        found = asyncio.run(mine.isel(selection).load_async())
    with xr.open_dataset(stored, engine="zarr") as theirs:
        xr.testing.assert_identical(found, theirs.isel(selection).load())


# ------------------------------------------------------------------------------------- errors


def test_cache(stored: str, no_pipeline: None) -> None:
    """All variables of a dataset, and of a tree, share one cache."""
    with xr.open_dataset(stored, engine=Engine, cache_bytes=2**22) as mine:
        caches = {id(array.cache): array.cache for array in arrays_below(mine).values()}  # type: ignore[attr-defined]
        (cache,) = caches.values()
        for _ in range(2):
            with xr.open_dataset(stored, engine="zarr") as theirs:
                check_same(
                    mine.isel(x=slice(1, 9)).copy().load(), theirs.isel(x=slice(1, 9)).load()
                )
    assert cache.hits > 0
    with xr.open_datatree(stored, engine=Engine, cache_bytes=2**22) as tree:
        of_all = [arrays_below(node.dataset).values() for node in tree.subtree]
        caches = {id(array.cache): array.cache for arrays in of_all for array in arrays}  # type: ignore[attr-defined]
        assert len(caches) == 1
        assert None not in caches.values()
    with pytest.raises(ValueError, match="cache_bytes"):
        xr.open_dataset(stored, engine=Engine, cache_bytes=-3)


@pytest.mark.parametrize(("error", "options"), [
    (FileNotFoundError, {"filename_or_obj": "/no/such/place"}),
    (KeyError, {"group": "nowhere"}),
    (TypeError, {"nonsense": 1}),
    (TypeError, {"storage_options": {}, "filename_or_obj": MemoryStore()}),
])  # fmt: skip
def test_errors_are_those_of_the_other_engine(
    stored: str, error: type[Exception], options: dict[str, Any]
) -> None:
    options = {"filename_or_obj": stored, **options}
    with pytest.raises(error) as theirs:
        xr.open_dataset(engine="zarr", **options)
    with pytest.raises(error) as mine:
        xr.open_dataset(engine=Engine, **options)
    assert str(mine.value) == str(theirs.value)


def test_an_xarray_that_lacks_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(xr.backends.common, "_normalize_path")
    monkeypatch.delitem(sys.modules, "zarrs._xarray")
    message = rf"'zarrs' does not know xarray {xr.__version__}: cannot import .*_normalize_path"
    with pytest.raises(ImportError, match=message):
        importlib.import_module("zarrs._xarray")


# ------------------------------------------------------------------------------- registration


def test_entry_point() -> None:
    assert ENTRY_POINT.load() is Engine


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let xarray find the engine, which is not registered where it is built in place."""
    pretend_installed(tmp_path, "zarrs-cython", "0.1.0", ENTRY_POINT.value, GROUP)
    monkeypatch.syspath_prepend(tmp_path)
    xr.backends.refresh_engines()
    yield
    xr.backends.refresh_engines()


def test_named(stored: str, installed: None) -> None:
    assert isinstance(xr.backends.list_engines()["zarrs"], Engine)
    with xr.open_dataset(stored, engine="zarrs", chunks={}) as mine:
        xr.testing.assert_identical(mine, xr.open_dataset(stored, engine="zarr", chunks={}))
    with xr.open_datatree(stored, engine="zarrs") as tree:
        check_ours(tree["inner"])


def test_not_named(stored: str, installed: None) -> None:
    """It takes nothing from the other engine."""
    assert not Engine().guess_can_open(stored)
    with xr.open_dataset(stored) as theirs:
        assert {type(array) for array in arrays_below(theirs).values()} == {zarr.Array}


def test_zarrs_alone_does_not_import_xarray() -> None:
    code = "import sys, zarrs; zarrs.direct; assert 'xarray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], env=child_environment(), check=True)
