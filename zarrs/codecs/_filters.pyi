TYPES: tuple[str, ...]
ROUNDINGS: tuple[str, ...]
OUT_OF_RANGES: tuple[str | None, ...]

def capsules() -> dict[str, object]: ...
