"""A report as a page and as a picture: complete, alone, and readable without seeing it."""

from __future__ import annotations

import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fleet import report_page, report_plots
from fleet.report_marks import DARK, LIGHT, Palette, shown_types, spots
from rl.published import PublishedRow, read_rows
from rl.report import Count, Report, of_table
from tests.rl.published_run import published

VOID = {"meta", "br", "link"}


class Page(HTMLParser):
    """What a browser would read: the tags, every attribute that can name another place, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._attributes(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            self.links += [str(value)] if name in ("src", "href", "xlink:href", "srcset", "data", "action") else []
            self.ids += [str(value)] if name == "id" else []


def row(step: int, training: float | None = None, **counts: tuple[int, int]) -> PublishedRow:
    types = {name: {"k": k, "n": n} for name, (k, n) in counts.items()}
    return read_rows([{"step": step, "types": types, "training_score": training}])[0]


@pytest.fixture(scope="module")
def obsidian() -> Report:
    return of_table(read_rows(published()), "obsidian <retrieval> & more")


@pytest.fixture(scope="module")
def text(obsidian: Report) -> str:
    return report_page.page(obsidian)


def test_the_page_is_whole_and_holds_three_plots(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert page.tags.count("svg") == 3
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags


def test_nothing_on_the_page_leaves_it(text: str) -> None:
    page = Page(text)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert "default-src 'none'" in text
    assert not re.search(r"@import|url\((?!#)|<(img|iframe|object|embed|link)\b", text)
    named = set(re.findall(r"https?://[^\s\"'<]+", text))
    assert named <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, "names of formats, not places"


def test_numbers_alarms_and_reasons_are_in_the_text(text: str) -> None:
    said = Page(text).text
    for words in (
        "22/33",
        "0.55 to 0.76",
        "Pick: 21; tie set: 13, 21.",
        "COLLAPSE at 26",
        "it must be 2/6",
        "obsidian <",
    ):
        assert words in said
    assert "33 scenarios can decide a difference of 0.26 or more" in said


def test_each_plot_is_described_to_those_who_do_not_see_it(text: str) -> None:
    for drawn in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        element = ElementTree.fromstring(drawn)  # noqa: S314 - our own text
        assert element.attrib["role"] == "img"
        first, second = list(element)[:2]
        assert element.attrib["aria-labelledby"] == f"{first.attrib['id']} {second.attrib['id']}"
        assert "21: overall 22 of 33, training score 0.5097" in str(second.text)


def test_colours_are_the_reader_s_light_or_dark(text: str) -> None:
    style = text[text.index("<style>") : text.index("</style>")]
    assert f"--ink:{LIGHT.ink}" in style
    assert f"--ink:{DARK.ink}" in style[style.index("prefers-color-scheme:dark") :]
    used = set(re.findall(r"#[0-9a-f]{6}", text.replace(style, "")))
    assert used == set(), "a plot names variables, no colour"
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", text)) <= set(re.findall(r"(--[a-z0-9-]+):", style))


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_the_paper(palette: Palette) -> None:
    """WCAG 2.1: 4.5 for text, 3 for graphics."""
    for color, least in [(palette.ink, 4.5), (palette.muted, 4.5), (palette.alarm, 4.5)] + [
        (color, 3.0) for color in palette.series
    ]:
        lighter, darker = sorted((luminance(color), luminance(palette.paper)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= least


def luminance(color: str) -> float:
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_same_report_is_the_same_page(obsidian: Report, text: str) -> None:
    assert report_page.page(obsidian) == text


def png_size(file: Path) -> tuple[int, int]:
    """Width and height of a PNG whose every chunk has the right checksum."""
    data, place, names = file.read_bytes(), 8, []
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    while place < len(data):
        (length,), name = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        body = data[place + 4 : place + 8 + length]
        assert zlib.crc32(body) == struct.unpack(">I", data[place + 8 + length : place + 12 + length])[0]
        names.append(name)
        place += 12 + length
    assert (names[0], names[-1]) == (b"IHDR", b"IEND")
    return struct.unpack(">II", data[16:24])  # type: ignore[return-value]


CASES = {
    "one row": [row(0, a=(9, 16))],
    "no training score": [row(0, a=(9, 16)), row(4, a=(12, 16))],
    "no verdicts": [row(0), row(4, 0.5)],
    "scores that are no shares": [row(0, a=(9, 16)), row(4, -120.5, a=(12, 16)), row(8, 300.0, a=(1, 16))],
    "a type that a row lacks": [row(0, a=(9, 16), b=(1, 4)), row(4, 0.5, a=(12, 16))],
    "many": [row(s, s / 20, **{f"type {t}": ((s * t) % 9, 9) for t in range(11)}) for s in range(20)],
}


SAID = {
    "one row": "no training score is known",
    "no training score": "no training score is known",
    "no verdicts": "no verdicts are known",
    "many": "3 more types are in the table.",
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_missing_leaves_a_page_that_says_so_and_a_picture(case: str, tmp_path: Path) -> None:
    found = of_table(CASES[case])
    page = Page(report_page.page(found))
    assert page.tags.count("svg") == 3
    assert SAID.get(case, "") in page.text
    assert len(shown_types(found)) <= 8
    report_plots.png(found, tmp_path / "report.png")
    width, height = png_size(tmp_path / "report.png")
    assert width == round(report_plots.WIDTH * report_plots.DPI)
    assert height > 500


def test_checkpoints_at_one_place_share_a_mark_and_a_label() -> None:
    points = of_table([row(0, a=(9, 16)), row(3, a=(9, 16)), row(7, a=(10, 16))]).points
    found = spots([(0.5, Count.of(9, 16), points[0]), (0.5, Count.of(9, 16), points[1]), (0.6, 2.0, points[2])])
    assert [(one.x, one.y, one.label) for one in found] == [(0.5, 9 / 16, "0, 3"), (0.6, 2.0, "7")]
    assert (found[1].low, found[1].high) == (2.0, 2.0)


def drawn(report: Report) -> Axes:
    """The plot by step."""
    figure = Figure()
    report_plots.draw("step", figure, report, LIGHT)
    return figure.axes[0]


def legend(report: Report) -> list[str]:
    figure = Figure()
    report_plots.draw("step", figure, report, LIGHT)
    return [one.get_text() for one in figure.legends[0].get_texts()]


def test_a_type_may_have_dollars_in_its_name(tmp_path: Path) -> None:
    found = of_table([row(0, 0.5, **{"$a_{": (4, 8), "b$": (3, 8)}), row(5, 0.6, **{"$a_{": (5, 8), "b$": (4, 8)})])
    assert "$a_{" in Page(report_page.page(found)).text
    report_plots.png(found, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 10_000


def test_the_legend_names_what_is_drawn(obsidian: Report) -> None:
    assert {"pick", "tie set", "alarm", "early stop"} <= set(legend(obsidian))
    assert "verdicts missing" not in legend(obsidian)
    calm = legend(of_table([row(0, go=(4, 20)), row(5, go=(15, 20))]))
    assert calm == ["overall", "pick", "tie set"]


def test_an_early_stop_is_seen_where_an_alarm_is_too(obsidian: Report) -> None:
    assert obsidian.early_stop == 26
    assert 26 in obsidian.alarmed()
    alarm, stopped = [one for one in drawn(obsidian).lines if np.array_equal(one.get_xdata(), [26, 26])]
    assert stopped.get_zorder() > alarm.get_zorder()
    assert stopped.get_linewidth() > alarm.get_linewidth()
