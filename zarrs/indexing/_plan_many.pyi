from typing import Any

import numpy as np

from zarrs._core import Shard
from zarrs.indexing._plan import Plan
from zarrs.indexing._selected import Selected

def plan_many(
    selections: list[Selected],
    arrays: list[np.ndarray[Any, Any]],
    itemsize: int,
    prefix: bytes | None,
    shard: Shard | None,
) -> Plan | str | None: ...
