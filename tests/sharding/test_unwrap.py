"""The codecs around a shard, which ``unwrap_shard`` of ``sharding/_index`` undoes."""

import gzip
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from native_kernels import Memory, kernels, make_shard

from zarrs._core import NativeChain, Status

CHECKSUM = ("crc32c", (1,))
GZIP = ("deflate", (1, 0))


def crc(data: bytes) -> bytes:
    """The data and their checksum."""
    return data + struct.pack("<I", google_crc32c.value(data))


N = 4
SHARD = bytes(range(70)) + bytes(68)


def around(*stages: tuple[str, tuple[int, ...]], tail: int = 0) -> NativeChain:
    return NativeChain(list(stages), tail=tail, shard=make_shard(inner=(25,)))


def unwrapped(
    chain: NativeChain, data: bytes, path: Path, owned: bool = True
) -> Iterator[tuple[Any, ...]]:
    """From memory and from a file; files that are owned are closed where they are not needed."""
    memory = Memory(len(data))
    memory.put(data)
    yield kernels().unwrap_shard(chain, N, False, memory.at(0), len(data))
    memory.check()
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    yield (found := kernels().unwrap_shard(chain, N, owned, (file,), len(data)))
    if owned and found[4] < 0:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)
    else:
        os.close(file)


@pytest.mark.parametrize("tail", [0, 5, 1000])
def test_nothing_around(tmp_path: Path, tail: int) -> None:
    """The shard stays where it is, without its tail."""
    size = max(len(SHARD) - tail, 0)
    in_memory, in_file = unwrapped(around(tail=tail), SHARD, tmp_path / "shard")
    assert in_memory[:4] == (Status.OK, SHARD[:size], size, False)
    assert in_file[:4] == (Status.OK, None, size, False)
    assert in_file[4] >= 0


@pytest.mark.parametrize("owned", [False, True])
@pytest.mark.parametrize(
    ("stages", "data"),
    [
        ((CHECKSUM,), crc(SHARD)),
        ((GZIP,), gzip.compress(SHARD, mtime=0)),
        ((CHECKSUM, GZIP), gzip.compress(crc(SHARD), mtime=0)),
        ((GZIP, CHECKSUM), crc(gzip.compress(SHARD, mtime=0))),
    ],
)
def test_codecs_around(tmp_path: Path, stages: Any, data: bytes, owned: bool) -> None:
    for status, shard, size, in_memory, file, _ in unwrapped(
        around(*stages), data, tmp_path / "shard", owned
    ):
        assert (status, shard, size, in_memory, file) == (Status.OK, SHARD, len(SHARD), True, -1)


def test_shards_with_unused_bytes(tmp_path: Path) -> None:
    """Longer than this package would make them, which is fine up to some size."""
    shard = bytes(5000) + SHARD
    for status, found, *_ in unwrapped(around(GZIP), gzip.compress(shard), tmp_path / "shard"):
        assert (status, found) == (Status.OK, shard)
    bomb = gzip.compress(bytes(2**26), 1)
    for status, *_ in unwrapped(around(GZIP), bomb, tmp_path / "shard"):
        assert status == Status.WRONG_SIZE


@pytest.mark.parametrize(
    ("stages", "data", "status", "stage"),
    [
        ((CHECKSUM,), crc(SHARD)[:-1] + b"\xff", Status.BAD_CHECKSUM, 0),
        (
            (GZIP, CHECKSUM),
            crc(gzip.compress(SHARD, mtime=0))[:-1] + b"\xff",
            Status.BAD_CHECKSUM,
            1,
        ),
        ((CHECKSUM, GZIP), gzip.compress(SHARD, mtime=0), Status.BAD_CHECKSUM, 0),
        ((CHECKSUM,), b"abc", Status.WRONG_SIZE, 0),
        ((GZIP,), gzip.compress(SHARD, mtime=0)[:30], Status.CORRUPT, 0),
        ((GZIP,), b"no gzip at all, but long enough", Status.CORRUPT, 0),
        ((GZIP,), b"", Status.EMPTY, 0),
    ],
)
def test_bad_codecs_around(
    tmp_path: Path, stages: Any, data: bytes, status: Status, stage: int
) -> None:
    for found in unwrapped(around(*stages), data, tmp_path / "shard"):
        assert (found[0], found[1]) == (status, None)
        assert found[5][0] == stage
        assert found[4] == -1
