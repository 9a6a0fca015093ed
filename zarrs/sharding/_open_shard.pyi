from typing_extensions import disjoint_base

@disjoint_base
class OpenShard:
    task: int
    ranges: list[tuple[int, int]]
    has_absent: bool
