"""The site that `make docs` writes to build/docs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "build" / "docs"

pytestmark = pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built: make docs")


class Page(HTMLParser):
    """The addresses that a page loads, the addresses that it links to, and its anchors."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: set[str] = set()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id":
                self.anchors.add(value or "")
            elif name in ("src", "srcset", "poster", "data"):
                self.loaded.add(value or "")
            elif name == "href":
                (self.links if tag == "a" else self.loaded).add(value or "")


PAGES = {path.relative_to(SITE): Page(path) for path in sorted(SITE.rglob("*.html"))}


def target(page: Path, path: str) -> Path:
    """Return the file that `path` means on a page; only the error page has absolute paths."""
    file = (SITE / path.lstrip("/") if path.startswith("/") else SITE / page.parent / path).resolve()
    return file / "index.html" if file.is_dir() else file


def test_every_page_of_docs_is_built() -> None:
    names = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert names - {Path("README.html"), *PAGES} == set()
    assert Path("index.html") in PAGES


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_a_page_loads_only_files_of_the_site(name: Path) -> None:
    for address in PAGES[name].loaded:
        parts = urlsplit(address)
        assert not parts.netloc, address
        assert target(name, unquote(parts.path)).is_file(), address


@pytest.mark.parametrize("name", PAGES, ids=str)
def test_a_link_of_a_page_leads_to_a_page_and_an_anchor_of_the_site(name: Path) -> None:
    for address in PAGES[name].links:
        parts = urlsplit(address)
        if parts.scheme:
            continue
        file = target(name, unquote(parts.path)) if parts.path else SITE / name
        assert file.is_file(), address
        if parts.fragment:
            assert unquote(parts.fragment) in PAGES[file.relative_to(SITE)].anchors, address


def test_no_script_or_style_names_a_content_network() -> None:
    for path in [*SITE.rglob("*.js"), *SITE.rglob("*.css"), *SITE.rglob("*.html")]:
        found = re.findall(r"(?:unpkg|jsdelivr|cdnjs|googleapis|gstatic|polyfill)\.\w+", path.read_text())
        assert not found, path


def test_styles_load_only_files_of_the_site() -> None:
    for path in SITE.rglob("*.css"):
        addresses = re.findall(r"""url\(["']?(?!data:)([^"')]+)|@import\s+["']([^"']+)""", path.read_text())
        assert not [address for pair in addresses for address in pair if urlsplit(address).netloc], path


def test_diagrams_are_drawn_by_the_sites_own_mermaid() -> None:
    assert '<pre class="mermaid">' in (SITE / "architecture.html").read_text()
    (bundle,) = (SITE / "assets" / "javascripts").glob("bundle.*.min.js")
    assert 'new URL("mermaid.js",' in bundle.read_text()
    assert "globalThis" in (bundle.parent / "mermaid.js").read_text()
