"""Let the tests see the installed zarrs, wherever they are started.

``python -m pytest`` puts the current directory on ``sys.path``; in the root of the project that is
the source of the package, which cannot be imported without its compiled modules. This file is
loaded before any test module, and takes the root off ``sys.path`` again: out of this process, and,
through ``PYTHONSAFEPATH``, out of the Python processes that tests start. (A test that starts a
script which imports its neighbours has to drop that variable for it.)

After ``python setup.py build_ext --inplace`` for the same Python, the source is what is tested.
"""

import importlib.util
import os
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BUILT_IN_PLACE = (ROOT / "zarrs" / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}").is_file()

if BUILT_IN_PLACE:
    sys.path.insert(0, str(ROOT))
else:
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
    os.environ["PYTHONSAFEPATH"] = "1"


def pytest_report_header() -> str:
    """Say which zarrs is under test."""
    spec = importlib.util.find_spec("zarrs")
    where = Path(spec.origin).parent if spec and spec.origin else "not installed"
    return f"zarrs: {'built in place' if BUILT_IN_PLACE else where}"
