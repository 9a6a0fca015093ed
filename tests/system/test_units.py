"""The rooms that need no array: threads, keys, byte orders, checksums, the OpenMP runtime."""

import doctest
import os
import random
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from helpers import child_environment
from hypothesis import given
from hypothesis import strategies as st

import zarrs.codecs._chain
import zarrs.runtime._errors
import zarrs.runtime._threads
from zarrs._core import Status
from zarrs.codecs import _crc32c
from zarrs.codecs._chain import swapped_segments
from zarrs.runtime._blocking_call import BlockingCall
from zarrs.runtime._cpus import available_cpus, cgroup_quota
from zarrs.runtime._errors import Failure, exception_of
from zarrs.runtime._threads import Budget, balance


@pytest.mark.parametrize(
    "module", [zarrs.codecs._chain, zarrs.runtime._errors, zarrs.runtime._threads]
)
def test_examples_in_docstrings(module: object) -> None:
    failed, tried = doctest.testmod(module)  # type: ignore[arg-type]
    assert tried
    assert not failed


@given(*[st.integers(1, 300)] * 4)
def test_balance(workers: int, n_chunks: int, a: int, b: int) -> None:
    """Within the budget and the bounds, and no other split leaves fewer workers idle."""
    minimum, maximum = min(a, b), max(a, b)
    outer, inner = balance(workers, n_chunks, minimum, maximum)
    most = min(workers, n_chunks, maximum)
    assert inner >= 1
    assert min(minimum, most) <= outer <= most
    assert outer * inner <= workers
    assert all(n * (workers // n) <= outer * inner for n in range(min(minimum, most), most + 1))


def test_budget() -> None:
    """Nobody goes without, and no more than the limit is handed out beyond that."""
    budget = Budget()
    assert budget.claim(8, 4) == 4
    assert budget.claim(8, 4) == 1
    budget.release(4)
    assert budget.claim(2, 4) == 2
    budget.release(2)
    budget.release(1)
    assert budget.claim(9, 4) == 4


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, None),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "rubbish"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_cgroup_quota(tmp_path: Path, files: dict[str, str], cpus: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_quota(tmp_path) == cpus


@pytest.mark.parametrize(("value", "most"), [("1", 1), ("1,2", 1), ("", None), ("many", None)])
def test_omp_num_threads(monkeypatch: pytest.MonkeyPatch, value: str, most: int | None) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    everything = available_cpus()
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert available_cpus() == (most or everything)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_affinity() -> None:
    code = (
        "import os; os.sched_setaffinity(0, list(os.sched_getaffinity(0))[:1])\n"
        "from zarrs.runtime._cpus import available_cpus; print(available_cpus())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment()
    )
    assert out.stdout == "1\n", out.stderr


def test_the_environment_is_left_alone() -> None:
    """What the OpenMP runtime is told while it is loaded does not stay in the environment."""
    code = "import os; a = dict(os.environ); import zarrs; print(a == dict(os.environ))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=child_environment()
    )
    assert out.stdout == "True\n", out.stderr


@given(first=st.binary(max_size=5000), second=st.binary(max_size=5000))
def test_crc32c_of_two_pieces(first: bytes, second: bytes) -> None:
    joined = _crc32c.combine(google_crc32c.value(first), google_crc32c.value(second), len(second))
    assert joined == google_crc32c.value(first + second)


each_instructions = pytest.mark.parametrize("instructions", _crc32c.all_instructions())


@each_instructions
@given(data=st.binary(max_size=40_000), skip=st.integers(0, 9))
def test_crc32c(instructions: str, data: bytes, skip: int) -> None:
    """All ways to compute it, at any alignment, against Google's."""
    data = data[skip:]
    assert _crc32c.checksum(data, instructions) == google_crc32c.value(data)


@each_instructions
@pytest.mark.parametrize("value", [b"\0", b"\xff", None])
def test_crc32c_of_all_lengths(instructions: str, value: bytes | None) -> None:
    data = random.Random(1).randbytes(15_000) if value is None else value * 15_000
    for n in [*range(2000), *range(2000, 15_000, 77), 12_287, 12_288, 12_289]:
        assert _crc32c.checksum(data[:n], instructions) == google_crc32c.value(data[:n])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("<u2", ">u2"),
        ("<c16", ">c16"),
        ("<U5", ">U5"),
        ("<M8[s]", ">M8[s]"),
        (
            [("a", "<i4"), ("b", "u1"), ("c", "<c8", (3,))],
            [("a", ">i4"), ("b", "u1"), ("c", ">c8", (3,))],
        ),
        ([("a", [("x", "<i2"), ("y", ">f4")])], [("a", [("x", "<i2"), ("y", "<f4")])]),
    ],
)
def test_swapped_segments(a: object, b: object) -> None:
    """Reversing just these bytes turns the one type into the other."""
    one, other = np.dtype(a), np.dtype(b)  # type: ignore[call-overload]
    raw = np.arange(one.itemsize, dtype="u1")
    swapped = raw.copy()
    for offset, unit, count in swapped_segments(one, other) or []:
        part = swapped[offset : offset + unit * count].reshape(count, unit)
        part[:] = part[:, ::-1].copy()
    assert np.array_equal(raw.view(one).astype(other).view("u1"), swapped)


@pytest.mark.parametrize("other", ["<i8", "<u4", "M8[s]", [("a", "<i4")]])
def test_other_types_are_not_swapped(other: object) -> None:
    assert swapped_segments(np.dtype("<i4"), np.dtype(other)) is None  # type: ignore[call-overload]


def test_without_libdeflate(tmp_path: Path) -> None:
    """gzip and zlib work with zlib-ng alone, as where libdeflate is not installed."""
    code = """
import sys
sys.modules["zarrs.codecs._libdeflate"] = None  # importing it fails
import gzip, zlib, warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
import numpy as np, zarr, zarrs
from numcodecs.zlib import Zlib
from zarr.codecs import GzipCodec
warnings.simplefilter("error")
assert zarrs.show_config(mode="dicts")["libraries"]["libdeflate"]["running"] is None
zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True})
data = np.random.default_rng(0).integers(0, 99, 40_000)
kinds = [(3, GzipCodec(level=k), gzip) for k in (0, 1, 6, 9)]
kinds += [(2, Zlib(level=k), zlib) for k in (0, 1, 9)]
for n, (zarr_format, codec, reader) in enumerate(kinds):
    path = Path(sys.argv[1], str(n))
    array = zarr.create_array(
        path, shape=data.shape, chunks=data.shape, dtype=data.dtype,
        zarr_format=zarr_format, compressors=codec,
    )
    array[:] = data
    file = path / ("0" if zarr_format == 2 else "c/0")
    assert reader.decompress(file.read_bytes()) == data.tobytes()
    assert np.array_equal(array[:], data) and array[5] == data[5]
    for wrong in (data[:-1], np.append(data, 1)):
        file.write_bytes(reader.compress(wrong.tobytes()))
        try:
            array[:]
        except zarrs.ChunkError as error:
            assert "bytes" in str(error)
        else:
            raise AssertionError(codec)
    half = gzip.compress(data[:7].tobytes()) + b"\\0\\0" + gzip.compress(data[7:].tobytes())
    if reader is gzip:
        file.write_bytes(half)
        assert np.array_equal(array[:], data)
        file.write_bytes(half + b"rest")
        try:
            array[:]
        except zarrs.ChunkError:
            pass
        else:
            raise AssertionError(codec)
print("ok")
"""
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env=child_environment(),
    )
    assert out.stdout == "ok\n", out.stderr


def test_no_memory_is_a_memory_error() -> None:
    """Whatever stage it was in, also of chunks without codecs."""
    for stage in (-2, -1, 0, 3):
        error = exception_of(
            Failure(0, Status.NO_MEMORY, stage, 1, 2, 0, 0, 0),
            keys=["a/c/0"], root="/", ndim=1, codecs=[[], []], items="bytes", grid=[4],
            writing=True,
        )  # fmt: skip
        assert isinstance(error, MemoryError)
        assert "inner chunk (2,) of shard 'c/0'" in str(error)


@pytest.mark.parametrize(("expected", "found"), [(-1, -1), (0, 0), (100, 101), (100, -1)])
def test_limits_are_named_if_they_are_known(expected: int, found: int) -> None:
    error = exception_of(
        Failure(0, Status.UNSUPPORTED, 0, 0, -1, 0, expected, found),
        keys=["a/c/0"],
        root="/",
        ndim=1,
        codecs=[["zstd"]],
        items="bytes",
        grid=(),
        writing=False,
    )
    assert ("at most 100 bytes" in str(error)) == (expected == 100)
    assert "-1" not in str(error)
    assert str(error).endswith("; zarr's own pipeline may be able to read it")


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("taken_first", [False, True])
def test_a_call_is_run_once_where_no_thread_can_be_started(
    taken_first: bool, blocking: bool
) -> None:
    """Although the pool has put it into its queue, from which another thread may take it."""
    queue: list[Any] = []
    runs: list[int] = []

    class Exhausted(ThreadPoolExecutor):
        def submit(self, run: Any, /, *args: Any, **named: Any) -> Any:
            if taken_first:
                run()
            queue.append(run)
            raise RuntimeError("can't start new thread")

    state = zarrs.runtime._threads._State()
    state.cpus, state._first = 2, Exhausted(1)

    def work() -> int:
        runs.append(1)
        return 7

    call: Any = BlockingCall() if blocking else Future()
    state.submit(call, work)
    for run in queue:
        run()
    assert call.done()
    assert call.result() == 7
    assert runs == [1]
    assert not state._first_is_busy
