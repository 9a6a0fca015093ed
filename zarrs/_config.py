"""zarr.config and the environment -> one frozen options object."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from zarr.core.config import config

from zarrs._threads import available_cpus

DEFAULT_CHUNK_CONCURRENT_MINIMUM = 4
MAX_CACHED_FILES = 2**30
DEFAULT_CONCURRENCY = 10
MAX_CONCURRENCY = 2**30  # None: no limit
BOOLEANS = {"true": True, "false": False}  # as the environment may have them


@dataclass(frozen=True)
class Options:
    """What users can set, checked.

    Attributes
    ----------
    max_workers : int
        Threads that a call may use: ``threading.max_workers``, at most the CPUs available.
    chunk_concurrent_minimum, chunk_concurrent_maximum : int
        Bounds for the number of chunks that are worked on at the same time.
    validate_checksums : bool
        Whether checksums are verified when chunks are decoded.
    store_empty_chunks : bool
        Store chunks of nothing but the fill value even if the array's own configuration
        (``array.write_empty_chunks`` when it was opened) does not.
    strict : bool
        Raise instead of falling back to zarr's own pipeline.
    direct_io : bool
        Read and write files past the page cache, where the file system takes that.
    fsync : bool
        Return from writes to files when everything is on the disk.
    file_handle_cache_size : int
        Files that are kept open for later reads.
    """

    max_workers: int
    chunk_concurrent_minimum: int
    chunk_concurrent_maximum: int
    validate_checksums: bool
    store_empty_chunks: bool
    strict: bool
    direct_io: bool
    fsync: bool
    file_handle_cache_size: int


def read_options() -> Options:
    """Read the options from ``zarr.config``.

    Raises
    ------
    ValueError
        If an option is nonsense; the message names it.
    """
    cpus = available_cpus()
    workers = min(_count("threading.max_workers", cpus), cpus)
    maximum = _count("codec_pipeline.chunk_concurrent_maximum", workers)
    minimum = _count("codec_pipeline.chunk_concurrent_minimum", DEFAULT_CHUNK_CONCURRENT_MINIMUM)
    return Options(
        max_workers=workers,
        chunk_concurrent_minimum=min(minimum, maximum),
        chunk_concurrent_maximum=maximum,
        validate_checksums=_flag("codec_pipeline.validate_checksums", True),
        store_empty_chunks=_flag("codec_pipeline.store_empty_chunks", False),
        strict=_flag("codec_pipeline.strict", False),
        direct_io=_flag("codec_pipeline.direct_io", False),
        fsync=_flag("codec_pipeline.fsync", False),
        file_handle_cache_size=min(
            _count("codec_pipeline.file_handle_cache_size", 0, least=0), MAX_CACHED_FILES
        ),
    )


def read_concurrency() -> int:
    """Return how many requests one call may have under way: zarr's ``async.concurrency``.

    Nonsense, which the environment may hold, counts as zarr's default, with a warning.
    """
    try:
        return _count("async.concurrency", MAX_CONCURRENCY)
    except ValueError as error:
        warnings.warn(f"{error}; {DEFAULT_CONCURRENCY} requests at a time", stacklevel=2)
        return DEFAULT_CONCURRENCY


def _count(name: str, default: int, least: int = 1) -> int:
    value: Any = config.get(name, None)
    if value is None:
        return default
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        kind = "a positive integer" if least else "a non-negative integer"
        raise ValueError(f"zarr.config option {name!r} must be {kind}, not {value!r}")
    return value


def _flag(name: str, default: bool) -> bool:
    value: Any = config.get(name, None)
    if value is None:
        return default
    if isinstance(value, str):
        value = BOOLEANS.get(value.strip().lower(), value)
    if isinstance(value, int) and value in (0, 1):
        value = bool(value)
    if not isinstance(value, bool):
        raise ValueError(f"zarr.config option {name!r} must be True or False, not {value!r}")
    return value
