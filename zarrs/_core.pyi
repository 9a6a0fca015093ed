from collections.abc import Sequence
from typing import Any

import numpy as np
from zarr.core.buffer import Buffer

from zarrs._open_shard import OpenShard
from zarrs._plan import Plan

class Chain:
    shard: Shard | None
    strings: bool
    def __init__(
        self,
        stages: Sequence[tuple[str, Sequence[int]]],
        tail: int = 0,
        shard: Shard | None = None,
        strings: bool = False,
        keep: Sequence[object] = (),
    ) -> None: ...
    def encode(self, data: bytes) -> bytes: ...
    def decode(self, data: bytes, nbytes: int) -> bytes: ...
    @property
    def address(self) -> int: ...
    @property
    def enterable(self) -> bool: ...
    @property
    def has_prefix(self) -> bool: ...

class Shard:
    chain: Chain
    def __init__(
        self,
        shape: Sequence[int],
        order: Sequence[int],
        itemsize: int,
        chain: Chain,
        *,
        index_at_start: bool,
        index_swapped: bool,
        index_checksum: bool,
        verify: bool,
        write_order: int,
    ) -> None: ...
    @property
    def address(self) -> int: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

class Layout:
    def __init__(
        self,
        itemsize: int,
        segments: Sequence[tuple[int, int, int]],
        fill: bytes,
        fill_kind: int = 0,
        fill_swapped: bool = False,
        kind: int = 0,
        descriptor: np.dtype[Any] | None = None,
    ) -> None: ...
    @property
    def address(self) -> int: ...

def part_to_fetch(plan: Plan, chain: Chain, task: int) -> tuple[int, int] | None: ...
def open_shard(plan: Plan, chain: Chain, task: int, index: Buffer) -> OpenShard | None: ...
def read(
    plan: Plan,
    chain: Chain,
    layout: Layout,
    threads: int,
    fetched: list[tuple[int, bool, Buffer | None]] | None = None,
    parts: list[tuple[OpenShard, int, Buffer | None]] | None = None,
    call: object = None,
) -> None: ...
def write(
    plan: Plan,
    chain: Chain,
    layout: Layout,
    threads: int,
    inner_threads: int,
    keep_empty: bool,
    fetched: list[tuple[int, bool, Buffer | None]] | None = None,
    call: object = None,
) -> None: ...
def release_team() -> None: ...
