from typing import Any

import numpy as np

from zarrs._core import Shard
from zarrs.indexing._plan import Plan
from zarrs.indexing._selected import Selected

def plan_selected(
    selected: Selected,
    array: np.ndarray[Any, Any],
    itemsize: int,
    prefix: bytes | None,
    broadcast: bool,
    shard: Shard | None,
    keeps_overhang: bool,
) -> Plan | str: ...
