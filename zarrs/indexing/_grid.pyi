from collections.abc import Callable, Sequence
from typing import Self

from typing_extensions import disjoint_base

@disjoint_base
class Grid:
    ndim: int
    largest: int
    def __new__(
        cls,
        shape: tuple[int, ...],
        chunks: tuple[int | Sequence[int], ...],
        order: tuple[int, ...],
        head: str,
        separator: str,
        leads: bool,
        encode: Callable[[tuple[int, ...]], str] | None = None,
    ) -> Self: ...
