"""Fuzz one target: python3 -m fuzz TARGET [option of libFuzzer ...] CORPUS.

The corpus is a directory, to which is added what every case reads without an error; or one input,
to be run once. Without arguments, the targets are listed. scripts/fuzz builds all this and runs it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import cleanup_resources

from fuzz import _driver
from fuzz.targets import RANGES, Case, all_targets
from zarrs.execution import _execute
from zarrs.runtime import _threads

if TYPE_CHECKING:
    from zarrs.indexing._plan import Plan


def write_seeds(cases: list[Case], corpus: Path) -> None:
    """Put what is stored in every case's array into the corpus."""
    for case in cases:
        (corpus / hashlib.sha1(case.seed).hexdigest()).write_bytes(case.seed)


def read_ranges(plan: Plan, chain: Any, layout: Any, stored: bytes) -> None:
    """Read a shard as from a store that has ranges: first the index, then what it says."""
    make = default_buffer_prototype().buffer.from_bytes
    part = _execute.part_to_fetch(plan, chain, 0)
    assert part is not None
    shard = _execute.open_shard(plan, chain, 0, make(stored[part[0] : part[1] or None]))
    if shard is None:
        return
    parts: list[Any] = [
        (shard, k, make(stored[start:stop])) for k, (start, stop) in enumerate(shard.ranges)
    ]
    if shard.has_absent:
        parts.append((shard, -1, None))
    _execute.read(plan, chain, layout, 1, [], parts)


def prepare(case: Case, ranged: bool) -> Any:
    """Read a case's array once, to get hold of how the pipeline does it."""
    seen: list[tuple[Any, ...]] = []
    genuine = _execute.read

    def spy(plan: Plan, chain: Any, layout: Any, threads: int, *rest: Any, **named: Any) -> None:
        seen.append((plan, chain, layout, named.get("call")))
        genuine(plan, chain, layout, threads, *rest, **named)

    expected = np.asarray(case.read())
    out = None
    if case.array.dtype.kind not in "TO":  # strings have their memory elsewhere
        memory = np.frombuffer(_driver.guarded(expected.nbytes), expected.dtype)
        out = default_buffer_prototype().nd_buffer.from_numpy_array(memory.reshape(expected.shape))
    _execute.read = spy
    try:
        found = case.read(out)
    finally:
        _execute.read = genuine
    np.testing.assert_array_equal(found if out is None else out.as_numpy_array(), expected)
    plan, chain, layout, call = seen[0]
    return _driver.Read(plan, chain, layout, call, run=read_ranges if ranged else None)


def end_threads() -> None:
    """End all threads but this one.

    What they allocate while an input is run would count for that, and AddressSanitizer does not see
    what Python's frames hold: it takes that for a leak.
    """
    cleanup_resources()  # zarr's event loop and its threads
    _threads._state._end_if_idle()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(30)
            assert not thread.is_alive(), f"{thread.name} does not end"


def main() -> int:
    """Fuzz."""
    targets = all_targets()
    if len(sys.argv) < 3:
        print(*targets, sep="\n")
        return 0
    target, *options = sys.argv[1:]
    cases = targets[target]
    corpus = Path([option for option in options if not option.startswith("-")][-1])
    if corpus.is_dir():
        write_seeds(cases, corpus)
    with zarr.config.set({"threading.max_workers": 1}):
        reads = {
            int.from_bytes(case.selector, sys.byteorder): prepare(case, target == RANGES)
            for case in cases
        }
    end_threads()
    # With this libFuzzer starts itself again, when it merges.
    command = f"{sys.executable} -W ignore -m fuzz {target}"
    return _driver.fuzz(reads, [argument.encode() for argument in (command, *options)])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # what Python never frees is no leak
