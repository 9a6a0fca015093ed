"""Forked children."""

import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

LIMIT = 25  # seconds that no child takes unless it hangs


def forked(work: Callable[..., Any]) -> int:
    """Fork, and do some work in the child; return how that ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(LIMIT)
            work()
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def allow_forks() -> None:
    """Python has its opinion of forking processes that have threads."""
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
