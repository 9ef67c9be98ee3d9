"""The site of the documents builds without a warning, and takes nothing from the net."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A page that is not in the index, a link or an anchor that leads nowhere is an error."""
    pytest.importorskip("mkdocs", reason="scripts/setup docs installs it")
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=120,
        check=False,
    )
    assert built.returncode == 0, built.stderr  # --quiet would hide the warnings that strict is about
    return folder


def test_every_document_is_a_page_of_the_site(site: Path) -> None:
    documents = {path.relative_to(REPOSITORY / "docs") for path in (REPOSITORY / "docs").rglob("*.md")}
    assert len(documents) > 40
    names = {"index.html" if str(d) == "README.md" else str(d.with_suffix(".html")) for d in documents}
    assert [name for name in sorted(names) if not (site / name).is_file()] == []
    assert (site / "ARCHITECTURE.html").is_file(), "and those at the top of the repository"


def test_the_site_loads_nothing_from_the_net(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe|source)[^>]*\ssrc=\"?(?:https?:)?//|<link[^>]*\shref=\"?(?:https?:)?//")
    pages = sorted(site.rglob("*.html"))
    assert [str(page) for page in pages if loaded.search(page.read_text())] == []
    assert [str(page) for page in pages if 'class="mermaid"' in page.read_text()] == [], "its script is elsewhere"
    styles = re.compile(r"(?:url\(|@import )[\"']?(?:https?:)?//")
    assert [str(sheet) for sheet in site.rglob("*.css") if styles.search(sheet.read_text())] == []


def test_the_search_works_from_disk(site: Path) -> None:
    page = (site / "reference" / "codes.html").read_text()
    assert (site / "search" / "search_index.js").is_file()
    shim = re.search(r'<script src="([^"]*search-from-disk\.js)">', page)
    assert shim
    assert (site / "reference" / shim[1]).is_file()
