"""What stands in for this package where it cannot be used: importing it never fails.

zarr loads the pipelines of all installed packages when it needs one, and whatever a package raises
then would reach people who never asked for it. So the reason is kept, and raised when somebody
chooses this pipeline or takes anything else from the package.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = Path(__file__).parent
REQUIRED = {"zarr": (3, 1), "numpy": (2, 0)}  # as in pyproject.toml

#: Why the package cannot be used, if it cannot.
reason: Exception | None = None


class ZarrsCodecPipeline:
    """Stands in for the pipeline; what would make one raises ``ImportError`` with the reason."""

    __module__ = "zarrs"  # under this name zarr looks for it

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        refuse()

    @classmethod
    def from_codecs(cls, codecs: Any) -> NoReturn:
        """Raise the reason."""
        refuse()

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: Any) -> NoReturn:
        """Raise the reason."""
        refuse()


class RecyclingNDBuffer:
    """Stands in for the buffers; what would make one raises ``ImportError`` with the reason."""

    __module__ = "zarrs"  # under this name zarr looks for it

    @classmethod
    def empty(cls, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise the reason."""
        refuse()

    create = from_numpy_array = from_ndarray_like = empty


def stand_in(error: Exception) -> Any:
    """Keep the reason, make the stand-ins known to zarr, and return that for the pipeline."""
    global reason
    reason = error
    try:
        from zarr.registry import register_ndbuffer, register_pipeline
    except Exception:  # there is no zarr, or none with pipelines: nobody asks for one then
        return ZarrsCodecPipeline
    pipeline: Any = ZarrsCodecPipeline
    buffer: Any = RecyclingNDBuffer
    register_pipeline(pipeline)
    register_ndbuffer(buffer)
    return ZarrsCodecPipeline


def stand_ins(error: Exception, names: Sequence[str]) -> dict[str, Any]:
    """Keep the reason and return what the package consists of then.

    That is the class for the pipeline and, for all other `names` that are not there, a
    ``__getattr__`` of the package that raises. (As a definition in ``zarrs/__init__.py`` it would
    tell type checkers that any name is there.)
    """

    def getattr_(name: str) -> NoReturn:
        if name in names:
            refuse()
        raise AttributeError(f"module 'zarrs' has no attribute {name!r}")

    return {"ZarrsCodecPipeline": stand_in(error), "__getattr__": getattr_}


def refuse() -> NoReturn:
    """Raise ``ImportError`` with the reason."""
    raise ImportError(message()) from reason


def message() -> str:
    """Return the reason in words, and what to do."""
    return f"zarrs cannot be used: {type(reason).__name__}: {reason}. {_advice()}"


def _advice() -> str:
    if isinstance(reason, Warning):
        return (
            "Warnings are errors here, as with python -W error: mend what this one tells of, or "
            "let it be a warning"
        )
    for package, least in REQUIRED.items():
        needed = f"{package}>={'.'.join(map(str, least))}"
        found = version_of(package)
        if found is None or _release(found) < least:
            have = f"this is {package} {found}" if found else f"there is no {package}"
            return f"It needs {needed}, and {have}: python -m pip install '{needed}'"
    if (PACKAGE / "_core.pyx").is_file():
        return (
            f"{PACKAGE.parent} is the source folder, which is not built for this Python. To use "
            "the zarrs that is installed, start Python in another folder. To build it in place: "
            f"python -m pip install -e {PACKAGE.parent}"
        )
    return (
        "The installation is damaged; install it again: "
        "python -m pip install --force-reinstall --no-deps zarrs-cython"
    )


def version_of(package: str) -> str | None:
    """Return the version of a package that is installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _release(text: str) -> tuple[int, ...]:
    # The first two numbers; "3.2rc1" is a 3.2 here.
    return tuple(int("".join(filter(str.isdigit, part[:2])) or 0) for part in text.split(".")[:2])
