"""The site: every page is in it, and every link leads somewhere, on a code host and in the site."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from markdown_it import MarkdownIt

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])


def settings() -> Any:
    """Return what mkdocs.yml says."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))


def nav_of(entry: Any) -> list[str]:
    """Return the pages below an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    entries = entry.values() if isinstance(entry, dict) else entry
    return [page for one in entries for page in nav_of(one)]


def slug(heading: str) -> str:
    """Return the anchor that a code host and the site make of a heading."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


def links_and_anchors(page: Path) -> tuple[list[str], set[str]]:
    links, anchors = [], set()
    tokens = MarkdownIt().enable("table").parse(page.read_text("utf-8"))
    for before, token in zip([None, *tokens], tokens, strict=False):
        for child in token.children or ():
            if child.type in ("link_open", "image"):
                links.append(str(child.attrs.get("href") or child.attrs.get("src")))
        if before is not None and before.type == "heading_open":
            anchors.add(slug("".join(child.content for child in token.children or ())))
    return links, anchors


@pytest.mark.parametrize("page", [path.relative_to(ROOT).as_posix() for path in PAGES])
def test_links_of_a_page_lead_somewhere(page: str) -> None:
    source = ROOT / page
    for link in links_and_anchors(source)[0]:
        path, _, anchor = link.partition("#")
        if ":" in path:  # elsewhere
            assert path.startswith("https://"), link
            continue
        target = (source.parent / path).resolve() if path else source
        assert target.exists(), link
        if anchor:
            assert anchor in links_and_anchors(target)[1], link


def test_every_page_is_in_the_navigation() -> None:
    in_root = {"changelog.md", "contributing.md", "security.md"}  # which docs/site/hooks.py adds
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    listed = nav_of(settings()["nav"])
    assert set(listed) == pages | in_root
    assert len(listed) == len(set(listed))


def test_figures_on_the_first_page_are_those_of_the_tables() -> None:
    tables = (ROOT / "README.md").read_text("utf-8") + (DOCS / "performance.md").read_text("utf-8")
    rows = re.findall(r"\| ([\d.]+) \| ([\d.]+) \|$", (DOCS / "index.md").read_text("utf-8"), re.M)
    assert rows
    for default, ours in rows:
        assert re.search(rf"\| {default} \|.*\| {ours} \|", tables)


def test_nothing_is_fetched_from_elsewhere() -> None:
    """Fonts, scripts and pictures come with the site."""
    assert settings()["theme"]["font"] is False
    assert "extra_javascript" not in settings()
    for path in DOCS.rglob("*.md"):
        assert not re.search(r"!\[[^\]]*\]\(http", path.read_text("utf-8"))
    assert "url(" not in (DOCS / "site" / "style.css").read_text("utf-8")
