from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
from typing_extensions import disjoint_base

MAX_SEGMENTS: int
MAX_STAGES: int
MIN_SHARE: int
NUMBER_TYPES: tuple[str, ...]

class Status(IntEnum):
    OK = 0
    MISSING = 1
    IO_ERROR = 2
    CORRUPT = 3
    WRONG_SIZE = 4
    BAD_CHECKSUM = 5
    NO_MEMORY = 6
    UNSUPPORTED = 7
    ENCODE_FAILED = 8
    BAD_INDEX = 9
    OUT_OF_RANGE = 10
    PYTHON_ERROR = 11
    BAD_STRINGS = 12
    NO_ROOM = 13
    NOT_SYNCED = 14
    EMPTY = 15
    OVERTAKEN = 16

class IndexFault(IntEnum):
    TOO_SHORT = 0
    OUTSIDE = 1
    OVERLAP = 2

class StringFault(IntEnum):
    WRONG_COUNT = 0
    CUT_SHORT = 1
    NO_TEXT = 2

class NumberFault(IntEnum):
    OUTSIDE_OF_TYPE = 0
    REMAINDER = 1

class NoStage(IntEnum):
    THE_FILE = -1
    THE_INDEX = -2

class ItemKind(IntEnum):
    PLAIN = 0
    TEXT_OBJECTS = 1
    BYTES_OBJECTS = 2
    STRINGS = 3

class WriteOrder(IntEnum):
    LEXICOGRAPHIC = 0
    COLEXICOGRAPHIC = 1
    MORTON = 2

class FillKind(IntEnum):
    FILL_BITS = 0
    FILL_NAN2 = 1
    FILL_NAN4 = 2
    FILL_NAN8 = 3

@disjoint_base
class NativeChain:
    shard: Shard | None
    strings: bool
    def __init__(
        self,
        stages: Sequence[tuple[str, Sequence[int]]],
        tail: int = 0,
        shard: Shard | None = None,
        strings: bool = False,
        keep: Sequence[object] = (),
    ) -> None: ...
    @property
    def supports_partial_decode(self) -> bool: ...
    @property
    def supports_shared_decode(self) -> bool: ...
    @property
    def has_prefix(self) -> bool: ...

@disjoint_base
class Shard:
    chain: NativeChain
    def __init__(
        self,
        shape: Sequence[int],
        order: Sequence[int],
        itemsize: int,
        chain: NativeChain,
        *,
        index_at_start: bool,
        index_swapped: bool,
        index_checksum: bool,
        verify: bool,
        write_order: int,
    ) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...

@disjoint_base
class Layout:
    def __init__(
        self,
        itemsize: int,
        segments: Sequence[tuple[int, int, int]],
        fill: bytes,
        fill_kind: int = 0,
        fill_swapped: bool = False,
        kind: int = 0,
        descriptor: np.dtype[Any] | None = None,
    ) -> None: ...

def registered_codecs() -> frozenset[str]: ...
