"""Options in zarr.config that neither zarr nor zarrs knows: one warning, with what was meant."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import zarr
from helpers import PIPELINE, emit, ours_open, run_child, stock

import zarrs
from zarrs import _unknown_options

# What people write, and what they mean.
MISSPELT = {
    "codec_pipeline.stict": "codec_pipeline.strict",
    "codec_pipeline.Strict": "codec_pipeline.strict",
    "codec_pipeline.validate_checksum": "codec_pipeline.validate_checksums",
    "codec_pipeline.validate-checksum": "codec_pipeline.validate_checksums",
    "codec_pipeline.chunk_concurrency_maximum": "codec_pipeline.chunk_concurrent_maximum",
    "codec_pipeline.file_cache_size": "codec_pipeline.file_handle_cache_size",
    "codec_pipeline.write_empty_chunks": "array.write_empty_chunks",
    "threading.max_worker": "threading.max_workers",
    "threading.maxworkers": "threading.max_workers",
    "array.write_empty_chunk": "array.write_empty_chunks",
    "async.concurency": "async.concurrency",
    # sections
    "codec_pipline.strict": "codec_pipeline.strict",
    "codecpipeline.strikt": "codec_pipeline.strict",
    "pipeline.strict": "codec_pipeline.strict",
    "threads.max_workers": "threading.max_workers",
    "arrays.write_empty_chunks": "array.write_empty_chunks",
    # one underscore in the environment
    "codec_pipeline_strict": "codec_pipeline.strict",
    "threading_max_workers": "threading.max_workers",
    "codec_pipeline_validate_checksum": "codec_pipeline.validate_checksums",
}

# All options of the Rust package with the same name.
RUST = ("validate_checksums", "chunk_concurrent_minimum", "chunk_concurrent_maximum", "direct_io",
        "strict", "store_empty_chunks")  # fmt: skip


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been warned of yet."""
    nothing: dict[str, set[Any]] = {section: set() for section in _unknown_options._examined}
    monkeypatch.setattr(_unknown_options, "_examined", nothing)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """An array of somebody else's."""
    with stock():
        zarr.create_array(tmp_path, shape=(4,), chunks=(2,), dtype="<i4")
    return str(tmp_path)


@pytest.mark.parametrize("name", MISSPELT)
def test_misspelt_options(path: str, name: str) -> None:
    """One warning, however many arrays; it names the option, and what was meant."""
    meant = MISSPELT[name]
    with zarr.config.set({name: 1}):
        with pytest.warns(UserWarning, match=rf"'{name}' has no effect") as caught:
            array = ours_open(path)
        assert len(caught) == 1
        assert f"did you mean {meant!r}" in str(caught[0].message)
        variable = "ZARR_" + meant.upper().replace(".", "__")
        assert f"(in the environment {variable})?" in str(caught[0].message)
        ours_open(path)
        pickle.loads(pickle.dumps(array))
    with zarr.config.set({name: 2}):
        ours_open(path)


def test_options_that_are_like_no_other(path: str) -> None:
    with (
        zarr.config.set({"codec_pipeline.turbo": True}),
        pytest.warns(UserWarning, match=r"'codec_pipeline\.turbo' has no effect.*knows it$"),
    ):
        ours_open(path)


def test_every_misspelt_option_has_its_warning(path: str) -> None:
    """Also those that come later, in sections that are there already or not."""
    with zarr.config.set({"codec_pipeline.stict": 1, "codec_pipline.fsyn": 1}):
        with pytest.warns(UserWarning, match="has no effect") as caught:
            ours_open(path)
        assert len(caught) == 2
        with zarr.config.set({"codec_pipeline.stricd": 1, "codec_pipline.strict": 1, "foo.a": 1}):
            with pytest.warns(UserWarning, match="has no effect") as caught:
                ours_open(path)
            assert sorted(str(one.message).split("'")[1] for one in caught) == [
                "codec_pipeline.stricd",
                "codec_pipline.strict",
            ]


@pytest.mark.parametrize(
    "options",
    [
        {f"codec_pipeline.{name}": None for name in RUST},
        {"codec_pipeline": {"path": PIPELINE, "strict": True, "batch_size": 1}},
        {"codec_pipeline.direct-io": False, "codec_pipeline.store-empty-chunks": True},
        {name: None for name in zarrs.show_config("dicts")["options"] if name.count("max_w")},
        {"codecs.own": "own.Codec", "codecs.strict": "own.Strict"},
        # Of other packages, and what the environment has under names that begin with ZARR_.
        {"icechunk.concurrency": 3, "own.strict": True, "data_dir": "x", "store": 1, "config": "y"},
    ],
    ids=["rust", "section", "hyphens", "zarr", "codecs", "others"],
)
def test_known_options_are_silent(path: str, options: dict[str, Any]) -> None:
    with zarr.config.set({"codec_pipeline.path": PIPELINE} | options):
        ours_open(path)


def test_defaults_of_other_packages_are_known(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who extends zarr's configuration reads it, too."""
    monkeypatch.setattr(
        zarr.config, "defaults", [*zarr.config.defaults, {"codec_pipeline": {"turbo": 1}}]
    )
    with zarr.config.set({"codec_pipeline.turbo": True}):
        ours_open(path)


def test_other_pipelines_say_nothing(path: str) -> None:
    with stock(), zarr.config.set({"codec_pipeline.stict": 1}):
        zarr.open_array(path)
        zarrs.show_config("dicts")


def test_an_error_stays_an_error(path: str) -> None:
    """Where warnings are errors, the second opening is no better than the first."""
    with zarr.config.set({"codec_pipeline.stict": 1}):
        for _ in range(2):
            with pytest.raises(UserWarning, match="stict"):
                ours_open(path)
    ours_open(path)


@pytest.mark.parametrize("name", ["array.some_day_this_is_an_option", "async.some_day_too"])
def test_options_of_a_newer_zarr(path: str, name: str) -> None:
    """Programs set them for every version of zarr; these sections are not zarrs'."""
    with zarr.config.set({name: True}):
        ours_open(path)


def test_names_are_examined_once(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays are opened by the thousand."""
    with zarr.config.set({"codec_pipeline.stict": 1, "own": {"a": 1}}):
        with pytest.warns(UserWarning, match="stict"):
            ours_open(path)
        monkeypatch.delattr(_unknown_options, "_examine")
        ours_open(path)
    ours_open(path)
    with zarr.config.set({"codec_pipeline.stricd": 1}), pytest.raises(NameError):
        ours_open(path)


@pytest.mark.parametrize("key", [1, None, ("a",), ""])
def test_keys_that_are_no_names(path: str, key: Any) -> None:
    """YAML may have them."""
    section = {"path": PIPELINE, "batch_size": 1, key: 1}
    with (
        zarr.config.set({"codec_pipeline": section, "threading": None}),
        pytest.warns(UserWarning, match="has no effect"),
    ):
        ours_open(path)


def child_environment_names(path: str) -> None:
    """Emit what opening an array three times warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            ours_open(path)
    emit([str(one.message).split("'")[1::2] for one in caught])


def test_misspelt_environment(path: str) -> None:
    """With one underscore, and with a slip."""
    environment = {
        "ZARR_CODEC_PIPELINE__STICT": "True",
        "ZARR_CODEC_PIPELINE_FSYNC": "True",
        "ZARR_CODEC_PIPELINE__DIRECT_IO": "False",
        "ZARR_SOMETHING": "else",
    }
    (found,) = run_child(child_environment_names, path, env=environment).check()
    assert sorted(found) == [
        ["codec_pipeline.stict", "codec_pipeline.strict"],
        ["codec_pipeline_fsync", "codec_pipeline.fsync"],
    ]
