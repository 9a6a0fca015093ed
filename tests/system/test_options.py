"""Configuration, strictness and explanations; and the memory that calls take."""

import json
import os
import pickle
import platform
import re
import resource
import signal
import subprocess
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from helpers import (
    CHAIN,
    CHAINS,
    DTYPES,
    ENTRY_POINT,
    PIPELINE,
    ZARR_34,
    Chain,
    assert_same,
    chain_arguments,
    child_environment,
    create,
    dtype_id,
    emit,
    make_data,
    ours_open,
    pretend_installed,
    run_child,
    selections,
    stock_read,
    zarr_has,
)
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import LocalStore

import zarrs

INSTALLED = bool(entry_points(group="zarr.codec_pipeline", name="zarrs"))

# -------------------------------------------------------------------------------- explain


@pytest.mark.parametrize("chain", CHAINS, ids=str)
def test_explain_native(tmp_path: Path, chain: Chain) -> None:
    """Every chain of this package's own, on local files, is native in all its stages."""
    array = create(tmp_path, chain, (7, 5), (4, 4), "<i4")
    explanation = zarrs.explain(array)
    assert explanation.native is True
    assert len(explanation.stages) >= 1
    for part in (*explanation.stages, explanation.store):
        assert part.native is True
        assert part.reason == ""
        assert part.name
        assert part.name in str(explanation)
    if chain.zarr_format == 3:
        names = [stage.name for stage in explanation.stages]
        metadata: Any = array.metadata.to_dict()
        stored = [c["name"] for c in metadata["codecs"]]
        assert [name.split("(")[0] for name in names] == stored
    assert explanation.store.name == "LocalStore"


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_id)
def test_every_fixed_size_type_is_native(tmp_path: Path, dtype: np.dtype) -> None:
    for name in ("raw", "v2-zlib-9"):
        if zarr_has(dtype, CHAIN[name].zarr_format):
            array = create(tmp_path / name, CHAIN[name], (3,), (2,), dtype)
            assert zarrs.explain(array).native, str(zarrs.explain(array))


class OwnZstd(ZstdCodec):
    """May encode as it likes."""


def _array(store: Any, **kw: Any) -> zarr.Array[Any]:
    arguments = {"shape": (8, 6), "chunks": (4, 3), "dtype": "<i4"} | kw
    return zarr.create_array(store=store, **arguments)


def _odd_index(store: Any) -> zarr.Array[Any]:
    # Shards whose index has codecs of its own: zarr's pipeline takes them.
    return _array(
        store,
        chunks=(8, 6),
        compressors=[],
        serializer=ShardingCodec(
            chunk_shape=(4, 3),
            codecs=[BytesCodec(endian="little")],
            index_codecs=[TransposeCodec(order=(1, 0, 2)), BytesCodec(endian="little")],
        ),
    )


def test_what_is_not_native_says_why(tmp_path: Path) -> None:
    """The part at fault has a reason; strict raises it; without strict the data is right."""
    array = _odd_index(tmp_path)
    explanation = zarrs.explain(array)
    assert explanation.native is False
    assert explanation.hybrid is False
    (fault,) = [p for p in (*explanation.stages, explanation.store) if not p.native]
    assert fault.name == "sharding_indexed"
    assert fault.reason
    assert not fault.python
    assert fault.reason in str(explanation)
    data = make_data("<i4", (8, 6)).astype(array.dtype)
    array[...] = data
    assert_same(array[...], data)
    assert_same(array[1:5, 2], data[1:5, 2])
    with zarr.config.set({"codec_pipeline.strict": True}):
        strict = zarr.open_array(array.store)
        with pytest.raises(zarrs.NotNativeError) as reading:
            strict[...]
        with pytest.raises(zarrs.NotNativeError) as writing:
            strict[...] = data
    assert isinstance(reading.value, RuntimeError)
    for doing, caught in ("reading", reading), ("writing", writing):
        where = (
            f"{doing} chunk 'c/0/0' of array 'file://{tmp_path}' is not native: sharding_indexed"
        )
        assert str(caught.value) == (
            f"{where}: {fault.reason}; zarr's own pipeline would do it, but "
            "codec_pipeline.strict is on"
        )
    assert_same(stock_read(tmp_path), data)


def test_snappy_runs_in_python(tmp_path: Path) -> None:
    """Blosc without its snappy: neither here nor in the usual numcodecs, which says so itself."""
    array = create(
        tmp_path, CHAIN["raw"], (4,), (4,), "<i4", compressors=[BloscCodec(cname="snappy")]
    )
    explanation = zarrs.explain(array)
    assert explanation.hybrid
    assert [s.name for s in explanation.stages if not s.native] == ["blosc"]
    assert "snappy" in str(explanation)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "0").write_bytes(b"\2\1\x41\4" + bytes(12))
    with pytest.raises(RuntimeError, match="blosc") as ours:
        ours_open(tmp_path)[...]
    with pytest.raises(RuntimeError) as theirs:
        stock_read(tmp_path)
    assert type(ours.value) is type(theirs.value)


@pytest.mark.parametrize("sharded", [False, True])
def test_explain_of_a_mixture(tmp_path: Path, sharded: bool) -> None:
    """Stages that are native stay so beside one that is not, and strict has no objection."""
    kw = {"shards": (8, 6)} if sharded else {}
    array = _array(tmp_path, compressors=[OwnZstd(), Crc32cCodec()], **kw)
    explanation = zarrs.explain(array)
    assert not explanation.native
    assert explanation.hybrid
    assert [stage.native for stage in explanation.stages][sharded:] == [True, False, True]
    assert [stage.python for stage in explanation.stages][sharded:] == [False, True, False]
    assert "OwnZstd" in str(explanation)
    assert explanation.store.native
    with zarr.config.set({"codec_pipeline.strict": True}):
        strict = _array(tmp_path / "strict", compressors=[OwnZstd(), Crc32cCodec()], **kw)
        strict[...] = data = make_data("<i4", (8, 6))
        assert_same(strict[1:6, ::2], data[1:6, ::2])
    assert_same(stock_read(tmp_path / "strict"), data)


# --------------------------------------------------------------------------------- strict


def test_values_that_are_too_large(native: None, tmp_path: Path) -> None:
    """zarr takes of them what it needs, and so do we."""
    array = _array(tmp_path)
    array[...] = data = make_data("<i4", (8, 6))
    rows: Any = [0, 3]  # zarr's annotations have no lists
    array.oindex[rows, :] = np.full((5, 6), 7, "<i4")
    data[[0, 3]] = 7
    assert_same(stock_read(tmp_path), data)


def test_strict_belongs_to_the_array(tmp_path: Path) -> None:
    """It is read when the pipeline is built, not at each call."""
    array = _odd_index(tmp_path)
    with zarr.config.set({"codec_pipeline.strict": True}):
        strict = ours_open(tmp_path)
        array[...]
    with pytest.raises(zarrs.NotNativeError):
        strict[...]


def test_blocks_are_basic(native: None, tmp_path: Path) -> None:
    array = _array(tmp_path)
    array[...] = data = make_data("<i4", (8, 6))
    assert_same(array.blocks[1, 0], data[4:, :3])


# -------------------------------------------------------------------- options and their checks

NONSENSE: list[tuple[str, Any]] = [
    ("threading.max_workers", -1),
    ("threading.max_workers", "many"),
    ("threading.max_workers", 2.5),
    ("threading.max_workers", [2]),
    ("codec_pipeline.chunk_concurrent_minimum", -1),
    ("codec_pipeline.chunk_concurrent_minimum", "x"),
    ("codec_pipeline.chunk_concurrent_maximum", -3),
    ("codec_pipeline.chunk_concurrent_maximum", {"a": 1}),
    ("codec_pipeline.validate_checksums", "perhaps"),
    ("codec_pipeline.validate_checksums", 7),
    ("codec_pipeline.store_empty_chunks", "perhaps"),
    ("codec_pipeline.strict", "perhaps"),
    ("codec_pipeline.strict", []),
]


@pytest.mark.parametrize(("option", "value"), NONSENSE, ids=lambda x: str(x))
def test_nonsense_is_refused_at_construction(tmp_path: Path, option: str, value: Any) -> None:
    """A ValueError that names the option and the value; arrays that are open go on."""
    with zarr.config.set({"threading.max_workers": 2}):
        array = _array(tmp_path)  # zarr's own thread pool is there from now on
    array[...] = 1
    with zarr.config.set({option: value}):
        with pytest.raises(ValueError, match=re.escape(option)) as caught:
            ours_open(tmp_path)
        assert str(value) in str(caught.value)
        assert (np.asarray(array[...]) == 1).all()
        array[2:5] = 2
    assert (np.asarray(ours_open(tmp_path)[2:5]) == 2).all()


@pytest.mark.parametrize("upper", [1, "2", 7])
def test_bounds_that_cross_are_refused(tmp_path: Path, upper: Any) -> None:
    """The message names both and their values; equal bounds are fine, and one alone too."""
    create(tmp_path, CHAIN["raw"], (4,), (2,), "<i4")
    lower_name = "codec_pipeline.chunk_concurrent_minimum"
    upper_name = "codec_pipeline.chunk_concurrent_maximum"
    with zarr.config.set({lower_name: 8, upper_name: upper}):
        with pytest.raises(ValueError, match=lower_name) as caught:
            ours_open(tmp_path)
        assert upper_name in str(caught.value)
        assert f"8 is above {upper}" in str(caught.value)
    for bounds in ({lower_name: int(upper), upper_name: upper}, {lower_name: 8}):
        with zarr.config.set(bounds):
            assert zarrs.explain(ours_open(tmp_path)).native
    with zarr.config.set({upper_name: upper}):
        options = pipeline_of(ours_open(tmp_path)).options
        assert options.chunk_concurrent_maximum == int(upper)
        assert options.chunk_concurrent_minimum == min(4, int(upper))


SENSE: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one-thread": {"threading.max_workers": 1},
    "two-threads": {"threading.max_workers": 2},
    "many-threads": {"threading.max_workers": 64},
    "chunk-by-chunk": {"codec_pipeline.chunk_concurrent_maximum": 1},
    "minimum-1": {"codec_pipeline.chunk_concurrent_minimum": 1},
    "minimum-large": {"codec_pipeline.chunk_concurrent_minimum": 1000},
    "both": {
        "codec_pipeline.chunk_concurrent_minimum": 2,
        "codec_pipeline.chunk_concurrent_maximum": 8,
        "threading.max_workers": 2,
    },
    "maximum-below-the-default-minimum": {"codec_pipeline.chunk_concurrent_maximum": 2},
    "no-checksums": {"codec_pipeline.validate_checksums": False},
    "nulls": {
        "threading.max_workers": None,
        "codec_pipeline.chunk_concurrent_minimum": None,
        "codec_pipeline.chunk_concurrent_maximum": None,
    },
}


@pytest.mark.parametrize("name", ["raw", "blosc-lz4-shuffle", "zstd", "gzip", "crc32c", "v2-blosc"])
@pytest.mark.parametrize("options", SENSE)
def test_options_do_not_change_data(native: None, tmp_path: Path, options: str, name: str) -> None:
    """Many small chunks and one large chunk, whatever the number of threads."""
    data = make_data("<i4", (600, 700))
    data[100:500, 50:600] //= 1000
    with zarr.config.set(SENSE[options]):
        for kind, chunks in (("small", (50, 64)), ("large", (600, 700))):
            array = create(tmp_path / kind, CHAIN[name], data.shape, chunks, "<i4")
            array[...] = data
            assert_same(array[...], data)
            for selection in selections(data.shape, count=2)[::7]:
                assert_same(array[selection], data[selection], f"read {selection}")
            array[3:400, 1:699] = data[3:400, 1:699]
            assert_same(stock_read(tmp_path / kind), data, "zarr")


def test_nonsense_in_the_environment(tmp_path: Path) -> None:
    """A warning or a ValueError when the array is opened, or nothing; never during a read."""
    create(tmp_path, CHAIN["zstd"], (8,), (2,), "<i4")[...] = np.arange(1, 9)
    script = (
        "import sys, warnings, zarr, zarrs\n"
        f"zarr.config.set({{'codec_pipeline.path': {PIPELINE!r}}})\n"
        "try:\n"
        "    array = zarr.open_array(sys.argv[1])\n"
        "except ValueError as error:\n"
        "    print('refused', error)\n"
        "else:\n"
        "    warnings.simplefilter('error')\n"
        "    assert array[:].tolist() == list(range(1, 9))\n"
        "    print('read')\n"
    )
    for variable, value, expected in (
        ("OMP_NUM_THREADS", "lots", "read"),
        ("OMP_NUM_THREADS", "-7", "read"),
        ("OMP_NUM_THREADS", "1", "read"),
        ("ZARR_THREADING__MAX_WORKERS", "1", "read"),
        ("ZARR_CODEC_PIPELINE__CHUNK_CONCURRENT_MINIMUM", "lots", "refused"),
        ("ZARR_CODEC_PIPELINE__STRICT", "True", "read"),
        ("ZARR_CODEC_PIPELINE__STRICT", "perhaps", "refused"),
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-c", script, str(tmp_path)],
            env=child_environment(**{variable: value}),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(expected), (variable, value, done.stdout)


# ------------------------------------------------------------------ equality and pickling


def pipeline_of(array: zarr.Array[Any]) -> Any:
    return array._async_array.codec_pipeline


@pytest.mark.parametrize("name", ["rotated-big-zstd-crc32c", "v2-blosc", "raw"])
def test_equality(tmp_path: Path, name: str) -> None:
    """Arrays opened on the same data are equal; other codecs make other pipelines."""
    array = create(tmp_path / "a", CHAIN[name], (6, 4), (3, 2), "<i4")
    again = ours_open(tmp_path / "a")
    assert pipeline_of(array) == pipeline_of(again)
    assert not pipeline_of(array) != pipeline_of(again)  # noqa: SIM202
    assert array == again
    other = create(tmp_path / "b", CHAIN["gzip"], (6, 4), (3, 2), "<i4")
    assert pipeline_of(other) != pipeline_of(array)
    assert pipeline_of(array) != "something else"
    assert isinstance(pipeline_of(array), zarrs.ZarrsCodecPipeline)


@pytest.mark.parametrize("name", ["rotated-big-zstd-crc32c", "v2-blosc", "raw"])
def test_pickling(native: None, tmp_path: Path, name: str) -> None:
    array = create(tmp_path, CHAIN[name], (6, 4), (3, 2), "<i4")
    array[...] = data = make_data("<i4", (6, 4))
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(array, protocol))
        assert twin == array
        assert_same(twin[...], data)
        twin[1:3] = twin[1:3]
    assert pickle.loads(pickle.dumps(pipeline_of(array))) == pipeline_of(array)


def test_unpickling_reads_the_options_again(tmp_path: Path) -> None:
    """A worker process has its own configuration."""
    array = _odd_index(tmp_path)
    blob = pickle.dumps(array)
    with zarr.config.set({"codec_pipeline.strict": True}):
        strict = pickle.loads(blob)
        strict_blob = pickle.dumps(strict)
    with pytest.raises(zarrs.NotNativeError):
        strict[...]
    pickle.loads(strict_blob)[...]
    with (
        zarr.config.set({"codec_pipeline.strict": "perhaps"}),
        pytest.raises(ValueError, match="strict"),
    ):
        pickle.loads(blob)


# ------------------------------------------------------------------------- being switched on


def test_works_without_importing_zarrs(tmp_path: Path) -> None:
    """The entry point makes the setting alone enough."""
    site = tmp_path / "site"
    if not INSTALLED:  # built in place: there is none yet
        pretend_installed(site, "zarrs-cython", "0.1.0", ENTRY_POINT)
    paths = child_environment()["PYTHONPATH"].split(os.pathsep)
    script = (
        "import sys, zarr\n"
        f"zarr.config.set({{'codec_pipeline.path': {PIPELINE!r}}})\n"
        "a = zarr.create_array(sys.argv[1], shape=(5,), chunks=(2,), dtype='i4')\n"
        "a[:] = [1, 2, 3, 4, 5]\n"
        "print(type(a._async_array.codec_pipeline).__name__, a[1:4].tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error", "-c", script, str(tmp_path / "array")],
        env=child_environment(PYTHONPATH=os.pathsep.join([*paths, str(site)])),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "ZarrsCodecPipeline [2, 3, 4]", done.stderr


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    """Printed for people; as dictionaries for programs."""
    assert zarrs.show_config() is None
    printed = capsys.readouterr().out
    config = zarrs.show_config(mode="dicts")
    assert capsys.readouterr().out == ""
    assert isinstance(config, dict)
    text = json.dumps(config).lower()
    for word in ("zstd", "blosc", "lz4", "openmp"):
        assert word in text
        assert word in printed.lower()
    with pytest.raises(ValueError, match="nonsense"):
        zarrs.show_config(mode="nonsense")  # type: ignore[call-overload]


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells what the processor has")
def test_what_the_processor_is_used_for() -> None:
    config = zarrs.show_config("dicts")
    found, libraries = config["processor"], config["libraries"]
    flags = set(Path("/proc/cpuinfo").read_text().split())
    if platform.machine() == "x86_64":
        assert found["crc32c"] == (
            "avx512" if {"avx512f", "vpclmulqdq"} <= flags else
            "sse4.2" if "sse4_2" in flags else "software"
        )  # fmt: skip
    if config["build"]["library_mode"] != "wheels" or platform.machine() != "x86_64":
        return
    widest = "avx2" if "avx2" in flags else "sse2"
    assert found["blosc shuffle"] == widest
    expected = None if libraries["blosc2"]["running"] is None else widest
    assert found["blosc2 shuffle"] == expected
    child = run_child(_shuffle, env={"BLOSC_PRINT_SHUFFLE_ACCEL": "1"})
    child.check()
    assert f"AVX2 available: {widest == 'avx2'}" in child.stdout


def test_a_library_that_does_not_tell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shared one of the system's does not say with what it shuffles."""
    monkeypatch.setattr("zarrs.codecs._blosc.shuffles", lambda: None)
    zarrs.show_config()
    assert "\n  blosc shuffle: not known\n" in capsys.readouterr().out


def _shuffle() -> None:
    codec = BloscCodec(cname="lz4", shuffle="shuffle", typesize=4)
    zarr.create_array({}, data=np.arange(10_000, dtype="i4"), compressors=codec)
    emit(True)


def test_a_codec_class_from_the_configuration_runs_itself(tmp_path: Path) -> None:
    """Only the exact known classes are native: a substitute is not overruled."""
    zarr.registry.register_codec("zstd", OwnZstd, qualname="test_options.OwnZstd")
    create(tmp_path, CHAIN["zstd"], (4,), (4,), "<i4")[...] = 3
    with zarr.config.set({"codecs.zstd": "test_options.OwnZstd"}):
        array = ours_open(tmp_path)
        assert type(list(pipeline_of(array))[-1]) is OwnZstd
        assert not zarrs.explain(array).native
        assert (np.asarray(array[...]) == 3).all()


def test_a_moved_store(native: None, tmp_path: Path) -> None:
    """``LocalStore.move`` changes where the files are; what was read before does not matter."""
    store = LocalStore(tmp_path / "old")
    array = _array(store)
    array[...] = data = make_data("<i4", (8, 6))
    assert_same(array[...], data)
    zarr.core.sync.sync(store.move(tmp_path / "new"))
    assert_same(array[...], data)
    array[:2] = data[:2] = 7
    assert_same(stock_read(tmp_path / "new"), data)
    assert not (tmp_path / "old").exists()


@pytest.mark.parametrize("path", ["", "a", "a/b/c", "with space/\u00e9\u4e2d"])
def test_paths_below_the_store(native: None, tmp_path: Path, path: str) -> None:
    """The prefix of the array is part of every key."""
    group = zarr.open_group(str(tmp_path / "st\u00f6re"), mode="w")
    data = make_data("<i4", (8, 6))
    kw: dict[str, Any] = {"shape": (8, 6), "chunks": (4, 3), "dtype": "<i4"}
    array = group.create_array(path, **kw) if path else _array(tmp_path / "st\u00f6re/direct")
    array[...] = data
    assert_same(array[...], data)
    where = tmp_path / "st\u00f6re" / (path or "direct")
    assert (where / "c" / "1" / "1").is_file()
    assert_same(stock_read(where), data)


def test_relative_roots(native: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    array = _array("rel")
    array[...] = data = make_data("<i4", (8, 6))
    assert_same(array[...], data)
    assert_same(stock_read(tmp_path / "rel"), data)


def test_a_batch_may_be_any_iterable(tmp_path: Path) -> None:
    """zarr hands over lists today; the protocol says iterables. A result for each chunk."""
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.buffer.cpu import NDBuffer

    array = create(tmp_path, CHAIN["zstd"], (8,), (4,), "<i4", fill_value=9)
    array[:4] = data = make_data("<i4", (4,))
    calls: list[Any] = []
    pipeline = pipeline_of(array)
    seen = type(pipeline).read

    async def spy(self: Any, batch_info: Any, out: Any, drop_axes: Any = ()) -> Any:
        calls.extend(batch_info)
        return await seen(self, iter(calls), out, drop_axes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(pipeline), "read", spy)
        expected = np.concatenate([data, np.full(4, 9, "<i4")])
        assert_same(array[...], expected)
    out = NDBuffer.from_numpy_array(np.empty(8, "<i4"))
    results = zarr.core.sync.sync(pipeline.read((x for x in calls), out))
    assert_same(out.as_numpy_array(), expected)
    if ZARR_34:
        assert [r["status"] for r in results] == ["present", "missing"]
    value = default_buffer_prototype().nd_buffer.from_numpy_array(np.arange(8, dtype="<i4"))
    zarr.core.sync.sync(pipeline.write((x for x in calls), value))
    assert_same(array[...], np.arange(8, dtype="<i4"))


# ------------------------------------------------------------------------------------- memory


def child_memory(path: str) -> None:
    """Emit by how much the peak grew, in MiB, while an array was read and written."""
    array = ours_open(path)
    np.asarray(array[:64])
    result = np.empty(0)
    for work in ("read", "write"):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if work == "read":
            result = np.asarray(array[...])
        else:
            array[...] = result
        emit((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


@pytest.mark.parametrize("name", ["raw", "blosc-lz4-shuffle", "zstd", "v2-raw-F"])
def test_peak_memory(tmp_path: Path, name: str) -> None:
    """Reading takes the result and little more; writing takes no second copy."""
    array = create(tmp_path, CHAIN[name], (4096, 4096), (256, 512), "<f4")
    array[...] = np.linspace(0, 1, 4096, dtype="<f4")[None, :] + np.arange(4096)[:, None]
    reading, writing = run_child(child_memory, str(tmp_path)).check()
    assert reading < 64 + 24
    assert writing < 32


# ------------------------------------------------------------------------------ after errors


def test_keyboard_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C during calls ends the program at once, and as Python means it."""
    script = (
        "import signal, sys, zarr, zarrs\n"
        # A shell's jobs in the background are told to ignore it, and so are their children.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"zarr.config.set({{'codec_pipeline.path': {PIPELINE!r}}})\n"
        "array = zarr.open_array(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "try:\n"
        "    while True:\n"
        "        array[...] = array[...]\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', int(array[...].sum()), flush=True)\n"
    )
    create(tmp_path, CHAIN["zstd"], (400, 300), (20, 30), "<i4")[...] = 2
    with subprocess.Popen(
        [sys.executable, "-P", "-c", script, str(tmp_path)],
        env=child_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert output == f"interrupted {400 * 300 * 2}\n"
    assert process.returncode == 0
    assert (np.asarray(ours_open(tmp_path)[...]) == 2).all()


def test_arguments_of_every_chain_survive_the_metadata(tmp_path: Path) -> None:
    """What the tables say is what the stored metadata says, so that the tests test it."""
    for chain in CHAINS:
        arguments = chain_arguments(chain, 2)
        create(tmp_path / chain.name, chain, (4, 4), (2, 2), "<i4")
        metadata: Any = ours_open(tmp_path / chain.name).metadata
        assert metadata.zarr_format == chain.zarr_format
        if chain.zarr_format == 2:
            assert metadata.order == arguments["order"]
            assert (metadata.compressor is None) == (arguments["compressors"] is None)
        else:
            assert len(metadata.codecs) == 1 + len(arguments["filters"]) + len(
                arguments["compressors"]
            )
