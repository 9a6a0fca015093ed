from typing import Any, TypeVar

import numpy as np
from typing_extensions import disjoint_base

_T = TypeVar("_T")

@disjoint_base
class Encoded:
    def __len__(self) -> int: ...

@disjoint_base
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
    def results(self, present: _T, missing: _T) -> tuple[_T, ...]: ...
