from collections.abc import Sequence

from zarrs._plan import Plan

class Chain:
    def __init__(self, stages: Sequence[tuple[str, Sequence[int]]], tail: int = 0) -> None: ...
    @property
    def enterable(self) -> bool: ...
    @property
    def has_prefix(self) -> bool: ...

class Layout:
    def __init__(
        self,
        itemsize: int,
        segments: Sequence[tuple[int, int, int]],
        fill: bytes,
        fill_kind: int = 0,
        fill_swapped: bool = False,
    ) -> None: ...

def read(plan: Plan, chain: Chain, layout: Layout, threads: int) -> None: ...
def write(
    plan: Plan,
    chain: Chain,
    layout: Layout,
    threads: int,
    inner_threads: int,
    keep_empty: bool,
) -> None: ...
def release_team() -> None: ...
def reset_after_fork() -> None: ...
