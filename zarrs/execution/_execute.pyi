from zarr.core.buffer import Buffer

from zarrs._core import Layout, NativeChain
from zarrs.indexing._plan import Plan
from zarrs.sharding._open_shard import OpenShard

def part_to_fetch(plan: Plan, chain: NativeChain, task: int) -> tuple[int, int] | None: ...
def open_shard(
    plan: Plan, chain: NativeChain, task: int, index: Buffer | None
) -> OpenShard | None: ...
def read(
    plan: Plan,
    chain: NativeChain,
    layout: Layout,
    threads: int,
    fetched: list[tuple[int, bool, Buffer | None]] | None = None,
    parts: list[tuple[OpenShard, int, Buffer | None]] | None = None,
    call: object = None,
    only_kept: bool = False,
) -> None: ...
def write(
    plan: Plan,
    chain: NativeChain,
    layout: Layout,
    threads: int,
    inner_threads: int,
    keep_empty: bool,
    waiting: int = 0,
    patience: int = 0,
    fetched: list[tuple[int, bool, Buffer | None]] | None = None,
    call: object = None,
) -> None: ...
