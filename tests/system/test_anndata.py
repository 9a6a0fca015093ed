"""anndata writes and reads with this pipeline, and takes it by itself from version 0.13 on.

While it does, it silences the warnings of pipelines that do not support something. Of this one
there must be none.
"""

import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from helpers import PIPELINE, STOCK
from packaging.version import Version

import zarrs

CHOOSES_BY_ITSELF = Version(version("anndata")) >= Version("0.13")  # it needs Python 3.12

# anndata's and pandas' own, of what they deprecate; ours are asserted to be none.
pytestmark = pytest.mark.filterwarnings("ignore")


def make_data() -> anndata.AnnData:
    rng = np.random.default_rng(0)
    kinds = pd.Categorical(rng.choice(["lymphocyte", "neuron", "other"], 300))
    positions: Any = {"position": rng.random((300, 2))}  # anndata's annotation has no arrays
    return anndata.AnnData(
        scipy.sparse.random(300, 80, 0.1, format="csr", random_state=0),
        obs=pd.DataFrame({"kind": kinds, "age": rng.random(300)}, index=[*map(str, range(300))]),
        layers={
            "dense": rng.random((300, 80), dtype=np.float32),
            "columns": scipy.sparse.random(300, 80, 0.1, format="csc", random_state=1),
        },
        obsm=positions,
        uns={"names": np.array(["ä", "bc"], dtype=object), "text": "Ωmega", "n": 7},
    )


def assert_equal(a: anndata.AnnData, b: anndata.AnnData) -> None:
    pd.testing.assert_frame_equal(a.obs, b.obs)
    pd.testing.assert_frame_equal(a.var, b.var)
    ours: Any = a.layers
    theirs: Any = b.layers  # which only their own package can iterate over, by its annotations
    pairs: list[Any] = [(a.X, b.X), *((ours[name], theirs[name]) for name in theirs)]
    for x, y in pairs:
        assert type(x) is type(y)
        assert (x != y).sum() == 0
    np.testing.assert_array_equal(a.obsm["position"], b.obsm["position"])
    assert a.uns["names"].tolist() == b.uns["names"].tolist()
    assert {**a.uns, "names": 0} == {**b.uns, "names": 0}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("path", [STOCK, PIPELINE])
def test_anndata(
    tmp_path: Path, path: str, zarr_format: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    warned = []
    for name in ("read", "write"):
        method = getattr(zarrs.ZarrsCodecPipeline, name)

        def call(*args: Any, name: str = name, method: Any = method, **keywords: Any) -> Any:
            calls.append(name)
            return method(*args, **keywords)

        monkeypatch.setattr(zarrs.ZarrsCodecPipeline, name, call)
    warn = warnings.warn

    def record(message: Any, *args: Any, **kwargs: Any) -> None:
        warned.append(str(message))
        warn(message, *args, **kwargs)

    monkeypatch.setattr(warnings, "warn", record)
    data = make_data()
    settings = anndata.settings.override(zarr_write_format=zarr_format)
    with settings, zarr.config.set({"codec_pipeline.path": path, "codec_pipeline.strict": True}):
        data.write_zarr(tmp_path / "data")
        back = anndata.read_zarr(tmp_path / "data")
    assert_equal(back, data)
    chosen = path == PIPELINE or CHOOSES_BY_ITSELF
    assert set(calls) == ({"read", "write"} if chosen else set())
    assert not [message for message in warned if "zarrs" in message.lower()]
