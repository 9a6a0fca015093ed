"""Settings for the tests of codecs."""

from collections.abc import Iterator

import pytest
from own_codecs import Hooked, HookedArray, HookedAsync, handed


@pytest.fixture(autouse=True)
def no_hooks() -> Iterator[None]:
    """Take away the hooks that a test has given to codecs."""
    yield
    for kind in (Hooked, HookedAsync, HookedArray):
        kind.hooks.clear()
    handed.clear()
