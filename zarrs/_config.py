"""zarr.config and the environment -> one frozen options object."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from zarr.core.config import config

from zarrs._unknown_options import warn_of_unknown_options
from zarrs.runtime._cpus import available_cpus

MAX_CACHED_FILES = 2**30
DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 2**30  # None: no limit
DEFAULT_RECYCLED_BYTES = 2**30
BOOLEANS = {"true": True, "false": False}  # as the environment may have them
NEVER: Literal["never"] = "never"


@dataclass(frozen=True)
class Options:
    """What users can set, checked.

    Attributes
    ----------
    max_workers : int
        Threads that a call may use: ``threading.max_workers``, at most the CPUs available.
    chunk_concurrent_maximum : int or None
        Chunks that are worked on at the same time, at most. None: as many as threads, and in
        writes to files those that wait for the file system besides.
    chunk_concurrent_minimum : int
        Chunks that are worked on at the same time before threads work inside of chunks.
    validate_checksums : bool
        Whether checksums are verified when chunks are decoded.
    store_empty_chunks : bool
        Store chunks of nothing but the fill value even if the array's own configuration
        (``array.write_empty_chunks`` when it was opened) does not.
    strict : bool
        Raise instead of falling back to zarr's own pipeline.
    direct_io : bool
        Read and write files past the page cache, where the file system takes that.
    fsync : bool or "never"
        Return from writes to files when everything is on the disk; or keep the file system from
        syncing chunks that are replaced.
    lock_files : bool
        Writers of chunks in local files exclude each other across processes.
    file_handle_cache_size : int
        Files that are kept open for later reads.
    """

    max_workers: int
    chunk_concurrent_maximum: int | None = None
    chunk_concurrent_minimum: int = 4
    validate_checksums: bool = True
    store_empty_chunks: bool = False
    strict: bool = False
    direct_io: bool = False
    fsync: bool | Literal["never"] = False
    lock_files: bool = False
    file_handle_cache_size: int = 0

    def __str__(self) -> str:
        """Return the number of threads, and what else is not as by default, on one line."""
        usual = Options(
            max_workers=self.max_workers,
            chunk_concurrent_minimum=min(Options.chunk_concurrent_minimum, self.chunks_at_once),
        ).by_name()
        changed = [
            f"{name}={value}"
            for name, value in self.by_name().items()
            if name == THREADS or value != usual[name]
        ]
        return f"{', '.join(changed)}; all others as by default"

    @property
    def chunks_at_once(self) -> int:
        """Chunks that threads compute at the same time, at most."""
        return min(self.chunk_concurrent_maximum or self.max_workers, self.max_workers)

    def by_name(self) -> dict[str, int | str | None]:
        """Return the options under their names in ``zarr.config``."""
        return {NAMES[field]: value for field, value in asdict(self).items()}


THREADS = "threading.max_workers"  # zarr's; the others are ours
NAMES = {field.name: f"codec_pipeline.{field.name}" for field in fields(Options)}
NAMES["max_workers"] = THREADS
RECYCLED_BYTES = "codec_pipeline.recycled_bytes"  # of no pipeline: buffers are zarr's matter
OURS = frozenset(NAMES.values()) | {RECYCLED_BYTES}


def read_options() -> Options:
    """Read the options from ``zarr.config``.

    Raises
    ------
    ValueError
        If an option is nonsense; the message names it.
    """
    warn_of_unknown_options(OURS)
    return _read()


def options_in_force() -> dict[str, Any]:
    """Return what a pipeline that is made now has, by name in ``zarr.config``.

    If none can be made: why, and what is set.
    """
    try:
        options: dict[str, Any] = _read().by_name()
    except ValueError as error:
        options = {"error": str(error)}
        options |= {name: _as_set(name) for name in NAMES.values()}
    try:
        concurrency: int | str | None = _count("async.concurrency")
    except ValueError as error:
        concurrency = str(error)
    try:
        recycled: int | str = _recycled_bytes()
    except ValueError as error:
        recycled = str(error)
    path = "codec_pipeline.path"
    return {
        path: _as_set(path),
        **options,
        "async.concurrency": concurrency,
        "ndbuffer": _as_set("ndbuffer"),
        RECYCLED_BYTES: recycled,
    }


def read_concurrency() -> int:
    """Return how many requests one call may have under way: zarr's ``async.concurrency``.

    Nonsense, which the environment may hold, counts as zarr's default, with a warning.
    """
    try:
        return _count("async.concurrency") or MAX_CONCURRENCY
    except ValueError as error:
        warnings.warn(f"{error}; zarr's default, {DEFAULT_CONCURRENCY}, is used", stacklevel=2)
        return DEFAULT_CONCURRENCY


def read_recycled_bytes() -> int:
    """Return how much memory may be kept for later results.

    Nonsense, which the environment may hold, counts as the default, with a warning.
    """
    try:
        return _recycled_bytes()
    except ValueError as error:
        warnings.warn(f"{error}; the default, {DEFAULT_RECYCLED_BYTES}, is used", stacklevel=2)
        return DEFAULT_RECYCLED_BYTES


def _recycled_bytes() -> int:
    value = _count(RECYCLED_BYTES, least=0)
    return DEFAULT_RECYCLED_BYTES if value is None else min(value, sys.maxsize)


def _as_set(name: str) -> int | str | None:
    value: Any = config.get(name, None)
    return value if isinstance(value, int | str | None) else repr(value)


def _read() -> Options:
    cpus = available_cpus()
    workers = min(_count(THREADS) or cpus, cpus)
    lower, upper = NAMES["chunk_concurrent_minimum"], NAMES["chunk_concurrent_maximum"]
    minimum, maximum = _count(lower), _count(upper)
    if minimum and maximum and minimum > maximum:
        raise ValueError(
            f"zarr.config option {lower!r} must not be above {upper!r}: "
            f"{minimum} is above {maximum}"
        )
    return Options(
        max_workers=workers,
        chunk_concurrent_maximum=maximum,
        chunk_concurrent_minimum=min(
            minimum or Options.chunk_concurrent_minimum, maximum or workers
        ),
        validate_checksums=_flag("validate_checksums"),
        store_empty_chunks=_flag("store_empty_chunks"),
        strict=_flag("strict"),
        direct_io=_flag("direct_io"),
        fsync=_fsync(),
        lock_files=_flag("lock_files"),
        file_handle_cache_size=min(
            _count(NAMES["file_handle_cache_size"], least=0) or 0, MAX_CACHED_FILES
        ),
    )


def _count(name: str, least: int = 1) -> int | None:
    # None if it is not set.
    value: Any = config.get(name, None)
    if value is None:
        return None
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        kind = "a positive integer" if least else "a non-negative integer"
        raise ValueError(f"zarr.config option {name!r} must be {kind}, not {value!r}")
    return value


def _fsync() -> bool | Literal["never"]:
    value: Any = config.get(NAMES["fsync"], None)
    if isinstance(value, str) and value.strip().lower() == NEVER:
        return NEVER
    return _flag("fsync", f"True, False or {NEVER!r}")


def _flag(field: str, allowed: str = "True or False") -> bool:
    name = NAMES[field]
    value: Any = config.get(name, None)
    if value is None:
        default: bool = getattr(Options, field)
        return default
    if isinstance(value, str):
        value = BOOLEANS.get(value.strip().lower(), value)
    if isinstance(value, int) and value in (0, 1):
        value = bool(value)
    if not isinstance(value, bool):
        raise ValueError(f"zarr.config option {name!r} must be {allowed}, not {value!r}")
    return value
