"""Chains of native stages by themselves: what they make of bytes, without an array around them."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from zarr.codecs.sharding import _ShardingByteGetter
from zarr.core.buffer import default_buffer_prototype

from zarrs._core import Layout, NativeChain
from zarrs.execution import _execute
from zarrs.indexing._make_plan import make_plan
from zarrs.indexing._plan import Plan

ALL = (slice(None),)


class BytesChain:
    """Encodes and decodes chunks of bytes, at least one; what fails is a ``ValueError``."""

    def __init__(self, stages: Sequence[tuple[str, Sequence[int]]]) -> None:
        self._chain = NativeChain(stages)
        self._layout = Layout(1, (), b"\0")

    def encode(self, data: bytes) -> bytes:
        """Return what a chunk becomes."""
        plan = _plan(np.frombuffer(data, "u1"), None)
        _execute.write(plan, self._chain, self._layout, 1, 1, True)
        _check(plan)
        encoded: Any = plan.take_encoded(0)
        return bytes(encoded)

    def decode(self, data: bytes, nbytes: int) -> bytes:
        """Return a chunk of ``nbytes``."""
        out = np.empty(nbytes, "u1")
        plan = _plan(out, data)
        _execute.read(plan, self._chain, self._layout, 1)
        _check(plan)
        return out.tobytes()


def _plan(array: np.ndarray[Any, Any], stored: bytes | None) -> Plan:
    # Of one chunk in memory, all of which is selected.
    if not array.size:
        raise ValueError("nothing is read or written of a chunk without items")
    held = {} if stored is None else {(0,): default_buffer_prototype().buffer.from_bytes(stored)}
    getter = _ShardingByteGetter(held, (0,))  # type: ignore[arg-type]
    batch = [(getter, SimpleNamespace(), ALL, ALL, True)]
    described = (array.shape, array.size)
    plan = make_plan(batch, array, (0,), 1, lambda _: None, lambda _: described, False)
    assert isinstance(plan, Plan), plan
    return plan


def _check(plan: Plan) -> None:
    failure = plan.failure()
    if failure is not None:
        raise ValueError(f"stage {failure[2]} failed with status {failure[1]}: {failure}")
