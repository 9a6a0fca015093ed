"""Products of parameters, of which each pair of values is tried instead of everything.

What goes wrong for one value goes wrong in one test of it, and what goes wrong for two of them in
one where both meet. These tables have a row for each two values of different parameters, so that a
product of three or more parameters has little more rows than that of the two longest.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from helpers import dtype_id

WAYS = ("pipeline", "direct")  # of the fixture `access`


def covering(*axes: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Return rows, always the same, in which each two values of different axes meet."""
    assert len(axes) > 1, "there are no pairs"
    pairs = list(itertools.combinations(range(len(axes)), 2))
    missing = {  # a dictionary, because it keeps its order
        (a, i, b, j): None
        for a, b in pairs
        for i, j in itertools.product(range(len(axes[a])), range(len(axes[b])))
    }
    rows: list[tuple[Any, ...]] = []
    while missing:
        a, i, b, j = next(iter(missing))
        row = {a: i, b: j}
        for axis in range(len(axes)):
            if axis not in row:
                # the value that meets most of those that are chosen for the first time
                news = [
                    sum(
                        ((c, k, axis, n) if c < axis else (axis, n, c, k)) in missing
                        for c, k in row.items()
                    )
                    for n in range(len(axes[axis]))
                ]
                start = len(rows) % len(news)  # among equals, another one each time
                row[axis] = max((*range(start, len(news)), *range(start)), key=lambda n: news[n])
        for a, b in pairs:
            missing.pop((a, row[a], b, row[b]), None)
        rows.append(tuple(values[row[axis]] for axis, values in enumerate(axes)))
    return rows


def each_pair(**axes: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrize a test with `covering` rows; `access` is the fixture's."""
    return each_row(tuple(axes), covering(*axes.values()))


def each_row(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pytest.MarkDecorator:
    """Parametrize a test with rows, one of whose columns may be `access`."""
    fixtures = [name for name in names if name == "access"]
    return pytest.mark.parametrize(names, rows, ids=dtype_id, indirect=fixtures)


def in_turn(*numbers: int) -> str:
    """Return the way of access of a cell of a table: as colours alternate on a chessboard."""
    return WAYS[sum(numbers) % 2]
