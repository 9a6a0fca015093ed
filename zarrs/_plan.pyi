from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

class Encoded:
    def __len__(self) -> int: ...

class Plan:
    n_tasks: int
    n_units: int
    ndim: int
    in_memory: bool
    is_simple: bool
    array: np.ndarray[Any, Any]
    keys: list[str | tuple[int, ...]]
    touched_bytes: int
    prefix_bytes: int
    chunk_bytes: int
    def cancel(self) -> None: ...
    def configure(
        self, *, cached_files: int, direct: bool, sync: bool, max_gap: int, max_span: int
    ) -> None: ...
    def failure(self) -> tuple[int, int, int, int, int, int, int, int] | None: ...
    @property
    def has_failed(self) -> bool: ...
    def to_run(self) -> list[int]: ...
    def merges(self, i: int) -> bool: ...
    def nbytes(self, i: int) -> int: ...
    def take_encoded(self, i: int) -> Encoded | None: ...
    def results(self, present: T, missing: T) -> tuple[T, ...]: ...

def make_plan(
    batch: list[Any],
    array: np.ndarray[Any, Any],
    order: tuple[int, ...],
    itemsize: int,
    locate: Callable[[Any], bytes | str | None],
    describe: Callable[[Any], tuple[tuple[int, ...], int] | str],
    broadcast: bool,
    drop_axes: tuple[int, ...] = (),
    shard: Any = None,
) -> Plan | str: ...
