from typing import Any

from zarrs.indexing._plan import Plan

def guarded(n: int) -> memoryview: ...

class Read:
    def __init__(self, plan: Plan, chain: Any, layout: Any, call: Any, run: Any = None) -> None: ...

def fuzz(reads: dict[int, Read], arguments: list[bytes]) -> int: ...
