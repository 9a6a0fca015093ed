from typing import Any

from typing_extensions import disjoint_base

from zarrs.indexing._grid import Grid

@disjoint_base
class Selected:
    grid: Grid
    shape: tuple[int, ...]
    is_scalar: bool
    n_chunks: int

def select_item(grid: Grid, selection: Any) -> Selected | None: ...
def select_basic(grid: Grid, selection: Any) -> Selected | None: ...
def select_orthogonal(grid: Grid, selection: Any) -> Selected | None: ...
def select_points(grid: Grid, selection: Any) -> tuple[Selected, tuple[int, ...]] | None: ...
