"""What `tests/support/covering.py` leaves of a product."""

import itertools
import math

import pytest
from covering import WAYS, covering, in_turn


@pytest.mark.parametrize("sizes", [(3, 4), (2, 4, 17), (2, 4, 13, 2), (2, 6, 7, 10)], ids=str)
def test_each_two_values_meet(sizes: tuple[int, ...]) -> None:
    axes = [[f"{name}{i}" for i in range(n)] for name, n in zip("abcd", sizes, strict=False)]
    rows = covering(*axes)
    assert rows == covering(*axes)
    assert len(set(rows)) == len(rows)
    assert all(value in axis for row in rows for value, axis in zip(row, axes, strict=True))
    for (i, one), (k, other) in itertools.combinations(enumerate(axes), 2):
        assert {(row[i], row[k]) for row in rows} == set(itertools.product(one, other))
    longest = math.prod(sorted(sizes)[-2:])
    assert len(rows) <= longest + 2


def test_each_value_meets_both_ways_in_turn() -> None:
    cells = [(i, k, in_turn(i, k)) for i in range(3) for k in range(4)]
    for n in range(3):
        assert {way for i, _, way in cells if i == n} == set(WAYS)
        assert {way for _, k, way in cells if k == n} == set(WAYS)
