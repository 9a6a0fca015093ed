"""What this build was made with. setup.py writes the module."""

BUILD: str  # "release" or "debug"
COMPILER: str
CYTHON: str
LIBRARIES: dict[str, str | None]  # library -> what was found; None: not found, not built
LIBRARY_MODE: str  # "wheels" or "system"
OPENMP: bool
SANITIZE: str  # what -fsanitize= was given
