"""The site: it builds without a broken link, asks no other host for anything, and shows lists and tables as such."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).parents[2]
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "use": "href"}
FOREIGN = re.compile(r"""url\(\s*['"]?(?:https?:)?//|@import\s+['"](?:https?:)?//""")
UNSEEN = re.compile(r"^\s*(?:[*+-] |\d+\. |\||```)")
"""What a line of a paragraph begins with that was meant as a list, a table or a block."""
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)")


class Page(HTMLParser):
    """What a page loads, its images, and the text of its paragraphs and list items."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.images: list[dict[str, str]] = []
        self.prose: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag in LOADS and LOADS[tag] in values and values.get("rel") != "canonical":
            self.loaded.append(values[LOADS[tag]])
        if tag == "img":
            self.images.append(values)
        if tag in ("p", "li", "pre", "td"):
            self._open.append(tag)
            self.prose.append("")

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == tag:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("p", "li"):
            self.prose[-1] += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as ``make docs`` does; a broken link, anchor or menu fails it."""
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def _pages(site: Path) -> Iterator[tuple[str, Page]]:
    for file in sorted(site.rglob("*.html")):
        yield str(file.relative_to(site)), Page(file.read_text(encoding="utf-8"))


def test_every_page_of_docs_is_built(site: Path) -> None:
    wanted = {str(one.relative_to(ROOT / "docs").with_suffix(".html")) for one in (ROOT / "docs").rglob("*.md")}
    built = {name for name, _ in _pages(site)}
    assert {name.replace("README.html", "index.html") for name in wanted} - built == set()


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    elsewhere = {name: [one for one in page.loaded if urlsplit(one).netloc] for name, page in _pages(site)}
    assert {name: found for name, found in elsewhere.items() if found} == {}
    styles = {str(file.relative_to(site)): FOREIGN.findall(file.read_text()) for file in site.rglob("*.css")}
    assert {name: found for name, found in styles.items() if found} == {}


def test_what_is_written_as_a_list_or_table_is_shown_as_one(site: Path) -> None:
    for name, page in _pages(site):
        lines = [line for text in page.prose for line in text.splitlines()]
        assert [line[:80] for line in lines if UNSEEN.match(line)] == [], f"{name}: put an empty line before it"


def test_every_image_says_what_it_shows(site: Path) -> None:
    silent = {name: [one["src"] for one in page.images if not one.get("alt")] for name, page in _pages(site)}
    assert {name: found for name, found in silent.items() if found} == {}


def test_the_picture_needs_nothing_else() -> None:
    text = (ROOT / "docs" / "loop.svg").read_text(encoding="utf-8")
    assert re.findall(r"""(?:href|src)=["'](?!#)|@import|url\((?!#)|<script""", text) == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(name: str) -> None:
    links = [one for one in LINK.findall((ROOT / name).read_text(encoding="utf-8")) if not urlsplit(one).scheme]
    assert [one for one in links if not (ROOT / one).exists()] == []
