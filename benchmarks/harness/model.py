"""A model of many cores, from what is measured with 1 and with 2 threads."""

from __future__ import annotations

import dataclasses

from .implementations import OURS
from .report import Report, by_key, ordered_pairs

MODELLED = (4, 8, 16, 32, 64)


@dataclasses.dataclass(frozen=True)
class Model:
    """Time = serial + parallel / threads, from the fastest rounds with 1 and with 2 threads."""

    one: float
    two: float

    @property
    def parallel(self) -> float:
        return min(max(2 * (self.one - self.two), 0), self.one)

    @property
    def serial(self) -> float:
        return self.one - self.parallel

    def seconds(self, count: int) -> float:
        return self.serial + self.parallel / count


def models(found: Report) -> dict[tuple[str, str, str], Model]:
    """Return models by operation, ours, and case."""
    of = by_key(found["results"], "operation", "case", "threads")
    made = {}
    for (operation, case), name in ((pair, name) for pair in ordered_pairs(of) for name in OURS):
        one, two = (of.get((operation, case, n), {"best": {}})["best"].get(name) for n in (1, 2))
        if one is not None and two is not None:
            made[operation, name, case] = Model(one, two)
    return made
