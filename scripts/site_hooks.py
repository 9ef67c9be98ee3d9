"""What mkdocs does not do by itself: the index is the navigation, and pages outside docs are pages of the site too."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

OUTSIDE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#\s]+)")


def on_config(config: Any) -> Any:
    """Make the navigation of docs/README.md: its headings are tabs, the first link of each line is a page.

    No script of another site: the plugin for reading from disk would load one.
    """
    index = Path(config.docs_dir, "README.md").read_text()
    tabs: list[dict[str, Any]] = [{"clienthv": "README.md"}]
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        links = re.findall(r"^- \[([^\]]+)\]\(([^)]+\.md)\)", rest, re.MULTILINE)
        tabs.append({heading: [{_plain(title): _on_site("README.md", link)} for title, link in links]})
    config.nav = tabs
    config.extra["polyfills"] = ["site/search-from-disk.js"]
    return config


def _plain(text: str) -> str:
    return text.replace("`", "")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand at the top of the repository."""
    for name in OUTSIDE:
        text = Path(config.docs_dir, "..", name).read_text()
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links between docs and the top of the repository lead where those pages are on the site."""
    source = page.file.src_uri

    def follow(match: re.Match[str]) -> str:
        return f"]({posixpath.relpath(_on_site(source, match[1]), posixpath.dirname(source) or '.')}"

    fences = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
    parts = fences.split(markdown)
    return "".join(part if part.startswith("```") else _LINK.sub(follow, part) for part in parts)


def _on_site(source: str, link: str) -> str:
    """A link's path from docs, where the pages of ``OUTSIDE`` are taken to be. Raises PluginError: it leads nowhere."""
    folder = "" if source in OUTSIDE else posixpath.join("docs", posixpath.dirname(source))
    path = posixpath.normpath(posixpath.join(folder, link))
    if path in OUTSIDE:
        return path
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    message = (
        f"{source}: {link} is not on the site: name the file instead, or add it to OUTSIDE in scripts/site_hooks.py"
    )
    raise PluginError(message)
