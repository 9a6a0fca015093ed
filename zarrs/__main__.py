"""The command line: ``python -m zarrs``, and what the console script ``zarrs`` calls."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from zarrs import _unavailable

# As in zarrs/cli/_errors.py, which may be out of reach here.
MISSING_PACKAGE = 4
INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line and end the process; one line says so where a package is missing."""
    try:
        _main()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _main() -> NoReturn:
    try:
        import_module("rich")
        import_module("typer")
    except ImportError as error:
        _refuse(
            f"the command line needs the packages typer and rich ({error}): "
            "python3 -m pip install 'zarrs-cython[cli]'"
        )
    try:
        from zarrs.cli._app import run
        from zarrs.cli._errors import silence_leftovers
    except ImportError as error:
        # Without zarr there is no command that could do anything.
        _refuse(_unavailable.message() if _unavailable.reason else str(error))
    silence_leftovers()
    sys.exit(run(sys.argv[1:]))


def _refuse(message: str) -> NoReturn:
    print(f"zarrs: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(MISSING_PACKAGE)


if __name__ == "__main__":
    main()
