"""What `explain` says of arrays, of groups, and of what is neither; the options it lists."""

import json
import re
from pathlib import Path
from typing import Any, Literal

import dask.array
import numcodecs
import numpy as np
import pytest
import xarray
import zarr
from helpers import CHAIN, PIPELINE, STOCK, ZARR_34, create, ours_open, stock
from own_codecs import MyZstd
from zarr.codecs import ZstdCodec

import zarrs
from zarrs.runtime._cpus import available_cpus

OTHERS = [STOCK, *(["zarr.core.codec_pipeline.FusedCodecPipeline"] if ZARR_34 else [])]
SWITCH_ON = f'zarr.config.set({{"codec_pipeline.path": "{PIPELINE}"}})'


class OwnZlib(numcodecs.Zlib):  # type: ignore[misc]  # numcodecs has no annotations
    """May encode as it likes."""

    codec_id = "own_zlib"


numcodecs.register_codec(OwnZlib)


class OwnPipeline(zarrs.ZarrsCodecPipeline):
    """May read as it likes."""


def small_array(store: Any, **kw: Any) -> zarr.Array[Any]:
    return zarr.create_array(store, **{"shape": (4,), "chunks": (2,), "dtype": "<i4"} | kw)


def first_line(explanation: Any) -> str:
    return str(explanation).splitlines()[0]


# ----------------------------------------------------------------------------- other pipelines


def test_our_pipeline_comes_first(tmp_path: Path) -> None:
    array = create(tmp_path, CHAIN["zstd"], (4,), (2,), "<i4")
    for form in (array, array.async_array):
        explanation = zarrs.explain(form)
        assert explanation.native
        assert first_line(explanation) == f"pipeline {PIPELINE}: native"
        assert explanation.pipeline == zarrs.Part(PIPELINE, native=True)
        pipeline: Any = array.async_array.codec_pipeline
        assert explanation.options is pipeline.options
        assert repr(explanation) == str(explanation)


@pytest.mark.parametrize("codecs", [[], [ZstdCodec()], [MyZstd()]], ids=str)
@pytest.mark.parametrize("other", OTHERS)
def test_other_pipelines_are_not_native(tmp_path: Path, other: str, codecs: list[Any]) -> None:
    """It says what to do, in words that work, and what the stages would be then."""
    ours = zarrs.explain(small_array(tmp_path, compressors=codecs))
    with zarr.config.set({"codec_pipeline.path": other}):
        array = zarr.open_array(tmp_path)
        explanation = zarrs.explain(array)
        assert (explanation.native, explanation.hybrid) == (False, False)
        assert explanation.stages == ours.stages
        assert explanation.store == ours.store
        assert explanation.options is None
        assert first_line(explanation).startswith(f"pipeline {other}: not zarrs; run ")
        assert SWITCH_ON in first_line(explanation)
        for line in str(ours).splitlines()[1:-1]:
            assert f"  {line}\n" in f"{explanation}\n"
        statement = re.search(r"zarr\.config\.set\(.*?\)", str(explanation))
        assert statement is not None
        with eval(statement.group(), {"zarr": zarr}):
            assert str(zarrs.explain(zarr.open_array(tmp_path))) == str(ours)
            # Opened too early: nothing is to be set.
            assert SWITCH_ON not in str(zarrs.explain(array))
            assert "open it again" in first_line(zarrs.explain(array))


def test_other_pipelines_whatever_the_options(tmp_path: Path) -> None:
    """Nonsense is an error of those who open arrays with zarrs."""
    small_array(tmp_path)
    with stock(), zarr.config.set({"codec_pipeline.strict": "perhaps"}):
        assert not zarrs.explain(zarr.open_array(tmp_path)).native


def test_subclasses_of_our_pipeline(tmp_path: Path) -> None:
    """They are ours by default, and have a name of their own."""
    zarr.registry.register_pipeline(OwnPipeline)
    name = f"{OwnPipeline.__module__}.{OwnPipeline.__qualname__}"
    with zarr.config.set({"codec_pipeline.path": name, "codec_pipeline.strict": True}):
        explanation = zarrs.explain(small_array(tmp_path))
    assert explanation.native
    assert first_line(explanation) == f"pipeline {name}: native, a subclass of {PIPELINE}"
    assert explanation.options is not None
    assert explanation.options.strict


# --------------------------------------------------------------------------------------- groups


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups(tmp_path: Path, zarr_format: Literal[2, 3]) -> None:
    """Every array at every depth under its path, as if it were explained alone."""
    group = zarr.open_group(tmp_path, mode="w", zarr_format=zarr_format)
    paths = ["b", "a/x", "a/deep/down/y", "a-b"]
    for path in paths:
        group.create_array(path, shape=(4,), chunks=(2,), dtype="<i4")
    group.create_group("empty")
    for form in (group, group._async_group, zarr.open_group(tmp_path, mode="r")):
        explanation = zarrs.explain(form)
        assert isinstance(explanation, zarrs.GroupExplanation)
        assert list(explanation.arrays) == sorted(paths)
        assert explanation.native
        text = "\n".join(
            "\n  ".join([path, *str(zarrs.explain(group[path])).splitlines()])
            for path in sorted(paths)
        )
        assert str(explanation) == repr(explanation) == text
    part = zarrs.explain(group["a"])
    assert isinstance(part, zarrs.GroupExplanation)
    assert list(part.arrays) == ["deep/down/y", "x"]
    codec = MyZstd() if zarr_format == 3 else OwnZlib(1)
    group.create_array("a/odd", shape=(4,), chunks=(2,), dtype="<i4", compressors=codec)
    explanation = zarrs.explain(group)
    assert not explanation.native
    assert [path for path, one in explanation.arrays.items() if not one.native] == ["a/odd"]


def test_groups_without_arrays(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path, mode="w")
    group.create_group("a/b")
    assert zarrs.explain(group).arrays == {}
    assert str(zarrs.explain(group)) == "no arrays"


def test_groups_are_opened_with_the_pipeline_of_now(tmp_path: Path) -> None:
    """As ``group[path]`` would be."""
    group = zarr.open_group(tmp_path, mode="w")
    group.create_array("a", shape=(4,), chunks=(2,), dtype="<i4")
    with stock():
        assert not zarrs.explain(group).native
        assert SWITCH_ON in str(zarrs.explain(group))
    assert zarrs.explain(group).native


# ----------------------------------------------------------------------------- what is no array


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (np.arange(3), "numpy.ndarray"),
        (dask.array.arange(3), "dask.array.core.Array"),
        (xarray.DataArray([1]), "xarray.core.dataarray.DataArray"),
        (xarray.Dataset(), "xarray.core.dataset.Dataset"),
        ("data.zarr", "str"),
        (None, "NoneType"),
        (zarr.storage.MemoryStore(), "zarr.storage._memory.MemoryStore"),
        (zarr.Array, "type"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_is_no_array_is_a_type_error(thing: Any, name: str) -> None:
    """It names what was passed, what is expected, and where to get that."""
    with pytest.raises(TypeError, match=rf"zarr\.Array .*zarr\.Group, not {re.escape(name)}:") as e:
        zarrs.explain(thing)
    assert "zarr.open(" in str(e.value)


# -------------------------------------------------------------------------------------- options

CHANGED: dict[str, Any] = {
    "codec_pipeline.chunk_concurrent_maximum": 1000,
    "codec_pipeline.chunk_concurrent_minimum": 1,
    "codec_pipeline.validate_checksums": False,
    "codec_pipeline.store_empty_chunks": True,
    "codec_pipeline.strict": True,
    "codec_pipeline.direct_io": True,
    "codec_pipeline.fsync": True,
    "codec_pipeline.file_handle_cache_size": 3,
}


@pytest.mark.parametrize("name", CHANGED)
def test_explain_lists_changed_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The number of threads, and what is not as by default: of the array, not of now."""
    monkeypatch.setattr("zarrs._config.available_cpus", lambda: 8)
    plain = small_array(tmp_path)
    with zarr.config.set({name: CHANGED[name], "threading.max_workers": 6}):
        array = ours_open(tmp_path)
        assert (
            str(zarrs.explain(plain)).splitlines()[-1]
            == "options: threading.max_workers=8; all others as by default"
        )
    assert str(zarrs.explain(array)).splitlines()[-1] == (
        f"options: threading.max_workers=6, {name}={CHANGED[name]}; all others as by default"
    )


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_bounds_that_follow_from_others_are_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    monkeypatch.setattr("zarrs._config.available_cpus", lambda: 8)
    with zarr.config.set({"threading.max_workers": threads}):
        text = str(zarrs.explain(small_array(tmp_path)))
    assert text.endswith(f"\noptions: threading.max_workers={threads}; all others as by default")


def test_show_config_lists_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    """As of now, under the names that one sets them by."""
    found = zarrs.show_config("dicts")["options"]
    assert found["codec_pipeline.path"] == PIPELINE
    assert found["threading.max_workers"] == available_cpus()
    assert found["async.concurrency"] == 10
    assert set(CHANGED) < set(found)
    settings = {**CHANGED, "threading.max_workers": 1, "async.concurrency": 3}
    with zarr.config.set(settings):
        assert zarrs.show_config("dicts")["options"] == {**found, **settings}
        zarrs.show_config()
    printed = capsys.readouterr().out
    assert "\n  codec_pipeline.file_handle_cache_size: 3\n" in printed
    assert "\n  codec_pipeline.strict: yes\n" in printed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("codec_pipeline.strict", "perhaps"),
        ("codec_pipeline.chunk_concurrent_maximum", {"a": object()}),
        ("threading.max_workers", 0),
        ("async.concurrency", -1),
    ],
)
def test_show_config_tells_of_nonsense(
    capsys: pytest.CaptureFixture[str], name: str, value: Any
) -> None:
    """It is for bug reports: it does not raise, and says what is wrong."""
    with zarr.config.set({name: value, "codec_pipeline.fsync": True}):
        options = zarrs.show_config("dicts")["options"]
        zarrs.show_config()
    printed = capsys.readouterr().out
    error = options["async.concurrency" if name == "async.concurrency" else "error"]
    assert repr(name) in error
    assert "integer" in error or "True or False" in error
    assert error in printed
    assert options["codec_pipeline.fsync"] is True
    json.dumps(options)
