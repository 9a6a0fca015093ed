from collections.abc import Callable
from typing import Any

import numpy as np

from zarrs._core import Shard
from zarrs.indexing._plan import Plan

def make_plan(
    batch: list[Any],
    array: np.ndarray[Any, Any],
    order: tuple[int, ...],
    itemsize: int,
    locate: Callable[[Any], bytes | str | None],
    describe: Callable[[Any], tuple[tuple[int, ...], int] | str],
    broadcast: bool,
    drop_axes: tuple[int, ...] = (),
    shard: Shard | None = None,
    keeps_overhang: bool = False,
) -> Plan | str: ...
