"""What `help` says of the public names: each has an example, and the examples run."""

import doctest
import inspect
import pydoc

import pytest
from helpers import ROOT

import zarrs

NAMES = [name for name in zarrs.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_an_example_that_runs(name: str, fresh: None) -> None:
    text = inspect.getdoc(getattr(zarrs, name)) or ""
    test = doctest.DocTestParser().get_doctest(text, {}, f"zarrs.{name}", None, 0)
    assert "Examples\n--------" in text
    assert len(test.examples) >= 2, "an example does something and shows what came of it"
    told: list[str] = []
    result = doctest.DocTestRunner().run(test, out=told.append)
    assert not result.failed, "".join(told)


def test_help_names_everything() -> None:
    page = pydoc.plain(pydoc.render_doc(zarrs))
    described = inspect.getdoc(zarrs) or ""
    for name in NAMES:
        assert name in page
        assert name in described, "the first lines of help(zarrs) tell what there is"


def test_the_reference_has_every_public_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert [name for name in NAMES if f"::: zarrs.{name}\n" not in page] == []
