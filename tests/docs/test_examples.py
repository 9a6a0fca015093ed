"""Every example in Python on the pages is run, from top to bottom of a page."""

import os
import textwrap
from collections.abc import Callable, Iterable, Iterator
from doctest import ELLIPSIS
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import xarray as xr
import zarr
from helpers import ROOT
from stores import BUCKET, S3_KEY, S3_REGION, S3_SECRET, Services
from sybil import Document, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.region import Lexeme

import zarrs

pytestmark = [
    pytest.mark.usefixtures("fresh"),
    pytest.mark.filterwarnings(
        "ignore:Consolidated metadata is currently not part in the Zarr format 3 specification"
    ),
]

# What they print is that of one array on one machine; explain and check have tests of their own.
SHOWN = ("docs/behaviour.md", "docs/check.md")
# Of what anndata and pandas deprecate.
IGNORED = {"docs/recipes/anndata.md": ["ignore"]}
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)


# ----------------------------------------------------------------------- what examples begin with


def an_array(services: Services) -> dict[str, Any]:
    """Store an array under the name that examples have for it, and name some selections."""
    data = np.arange(200 * 64 * 64, dtype="i4").reshape(200, 64, 64)
    zarr.create_array("data.zarr", data=data, chunks=(20, 32, 32))
    return {
        "random_numbers": [3, 141, 59],
        "corners": [(0, 0, 0), (90, 0, 0)],
        "indptr": [0, 2, 2, 7],
    }


def a_dataset(services: Services) -> dict[str, Any]:
    """Store a dataset, and pretend to have a cluster."""
    xr.Dataset({"t": (("time", "x"), np.zeros((4, 8)))}).to_zarr("data.zarr")
    return {"client": mock.Mock()}


def on_s3(services: Services) -> dict[str, Any]:
    """Say in the environment, as users do, where S3 is."""
    os.environ |= {
        "AWS_ACCESS_KEY_ID": S3_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_DEFAULT_REGION": S3_REGION,
        "AWS_ENDPOINT_URL": services.s3.url,
        "AWS_ALLOW_HTTP": "true",
    }
    return {"bucket": BUCKET}


def on_a_server(services: Services) -> dict[str, Any]:
    """Publish an array under an address of its own."""
    zarr.create_array("published", data=np.arange(10_000), chunks=(1000,), shards=(5000,))
    return {"url": services.http.publish(Path("published").resolve())}


BEGINNINGS: dict[str, Callable[[Services], dict[str, Any]]] = {
    "docs/configuration.md": a_dataset,
    "docs/copy.md": an_array,
    "docs/direct.md": an_array,
    "docs/recipes/s3.md": on_s3,
    "docs/recipes/http.md": on_a_server,
}


# ---------------------------------------------------------------------------------------- parsing


def indented_blocks(document: Document) -> Iterator[Region]:
    """Find indented blocks that begin with an import, as README has them."""
    lines = document.text.splitlines(keepends=True)
    at = 0
    while lines:
        n = next((i for i, line in enumerate(lines) if not line.startswith("    ")), len(lines))
        block = "".join(lines[:n])
        if block.startswith("    import "):
            source = Lexeme(textwrap.dedent(block), 0, 0)
            yield Region(at, at + len(block), source, PythonEvaluator())
        at += sum(map(len, lines[: n or 1]))
        lines = lines[n or 1 :]


def examples_of(page: str) -> Document:
    parsers: Iterable[Any] = (
        [indented_blocks] if page == "README.md" else [PythonCodeBlockParser((), ELLIPSIS)]
    )
    return Document.parse(str(ROOT / page), *parsers)


# ------------------------------------------------------------------------------------------ tests


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.filterwarnings(one) for one in IGNORED.get(page, ())])
        for page in PAGES
        if page not in SHOWN
    ],
)
def test_examples_of_a_page_run(page: str, services: Services) -> None:
    document = examples_of(page)
    if not list(document):
        return
    document.namespace.update({"np": np, "zarr": zarr, "zarrs": zarrs})
    if page in BEGINNINGS:
        document.namespace.update(BEGINNINGS[page](services))
    for example in document:
        example.evaluate()


@pytest.mark.parametrize("page", SHOWN)
def test_pages_whose_examples_are_only_shown_have_some(page: str) -> None:
    assert list(examples_of(page))
