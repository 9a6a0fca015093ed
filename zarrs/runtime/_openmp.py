"""Loads the OpenMP runtime so that its waiting threads sleep.

By default the threads of GNU OpenMP spin for milliseconds when they wait, and those of LLVM for a
fifth of a second. They burn time that Python's threads and other processes need, and on a busy
machine a parallel loop takes ten times as long, for it spins on the core of the thread that it
waits for. The runtimes can be told only through the environment, and read it once.

LLVM's is also told to take teams apart when a loop ends. Their threads wait for the next loop of
any thread, so that there are never more of them than loops have needed at the same time; a thread
that has run a loop cannot end its team there, as it can with GNU's (`_native/openmp.h`).
"""

from __future__ import annotations

import os
from pathlib import Path

SETTINGS = {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}
TEAMS = {"KMP_HOT_TEAMS_MAX_LEVEL": "0"}
OVERRIDES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def _is_loaded() -> bool:
    try:
        return "libgomp.so" in Path("/proc/self/maps").read_text()
    except OSError:
        return False


#: Whether GNU OpenMP was loaded before this package, so that it may spin. It does not when it has
#: more threads than CPUs: then a team is better off with one thread too many.
may_spin = _is_loaded() and not any(name in os.environ for name in OVERRIDES)

_added = {} if any(name in os.environ for name in OVERRIDES) else SETTINGS
_added = _added | {name: TEAMS[name] for name in TEAMS if name not in os.environ}
os.environ.update(_added)
try:
    # The module asks the runtime for its settings while it is imported.
    import zarrs.runtime._loop
finally:
    for _name in _added:
        del os.environ[_name]

__all__ = ["may_spin", "zarrs"]
