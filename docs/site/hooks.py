"""What the site has besides the pages in docs/: those that a code host shows from the root.

They are pages of the site as they are, and links, which a code host follows through the folders of
the project, lead to pages of the site. What a link shows of the project that is no page, such as a
script, is only named.
"""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File, Files

# From the file in the root to the page of the site.
ROOT_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([\w./-]+)(#[\w-]+)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the root."""
    root = Path(config.config_file_path).parent
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(root / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links lead to pages of the site."""
    root = Path(config.config_file_path).parent
    at = page.file.src_uri
    folder = "" if at in ROOT_PAGES.values() else join("docs", dirname(at))

    def in_site(link: re.Match[str]) -> str:
        text, path, anchor = link.groups(default="")
        target = normpath(join(folder, path))  # below the root of the project
        name = ROOT_PAGES.get(target, target.removeprefix("docs/"))
        if name in files.src_uris:
            return f"[{text}]({relpath(name, dirname(at) or '.')}{anchor})"
        return str(text) if (root / target).exists() else link[0]

    return LINK.sub(in_site, markdown)
