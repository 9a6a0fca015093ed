"""The page on errors has those that the source has: no more, and no fewer."""

import re
from collections.abc import Iterator

import pytest
from helpers import ROOT
from messages import HOLE, messages

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")


def headings() -> Iterator[str]:
    """Yield the messages that the page explains."""
    # In bold: what is explained beside something else.
    for heading, beside in re.findall(r"^### `(.*)`$|\*\*`(.*?)`\*\*", PAGE, re.MULTILINE):
        yield heading or beside
    for rows in re.findall(r"^\| message \|.*\n.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE):
        for row in rows.splitlines():
            yield from re.findall("`(.*?)`", row.split("|")[1])


HEADINGS = list(headings())
MESSAGES = list(messages())

# What is caught in the package, or says that something in it is wrong.
INTERNAL = {"AssertionError", "AttributeError", "BufferError", "IndexError", "NoAccessError"}
INTERNAL_MODULES = (
    "zarrs/_core.pyx",
    "zarrs/codecs/_bz2.pyx",
    "zarrs/codecs/_libdeflate.pyx",
    "zarrs/codecs/_lzma.pyx",
    "zarrs/indexing/",
)


def pattern(heading: str) -> re.Pattern[str]:
    """Return what finds a heading in a text: a hole is any words."""
    parts = [re.escape(part) for part in heading.split(HOLE)]
    return re.compile(".*".join(parts), re.DOTALL)


def is_telling(text: str) -> bool:
    """Whether it has words enough to be found, and is no frame around others."""
    return len(re.sub(rf"[\W{HOLE}]", "", text)) > 6


def is_for_users(where: str, kind: str) -> bool:
    if kind in INTERNAL:
        return False
    return kind == "MemoryError" or not where.startswith(INTERNAL_MODULES)


@pytest.mark.parametrize("heading", HEADINGS)
def test_what_the_page_explains_is_said_in_the_source(heading: str) -> None:
    assert any(pattern(heading).search(text) for _, _, text in MESSAGES)


@pytest.mark.parametrize(
    "text",
    sorted(
        {text for where, kind, text in MESSAGES if is_for_users(where, kind) and is_telling(text)}
    ),
)
def test_what_the_source_says_is_explained_on_the_page(text: str) -> None:
    assert any(pattern(heading).search(text) for heading in HEADINGS if is_telling(heading))


def test_the_texts_are_found_in_the_source() -> None:
    """Warnings, exceptions of Python and of Cython, and parts of a ChunkError."""
    kinds = {kind for _, kind, _ in MESSAGES}
    assert kinds >= {"warn", "ValueError", "TypeError", "MemoryError", "NotNativeError", "part"}
    assert {where.rpartition(".")[2] for where, _, _ in MESSAGES} == {"py", "pyx"}
    assert len(MESSAGES) > 100
