ROUNDINGS: tuple[str, ...]
OUT_OF_RANGES: tuple[str | None, ...]

def explain(code: int) -> str: ...
