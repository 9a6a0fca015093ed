class OpenShard:
    task: int
    ranges: list[tuple[int, int]]
    has_absent: bool
