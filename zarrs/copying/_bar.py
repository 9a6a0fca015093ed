"""The progress bar of a copy, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# From a name, the bytes in all and those before, to what is called with those that were done.
Begin = Callable[[str, int, int], Callable[[int], object]]


@contextmanager
def progress_bar(is_shown: bool) -> Iterator[Begin]:
    """Show bytes, rate and time left, if asked for.

    Raises
    ------
    ImportError
        If it is asked for and rich is not installed.
    """
    if not is_shown:
        yield lambda name, total, before: lambda n_bytes: None
        return
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
    except ImportError as error:
        raise ImportError(
            "a progress bar needs the package rich: python -m pip install 'zarrs-cython[cli]'"
        ) from error
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def begin(name: str, total: int, before: int) -> Callable[[int], object]:
            task = bar.add_task(name, total=total, completed=before)
            return lambda n_bytes: bar.advance(task, n_bytes)

        yield begin
