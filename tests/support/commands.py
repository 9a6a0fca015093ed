"""The command line as it is typed: in this process, in a child, in a terminal."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import child_environment

LIMIT = 60  # seconds


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it said on stdout, line by line."""
        return self.out.splitlines()

    @property
    def error(self) -> str:
        """The one line that it said on stderr."""
        [line] = self.err.splitlines()
        return line.removeprefix("zarrs: ")

    def json(self) -> Any:
        """What it said on stdout, as JSON."""
        return json.loads(self.out)


def files_of(path: Path) -> dict[str, bytes]:
    """Return all files below a directory, by relative name."""
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


Typed = Callable[..., Said]  # what the fixture `typed` is


def command(*arguments: Any) -> list[str]:
    """The command of a new process."""
    return [sys.executable, "-P", "-m", "zarrs", *map(str, arguments)]


def child(*arguments: Any, before: str = "", **environment: str) -> Said:
    """Run the command line in a new process, which runs some code before, if given."""
    started = command(*arguments)
    if before:
        code = f"{before}\nfrom zarrs.__main__ import main; main()"
        started = [sys.executable, "-P", "-c", code, *map(str, arguments)]
    done = subprocess.run(
        started,
        env=child_environment(**environment),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def in_terminal(*arguments: Any, columns: int = 100, **environment: str) -> tuple[int, str]:
    """Run the command line in a terminal; return the exit code and what is to be seen."""
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            command(*arguments),
            env=child_environment(COLUMNS=str(columns), TERM="xterm-256color", **environment),
            stdin=follower,
            stdout=follower,
            stderr=follower,
        )
    finally:
        os.close(follower)
    try:
        seen = _all_of(leader)
        return process.wait(LIMIT), seen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def _all_of(leader: int) -> bytes:
    seen, end = b"", time.monotonic() + LIMIT
    while time.monotonic() < end:
        if not select.select([leader], [], [], 1)[0]:
            continue
        try:
            part = os.read(leader, 65536)
        except OSError:  # how Linux tells that nobody has the other end any more
            break
        if not part:
            break
        seen += part
    return seen
