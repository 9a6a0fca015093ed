"""xarray's datasets in zarr, read and written through the pipeline."""

import itertools
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from clusters import LIMIT, STORES, result
from helpers import stock
from xarray_data import dataset, encoding

import zarrs

# xarray and zarr mean what they say, but here it is no news.
pytestmark = [
    pytest.mark.usefixtures("native", "alarm"),
    pytest.mark.filterwarnings(
        "ignore:Consolidated metadata is currently not part in the Zarr format 3 specification"
    ),
]


ZARR_FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])
CONSOLIDATED = pytest.mark.parametrize("consolidated", [True, False])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often our pipeline was asked to read and to write, in this process."""
    counter: Counter[str] = Counter()

    def count(name: str) -> None:
        original = vars(zarrs.ZarrsCodecPipeline)[name]

        def counted(self: Any, *args: Any, **kw: Any) -> Any:
            counter[name] += 1
            return original(self, *args, **kw)

        monkeypatch.setattr(zarrs.ZarrsCodecPipeline, name, counted)

    count("read")
    count("write")
    return counter


def load(store: Any, **kw: Any) -> Any:
    """All of a dataset, in memory."""
    with xr.open_zarr(store, **({"chunks": None} | kw)) as opened:
        return opened.load()


def stock_load(store: Any, **kw: Any) -> Any:
    """As `load`, with zarr's default pipeline."""
    with stock():
        return load(store, **kw)


@CONSOLIDATED
@ZARR_FORMATS
@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_xarray_round_trip(
    calls: Counter[str],
    tmp_path: Path,
    kind: str,
    chunked: bool,
    zarr_format: int,
    consolidated: bool,
) -> None:
    """What one pipeline writes the other reads, and both are the dataset."""
    data = dataset()
    source = data.chunk({"time": 4, "y": 10, "x": 14}) if chunked else data
    how: dict[str, Any] = {"zarr_format": zarr_format, "consolidated": consolidated}
    codes = encoding(zarr_format)
    store = STORES[kind](tmp_path / "ours")
    # `packed` is written in other chunks than dask's, which xarray would rather not
    source.to_zarr(store, encoding=codes, safe_chunks=False, **how)
    assert calls["write"] >= 6
    read_before = calls["read"]
    mine = load(store, **how)
    assert calls["read"] > read_before
    theirs = stock_load(store, **how)
    for got in (mine, theirs):
        np.testing.assert_allclose(got.packed, data.packed, atol=0.051)
        xr.testing.assert_identical(got.drop_vars("packed"), data.drop_vars("packed"))
    xr.testing.assert_identical(mine.packed, theirs.packed)
    group: Any = zarr.open_group(store, mode="r")
    assert group.metadata.zarr_format == zarr_format
    assert group["time"].dtype.kind == "i"
    assert group["t"].chunks == codes["t"]["chunks"]
    if zarr_format == 3:
        assert group["t"].shards == codes["t"]["shards"]

    other = STORES[kind](tmp_path / "theirs")
    with stock():
        data.to_zarr(other, encoding=codes, **how)
    xr.testing.assert_identical(load(other, **how), mine)
    lazy = xr.open_zarr(other, chunks={}, **how).chunk({"time": 3, "x": 5})
    xr.testing.assert_identical(lazy.isel(time=slice(1, 9, 2), x=[7, 1]).load(),
                                mine.isel(time=slice(1, 9, 2), x=[7, 1]))  # fmt: skip
    lazy.close()


@ZARR_FORMATS
@pytest.mark.parametrize("kind", STORES)
def test_xarray_defaults(calls: Counter[str], tmp_path: Path, kind: str, zarr_format: int) -> None:
    """As xarray encodes it when nobody says how."""
    data, store = dataset(), STORES[kind](tmp_path)
    data.to_zarr(store, zarr_format=zarr_format, consolidated=False)
    how = {"zarr_format": zarr_format, "consolidated": False}
    xr.testing.assert_identical(load(store, **how), data)
    xr.testing.assert_identical(stock_load(store, **how), data)
    assert calls["read"] > 0
    assert calls["write"] > 0


@ZARR_FORMATS
@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
def test_xarray_append(tmp_path: Path, zarr_format: int, chunked: bool) -> None:
    """Steps that end within chunks and shards: the last one of them is completed."""
    data = dataset(22)
    how = {"zarr_format": zarr_format, "consolidated": False}
    steps = [0, 3, 4, 9, 17, 22]
    for start, stop in itertools.pairwise(steps):
        part = data.isel(time=slice(start, stop))
        if chunked:
            # dask's threads meet in one chunk or shard
            part, how = part.chunk({"time": 1, "x": 5}), {**how, "safe_chunks": False}
        if start:
            part = part.drop_vars([n for n, v in part.variables.items() if "time" not in v.dims])
            part.to_zarr(str(tmp_path), append_dim="time", **how)
        else:
            # of the first times alone xarray would choose days as the unit
            units = {"units": "hours since 2001-01-01", "dtype": "int64"}
            stamp = {"units": "nanoseconds since 1970-01-01", "dtype": "int64"}
            codes = encoding(zarr_format) | {"time": units, "stamp": stamp}
            part.to_zarr(str(tmp_path), encoding=codes, **how)
    kept = {"zarr_format": zarr_format, "consolidated": False}
    mine, theirs = load(str(tmp_path), **kept), stock_load(str(tmp_path), **kept)
    xr.testing.assert_identical(mine, theirs)
    xr.testing.assert_identical(mine.drop_vars("packed"), data.drop_vars("packed"))


@ZARR_FORMATS
@pytest.mark.parametrize("chunked", [False, True], ids=["numpy", "dask"])
def test_xarray_regions(tmp_path: Path, zarr_format: int, chunked: bool) -> None:
    """A template first, then regions of it from many threads, which share chunks and shards."""
    data = dataset(24)[["t", "n"]].drop_vars(["area"])
    how = {"zarr_format": zarr_format, "consolidated": False}
    codes = {name: e for name, e in encoding(zarr_format).items() if name in data}
    template = xr.zeros_like(data.chunk({"time": 4}))
    template.to_zarr(str(tmp_path), compute=False, encoding=codes, **how)
    rest = data.drop_vars(["y", "x"])

    def write(start: int) -> None:
        rows = slice(start, start + 3)
        part = rest.isel(time=rows)
        if chunked:
            part = part.chunk({"time": 2, "x": 5})
        # dask's own threads, and those of the pool below, each a region
        part.to_zarr(str(tmp_path), region={"time": rows}, safe_chunks=False, **how)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(write, i) for i in range(0, 24, 3)]:
            done.result(timeout=LIMIT)
    xr.testing.assert_identical(load(str(tmp_path), **how), data)
    xr.testing.assert_identical(stock_load(str(tmp_path), **how), data)


@ZARR_FORMATS
def test_xarray_strings(tmp_path: Path, zarr_format: int) -> None:
    """Strings are zarr's affair, in a dataset whose other arrays are native."""
    data = dataset().assign_coords(label=("x", [f"item {'x' * i}" for i in range(14)]))
    how = {"zarr_format": zarr_format, "consolidated": False}
    with zarr.config.set({"codec_pipeline.strict": False}):
        data.to_zarr(str(tmp_path), **how)
        xr.testing.assert_identical(load(str(tmp_path), **how), data)
    xr.testing.assert_identical(stock_load(str(tmp_path), **how), data)


@ZARR_FORMATS
def test_xarray_on_a_cluster(client: Any, tmp_path: Path, zarr_format: int) -> None:
    """Written and read by workers; what xarray wraps around arrays is pickled with them."""
    data = dataset()
    lazy = data.chunk({"time": 4})
    codes = {name: e for name, e in encoding(zarr_format).items() if name != "packed"}
    codes["n"] = {**codes["n"], "chunks": (4, 14)}
    how: dict[str, Any] = {"zarr_format": zarr_format, "consolidated": False}
    result(client, lazy.to_zarr(str(tmp_path), encoding=codes, compute=False, **how))
    with xr.open_zarr(str(tmp_path), chunks={"time": 8}, **how) as opened:
        found = result(client, opened)
        total = result(client, opened.n.sum())
    xr.testing.assert_identical(found, data)
    assert int(total) == int(data.n.sum())
    xr.testing.assert_identical(stock_load(str(tmp_path), **how), data)
